"""LAION's heads on CLIP's image features: aesthetic v1 and v2, and the NSFW detector.

Sources of the forms and of what their inputs are (unit-length features of OpenAI's CLIP):
    v1    https://github.com/LAION-AI/aesthetic-predictor: one linear layer
    v2    https://github.com/christophschuhmann/improved-aesthetic-predictor: five linear layers, and nothing between
          them: right for the published `...linearMSE` files, wrong for a `...reluMSE` file
    nsfw  https://github.com/LAION-AI/CLIP-based-NSFW-Detector, src/models.py: normalisation, ReLU layers, a sigmoid;
          the `models/clip_*_openai_binary_nsfw_head.pth` there, which its authors ported from the autokeras files
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.models.hub import commit_of, hub_problem
from curation.models.open_clip import OpenClip
from curation.models.packaged import sha256
from curation.models.registry import ModelInfo, open_model
from curation.pixels import Pixels
from curation.stage import sentence

Array = NDArray[np.float64]
L14 = "ViT-L-14-quickgelu:openai"  # plain ViT-L-14 would run OpenAI's weights with another activation
FORMS = {
    "v1": [""],
    "v2": [f"layers.{i}." for i in (0, 2, 4, 6, 7)],
    "nsfw768": [f"linear_{i}." for i in (1, 2, 3, 4)],
    "nsfw512": [f"linear_{i}." for i in (1, 2, 3)],
}
"""Prefixes of the layers' weights and biases in the published files."""
ON_HUB = {"v2": ("ttj/sac-logos-ava1-l14-linearMSE", "model.safetensors")}


@dataclass(frozen=True)
class Head:
    """Layers [(out, in) weight, (out) bias], the last with one output; `mean` and `deviation` of an NSFW head's input.

    With them, ReLU stands between the layers and a sigmoid at the end; without, nothing does.
    """

    layers: tuple[tuple[Array, Array], ...]
    mean: Array | None = None
    deviation: Array | None = None

    @property
    def dimensions(self) -> int:
        return int(self.layers[0][0].shape[1])

    def __call__(self, features: NDArray[Any]) -> Array:
        """[N, dimensions] -> [N], each row on its own."""
        x = features.astype(np.float64)
        if self.mean is None or self.deviation is None:
            for weight, bias in self.layers:
                x = _product(x, weight.T) + bias
            return x[:, 0]
        x = (x - self.mean) / (self.deviation + 1e-10)
        for weight, bias in self.layers[:-1]:
            x = np.maximum(_product(x, weight.T) + bias, 0)
        weight, bias = self.layers[-1]
        return np.asarray(0.5 * (1 + np.tanh(0.5 * (_product(x, weight.T) + bias)[:, 0])))

    @classmethod
    def of(cls, tensors: dict[str, Array], form: str) -> "Head":
        """From a file's tensors. Raises ValueError saying which do not fit the form."""
        name = f"nsfw{len(tensors.get('norm.mean', ()))}" if form == "nsfw" else form
        if name not in FORMS:
            raise ValueError("it has no norm.mean of 512 or 768 values, as LAION's NSFW heads have")
        norms = ["norm.mean", "norm.variance"] if form == "nsfw" else []
        wanted = {f"{prefix}{part}" for prefix in FORMS[name] for part in ("weight", "bias")} | set(norms)
        if wanted != set(tensors):
            raise ValueError(f"a head of the form {form} has {sorted(wanted)}, not {sorted(tensors)[:12]}")
        layers = tuple((tensors[f"{p}weight"], tensors[f"{p}bias"]) for p in FORMS[name])
        width = layers[0][0].shape[-1]
        for weight, bias in layers:
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
                raise ValueError(f"a layer of {weight.shape} and {bias.shape} does not follow one of {width} values")
            width = weight.shape[0]
        if width != 1:
            raise ValueError(f"it ends in {width} values, not in one")
        if form != "nsfw":
            return cls(layers)
        if tensors["norm.variance"].shape != tensors["norm.mean"].shape or layers[0][0].shape[1:] != (
            tensors["norm.mean"].shape
        ):
            raise ValueError("its normalisation does not fit its first layer")
        return cls(layers, tensors["norm.mean"], np.sqrt(tensors["norm.variance"]))


def _product(left: Array, right: Array) -> Array:
    return np.asarray(np.einsum("nk,km->nm", left, right))  # not through BLAS, as in image_text.py


def read_head(file: Path, form: str) -> Head:
    """From safetensors, or a torch file through its restricted unpickler. Raises CurationError."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors = load_file(file)
        else:
            import torch

            tensors = torch.load(file, map_location="cpu", weights_only=True)
        return Head.of({name: value.double().numpy() for name, value in tensors.items()}, form)
    except Exception as error:  # torch and safetensors raise what they like
        raise CurationError(f"{file} is no head of the form {form}: {sentence(error)}") from error


@dataclass(frozen=True)
class Choice:
    """`v2[:HEAD[:TOWER]]`: the head's form and file (None for the hub's), and an argument of open_clip."""

    form: str
    file: Path | None
    tower: str

    @classmethod
    def parse(cls, argument: str, forms: Sequence[str]) -> "Choice":
        """Raises CurationError for a form that there is not, or that the hub has no file of."""
        form, file, tower = (*argument.split(":", 2), "", "")[:3]
        if form not in forms or not (file or form in ON_HUB):
            says = " or ".join(f"laion:{name}{'[:HEAD]' if name in ON_HUB else ':HEAD'}[:TOWER]" for name in forms)
            raise CurationError(
                f"'laion:{argument}' names no head; say {says}, with HEAD the path of a file of LAION's and TOWER "
                f"open_clip's, such as {L14}"
            )
        return cls(form, Path(file) if file else None, tower or L14)

    def path(self) -> Path:
        """The head's file, downloaded where it is the hub's."""
        if self.file:
            return self.file
        from huggingface_hub import hf_hub_download

        repository, name = ON_HUB[self.form]
        return Path(hf_hub_download(repository, name, revision=commit_of(repository, [name])))

    def info(self) -> ModelInfo:
        """Head and tower; a local head is read, so that the plan refuses one of another form."""
        tower = OpenClip.describe(self.tower)
        name = f"laion:{self.form}{f':{self.file.name}' if self.file else ''}+{tower.id}"
        problem = tower.problem
        if self.file is None:
            repository, file = ON_HUB[self.form]
            problem = problem or hub_problem(repository, [file])
            digest = "" if problem else hashlib.sha256(commit_of(repository, [file]).encode()).hexdigest()
        elif not self.file.is_file():
            return ModelInfo(name, "", f"there is no head {self.file}")
        else:
            digest = sha256(self.file)
            try:
                read_head(self.file, self.form)
            except CurationError as error:
                problem = str(error)
        sha = f"{digest[:21]}+{tower.sha256[:21]}"
        return ModelInfo(name, sha, problem, devices=tower.devices, gpu_mb=tower.gpu_mb)


class _Laion:
    """A head on the features that the stages embedding and similarity share (one forward pass a picture)."""

    forms: tuple[str, ...] = ()

    @classmethod
    def describe(cls, argument: str) -> ModelInfo:
        try:
            return Choice.parse(argument, cls.forms).info()
        except CurationError as error:
            return ModelInfo(f"laion:{argument}", "", str(error))

    def __init__(self, argument: str, device: str = "cpu") -> None:
        if problem := self.describe(argument).problem:
            raise CurationError(f"the model 'laion:{argument}' cannot be had: {problem}")
        choice = Choice.parse(argument, self.forms)
        self.head = read_head(choice.path(), choice.form)
        self.tower = open_model("image_embedding", f"open_clip:{choice.tower}", device)
        if self.head.dimensions != self.tower.dimensions:
            raise CurationError(
                f"the head of 'laion:{argument}' takes {self.head.dimensions} features, and {choice.tower} gives "
                f"{self.tower.dimensions}; name the tower that it was trained on: laion:{choice.form}:HEAD:TOWER"
            )

    def _values(self, pixels: Sequence[Pixels]) -> list[float]:
        return [float(value) for value in self.head(self.tower.embed(pixels))]


class LaionAesthetic(_Laion):
    """The role aesthetic: `v1:HEAD[:TOWER]` or `v2[:HEAD[:TOWER]]`, without HEAD that of the hub."""

    forms = ("v1", "v2")

    def aesthetic(self, pixels: Sequence[Pixels]) -> list[float]:
        """About 1 (poor) to 10 (fine), for each picture."""
        return self._values(pixels)


class LaionSafety(_Laion):
    """The role safety: `nsfw:HEAD[:TOWER]`."""

    forms = ("nsfw",)

    def punsafe(self, pixels: Sequence[Pixels]) -> list[float]:
        """A probability for each picture, 0 safe to 1 unsafe."""
        return self._values(pixels)
