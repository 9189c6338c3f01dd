"""What a notebook calls: a run, another decision, the scores, the shards."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import curation
from curation.errors import NothingKept, UsageError

MANIFEST = """\
name: small
source: {folder: FOLDER}
score: [resolution, quality]
encode: {size: 64, vae: embedded, text: embedded}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, out = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("run") / "out"
    random = np.random.default_rng(0)
    for i, side in enumerate((64, 80, 96)):
        Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"noise, {side} pixels wide")
    manifest = out.parent / "small.yaml"
    manifest.write_text(MANIFEST.replace("FOLDER", str(folder)))
    account = curation.run(str(manifest), str(out), engine="inline")
    assert (account.kept, account.records_in) == (3, 3)
    return str(out)


def test_scores_are_opened_as_a_dataset(directory: str) -> None:
    table = curation.open_scores(directory).to_table(columns=["id", "width"])
    assert sorted(table["width"].to_pylist()) == [64, 80, 96] and len(set(table["id"].to_pylist())) == 3


def test_another_decision_is_made_and_read(directory: str) -> None:
    account = curation.select(directory, overrides=['select.keep=["width >= 80"]'])
    assert account.kept == 2
    assert curation.open_selection(directory)["decision"].to_pylist().count("kept") == 2
    assert curation.select(directory).kept == 2  # the run directory's manifest says so now
    assert curation.select(directory, overrides=["select.keep=[]"]).kept == 3


def test_shards_are_opened(directory: str) -> None:
    shards = curation.Shards(f"{directory}/shards")
    assert len(shards) == 3 and tuple(shards[0]["latents"].shape) == (16, 1, 8, 8)


def test_what_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no scores yet"):
        curation.open_scores(str(tmp_path))
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        curation.scores  # noqa: B018


def test_a_run_that_keeps_nothing_raises(directory: str, tmp_path: Path) -> None:
    manifest = Path(directory).parent / "none.yaml"
    manifest.write_text(f"name: none\nsource: {{folder: {tmp_path}}}\nscore: [{{resolution: {{keep: 'width > 9'}}}}]\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(NothingKept):
        curation.run(str(manifest), str(tmp_path / "out"), engine="inline")
