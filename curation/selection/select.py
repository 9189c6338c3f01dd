"""The decision: every record kept, dropped or quarantined, once, with its reason. Loads no model.

A record meets, in this order: the gates of `score:`, and with each stage its errors; `select: keep`; what
cannot be encoded; `duplicates`, in their order; `caps`; `sample`. The first that takes it is its reason. A duplicate
whose better one is over a cap meets duplicates and caps again without that one (`curation.selection.caps`), and so
names one that stays; only the sample, drawn at last, may leave that one out.
Nothing depends on the order of files or rows, nor on earlier decisions.

A gate on captions sets those aside that fail it, and takes the record when none is left. What stays takes over the
captions of its exact duplicates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from curation.captions.stage import GENERATED
from curation.encoding.buckets import Clip, nearest_shapes, table, unencodable
from curation.errors import CurationError, UsageError
from curation.expression import Expression, parse
from curation.manifest import COMPARED, CapSection, DuplicatesSection, EncodeSection, Manifest
from curation.plan import Plan
from curation.selection import hashed
from curation.selection.against import already_there, copies
from curation.selection.alignment import MAY_BE
from curation.selection.caps import drop_over_cap, drop_without_room
from curation.selection.captions import ALWAYS, CaptionDecisions, names_read
from curation.selection.decisions import Decisions
from curation.selection.duplicates import Dropped, best_first, equal
from curation.selection.hashed import FoundDuplicates
from curation.selection.neighbours import CosineNeighbours
from curation.selection.table import IDENTITIES, Scores, codes_of
from curation.stores.storage import Store


class Gate(NamedTuple):
    """A stage, its `keep` and its `when`; `late` where a caption may have been generated before it."""

    stage: str
    keep: str | None = None
    when: str | None = None
    late: bool = False


Ints = NDArray[np.int64]
Say = Callable[[str], None]
DEFAULT_THRESHOLD = {"bytes": 0.0, "pixels": 0.0, "phash": 6.0, "copy": MAY_BE, "embedding": 0.95}
SIZE = ("width", "height", "content_box", "start_s", "end_s", "fps", "fps_fraction")
"""What decides a record's bucket."""
_OPTIONAL = (*SIZE, "border", "phash_frames", "phash_frames_mirrored")


def gates_of(plan: Plan) -> list[Gate]:
    """The gates of `score:`, in their order."""
    return [Gate(stage.name, stage.keep, stage.when, stage.late) for stage in plan.stages]


def decide(
    store: Store,
    manifest: Manifest,
    gates: Sequence[Gate],
    failed: Mapping[str, str],
    say: Say = lambda _: None,
    each: Mapping[str, str] = MappingProxyType({}),
) -> pa.Table:
    """Decide every record of scores/.

    gates   in the order of `score:`
    failed  ids that could not be encoded -> the sentence why; they are quarantined, and nothing falls to them
    say     told the recall of a search for near embeddings on planted pairs, and which `extra.NAME` no record has
    each    columns of the main caption -> the list columns with the same of each caption

    Returns the rows of selection.parquet (`decisions.SCHEMA`) sorted by id. Raises CurationError when a row
    lacks the scores of a stage that it now reaches, UsageError for an unknown column.
    """
    gates = [Gate(*gate) for gate in gates]
    scores = read_scores(store, manifest, gates, each)
    decisions, captions = Decisions(scores.rows), CaptionDecisions(scores, each)
    _apply_gates(scores, decisions, captions, gates)
    for i, text in enumerate(manifest.select.keep):
        _apply(decisions, captions, parse(text, f"select.keep.{i}"), "select", decisions.alive())
    _drop_small(scores, decisions, manifest)
    _quarantine_failed(scores, decisions, failed)
    sections = [Duplicates(scores, section, manifest.seed, say) for section in manifest.select.duplicates]
    _thin_out(scores, decisions, captions, sections, manifest.select.caps)
    if manifest.select.sample is not None:
        _drop_outside_sample(scores, decisions, manifest.select.sample, manifest.seed)
    for note in scores.notes:
        say(note)
    return decisions.table(scores.ids, captions.columns(decisions.is_alive))


def read_scores(
    store: Store, manifest: Manifest, gates: Sequence[Gate], each: Mapping[str, str], more: Sequence[str] = ()
) -> Scores:
    """What a decision reads of scores/, and the columns of `more` that are there. Raises what `decide` does."""
    names = _columns(manifest, gates, each)
    return Scores(store, names - {GENERATED}, optional=(*_OPTIONAL, *ALWAYS, *(names & {GENERATED}), *more))


def _columns(manifest: Manifest, gates: Sequence[Gate], each: Mapping[str, str]) -> set[str]:
    """Everything the decision will read, so that the files are read once."""
    texts = [text for gate in gates for text in (gate.keep, gate.when) if text] + list(manifest.select.keep)
    names = {name for text in texts for name in names_read(parse(text), each)} | {"error", "error_stage", "scored"}
    for section in manifest.select.duplicates:
        names |= {*(IDENTITIES.get(name, name) for name in COMPARED[section.on])}
        names |= {*(key.removeprefix("-") for key in section.prefer)}
    for cap in manifest.select.caps:
        names |= {cap.by, *(key.removeprefix("-") for key in cap.prefer)}
    return names


def _apply_gates(scores: Scores, decisions: Decisions, captions: CaptionDecisions, gates: Sequence[Gate]) -> None:
    """A stage's errors are met where it stands: a tighter gate before it hides them, as in a fresh run."""
    stages = [gate.stage for gate in gates]
    errors = np.flatnonzero(scores["error"].is_valid().to_numpy(zero_copy_only=False))
    at = np.array(scores["error_stage"].take(pa.array(errors)).fill_null("source").to_pylist(), object)
    for stage in dict.fromkeys(at):
        if stage not in stages:
            _quarantine(scores, decisions, errors[at == stage], stage)
    scored, missing = scores.scored(), {}
    for stage, keep, when, late in gates:
        _quarantine(scores, decisions, errors[at == stage], stage)
        rows = decisions.alive()
        if when:
            condition = parse(when, f"condition of {stage}")
            rows = rows[captions.holds(condition, rows, late)]
        has_cells = scored[stage][rows] if stage in scored else np.zeros(len(rows), bool)
        if not has_cells.all():
            missing[stage] = int((~has_cells).sum())
            decisions.is_alive[rows[~has_cells]] = False
        if keep:
            _apply(decisions, captions, parse(keep, f"gate of {stage}"), stage, rows[has_cells], late)
    if missing:
        raise CurationError(_missing(missing))


def _missing(missing: Mapping[str, int]) -> str:
    which = ", ".join(f"{count:,} by '{stage}'" for stage, count in missing.items())
    return (
        f"under these gates records reach stages that never scored them ({which}): "
        f"`curate run` computes just the missing scores"
    )


def _quarantine(scores: Scores, decisions: Decisions, rows: Ints, stage: str) -> None:
    rows = rows[decisions.is_alive[rows]]
    decisions.quarantine(rows, stage, scores["error"].take(pa.array(rows)).to_pylist())


def _apply(
    decisions: Decisions, captions: CaptionDecisions, expression: Expression, stage: str, rows: Ints, late: bool = True
) -> None:
    """Drop those of `rows` for which the expression is not true; a percentile in it is over `rows`."""
    verdict = captions.judge(expression, stage, rows, late)
    for code, reason in enumerate(verdict.reasons):
        at = np.flatnonzero(verdict.code == code)
        decisions.drop(rows[at], stage, reason, verdict.value[at], verdict.threshold[at])


def _drop_small(scores: Scores, decisions: Decisions, manifest: Manifest) -> None:
    """Clips too short for any bucket, and records that only a forbidden enlarging could bring to theirs."""
    for reason, at in sorted(small_records(scores, manifest, decisions.alive()).items()):
        decisions.drop(at, "encode", reason)


def small_records(scores: Scores, manifest: Manifest, rows: Ints) -> dict[str, Ints]:
    """Those of `rows` that could not be encoded for their size or length, by reason."""
    encode = manifest.encode
    if encode is None or not {"width", "height"} <= scores.known:
        return {}
    rows = _not_surely_large(scores, rows, encode)
    columns = {name: scores[name].take(pa.array(rows)).to_pylist() for name in SIZE if name in scores.known}
    small: dict[str, list[int]] = {}
    for row, *values in zip(rows.tolist(), *columns.values(), strict=True):
        facts = dict(zip(columns, values, strict=True))
        width, height, box = facts["width"], facts["height"], facts.get("content_box")
        if width and height and (reason := unencodable(width, height, box, encode, Clip.of(facts, encode))):
            small.setdefault(reason, []).append(row)
    return {reason: np.array(at, np.int64) for reason, at in small.items()}


def _not_surely_large(scores: Scores, rows: Ints, encode: EncodeSection) -> Ints:
    """Those of `rows` that have to be looked at one by one: not the many pictures without a border that fill their
    bucket, or that may be enlarged."""
    plain = np.ones(len(rows), bool)
    for name in ("start_s", "content_box"):
        if name in scores.known:
            plain &= scores[name].take(pa.array(rows)).is_null().to_numpy(zero_copy_only=False)
    sides = [scores[name].take(pa.array(rows)).fill_null(0).to_numpy().astype(np.int64) for name in ("width", "height")]
    plain &= (sides[0] > 0) & (sides[1] > 0)
    if not encode.upscale:
        at = np.flatnonzero(plain)
        width, height = (side[at] for side in sides)
        places = nearest_shapes(width, height, encode)
        wide, high = (np.array([getattr(shape, name) for shape in table(encode)]) for name in ("width", "height"))
        plain[at] = (places >= 0) & (np.maximum(wide[places] / width, high[places] / height) <= 1)
    return rows[~plain]


def _quarantine_failed(scores: Scores, decisions: Decisions, failed: Mapping[str, str]) -> None:
    """Before duplicates, so that the next best stays; after the percentiles, which they must not move."""
    if not failed:
        return
    places = pc.index_in(pa.array(sorted(failed), pa.large_string()), value_set=scores.ids).drop_null().to_numpy()
    rows = places[decisions.is_alive[places]].astype(np.int64)
    decisions.quarantine(rows, "encode", [failed[identity] for identity in scores.ids.take(pa.array(rows)).to_pylist()])


@dataclass(frozen=True)
class Duplicates:
    """One section of `duplicates:`, ready to be applied."""

    scores: Scores
    section: DuplicatesSection
    seed: int
    say: Say

    @property
    def threshold(self) -> float:
        given = self.section.threshold
        return DEFAULT_THRESHOLD[self.section.on] if given is None else given

    def order(self, rows: Ints) -> Ints:
        """`rows` from best to worst. A clip goes before a picture: it shows more."""
        order = self.scores.ranked(self.section.prefer, rows)
        if "start_s" in self.scores.known:
            is_clip = self.scores["start_s"].is_valid().to_numpy(zero_copy_only=False)
            order = order[np.argsort(~is_clip[order], kind="stable")]
        return order

    def within(self, rows: Ints, settled: NDArray[np.bool_]) -> Iterator[FoundDuplicates]:
        """Duplicates among `rows`, in the order in which they fall. Those that are `settled` go before all
        others."""
        order = self.order(rows)
        order = order[np.argsort(~settled[order], kind="stable")]
        if self.section.on in ("embedding", "copy"):
            fell = self._near_vectors(order)
            yield FoundDuplicates(self.section.on, fell.rows, fell.kept, np.round(1 - fell.distance, 6), self.threshold)
        elif self.section.on == "phash":
            yield from hashed.duplicates(self.scores, order, int(self.threshold), self.section.share)
        else:
            fell = equal(codes_of(self.scores[IDENTITIES[COMPARED[self.section.on][0]]]), order)
            yield FoundDuplicates(self.section.on, fell.rows, fell.kept, fell.distance, self.threshold)

    def _near_vectors(self, order: Ints) -> Dropped:
        """Embeddings that are near; vectors of copies that are near and whose thumbnails show the same."""
        name = self.section.on
        rows, vectors = self.scores.vectors(name, np.sort(order))
        near = CosineNeighbours(vectors, self.threshold, self.section.method, self.seed)
        has_vector = np.full(self.scores.rows, -1, np.int64)
        has_vector[rows] = np.arange(len(rows))
        confirm = copies(self.scores.thumbnails(rows), rows) if name == "copy" else None
        found = best_first(near.pairs, has_vector[order][has_vector[order] >= 0], confirm=confirm)
        how = "all pairs" if near.clusters is None else f"{near.clusters.count:,} clusters"
        what = "copies" if name == "copy" else "near embeddings"
        self.say(
            f"{what}: {len(found.rows):,} of {len(rows):,} records fall to a better one "
            f"({how} compared, {near.recall:.1%} of planted pairs found)"
        )
        return Dropped(rows[found.rows], rows[found.kept], found.distance)


def _thin_out(
    scores: Scores,
    decisions: Decisions,
    captions: CaptionDecisions,
    sections: Sequence[Duplicates],
    caps: Sequence[CapSection],
) -> None:
    """Duplicates and caps. Those whose better duplicate is over a cap are asked again: in the end each names one that
    stays."""
    settled = np.zeros(scores.rows, bool)
    while True:
        for section in sections:
            _drop_duplicates(section, decisions, captions, settled)
        for cap in caps:
            drop_over_cap(scores, decisions, cap)
        orphans = decisions.orphans()
        settled = decisions.is_alive.copy()
        decisions.revive(orphans)
        captions.unmerge(orphans)
        drop_without_room(scores, decisions, caps, settled)
        if not (decisions.is_alive & ~settled).any():
            return
        sections = [replace(section, say=lambda _: None) for section in sections]


def _drop_duplicates(
    duplicates: Duplicates, decisions: Decisions, captions: CaptionDecisions, settled: NDArray[np.bool_]
) -> None:
    """Those `settled` have met the section before, and nothing takes their place now."""
    section, threshold, seed = duplicates.section, duplicates.threshold, duplicates.seed
    for other in section.against:
        rows = np.flatnonzero(decisions.is_alive & ~settled)
        for met in already_there(duplicates.scores, rows, section, threshold, seed, Store(other)):
            reason = f"{met.reason}: already in {other}"
            decisions.drop_duplicates(met.rows, met.kept, reason, met.value, met.threshold)
    for fell in duplicates.within(decisions.alive(), settled):
        decisions.drop_duplicates(fell.rows, fell.kept, fell.reason, fell.value, fell.threshold)
        if section.merges_captions:
            captions.merge(fell.rows, fell.kept)


def _drop_outside_sample(scores: Scores, decisions: Decisions, sample: float, seed: int) -> None:
    """Keep the records with the smallest hash of seed and id: more records in the corpus move few others.

    A whole number keeps so many, a fraction keeps each record whose hash, in [0, 1), lies below it.
    """
    if sample <= 0 or (isinstance(sample, float) and sample > 1):
        raise UsageError(f"select.sample is a number of records or a share up to 1, not {sample}")
    rows = decisions.alive()
    draw = draws(scores.ids.take(pa.array(rows)).to_pylist(), seed)
    threshold = sample
    if isinstance(sample, int):
        threshold = 1.0 if sample >= len(rows) else float(np.sort(draw)[sample])
    out = draw >= threshold
    decisions.drop(rows[out], "sample", f"not in the sample of {sample}", draw[out], threshold)


def draws(ids: Sequence[str], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each id, the same in every run: the smallest are the sample."""
    hashes = (xxhash.xxh3_64_intdigest(f"{seed}:{identity}".encode()) for identity in ids)
    return np.fromiter(hashes, np.uint64, len(ids)) / 2.0**64
