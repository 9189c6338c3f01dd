"""One record's whole story, from what a run directory holds."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc

from curation import rundir
from curation.errors import UsageError
from curation.plan import Plan, make_plan
from curation.progress import console
from curation.scoring import chunkfile
from curation.stores.storage import Store

_LONG = 12


def tell(directory: str, identity: str) -> None:
    """Print a record's source, scores in the order of the stages with their gates, decision, and shard."""
    store = Store(directory)
    plan = make_plan(rundir.load_manifest(store, ()))
    selection = rundir.read_selection(store)
    row = find(store, identity)
    decided = selection.filter(pc.equal(selection["id"], row["id"])).to_pylist()
    out = console()
    for line in story(plan, row, decided[0] if decided else None, shard_of(store, row["id"])):
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
    for i, caption in enumerate(row["captions"] or []):
        yield f"{'captions' if i == 0 else '':<11} {caption[:300]}"
    if row["extra"]:
        yield f"extra       {row['extra'][:300]}"
    scored = set(row["scored"] or [])
    for stage in plan.stages:
        if stage.name in scored:
            yield f"{stage.name:<11} {'   '.join(f'{name}={_value(row.get(name))}' for name in stage.factory.writes)}"
        else:
            yield f"{stage.name:<11} not scored"
        if stage.gate is not None and stage.name in scored:
            columns = {name: [_named(row, name)] for name in stage.gate.names}
            yield f"{'':<11} {'passes' if bool(stage.gate.evaluate(columns)[0]) else 'FAILS'} the gate: {stage.keep}"
    yield from _decision(row, decided, shard)


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


def _named(row: dict[str, Any], name: str) -> Any:
    if name.startswith("extra."):
        return json.loads(row["extra"] or "{}").get(name.removeprefix("extra."))
    return row.get(name)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) > _LONG:
        return f"[{len(value)} values]"
    return str(value)
