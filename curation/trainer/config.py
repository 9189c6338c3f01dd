"""What the section `train:` of a manifest may say."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import nn

from curation.trainer.model import SIZES, DiT, DiTConfig, Positions
from curation.trainer.objectives import Ddpm, Objective, RectifiedFlow
from curation.trainer.unet import UNet, UNetConfig

_MODEL = re.compile(rf"DiT-(?P<size>{'|'.join(SIZES)})(?:/(?P<patch>[1-9][0-9]?))?")


class TrainConfig(BaseModel):
    """Everything that decides what is trained and how; the same config, shards and seed give the same weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = Field("DiT-S/2", description="DiT-tiny, -S, -B, -L or -XL with /PATCH in latents, or UNet")
    patch_frames: int = Field(1, ge=1, description="frames of a patch; images (one frame) fit any")
    positions: Positions = Field("sincos", description="sincos, learned or rope, over frames, rows and columns")
    init: str | None = Field(None, description="start from this checkpoint's EMA weights; an image model is inflated")

    objective: Literal["flow", "ddpm"] = "flow"
    prediction: Literal["eps", "v", "x"] | None = Field(
        None, description="of ddpm: eps (default) or v; of flow: v (default) or x, the data itself"
    )
    schedule: Literal["linear", "cosine"] = Field("linear", description="of ddpm")
    min_snr: float | None = Field(None, gt=0, description="gamma of ddpm's min-SNR weighting, usually 5")
    timesteps: Literal["default", "uniform", "loss-aware"] = Field(
        "default", description="default: logit-normal for flow, uniform for ddpm"
    )

    logit_normal: tuple[float, float] = Field((0.0, 1.0), description="mean and deviation of flow's timesteps, logits")

    seed: int = Field(0, ge=0)
    steps: int = Field(10_000, ge=1)
    batch: int = Field(64, ge=1, description="samples of a global batch, whatever the workers")
    tokens: int | None = Field(None, ge=1, description="instead of batch: latent patches of a global batch")
    accumulate: int = Field(1, ge=1, description="micro-batches of a step on each worker")
    images: float | None = Field(None, ge=0, le=1, description="share of steps on images; default as the shards have")
    captions: Mapping[str, float] | None = Field(
        None, description="weight of each caption source, such as {alt: 1, vlm: 3}; default all captions alike"
    )
    text: str | None = Field(
        None, description="name of the shards' text part that captions are read through; default the first"
    )
    caption_dropout: float = Field(0.1, ge=0, le=1, description="share of samples trained with the empty caption")
    sample_posterior: bool = Field(True, description="draw latents from the posterior each time; or take its mean")
    shuffle_shards: int = Field(16, ge=1, description="samples are shuffled among this many shards of a bucket")

    lr: float = Field(1e-4, gt=0)
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    decay: Literal["constant", "cosine", "linear"] = Field("constant", description="of the learning rate, to 0")
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.9999, ge=0, lt=1, description="decay of the averaged weights; less in the first steps")

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    checkpoint_activations: bool = False
    compile: bool = False
    workers: int = Field(1, ge=1, description="processes, by Ray Train when more than one")
    loader_threads: int = Field(2, ge=1)
    peak_tflops: float | None = Field(None, gt=0, description="of one device, for MFU; default known or measured")

    log_every: int = Field(10, ge=1)
    checkpoint_every: int = Field(500, ge=1)
    keep: int = Field(3, ge=1, description="checkpoints kept, the last ones")
    sample_every: int = Field(0, ge=0, description="steps between grids of samples; 0 for none")
    prompts: tuple[str, ...] = Field((), description="of the grids; default captions of the shards")
    moderation: str | None = Field(None, description="http://HOST/v1#MODEL, a server that is asked about the prompts")
    guidance: float = Field(3.0, ge=0, description="of the grids")
    sampling_steps: int = Field(30, ge=1, description="of the grids")

    @model_validator(mode="before")
    @classmethod
    def _without_flip(cls, data: Any) -> Any:
        """Earlier checkpoints say `flip: false`; mirrored latents are not latents of a mirrored picture."""
        return {k: v for k, v in data.items() if (k, v) != ("flip", False)} if isinstance(data, Mapping) else data

    @field_validator("model")
    @classmethod
    def _is_known(cls, model: str) -> str:
        if model != "UNet" and not _MODEL.fullmatch(model):
            raise ValueError(
                f"no model '{model}'; say UNet, or DiT-{', DiT-'.join(SIZES)}, with /PATCH such as DiT-S/2"
            )
        return model

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainConfig":
        if self.objective == "flow" and self.min_snr is not None:
            raise ValueError("min_snr weighs ddpm's timesteps; leave it out, or say objective: ddpm")
        if self.prediction not in (None, "v", "eps" if self.objective == "ddpm" else "x"):
            raise ValueError(f"{self.objective} does not predict {self.prediction}")
        if self.captions is not None and not any(weight > 0 for weight in self.captions.values()):
            raise ValueError("captions: give at least one source a weight above 0")
        return self

    @property
    def patch(self) -> tuple[int, int]:
        """(frames, side) of a patch in latents; the U-Net works on single latents."""
        match = _MODEL.fullmatch(self.model)
        return (self.patch_frames, int(match["patch"] or 2)) if match else (1, 1)

    def make_objective(self) -> Objective:
        if self.objective == "ddpm":
            return Ddpm(self.schedule, "v" if self.prediction == "v" else "eps", self.min_snr)
        # loss-aware drawing brings its own distribution of t
        mean, std = self.logit_normal if self.timesteps == "default" else (0.0, 0.0)
        return RectifiedFlow(mean, std, "x" if self.prediction == "x" else "v")

    def make_model(self, channels: int, text_dim: int) -> nn.Module:
        """The model with its first weights, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            match = _MODEL.fullmatch(self.model)
            if not match:
                return UNet(UNetConfig(channels, text_dim))
            width, depth, heads = SIZES[match["size"]]
            return DiT(DiTConfig(channels, text_dim, self.patch, width, depth, heads, positions=self.positions))

    def learning_rate(self, step: int) -> float:
        """Of the update number `step`, from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        if self.decay == "cosine":
            return self.lr * 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi, dtype=torch.float64))))
        return self.lr * (1 - done) if self.decay == "linear" else self.lr

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with a run that continues it; the same however it is written."""
        named = self.model_dump(mode="json", include={"patch_frames", "positions", "objective"})
        match = _MODEL.fullmatch(self.model)
        model = f"DiT-{match['size']}/{self.patch[1]}" if match else self.model
        usual = "eps" if self.objective == "ddpm" else "v"
        schedule = self.schedule if self.objective == "ddpm" else None
        return named | {"model": model, "prediction": self.prediction or usual, "schedule": schedule}
