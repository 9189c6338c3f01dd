"""Frames of a clip for stages to look at. Clips of one video that are asked for in order are one pass over it."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av

from curation.media.decode import Refused
from curation.video.container import THREADS, Engine, Video, frames, luma_of, open_video, rgb_of
from curation.video.cut import NEVER_CLOSER
from curation.video.hashes import FrameHashes
from curation.video.rates import on_grid

NEAR_S = 5.0
"""So far ahead, decoding on is cheaper than a seek: about half the usual distance of key frames."""
SMALL = 256
Timed = tuple[float, Any]


class Key(NamedTuple):
    """A file as it was when it was opened."""

    path: str = ""
    device: int = 0
    inode: int = 0
    bytes: int = 0
    changed_ns: int = 0
    max_pixels: int = 0
    engine: Engine = "pyav"


class VideoCursor:
    """A video that stays open between requests, where the last one left it.

    Decoding on from there gives the frames that a seek gives, unless the stream is damaged: `corrupt` then says so.
    """

    def __init__(self) -> None:
        self.corrupt = False
        self._stack, self._key = ExitStack(), Key()
        self._video: Video | None = None
        self._stream: Iterator[Timed] = iter(())
        self._shown: Timed | None = None

    def frames(
        self, path: str, from_s: float, max_pixels: int, engine: Engine, late: float = 1e-6
    ) -> tuple[Video, Iterator[Timed]]:
        """The open video, and (time, frame) from one that is on show at `from_s`, or earlier. Raises Refused.

        late  seconds by which a timestamp may lie behind the frame's exact time
        """
        facts = Path(path).stat()
        key = Key(path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, max_pixels, engine)
        near = self._shown is not None and -late <= from_s - self._shown[0] < NEAR_S
        if self._video is None or key != self._key or not near:
            self.close()
            self._video, self._key = self._stack.enter_context(open_video(path, max_pixels, engine, THREADS)), key
            self._stream, self.corrupt = frames(self._video, from_s), False
        return self._video, self._onward()

    def _onward(self) -> Iterator[Timed]:
        if self._shown is not None:
            yield self._shown
        for timed in self._stream:
            self._shown = timed
            self.corrupt |= bool(timed[1].is_corrupt)
            yield timed
        self.close()  # nothing is left to decode on from

    def close(self) -> None:
        """Close the file; the next request opens its own."""
        self._stack.close()
        self._video, self._stream, self._shown = None, iter(()), None


_cursor = VideoCursor()


def let_go() -> None:
    """Close the file of the last samples, if one is open: its index takes 65 bytes a frame. And hand back what the
    request before left free, so that a long video's leavings do not add to the next one's needs."""
    _cursor.close()
    with suppress(AttributeError):  # glibc's alone
        ctypes.CDLL(None).malloc_trim(0)


def sample(path: str, start_s: float, end_s: float, count: int, longest: int, max_pixels: int,
           alive: Callable[[], None], engine: Engine = "pyav",
           rate: Fraction | None = None) -> tuple[dict[str, Any], list[Any]]:  # fmt: skip
    """`count` frames spread over a clip, and with each its successor, small: (header, [frame, ..., pair, ...]).

    Frames are uint8 [H, W, 3]; pairs are luma [H, W], 256 px wide at most, first, next, first, next ... The header
    has the frames' `times`, and `phash_frames` (`curation.video.hashes`) up to the last frame decoded. `rate` is that
    of the grid on which the video's frames lie (`curation.video.rates`). Raises Refused.
    """
    span = start_s, end_s
    late = 1e-6 if rate is None else 0.5 / float(rate)
    # told below, by one thread that begins at a key frame: what damage does must not depend on more
    with suppress(Refused, OSError, av.error.FFmpegError):
        video, stream = _cursor.frames(path, start_s, max_pixels, engine, late)
        found = _take(video, on_grid(stream, start_s, rate), *span, count, longest, alive)
        if not _cursor.corrupt:
            return found
    _cursor.close()
    with open_video(path, max_pixels, engine) as video:
        return _take(video, on_grid(frames(video, start_s), start_s, rate), *span, count, longest, alive)


def _take(video: Video, stream: Iterator[Timed], start_s: float, end_s: float, count: int, longest: int,
          alive: Callable[[], None]) -> tuple[dict[str, Any], list[Any]]:  # fmt: skip
    wanted = [start_s + (end_s - start_s) * (i + 0.5) / count for i in range(count)]
    taken: list[Any] = []
    pairs: list[Any] = []
    at: list[float] = []
    hashes = FrameHashes(video, start_s, end_s)
    previous: Timed | None = None
    for time, frame in stream:
        if previous is not None:
            hashes.show(previous[1], time)
        # the frame on show at a wanted time is the last one that began before it
        while wanted and previous is not None and time > wanted[0] + 1e-6:
            wanted.pop(0)
            if not at or at[-1] != previous[0]:
                at.append(previous[0])
                taken.append(rgb_of(video, previous[1], longest))
                small = video.within(previous[1], SMALL)
                pairs += [luma_of(video, shown, small) for shown in (previous[1], frame)]
        if time >= end_s - NEVER_CLOSER or not wanted:
            break
        previous = (time, frame)
        alive()
    if wanted and previous is not None:
        at.append(previous[0])
        taken.append(rgb_of(video, previous[1], longest))
        hashes.show(previous[1], end_s)
    if not taken:
        raise Refused(f"no frame can be decoded between {start_s:.2f} s and {end_s:.2f} s")
    own, mirrored = hashes.values()
    header = {"times": [round(t, 6) for t in at], "frames": len(taken)}
    header |= {"phash_frames": own, "phash_frames_mirrored": mirrored}
    return header, [*taken, *pairs]
