"""ONNX graphs computed by torch give what onnxruntime gives."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import skimage.data
import torch
from PIL import Image

from curation.errors import CurationError
from curation.models.onnx_file import Graph, Node, read_graph
from curation.models.onnx_module import OnnxModule
from curation.models.open_nsfw import NETWORK, OpenNsfw
from curation.models.packaged import packaged_file
from curation.models.text_boxes import DETECTOR, RECOGNIZER
from curation.pixels import Pixels

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def photos() -> list[Pixels]:
    folder = Path(skimage.data.__path__[0])
    return [Pixels.of(np.asarray(Image.open(folder / name).convert("RGB"))) for name in PHOTOS]


@pytest.mark.parametrize(
    ("file", "shape"),
    [
        (NETWORK, (2, 224, 224, 3)),
        (DETECTOR, (2, 3, 64, 96)),
        (DETECTOR, (1, 3, 160, 32)),
        (RECOGNIZER, (2, 3, 48, 320)),
        (RECOGNIZER, (1, 3, 48, 488)),
    ],
)
def test_a_graph_computes_what_onnxruntime_computes(file: tuple[str, str], shape: tuple[int, ...]) -> None:
    path = packaged_file(*file)
    batch = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path))
    expected = session.run(None, {session.get_inputs()[0].name: batch})[0]
    with torch.inference_mode():
        found = OnnxModule(read_graph(path))(torch.from_numpy(batch)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_open_nsfw_gives_the_same_probability_through_the_service() -> None:
    assert {"cpu", "cuda"} <= set(OpenNsfw.describe("").devices)
    exact = OpenNsfw("").punsafe(photos())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATION_PRETEND_GPUS", "1")
        served = OpenNsfw("", "cuda").punsafe(photos())
    assert max(exact) > 10 * min(exact)
    np.testing.assert_allclose(served, exact, rtol=1e-4, atol=1e-6)


def test_the_metadata_of_a_file_is_read() -> None:
    characters = read_graph(packaged_file(*RECOGNIZER)).metadata["character"].splitlines()
    assert len(characters) == 18708 and "A" in characters


@pytest.mark.parametrize("content", [b"", b"no protocol buffer", b"\x3a\xff\xff"])
def test_a_file_that_is_no_onnx_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(CurationError, match=r"broken\.onnx is no ONNX file"):
        read_graph(tmp_path / "broken.onnx")


def test_an_unknown_operator_is_named() -> None:
    graph = Graph(11, (Node("Einsum", ("x",), ("y",), {}),), {}, ("x",), ("y",), {})
    with pytest.raises(CurationError, match="unknown operators: Einsum"):
        OnnxModule(graph)


@pytest.mark.parametrize(
    ("file", "shape", "answer"),
    [
        (NETWORK, (2, 224, 224, 3), (2, 2)),
        (DETECTOR, (2, 3, 64, 96), (2, 1, 64, 96)),
        (RECOGNIZER, (2, 3, 48, 320), (2, 40, 18710)),
    ],
)
def test_weights_move_to_a_device_and_shapes_stay(
    file: tuple[str, str], shape: tuple[int, ...], answer: tuple[int, ...]
) -> None:
    """The device `meta` knows no values: whatever had to be read from it, or mixed with it, would fail as on a GPU."""
    module = OnnxModule(read_graph(packaged_file(*file))).to("meta").to(memory_format=torch.channels_last)
    assert module(torch.empty(shape, device="meta")).shape == answer
