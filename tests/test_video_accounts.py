"""Every frame and every second of a video is in a clip, or left out for a stated reason."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.videos import numbered, without_first_packets, write_video
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.phases import run
from curation.reporting import why
from curation.video.clips import ClipRules, pieces, shots_of
from curation.video.given import given_pieces
from curation.video.scan import scan

EPSILON = 1e-6
runs_of_frames = st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=8)


def mask(runs: list[tuple[bool, int]], count: int) -> np.ndarray:
    values = [value for value, length in runs for _ in range(length)][:count]
    return np.array([*values, *[False] * (count - len(values))], bool)


@st.composite
def videos(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[int, int]], np.ndarray, np.ndarray]:
    """Times [N + 1], cuts, black and still frames of a video; some frames stay for minutes."""
    count = draw(st.integers(1, 300))
    steps = draw(st.one_of(st.just([0.04]), st.lists(st.sampled_from([0.01, 0.04, 0.3, 7.0, 100.0]), min_size=1)))
    times = np.concatenate([[0.0], np.cumsum(np.resize(steps, count))])
    starts = draw(st.lists(st.integers(0, count), max_size=6))
    cuts = [(start, start + draw(st.sampled_from([0, 0, 3, 20]))) for start in starts]
    return times, cuts, mask(draw(runs_of_frames), count), mask(draw(runs_of_frames), count)


@st.composite
def rules(draw: st.DrawFn) -> ClipRules:
    least = draw(st.sampled_from([0.05, 0.5, 2.0]))
    most = least * draw(st.sampled_from([1, 2, 10]))
    window = draw(st.one_of(st.none(), st.just(least), st.just(most / 2)))
    return ClipRules(least, most, window, draw(st.sampled_from([None, least / 2, most, 3 * most])), draw(st.booleans()))


@settings(max_examples=300)
@given(videos(), rules())
def test_pieces_hold_every_frame_and_what_is_left_out_has_a_reason(video: Any, rules: ClipRules) -> None:
    times, cuts, black, still = video
    found = pieces(times, cuts, black, still, rules)
    clips, rest = np.zeros(len(black), int), np.zeros(len(black), int)
    for piece in found:
        assert piece.start < piece.end
        (clips if piece.reason is None else rest)[piece.start : piece.end] += 1
    assert ((clips > 0) + rest == 1).all()
    window = min(rules.window_s or rules.max_s, rules.max_s)
    if rules.stride_s is None or rules.stride_s >= window:
        assert clips.max() <= 1
    shots, fades = shots_of(len(black), cuts)
    for piece in found:
        if piece.reason is None:
            length = times[piece.end] - times[piece.start]
            assert rules.min_s - EPSILON <= length <= window + 2 * EPSILON
            assert shots[piece.shot][0] <= piece.start < piece.end <= shots[piece.shot][1]
            assert not black[piece.start : piece.end].any()
    assert all(piece.reason for piece in found if piece.reason is not None)
    assert sum(end - start for start, end in shots) + sum(end - start for start, end, _ in fades) == len(black)


@settings(max_examples=200)
@given(videos(), st.lists(st.tuples(st.floats(0, 40), st.floats(0.01, 40)), min_size=1, max_size=6))
def test_given_clips_and_the_rest_hold_every_frame(video: Any, spans: list[tuple[float, float]]) -> None:
    times, cuts, black, _ = video
    named = [(start, start + length) for start, length in spans]
    found = given_pieces(times, named, shots_of(len(black), cuts)[0], ClipRules(0.5, 20))
    assert [piece.given for piece in found[: len(named)]] == list(range(len(named)))
    rest = np.zeros(len(black), int)
    for piece in found[len(named) :]:
        assert piece.given is None and piece.reason
        rest[piece.start : piece.end] += 1
    clips = [span for piece, span in zip(found, named, strict=False) if piece.reason is None]
    for frame, time in enumerate(times[:-1]):
        assert rest[frame] == (0 if any(start - 0.001 <= time < end - 0.001 for start, end in clips) else 1)
    for piece, (start, end) in zip(found, named, strict=False):
        if piece.reason is None:
            assert piece.end > piece.start and end <= times[-1] + 0.1 and 0.499 <= end - start <= 20.001


def test_black_still_and_slideshow_segments_of_a_file_are_told_apart(tmp_path: Path) -> None:
    dark = [np.zeros((96, 192, 3), np.uint8)] * 25
    stills = [numbered(0, seed) for seed in range(10, 14) for _ in range(25)]
    moving = [numbered(i, 20) for i in range(50)]
    path = write_video(tmp_path / "a.mp4", [*dark, *stills, *moving, *stills[:25]])
    found = scan(str(path), "content", None, ClipRules(min_s=1), 10**8, lambda: None)["pieces"]
    slides = [(start, start + 25, "slideshow") for start in (25, 50, 75, 100)]
    assert [(piece["start_frame"], piece["end_frame"], piece["reason"]) for piece in found] == [
        (0, 25, "black"),
        *slides,
        (125, 175, None),
        (175, 200, "static"),
    ]


def scene(seed: int, frame: int) -> np.ndarray:
    """Large coloured blocks that drift: [108, 192, 3]."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3))
    return np.roll(blocks.repeat(36, 0).repeat(48, 1), frame, axis=1).astype(float)


def test_a_crossfade_is_taken_off_the_clips_beside_it(tmp_path: Path) -> None:
    shares = [0.0] * 60 + [(k + 1) / 26 for k in range(25)] + [1.0] * 60
    film = [(1 - share) * scene(1, i) + share * scene(2, i) for i, share in enumerate(shares)]
    path = write_video(tmp_path / "a.mp4", [frame.astype(np.uint8) for frame in film])
    found = scan(str(path), "transnetv2", None, ClipRules(min_s=1), 10**8, lambda: None)
    ((start, end, start_s, end_s),) = found["cuts"]
    assert 55 <= start <= 70 and 75 <= end <= 90 and (start_s, end_s) == (start / 25, end / 25)
    assert [(piece["start_frame"], piece["end_frame"], piece["reason"]) for piece in found["pieces"]] == [
        (0, start, None),
        (start, end, "gradual transition"),
        (end, 145, None),
    ]


MANIFEST = """
name: accounts
source:
  - {{folder: {folder}/films}}
  - {{table: {folder}/given.jsonl, media: video, caption: texts, clips: spans}}
score: [probe, {{shots: {{method: content}}}}, {{clips: {{min_s: 0.6, max_s: 2, window_s: 1}}}}{more}]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run over scenes 0-29, black 30-39, a still 40-59, a scene 60-129; a cut stream; clips that a table names."""
    folder = tmp_path_factory.mktemp("accounts")
    (folder / "films").mkdir()
    dark, still = np.zeros((96, 192, 3), np.uint8), numbered(0, 2)
    film = [numbered(i, 1) for i in range(30)] + [dark] * 10 + [still] * 20 + [numbered(i, 3) for i in range(60, 130)]
    write_video(folder / "films" / "film.mp4", film, audio_s=1)
    whole = write_video(folder / "whole.ts", [numbered(i, 4) for i in range(60)], options={"bf": "0"})
    without_first_packets(whole, folder / "films" / "cut.ts", 5)
    write_video(folder / "films" / "short.mp4", film[:10] + [dark] * 5)
    write_video(folder / "named.mp4", film)
    lines = [
        {"video": "named.mp4", "spans": [[0.2, 1.4], ["00:00:03.000", 4], [4, 9], [1, 1.1]], "texts": list("abcd")},
        {"video": "named.mp4", "spans": [[0.2, "x"]], "texts": ["e"]},
        {"video": "named.mp4", "spans": [[3.2, 4.2]], "texts": ["f"], "by": "another row"},
    ]
    (folder / "given.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "m.yaml").write_text(MANIFEST.format(folder=folder, more=""))
    run(str(folder / "m.yaml"), str(folder / "run"), [], engine="inline")
    return folder, folder / "run"


def rows_of(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "scores").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("film.mp4", ["black", "static"]),
        ("cut.ts", ["before the first frame that can be decoded"]),
        ("named.mp4", ["outside the given clips", "in a given clip that cannot be one"]),
    ],
)
def test_clips_and_left_out_spans_cover_a_video_to_its_last_frame(
    finished: tuple[Path, Path], name: str, reasons: list[str]
) -> None:
    clips = [row for row in rows_of(finished[1]) if row["source_key"] == name and row["error"] is None]
    clips = [row for row in clips if row["caption"] != "f"]
    left_out = json.loads(clips[0]["cut_spans"])
    assert {reason for *_, reason in left_out} >= set(reasons)
    spans = sorted([(row["start_s"], row["end_s"]) for row in clips] + [(a, b) for a, b, _ in left_out])
    assert spans[0][0] == 0 and spans[-1][1] == clips[0]["duration_s"]
    assert all(one[1] == two[0] for one, two in pairwise(spans))
    assert [row["cut_spans"] is None for row in clips] == [False] + [True] * (len(clips) - 1)


def test_shot_boundaries_stand_as_frames_and_as_times(finished: tuple[Path, Path]) -> None:
    clips = [row for row in rows_of(finished[1]) if row["source_key"] == "film.mp4"]
    assert json.loads(clips[0]["cuts"]) == [[30, 30, 1.2, 1.2], [40, 40, 1.6, 1.6], [60, 60, 2.4, 2.4]]
    places = [
        (row["start_frame"], row["end_frame"], row["shot_start_frame"], row["shot_end_frame"], row["shot_start_s"])
        for row in clips
    ]
    assert places == [(0, 25, 0, 30, 0.0), (60, 85, 60, 130, 2.4), (85, 110, 60, 130, 2.4), (110, 130, 60, 130, 2.4)]
    assert clips[0]["shot_end_s"] == 1.2 and clips[-1]["shot_end_s"] == 5.2


def test_a_video_without_a_clip_says_what_each_of_its_seconds_is(finished: tuple[Path, Path]) -> None:
    (row,) = (row for row in rows_of(finished[1]) if row["source_key"] == "short.mp4")
    assert row["error"] == "no clip in it: shorter than 0.6 s (0.00-0.40 s); black (0.40-0.60 s)"


def test_given_clips_are_the_clips_each_with_its_caption(finished: tuple[Path, Path]) -> None:
    rows = [row for row in rows_of(finished[1]) if row["source_uri"] and row["source_uri"].endswith("named.mp4")]
    assert [(row["start_frame"], row["end_frame"], row["caption"], row["error"]) for row in rows] == [
        (5, 35, "a", None),
        (75, 100, "b", None),
        (100, 130, "c", "the clip 4-9 s: the video ends at 5.20 s"),
        (25, 28, "d", "the clip 1-1.1 s: shorter than 0.6 s"),
        (80, 105, "f", None),
    ]
    assert [row["extra"] for row in rows] == [None] * 4 + ['{"by": "another row"}']
    assert (rows[0]["start_s"], rows[0]["end_s"], rows[0]["clips"], rows[2]["end_s"]) == (0.2, 1.4, 2, 9.0)
    (bad,) = (row for row in rows_of(finished[1]) if row["source_key"] == "given.jsonl:2")
    assert "holds [0.2, 'x'], not [start, end]" in bad["error"]
    ledger = json.loads((finished[1] / "run.json").read_text())
    assert ledger["records_in"] == len(rows_of(finished[1])) == ledger["kept"] + sum(ledger["quarantined"].values())


def test_a_clip_names_its_own_hash_and_its_files(finished: tuple[Path, Path]) -> None:
    folder, out = finished
    data = (folder / "films" / "film.mp4").read_bytes()
    clip = next(row for row in rows_of(out) if row["source_key"] == "film.mp4")
    digest = hashlib.sha256(data).hexdigest()
    assert (clip["content_sha256"], clip["sha256"]) == (digest, f"{digest}:0-25")
    assert (clip["file_bytes"], clip["frames"], clip["video_frames"]) == (len(data), 25, 130)
    assert (clip["audio"], clip["pixel_format"], clip["mode"], clip["interlaced"]) == (True, "yuv420p", None, False)


def test_why_tells_a_clips_shot_and_its_videos_cuts(finished: tuple[Path, Path], capsys: Any) -> None:
    why.tell(str(finished[1]), "film.mp4")
    told = capsys.readouterr().out
    assert "shot_end_s=1.2" in told and "[30, 30, 1.2, 1.2]" in told and '"black"' in told


def test_another_stage_takes_over_the_given_clips_with_their_captions(finished: tuple[Path, Path]) -> None:
    folder, out = finished
    names = ("id", "captions", "extra", "start_s", "end_s", "error")
    before = [[row[name] for name in names] for row in rows_of(out)]
    (folder / "more.yaml").write_text(MANIFEST.format(folder=folder, more=", phash"))
    run(str(folder / "more.yaml"), str(folder / "run"), [], engine="inline")
    assert [[row[name] for name in names] for row in rows_of(out)] == before
    assert "shots" not in json.loads((out / "run.json").read_text())["stages"]
