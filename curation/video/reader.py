"""Videos as the engine sees them: asked of the child process, handed on as records, clips and pixels."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.inference.client import connect
from curation.inference.network import Spec
from curation.media.decode_worker import Ask
from curation.media.sandbox import Decoder, Limits
from curation.media.standardize import Recipe, Standardized
from curation.pixels import Pixels, arrays_in
from curation.record import Span
from curation.sources.fetch import IN_RUN, place_of
from curation.stores.holes import check_whole
from curation.stores.location import WEB, locate, scheme_of
from curation.stores.scratch import scratch

SAMPLED, LONGEST = 8, 640
"""Frames of a clip that stages look at, and their longer side in px at most."""
MEMORY_MB = 6000
"""Added to the child's address space for a video: libraries map much of it and touch little."""
_BLOCK = 1 << 20


@contextlib.contextmanager
def on_disk(uri: str, fetch: Any) -> Iterator[tuple[str, str]]:
    """A local path of the media at `uri`, and the sha256 of its bytes; a copy is gone afterwards.

    A plain local file is used where it lies and never read into memory whole.
    """
    place = place_of(uri)
    if uri.startswith(IN_RUN) or place.column is not None or scheme_of(uri) in WEB:  # bounded by max_mb
        with scratch() as folder, (folder / "copy.video").open("wb") as file:
            data = fetch(uri)
            file.write(data)
            file.flush()
            digest = hashlib.sha256(data).hexdigest()
            del data
            yield file.name, digest
        return
    filesystem, path = locate(place.location)
    if isinstance(filesystem, pafs.LocalFileSystem) and place.whole:
        check_whole(path)
        yield path, _sha256(path)
        return
    with scratch() as folder, (folder / "copy.video").open("wb") as file:
        digest = _copy(filesystem, path, place.offset, place.size, file)
        yield file.name, digest


def _copy(filesystem: pafs.FileSystem, path: str, offset: int, size: int | None, out: Any) -> str:
    """A member of an archive, or a remote file, block by block; returns its sha256."""
    digest = hashlib.sha256()
    try:
        with filesystem.open_input_file(path) as source:
            end = source.size() if size is None else offset + size
            while offset < end:
                block = source.read_at(min(_BLOCK, end - offset), offset)
                if not block:
                    raise CurationError(f"{path} ends at byte {offset}, before byte {end}")
                digest.update(block)
                out.write(block)
                offset += len(block)
    except CurationError:
        raise
    except Exception as error:  # a filesystem's own package raises what it likes: it is this record's error alone
        raise CurationError(f"{path} cannot be read: {error}") from error
    out.flush()
    return digest.hexdigest()


def _sha256(path: str) -> str:
    """Of a local file, read once for all its clips: its version is its place on the disk, size and time of change."""
    try:
        facts = Path(path).stat()
        return _read_sha256(path, (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
    except OSError as error:
        raise CurationError(f"{path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=1024)
def _read_sha256(path: str, _version: tuple[int, ...]) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class VideoReader:
    """One child process for a worker's videos. Every method raises DecodeError with a sentence."""

    def __init__(self, limits: Limits, engine: str = "pyav", shots_device: str = "cpu") -> None:
        """`shots_device`: where TransNetV2 computes, in the child process or on "cuda"."""
        self.engine, self.shots_device = engine, shots_device
        self.decoder = Decoder(replace(limits, memory_mb=limits.memory_mb + MEMORY_MB))

    def scan(
        self,
        path: str,
        method: str,
        threshold: float | None,
        rules: dict[str, Any],
        given: Sequence[tuple[float, float]] | None = None,
    ) -> dict[str, Any]:
        """`probe`, `pieces`, `cuts` and `shots`: see `curation.video.scan.scan`."""
        request = {"video": "scan", "path": path, "method": method, "threshold": threshold, "rules": rules}
        served = method == "transnetv2" and self.shots_device != "cpu"
        return self._ask(request | {"given": given, "served": served}, serve=self._shots if served else None)[0]

    def _shots(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`curation.video.shots.Predict` by the service."""
        network = connect(Spec("curation.models.transnet:TransNetNetwork", "", self.shots_device))
        return np.stack([marks for (marks,) in network.run("shots", [(window,) for window in windows])])

    def sample(self, path: str, span: Span, info: dict[str, Any], rate: str | None = None) -> Pixels:
        """A clip's sampled frames.

        info  what to say of it, such as its video's probe
        rate  of the grid on which the video's frames lie, as a fraction: the probe's `fps_fraction`
        """
        place = {"start_s": span.start_s, "end_s": span.end_s, "rate": rate}
        header, body = self._ask({"video": "sample", "path": path, "count": SAMPLED, "longest": LONGEST} | place)
        facts = {"pixel_sha256": hashlib.sha256(body).hexdigest()}
        facts |= {name: header[name] for name in ("phash_frames", "phash_frames_mirrored")}
        return Pixels.clip(arrays_in(body, header["shapes"]), header["frames"], info | facts)

    def cut(
        self,
        path: str,
        span: tuple[float, float],
        fps: float,
        count: int,
        recipe: Recipe,
        rate: str | None = None,
    ) -> Standardized:
        """A clip's exact frames for its bucket: rgb is uint8 [T, H, W, 3]. `rate`: see `sample`."""
        request = {"video": "cut", "path": path, "start_s": span[0], "end_s": span[1], "fps": fps, "count": count}
        header, body = self._ask(request | {"rate": rate}, recipe)
        rgb = np.frombuffer(body, np.uint8).reshape(header["shape"])
        info = {key: header[key] for key in ("original_width", "original_height")}
        return Standardized(rgb, tuple(header["resized"]), tuple(header["crop_ltrb"]), info)  # type: ignore[arg-type]

    def _ask(
        self, request: dict[str, Any], recipe: Recipe | None = None, serve: Ask | None = None
    ) -> tuple[dict[str, Any], bytearray]:
        return self.decoder.video(request | {"engine": self.engine}, recipe, serve)

    def close(self) -> None:
        self.decoder.close()
