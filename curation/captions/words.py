"""The words of a caption, in every script.

A word is a run of letters, digits and the marks that belong to them (vowel signs, Arabic and Hebrew points, accents).
Apostrophes, hyphens, and dots between letters (`main.io`, `3.5`) do not end it. Chinese, Japanese, Thai, Lao, Khmer
and Burmese are written without blanks: there every letter, with its marks, counts as one word.
"""

from collections.abc import Sequence

import regex

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u30fc]"
_START = rf"(?!{_UNSPACED})[\p{{L}}\p{{N}}]"
_GO_ON = rf"(?:(?!{_UNSPACED})[\p{{L}}\p{{N}}\p{{M}}\u200c\u200d])*"
"""With the two joiners that Persian and the scripts of India write inside words."""
_JOIN = r"(?:['\u2019\u02bc\-\u2010\u2011.\u00b7\u05f3\u05f4\u05be]|(?<=\p{N}),(?=\p{N}))"
_WORD = regex.compile(rf"(?={_UNSPACED})[\p{{L}}\p{{N}}]\p{{M}}*|{_START}{_GO_ON}(?:{_JOIN}{_START}{_GO_ON})*")

_FEWEST = 8
_WINDOW, _LEAST_DIFFERENT = 50, 0.35
_SEQUENCE, _LEAST_NEW = 5, 0.5


def words_of(text: str) -> list[str]:
    """The words, in order and as they are written."""
    return _WORD.findall(text)


def is_repetitive(words: Sequence[str]) -> bool:
    """Whether a caption of eight words or more says the same again and again.

    True where, in windows of 50 words, fewer than 35 % on average are different ones, or where more than half of
    the sequences of five words stood there before. Neither share falls with the length of an honest caption, as the
    share of different words in a whole caption does.
    """
    lowered = [word.casefold() for word in words]
    if len(lowered) < _FEWEST:
        return False
    windows = [lowered[i : i + _WINDOW] for i in range(0, max(1, len(lowered) - _WINDOW + 1), _WINDOW // 2)]
    different = sum(len(set(window)) / len(window) for window in windows) / len(windows)
    sequences = [tuple(lowered[i : i + _SEQUENCE]) for i in range(len(lowered) - _SEQUENCE + 1)]
    return different < _LEAST_DIFFERENT or len(set(sequences)) < _LEAST_NEW * len(sequences)
