"""(b) decode + resize + write against img2dataset, (c) perceptual hash against imagededup, models' rates."""

import io
import json
import logging
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import Row, alternate, seconds
from curation.media.decode import decode_image
from curation.media.standardize import Recipe, standardize
from curation.pixels import Pixels

SIDE = 256


def ours_to_tar(files: Sequence[Path], out: Path) -> None:
    """Decode (with both hashes), centre crop and resize as the encode phase does, write JPEGs into a tar."""
    recipe = Recipe(SIDE, SIDE)
    with tarfile.open(out, "w") as tar:
        for file in files:
            image, info = decode_image(file.read_bytes(), 10**8)
            buffer = io.BytesIO()
            Image.fromarray(standardize(image, recipe).rgb).save(buffer, "JPEG", quality=95)
            for name, data in (
                (f"{file.stem}.jpg", buffer.getvalue()),
                (f"{file.stem}.json", json.dumps(info).encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def img2dataset_to_tar(files: Sequence[Path], out: Path) -> None:
    """img2dataset's own resizer (centre crop) and WebDataset writer on the same local bytes."""
    import pyarrow as pa
    from img2dataset.resizer import Resizer
    from img2dataset.writer import WebDatasetSampleWriter

    resizer = Resizer(image_size=SIDE, resize_mode="center_crop", resize_only_if_bigger=False, encode_quality=95)
    schema = pa.schema([("key", pa.string()), ("width", pa.int32()), ("height", pa.int32())])
    out.mkdir(exist_ok=True)
    writer = WebDatasetSampleWriter(0, str(out), False, 5, schema, "jpg")
    for file in files:
        data, width, height, *_ = resizer(io.BytesIO(file.read_bytes()))
        writer.write(data, file.stem, None, {"key": file.stem, "width": width, "height": height})
    writer.close()


def pack(files: Sequence[Path], work: Path) -> Row:
    """(b)"""
    ours, theirs = alternate(
        lambda: ours_to_tar(files, work / "ours.tar"), lambda: img2dataset_to_tar(files, work / "theirs")
    )
    a, b = len(files) / ours, len(files) / theirs
    note = "one process each; ours decodes strictly and hashes bytes and pixels, and resizes as Pillow does"
    return Row("(b) decode + resize + write, images/s", f"{a:.0f}", f"{b:.0f}", f"{a / b:.2f}", ">= 1.5", note)


def perceptual(files: Sequence[Path]) -> list[Row]:
    """(c): with the decode on both sides, and the hash alone."""
    from curation.models.patch_torchvision import patch_torchvision
    from stages.phash import phash

    patch_torchvision()
    logging.disable(logging.INFO)
    from imagededup.methods import PHash

    theirs = PHash(verbose=False)
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in files]

    def decoded() -> None:
        for file in files:
            with Image.open(file) as image:
                phash(Pixels.of(np.asarray(image.convert("RGB"))))

    with_decode = alternate(decoded, lambda: [theirs.encode_image(image_file=str(file)) for file in files])
    alone = alternate(
        lambda: [phash(Pixels.of(a)) for a in arrays], lambda: [theirs.encode_image(image_array=a) for a in arrays]
    )
    rows = []
    for what, (ours, other) in (("decode included", with_decode), ("hash alone", alone)):
        a, b = len(files) / ours, len(files) / other
        rows.append(Row(f"(c) perceptual hash, {what}, images/s", f"{a:.0f}", f"{b:.0f}", f"{a / b:.2f}", ">= 2"))
    return rows


def models(files: Sequence[Path]) -> list[Row]:
    """Rates of the embedded models on one core."""
    import torch

    from curation.models import open_model

    torch.set_num_threads(1)
    pixels = [Pixels.of(np.asarray(Image.open(file).convert("RGB"))) for file in files[:24]]
    vae = open_model("vae", "embedded")
    squares = torch.from_numpy(np.stack([standardize(Image.fromarray(p.rgb), Recipe(SIDE, SIDE)).rgb for p in pixels]))
    values = squares.permute(0, 3, 1, 2).float() / 127.5 - 1
    vae.encode(values[:2])
    encode = len(pixels) / seconds(lambda: vae.encode(values))
    rows = [Row("embedded VAE encode at 256 px, images/s, one core", f"{encode:.0f}", "", "", ">= 20 on 2 cores")]
    embedding = open_model("image_embedding", "embedded")
    safety, overlay = open_model("safety", "embedded"), open_model("overlay", "embedded")
    for name, work in (
        ("EfficientNet features", lambda p: embedding.embed([p])),
        ("Open-NSFW", lambda p: safety.punsafe([p])),
        ("text detection", overlay.boxes),
    ):
        work(pixels[0])
        fresh = [Pixels.of(p.rgb) for p in pixels]
        each = 1000 * seconds(lambda work=work, fresh=fresh: [work(p) for p in fresh]) / len(fresh)  # type: ignore[misc]
        rows.append(Row(f"{name}, ms a picture, one core", f"{each:.0f}", "", "", "-"))
    return rows
