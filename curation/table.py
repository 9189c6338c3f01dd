"""Columns of a whole run's scores, read as they are named: what a decision looks at."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from curation import chunkfile
from curation.errors import UsageError
from curation.load import suggest
from curation.predicates import as_array, as_kind, kind_of
from curation.storage import Store

REPEATS = "caption_repeats"
"""Derived here: how many records share the main caption, case and blanks aside."""


COMPARED = {"bytes": "sha256", "pixels": "pixel_sha256", "phash": "phash", "embedding": "embedding"}
"""What `duplicates: {on: ...}` compares."""


class Scores:
    """The rows of scores/ in the order of the files; columns are loaded once, when first named."""

    def __init__(self, store: Store) -> None:
        self.store = store
        names = [entry.name for entry in store.list(chunkfile.SCORES) if chunkfile.is_scores(entry.name)]
        if not names:
            raise UsageError(f"{store.root} holds no scores yet: `curate run` makes them")
        paths = [store.path(name) for name in sorted(names)]
        format = ds.ParquetFileFormat(dictionary_columns={"error_stage", "scored.list.element"})
        self._dataset = ds.dataset(paths, format=format, filesystem=store.filesystem)
        self.known = set(self._dataset.schema.names) | {REPEATS}
        self._columns: dict[str, Any] = {}
        self.rows = self._dataset.count_rows()

    def load(self, names: Iterable[str]) -> None:
        """Read the columns among `names` that are not there yet, in one pass."""
        wanted = sorted({self._stored(name) for name in names} - set(self._columns))
        present = [name for name in wanted if name in self._dataset.schema.names]
        if present:
            table = self._dataset.to_table(columns=present)
            self._columns |= {name: table[name] for name in present}
        self._columns |= {name: pa.nulls(self.rows) for name in wanted if name not in self._columns}

    @staticmethod
    def _stored(name: str) -> str:
        return "extra" if name.startswith("extra.") else "caption" if name == REPEATS else name

    def __getitem__(self, name: str) -> Any:
        """A column by its name in expressions: an Arrow column or a NumPy array."""
        if name not in self.known and not name.startswith("extra."):
            raise UsageError(
                f"the scores have no column '{name}'{suggest(name, self.known)}; there are: {', '.join(sorted(self.known))}"
            )
        if name not in self._columns:
            self.load([name])
        if name.startswith("extra."):
            self._columns[name] = self._extra(name.removeprefix("extra."))
        if name == REPEATS:
            self._columns[name] = caption_repeats(self._columns["caption"])
        return self._columns[name]

    def _extra(self, key: str) -> Any:
        values = [json.loads(text).get(key) if text else None for text in self._columns["extra"].to_pylist()]
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array([None if value is None else str(value) for value in values])

    def scored(self, stage: str) -> NDArray[np.bool_]:
        """Which rows have the stage's cells."""
        self.load(["scored"])
        out = np.zeros(self.rows, bool)
        offset = 0
        for chunk in _chunks(self._columns["scored"]):
            values = chunk.flatten()
            hit = pc.equal(
                values.cast(pa.string())
                if len(values) and not pa.types.is_dictionary(values.type)
                else values,
                stage,
            )
            rows = pc.list_parent_indices(chunk).to_numpy()[hit.to_numpy(zero_copy_only=False).astype(bool)]
            out[offset + rows] = True
            offset += len(chunk)
        return out

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as float64, NaN where it is null or no number."""
        column = as_array(self[name])
        if kind_of(column.type) != "number":
            return np.full(self.rows, np.nan)
        return as_kind(column, "number").to_numpy(zero_copy_only=False)


def _chunks(column: Any) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def caption_repeats(captions: Any) -> NDArray[np.int64]:
    """How many rows share each row's caption, lower-cased and with single blanks; 0 where there is none."""
    normal = pc.utf8_lower(
        pc.utf8_trim_whitespace(pc.replace_substring_regex(captions.cast(pa.string()), r"\s+", " "))
    )
    codes = codes_of(normal)
    counts = np.bincount(codes[codes >= 0], minlength=1)
    return np.where(codes >= 0, counts[np.maximum(codes, 0)], 0).astype(np.int64)


def codes_of(column: Any) -> NDArray[np.int64]:
    """Equal values -> equal numbers >= 0; null -> -1."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_null(column.type):
        return np.full(len(column), -1, np.int64)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def unit_vectors(
    column: pa.ChunkedArray, alive: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(positions within `alive` that have an embedding, float32 [n, D] of unit length)."""
    taken = column.take(pa.array(alive))
    valid = (
        pc.is_valid(taken).to_numpy()
        if isinstance(taken, pa.ChunkedArray)
        else pc.is_valid(taken).to_numpy(zero_copy_only=False)
    )
    rows = np.flatnonzero(valid)
    parts = [
        chunk.drop_null().flatten().to_numpy(zero_copy_only=False)
        for chunk in (taken.chunks if isinstance(taken, pa.ChunkedArray) else [taken])
    ]
    flat = np.concatenate(parts).astype(np.float32) if parts else np.empty(0, np.float32)
    vectors = flat.reshape(len(rows), -1) if len(rows) else np.empty((0, 1), np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows, np.ascontiguousarray(vectors / np.where(length > 0, length, 1))
