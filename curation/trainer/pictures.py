"""Samples as files: a grid of pictures as PNG, clips as mp4."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from curation.errors import CurationError, UsageError
from curation.install import command
from curation.stores.scratch import scratch

Frames = NDArray[np.uint8]
GAP = 2


def grid(frames: Frames, columns: int | None = None) -> Frames:
    """uint8 [N, T, H, W, 3] -> one clip [T, rows * H, columns * W, 3] with thin white gaps."""
    count, clip, height, width, _ = frames.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    sheet = np.full((clip, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, sample in enumerate(frames):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        sheet[:, top : top + height, left : left + width] = sample
    return sheet


def labelled(picture: NDArray[np.uint8], rows: Sequence[str]) -> NDArray[np.uint8]:
    """A grid [H, W, 3] with a line of text left of each of its rows."""
    height = picture.shape[0] // len(rows)
    margin = Image.new("RGB", (8 + 6 * max(map(len, rows)), picture.shape[0]), "white")
    draw = ImageDraw.Draw(margin)
    for i, text in enumerate(rows):
        draw.text((4, i * (height + 1) + height // 2 - 6), text, fill="black")
    return np.concatenate([np.asarray(margin), picture], axis=1)


def png(picture: NDArray[np.uint8]) -> bytes:
    """uint8 [H, W, 3] -> PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def mp4(clip: Frames, fps: float) -> bytes:
    """uint8 [T, H, W, 3] -> H.264 in mp4, crf 18; odd sides get one more row or column of the last."""
    try:
        import av
    except ImportError as error:
        raise CurationError(f"mp4 needs the package av; to install it: {command('video')}") from error
    clip = np.pad(clip, ((0, 0), (0, clip.shape[1] % 2), (0, clip.shape[2] % 2), (0, 0)), mode="edge")
    with scratch() as folder:
        path = folder / "clip.mp4"
        with av.open(str(path), "w") as container:
            # one thread, no B-frames: otherwise the same small clip does not always give the same bytes
            stream = container.add_stream("libx264", rate=round(fps), options={"crf": "18", "bf": "0"})
            stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "yuv420p"
            stream.thread_count = 1
            for frame in clip:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode())
        return path.read_bytes()


def save(frames: Frames, path: Path, fps: float = 24.0) -> Path:
    """Write samples [N, T, H, W, 3] as one grid: .png of the first frames (a clip's frames side by side), or .mp4.

    Raises UsageError for another ending.
    """
    if path.suffix not in (".png", ".mp4"):
        raise UsageError(f"--out {path}: say a name that ends in .png or .mp4")
    if path.suffix == ".mp4":
        data = mp4(grid(frames), fps)
    elif frames.shape[1] == 1:
        data = png(grid(frames)[0])
    else:
        shown = np.linspace(0, frames.shape[1] - 1, min(8, frames.shape[1])).round().astype(int)
        strips = frames[:, shown].reshape(-1, 1, *frames.shape[2:])
        data = png(grid(strips, columns=len(shown))[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
    return path
