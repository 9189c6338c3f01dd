"""What a run directory holds: the resolved manifest, the decision, and where each is committed."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from curation.errors import UsageError
from curation.load import Loaded, load
from curation.plan import Plan
from curation.scoring import chunkfile
from curation.stage import sentence
from curation.stores.ahead import read_ahead
from curation.stores.location import resolve
from curation.stores.storage import Store

MANIFEST = "manifest.yaml"
FOOTER_READERS = 8
SELECTION = "selection.parquet"


def resolved(plan: Plan) -> dict[str, Any]:
    """The manifest with every default written out, the stages' params and the models' ids and hashes."""
    manifest = plan.loaded.manifest
    data = manifest.model_dump(mode="json", exclude={"score", "source"})
    data["source"] = [source.model_dump(mode="json", exclude_defaults=True) for source in manifest.source]
    data["score"] = []
    for stage in (stage for stage in plan.stages if not stage.second):
        body = {"keep": stage.keep, "when": stage.when, **stage.params.model_dump(mode="json")}
        data["score"].append({_key(plan, stage.name): {key: value for key, value in body.items() if value is not None}})
    head = {
        "name": data.pop("name"),
        "seed": data.pop("seed"),
        "source": data.pop("source"),
        "models": data.pop("models"),
        "device": plan.device,
    }
    del data["device"]
    return head | {"score": data.pop("score")} | {key: value for key, value in data.items() if value is not None}


def _key(plan: Plan, name: str) -> str:
    """The stage's key as the manifest says it (`package.module:Class` for a user's own)."""
    for entry in plan.loaded.manifest.score:
        if entry.stage == name:
            return name
    return next((e.stage for e in plan.loaded.manifest.score if e.stage.endswith(f":{_class(plan, name)}")), name)


def _class(plan: Plan, name: str) -> str:
    return next(stage.factory.__name__ for stage in plan.stages if stage.name == name)


def write_manifest(store: Store, plan: Plan) -> None:
    """Commit manifest.yaml: runs again as it is; the models' hashes and the place it came from stand in comments."""
    models = [(stage.name, stage.model) for stage in plan.stages if stage.model and not stage.second]
    models += [(role, model) for role, model in (("vae", plan.vae), ("text", plan.text)) if model]
    notes = ["# as resolved: every default written out, paths absolute"]
    notes += [f"# model {role}: {model.id} sha256:{model.sha256}" for role, model in models]
    body = yaml.safe_dump(resolved(plan), sort_keys=False, allow_unicode=True, width=110)
    store.write(MANIFEST, ("\n".join(notes) + "\n" + body).encode())


def load_manifest(store: Store, overrides: Sequence[str]) -> Loaded:
    """The run's own manifest. Raises UsageError where there is no run."""
    if not store.exists(MANIFEST):
        raise UsageError(f"{store.root} holds no {MANIFEST}: it is not a run directory")
    return load(resolve(store.root, MANIFEST), overrides)


def write_selection(store: Store, selection: pa.Table) -> None:
    """Commit selection.parquet; the same decision gives the same bytes."""
    with store.workspace() as folder:
        local = folder / SELECTION
        pq.write_table(selection, local, compression="zstd", row_group_size=100_000)
        store.put(SELECTION, local)


def read_selection(store: Store) -> pa.Table:
    """The decision. Raises UsageError where none was made, or where the file cannot be read as one."""
    if not store.exists(SELECTION):
        raise UsageError(f"{store.root} holds no {SELECTION} yet: `curate run` makes it")
    try:
        with store.open(SELECTION) as stream:
            return pq.ParquetFile(stream).read()
    except pa.ArrowException as error:
        raise UsageError(
            f"{store.uri(SELECTION)} cannot be read as a decision ({sentence(error)}); `curate select` or "
            "`curate run` makes it anew"
        ) from error


def score_files(store: Store) -> list[str]:
    """Names of the chunk files in scores/, in chunk order."""
    names = [entry.name.rpartition("/")[2] for entry in store.list(chunkfile.SCORES)]
    return sorted(name for name in names if chunkfile.number_of(name) is not None)


def footers(store: Store) -> Iterator[tuple[int, dict[str, Any]]]:
    """Of each chunk file, in chunk order, its rows and what its metadata says; see `chunkfile.footer`."""
    return read_ahead(lambda file: chunkfile.footer(store, file), score_files(store), FOOTER_READERS)
