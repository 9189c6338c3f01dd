"""The corpus of odd and hostile files: each becomes sane pixels or a sentence, and none hangs."""

import json
from pathlib import Path

import numpy as np
import pytest

from curation.media.decode import FORMATS
from curation.media.sandbox import DecodeError, Decoder, Limits
from curation.pixels import Pixels

Outcome = Pixels | str
OFF_THE_LIST = {"FLI", "HEIF", "PSD"}
"""Formats of the corpus that Pillow (with plugins) opens and that are refused here."""


def rows(corpus: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (corpus / "evil" / "evil.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def outcomes(shared_corpus: Path) -> dict[str, Outcome]:
    """File name -> Pixels, or the sentence that refuses it; one decoder for all."""
    decoder = Decoder(Limits(seconds=20))
    out: dict[str, Outcome] = {}
    for row in rows(shared_corpus):
        try:
            out[row["file"]] = decoder.decode((shared_corpus / row["file"]).read_bytes())
        except DecodeError as error:
            out[row["file"]] = str(error)
    decoder.close()
    return out


def test_every_file_has_an_outcome(outcomes: dict[str, Outcome]) -> None:
    refused = {name: said for name, said in outcomes.items() if isinstance(said, str)}
    assert len(outcomes) == 239
    assert len(outcomes) - len(refused) == 210
    assert all(10 < len(said) < 400 for said in refused.values())
    assert not [said for said in refused.values() if said.startswith("the decoder")]  # none crashed or hung


def test_what_pillow_opens_is_opened_and_what_it_does_not_is_refused(
    shared_corpus: Path, outcomes: dict[str, Outcome]
) -> None:
    for row in rows(shared_corpus):
        known = not row["pillow13"].startswith("ERR") and row["pillow13"].split()[0] not in OFF_THE_LIST
        known |= row["file"].endswith("pil_truncated_jpeg.jpg")  # lacks no more than half of its end marker
        bomb = row["file"].endswith("decompression_bomb_extents.gif")
        assert isinstance(outcomes[row["file"]], str) == (not known and not bomb), row["file"]


def test_kept_pixels_are_sane(outcomes: dict[str, Outcome]) -> None:
    for name, pixels in outcomes.items():
        if not isinstance(pixels, str):
            assert pixels.rgb.dtype == np.uint8, name
            assert pixels.rgb.shape == (pixels.info["height"], pixels.info["width"], 3), name
            assert pixels.info["format"] in (*FORMATS, "MPO"), name
            assert 1 <= pixels.info["frames"] <= 1000, name


def test_orientations_of_one_picture_agree(shared_corpus: Path, outcomes: dict[str, Outcome]) -> None:
    # Their labels differ a little; a turn or a flip would differ by 39 levels and more.
    for family in ("pil_g4_orientation_*.tif", "pil_avif_rot*mir*.avif"):
        names = [f"evil/{path.name}" for path in sorted((shared_corpus / "evil").glob(family))]
        pictures = [picture.rgb.astype(int) for name in names if isinstance(picture := outcomes[name], Pixels)]
        assert len(pictures) >= 5
        assert all(np.abs(picture - pictures[0]).mean() < 10 for picture in pictures), family
