"""Production image-text similarity and image embedding: any model that open_clip can load."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.errors import CurationError
from curation.models.captions import bounded
from curation.models.hub import hub_problem
from curation.models.packaged import sha256
from curation.models.registry import ModelInfo
from curation.models.torchvision_mend import mend
from curation.pixels import Pixels
from curation.stage import sentence

SUFFIXES = {".safetensors", ".bin", ".pt", ".pth"}
LONGEST = 20
CACHED = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class Choice:
    """An argument's parts: `architecture` by its name or as a JSON config, `weights` a tag or a file."""

    architecture: str
    weights: str | None

    @classmethod
    def parse(cls, argument: str) -> "Choice":
        """Raises CurationError for an argument that names no weights: open_clip would run random ones."""
        if argument.startswith(("hf-hub:", "local-dir:")):
            return cls(argument, None)
        architecture, _, weights = argument.partition(":")
        if not architecture or not weights:
            raise CurationError(
                f"'open_clip:{argument}' names no weights; say open_clip:ARCHITECTURE:TAG_OR_FILE, such as "
                "open_clip:ViT-B-32:laion2b_s34b_b79k, or choose `embedded`"
            )
        return cls(architecture, weights)

    @property
    def files(self) -> list[Path]:
        """The local files that make up the model; empty when it comes from the hub."""
        if self.architecture.startswith("local-dir:"):
            folder = Path(self.architecture.removeprefix("local-dir:"))
            return sorted(path for path in folder.glob("*") if path.suffix in {".json", ".safetensors", ".bin", ".pth"})
        config = [Path(self.architecture)] if self.architecture.endswith(".json") else []
        return [
            *config,
            *([Path(self.weights)] if self.weights and Path(self.weights).suffix in SUFFIXES else []),
        ]


class OpenClip:
    """The roles image_text and image_embedding. The argument is one of

        ViT-B-32:laion2b_s34b_b79k            an architecture and a tag of its weights, from the hub
        ViT-B-32:/models/clip.safetensors     an architecture and a file
        /models/tiny.json:/models/tiny.safetensors   a model config of one's own and a file
        local-dir:/models/siglip              a folder with open_clip_config.json and weights
        hf-hub:timm/ViT-B-16-SigLIP           a repository of the hub

    With a bare file, pictures are preprocessed with OpenAI's mean and deviation; a folder and the hub say
    their own. Weights that are not safetensors are read with torch's restricted unpickler (weights_only).
    """

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        try:
            choice = Choice.parse(argument)
        except CurationError as error:
            return ModelInfo(f"open_clip:{argument}", "", str(error))
        name = ":".join(Path(part).name for part in argument.split(":")) if choice.files else argument
        missing = [str(path) for path in choice.files if not path.is_file()]
        if missing or (choice.architecture.startswith("local-dir:") and not choice.files):
            return ModelInfo(f"open_clip:{name}", "", f"there is no model file {', '.join(missing) or argument}")
        # A tag's weights are identified by the tag: the hash must not change once they are downloaded.
        digest = sha256(*choice.files) if choice.files else hashlib.sha256(argument.encode()).hexdigest()
        return ModelInfo(f"open_clip:{name}", digest, _problem(choice))

    def __init__(self, argument: str, device: str = "cpu") -> None:
        choice = Choice.parse(argument)
        if problem := self.describe(argument).problem:  # a hub that is out of reach would be retried for a minute
            raise CurationError(f"the model 'open_clip:{argument}' cannot be had: {problem}")
        mend()
        import open_clip

        try:
            name = _architecture(choice)
            self.model, _, self.preprocess = open_clip.create_model_and_transforms(
                name, choice.weights, device=device, require_pretrained=True, weights_only=True
            )
            self.tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:  # torch, the hub and open_clip raise what they like
            raise CurationError(
                f"the model 'open_clip:{argument}' cannot be loaded ({sentence(error)}); give weights that "
                "fit the architecture, or choose `embedded`"
            ) from error
        self.model.eval().requires_grad_(False)
        self.device = device
        self.memo_key = ("open_clip", argument, device)
        # On a CPU one at a time: sums, and so the last bits of a score, would depend on the batch.
        self.batch = 32 if device.startswith("cuda") else 1
        self.dimensions = int(self.embed([Pixels.of(np.zeros((8, 8, 3), np.uint8))]).shape[1])

    def embed(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """float32 [N, D], unit length; D is the model's (512 for ViT-B-32)."""
        slots = [picture.memo(self.memo_key, _empty_slot) for picture in pixels]
        todo = {id(slot): (slot, picture) for slot, picture in zip(slots, pixels, strict=True) if not slot}
        missing = list(todo.values())
        for start in range(0, len(missing), self.batch):
            part = missing[start : start + self.batch]
            inputs = [self.preprocess(image_of(picture)) for _, picture in part]
            for (slot, _), vector in zip(part, self._run(self.model.encode_image, inputs), strict=True):
                slot.append(vector)
        return np.stack([slot[0] for slot in slots]) if slots else np.empty((0, self.dimensions), np.float32)

    def similarity(self, pixels: Sequence[Pixels], captions: Sequence[str]) -> list[float]:
        """For each pair the cosine, -1..1: with ViT-B-32 about 0.3 for matching captions, 0.1 for swapped."""
        texts: dict[str, NDArray[np.float32]] = {}
        distinct = list(dict.fromkeys(captions))
        for start in range(0, len(distinct), self.batch):
            part = distinct[start : start + self.batch]
            inputs = self.tokenizer([bounded(caption) for caption in part])
            texts.update(zip(part, self._run(self.model.encode_text, list(inputs)), strict=True))
        images = self.embed(pixels)
        return [float(image @ texts[caption]) for image, caption in zip(images, captions, strict=True)]

    def _run(self, encode: Any, inputs: list[Any]) -> NDArray[np.float32]:
        """Unit-length rows of one batch of tensors."""
        import torch

        with torch.inference_mode(), self._precision():
            vectors = encode(torch.stack(inputs).to(self.device), normalize=True)
        rows: NDArray[np.float32] = vectors.float().cpu().numpy()
        return rows

    def _precision(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast("cuda", torch.float16, enabled=self.device.startswith("cuda"))


def image_of(pixels: Pixels) -> Image.Image:
    """The picture for open_clip's preprocessing; of one longer than 20:1 the middle.

    Most models resize the short side to 224 and crop the centre afterwards: a strip of 65535 x 1 would become
    15 million x 224 pixels in between.
    """
    height, width = (min(side, LONGEST * min(pixels.width, pixels.height)) for side in pixels.rgb.shape[:2])
    top, left = (pixels.height - height) // 2, (pixels.width - width) // 2
    return Image.fromarray(pixels.rgb[top : top + height, left : left + width])


def _empty_slot(pixels: Pixels) -> list[NDArray[np.float32]]:
    """What a picture remembers: its vector, once the batch that it is in has run."""
    return []


def _architecture(choice: Choice) -> str:
    """The name under which open_clip knows the architecture; a JSON config is made known first."""
    import open_clip

    if not choice.architecture.endswith(".json"):
        return choice.architecture
    open_clip.add_model_config(choice.architecture)
    return Path(choice.architecture).stem


def _problem(choice: Choice) -> str | None:
    """Why the model cannot be had, without downloading it."""
    mend()
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    if choice.architecture.startswith("hf-hub:"):
        return hub_problem(choice.architecture.removeprefix("hf-hub:"), CACHED)
    if choice.architecture.startswith("local-dir:"):
        return None
    if not choice.architecture.endswith(".json") and choice.architecture not in open_clip.list_models():
        return f"open_clip has no architecture '{choice.architecture}', such as ViT-B-32"
    if choice.weights is None or choice.files:
        return None
    entry = get_pretrained_cfg(choice.architecture, choice.weights)
    if not entry:
        tags = ", ".join(list_pretrained_tags_by_model(choice.architecture)) or "none"
        return f"'{choice.weights}' is neither a file nor a tag of {choice.architecture}; its tags: {tags}"
    repository, _, file = entry.get("hf_hub", "").rpartition("/")
    return hub_problem(repository, (file, *CACHED)) if repository else None
