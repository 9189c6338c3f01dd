import json
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.errors import CurationError
from curation.models.diffusers_vae import CONFIG, WEIGHTS, DiffusersVae, Place
from curation.models.patch_torchvision import patch_torchvision
from curation.models.registry import describe, open_model

patch_torchvision()
from diffusers import AutoencoderKL  # noqa: E402 (torchvision has to be patched first)


def tiny(**config: Any) -> AutoencoderKL:
    """The architecture of SD's VAE, random and small: 4x, 4 channels."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    return AutoencoderKL(block_out_channels=[8, 8, 16], norm_num_groups=4, sample_size=32, **blocks, **config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vae")
    tiny(scaling_factor=0.3611, shift_factor=0.1159).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_posterior_is_diffusers_own_raw_and_unscaled(folder: Path, pixels: torch.Tensor) -> None:
    reference = AutoencoderKL.from_pretrained(folder).eval()
    vae = open_model("vae", f"diffusers:{folder}")
    with torch.inference_mode():
        expected = reference.encode(pixels).latent_dist
        image = reference.decode(expected.mean).sample
    mean, logvar = vae.encode(pixels)
    assert mean.shape == (2, 4, 8, 12) and mean.dtype == torch.float32
    assert torch.equal(mean, expected.mean) and torch.equal(logvar, expected.logvar)
    assert torch.equal(vae.decode(mean), image)


def test_mean_and_std_give_the_models_normalised_latent(folder: Path) -> None:
    vae = DiffusersVae(str(folder))
    assert (vae.channels, vae.spatial_factor) == (4, 4)
    assert vae.latents_mean == [0.1159] * 4 and vae.latents_std == [1 / 0.3611] * 4
    latent = torch.tensor([1.0])
    assert torch.allclose((latent - vae.latents_mean[0]) / vae.latents_std[0], (latent - 0.1159) * 0.3611)


def test_without_a_shift_the_mean_is_zero(tmp_path: Path) -> None:
    tiny(scaling_factor=0.13025).save_pretrained(tmp_path)
    vae = DiffusersVae(str(tmp_path))
    assert vae.latents_mean == [0.0] * 4 and vae.latents_std == [1 / 0.13025] * 4


def test_weights_stored_in_half_run_in_fp32(tmp_path: Path, pixels: torch.Tensor) -> None:
    tiny().half().save_pretrained(tmp_path)
    vae = DiffusersVae(str(tmp_path))
    assert {parameter.dtype for parameter in vae.model.parameters()} == {torch.float32}
    assert vae.encode(pixels)[0].dtype == torch.float32


def test_sides_that_the_model_would_cut_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"multiples of 4, not 34x32"):
        DiffusersVae(str(folder)).encode(torch.zeros(1, 3, 32, 34))


def test_the_hash_follows_weights_and_config(folder: Path, tmp_path: Path) -> None:
    tiny(scaling_factor=0.3611, shift_factor=0.1159).save_pretrained(tmp_path / "same")
    tiny(scaling_factor=0.5).save_pretrained(tmp_path / "scaled")
    changed = tiny(scaling_factor=0.3611, shift_factor=0.1159)
    changed.encoder.conv_in.bias.data += 1
    changed.save_pretrained(tmp_path / "changed")
    first, same, scaled, other = (
        describe("vae", f"diffusers:{path}").sha256
        for path in (folder, *(tmp_path / name for name in ("same", "scaled", "changed")))
    )
    assert first == same and len({first, scaled, other}) == 3


def test_pickled_weights_are_not_for_us(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path, safe_serialization=False)
    assert describe("vae", f"diffusers:{tmp_path}").problem == f"the folder {tmp_path} has no {WEIGHTS}"
    with pytest.raises(CurationError, match=f"cannot be had: the folder .* has no {WEIGHTS}"):
        DiffusersVae(str(tmp_path))


def test_weights_that_the_file_lacks_are_not_left_random(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"layers_per_block": 2}))
    with pytest.raises(CurationError, match=r"weights differ"):
        DiffusersVae(str(tmp_path))


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(CurationError, match=r"cannot be loaded .* say `vae: embedded`, which needs no hub"):
        DiffusersVae(str(tmp_path))


def test_a_folder_that_is_not_there() -> None:
    problem = describe("vae", "diffusers:/no/such/folder").problem
    assert problem == f"the folder /no/such/folder has no {CONFIG} and no {WEIGHTS}"


def test_a_hub_out_of_reach_names_the_embedded_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    problem = DiffusersVae.describe("stabilityai/sdxl-vae").problem
    assert problem and "the hub cannot be reached" in problem and "`embedded`" in problem


@pytest.fixture
def cached(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A hub cache that holds a pipeline with our weights, as huggingface_hub lays it out."""
    repository, commit = tmp_path / "models--someone--pipeline", "c" * 40
    vae = repository / "snapshots" / commit / "vae"
    vae.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        (vae / name).write_bytes((folder / name).read_bytes())
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for module in ("huggingface_hub.constants", "diffusers.utils.constants", "diffusers.utils.hub_utils"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return commit


def test_weights_in_the_hubs_cache_are_loaded_without_the_hub(cached: str, folder: Path, pixels: torch.Tensor) -> None:
    place = Place.parse("someone/pipeline/vae")
    assert place == Place(None, "someone/pipeline", "vae") and place.commit() == cached
    vae = DiffusersVae("someone/pipeline/vae")
    assert DiffusersVae.describe("someone/pipeline/vae").problem is None
    assert torch.equal(vae.encode(pixels)[0], DiffusersVae(str(folder)).encode(pixels)[0])
