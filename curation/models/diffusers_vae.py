"""Production VAEs of diffusers, for pictures (SD, SDXL, SD3, Flux) and clips (Wan, LTX, CogVideoX, HunyuanVideo)."""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import CurationError
from curation.models.diffusers_families import CLASSES, facts_of, takes_of
from curation.models.hub import commit_of, hub_problem
from curation.models.packaged import sha256
from curation.models.registry import ModelInfo, Takes
from curation.models.torchvision_mend import mend
from curation.stage import sentence

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Place:
    """Where the weights are: a folder, or a hub repository and the subfolder of a pipeline in it."""

    folder: Path | None
    repository: str = ""
    subfolder: str = ""

    @classmethod
    def parse(cls, argument: str) -> "Place":
        """`/models/vae`, `stabilityai/sdxl-vae`, `OWNER/NAME/vae`; what exists here is a folder."""
        if Path(argument).is_dir() or argument.startswith((".", "/", "~")):
            return cls(Path(argument).expanduser())
        owner, _, rest = argument.partition("/")
        name, _, subfolder = rest.partition("/")
        return cls(None, f"{owner}/{name}" if name else owner, subfolder)

    @property
    def weights(self) -> str:
        """The weights' path within the repository."""
        return f"{self.subfolder}/{WEIGHTS}" if self.subfolder else WEIGHTS

    def commit(self) -> str:
        """The commit that the repository's main branch stands for here."""
        return commit_of(self.repository, [self.weights])


class DiffusersVae:
    """The role vae. `argument`: a folder with config.json and safetensors, or a hub id, with `/vae` for a pipeline's.

    Runs in fp32 whatever `force_upcast` says: SDXL's VAE overflows in fp16, and a cache is made once. With
    scaling_factor s and shift_factor h the model's normalised latent is (z - h) * s, so latents_mean is h and
    latents_std is 1 / s in every channel; where the config has statistics per channel, they are used.
    """

    @classmethod
    def describe(cls, argument: str) -> ModelInfo:
        """For a folder the hash of its config and weights; for a hub id that of the commit, downloaded or not."""
        if not argument:
            return ModelInfo("diffusers:", "", "it names no weights; say diffusers:FOLDER or diffusers:HUB/ID")
        if importlib.util.find_spec("diffusers") is None:
            return ModelInfo(
                f"diffusers:{argument}",
                "",
                "the package diffusers is not installed; `pip install 'curation[production]'` brings it",
            )
        place = Place.parse(argument)
        if place.folder:
            files = [place.folder / CONFIG, place.folder / WEIGHTS]
            missing = " and no ".join(file.name for file in files if not file.is_file())
            problem = f"the folder {place.folder} has no {missing}" if missing else None
            digest, takes = ("", None) if missing else (sha256(*files), _takes(place))
            return ModelInfo(f"diffusers:{place.folder.name}", digest, problem, takes)
        if problem := hub_problem(place.repository, [place.weights]):
            return ModelInfo(f"diffusers:{argument}", "", problem)
        digest = hashlib.sha256(f"{argument}@{place.commit()}".encode()).hexdigest()
        return ModelInfo(f"diffusers:{argument}", digest, takes=_takes(place))

    def __init__(self, argument: str, device: str = "cpu") -> None:
        if problem := self.describe(argument).problem:  # a hub that is out of reach would be retried for a minute
            raise CurationError(f"the VAE 'diffusers:{argument}' cannot be had: {problem}")
        self.model = _loaded(argument).to(device)
        self.device = device
        facts = facts_of(self.model)
        self.channels, self.spatial_factor, self.temporal_factor = (
            facts.channels,
            facts.spatial_factor,
            facts.temporal_factor,
        )
        self.frame_step = facts.frame_step
        self.latents_mean, self.latents_std = facts.latents_mean, facts.latents_std
        self.of_clips = type(self.model).__name__ != CLASSES[0]

    def encode(self, pixels: Any) -> tuple[Any, Any]:
        """float32 [B, 3, (T,) H, W] in [-1, 1] -> RAW posterior (mean, logvar), float32 [B, C, (t,) h, w] on the CPU.

        Raises ValueError for sides that are no multiples of `spatial_factor` and frames that are not
        1 + k * `frame_step`: the model would cut them, Wan's without a word.
        """
        import torch

        height, width = pixels.shape[-2:]
        if height % self.spatial_factor or width % self.spatial_factor:
            raise ValueError(f"the VAE takes sides that are multiples of {self.spatial_factor}, not {width}x{height}")
        frames = pixels.shape[2] if pixels.ndim == 5 else 1
        if frames % self.frame_step != 1 % self.frame_step or (frames > 1 and not self.of_clips):
            takes = f"1 + {self.frame_step}k frames" if self.of_clips else "pictures"
            raise ValueError(f"the VAE takes {takes}, not {frames} frames")
        with torch.inference_mode():
            posterior = self.model.encode(self._shaped(pixels).to(self.device).float()).latent_dist
            mean, logvar = posterior.mean.cpu(), posterior.logvar.cpu()
        return _like(mean, pixels), _like(logvar, pixels)

    def _shaped(self, values: Any) -> Any:
        """With the time axis that the model wants."""
        if self.of_clips:
            return values if values.ndim == 5 else values[:, :, None]
        return values[:, :, 0] if values.ndim == 5 else values

    def decode(self, latents: Any) -> Any:
        """RAW latents [B, C, (t,) h, w] -> float32 [B, 3, (T,) H, W], about [-1, 1], on the CPU."""
        import torch

        with torch.inference_mode():
            return _like(self.model.decode(self._shaped(latents).to(self.device).float()).sample.cpu(), latents)


def _takes(place: Place) -> Takes | None:
    """From config.json, of the hub the few KB of it; None where that cannot be read: loading then says why."""
    from huggingface_hub import hf_hub_download

    try:
        if (file := place.folder and place.folder / CONFIG) is None:
            config = place.weights.replace(WEIGHTS, CONFIG)
            file = Path(hf_hub_download(place.repository, config, revision=place.commit()))
        return takes_of(json.loads(file.read_text()))
    except Exception:  # noqa: BLE001 (the hub's client raises what it likes, and a config may hold anything)
        return None


def _like(values: Any, given: Any) -> Any:
    """With a time axis just where `given` has one."""
    if values.ndim == given.ndim:
        return values
    return values[:, :, 0] if values.ndim == 5 else values[:, :, None]


def _loaded(argument: str) -> Any:
    """The AutoencoderKL in fp32, from safetensors only. Raises CurationError, also for another kind of model."""
    mend()
    import diffusers
    import torch

    place = Place.parse(argument)
    try:
        source = str(place.folder) if place.folder else place.repository
        where = {} if place.folder else {"subfolder": place.subfolder or None, "revision": place.commit()}
        options = {"torch_dtype": torch.float32, "use_safetensors": True, "low_cpu_mem_usage": False}
        config = diffusers.AutoencoderKL.load_config(source, **where)
        kind = config.get("_class_name", CLASSES[0])
        if kind not in CLASSES:
            raise ValueError(f"its class {kind} is none of {', '.join(CLASSES)}")
        model, report = getattr(diffusers, kind).from_pretrained(source, output_loading_info=True, **options, **where)
    except Exception as error:  # the hub, safetensors, torch and diffusers raise what they like
        raise CurationError(
            f"the VAE 'diffusers:{argument}' cannot be loaded ({sentence(error)}); give a folder with "
            "an autoencoder's "
            f"{CONFIG} and {WEIGHTS}, or say `vae: embedded`, which needs no hub"
        ) from error
    # diffusers leaves weights that a file lacks at random values, and only warns.
    if wrong := [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]:
        raise CurationError(
            f"the VAE 'diffusers:{argument}' does not fit its {CONFIG}: {len(wrong)} weights differ, such as {wrong[0]}"
        )
    return model.eval().requires_grad_(False)
