"""Deals kept records into shards: dense numbers, exact sizes, the same for every order and interruption.

A record is known by its row in the decision, which lists all ids in their order: rows in order are ids in order.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
NOBODY: Ints = np.empty(0, np.int64)


def reassign(base: Ints, final: Ints) -> Ints:
    """The order in which `final` is dealt when some of `base` could not be encoded.

    The holes are filled first by records that came in their place (the next best of a duplicate group), then
    from the end, so that only the touched shards and the last change. A function of the two sets alone: how
    often the run was interrupted, and in which order failures were found, cannot show.
    """
    slots, final = np.sort(base), np.sort(final)
    is_hole = ~np.isin(slots, final, assume_unique=True)
    newcomers = final[~np.isin(final, slots, assume_unique=True)]
    holes = np.flatnonzero(is_hole)
    filled = min(len(holes), len(newcomers))
    slots[holes[:filled]] = newcomers[:filled]
    holes = holes[filled:]
    length = len(slots) - len(holes)
    behind = np.setdiff1d(np.arange(length, len(slots)), holes, assume_unique=True)
    slots[holes[holes < length]] = slots[behind[::-1]]
    return np.concatenate([slots[:length], newcomers[filled:]])


def shards_of(order: Ints, samples: int) -> list[Ints]:
    """Cut an order into shards."""
    return [order[i : i + samples] for i in range(0, len(order), samples)]


def deal_all(base: Mapping[str, Ints], final: Mapping[str, Ints], samples: int) -> dict[str, list[Ints]]:
    """Every bucket's shards; `base` and `final` hold the rows by bucket name."""
    return {
        name: shards_of(reassign(base.get(name, NOBODY), final[name]), samples)
        for name in sorted(final)
        if len(final[name])
    }
