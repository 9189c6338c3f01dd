"""A picture that every VAE is tried on: what its latents are like says whether its scaling fits them.

Photographs differ from line art, but this picture is always the same. A VAE whose scaling is its own gives normalised
latents of it with an RMS of about 1, whatever the run's records are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.models.vae import in_range
from curation.shards.scaling import normalized_rms
from curation.threads import one_thread

NAME = "dead leaves, version 1"
SIDE = 128
DISCS = 600


def reference_picture(side: int = SIDE) -> NDArray[np.uint8]:
    """Discs of random colours that cover each other, shaded and slightly noisy: uint8 [side, side, 3].

    With radii r drawn with a density of r^-3 it has the statistics of photographs (Lee, Mumford and Huang 2001,
    "Occlusion models for natural images").
    """
    rng = np.random.default_rng(20010404)
    least, most = side / 24, side / 3
    radii = (least**-2 - rng.random(DISCS) * (least**-2 - most**-2)) ** -0.5
    centres, colours = rng.random((DISCS, 2)) * side, 0.1 + 0.8 * rng.random((DISCS, 3))
    colours = 0.6 * colours.mean(1, keepdims=True) + 0.4 * colours  # photographs are less coloured than chance
    slopes = (rng.random((DISCS, 2)) - 0.5) * 0.5
    y, x = np.mgrid[0:side, 0:side] + 0.5
    picture = np.full((side, side, 3), 0.5)
    for radius, (cy, cx), colour, (sy, sx) in zip(radii, centres, colours, slopes, strict=True):
        inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        shade = 1 + (sy * (y - cy) + sx * (x - cx)) / radius
        picture[inside] = (colour * shade[..., None])[inside]
    picture += (rng.random(picture.shape) - 0.5) * 0.04
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def calibration(vae: Any) -> dict[str, Any] | None:
    """What a VAE makes of the reference picture: mean and RMS of its raw latents per channel, and their normalised RMS.

    None where the latents are not finite.
    """
    import torch

    side = -(-SIDE // vae.spatial_factor) * vae.spatial_factor
    with one_thread():
        mean, _ = vae.encode(in_range(torch.from_numpy(reference_picture(side)[None])))
    values = mean[0].double().flatten(1).cpu().numpy()
    if not np.isfinite(values).all():
        return None
    first, rms = values.mean(1), np.sqrt(np.square(values).mean(1))
    return {
        "picture": NAME,
        "mean": [float(f"{x:.7g}") for x in first],
        "rms": [float(f"{x:.7g}") for x in rms],
        "normalized_rms": round(normalized_rms(first, rms, vae.latents_mean, vae.latents_std), 6),
    }
