"""The DiT: exact patches, the identity at the start, a forward pass by hand, images inside a model of video."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from curation.errors import CurationError
from curation.trainer.config import TrainConfig
from curation.trainer.model import (
    SIZES,
    DiT,
    DiTConfig,
    inflate,
    patchify,
    sincos_positions,
    timestep_embedding,
    unpatchify,
)
from curation.trainer.unet import UNet, UNetConfig

SMALL = DiTConfig(channels=3, text_dim=8, patch=(1, 2), width=32, depth=2, heads=2)


def woken(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Zero-initialised layers hide mistakes: give every parameter a value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return model.eval()


def inputs(batch: int = 2, frames: int = 1, side: int = 4, tokens: int = 5) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 3, frames, side, side, generator=generator)
    text = torch.randn(batch, tokens, 8, generator=generator)
    return x, torch.rand(batch, generator=generator), text, torch.ones(batch, tokens, dtype=torch.bool)


@pytest.mark.parametrize(("patch", "shape"), [((1, 1), (1, 3, 5)), ((1, 2), (1, 4, 6)), ((2, 4), (6, 8, 4))])
def test_unpatchify_is_the_inverse(patch: tuple[int, int], shape: tuple[int, int, int]) -> None:
    x = torch.arange(2 * 3 * math.prod(shape)).float().reshape(2, 3, *shape)
    tokens = patchify(x, patch)
    assert tokens.shape == (2, math.prod(shape) // (patch[0] * patch[1] ** 2), 3 * patch[0] * patch[1] ** 2)
    assert torch.equal(unpatchify(tokens, patch, shape), x)


def test_a_patch_is_a_square_of_its_neighbours() -> None:
    x = torch.arange(16.0).reshape(1, 1, 1, 4, 4)
    assert patchify(x, (1, 2))[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_sides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(CurationError, match="latents of 1x5x4 do not divide into patches of 1x2x2"):
        DiT(SMALL)(torch.zeros(1, 3, 1, 5, 4), torch.zeros(1), torch.zeros(1, 1, 8), torch.ones(1, 1).bool())


@pytest.mark.parametrize("positions", ["sincos", "learned", "rope"])
def test_it_starts_by_predicting_nothing(positions: str) -> None:
    assert not DiT(replace(SMALL, positions=positions))(*inputs()).any()  # type: ignore[arg-type]


@pytest.mark.parametrize("positions", ["sincos", "learned", "rope"])
def test_places_matter(positions: str) -> None:
    model = woken(DiT(replace(SMALL, positions=positions)))  # type: ignore[arg-type]
    x, t, text, mask = inputs(side=8)
    out, shifted = model(x, t, text, mask), model(x.roll(2, -1), t, text, mask)
    assert not torch.allclose(out.roll(2, -1), shifted, atol=1e-3)


def test_timesteps_as_the_ddpm_counts_them() -> None:
    embedded = timestep_embedding(torch.tensor([0.0, 0.007]), 4)
    assert embedded[0].tolist() == [1, 1, 0, 0]
    expected = [math.cos(7), math.cos(0.07), math.sin(7), math.sin(0.07)]
    assert embedded[1].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_forward_pass_by_hand() -> None:
    """One block on one token of width 2: attention over one token is its value, so all of it can be written down."""
    model = woken(DiT(DiTConfig(channels=1, text_dim=2, patch=(1, 1), width=2, depth=1, heads=1, mlp_ratio=1)))
    w = dict(model.named_parameters())
    x, t = torch.tensor([0.3]).reshape(1, 1, 1, 1, 1), torch.tensor([0.25])
    text = torch.tensor([[[1.0, -2.0]]])

    def linear(v: torch.Tensor, name: str) -> torch.Tensor:
        return w[f"{name}.weight"] @ v + w[f"{name}.bias"]

    def norm(v: torch.Tensor) -> torch.Tensor:
        return (v - v.mean()) / (v.var(unbiased=False) + 1e-6).sqrt()

    def value_of(v: torch.Tensor, name: str) -> torch.Tensor:
        return linear(linear(v, f"{name}.to_kv")[2:], f"{name}.out")

    word = norm(text[0, 0])
    embedded = timestep_embedding(t, 256)[0]
    condition = linear(F.silu(linear(embedded, "timestep.0")), "timestep.2")
    condition = condition + linear(F.silu(linear(word, "text_pooled.0")), "text_pooled.2")
    word = linear(F.silu(linear(word, "text_tokens.0")), "text_tokens.2")
    token = linear(x.reshape(1), "patch") + sincos_positions((1, 1, 1), 2, x.device)[0]
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = linear(F.silu(condition), "blocks.0.modulation.1").chunk(6)
    token = token + gate_a * value_of(norm(token) * (1 + scale_a) + shift_a, "blocks.0.self_attention")
    token = token + value_of(word, "blocks.0.cross_attention")
    hidden = F.gelu(linear(norm(token) * (1 + scale_m) + shift_m, "blocks.0.mlp.0"), approximate="tanh")
    token = token + gate_m * linear(hidden, "blocks.0.mlp.2")
    shift, scale = linear(F.silu(condition), "final_modulation.1").chunk(2)
    expected = linear(norm(token) * (1 + scale) + shift, "final")
    got = model(x, t, text, torch.ones(1, 1, dtype=torch.bool))
    # LayerNorm of two numbers amplifies rounding
    assert got.reshape(1).tolist() == pytest.approx(expected.tolist(), rel=1e-3)


@pytest.mark.parametrize("model", [DiT(SMALL), UNet(UNetConfig(3, 8, width=16))], ids=["dit", "unet"])
def test_padding_of_the_text_changes_nothing(model: torch.nn.Module) -> None:
    woken(model)
    x, t, text, mask = inputs()
    padded = torch.cat([text, torch.full((2, 3, 8), 9.0)], dim=1)
    longer = torch.cat([mask, torch.zeros(2, 3, dtype=torch.bool)], dim=1)
    assert torch.allclose(model(x, t, text, mask), model(x, t, padded, longer), atol=1e-5)
    assert not torch.allclose(model(x, t, text, mask), model(x, t, text.flip(0), mask), atol=1e-3)


def test_an_image_in_a_model_of_video_is_a_still_clip() -> None:
    model = woken(DiT(replace(SMALL, patch=(2, 2))))
    x, t, text, mask = inputs()
    still = model(x.expand(-1, -1, 2, -1, -1), t, text, mask)
    assert torch.allclose(model(x, t, text, mask), still[:, :, 1:], atol=1e-6)
    clip = torch.randn(2, 3, 3, 4, 4)
    assert model(clip, t, text, mask).shape == clip.shape


def test_an_inflated_model_does_to_still_clips_what_the_image_model_did() -> None:
    image = woken(DiT(SMALL))
    video = DiT(replace(SMALL, patch=(2, 2)))
    video.load_state_dict(inflate(image.state_dict(), video))
    x, t, text, mask = inputs()
    assert torch.allclose(video(x, t, text, mask), image(x, t, text, mask), atol=1e-5)


def test_learned_places_of_an_image_model_are_taken_for_all_frames() -> None:
    """Each frame of a still clip becomes what the image did: attention over equal tokens is that over one of them."""
    image = woken(DiT(replace(SMALL, positions="learned")))
    video = DiT(replace(SMALL, positions="learned"))
    x, t, text, mask = inputs()
    clip = x.expand(-1, -1, 5, -1, -1)
    video.load_state_dict(inflate(image.state_dict(), video, still=True))
    assert torch.allclose(video(clip, t, text, mask), image(x, t, text, mask).expand_as(clip), atol=1e-5)
    video.load_state_dict(inflate(image.state_dict(), video))
    assert not torch.allclose(video(clip, t, text, mask)[:, :, 4:], image(x, t, text, mask), atol=1e-3)
    moving = DiT(replace(SMALL, positions="learned", patch=(2, 2)))
    moving.load_state_dict(inflate(image.state_dict(), moving, still=True))
    still = x.expand(-1, -1, 4, -1, -1)
    assert torch.allclose(moving(still, t, text, mask), image(x, t, text, mask).expand_as(still), atol=1e-5)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(CurationError, match=r"weights of another model: blocks\.1\..* differs"):
        inflate(DiT(replace(SMALL, depth=1)).state_dict(), DiT(SMALL))


@pytest.mark.parametrize(("size", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
def test_the_sizes_are_the_papers(size: str, millions: int) -> None:
    """By its table 1, /2; ours adds cross-attention and the text's layers, has no classes and predicts no variance."""
    with torch.device("meta"):
        model = TrainConfig(model=f"DiT-{size}/2").make_model(4, 384)
    parts = {name: p.numel() for name, p in model.named_parameters()}
    own = sum(n for name, n in parts.items() if "cross" not in name and "text" not in name and "norm_" not in name)
    width = SIZES[size][0]
    assert (own + 1001 * width + 16 * (width + 1)) / 1e6 == pytest.approx(millions, abs=0.6)


def test_tiny_trains_on_a_cpu() -> None:
    model = TrainConfig(model="DiT-tiny/2").make_model(4, 384)
    assert sum(p.numel() for p in model.parameters()) < 2e6


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 5, 7), (3, 8, 6)])
def test_the_unet_takes_any_size(shape: tuple[int, int, int]) -> None:
    x = torch.randn(2, 3, *shape)
    assert woken(UNet(UNetConfig(3, 8, width=16)))(x, torch.rand(2), *inputs()[2:]).shape == x.shape
