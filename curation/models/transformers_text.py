"""Text encoders of transformers: which files they are, how captions become tokens, what is kept of their states."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.inference.client import connect
from curation.inference.network import Row, Spec
from curation.install import missing
from curation.models.captions import bounded
from curation.models.diffusers_vae import Place
from curation.models.hub import commit_of, hub_problem
from curation.models.packaged import sha256
from curation.models.patch_torchvision import patch_torchvision
from curation.models.registry import ModelInfo
from curation.models.text_spec import TextSettings, TextStates, parsed
from curation.models.transformers_text_network import CALL, CONFIG, loading, problem_of

NETWORK = "curation.models.transformers_text_network:TextNetwork"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
SHARDED = "model-*.safetensors"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
TOKENIZER_FILES = (*TOKENIZERS, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
STEP = 64
"""For a GPU captions are padded, and masked, to a multiple of so many tokens, so that few lengths occur."""
USUAL_TOKENS = 512
HUB_MB, BATCH_MB = 10_000, 3000
"""Of a GPU's memory: weights that are not here yet (T5-XXL's in bf16), and a batch's activations."""


class TransformersText:
    """The role text. The argument: a folder or a hub id (`OWNER/NAME`, with `/text_encoder` for a pipeline's), then
    settings behind `?`, see `TextSettings`.

    The tokenizer lies in the same folder, or in the pipeline's `tokenizer` beside `text_encoder`, `tokenizer_2` beside
    `text_encoder_2`. Only safetensors are read, and no code of a repository is run.
    """

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        """The settings belong to the id and to the hash: other settings, another encoder."""
        place, settings = parsed(argument)
        if not place:
            return ModelInfo("transformers:", "", "it names no model; say transformers:HUB/ID or transformers:FOLDER")
        where = Place.parse(place)
        name = where.folder.name if where.folder else place
        identity = f"transformers:{name}" + (f"?{settings.query}" if settings.query else "")
        if importlib.util.find_spec("transformers") is None:
            return ModelInfo(identity, "", missing("transformers"))
        if where.folder:
            problem = _folder_problem(where.folder, settings)
            weights = "" if problem else sha256(*_files(where.folder))
            stored = sum(path.stat().st_size for path in where.folder.glob("model*.safetensors")) >> 20
        else:
            known = [f"{where.subfolder}/{file}".lstrip("/") for file in WEIGHTS]
            problem, stored = hub_problem(where.repository, known), HUB_MB
            weights = "" if problem else f"{place}@{commit_of(where.repository, known)}"
        digest = hashlib.sha256(f"{weights}?{settings.query}".encode()).hexdigest() if weights else ""
        return ModelInfo(identity, digest, problem, devices=("cpu", "cuda"), gpu_mb=stored + BATCH_MB)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        self.info = self.describe(argument)
        if self.info.problem:
            raise CurationError(f"the text encoder 'transformers:{argument}' cannot be had: {self.info.problem}")
        self.argument, self.batched = argument, device != "cpu"
        place, self.settings = parsed(argument)
        folder = fetched(place)
        self.tokenizer = _load_tokenizer(place, folder)
        self.max_tokens = self.settings.max_tokens or _usual_tokens(self.tokenizer, folder)
        self.network = connect(Spec(NETWORK, argument, device, self.settings.precision))
        facts = self.network.facts
        self.pooled_dimensions = int(facts.get("pooled_dimensions", 0))
        self.dimensions = self.pooled_dimensions if self.settings.pooled == "only" else int(facts["dimensions"])

    def about(self) -> dict[str, Any]:
        """The settings, for the index: layer, template, skip, padded, precision, pooled."""
        return {name: value for name, value in self.settings.model_dump().items() if name != "max_tokens"}

    def parts(self) -> dict[str, dict[str, Any]]:
        """Facts of the pooled output where it is a part beside the states; its spec gives it alone."""
        if self.settings.pooled is not True:
            return {}
        place, _ = parsed(self.argument)
        alone = f"{place}?{self.settings.model_copy(update={'pooled': 'only'}).query}"
        info = self.describe(alone)
        named = {"id": info.id, "sha256": info.sha256, "spec": f"transformers:{alone}"}
        return {"pooled": named | {"dimensions": self.pooled_dimensions, "max_tokens": self.max_tokens}}

    def tokens(self, captions: Sequence[str]) -> list[NDArray[np.float16]]:
        """float16 [n, D] each, n <= max_tokens; trimmed to the mask unless `padded: true`. Of `pooled: only` [1, P]."""
        return self.encode(captions).main

    def encode(self, captions: Sequence[str]) -> TextStates:
        """Of each caption its states, and with `pooled: true` the part `pooled`, [1, P].

        Raises CurationError where a value is not finite in fp16, as in some layers of large language models.
        """
        main, more = [], []
        for states, *pooled in self.states(captions):
            main.append(_halfs(states, self.settings))
            more += [_halfs(part, self.settings) for part in pooled]
        return TextStates(main, {"pooled": more} if self.settings.pooled is True else {})

    def states(self, captions: Sequence[str]) -> list[tuple[NDArray[Any], ...]]:
        """What `encode` gives, in the precision that the network answers in: states, then the pooled output."""
        rows = [self._row(caption) for caption in captions]
        out: list[tuple[NDArray[Any], ...]] = []
        for (_, mask), answer in zip(rows, self.network.run(CALL, rows), strict=True):
            pooled = tuple(each[None] for each in answer if each.ndim == 1)
            kept = len(mask) if self.settings.padded is True else int(mask.sum())
            out.append((*(each[self.settings.skip : kept] for each in answer if each.ndim == 2), *pooled))
        return out

    def _row(self, caption: str) -> Row:
        """Token ids and mask, padded behind the caption: to its end on a CPU, for a GPU to a multiple of 64."""
        prompt = self.settings.prompt(bounded(caption))
        pad = self.tokenizer.pad_token_id
        pad = (self.tokenizer.eos_token_id or 0) if pad is None else pad
        # A tokenizer without special tokens makes nothing of the empty caption: it is read as one token of padding.
        ids = self.tokenizer(prompt, truncation=True, max_length=self.max_tokens)["input_ids"] or [pad]
        if len(ids) <= self.settings.skip:
            raise CurationError(
                f"`skip: {self.settings.skip}` leaves nothing of a prompt of {len(ids)} tokens ({prompt[:60]!r})"
            )
        length = min(self.max_tokens, -(-len(ids) // STEP) * STEP) if self.batched else len(ids)
        length = self.max_tokens if self.settings.padded else length
        missing = length - len(ids)
        mask = np.pad(np.ones(len(ids), np.int64), (0, missing))
        return np.pad(np.array(ids, np.int64), (0, missing), constant_values=pad), mask


def _halfs(states: NDArray[Any], settings: TextSettings) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        halfs = states.astype(np.float16)
    if not np.isfinite(halfs).all():
        layer = "the last layer" if settings.layer is None else f"layer {settings.layer}"
        raise CurationError(
            f"states of {layer} are NaN, infinite or above 65,504, which fp16 does not hold; choose another `layer`"
        )
    return halfs


def _usual_tokens(tokenizer: Any, folder: Path) -> int:
    """The tokenizer's own limit where it has one, at most 512 and at most CLIP's table of positions."""
    config = json.loads((folder / CONFIG).read_text())
    text = config.get("text_config") or config
    table = text.get("max_position_embeddings", 77) if str(config.get("model_type")).startswith("clip") else None
    return min(int(tokenizer.model_max_length), USUAL_TOKENS, table or USUAL_TOKENS)


def _folder_problem(folder: Path, settings: TextSettings) -> str | None:
    """Why a folder is no text encoder, as a sentence; None when it is one."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    lacking = [] if (folder / CONFIG).is_file() else [CONFIG]
    lacking += [] if any(folder.glob("model*.safetensors")) else ["model.safetensors"]
    if lacking:
        return f"the folder {folder} has no {' and no '.join(lacking)}"
    if not any((tokenizer_folder(folder) / file).is_file() for file in TOKENIZERS):
        beside = tokenizer_folder(folder)
        return f"it has no tokenizer: {beside} has none of {', '.join(TOKENIZERS)}"
    try:
        config = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        return f"{folder / CONFIG} is no JSON ({error})"
    return problem_of(config, settings) if isinstance(config, dict) else f"{folder / CONFIG} is no JSON object"


def tokenizer_folder(folder: Path) -> Path:
    """Where the tokenizer lies: in the folder, or in the pipeline's `tokenizer` beside its `text_encoder`."""
    if folder.name.startswith("text_encoder") and not any((folder / file).is_file() for file in TOKENIZERS):
        return folder.parent / folder.name.replace("text_encoder", "tokenizer", 1)
    return folder


def _files(folder: Path) -> list[Path]:
    """The files that decide a caption's states, in one order."""
    weights = [CONFIG, *sorted(path.name for path in folder.glob(SHARDED)), *WEIGHTS]
    beside = tokenizer_folder(folder)
    return [path for path in _paths((folder, weights), (beside, TOKENIZER_FILES)) if path.is_file()]


def _paths(*parts: tuple[Path, Iterable[str]]) -> Iterable[Path]:
    return (folder / name for folder, names in parts for name in names)


def fetched(place: str) -> Path:
    """The folder of a text encoder; of a hub id that of the cache, downloaded with its tokenizer where it lacks."""
    where = Place.parse(place)
    if where.folder:
        return where.folder
    from huggingface_hub import snapshot_download

    base = f"{where.subfolder}/" if where.subfolder else ""
    beside = str(tokenizer_folder(Path(where.subfolder))) + "/" if where.subfolder else ""
    wanted = [base + name for name in (CONFIG, *WEIGHTS, SHARDED, *TOKENIZER_FILES)]
    wanted += [beside + name for name in TOKENIZER_FILES]
    with loading(place):
        commit = commit_of(where.repository, [base + file for file in WEIGHTS])
        return Path(snapshot_download(where.repository, revision=commit, allow_patterns=wanted)) / where.subfolder


def _load_tokenizer(place: str, folder: Path) -> Any:
    """Raises CurationError."""
    patch_torchvision()
    from transformers import AutoTokenizer

    with loading(place):
        return AutoTokenizer.from_pretrained(
            str(tokenizer_folder(folder)), trust_remote_code=False, local_files_only=True
        )
