"""The ways in which a text can be read, so that a word list also finds words that are written to evade it.

A view is the text once more with one kind of disguise removed. A word counts as said if it stands in any view, so that
removing a disguise that is none (`4k` read as `ak`) never hides a word of the text itself.
"""

import re
import unicodedata
from functools import lru_cache

LEET = {"0": "o", "1": "i", "2": "z", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g"} | {
    "@": "a", "$": "s", "€": "e", "£": "l", "!": "i", "|": "i", "+": "t", "¢": "c", "¥": "y"
}  # fmt: skip
"""Digits and signs in the place of a letter, inside a word that has other letters."""

CYRILLIC = dict(zip("abcehkmoptxy03468", "авсенкмортхуозчбв", strict=True))
"""Latin letters and digits in the place of the Cyrillic letter that they resemble."""
_TO_CYRILLIC, _CYRILLIC = str.maketrans(CYRILLIC), re.compile("[\u0400-\u04ff]")

_MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff"
                    "\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f]")  # fmt: skip
"""Combining marks that leave the letter what it is; those of Indic scripts, Thai and kana are vowels and voicing."""
_FILLERS = dict.fromkeys(map(ord, "\u115f\u1160\u3164\uffa0\u17b4\u17b5"))
_NAMED = re.compile(r"(?:LATIN .*|SYMBOL )LETTER (?:SMALL CAPITAL |DOTLESS |SCRIPT )?([A-Z])(?: WITH .*)?")
_SPELLED = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,3}[^\W_](?![^\W_])){2,}")
_INSIDE = re.compile(r"(?<=[^\W_])(?:_|[^\w\s])+(?=[^\W_])")
_CHUNK = re.compile(r"\S+")
_EDGES = ".,;:!?\"'`()[]{}<>«»„“”\u2018\u2019…*_-/\\"


def plain(text: str) -> str:
    """NFKC and case folded, without invisible characters and accents, digits of any script as 0-9; the script stays."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    seen = "".join(sign for sign in folded.translate(_FILLERS) if unicodedata.category(sign) != "Cf")
    bare = _MARKS.sub("", unicodedata.normalize("NFD", seen))
    return "".join(map(_digit, unicodedata.normalize("NFC", bare))).replace("\u0131", "i")


def _digit(sign: str) -> str:
    return str(unicodedata.decimal(sign)) if unicodedata.category(sign) == "Nd" else sign


def views(text: str) -> list[str]:
    """All readings, the plain one first, each once."""
    base = plain(text)
    latin = [_latin(base, capital) for capital in (False, True)]
    bases = [base, *latin, _cyrillic(base), *_leet(base), *(view for part in latin for view in _leet(part))]
    joined = [change(view) for view in dict.fromkeys(bases) for change in (_spelled, _without_inner_signs)]
    spelled = [view for part in joined for view in [*_leet(part), _cyrillic(part)]]
    all_of = dict.fromkeys([*bases, *joined, *spelled])
    return list(dict.fromkeys([*all_of, *(short for view in all_of for short in _without_repeats(view))]))


def _latin(text: str, capital: bool) -> str:
    """Letters of other scripts as the Latin letters that they look like; `capital`: that their capitals look like."""
    if text.isascii():
        return text
    table = lookalikes()[capital]
    return "".join(sign if sign.isascii() else table.get(sign) or _by_name(sign) for sign in text)


@lru_cache(maxsize=1)
def lookalikes() -> tuple[dict[str, str], dict[str, str]]:
    """Letter -> Latin letter by the confusables of Unicode's TR39, of small letters first, and of capitals first.

    Raises ModuleNotFoundError without the package that ships them.
    """
    from confusable_homoglyphs.confusables import confusables_data

    small: dict[str, str] = {
        "п": "n",
        "и": "u",
        "\u0433": "r",
        "я": "r",
        "т": "t",
        "к": "k",
        "м": "m",
        "в": "b",
        "η": "n",
    }
    large: dict[str, str] = {"\u0443": "u"}
    for sign, same in confusables_data.items():
        if len(sign) != 1 or sign.isascii() or unicodedata.category(sign)[0] not in "LS":
            continue
        latin = next((s["c"].lower() for s in same if len(s["c"]) == 1 and s["c"].isascii() and s["c"].isalpha()), None)
        if latin:
            folded = sign.casefold()
            (small if folded == sign else large).setdefault(folded, latin)
    return large | small, small | large


@lru_cache(maxsize=4096)
def _by_name(sign: str) -> str:
    """`ɴ`, `ł` or a letter in a circle, by its name in Unicode; any other sign as it is."""
    named = _NAMED.search(unicodedata.name(sign, ""))
    return named[1].lower() if named else sign


def _cyrillic(text: str) -> str:
    """Words with Cyrillic letters and others: the others as the Cyrillic letters that they stand for."""
    return re.sub(r"\w+", lambda m: m[0].translate(_TO_CYRILLIC) if _CYRILLIC.search(m[0]) else m[0], text)


def _leet(text: str) -> list[str]:
    """The text with digits and signs read as letters: once with 1, ! and | as i, once as l."""
    return [_CHUNK.sub(lambda m, one=one: _unleet(m[0], one), text) for one in "il"]  # type: ignore[misc]


def _unleet(chunk: str, one: str) -> str:
    core = chunk.strip(_EDGES)
    if not core or not any(sign in LEET for sign in core) or not any(sign.isalpha() for sign in core):
        return chunk
    table = LEET | dict.fromkeys("1!|", one)
    return chunk.replace(core, "".join(table.get(sign, sign) for sign in core), 1)


def _spelled(text: str) -> str:
    """`n u d e` and `n.u.d.e` as one word; wider gaps than the narrowest part words."""
    return _SPELLED.sub(lambda m: _join(m[0]), text)


def _join(run: str) -> str:
    gaps = re.findall(r"[\W_]+", run)
    least = min(map(len, gaps))
    return re.sub(r"[\W_]+", lambda m: "" if len(m[0]) == least else " ", run)


def _without_inner_signs(text: str) -> str:
    return _INSIDE.sub("", text)


def _without_repeats(text: str) -> list[str]:
    """Letters that stand three times and more, once and twice."""
    return [re.sub(r"([^\W\d_])\1{2,}", times, text) for times in (r"\1", r"\1\1")]
