"""How a chunk's scores are committed: one Parquet file, named by what it holds, and the marker of an attempt."""

import io
import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import CurationError, UsageError
from curation.plan import Plan, digest
from curation.sources.base import Chunk
from curation.stores import jsontext
from curation.stores.storage import Entry, Store

if TYPE_CHECKING:
    import pyarrow.dataset as ds

SCORES = "scores"
ATTEMPTS = "_work/attempts"
NOTED = {"rows": str, "sources": int, "stages": dict, "models": dict}
"""What a chunk's file says in its metadata: see `metadata`."""
_NAME = re.compile(r"^(\d{6,})-([0-9a-f]{16})\.parquet$")


@dataclass(frozen=True)
class ChunkTask:
    """A chunk to score, with the file that an earlier manifest or source left for the same number.

    again  its file is complete but for records that a time limit ended: these are tried once more, one at a time
    """

    chunk: Chunk
    base: str | None
    again: bool = False


def name(chunk: Chunk, plan: Plan) -> str:
    """`000012-<16 hex>.parquet`: changes when the rows or the values of any stage would."""
    return f"{chunk.number:06d}-{digest([chunk.fingerprint, plan.score_fingerprint])}.parquet"


def number_of(file: str) -> int | None:
    """The chunk number of a file in scores/, None for a foreign file."""
    match = _NAME.match(file)
    return int(match.group(1)) if match else None


def entries(store: Store) -> list[Entry]:
    """The chunk files of scores/, in the store's order."""
    return [
        entry
        for entry in store.list(SCORES)
        if entry.name.endswith(".parquet") and not entry.name.rpartition("/")[2].startswith(("_", "."))
    ]


def dataset(store: Store) -> "ds.Dataset":
    """All chunk files as a pyarrow dataset; nothing is read yet. Raises UsageError where there are none."""
    import pyarrow.dataset as ds  # it imports pandas, which takes half a second; most runs do without

    paths = sorted(store.path(entry.name) for entry in entries(store))
    if not paths:
        raise UsageError(f"{store.root} holds no scores yet: `curate run` makes them")
    return ds.dataset(paths, format="parquet", filesystem=store.filesystem)


def metadata(chunk: Chunk, plan: Plan) -> dict[str, Any]:
    """What a later run needs in order to reuse cells: kept in the Parquet schema."""
    return {
        "rows": chunk.fingerprint,
        "sources": chunk.rows,
        "stages": {stage.name: stage.fingerprint for stage in plan.stages},
        "models": {stage.name: f"{stage.model.id} ({stage.model.sha256[:8]})" for stage in plan.stages if stage.model},
    }


def write(store: Store, file: str, table: pa.Table) -> None:
    """Commit a chunk's table atomically; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=max(1, table.num_rows), write_statistics=False,
                   write_page_checksum=True)  # fmt: skip
    store.write(f"{SCORES}/{file}", buffer.getvalue())


def read(store: Store, file: str, columns: list[str] | None = None) -> pa.Table:
    """A chunk's table with its schema metadata; of some columns no more of the file is read than they need."""
    if columns is None:
        return pq.read_table(pa.BufferReader(store.read(f"{SCORES}/{file}")))
    with store.open(f"{SCORES}/{file}") as stream:
        return pq.ParquetFile(stream, pre_buffer=not store.local).read(columns, use_threads=False)


def footer(store: Store, file: str) -> tuple[int, dict[str, Any]]:
    """The rows of a chunk's file, and what its metadata says, without reading the rows. Raises CurationError."""
    try:
        with store.open(f"{SCORES}/{file}") as stream:
            found = pq.read_metadata(stream)
        known = jsontext.parse_object((found.metadata or {}).get(b"curation", b"{}"))
        for name, kind in NOTED.items():
            if not isinstance(known.get(name, kind()), kind):
                raise ValueError(f"its metadata holds no {kind.__name__} under {name}")
        return found.num_rows, known
    except (pa.ArrowException, ValueError) as error:
        raise CurationError(
            f"{store.uri(f'{SCORES}/{file}')} is damaged ({' '.join(str(error).split())[:120]}): `curate run` with the "
            "same manifest removes it and scores its rows anew"
        ) from error


def stored_metadata(table: pa.Table) -> dict[str, Any]:
    raw = (table.schema.metadata or {}).get(b"curation", b"{}")
    found: dict[str, Any] = json.loads(raw)
    return found


@dataclass
class Attempt:
    """Written before a chunk is worked on, removed with its commit: what died, a later attempt can see.

    count  how often the chunk was begun
    row    in careful mode, the row that was in work
    deaths rows -> how often a worker died while that row was in work
    """

    count: int = 0
    row: int | None = None
    deaths: dict[str, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, store: Store, chunk: Chunk) -> "Attempt":
        """Read what earlier attempts left, count this one, and write it down."""
        path = f"{ATTEMPTS}/{chunk.number:06d}.json"
        attempt = cls(**json.loads(store.read(path))) if store.exists(path) else cls()
        attempt.count += 1
        if attempt.row is not None:
            key = str(attempt.row)
            attempt.deaths[key] = attempt.deaths.get(key, 0) + 1
            attempt.row = None
        attempt.save(store, chunk)
        return attempt

    def save(self, store: Store, chunk: Chunk) -> None:
        store.write(f"{ATTEMPTS}/{chunk.number:06d}.json", json.dumps(asdict(self)).encode())

    def end(self, store: Store, chunk: Chunk) -> None:
        store.delete(f"{ATTEMPTS}/{chunk.number:06d}.json")
