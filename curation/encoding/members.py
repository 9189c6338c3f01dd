"""The records of every shard, sorted out of scores/.

One pass deals them into temporary files, one for some shards each, from which the shards' own files are made in order.
Memory is bounded by one such file; the number of passes does not grow with the records.
"""

import io
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.captions.stage import GENERATED, GENERATED_SOURCE
from curation.encoding.before import ROW, Before
from curation.encoding.captions import Caption, captions_of, own_captions
from curation.encoding.deal import Ints
from curation.encoding.jobs import MEMBER_SCHEMA, Contents, ShardJob
from curation.encoding.scored import ScoredRows
from curation.encoding.spool import Spool
from curation.record import BASE_SCHEMA
from curation.stores.ahead import grouped

PART_RECORDS, MOST_PARTS = 20_000, 256
"""Records of a temporary file, and how many files there are at most: beyond 5 million records they are larger."""
_STORED = tuple(MEMBER_SCHEMA.names[:12])
_MEMBER = (*_STORED, "captions", "extra", GENERATED, GENERATED_SOURCE)
_NO_SCORES = frozenset(_MEMBER) | {field.name for field in BASE_SCHEMA} | {"sha256", "pixel_sha256"}
_NO_SCORES |= {"original_width", "original_height"}
_JSON = json.JSONEncoder(sort_keys=True)


def write_members(
    scored: ScoredRows,
    jobs: Sequence[ShardJob],
    members: Mapping[ShardJob, Ints],
    contents: Contents,
    most: int = PART_RECORDS,
) -> Generator[ShardJob, None, None]:
    """Write the job files of `jobs`, anew where they exist: a record's source may have moved since.

    members  the rows of each job's records, in order
    most     records of a temporary file

    Yields each job as soon as its file is there, so that workers begin while those of others are still made.
    """
    parts = _parts(jobs, most)
    part_of = np.full(len(scored.ids), -1, np.int32)
    for number, part in enumerate(parts):
        for job in part:
            part_of[members[job]] = number
    with scored.store.workspace() as folder:
        before = Before(scored, part_of, Spool(folder, "before"))
        columns = _Columns.of(scored.schema, contents)
        spool = Spool(folder, "members")
        for rows, table in scored.scan(columns.names, part_of >= 0):
            spool.add(part_of[rows], table.append_column(ROW, pa.array(rows)))
            before.note(rows, table)
        spool.finish()
        before.finish()
        donors = _captions(scored, contents.donors(_ids(scored, part_of)) if contents.choices else set(), columns)
        for number, part in enumerate(parts):
            table = spool.read(number)
            assert table is not None
            made = columns.members(table, contents, donors, before.read(number, table))
            order, where = np.argsort(table[ROW].to_numpy()), np.sort(table[ROW].to_numpy())
            for job in part:
                own = made.take(pa.array(order[np.searchsorted(where, members[job])]))
                buffer = io.BytesIO()
                pq.write_table(own, buffer, compression="zstd")
                scored.store.write(job.members, buffer.getvalue())
                yield job


def _parts(jobs: Sequence[ShardJob], most: int) -> list[list[ShardJob]]:
    """Jobs in order, cut so that the records of some share a temporary file."""
    most = max(most, -(-sum(job.samples for job in jobs) // MOST_PARTS))
    return grouped(jobs, lambda job: job.samples, most)


def _ids(scored: ScoredRows, part_of: NDArray[np.int32]) -> Iterator[str]:
    rows = np.flatnonzero(part_of >= 0)
    for at in range(0, len(rows), 1 << 16):
        yield from scored.ids.take(pa.array(rows[at : at + (1 << 16)])).to_pylist()


@dataclass(frozen=True)
class _Columns:
    """What members take from scores/.

    scalars  scores that a shard says of its records, sorted
    hashes   those that are written in hex: as numbers, hashes above 2^63 are more than the 64 bits with a sign that
             readers of JSON have
    lists    a score of captions -> the column with its value for each caption
    """

    names: tuple[str, ...]
    scalars: tuple[str, ...]
    hashes: frozenset[str]
    lists: Mapping[str, str]

    @classmethod
    def of(cls, schema: pa.Schema, contents: Contents) -> "_Columns":
        scalars = sorted(each.name for each in schema if _is_scalar(each.type) and each.name not in _NO_SCORES)
        hashes = frozenset(name for name in scalars if pa.types.is_uint64(schema.field(name).type))
        lists = contents.lists
        names = [name for name in (*_MEMBER, *scalars, *lists.values()) if name in schema.names]
        return cls(tuple(names), tuple(scalars), hashes, lists)

    def members(
        self,
        table: pa.Table,
        contents: Contents,
        donors: Mapping[str, list[Caption]],
        before: Mapping[int, str],
    ) -> pa.Table:
        """The records of a part as their jobs hold them (`MEMBER_SCHEMA`), in the order of the table."""
        made = {name: self._stored(table, name) for name in _STORED}
        made["scores"] = self._scores(table)
        made |= self._captions(table, contents, donors)
        extras = contents.extras
        if extras:
            made["extra"] = [_JSON.encode(extras.typed(text)) for text in table["extra"].to_pylist()]
        made["earlier"] = [before.get(row) for row in table[ROW].to_pylist()]
        nothing = pa.nulls(table.num_rows)
        return pa.table([_typed(made.get(field.name, nothing), field.type) for field in MEMBER_SCHEMA], MEMBER_SCHEMA)

    def _stored(self, table: pa.Table, name: str) -> Any:
        return table[name] if name in table.column_names else pa.nulls(table.num_rows)

    def _scores(self, table: pa.Table) -> list[str]:
        columns = {name: values for name in self.scalars if (values := self._values(table[name], name)) is not None}
        names = tuple(columns)
        rows = zip(*columns.values(), strict=True) if columns else iter([()] * table.num_rows)
        return [_JSON.encode(known(names, values)) for values in rows]

    def _values(self, column: pa.ChunkedArray, name: str) -> list[Any] | None:
        """None where no record has any, as pictures have none of a clip's: most columns of a run are so."""
        if column.null_count == len(column):
            return None
        if pa.types.is_floating(column.type):  # JSON knows no NaN
            column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        values: list[Any] = column.to_pylist()
        return [None if value is None else f"{value:016x}" for value in values] if name in self.hashes else values

    def _captions(
        self, table: pa.Table, contents: Contents, donors: Mapping[str, list[Caption]]
    ) -> dict[str, list[Any]]:
        names = [name for name in ("id", "captions", *_GENERATED, *self.lists.values()) if name in table.column_names]
        made = [
            captions_of(own_captions(row, self.lists), contents.choices.get(row["id"]), donors)
            for row in table.select(names).to_pylist()
        ]
        return {name: [row[name] for row in made] for name in ("captions", "caption_sources", "caption_scores")}


_GENERATED = (GENERATED, GENERATED_SOURCE)


def _is_scalar(kind: pa.DataType) -> bool:
    types = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string)
    return any(is_type(kind) for is_type in types)


def _typed(values: Any, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return values.cast(kind) if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind)


def known(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The values that there are, by name."""
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _captions(scored: ScoredRows, ids: set[str], columns: _Columns) -> dict[str, list[Caption]]:
    """All captions of some records."""
    if not ids:
        return {}
    wanted = scored.marked(scored.rows_of(ids))
    tables = (table for _, table in scored.scan(("captions", *_GENERATED, *columns.lists.values()), wanted))
    return {row["id"]: own_captions(row, columns.lists) for table in tables for row in table.to_pylist()}
