"""Deals kept records into shards: dense numbers, exact sizes, the same for every order and interruption."""

from collections.abc import Iterable, Mapping, Sequence


def mend(base: Iterable[str], final: Iterable[str]) -> list[str]:
    """The order in which `final` is dealt when some of `base` could not be encoded.

    The holes are filled first by records that came in their place (the next best of a duplicate group), then
    from the end, so that only the touched shards and the last change. A function of the two sets alone: how
    often the run was interrupted, and in which order failures were found, cannot show.
    """
    wanted = set(final)
    slots: list[str | None] = [identity if identity in wanted else None for identity in sorted(base)]
    newcomers = sorted(wanted - set(base), reverse=True)
    for i in range(len(slots)):
        while slots and slots[-1] is None and not newcomers:
            slots.pop()
        if i >= len(slots):
            break
        if slots[i] is None:
            slots[i] = newcomers.pop() if newcomers else slots.pop()
    return [identity for identity in slots if identity is not None] + newcomers[::-1]


def shards_of(order: Sequence[str], samples: int) -> list[list[str]]:
    """Cut an order into shards."""
    return [list(order[i : i + samples]) for i in range(0, len(order), samples)]


def deal_all(
    base: Mapping[str, Iterable[str]], final: Mapping[str, Iterable[str]], samples: int
) -> dict[str, list[list[str]]]:
    """Every bucket's shards; `base` and `final` hold the ids by bucket name."""
    return {name: shards_of(mend(base.get(name, ()), final[name]), samples) for name in sorted(final) if final[name]}
