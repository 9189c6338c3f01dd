"""Small networks trained on points in a plane: what samplers and weights make of a model that errs, as all do."""

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from curation.trainer.objectives import Ddpm, LossByTime, Objective, RectifiedFlow
from curation.trainer.samplers import Method, guided, sample

DATA_STD = 0.05
CENTRES = torch.tensor([[1.0, 0.5], [-1.0, 0.5], [0.0, -1.2]])
"""Three tight heaps of points; the root mean square of all coordinates is about 0.9."""


def points(count: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    heaps = torch.randint(len(CENTRES), (count,), generator=draw)
    return CENTRES[heaps] + DATA_STD * torch.randn(count, 2, generator=draw)


class Net(nn.Module):
    """Begins with its input, which is nearly all noise where t is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(18, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))
        nn.init.zeros_(self.body[-1].weight)
        nn.init.zeros_(self.body[-1].bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t.float()[:, None] * math.pi * 2.0 ** torch.arange(-1, 7)
        return x.float() + self.body(torch.cat([x.float(), angles.cos(), angles.sin()], dim=1))


def fitted(
    objective: Objective,
    steps: int = 600,
    timesteps: Literal["default", "loss-aware"] = "default",
    weighted: bool = True,
) -> Net:
    torch.manual_seed(0)
    net, losses = Net(), LossByTime()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(1)
    for step in range(steps):
        x = points(256, step)
        u, weight = torch.rand(256, generator=draw), torch.ones(256)
        if timesteps == "loss-aware":
            u, weight = losses.draw(u)
        t, noise = objective.time(u), torch.randn(256, 2, generator=draw)
        error = (net(objective.noised(x, noise, t), t) - objective.target(x, noise, t)).square().mean(1)
        loss = error * objective.weight(t)
        losses.update(t, (loss if weighted else error).detach())
        optimizer.zero_grad()
        (loss * weight).mean().backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def drawn(net: Callable[[Tensor, Tensor], Tensor], objective: Objective, method: Method, steps: int) -> Tensor:
    def fresh(number: int) -> Tensor:
        return torch.randn(1000, 2, generator=torch.Generator().manual_seed(100 + number))

    with torch.inference_mode():
        denoise = guided(lambda x, t, _: net(x, t), objective, 1.0)
        return sample(denoise, objective, fresh(-1), steps, method, fresh)


def spread(found: Tensor) -> float:
    """Root mean square distance of the samples from the nearest heap's centre, of each coordinate."""
    away = (found[:, None] - CENTRES[None]).square().sum(2).min(1).values
    return float((away.mean() / 2).sqrt())


@pytest.fixture(scope="module")
def cosine() -> tuple[Ddpm, Net]:
    objective = Ddpm("cosine", "eps")
    return objective, fitted(objective)


@pytest.mark.parametrize("method", ["ddim", "dpm++", "ddpm", "euler"])
def test_noise_prediction_on_the_cosine_schedule_gives_data(cosine: tuple[Ddpm, Net], method: Method) -> None:
    """At the end of that chain the signal is 5e-5: divided by it, a small error was hundreds of times the data."""
    objective, net = cosine
    found = drawn(net, objective, method, 30)
    rms = float(points(1000, 7).square().mean().sqrt())
    assert float(found.square().mean().sqrt()) == pytest.approx(rms, rel=0.2)
    assert spread(found) < 0.5


def exact(x: Tensor, t: Tensor) -> Tensor:
    """The velocity of a flow whose data are normal with a deviation of 0.05 around nought."""
    t = t[:, None].float()
    variance = (1 - t) ** 2 * DATA_STD**2 + t**2
    data = (1 - t) * DATA_STD**2 / variance * x
    return (x - data) / t.clamp(min=1e-6)


@pytest.mark.parametrize("steps", [30, 100, 300])
def test_the_ancestral_sampler_adds_a_flows_own_noise(steps: int) -> None:
    """By DDIM's formula, which holds where signal^2 + sigma^2 = 1, the deviation became 0.10 to 0.13."""
    found = drawn(exact, RectifiedFlow(), "ddpm", steps)
    assert 0.6 * DATA_STD < float(found.std()) < 1.1 * DATA_STD


@pytest.mark.parametrize("method", ["euler", "ddim", "dpm++", "ddpm"])
def test_data_prediction_leaves_no_noise_at_the_end(method: Method) -> None:
    """Data that are one point: whatever the number of steps, nothing of the noise is left in it."""
    objective = RectifiedFlow(prediction="x")
    for steps in (4, 30, 100):
        found = drawn(lambda x, t: torch.full_like(x, 0.7), objective, method, steps)
        assert float((found - 0.7).abs().max()) < 1e-5


def test_loss_aware_timesteps_follow_the_weighted_loss() -> None:
    """Drawn by its weighted loss, a network that predicts data learns as well as with even timesteps; by the plain
    error, which is small where the weight is large, it would learn worse."""

    def loss(timesteps: Literal["default", "loss-aware"], weighted: bool = True) -> float:
        objective = RectifiedFlow(0.0, 0.0, "x")
        net, draw = fitted(objective, 400, timesteps, weighted), torch.Generator().manual_seed(9)
        t, noise, x = torch.rand(20_000, generator=draw), torch.randn(20_000, 2, generator=draw), points(20_000, 8)
        with torch.inference_mode():
            error = (net(objective.noised(x, noise, t), t) - x).square().mean(1)
        return float((error * objective.weight(t)).mean())

    aware = loss("loss-aware")
    assert aware < 1.1 * loss("default") and aware < loss("loss-aware", weighted=False)
