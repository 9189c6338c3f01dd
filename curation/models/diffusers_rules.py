"""How diffusers' autoencoders shrink pictures and normalise latents: one small function for each way.

A normalisation takes the config and the model, and gives (latents_mean, latents_std), of one value where all channels
share it: (z - latents_mean) / latents_std is the latent that the pipeline's denoiser sees. The model may be None, where
the config alone is known: statistics that lie in the weights are then 0 and 1. A rule for factors gives those of
the sides and of the frames.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

Config = Mapping[str, Any]
Statistics = tuple[list[float], list[float]]
Factors = Callable[[Config], tuple[int, int]]


def scale(config: Config) -> float:
    """scaling_factor. Raises ValueError where the config has none that makes sense."""
    scale = config.get("scaling_factor")
    if not isinstance(scale, int | float) or not math.isfinite(scale) or scale <= 0:
        raise ValueError(f"its config has the scaling_factor {scale}, which is no positive number")
    return float(scale)


def scaled(config: Config, model: Any) -> Statistics:
    """z * scaling_factor."""
    return [0.0], [1 / scale(config)]


def shifted(config: Config, model: Any) -> Statistics:
    """(z - shift_factor) * scaling_factor."""
    return [float(config.get("shift_factor") or 0)], [1 / scale(config)]


def standardised(config: Config, model: Any) -> Statistics:
    """(z - latents_mean) / latents_std, whatever the scaling_factor; z itself where there are no statistics."""
    if config.get("latents_mean") is None:
        return [0.0], [1.0]
    return list(config["latents_mean"]), list(config["latents_std"])


def both(config: Config, model: Any, without: Callable[[Config, Any], Statistics] = scaled) -> Statistics:
    """(z - latents_mean) * scaling_factor / latents_std where the config has both statistics."""
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return without(config, model)
    return list(mean), [float(x) / scale(config) for x in std]


def both_or_shifted(config: Config, model: Any) -> Statistics:
    """As `both`; with shift_factor where there are no statistics."""
    return both(config, model, shifted)


def buffers(config: Config, model: Any) -> Statistics:
    """(z - latents_mean) * scaling_factor / latents_std, with statistics that lie in the weights."""
    factor = scale(config)
    if model is None:
        return [0.0], [1 / factor]
    return model.latents_mean.tolist(), (model.latents_std / factor).tolist()


def batch_norm(config: Config, model: Any) -> Statistics:
    """(z - running_mean) / sqrt(running_var + batch_norm_eps) of the patches' batch normalisation."""
    if model is None:
        return [0.0], [1.0]
    std = (model.bn.running_var + model.config.batch_norm_eps).sqrt()
    return model.bn.running_mean.tolist(), std.tolist()


def halvings(key: str = "block_out_channels", time: int = 1) -> Factors:
    """One halving of the sides between any two blocks."""
    return lambda config: (2 ** (len(config.get(key) or (64,)) - 1), time)


def ratios(config: Config) -> tuple[int, int]:
    return int(config["spatial_compression_ratio"]), int(config.get("temporal_compression_ratio") or 1)


def cogvideox(config: Config) -> tuple[int, int]:
    return halvings()(config)[0], int(config["temporal_compression_ratio"])


def magvit(config: Config) -> tuple[int, int]:
    blocks = len(config["block_out_channels"])
    return 2 ** (blocks - 1), 2 ** (blocks - 2)


def ltx(config: Config) -> tuple[int, int]:
    """Patches and halvings; LTX-2 halves at places of its own, and says the ratios or has 32 and 8."""
    halvings = 2 ** sum(config["spatio_temporal_scaling"])
    space = config.get("spatial_compression_ratio") or config["patch_size"] * halvings
    return int(space), int(config.get("temporal_compression_ratio") or config["patch_size_t"] * halvings)


def ltx2(config: Config) -> tuple[int, int]:
    """As AutoencoderKLLTX2Video counts: patches times the halvings in space, and in time."""
    kinds = [kind for kind, on in zip(config["downsample_type"], config["spatio_temporal_scaling"], strict=True) if on]
    space = config["patch_size"] * 2 ** sum(kind in ("spatial", "spatiotemporal") for kind in kinds)
    time = config["patch_size_t"] * 2 ** sum(kind in ("temporal", "spatiotemporal") for kind in kinds)
    return int(config.get("spatial_compression_ratio") or space), int(config.get("temporal_compression_ratio") or time)


def mochi(config: Config) -> tuple[int, int]:
    return math.prod(config["spatial_expansions"]), math.prod(config["temporal_expansions"])


def named(config: Config) -> tuple[int, int]:
    return int(config["scale_factor_spatial"]), int(config["scale_factor_temporal"])


def qwen(config: Config) -> tuple[int, int]:
    halvings = config["temperal_downsample"]
    return 2 ** len(halvings), 2 ** sum(halvings)


def flux2(config: Config) -> tuple[int, int]:
    return halvings()(config)[0] * int(config["patch_size"][0]), 1


def space_to_time(key: str) -> Factors:
    return lambda config: (2 ** (len(config[key]) - 1), int(config["temporal_compression_ratio"]))
