"""Samples in Parquet: raw fp16 bytes in small row groups, no dictionary, no statistics, no compression."""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.shards.sample import Halfs, MediaFile, Sample, joined_texts, split_texts

SUFFIX = ".parquet"
ROW_GROUP, GROUP_BYTES = 64, 32_000_000
"""What one random access reads: so many rows, 2 to 10 MB at 256 px; fewer where the first row's bytes are many."""
GROUPS_AT_HAND = 4
ARRAYS = ("latent_mean", "latent_logvar", "text", "media")
Bytes = NDArray[np.uint8]
_SHAPE = pa.list_(pa.int32())


def schema(latent_bytes: int | None, media: bool = False) -> pa.Schema:
    """Columns of a shard. All its means have one shape, so that they lie in one block; the rest may vary.

    latent_bytes  of a mean; None for a shard of media alone
    media         whether there are the columns `media` (a file's bytes) and `media_type` (mp4, jpg, png, webp)
    """
    latents = [
        ("shape", _SHAPE),
        ("latent_mean", pa.binary(latent_bytes or 1)),
        ("logvar_shape", _SHAPE),
        ("latent_logvar", pa.large_binary()),
    ]
    return pa.schema(
        [
            ("id", pa.string()),
            *(latents if latent_bytes is not None else []),
            ("text_shape", _SHAPE),
            ("text", pa.large_binary()),
            ("text_lengths", _SHAPE),
            ("meta", pa.string()),
            *([("media_type", pa.string()), ("media", pa.large_binary())] if media else []),
        ]
    )


def write(path: Path, samples: Iterable[Sample]) -> None:
    """Write a Parquet file in row groups of 64 or 32 MB; the same samples give the same bytes. At least one sample."""
    rows = (_row(sample) for sample in samples)
    first = next(rows, {"latent_mean": b"?"})
    columns = schema(len(first["latent_mean"]) if "latent_mean" in first else None, "media" in first)
    weight = sum(len(first.get(name) or b"") for name in ARRAYS)
    size = max(1, min(ROW_GROUP, GROUP_BYTES // max(weight, 1)))
    group = [first, *islice(rows, size - 1)] if "id" in first else []
    options = {"use_dictionary": False, "write_statistics": False, "compression": "none"}
    with pq.ParquetWriter(path, columns, **options) as writer:
        while group:
            writer.write_table(pa.Table.from_pylist(group, columns))
            group = list(islice(rows, size))


def _row(sample: Sample) -> dict[str, Any]:
    text = joined_texts(sample.texts)
    row: dict[str, Any] = {"id": sample.id}
    if sample.mean is not None:
        row |= {"shape": list(sample.mean.shape), "latent_mean": sample.mean.tobytes()}
        row["logvar_shape"] = None if sample.logvar is None else list(sample.logvar.shape)
        row["latent_logvar"] = None if sample.logvar is None else sample.logvar.tobytes()
    if sample.media is not None:
        row |= {"media_type": sample.media.suffix, "media": sample.media.data}
    return row | {
        "text_shape": list(text.shape),
        "text": text.tobytes(),
        "text_lengths": [len(part) for part in sample.texts],
        "meta": json.dumps(sample.meta, sort_keys=True, ensure_ascii=True),
    }


class ParquetShard:
    """The samples of a Parquet file that `write` made, by position; a row group is read as a whole.

    The last four row groups stay at hand: an order that jumps less than that costs no more than reading in
    order. Raises CurationError for a damaged file.
    """

    def __init__(self, buffer: pa.Buffer, name: str) -> None:
        self._name = name
        try:
            self._file = pq.ParquetFile(pa.BufferReader(buffer))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        groups = self._file.metadata.num_row_groups
        self._rows = int(self._file.metadata.row_group(0).num_rows) if groups else ROW_GROUP
        self._group = lru_cache(GROUPS_AT_HAND)(self._read_group)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[Sample]:
        for group in range(self._file.num_row_groups):
            yield from self._group(group)

    def __getitem__(self, position: int) -> Sample:
        if not 0 <= position < len(self):
            raise IndexError(position)
        return self._group(position // self._rows)[position % self._rows]

    def _read_group(self, number: int) -> list[Sample]:
        try:
            return _samples(self._file.read_row_group(number, use_threads=False))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> CurationError:
        what = " ".join(str(error).split())[:200]
        return CurationError(f"{self._name} is damaged or cut short ({what}): encode it again")


def _samples(table: pa.Table) -> list[Sample]:
    arrays = [name for name in ARRAYS if name in table.column_names]
    small = table.drop_columns(arrays).to_pylist()
    parts = {name: _values(table[name].combine_chunks()) for name in arrays}
    return [_sample(row, {name: values[i] for name, values in parts.items()}) for i, row in enumerate(small)]


def _sample(row: dict[str, Any], parts: dict[str, Bytes]) -> Sample:
    def halfs(name: str, shape: str) -> Halfs | None:
        given = row.get(shape)
        return None if given is None else parts[name].view(np.float16).reshape(given)

    mean, logvar, text = (
        halfs("latent_mean", "shape"),
        halfs("latent_logvar", "logvar_shape"),
        halfs("text", "text_shape"),
    )
    media = MediaFile(row["media_type"], parts["media"].data) if row.get("media_type") else None
    if text is None or (mean is None and media is None):
        raise ValueError(f"the sample {row['id']} has no latent_mean or media, or no text")
    return Sample(row["id"], mean, logvar, split_texts(text, row["text_lengths"]), json.loads(row["meta"]), media)


def _values(column: pa.Array) -> list[Bytes]:
    """Each row's bytes: views of the column's one buffer."""
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        bounds: NDArray[np.int64] = (np.arange(len(column) + 1, dtype=np.int64) + column.offset) * width
        values = column.buffers()[1]
    else:
        bounds = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
        values = column.buffers()[2]
    flat = np.frombuffer(values, np.uint8) if values is not None else np.empty(0, np.uint8)
    limits = bounds.tolist()
    return [flat[a:b] for a, b in pairwise(limits)]
