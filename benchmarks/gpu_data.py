"""Pictures and models for `benchmarks.gpu`: photos of 800x600, and production architectures with random weights."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.common import corpus

SIZES = {"pictures": (4096, 64), "score rows": (32768, 192), "encode rows": (16384, 96)}
"""Of a real run and of a tiny one. Tables name each picture several times, under captions of their own."""
CLIP = ("ViT-L-14", "ViT-B-32")


def prepare(folder: Path, tiny: bool) -> None:
    """Make what is not in `folder` yet: photos/, score.jsonl, encode.jsonl, clip.safetensors, sdvae/, wan/."""
    if (folder / "encode.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    workers = max(1, len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        models = pool.submit(_models, folder, tiny)
        made = list(pool.map(partial(_photos, folder, SIZES["pictures"][tiny] // workers), range(workers)))
        models.result()
    files = [file for part in made for file in part]
    for name in ("score", "encode"):
        rows = (
            {"file": files[i % len(files)], "caption": f"window {i} of a photo"}
            for i in range(SIZES[f"{name} rows"][tiny])
        )
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))


def _photos(folder: Path, count: int, part: int) -> list[str]:
    place = folder / "photos" / f"{part:02d}"
    corpus(place, count, (800, 600))
    return [str(file.relative_to(folder)) for file in sorted(place.glob("*.jpg"))]


def _models(folder: Path, tiny: bool) -> None:
    from curation.models.patch_torchvision import patch_torchvision

    patch_torchvision()
    import diffusers
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        clip = open_clip.create_model(CLIP[tiny], device=device)
        widths = [32, 32, 64, 64] if tiny else [128, 256, 512, 512]
        blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
        # the scaling factor suits the small latents of random weights, as 0.18 suits SD's
        sd = diffusers.AutoencoderKL(
            block_out_channels=widths,
            layers_per_block=1 if tiny else 2,
            latent_channels=4,
            scaling_factor=4.7,
            **blocks,
        )
        wan = diffusers.AutoencoderKLWan(**({"base_dim": 16} if tiny else {}))
    weights = {name: tensor.contiguous().cpu() for name, tensor in clip.state_dict().items()}
    save_file(weights, str(folder / "clip.safetensors"))
    sd.save_pretrained(folder / "sdvae")
    wan.save_pretrained(folder / "wan")
