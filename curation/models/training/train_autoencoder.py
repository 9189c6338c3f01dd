"""Trains the embedded autoencoder: folders of photos in, weights/autoencoder.safetensors out.

    python -m curation.models.training.train_autoencoder PHOTOS [PHOTOS ...] --held-out FOLDER --minutes 70 --out FILE

Photos are kept at several sizes whose short side is near 256 px, what the encoder meets later; crops of them are
flipped at random. The loss is the mean squared error with a little noise on the unit-scaled latents, so that
the decoder bears a sampled posterior. Weights are averaged over steps (EMA).

`--start FILE --minutes 0` trains nothing: it measures the statistics of FILE again and reports its figures.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from curation.models.autoencoder import Autoencoder, load

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SHORT_SIDES = (224, 272, 336, 448)


def read(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def fit_short_side(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """Resized (Lanczos) so that the short side is `side` px: uint8 [H, W, 3]."""
    scale = side / min(image.size)
    size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


def training_set(folders: list[Path], excluded: set[str]) -> list[NDArray[np.uint8]]:
    """Every photo at those of SHORT_SIDES that shrink it; large wallpapers at more, as they hold more."""
    photos = []
    for path in sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        if path.name in excluded:
            continue
        image = read(path)
        if min(image.size) < 200:
            continue
        image.thumbnail((2400, 2400), Image.Resampling.LANCZOS)
        sides = [side for side in (*SHORT_SIDES, 720, 1000) if side <= min(image.size)]
        photos += [fit_short_side(image, side) for side in sides]
    return photos


def validation_set(folder: Path, side: int = 256) -> Tensor:
    """Held-out photos, short side 256, centre crop: float [N, 3, 256, 256] in [-1, 1]."""
    crops = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        array = fit_short_side(read(path), side)
        top, left = (array.shape[0] - side) // 2, (array.shape[1] - side) // 2
        crops.append(array[top : top + side, left : left + side])
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1


def batch_of(
    photos: list[NDArray[np.uint8]], weights: NDArray[np.float64], size: int, crop: int, rng: np.random.Generator
) -> Tensor:
    """Random crops, half of them mirrored: float [size, 3, crop, crop] in [-1, 1]."""
    crops = []
    for i in rng.choice(len(photos), size=size, p=weights):
        height, width = photos[i].shape[:2]
        top, left = rng.integers(0, height - crop + 1), rng.integers(0, width - crop + 1)
        piece = photos[i][top : top + crop, left : left + crop]
        crops.append(piece[:, ::-1] if rng.random() < 0.5 else piece)
    return torch.from_numpy(np.ascontiguousarray(np.stack(crops))).permute(0, 3, 1, 2).float() / 127.5 - 1


def patch_pca(pixels: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Mean [192] and leading eigenvectors [channels, 192] of 8x8 patches: the linear baseline."""
    patches = torch.nn.functional.pixel_unshuffle(pixels, 8).permute(0, 2, 3, 1).reshape(-1, 192).double()
    mean = patches.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
    return mean.float(), vectors.T.flip(0)[:channels].float()


def start_from_pca(model: Autoencoder, pixels: Tensor) -> None:
    """Make the linear path the patch PCA, so that training starts at the baseline."""
    mean, basis = patch_pca(pixels, model.channels)
    with torch.no_grad():
        model.analysis.weight.zero_()
        model.analysis.weight[:, :, 4:12, 4:12] = basis.view(-1, 3, 8, 8)
        model.analysis.bias.copy_(-basis @ mean)  # type: ignore[union-attr]
        model.synthesis.weight.copy_(basis.T[:, :, None, None])
        model.synthesis.bias.copy_(mean)  # type: ignore[union-attr]


def errors(model: Autoencoder, pixels: Tensor, sample: bool = False) -> Tensor:
    """Mean squared error [N] of each 8-bit reconstruction (0-255); `sample` adds the posterior's noise."""
    values = []
    for photo in pixels.split(1):
        mean, logvar = model.encode(photo)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)) if sample else 0.0
        rebuilt = model.decode(mean + noise * torch.exp(logvar / 2))
        values.append(((rebuilt * 127.5 + 127.5).round() - (photo * 127.5 + 127.5)).square().mean())
    return torch.stack(values)


def psnr(error: Tensor) -> float:
    """Mean over photos of the PSNR in dB; one that came back without an error (a black frame) counts as 68 dB."""
    return float((10 * torch.log10(255**2 / error.clamp(min=0.01))).mean())


def report(model: Autoencoder, pixels: Tensor) -> str:
    """The model card's figures on held-out photos."""
    error, sampled = errors(model, pixels), errors(model, pixels, sample=True)
    latents = torch.cat([model.encode(photo)[0] for photo in pixels.split(1)])
    rms = ((latents - model.mean.view(1, -1, 1, 1)) / model.std.view(1, -1, 1, 1)).square().mean().sqrt()
    pooled = 10 * math.log10(255**2 / float(error.mean()))
    return (f"held-out {psnr(error):.2f} dB (of the mean MSE {pooled:.2f}), sampled posterior {psnr(sampled):.2f} dB, "
            f"normalised RMS {float(rms):.3f}, noise {float(model.noise):.4f}")  # fmt: skip


def set_statistics(
    model: Autoencoder, photos: list[NDArray[np.uint8]], weights: NDArray[np.float64], noise: float
) -> None:
    """Measure the raw latents' mean and standard deviation per channel, and the noise in units of it.

    On training photos near 256 px, one crop each, as that is what is encoded; training crops come from large
    smooth wallpapers too, and their smaller deviation would leave real photos' latents at 1.4, not 1. The
    noise was drawn in units of the training crops' deviation, so it is stored as the smallest channel's share.
    """
    near = [photo[:256, :256] for photo in photos if min(photo.shape[:2]) == SHORT_SIDES[1]]
    seen = torch.from_numpy(np.stack(near)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        crops = model.to_latents(batch_of(photos, weights, 256, 128, np.random.default_rng(1)))
        latents = torch.cat([model.to_latents(part) for part in seen.split(16)])
    model.mean.copy_(latents.mean((0, 2, 3)))
    model.std.copy_(latents.std((0, 2, 3)))
    model.noise.fill_(noise * float((crops.std((0, 2, 3)) / model.std).min()))


def save(model: Autoencoder, path: Path) -> None:
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"shape": json.dumps(model.shape)})


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(arguments.seed)
    held_out = validation_set(arguments.held_out)
    photos = training_set(arguments.photos, {path.name for path in arguments.held_out.rglob("*")})
    weights = np.sqrt([photo.shape[0] * photo.shape[1] for photo in photos])
    weights /= weights.sum()
    model = Autoencoder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if arguments.start:
        model.load_state_dict(load(path=arguments.start).state_dict())
    else:
        start_from_pca(model, batch_of(photos, weights, 512, 128, rng))
    set_statistics(model, photos, weights, arguments.noise)
    size = sum(p.numel() for p in model.parameters())
    start = "starts from weights" if arguments.start else "patch PCA"
    print(f"{len(photos)} sized photos, {size:,} parameters; {start}: {report(model, held_out)}", flush=True)
    average = Autoencoder()
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    began, step, said = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - began) / max(1e-9, 60 * arguments.minutes)) < 1:
        rate = arguments.rate * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        pixels = batch_of(photos, weights, arguments.batch, arguments.crop, rng).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            latents = model.to_latents(pixels)
            spread = latents.detach().float().std((0, 2, 3), keepdim=True)
            rebuilt = model.to_image(latents + arguments.noise * spread * torch.randn_like(latents))
        loss = (rebuilt.float() - pixels).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        step += 1
        decay = min(0.998, step / (step + 20))
        for kept, new in zip(average.parameters(), model.parameters(), strict=True):
            kept.data.lerp_(new.data, 1 - decay)
        if time.monotonic() - said > 180:
            said = time.monotonic()
            set_statistics(average, photos, weights, arguments.noise)
            save(average, arguments.out)
            print(
                f"{done:5.1%} step {step} rate {rate:.1e} held-out {psnr(errors(average, held_out)):.2f} dB", flush=True
            )
    set_statistics(average, photos, weights, arguments.noise)
    save(average, arguments.out)
    print(f"{step} steps: {report(average, held_out)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights to start from, instead of patch PCA")
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    train(parser.parse_args())
