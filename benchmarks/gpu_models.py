"""Models in the service against a plain, well-written loop on the same device: `benchmarks.gpu`'s section `models`."""

import copy
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu import row
from benchmarks.gpu_data import CLIP
from curation.inference.network import Row, Spec
from curation.inference.server import Server
from curation.inference.torch_network import half_on_gpu

CALLERS = 32
"""Workers that ask the service at once, 32 rows each time: two a core."""


def rates(folder: Path, tiny: bool) -> None:
    """Rows a second of CLIP, of an SD VAE at two sizes and of Wan's VAE, in the service and plain."""
    device = "cuda"
    server = Server()
    clip = Spec(
        "curation.models.open_clip:ClipNetwork", f"{CLIP[tiny]}:{folder}/clip.safetensors", device, half_on_gpu(device)
    )
    pictures = _rows((224, 224, 3), 32 if tiny else 4096)
    _compare("CLIP image tower, images/s", server, clip, "image", pictures, _plain_clip(server, clip), 1)
    sd = Spec("curation.models.vae:VaeNetwork", f"diffusers:{folder}/sdvae", device, "bf16")
    for side, count in ((64, 8),) if tiny else ((256, 2048), (512, 512)):
        plain = _plain_vae(server, sd, side, 2 if tiny else 32 * 256 * 256 // side**2)
        _compare(f"SD VAE, {side} px, images/s", server, sd, "encode", _rows((side, side, 3), count), plain, 1)
    wan = Spec("curation.models.vae:VaeNetwork", f"diffusers:{folder}/wan", device, "bf16")
    frames, side = (5, 32) if tiny else (17, 256)
    clips = _rows((frames, side, side, 3), 2 if tiny else 64)
    _compare("Wan VAE, frames/s", server, wan, "encode", clips, _plain_wan(server, wan, frames, side), frames)
    server.close()


def _rows(shape: tuple[int, ...], count: int) -> list[Row]:
    """Random rows; 64 different ones, so that they need little memory."""
    random = np.random.default_rng(0)
    some = [(random.integers(0, 256, shape, np.uint8),) for _ in range(min(64, count))]
    return [some[i % len(some)] for i in range(count)]


def _compare(
    what: str, server: Server, spec: Spec, call: str, rows: list[Row], plain: Callable[[], float], each: int
) -> None:
    parts = [rows[i : i + 32] for i in range(0, len(rows), 32)]
    started = time.perf_counter()
    server.run(spec, call, parts[0])
    opening = time.perf_counter() - started
    with ThreadPoolExecutor(CALLERS) as callers:
        started = time.perf_counter()
        list(callers.map(lambda part: server.run(spec, call, part), parts))
        service = len(rows) * each / (time.perf_counter() - started)
    other = plain() * each
    sizes = next(iter(server._runners[spec].sizes.values()))
    runner = list(server._runners[spec].sizes.values())[-1]
    note = f"opened in {opening:.0f} s; batch sizes {'/'.join(map(str, runner.allowed or sizes.allowed))}, "
    note += f"spread {runner.spread:.3g}; plain {other:,.0f}"
    row(f"{what}: service over plain", f"{service:,.0f} = {service / other:.2f}", note)


def _rate(work: Callable[[], Any], count: int) -> float:
    """Rows a second of `work`, which does `count`; the median of five after two."""

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    times = []
    with torch.inference_mode():
        for _ in range(7):
            wait()
            started = time.perf_counter()
            work()
            wait()
            times.append(time.perf_counter() - started)
    return count / statistics.median(times[2:])


def _plain_clip(server: Server, spec: Spec) -> Callable[[], float]:
    """bf16 weights, batch 256, tensors on the device already."""

    def measure() -> float:
        network: Any = server._runner(spec).network
        visual = copy.deepcopy(network.module.visual).to(torch.bfloat16)
        batch = torch.randn(256 if network.on_gpu else 2, 3, 224, 224, device=network.device, dtype=torch.bfloat16)
        return _rate(lambda: visual(batch), len(batch))

    return measure


def _plain_vae(server: Server, spec: Spec, side: int, batch: int) -> Callable[[], float]:
    """bf16 weights, channels_last, compiled for the one shape, tensors on the device already."""

    def measure() -> float:
        network: Any = server._runner(spec).network
        model = copy.deepcopy(network.vae.model).to(torch.bfloat16).to(memory_format=torch.channels_last)
        pixels = torch.randn(batch, 3, side, side, device=network.device, dtype=torch.bfloat16)
        pixels = pixels.to(memory_format=torch.channels_last)
        encoder = torch.compile(model.encoder, dynamic=False) if network.on_gpu else model.encoder
        return _rate(lambda: model.quant_conv(encoder(pixels)), batch)

    return measure


def _plain_wan(server: Server, spec: Spec, frames: int, side: int) -> Callable[[], float]:
    """bf16 weights, batch 4."""

    def measure() -> float:
        network: Any = server._runner(spec).network
        model = copy.deepcopy(network.vae.model).to(torch.bfloat16)
        pixels = torch.randn(4 if network.on_gpu else 1, 3, frames, side, side, device=network.device)
        pixels = pixels.to(torch.bfloat16)
        return _rate(lambda: model.encode(pixels).latent_dist.mean, len(pixels))

    return measure
