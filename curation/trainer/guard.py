"""What may be asked for and what may be handed out: a check of prompts before, of pictures after."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from curation.errors import CurationError, UsageError
from curation.models import open_model
from curation.pixels import Pixels
from curation.trainer.pictures import Frames

_CHILD = (
    r"child(?:ren)?|kids?|minors?|toddlers?|infants?|bab(?:y|ies)|teens?|teenagers?|preteens?|underage"
    r"|schoolgirls?|schoolboys?"
)
_SEXUAL = r"nudes?|naked|nud(?:e|ity)|sex(?:ual|y)?|porn\w*|erotic\w*|nsfw|topless|undress\w*|hentai|genitals?|explicit"
_GORE = r"gore|behead\w*|decapitat\w*|dismember\w*|torture[ds]?|mutilat\w*"
RULES = (
    ("sexual content with minors", re.compile(rf"(?=.*\b(?:{_CHILD})\b)(?=.*\b(?:{_SEXUAL})\b)", re.S)),
    ("sexual content", re.compile(rf"\b(?:{_SEXUAL})\b")),
    ("extreme violence", re.compile(rf"\b(?:{_GORE})\b")),
)
"""Word lists catch what is plainly said, no more; pictures are looked at as well."""


def check_prompt(prompt: str) -> None:
    """Raises UsageError with the rule that a prompt breaks."""
    plain = unicodedata.normalize("NFKC", prompt).casefold()
    for reason, pattern in RULES:
        if pattern.search(plain):
            raise UsageError(f"the prompt is refused: it asks for {reason}")


def check_pictures(frames: Frames, threshold: float = 0.5) -> None:
    """Raises CurationError where a sample is unsafe: uint8 [N, frames, H, W, 3], its first, middle and last frame."""
    model = open_model("safety", "embedded")
    for number, clip in enumerate(frames):
        shown = sorted({0, len(clip) // 2, len(clip) - 1})
        worst = max(model.punsafe(pixels([clip[i] for i in shown])))
        if worst >= threshold:
            raise CurationError(
                f"sample {number + 1} is refused and nothing was written: an unsafe picture with a probability of "
                f"{worst:.2f} (limit {threshold:g}); try another seed or prompt"
            )


def pixels(frames: Sequence[np.ndarray]) -> list[Pixels]:
    """Frames as models take them."""
    return [Pixels.of(frame) for frame in frames]
