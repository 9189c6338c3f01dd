"""Samples in Parquet: raw fp16 bytes, one page a column and row group, nothing compressed, encoded or counted.

Any Parquet reader reads them. Ours takes latents and text straight from the mapped file: such a page ends with its
plain values, so that row counts and lengths alone say where each sample's bytes lie.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import from_json

from curation.errors import CurationError
from curation.shards.sample import Halfs, MediaFile, Sample, joined_texts, portable, restored, split_texts

SUFFIX = ".parquet"
ROW_GROUP, GROUP_BYTES = 64, 32_000_000
"""What lies in memory while a shard is written: so many rows, fewer where the first row's bytes are many."""
LARGE = ("latent_mean", "latent_logvar", "text", "media")
SHAPES = {"latent_mean": "shape", "latent_logvar": "logvar_shape", "text": "text_shape"}
PART, PART_SHAPE, PART_LENGTHS = "text_of_", "text_shape_of_", "text_lengths_of_"
"""Columns of a further text part, before its name."""
_SHAPE = pa.list_(pa.int32())
_PAGE = 1 << 30
_HEADER = 60
"""More than the header of a page takes."""


def schema(mean: int | None, logvar: int | None, media: bool = False, parts: Sequence[str] = ()) -> pa.Schema:
    """Columns of a shard. All its latents have one shape, and nothing is null: so values lie one after another.

    mean, logvar  bytes of one, None where there are none
    media         whether there are files: `media`, its length `media_bytes`, `media_type` (mp4, jpg, png, webp)
    parts         names of further text parts: columns as those of `text`, text_of_NAME and so on
    """
    columns = {"id": pa.string()}
    if mean is not None:
        columns |= {"shape": _SHAPE, "latent_mean": pa.binary(mean)}
    if logvar is not None:
        columns |= {"logvar_shape": _SHAPE, "latent_logvar": pa.binary(logvar)}
    columns |= {"text_shape": _SHAPE, "text": pa.binary(), "text_lengths": _SHAPE, "meta": pa.string()}
    for name in parts:
        columns |= {PART_SHAPE + name: _SHAPE, PART + name: pa.binary(), PART_LENGTHS + name: _SHAPE}
    if media:
        columns |= {"media_type": pa.string(), "media_bytes": pa.int64(), "media": pa.binary()}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def write(path: Path, samples: Iterable[Sample]) -> None:
    """Write a Parquet file in row groups of 64 or 32 MB; the same samples give the same bytes.

    Raises ArrowInvalid for samples of which not all have the same parts, or latents of different shapes.
    """
    rows = (_row(sample) for sample in samples)
    first = next(rows, {"latent_mean": b" "})
    sizes = {name: len(first[name]) for name in _large(first)}
    parts = [name.removeprefix(PART) for name in sizes if name.startswith(PART)]
    columns = schema(sizes.get("latent_mean"), sizes.get("latent_logvar"), "media" in sizes, parts)
    count = max(1, min(ROW_GROUP, GROUP_BYTES // max(1, sum(sizes.values()))))
    group = [first, *islice(rows, count - 1)] if "id" in first else []
    plain = dict.fromkeys(_large(columns.names), "PLAIN")
    options = {"use_dictionary": False, "write_statistics": False, "compression": "none"}
    with pq.ParquetWriter(path, columns, data_page_size=_PAGE, column_encoding=plain, **options) as writer:
        while group:
            if any(row.keys() != first.keys() for row in group):
                raise pa.ArrowInvalid(
                    "samples with and without a log-variance, a text part or media do not fit into one shard"
                )
            writer.write_table(pa.Table.from_pylist(group, columns))
            group = list(islice(rows, count))


def _row(sample: Sample) -> dict[str, Any]:
    text = joined_texts(sample.texts)
    row: dict[str, Any] = {"id": sample.id}
    if sample.mean is not None:
        row |= {"shape": list(sample.mean.shape), "latent_mean": sample.mean.tobytes()}
    if sample.logvar is not None:
        row |= {"logvar_shape": list(sample.logvar.shape), "latent_logvar": sample.logvar.tobytes()}
    if sample.media is not None:
        data = sample.media.data
        row |= {"media_type": sample.media.suffix, "media_bytes": len(data), "media": bytes(data)}
    for name, texts in sorted(sample.parts.items()):
        joined = joined_texts(texts)
        row |= {PART_SHAPE + name: list(joined.shape), PART + name: joined.tobytes()}
        row[PART_LENGTHS + name] = [len(part) for part in texts]
    return row | {
        "text_shape": list(text.shape),
        "text": text.tobytes(),
        "text_lengths": [len(part) for part in sample.texts],
        "meta": json.dumps(portable(sample.meta), sort_keys=True, ensure_ascii=True, allow_nan=False),
    }


def _large(names: Iterable[str]) -> list[str]:
    """The columns whose values are taken straight from the file."""
    there = list(names)
    return [name for name in LARGE if name in there] + sorted(name for name in there if name.startswith(PART))


def _shape_column(name: str) -> str:
    return SHAPES.get(name) or PART_SHAPE + name.removeprefix(PART)


class ParquetShard:
    """The samples of a Parquet file that `write` made, by position in any order; arrays are views of its bytes.

    Opening reads the small columns and finds the large ones. Raises CurationError for a damaged or foreign file.
    """

    def __init__(self, buffer: pa.Buffer, name: str) -> None:
        self._buffer, self._name = buffer, name
        try:
            with pq.ParquetFile(pa.BufferReader(buffer)) as file:
                names = file.schema_arrow.names
                if "text" not in names or not {"latent_mean", "media"} & set(names):
                    raise ValueError("it has no column latent_mean or media, or no text")
                large = _large(names)
                small = file.read([column for column in names if column not in large], use_threads=False)
                self._small: dict[str, list[Any]] = {column: small[column].to_pylist() for column in small.column_names}
                self._rows = file.metadata.num_rows
                self._starts = {column: self._found(file, column) for column in large}
                self._parts = [column.removeprefix(PART) for column in large if column.startswith(PART)]
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error

    def _found(self, file: pq.ParquetFile, column: str) -> list[int]:
        """Where each value of a large column begins; text and media have their length in 4 bytes before them."""
        if column == "media":
            return _starts(file, column, self._small["media_bytes"], 4)
        sizes = [2 * prod(shape) for shape in self._small[_shape_column(column)]]
        return _starts(file, column, sizes, 4 if column == "text" or column.startswith(PART) else 0)

    def __len__(self) -> int:
        return int(self._rows)

    def __iter__(self) -> Iterator[Sample]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> Sample:
        if not 0 <= position < len(self):
            raise IndexError(position)
        small = self._small
        try:
            return Sample(
                small["id"][position],
                self._halfs("latent_mean", position),
                self._halfs("latent_logvar", position),
                self._texts("text", "text_lengths", position),
                restored(from_json(small["meta"][position])),
                self._media(position),
                {name: self._texts(PART + name, PART_LENGTHS + name, position) for name in self._parts},
            )
        except ValueError as error:
            raise self._damaged(error) from error

    def _texts(self, column: str, lengths: str, position: int) -> list[Halfs]:
        tokens = self._halfs(column, position)
        assert tokens is not None
        return split_texts(tokens, self._small[lengths][position])

    def _halfs(self, column: str, position: int) -> Halfs | None:
        if column not in self._starts:
            return None
        start, shape = self._starts[column][position], self._small[_shape_column(column)][position]
        count = prod(shape)
        if start % 2:  # numpy is slow where numbers do not begin at even addresses
            data = self._buffer.slice(start, 2 * count).to_pybytes()
            return np.frombuffer(data, np.float16).reshape(shape)
        return np.frombuffer(self._buffer, np.float16, count, start).reshape(shape)

    def _media(self, position: int) -> MediaFile | None:
        if "media" not in self._starts:
            return None
        start, size = self._starts["media"][position], self._small["media_bytes"][position]
        return MediaFile(self._small["media_type"][position], memoryview(self._buffer)[start : start + size])

    def _damaged(self, error: Exception) -> CurationError:
        what = " ".join(str(error).split())[:200]
        return CurationError(f"{self._name} is damaged or cut short ({what}): encode it again")


def _starts(file: pq.ParquetFile, name: str, sizes: list[int], before: int) -> list[int]:
    """Where each row's value of a column begins in the file: plain values of these sizes, so many bytes before each.

    Raises ValueError where a row group's values are not one plain page.
    """
    starts: list[int] = []
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        column = group.column(next(i for i in range(group.num_columns) if group.column(i).path_in_schema == name))
        rows = sizes[len(starts) : len(starts) + group.num_rows]
        at = column.data_page_offset + column.total_compressed_size - sum(rows) - before * len(rows)
        header = at - column.data_page_offset
        if column.compression != "UNCOMPRESSED" or not 0 < header < _HEADER or column.has_dictionary_page:
            raise ValueError(f"the column {name} is not laid out as this program writes it")
        for size in rows:
            starts.append(at + before)
            at += before + size
    return starts
