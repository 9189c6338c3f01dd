"""The embedded captioner: what `tags` and `overlay` found, in a sentence. It looks at no pixels."""

import hashlib
from collections.abc import Sequence

from curation.models.registry import ModelInfo

ID = "embedded:tags+ocr"


class TagSentence:
    """The role captions without a model of its own: its tags and its text come from other stages' columns."""

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        return ModelInfo(ID, hashlib.sha256(ID.encode()).hexdigest())

    def __init__(self, argument: str, device: str = "cpu") -> None:
        pass

    def sentence(
        self,
        tags: Sequence[str],
        scores: Sequence[float],
        text: str | None,
        media: str = "image",
        sure: float = 0.35,
        least: float = 0.12,
    ) -> str | None:
        """`a photo of a tabby or a tiger cat, with the text "SALE"`; None without a likely tag and without text.

        Tags below the probability `least` are left out; below `sure` two are offered with `or`.
        """
        likely = [tag for tag, score in zip(tags, scores, strict=True) if score >= least]
        named = likely[:1] if scores and scores[0] >= sure else likely[:2]
        subject = " or ".join(f"{'an' if tag[0].lower() in 'aeiou' else 'a'} {tag}" for tag in named)
        words = f'the text "{text.strip()[:80]}"' if text and text.strip() else ""
        clip = media == "video"
        if subject:
            start = f"a {'video' if clip else 'photo'} of {subject}"
            return f"{start}, with {words}" if words else start
        return f"a {'video' if clip else 'picture'} with {words}" if words else None
