"""What a caption looks like as text, whatever it says about the picture."""

import re

import pyarrow as pa
from pydantic import Field

from curation.stage import Batch, Column, Columns, Resources, Stage, rowwise
from curation.stage import Params as StageParams

READ = 5000
"""Characters that are examined; `characters` counts all of them."""
_URL = re.compile(r"https?://|www\.\w|\b[\w-]{1,63}\.(?:com|net|org|io|co\.uk|de)\b", re.I)
_HTML = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>|&(?:[a-z]{2,8}|#\d{2,5});", re.I)
_FILE_NAME = re.compile(
    r"^\W*(?:[\w\-]+\.(?:jpe?g|png|gif|webp|tiff?|bmp|avif|heic|svg)"
    r"|(?:img|dsc|dscn|dscf|pxl|mvi|p)[-_ ]?\d{3,}\w*"
    r"|[\w-]*\d{6,}[\w-]*)\W*$",
    re.I,
)
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_BOILERPLATE = (
    "image", "photo", "picture", "untitled", "no caption", "no description", "thumbnail", "stock photo",
    "stock image", "click here", "click to enlarge", "buy now", "add to cart", "free shipping",
    "image may contain", "view larger", "read more", "all rights reserved", "cookie", "subscribe",
    "sign up now", "log in to", "lorem ipsum", "default title", "placeholder", "image not available",
    "product image", "main image",
)  # fmt: skip
_ALONE = {"image", "photo", "picture", "thumbnail", "cookie", "placeholder", "untitled"}
"""Words that are boilerplate only when (with articles and numbers) they are all there is."""


class Text(Stage):
    """Words and length of the main caption, and flags for what is no description."""

    class Params(StageParams):
        boilerplate: tuple[str, ...] = Field((), description="further phrases that mark a caption as boilerplate")

    name = "text"
    reads = ("caption",)
    writes = {
        "words": Column(pa.int32(), "words of the caption, 0 without one"),
        "characters": Column(pa.int32(), "characters, 0 without one"),
        "caption_flags": Column(
            pa.list_(pa.string()),
            "of: empty filename url html boilerplate all_caps digits repetition control_characters",
        ),
        "caption_problems": Column(pa.int32(), "how many flags"),
    }
    resources = Resources(milliseconds=0.1)

    def run(self, batch: Batch) -> Columns:
        phrases = (*_BOILERPLATE, *(phrase.lower() for phrase in self.params.boilerplate))
        return rowwise(list(self.writes), lambda caption: examine(caption, phrases), batch["caption"])


def examine(caption: str | None, phrases: tuple[str, ...] = _BOILERPLATE) -> tuple[int, int, list[str], int]:
    """(words, characters, flags, number of flags) of a caption."""
    text = (caption or "")[:READ]
    words = _WORD.findall(text)
    letters = [c for c in text if c.isalpha()]
    found = {
        "empty": not words,
        "filename": bool(_FILE_NAME.match(text)),
        "url": bool(_URL.search(text)),
        "html": bool(_HTML.search(text)),
        "boilerplate": _is_boilerplate(text.lower(), [word.lower() for word in words], phrases),
        "all_caps": len(letters) >= 12 and sum(c.isupper() for c in letters) > 0.9 * len(letters),
        "digits": len(text) >= 6 and sum(c.isdigit() for c in text) > 0.5 * len(text),
        "repetition": len(words) >= 8 and len({word.lower() for word in words}) < 0.35 * len(words),
        "control_characters": any(_is_damage(c) for c in text),
    }
    flags = [name for name, is_so in found.items() if is_so]
    return len(words), len(caption or ""), flags, len(flags)


def _is_damage(character: str) -> bool:
    """Control characters, halves of surrogate pairs, and what a failed decoding leaves."""
    code = ord(character)
    return (code < 32 and character not in "\t\n\r") or 0xD800 <= code <= 0xDFFF or code == 0xFFFD


def _is_boilerplate(lowered: str, words: list[str], phrases: tuple[str, ...]) -> bool:
    content = [word for word in words if word not in ("a", "an", "the", "of", "my") and not word.isdigit()]
    if content and set(content) <= _ALONE:
        return True
    return any(re.search(rf"\b{re.escape(phrase)}\b", lowered) for phrase in phrases if phrase not in _ALONE)
