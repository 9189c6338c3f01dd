"""One record's whole story, from what a run directory holds."""

import difflib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import rundir
from curation.encoding.captions import own_captions
from curation.errors import UsageError
from curation.plan import Plan, make_plan
from curation.progress import console
from curation.scoring import chunkfile
from curation.scoring.cells import Cells
from curation.stores.storage import Store

_LONG = 12


def tell(directory: str, identity: str) -> None:
    """Print a record's source, scores in the order of the stages with their gates, decision, and shard."""
    store = Store(directory)
    plan = make_plan(rundir.load_manifest(store, ()))
    selection = rundir.read_selection(store)
    row = find(store, identity)
    decided = next(iter(selection.filter(pc.equal(selection["id"], row["id"])).to_pylist()), None)
    out = console()
    lines = [*story(plan, row, decided, shard_of(store, row["id"])), *heir_lines(selection, decided)]
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def find(store: Store, identity: str) -> dict[str, Any]:
    """The row of scores/ with that id, beginning of an id, or source key. Raises UsageError when there is none."""
    near: list[str] = []
    for file in rundir.score_files(store):
        table = chunkfile.read(store, file, ["id", "source_key"])
        hit = pc.or_(pc.equal(table["id"], identity), pc.equal(table["source_key"], identity))
        if len(identity) >= 8:
            hit = pc.or_(hit, pc.starts_with(table["id"], identity))
        if pc.any(hit).as_py():
            return chunkfile.read(store, file).filter(hit).slice(0, 1).to_pylist()[0]  # type: ignore[no-any-return]
        if len(near) < 20_000:
            near += table["source_key"].to_pylist()
    close = difflib.get_close_matches(identity, near, n=3, cutoff=0.6)
    hint = f"; near to it: {', '.join(close)}" if close else ""
    raise UsageError(f"{store.root} has no record with the id or source key '{identity}'{hint}")


def shard_of(store: Store, identity: str) -> str | None:
    """Where a record's latents are: the shard that the deal gave it to, None when it is in none."""
    from curation.encoding.jobs import find_shard

    return find_shard(store, identity)


def story(plan: Plan, row: dict[str, Any], decided: dict[str, Any] | None, shard: str | None) -> Iterator[str]:
    """The lines of a record's story."""
    yield f"id          {row['id']}"
    yield f"source      {row['source_key']}"
    yield f"from        {row['source_uri']}"
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
        values = [f"{name}={_value(row.get(name))}" for name in stage.writes if name not in lists]
        yield f"{stage.name:<11} {'   '.join(values) or 'the generated caption: see its values above'}"
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


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) > _LONG:
        return f"[{len(value)} values]"
    return str(value)
