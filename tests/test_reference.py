"""The picture that every VAE is tried on, and what a run says of latents that are not like a photograph's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from curation.encoding.latent_facts import warnings
from curation.encoding.reference import calibration, reference_picture
from curation.models import open_model
from curation.phases import run
from curation.shards import LatentDataset, Shards


@pytest.mark.parametrize("spec", ["embedded", "video_autoencoder"])
def test_a_vae_with_its_own_scaling_gives_an_rms_of_about_one(spec: str) -> None:
    vae = open_model("vae", spec)
    found = calibration(vae)
    assert found and len(found["mean"]) == len(found["rms"]) == 16
    assert 0.8 < found["normalized_rms"] < 1.25


def test_the_picture_is_always_the_same_and_has_the_spectrum_of_photographs() -> None:
    picture = reference_picture(128)
    assert picture.dtype == np.uint8 and np.array_equal(picture, reference_picture(128))
    grey = picture.mean(-1) - picture.mean()
    power = np.abs(np.fft.fft2(grey)) ** 2
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(128) * 128] * 2))
    at = [power[(radius > r) & (radius < 2 * r)].mean() for r in (2, 4, 8, 16)]
    slope = np.polyfit(np.log([3, 6, 12, 24]), np.log(at), 1)[0]
    assert -3.2 < slope < -1.2, "power falls as about 1 / f^2"


def ink(folder: Path) -> None:
    """Ten pages of black lines on white."""
    rng = np.random.default_rng(5)
    for i in range(10):
        page = Image.new("L", (256, 256), 255)
        draw = ImageDraw.Draw(page)
        for _ in range(26):
            points = np.cumsum(rng.normal(0, 22, (7, 2)), 0) + rng.uniform(20, 236, 2)
            draw.line([(float(x), float(y)) for x, y in points], fill=0, width=int(rng.integers(2, 5)))
        page.save(folder / f"{i:02d}.png")
        (folder / f"{i:02d}.txt").write_text(f"an ink drawing of tangled lines, page {i}")


def test_line_art_is_read_and_the_run_says_that_it_is_unusual(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ink").mkdir()
    ink(tmp_path / "ink")
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(
        "name: ink\nsource: {folder: ink}\nscore: [resolution]\nencode: {size: 256, reconstructions: 0}\n"
    )
    ledger = run(str(manifest), str(tmp_path / "run"), [], engine="inline")
    index = Shards(str(tmp_path / "run/shards")).index
    assert ledger.kept == 10 and index["statistics"]["normalized_rms"] > 3
    assert len(LatentDataset(str(tmp_path / "run/shards"))[0]["latents"]) == 16
    (told,) = json.loads((tmp_path / "run/run.json").read_text())["phases"]["encode"]["warnings"]
    assert told == warnings(index)[0] and "those of photographs about 1; the VAE's scaling is right" in told
    assert told in " ".join(capsys.readouterr().out.split())


def index_of(tested: float | None, rms: float) -> dict[str, Any]:
    own = None if tested is None else {"normalized_rms": tested}
    return {"samples": 3, "vae": {"id": "v", "calibration": own}, "statistics": {"normalized_rms": rms}}


@pytest.mark.parametrize(
    ("tested", "rms", "told"),
    [
        (1.0, 1.1, []),
        (5.5, 5.4, ["the VAE v gives normalised latents with an RMS of 5.50 for a test picture"]),
        (0.18, 1.0, ["compare scaling_factor, latents_mean and latents_std in its config.json with its model card"]),
        (1.0, 3.44, ["the records' normalised latents have an RMS of 3.44"]),
        (None, 1.0, ["gives NaN or infinite latents of a test picture"]),
    ],
)
def test_what_is_unusual_is_the_vaes_or_the_contents(tested: float | None, rms: float, told: list[str]) -> None:
    said = warnings(index_of(tested, rms))
    assert len(said) == len(told) and all(part in sentence for part, sentence in zip(told, said, strict=True))
