"""What a model learns to predict, and how hard each timestep counts: DDPM and rectified flow.

Everywhere t is in [0, 1]: 0 is data, 1 is noise, whichever the objective.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor

STEPS = 1000
"""Of the DDPM's chain; timestep k of it is t = k / 1000."""
LEAST = 0.05
"""t below which the error of a predicted x is not weighted any harder."""
BINS = 20
"""Of the loss by timestep, as logged and as loss-aware sampling uses it."""


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))


class Objective(Protocol):
    """Between data and noise: x [B, ...] and t [B]."""

    def time(self, u: Tensor) -> Tensor:
        """Uniform [0, 1) -> timesteps t, by the inverse of the wanted distribution's CDF."""

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor: ...

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor: ...

    def weight(self, t: Tensor) -> Tensor:
        """Of each sample's squared error, [B]."""

    def split(self, noisy: Tensor, predicted: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """A prediction as the (data, noise) that it means."""


@dataclass(frozen=True)
class RectifiedFlow:
    """Straight lines from data to noise, their velocity being noise - x (Liu 2022, arXiv 2209.03003).

    mean, std   of logit-normal timesteps, sigmoid(mean + std * N(0, 1)) (Esser 2024, arXiv 2403.03206); std 0: uniform
    prediction  v: the velocity. x: the data, for the same loss on the velocity that it means; better where a patch
                has as many numbers as the model is wide (Li and He 2025, arXiv 2511.13720)
    """

    mean: float = 0.0
    std: float = 1.0
    prediction: Literal["v", "x"] = "v"

    def time(self, u: Tensor) -> Tensor:
        if not self.std:
            return u
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u.double().clamp(1e-6, 1 - 1e-6))).to(u.dtype)

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        t = _wide(t, x)
        return (1 - t) * x + t * noise

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise - x if self.prediction == "v" else x

    def weight(self, t: Tensor) -> Tensor:
        return torch.ones_like(t) if self.prediction == "v" else t.clamp(min=LEAST) ** -2

    def split(self, noisy: Tensor, predicted: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t = _wide(t, noisy)
        if self.prediction == "x":
            return predicted, (noisy - (1 - t) * predicted) / t.clamp(min=1e-4)
        return noisy - t * predicted, noisy + (1 - t) * predicted


def alphas_cumprod(schedule: Literal["linear", "cosine"]) -> Tensor:
    """float64 [1000]. Linear: betas 1e-4 to 0.02 (Ho 2020, arXiv 2006.11239); cosine: Nichol 2021, arXiv 2102.09672."""
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
    else:
        bar = torch.cos((torch.arange(STEPS + 1, dtype=torch.float64) / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - betas, dim=0)


@lru_cache
def _alphas_on(schedule: Literal["linear", "cosine"], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept from one call to the next, and so for training as well
        return alphas_cumprod(schedule).to(device)


@dataclass(frozen=True)
class Ddpm:
    """Noise (eps) or velocity (v, Salimans and Ho 2022, arXiv 2202.00512) prediction over 1000 discrete steps.

    min_snr  gamma of min-SNR weighting (Hang 2023, arXiv 2303.09556), usually 5; None for none
    """

    schedule: Literal["linear", "cosine"] = "linear"
    prediction: Literal["eps", "v"] = "eps"
    min_snr: float | None = None

    def time(self, u: Tensor) -> Tensor:
        return (u * STEPS).floor().clamp(max=STEPS - 1) / STEPS

    def alpha_bar(self, t: Tensor) -> Tensor:
        """Cumulative alphas at t, float64 [B]."""
        return _alphas_on(self.schedule, t.device)[(t.double() * STEPS).round().long().clamp(0, STEPS - 1)]

    def _scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        bar = self.alpha_bar(t)
        return _wide(bar.sqrt(), like), _wide((1 - bar).sqrt(), like)

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        signal, sigma = self._scales(t, x)
        return signal * x + sigma * noise

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        if self.prediction == "eps":
            return noise
        signal, sigma = self._scales(t, x)
        return signal * noise - sigma * x

    def weight(self, t: Tensor) -> Tensor:
        if self.min_snr is None:
            return torch.ones_like(t)
        bar = self.alpha_bar(t)
        snr = bar / (1 - bar)
        over = snr if self.prediction == "eps" else snr + 1
        return (snr.clamp(max=self.min_snr) / over).to(t.dtype)

    def split(self, noisy: Tensor, predicted: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        signal, sigma = self._scales(t, noisy)
        if self.prediction == "eps":
            return (noisy - sigma * predicted) / signal, predicted
        return signal * noisy - sigma * predicted, sigma * noisy + signal * predicted


@dataclass
class LossByTime:
    """A running mean of the loss, weighted as the objective weighs it, in each of 20 bins of t; loss-aware sampling
    draws from it.

    After Nichol 2021's loss second-moment resampler: p ~ sqrt(E[loss^2]), here with a floor of a tenth of uniform.
    """

    mean: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    square: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    count: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    decay: float = 0.99

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Take in a global batch: t and loss [B]. A bin's first values count in full."""
        bins = (t.double().cpu() * BINS).long().clamp(0, BINS - 1)
        loss = loss.double().cpu()
        for bin_ in bins.unique():
            inside = loss[bins == bin_]
            keep = self.decay ** len(inside) if self.count[bin_] else 0.0
            self.mean[bin_] = keep * self.mean[bin_] + (1 - keep) * inside.mean()
            self.square[bin_] = keep * self.square[bin_] + (1 - keep) * (inside**2).mean()
            self.count[bin_] += len(inside)

    @property
    def probabilities(self) -> Tensor:
        """Of each bin, [20]; uniform until every bin was seen."""
        if not bool((self.count > 0).all()):
            return torch.full((BINS,), 1 / BINS, dtype=torch.float64)
        p = self.square.sqrt() + 1e-12
        return 0.9 * p / p.sum() + 0.1 / BINS

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform [B] -> (t, weight), weight = 1 / (p * bins), so that the loss stays unbiased."""
        p = self.probabilities
        edges = torch.cat([torch.zeros(1, dtype=p.dtype), p.cumsum(0)])
        at = torch.searchsorted(edges[1:-1].contiguous(), u.double().cpu().contiguous(), right=True)
        inside = (u.double().cpu() - edges[at]) / p[at]
        t = ((at + inside) / BINS).clamp(0, 1)
        return t.to(u), (1 / (p[at] * BINS)).to(u)
