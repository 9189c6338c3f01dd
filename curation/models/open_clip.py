"""Production image-text similarity and image embedding: any model that open_clip can load."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.errors import CurationError
from curation.inference.client import connect
from curation.inference.network import Precision, Row, Signature, Spec
from curation.inference.torch_network import TorchNetwork, half_on_gpu, normalized
from curation.models.captions import bounded
from curation.models.hub import hub_problem
from curation.models.packaged import sha256
from curation.models.patch_torchvision import patch_torchvision
from curation.models.registry import ModelInfo
from curation.pixels import Pixels
from curation.stage import sentence

SUFFIXES = {".safetensors", ".bin", ".pt", ".pth"}
LONGEST = 20
BATCH_MB = 2000
"""Beside its weights: the activations of 128 pictures of 224 px in ViT-L/14, and the CUDA context."""
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
        size = sum(path.stat().st_size for path in choice.files) >> 20
        return ModelInfo(f"open_clip:{name}", digest, _problem(choice), devices=("cpu", "cuda"), gpu_mb=size + BATCH_MB)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        choice = Choice.parse(argument)
        if problem := self.describe(argument).problem:  # a hub that is out of reach would be retried for a minute
            raise CurationError(f"the model 'open_clip:{argument}' cannot be had: {problem}")
        self.network = connect(Spec(f"{__name__}:ClipNetwork", argument, device, half_on_gpu(device)))
        facts = self.network.facts
        self.dimensions = int(facts["dimensions"])
        self._sized = sizing(facts["preprocess"])
        self.memo_key = ("open_clip", argument, device)
        patch_torchvision()
        import open_clip

        self.tokenizer = open_clip.get_tokenizer(_architecture(choice))

    def embed(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """float32 [N, D], unit length; D is the model's (512 for ViT-B-32). Each picture is computed once."""
        slots = [picture.memo(self.memo_key, _empty_slot) for picture in pixels]
        todo = list(
            {id(slot): (slot, picture) for slot, picture in zip(slots, pixels, strict=True) if not slot}.values()
        )
        answers = self.network.run("image", [self.prepare(picture) for _, picture in todo])
        for (slot, _), (vector,) in zip(todo, answers, strict=True):
            slot.append(vector)
        return np.stack([slot[0] for slot in slots]) if slots else np.empty((0, self.dimensions), np.float32)

    def prepare(self, picture: Pixels) -> Row:
        """uint8 [S, S, 3], resized and cropped as the model's own preprocessing does it."""
        return (self._sized(middle(picture)),)

    def similarity(self, pixels: Sequence[Pixels], captions: Sequence[str]) -> list[float]:
        """For each pair the cosine, -1..1: with ViT-B-32 about 0.3 for matching captions, 0.1 for swapped."""
        distinct = list(dict.fromkeys(captions))
        tokens = self.tokenizer([bounded(caption) for caption in distinct]).numpy() if distinct else ()
        vectors = self.network.run("text", [(row,) for row in tokens])
        texts = {caption: vector for caption, (vector,) in zip(distinct, vectors, strict=True)}
        images = self.embed(pixels)
        return [float(image @ texts[caption]) for image, caption in zip(images, captions, strict=True)]


class ClipNetwork(TorchNetwork):
    """Both towers. Calls: `image`, uint8 [S, S, 3] -> float32 [D]; `text`, int64 [context] -> float32 [D]; unit length.

    facts: `preprocess` (open_clip's PreprocessCfg), `dimensions`, and in half precision `parity`, the cosine between
    a random picture's vector and the one in fp32.
    """

    def __init__(self, argument: str, device: str, precision: Precision) -> None:
        super().__init__(argument, device, precision)
        patch_torchvision()
        import open_clip

        choice = Choice.parse(argument)
        try:
            model = open_clip.create_model(
                _architecture(choice), choice.weights, device="cpu", require_pretrained=True, weights_only=True
            )
        except Exception as error:  # torch, the hub and open_clip raise what they like
            raise CurationError(
                f"the model 'open_clip:{argument}' cannot be loaded ({sentence(error)}); give weights that "
                "fit the architecture, or choose `embedded`"
            ) from error
        preprocess: dict[str, Any] = dict(open_clip.get_model_preprocess_cfg(model))
        self.mean, self.std = preprocess["mean"], preprocess["std"]
        size = preprocess["size"]
        self.side = (size, size) if isinstance(size, int) else tuple(size)
        probe = np.random.default_rng(0).integers(0, 256, (1, *self.side, 3), np.uint8)
        parity = self.place(model, "image", [probe])
        dimensions = self.compute("image", [probe])[0].shape[1]
        self.facts = {"preprocess": preprocess, "dimensions": int(dimensions), **parity}

    def batch_rows(self, signature: Signature) -> int:
        return 128 if self.on_gpu else 1  # on a CPU one at a time costs nothing, and is the same on every machine

    def forward(self, call: str, tensors: Sequence[Any]) -> Sequence[Any]:
        if call == "image":
            vectors = self.module.encode_image(normalized(tensors[0], self.mean, self.std, self.dtype), normalize=True)
        else:
            vectors = self.module.encode_text(tensors[0], normalize=True)
        return [vectors.float()]


def sizing(preprocess: dict[str, Any]) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """The part of open_clip's preprocessing that makes a picture of the model's size; the rest is the network's.

    uint8 [H, W, 3] -> [S, S, 3]. Torch resizes with Pillow's filters, four to six times as fast as Pillow; a quarter
    of a percent of the values differs from Pillow's by one level, by two where a picture is enlarged.
    """
    import torch

    patch_torchvision()
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor
    from torchvision.transforms.v2 import functional

    steps = image_transform_v2(PreprocessCfg(**preprocess), is_train=False).transforms
    steps = steps[: next(i for i, step in enumerate(steps) if isinstance(step, ToTensor))]
    sizes = steps[:-1]  # the last one converts to RGB, which every picture here is

    def by_torch(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        planes = torch.from_numpy(rgb if rgb.flags.writeable else rgb.copy()).permute(2, 0, 1)
        for step in sizes:
            if isinstance(step, Resize):
                size = [step.size] if isinstance(step.size, int) else list(step.size)
                planes = functional.resize(planes, size, step.interpolation, antialias=True)
            else:
                planes = step(planes)
        sized: NDArray[np.uint8] = planes.permute(1, 2, 0).contiguous().numpy()
        return sized

    def by_pillow(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(Compose(sizes)(Image.fromarray(rgb)), np.uint8)

    # open_clip's own steps, for models that keep the ratio and pad, take pictures of Pillow alone
    return by_torch if all(isinstance(step, (Resize, CenterCrop)) for step in sizes) else by_pillow


def image_of(pixels: Pixels) -> Image.Image:
    """`middle` as a picture of Pillow."""
    return Image.fromarray(middle(pixels))


def middle(pixels: Pixels) -> NDArray[np.uint8]:
    """The picture for a model's preprocessing; of one longer than 20:1 the middle.

    Most models resize the short side to 224 and crop the centre afterwards: a strip of 65535 x 1 would become
    15 million x 224 pixels in between.
    """
    height, width = (min(side, LONGEST * min(pixels.width, pixels.height)) for side in pixels.rgb.shape[:2])
    top, left = (pixels.height - height) // 2, (pixels.width - width) // 2
    return pixels.rgb[top : top + height, left : left + width]


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
    patch_torchvision()
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
