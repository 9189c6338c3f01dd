"""Which video files are decoded, and to what: every case is drawn here, frame by frame, each carrying its number."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.videos import ONE, edit, number_in, numbered, without_first_packets, write_video

from curation.media.decode import Refused
from curation.media.standardize import Recipe
from curation.video.clips import ClipRules
from curation.video.container import frames, open_video, rgb_of
from curation.video.cut import cut
from curation.video.scan import scan

FRAMES = [numbered(i) for i in range(40)]
QUARTER = 1 << 30
SIXTEEN = {"crf": "8", "preset": "ultrafast", "g": "12", "bf": "3"}


@dataclass(frozen=True)
class Shown:
    """What a player shows of a file: frame `numbers`, `times` in s (every 40 ms by default), and what a probe says."""

    make: Callable[[Path], Any]
    suffix: str = ".mp4"
    numbers: Sequence[int] = range(40)
    times: Sequence[float] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (192, 96)
    block: int = 16
    start_s: float = 0.0

    @property
    def stamps(self) -> list[float]:
        return list(self.times or [self.start_s + i * 0.04 for i in range(len(self.numbers))])


def video(drawn: Sequence[np.ndarray] = FRAMES, **how: Any) -> Callable[[Path], Any]:
    return lambda path: write_video(path, drawn, **how)


def edited(*parts: tuple[int, int], **how: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write_video(path, FRAMES, **how)
        edit(path, *parts)

    return make


def beheaded(**how: Any) -> Callable[[Path], None]:
    """Without its first 5 packets, so that it begins 7 frames before its second key frame."""

    def make(path: Path) -> None:
        whole = write_video(path.with_stem("whole"), FRAMES, **how)
        without_first_packets(whole, path, 5)

    return make


def misnamed(path: Path) -> None:
    write_video(path, FRAMES)
    path.write_bytes(path.read_bytes().replace(b"VideoHandler", b"Vid\xe9oHandler"))


def with_cover(shown: int) -> Callable[[Path], None]:
    """A cover picture, then a film of `shown` frames."""

    def make(path: Path) -> None:
        with av.open(str(path), "w") as out:
            cover: Any = out.add_stream("mjpeg", rate=25)
            cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            film: Any = out.add_stream("libx264", rate=25, options={"crf": "8", "bf": "0"}) if shown else None
            drawn = [(cover, np.zeros((64, 64, 3), np.uint8), 0), *((film, FRAMES[i], i) for i in range(shown))]
            if film:
                film.width, film.height, film.pix_fmt = 192, 96, "yuv420p"
            for stream, array, number in drawn:
                frame = av.VideoFrame.from_ndarray(array, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(stream.encode(frame))
            for stream in {id(stream): stream for stream, *_ in drawn}.values():
                out.mux(stream.encode())

    return make


def turned(turns: int, matrix: Sequence[int], flip: bool = False) -> Callable[[Path], Any]:
    """Stored as a camera that is held askew stores it, with the matrix that brings it upright."""
    stored = [np.ascontiguousarray(np.rot90(frame[:, ::-1] if flip else frame, turns)) for frame in FRAMES]
    return video(stored, matrix=[*matrix[:2], 0, *matrix[2:], 0, 0, 0, QUARTER])


def with_alpha(codec: str, pixels: str) -> Callable[[Path], Any]:
    """Its lower half is black and fully transparent."""
    opaque = np.full((96, 192, 1), 255, np.uint8)
    opaque[48:] = 0
    return video([np.dstack([frame * (opaque > 0), opaque]) for frame in FRAMES], codec=codec, pixels=pixels)


OPEN = "keyint=12:min-keyint=12:scenecut=0:bframes=3:open-gop=1"
STEPS = [0, *np.cumsum([20] * 13 + [80] * 13 + [40] * 13).tolist()]
VP9 = {"codec": "libvpx-vp9", "options": {"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8", "g": "12"}}
RAGGED = [numbered(i, size=(195, 97)) for i in range(40)]
TINY = [numbered(i, size=(35, 17), block=2) for i in range(40)]
SHOWN = {
    "H.264 in mp4": Shown(video(), facts={"codec": "h264", "rotation": 0, "interlaced": False, "hdr": False}),
    "with B-frames": Shown(video(options=SIXTEEN)),
    "in fragments": Shown(video(container={"movflags": "frag_keyframe+empty_moov"})),
    "VP9 in webm": Shown(video(**VP9), ".webm", facts={"codec": "vp9", "container": "matroska,webm"}),
    "H.265 in mkv, 10 bit": Shown(
        video(codec="libx265", pixels="yuv420p10le", options={"preset": "ultrafast", "x265-params": "log-level=0"}),
        ".mkv",
        facts={"codec": "hevc", "pixel_format": "yuv420p10le"},
    ),
    "H.264, 10 bit, PQ": Shown(
        video(pixels="yuv420p10le", options={"x264-params": "transfer=smpte2084"}),
        facts={"pixel_format": "yuv420p10le", "hdr": True},
    ),
    "MPEG-4 in avi": Shown(video(codec="mpeg4", options={"q": "2"}), ".avi", facts={"container": "avi"}),
    "MJPEG in mov": Shown(video(codec="mjpeg", pixels="yuvj420p"), ".mov"),
    "MPEG-2 in ts": Shown(video(codec="mpeg2video", options={"b": "4000k"}), ".ts", facts={"container": "mpegts"}),
    "turned by 90": Shown(turned(1, (0, ONE, -ONE, 0)), facts={"rotation": 90, "original_width": 96, "width": 192}),
    "turned by 180": Shown(turned(2, (-ONE, 0, 0, -ONE)), facts={"rotation": 180, "original_width": 192}),
    "turned by 270": Shown(turned(3, (0, -ONE, ONE, 0)), facts={"rotation": 270, "original_height": 192}),
    "mirrored": Shown(turned(0, (-ONE, 0, 0, ONE), flip=True)),
    "mirrored and turned": Shown(turned(1, (0, ONE, ONE, 0), flip=True)),
    "wide pixels": Shown(
        video([np.ascontiguousarray(frame[:, ::2]) for frame in FRAMES], aspect=Fraction(2)),
        facts={"width": 192, "original_width": 96},
    ),
    "narrow pixels": Shown(
        video([frame.repeat(2, axis=1) for frame in FRAMES], aspect=Fraction(1, 2)),
        facts={"width": 192, "original_width": 384},
    ),
    "variable rate": Shown(
        video(times_ms=STEPS), times=[ms / 1000 for ms in STEPS], facts={"variable_fps": True, "fps": 21.4286}
    ),
    "odd sides, 4:2:0": Shown(video(RAGGED, **VP9), ".webm", size=(195, 97)),
    "odd sides, tiny": Shown(video(TINY, pixels="yuv444p"), size=(35, 17), block=2),
    "without a duration": Shown(video(container={"live": "1"}), ".mkv", facts={"declared_s": 0.0, "duration_s": 1.6}),
    "without timestamps": Shown(video(options={"bf": "0"}), ".h264", facts={"declared_s": 0.0, "duration_s": 1.6}),
    "head cut by an edit list": Shown(edited((7, 33)), numbers=range(7, 40), facts={"duration_s": 1.32}),
    "both ends cut by an edit list": Shown(edited((7, 20)), numbers=range(7, 27), facts={"duration_s": 0.8}),
    "B-frames under an edit list": Shown(edited((7, 20), options=SIXTEEN), numbers=range(7, 27)),
    "two parts of an edit list": Shown(edited((5, 15), (22, 12)), numbers=[*range(5, 20), *range(22, 34)]),
    "later than its sound": Shown(
        video(times_ms=[1000 + 40 * i for i in range(40)], audio_s=3), facts={"audio": True, "duration_s": 1.6}
    ),
    "shorter than its sound": Shown(
        video(audio_s=30, **VP9), ".webm", facts={"audio": True, "duration_s": 1.6, "codec": "vp9"}
    ),
    "cut in the middle of a GOP, ts": Shown(
        beheaded(options={"bf": "0"}), ".ts", numbers=range(12, 40), start_s=0.28, facts={"duration_s": 1.4}
    ),
    "cut in the middle of an open GOP": Shown(
        beheaded(codec="libx265", options={"preset": "ultrafast", "x265-params": f"{OPEN}:log-level=0"}),
        ".mkv",
        numbers=range(12, 40),
        start_s=0.16,
    ),
    "cut in the middle of a GOP, mkv": Shown(beheaded(**VP9), ".webm", numbers=range(12, 40), start_s=0.28),
    "a name that is not UTF-8": Shown(misnamed),
    "behind its cover picture": Shown(with_cover(40), ".mkv", facts={"codec": "h264"}),
    "one frame": Shown(video(FRAMES[:1]), numbers=[0], facts={"frames": 1, "duration_s": 0.04}),
    "interlaced": Shown(
        video(codec="mpeg2video", options={"b": "4000k", "flags": "+ilme+ildct"}), ".ts", facts={"interlaced": True}
    ),
    "alpha, png": Shown(with_alpha("png", "rgba"), ".mov", facts={"pixel_format": "rgba"}),
    "alpha, VP9": Shown(with_alpha("libvpx-vp9", "yuva420p"), ".webm", facts={"pixel_format": "yuva420p"}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each case's file, made once."""
    folder = tmp_path_factory.mktemp("files")
    made: dict[str, Path] = {}

    def file(name: str) -> Path:
        if name not in made:
            made[name] = folder / f"{len(made)}{SHOWN[name].suffix}"
            SHOWN[name].make(made[name])
        return made[name]

    return file


def alive() -> None:
    """Nobody waits for a sign of life here."""


def scanned(path: Path, **rules: float) -> dict[str, Any]:
    return scan(str(path), "content", None, ClipRules(**rules), 10**8, alive)


def read(path: Path, from_s: float = 0.0, engine: Any = "pyav") -> list[tuple[float, np.ndarray]]:
    with open_video(str(path), 10**8, engine) as opened:
        return [(time, rgb_of(opened, frame)) for time, frame in frames(opened, from_s)]


@pytest.mark.parametrize("name", SHOWN)
def test_a_file_has_the_frames_that_a_player_shows(name: str, files: Callable[[str], Path]) -> None:
    case, found = SHOWN[name], read(files(name))
    assert [number_in(rgb, case.block) for _, rgb in found] == list(case.numbers)
    assert [time for time, _ in found] == pytest.approx(case.stamps, abs=0.0011)  # Matroska counts milliseconds
    assert {rgb.shape for _, rgb in found} == {(case.size[1], case.size[0], 3)}


@pytest.mark.parametrize("name", SHOWN)
def test_a_probe_says_what_it_is_and_all_its_seconds_are_accounted_for(name: str, files: Callable[[str], Path]) -> None:
    case, found = SHOWN[name], scanned(files(name), min_s=0.3)
    usual = {"frames": len(case.numbers), "width": case.size[0], "height": case.size[1]}
    assert {key: found["probe"][key] for key in usual | case.facts} == pytest.approx(usual | case.facts, abs=0.001)
    spans = sorted((piece["start_s"], piece["end_s"]) for piece in found["pieces"])
    assert spans[0][0] == 0 and spans[-1][1] == found["probe"]["duration_s"]
    assert all(a[1] == b[0] for a, b in pairwise(spans))


@pytest.mark.parametrize("name", [name for name in SHOWN if len(SHOWN[name].numbers) > 1])
def test_a_clip_in_the_middle_is_cut_by_timestamps(name: str, files: Callable[[str], Path]) -> None:
    case = SHOWN[name]
    stamps, start = case.stamps, case.stamps[-12]
    _, clip = cut(str(files(name)), start, start + 0.2, 50, 10, Recipe(*case.size), 10**8, alive)
    on_show = [bisect_right(stamps, start + k / 50 + 0.0012) - 1 for k in range(10)]
    assert [number_in(frame, case.block) for frame in clip] == [case.numbers[i] for i in on_show]


@pytest.mark.parametrize("name", ["alpha, png", "alpha, VP9"])
def test_what_is_transparent_lies_over_white(name: str, files: Callable[[str], Path]) -> None:
    _, rgb = read(files(name))[3]
    assert (rgb[60:90] > 250).all() and rgb[20:44].min() < 100


def header_only(path: Path) -> None:
    write_video(path, FRAMES, container={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])


def sound_alone(path: Path) -> None:
    write_video(path.with_suffix(".mkv"), FRAMES[:1], audio_s=1)
    with av.open(str(path.with_suffix(".mkv"))) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(old.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)


def unknown_cipher(path: Path) -> None:
    """Its sample entry says `encv`, and nothing says how it was encrypted."""
    write_video(path, FRAMES)
    path.write_bytes(path.read_bytes().replace(b"avc1\0", b"encv\0"))


def encrypted(path: Path) -> None:
    keys = {"encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    write_video(path, FRAMES, container={"encryption_scheme": "cenc-aes-ctr", **keys})


def twice(path: Path) -> None:
    once = write_video(path.with_suffix(".ts"), FRAMES).read_bytes()
    path.write_bytes(once + once)


def cut_short(path: Path) -> None:
    write_video(path, [numbered(i) for i in range(100)], container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_index(path: Path) -> None:
    write_video(path, FRAMES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: path.write_bytes(b""), "not a video that can be read"),
    "zeros": (lambda path: path.write_bytes(b"\0" * 5000), "not a video that can be read"),
    "a playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"), "not a video that can be read"),
    "a header without pictures": (header_only, "it has no frame that can be decoded"),
    "sound alone": (sound_alone, "it has no video stream, only audio"),
    "a cover picture": (with_cover(0), "it has no video stream, only a cover picture"),
    "encrypted in a way it does not tell": (unknown_cipher, "its video codec is not known .*or it is encrypted"),
    "encrypted": (encrypted, "it is encrypted"),
    "two recordings": (twice, r"its timestamps go back by 1.56 s behind frame 40 \(1.56 s\): two recordings"),
    "cut short": (cut_short, r"it (is cut short: \d|cannot be decoded behind frame \d)"),
    "cut before its index": (without_index, "not a video that can be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_video_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    make(tmp_path / "a.mp4")
    with pytest.raises(Refused, match=words):
        scanned(tmp_path / "a.mp4")


def test_more_pixels_than_allowed_are_refused_before_decoding(files: Callable[[str], Path]) -> None:
    with pytest.raises(Refused, match="more than 18,431 pixels"):
        scan(str(files("H.264 in mp4")), "content", None, ClipRules(), 192 * 96 - 1, alive)


def test_more_frames_than_allowed_are_refused(files: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.video.container.MAX_FRAMES", 39)
    with pytest.raises(Refused, match="more than 39 frames"):
        scanned(files("H.264 in mp4"))


def test_a_picture_on_show_for_years_gives_no_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", FRAMES[:3], [0, 40, 2_000_000_000], fps=25)
    pieces = scanned(path, min_s=0.01)["pieces"]
    assert [(piece["start_frame"], piece["end_frame"], piece["reason"]) for piece in pieces][1:2] == [
        (1, 2, "one picture for longer than 60 s")
    ]


ENGINES: tuple[Any, ...] = ("pyav", "decord")


def alike(ours: np.ndarray, decords: np.ndarray) -> bool:
    """The same frame, its colours converted in another way: a few levels apart."""
    return number_in(ours) == number_in(decords) and np.median(np.abs(ours.astype(int) - decords)) <= 3


DECORD = ["H.264 in mp4", "in fragments", "VP9 in webm", "variable rate", "later than its sound", "one frame"]


@pytest.mark.parametrize("name", DECORD)
def test_decord_gives_the_same_frames_at_the_same_times(name: str, files: Callable[[str], Path]) -> None:
    pytest.importorskip("decord")
    whole = read(files(name))
    for from_s in (0.0, 0.9):
        found = read(files(name), from_s, "decord")
        on_show = bisect_right([time for time, _ in whole], from_s + 1e-6) - 1
        assert [time for time, _ in found] == [time for time, _ in whole[on_show:]]
        for (_, ours), (_, decords) in zip(whole[on_show:], found, strict=True):
            assert alike(ours, decords)
    size, end = SHOWN[name].size, whole[-1][0] + 0.04
    clips = [cut(str(files(name)), end / 2, end, 25, 1, Recipe(*size), 10**8, alive, engine)[1] for engine in ENGINES]
    assert alike(clips[0][0], clips[1][0])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("turned by 90", "decord does not turn it as it asks for"),
        ("head cut by an edit list", "frames that are without a timestamp, discarded by an edit list, or before"),
        ("cut in the middle of a GOP, mkv", "before its first key frame"),
        ("MPEG-2 in ts", "decord counts frames wrong in mpegts"),
        ("without a duration", "decord cannot decode it: .*broken metadata"),
        ("alpha, png", "decord does not see that it is transparent"),
    ],
)
def test_what_decord_gets_wrong_is_refused_and_pyav_is_named(
    name: str, words: str, files: Callable[[str], Path]
) -> None:
    pytest.importorskip("decord")
    with pytest.raises(Refused, match=f"{words}.*video_decoder: pyav.* reads it"):
        read(files(name), engine="decord")
