"""The embedded autoencoder as a backend of the role `vae`."""

import hashlib
from typing import Any

from curation.models.registry import ModelInfo


class EmbeddedVae:
    """8x, 16 channels, weights here. Encodes one picture at a time: latents do not depend on their batch."""

    def __init__(self, argument: str, device: str) -> None:
        from curation.models.autoencoder import load

        self.model = load(device)
        self.channels, self.spatial_factor = self.model.channels, self.model.spatial_factor
        self.latents_mean, self.latents_std = self.model.latents_mean, self.model.latents_std

    @classmethod
    def describe(cls, argument: str) -> ModelInfo:
        import importlib.util
        from pathlib import Path

        path = Path(__file__).parent / "weights" / "autoencoder.safetensors"
        missing = [name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None]
        problem = f"it needs {' and '.join(missing)}: pip install curation[embedded]" if missing else None
        return ModelInfo("embedded:autoencoder-8x16", hashlib.sha256(path.read_bytes()).hexdigest(), problem)

    def encode(self, pixels: Any) -> tuple[Any, Any]:
        """float32 [B, 3, H, W] in [-1, 1] -> raw posterior (mean, logvar), float32 [B, 16, H/8, W/8]."""
        import torch

        parts = [self.model.encode(picture) for picture in pixels.split(1)]
        return torch.cat([mean for mean, _ in parts]), torch.cat([logvar for _, logvar in parts])

    def decode(self, latents: Any) -> Any:
        """Raw latents -> float32 [B, 3, H, W] in [-1, 1]."""
        return self.model.decode(latents)
