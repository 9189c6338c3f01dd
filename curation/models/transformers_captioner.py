"""Captions from vision-language models of transformers, run in this process."""

import hashlib
import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from curation.errors import CurationError
from curation.models.captioner import Effort, Scene
from curation.models.captions import generated
from curation.models.hub import commit_of, hub_problem
from curation.models.packaged import sha256
from curation.models.registry import ModelInfo
from curation.models.torchvision_mend import mend
from curation.stage import Failure, sentence
from curation.threads import one_thread

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PARTS = {".json", ".safetensors", ".jinja", ".txt", ".model"}
"""Suffixes of the files that decide a caption: weights, configs, tokenizer, chat template."""


class TransformersCaptioner:
    """The role captions. The argument is a hub id, or a folder as `save_pretrained` writes it.

    With a chat template (Qwen2-VL to Qwen3-VL, SmolVLM, Idefics3, LLaVA ...) all pictures of a scene are shown in
    order, then the question. Without one (BLIP, GIT) a model sees the middle picture alone and gets no question,
    unless the manifest gives a `prompt` of its own: that is how the caption then begins.

    One scene at a time, greedily, fp32 on a CPU and bf16 on a GPU: a caption must not depend on its neighbours.
    Only safetensors are read, and no code of a repository is run.
    """

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        """For a folder the hash of its files; for a hub id that of the commit, downloaded or not."""
        if not argument:
            return ModelInfo("transformers:", "", "it names no model; say transformers:HUB/ID or transformers:FOLDER")
        if importlib.util.find_spec("transformers") is None:
            lacks = "the package transformers is not installed; `pip install 'curation[production]'` brings it"
            return ModelInfo(f"transformers:{argument}", "", lacks)
        if folder := _folder(argument):
            files = sorted(path for path in folder.glob("*") if path.suffix in PARTS)
            names = {path.name for path in files}
            lacking = [] if CONFIG in names else [CONFIG]
            lacking += [] if any(path.suffix == ".safetensors" for path in files) else ["*.safetensors"]
            why = f"the folder {folder} has no {' and no '.join(lacking)}" if lacking else None
            return ModelInfo(f"transformers:{folder.name}", "" if why else sha256(*files), why)
        if problem := hub_problem(argument, WEIGHTS):
            return ModelInfo(f"transformers:{argument}", "", problem)
        digest = hashlib.sha256(f"{argument}@{commit_of(argument, WEIGHTS)}".encode()).hexdigest()
        return ModelInfo(f"transformers:{argument}", digest)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        if problem := self.describe(argument).problem:  # a hub that is out of reach would be retried for a minute
            raise CurationError(f"the captioner 'transformers:{argument}' cannot be had: {problem}")
        self.device = device
        self.processor, self.model = _loaded(argument, device)
        self.chats = getattr(self.processor, "chat_template", None) is not None

    def captions(self, scenes: Sequence[Scene], effort: Effort) -> list[str | Failure | None]:
        """A caption a scene; None where the model says nothing, a Failure for pictures that it cannot take."""
        return [self._guarded(scene, effort.max_tokens) for scene in scenes]

    def _guarded(self, scene: Scene, max_tokens: int) -> str | Failure | None:
        try:
            return self._caption(scene, max_tokens)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:  # what processors raise at odd pictures
            return Failure(sentence(error))

    def _caption(self, scene: Scene, max_tokens: int) -> str | None:
        import torch

        inputs = (self._chat(scene) if self.chats else self._plain(scene)).to(self.device, self.model.dtype)
        with torch.inference_mode(), self._threads():
            tokens = self.model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=max_tokens)[0]
        fresh = tokens[inputs["input_ids"].shape[1] :] if self.chats else tokens
        text = self.processor.batch_decode(fresh[None], skip_special_tokens=True)[0]
        return generated(text, cut=len(fresh) >= max_tokens and int(fresh[-1]) not in self._ends())

    def _chat(self, scene: Scene) -> Any:
        pictures = [{"type": "image", "image": image} for image in scene.images]
        messages = [{"role": "user", "content": [*pictures, {"type": "text", "text": scene.prompt}]}]
        return self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )

    def _plain(self, scene: Scene) -> Any:
        middle = scene.images[len(scene.images) // 2]
        words = {"text": scene.beginning} if scene.beginning else {}
        return self.processor(images=middle, return_tensors="pt", **words)

    def _ends(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        return set(ends) if isinstance(ends, list) else {ends}

    def _threads(self) -> AbstractContextManager[None]:
        """Sums on a CPU, and with them a word now and then, would depend on how many threads a worker has."""
        return one_thread() if self.device == "cpu" else nullcontext()


def _folder(argument: str) -> Path | None:
    """What exists here is a folder, and so is what is written like one."""
    if Path(argument).is_dir() or argument.startswith((".", "/", "~")):
        return Path(argument).expanduser()
    return None


def _fetched(repository: str) -> str:
    """The folder of the hub's cache with the repository's files, downloaded where they lack.

    Once it is a folder, transformers does not ask the hub for each file that a model may have.
    """
    from huggingface_hub import snapshot_download

    wanted = [f"*{suffix}" for suffix in sorted(PARTS)]
    return snapshot_download(repository, revision=commit_of(repository, WEIGHTS), allow_patterns=wanted)


def _loaded(argument: str, device: str) -> tuple[Any, Any]:
    """Processor and model. Raises CurationError, also for weights that do not fit the config."""
    mend()
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = _folder(argument)
    try:
        source = str(folder or _fetched(argument))
        where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        processor = AutoProcessor.from_pretrained(source, **where)
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        model: Any
        report: Any
        model, report = AutoModelForImageTextToText.from_pretrained(  # type: ignore[misc]
            source, dtype=dtype, use_safetensors=True, output_loading_info=True, **where
        )
    except Exception as error:  # transformers, the hub and safetensors raise what they like
        raise CurationError(
            f"the captioner 'transformers:{argument}' cannot be loaded ({sentence(error)}); name a vision-language "
            "model that transformers knows (image-text-to-text), or say `model: embedded`, which needs no hub"
        ) from error
    # transformers leaves weights that a file lacks at random values, and only warns.
    if wrong := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise CurationError(
            f"the captioner 'transformers:{argument}' does not fit its {CONFIG}: {len(wrong)} weights differ, "
            f"such as {wrong[0]}"
        )
    config = model.generation_config
    config.do_sample, config.temperature, config.top_p, config.top_k = False, None, None, None
    return processor, model.eval().requires_grad_(False).to(device)
