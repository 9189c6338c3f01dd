"""Which records of a run have their picture in the report page: all of a small run, of a large one those to look at."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
NEAR = 96
"""So many records on each side of a threshold are wanted first, the nearest first."""


def wanted(
    fates: Ints, duplicate_of: Ints, cuts: Sequence[tuple[NDArray[np.float64], float]], seed: int
) -> Iterator[int]:
    """Every row once, those to look at first: in turn one of each kind.

    fates         per row, which reason took it; 0 for kept
    duplicate_of  per row, the row that stayed in its place; -1 for none
    cuts          values of each record and a threshold through them
    """
    mixed = np.random.default_rng(seed).permutation(len(fates))
    kinds: list[Sequence[int]] = [mixed[fates[mixed] == fate].tolist() for fate in np.unique(fates).tolist()]
    for values, threshold in cuts:
        distance = np.abs(values - threshold)
        for side in (values >= threshold, values < threshold):
            rows = np.flatnonzero(side & np.isfinite(distance))
            kinds.append(rows[np.argsort(distance[rows], kind="stable")[:NEAR]].tolist())
    fell = mixed[duplicate_of[mixed] >= 0]
    kinds.append(np.stack([fell, duplicate_of[fell]], axis=1).ravel().tolist())
    seen = set[int]()
    for turn in zip_longest(*kinds):
        for row in turn:
            if row is not None and row not in seen:
                seen.add(row)
                yield row
