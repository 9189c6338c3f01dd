"""Checkpoints: safetensors and JSON in a folder of their own, there as a whole or not at all."""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

from curation.errors import CurationError, UsageError
from curation.stores import jsontext
from curation.stores.storage import Store
from curation.trainer import saved

FORMAT_VERSION = 1
FOLDER = "checkpoints"
STATE = "state.json"
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """One committed checkpoint.

    state  JSON: step, config, model, vae, text, null_text, buckets ... and the sha256 of each file beside it
    """

    store: Store
    state: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["step"])

    def tensors(self, part: str) -> Tensors:
        """`model`, `ema` or `optimizer`. Raises CurationError where the file is missing or altered."""
        file = f"{part}.safetensors"
        if not self.store.exists(file):
            raise CurationError(f"{self.store.uri(file)} is missing: delete the checkpoint's folder, and train again")
        data = self.store.read(file)
        if hashlib.sha256(data).hexdigest() != self.state["files"].get(file):
            raise CurationError(f"{self.store.uri(file)} is cut short or altered: delete its folder, and train again")
        try:
            tensors: Tensors = load_tensors(data)
        except safetensors.SafetensorError as error:
            raise CurationError(f"{self.store.uri(file)} is no safetensors file: {error}") from error
        return tensors


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def write(out: Store, state: Mapping[str, Any], parts: Mapping[str, Tensors], keep: int) -> Checkpoint:
    """Commit a checkpoint under out/checkpoints/step-N, its state last; then remove all but the last `keep`."""
    store = out.child(f"{FOLDER}/{name_of(int(state['step']))}")
    files = {}
    with out.workspace() as folder:
        for part, tensors in parts.items():
            path = folder / f"{part}.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
            with path.open("rb") as file:
                files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
            store.put(path.name, path)
    full = {"format_version": FORMAT_VERSION, **state, "files": files}
    store.write(STATE, (json.dumps(full, indent=1, sort_keys=True) + "\n").encode())
    kept = steps(out)[-keep:]
    for name in folders(out):
        if name not in {name_of(step) for step in kept}:
            remove(out, name)
    return Checkpoint(store, full)


def steps(out: Store) -> list[int]:
    """Of the committed checkpoints, rising."""
    pattern = re.compile(rf"{FOLDER}/step-([0-9]+)/{re.escape(STATE)}")
    return sorted(int(match[1]) for entry in out.list(FOLDER) if (match := pattern.fullmatch(entry.name)))


def folders(out: Store) -> list[str]:
    """Of all checkpoints, whole or begun."""
    found = {m[1] for entry in out.list(FOLDER) if (m := re.match(rf"{FOLDER}/(step-[0-9]+)/", entry.name))}
    if out.local and (out.local / FOLDER).is_dir():
        found |= {path.name for path in (out.local / FOLDER).glob("step-*") if path.is_dir()}
    return sorted(found)


def remove(out: Store, name: str) -> None:
    """Take a checkpoint away, its state first: half of one is never taken for one."""
    folder = f"{FOLDER}/{name}"
    names = sorted((entry.name for entry in out.list(folder)), key=lambda name: not name.endswith(STATE))
    for name in names:
        out.delete(name)
    if out.local:
        shutil.rmtree(out.local / folder, ignore_errors=True)  # with what a killed process left half written


def latest(out: Store) -> Checkpoint | None:
    """The newest committed checkpoint of a training directory."""
    found = steps(out)
    return read(out.child(f"{FOLDER}/{name_of(found[-1])}")) if found else None


def find(place: str) -> Checkpoint:
    """A checkpoint's folder, a training directory, or a run directory with train/ in it -> its (newest) checkpoint."""
    store = Store(place)
    if store.exists(STATE):
        return read(store)
    for out in (store, store.child("train")):
        if found := latest(out):
            return found
    raise UsageError(f"{place} holds no checkpoint: name a folder that `curate train` wrote")


def read(store: Store) -> Checkpoint:
    """Raises CurationError with a sentence where the state is damaged, or of another program or version."""
    try:
        state = jsontext.parse(store.read(STATE))
    except ValueError as error:
        raise CurationError(f"{store.uri(STATE)} is damaged ({error})") from error
    if not isinstance(state, dict) or state.get("format_version") != FORMAT_VERSION:
        raise CurationError(f"{store.uri(STATE)} is no checkpoint of this program's format {FORMAT_VERSION}")
    saved.check(state, store.uri(STATE))
    return Checkpoint(store, state)
