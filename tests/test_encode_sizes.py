"""Samples say the sizes and crops that SDXL is conditioned on, as diffusers' training script measures them."""

import ast
import io
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from curation.media.standardize import Recipe, size_conditioning, standardize
from curation.phases import run
from curation.shards.containers import CONTAINERS
from curation.shards.reader import Shards
from curation.shards.sample import Sample

PHOTO = Image.fromarray(data.astronaut())
WIDE, TALL = PHOTO.resize((300, 200)), PHOTO.resize((200, 300))


def bordered(picture: Image.Image, bars: int) -> Image.Image:
    """Black bars above and below."""
    whole = Image.new("RGB", (picture.width, picture.height + 2 * bars))
    whole.paste(picture, (0, bars))
    return whole


def add_time_ids(meta: dict[str, Any]) -> list[int]:
    """By diffusers' own function, taken out of its file: its module wants more of transformers."""
    spec = find_spec("diffusers")
    if spec is None or spec.origin is None:
        pytest.skip("diffusers is not installed")
    path = Path(spec.origin).parent / "pipelines/stable_diffusion_xl/pipeline_stable_diffusion_xl.py"
    nodes = ast.walk(ast.parse(path.read_text()))
    function = next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "_get_add_time_ids")
    names: dict[str, Any] = {"torch": torch}
    exec(compile(ast.Module([function], []), str(path), "exec"), names)
    features = SimpleNamespace(linear_1=SimpleNamespace(in_features=6 * 256 + 1280))
    unet = SimpleNamespace(config=SimpleNamespace(addition_time_embed_dim=256), add_embedding=features)
    sizes = [tuple(meta[name]) for name in ("original_size", "crop_top_left", "target_size")]
    made = names["_get_add_time_ids"](SimpleNamespace(unet=unet), *sizes, torch.int64, 1280)
    return made[0].tolist()  # type: ignore[no-any-return]


def of_diffusers(content: Image.Image, width: int, height: int) -> tuple[list[int], Image.Image]:
    """What train_text_to_image_sdxl.py does: resize until the bucket is filled, crop its centre; the six numbers."""
    scale = max(width / content.width, height / content.height)
    small = content.resize((round(content.width * scale), round(content.height * scale)), Image.Resampling.LANCZOS)
    top, left = round((small.height - height) / 2), round((small.width - width) / 2)
    window = small.crop((left, top, left + width, top + height))
    return [content.height, content.width, top, left, height, width], window


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sizes")
    WIDE.save(folder / "wide.png")
    TALL.save(folder / "tall.png")
    bordered(WIDE, 30).save(folder / "bars.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: what is shown is TALL
    TALL.rotate(90, expand=True).save(folder / "turned.png", exif=exif)
    clear = WIDE.convert("RGBA")
    clear.putalpha(255)
    clear.save(folder / "alpha.png")
    (folder / "m.yaml").write_text(
        "name: s\nsource: {folder: .}\nscore: [resolution, quality]\n"
        "encode: {size: 64, latents: false, text: null, media: {images: png}}\n"
    )
    return folder


@pytest.fixture(scope="module", params=["webdataset", "parquet"])
def samples(request: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    out = tmp_path_factory.mktemp("run")
    run(str(folder / "m.yaml"), str(out), [f"encode.shards.format={request.param}"], engine="inline")
    return {sample.meta["source_key"]: sample for sample in Shards(str(out / "shards"))}


@pytest.mark.parametrize(
    ("key", "content"),
    [("wide.png", WIDE), ("tall.png", TALL), ("bars.png", WIDE), ("turned.png", TALL), ("alpha.png", WIDE)],
)
def test_a_sample_says_sdxls_sizes(samples: dict[str, Sample], key: str, content: Image.Image) -> None:
    sample = samples[key]
    expected, window = of_diffusers(content, 64, 64)
    meta = sample.meta
    assert [*meta["original_size"], *meta["crop_top_left"], *meta["target_size"]] == expected == add_time_ids(meta)
    assert sample.media
    seen = np.asarray(Image.open(io.BytesIO(bytes(sample.media.data)))).astype(int)
    assert np.abs(seen - np.asarray(window).astype(int)).mean() < 4  # half a pixel of the crop is rounded


def test_a_crop_that_fills_the_content_begins_at_its_corner() -> None:
    made = standardize(bordered(WIDE, 30), Recipe(96, 64, box=(0, 30, 300, 230)))
    sizes = size_conditioning((0, 30, 300, 230), made.crop_ltrb, made.resized, (96, 64))
    assert sizes == {"original_size": [200, 300], "target_size": [64, 96], "crop_top_left": [0, 0]}


@given(st.integers(8, 300), st.integers(8, 300), st.integers(1, 8), st.integers(1, 8), st.integers(0, 20))
def test_the_window_lies_in_the_resized_content(width: int, height: int, w: int, h: int, bar: int) -> None:
    picture = Image.new("RGB", (width + bar, height + 2 * bar))
    box = (bar, bar, bar + width, bar + height)
    recipe = Recipe(8 * w, 8 * h, box=box)
    made = standardize(picture, recipe)
    sizes = size_conditioning(box, made.crop_ltrb, made.resized, (recipe.width, recipe.height))
    (top, left), (resized_w, resized_h) = sizes["crop_top_left"], made.resized
    assert sizes["original_size"] == [height, width]
    assert 0 <= top <= resized_h - recipe.height and 0 <= left <= resized_w - recipe.width


def test_shards_without_them_are_read(samples: dict[str, Sample], tmp_path: Path) -> None:
    old = next(iter(samples.values()))
    meta = {
        name: value for name, value in old.meta.items() if name not in ("original_size", "crop_top_left", "target_size")
    }
    for container in CONTAINERS.values():
        container.write(tmp_path / "old", [replace(old, meta=meta)])
        (again,) = container.open(pa.py_buffer((tmp_path / "old").read_bytes()), "old")
        assert again.meta == meta
