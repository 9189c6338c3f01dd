"""LAION's heads: their arithmetic by hand, their published files, and one forward pass for every head."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from skimage import data

from curation.errors import CurationError
from curation.models.laion import Head, LaionAesthetic, read_head
from curation.models.registry import describe, open_model
from curation.pixels import Pixels
from stages.aesthetic import Aesthetic, AestheticParams
from stages.safety import Safety, SafetyParams

WIDTHS = {
    "layers.0": (1024, 24),
    "layers.2": (128, 1024),
    "layers.4": (64, 128),
    "layers.6": (16, 64),
    "layers.7": (1, 16),
}


def array(*rows: object) -> NDArray[np.float64]:
    return np.array(rows, np.float64)


def mlp(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """A v2 head for 24 features."""
    tensors = {}
    for name, (out, width) in WIDTHS.items():
        tensors[f"{name}.weight"] = torch.randn(out, width, generator=generator) / width**0.5
        tensors[f"{name}.bias"] = torch.randn(out, generator=generator)
    return tensors


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CLIP of 24 features (tiny-head.json, clip.safetensors), and v1.pth and v2.safetensors for it."""
    from curation.models.patch_torchvision import patch_torchvision

    patch_torchvision()
    import open_clip

    folder, generator = tmp_path_factory.mktemp("laion"), torch.Generator().manual_seed(0)
    vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    (folder / "tiny-head.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-head.json")
    torch.manual_seed(0)
    state = open_clip.create_model("tiny-head").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "clip.safetensors")
    linear = {"weight": torch.randn(1, 24, generator=generator), "bias": torch.randn(1, generator=generator)}
    torch.save(linear, folder / "v1.pth")
    save_file(mlp(generator), folder / "v2.safetensors")
    return folder


def tower(heads: Path) -> str:
    return f"{heads / 'tiny-head.json'}:{heads / 'clip.safetensors'}"


def spec(heads: Path, form: str) -> str:
    file = {"v1": "v1.pth", "v2": "v2.safetensors"}[form]
    return f"laion:{form}:{heads / file}:{tower(heads)}"


def test_a_linear_head_by_hand() -> None:
    head = Head.of({"weight": array([2, -1, 0.5]), "bias": array(3)}, "v1")
    features = np.array([[1, 2, 4], [0, 0, 0]], np.float32)
    assert head(features).tolist() == [2 * 1 - 1 * 2 + 0.5 * 4 + 3, 3]


def test_an_mlp_head_by_hand_has_nothing_between_its_layers() -> None:
    ones = {
        f"layers.{i}.{part}": array([1]) if part == "weight" else array(0)
        for i in (0, 2, 4, 6, 7)
        for part in ("weight", "bias")
    }
    ones |= {"layers.0.weight": array([1, -3]), "layers.4.bias": array(-1), "layers.7.weight": array([2])}
    assert Head.of(ones, "v2")(np.array([[1, 2]], np.float32)).tolist() == [2 * ((1 * 1 - 3 * 2) - 1)]


def test_a_safety_head_by_hand_normalises_rectifies_and_squashes() -> None:
    """All 512 features alike, so that each layer's sum is a product."""
    tensors = {"norm.mean": np.full(512, 0.5), "norm.variance": np.full(512, 4.0)}
    tensors |= {
        "linear_1.weight": np.stack([np.full(512, 1 / 512), np.full(512, -1 / 512)]),
        "linear_1.bias": array(0, 0),
    }
    tensors |= {"linear_2.weight": array([3, 5]), "linear_2.bias": array(-1)}
    tensors |= {"linear_3.weight": array([0.5]), "linear_3.bias": array(0.25)}
    head = Head.of(tensors, "nsfw")
    for value in (2.5, -1.5):  # (value - 0.5) / 2 = 1 or -1; rectified (1, 0) or (0, 1)
        hidden = 3 - 1 if value > 0 else 5 - 1
        expected = 1 / (1 + math.exp(-(0.5 * hidden + 0.25)))
        assert head(np.full((1, 512), value, np.float32))[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("tensors", "form", "words"),
    [
        ({"weight": array([1])}, "v1", r"a head of the form v1 has \['bias', 'weight'\], not \['weight'\]"),
        ({"weight": array([1], [2]), "bias": array(1, 2)}, "v1", "ends in 2 values"),
        ({"weight": array([1, 2]), "bias": array(1, 2)}, "v1", "does not follow"),
        ({"weight": array(1), "bias": array(1)}, "v1", "does not follow"),
        ({"weight": array([1]), "bias": array(1)}, "v2", "form v2 has"),
        ({"norm.mean": np.zeros(3)}, "nsfw", "no norm.mean of 512 or 768"),
    ],
)
def test_a_head_of_another_form_is_refused(tensors: dict[str, NDArray[np.float64]], form: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Head.of(tensors, form)


def test_a_heads_value_is_that_of_its_layers_on_unit_features(heads: Path) -> None:
    pictures = [Pixels.of(data.cat()), Pixels.of(data.rocket())]
    features = torch.from_numpy(open_model("image_embedding", f"open_clip:{tower(heads)}").embed(pictures))
    assert torch.allclose(features.norm(dim=1), torch.ones(2), atol=1e-5)
    linear = torch.load(heads / "v1.pth", weights_only=True)
    expected = torch.nn.functional.linear(features, **linear)[:, 0]
    np.testing.assert_allclose(open_model("aesthetic", spec(heads, "v1")).aesthetic(pictures), expected, atol=1e-5)
    from safetensors.torch import load_file

    state = load_file(heads / "v2.safetensors")
    for name in WIDTHS:
        features = torch.nn.functional.linear(features, state[f"{name}.weight"], state[f"{name}.bias"])
    found = open_model("aesthetic", spec(heads, "v2")).aesthetic(pictures)
    np.testing.assert_allclose(found, features[:, 0], atol=1e-4)
    assert found[0] != found[1]


def test_one_forward_pass_serves_the_embedding_and_every_head(heads: Path) -> None:
    embedding = open_model("image_embedding", f"open_clip:{tower(heads)}")
    first, second = (open_model("aesthetic", spec(heads, form)) for form in ("v1", "v2"))
    assert first.tower is embedding and second.tower is embedding
    cat = Pixels.of(data.cat())
    embedding.embed([cat])
    (vector,) = cat.memo(embedding.memo_key, lambda _: [])
    second.aesthetic([cat])
    assert cat.memo(embedding.memo_key, lambda _: [])[0] is vector


def test_the_stage_takes_the_mean_of_a_clips_frames(heads: Path) -> None:
    stage = Aesthetic(AestheticParams(model=spec(heads, "v2")))
    stage.load()
    frames = [data.cat(), data.coffee(), data.rocket()]
    (clip,) = stage.run({"pixels": [Pixels.clip(frames, 3, {})]})["aesthetic"]
    alone = stage.run({"pixels": [Pixels.of(frame) for frame in frames]})["aesthetic"]
    assert clip == pytest.approx(sum(alone) / 3)
    assert alone == [stage.run({"pixels": [Pixels.of(frame)]})["aesthetic"][0] for frame in frames]


def widened(heads: Path, folder: Path, dimensions: int) -> str:
    """The tiny CLIP with so many features, as an argument of open_clip."""
    import open_clip

    name = f"tiny-{dimensions}"
    config = json.loads((heads / "tiny-head.json").read_text()) | {"embed_dim": dimensions}
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    state = open_clip.create_model(name).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / f"{name}.safetensors")
    return f"{folder / f'{name}.json'}:{folder / f'{name}.safetensors'}"


def test_the_safety_stage_runs_laions_detector(heads: Path, tmp_path: Path) -> None:
    """On a CLIP of 512 features, as its ViT-B/32 head is published."""
    clip = widened(heads, tmp_path, 512)
    tensors = {"norm.mean": torch.zeros(512), "norm.variance": torch.ones(512)}
    for name, (out, width) in {"linear_1": (32, 512), "linear_2": (32, 32), "linear_3": (1, 32)}.items():
        tensors |= {f"{name}.weight": torch.randn(out, width), f"{name}.bias": torch.randn(out)}
    torch.save(tensors, tmp_path / "head.pth")
    stage = Safety(SafetyParams(model=f"laion:nsfw:{tmp_path / 'head.pth'}:{clip}"))
    stage.load()
    made = stage.run({"pixels": [Pixels.clip([data.cat(), data.rocket()], 2, {}), Pixels.of(data.cat())]})
    worst, mean = made["punsafe"][0], made["punsafe_mean"][0]
    assert 0 <= mean <= worst <= 1 and made["punsafe"][1] == made["punsafe_mean"][1] <= worst


def test_a_tower_that_does_not_fit_the_head_is_refused_with_the_way_out(heads: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1, 512), "bias": torch.zeros(1)}, tmp_path / "b32.pth")
    with pytest.raises(CurationError, match=r"takes 512 features, and .* gives 24; name the tower"):
        LaionAesthetic(f"v1:{tmp_path / 'b32.pth'}:{tower(heads)}")


def test_describe_hashes_head_and_tower_and_hides_folders(heads: Path) -> None:
    first, second = (describe("aesthetic", spec(heads, form)) for form in ("v1", "v2"))
    assert first.id == "laion:v1:v1.pth+open_clip:tiny-head.json:clip.safetensors" and first.problem is None
    assert first.sha256.partition("+")[2] == second.sha256.partition("+")[2] and first.sha256 != second.sha256


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    ("role", "argument", "problem"),
    [
        ("aesthetic", "", "names no head; say laion:v1:HEAD"),
        ("aesthetic", "v3:/x.pth", "names no head"),
        ("aesthetic", "v1", "names no head"),
        ("aesthetic", "nsfw:/x.pth", "names no head"),
        ("aesthetic", "v2:/no/such.pth", "there is no head /no/such.pth"),
        ("safety", "v2", "names no head; say laion:nsfw:HEAD"),
    ],
)
def test_problems_are_said_before_anything_is_loaded(role: str, argument: str, problem: str) -> None:
    assert problem in (describe(role, f"laion:{argument}").problem or "")
    with pytest.raises(CurationError, match=problem):
        open_model(role, f"laion:{argument}")


def test_a_pickle_that_runs_code_is_refused(heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    assert "is no head of the form v1" in (describe("aesthetic", f"laion:v1:evil.pth:{tower(heads)}").problem or "")
    assert not (tmp_path / "unpickled").exists()


@pytest.fixture(scope="session")
def published() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "weights"
    if not (folder / "laion").is_dir():
        pytest.skip("needs ../shared/weights")
    return folder


@pytest.mark.parametrize(
    ("file", "form", "widths"),
    [
        ("laion/sa_0_4_vit_l_14_linear.pth", "v1", [768, 1]),
        ("laion/sa_0_4_vit_b_32_linear.pth", "v1", [512, 1]),
        ("laion/sa_0_4_vit_b_16_linear.pth", "v1", [512, 1]),
        ("improved/sac+logos+ava1-l14-linearMSE.pth", "v2", [768, 1024, 128, 64, 16, 1]),
    ],
)
def test_the_published_heads_have_their_published_shapes(
    published: Path, file: str, form: str, widths: list[int]
) -> None:
    head = read_head(published / file, form)
    assert [head.dimensions, *(weight.shape[0] for weight, _ in head.layers)] == widths
    features = np.random.default_rng(0).standard_normal((50, widths[0]))
    values = head(features / np.linalg.norm(features, axis=1, keepdims=True))
    assert 0 < values.mean() < 10 and len(set(values)) == 50


@pytest.mark.parametrize(
    ("file", "form"),
    [("laion/sa_0_4_vit_l_14_linear.pth", "v1"), ("improved/sac+logos+ava1-l14-linearMSE.pth", "v2")],
)
def test_a_published_head_runs_in_the_stage(published: Path, heads: Path, tmp_path: Path, file: str, form: str) -> None:
    """On a random CLIP: the values mean nothing, but are those of the file's layers on its features."""
    clip = widened(heads, tmp_path, 768)
    stage = Aesthetic(AestheticParams(model=f"laion:{form}:{published / file}:{clip}"))
    stage.load()
    (value,) = stage.run({"pixels": [Pixels.of(data.cat())]})["aesthetic"]
    x = torch.from_numpy(open_model("image_embedding", f"open_clip:{clip}").embed([Pixels.of(data.cat())]))
    state = torch.load(published / file, map_location="cpu", weights_only=True)
    for prefix in [""] if form == "v1" else [f"{name}." for name in WIDTHS]:
        x = torch.nn.functional.linear(x, state[f"{prefix}weight"], state[f"{prefix}bias"])
    assert value == pytest.approx(float(x), abs=1e-3)


def test_a_hub_out_of_reach_is_said_with_the_embedded_choice(tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads its environment when it is imported."""
    (tmp_path / "m.json").write_text(
        json.dumps({"name": "p", "source": {"folder": "."}, "score": ["aesthetic"], "models": "production"})
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "curation.cli", "plan", str(tmp_path / "m.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    for words in ("aesthetic", "the hub cannot be reached", "`model: embedded` needs no hub"):
        assert words in done.stderr
