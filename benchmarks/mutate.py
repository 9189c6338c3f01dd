"""Seeded damage: to bytes, to texts, and to values of JSON and YAML."""

import random
from collections.abc import Iterator
from typing import Any

WORDS = [
    "",
    "\0",
    "\x1b[2J",
    "\u202e",
    "\ud800",
    "../../etc/passwd",
    "/dev/zero",
    "a" * 5000,
    "nan",
    "1e400",
    "-0",
    "s3:///",
]
NUMBERS = [0, -1, 1, 0.5, 2**31, 2**63, 10**18, 10**400, -(10**18), 1e-320, 1e308, float("inf"), float("nan")]
PIECES = [
    "[" * 3000,
    "{" * 3000,
    "(" * 3000,
    "not " * 300,
    "-" * 500,
    "9" * 5000,
    "&a [*a]",
    "*x",
    "\t",
    "\r",
    '"',
    ": ",
    ",",
]


def deep(levels: int) -> Any:
    """Lists within each other."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def hostile(rng: random.Random) -> Any:
    """A value that is seldom right."""
    others = [None, True, False, [], {}, [[]], [None], {"": {}}, {"a": 1}, deep(40)]
    return rng.choice([rng.choice(WORDS), rng.choice(NUMBERS), rng.choice(others)])


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, cut off, left out, repeated or put in."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 1, 2, 5])):
        at, end = sorted(rng.randrange(len(out) + 1) for _ in range(2))
        how = rng.randrange(6)
        if how < 2 and out:
            out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif how == 2:
            del out[at:]
        elif how == 3:
            del out[at : min(end, at + 40)]
        elif how == 4:
            out[at:at] = out[at : min(end, at + 200)]
        else:
            piece = rng.choice([*PIECES, *WORDS, *map(_digits, NUMBERS)])
            out[at:at] = piece.encode("utf-8", "surrogatepass")
    return bytes(out)


def changed(value: Any, rng: random.Random) -> Any:
    """JSON-able data with a few values replaced, left out, exchanged or nested."""
    holder = [value]
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        places = list(_places(holder))
        box, key = rng.choice(places)
        other, its = rng.choice(places)
        how = rng.randrange(5)
        if how == 0 and isinstance(box, dict):
            del box[key]
        elif how == 1 and isinstance(box, dict):
            box[rng.choice([key, "zzz", "", "\0"])] = hostile(rng)
        elif how == 2 and other is not holder and box is not holder:
            box[key] = _copy(other[its])
        else:
            box[key] = hostile(rng)
    return holder[0]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _digits(number: float) -> str:
    return repr(number)
