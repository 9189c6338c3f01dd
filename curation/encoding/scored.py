"""The rows of scores/ by their place in the decision, whatever the files are and in which order they lie."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.identities import first_halves
from curation.scoring import chunkfile
from curation.stores.ahead import READ_BYTES, grouped, read_ahead
from curation.stores.storage import Entry, Store

Ints = NDArray[np.int64]
_HEX = re.compile(rb"[0-9a-f]{32}")


class Places:
    """Where an id stands in the sorted ids of a run: 8 bytes a record and a binary search, no hash table."""

    def __init__(self, ids: pa.Array) -> None:
        """`ids` ascend, as the rows of selection.parquet do."""
        self.ids = ids
        keys = first_halves(ids)
        self._hex = keys is not None
        self._keys = _keys(ids, False) if keys is None else keys

    def of(self, ids: pa.Array) -> Ints:
        """The place of each id; -1 where there is none such."""
        keys = _keys(ids, self._hex)
        at = np.searchsorted(self._keys, keys)
        found, left = np.full(len(ids), -1, np.int64), np.arange(len(ids))
        while len(left):  # more than once only where the first halves of two ids are equal
            left = left[at[left] < len(self._keys)]
            left = left[self._keys[at[left]] == keys[left]]
            same = pc.equal(ids.take(pa.array(left)).cast(self.ids.type), self.ids.take(pa.array(at[left])))
            is_same = same.to_numpy(zero_copy_only=False).astype(bool)
            found[left[is_same]] = at[left[is_same]]
            left = left[~is_same]
            at[left] += 1
        return found


def _keys(ids: pa.Array, is_hex: bool) -> NDArray[np.uint64]:
    """Numbers in the order of the ids."""
    if is_hex and (keys := first_halves(ids)) is not None:
        return keys
    texts = (identity.encode() for identity in ids.to_pylist())
    return np.array([_key(text, is_hex) for text in texts], np.uint64)


def _key(text: bytes, is_hex: bool) -> int:
    if is_hex:
        return int(text[:16], 16) if _HEX.fullmatch(text) else 0
    return int.from_bytes(text[:8].ljust(8, b"\0"), "big")


class ScoredRows:
    """What scores/ holds of the records of a decision; `ids` are all of them, ascending."""

    def __init__(self, store: Store, ids: pa.ChunkedArray) -> None:
        self.store = store
        self.ids: pa.Array = ids.cast(pa.large_string()).combine_chunks()
        self.places = Places(self.ids)

    @cached_property
    def _files(self) -> list[list[Entry]]:
        return grouped(chunkfile.entries(self.store), lambda entry: entry.size, READ_BYTES)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, as the first file has them: all files of a finished scoring are of one plan."""
        with self.store.open(self._files[0][0].name) as file:
            return pq.read_schema(file).remove_metadata()

    def marked(self, rows: Ints) -> NDArray[np.bool_]:
        """bool over all records: which are among `rows`."""
        mask = np.zeros(len(self.ids), bool)
        mask[rows] = True
        return mask

    def rows_of(self, ids: Iterable[str]) -> Ints:
        """Of ids that are among the decided."""
        return self.places.of(pa.array(list(ids), pa.large_string()))

    def scan(self, columns: Iterable[str], wanted: NDArray[np.bool_]) -> Iterator[tuple[Ints, pa.Table]]:
        """One pass over scores/: the `wanted` records with those of the columns that there are, in the files' order.

        Yields their rows in the decision and a table. A few files are read ahead, so that memory does not grow with the
        records. Raises CurationError for an id that was never decided.
        """
        names = [name for name in dict.fromkeys(["id", *columns]) if name in self.schema.names]
        for table in read_ahead(lambda group: self._read(group, names), self._files):
            rows = self.places.of(table["id"].combine_chunks())
            if len(rows) and rows.min() < 0:
                raise CurationError(
                    f"{self.store.root}/scores changed since the decision was made: run the same command again"
                )
            some = wanted[rows]
            if some.any():
                yield rows[some], table.filter(pa.array(some))

    def _read(self, group: Sequence[Entry], names: list[str]) -> pa.Table:
        schema = pa.schema([self.schema.field(name) for name in names])
        tables = []
        for entry in group:
            with self.store.open(entry.name) as file:
                parquet = pq.ParquetFile(file, pre_buffer=not self.store.local)
                there = [name for name in names if name in parquet.schema_arrow.names]
                tables.append(parquet.read(there, use_threads=False).replace_schema_metadata())
        whole = pa.concat_tables(tables, promote_options="permissive")
        missing = {name: pa.nulls(whole.num_rows, schema.field(name).type) for name in names}
        arrays = [whole[name] if name in whole.column_names else missing[name] for name in names]
        return pa.table(arrays, names=names).cast(schema).combine_chunks()
