"""Decisions over scores that a test wrote."""

from collections.abc import Mapping
from typing import Any

from curation.manifest import Manifest
from curation.selection.decisions import SCHEMA
from curation.selection.select import Gate, decide
from curation.stores.storage import Store

GATES: list[Gate] = [("a", None, None), ("b", None, None)]


def manifest(encode: Mapping[str, Any] | None = None, seed: int = 0, **select: Any) -> Manifest:
    data = {"name": "t", "source": {"table": "t.jsonl"}, "select": select, "seed": seed}
    return Manifest.model_validate(data | ({"encode": encode} if encode else {}))


def rows(store: Store, made: Manifest, gates: list[Gate] = GATES, **options: Any) -> dict[str, dict[str, Any]]:
    """id -> what selection.parquet says of it, nulls left out."""
    decided = decide(store, made, gates, options.pop("failed", {}), **options)
    ids = decided["id"].to_pylist()
    assert decided.schema == SCHEMA and ids == sorted(set(ids))
    return {row.pop("id"): {k: v for k, v in row.items() if v is not None} for row in decided.to_pylist()}


def kept(decided: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [identity for identity, row in decided.items() if row["decision"] == "kept"]
