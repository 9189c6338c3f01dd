"""Captioners of transformers in the service: batches of scenes, and what they say the same as one at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from helpers.captioners import MAKERS, save
from helpers.pretended import pretended_server
from PIL import Image

from curation.errors import Unavailable
from curation.inference.network import Row, Spec
from curation.inference.server import Server
from curation.models import transformers_network
from curation.models.captioner import Effort, Scene
from curation.models.registry import describe
from curation.models.transformers_captioner import TransformersCaptioner
from curation.models.transformers_network import NONE, STEP, CaptionNetwork, row_of
from curation.stage import Failure

NAMES = ("cat", "coffee", "rocket", "astronaut")
IMAGES = [Image.fromarray(getattr(skimage.data, name)()).resize((80, 64)) for name in NAMES]
EFFORT = Effort(max_tokens=12)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("captioners")
    return {name: save(name, folder / name) for name in MAKERS}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Of a pretended GPU, with batches of four."""
    with pretended_server(monkeypatch, transformers_network) as made:
        yield made


def scenes(question: str = "the cat") -> list[Scene]:
    """Pictures of two shapes, and clips of two and of three frames."""
    wide = IMAGES[0].resize((96, 48))
    shown = [(image,) for image in IMAGES] + [(wide,), tuple(IMAGES[:2]), tuple(IMAGES[1:]), tuple(IMAGES[2:])]
    return [Scene(images, question) for images in shown]


@pytest.mark.parametrize("name", MAKERS)
def test_in_batches_they_say_what_they_say_alone(models: dict[str, Path], name: str, server: Server) -> None:
    alone = TransformersCaptioner(str(models[name])).captions(scenes(), EFFORT)
    together = TransformersCaptioner(str(models[name]), "cuda").captions(scenes(), EFFORT)
    assert together == alone and len(set(alone)) > 3
    (network,) = server.report()["networks"].values()
    assert network["rows"] == len(scenes()) and network["largest_batch"] == 4
    assert network["batches"] < len(scenes())


@pytest.mark.parametrize("name", ["qwen3_vl", "idefics3"])
def test_a_batchs_answers_have_the_bits_of_any_place_and_neighbours(models: dict[str, Path], name: str) -> None:
    front = TransformersCaptioner(str(models[name]))
    prepared = [row_of(front._chat(scene), padded=True) for scene in scenes()[:4]]
    names, rows = prepared[0][0], [row for _, row in prepared]
    network = CaptionNetwork(str(models[name]), "cpu", "fp32")
    call = transformers_network.call_of(12, True, names)

    def answers(order: list[int]) -> list[list[int]]:
        batch = [np.stack([rows[i][part] for i in order]) for part in range(len(rows[0]))]
        return [answer.tolist() for answer in network.compute(call, batch)[0]]

    first = answers([0, 1, 2, 3])
    assert answers([3, 2, 1, 0]) == first[::-1] and answers([2, 2, 2, 2]) == [first[2]] * 4


def test_places_that_no_scene_fills_do_not_matter(models: dict[str, Path]) -> None:
    front = TransformersCaptioner(str(models["llava"]))
    names, row = row_of(front._chat(scenes()[0]), padded=True)
    network = CaptionNetwork(str(models["llava"]), "cpu", "fp32")
    call = transformers_network.call_of(12, True, names)
    full = network.compute(call, [np.stack([part] * 3) for part in row])[0]
    few = network.compute(call, [np.stack([part, np.zeros_like(part), np.zeros_like(part)]) for part in row])[0]
    assert few[0].tolist() == full[0].tolist()


def test_a_prompt_is_padded_before_it_and_pixels_become_halves(models: dict[str, Path]) -> None:
    front = TransformersCaptioner(str(models["qwen2_vl"]))
    inputs = front._chat(scenes()[0])
    names, row = row_of(inputs, padded=True)
    arrays = dict(zip(names, row, strict=True))
    length = inputs["input_ids"].shape[1]
    assert arrays["input_ids"].shape == (1, STEP) and arrays["attention_mask"].sum() == length
    assert arrays["input_ids"][0, -length:].tolist() == inputs["input_ids"][0].tolist()
    assert arrays["pixel_values"].dtype == np.float16 and arrays["image_grid_thw"].dtype == np.int64
    plain = dict(zip(*row_of(inputs, padded=False), strict=True))
    assert plain["input_ids"].shape == (1, length) and plain["pixel_values"].dtype == np.float32


def test_nothing_stands_behind_the_end_of_an_answer(models: dict[str, Path]) -> None:
    front = TransformersCaptioner(str(models["llava"]))
    names, row = row_of(front._chat(scenes()[0]), padded=True)
    network = CaptionNetwork(str(models["llava"]), "cpu", "fp32")
    call = transformers_network.call_of(12, True, names)
    (whole,) = network.compute(call, [part[None] for part in row])[0].tolist()
    network.ends = [whole[4]]  # as if the model had ended there
    (cut,) = network.compute(call, [part[None] for part in row])[0].tolist()
    end = whole.index(whole[4])
    assert cut == [*whole[: end + 1], *[NONE] * (12 - end - 1)]


def test_a_scene_that_the_model_cannot_take_costs_its_own_record(
    models: dict[str, Path], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = CaptionNetwork.forward
    odd = row_of(TransformersCaptioner(str(models["llava"]))._chat(scenes()[1]), padded=True)[1][-1]

    def fragile(self: CaptionNetwork, call: str, tensors: list[object]) -> object:
        if any(np.array_equal(part, odd) for part in np.asarray(tensors[-1])):
            raise ValueError("image features and image tokens do not match")
        return honest(self, call, tensors)

    monkeypatch.setattr(CaptionNetwork, "forward", fragile)
    front = TransformersCaptioner(str(models["llava"]), "cuda")
    said = front.captions(scenes()[:4], EFFORT)
    assert [isinstance(each, Failure) for each in said] == [False, True, False, False]
    assert "do not match" in str(said[1])
    monkeypatch.setattr(CaptionNetwork, "forward", lambda *_: 1 / 0)
    with pytest.raises(Unavailable, match="division by zero"):
        front.captions(scenes()[:4], EFFORT)


def test_the_plan_knows_that_they_compute_on_a_gpu_and_what_they_take(models: dict[str, Path]) -> None:
    info = describe("captions", f"transformers:{models['llava']}")
    assert "cuda" in info.devices and info.gpu_mb >= transformers_network.CACHE_MB


def test_waiting_for_a_full_batch_is_the_networks_own_measure(models: dict[str, Path], server: Server) -> None:
    spec = Spec("curation.models.transformers_network:CaptionNetwork", str(models["llava"]), "cuda")
    assert CaptionNetwork.patience_s and CaptionNetwork.patience_s > server.flush_s
    front = TransformersCaptioner(str(models["llava"]))
    names, row = row_of(front._chat(scenes()[0]), padded=True)
    call = transformers_network.call_of(3, True, names)
    rows: list[Row] = [row]
    futures = [server.submit(spec, call, rows) for _ in range(4)]
    assert len({tuple(future.result()[0][0].tolist()) for future in futures}) == 1
    assert server.report()["networks"][spec.title]["batches"] == 1
