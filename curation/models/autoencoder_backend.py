"""The embedded autoencoders, of pictures and of clips, as backends of the role `vae`."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from curation.install import command
from curation.models.registry import AcceptedSizes, ModelInfo


class EmbeddedVae:
    """8x, 16 channels, weights here. Encodes one picture at a time: latents do not depend on their batch."""

    def __init__(self, argument: str, device: str) -> None:
        from curation.models.autoencoder import load

        self.model = load(device)
        self.channels, self.spatial_factor = self.model.channels, self.model.spatial_factor
        self.latents_mean, self.latents_std = self.model.latents_mean, self.model.latents_std

    @classmethod
    def describe(cls, argument: str) -> ModelInfo:
        return _info("embedded:autoencoder-8x16", "autoencoder.safetensors", AcceptedSizes(8, 0))

    def encode(self, pixels: Any) -> tuple[Any, Any]:
        """float32 [B, 3, H, W] in [-1, 1] -> raw posterior (mean, logvar), float32 [B, 16, H/8, W/8]."""
        import torch

        parts = [self.model.encode(picture) for picture in pixels.split(1)]
        return torch.cat([mean for mean, _ in parts]), torch.cat([logvar for _, logvar in parts])

    def decode(self, latents: Any) -> Any:
        """Raw latents -> float32 [B, 3, H, W] in [-1, 1]."""
        return self.model.decode(latents)


class EmbeddedVideoVae:
    """8x in space, 4x in time, 16 channels, causal: T = 1 is a picture. Encodes one record at a time."""

    def __init__(self, argument: str, device: str) -> None:
        from curation.models.video_autoencoder import load

        self.model = load(device)
        self.channels, self.spatial_factor = self.model.channels, self.model.spatial_factor
        self.temporal_factor = self.model.temporal_factor
        self.latents_mean, self.latents_std = self.model.latents_mean, self.model.latents_std

    @classmethod
    def describe(cls, argument: str) -> ModelInfo:
        return _info("embedded:video-autoencoder-4x8x16", "video_autoencoder.safetensors", AcceptedSizes(8, 4))

    def encode(self, pixels: Any) -> tuple[Any, Any]:
        """float32 [B, 3, H, W] or [B, 3, 1 + 4k, H, W] in [-1, 1] -> raw (mean, logvar), float32, time axis as given.

        Raises ValueError for other numbers of frames.
        """
        import torch

        clips = pixels if pixels.ndim == 5 else pixels[:, :, None]
        parts = [self.model.encode(clip) for clip in clips.split(1)]
        mean, logvar = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        return (mean, logvar) if pixels.ndim == 5 else (mean[:, :, 0], logvar[:, :, 0])

    def decode(self, latents: Any) -> Any:
        """Raw latents [B, C, h, w] or [B, C, 1 + k, h, w] -> pixels in [-1, 1], time axis as given."""
        if latents.ndim == 5:
            return self.model.decode(latents)
        return self.model.decode(latents[:, :, None])[:, :, 0]


def _info(identity: str, file: str, takes: AcceptedSizes) -> ModelInfo:
    path = Path(__file__).parent / "weights" / file
    missing = [name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None]
    problem = f"it needs {' and '.join(missing)}; to install it: {command('embedded')}" if missing else None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelInfo(identity, digest, problem, takes, devices=("cpu", "cuda"), gpu_mb=1500)
