"""A small U-Net with the DiT's interface: a baseline to compare against, not a model to ship."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curation.trainer.model import Attention, sincos_positions, timestep_embedding


@dataclass(frozen=True)
class UNetConfig:
    """channels, text_dim: as for the DiT; width of the first level, half that of the second; heads in the middle."""

    channels: int
    text_dim: int
    width: int = 48
    heads: int = 4


class Residual(nn.Module):
    """Two 1x3x3 convolutions, the second scaled and shifted by the condition; starts as the identity (or a 1x1)."""

    def __init__(self, wide_in: int, wide_out: int, condition: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(8, wide_in), nn.GroupNorm(8, wide_out)
        self.first = nn.Conv3d(wide_in, wide_out, (1, 3, 3), padding=(0, 1, 1))
        self.second = nn.Conv3d(wide_out, wide_out, (1, 3, 3), padding=(0, 1, 1))
        self.film = nn.Linear(condition, 2 * wide_out)
        self.skip = nn.Conv3d(wide_in, wide_out, 1) if wide_in != wide_out else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(F.silu(condition))[..., None, None, None].chunk(2, dim=1)
        y = self.norm_out(self.first(F.silu(self.norm_in(x)))) * (1 + scale) + shift
        return self.skip(x) + self.second(F.silu(y))


class UNet(nn.Module):
    """Two levels of space; frames meet in the middle, where every place attends to all and to the text."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width, wide = config.width, 2 * config.width
        self.timestep = nn.Sequential(nn.Linear(256, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.text_norm = nn.LayerNorm(config.text_dim, elementwise_affine=False)
        self.text_tokens, self.text_pooled = nn.Linear(config.text_dim, wide), nn.Linear(config.text_dim, wide)
        self.stem = nn.Conv3d(config.channels, width, (1, 3, 3), padding=(0, 1, 1))
        self.down = nn.ModuleList([Residual(width, width, wide), Residual(width, wide, wide)])
        self.middle = nn.ModuleList([Residual(wide, wide, wide), Residual(wide, wide, wide)])
        self.norm = nn.LayerNorm(wide)
        self.to_all, self.to_text = Attention(wide, config.heads), Attention(wide, config.heads)
        for attention in (self.to_all, self.to_text):  # starts as the identity, over frames and text
            nn.init.zeros_(attention.out.weight)
            nn.init.zeros_(attention.out.bias)
        self.up = nn.ModuleList([Residual(wide + width, width, wide), Residual(2 * width, width, wide)])
        self.head = nn.Conv3d(width, config.channels, (1, 3, 3), padding=(0, 1, 1))
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """As `DiT.forward`: any T, h and w."""
        words = self.text_norm(text.float())
        present = mask[..., None].float()
        pooled = (words * present).sum(1) / present.sum(1).clamp(min=1)
        condition = self.timestep(timestep_embedding(t, 256)) + self.text_pooled(pooled)
        stem = self.stem(x)
        near = self.down[0](stem, condition)
        y = self.down[1](F.avg_pool3d(near, (1, 2, 2), ceil_mode=True), condition)
        y = self._attend(self.middle[0](y, condition), self.text_tokens(words), mask)
        y = F.interpolate(self.middle[1](y, condition), near.shape[2:])
        y = self.up[0](torch.cat([y, near], dim=1), condition)
        return self.head(self.up[1](torch.cat([y, stem], dim=1), condition))

    def _attend(self, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        frames, height, width = x.shape[2:]
        # without places, frames could come in any order
        places = sincos_positions((frames, height, width), x.shape[1], x.device).to(x.dtype)
        tokens = tokens + self.to_all(self.norm(tokens) + places)
        tokens = tokens + self.to_text(self.norm(tokens), words, mask)
        return tokens.transpose(1, 2).reshape(x.shape)
