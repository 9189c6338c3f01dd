"""diffusers' AutoencoderKL, real architecture at a tiny random size, through the path that loads real weights."""

from pathlib import Path

import pytest
import torch

from curation.errors import CurationError
from curation.models import describe, open_model
from curation.models.torchvision_mend import mend


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of Flux's kind (scaling and shift) with random weights, as save_pretrained leaves it."""
    mend()
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    path = tmp_path_factory.mktemp("vae")
    vae.save_pretrained(path, safe_serialization=True)
    return path


def test_the_posterior_is_diffusers_own_raw(folder: Path) -> None:
    from diffusers import AutoencoderKL

    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    vae = open_model("vae", f"diffusers:{folder}")
    oracle = AutoencoderKL.from_pretrained(folder).eval()
    with torch.inference_mode():
        posterior = oracle.encode(pixels).latent_dist
        mean, logvar = vae.encode(pixels)
        assert torch.equal(mean, posterior.mean) and torch.equal(logvar, posterior.logvar)
        assert torch.equal(vae.decode(mean), oracle.decode(mean).sample)


def test_statistics_say_the_same_as_scaling_and_shift(folder: Path) -> None:
    vae = open_model("vae", f"diffusers:{folder}")
    latent = torch.tensor([0.7])
    assert (latent - vae.latents_mean[0]) / vae.latents_std[0] == pytest.approx((latent - 0.1159) * 0.3611)
    assert (vae.channels, vae.spatial_factor, len(vae.latents_std)) == (4, 2, 4)


def test_its_identity_is_its_files(folder: Path, tmp_path: Path) -> None:
    first = describe("vae", f"diffusers:{folder}")
    assert first.problem is None and len(first.sha256) == 64
    (tmp_path / "config.json").write_text("{}")
    assert "has no config.json and" in (describe("vae", f"diffusers:{tmp_path}").problem or "")


def test_what_cannot_be_had_is_said_with_the_way_out() -> None:
    assert "names no weights" in (describe("vae", "diffusers:").problem or "")
    assert describe("vae", "diffusers:no/such/place/at/all").problem
    with pytest.raises(CurationError, match="vae: embedded"):
        open_model("vae", "diffusers:no/such/place/at/all")
