"""What of a run directory can no longer be relied on: removed before a run goes on, which then makes it anew.

A run relies on what it wrote itself: chunk files of scores/, reports of encoded shards, and the shards. JSON has to be
JSON, Parquet's pages carry checksums, and shards have the sha256 of their reports. A file whose size and time of change
are those that the last run left is not read again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation import rundir
from curation.encoding.jobs import WORK
from curation.encoding.reports import fault
from curation.errors import CurationError
from curation.scoring import chunkfile
from curation.scoring.pending import MARKER
from curation.shards import index
from curation.stores import jsontext
from curation.stores.ahead import read_ahead
from curation.stores.storage import Entry, Store

SEEN = "_work/seen.json"
"""Scores and shards as the last run left them: name -> size and time of change."""
READERS = 8
Say = Callable[[str], None]


@dataclass(frozen=True)
class Damage:
    """A damaged file, why, and what has to go for it to be made anew."""

    name: str
    why: str
    remove: tuple[str, ...] = ()


def repair(store: Store, say: Say) -> None:
    """Remove what is damaged, and say so. Reads whole only what changed since the last run."""
    seen = _seen(store)
    for damage in [*_json_damage(store), *_scores_damage(store, seen), *_shard_damage(store, seen)]:
        say(f"damaged and made anew: {store.uri(damage.name)} ({damage.why})")
        for name in damage.remove or (damage.name,):
            store.delete(name)


def note_sound(store: Store) -> None:
    """After a run: remember scores and shards as they lie there."""
    files = [entry for folder in (chunkfile.SCORES, "shards") for entry in store.list(folder)]
    seen = {entry.name: [entry.size, entry.changed_ns] for entry in files if not entry.name.endswith(index.NAME)}
    store.write(SEEN, json.dumps(seen, sort_keys=True).encode())


def verify(store: Store) -> list[str]:
    """`curate verify`: everything in a run directory read whole; a sentence for each damaged file.

    Raises UsageError where there is no run.
    """
    if not any(store.exists(name) for name in (rundir.MANIFEST, f"shards/{index.NAME}", index.NAME)):
        rundir.load_manifest(store, ())
    found = [
        *_json_damage(store),
        *_scores_damage(store, None),
        *_shard_damage(store, {}),
        *_products_damage(store),
    ]
    return [f"{store.uri(damage.name)}: {damage.why}" for damage in found]


def _json_damage(store: Store) -> Iterator[Damage]:
    """Work files and the index, which hold a JSON object each."""
    names = [e.name for e in store.list("_work") if e.name.endswith((".json", ".failed"))]
    names += [name for name in (f"shards/{index.NAME}",) if store.exists(name)]
    for name in names:
        content = _object(store, name)
        if content is None:
            yield Damage(name, "it is no JSON object")
        elif why := fault(name, content):
            yield Damage(name, why)
    notes = f"{WORK}/facts/reconstructions.txt"
    if store.exists(notes) and not store.read(notes).isascii():
        yield Damage(notes, "it is no plain text")


def _object(store: Store, name: str) -> dict[str, Any] | None:
    try:
        return jsontext.parse_object(store.read(name))
    except ValueError:
        return None


def _scores_damage(store: Store, seen: dict[str, Any] | None) -> Iterator[Damage]:
    """Chunk files: their footers, and the pages of those that changed since they were `seen`; None for all."""
    there = {entry.name: [entry.size, entry.changed_ns] for entry in store.list(chunkfile.SCORES)}

    def look(file: str) -> Damage | None:
        name = f"{chunkfile.SCORES}/{file}"
        try:
            with store.open(name) as stream:
                if seen is None or seen.get(name, there[name]) != there[name]:
                    pq.read_table(stream, page_checksum_verification=True)
            chunkfile.footer(store, file)
        except (pa.ArrowException, OSError, ValueError) as error:
            return Damage(name, " ".join(str(error).split())[:120])
        except CurationError as error:
            return Damage(name, " ".join(str(error.__cause__ or error).split())[:120])
        return None

    damages = [damage for damage in read_ahead(look, rundir.score_files(store), READERS) if damage]
    yield from damages
    if damages and seen is not None:
        yield Damage(MARKER, "it speaks of scores that are gone")


def _shard_damage(store: Store, seen: dict[str, Any]) -> Iterator[Damage]:
    """Published shards against their reports; where there are none (shards alone), against the index."""
    there = {entry.name: entry for entry in store.list("shards")}
    reports = [e.name for e in store.list(WORK) if e.name.endswith(".json") and "/facts/" not in e.name]
    described = {name: (_object(store, name) or {}).get("shard") for name in reports}
    wanted = [(name, shard) for name, shard in described.items() if isinstance(shard, dict)]
    for report, shard in wanted:
        name = f"shards/{shard.get('path')}"
        if (entry := there.get(name)) and (why := _fault(store, entry, shard, seen.get(name))):
            yield Damage(name, why, (report, name))


def _fault(store: Store, entry: Entry, shard: dict[str, Any], seen: Any) -> str | None:
    if entry.size != shard.get("bytes"):
        return f"it has {entry.size} bytes and was written with {shard.get('bytes')}"
    if seen == [entry.size, entry.changed_ns]:
        return None
    with store.open(entry.name) as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    return None if found == shard.get("sha256") else "its sha256 is not that of its report"


def _products_damage(store: Store) -> Iterator[Damage]:
    """What each run writes anew: the decision, the account, the manifest, and the index against its shards."""
    if store.exists(rundir.SELECTION):
        try:
            rundir.read_selection(store)
        except (CurationError, pa.ArrowException, OSError, ValueError) as error:
            yield Damage(rundir.SELECTION, " ".join(str(error).split())[:300])
    if store.exists("run.json") and _object(store, "run.json") is None:
        yield Damage("run.json", "it is no JSON object")
    shards = store.child("shards")
    if not shards.exists(index.NAME):
        return
    try:
        entries = index.read(shards)["shards"]
    except CurationError as error:
        yield Damage(f"shards/{index.NAME}", str(error))
        return
    there = {entry.name: entry for entry in store.list("shards")}
    for each in entries:
        name = f"shards/{each['path']}"
        why = _fault(store, there[name], each, None) if name in there else "it is missing"
        if why:
            yield Damage(name, why)


def _seen(store: Store) -> dict[str, Any]:
    return (_object(store, SEEN) or {}) if store.exists(SEEN) else {}
