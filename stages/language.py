"""Language of each caption."""

from functools import lru_cache
from typing import Any

import pyarrow as pa

from curation.captions.stage import CaptionStage, with_lists
from curation.stage import Batch, Column, Columns, Resources, rowwise

READ = 2000
"""Characters that are looked at: enough for a verdict, bounded for a hostile caption."""


class Language(CaptionStage):
    """ISO 639 code of each caption by py3langid (142 languages), with its probability.

    Short captions are uncertain: gate on `language_score` too.
    """

    name = "language"
    version = 2
    reads = ("captions",)
    writes = with_lists(
        {
            "language": Column(
                pa.string(), "ISO 639 code of the main caption, such as en; null without letters", "caption_languages"
            ),
            "language_score": Column(pa.float32(), "probability of that language, 0-1", "caption_language_scores"),
        }
    )
    resources = Resources(milliseconds=0.2, memory_mb=60)

    def load(self) -> None:
        identifier()

    def judge(self, batch: Batch) -> Columns:
        return rowwise(["language", "language_score"], identify, batch["caption"])


@lru_cache(maxsize=1)
def identifier() -> Any:
    """The identifier with normalised probabilities, loaded once per process."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify(caption: str | None) -> tuple[str | None, float | None]:
    """Code and probability, (None, None) for text without letters."""
    text = (caption or "")[:READ].encode("utf-8", "ignore").decode()
    if not any(character.isalpha() for character in text):
        return None, None
    code, probability = identifier().classify(text)
    return (None, None) if code == "zxx" else (str(code), float(probability))  # zxx: no language at all
