"""What a shard's report adds up over its samples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.shards.sample import Sample


class ChannelSums:
    """Per channel of the stored means: how many values, their sum and sum of squares; how many not finite."""

    def __init__(self) -> None:
        self.values, self.nan = 0, 0
        self.sum: NDArray[np.float64] = np.zeros(0)
        self.squares: NDArray[np.float64] = np.zeros(0)

    def add(self, sample: Sample) -> None:
        if sample.mean is None:
            return
        mean = sample.mean.astype(np.float64).reshape(len(sample.mean), -1)
        if not self.values:
            self.sum, self.squares = np.zeros(len(mean)), np.zeros(len(mean))
        self.values += mean.shape[1]
        self.nan += int((~np.isfinite(mean)).sum())
        self.sum += mean.sum(1)
        self.squares += np.square(mean).sum(1)

    def as_json(self) -> dict[str, Any]:
        return {
            "values": self.values,
            "sum": self.sum.tolist(),
            "squares": self.squares.tolist(),
            "nan": self.nan,
        }


class Footage:
    """Clips: how many, the seconds of them that the shards hold, and those that their buckets had no room for."""

    def __init__(self) -> None:
        self.clips, self.seconds, self.unused = 0, 0.0, 0.0

    def add(self, sample: Sample) -> None:
        if "seconds_unused" in sample.meta:
            self.clips += 1
            self.seconds += sample.meta["frames"] / sample.meta["fps"]
            self.unused += sample.meta["seconds_unused"]

    def as_json(self) -> dict[str, Any]:
        seconds = {"clip_seconds": round(self.seconds, 3), "clip_seconds_unused": round(self.unused, 3)}
        return {"clips": self.clips, **seconds}

    @staticmethod
    def total(parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Over all shards; empty where there are no clips."""
        sums = {name: round(sum(part[name] for part in parts), 3) for name in Footage().as_json()}
        return sums if sums["clips"] else {}
