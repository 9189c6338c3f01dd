"""`curate diff A B` compares manifests and models of two runs, and lists the records that were decided differently."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import rundir, yamlfile
from curation.progress import console
from curation.reporting.export import records
from curation.scoring import chunkfile
from curation.stores.storage import Store

MOVES, EXAMPLES = 20, 3
"""So many kinds of moves are listed, the commonest first, each with so many keys."""


def show_diff(one: str, other: str) -> None:
    """Print the comparison of two run directories. Raises UsageError where one holds no decision."""
    out = console()
    for line in diff(Store(one), Store(other)):
        out.print(line, markup=False, soft_wrap=True)


def diff(one: Store, other: Store) -> Iterator[str]:
    """The lines of the comparison."""
    yield from _section("Manifest", _changes(_manifest(one), _manifest(other)))
    yield from _section("Models", _changes(_models(one), _models(other)))
    mine, theirs = records(one), records(other)
    yield from _section("Records", _changes(_counts(mine), _counts(theirs), 0))
    yield from _section("Moved", _moves(mine, theirs))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield title
    found = False
    for line in lines:
        found = True
        yield f"  {line}"
    if not found:
        yield "  the same in both"


def _changes(one: Mapping[str, Any], other: Mapping[str, Any], missing: Any = "-") -> Iterator[str]:
    """What differs, key by key; `missing` is what a side has that lacks the key."""
    for key in dict.fromkeys([*one, *other]):
        before, after = one.get(key, missing), other.get(key, missing)
        if before != after:
            moved = f" ({after - before:+,})" if isinstance(before, int) and isinstance(after, int) else ""
            yield f"{key}: {_said(before)} -> {_said(after)}{moved}"


def _said(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)[:200]


def _manifest(store: Store) -> dict[str, Any]:
    """The resolved manifest as dotted keys; a stage by its name."""
    rundir.load_manifest(store, ())
    return dict(_flat("", yamlfile.parse(store.read(rundir.MANIFEST).decode(), rundir.MANIFEST)[0]))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), each)
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) and len(each) == 1 for each in value):
        for each in value:
            yield from _flat(prefix, each)
    else:
        yield prefix, value if not isinstance(value, Mapping) else "no parameters"


def _models(store: Store) -> dict[str, str]:
    """The models that made the scores, from the first file of scores/, as each says it."""
    files = rundir.score_files(store)
    found: dict[str, str] = chunkfile.footer(store, files[0])[1].get("models", {}) if files else {}
    return found


def _counts(table: pa.Table) -> dict[str, int]:
    decided = Counter(table["decision"].to_pylist())
    fates = Counter(_fates(table))
    counts = {"records": table.num_rows, **{name: decided[name] for name in ("kept", "dropped", "quarantined")}}
    return counts | {fate: fates[fate] for fate in sorted(fates) if fate != "kept"}


def _fates(table: pa.Table) -> list[str]:
    columns = [table[name].to_pylist() for name in ("decision", "stage", "reason")]
    return [d if d == "kept" else f"{d} at {s}: {r}" for d, s, r in zip(*columns, strict=True)]


def _moves(one: pa.Table, other: pa.Table) -> Iterator[str]:
    """Records that both runs have and decided differently, then those of one run alone."""
    mine, theirs = (pc.index_in(a["id"], value_set=b["id"].combine_chunks()) for a, b in ((one, other), (other, one)))
    before, after, keys = _fates(one), _fates(other), one["source_key"].to_pylist()
    moves: dict[tuple[str, str], list[str]] = {}
    for i, place in enumerate(mine.to_pylist()):
        if place is not None and before[i] != after[place]:
            moves.setdefault((before[i], after[place]), []).append(keys[i])
    ranked = sorted(moves.items(), key=lambda move: (-len(move[1]), move[0]))
    for (was, now), moved in ranked[:MOVES]:
        more = f" and {len(moved) - EXAMPLES:,} more" if len(moved) > EXAMPLES else ""
        yield f"{len(moved):,}: {was} -> {now}: {', '.join(map(str, moved[:EXAMPLES]))}{more}"
    if len(ranked) > MOVES:
        yield f"and {sum(len(moved) for _, moved in ranked[MOVES:]):,} records in {len(ranked) - MOVES:,} other ways"
    for name, places in (("first", mine), ("second", theirs)):
        if places.null_count:
            yield f"{places.null_count:,} records are in the {name} run alone"
