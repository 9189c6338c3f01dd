from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UsageError
from curation.selection import neighbours
from curation.selection.clusters import Clusters
from curation.selection.neighbours import CosineNeighbours, HammingNeighbours, Pairs, cheapest_bands, cut


def found(blocks) -> dict[tuple[int, int], float]:  # type: ignore[no-untyped-def]
    """Every pair, smaller place first -> its distance; a pair that comes twice has one distance."""
    out: dict[tuple[int, int], float] = {}
    for block in blocks:
        assert isinstance(block, Pairs)
        for left, right, distance in zip(block.left, block.right, block.distance, strict=True):
            assert left != right
            pair = (min(int(left), int(right)), max(int(left), int(right)))
            assert out.setdefault(pair, float(distance)) == float(distance)
    return out


def brute(hashes: list[int], threshold: int) -> dict[tuple[int, int], float]:
    pairs = combinations(range(len(hashes)), 2)
    distances = {(i, j): (hashes[i] ^ hashes[j]).bit_count() for i, j in pairs}
    return {pair: float(distance) for pair, distance in distances.items() if distance <= threshold}


def near_hashes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Hashes of which each is a few bits away from one of a few."""
    seeds = rng.integers(0, 1 << 64, 6, dtype=np.uint64)
    hashes = seeds[rng.integers(0, 6, count)]
    for _ in range(6):
        hashes ^= np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64)
    return hashes


@pytest.mark.parametrize("agree", [0, 1, 2, 3])
@pytest.mark.parametrize("threshold", [0, 1, 6, 9])
def test_hamming_pairs_are_those_of_a_comparison_of_all(
    threshold: int, agree: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "cheapest_bands", lambda rows, threshold: agree)
    hashes = near_hashes(np.random.default_rng(threshold), 120)
    search = HammingNeighbours(hashes, threshold)
    assert found(search.pairs(np.arange(120))) == brute(hashes.tolist(), threshold)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(0, 16))
def test_hamming_pairs_of_any_hashes(hashes: list[int], threshold: int) -> None:
    search = HammingNeighbours(np.array(hashes, np.uint64), threshold)
    assert found(search.pairs(np.arange(len(hashes)))) == brute(hashes, threshold)


def test_a_band_search_gives_each_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "cheapest_bands", lambda rows, threshold: 2)
    hashes = near_hashes(np.random.default_rng(0), 200)
    blocks = list(HammingNeighbours(hashes, 6).pairs(np.arange(200)))
    assert sum(len(block.left) for block in blocks) == len(brute(hashes.tolist(), 6)) > 100


def test_places_count_within_the_rows_asked_for() -> None:
    search = HammingNeighbours(np.array([7, 0, 255, 1], np.uint64), 1)
    assert found(search.pairs(np.array([3, 2, 1]))) == {(0, 2): 1.0}


def test_bands_cover_every_bit_once() -> None:
    for count in range(1, 20):
        masks = [int(mask) for mask in cut(count)]
        assert sum(masks) == 2**64 - 1 and sum(mask.bit_count() for mask in masks) == 64


def test_many_hashes_are_not_compared_one_by_one() -> None:
    assert cheapest_bands(1_000_000, 6) == 2 and cheapest_bands(100, 6) == 0


def test_a_threshold_that_means_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="between 0 and 16"):
        HammingNeighbours(np.zeros(2, np.uint64), 20)


def clustered(rng: np.random.Generator, rows: int, size: int = 32) -> np.ndarray:
    centres = rng.standard_normal((max(1, rows // 40), size))
    vectors = centres[rng.integers(0, len(centres), rows)] + 0.4 * rng.standard_normal((rows, size))
    return (vectors * rng.uniform(0.5, 2, (rows, 1))).astype(np.float16)


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return np.round(unit @ unit.T, 6)


def near_pairs(cosine: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    return {(i, j) for i, j in np.argwhere(np.triu(cosine >= threshold, 1)).tolist()}


def test_flat_cosine_pairs_are_all_of_them() -> None:
    vectors = clustered(np.random.default_rng(1), 300)
    cosine = cosines(vectors)
    search = CosineNeighbours(vectors, 0.85)
    pairs = found(search.pairs(np.arange(300)))
    assert set(pairs) == near_pairs(cosine, 0.85) and len(pairs) > 100 and search.recall == 1
    assert pairs == {pair: pytest.approx(1 - cosine[pair], abs=2e-6) for pair in pairs}


def test_clustered_cosine_pairs_are_true_and_nearly_all() -> None:
    vectors = clustered(np.random.default_rng(2), 4000)
    expected = near_pairs(cosines(vectors), 0.95)
    search = CosineNeighbours(vectors, 0.95, "clustered")
    pairs = set(found(search.pairs(np.arange(4000))))
    assert pairs <= expected and len(expected) > 200
    assert len(pairs) >= 0.99 * len(expected) and search.recall >= 0.99


def test_clusters_are_the_same_each_time() -> None:
    vectors = clustered(np.random.default_rng(3), 1000)
    inverse = 1 / np.linalg.norm(vectors.astype(np.float64), axis=1)
    first, second = (Clusters.fit(vectors, inverse, 0.95, seed=5) for _ in range(2))
    assert (first.probes == second.probes).all() and first.recall == second.recall


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
@pytest.mark.parametrize("method", ["flat", "clustered"])
def test_few_vectors(rows: int, method: str) -> None:
    vectors = np.ones((rows, 8), np.float16)
    pairs = found(CosineNeighbours(vectors, 0.95, method).pairs(np.arange(rows)))
    assert set(pairs) == set(combinations(range(rows), 2)) and not any(pairs.values())
