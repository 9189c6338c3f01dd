"""Objectives and samplers against diffusers' schedulers, with the caveats that make them comparable."""

import math

import numpy as np
import pytest
import torch

from curation.errors import UsageError
from curation.models.patch_torchvision import patch_torchvision
from curation.trainer.objectives import BINS, Ddpm, LossByTime, Objective, RectifiedFlow, alphas_cumprod
from curation.trainer.samplers import guided, sample, timesteps

patch_torchvision()
from diffusers import (  # noqa: E402
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)

X = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SCHEDULES = [("linear", "linear"), ("cosine", "squaredcos_cap_v2")]


def field(x: torch.Tensor, t: float) -> torch.Tensor:
    """Stands for a network: smooth, and different at each t."""
    return torch.tanh(0.7 * x.flip(-1) + math.sin(9 * t)) * (0.5 + t)


def predictor(objective: Objective) -> object:
    return guided(lambda x, t, _: field(x, float(t[0])), objective, guidance=1)


@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES)
def test_alphas(ours: str, theirs: str) -> None:
    scheduler = DDPMScheduler(beta_schedule=theirs)
    assert np.allclose(alphas_cumprod(ours), scheduler.alphas_cumprod, atol=2e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES)
def test_noise_and_velocity(ours: str, theirs: str, prediction: str) -> None:
    scheduler = DDPMScheduler(beta_schedule=theirs)
    objective, noise, k = Ddpm(ours, prediction), X.flip(0), torch.tensor([3, 990])  # type: ignore[arg-type]
    t = k / 1000
    noisy = objective.noised(X, noise, t)
    assert torch.allclose(noisy, scheduler.add_noise(X, noise, k).double(), atol=1e-5)
    target = objective.target(X, noise, t)
    assert torch.allclose(
        target, noise if prediction == "eps" else scheduler.get_velocity(X, noise, k).double(), atol=1e-5
    )
    data, eps = objective.split(noisy, target, t)
    assert torch.allclose(data, X, atol=1e-6) and torch.allclose(eps, noise, atol=1e-6)


@pytest.mark.parametrize("prediction", ["v", "x"])
def test_a_flow_is_a_straight_line(prediction: str) -> None:
    objective, noise, t = RectifiedFlow(prediction=prediction), X.flip(0), torch.tensor([0.1, 0.9]).double()  # type: ignore[arg-type]
    noisy = objective.noised(X, noise, t)
    assert torch.allclose(noisy[0], 0.9 * X[0] + 0.1 * noise[0])
    data, eps = objective.split(noisy, objective.target(X, noise, t), t)
    assert torch.allclose(data, X) and torch.allclose(eps, noise)


@pytest.mark.parametrize("steps", [20, 25, 40, 50])
@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES)
def test_ddim(ours: str, theirs: str, prediction: str, steps: int) -> None:
    """clip_sample off (it clamps latents), trailing spacing, and N that divides 1000 (see diffusers#9261)."""
    scheduler = DDIMScheduler(
        beta_schedule=theirs,
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type={"eps": "epsilon", "v": "v_prediction"}[prediction],
    )
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(steps)
    objective = Ddpm(ours, prediction)  # type: ignore[arg-type]
    if (ours, prediction) == ("cosine", "eps"):  # where diffusers' DDIM has no clipping
        scheduler.timesteps = torch.tensor([round(1000 * t) for t in timesteps(objective, steps)[:-1]])
    assert timesteps(objective, steps)[:-1] == [int(k) / 1000 for k in scheduler.timesteps]
    x = X
    for k in scheduler.timesteps:
        x = scheduler.step(field(x, float(k) / 1000), k, x).prev_sample
    found = sample(predictor(objective), objective, X, steps, "ddim")  # type: ignore[arg-type]
    assert torch.allclose(found, x, atol=1e-6 * float(x.abs().max() + 1), rtol=3e-5)


def test_ddpm_adds_the_posteriors_noise() -> None:
    """All 1000 steps: there the ancestral step is the DDPM posterior of diffusers' variance fixed_small."""
    scheduler = DDPMScheduler(clip_sample=False, variance_type="fixed_small")
    objective = Ddpm()
    fresh = {
        i: torch.randn(X.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(1000)
    }
    x = X
    for i, k in enumerate(scheduler.timesteps):
        out = scheduler.step(
            field(x, float(k) / 1000), k, x, return_dict=True, generator=torch.Generator().manual_seed(0)
        )
        variance = scheduler._get_variance(k)
        drawn = torch.randn(X.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        mean = out.prev_sample - (variance**0.5 * drawn if k > 0 else 0)
        x = mean + (variance**0.5 * fresh[i] if k > 0 else 0)
    ours = sample(predictor(objective), objective, X, 1000, "ddpm", noise=fresh.__getitem__)  # type: ignore[arg-type]
    assert torch.allclose(ours, x.double(), atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [7, 20])
def test_flow_euler(steps: int, shift: float) -> None:
    """Sigmas given, because diffusers shifts the smallest one twice (diffusers#13243)."""
    objective = RectifiedFlow()
    times = timesteps(objective, steps, shift)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=times[:-1])
    x = X
    for t in scheduler.timesteps:
        x = scheduler.step(field(x, float(t) / 1000), t, x).prev_sample.double()
    ours = sample(predictor(objective), objective, X, steps, "euler", shift=shift)  # type: ignore[arg-type]
    assert torch.allclose(ours, x, atol=1e-4)


@pytest.mark.parametrize("steps", [20, 50])
@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES)
def test_dpm_solver(ours: str, theirs: str, prediction: str, steps: int) -> None:
    """2M, midpoint, first order at the last step, whose sigma is 0."""
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule=theirs,
        prediction_type={"eps": "epsilon", "v": "v_prediction"}[prediction],
        timestep_spacing="trailing",
        lower_order_final=True,
        final_sigmas_type="zero",
        lambda_min_clipped=-5.1 if prediction == "eps" else -float("inf"),
    )
    scheduler.set_timesteps(steps)
    objective = Ddpm(ours, prediction)  # type: ignore[arg-type]
    x = X
    for k in scheduler.timesteps:
        x = scheduler.step(field(x, float(k) / 1000), k, x).prev_sample.double()
    found = sample(predictor(objective), objective, X, steps, "dpm++")  # type: ignore[arg-type]
    assert torch.allclose(found, x, atol=1e-5, rtol=3e-5)


@pytest.mark.parametrize("method", ["ddpm", "ddim", "euler", "dpm++"])
@pytest.mark.parametrize("objective", [RectifiedFlow(), Ddpm(), Ddpm("cosine", "v")], ids=["flow", "linear", "cosine"])
def test_every_sampler_finds_a_point(objective: Objective, method: str) -> None:
    """With a perfect denoiser of one point, all ways lead there."""
    point = torch.full((2, 3, 1, 4, 4), 0.7, dtype=torch.float64)

    def denoise(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        signal, sigma = objective.noised(one, zero, t.double()), objective.noised(zero, one, t.double())
        return point, (x - signal * point) / sigma.clamp(min=1e-9)

    found = sample(denoise, objective, X, 20, method, noise=lambda i: torch.zeros_like(X))  # type: ignore[arg-type]
    assert torch.allclose(found, point, atol=1e-6)


def test_guidance_of_one_is_the_conditional_prediction_and_one_pass() -> None:
    asked = []

    def predict(x: torch.Tensor, t: torch.Tensor, unconditional: bool) -> torch.Tensor:
        asked.append(unconditional)
        return x * (2 if unconditional else 3)

    objective, t = RectifiedFlow(), torch.tensor([0.5, 0.5], dtype=torch.float64)
    data, _ = guided(predict, objective, 1)(X, t)
    assert torch.equal(data, X - 0.5 * (3 * X)) and asked == [False]
    data, _ = guided(predict, objective, 4)(X, t)
    assert torch.allclose(data, X - 0.5 * (2 * X + 4 * X)) and asked == [False, False, True]


def test_rescaled_guidance_has_the_conditional_predictions_spread() -> None:
    objective, t = Ddpm(), torch.tensor([0.5, 0.5])
    wide = guided(lambda x, t, none: x if none else 2 * x, objective, 5, rescale=1.0)(X, t)[1]
    axes = (1, 2, 3, 4)
    assert torch.allclose(wide.std(axes), (2 * X).std(axes))


def test_timesteps_of_a_flow_are_logit_normal() -> None:
    u = (torch.arange(10_000) + 0.5) / 10_000
    logits = torch.logit(RectifiedFlow(mean=0.5, std=2.0).time(u).double())
    assert float(logits.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(logits.std()) == pytest.approx(2.0, abs=0.01)
    assert torch.equal(RectifiedFlow(std=0).time(u), u)


def test_timesteps_of_a_ddpm_are_the_thousand() -> None:
    u = (torch.arange(2000) + 0.5) / 2000
    assert torch.equal((Ddpm().time(u) * 1000).round().long(), torch.arange(1000).repeat_interleave(2))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_min_snr_weights(prediction: str) -> None:
    objective = Ddpm(prediction=prediction, min_snr=5.0)  # type: ignore[arg-type]
    t = torch.tensor([0.0, 0.1, 0.5, 0.999], dtype=torch.float64)
    bar = objective.alpha_bar(t)
    snr = bar / (1 - bar)
    assert torch.allclose(objective.weight(t), snr.clamp(max=5) / (snr + (prediction == "v")))


def test_loss_aware_timesteps_go_where_the_loss_is_and_stay_unbiased() -> None:
    losses = LossByTime()
    t = (torch.arange(4000) + 0.5) / 4000
    assert torch.allclose(losses.draw(t)[0], t) and torch.allclose(losses.draw(t)[1], torch.ones(4000))
    losses.update(t, torch.where(t < 0.5, 3.0, 1.0))
    assert losses.mean.tolist() == [3.0] * (BINS // 2) + [1.0] * (BINS // 2)
    drawn, weight = losses.draw(t)
    assert float((drawn < 0.5).double().mean()) == pytest.approx(0.9 * 0.75 + 0.1 * 0.5, abs=1e-3)
    value = torch.where(drawn < 0.5, 3.0, 1.0)
    assert float((value * weight).mean()) == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(("steps", "method", "reason"), [(0, "ddim", "--steps 0"), (5, "heun", "--sampler heun")])
def test_wrong_requests(steps: int, method: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        sample(predictor(Ddpm()), Ddpm(), X, steps, method)  # type: ignore[arg-type]
