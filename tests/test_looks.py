"""What differs in colour alone is not the same; a mirrored copy is; a run without what is compared is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.scores import write_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps
from skimage import data

from curation import rundir
from curation.errors import UsageError
from curation.manifest import Manifest
from curation.media.phash import colours_of
from curation.phases import run
from curation.selection.looks import colours_agree
from curation.selection.select import decide

COLOURS = {"red": (170, 30, 35), "green": (20, 95, 40), "blue": (30, 60, 190), "violet": (95, 40, 160)}
MANIFEST = """
name: shop
source: {{folder: {folder}}}
score: [probe, resolution, phash]
select: {{duplicates: [exact, {{on: phash, threshold: 6}}]}}
"""


def shirt(colour: tuple[int, int, int], scale: float = 1.0) -> Image.Image:
    image = Image.new("RGB", (320, 320), (244, 244, 240))
    draw = ImageDraw.Draw(image)
    outline = [(90, 60), (130, 50), (160, 70), (190, 50), (230, 60), (290, 120), (255, 155), (230, 130), (230, 280),
               (90, 280), (90, 130), (65, 155), (30, 120)]  # fmt: skip
    draw.polygon([(round(x * scale), round(y * scale)) for x, y in outline], fill=colour)
    dark = (colour[0] // 2, colour[1] // 2, colour[2] // 2)
    draw.line([(160 * scale, 70 * scale), (160 * scale, 280 * scale)], fill=dark, width=3)
    for y in (110, 150, 190, 230):
        draw.ellipse([155 * scale, y * scale, 165 * scale, (y + 10) * scale], fill=(250, 250, 250))
    return image


def decided(folder: Path, out: Path) -> dict[str, tuple[str, str | None]]:
    """File name -> (decision, name of the one it fell to)."""
    manifest = out.parent / f"{out.name}.yaml"
    manifest.write_text(MANIFEST.format(folder=folder))
    run(str(manifest), str(out), [], engine="inline")
    scores = [row for file in (out / "scores").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    names = {row["id"]: row["source_key"] for row in scores}
    rows = pq.read_table(out / "selection.parquet").to_pylist()
    return {names[row["id"]]: (row["decision"], names.get(row["duplicate_of"])) for row in rows}


def test_a_shops_pictures_are_ten_records(tmp_path: Path) -> None:
    """One shirt in four colours, four small motifs on white, two plain sheets: none is another's copy."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, colour in COLOURS.items():
        shirt(colour).save(folder / f"shirt-{name}.png")
    signs: dict[str, Any] = {
        "ring": lambda d: d.ellipse([150, 150, 170, 170], outline="black", width=3),
        "cross": lambda d: (
            d.line([150, 150, 170, 170], fill=0, width=4),
            d.line([150, 170, 170, 150], fill=0, width=4),
        ),
        "bolt": lambda d: d.polygon([(165, 145), (150, 165), (160, 165), (155, 178), (172, 156)], fill="black"),
        "star": lambda d: d.regular_polygon((160, 160, 12), 5, fill="black"),
    }
    for name, draw in signs.items():
        image = Image.new("RGB", (320, 320), "white")
        draw(ImageDraw.Draw(image))
        image.save(folder / f"icon-{name}.png")
    for name, colour in {"navy": (10, 20, 90), "cream": (250, 240, 210)}.items():
        Image.new("RGB", (320, 320), colour).save(folder / f"plain-{name}.png")
    assert [fate for fate, _ in decided(folder, tmp_path / "run").values()] == ["kept"] * 10


def test_copies_of_coloured_pictures_still_fall(tmp_path: Path) -> None:
    """One photo with its colours in three orders, and a small and a mirrored copy of each."""
    folder = tmp_path / "copies"
    folder.mkdir()
    orders = {"rgb": [0, 1, 2], "gbr": [1, 2, 0], "brg": [2, 0, 1]}
    for name, order in orders.items():
        luma = np.asarray(Image.fromarray(data.coffee()).convert("L"), float)[..., None]
        tinted = luma * np.array([1.2, 0.9, 0.6])[order] + 10
        photo = Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8))
        photo.save(folder / f"{name}.png")
        photo.resize((450, 300)).save(folder / f"{name}-small.jpg", quality=60)
        ImageOps.mirror(photo).resize((500, 333)).save(folder / f"{name}-turned.jpg", quality=75)
    found = decided(folder, tmp_path / "run")
    assert {name: twin for name, (fate, twin) in found.items() if fate == "dropped"} == {
        f"{name}-{copy}.jpg": f"{name}.png" for name in orders for copy in ("small", "turned")
    }


@pytest.mark.parametrize("scale", [0.6, 1.0])
@pytest.mark.parametrize("other", ["green", "blue", "violet"])
def test_another_colour_disagrees(other: str, scale: float) -> None:
    one, another = (
        colours_of(np.asarray(shirt(COLOURS[name], scale).resize((32, 32), Image.Resampling.BOX)))
        for name in ("red", other)
    )
    assert colours_agree(one[None], one[None]).tolist() == [True]
    assert colours_agree(one[None], another[None]).tolist() == [False]


GRIDS = st.lists(st.integers(0, 255), min_size=48, max_size=48)


@settings(max_examples=50)
@given(GRIDS, st.integers(-8, 8), st.integers(0, 15), st.sampled_from([-60, 60]))
def test_a_shift_of_all_is_forgiven_and_of_one_cell_is_not(values: list[int], shift: int, cell: int, off: int) -> None:
    grid = np.array(values, np.uint8).reshape(4, 4, 3) // 2 + 64
    moved = grid.copy()
    moved[..., 1] = (moved[..., 1].astype(int) + shift).astype(np.uint8)
    assert colours_agree(grid[None], moved[None]).all()
    moved[cell // 4, cell % 4, 2] = (int(moved[cell // 4, cell % 4, 2]) + off) % 256
    assert not colours_agree(grid[None], moved[None]).any()


def test_a_run_without_the_columns_is_refused(tmp_path: Path) -> None:
    """Another run's scores that an earlier version made."""

    def manifest(**section: Any) -> Manifest:
        select = {"duplicates": [{"on": "phash", **section}]}
        return Manifest.model_validate({"name": "m", "source": {"table": "x.jsonl"}, "select": select})

    mine, other = (write_scores(tmp_path / name, phash=[1, 2]) for name in ("mine", "other"))
    rundir.write_selection(other, decide(other, manifest(), [], {}))
    for file in (tmp_path / "other" / "scores").glob("*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["phash_look"]), file)
    with pytest.raises(UsageError, match="the scores have no column 'phash_look'"):
        decide(other, manifest(), [], {})
    with pytest.raises(UsageError, match=r"other, which lacks .* no column 'phash_look'.*`curate run`"):
        decide(mine, manifest(against=[other.root]), [], {})
