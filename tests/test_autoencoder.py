"""The embedded autoencoder: shapes, scale, quality on photos that ship with scikit-image."""

import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from curation.models import describe, open_model
from curation.models.autoencoder import WEIGHTS, Autoencoder, load

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def photo(name: str, side: int = 256) -> torch.Tensor:
    """Short side `side`, centre crop: [1, 3, side, side] in [-1, 1]."""
    image = Image.open(Path(skimage.data.__path__[0]) / name).convert("RGB")
    scale = side / min(image.size)
    image = image.resize(
        (max(side, round(image.width * scale)), max(side, round(image.height * scale))), Image.Resampling.LANCZOS
    )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    values = np.asarray(image.crop((left, top, left + side, top + side)), np.float32)
    return torch.from_numpy(values / 127.5 - 1).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def model() -> Autoencoder:
    return load()


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return 10 * math.log10(4 / float((a - b).square().mean()))


def test_latents_are_eight_times_smaller_with_sixteen_channels(model: Autoencoder) -> None:
    mean, logvar = model.encode(torch.zeros(2, 3, 64, 96))
    assert mean.shape == logvar.shape == (2, 16, 8, 12)
    assert model.decode(mean).shape == (2, 3, 64, 96)


def test_sides_that_are_no_multiples_of_eight_are_refused(model: Autoencoder) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        model.encode(torch.zeros(1, 3, 60, 64))


def test_photos_come_back(model: Autoencoder) -> None:
    values = [psnr(model.decode(model.encode(photo(name))[0]), photo(name)) for name in PHOTOS]
    assert sum(values) / len(values) > 28.5


def test_a_sample_of_the_posterior_decodes_almost_as_well_as_its_mean(model: Autoencoder) -> None:
    pixels = photo("coffee.png")
    mean, logvar = model.encode(pixels)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    sampled = psnr(model.decode(mean + torch.exp(logvar / 2) * noise), pixels)
    assert psnr(model.decode(mean), pixels) - sampled < 0.5


def test_normalised_latents_of_photos_have_unit_scale(model: Autoencoder) -> None:
    latents = torch.cat([model.encode(photo(name))[0] for name in PHOTOS])
    shape = (1, -1, 1, 1)
    normal = (latents - torch.tensor(model.latents_mean).view(shape)) / torch.tensor(model.latents_std).view(shape)
    assert 0.7 < float(normal.square().mean().sqrt()) < 1.3


def test_the_backend_gives_the_same_latents_in_every_batch() -> None:
    vae = open_model("vae", "embedded")
    pixels = torch.cat([photo(name, 128) for name in PHOTOS])
    together, _ = vae.encode(pixels)
    assert all(torch.equal(together[i : i + 1], vae.encode(pixels[i : i + 1])[0]) for i in range(len(PHOTOS)))


def test_the_backend_is_known_without_loading_it() -> None:
    info = describe("vae", "embedded")
    assert info.problem is None and info.sha256 == load().weights_sha256
    assert WEIGHTS.stat().st_size < 5.1e6
