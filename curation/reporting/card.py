"""`curate card`: what a data set is, for those who get it: a Markdown card, and its description in Croissant 1.0."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import rundir
from curation.errors import UsageError
from curation.plan import Plan, make_plan
from curation.reporting import corpus, ledger
from curation.selection.select import gates_of, read_scores
from curation.stores import jsontext
from curation.stores.storage import Store

CARD, CROISSANT = "card.md", "croissant.json"
_TYPES = {"string": "sc:Text", "double": "sc:Float"}
_KINDS = {".tar": "application/x-tar", ".parquet": "application/x-parquet"}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification of Croissant 1.0 prescribes."""


def write_card(directory: str) -> list[str]:
    """Write card.md and croissant.json into a finished run's directory; returns where they are.

    Raises UsageError where the run is not finished.
    """
    store = Store(directory)
    plan = make_plan(rundir.load_manifest(store, ()))
    if not store.exists(ledger.RUN):
        raise UsageError(f"{store.root} holds no {ledger.RUN} yet: `curate run` makes it")
    account = jsontext.read_object(store, ledger.RUN)
    selection, shards = rundir.read_selection(store), _shards(store)
    store.write(CARD, "\n".join(_card(plan, account, shards, _charts(store, plan, selection))).encode())
    described = _croissant(store, plan, account, shards, selection.schema)
    store.write(CROISSANT, json.dumps(described, indent=2).encode())
    return [store.uri(CARD), store.uri(CROISSANT)]


def _shards(store: Store) -> list[dict[str, Any]]:
    if not store.exists("shards/index.json"):
        return []
    found: list[dict[str, Any]] = jsontext.read_object(store, "shards/index.json")["shards"]
    return found


def describe(account: Mapping[str, Any]) -> str:
    """What the data set is, in two sentences."""
    dropped, quarantined = (sum(account[name].values()) for name in ("dropped", "quarantined"))
    return (
        f"Pictures or clips with captions, chosen from {account['records_in']:,} records: {account['kept']:,} were "
        f"kept, {dropped:,} dropped by thresholds, duplicates and caps, and {quarantined:,} could not be read. "
        f"Made by curation {account['versions'].get('curation', '')}, manifest {account['config_hash']}."
    )


def _card(
    plan: Plan,
    account: Mapping[str, Any],
    shards: Sequence[Mapping[str, Any]],
    charts: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    manifest = plan.loaded.manifest
    yield from (
        f"# {manifest.name}",
        "",
        describe(account),
        "",
        "## What was left out",
        "",
        "| reason | records |",
        "|---|---|",
    )
    for fate in ("quarantined", "dropped"):
        for reason, count in sorted(account[fate].items(), key=lambda item: (-item[1], item[0])):
            yield f"| {fate}, {_cell(reason)} | {count:,} |"
    yield from ("", "## Models", "", "| role | model | sha256 |", "|---|---|---|")
    models = [(stage.name, stage.model) for stage in plan.stages if stage.model and not stage.second]
    models += [(role, model) for role, model in (("vae", plan.vae), ("text", plan.text)) if model]
    yield from (f"| {name} | {_cell(model.id)} | {model.sha256} |" for name, model in models)
    yield from ("", "## What it holds", "")
    for chart in charts:
        kept = [(label, count) for label, _, count in chart["bars"] if count]
        if kept:
            yield f"- {chart['title']}: " + ", ".join(f"{_cell(label)} ({count:,})" for label, count in kept)
    if shards:
        size = sum(shard["bytes"] for shard in shards) / 1e6
        samples = sum(shard["samples"] for shard in shards)
        yield f"- Shards: {len(shards):,} files, {samples:,} samples, {size:,.1f} MB"
    yield from ("", "## Licence", "")
    yield (
        "The licence of the pictures is that of their sources, and this program does not know it: say it here before "
        "you hand the data set on. Where the source has a licence column, its values are counted above."
    )
    yield from ("", "## To make it again", "", "`curate run manifest.yaml`, with the manifest beside this card.", "")


def _charts(store: Store, plan: Plan, selection: pa.Table) -> list[dict[str, Any]]:
    manifest = plan.loaded.manifest
    scores = read_scores(store, manifest, gates_of(plan), plan.each, corpus.COLUMNS)
    kept = pc.equal(selection["decision"], "kept").to_numpy()
    return corpus.charts(scores, np.asarray(kept, bool), manifest)


def _cell(text: str) -> str:
    """A text of the corpus as Markdown's table and list hold it: no markup of its own."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return plain.replace("<", "&lt;").replace("[", "\\[")


def _croissant(
    store: Store,
    plan: Plan,
    account: Mapping[str, Any],
    shards: Sequence[Mapping[str, Any]],
    columns: pa.Schema,
) -> dict[str, Any]:
    """JSON-LD: the decision as a record set, each shard as a file with its hash."""
    decision = store.read(rundir.SELECTION)
    files = [_file("selection", rundir.SELECTION, hashlib.sha256(decision).hexdigest(), len(decision))]
    files += [
        _file(f"shard-{i}", f"shards/{shard['path']}", shard["sha256"], shard["bytes"])
        for i, shard in enumerate(shards)
    ]
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"decisions/{column.name}",
            "name": column.name,
            "dataType": _TYPES[str(column.type)],
            "source": {"fileObject": {"@id": "selection"}, "extract": {"column": column.name}},
        }
        for column in columns
        if str(column.type) in _TYPES
    ]
    records = {"@type": "cr:RecordSet", "@id": "decisions", "name": "decisions", "field": fields}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": plan.loaded.manifest.name,
        "description": describe(account),
        "distribution": files,
        "recordSet": [records],
    }


def _file(identity: str, path: str, sha256: str, size: int) -> dict[str, Any]:
    kind = next((kind for suffix, kind in _KINDS.items() if path.endswith(suffix)), "application/octet-stream")
    return {
        "@type": "cr:FileObject",
        "@id": identity,
        "name": identity,
        "contentUrl": path,
        "contentSize": f"{size} B",
        "encodingFormat": kind,
        "sha256": sha256,
    }
