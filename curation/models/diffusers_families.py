"""What diffusers' autoencoders differ in: their factors, their latents' normalisation, which frames they take."""

from dataclasses import dataclass
from typing import Any

CLASSES = (
    "AutoencoderKL",
    "AutoencoderKLWan",
    "AutoencoderKLLTXVideo",
    "AutoencoderKLCogVideoX",
    "AutoencoderKLHunyuanVideo",
)
"""By `_class_name` in config.json; the first is of pictures, the others are causal video VAEs."""


@dataclass(frozen=True)
class Facts:
    """Factors by which sides and frames shrink; (z - latents_mean) / latents_std is the model's own latent."""

    channels: int
    spatial_factor: int
    temporal_factor: int
    latents_mean: list[float]
    latents_std: list[float]
    frame_step: int = 1
    """Clips have 1 + k times so many frames: CogVideoX cannot decode an even number of latent frames."""


def facts_of(model: Any) -> Facts:
    """Of a loaded autoencoder, from its config and buffers (the pipelines of diffusers 0.42 normalise so)."""
    config, kind = model.config, type(model).__name__
    channels = int(config.z_dim if kind == "AutoencoderKLWan" else config.latent_channels)
    spatial, temporal = _factors(model, kind)
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if kind == "AutoencoderKLLTXVideo":
        mean, std = model.latents_mean.tolist(), (model.latents_std / float(config.scaling_factor)).tolist()
    shift, scale = config.get("shift_factor"), config.get("scaling_factor", 1.0)
    return Facts(
        channels,
        spatial,
        temporal,
        [float(x) for x in mean] if mean else [float(shift or 0)] * channels,
        [float(x) for x in std] if std else [1 / float(scale)] * channels,
        2 * temporal if kind == "AutoencoderKLCogVideoX" else temporal,
    )


def _factors(model: Any, kind: str) -> tuple[int, int]:
    config = model.config
    if kind == "AutoencoderKLWan":
        return int(config.scale_factor_spatial or 8), int(config.scale_factor_temporal or 4)
    if kind == "AutoencoderKLLTXVideo":
        return int(model.spatial_compression_ratio), int(model.temporal_compression_ratio)
    if kind == "AutoencoderKLHunyuanVideo":
        return int(config.spatial_compression_ratio), int(config.temporal_compression_ratio)
    spatial = 2 ** (len(config.block_out_channels) - 1)
    return spatial, int(config.temporal_compression_ratio) if kind == "AutoencoderKLCogVideoX" else 1


def normalise(mean: Any, logvar: Any, latents_mean: list[float], latents_std: list[float]) -> tuple[Any, Any]:
    """A RAW posterior as the model's: mean (m - a) / s and log-variance v - 2 ln s per channel, [B, C, ...].

    A log-variance is no mean: subtracting `latents_mean` from it and dividing gives another distribution.
    """
    import torch

    shape = [1, -1, *[1] * (mean.ndim - 2)]
    centre, scale = (torch.tensor(values).view(shape) for values in (latents_mean, latents_std))
    return (mean - centre) / scale, logvar - 2 * torch.log(scale)
