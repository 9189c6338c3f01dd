"""Production VAEs of diffusers, for pictures and clips; `diffusers_families` lists their classes."""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import CurationError
from curation.install import missing
from curation.models.diffusers_families import DEFAULT, FAMILIES, accepted_sizes_of, facts_of, problem_of
from curation.models.hub import commit_of, hub_problem
from curation.models.packaged import sha256
from curation.models.patch_torchvision import patch_torchvision
from curation.models.registry import AcceptedSizes, ModelInfo
from curation.stage import sentence

CONFIG = "config.json"
HUB_MB = 700
BATCH_MB = 6000
"""Of a GPU's memory: weights that are not here yet (a large VAE's), and the activations of a batch."""
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

    Runs in fp32 whatever `force_upcast` says: SDXL's VAE overflows in fp16, and a cache is made once. The model's
    normalised latent is (z - latents_mean) / latents_std per channel, by the formula of its class (`FAMILIES`). Latents
    of AutoencoderKLFlux2 are its 2x2 patches, which its statistics and its transformer know.
    """

    @classmethod
    def describe(cls, argument: str) -> ModelInfo:
        """For a folder the hash of its config and weights; for a hub id that of the commit, downloaded or not."""
        if not argument:
            return ModelInfo("diffusers:", "", "it names no weights; say diffusers:FOLDER or diffusers:HUB/ID")
        if importlib.util.find_spec("diffusers") is None:
            return ModelInfo(f"diffusers:{argument}", "", missing("diffusers"))
        place = Place.parse(argument)
        if place.folder:
            files = [place.folder / CONFIG, place.folder / WEIGHTS]
            lacking = " and no ".join(file.name for file in files if not file.is_file())
            problem = f"the folder {place.folder} has no {lacking}" if lacking else None
            if lacking:
                return ModelInfo(f"diffusers:{place.folder.name}", "", problem)
            takes, problem = _known(place)
            return _info(place.folder.name, sha256(*files), problem, takes, files[1].stat().st_size >> 20)
        if problem := hub_problem(place.repository, [place.weights]):
            return ModelInfo(f"diffusers:{argument}", "", problem)
        digest = hashlib.sha256(f"{argument}@{place.commit()}".encode()).hexdigest()
        takes, problem = _known(place)
        return _info(argument, digest, problem, takes, HUB_MB)

    def __init__(self, argument: str, device: str = "cpu") -> None:
        if problem := self.describe(argument).problem:  # a hub that is out of reach would be retried for a minute
            raise CurationError(f"the VAE 'diffusers:{argument}' cannot be had: {problem}")
        self.model = _loaded(argument).to(device)
        self.device, self.dtype = device, next(self.model.parameters()).dtype
        self.family = FAMILIES[type(self.model).__name__]
        try:
            facts = facts_of(self.model)
        except ValueError as error:
            raise CurationError(f"the VAE 'diffusers:{argument}' cannot be used: {error}") from error
        self.channels, self.spatial_factor = facts.channels, facts.spatial_factor
        self.temporal_factor, self.frame_step = facts.temporal_factor, facts.frame_step
        self.latents_mean, self.latents_std = facts.latents_mean, facts.latents_std

    def encode(self, pixels: Any) -> tuple[Any, Any]:
        """float32 [B, 3, (T,) H, W] in [-1, 1] -> RAW posterior (mean, logvar), float32 [B, C, (t,) h, w] on its
        device.

        logvar is None where the model has no posterior (AutoencoderTiny, AutoencoderDC, AutoencoderKLCosmos). Raises
        ValueError for sides that are no multiples of `spatial_factor` and frames that are not 1 + k * `frame_step`:
        the model would cut them, Wan's without a word.
        """
        import torch

        height, width = pixels.shape[-2:]
        if height % self.spatial_factor or width % self.spatial_factor:
            raise ValueError(f"the VAE takes sides that are multiples of {self.spatial_factor}, not {width}x{height}")
        frames, of_clips = pixels.shape[2] if pixels.ndim == 5 else 1, self.family.of_clips
        if frames % self.frame_step != 1 % self.frame_step or (frames > 1 and not of_clips):
            takes = f"1 + {self.frame_step}k frames" if of_clips else "pictures"
            raise ValueError(f"the VAE takes {takes}, not {frames} frames")
        batches = pixels.to(self.device).float().split(1 if self.family.alone else len(pixels))
        with torch.inference_mode():
            parts = [_posterior(self.model.encode(self._seen(batch).to(self.dtype))) for batch in batches]
            mean, logvar = (None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True))
            return self._stored(mean, pixels), self._stored(logvar, pixels)

    def lower(self, dtype: Any) -> None:
        """Hold the weights in half precision, in the memory layout that a GPU's convolutions run fastest in."""
        import torch

        layouts = {4: torch.channels_last, 5: torch.channels_last_3d}  # video VAEs have weights of both ranks
        self.model = self.model.to(self.device, dtype)
        for weight in self.model.parameters():
            if layout := layouts.get(weight.ndim):
                weight.data = weight.data.contiguous(memory_format=layout)
        self.dtype = dtype

    @property
    def one_graph(self) -> Any:
        """The encoder, where it is one graph of convolutions that compiling pays for; None for encoders of whole clips.

        Those keep what they have seen of a clip in lists, which is many graphs.
        """
        return None if self.family.clips == "causal" else getattr(self.model, "encoder", None)

    def decode(self, latents: Any) -> Any:
        """RAW latents [B, C, (t,) h, w] -> float32 [B, 3, (T,) H, W], about [-1, 1], on its device."""
        import torch

        with torch.inference_mode():
            return torch.cat([self._decoded(part) for part in latents.split(1 if self.family.alone else len(latents))])

    def _decoded(self, latents: Any) -> Any:
        import torch

        values, options = self._shaped(latents).to(self.device, self.dtype), {}
        if self.family.patches:
            values = unpatched(values, self.model.config.patch_size)
        if self.family.clips == "each":
            options["num_frames"] = latents.shape[2] if latents.ndim == 5 else 1
        if self.model.config.get("timestep_conditioning"):  # LTX 0.9.1 and later: no noise is added before decoding
            options["temb"] = torch.zeros(len(values), device=self.device, dtype=self.dtype)
        if type(self.model).__name__ == "ConsistencyDecoderVAE":  # it starts from noise
            options["generator"] = torch.Generator(self.device).manual_seed(0)
        sample = self.model.decode(values, **options).sample[:, :3]
        (scale, shift), sample = self.family.pixels, self._unfolded(sample, latents).float()
        return _like((sample - shift) / scale, latents)

    def _seen(self, pixels: Any) -> Any:
        """Pixels in the form, the range and with the channels that the model takes."""
        import torch

        (scale, shift), shaped = self.family.pixels, self._shaped(pixels)
        values = shaped if (scale, shift) == (1.0, 0.0) else shaped * scale + shift
        if self._pixel_channels == 4:  # RGBA, as QwenImage21Pipeline gives it: opaque
            return torch.cat([values, torch.ones_like(values[:, :1])], 1)
        return values

    @property
    def _pixel_channels(self) -> int:
        config = self.model.config
        if self.family.clips in ("causal", "still") and config.get("patch_size") is None:
            return int(config.get("input_channels", config.get("in_channels", 3)))
        return 3

    def _shaped(self, values: Any) -> Any:
        """With the time axis that the model wants; frames of clips that are encoded one by one join the batch."""
        if self.family.clips in ("causal", "still"):
            return values if values.ndim == 5 else values[:, :, None]
        if self.family.clips == "each" and values.ndim == 5:
            return values.movedim(2, 1).flatten(0, 1)
        return values[:, :, 0] if values.ndim == 5 else values

    def _unfolded(self, values: Any, given: Any) -> Any:
        """Frames out of the batch again."""
        if self.family.clips == "each" and given.ndim == 5:
            return values.unflatten(0, (len(given), -1)).movedim(1, 2)
        return values

    def _stored(self, part: Any, pixels: Any) -> Any:
        """A part of the posterior as it is stored, in fp32."""
        if part is None:
            return None
        patches = patched(part, self.model.config.patch_size) if self.family.patches else part
        return _like(self._unfolded(patches, pixels).float(), pixels)


def _info(name: str, digest: str, problem: str | None, takes: AcceptedSizes | None, weights_mb: int) -> ModelInfo:
    return ModelInfo(f"diffusers:{name}", digest, problem, takes, ("cpu", "cuda"), weights_mb + BATCH_MB)


def _posterior(output: Any) -> tuple[Any, Any]:
    """Mean and log-variance of what `encode` gives; None for the latter where there is only the latent itself."""
    for name in ("latent", "latents"):
        if hasattr(output, name):
            return getattr(output, name), None
    posterior = output.latent_dist
    return (posterior.mean, posterior.logvar) if hasattr(posterior, "logvar") else (posterior.mode(), None)


def patched(latents: Any, patch: Sequence[int]) -> Any:
    """[B, C, h, w] -> [B, C * p * q, h / p, w / q], entries of a patch as channels: Flux2Pipeline._patchify_latents."""
    values = latents.unflatten(3, (-1, patch[1])).unflatten(2, (-1, patch[0]))
    return values.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def unpatched(latents: Any, patch: Sequence[int]) -> Any:
    """The inverse of `patched`."""
    values = latents.unflatten(1, (-1, *patch))
    return values.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


def _known(place: Place) -> tuple[AcceptedSizes | None, str | None]:
    """From config.json, of the hub the few KB of it: what it takes, or why it cannot be used.

    Both None where config.json cannot be read: loading then says why.
    """
    from huggingface_hub import hf_hub_download

    try:
        if (file := place.folder and place.folder / CONFIG) is None:
            config = place.weights.replace(WEIGHTS, CONFIG)
            file = Path(hf_hub_download(place.repository, config, revision=place.commit()))
        known = json.loads(file.read_text())
        problem = problem_of(known)
        return (None if problem else accepted_sizes_of(known)), problem
    except Exception:  # noqa: BLE001 (the hub's client raises what it likes, and a config may hold anything)
        return None, None


def _like(values: Any, given: Any) -> Any:
    """With a time axis just where `given` has one."""
    if values.ndim == given.ndim:
        return values
    return values[:, :, 0] if values.ndim == 5 else values[:, :, None]


def _loaded(argument: str) -> Any:
    """The autoencoder in fp32, from safetensors only. Raises CurationError, also for a class that is not known."""
    patch_torchvision()
    import diffusers
    import torch

    place = Place.parse(argument)
    try:
        source = str(place.folder) if place.folder else place.repository
        where = {} if place.folder else {"subfolder": place.subfolder or None, "revision": place.commit()}
        options = {"torch_dtype": torch.float32, "use_safetensors": True, "low_cpu_mem_usage": False}
        config = diffusers.AutoencoderKL.load_config(source, **where)
        if problem := problem_of(config):
            raise ValueError(problem)
        kind = getattr(diffusers, config.get("_class_name", DEFAULT))
        model, report = kind.from_pretrained(source, output_loading_info=True, **options, **where)
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
