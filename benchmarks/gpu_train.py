"""Training speed on one GPU, torch only: DiT-XL/2 on random 256 px latents, ours against a plain loop, in one run.

    python benchmarks/gpu_train.py [--size XL] [--batch 128] [--steps 30] [--rounds 3]
    python benchmarks/gpu_train.py --size tiny --batch 2 --steps 2 --rounds 1 --device cpu     smoke test

Ours is what `curate train` does with precision bf16 and compile: blocks compiled one by one, fused AdamW, EMA in one
call, no waiting for the GPU within a step. The plain loop is what fast-DiT does: fp16 autocast with a gradient
scaler, no compilation, EMA parameter by parameter, `loss.item()` in every step. Both train the same model with text
cross-attention (so both do more work an image than fast-DiT's, which is told a class) on the same latents. MFU counts
three times the forward pass over the device's dense bf16 peak.

Public figure: fast-DiT's DiT-XL/2 at batch 128 on one A100, 0.84 steps/s = 107.5 images/s = 24.5 % MFU. Target: 35 %.
Where it was not run on a GPU, nothing is known of that target: on a CPU it shows only that both loops run.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from curation.stores.storage import Store
from curation.trainer.flops import flops_per_sample, peak_flops
from curation.trainer.model import SIZES, DiT, DiTConfig
from curation.trainer.objectives import RectifiedFlow
from curation.trainer.parallel import whole
from curation.trainer.writer import Writer

SHAPE, TOKENS, TEXT = (4, 1, 32, 32), 32, 384
"""Latents of a 256 px picture by an 8x VAE of 4 channels; tokens of a caption and their width."""
DECAY, RATE = 0.9999, 1e-4
Batch = dict[str, Tensor]
Step = Callable[[Batch], None]


def model_of(size: str, device: torch.device) -> DiT:
    """The same first weights every time; no layer left at zero, so that nothing is skipped."""
    width, depth, heads = SIZES[size]
    torch.manual_seed(0)
    with device:
        model = DiT(DiTConfig(SHAPE[0], TEXT, (1, 2), width, depth, heads))
        for p in model.parameters():
            if not p.any():
                nn.init.normal_(p, std=0.02)
    return model


def batches(size: int, device: torch.device, count: int = 4) -> list[Batch]:
    """Random latents and captions of 8 to 32 tokens, on the device already: the loader is measured elsewhere."""
    made = []
    with device:
        for _ in range(count):
            lengths = torch.randint(8, TOKENS + 1, (size, 1))
            made.append(
                {
                    "x": torch.randn(size, *SHAPE),
                    "noise": torch.randn(size, *SHAPE),
                    "u": torch.rand(size),
                    "text": torch.randn(size, TOKENS, TEXT).half(),
                    "mask": torch.arange(TOKENS)[None] < lengths,
                }
            )
    return made


def ours(model: DiT, device: torch.device) -> Step:
    """As `curation.trainer.loop` trains with precision bf16 and, on a GPU, compile."""
    cuda, objective = device.type == "cuda", RectifiedFlow()
    if cuda:
        torch.set_float32_matmul_precision("high")
        for block in model.blocks:
            block.compile()
    parameters = list(model.parameters())
    ema = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, RATE, weight_decay=0.0, **{"fused" if cuda else "foreach": True})

    def step(batch: Batch) -> None:
        t = objective.time(batch["u"])
        with torch.autocast(device.type, torch.bfloat16):
            out = model(objective.noised(batch["x"], batch["noise"], t), t, batch["text"], batch["mask"])
        loss = (out.float() - objective.target(batch["x"], batch["noise"], t)).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(ema, [p.detach() for p in parameters], 1 - DECAY)

    return step


def plain(model: DiT, device: torch.device) -> Step:
    """As fast-DiT's train.py does it, by accelerate's fp16; on a CPU, which has no fp16 to speak of, bf16."""
    cuda, objective = device.type == "cuda", RectifiedFlow()
    ema = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    scaler = torch.amp.GradScaler(device.type, enabled=cuda)
    running = 0.0

    def step(batch: Batch) -> None:
        nonlocal running
        t = objective.time(batch["u"])
        with torch.autocast(device.type, torch.float16 if cuda else torch.bfloat16):
            out = model(objective.noised(batch["x"], batch["noise"], t), t, batch["text"], batch["mask"])
        loss = (out.float() - objective.target(batch["x"], batch["noise"], t)).square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            for name, p in model.named_parameters():
                ema[name].mul_(DECAY).add_(p, alpha=1 - DECAY)
        running += loss.item()

    return step


def seconds(step: Step, given: list[Batch], count: int, device: torch.device) -> float:
    """Of one step, over `count` of them."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    started = time.perf_counter()
    for i in range(count):
        step(given[i % len(given)])
    wait()
    return (time.perf_counter() - started) / count


def short(tiny: bool) -> None:
    """Rows for `benchmarks.gpu`: the two loops, and the longest step beside a checkpoint over the median step."""
    from benchmarks.gpu import row

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size, batch, count = ("tiny", 2, 2) if tiny else ("XL", 128, 10)
    given, peak = batches(batch, device), peak_flops(device)
    with torch.device("meta"):
        width, depth, heads = SIZES[size]
        work = flops_per_sample(DiT(DiTConfig(SHAPE[0], TEXT, (1, 2), width, depth, heads)), SHAPE, TEXT, TOKENS)
    for name, loop in (("ours", ours), ("plain", plain)):
        model = model_of(size, device)
        step = loop(model, device)
        seconds(step, given, 3, device)
        rate = batch / seconds(step, given, count, device)
        row(f"DiT-{size}/2, batch {batch}, {name}, images/s", f"{rate:,.1f}", f"MFU {rate * work / peak:.1%}")
        if name == "ours":
            longest, median = _beside_a_checkpoint(model, step, given, count, device)
            row("longest step beside a checkpoint over the median", f"{longest / median:.2f}", f"{median:.3f} s a step")


def _beside_a_checkpoint(
    model: DiT, step: Step, given: list[Batch], count: int, device: torch.device
) -> tuple[float, float]:
    """Seconds of the longest step, the copying for a checkpoint included, while it is written; and of the median."""
    with tempfile.TemporaryDirectory() as folder, Writer() as writer:
        times = []
        for i in range(3 * count):
            started = time.perf_counter()
            step(given[i % len(given)])
            if i == count:
                copies = {name: whole(p, str(device)) for name, p in model.named_parameters()}
                parts = dict.fromkeys(("model", "ema", "exp_avg", "exp_avg_sq"), copies)
                writer.write(Store(folder), {"step": i}, parts, keep=1)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started)
    return max(times), statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--size", choices=list(SIZES), default="XL")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    device, given = torch.device(asked.device), batches(asked.batch, torch.device(asked.device))
    with torch.device("meta"):
        width, depth, heads = SIZES[asked.size]
        work = flops_per_sample(DiT(DiTConfig(SHAPE[0], TEXT, (1, 2), width, depth, heads)), SHAPE, TEXT, TOKENS)
    peak = peak_flops(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, DiT-{asked.size}/2, batch {asked.batch}, peak {peak / 1e12:.4g} TFLOP/s")
    loops = {"ours": ours(model_of(asked.size, device), device), "plain": plain(model_of(asked.size, device), device)}
    for step in loops.values():
        seconds(step, given, 3, device)  # compiles, and finds the fastest kernels
    times: dict[str, list[float]] = {loop: [] for loop in loops}
    for _ in range(asked.rounds):
        for loop, step in loops.items():
            times[loop].append(seconds(step, given, asked.steps, device))
    for loop, took in times.items():
        rate = asked.batch / statistics.median(took)
        print(f"{loop:<6} {rate:8.1f} images/s   {statistics.median(took):.4f} s/step   MFU {rate * work / peak:.1%}")
    ratio = statistics.median(b / a for a, b in zip(times["ours"], times["plain"], strict=True))
    print(f"ours over plain {ratio:.2f}")


if __name__ == "__main__":
    main()
