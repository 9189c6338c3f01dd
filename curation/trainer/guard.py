"""What may be asked for and what may be handed out: a check of prompts before, of pictures after."""

from collections.abc import Mapping, Sequence

import numpy as np

from curation.errors import CurationError, UsageError
from curation.models import open_model
from curation.pixels import Pixels
from curation.prompts import endpoint
from curation.prompts.rules import verdict
from curation.trainer.pictures import Frames

LONGEST = 10_000
"""Characters of a prompt; a longer one is refused unread, for the time that a check of it would take."""


def check_prompts(prompts: Mapping[str, str], moderation: str | None = None) -> None:
    """Raises UsageError with the place and the fault of the first prompt that is refused.

    prompts     the place of each, as the user knows it (`--negative`, `prompts.txt:3`) -> its text
    moderation  `http://HOST/v1#MODEL`, a server to ask about those that the word list passes; see `prompts.endpoint`
    Raises Unavailable where the server gives no answer: what was not checked is not painted.
    """
    reasons = _reasons(list(prompts.values()), moderation)
    for place, reason in zip(prompts, reasons, strict=True):
        if reason:
            raise UsageError(f"{place} is refused: {reason}; say it in other words, or leave it out")


def allowed(captions: Sequence[str], moderation: str | None = None) -> list[str]:
    """Those captions that `check_prompts` would pass, in their order."""
    return [text for text, reason in zip(captions, _reasons(captions, moderation), strict=True) if not reason]


def _reasons(prompts: Sequence[str], moderation: str | None) -> list[str | None]:
    reasons = [_reason(prompt) for prompt in prompts]
    if moderation:
        asked = [number for number, prompt in enumerate(prompts) if prompt.strip() and not reasons[number]]
        answers = endpoint.categories([prompts[number] for number in asked], moderation)
        for number, found in zip(asked, answers, strict=True):
            if found is not None:
                reasons[number] = f"the moderation server flags it{f' as {found}' if found else ''}"
    return reasons


def _reason(prompt: str) -> str | None:
    if len(prompt) > LONGEST:
        return f"it has {len(prompt):,} characters, and at most {LONGEST:,} are checked"
    broken = verdict(prompt)
    return f"it names {broken}" if broken else None


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
