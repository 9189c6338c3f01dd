"""Latent shards: writing, reading, checking. Knows tar and Parquet layouts, and nothing of the engine.

A trainer needs `LatentDataset`, `BucketBatchSampler` and `collate`, which are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curation.shards.batches import BucketBatchSampler
    from curation.shards.dataset import LatentDataset, collate
    from curation.shards.reader import Shards

__all__ = ["BucketBatchSampler", "LatentDataset", "Shards", "collate"]
_HOMES = {"BucketBatchSampler": "batches", "LatentDataset": "dataset", "Shards": "reader", "collate": "dataset"}


def __getattr__(name: str) -> Any:
    """torch is not imported by those who only write shards."""
    if name in _HOMES:
        return getattr(import_module(f"curation.shards.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
