"""The decision: every record kept, dropped or quarantined, once, with its reason. Loads no model."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from curation.against import already_there
from curation.buckets import unencodable
from curation.duplicates import Dropped, best_first, equal_groups, near_hashes, ranking
from curation.errors import CurationError
from curation.expression import Expression, parse
from curation.manifest import CapSection, DuplicatesSection, EncodeSection, Manifest
from curation.neighbours import cosine_pairs
from curation.predicates import as_array
from curation.storage import Store
from curation.table import COMPARED, Scores, codes_of, unit_vectors

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("decision", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("duplicate_of", pa.string()),
        ("error", pa.string()),
    ]
)
Gate = tuple[str, str | None, str | None]
DEFAULT_THRESHOLD = {"bytes": 0.0, "pixels": 0.0, "phash": 6.0, "embedding": 0.95}


@dataclass
class Decision:
    """The fate of each row while the decision is being made; `alive` rows have met nothing yet."""

    alive: NDArray[np.bool_]
    quarantined: NDArray[np.bool_]
    steps: list[tuple[str, str]] = field(default_factory=list)
    step: NDArray[np.int32] = field(init=False)
    value: NDArray[np.float64] = field(init=False)
    threshold: NDArray[np.float64] = field(init=False)
    kept_instead: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        rows = len(self.alive)
        self.step = np.full(rows, -1, np.int32)
        self.value, self.threshold = np.full(rows, np.nan), np.full(rows, np.nan)
        self.kept_instead = np.full(rows, -1, np.int64)

    def drop(
        self,
        rows: NDArray[np.int64],
        stage: str,
        reason: str,
        value: NDArray[np.float64] | float = np.nan,
        threshold: NDArray[np.float64] | float = np.nan,
    ) -> None:
        """Rows (all alive until now) fall here."""
        if not len(rows):
            return
        self.steps.append((stage, reason))
        self.step[rows] = len(self.steps) - 1
        self.value[rows], self.threshold[rows] = value, threshold
        self.alive[rows] = False


def decide(
    store: Store,
    manifest: Manifest,
    gates: Sequence[Gate],
    failed: Mapping[str, str],
    say: Callable[[str], None] = lambda _: None,
) -> pa.Table:
    """Decide every record of scores/.

    gates   (stage, keep, when) in the order of `score:`
    failed  ids that could not be encoded -> the sentence why; they are quarantined
    say     told the recall of a semantic search on planted pairs

    Returns the rows of selection.parquet sorted by id. Raises CurationError when a row lacks the scores of a
    stage that it now reaches, UsageError for an unknown column.
    """
    scores = Scores(store)
    scores.load(_columns(manifest, gates))
    ids = np.array(scores["id"].to_pylist(), dtype=object)
    has_error = pc.is_valid(scores["error"]).to_numpy() if scores.rows else np.empty(0, bool)
    unencoded = np.isin(ids, list(failed)) if failed else np.zeros(scores.rows, bool)
    decision = Decision(~(has_error | unencoded), has_error | unencoded)
    for gate in gates:
        _apply_gate(scores, decision, gate)
    for text in manifest.select.keep:
        _apply(scores, decision, parse(text, "select.keep"), "select")
    if manifest.encode:
        _unencodable(scores, decision, manifest.encode)
    for section in manifest.select.duplicates:
        _duplicates(scores, decision, section, ids, manifest.seed, say)
    for cap in manifest.select.caps:
        _cap(scores, decision, cap, ids)
    if manifest.select.sample is not None:
        _sample(decision, manifest.select.sample, ids, manifest.seed)
    return _table(scores, decision, ids, failed)


def _columns(manifest: Manifest, gates: Sequence[Gate]) -> set[str]:
    """Everything the decision will read, so that the files are read once; embeddings only where they are compared."""
    texts = [text for _, keep, when in gates for text in (keep, when) if text] + list(manifest.select.keep)
    names = {name for text in texts for name in parse(text).names} | {"id", "error", "error_stage", "scored"}
    for section in manifest.select.duplicates:
        names |= {COMPARED[section.on], "width", "height"} | {key.lstrip("-") for key in section.prefer}
    for cap in manifest.select.caps:
        names |= {cap.by} | {key.lstrip("-") for key in cap.prefer}
    if manifest.encode and not manifest.encode.upscale:
        names |= {"width", "height", "content_box"}
    return names


def _apply_gate(scores: Scores, decision: Decision, gate: Gate) -> None:
    stage, keep, when = gate
    concerned = decision.alive.copy()
    if when:
        condition = parse(when, f"condition of {stage}")
        concerned &= condition.evaluate({name: scores[name] for name in condition.names})
    missing = int((concerned & ~scores.scored(stage)).sum())
    if missing:
        raise CurationError(
            f"{missing:,} records reach the stage '{stage}' under these gates, but were never scored by it; "
            f"`curate run` computes just the missing scores"
        )
    if keep:
        _apply(scores, decision, parse(keep, f"gate of {stage}"), stage, concerned)


def _apply(
    scores: Scores,
    decision: Decision,
    expression: Expression,
    stage: str,
    concerned: NDArray[np.bool_] | None = None,
) -> None:
    """Drop the alive rows (among those concerned) for which the expression does not certainly hold."""
    judged = np.flatnonzero(decision.alive if concerned is None else decision.alive & concerned)
    columns = {name: as_array(scores[name]).take(pa.array(judged)) for name in expression.names}
    verdict = expression.explain(columns)
    for code, reason in enumerate(verdict.reasons):
        at = np.flatnonzero(verdict.code == code)
        decision.drop(judged[at], stage, reason, verdict.value[at], verdict.threshold[at])


def _unencodable(scores: Scores, decision: Decision, encode: EncodeSection) -> None:
    if encode.upscale:
        return
    boxes = scores["content_box"].to_pylist() if "content_box" in scores.known else [None] * scores.rows
    width, height = scores.numbers("width"), scores.numbers("height")
    reasons: dict[str, list[int]] = {}
    for i in np.flatnonzero(decision.alive):
        if reason := unencodable(int(width[i]), int(height[i]), boxes[i], encode):
            reasons.setdefault(reason, []).append(int(i))
    for reason, rows in sorted(reasons.items()):
        decision.drop(np.array(rows), "encode", reason)


def _duplicates(
    scores: Scores,
    decision: Decision,
    section: DuplicatesSection,
    ids: NDArray[np.object_],
    seed: int,
    say: Callable[[str], None],
) -> None:
    threshold = DEFAULT_THRESHOLD[section.on] if section.threshold is None else section.threshold
    for other in section.against:
        rows, value = already_there(scores, decision.alive, section, threshold, Store(other), seed)
        decision.drop(rows, "duplicates", f"{section.on}: already in {other}", value, threshold)
    alive = np.flatnonzero(decision.alive)
    rank = _rank(scores, section.prefer, ids, alive)
    found = _groups(scores, section, threshold, alive, rank, seed, say)
    rows = alive[found.rows]
    decision.kept_instead[rows] = alive[found.kept]
    decision.drop(rows, "duplicates", section.on, found.value, threshold)


def _groups(
    scores: Scores,
    section: DuplicatesSection,
    threshold: float,
    alive: NDArray[np.int64],
    rank: NDArray[np.int64],
    seed: int,
    say: Callable[[str], None],
) -> Dropped:
    """Duplicates among the alive rows; row numbers count within `alive`."""
    column = scores[COMPARED[section.on]]
    if section.on in ("bytes", "pixels"):
        return equal_groups(codes_of(column)[alive], rank)
    if section.on == "phash":
        valid = (
            pc.is_valid(column).to_numpy(zero_copy_only=False)[alive]
            if isinstance(column, pa.Array)
            else pc.is_valid(column).to_numpy()[alive]
        )
        filled = column.cast(pa.uint64()).fill_null(0)
        return near_hashes(filled.to_numpy()[alive], valid, rank, int(threshold))
    rows, vectors = unit_vectors(column, alive)
    pairs, recall = cosine_pairs(vectors, threshold, section.method, seed)
    say(f"embedding duplicates: {recall:.1%} of planted pairs found among {len(rows):,} records")
    found = best_first(rank[rows], pairs)
    return Dropped(rows[found.rows], rows[found.kept], found.value)


def _rank(
    scores: Scores, prefer: Sequence[str], ids: NDArray[np.object_], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Best first by `prefer`, then by area, then by id."""
    keys = [(scores.numbers(key.lstrip("-"))[rows], not key.startswith("-")) for key in prefer]
    if {"width", "height"} <= scores.known:
        keys.append(((scores.numbers("width") * scores.numbers("height"))[rows], True))
    return ranking(keys, ids[rows])


def _cap(scores: Scores, decision: Decision, cap: CapSection, ids: NDArray[np.object_]) -> None:
    alive = np.flatnonzero(decision.alive)
    column = scores[cap.by]
    codes = codes_of(column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column))[alive]
    order = np.lexsort((_rank(scores, cap.prefer, ids, alive), codes))
    sorted_codes = codes[order]
    starts = (
        np.flatnonzero(np.r_[True, sorted_codes[1:] != sorted_codes[:-1]])
        if len(order)
        else np.empty(0, np.int64)
    )
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    over = place >= cap.most
    decision.drop(
        alive[order[over]],
        "caps",
        f"{cap.by}: more than {cap.most}",
        (place[over] + 1).astype(np.float64),
        float(cap.most),
    )


def _sample(decision: Decision, sample: float, ids: NDArray[np.object_], seed: int) -> None:
    """Keep the records whose hash of seed and id is smallest: adding records moves few others."""
    alive = np.flatnonzero(decision.alive)
    draw = np.array(
        [xxhash.xxh3_64_intdigest(f"{seed}:{identity}".encode()) for identity in ids[alive]], dtype=np.uint64
    )
    count = round(sample * len(alive)) if sample < 1 else int(sample)
    decision.drop(
        alive[np.argsort(draw, kind="stable")[count:]], "sample", f"not among the sample of {sample}"
    )


_NUMBERS = re.compile(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\d[\d.,x]*")


def error_class(error: str) -> str:
    """An error without what differs from record to record (names, paths, numbers), for counting: at most 80 characters."""
    short = error.split(": it ")[0] if error.startswith("not a picture") else error
    return " ".join(_NUMBERS.sub("…", short).split())[:80].strip(" :;,")


def _table(
    scores: Scores, decision: Decision, ids: NDArray[np.object_], failed: Mapping[str, str]
) -> pa.Table:
    rows = scores.rows
    stage: list[str | None] = [None] * rows
    reason: list[str | None] = [None] * rows
    error: list[str | None] = [None] * rows
    names = [None, *decision.steps]
    for i in np.flatnonzero(decision.step >= 0):
        stage[i], reason[i] = names[decision.step[i] + 1] or (None, None)
    bad = np.flatnonzero(decision.quarantined)
    if len(bad):
        taken = pa.array(bad)
        errors, stages = (
            scores["error"].take(taken).to_pylist(),
            scores["error_stage"].cast(pa.string()).take(taken).to_pylist(),
        )
        for i, text, where in zip(bad, errors, stages, strict=True):
            error[i] = text if text is not None else failed[str(ids[i])]
            stage[i], reason[i] = where if text is not None else "encode", error_class(error[i] or "")
    word = np.where(decision.quarantined, "quarantined", np.where(decision.alive, "kept", "dropped"))
    duplicate = [ids[kept] if kept >= 0 else None for kept in decision.kept_instead]
    columns = [
        pa.array(ids, pa.string()),
        pa.array(word, pa.string()),
        pa.array(stage, pa.string()),
        pa.array(reason, pa.string()),
        pa.array(decision.value, from_pandas=True),
        pa.array(decision.threshold, from_pandas=True),
        pa.array(duplicate, pa.string()),
        pa.array(error, pa.string()),
    ]
    table = pa.table(columns, schema=SCHEMA)
    return table.take(pc.sort_indices(table["id"])).combine_chunks()
