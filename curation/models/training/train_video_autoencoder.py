"""Trains the embedded video autoencoder: folders of videos and photos in, weights/video_autoencoder.safetensors out.

    python -m curation.models.training.train_video_autoencoder --videos DIR --photos DIR --held-out DIR --out FILE

Clips are random crops of the videos at several sizes, and slow pans over photos, since free footage is scarce.
Mean squared error, a little noise on the latents so that the decoder bears a sampled posterior, weights averaged.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from curation.models.training.train_autoencoder import psnr, training_set
from curation.models.video_autoencoder import VideoAutoencoder, load

FRAMES = 9
PANS, IN_FRONT = 0.3, 0.3
"""Share of training clips that are pans over photos, and of those the share in which another one moves in front."""
HEADROOM = 1.3
"""The free footage at hand is smoother than most: held-out clips' latents would have an RMS of 1.53, not near 1."""
Video = NDArray[np.uint8]


def read_video(path: Path, short_side: int) -> Video:
    """All frames, short side `short_side` px, area-averaged: uint8 [T, H, W, 3]."""
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            scale = short_side / min(frame.width, frame.height)
            width, height = round(frame.width * scale), round(frame.height * scale)
            frames.append(frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA"))
    return np.stack(frames)


def as_pixels(clips: list[Video]) -> Tensor:
    """uint8 [T, H, W, 3] each -> float [B, 3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def crop_of(video: Video, frames: int, side: int, rng: np.random.Generator) -> Video:
    """A random span and window, half of them mirrored."""
    start = int(rng.integers(0, len(video) - frames + 1))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in video.shape[1:3])
    clip = video[start : start + frames, top : top + side, left : left + side]
    return clip[:, :, ::-1] if rng.random() < 0.5 else clip


def pan_over(photo: NDArray[np.uint8], frames: int, side: int, rng: np.random.Generator) -> Video:
    """A camera that glides, zooms and tilts over a photo, up to 4 px a frame (often not at all)."""
    return np.stack([_seen(photo, side, *pose) for pose in _path(photo, frames, side, rng)])


def _path(
    photo: NDArray[np.uint8], frames: int, side: int, rng: np.random.Generator
) -> Iterator[tuple[float, float, float, float]]:
    """Centre x and y in px, pixels of the photo a pixel seen, angle in degrees, of each frame."""
    moving = rng.random() < 0.7
    zoom = rng.uniform(0.8, min(2.0, min(photo.shape[:2]) / side))
    speed, growth = rng.uniform(-4, 4, 2) * moving, 1 + rng.uniform(-0.01, 0.01) * moving
    angle, turn = (rng.uniform(-8, 8), rng.uniform(-0.5, 0.5) * moving) if rng.random() < 0.4 else (0.0, 0.0)
    centre = rng.uniform(0.3, 0.7, 2) * photo.shape[1::-1]
    for k in range(frames):
        x, y = centre + speed * k * zoom
        yield float(x), float(y), zoom * growth**k, angle + turn * k


def _seen(photo: NDArray[np.uint8], side: int, x: float, y: float, zoom: float, angle: float) -> NDArray[np.uint8]:
    """side x side px around (x, y), mirrored where the photo ends."""
    cos, sin = zoom * math.cos(math.radians(angle)), zoom * math.sin(math.radians(angle))
    half = (side - 1) / 2
    matrix = np.array([[cos, -sin, x - (cos - sin) * half], [sin, cos, y - (sin + cos) * half]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(photo, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101))


def in_front_of(back: Video, front: Video, rng: np.random.Generator) -> Video:
    """A soft-edged blob of one clip that moves over another: something is hidden, something comes into sight."""
    frames, side = back.shape[:2]
    rows, columns = np.mgrid[:side, :side]
    at, speed, size = rng.uniform(0, side, 2), rng.uniform(-5, 5, 2), rng.uniform(0.1, 0.4) * side
    stretch, edge = rng.uniform(0.6, 1.6), rng.uniform(0.6, 3.0)
    out = np.empty_like(back)
    for k in range(frames):
        y, x = at + speed * k
        away = np.hypot((rows - y) * stretch, columns - x) - size
        share = np.clip(0.5 - away / edge, 0, 1)[..., None]
        out[k] = np.round(share * front[k] + (1 - share) * back[k]).astype(np.uint8)
    return out


class Clips:
    """Random training clips, drawn by the square root of how much each video holds."""

    def __init__(self, videos: list[Video], photos: list[NDArray[np.uint8]], seed: int) -> None:
        self.videos, self.photos, self.rng = videos, photos, np.random.default_rng(seed)
        weights = np.sqrt([video.size for video in videos])
        self.weights = weights / weights.sum()

    def batch(self, size: int, side: int, frames: int = FRAMES) -> Tensor:
        clips = []
        for i in self.rng.choice(len(self.videos), size=size, p=self.weights):
            if self.photos and self.rng.random() < PANS:
                back, front = (
                    pan_over(self.photos[int(i)], frames, side, self.rng)
                    for i in self.rng.integers(0, len(self.photos), 2)
                )
                clips.append(in_front_of(back, front, self.rng) if self.rng.random() < IN_FRONT else back)
            else:
                clips.append(crop_of(self.videos[i], frames, side, self.rng))
        return as_pixels(clips)


def validation_set(videos: list[Video], side: int = 128, frames: int = 17, each: int = 4) -> Tensor:
    """Evenly placed centre crops of held-out videos."""
    clips = []
    for video in (video for video in videos if len(video) >= frames):
        top, left = ((extent - side) // 2 for extent in video.shape[1:3])
        for start in np.linspace(0, len(video) - frames, each).astype(int):
            clips.append(video[start : start + frames, top : top + side, left : left + side])
    return as_pixels(clips)


def patches_of(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """First frames' 8x8 patches [n, 192] and later groups' 4x8x8 patches [m, 768]."""
    groups = (pixels.shape[2] - 1) // 4
    rest = pixels[:, :, 1:].unflatten(2, (groups, 4)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    sides = (pixels[:, :, 0], rest)
    first, later = (torch.nn.functional.pixel_unshuffle(p, 8).permute(0, 2, 3, 1).flatten(0, 2) for p in sides)
    return first, later


def patch_pca(patches: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Mean [D] and leading eigenvectors [channels, D]: the linear baseline."""
    values = patches.double()
    mean = values.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov((values - mean).T))
    return mean.float(), vectors.T.flip(0)[:channels].float()


def start_from_pca(model: VideoAutoencoder, pixels: Tensor) -> None:
    """Make the linear path the patch PCA, so that training starts at the baseline."""
    with torch.no_grad():
        for patches, analysis, synthesis in zip(patches_of(pixels), model.analysis, model.synthesis, strict=True):
            mean, basis = patch_pca(patches, model.channels)
            analysis.weight.zero_()  # type: ignore[operator, union-attr]
            analysis.weight[:, :, 4:12, 4:12] = basis.view(model.channels, -1, 8, 8)  # type: ignore[index, operator]
            analysis.bias.copy_(-basis @ mean)  # type: ignore[operator, union-attr]
            synthesis.weight.copy_(basis.T[:, :, None, None])  # type: ignore[operator, union-attr]
            synthesis.bias.copy_(mean)  # type: ignore[operator, union-attr]


def errors(model: VideoAutoencoder, pixels: Tensor) -> Tensor:
    """Mean squared error [N] of each clip's 8-bit reconstruction (0-255)."""
    values = []
    for clip in pixels.split(1):
        rebuilt = model.decode(model.encode(clip)[0])
        values.append(((rebuilt * 127.5 + 127.5).round() - (clip * 127.5 + 127.5)).square().mean())
    return torch.stack(values)


def set_statistics(model: VideoAutoencoder, pixels: Tensor, noise: float) -> None:
    """The latents' mean and deviation per channel over `pixels`, of first frames and of later groups.

    The noise was drawn in units of both kinds' joint deviation; it is stored as the least share of one's own.
    """
    with torch.inference_mode():
        latents = torch.cat([model.to_latents(part) for part in pixels.split(8)])
    joint = latents.std((0, 2, 3, 4))
    for kind, part in enumerate((latents[:, :, :1], latents[:, :, 1:])):
        model.mean[kind] = part.mean((0, 2, 3, 4))
        model.std[kind] = HEADROOM * part.std((0, 2, 3, 4))
    model.noise.fill_(noise * float((joint / model.std).min()))


def report(model: VideoAutoencoder, held_out: Tensor) -> str:
    error = errors(model, held_out)
    image = errors(model, held_out[:, :, :1])
    latents = torch.cat([model.encode(clip)[0] for clip in held_out.split(1)])
    rms = latents.square().mean().sqrt()
    pooled = 10 * math.log10(255**2 / float(error.mean()))
    return (f"held-out clips {psnr(error):.2f} dB (of the mean MSE {pooled:.2f}), first frames alone "
            f"{psnr(image):.2f} dB, normalised RMS {float(rms):.3f}")  # fmt: skip


def half_precision(blocks: nn.Module) -> None:
    """Residual blocks in bf16 while training: a third faster; the linear path, which carries the picture, is not."""
    forward = blocks.forward

    def faster(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = forward(x)
        return out.float()

    blocks.forward = faster


def save(model: VideoAutoencoder, path: Path) -> None:
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"shape": json.dumps(model.shape)})


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    videos = [read_video(path, side) for path in sorted(arguments.videos.iterdir()) for side in (136, 192, 256)]
    clips = Clips(videos, training_set(arguments.photos, set()), arguments.seed)
    held_out = validation_set([read_video(path, 192) for path in sorted(arguments.held_out.iterdir())])
    probe = clips.batch(256, 128)
    model = load(path=arguments.start).train().requires_grad_(True) if arguments.start else VideoAutoencoder()
    if not arguments.start:
        start_from_pca(model, probe)
    average = copy.deepcopy(model)
    for blocks in (model.encoder, model.decoder):
        half_precision(blocks)
    set_statistics(model, probe, arguments.noise)
    size = sum(p.numel() for p in model.parameters())
    print(f"{len(videos)} sized videos, {size:,} parameters; at the start: {report(model, held_out)}", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    began, step, said = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - began) / max(1e-9, 60 * arguments.minutes)) < 1:
        rate = arguments.rate * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        pixels = clips.batch(arguments.batch, arguments.crop)
        latents = model.to_latents(pixels)
        spread = latents.detach().std((0, 2, 3, 4), keepdim=True)
        rebuilt = model.to_clip(latents + arguments.noise * spread * torch.randn_like(latents))
        # the square root of each clip's error: a mean over clips of dB, not the loudest clip alone
        loss = ((rebuilt - pixels).square().mean((1, 2, 3, 4)) + 1e-6).sqrt().mean()
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
            set_statistics(average, probe, arguments.noise)
            save(average, arguments.out)
            print(f"{done:5.1%} step {step} held-out {psnr(errors(average, held_out)):.2f} dB", flush=True)
    set_statistics(average, validation_set(videos, each=8), arguments.noise)
    save(average, arguments.out)
    print(f"{step} steps: {report(average, held_out)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights to start from, instead of patch PCA")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--noise", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())
