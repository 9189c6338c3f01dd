"""What a caption looks like as text, whatever it says about the picture."""

import re

import pyarrow as pa
from pydantic import Field

from curation.captions.boilerplate import is_address, is_boilerplate, is_file_name
from curation.captions.stage import CaptionStage, with_lists
from curation.captions.words import is_repetitive, words_of
from curation.stage import Batch, Column, Columns, Resources, rowwise
from curation.stage import Params as StageParams

READ = 5000
"""Characters that are examined; `characters` counts all of them."""
_HTML = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>|&(?:[a-z]{2,8}|#\d{2,5});", re.I)


class Text(CaptionStage):
    """Words and length of each caption, and flags for what is no description.

    Words are counted in every script; in those written without blanks (Chinese, Japanese, Thai, Lao, Khmer, Burmese)
    each letter with its marks is one. A record without a caption has 0 words and the flag `empty`.
    """

    class Params(StageParams):
        boilerplate: tuple[str, ...] = Field((), description="further phrases that mark a caption as boilerplate")

    name = "text"
    version = 2
    reads = ("captions",)
    writes = with_lists(
        {
            "words": Column(pa.int32(), "words of the main caption, 0 without one", "caption_words"),
            "characters": Column(pa.int32(), "characters, 0 without one", "caption_characters"),
            "caption_flags": Column(
                pa.list_(pa.string()),
                "of: empty filename url html boilerplate all_caps digits repetition control_characters",
                "caption_flag_lists",
            ),
            "caption_problems": Column(pa.int32(), "how many flags", "caption_problem_counts"),
        }
    )
    resources = Resources(milliseconds=0.1)

    def judge(self, batch: Batch) -> Columns:
        columns = ["words", "characters", "caption_flags", "caption_problems"]
        return rowwise(columns, lambda caption: examine(caption, self.params.boilerplate), batch["caption"])


def examine(caption: str | None, phrases: tuple[str, ...] = ()) -> tuple[int, int, list[str], int]:
    """(words, characters, flags, number of flags) of a caption; `phrases` are boilerplate of the user's own."""
    text = (caption or "")[:READ]
    words = words_of(text)
    letters = [c for c in text if c.isalpha()]
    found = {
        "empty": not words,
        "filename": is_file_name(text),
        "url": is_address(text),
        "html": bool(_HTML.search(text)),
        "boilerplate": is_boilerplate(text, words, phrases),
        "all_caps": len(letters) >= 12 and sum(c.isupper() for c in letters) > 0.9 * len(letters),
        "digits": len(text) >= 6 and sum(c.isdigit() for c in text) > 0.5 * len(text),
        "repetition": is_repetitive(words),
        "control_characters": any(_is_damage(c) for c in text),
    }
    flags = [name for name, is_so in found.items() if is_so]
    return len(words), len(caption or ""), flags, len(flags)


def _is_damage(character: str) -> bool:
    """Control characters, halves of surrogate pairs, and what a failed decoding leaves."""
    code = ord(character)
    return (code < 32 and character not in "\t\n\r") or 0xD800 <= code <= 0xDFFF or code == 0xFFFD
