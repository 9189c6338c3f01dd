"""Samples in WebDataset tars. The members of a sample are adjacent, and keys contain no dots. Tar headers carry no
timestamps, so equal content gives equal bytes."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic_core import from_json

from curation.errors import CurationError
from curation.shards.sample import MEDIA, Halfs, MediaFile, Sample, joined_texts, portable, restored, split_texts

SUFFIX = ".tar"
MEAN, LOGVAR = "latent_mean.npy", "latent_logvar.npy"
PART = "text_of_"
_PART = PART.encode()
_BLOCK = 512
_WRITE = 1 << 20
"""Bytes written at once: the page cache keeps them in larger pieces, which are mapped with fewer faults."""
_LATENTS = (MEAN.encode(), LOGVAR.encode())
_MEDIA = [(suffix, suffix.encode()) for suffix in MEDIA]


def write(path: Path, samples: Iterable[Sample]) -> None:
    """Write a tar; the same samples give the same bytes.

    Members of each: json, latent_mean.npy, latent_logvar.npy (where there is one), text.npy, and text_of_NAME.npy for
    each further text part. With media also mp4,
    jpg, png or webp, and txt, its first caption, so that loaders of image-text and video-text tars read it as it is.
    """
    with (
        path.open("wb", buffering=_WRITE) as out,
        tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for sample in samples:
            _add(tar, f"{sample.id}.json", _json(sample))
            if sample.mean is not None:
                _add(tar, f"{sample.id}.{MEAN}", _npy(sample.mean))
            if sample.logvar is not None:
                _add(tar, f"{sample.id}.{LOGVAR}", _npy(sample.logvar))
            _add(tar, f"{sample.id}.text.npy", _npy(joined_texts(sample.texts)))
            for name in sorted(sample.parts):
                _add(tar, f"{sample.id}.{PART}{name}.npy", _npy(joined_texts(sample.parts[name])))
            if sample.media is not None:
                _add(tar, f"{sample.id}.{sample.media.suffix}", bytes(sample.media.data))
                _add(tar, f"{sample.id}.txt", "".join(sample.meta["captions"][:1]).encode(errors="replace"))


def _json(sample: Sample) -> bytes:
    """The member json: meta, the id, and how many states each caption has in each text part."""
    lengths: dict[str, Any] = {"text_lengths": [len(text) for text in sample.texts]}
    if sample.parts:
        lengths["part_lengths"] = {name: [len(text) for text in sample.parts[name]] for name in sample.parts}
    meta = portable({**sample.meta, "id": sample.id, **lengths})
    return json.dumps(meta, sort_keys=True, ensure_ascii=True, allow_nan=False).encode()


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

    Opening walks the headers once and keeps where bodies are. Raises CurationError for a tar cut short.
    """

    def __init__(self, buffer: pa.Buffer, name: str) -> None:
        self._data, self._name = memoryview(buffer), name
        self._keys: list[bytes] = []
        self._members: list[dict[bytes, tuple[int, int]]] = []
        key = None
        for stem, suffix, place in self._headers():
            if stem != key:
                self._keys.append(stem)
                self._members.append({})
                key = stem
            self._members[-1][suffix] = place

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Sample]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> Sample:
        members = self._members[position]
        try:
            meta = from_json(self._body(members[b"json"]).tobytes())  # four times as fast as json.loads
            mean, logvar = (_array(self._body(members[key])) if key in members else None for key in _LATENTS)
            texts = split_texts(_array(self._body(members[b"text.npy"])), meta.pop("text_lengths", []))
            media = next((MediaFile(name, self._body(members[key])) for name, key in _MEDIA if key in members), None)
            if mean is None and media is None:
                raise KeyError(_LATENTS[0])
            parts = self._parts(members, meta.pop("part_lengths", {}))
            return Sample(meta.pop("id"), mean, logvar, texts, restored(meta), media, parts)
        except (KeyError, ValueError) as error:
            problem = f"no {error.args[0].decode()}" if isinstance(error.args[0], bytes) else str(error)
            what = f"the sample {self._keys[position].decode()} is incomplete or damaged ({problem})"
            raise CurationError(f"{self._name}: {what}: encode it again") from error

    def _parts(self, members: dict[bytes, tuple[int, int]], lengths: dict[str, list[int]]) -> dict[str, list[Halfs]]:
        """The further text parts by name; of a sample without captions each is an empty list."""
        names = {key: key[len(_PART) : -len(".npy")].decode() for key in members if key.startswith(_PART)}
        return {
            name: split_texts(_array(self._body(members[key])), lengths.get(name, []))
            for key, name in sorted(names.items())
        }

    def _body(self, place: tuple[int, int]) -> memoryview:
        return self._data[place[0] : place[1]]

    def _headers(self) -> Iterator[tuple[bytes, bytes, tuple[int, int]]]:
        """(key, suffix, first and last byte of the body) of each member, straight from the headers."""
        data, at, end = self._data, 0, len(self._data)
        while True:
            header = data[at : at + 136].tobytes()
            if at + _BLOCK > end:
                raise CurationError(f"{self._name} is cut short at byte {at:,}: encode it again")
            if header[0] == 0:
                return
            stem, _, suffix = header[:100].partition(b"\0")[0].partition(b".")
            try:
                size = int(header[124:135], 8)
            except ValueError as error:
                raise CurationError(f"{self._name} has no tar header at byte {at:,}: encode it again") from error
            first = at + _BLOCK
            if first + size > end:
                name = f"{stem.decode(errors='replace')}.{suffix.decode(errors='replace')}"
                raise CurationError(f"{self._name} is cut short in {name}: encode it again")
            yield stem, suffix, (first, first + size)
            at = first + (size + _BLOCK - 1) // _BLOCK * _BLOCK


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
