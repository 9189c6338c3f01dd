"""probe, resolution and quality: what they write, and that a bad row stays alone."""

import io
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from skimage import data

from curation.media.decode import decode_image
from curation.pixels import Pixels
from curation.stage import Column, Failure, Params, Stage, run_guarded
from stages.probe import Probe
from stages.quality import Quality
from stages.resolution import Resolution


def decoded(image: Image.Image, kind: str = "PNG", **options: object) -> Pixels:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    picture, info = decode_image(buffer.getvalue(), 10**8)
    return Pixels(np.asarray(picture), info)


def as_arrow(columns: Mapping[str, object], writes: Mapping[str, Column]) -> dict[str, list[object]]:
    """The values as they will be stored; raises where one does not have its declared type."""
    return {name: pa.array(columns[name], column.type).to_pylist() for name, column in writes.items()}


def test_probe_says_what_the_decoder_saw() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decoded(Image.new("L", (30, 20)), "JPEG", exif=exif)
    row = {
        name: values[0] for name, values in as_arrow(Probe(Params()).run({"pixels": [pixels]}), Probe.writes).items()
    }
    of_video = set(list(Probe.writes)[list(Probe.writes).index("container") :])
    assert all(row.pop(name) is None for name in of_video) and "codec" in of_video
    assert {name: row[name] for name in row if "sha256" not in name and name != "file_bytes"} == {
        "width": 20,
        "height": 30,
        "original_width": 30,
        "original_height": 20,
        "format": "JPEG",
        "mode": "L",
        "orientation": 6,
        "colour_profile": None,
        "frames": 1,
    }
    assert len(str(row["sha256"])) == len(str(row["pixel_sha256"])) == 64


def test_resolution_is_of_the_upright_picture() -> None:
    columns = as_arrow(Resolution(Params()).run({"width": [300, 50], "height": [200, 100]}), Resolution.writes)
    assert columns["min_side"] == [200, 50]
    assert columns["max_side"] == [300, 100]
    assert columns["aspect"] == [1.5, 2.0]
    assert columns["megapixels"] == pytest.approx([0.06, 0.005])


def test_quality_finds_blur_flatness_and_letterboxes() -> None:
    coffee = Image.fromarray(data.coffee())
    boxed = Image.new("RGB", (600, 500))
    boxed.paste(coffee, (0, 50))
    pictures = [
        coffee,
        coffee.resize((60, 40)).resize((600, 400)),
        Image.new("RGB", (600, 400), "teal"),
        boxed,
    ]
    batch = {"pixels": [decoded(picture) for picture in pictures]}
    columns = as_arrow(run_guarded(Quality(Params()), batch), Quality.writes)
    sharp, blurred, flat, _ = columns["sharpness"]
    assert sharp > 10 * blurred > 10 * flat  # type: ignore[operator]
    assert columns["flat"][2] == 1
    assert columns["content_box"] == [None, None, None, [0, 50, 600, 450]]
    assert columns["border"] == pytest.approx([0, 0, 0, 0.2])


def test_every_quality_column_has_a_value_for_the_smallest_picture() -> None:
    columns = as_arrow(Quality(Params()).run({"pixels": [decoded(Image.new("RGB", (1, 1)))]}), Quality.writes)
    assert [name for name, values in columns.items() if values[0] is None] == ["content_box"]


def test_a_row_that_cannot_be_measured_stays_alone() -> None:
    good = decoded(Image.fromarray(data.coffee()))
    broken = Pixels(np.zeros((0, 5, 3), np.uint8))
    stage: Stage = Quality(Params())
    columns = run_guarded(stage, {"pixels": [good, broken, good]})
    assert [isinstance(value, Failure) for value in columns["sharpness"]] == [False, True, False]
