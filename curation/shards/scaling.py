"""Whether the scaling in an index is that of its VAE: checked against what its latents were measured to be."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

USUAL_RMS = (0.5, 1.5)
"""Of the normalised latents of photographs, whose VAE has its own scaling."""
TOLERANCE = 2e-3
"""Relative, of a normalised RMS that is computed again from figures that the index has rounded."""


def normalized_rms(
    mean: ArrayLike, rms: ArrayLike, latents_mean: Sequence[float], latents_std: Sequence[float]
) -> float:
    """RMS of (z - latents_mean) / latents_std over all channels, from the mean and the RMS of raw latents in each."""
    first, second = np.asarray(mean, np.float64), np.square(np.asarray(rms, np.float64))
    centre, scale = np.asarray(latents_mean, np.float64), np.asarray(latents_std, np.float64)
    return float(np.sqrt(np.maximum((second - 2 * centre * first + centre**2) / scale**2, 0).mean()))


def problem(index: Mapping[str, Any]) -> str | None:
    """Why normalised latents of these shards would be wrong, None where they are not; the index has a VAE.

    Content decides nothing here: line art, scans and flat colours may have any RMS. The scaling must have one finite
    mean and one finite positive spread for each channel, and must give what the index measured with it: of the samples,
    and of the picture that the VAE was tried on.
    """
    vae = index["vae"]
    mean, std = vae["latents_mean"], vae["latents_std"]
    if wrong := unsound(vae["channels"], mean, std):
        return wrong
    measured = {"the samples": index["statistics"] if index["samples"] else None}
    measured["the picture that the VAE was tried on"] = vae.get("calibration")
    for what, figures in measured.items():
        if figures is not None and (wrong := _differs(figures, mean, std)):
            return f"the normalised latents of {what} {wrong}"
    return None


def unsound(channels: int, mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Why these are no means and spreads of latents of so many channels; None where they are."""
    if not len(mean) == len(std) == channels:
        return f"there are {channels} channels, but {len(mean)} values of latents_mean and {len(std)} of latents_std"
    with np.errstate(over="ignore"):
        scaled = np.asarray([mean, std], np.float32)  # as readers take them: 1e-50 is 0
    if not np.isfinite(scaled).all() or scaled[1].min(initial=1) <= 0:
        return "latents_mean or latents_std are not finite, or a latents_std is not positive"
    return None


def _differs(figures: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Why measured figures and a scaling do not belong together; old indices have no figures per channel."""
    known = figures["normalized_rms"]
    if not np.isfinite(known):
        return f"have an RMS of {known}"
    if len(figures.get("mean", ())) == len(figures.get("rms", ())) == len(mean):
        again = normalized_rms(figures["mean"], figures["rms"], mean, std)
        if abs(again - known) > TOLERANCE * max(known, 1e-3):
            return f"had an RMS of {known:.3g} when they were made, but latents_mean and latents_std give {again:.3g}"
    return None
