"""Samples in WebDataset tars: members of a sample adjacent, keys without dots, headers without clocks or owners."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.shards.sample import Sample, joined_texts, split_texts

SUFFIX = ".tar"
_BLOCK = 512


def write(path: Path, samples: Iterable[Sample]) -> None:
    """Write a tar; the same samples give the same bytes. Members: json, latent_mean.npy, latent_logvar.npy, text.npy."""
    with path.open("wb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            meta = {**sample.meta, "id": sample.id, "text_lengths": [len(text) for text in sample.texts]}
            _add(tar, f"{sample.id}.json", json.dumps(meta, sort_keys=True, ensure_ascii=True).encode())
            _add(tar, f"{sample.id}.latent_mean.npy", _npy(sample.mean))
            if sample.logvar is not None:
                _add(tar, f"{sample.id}.latent_logvar.npy", _npy(sample.logvar))
            _add(tar, f"{sample.id}.text.npy", _npy(joined_texts(sample.texts)))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), 0, 0o644
    tar.addfile(info, io.BytesIO(data))


def _npy(array: NDArray[np.float16]) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def read(stream: BinaryIO | bytes, name: str) -> Iterator[Sample]:
    """Samples in order; arrays are views of the file's bytes. Raises CurationError for a tar cut short or out of order."""
    data = stream if isinstance(stream, bytes) else stream.read()
    members: dict[str, memoryview] = {}
    key = ""
    for member, body in _members(memoryview(data), name):
        stem, _, suffix = member.partition(".")
        if stem != key and members:
            yield _sample(key, members, name)
            members = {}
        key = stem
        members[suffix] = body
    if members:
        yield _sample(key, members, name)


def _members(data: memoryview, name: str) -> Iterator[tuple[str, memoryview]]:
    """(member name, body) straight from the headers: the layout that `write` makes, nothing else."""
    at = 0
    while True:
        header = bytes(data[at : at + _BLOCK])
        if len(header) < _BLOCK:
            raise CurationError(f"{name} is cut short at byte {at:,}: encode it again")
        if header[0] == 0:
            return
        size = int(header[124:135], 8)
        body = data[at + _BLOCK : at + _BLOCK + size]
        if len(body) < size:
            raise CurationError(f"{name} is cut short in its member at byte {at:,}: encode it again")
        yield header[:100].rstrip(b"\0").decode(), body
        at += _BLOCK + -(-size // _BLOCK) * _BLOCK


def _sample(key: str, members: dict[str, memoryview], name: str) -> Sample:
    try:
        meta = json.loads(bytes(members["json"]))
        mean, text = _array(members["latent_mean.npy"]), _array(members["text.npy"])
        logvar = _array(members["latent_logvar.npy"]) if "latent_logvar.npy" in members else None
    except (KeyError, ValueError) as error:
        raise CurationError(f"{name}: the sample {key} is incomplete or damaged ({error}): encode it again") from error
    return Sample(key, mean, logvar, split_texts(text, meta.pop("text_lengths")), meta)


def _array(body: memoryview) -> NDArray[np.float16]:
    """An .npy body as a view. Only fp16 in C order is read: no pickled objects."""
    header = int.from_bytes(body[8:10], "little")
    described = bytes(body[10 : 10 + header])
    if body[:8] != b"\x93NUMPY\x01\x00" or b"'<f2'" not in described or b"'fortran_order': False" not in described:
        raise ValueError("an array that is not fp16 in .npy version 1")
    shape = described[described.index(b"(") + 1 : described.index(b")")]
    dimensions = tuple(int(part) for part in shape.split(b",") if part.strip())
    return np.frombuffer(body, np.float16, offset=10 + header).reshape(dimensions)
