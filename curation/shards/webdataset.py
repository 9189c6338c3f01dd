"""Samples in WebDataset tars: a sample's members adjacent, keys without dots, headers without clocks."""

import io
import json
import tarfile
from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.shards.sample import MEDIA, MediaFile, Sample, joined_texts, split_texts

SUFFIX = ".tar"
MEAN, LOGVAR = "latent_mean.npy", "latent_logvar.npy"
_BLOCK = 512


def write(path: Path, samples: Iterable[Sample]) -> None:
    """Write a tar; the same samples give the same bytes.

    Members of each: json, latent_mean.npy, latent_logvar.npy (where there is one), text.npy. With media also mp4,
    jpg, png or webp, and txt, its first caption, so that loaders of image-text and video-text tars read it as it is.
    """
    with path.open("wb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            meta = {**sample.meta, "id": sample.id, "text_lengths": [len(text) for text in sample.texts]}
            _add(tar, f"{sample.id}.json", json.dumps(meta, sort_keys=True, ensure_ascii=True).encode())
            if sample.mean is not None:
                _add(tar, f"{sample.id}.{MEAN}", _npy(sample.mean))
            if sample.logvar is not None:
                _add(tar, f"{sample.id}.{LOGVAR}", _npy(sample.logvar))
            _add(tar, f"{sample.id}.text.npy", _npy(joined_texts(sample.texts)))
            if sample.media is not None:
                _add(tar, f"{sample.id}.{sample.media.suffix}", bytes(sample.media.data))
                _add(tar, f"{sample.id}.txt", "".join(sample.meta["captions"][:1]).encode(errors="replace"))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), 0, 0o644
    tar.addfile(info, io.BytesIO(data))


def _npy(array: NDArray[np.float16]) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


class TarShard:
    """The samples of a tar that `write` made, by position; arrays are views of the file's bytes.

    Opening walks the headers once and keeps 8 bytes a sample. Raises CurationError for a tar cut short.
    """

    def __init__(self, buffer: pa.Buffer, name: str) -> None:
        self._data, self._name = memoryview(buffer), name
        self._starts = array("q")
        key = None
        for member, at, _ in self._members(0):
            stem = member.partition(".")[0]
            if stem != key:
                self._starts.append(at)
                key = stem

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Sample]:
        return (self._sample(start) for start in self._starts)

    def __getitem__(self, position: int) -> Sample:
        return self._sample(self._starts[position])

    def _members(self, at: int) -> Iterator[tuple[str, int, memoryview]]:
        """(name, where its header is, body) of each member from `at` on, straight from the headers."""
        data = self._data
        while True:
            header = data[at : at + _BLOCK].tobytes()
            if len(header) < _BLOCK:
                raise CurationError(f"{self._name} is cut short at byte {at:,}: encode it again")
            if header[0] == 0:
                return
            try:
                size, member = int(header[124:135], 8), header[:100].rstrip(b"\0").decode()
            except ValueError as error:
                raise CurationError(f"{self._name} has no tar header at byte {at:,}: encode it again") from error
            body = data[at + _BLOCK : at + _BLOCK + size]
            if len(body) < size:
                raise CurationError(f"{self._name} is cut short in {member}: encode it again")
            yield member, at, body
            at += _BLOCK + (size + _BLOCK - 1) // _BLOCK * _BLOCK

    def _sample(self, start: int) -> Sample:
        key, bodies = "", dict[str, memoryview]()
        for member, _, body in self._members(start):
            stem, _, suffix = member.partition(".")
            if bodies and stem != key:
                break
            key, bodies[suffix] = stem, body
        try:
            meta = json.loads(bodies["json"].tobytes())
            mean, logvar = (_array(bodies[name]) if name in bodies else None for name in (MEAN, LOGVAR))
            texts = split_texts(_array(bodies["text.npy"]), meta.pop("text_lengths"))
            media = next((MediaFile(suffix, bodies[suffix]) for suffix in MEDIA if suffix in bodies), None)
            if mean is None and media is None:
                raise KeyError(MEAN)
            return Sample(meta.pop("id"), mean, logvar, texts, meta, media)
        except (KeyError, ValueError) as error:
            what = f"the sample {key} is incomplete or damaged ({error})"
            raise CurationError(f"{self._name}: {what}: encode it again") from error


def _array(body: memoryview) -> NDArray[np.float16]:
    """An .npy body as a view."""
    end = 10 + int.from_bytes(body[8:10], "little")
    shape = _shape(body[:end].tobytes())  # first: the rest may not even be numbers
    return np.frombuffer(body, np.float16, offset=end).reshape(shape)


@lru_cache
def _shape(header: bytes) -> tuple[int, ...]:
    """The shape that an .npy header says. Only fp16 in C order is read: no pickled objects."""
    if header[:8] != b"\x93NUMPY\x01\x00" or b"'<f2'" not in header or b"'fortran_order': False" not in header:
        raise ValueError("an array that is not fp16 in .npy version 1")
    shape = header[header.index(b"(") + 1 : header.index(b")")]
    return tuple(int(part) for part in shape.split(b",") if part.strip())
