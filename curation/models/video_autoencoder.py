"""The embedded video autoencoder: 8x smaller per side, 4x in time, 16 channels (weights/video_autoencoder.md).

Causal: the first frame makes the first latent alone, every four frames after it one more, so that T = 1 is an
image. Linear transforms, initialised from patch PCA, carry most of the picture; residual blocks that look at
neighbouring patches and at earlier groups add what a linear map cannot. No normalisation layers: a clip's
latents do not depend on its batch.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHTS = Path(__file__).parent / "weights" / "video_autoencoder.safetensors"
FIRST, GROUP = 3 * 64, 3 * 4 * 64
"""Values of an 8x8 patch of the first frame, and of four frames."""


class Block(nn.Module):
    """Depthwise 5x5 in space and causal 3 in time, then a pointwise MLP, added to the input. Starts as the identity."""

    def __init__(self, width: int, expand: int = 3) -> None:
        super().__init__()
        self.space = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.time = nn.Parameter(torch.tensor([0.0, 0.0, 1.0]).repeat(width, 1))
        self.up = nn.Conv2d(width, width * expand, 1)
        self.down = nn.Conv2d(width * expand, width, 1)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, G, C, h, w] -> the same shape; group g sees groups g-2, g-1, g."""
        batch, groups = x.shape[:2]
        seen = self.space(x.flatten(0, 1)).unflatten(0, (batch, groups))
        past = F.pad(seen, (0, 0, 0, 0, 0, 0, 2, 0))
        taps = self.time.T[:, None, None, :, None, None]
        mixed = past[:, :-2] * taps[0] + past[:, 1:-1] * taps[1] + seen * taps[2]
        return x + self.down(F.relu(self.up(mixed.flatten(0, 1)))).unflatten(0, (batch, groups))


class VideoAutoencoder(nn.Module):
    """Pixels [B, 3, 1 + 4k, H, W] in [-1, 1] <-> raw latents [B, channels, 1 + k, H/8, W/8].

    A first frame's latent and a later group's are standardised apart, as they are sums over 1 and 4 frames: over the
    training clips every channel of both has mean 0 and deviation 1, so latents_mean is 0 and latents_std 1.
    noise   the standard deviation that the decoder was trained to bear
    """

    spatial_factor = 8
    temporal_factor = 4

    def __init__(
        self, channels: int = 16, encoder: tuple[int, int] = (96, 3), decoder: tuple[int, int] = (160, 5)
    ) -> None:
        super().__init__()
        self.channels, self.shape = channels, {"channels": channels, "encoder": list(encoder), "decoder": list(decoder)}
        (wide_in, deep_in), (wide_out, deep_out) = encoder, decoder
        self.analysis = nn.ModuleList(
            nn.Conv2d(values // 64, channels, 16, stride=8, padding=4, padding_mode="reflect")
            for values in (FIRST, GROUP)
        )
        self.stems = nn.ModuleList(nn.Conv2d(values, wide_in, 1) for values in (FIRST, GROUP))
        self.encoder = nn.Sequential(*(Block(wide_in) for _ in range(deep_in)))
        self.to_latent = nn.Conv2d(wide_in, channels, 1)
        self.synthesis = nn.ModuleList(nn.Conv2d(channels, values, 1) for values in (FIRST, GROUP))
        self.from_latent = nn.Conv2d(channels, wide_out, 3, padding=1)
        self.decoder = nn.Sequential(*(Block(wide_out) for _ in range(deep_out)))
        self.to_pixels = nn.ModuleList(nn.Conv2d(wide_out, values, 1) for values in (FIRST, GROUP))
        for layer in (self.to_latent, *self.to_pixels):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.zeros(2, channels))
        self.register_buffer("std", torch.ones(2, channels))
        self.register_buffer("noise", torch.zeros(()))
        self.mean: Tensor
        self.std: Tensor
        self.noise: Tensor
        self.weights_sha256 = ""

    def to_latents(self, pixels: Tensor) -> Tensor:
        """Raw latents, for training; `encode` is what callers use."""
        batch, _, frames = pixels.shape[:3]
        first, rest = pixels[:, :, 0], pixels[:, :, 1:]
        linear, wide = [self.analysis[0](first)[:, None]], [self.stems[0](F.pixel_unshuffle(first, 8))[:, None]]
        if groups := (frames - 1) // 4:
            flat = rest.unflatten(2, (groups, 4)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
            linear.append(self.analysis[1](flat).unflatten(0, (batch, groups)))
            wide.append(self.stems[1](F.pixel_unshuffle(flat, 8)).unflatten(0, (batch, groups)))
        deep = self.encoder(torch.cat(wide, 1))
        added = self.to_latent(deep.flatten(0, 1)).unflatten(0, deep.shape[:2])
        return (torch.cat(linear, 1) + added).transpose(1, 2)

    def to_clip(self, latents: Tensor) -> Tensor:
        """Pixels, not clamped, for training; `decode` is what callers use."""
        groups = latents.transpose(1, 2)
        batch, count = groups.shape[:2]
        deep = self.decoder(self.from_latent(groups.flatten(0, 1)).unflatten(0, (batch, count)))
        first = F.pixel_shuffle(self.synthesis[0](groups[:, 0]) + self.to_pixels[0](deep[:, 0]), 8)[:, :, None]
        if count == 1:
            return first
        later = self.synthesis[1](groups[:, 1:].flatten(0, 1)) + self.to_pixels[1](deep[:, 1:].flatten(0, 1))
        rest = F.pixel_shuffle(later, 8).unflatten(0, (batch, count - 1)).unflatten(2, (3, 4))
        return torch.cat([first, rest.transpose(1, 2).flatten(2, 3)], 2)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior (mean, log-variance), raw, fp32 [B, C, 1 + k, H/8, W/8].

        The log-variance is the constant noise that the decoder was trained to bear. Raises ValueError for
        sides that are no multiples of 8 or below 16 px, and for frames that are not 1 + 4k.
        """
        frames, height, width = pixels.shape[-3:]
        if height % 8 or width % 8 or min(height, width) < 16:
            raise ValueError(
                f"the video autoencoder takes sides that are multiples of 8 from 16 on, not {width}x{height}"
            )
        if frames % 4 != 1:
            raise ValueError(f"the video autoencoder takes 1 + 4k frames, not {frames}")
        latents = self.to_latents(pixels.float())
        centre, scale = self._statistics(latents)
        mean = (latents - centre) / scale
        return mean, (2 * torch.log(self.noise)).expand_as(mean).contiguous()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, 1 + 4k, H, W] in [-1, 1] from raw latents."""
        centre, scale = self._statistics(latents)
        return self.to_clip(latents.float() * scale + centre).clamp(-1, 1)

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation for each time step: [1, C, T, 1, 1]."""
        kinds = [0, *[1] * (latents.shape[2] - 1)]
        return self.mean[kinds].T[None, :, :, None, None], self.std[kinds].T[None, :, :, None, None]

    @cached_property
    def latents_mean(self) -> list[float]:
        return [0.0] * self.channels

    @cached_property
    def latents_std(self) -> list[float]:
        return [1.0] * self.channels


def load(device: str = "cpu", path: Path = WEIGHTS) -> VideoAutoencoder:
    """The trained autoencoder in fp32, ready for inference. Raises FileNotFoundError without its weights."""
    with safe_open(path, framework="pt") as file:
        shape = json.loads(file.metadata()["shape"])
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
    model = VideoAutoencoder(shape["channels"], tuple(shape["encoder"]), tuple(shape["decoder"]))
    model.load_state_dict(tensors)
    model.weights_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return model.eval().requires_grad_(False).to(device)
