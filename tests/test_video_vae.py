"""diffusers' video VAEs, real architectures at random tiny sizes, through the real loading path; ours with its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_vaes import CLASSES, FACTORS, STATISTICS, STEPS, TINY

from curation.models.diffusers_families import normalise
from curation.models.diffusers_vae import DiffusersVae
from curation.models.patch_torchvision import patch_torchvision
from curation.models.registry import open_model
from curation.models.vae import Vae, in_range

patch_torchvision()
import diffusers  # noqa: E402 (torchvision has to be patched first)


@pytest.fixture(scope="module", params=CLASSES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    getattr(diffusers, request.param)(**TINY[request.param]).save_pretrained(folder)
    return request.param, folder


def clip(frames: int, side: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, frames, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_posterior_is_diffusers_own_raw_and_in_fp32(made: tuple[str, Path]) -> None:
    name, folder = made
    vae = DiffusersVae(str(folder))
    space, time = FACTORS.get(name, (8, 4))
    assert (vae.channels, vae.spatial_factor, vae.temporal_factor) == (4, space, time)
    pixels = clip(1 + STEPS.get(name, 8))
    mean, logvar = vae.encode(pixels)
    reference = getattr(diffusers, name).from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = reference.encode(pixels).latent_dist
    assert (
        mean.shape == logvar.shape == (1, 4, 1 + STEPS.get(name, 8) // time, 64 // space, 64 // space)
        and mean.dtype == torch.float32
    )
    assert torch.equal(mean, expected.mean) and torch.equal(logvar, expected.logvar)
    assert vae.decode(mean).shape == pixels.shape


def test_an_image_is_one_frame(made: tuple[str, Path]) -> None:
    vae = DiffusersVae(str(made[1]))
    pixels = clip(1)
    still, _ = vae.encode(pixels[:, :, 0])
    assert torch.equal(still, vae.encode(pixels)[0][:, :, 0])
    assert vae.decode(still).shape == (1, 3, 64, 64)


def test_frames_that_the_vae_would_drop_are_refused(made: tuple[str, Path]) -> None:
    with pytest.raises(ValueError, match="not 7 frames"):
        DiffusersVae(str(made[1])).encode(clip(7))


def test_one_latent_frame_too_many_is_refused_too(tmp_path: Path) -> None:
    """CogVideoX's 1 + 4k frames of which k is odd: it encodes them, and decodes fewer."""
    torch.manual_seed(0)
    diffusers.AutoencoderKLCogVideoX(**TINY["AutoencoderKLCogVideoX"]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"1 \+ 8k frames, not 5 frames"):
        DiffusersVae(str(tmp_path)).encode(clip(5))


PARITY = 0.03
"""RMS of what bf16 moves posterior means, over their standard deviation; 0.006 to 0.025 was seen, 0.004 with ours."""


def apart(a: Any, b: Any) -> float:
    a, b = (np.asarray(values, np.float32) for values in (a, b))
    return float(np.sqrt(np.mean((a - b) ** 2)) / a.std())


def test_bf16_gives_nearly_the_posterior_of_fp32(made: tuple[str, Path]) -> None:
    name, spec = made[0], f"diffusers:{made[1]}"
    pixels = np.random.default_rng(0).integers(0, 256, (33, 64, 64, 3), np.uint8)
    ((mean, logvar),) = Vae(spec).posteriors([pixels])
    ((low_mean, low_logvar),) = Vae(spec, precision="bf16").posteriors([pixels])
    assert mean.dtype == low_mean.dtype == np.float16 and mean.shape[1] == 32 // FACTORS.get(name, (8, 4))[1] + 1
    assert 0.001 < apart(mean, low_mean) < PARITY and apart(logvar, low_logvar) < 2 * PARITY
    values = torch.from_numpy(pixels)[None].movedim(-1, 1).contiguous().float() / 127.5 - 1
    exact, _ = DiffusersVae(str(made[1])).encode(values)
    assert np.array_equal(mean, exact[0].numpy().astype(np.float16))


def test_eight_bits_become_minus_one_to_one_in_fp32_before_any_cast() -> None:
    levels = torch.arange(256, dtype=torch.uint8).repeat_interleave(3).reshape(1, 16, 16, 3)
    values = in_range(levels)
    assert values.dtype == torch.float32 and values.shape == (1, 3, 16, 16)
    exact = np.arange(256) / 127.5 - 1
    assert np.abs(values[0, 0].flatten().numpy() - exact).max() < 1e-7
    cast_first = torch.arange(256).bfloat16() / 127.5 - 1
    assert np.abs(cast_first.float().numpy() - exact).max() > 3e-3, "what the other order would cost"


def test_statistics_are_those_of_the_pipelines(made: tuple[str, Path]) -> None:
    name, folder = made
    vae = DiffusersVae(str(folder))
    latents = torch.randn(1, 4, 2, 3, 3)
    ours, _ = normalise(latents, torch.zeros_like(latents), vae.latents_mean, vae.latents_std)
    if name == "AutoencoderKLWan":
        mean, std = (torch.tensor(STATISTICS[key]).view(1, 4, 1, 1, 1) for key in STATISTICS)
        expected = (latents - mean) / std
    else:
        expected = latents * TINY[name]["scaling_factor"]
    assert torch.allclose(ours, expected, atol=1e-6)


def test_a_log_variance_is_scaled_and_not_shifted() -> None:
    mean, logvar = torch.full((1, 2, 1, 1, 1), 3.0), torch.full((1, 2, 1, 1, 1), -1.0)
    samples = mean + torch.exp(logvar / 2) * torch.randn(
        1, 2, 1, 1, 200_000, generator=torch.Generator().manual_seed(0)
    )
    centre, scale = normalise(mean, logvar, [1.0, -2.0], [0.5, 4.0])
    made = (samples - torch.tensor([1.0, -2.0]).view(1, 2, 1, 1, 1)) / torch.tensor([0.5, 4.0]).view(1, 2, 1, 1, 1)
    assert torch.allclose(made.mean(-1), centre[..., 0], atol=0.02)
    assert torch.allclose(made.std(-1), torch.exp(scale[..., 0] / 2), rtol=0.01)


def test_our_video_autoencoder_is_causal_and_takes_an_image_as_one_frame() -> None:
    vae = open_model("vae", "video_autoencoder")
    pixels = clip(17)
    mean, logvar = vae.encode(pixels)
    assert mean.shape == logvar.shape == (1, 16, 5, 8, 8)
    assert vae.decode(mean).shape == pixels.shape
    changed = pixels.clone()
    changed[:, :, 9:] = 0
    assert torch.allclose(vae.encode(changed)[0][:, :, :3], mean[:, :, :3], atol=1e-6)
    assert torch.allclose(vae.encode(pixels[:, :, 0])[0], mean[:, :, 0], atol=1e-6)
    assert torch.allclose(vae.decode(mean[:, :, :2]), vae.decode(mean)[:, :, :5], atol=1e-5)
    with pytest.raises(ValueError, match=r"1 \+ 4k frames, not 8"):
        vae.encode(clip(8))
