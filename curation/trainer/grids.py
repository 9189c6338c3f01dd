"""Grids of samples while a model trains."""

from typing import Any

from curation.errors import Unavailable
from curation.progress import console
from curation.stores.storage import Store
from curation.trainer.checkpoint import Tensors
from curation.trainer.data import Batches
from curation.trainer.guard import allowed
from curation.trainer.pictures import grid, png
from curation.trainer.sample import Painter, Settings

CAPTIONS = 8


def write_grid(state: dict[str, Any], ema: Tensors, batches: Batches, out: Store) -> None:
    """Commit samples/step-N.png: four of each prompt, the same seeds every time; of clips the first frames.

    Captions that the prompt guard refuses are left out; shards without others get samples of the empty caption. Where
    the moderation server gives no answer there is no grid, and the training goes on.
    """
    painter = Painter(state, ema)
    config = painter.config
    try:
        prompts = (
            allowed(config.prompts, config.moderation) if config.prompts else first_captions(batches, config.moderation)
        )
    except Unavailable as error:
        console().print(f"no grid of samples at step {state['step']:,}: {error}", highlight=False, soft_wrap=True)
        return
    prompts = prompts or [""]
    guidance = config.guidance if any(prompts) else 1.0
    settings = Settings(steps=config.sampling_steps, guidance=guidance)
    frames = painter.paint([prompt for prompt in prompts for _ in range(4)], config.seed, settings)
    out.write(f"samples/step-{state['step']:08d}.png", png(grid(frames, columns=4)[0]))


def first_captions(batches: Batches, moderation: str | None = None) -> list[str]:
    """Distinct captions of the first samples, in the order of the index, that the guard allows."""
    found: dict[str, None] = {}
    for number in range(min(64, len(batches.shards))):
        for caption in batches.shards[number].meta["captions"][:1]:
            found.setdefault(caption)
    return allowed(list(found), moderation)[:CAPTIONS]
