"""`duplicates: near` finds edited copies of photos, and takes no photo for another's."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.scores import write_scores
from PIL import Image
from skimage import data

from curation import rundir
from curation.errors import UsageError
from curation.manifest import Manifest
from curation.media.thumbnail import thumbnails
from curation.models.packaged import WEIGHTS
from curation.models.registry import open_model
from curation.models.training.edits import EDITS
from curation.phases import run
from curation.pixels import Pixels
from curation.selection.duplicates import best_first, duplicates_of
from curation.selection.neighbours import CosineNeighbours
from curation.selection.select import decide

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina")
SURE = ("mirror", "crop 85-95 %", "crop 70-85 %", "jpeg", "resize", "logo", "border", "rotate")
MANIFEST = """
name: copies
source: {{folder: {folder}}}
score: [probe, resolution, phash, embedding]
select: {{duplicates: near}}
"""


def test_near_finds_mirrored_and_cropped_copies_and_merges_no_photos(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        photo = Image.fromarray(getattr(data, name)()).convert("RGB")
        photo.save(folder / f"{name}@original.png")
        for at in (0, 3):
            edit = SURE[(number + at) % len(SURE)]
            EDITS[edit](photo, np.random.default_rng(3)).save(folder / f"{name}@{number + at}.png")
    (tmp_path / "m.yaml").write_text(MANIFEST.format(folder=folder))
    run(str(tmp_path / "m.yaml"), str(tmp_path / "run"), [], engine="inline")
    rows = [row for file in (tmp_path / "run" / "scores").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    names = {row["id"]: row["source_key"].partition("@")[0] for row in rows}
    selection = pq.read_table(tmp_path / "run" / "selection.parquet").to_pylist()
    assert sorted(names[row["id"]] for row in selection if row["decision"] == "kept") == sorted(NAMES)
    fell = [(names[row["id"]], names[row["duplicate_of"]]) for row in selection if row["duplicate_of"]]
    assert len(fell) == 2 * len(NAMES) and all(one == other for one, other in fell)


def test_the_vector_of_a_copy_is_near_and_of_unit_length() -> None:
    head = open_model("copy", "embedded")
    photos = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in ("coffee", "chelsea")]
    pictures = [
        Pixels.of(np.asarray(image)) for image in (*photos, photos[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    ]
    vectors = head.embed(pictures)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[2] > 0.8 > 0.5 > vectors[0] @ vectors[1]
    assert (head.embed(pictures[:1]) == vectors[:1]).all()


def test_the_weights_in_the_repository_stay_small() -> None:
    sizes = {file.name: file.stat().st_size for file in WEIGHTS.glob("*.safetensors")}
    assert sizes["copy_head.safetensors"] < 2e6 and sum(sizes.values()) < 10e6


def of(image: Image.Image) -> bytes:
    return thumbnails(Pixels.of(np.asarray(image)))


def test_what_is_near_and_looks_different_stays(tmp_path: Path) -> None:
    """Vectors are equal, thumbnails decide; a record without a thumbnail is no one's copy. So it is across runs."""
    coffee, chelsea = (Image.fromarray(getattr(data, name)()) for name in ("coffee", "chelsea"))
    shown = [of(coffee), of(chelsea), of(coffee.resize((300, 200))), None]
    vectors = [[1, 0]] * 4
    store = write_scores(tmp_path / "one", copy=vectors, thumbnail=shown, width=[600, 450, 300, 300], height=[400] * 4)
    section = {"on": "copy"}
    manifest = Manifest.model_validate(
        {"name": "m", "source": {"table": "x.jsonl"}, "select": {"duplicates": [section]}}
    )
    table = {row["id"]: row for row in decide(store, manifest, [], {}).to_pylist()}
    assert {i for i, row in table.items() if row["decision"] == "kept"} == {"r000", "r001", "r003"}
    assert table["r002"]["duplicate_of"] == "r000" and table["r002"]["reason"] == "copy"
    rundir.write_selection(store, decide(store, manifest, [], {}))
    second = write_scores(tmp_path / "two", copy=vectors[:2], thumbnail=[of(chelsea.resize((200, 133))), None])
    across = Manifest.model_validate(
        {"name": "m", "source": {"table": "x.jsonl"}, "select": {"duplicates": [{**section, "against": [store.root]}]}}
    )
    fates = decide(second, across, [], {}).to_pylist()
    assert [row["decision"] for row in fates] == ["dropped", "kept"]
    assert fates[0]["reason"] == f"copy: already in {store.root}"
    old = write_scores(tmp_path / "old", phash=[1])
    with pytest.raises(UsageError, match="no column 'copy'"):
        decide(old, manifest, [], {})


def test_a_row_falls_to_the_nearest_that_is_confirmed() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.12], [1, 0.3]], np.float32)
    near = CosineNeighbours(vectors, 0.5).pairs
    asked: list[tuple[int, int]] = []

    def confirm(one: int, other: int) -> bool:
        asked.append((one, other))
        return (one, other) != (2, 1)

    found = best_first(near, np.array([0, 1, 2, 3]), confirm=lambda one, other: (one, other) in {(2, 0), (3, 1)})
    assert dict(zip(found.rows.tolist(), found.kept.tolist(), strict=True)) == {2: 0, 3: 1}
    across = duplicates_of(near, np.array([0, 1]), np.array([2, 3]), confirm)
    assert dict(zip(across.rows.tolist(), across.kept.tolist(), strict=True)) == {2: 0, 3: 1}
    assert asked == [(2, 1), (2, 0), (3, 1)]
