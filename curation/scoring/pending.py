"""Which chunks still need work: decided from names where possible, from stored gates' columns otherwise."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from curation.captions.flat import columns_read
from curation.extra import is_extra
from curation.plan import Plan
from curation.scoring import chunkfile
from curation.scoring.cells import Cells
from curation.scoring.chunkfile import ChunkTask
from curation.sources.base import Chunk, Source
from curation.stores import jsontext
from curation.stores.storage import Store

MARKER = "_work/score.json"
_LOOKAHEAD = 32


@dataclass
class Pending:
    """Walks the source's chunks lazily and yields those with work; what it saw is counted on the way.

    records  rows of all chunks seen so far
    files    chunk number -> the file that will hold it, for the sweep at the end
    """

    plan: Plan
    store: Store
    sources: list[Source]
    records: int = 0
    resumed: int = 0
    files: dict[int, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ChunkTask]:
        existing = {
            n: entry.name for entry in self.store.list(chunkfile.SCORES) if (n := _number(entry.name)) is not None
        }
        rechecks = self._gates_moved() and bool(existing)
        chunks = self._chunks()
        with ThreadPoolExecutor(8) as readers:
            while window := list(islice(chunks, _LOOKAHEAD)):
                done = [self._is_done(chunk, existing) for chunk in window]
                checks = [
                    readers.submit(self._incomplete, self.files[c.number]) if d and rechecks else None
                    for c, d in zip(window, done, strict=True)
                ]
                for chunk, is_done, check in zip(window, done, checks, strict=True):
                    if not is_done or (check and check.result()):
                        base = existing.get(chunk.number)
                        yield ChunkTask(chunk, base.rpartition("/")[2] if base else None)
                    else:
                        self.resumed += chunk.rows

    def _chunks(self) -> Iterator[Chunk]:
        """All sources' chunks, numbered through."""
        number, engine = 0, self.plan.loaded.manifest.engine
        for source in self.sources:
            for chunk in source.chunks(engine.rows_per_chunk, int(engine.video_mb_per_chunk * 1e6)):
                chunk = Chunk(number, chunk.kind, chunk.args, chunk.fingerprint, chunk.rows)
                self.records += chunk.rows
                self.files[number] = chunkfile.name(chunk, self.plan)
                number += 1
                yield chunk

    def _is_done(self, chunk: Chunk, existing: dict[int, str]) -> bool:
        return existing.get(chunk.number, "").endswith("/" + self.files[chunk.number])

    def _gates_moved(self) -> bool:
        if not self.store.exists(MARKER):
            return True
        return bool(jsontext.read_object(self.store, MARKER).get("gates") != self.plan.gates_fingerprint)

    def _incomplete(self, file: str) -> bool:
        """Whether rows of a committed chunk now reach stages whose cells they lack. Loads no model."""
        names: set[str] = set()
        for stage in self.plan.stages:
            for expression in (stage.gate, stage.condition):
                if expression:
                    names |= columns_read(expression, self.plan.each, stage.late)
        columns = {"extra" if is_extra(name) else name for name in names} | {"scored", "error"}
        stored = chunkfile.read(self.store, file, sorted(columns))
        return bool(Cells.stored(stored, self.plan.stages).lacking(range(stored.num_rows)))

    def finish(self) -> None:
        """Sweep files of chunks that the source no longer has, and note the gates that all chunks now satisfy."""
        wanted = set(self.files.values())
        for entry in self.store.list(chunkfile.SCORES):
            if _number(entry.name) is not None and entry.name.rpartition("/")[2] not in wanted:
                self.store.delete(entry.name)
        self.store.write(MARKER, json.dumps({"gates": self.plan.gates_fingerprint, "records": self.records}).encode())


def _number(path: str) -> int | None:
    return chunkfile.number_of(path.rpartition("/")[2])
