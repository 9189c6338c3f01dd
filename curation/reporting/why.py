"""The whole story of the records that a key or an id names, from what a run directory holds."""

import difflib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import rundir
from curation.encoding.captions import own_captions
from curation.errors import UsageError
from curation.extra import nfc
from curation.plan import Plan, make_plan
from curation.progress import console
from curation.scoring import chunkfile
from curation.scoring.cells import Cells
from curation.stores.storage import Store

MOST = 20
"""At most so many records of one key are shown, and at most so many keys are listed."""
SHORTEST_ID = 8
_COMPARED = 20_000
_LONG = 12


def tell(directory: str, identity: str) -> None:
    """Print the source, scores in the order of the stages with their gates, decision, and shard of each record found:
    of the first 20, where a key stands for more (the clips of a video, a key of several sources)."""
    store = Store(directory)
    plan = make_plan(rundir.load_manifest(store, ()))
    selection = rundir.read_selection(store)
    rows, count = find(store, identity)
    decided = decisions(selection, [row["id"] for row in rows])
    lines = [f"{count:,} records"] if count > 1 else []
    for row in rows:
        lines += [""] if lines else []
        lines += story(plan, row, decided.get(row["id"]), shard_of(store, row["id"]))
        lines += heir_lines(selection, decided.get(row["id"]))
    if count > len(rows):
        lines += ["", f"and {count - len(rows):,} more"]
    out = console()
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def decisions(selection: pa.Table, ids: list[str]) -> dict[str, dict[str, Any]]:
    """id -> its row of selection.parquet."""
    mine = selection.filter(pc.is_in(selection["id"], value_set=pa.array(ids, pa.string())))
    return {row["id"]: row for row in mine.to_pylist()}


def find(store: Store, asked: str, most: int = MOST) -> tuple[list[dict[str, Any]], int]:
    """The first rows of scores/ that `asked` means, in the order of the source, and how many there are.

    It is an id or a source key; else the beginning of an id, or a part of one source key alone. Raises UsageError
    where there is none, and with the keys where it is a part of several.
    """
    found = {name: dict[str, NDArray[np.int64]]() for name in ("exact", "start", "part")}
    keys, compared = dict[str, None](), list[str]()
    for file in rundir.score_files(store):
        table = chunkfile.read(store, file, ["id", "source_key"])
        for name, hit in _tests(table, asked).items():
            found[name][file] = np.flatnonzero(pc.fill_null(hit, False))
        keys |= dict.fromkeys(table["source_key"].take(pa.array(found["part"][file])).unique().to_pylist())
        if len(compared) < _COMPARED:
            compared += table["source_key"].drop_null().unique().to_pylist()
    for name, hits in found.items():
        if count := sum(map(len, hits.values())):
            if name == "part" and len(keys) > 1:
                raise UsageError(_several(store, asked, list(keys)))
            return list(_rows(store, hits, most)), count
    close = difflib.get_close_matches(asked, compared, n=3, cutoff=0.6)
    hint = f"; near to it: {', '.join(close)}" if close else ""
    raise UsageError(f"{store.root} has no record with the id or source key '{asked}'{hint}")


def _tests(table: pa.Table, asked: str) -> dict[str, Any]:
    """In what way rows are meant, the surest first; keys are the same however their accents are written."""
    keys = pc.utf8_normalize(table["source_key"], "NFC")
    nothing = pa.nulls(table.num_rows, pa.bool_())
    return {
        "exact": pc.or_kleene(pc.equal(table["id"], asked), pc.equal(keys, nfc(asked))),
        "start": pc.starts_with(table["id"], asked) if len(asked) >= SHORTEST_ID else nothing,
        "part": pc.match_substring(keys, nfc(asked)) if asked else nothing,
    }


def _several(store: Store, asked: str, keys: list[str]) -> str:
    more = [f"and {len(keys) - MOST:,} more"] if len(keys) > MOST else []
    listed = "\n  ".join([*keys[:MOST], *more])
    return f"{store.root} has {len(keys):,} source keys with '{asked}' in them; name one:\n  {listed}"


def _rows(store: Store, hits: dict[str, NDArray[np.int64]], most: int) -> Iterator[dict[str, Any]]:
    for file, places in hits.items():
        if len(places) and most > 0:
            yield from chunkfile.read(store, file).take(pa.array(places[:most])).to_pylist()
            most -= len(places)


def shard_of(store: Store, identity: str) -> str | None:
    """Where a record's latents are: the shard that the deal gave it to, None when it is in none."""
    from curation.encoding.jobs import find_shard

    return find_shard(store, identity)


def story(plan: Plan, row: dict[str, Any], decided: dict[str, Any] | None, shard: str | None) -> Iterator[str]:
    """The lines of a record's story."""
    yield f"id          {row['id']}"
    for word, name in (("source", "source_key"), ("from", "source_uri")):
        if row[name] is not None:
            yield f"{word:<11} {row[name]}"
    if row["start_s"] is not None:
        yield f"clip        {_value(row['start_s'])} s to {_value(row['end_s'])} s"
    yield from _captions(plan, row, decided or {})
    if row["extra"]:
        yield f"extra       {row['extra'][:300]}"
    yield from _stages(plan, row)
    yield from _decision(row, decided, shard)


def _captions(plan: Plan, row: dict[str, Any], decided: dict[str, Any]) -> Iterator[str]:
    """Each caption, then where it is from, its scores, and whether it stays."""
    lists = {name: column for name, column in plan.each.items() if column in row}
    aside = {each["caption"]: each for each in decided.get("captions_set_aside") or ()}
    for i, caption in enumerate(own_captions(row, lists)):
        yield f"{'captions' if i == 0 else '':<11} {caption.text[:300]}"
        words = [f"from {caption.source}", *(f"{name}={_value(value)}" for name, value in caption.scores.items())]
        if i in aside:
            why = aside[i]
            number = f" (value {_value(why['value'])})" if why["value"] is not None else ""
            words.append(f"SET ASIDE at {why['stage']}: {why['reason']}{number}")
        elif i in (decided.get("captions_kept") or ()):
            words.append("stays")
        yield f"{'':<13} {'   '.join(words)}"
    for donor, count in Counter(each["id"] for each in decided.get("captions_merged") or ()).items():
        yield f"{'':<11} {count} more, taken over from its exact duplicate {donor}"


def heir_lines(selection: pa.Table, decided: dict[str, Any] | None) -> Iterator[str]:
    """To which record the captions of a dropped duplicate went."""
    if decided and decided["duplicate_of"]:
        heir = selection.filter(pc.equal(selection["id"], decided["duplicate_of"])).to_pylist()[0]
        count = sum(each["id"] == decided["id"] for each in heir["captions_merged"] or ())
        if count:
            yield f"captions    {count} of them went to {heir['id']}, which stays in its place"


def _stages(plan: Plan, row: dict[str, Any]) -> Iterator[str]:
    """Each stage's values, and what its gate says of them."""
    scored, cells, lists = set(row["scored"] or []), Cells.of_row(row, plan.stages), set(plan.each.values())
    for stage in plan.stages:
        if stage.name not in scored:
            yield f"{stage.name:<11} not scored"
            continue
        values = [f"{name}={_value(row[name])}" for name in stage.writes if name not in lists and _is_known(row, name)]
        none = "the generated caption: see its values above" if stage.second else "no value"
        yield f"{stage.name:<11} {'   '.join(values) or none}"
        if stage.gate is not None:
            before = set(cells.set_aside[0])
            cells.gate(stage, [0])
            passes, cells.alive[0] = cells.alive[0], True
            if not passes:
                cells.set_aside[0] = before
            yield f"{'':<11} {'passes' if passes else 'FAILS'} the gate: {stage.keep}"


def _decision(row: dict[str, Any], decided: dict[str, Any] | None, shard: str | None) -> Iterator[str]:
    if decided is None:
        yield "decision    none yet: run `curate select`"
        return
    text = decided["decision"]
    if decided["stage"]:
        text += f" at {decided['stage']}"
    if decided["reason"]:
        text += f": {decided['reason']}"
    if decided["value"] is not None:
        text += f" (value {_value(decided['value'])}, threshold {_value(decided['threshold'])})"
    yield f"decision    {text}"
    if decided["duplicate_of"]:
        yield f"duplicate   of {decided['duplicate_of']}"
    if decided["error"]:
        yield f"error       {decided['error']}"
    if shard:
        yield f"shard       {shard}"


def _is_known(row: dict[str, Any], name: str) -> bool:
    value = row.get(name)
    return value is not None and value == value  # NaN is a value that could not be had


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) > _LONG:
        return f"[{len(value)} values]"
    return str(value)
