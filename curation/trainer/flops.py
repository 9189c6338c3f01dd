"""How much work a sample is, and how much a device could do: for MFU."""

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.2, "V100": 125.0}
"""Dense bf16 (V100: fp16), without sparsity, from the vendor's data sheets."""


def flops_per_sample(model: nn.Module, shape: tuple[int, int, int, int], text_dim: int, tokens: int = 32) -> float:
    """Of a training step: three times the forward pass, 2 per multiply-add, no recomputation counted.

    model  on the device `meta`; shape (C, T, h, w) of the latents; tokens of the text
    """
    meta = torch.device("meta")
    x, t = torch.empty(1, *shape, device=meta), torch.empty(1, device=meta)
    text, mask = torch.empty(1, tokens, text_dim, device=meta), torch.ones(1, tokens, dtype=torch.bool, device=meta)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, t, text, mask)
    return 3.0 * counter.get_total_flops()


def peak_flops(device: torch.device) -> float:
    """Per second, of one device: a GPU's from its data sheet; else what a matrix product reaches here, fp32."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = next((tflops for key, tflops in PEAK_TFLOPS.items() if key in name), None)
        if known:
            return known * 1e12
    return _measured(device)


def _measured(device: torch.device, side: int = 1024, tries: int = 5) -> float:
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    best = float("inf")
    for _ in range(tries):
        started = time.perf_counter()
        float((a @ b)[0, 0])
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
