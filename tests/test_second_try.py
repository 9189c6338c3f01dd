"""What a limit of wall-clock time ended is tried once more at the end, alone; what was interrupted before that, too."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.scenes import pan, write_video
from skimage import data
from skimage.io import imsave

from curation.media.sandbox import Decoder, StoodStill
from curation.phases import run
from curation.scoring import second_try
from curation.video.reader import VideoReader

MANIFEST = """
name: again
source: {folder: pictures}
score: [resolution, quality]
select: {duplicates: exact}
encode: {size: 64, vae: embedded, shards: {samples: 4}}
engine: {rows_per_chunk: 3}
"""
NAMES = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry")
Still = Callable[[int], None]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in NAMES:
        imsave(folder / f"{name}.png", getattr(data, name)()[:200, :300], check_contrast=False)
    (tmp_path / "m.yaml").write_text(MANIFEST)
    return tmp_path / "m.yaml"


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """`still[method]`: in so many of its next calls for the picture of a rocket the decoder's child stands still."""
    left = {"decode": 0, "standardize": 0}
    rocket = bytes(data.rocket()[:200, :300].tobytes())

    def fragile(name: str) -> None:
        honest = getattr(Decoder, name)

        def asked(self: Decoder, raw: bytes, *rest: Any) -> Any:
            found = honest(self, raw, *rest)
            if left[name] and Decoder.decode.honest(self, raw).rgb.tobytes() == rocket:  # type: ignore[attr-defined]
                left[name] -= 1
                raise StoodStill("the decoder stood still for longer than 120 s, 2 times")
            return found

        asked.honest = honest  # type: ignore[attr-defined]
        monkeypatch.setattr(Decoder, name, asked)

    fragile("decode")
    fragile("standardize")
    return left


def go(manifest: Path, out: Path) -> dict[str, str | None]:
    """What became of each picture: its error, None for those that were kept."""
    run(str(manifest), str(out), [], engine="inline")
    rows = pq.read_table(out / "selection.parquet").to_pylist()
    keys = {
        row["id"]: row["source_key"]
        for file in (out / "scores").glob("*.parquet")
        for row in pq.read_table(file, columns=["id", "source_key"]).to_pylist()
    }
    return {Path(keys[row["id"]]).stem: row["reason"] if row["decision"] != "kept" else None for row in rows}


def everything(out: Path) -> dict[str, bytes]:
    files = [path for folder in ("scores", "shards") for path in (out / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in [*files, out / "selection.parquet"]}


@pytest.mark.parametrize("method", ["decode", "standardize"])
def test_what_stood_still_once_is_as_if_it_never_had(
    manifest: Path, tmp_path: Path, still: dict[str, int], method: str
) -> None:
    go(manifest, tmp_path / "calm")
    still[method] = 1
    assert go(manifest, tmp_path / "busy") == dict.fromkeys(NAMES)
    assert still[method] == 0
    assert everything(tmp_path / "busy") == everything(tmp_path / "calm")
    assert not list((tmp_path / "busy" / "_work").rglob("again/*.json"))


@pytest.mark.parametrize("method", ["decode", "standardize"])
def test_what_stands_still_twice_is_quarantined_and_stays_so(
    manifest: Path, tmp_path: Path, still: dict[str, int], method: str
) -> None:
    still[method] = 2
    found = go(manifest, tmp_path / "run")
    assert "stood still" in str(found.pop("rocket")) and set(found.values()) == {None}
    assert go(manifest, tmp_path / "run")["rocket"]  # a finished run is left as it is
    assert still[method] == 0


def test_a_run_that_was_interrupted_before_the_second_try_makes_it(
    manifest: Path, tmp_path: Path, still: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    go(manifest, tmp_path / "calm")
    still["decode"] = 1
    with monkeypatch.context() as patched:
        patched.setattr(second_try, "tasks", killed)
        with pytest.raises(KeyboardInterrupt):
            go(manifest, tmp_path / "busy")
    assert go(manifest, tmp_path / "busy") == dict.fromkeys(NAMES)
    assert everything(tmp_path / "busy") == everything(tmp_path / "calm")


def test_a_note_on_a_file_that_is_gone_is_removed(manifest: Path, tmp_path: Path, still: dict[str, int]) -> None:
    still["decode"] = 2
    go(manifest, tmp_path / "run")
    notes = tmp_path / "run" / "_work" / "again"
    notes.mkdir(exist_ok=True)
    scored = sorted((tmp_path / "run" / "scores").rglob("*.parquet"))[0].name
    (notes / "000000.json").write_text(
        '{"chunk": {"number": 0, "kind": "", "args": {}, "fingerprint": "", "rows": 3}, "file": "gone.parquet", '
        '"rows": [1], "whole": false}'
    )
    shutil.copy(notes / "000000.json", notes / "000099.json")
    go(manifest, tmp_path / "run")
    assert not list(notes.iterdir()) and scored in [p.name for p in (tmp_path / "run" / "scores").iterdir()]


@pytest.mark.parametrize("method", ["scan", "sample"])
def test_a_video_gets_its_second_try_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """The shots of one are not found, or one of its clips cannot be sampled; its neighbour is not touched."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, name in enumerate(("first", "second")):
        write_video(folder / f"{name}.mp4", pan(number, 3))
    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        "name: again\nsource: {folder: videos}\n"
        "score: [probe, {shots: {method: content}}, {clips: {min_s: 1}}, motion]\n"
    )

    def go(out: Path) -> None:
        run(str(manifest), str(out), [], engine="inline")

    go(tmp_path / "calm")
    honest, left = getattr(VideoReader, method), [1]

    def fragile(self: VideoReader, path: str, *rest: Any) -> Any:
        if path.endswith("second.mp4") and left:
            left.pop()
            raise StoodStill("the decoder stood still for longer than 120 s, 2 times")
        return honest(self, path, *rest)

    monkeypatch.setattr(VideoReader, method, fragile)
    go(tmp_path / "busy")
    assert not left
    assert everything(tmp_path / "busy") == everything(tmp_path / "calm")
