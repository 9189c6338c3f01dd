"""From noise to latents: DDPM, DDIM, Euler and DPM-Solver++ over any objective, with classifier-free guidance.

A denoiser is a function (x, t) -> (data, noise): what the model's prediction means at t in [0, 1].
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from curation.errors import UsageError
from curation.trainer.objectives import STEPS, Ddpm, Objective, RectifiedFlow

Denoiser = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Method = Literal["ddpm", "ddim", "euler", "dpm++"]
METHODS = ("ddpm", "ddim", "euler", "dpm++")
LEAST_HALF_LOG_SNR = -5.1
Noise = Callable[[int], Tensor]
"""Step -> fresh noise in the shape of x, for methods that add some."""


def timesteps(objective: Objective, steps: int, shift: float = 1.0) -> list[float]:
    """Falling t, `steps` + 1 of them or, where the chain is clipped, a few less; the last is 0.

    Flow: from 1, evenly, then shifted as in SD3: s t / (1 + (s - 1) t). DDPM: every (1000 / steps)th of the chain,
    trailing (Lin 2023, arXiv 2305.08891), so that the first is the noisiest; for noise prediction the noisiest at which
    half the log-SNR is -5.1 or more. Beyond, on the cosine schedule, dividing by the signal (5e-5 at the end of the
    chain) would turn the slightest error into garbage; diffusers clips there as well (`lambda_min_clipped`).
    Raises UsageError below one step.
    """
    if not 1 <= steps <= STEPS:
        raise UsageError(f"--steps {steps}: say 1 to {STEPS}")
    if isinstance(objective, RectifiedFlow):
        even = [1 - i / steps for i in range(steps + 1)]
        return [shift * t / (1 + (shift - 1) * t) for t in even]
    chain = STEPS
    if isinstance(objective, Ddpm) and objective.prediction == "eps":
        bar = objective.alpha_bar(torch.arange(STEPS, dtype=torch.float64) / STEPS)
        chain = int((0.5 * torch.log(bar / (1 - bar)) >= LEAST_HALF_LOG_SNR).sum())
    left = (round(chain - i * STEPS / steps) for i in range(steps))
    return [*((k - 1) / STEPS for k in left if k > 0), 0.0]


def _levels(objective: Objective, t: float, last: bool) -> tuple[float, float]:
    """(signal, sigma) of x at t; the end of the way is data itself."""
    if last:
        return 1.0, 0.0
    if isinstance(objective, Ddpm):
        bar = float(objective.alpha_bar(torch.tensor([t], dtype=torch.float64)))
        return bar**0.5, (1 - bar) ** 0.5
    return 1 - t, t


def sample(
    denoise: Denoiser,
    objective: Objective,
    x: Tensor,
    steps: int,
    method: Method,
    noise: Noise | None = None,
    shift: float = 1.0,
) -> Tensor:
    """x [B, ...] of pure noise -> latents.

    ddim     Song 2021, arXiv 2010.02502, eta = 0; deterministic
    ddpm     its ancestral form, eta = 1: needs `noise`; for flows the same over their signal and sigma
    euler    along the flow's velocity; for a DDPM along its probability flow in sigma / signal (k-diffusion's)
    dpm++    DPM-Solver++(2M), Lu 2022, arXiv 2211.01095: second order by the previous step's data
    """
    if method not in METHODS:
        raise UsageError(f"--sampler {method}: there are {', '.join(METHODS)}")
    if method == "ddpm" and noise is None:
        raise UsageError("the sampler ddpm adds noise in every step and needs a source of it")
    times = timesteps(objective, steps, shift)
    before: tuple[Tensor, float] | None = None
    for i, t in enumerate(times[:-1]):
        last = len(times) - 1
        (signal, sigma), (to_signal, to_sigma) = (_levels(objective, times[k], k == last) for k in (i, i + 1))
        data, eps = denoise(x, torch.full((len(x),), t, device=x.device))
        if method == "euler" and isinstance(objective, RectifiedFlow):
            x = data if i + 1 == last else x + (times[i + 1] - t) * (x - data) / t
        elif method == "euler":
            x = to_signal * (x / signal + (to_sigma / to_signal - sigma / signal) * eps)
        elif method == "dpm++":
            x, before = _dpm(x, data, before, (signal, sigma), (to_signal, to_sigma))
        else:
            fresh = _ancestral(signal, sigma, to_signal, to_sigma) if method == "ddpm" else 0.0
            x = to_signal * data + max(0.0, to_sigma**2 - fresh**2) ** 0.5 * eps
            if fresh and noise is not None:
                x = x + fresh * noise(i)
    return x


def _ancestral(signal: float, sigma: float, to_signal: float, to_sigma: float) -> float:
    """The posterior's standard deviation, for any signal and sigma.

    Where signal^2 + sigma^2 = 1 it is DDIM's sigma at eta = 1 (its equation 16); a flow's are no such pair.
    """
    if not to_sigma:
        return 0.0
    return to_sigma / sigma * max(0.0, sigma**2 - (signal / to_signal * to_sigma) ** 2) ** 0.5


def _dpm(
    x: Tensor, data: Tensor, before: tuple[Tensor, float] | None, here: tuple[float, float], to: tuple[float, float]
) -> tuple[Tensor, tuple[Tensor, float]]:
    """One multistep update in log-SNR; first order at the first and at the last step, and from pure noise."""
    (signal, sigma), (to_signal, to_sigma) = here, to
    if not to_sigma or not signal:
        # from pure noise or to pure data: log-SNR is infinite, and the limit is DDIM's step
        eps = (x - signal * data) / sigma
        lam = -float("inf") if not signal else _log(signal / sigma)
        return to_signal * data + to_sigma * eps, (data, lam)
    lam, to_lam = _log(signal / sigma), _log(to_signal / to_sigma)
    h = to_lam - lam
    blend = data
    if before is not None and before[1] != -float("inf"):
        ratio = (lam - before[1]) / h
        blend = data + (data - before[0]) / (2 * ratio)
    decay = torch.expm1(torch.tensor(-h, dtype=torch.float64)).item()
    return (to_sigma / sigma) * x - to_signal * decay * blend, (data, lam)


def _log(value: float) -> float:
    return torch.tensor(value, dtype=torch.float64).log().item()


def guided(
    predict: Callable[[Tensor, Tensor, bool], Tensor], objective: Objective, guidance: float, rescale: float = 0.0
) -> Denoiser:
    """A denoiser with classifier-free guidance (Ho 2022, arXiv 2207.12598) over all channels.

    predict   (x, t, unconditional) -> the model's prediction
    guidance  1: the conditional prediction alone, bit for bit, in one forward pass
    rescale   0 to 1: how far the guided prediction is brought back to the conditional one's standard deviation
              per sample (Lin 2023, arXiv 2305.08891)
    """

    def denoise(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        predicted = predict(x, t, False)
        if guidance != 1:
            unconditional = predict(x, t, True)
            mixed = unconditional + guidance * (predicted - unconditional)
            if rescale:
                axes = tuple(range(1, x.ndim))
                factor = predicted.std(axes, keepdim=True) / mixed.std(axes, keepdim=True).clamp(min=1e-8)
                mixed = mixed * (rescale * factor + 1 - rescale)
            predicted = mixed
        return objective.split(x, predicted, t)

    return denoise
