"""Small shards and configs to train on."""

from pathlib import Path
from typing import Any

from curation.stores.storage import Store
from curation.trainer.checkpoint import latest
from curation.trainer.train import train
from helpers.shards import folder, samples

BUCKET = "1x32x32"
NULL = {"shape": [1, 8], "fp16": "AAAAAAAAAAAAAAAAAAAAAA=="}


def shards(root: Path, count: int = 48, format: str = "webdataset", **changes: Any) -> Path:
    """48 images of random latents [4, 1, 4, 4] in two shards."""
    parts = [(BUCKET, samples(count // 2, seed, BUCKET)) for seed in (0, 1)]
    return folder(root, format, parts, **{"null_text": NULL} | changes)


def settings(**changes: Any) -> list[str]:
    """`--set` lines of a tiny training."""
    plain = {
        "model": "DiT-tiny/2", "batch": 8, "steps": 12, "warmup": 3, "lr": 0.001, "log_every": 1,
        "checkpoint_every": 100, "device": "cpu", "peak_tflops": 1, "ema": 0.9,
    }  # fmt: skip
    return [f"train.{key}={value}" for key, value in (plain | changes).items()]


def trained(root: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Train, and give the last checkpoint's tensors by part."""
    train(str(root), str(out), settings(**changes))
    saved = latest(Store(str(out)))
    assert saved
    return {part: saved.tensors(part) for part in ("model", "ema", "optimizer")}
