"""Which backends fill which role, found by name and imported late."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from curation.errors import CurationError, UsageError
from curation.install import missing


@dataclass(frozen=True)
class AcceptedSizes:
    """What a VAE encodes: sides that are multiples of `side` px, and clips of 1 + k * `frames` frames.

    frames = 0: pictures alone.
    """

    side: int
    frames: int


@dataclass(frozen=True)
class ModelInfo:
    """What the plan and the resolved manifest say of a model, known without loading it."""

    id: str
    """Backend, architecture and weights in words: `embedded:efficientnet-lite0+minilm`."""
    sha256: str
    """Hash of the weights file; of the id where weights come from a hub at load time."""
    problem: str | None = None
    """Why it cannot be had here (a missing package, no such path), as a sentence; None when it can."""
    accepted_sizes: AcceptedSizes | None = None
    """Of a VAE; None where only loading it could tell."""
    devices: tuple[str, ...] = ("cpu",)
    """Where it can compute: "cpu", and "cuda" for a model whose network is batched on a GPU."""
    gpu_mb: int = 0
    """About what it takes of a GPU's memory, weights and its largest batch; 0 where that is not known."""


@dataclass(frozen=True)
class Role:
    """A purpose: its backends as `module:Class`, and what the words embedded and production stand for."""

    methods: str
    backends: Mapping[str, str]
    embedded: str
    production: str


_HERE = "curation.models"
ROLES: dict[str, Role] = {
    "image_text": Role(
        methods="similarity(pixels: list[Pixels], captions: list[str]) -> list[float]",
        backends={"head": f"{_HERE}.image_text:ImageTextHead", "open_clip": f"{_HERE}.open_clip:OpenClip"},
        embedded="head",
        production="open_clip:ViT-B-32:laion2b_s34b_b79k",
    ),
    "image_embedding": Role(
        methods="embed(pixels: list[Pixels]) -> float32 [N, D], unit length; `dimensions`",
        backends={"efficientnet": f"{_HERE}.efficientnet:EfficientNet", "open_clip": f"{_HERE}.open_clip:OpenClip"},
        embedded="efficientnet",
        production="open_clip:ViT-B-32:laion2b_s34b_b79k",
    ),
    "copy": Role(
        methods="embed(pixels: list[Pixels]) -> float32 [N, D], unit length",
        backends={"head": f"{_HERE}.copy_head:CopyHead"},
        embedded="head",
        production="head",
    ),
    "safety": Role(
        methods="punsafe(pixels: list[Pixels]) -> list[float]",
        backends={"open_nsfw": f"{_HERE}.open_nsfw:OpenNsfw", "laion": f"{_HERE}.laion:LaionSafety"},
        embedded="open_nsfw",
        production="open_nsfw",
    ),
    "overlay": Role(
        methods="boxes(pixels: list[Pixels]) -> for each a list of text lines, float32 [4, 2]; "
        "read(pixels, boxes of each) -> for each a list[str], empty where unreadable",
        backends={"rapidocr": f"{_HERE}.text_boxes:RapidOcr"},
        embedded="rapidocr",
        production="rapidocr",
    ),
    "aesthetic": Role(
        methods="aesthetic(pixels: list[Pixels]) -> list[float]; the scale is the backend's",
        backends={
            "quality": f"{_HERE}.measured_quality:MeasuredQuality",
            "laion": f"{_HERE}.laion:LaionAesthetic",
        },
        embedded="quality",
        production="laion:v2",
    ),
    "captions": Role(
        methods="captions(scenes: list[Scene], effort: Effort) -> list[str | None | Failure]; the embedded one: "
        "sentence(tags, scores, text, media, sure, least) -> str | None",
        backends={
            "tags": f"{_HERE}.tag_sentence:TagSentence",
            "transformers": f"{_HERE}.transformers_captioner:TransformersCaptioner",
            "openai": f"{_HERE}.openai_captioner:OpenAiCaptioner",
        },
        embedded="tags",
        production="transformers:Qwen/Qwen3-VL-4B-Instruct",
    ),
    "tags": Role(
        methods="tags(pixels: list[Pixels], top: int) -> list of [(name, probability)]",
        backends={"efficientnet": f"{_HERE}.efficientnet:EfficientNet"},
        embedded="efficientnet",
        production="efficientnet",
    ),
    "text": Role(
        methods="tokens(captions: list[str]) -> list of float16 [n, D], trimmed; `dimensions`, `max_tokens`; with "
        "further parts also encode(captions) -> TextStates, parts() and about(), see `text_spec`",
        backends={
            "minilm": f"{_HERE}.minilm:MiniLm",
            "transformers": f"{_HERE}.transformers_text:TransformersText",
            "several": f"{_HERE}.text_several:SeveralText",
        },
        embedded="minilm",
        production="minilm",
    ),
    "vae": Role(
        methods="encode(float32 [B, 3, H, W] or [B, 3, T, H, W] in [-1, 1]) -> (mean, logvar | None), raw, "
        "[B, C, h, w] or [B, C, t, h, w]; decode(latents) -> pixels; "
        "`channels`, `spatial_factor`, `temporal_factor` (absent: 1), `latents_mean`, `latents_std` (lists)",
        backends={
            "autoencoder": f"{_HERE}.autoencoder_backend:EmbeddedVae",
            "video_autoencoder": f"{_HERE}.autoencoder_backend:EmbeddedVideoVae",
            "diffusers": f"{_HERE}.diffusers_vae:DiffusersVae",
        },
        embedded="autoencoder",
        production="diffusers:stabilityai/sdxl-vae",
    ),
}


def split(role: str, spec: str) -> tuple[str, str]:
    """`open_clip:A:B` -> (`open_clip`, `A:B`), the words embedded and production resolved. Raises UsageError."""
    entry = ROLES[role]
    spec = {"embedded": entry.embedded, "production": entry.production}.get(spec, spec)
    backend, _, argument = spec.partition(":")
    if backend not in entry.backends:
        known = ", ".join(["embedded", "production", *entry.backends])
        raise UsageError(f"no model '{spec}' for the role {role}; there are: {known}")
    return backend, argument


def _backend(role: str, spec: str) -> tuple[Any, str]:
    backend, argument = split(role, spec)
    module, _, name = ROLES[role].backends[backend].partition(":")
    return getattr(importlib.import_module(module), name), argument


@cache
def describe(role: str, spec: str) -> ModelInfo:
    """A model's identity and whether it can be had here, without loading it."""
    try:
        factory, argument = _backend(role, spec)
        info: ModelInfo = factory.describe(argument)
        return info
    except ImportError as error:
        lacks = missing(error.name) or f"it needs a package that is not installed ({error.name})"
        return ModelInfo(f"{role}:{spec}", "", lacks)


def absence(role: str, spec: str) -> str | None:
    """Why a model with nothing wrong about it does not answer now (its server is down); None for all others."""
    try:
        factory, argument = _backend(role, spec)
    except ImportError:  # `describe` says so
        return None
    ask = getattr(factory, "absence", None)
    return ask(argument) if ask else None


_open: dict[tuple[Any, str, str], Any] = {}


def open_model(role: str, spec: str, device: str = "cpu") -> Any:
    """The model, loaded once per process: stages that name the same backend share it. Raises CurationError."""
    try:
        factory, argument = _backend(role, spec)
    except ImportError as error:
        lacks = missing(error.name) or f"the package {error.name} is not installed"
        raise CurationError(f"the model '{spec}' for {role} cannot be loaded: {lacks}") from error
    key = (factory, argument, device)
    if key not in _open:
        _open[key] = factory(argument, device)
    return _open[key]
