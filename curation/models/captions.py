"""Captions from strangers, made fit for a tokenizer; captions from models, made fit to be stored."""

import re
import unicodedata

MAX_CHARACTERS = 8192  # 256 word pieces are at most a few thousand characters of real text
MAX_GENERATED = 4000  # a model that repeats itself does so up to its token limit
_THOUGHT = re.compile(r"<think>.*?(</think>|$)", re.S)
_ENDS = re.compile(r"[.!?\N{IDEOGRAPHIC FULL STOP}][\"')\]\N{RIGHT DOUBLE QUOTATION MARK}]*(?= |$)")
_TURNS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def bounded(caption: str) -> str:
    """The caption as a tokenizer may see it: at most 8192 characters, without lone surrogates.

    Whitespace is collapsed before the cut, so that a megabyte of blanks does not hide the words behind it.
    """
    words = " ".join(caption[: 128 * MAX_CHARACTERS].split())
    return words[:MAX_CHARACTERS].encode("utf-8", "ignore").decode("utf-8")


def generated(answer: str, cut: bool = False) -> str | None:
    """A model's answer as a caption: one line of at most 4000 characters, None when nothing is left.

    Thoughts between <think> tags go, and with them control characters and marks that turn the direction of
    writing. Of an answer that was `cut` short by its token limit the unfinished last sentence goes, unless it is
    the only one.
    """
    words = " ".join(_THOUGHT.sub(" ", answer[: 64 * MAX_GENERATED]).split())
    line = "".join(sign for sign in words if unicodedata.category(sign) not in ("Cc", "Cs") and sign not in _TURNS)
    cut, line = cut or len(line) > MAX_GENERATED, line[:MAX_GENERATED]
    ends = [match.end() for match in _ENDS.finditer(line)] if cut else []
    return (line[: ends[-1]] if ends else line).strip() or None
