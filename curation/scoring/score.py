"""Scores one chunk: read its rows, decode each picture once, run the stages, commit. Knows no Ray."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curation.errors import CurationError, TimedOut, Unavailable
from curation.inference.client import waited
from curation.manifest import SourceSection
from curation.media.sandbox import Decoder, Limits
from curation.pixels import Pixels
from curation.plan import Plan, PlannedStage
from curation.record import Span
from curation.scoring import chunkfile, second_try
from curation.scoring.cells import Cells
from curation.scoring.chunkfile import Attempt, ChunkTask
from curation.sources import read_chunk
from curation.sources.fetch import fetch
from curation.stage import Stage, run_guarded
from curation.stores.storage import Store
from curation.video.reader import VideoReader, on_disk
from curation.video.split import SPLITTERS, Found, rows_of, split_rows

BATCH_ROWS = 32
BATCH_STILLS, BATCH_PIXELS = 32, 24_000_000
"""A micro-batch ends at so many rows, pictures to look at (a clip has several) or decoded pixels. That bounds a
worker's memory, and the clips of a long video need little more than one."""
DEATHS_OF_A_ROW = 2
FETCHERS = 8


@dataclass
class InWork:
    """A chunk on its way through the stages: its cells and what they cost."""

    task: ChunkTask
    cells: Cells
    attempt: Attempt
    infos: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What splitting learnt of the clips among the rows."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    computed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    timed_out: set[int] = field(default_factory=set)
    """Rows that a limit of wall-clock time ended."""

    def fail(self, row: int, stage: str, error: CurationError) -> None:
        """Quarantine a row that cannot be read or decoded."""
        if isinstance(error, TimedOut):
            self.timed_out.add(row)
        self.cells.fail(row, stage, str(error))


@dataclass(frozen=True)
class RunContext:
    """What every worker of a run shares: where the run directory is, and how media are read."""

    store: Store
    max_bytes: int
    private_addresses: bool
    timeout_s: float
    retries: int

    @classmethod
    def of(cls, store: Store, sources: Sequence[SourceSection]) -> "RunContext":
        """With several sources: the widest bounds, but private addresses only where every source allows them."""
        return cls(
            store,
            max_bytes=int(max(source.max_mb for source in sources) * 1e6),
            private_addresses=all(source.private_addresses for source in sources),
            timeout_s=max(source.timeout_s for source in sources),
            retries=max(source.retries for source in sources),
        )

    def fetch(self, uri: str) -> bytes:
        """The media's bytes; raises CurationError with a sentence."""
        return fetch(
            uri,
            max_bytes=self.max_bytes,
            private_addresses=self.private_addresses,
            timeout_s=self.timeout_s,
            retries=self.retries,
            run=self.store.root,
        )


class ChunkScorer:
    """Holds one worker's loaded stages and decoder."""

    def __init__(self, plan: Plan, context: RunContext) -> None:
        engine = plan.loaded.manifest.engine
        self.plan, self.context, self.attempts = plan, context, engine.attempts
        self.limits, self.video_decoder = Limits.of(engine), engine.video_decoder
        self._decoder: Decoder | None = None
        self._videos: VideoReader | None = None
        self._loaded: dict[str, Stage] = {}
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._prefetch = ThreadPoolExecutor(1, thread_name_prefix="decode")

    def score(self, task: ChunkTask) -> dict[str, Any]:
        """A whole chunk in one go: begin, every stage, commit. Returns the chunk's report."""
        work = self.begin(task)
        self.advance(work)
        return self.commit(work)

    def begin(self, task: ChunkTask) -> InWork:
        """Read the chunk's rows and what an earlier run already knows about them."""
        attempt = Attempt.begin(self.context.store, task.chunk)
        rows = list(read_chunk(task.chunk))
        note = second_try.find(self.context.store, task.chunk.number, task.base)
        old = None if note and note.whole else self._earlier(task)
        videos = any(row.media == "video" and not row.error for row in rows)
        found: list[Found | None] = []
        splitting = 0.0
        if old is not None and videos:
            rows = rows_of(old, rows)
        elif videos:
            started = time.perf_counter()
            split = list(split_rows(rows, self.plan, self.videos, self.context.fetch))
            splitting = time.perf_counter() - started
            rows, found = [row for row, _ in split], [facts for _, facts in split]
        cells = Cells(rows, self.plan.stages)
        for i, facts in enumerate(found):
            if facts is not None and facts.sha256:
                cells.columns["content_sha256"][i] = facts.sha256
        if old is not None and old.num_rows == cells.size:
            stored = chunkfile.stored_metadata(old).get("stages", {})
            fresh = {stage.name for stage in self.plan.stages if stored.get(stage.name) != stage.fingerprint}
            cells.adopt(old, fresh, note.rows if note else ())
        infos = {i: facts.info for i, facts in enumerate(found) if facts}
        late = {i for i, facts in enumerate(found) if facts and facts.timed_out}
        work = InWork(task, cells, attempt, infos=infos, timed_out=late)
        if splitting:  # scanning for shots takes nearly all of it, and happens before the stages run
            work.seconds["shots" if self.plan.named("shots") else "probe"] += splitting
        return work

    def _earlier(self, task: ChunkTask) -> pa.Table | None:
        """The chunk as an earlier run scored it, where its rows, and how videos are split, are the same."""
        if task.base is None:
            return None
        old = chunkfile.read(self.context.store, task.base)
        known = chunkfile.stored_metadata(old)
        if known.get("rows") != task.chunk.fingerprint:
            return None
        split = any(media == "video" for media in old["media"].to_pylist())
        stages = known.get("stages", {})
        same = all(stages.get(s.name) == s.fingerprint for s in self.plan.stages if s.name in SPLITTERS)
        return old if same or not split else None

    @property
    def videos(self) -> VideoReader:
        """The child process for videos, started with the first one."""
        if self._videos is None:
            shots = self.plan.named("shots")
            self._videos = VideoReader(self.limits, self.video_decoder, shots.device if shots else "cpu")
        return self._videos

    def advance(self, work: InWork) -> None:
        """Run the stages over the chunk in micro-batches, decoding one batch ahead."""
        rows = range(work.cells.size)
        careful = work.attempt.count > self.attempts or work.task.again
        batches = self._decoded(work, [[i] for i in rows] if careful else _slices(rows))
        try:
            for batch, pixels in batches:
                if careful and not self._still_trusted(work, batch[0]):
                    continue
                for stage in self.plan.stages:
                    self._run_stage(work, stage, batch, pixels)
        except CurationError:  # a model or its server cannot be had: no worker died, and no row is to blame
            work.attempt.end(self.context.store, work.task.chunk)
            raise

    def _still_trusted(self, work: InWork, row: int) -> bool:
        """In careful mode: note the row in work; a row that workers died on twice is quarantined."""
        if work.attempt.deaths.get(str(row), 0) >= DEATHS_OF_A_ROW:
            work.cells.fail(row, "worker", f"the worker died {DEATHS_OF_A_ROW} times while it scored this record")
            return False
        work.attempt.row = row
        work.attempt.save(self.context.store, work.task.chunk)
        return True

    def _run_stage(self, work: InWork, stage: PlannedStage, batch: Sequence[int], pixels: dict[int, Pixels]) -> None:
        todo = work.cells.missing(stage, batch)
        if stage.needs_pixels:
            todo = [i for i in todo if i in pixels]
        size = stage.resources.batch_rows
        for part in (todo[i : i + size] for i in range(0, len(todo), size)):
            started = time.perf_counter()
            columns = work.cells.take([name for name in stage.reads if name != "pixels"], part)
            inputs: dict[str, Sequence[Any]] = dict(columns)
            if stage.second:  # it has judged the source's captions
                inputs["captions"] = [[] for _ in part]
            if stage.needs_pixels:
                inputs["pixels"] = [pixels[i] for i in part]
            work.cells.put(stage, part, run_guarded(self._stage(stage), inputs))
            work.seconds[stage.name] += time.perf_counter() - started
            work.computed[stage.name] += len(part)
        work.cells.gate(stage, batch)

    def _stage(self, planned: PlannedStage) -> Stage:
        """The stage itself, loaded when the first row needs it: a run that computes nothing loads no model."""
        name = planned.factory.name  # both turns of a stage share it
        if name not in self._loaded:
            stage = planned.factory(planned.params)
            stage.load()
            self._loaded[name] = stage
        return self._loaded[name]

    def _decoded(
        self, work: InWork, batches: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Sequence[int], dict[int, Pixels]]]:
        """Batches with their pictures, the next one decoding (in the child process) while this one is scored."""
        parts = self._bounded(work, batches)
        ahead = self._prefetch.submit(next, parts, None)
        while (ready := ahead.result()) is not None:
            ahead = self._prefetch.submit(next, parts, None)
            yield ready

    def _bounded(
        self, work: InWork, batches: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Sequence[int], dict[int, Pixels]]]:
        """Decode what some stage needs, cutting a batch where its pixels grow too many."""
        for batch in batches:
            wanted = self._wanted(work, batch)
            clips = {i for i in wanted if work.cells.columns["start_frame"][i] is not None}
            pictures = [i for i in wanted if i not in clips]
            fetched = dict(zip(pictures, self._fetchers.map(lambda i: self._fetch(work, i), pictures), strict=True))
            part: list[int] = []
            pixels: dict[int, Pixels] = {}
            for i in batch:
                part.append(i)
                if i in clips:
                    if (clip := self._sample(work, i)) is not None:
                        pixels[i] = clip
                elif (data := fetched.pop(i, None)) is not None and (
                    picture := self._decode(work, i, data)
                ) is not None:
                    pixels[i] = picture
                stills = [still for picture in pixels.values() for still in picture.stills]
                if len(stills) >= BATCH_STILLS or sum(still.rgb.size for still in stills) > 3 * BATCH_PIXELS:
                    yield part, pixels
                    part, pixels = [], {}
            if part:
                yield part, pixels

    def _wanted(self, work: InWork, batch: Sequence[int]) -> list[int]:
        """Rows for which a stage that looks at pixels lacks its cell."""
        looking = {stage.name for stage in self.plan.stages if stage.needs_pixels}
        return [i for i, stages in work.cells.lacking(batch).items() if stages & looking]

    def _fetch(self, work: InWork, row: int) -> bytes | None:
        started = time.perf_counter()
        try:
            data = self.context.fetch(work.cells.columns["source_uri"][row])
        except Unavailable:
            raise
        except CurationError as error:
            work.fail(row, "read", error)
            return None
        finally:
            work.seconds["read"] += time.perf_counter() - started
        work.cells.columns["content_sha256"][row] = hashlib.sha256(data).hexdigest()
        return data

    def _sample(self, work: InWork, row: int) -> Pixels | None:
        """A clip's sampled frames, upright."""
        started = time.perf_counter()
        columns = work.cells.columns
        span = Span(*(columns[name][row] for name in ("start_frame", "end_frame", "start_s", "end_s")))
        try:
            work.computed["decode"] += 1
            with on_disk(columns["source_uri"][row], self.context.fetch) as (path, sha256):
                columns["content_sha256"][row] = sha256
                info = work.infos.get(row, {})
                rate = info["video"]["fps_fraction"] if "video" in info else columns["fps_fraction"][row]
                return self.videos.sample(path, span, info, rate)
        except Unavailable:
            raise
        except CurationError as error:
            work.fail(row, "decode", error)
            return None
        finally:
            work.seconds["decode"] += time.perf_counter() - started

    def _decode(self, work: InWork, row: int, data: bytes) -> Pixels | None:
        started = time.perf_counter()
        self._decoder = self._decoder or Decoder(self.limits)
        try:
            work.computed["decode"] += 1
            return self._decoder.decode(data)
        except Unavailable:
            raise
        except CurationError as error:
            work.fail(row, "decode", error)
            return None
        finally:
            work.seconds["decode"] += time.perf_counter() - started

    def commit(self, work: InWork) -> dict[str, Any]:
        """Write the chunk's file under its final name, then forget the attempt and the file it replaces."""
        chunk, store = work.task.chunk, self.context.store
        if any(value is None for value in work.cells.columns["id"]):
            work.cells.name_rows()
        file = chunkfile.name(chunk, self.plan)
        again = bool(work.timed_out) and not work.task.again
        if again:
            videos = any(work.cells.columns["media"][i] == "video" for i in work.timed_out)
            second_try.write(store, second_try.Note(chunk, file, tuple(sorted(work.timed_out)), videos))
        chunkfile.write(store, file, work.cells.table(chunkfile.metadata(chunk, self.plan)))
        if work.task.base not in (None, file):
            store.delete(f"{chunkfile.SCORES}/{work.task.base}")
        if not again:
            second_try.forget(store, chunk.number)
        work.attempt.end(store, chunk)
        return {
            "number": chunk.number,
            "rows": chunk.rows,
            "errors": sum(error is not None for error in work.cells.columns["error"]),
            "alive": sum(work.cells.alive),
            "seconds": dict(work.seconds),
            "computed": dict(work.computed),
            "waited": waited(),
        }

    def close(self) -> None:
        """Stop the decoder process and the threads."""
        if self._decoder:
            self._decoder.close()
        if self._videos:
            self._videos.close()
        self._fetchers.shutdown()
        self._prefetch.shutdown()


def _slices(rows: range) -> list[Sequence[int]]:
    return [rows[i : i + BATCH_ROWS] for i in range(0, len(rows), BATCH_ROWS)]
