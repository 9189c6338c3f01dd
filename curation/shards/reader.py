"""Reads latent shards for training, and refuses those that do not match what the index promises."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError
from curation.shards import index as index_file
from curation.shards.containers import container_of
from curation.shards.sample import Sample
from curation.storage import Store

RMS_RANGE = (0.5, 1.5)
"""Of the normalised latents: outside it, a wrong scaling factor is the usual cause."""


class Shards:
    """A folder of latent shards.

    root   the run's shards/ folder, a path or URL
    vae    weights' sha256 that the caller will decode with; another VAE's latents are refused
    verify whether each shard's bytes are hashed when it is opened (once per process and shard)

    Raises CurationError with a sentence: no or damaged index, wrong VAE, normalised RMS outside 0.5-1.5, NaNs,
    a shard missing, cut short, altered, or with other counts or shapes than the index says.
    """

    def __init__(self, root: str, vae: str | None = None, verify: bool = True) -> None:
        self.store = Store(root)
        self.index = index_file.read(self.store)
        self.verify = verify
        self._verified: set[str] = set()
        if vae is not None and self.index["vae"]["sha256"] != vae:
            raise CurationError(f"{root} holds latents of the VAE {self.index['vae']['id']} ({self.index['vae']['sha256'][:12]}), not of {vae[:12]}")
        self._check_statistics(root)
        shape = (-1, 1, 1, 1)
        self.mean: NDArray[np.float32] = np.array(self.index["vae"]["latents_mean"], np.float32).reshape(shape)
        self.std: NDArray[np.float32] = np.array(self.index["vae"]["latents_std"], np.float32).reshape(shape)

    def _check_statistics(self, root: str) -> None:
        if self.index["nan_count"]:
            raise CurationError(f"{root} holds {self.index['nan_count']} latents that are NaN or infinite: encode again")
        rms = self.index["statistics"]["normalized_rms"]
        if self.index["samples"] and not RMS_RANGE[0] <= rms <= RMS_RANGE[1]:
            raise CurationError(
                f"{root}: normalised latents have an RMS of {rms:.3g}, outside {RMS_RANGE[0]}-{RMS_RANGE[1]}: "
                f"the VAE's scaling does not fit these latents"
            )

    @property
    def paths(self) -> list[str]:
        """Shards in the order of the index."""
        return [shard["path"] for shard in self.index["shards"]]

    def __len__(self) -> int:
        return int(self.index["samples"])

    def read(self, path: str) -> Iterator[Sample]:
        """The samples of one shard in order, raw fp16 as views of its bytes."""
        entry = next((shard for shard in self.index["shards"] if shard["path"] == path), None)
        if entry is None:
            raise CurationError(f"{self.store.root}: the index names no shard {path}")
        data = self._bytes(entry)
        bucket = tuple(int(side) for side in entry["bucket"].split("x"))
        factor = self.index["vae"]["spatial_factor"]
        expected = (self.index["vae"]["channels"], bucket[0], bucket[1] // factor, bucket[2] // factor)
        count = 0
        for sample in container_of(path).read(data, f"{self.store.root}/{path}"):
            if sample.mean.shape != expected:
                raise CurationError(f"{self.store.root}/{path}: {sample.id} has the shape {sample.mean.shape}, its bucket {expected}")
            count += 1
            yield sample
        if count != entry["samples"]:
            raise CurationError(f"{self.store.root}/{path} holds {count} samples, the index says {entry['samples']}")

    def _bytes(self, entry: dict[str, Any]) -> bytes:
        path = entry["path"]
        try:
            data = self.store.read(path)
        except CurationError as error:
            raise CurationError(f"{self.store.root}/{path} is in the index but cannot be read: {error}") from error
        if self.verify and path not in self._verified:
            if len(data) != entry["bytes"]:
                raise CurationError(f"{self.store.root}/{path} has {len(data):,} bytes, the index says {entry['bytes']:,}: it is cut short or altered")
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise CurationError(f"{self.store.root}/{path} does not have the sha256 that the index says: it was altered")
            self._verified.add(path)
        return data

    def normalize(self, latents: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Raw latents [C, T, h, w] -> unit scale: (z - mean) / std per channel."""
        return (latents.astype(np.float32) - self.mean) / self.std

    def null_text(self) -> NDArray[np.float16]:
        """The one embedding of the empty caption, for dropout at training time and unconditional guidance: [n, D]."""
        import base64

        entry = self.index["null_text"]
        return np.frombuffer(base64.b64decode(entry["fp16"]), np.float16).reshape(entry["shape"])

    def __iter__(self) -> Iterator[Sample]:
        for path in self.paths:
            yield from self.read(path)
