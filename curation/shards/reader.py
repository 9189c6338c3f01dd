"""Reads shards, and refuses those that do not match what the index promises."""

import base64
import hashlib
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.shards import index as index_file
from curation.shards import scaling
from curation.shards.containers import ShardFile, bytes_of, container_of
from curation.shards.sample import Halfs, Sample
from curation.stores.storage import Store

OPEN = 256
"""Shards held open: mapped files, those of an object store copied to the disk for temporary files."""


class Shards:
    """A folder of shards: `len`, samples by number in the order of the index, iteration.

    Their samples have latents, media (`sample.media.suffix`, `.data`), or both. What needs latents raises
    CurationError where there are none: `vae`, `shape`.

    Threads may share it; pickled it travels to other processes, which open their own files.

    root    the run's shards/ folder, a path or URL
    vae     weights' sha256 that the caller will decode with; another VAE's latents are refused
    verify  whether each shard's bytes are hashed when it is first opened in this process
    text    name of the text part that `sample.texts`, `null_text` and the index's `text` are to be, where the shards
            have several; None: the first

    Raises CurationError with a sentence: no or damaged index, wrong VAE, a scaling that is not that
    VAE's, NaNs; and when a shard is opened: missing, cut short, altered, other counts or shapes than the index says.
    """

    def __init__(self, root: str, vae: str | None = None, verify: bool = True, text: str | None = None) -> None:
        self.store = Store(root)
        self.index = index_file.read(self.store)
        self.text = self._chosen(text)
        self.verify = verify
        self._check(root, vae)
        self.entries: list[dict[str, Any]] = self.index["shards"]
        self._first = [0, *accumulate(entry["samples"] for entry in self.entries)]
        self._verified: set[int] = set()
        self._open: OrderedDict[int, ShardFile] = OrderedDict()
        self._opening = threading.Lock()
        self.mean, self.std = self._statistics("latents_mean"), self._statistics("latents_std")

    def _statistics(self, name: str) -> NDArray[np.float32]:
        """Of the VAE, [C, 1, 1, 1]; C = 0 for shards of media alone."""
        return np.array((self.index["vae"] or {}).get(name, []), np.float32).reshape(-1, 1, 1, 1)

    @property
    def vae(self) -> dict[str, Any]:
        """What the index says of the VAE. Raises CurationError for shards of media alone."""
        made_by: dict[str, Any] | None = self.index["vae"]
        if made_by is None:
            raise CurationError(
                f"{self.store.root} holds media and no latents (its manifest says `latents: false`): encode with "
                "`latents: true` to train on them"
            )
        return made_by

    @property
    def text_parts(self) -> list[str]:
        """Names of the text parts beside the first, such as clip_g and clip_g_pooled."""
        return list(self.index.get("text_parts", {}))

    def _chosen(self, text: str | None) -> str | None:
        """The part that is not the first one, with the index changed to tell of it. Raises CurationError."""
        if text is None or text == (self.index["text"] or {}).get("name"):
            return None
        if text not in self.text_parts:
            first = (self.index["text"] or {}).get("name")
            known = ", ".join(filter(None, [first, *self.text_parts])) or "one without a name"
            raise CurationError(f"{self.store.root} has no text states named '{text}'; there are: {known}")
        part = self.index["text_parts"][text]
        self.index = self.index | {"text": {key: part[key] for key in part if key != "null"}, "null_text": part["null"]}
        return text

    def _check(self, root: str, vae: str | None) -> None:
        if self.index["vae"] is None and vae is None:
            return
        made_by = self.vae
        if vae is not None and made_by["sha256"] != vae:
            which = f"{made_by['id']} ({made_by['sha256'][:12]})"
            raise CurationError(
                f"{root} holds latents of the VAE {which}, not of {vae[:12]}: encode again with that one"
            )
        if self.index["nan_count"]:
            raise CurationError(
                f"{root} holds {self.index['nan_count']} latents that are NaN or infinite: encode again"
            )
        if problem := scaling.problem(self.index):
            raise CurationError(f"{root}: {problem}: encode again")

    @property
    def paths(self) -> list[str]:
        """Shards in the order of the index."""
        return [entry["path"] for entry in self.entries]

    def __len__(self) -> int:
        return self._first[-1]

    def __getitem__(self, number: int) -> Sample:
        """A sample by its number over all shards, raw fp16; IndexError past the end."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.store.root} has {len(self)} samples, none with the number {number}")
        shard = bisect_right(self._first, number) - 1
        return self._checked(shard, self.open(shard)[number - self._first[shard]])

    def __iter__(self) -> Iterator[Sample]:
        for shard in range(len(self.entries)):
            yield from self.read(shard)

    def read(self, shard: int) -> Iterator[Sample]:
        """The samples of one shard (its place in the index) in order."""
        return (self._checked(shard, sample) for sample in self.open(shard))

    def open(self, shard: int) -> ShardFile:
        """A shard by its place in the index, verified once; the last few stay open."""
        with self._opening:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
            entry = self.entries[shard]
            opened = self._verified_file(shard, entry)
            if len(opened) != entry["samples"]:
                name = self._name(entry)
                raise CurationError(f"{name} holds {len(opened)} samples, the index says {entry['samples']}")
            self._open[shard] = opened
            if len(self._open) > OPEN:
                self._open.popitem(last=False)
            return opened

    def check_files(self) -> None:
        """Whether all shards are there with the size that the index says; opens none. Raises CurationError."""
        sizes = {entry.name: entry.size for entry in self.store.list()}
        for entry in self.entries:
            if entry["path"] not in sizes:
                raise CurationError(f"{self._name(entry)} is in the index but does not exist: encode again")
            self._check_size(entry, sizes[entry["path"]])

    def _check_size(self, entry: dict[str, Any], size: int) -> None:
        if size != entry["bytes"]:
            said = f"{size:,} bytes, the index says {entry['bytes']:,}"
            raise CurationError(f"{self._name(entry)} has {said}: it is cut short or altered, encode again")

    def _verified_file(self, shard: int, entry: dict[str, Any]) -> ShardFile:
        name = self._name(entry)
        try:
            data = bytes_of(self.store, entry["path"])
        except CurationError as error:
            raise CurationError(f"{name} is in the index but cannot be read: {error}") from error
        self._check_size(entry, data.size)
        if self.verify and shard not in self._verified:
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise CurationError(
                    f"{name} does not have the sha256 that the index says: it was altered, encode again"
                )
            self._verified.add(shard)
        return container_of(entry["path"]).open(data, name)

    def _name(self, entry: dict[str, Any]) -> str:
        return f"{self.store.root}/{entry['path']}"

    def _checked(self, shard: int, sample: Sample) -> Sample:
        name = self._name(self.entries[shard])
        shape = None if sample.mean is None else sample.mean.shape
        if shape != (expected := self.shape(shard) if self.index["vae"] else None):
            raise CurationError(f"{name}: {sample.id} has the shape {shape}, the bucket's is {expected}")
        if sample.media is None and self.index.get("media"):
            raise CurationError(f"{name}: {sample.id} has no media, which the index promises: encode it again")
        if self.text is not None:
            if self.text not in sample.parts:
                raise CurationError(f"{name}: {sample.id} has no text part '{self.text}': encode it again")
            sample.texts = sample.parts[self.text]
        return sample

    def shape(self, shard: int) -> tuple[int, int, int, int]:
        """[C, T, h, w] of every latent in a shard: its bucket over the VAE's factors."""
        vae = self.vae
        frames, height, width = (int(side) for side in self.entries[shard]["bucket"].split("x"))
        factor = vae["spatial_factor"]
        return vae["channels"], (frames - 1) // vae["temporal_factor"] + 1, height // factor, width // factor

    def normalize(self, latents: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Raw latents [C, T, h, w] -> unit scale: (z - mean) / std per channel."""
        return (latents.astype(np.float32) - self.mean) / self.std

    def null_text(self) -> Halfs:
        """The one embedding of the empty caption, for dropout in training and guidance: [n, D].

        Raises CurationError where captions were stored as words alone.
        """
        entry = self.index["null_text"]
        if entry is None:
            raise CurationError(f"{self.store.root} holds no text states (its manifest says `text: null`)")
        return np.frombuffer(base64.b64decode(entry["fp16"]), np.float16).reshape(entry["shape"])

    def __getstate__(self) -> dict[str, Any]:
        """Open files do not travel to other processes."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_opening")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_open": OrderedDict(), "_opening": threading.Lock()}
