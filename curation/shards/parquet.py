"""Samples in Parquet: raw fp16 bytes in small row groups, no dictionary, no statistics, no compression."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.shards.sample import Sample, joined_texts, split_texts

SUFFIX = ".parquet"
ROW_GROUP = 128
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("latent_mean", pa.large_binary()),
        ("logvar_shape", pa.list_(pa.int32())),
        ("latent_logvar", pa.large_binary()),
        ("text_shape", pa.list_(pa.int32())),
        ("text", pa.large_binary()),
        ("text_lengths", pa.list_(pa.int32())),
        ("meta", pa.string()),
    ]
)


def write(path: Path, samples: Iterable[Sample]) -> None:
    """Write a Parquet file in row groups of 128; the same samples give the same bytes."""
    rows = []
    options = {"use_dictionary": False, "write_statistics": False, "compression": "none"}
    with pq.ParquetWriter(path, SCHEMA, **options) as writer:
        for sample in samples:
            rows.append(_row(sample))
            if len(rows) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


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


def read(stream: BinaryIO | bytes, name: str) -> Iterator[Sample]:
    """Samples in order. Raises CurationError for a damaged file."""
    try:
        file = pq.ParquetFile(pa.BufferReader(stream) if isinstance(stream, bytes) else stream)
        for group in range(file.num_row_groups):
            yield from _samples(file.read_row_group(group))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CurationError(f"{name} is damaged or cut short ({' '.join(str(error).split())[:200]}): encode it again") from error


def _samples(table: pa.Table) -> Iterator[Sample]:
    arrays = ("latent_mean", "latent_logvar", "text")
    small = table.drop_columns(list(arrays)).to_pylist()
    mean, logvar, text = (table[name].combine_chunks() for name in arrays)
    for i, row in enumerate(small):
        tokens = _array(text[i], row["text_shape"])
        yield Sample(
            row["id"],
            _array(mean[i], row["shape"]),
            None if row["logvar_shape"] is None else _array(logvar[i], row["logvar_shape"]),
            split_texts(tokens, row["text_lengths"]),
            json.loads(row["meta"]),
        )


def _array(scalar: pa.LargeBinaryScalar, shape: list[int]) -> NDArray[np.float16]:
    return np.frombuffer(scalar.as_buffer(), np.float16).reshape(shape)
