"""`curate sample`: a checkpoint paints prompts; and `Painter`, for grids and evaluation."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curation.errors import CurationError, UsageError
from curation.models import describe, open_model
from curation.shards.dataset import padded
from curation.trainer import checkpoint
from curation.trainer.checkpoint import Checkpoint, Tensors
from curation.trainer.guard import check_pictures, check_prompts
from curation.trainer.model import check_weights
from curation.trainer.pictures import Frames, save
from curation.trainer.samplers import Method, guided, sample
from curation.trainer.saved import config_of


@dataclass(frozen=True)
class Settings:
    """How to sample.

    steps, method  forward passes (twice as many with guidance) and sampler; None: euler for flow, dpm++ for ddpm
    guidance       scale of classifier-free guidance; 1: none
    rescale        of guidance, 0 to 1, see `samplers.guided`
    shift          of a flow's timesteps, 1: even
    negative       prompt to lead away from, instead of the empty caption
    bucket         `TxHxW` in frames and pixels; None: the one with most samples
    batch          samples at once; changes no sample's noise, but the last bits of its matrix products
    """

    steps: int = 30
    method: Method | None = None
    guidance: float = 7.0
    rescale: float = 0.0
    shift: float = 1.0
    negative: str = ""
    bucket: str | None = None
    batch: int = 64


class Painter:
    """A checkpoint's model, ready to sample; VAE and text encoder are opened by what the shards' index named.

    state, weights  as in a checkpoint; weights are usually the EMA's
    """

    def __init__(self, state: dict[str, Any], weights: Tensors, device: torch.device | None = None) -> None:
        self.state, self.config = state, config_of(state, "the checkpoint")
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        sizes = (state["vae"]["channels"], state["text"]["dimensions"])
        with torch.device("meta"):  # a model that the weights are not of may be of any size
            check_weights(weights, self.config.make_model(*sizes))
        model = self.config.make_model(*sizes)
        model.load_state_dict(weights)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.objective = self.config.make_objective()
        null = state["null_text"]
        self.null = torch.from_numpy(
            np.frombuffer(base64.b64decode(null["fp16"]), np.float16).reshape(null["shape"]).copy()
        )

    @classmethod
    def of(cls, saved: Checkpoint, ema: bool = True) -> "Painter":
        """Raises CurationError for a damaged checkpoint."""
        return cls(saved.state, saved.tensors("ema" if ema else "model"))

    def shape(self, bucket: str | None) -> tuple[int, int, int, int]:
        """(C, T, h, w) of a bucket's latents. Raises UsageError where its sides do not divide."""
        vae, known = self.state["vae"], self.state["buckets"]
        name = bucket or max(sorted(known), key=lambda name: known[name])
        sides = name.split("x")
        if len(sides) != 3 or not all(side.isdigit() for side in sides):
            raise UsageError(f"--bucket {name}: say FRAMESxHEIGHTxWIDTH; trained were {', '.join(sorted(known))}")
        frames, height, width = map(int, sides)
        unit = vae["spatial_factor"] * self.config.patch[1]
        if height % unit or width % unit or (frames - 1) % vae["temporal_factor"] or not all((frames, height, width)):
            raise UsageError(
                f"--bucket {name}: sides are multiples of {unit}, frames 1 + a multiple of {vae['temporal_factor']}"
            )
        factor = vae["spatial_factor"]
        return vae["channels"], (frames - 1) // vae["temporal_factor"] + 1, height // factor, width // factor

    def read(self, prompts: Sequence[str]) -> list[Tensor]:
        """Token states of prompts, float16 [n, D] each, by the encoder that the shards were made with."""
        encoder = self._open("text")
        states = {
            prompt: torch.from_numpy(np.asarray(encoder.tokens([prompt])[0])) for prompt in set(prompts) if prompt
        }
        return [states.get(prompt, self.null) for prompt in prompts]

    def _open(self, role: str) -> Any:
        made = self.state[role]
        if not isinstance(made.get("spec"), str):
            raise CurationError(f"the checkpoint does not say which {role} model it wants: {role}.spec is missing")
        info = describe(role, made["spec"])
        if info.problem:
            raise CurationError(f"the {role} model {made['id']} cannot be had here: {info.problem}")
        if info.sha256 != made["sha256"]:
            raise CurationError(
                f"the {role} model {info.id} has other weights than {made['id']} of the training shards"
            )
        model = open_model(role, made["spec"], self.device.type)
        if role == "vae" and not np.allclose(
            [model.latents_mean, model.latents_std], [made["latents_mean"], made["latents_std"]], rtol=1e-5
        ):
            raise CurationError(
                f"the VAE {info.id} scales latents otherwise than the training shards: encode them again"
            )
        return model

    @torch.inference_mode()
    def latents(self, prompts: Sequence[str], seeds: Sequence[tuple[int, ...]], settings: Settings) -> Tensor:
        """Raw latents, float32 [N, C, T, h, w], one for each prompt and its seed, whatever the batch."""
        shape, texts = self.shape(settings.bucket), self.read(prompts)
        negative = self.read([settings.negative])[0]
        parts = []
        for at in range(0, len(texts), settings.batch):
            cut = slice(at, at + settings.batch)
            parts.append(self._batch(texts[cut], negative, seeds[cut], shape, settings))
        mean, std = (
            torch.tensor(self.state["vae"][key]).reshape(-1, 1, 1, 1) for key in ("latents_mean", "latents_std")
        )
        return torch.cat(parts) * std + mean

    def _batch(
        self,
        texts: list[Tensor],
        negative: Tensor,
        seeds: Sequence[tuple[int, ...]],
        shape: tuple[int, ...],
        s: Settings,
    ) -> Tensor:
        with_text, without_text = (
            [part.to(self.device) for part in padded(of)] for of in (texts, [negative] * len(texts))
        )
        streams = [np.random.default_rng([*seed, 4]) for seed in seeds]

        def noise(_: int = 0) -> Tensor:
            each = [torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for rng in streams]
            return torch.stack(each).to(self.device)

        def predict(x: Tensor, t: Tensor, unconditional: bool) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                out: Tensor = self.model(x, t, *(without_text if unconditional else with_text))
            return out.float()

        method = s.method or ("euler" if self.config.objective == "flow" else "dpm++")
        denoise = guided(predict, self.objective, s.guidance, s.rescale)
        return sample(denoise, self.objective, noise(), s.steps, method, noise, s.shift).cpu()

    @torch.inference_mode()
    def decode(self, latents: Tensor, batch: int = 16) -> Frames:
        """Raw latents [N, C, T, h, w] -> RGB, uint8 [N, frames, H, W, 3]."""
        vae, parts = self._open("vae"), []
        for part in latents.split(batch):
            flat = part[:, :, 0] if part.shape[2] == 1 else part
            pixels = vae.decode(flat.to(self.device)).float().cpu()
            pixels = pixels[:, :, None] if pixels.ndim == 4 else pixels
            parts.append(((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1).numpy())
        return np.concatenate(parts)

    def paint(self, prompts: Sequence[str], seed: int, settings: Settings) -> Frames:
        """RGB, uint8 [N, frames, H, W, 3]: the i-th prompt with the seed (seed, i)."""
        latents = self.latents(prompts, [(seed, i) for i in range(len(prompts))], settings)
        return self.decode(latents, min(16, settings.batch))


@dataclass(frozen=True)
class Request:
    """What `curate sample` asks for beside the settings.

    moderation  `http://HOST/v1#MODEL`, a server that is asked about the prompts; None: the word list alone
    """

    prompt: str
    n: int = 4
    seed: int = 0
    model: str | None = None
    ema: bool = True
    out: str = "sample.png"
    fps: float = 24.0
    limit: float = 0.5
    moderation: str | None = None


def paint(request: Request, settings: Settings) -> Path:
    """`curate sample`: n pictures or clips of one prompt as a grid; nothing is written where a check refuses."""
    check_prompts({"the prompt": request.prompt, "--negative": settings.negative}, request.moderation)
    if request.n < 1:
        raise UsageError(f"--n {request.n}: say 1 or more")
    painter = Painter.of(checkpoint.find(request.model or newest()), request.ema)
    if painter.device.type == "cpu":  # the same picture to the bit, whatever --n
        settings = replace(settings, batch=1)
    frames = painter.paint([request.prompt] * request.n, request.seed, settings)
    check_pictures(frames, request.limit)
    return save(frames, Path(request.out), request.fps)


def newest(runs: Path = Path("runs")) -> str:
    """The training directory under runs/ with the newest checkpoint. Raises UsageError where there is none."""
    found = sorted(
        runs.glob(f"*/train/{checkpoint.FOLDER}/*/{checkpoint.STATE}"), key=lambda path: path.stat().st_mtime
    )
    if not found:
        raise UsageError(f"there is no trained model under {runs}/: name one with --model, or `curate train` first")
    return str(found[-1].parent)
