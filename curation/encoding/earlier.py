"""What this run's last finished encode left in shards/: what is the same is not computed again."""

import hashlib
import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any

from curation.errors import CurationError
from curation.models.vae import Posterior
from curation.shards.containers import ShardFile, bytes_of, container_of
from curation.shards.sample import Halfs, MediaFile, Sample
from curation.stores.storage import Store

OPEN = 2
FITTED = ("crop_ltrb", "resized_width", "resized_height", "original_width", "original_height")
"""What only the pixels tell, beside the latents and the media that are made of them."""


@dataclass(frozen=True)
class Keys:
    """What a record's latents, text states and media depend on: equal keys, equal bytes. None: it is not wanted."""

    key: str | None
    text_key: str | None
    media_key: str | None


@dataclass
class Parts:
    """What there is of a sample; a part that is None is not wanted, or still to be made. `more`: further text parts."""

    posterior: Posterior | None = None
    texts: list[Halfs] | None = None
    more: dict[str, list[Halfs]] = field(default_factory=dict)
    media: MediaFile | None = None
    fitted: dict[str, Any] | None = None

    def lacks_pixels(self, keys: Keys) -> bool:
        """Whether the record has to be decoded."""
        return self.lacks_latents(keys) or self.lacks_media(keys)

    def lacks_latents(self, keys: Keys) -> bool:
        return keys.key is not None and self.posterior is None

    def lacks_media(self, keys: Keys) -> bool:
        return keys.media_key is not None and self.media is None


class EarlierShards:
    """Looks samples up where the last deal put them. A shard lost or altered since is as if it never was."""

    def __init__(self, store: Store) -> None:
        self._store = store.child("shards")
        self._open: OrderedDict[tuple[str, str], ShardFile | None] = OrderedDict()

    def find(self, row: dict[str, Any], keys: Keys) -> Parts:
        """The parts of the record's earlier sample that hold."""
        earlier = json.loads(row["earlier"] or "{}")
        holds = {name for name, key in asdict(keys).items() if key is not None and earlier.get(name) == key}
        shard = self._shard(earlier["path"], earlier["sha256"]) if holds else None
        return Parts() if shard is None else _parts(shard[earlier["position"]], holds)

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


def _parts(old: Sample, holds: set[str]) -> Parts:
    posterior = (old.mean, old.logvar) if "key" in holds and old.mean is not None else None
    media = old.media if "media_key" in holds else None
    fitted = {name: old.meta[name] for name in FITTED} if posterior or media else None
    texts, more = (old.texts, old.parts) if "text_key" in holds else (None, {})
    return Parts(posterior, texts, more, media, fitted)
