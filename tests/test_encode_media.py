"""Standardized pixels as files in shards, beside latents or instead of them."""

import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.videos import number_in, numbered, write_video
from PIL import Image

from curation.errors import CurationError, UsageError
from curation.load import load
from curation.models import registry
from curation.phases import run
from curation.reporting.report import write_report
from curation.shards.dataset import LatentDataset
from curation.shards.reader import Shards
from curation.shards.sample import MediaFile, Sample
from curation.trainer.train import train

MANIFEST = """
name: media
source: {{folder: {folder}}}
score: [probe, {{shots: {{method: content}}}}, {{clips: {{min_s: 1, max_s: 3}}}}]
encode:
  buckets: ["192x96"]
  fps: 25
  frames: [9, 17]
  vae: video_autoencoder
  latents: false
  media: {{gop: 8, preset: veryfast, images: png}}
  text: null
  reconstructions: 0
  shards: {{samples: 1}}
"""
BOTH = ("encode.latents=true", "encode.text=embedded")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of two scenes, 2 s and 1.6 s of numbered frames, and a picture."""
    folder = tmp_path_factory.mktemp("corpus")
    write_video(folder / "two.mp4", [numbered(i, 1) for i in range(50)] + [numbered(i, 2) for i in range(50, 90)])
    (folder / "two.txt").write_text("two scenes")
    Image.fromarray(numbered(7, 3)).save(folder / "still.png")
    path = folder.parent / "media.yaml"
    path.write_text(MANIFEST.format(folder=folder))
    return path


def go(manifest: Path, out: Path, *overrides: str) -> Path:
    run(str(manifest), str(out), overrides, engine="inline")
    return out / "shards"


@pytest.fixture(scope="module")
def alone(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry._open.clear()
    shards = go(manifest, tmp_path_factory.mktemp("alone") / "run")
    assert not registry._open, "no model is loaded for media alone"
    return shards


@pytest.fixture(scope="module")
def both(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go(manifest, tmp_path_factory.mktemp("both") / "run", *BOTH)


def files(shards: Path) -> dict[str, bytes]:
    return {str(path.relative_to(shards)): path.read_bytes() for path in shards.rglob("*") if path.is_file()}


def media_of(sample: Sample) -> MediaFile:
    assert sample.media is not None
    return sample.media


def numbers(data: bytes | memoryview) -> list[int]:
    with av.open(io.BytesIO(data)) as container:
        return [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_a_clip_is_an_mp4_of_its_exact_frames_and_a_picture_is_a_picture(alone: Path) -> None:
    samples = {(sample.meta["media"], sample.meta["frame_start"]): sample for sample in Shards(str(alone))}
    assert set(samples) == {("video", 0), ("video", 50), ("image", 0)}
    for (kind, start), sample in samples.items():
        media = media_of(sample)
        assert (media.suffix, sample.mean, sample.texts) == ("mp4" if kind == "video" else "png", None, [])
        if kind == "video":
            assert numbers(media.data) == list(range(start, start + 17))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(media_of(samples["image", 0]).data))), numbered(7, 3))


def test_any_loader_of_tars_finds_media_caption_and_facts_under_one_key(alone: Path) -> None:
    for path in sorted((alone / "17x96x192").glob("*.tar")):
        with tarfile.open(path) as tar:
            names = tar.getnames()
            assert [name.partition(".")[2] for name in names] == ["json", "text.npy", "mp4", "txt"]
            assert tar.extractfile(names[3]).read() == b"two scenes"  # type: ignore[union-attr]
            facts = json.load(tar.extractfile(names[0]))  # type: ignore[arg-type]
            assert facts["captions"] == ["two scenes"] and facts["fps"] == 25


def test_the_index_says_how_they_were_written_and_that_there_are_no_latents(alone: Path) -> None:
    index = Shards(str(alone)).index
    assert (index["vae"], index["statistics"], index["text"], index["null_text"]) == (None, None, None, None)
    said = index["media"]["video"]
    assert (said["codec"], said["crf"], said["gop"], said["fps"]) == ("h264", 18, 8, 25)
    assert index["media"]["image"]["format"] == "png" and index["buckets"] == {"17x96x192": 2, "1x96x192": 1}


def test_what_wants_latents_refuses_them(alone: Path, manifest: Path) -> None:
    words = r"holds media and no latents \(its manifest says `latents: false`\): encode with `latents: true`"
    with pytest.raises(CurationError, match=words):
        LatentDataset(str(alone))
    with pytest.raises(CurationError, match=words):
        train(str(alone), None, ["train.steps=1"])
    with pytest.raises(CurationError, match=words):
        Shards(str(alone), vae="c0ffee")


def test_latents_are_the_same_with_and_without_media(manifest: Path, both: Path, alone: Path, tmp_path: Path) -> None:
    plain = go(manifest, tmp_path / "run", *BOTH, "encode.media=null")
    latents = {s.id: (s.latents.tobytes(), [t.tobytes() for t in s.texts]) for s in Shards(str(both))}
    assert latents == {s.id: (s.latents.tobytes(), [t.tobytes() for t in s.texts]) for s in Shards(str(plain))}
    media = {s.id: bytes(media_of(s).data) for s in Shards(str(both))}
    assert media == {s.id: bytes(media_of(s).data) for s in Shards(str(alone))}
    assert all(s.media is None for s in Shards(str(plain)))
    assert LatentDataset(str(both))[0]["latents"].shape[0] == 16


@pytest.mark.parametrize("words", [(), BOTH])
def test_parquet_holds_the_same_bytes(
    words: tuple[str, ...], manifest: Path, alone: Path, both: Path, tmp_path: Path
) -> None:
    shards = go(manifest, tmp_path / "run", *words, "encode.shards.format=parquet", "encode.shards.samples=10")

    def of(folder: Path) -> list[Any]:
        return sorted((s.id, media_of(s).suffix, bytes(media_of(s).data), s.meta) for s in Shards(str(folder)))

    assert of(shards) == of(both if words else alone)
    row = pq.read_table(shards / "17x96x192/00000.parquet").to_pylist()[0]
    assert row["media_type"] == "mp4" and numbers(row["media"]) in ([*range(17)], [*range(50, 67)])
    assert ("latent_mean" in row) == bool(words)


def test_another_crf_writes_media_anew_and_computes_no_latent(manifest: Path, both: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shards = go(manifest, out, *BOTH)
    assert files(shards) == files(both)
    before = sum(len(media_of(sample).data) for sample in Shards(str(shards)))
    registry._open.clear()
    go(manifest, out, *BOTH, "encode.media.crf=30")
    assert not registry._open, "the latents were there"
    assert files(shards) == files(go(manifest, tmp_path / "fresh", *BOTH, "encode.media.crf=30"))
    assert sum(len(media_of(sample).data) for sample in Shards(str(shards))) < before


def test_media_are_kept_when_latents_come_beside_them(manifest: Path, both: Path, alone: Path, tmp_path: Path) -> None:
    shards = go(manifest, tmp_path / "run")
    assert files(shards) == files(alone)
    assert files(go(manifest, tmp_path / "run", *BOTH)) == files(both)
    assert files(go(manifest, tmp_path / "run")) == files(alone)


def test_a_killed_run_goes_on_to_the_same_bytes(manifest: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "curation", "run", str(manifest), "--out", str(out), "--engine", "inline"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((out / "_work/encode/staged").rglob("*.tar")) and child.poll() is None:
        time.sleep(0.002)
    child.kill()
    child.wait()
    assert not (out / "shards/index.json").exists()
    assert files(go(manifest, out)) == files(alone)


def test_an_altered_mp4_is_refused_and_made_again(manifest: Path, alone: Path, tmp_path: Path) -> None:
    shards = go(manifest, tmp_path / "run")
    path = shards / "17x96x192/00000.tar"
    spoilt = bytearray(path.read_bytes())
    spoilt[spoilt.index(b"mdat") + 100] ^= 1
    path.write_bytes(spoilt)
    with pytest.raises(CurationError, match="it was altered, encode again"):
        list(Shards(str(shards)))
    path.unlink()
    assert files(go(manifest, tmp_path / "run")) == files(alone)


def test_footage_that_buckets_have_no_room_for_is_summed_up(alone: Path) -> None:
    unused = sorted(s.meta["seconds_unused"] for s in Shards(str(alone)) if s.meta["media"] == "video")
    assert unused == pytest.approx([1.6 - 17 / 25, 2.0 - 17 / 25], abs=1e-6)
    phase = json.loads((alone.parent / "run.json").read_text())["phases"]["encode"]
    footage = {"clips": 2, "clip_seconds": 1.36, "clip_seconds_unused": 2.24}
    assert footage.items() <= phase.items() and Shards(str(alone)).index["footage"] == footage
    said = "2 clips: 1.4 s of them are in shards, 2.2 s (62%) had no room: a clip takes the longest of encode.frames"
    assert said in Path(write_report(str(alone.parent))).read_text()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  media: {", "  x: {", "with `latents: false` there is nothing to write; say `media: true` beside it"),
        ("latents: false", "latents: true", "latents are trained on with text states"),
        ("gop: 8", "crf: 60", "encode.media.crf: Input should be less than or equal to 51"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    manifest: Path, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    text = manifest.read_text().replace(old, new).replace("  x: {gop: 8, preset: veryfast, images: png}\n", "")
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(UsageError) as refused:
        load(str(tmp_path / "m.yaml"))
    assert sentence in str(refused.value)


def test_media_true_is_the_section_with_its_defaults(manifest: Path) -> None:
    encode = load(str(manifest), ["encode.media=true"]).manifest.encode
    assert encode and encode.media and (encode.media.crf, encode.media.gop, encode.media.images) == (18, 24, "jpg")
    encode = load(str(manifest), ["encode.media=true", "encode.media.crf=30"]).manifest.encode
    assert encode and encode.media and (encode.media.crf, encode.media.gop) == (30, 24)
    with pytest.raises(UsageError, match=r"--set encode\.fps\.x=1: 'x' leads into a plain value"):
        load(str(manifest), ["encode.fps.x=1"])
