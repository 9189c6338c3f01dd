"""Pairs that are near each other: 64-bit hashes by Hamming distance, embeddings by cosine."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import UsageError

Ints = NDArray[np.int64]
FLAT_ROWS = 20_000
"""Up to here the exact join of all pairs; beyond it k-means and a search in the nearest clusters."""
PROBES = 8
MAX_HAMMING = 16
_BLOCK = 2048


@dataclass(frozen=True)
class Pairs:
    """Unordered pairs (left, right) of row numbers, each once, with their distance or cosine."""

    left: Ints
    right: Ints
    value: NDArray[np.float64]

    @classmethod
    def join(cls, parts: list["Pairs"]) -> "Pairs":
        """All parts together, each pair once."""
        if not parts:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        left, right = np.concatenate([p.left for p in parts]), np.concatenate([p.right for p in parts])
        low, high = np.minimum(left, right), np.maximum(left, right)
        _, first = np.unique(np.stack([low, high]), axis=1, return_index=True)
        return cls(low[first], high[first], np.concatenate([p.value for p in parts])[first])


def hamming_pairs(hashes: NDArray[np.uint64], threshold: int) -> Pairs:
    """All pairs of distinct rows within `threshold` bits; exact.

    hashes  uint64 [N], preferably without repeats. Cuts the 64 bits into threshold + k bands: hashes within the
    threshold agree on at least k of them, so sorting by every choice of k bands brings them together (Norouzi
    et al. 2012, multi-index hashing). Raises UsageError beyond 16 bits, where near means nothing.
    """
    if not 0 <= threshold <= MAX_HAMMING:
        raise UsageError(
            f"a Hamming threshold lies between 0 and {MAX_HAMMING} of 64 bits, not at {threshold}"
        )
    if len(hashes) < 2:
        return Pairs.join([])
    if len(hashes) <= 2 * _BLOCK:
        return Pairs.join(list(_brute(hashes, threshold)))
    agree = max(1, -(-threshold // 3))
    bands = _bands(threshold + agree)
    return Pairs.join(
        [part for choice in combinations(bands, agree) for part in _within_keys(hashes, choice, threshold)]
    )


def _brute(hashes: NDArray[np.uint64], threshold: int) -> Iterator[Pairs]:
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        distance = np.bitwise_count(block[:, None] ^ hashes[None, start:])
        left, right = np.nonzero(distance <= threshold)
        keep = right > left
        left, right = left[keep], right[keep]
        yield Pairs(left + start, right + start, distance[left, right].astype(np.float64))


def _bands(count: int) -> list[tuple[int, int]]:
    """(shift, width) of `count` bands that cover 64 bits."""
    edges = [round(64 * i / count) for i in range(count + 1)]
    return [(edges[i], edges[i + 1] - edges[i]) for i in range(count)]


def _within_keys(
    hashes: NDArray[np.uint64], choice: tuple[tuple[int, int], ...], threshold: int
) -> Iterator[Pairs]:
    """Pairs within the threshold among rows that agree on the chosen bands."""
    key, width = np.zeros(len(hashes), np.uint64), 0
    for shift, bits in choice:
        key |= ((hashes >> np.uint64(shift)) & np.uint64((1 << bits) - 1)) << np.uint64(width)
        width += bits
    small = key.astype(np.uint16) if width <= 16 else key.astype(np.uint32)
    order = np.argsort(small, kind="stable")
    keys, values = small[order], hashes[order]
    active = np.arange(len(keys) - 1)
    step = 1
    while len(active := active[(active + step < len(keys))]) and len(
        active := active[keys[active] == keys[active + step]]
    ):
        distance = np.bitwise_count(values[active] ^ values[active + step])
        near = distance <= threshold
        if near.any():
            yield Pairs(order[active[near]], order[active[near] + step], distance[near].astype(np.float64))
        step += 1


def cosine_pairs(
    vectors: NDArray[np.float32], threshold: float, method: str = "auto", seed: int = 0
) -> tuple[Pairs, float]:
    """All pairs with a cosine of at least `threshold`, and the share of planted pairs that the search finds.

    vectors  float32 [N, D] of unit length
    method   flat: exact; clustered: FAISS IVF (spherical k-means, each vector searched in its 8 nearest clusters);
             auto: flat up to 20,000 rows
    """
    if len(vectors) < 2:
        return Pairs.join([]), 1.0
    index = _index(vectors, "flat" if method == "auto" and len(vectors) <= FLAT_ROWS else method, seed)
    parts = []
    for start in range(0, len(vectors), _BLOCK):
        limits, _, found = index.range_search(vectors[start : start + _BLOCK], threshold - 1e-3)
        left = np.repeat(
            np.arange(start, min(start + _BLOCK, len(vectors))), np.diff(limits.astype(np.int64))
        )
        keep = found != left
        parts.append(_exact(vectors, left[keep], found[keep], threshold))
    return Pairs.join(parts), planted_recall(index, vectors, threshold, seed)


def _exact(vectors: NDArray[np.float32], left: Ints, right: Ints, threshold: float) -> Pairs:
    """The pairs whose cosine, computed alike for every block and thread count, reaches the threshold."""
    cosine = np.concatenate(
        [
            np.einsum(
                "nd,nd->n", vectors[left[i : i + 65536]], vectors[right[i : i + 65536]], dtype=np.float64
            )
            for i in range(0, len(left), 65536)
        ]
        or [np.empty(0)]
    )
    cosine = np.round(cosine, 6)
    near = cosine >= threshold
    return Pairs(left[near], right[near], cosine[near])


def _index(vectors: NDArray[np.float32], method: str, seed: int) -> Any:
    import faiss

    faiss.omp_set_num_threads(1)
    dimensions = vectors.shape[1]
    if method == "flat":
        index = faiss.IndexFlatIP(dimensions)
    else:
        clusters = max(1, min(int(4 * len(vectors) ** 0.5), len(vectors) // 39 or 1))
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(dimensions), dimensions, clusters, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.seed, index.cp.spherical, index.cp.niter = seed + 1234, True, 10
        index.nprobe = PROBES
        index.train(vectors)
    index.add(vectors)
    return index


def planted_recall(
    index: Any, vectors: NDArray[np.float32], threshold: float, seed: int, planted: int = 200
) -> float:
    """Share of `planted` copies, moved to a cosine half-way between the threshold and 1, whose original is found."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(vectors), size=min(planted, len(vectors)), replace=False)
    originals = vectors[chosen]
    noise = rng.standard_normal(originals.shape).astype(np.float32)
    noise -= (noise * originals).sum(1, keepdims=True) * originals
    noise /= np.linalg.norm(noise, axis=1, keepdims=True) + 1e-12
    cosine = (1 + threshold) / 2
    copies = cosine * originals + (1 - cosine**2) ** 0.5 * noise
    limits, _, found = index.range_search(copies.astype(np.float32), threshold)
    return float(np.mean([chosen[i] in found[limits[i] : limits[i + 1]] for i in range(len(chosen))]))
