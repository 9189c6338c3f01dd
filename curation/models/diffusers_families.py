"""What diffusers' autoencoders differ in: their factors, the normalisation of their latents, the pixels they take.

`FAMILIES` and `REFUSED` together name every class of `diffusers.models.autoencoders` (0.42.1). Each family was compared
with what its pipeline does with latents, before its denoiser sees them and before it decodes them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from curation.models import diffusers_rules as rules
from curation.models.diffusers_rules import Config, Factors, Statistics
from curation.models.registry import AcceptedSizes

DEFAULT = "AutoencoderKL"
"""The class of a config.json that names none."""


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


@dataclass(frozen=True)
class Family:
    """One class of autoencoder.

    pipeline    the pipeline of diffusers whose formula `normalisation` follows, per channel
    clips       `causal`: [B, 3, T, H, W], of which the first frame stands alone; `each`: clips are encoded frame by
                frame; `none`: pictures alone; `still`: pictures alone, as [B, 3, 1, H, W]
    steps       clips have 1 + k * steps * (temporal factor) frames
    patches     latents are stored in patches of patch_size, patch entries as channels
    pixels      (a, b): the model takes a * x + b of pixels x in [-1, 1]
    alone       a batch is encoded and decoded one by one: the model's attention takes no more
    defaults    of the constructor, for keys that an older config.json lacks
    """

    pipeline: str
    normalisation: Callable[[Config, Any], Statistics]
    factors: Factors
    clips: Literal["none", "still", "causal", "each"] = "none"
    steps: int = 1
    patches: bool = False
    pixels: tuple[float, float] = (1.0, 0.0)
    alone: bool = False
    defaults: Config | None = None

    @property
    def of_clips(self) -> bool:
        return self.clips in ("causal", "each")

    def complete(self, config: Config) -> dict[str, Any]:
        return {**(self.defaults or {}), **config}

    def channels(self, config: Config) -> int:
        """Channels of a stored latent."""
        channels = int(config["z_dim"] if "z_dim" in config else config.get("latent_channels", 4))
        return channels * math.prod(config.get("patch_size", (2, 2))) if self.patches else channels

    def frame_step(self, config: Config) -> int:
        return self.factors(config)[1] * self.steps if self.of_clips else 1


_SQUARE = {"spatial_compression_ratio": 8, "temporal_compression_ratio": 4}
_SIXTEENTH = {"spatial_compression_ratio": 16, "temporal_compression_ratio": 4}
_FOUR = {"block_out_channels": (128, 256, 512, 512)}
FAMILIES: dict[str, Family] = {
    "AutoencoderKL": Family(
        "StableDiffusionXLPipeline, FluxImg2ImgPipeline",
        rules.both_or_shifted,
        rules.halvings(),
        defaults={"scaling_factor": 0.18215},
    ),
    "AsymmetricAutoencoderKL": Family(
        "StableDiffusionInpaintPipeline",
        rules.scaled,
        rules.halvings("down_block_out_channels"),
        defaults={"scaling_factor": 0.18215},
    ),
    "ConsistencyDecoderVAE": Family(
        "StableDiffusionPipeline",
        rules.scaled,
        rules.halvings("encoder_block_out_channels"),
        defaults={"scaling_factor": 0.18215, "encoder_block_out_channels": (128, 256, 512, 512)},
    ),
    "AutoencoderTiny": Family(
        "DreamLitePipeline",
        rules.shifted,
        rules.halvings("encoder_block_out_channels"),
        defaults={"scaling_factor": 1.0, "encoder_block_out_channels": (64, 64, 64, 64)},
    ),
    "AutoencoderDC": Family(
        "SanaPipeline",
        rules.scaled,
        rules.halvings("encoder_block_out_channels"),
        defaults={"scaling_factor": 1.0, "latent_channels": 32, "encoder_block_out_channels": (128,) * 6},
    ),
    "AutoencoderKLFlux2": Family(
        "Flux2Pipeline",
        rules.batch_norm,
        rules.flux2,
        patches=True,
        defaults={"latent_channels": 32, "patch_size": (2, 2), **_FOUR},
    ),
    "AutoencoderKLHunyuanImage": Family("HunyuanImagePipeline", rules.scaled, rules.ratios),
    "AutoencoderKLHunyuanImageRefiner": Family(
        "HunyuanImageRefinerPipeline, which afterwards puts two frames into one",
        rules.scaled,
        rules.ratios,
        "still",
        alone=True,
        defaults={"scaling_factor": 1.03682, "latent_channels": 32, **_SIXTEENTH},
    ),
    "AutoencoderKLQwenImage": Family(
        "QwenImageImg2ImgPipeline",
        rules.standardised,
        rules.qwen,
        "causal",
        defaults={"z_dim": 16, "temperal_downsample": (False, True, True), "input_channels": 3},
    ),
    "AutoencoderKLQwenImage21": Family(
        "QwenImage21Pipeline",
        rules.standardised,
        rules.named,
        "still",
        defaults={"z_dim": 64, "scale_factor_spatial": 16, "scale_factor_temporal": 8, "in_channels": 4},
    ),
    "AutoencoderKLTemporalDecoder": Family(
        "StableVideoDiffusionPipeline, whose picture to start from is not scaled",
        rules.scaled,
        rules.halvings(),
        "each",
        defaults={"scaling_factor": 0.18215},
    ),
    "AutoencoderKLWan": Family(
        "WanPipeline",
        rules.standardised,
        rules.named,
        "causal",
        defaults={"z_dim": 16, "scale_factor_spatial": 8, "scale_factor_temporal": 4},
    ),
    "AutoencoderKLLTXVideo": Family(
        "LTXPipeline",
        rules.buffers,
        rules.ltx,
        "causal",
        defaults={
            "scaling_factor": 1.0,
            "latent_channels": 128,
            "patch_size": 4,
            "patch_size_t": 1,
            "spatio_temporal_scaling": (True, True, True, False),
        },
    ),
    "AutoencoderKLLTX2Video": Family(
        "LTX2Pipeline",
        rules.buffers,
        rules.ltx2,
        "causal",
        defaults={
            "scaling_factor": 1.0,
            "latent_channels": 128,
            "patch_size": 4,
            "patch_size_t": 1,
            "spatio_temporal_scaling": (True, True, True, True),
            "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        },
    ),
    "AutoencoderKLCogVideoX": Family(
        "CogVideoXPipeline; invert_scale_latents concerns the picture that CogVideoXImageToVideoPipeline starts from",
        rules.scaled,
        rules.cogvideox,
        "causal",
        steps=2,
        defaults={
            "scaling_factor": 1.15258426,
            "latent_channels": 16,
            "temporal_compression_ratio": 4,
            "block_out_channels": (128, 256, 256, 512),
        },
    ),
    "AutoencoderKLHunyuanVideo": Family(
        "HunyuanVideoPipeline",
        rules.scaled,
        rules.ratios,
        "causal",
        defaults={"scaling_factor": 0.476986, "latent_channels": 16, **_SQUARE},
    ),
    "AutoencoderKLHunyuanVideo15": Family(
        "HunyuanVideo15Pipeline",
        rules.scaled,
        rules.ratios,
        "causal",
        alone=True,
        defaults={"scaling_factor": 1.03682, "latent_channels": 32, **_SIXTEENTH},
    ),
    "AutoencoderKLMochi": Family(
        "MochiPipeline",
        rules.both,
        rules.mochi,
        "causal",
        defaults={
            "scaling_factor": 1.0,
            "latent_channels": 12,
            "spatial_expansions": (2, 2, 2),
            "temporal_expansions": (1, 2, 3),
        },
    ),
    "AutoencoderKLMagvit": Family(
        "EasyAnimatePipeline",
        rules.scaled,
        rules.magvit,
        "causal",
        defaults={"scaling_factor": 0.7125, "latent_channels": 16, **_FOUR},
    ),
    "AutoencoderKLCosmos": Family(
        "CosmosTextToWorldPipeline; sigma_data, by which it multiplies afterwards, is its scheduler's",
        rules.standardised,
        rules.ratios,
        "causal",
        defaults={"latent_channels": 16, "spatial_compression_ratio": 8, "temporal_compression_ratio": 8},
    ),
    "Kandinsky6SRVAE": Family(
        "Kandinsky6SRPipeline",
        rules.scaled,
        rules.space_to_time("encoder_block_out_channels"),
        "causal",
        pixels=(127.5 / 128, 127.5 / 128 - 1),
        defaults={
            "scaling_factor": 0.910344004631042,
            "latent_channels": 64,
            "temporal_compression_ratio": 4,
            "encoder_block_out_channels": (16, 128, 256, 512, 1024),
        },
    ),
}
"""By `_class_name` in config.json."""

_AUDIO = "it encodes sound, not pictures"
_NO_PIPELINE = "no pipeline of diffusers uses it and its config has no scaling, so its normalised latents are not known"
REFUSED: dict[str, str] = {
    "AutoencoderKLAllegro": "it takes 4k frames, never one picture, and encodes only in tiles of 24 frames and 320 px",
    "AutoencoderKLMiniMaxH3": "it takes clips of 17k + 5 frames, in chunks of which each has a first frame of its own",
    "AutoencoderKLKVAE": _NO_PIPELINE,
    "AutoencoderKLKVAEVideo": _NO_PIPELINE,
    "AutoencoderVidTok": _NO_PIPELINE,
    "AutoencoderRAE": "no pipeline of diffusers uses it, and it resizes every picture to the one size of its encoder",
    "VQModel": "its latents are entries of a codebook, and pipelines disagree whether they are scaled",
    "LTX2VideoDiffusionDecoderModel": "it is a decoder alone; take the AutoencoderKLLTX2Video beside it",
    "AutoencoderKLKVAEAudio": _AUDIO,
    "AutoencoderKLLTX2Audio": _AUDIO,
    "AutoencoderKLMiniMaxH3Audio": _AUDIO,
    "AutoencoderOobleck": _AUDIO,
    "AutoencoderSAME": _AUDIO,
    "Cosmos3AVAEAudioTokenizer": _AUDIO,
    "LongCatAudioDiTVae": _AUDIO,
    "MMAudioVAE": _AUDIO,
    "MMAudioVocoder": _AUDIO,
    "MiniMaxMusic3Vocoder": _AUDIO,
    "RFD4ProteinaAutoencoder": "it encodes proteins, not pictures",
}
"""The classes that are not encoded with, and why."""


def facts_of(model: Any) -> Facts:
    """Of a loaded autoencoder, from its config and buffers. Raises ValueError for a normalisation without sense."""
    kind = type(model).__name__
    family = FAMILIES[kind]
    config = family.complete(model.config)
    channels, (spatial, temporal) = family.channels(config), family.factors(config)
    temporal = temporal if family.of_clips else 1
    mean, std = _statistics(family, config, model)
    return Facts(channels, spatial, temporal, mean, std, family.frame_step(config))


def problem_of(config: Config) -> str | None:
    """Why latents are not made with the autoencoder of a config.json, as a sentence; None where they are."""
    kind = str(config.get("_class_name", DEFAULT))
    if kind in REFUSED:
        return f"its class {kind} is not encoded with: {REFUSED[kind]}"
    if kind not in FAMILIES:
        return f"its class {kind} is none of {', '.join(FAMILIES)}"
    family = FAMILIES[kind]
    whole = family.complete(config)
    try:
        _statistics(family, whole, None)
    except (ValueError, KeyError, TypeError) as error:
        return str(error) if isinstance(error, ValueError) else f"its config.json is damaged ({error!r})"
    return None


def accepted_sizes_of(config: Config) -> AcceptedSizes | None:
    """What an autoencoder takes, from its config.json alone; None for a class that is not encoded with."""
    family = FAMILIES.get(str(config.get("_class_name", DEFAULT)))
    if family is None:
        return None
    whole = family.complete(config)
    return AcceptedSizes(family.factors(whole)[0], family.frame_step(whole) if family.of_clips else 0)


def _statistics(family: Family, config: Config, model: Any) -> Statistics:
    """latents_mean and latents_std of every channel. Raises ValueError where they make no sense."""
    channels = family.channels(config)
    mean, std = (
        [float(x) for x in (values * channels if len(values) == 1 else values)]
        for values in family.normalisation(config, model)
    )
    if len(mean) == len(std) != channels and len(mean) % channels == 0:
        raise ValueError(
            "its latents_mean and latents_std differ between the frames of a clip, which shards cannot say"
        )
    if not len(mean) == len(std) == channels:
        raise ValueError(
            f"its config has {len(mean)} latents_mean and {len(std)} latents_std for latents of {channels} channels"
        )
    if not all(math.isfinite(x) for x in mean) or not all(math.isfinite(x) and x > 0 for x in std):
        raise ValueError("its latents_mean or latents_std are not finite, or its latents_std are not positive")
    return mean, std


def normalise(mean: Any, logvar: Any, latents_mean: list[float], latents_std: list[float]) -> tuple[Any, Any]:
    """A RAW posterior as the model's: mean (m - a) / s and log-variance v - 2 ln s per channel, [B, C, ...].

    A log-variance is no mean: subtracting `latents_mean` from it and dividing gives another distribution.
    """
    import torch

    shape = [1, -1, *[1] * (mean.ndim - 2)]
    centre, scale = (torch.tensor(values).view(shape) for values in (latents_mean, latents_std))
    return (mean - centre) / scale, logvar - 2 * torch.log(scale)
