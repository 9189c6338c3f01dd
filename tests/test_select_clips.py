"""Duplicates among clips, and between clips and pictures."""

from pathlib import Path

import numpy as np
from helpers.scores import write_scores
from helpers.selecting import GATES, kept, manifest, rows

from curation import rundir
from curation.selection.select import decide
from curation.stores.storage import Store

FILM = [int(value) for value in np.random.default_rng(3).integers(0, 2**63, 60)]


def test_clips_fall_by_their_frames_and_pictures_by_a_clips(tmp_path: Path) -> None:
    """The middle frames (`phash`) of the clips are all alike, and decide nothing."""
    store = write_scores(
        tmp_path,
        phash=[7, 7, 7, 7, FILM[5] ^ 0b11, 7, FILM[50]],
        phash_frames=[FILM[:20], FILM[20:40], FILM[2:20], FILM[22:30], None, None, None],
        start_s=[0, 5, 0, 0, None, None, None],
        end_s=[5, 10, 4.5, 2, None, None, None],
        width=[320, 320, 640, 1280, 1920, 1920, 1920],
        height=[180, 180, 360, 720, 1080, 1080, 1080],
    )
    decided = rows(store, manifest(duplicates={"on": "phash"}))
    assert kept(decided) == ["r001", "r002", "r005", "r006"]
    assert {i: (row["reason"], row["duplicate_of"], row["value"], row["threshold"])
            for i, row in decided.items() if row["decision"] == "dropped"} == {
        "r000": ("phash of frames", "r002", 0.9, 0.7),  # the larger of two alike stays
        "r003": ("phash of frames", "r001", 1.0, 0.7),  # a part falls to the whole, however large
        "r004": ("phash of a frame", "r002", 2, 6),
    }  # fmt: skip
    small = manifest(duplicates={"on": "phash", "prefer": ["-width"], "share": 0.95})
    assert kept(rows(store, small)) == ["r000", "r001", "r005", "r006"]
    assert rows(store, small)["r002"]["duplicate_of"] == "r000"  # 1.0 of it is there: a part


def test_of_clips_alike_the_longer_stays_and_a_clip_goes_before_a_picture(tmp_path: Path) -> None:
    store = write_scores(
        tmp_path, embedding=[[1, 0], [1, 0], [1, 0]], start_s=[None, 2, 4], end_s=[None, 4, 9],
        width=[100, 10, 10], height=[100, 10, 10], aesthetic=[9, 2, 1],
    )  # fmt: skip
    assert kept(rows(store, manifest(duplicates={"on": "embedding"}))) == ["r002"]
    assert kept(rows(store, manifest(duplicates={"on": "embedding", "prefer": ["aesthetic"]}))) == ["r001"]


def test_of_two_alike_the_one_with_more_picture_stays_and_bars_are_none(tmp_path: Path) -> None:
    store = write_scores(
        tmp_path, sha256=["x", "x", "y", "y"], width=[100] * 4, height=[80, 60, 80, 60], border=[0.3, 0, None, 0]
    )
    assert kept(rows(store, manifest(duplicates={"on": "bytes"}))) == ["r001", "r002"]


def test_clips_and_frames_that_another_run_kept_are_already_there(tmp_path: Path) -> None:
    def scores(name: str, ids: list[str], frames: list[list[int] | None], hashes: list[int]) -> Store:
        starts = [None if part is None else 0 for part in frames]
        return write_scores(tmp_path / name, id=ids, phash=hashes, phash_frames=frames, start_s=starts, end_s=starts)

    other = scores("first", ["a1", "a2", "a3"], [FILM[:20], FILM[20:40], None], [1, 2, FILM[59]])
    rundir.write_selection(other, decide(other, manifest(keep="id != 'a2'"), GATES, {}))
    frames = [FILM[4:16], FILM[:40], FILM[24:40], None, None, None]
    store = scores("second", [f"b{i}" for i in range(6)], frames, [1, 1, 1, FILM[3], FILM[59], FILM[30]])
    decided = rows(store, manifest(duplicates={"on": "phash", "against": [other.root]}))
    assert {i: row.get("reason") for i, row in decided.items()} == {
        "b0": f"phash of frames: already in {other.root}",
        "b1": None,
        "b2": "phash of frames",
        "b3": f"phash of a frame: already in {other.root}",
        "b4": f"phash: already in {other.root}",
        "b5": "phash of a frame",
    }
    assert decided["b2"]["duplicate_of"] == decided["b5"]["duplicate_of"] == "b1"
