"""A diffusion transformer (DiT) over image and video latents, conditioned on text tokens.

After Peebles and Xie 2022 (arXiv 2212.09748, adaLN-zero blocks), with cross-attention to text as in PixArt-alpha
(arXiv 2310.00426). One picture is a clip of one frame. Precision, parallelism, activation checkpointing and
compilation are outside: `curation.trainer.parallel`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curation.errors import CurationError

Positions = Literal["sincos", "learned", "rope"]

SIZES: Mapping[str, tuple[int, int, int]] = {
    "tiny": (128, 4, 4),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "XL": (1152, 28, 16),
}
"""Width, depth, heads. S to XL are those of the DiT paper; tiny trains on a CPU in minutes."""
LEARNED = (16, 32, 32)
"""The grid of learned positions, in patches; other grids interpolate it."""


@dataclass(frozen=True)
class DiTConfig:
    """What a model is made of.

    channels        of the latents
    text_dim        of a text token
    patch           (frames, side) of a patch, in latents
    width, depth, heads, mlp_ratio   of the transformer; `SIZES` has the usual ones
    positions       sincos: fixed, added once; learned: a table, added once; rope: rotated into queries and keys
    """

    channels: int
    text_dim: int
    patch: tuple[int, int] = (1, 2)
    width: int = 64
    depth: int = 3
    heads: int = 4
    mlp_ratio: float = 4.0
    positions: Positions = "sincos"


def patchify(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """[B, C, T, h, w] -> [B, tokens, C * pt * p * p], tokens in the order t, y, x.

    Raises CurationError where a side is no multiple of the patch's. `DiT` pads the frames, not this.
    """
    (b, c, t, h, w), (pt, p) = x.shape, patch
    if t % pt or h % p or w % p:
        raise CurationError(
            f"latents of {t}x{h}x{w} do not divide into patches of {pt}x{p}x{p}; choose another model.patch"
        )
    x = x.reshape(b, c, t // pt, pt, h // p, p, w // p, p)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, (t // pt) * (h // p) * (w // p), c * pt * p * p)


def unpatchify(tokens: Tensor, patch: tuple[int, int], shape: tuple[int, int, int]) -> Tensor:
    """The inverse of `patchify`: [B, tokens, C * pt * p * p] -> [B, C, T, h, w] with `shape` = (T, h, w)."""
    (t, h, w), (pt, p) = shape, patch
    x = tokens.reshape(len(tokens), t // pt, h // p, w // p, -1, pt, p, p)
    return x.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(len(tokens), -1, t, h, w)


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoids of the timestep, [B] in [0, 1] -> float32 [B, dim]; t is scaled by 1000 as in the DDPM's."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = 1000 * t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def axis_widths(width: int, unit: int) -> tuple[int, int, int]:
    """How a width is shared among t, y, x: multiples of `unit`, most of it to the two of space."""
    space = (3 * width // 8) // unit * unit
    return width - 2 * space, space, space


def _angles(grid: tuple[int, int, int], widths: tuple[int, int, int], device: torch.device) -> Tensor:
    """float32 [tokens, sum(widths) / 2]: each axis' place times falling frequencies."""
    axes = torch.meshgrid(*(torch.arange(n, device=device, dtype=torch.float32) for n in grid), indexing="ij")
    parts = []
    for axis, width in zip(axes, widths, strict=True):
        half = width // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=device) / max(1, half))
        parts.append(axis.reshape(-1, 1) * frequencies)
    return torch.cat(parts, dim=-1)


def sincos_positions(grid: tuple[int, int, int], width: int, device: torch.device) -> Tensor:
    """float32 [tokens, width] for a grid of (t, y, x) patches."""
    angles = _angles(grid, axis_widths(width, 2), device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions (arXiv 2104.09864): x [B, heads, tokens, D] turned pairwise by angles [tokens, D / 2]."""
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention of x [B, N, W] to `context` [B, M, W] (None: to itself), mask bool [B, M]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        # queries and keys of unit scale: bf16 attention does not blow up late in training (arXiv 2302.05442)
        self.norm_q, self.norm_k = nn.RMSNorm(width // heads, eps=1e-6), nn.RMSNorm(width // heads, eps=1e-6)

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, angles: Tensor | None = None
    ) -> Tensor:
        context = x if context is None else context
        q, (k, v) = self._split(self.to_q(x)), map(self._split, self.to_kv(context).chunk(2, dim=-1))
        q, k = self.norm_q(q.to(self.norm_q.weight.dtype)), self.norm_k(k.to(self.norm_k.weight.dtype))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        allowed = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=allowed)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """Self-attention, cross-attention, MLP; the first and the last scaled by the condition (adaLN-zero).

    Starts as the identity: all gates and the cross-attention's output are zero.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.norm_self = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm_cross = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.self_attention = Attention(width, config.heads)
        self.cross_attention = Attention(width, config.heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, text: Tensor, mask: Tensor, angles: Tensor | None) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate_a[:, None] * self.self_attention(modulate(self.norm_self(x), shift_a, scale_a), angles=angles)
        x = x + self.cross_attention(self.norm_cross(x), text, mask)
        return x + gate_m[:, None] * self.mlp(modulate(self.norm_mlp(x), shift_m, scale_m))


class DiT(nn.Module):
    """Noisy latents, timestep and text -> what the objective predicts, in the latents' shape.

    Conditioned on the timestep and the mean of the text's tokens (adaLN), and on each token (cross-attention).
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width, (pt, p) = config.width, config.patch
        if width % config.heads or (width // config.heads) % 2:
            raise CurationError(f"a width of {width} does not divide into {config.heads} heads of an even width")
        self.patch = nn.Linear(config.channels * pt * p * p, width)
        self.timestep = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.text_norm = nn.LayerNorm(config.text_dim, elementwise_affine=False, eps=1e-6)
        self.text_tokens = nn.Sequential(nn.Linear(config.text_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.text_pooled = nn.Sequential(nn.Linear(config.text_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.final_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.final = nn.Linear(width, config.channels * pt * p * p)
        if config.positions == "learned":
            self.positions = nn.Parameter(torch.zeros(1, width, *LEARNED))
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        zero = [self.final, self.final_modulation[-1]]
        for block in self.blocks:
            zero += [block.modulation[-1], block.cross_attention.out]  # type: ignore[union-attr, index, list-item]
        for layer in zero:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for layer in (self.timestep[0], self.timestep[2]):
            nn.init.normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
        if self.config.positions == "learned":
            nn.init.normal_(self.positions, std=0.02)

    def forward(self, x: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """x [B, C, T, h, w]; t [B] in [0, 1]; text [B, n, D]; mask bool [B, n], True where a token is -> like x.

        Where T is no multiple of the patch's frames, the first frame is repeated in front, and cut off again:
        so images (T = 1) pass through a model of video. Raises CurationError where h or w does not divide.
        """
        (pt, p), frames = self.config.patch, x.shape[2]
        front = -frames % pt
        if front:
            x = torch.cat([x[:, :, :1].expand(-1, -1, front, -1, -1), x], dim=2)
        shape = (x.shape[2], x.shape[3], x.shape[4])
        grid = (shape[0] // pt, shape[1] // p, shape[2] // p)
        # The residual stream stays in fp32 under autocast, as DiT's does: in bf16 the sum of many small updates is lost
        # in rounding (1.3 % of the output against 0.4 %, at DiT-XL/2's depth). Products still run in bf16. It costs
        # 4 % of a step of DiT-S/2 on one core of a CPU; on a GPU it was not measured.
        tokens, angles = self._placed(self.patch(patchify(x, self.config.patch)).float(), grid)
        words = self.text_norm(text.to(self.final.weight.dtype))
        present = mask[..., None].to(words.dtype)
        pooled = (words * present).sum(1) / present.sum(1).clamp(min=1)
        condition = self.timestep(timestep_embedding(t, 256).to(words.dtype)) + self.text_pooled(pooled)
        words = self.text_tokens(words)
        for block in self.blocks:
            tokens = block(tokens, condition, words, mask, angles)
        shift, scale = self.final_modulation(condition).chunk(2, dim=-1)
        out = unpatchify(self.final(modulate(self.final_norm(tokens), shift, scale)), self.config.patch, shape)
        return out[:, :, front:]

    def _placed(self, tokens: Tensor, grid: tuple[int, int, int]) -> tuple[Tensor, Tensor | None]:
        """Tokens that know their places, or the angles by which attention will turn them."""
        width, heads = self.config.width, self.config.heads
        if self.config.positions == "rope":
            return tokens, _angles(grid, axis_widths(width // heads, 2), tokens.device)
        if self.config.positions == "sincos":
            return tokens + sincos_positions(grid, width, tokens.device).to(tokens.dtype), None
        table = F.interpolate(self.positions[:, :, : grid[0]], (grid[0], *grid[1:]), mode="trilinear")
        return tokens + table.flatten(2).transpose(1, 2), None


def inflate(weights: Mapping[str, Tensor], into: DiT, still: bool = False) -> dict[str, Tensor]:
    """Weights of an image model (patch of one frame) for a video model with a patch of pt frames, the rest alike.

    The patch embedding becomes the mean over pt frames and each of them is predicted alike: on a still clip the
    video model does what the image model did. Raises CurationError where other weights do not fit.

    still  no clip was ever seen: learned positions of the first frame are taken for all frames, instead of
           those that were never trained
    """
    (pt, p), channels = into.config.patch, into.config.channels
    own, out = into.state_dict(), {}
    for name, tensor in weights.items():
        if name == "patch.weight" and tensor.shape == (into.config.width, channels * p * p):
            cut = tensor.reshape(-1, channels, 1, p, p).expand(-1, -1, pt, -1, -1) / pt
            tensor = cut.reshape(len(tensor), -1)
        elif name in ("final.weight", "final.bias") and tensor.shape == (channels * p * p, *own[name].shape[1:]):
            cut = tensor.reshape(channels, 1, p * p, *tensor.shape[1:])
            tensor = cut.expand(-1, pt, *(-1,) * (cut.ndim - 2)).reshape(own[name].shape)
        elif name == "positions" and still:
            tensor = tensor[:, :, :1].expand_as(tensor)
        out[name] = tensor.contiguous()
    check_weights(out, into)
    return out


def check_weights(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raises CurationError where weights are not those of such a model."""
    own = model.state_dict()
    wrong = sorted(
        name
        for name in own.keys() | weights.keys()
        if name not in own or name not in weights or own[name].shape != weights[name].shape
    )
    if wrong:
        raise CurationError(f"weights of another model: {wrong[0]} differs, and {len(wrong) - 1} more")
