"""Captions from strangers, made fit for a tokenizer."""

MAX_CHARACTERS = 8192  # 256 word pieces are at most a few thousand characters of real text


def bounded(caption: str) -> str:
    """The caption as a tokenizer may see it: at most 8192 characters, without lone surrogates.

    Whitespace is collapsed before the cut, so that a megabyte of blanks does not hide the words behind it.
    """
    words = " ".join(caption[: 128 * MAX_CHARACTERS].split())
    return words[:MAX_CHARACTERS].encode("utf-8", "ignore").decode("utf-8")
