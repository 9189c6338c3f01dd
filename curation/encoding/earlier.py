"""Latents that this run's last finished encode left in shards/: what is the same is not computed again."""

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from curation.errors import CurationError
from curation.shards.containers import ShardFile, bytes_of, container_of
from curation.shards.sample import Sample
from curation.stores.storage import Store

OPEN = 2


@dataclass(frozen=True)
class Keys:
    """What a record's latents and text states depend on: equal keys, equal bytes."""

    key: str
    text_key: str


class EarlierShards:
    """Looks samples up where the last deal put them. A shard lost or altered since is as if it never was."""

    def __init__(self, store: Store) -> None:
        self._store = store.child("shards")
        self._open: OrderedDict[tuple[str, str], ShardFile | None] = OrderedDict()

    def find(self, row: dict[str, Any], keys: Keys) -> tuple[Sample, bool] | None:
        """The record's earlier sample, and whether its texts hold too; None where the latents do not."""
        if row["earlier"] is None:
            return None
        earlier = json.loads(row["earlier"])
        if earlier["key"] != keys.key:
            return None
        shard = self._shard(earlier["path"], earlier["sha256"])
        if shard is None:
            return None
        sample = shard[earlier["position"]]
        return sample, earlier["text_key"] == keys.text_key

    def _shard(self, path: str, sha256: str) -> ShardFile | None:
        key = (path, sha256)
        if key not in self._open:
            self._open[key] = self._sound(path, sha256)
            if len(self._open) > OPEN:
                self._open.popitem(last=False)
        return self._open[key]

    def _sound(self, path: str, sha256: str) -> ShardFile | None:
        try:
            data = bytes_of(self._store, path)
        except CurationError:
            return None
        if hashlib.sha256(data).hexdigest() != sha256:
            return None
        return container_of(path).open(data, self._store.uri(path))
