"""Spherical k-means over embeddings: near pairs lie in the same cluster or in one of the next."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
DIMENSIONS = 96
"""Clusters are found in a random projection: near pairs stay near, and the cost falls with the dimensions."""
MOST_PROBES = 64
WANTED_RECALL = 0.99
_PLANTED = 1000
_TRAIN = 64
_BLOCK = 16_384


@dataclass(frozen=True)
class Clusters:
    """Each vector's nearest clusters, nearest first (`probes`, int32 [N, P]), and the recall that they give.

    A pair is compared when the home cluster (the nearest) of one is among the probes of the other. Everything
    is seeded and runs on one thread, so that the same vectors give the same clusters on every machine.
    """

    probes: NDArray[np.int32]
    count: int
    recall: float

    @classmethod
    def fit(
        cls, vectors: NDArray[np.floating], inverse: NDArray[np.float64], threshold: float, seed: int
    ) -> "Clusters":
        """Probes are doubled, from 4, until 99 % of planted pairs are found.

        vectors    [N, D], `inverse` one over their lengths
        threshold  the smallest cosine that counts as near
        """
        rng = np.random.default_rng(seed)
        projection = rng.standard_normal((vectors.shape[1], DIMENSIONS), np.float32)
        count = min(len(vectors), max(1, int(2 * len(vectors) ** 0.5)))
        index = _trained(vectors, projection, count, rng)
        chosen = rng.choice(len(vectors), min(_PLANTED, len(vectors)), replace=False)
        originals = vectors[chosen].astype(np.float32) * inverse[chosen, None].astype(np.float32)
        copies = planted(originals, threshold, rng)
        number, most = 4, min(MOST_PROBES, count)
        while True:
            number = min(number, most)
            recall = _recall(
                _nearest(index, originals @ projection, number), _nearest(index, copies @ projection, number)
            )
            if recall >= WANTED_RECALL or number == most:
                break
            number *= 2
        blocks = (vectors[i : i + _BLOCK].astype(np.float32) @ projection for i in range(0, len(vectors), _BLOCK))
        probes = np.concatenate([_nearest(index, block, number) for block in blocks])
        return cls(probes, count, recall)

    def lists(self, rows: Ints) -> Iterator[tuple[Ints, Ints]]:
        """For each cluster: the places in `rows` that look into it, and those that live in it."""
        probes = self.probes[rows]
        homes = _grouped(probes[:, 0], self.count)
        lookers = _grouped(probes.ravel(), self.count)
        for home, looking in zip(homes, lookers, strict=True):
            if len(home):
                yield looking // probes.shape[1], home


def _recall(theirs: NDArray[np.int32], own: NDArray[np.int32]) -> float:
    return float(((theirs == own[:, :1]).any(1) | (own == theirs[:, :1]).any(1)).mean())


def planted(originals: NDArray[np.float32], threshold: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A copy of each unit vector, moved in a random direction to a cosine between the threshold and 1."""
    noise = rng.standard_normal(originals.shape, np.float32)
    noise -= (noise * originals).sum(1, keepdims=True) * originals
    noise /= np.linalg.norm(noise, axis=1, keepdims=True) + 1e-12
    cosine = rng.uniform(threshold, 1, (len(originals), 1)).astype(np.float32)
    return (cosine * originals + np.sqrt(1 - cosine**2) * noise).astype(np.float32)


def _trained(
    vectors: NDArray[np.floating], projection: NDArray[np.float32], count: int, rng: np.random.Generator
) -> Any:
    """A flat FAISS index over the centroids of a sample of the vectors."""
    import faiss

    faiss.omp_set_num_threads(1)
    sample = np.sort(rng.choice(len(vectors), min(len(vectors), count * _TRAIN), replace=False))
    points = _unit(vectors[sample].astype(np.float32) @ projection)
    kmeans = faiss.Kmeans(
        DIMENSIONS,
        count,
        niter=10,
        spherical=True,
        seed=1234,
        min_points_per_centroid=1,
        max_points_per_centroid=_TRAIN,
    )
    kmeans.train(points)
    return kmeans.index


def _nearest(index: Any, points: NDArray[np.float32], number: int) -> NDArray[np.int32]:
    return index.search(_unit(points), number)[1].astype(np.int32)  # type: ignore[no-any-return]


def _unit(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(points / (np.linalg.norm(points, axis=1, keepdims=True) + 1e-12))


def _grouped(clusters: NDArray[np.int32], count: int) -> list[Ints]:
    """The places of each cluster's number, in order."""
    order = np.argsort(clusters, kind="stable")
    return np.split(order, np.searchsorted(clusters[order], np.arange(1, count)))
