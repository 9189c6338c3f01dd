"""Captions from vision-language models of transformers: what they are shown and asked, and what they say."""

import hashlib
import importlib.util
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError, Unavailable
from curation.inference.client import connect
from curation.inference.network import Precision, Row, Spec
from curation.inference.torch_network import computing_device
from curation.install import missing
from curation.models.captioner import Effort, Scene
from curation.models.captions import generated
from curation.models.hub import commit_of, hub_problem
from curation.models.packaged import sha256
from curation.models.patch_torchvision import patch_torchvision
from curation.models.registry import ModelInfo
from curation.models.transformers_network import CACHE_MB, NONE, call_of, row_of
from curation.models.transformers_weights import pretrained
from curation.stage import Failure, sentence

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
WEIGHTS_MB = 9000
PARTS = {".json", ".safetensors", ".jinja", ".txt", ".model"}
"""Suffixes of the files that decide a caption: weights, configs, tokenizer, chat template."""


class TransformersCaptioner:
    """The role captions. The argument is a hub id, or a folder as `save_pretrained` writes it.

    With a chat template (Qwen2-VL to Qwen3-VL, SmolVLM, Idefics3, LLaVA ...) all pictures of a scene are shown in
    order, then the question. Without one (BLIP, GIT) a model sees the middle picture alone and gets no question,
    unless the manifest gives a `prompt` of its own: that is how the caption then begins.

    Greedily; on a CPU in fp32, one scene at a time, on a GPU in bf16, in batches whose size is always the same: a
    caption must not depend on its neighbours. Only safetensors are read, and no code of a repository is run.
    """

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        """For a folder the hash of its files; for a hub id that of the commit, downloaded or not."""
        if not argument:
            return ModelInfo("transformers:", "", "it names no model; say transformers:HUB/ID or transformers:FOLDER")
        if importlib.util.find_spec("transformers") is None:
            return ModelInfo(f"transformers:{argument}", "", missing("transformers"))
        if folder := _folder(argument):
            files = sorted(path for path in folder.glob("*") if path.suffix in PARTS)
            names = {path.name for path in files}
            lacking = [] if CONFIG in names else [CONFIG]
            lacking += [] if any(path.suffix == ".safetensors" for path in files) else ["*.safetensors"]
            why = f"the folder {folder} has no {' and no '.join(lacking)}" if lacking else None
            return ModelInfo(f"transformers:{folder.name}", "" if why else sha256(*files), why, **_gpu(folder))
        if problem := hub_problem(argument, WEIGHTS):
            return ModelInfo(f"transformers:{argument}", "", problem, **_gpu())
        digest = hashlib.sha256(f"{argument}@{commit_of(argument, WEIGHTS)}".encode()).hexdigest()
        return ModelInfo(f"transformers:{argument}", digest, **_gpu())

    def __init__(self, argument: str, device: str = "cpu") -> None:
        if problem := self.describe(argument).problem:  # a hub that is out of reach would be retried for a minute
            raise CurationError(f"the captioner 'transformers:{argument}' cannot be had: {problem}")
        self.processor = _load_processor(argument)
        precision: Precision = "bf16" if computing_device(device) != "cpu" else "fp32"
        self.network = connect(Spec("curation.models.transformers_network:CaptionNetwork", argument, device, precision))
        self.ends = set(self.network.facts["ends"])
        self.batched = device != "cpu"
        self.chats = getattr(self.processor, "chat_template", None) is not None

    def captions(self, scenes: Sequence[Scene], effort: Effort) -> list[str | Failure | None]:
        """A caption a scene; None where the model says nothing, a Failure for pictures that it cannot take."""
        prepared = [self._prepared(scene) for scene in scenes]
        answers: list[str | Failure | None] = [each if isinstance(each, Failure) else None for each in prepared]
        calls: dict[str, dict[int, Row]] = defaultdict(dict)
        for i, each in enumerate(prepared):
            if not isinstance(each, Failure):
                names, row = each
                calls[call_of(effort.max_tokens, self.chats, names)][i] = row
        for call, rows in calls.items():
            for i, answer in zip(rows, self._said(call, list(rows.values()), effort.max_tokens), strict=True):
                answers[i] = answer
        return answers

    def _said(self, call: str, rows: Sequence[Row], max_tokens: int) -> list[str | Failure | None]:
        """After a failed batch each scene is tried alone: one that the model cannot take costs its own record; where it
        can take none, the model is to blame."""
        try:
            return [self._caption(tokens, max_tokens) for (tokens,) in self.network.run(call, rows)]
        except Unavailable as error:
            if len(rows) == 1:
                return [Failure(sentence(error))]
            said = [self._said(call, [row], max_tokens)[0] for row in rows]
            if all(isinstance(each, Failure) for each in said):
                raise
            return said

    def _prepared(self, scene: Scene) -> tuple[list[str], Row] | Failure:
        try:
            return row_of(self._chat(scene) if self.chats else self._plain(scene), self.batched and self.chats)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:  # what processors raise at odd pictures
            return Failure(sentence(error))

    def _caption(self, tokens: NDArray[np.int64], max_tokens: int) -> str | None:
        fresh = tokens[tokens != NONE]
        text = self.processor.batch_decode(fresh[None], skip_special_tokens=True)[0]
        return generated(text, cut=len(fresh) >= max_tokens and int(fresh[-1]) not in self.ends)

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


def _gpu(folder: Path | None = None) -> dict[str, Any]:
    """That it computes on a GPU too, and what it takes there: weights as they are stored, of the hub's a 4B model's."""
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors")) >> 20 if folder else WEIGHTS_MB
    return {"devices": ("cpu", "cuda"), "gpu_mb": stored + CACHE_MB}


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


def _load_processor(argument: str) -> Any:
    """Raises CurationError."""
    patch_torchvision()
    from transformers import AutoProcessor

    with _loading(argument):
        return AutoProcessor.from_pretrained(_source(argument), trust_remote_code=False, local_files_only=True)


def load_model(argument: str, dtype: Any) -> Any:
    """The model on the CPU, for greedy answers. Raises CurationError, also for weights that do not fit the config."""
    patch_torchvision()
    from transformers import AutoModelForImageTextToText

    with _loading(argument):
        model, wrong = pretrained(AutoModelForImageTextToText, _source(argument), dtype)
    if wrong:
        raise CurationError(
            f"the captioner 'transformers:{argument}' does not fit its {CONFIG}: {len(wrong)} weights differ, "
            f"such as {wrong[0]}"
        )
    config = model.generation_config
    config.do_sample, config.temperature, config.top_p, config.top_k = False, None, None, None
    return model.eval().requires_grad_(False)


def _source(argument: str) -> str:
    return str(_folder(argument) or _fetched(argument))


@contextmanager
def _loading(argument: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers, the hub and safetensors raise what they like
        raise CurationError(
            f"the captioner 'transformers:{argument}' cannot be loaded ({sentence(error)}); name a vision-language "
            "model that transformers knows (image-text-to-text), or say `model: embedded`, which needs no hub"
        ) from error
