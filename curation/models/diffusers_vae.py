"""Production VAEs: diffusers' AutoencoderKL from a folder or the hub."""

import hashlib
from pathlib import Path
from typing import Any

from curation.errors import CurationError
from curation.models.hub import hub_problem
from curation.models.registry import ModelInfo
from curation.models.torchvision_mend import mend

WEIGHTS = "diffusion_pytorch_model.safetensors"


class DiffusersVae:
    """The role vae. `argument`: a folder with config.json and safetensors, or a hub id such as stabilityai/sdxl-vae.

    Runs in fp32: SDXL's VAE overflows in fp16, and a cache is made once. scaling_factor and shift_factor become
    per-channel latents_mean (shift) and latents_std (1 / scaling), as Flux and SDXL define them.
    """

    def __init__(self, argument: str, device: str = "cpu") -> None:
        mend()
        import torch
        from diffusers import AutoencoderKL

        try:
            model = AutoencoderKL.from_pretrained(argument, torch_dtype=torch.float32, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise CurationError(
                f"the VAE '{argument}' cannot be loaded: {' '.join(str(error).split())[:300]}. Give a folder with config.json and "
                f"{WEIGHTS}, or say `vae: embedded`, which needs no hub"
            ) from error
        self.model: Any = model.eval().requires_grad_(False).to(device)
        self.device = device
        config = self.model.config
        self.channels = int(config.latent_channels)
        self.spatial_factor = 2 ** (len(config.block_out_channels) - 1)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        self.latents_mean = list(mean) if mean else [float(config.get("shift_factor") or 0.0)] * self.channels
        self.latents_std = list(std) if std else [1.0 / float(config.scaling_factor)] * self.channels

    @classmethod
    def describe(cls, argument: str) -> ModelInfo:
        if not argument:
            return ModelInfo("diffusers:", "", "it names no weights; say diffusers:FOLDER or diffusers:HUB/ID")
        folder = Path(argument)
        if folder.is_dir():
            file = folder / WEIGHTS
            if not file.is_file() or not (folder / "config.json").is_file():
                return ModelInfo(f"diffusers:{argument}", "", f"the folder has no config.json and {WEIGHTS}")
            digest = hashlib.sha256((folder / "config.json").read_bytes())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
            return ModelInfo(f"diffusers:{folder.name}", digest.hexdigest())
        return _on_hub(argument)

    def encode(self, pixels: Any) -> tuple[Any, Any]:
        """float32 [B, 3, H, W] in [-1, 1] -> RAW posterior (mean, logvar), unscaled, float32 [B, C, h, w]."""
        import torch

        with torch.inference_mode():
            posterior = self.model.encode(pixels.to(self.device).float()).latent_dist
            return posterior.mean.cpu(), posterior.logvar.cpu()

    def decode(self, latents: Any) -> Any:
        """RAW latents -> float32 [B, 3, H, W], about [-1, 1]."""
        import torch

        with torch.inference_mode():
            return self.model.decode(latents.to(self.device).float()).sample.cpu()


def _on_hub(argument: str) -> ModelInfo:
    """A hub id: its hash is the id's, since weights may be in the cache for one run and not for another."""
    return ModelInfo(f"diffusers:{argument}", hashlib.sha256(argument.encode()).hexdigest(), hub_problem(argument, [WEIGHTS]))
