"""The embedded image autoencoder: 8x smaller per side, 16 channels, trained by us (weights/autoencoder.md).

A lapped linear transform (a 16x16 window every 8 px, initialised from patch PCA) carries most of the picture;
residual convolutions at 1/8 resolution add what a linear map cannot. Fully convolutional, no normalisation
layers, so that a picture's latents do not depend on its batch.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHTS = Path(__file__).parent / "weights" / "autoencoder.safetensors"


class Block(nn.Module):
    """Depthwise 5x5, then a pointwise MLP, added to the input. Starts as the identity."""

    def __init__(self, width: int, expand: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.up = nn.Conv2d(width, width * expand, 1)
        self.down = nn.Conv2d(width * expand, width, 1)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.relu(self.up(self.spread(x))))


class Autoencoder(nn.Module):
    """Pixels [B, 3, H, W] in [-1, 1] <-> raw latents [B, channels, H/8, W/8], H and W multiples of 8.

    latents_mean, latents_std   per channel, over the training photos: (z - mean) / std has an RMS of about 1
    noise                       the standard deviation, in units of latents_std, that the decoder was trained to bear
    """

    spatial_factor = 8

    def __init__(
        self, channels: int = 16, encoder: tuple[int, int] = (128, 5), decoder: tuple[int, int] = (192, 7)
    ) -> None:
        super().__init__()
        self.channels, self.shape = channels, {"channels": channels, "encoder": list(encoder), "decoder": list(decoder)}
        wide_in, deep_in = encoder
        wide_out, deep_out = decoder
        self.analysis = nn.Conv2d(3, channels, 16, stride=8, padding=4, padding_mode="reflect")
        self.stem = nn.Conv2d(3 * 64, wide_in, 1)
        self.encoder = nn.Sequential(*(Block(wide_in, 3) for _ in range(deep_in)))
        self.to_latent = nn.Conv2d(wide_in, channels, 1)
        self.synthesis = nn.Conv2d(channels, 3 * 64, 1)
        self.from_latent = nn.Conv2d(channels, wide_out, 3, padding=1)
        self.decoder = nn.Sequential(*(Block(wide_out, 3) for _ in range(deep_out)))
        self.to_pixels = nn.Conv2d(wide_out, 3 * 64, 3, padding=1)
        for layer in (self.to_latent, self.to_pixels):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("noise", torch.zeros(()))
        self.mean: Tensor
        self.std: Tensor
        self.noise: Tensor
        self.weights_sha256 = ""

    def to_latents(self, pixels: Tensor) -> Tensor:
        """Raw latents, for training; `encode` is what callers use."""
        return self.analysis(pixels) + self.to_latent(self.encoder(self.stem(F.pixel_unshuffle(pixels, 8))))

    def to_image(self, latents: Tensor) -> Tensor:
        """Pixels, not clamped, for training; `decode` is what callers use."""
        return F.pixel_shuffle(self.synthesis(latents) + self.to_pixels(self.decoder(self.from_latent(latents))), 8)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior (mean, log-variance), raw, fp32 [B, C, H/8, W/8].

        The log-variance is the constant noise that the decoder was trained to bear. Raises ValueError for
        sides that are no multiples of 8 or below 16 px.
        """
        height, width = pixels.shape[-2:]
        if height % 8 or width % 8 or min(height, width) < 16:
            raise ValueError(
                f"the autoencoder takes sides that are multiples of 8 and at least 16, not {width}x{height}"
            )
        mean = self.to_latents(pixels.float())
        logvar = 2 * torch.log(self.noise * self.std).view(1, -1, 1, 1)
        return mean, logvar.expand_as(mean).contiguous()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [-1, 1] from raw latents."""
        return self.to_image(latents.float()).clamp(-1, 1)

    @cached_property
    def latents_mean(self) -> list[float]:
        return [float(x) for x in self.mean]

    @cached_property
    def latents_std(self) -> list[float]:
        return [float(x) for x in self.std]


def load(device: str = "cpu", path: Path = WEIGHTS) -> Autoencoder:
    """The trained autoencoder in fp32, ready for inference. Raises FileNotFoundError without its weights."""
    with safe_open(path, framework="pt") as file:
        shape = json.loads(file.metadata()["shape"])
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
    model = Autoencoder(shape["channels"], tuple(shape["encoder"]), tuple(shape["decoder"]))
    model.load_state_dict(tensors)
    model.weights_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return model.eval().requires_grad_(False).to(device)
