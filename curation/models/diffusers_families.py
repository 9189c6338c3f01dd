"""What diffusers' autoencoders differ in: their factors, their latents' normalisation, which frames they take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.models.registry import Takes

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
    spatial, temporal = _factors(config, kind)
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
        _step(kind, temporal),
    )


def takes_of(config: Mapping[str, Any]) -> Takes | None:
    """What an autoencoder takes, from its config.json alone; None for a class that is not known here."""
    kind = str(config.get("_class_name", CLASSES[0]))
    if kind not in CLASSES:
        return None
    spatial, temporal = _factors(config, kind)
    return Takes(spatial, 0 if kind == CLASSES[0] else _step(kind, temporal))


def _step(kind: str, temporal: int) -> int:
    return 2 * temporal if kind == "AutoencoderKLCogVideoX" else temporal


def _factors(config: Mapping[str, Any], kind: str) -> tuple[int, int]:
    """Spatial and temporal; a key that an older config lacks has the constructor's default."""
    if kind == "AutoencoderKLWan":
        return int(config.get("scale_factor_spatial") or 8), int(config.get("scale_factor_temporal") or 4)
    ratios = config.get("spatial_compression_ratio"), config.get("temporal_compression_ratio")
    if kind == "AutoencoderKLLTXVideo":
        halvings = 2 ** sum(config.get("spatio_temporal_scaling", (True, True, True, False)))
        patches = config.get("patch_size", 4), config.get("patch_size_t", 1)
        return int(ratios[0] or patches[0] * halvings), int(ratios[1] or patches[1] * halvings)
    if kind == "AutoencoderKLHunyuanVideo":
        return int(ratios[0] or 8), int(ratios[1] or 4)
    of_clips = kind == "AutoencoderKLCogVideoX"
    blocks = config.get("block_out_channels", (128, 256, 256, 512) if of_clips else (64,))
    return 2 ** (len(blocks) - 1), int(ratios[1] or 4) if of_clips else 1


def normalise(mean: Any, logvar: Any, latents_mean: list[float], latents_std: list[float]) -> tuple[Any, Any]:
    """A RAW posterior as the model's: mean (m - a) / s and log-variance v - 2 ln s per channel, [B, C, ...].

    A log-variance is no mean: subtracting `latents_mean` from it and dividing gives another distribution.
    """
    import torch

    shape = [1, -1, *[1] * (mean.ndim - 2)]
    centre, scale = (torch.tensor(values).view(shape) for values in (latents_mean, latents_std))
    return (mean - centre) / scale, logvar - 2 * torch.log(scale)
