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
from curation.shards.sample import Halfs, Sample, joined_texts, split_texts

SUFFIX = ".parquet"
ROW_GROUP = 64
"""What one random access reads: 2 to 10 MB at 256 px."""
GROUPS_AT_HAND = 4
_SHAPE = pa.list_(pa.int32())


def schema(latent_bytes: int) -> pa.Schema:
    """Columns of a shard. All its means have one shape, so that they lie in one block; the rest may vary."""
    return pa.schema(
        [
            ("id", pa.string()),
            ("shape", _SHAPE),
            ("latent_mean", pa.binary(latent_bytes)),
            ("logvar_shape", _SHAPE),
            ("latent_logvar", pa.large_binary()),
            ("text_shape", _SHAPE),
            ("text", pa.large_binary()),
            ("text_lengths", _SHAPE),
            ("meta", pa.string()),
        ]
    )


def write(path: Path, samples: Iterable[Sample]) -> None:
    """Write a Parquet file in row groups of 64; the same samples give the same bytes. At least one sample."""
    rows = (_row(sample) for sample in samples)
    group = list(islice(rows, ROW_GROUP))
    columns = schema(len(group[0]["latent_mean"]) if group else 1)
    options = {"use_dictionary": False, "write_statistics": False, "compression": "none"}
    with pq.ParquetWriter(path, columns, **options) as writer:
        while group:
            writer.write_table(pa.Table.from_pylist(group, columns))
            group = list(islice(rows, ROW_GROUP))


def _row(sample: Sample) -> dict[str, Any]:
    text = joined_texts(sample.texts)
    return {
        "id": sample.id,
        "shape": list(sample.mean.shape),
        "latent_mean": sample.mean.tobytes(),
        "logvar_shape": None if sample.logvar is None else list(sample.logvar.shape),
        "latent_logvar": None if sample.logvar is None else sample.logvar.tobytes(),
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
        self._group = lru_cache(GROUPS_AT_HAND)(self._read_group)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def __iter__(self) -> Iterator[Sample]:
        for group in range(self._file.num_row_groups):
            yield from self._group(group)

    def __getitem__(self, position: int) -> Sample:
        if not 0 <= position < len(self):
            raise IndexError(position)
        return self._group(position // ROW_GROUP)[position % ROW_GROUP]

    def _read_group(self, number: int) -> list[Sample]:
        try:
            return _samples(self._file.read_row_group(number, use_threads=False))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> CurationError:
        what = " ".join(str(error).split())[:200]
        return CurationError(f"{self._name} is damaged or cut short ({what}): encode it again")


def _samples(table: pa.Table) -> list[Sample]:
    arrays = ("latent_mean", "latent_logvar", "text")
    small = table.drop_columns(list(arrays)).to_pylist()
    mean, logvar, text = (_values(table[name].combine_chunks()) for name in arrays)
    return [
        Sample(
            row["id"],
            mean[i].reshape(row["shape"]),
            None if row["logvar_shape"] is None else logvar[i].reshape(row["logvar_shape"]),
            split_texts(text[i].reshape(row["text_shape"]), row["text_lengths"]),
            json.loads(row["meta"]),
        )
        for i, row in enumerate(small)
    ]


def _values(column: pa.Array) -> list[Halfs]:
    """Each row's bytes as fp16: views of the column's one buffer."""
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        bounds: NDArray[np.int64] = (np.arange(len(column) + 1, dtype=np.int64) + column.offset) * width
        values = column.buffers()[1]
    else:
        bounds = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
        values = column.buffers()[2]
    flat = np.frombuffer(values, np.uint8) if values is not None else np.empty(0, np.uint8)
    limits = bounds.tolist()
    return [flat[a:b].view(np.float16) for a, b in pairwise(limits)]
