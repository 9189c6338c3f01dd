"""A list of words in many languages, and what of it stands in a text.

An entry is a word; `word*` also what begins with it, `*word` what ends with it, `*word*` what has it inside; with a
blank it is a phrase. Entries in scripts that put no blanks between words (Chinese, Japanese, Thai, Khmer, Burmese),
and Korean ones, whose endings are written to the stem, are found inside of words; `=word` is found as a whole word.
"""

import re
from collections.abc import Iterable
from functools import cached_property

from curation.prompts.views import plain

LONGEST = 40
"""Letters of a compound that is looked into; the time that it takes grows with their square."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_BLANKS = re.compile("(?<![\uac00-\ud7af])\\s+(?![\uac00-\ud7af])")  # between Korean words they mean something
_ARTICLE = re.compile("^(?:و|ف)?(?:ال|بال|لل|كال)(?=\\w{3})")
_WORD = re.compile(r"[^\W_]+(?:[\u0900-\u0d7f][^\W_]*)*")
_MASKED = re.compile(r"(?<![\w*#])[^\W\d_]+(?:[*#]+[^\W\d_]+)+(?![\w*#])")


class Words:
    """Entries, as `plain` writes them."""

    def __init__(self, entries: Iterable[str]) -> None:
        clean = {"*".join(map(plain, entry.strip().split("*"))) for entry in entries if entry.strip()}
        self.inside = tuple(sorted(e.strip("*") for e in clean if _inside(e)))
        rest = {e.removeprefix("=") for e in clean if not _inside(e)}
        self.phrases = frozenset(e for e in rest if " " in e)
        self.starts = tuple(sorted(e[:-1] for e in rest - self.phrases if e.endswith("*")))
        self.ends = tuple(sorted(e[1:] for e in rest - self.phrases if e.startswith("*")))
        self.exact = frozenset(e for e in rest - self.phrases if "*" not in e)

    @cached_property
    def _phrases(self) -> re.Pattern[str]:
        found = "|".join(_phrase(entry) for entry in sorted(self.phrases, key=len, reverse=True))
        return re.compile(rf"(?<!\w)(?:{found or '(?!)'})(?!\w)")

    @cached_property
    def removed(self) -> re.Pattern[str]:
        """All entries as one pattern, to take them out of a text."""
        open_ended = [re.escape(start) + r"\w*" for start in self.starts]
        ends = [r"\w*" + re.escape(end) for end in self.ends]
        words = [*map(_phrase, self.phrases), *map(re.escape, self.exact), *open_ended, *ends]
        found = "|".join(sorted(words, key=len, reverse=True))
        inside = "|".join(map(re.escape, sorted(self.inside, key=len, reverse=True)))
        return re.compile(rf"(?<![^\W_])(?:{found or '(?!)'})(?![^\W_])|(?:{inside or '(?!)'})")

    def has(self, word: str) -> bool:
        """Whether one word, as `plain` writes it, is an entry."""
        return (
            word in self.exact
            or word.startswith(self.starts)
            or word.endswith(self.ends)
            or any(part in word for part in self.inside)
        )

    def in_text(self, text: str) -> bool:
        """Whether an entry stands in a text, as `plain` writes it."""
        packed = _BLANKS.sub("", text) if _UNSPACED.search(text) else ""
        return (
            any(map(self.has, words_of(text)))
            or bool(self._phrases.search(text))
            or any(part in text or part in packed for part in self.inside)
            or any(map(self._masked, _MASKED.findall(text)))
        )

    def _masked(self, word: str) -> bool:
        """`p*rn`: a word of the list with at most two letters blotted out."""
        blots = len(re.findall(r"[*#]", word))
        if blots > 2 or len(word) - blots < 2:
            return False
        shape = re.compile(re.sub(r"[*#]", r"\\w", word))
        return any(map(shape.fullmatch, self.exact)) or any(map(shape.match, (s for s in self.starts if len(s) > 3)))


def _inside(entry: str) -> bool:
    both = len(entry) > 2 and entry.startswith("*") and entry.endswith("*")
    return both or (bool(_UNSPACED.search(entry)) and not entry.startswith("="))


def _phrase(entry: str) -> str:
    """Words with any signs between them; a star stands for a word's ending."""
    return r"[\W_]{1,3}".join(re.escape(part).replace(r"\*", r"\w*") for part in entry.split())


def words_of(text: str) -> list[str]:
    """The words of a text; an Arabic one also without its article."""
    found = _WORD.findall(text)
    return [*found, *(bare for word in found if (bare := _ARTICLE.sub("", word)) != word)]


def parted(word: str, parts: frozenset[str]) -> list[str] | None:
    """A compound such as `nudegirl` as two to four of `parts`, the fewest; None where it is none."""
    if len(word) > LONGEST:
        return None
    ways: list[list[str] | None] = [[]] + [None] * len(word)
    for end in range(3, len(word) + 1):
        for start in range(0, end - 2):
            before = ways[start]
            if before is not None and word[start:end] in parts and len(before) < 4:
                now = ways[end]
                if now is None or len(now) > len(before) + 1:
                    ways[end] = [*before, word[start:end]]
    found = ways[len(word)]
    return found if found and len(found) > 1 else None
