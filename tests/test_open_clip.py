"""The real architecture at a tiny random size, saved and loaded through the path that loads real weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from curation.errors import CurationError
from curation.models.open_clip import OpenClip, image_of, sizing
from curation.models.patch_torchvision import patch_torchvision
from curation.models.registry import describe, open_model
from curation.pixels import Pixels
from curation.stage import run_guarded

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny-clip.json, clip.safetensors, clip.pt, and the same as a local-dir model."""
    patch_torchvision()
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    state = open_clip.create_model("tiny-clip").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "clip.safetensors")
    torch.save(state, folder / "clip.pt")
    (folder / "local").mkdir()
    config = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "local" / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "local" / "open_clip_model.safetensors").write_bytes((folder / "clip.safetensors").read_bytes())
    return folder


def spec(tiny: Path, weights: str = "clip.safetensors") -> str:
    return f"open_clip:{tiny / 'tiny-clip.json'}:{tiny / weights}"


def test_values_are_those_of_open_clip_itself(tiny: Path) -> None:
    model = open_model("image_text", spec(tiny))
    import open_clip
    import torch

    reference, _, preprocess = open_clip.create_model_and_transforms("tiny-clip", str(tiny / "clip.safetensors"))
    picture, caption = (
        preprocess(Image.fromarray(data.cat()))[None],
        open_clip.get_tokenizer("tiny-clip")(["a cat"]),
    )
    with torch.inference_mode():
        image = reference.eval().encode_image(picture, normalize=True)
        expected = float(image @ reference.encode_text(caption, normalize=True).T)
    assert model.similarity([Pixels.of(data.cat())], ["a cat"])[0] == pytest.approx(expected, abs=1e-3)
    # a value in four hundred of the resized picture differs by one level
    np.testing.assert_allclose(model.embed([Pixels.of(data.cat())]), image.numpy(), atol=2e-3)
    assert float(model.embed([Pixels.of(data.cat())])[0] @ image.numpy()[0]) > 0.99999


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("shape", [(600, 800), (240, 900), (224, 224), (20, 30)])
def test_pictures_are_sized_as_open_clip_sizes_them(mode: str, shape: tuple[int, int]) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    preprocess = {"size": 224, "mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bicubic", "resize_mode": mode}
    rgb = np.asarray(Image.fromarray(data.cat()).resize(shape[::-1]))
    theirs = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)(Image.fromarray(rgb))
    ours, expected = sizing(preprocess)(rgb).astype(int), np.rint(theirs.numpy().transpose(1, 2, 0) * 255)
    assert ours.shape == (224, 224, 3)
    assert np.abs(ours - expected).max() <= (1 if min(shape) >= 224 else 2)


def test_one_model_serves_similarity_and_embedding(tiny: Path) -> None:
    assert open_model("image_embedding", spec(tiny)) is open_model("image_text", spec(tiny))
    assert open_model("image_embedding", spec(tiny)).dimensions == 24


def test_a_pair_scores_the_same_alone_and_among_others(tiny: Path) -> None:
    model = open_model("image_text", spec(tiny))
    pictures = [data.cat(), data.rocket(), data.coffee()]
    captions = ["a cat", "a rocket", "a cat"]
    together = model.similarity([Pixels.of(picture) for picture in pictures], captions)
    alone = [model.similarity([Pixels.of(p)], [c])[0] for p, c in zip(pictures, captions, strict=True)]
    assert together == alone
    assert model.similarity([], []) == []


def test_the_picture_is_encoded_once(tiny: Path) -> None:
    model, cat = open_model("image_text", spec(tiny)), Pixels.of(data.cat())
    model.embed([cat, cat])
    (vector,) = cat.memo(model.memo_key, lambda _: [])
    model.similarity([cat], ["a cat"])
    assert cat.memo(model.memo_key, lambda _: [])[0] is vector


def test_safetensors_and_restricted_checkpoints_load_the_same_weights(tiny: Path) -> None:
    cat = data.cat()
    first, second = (open_model("image_text", spec(tiny, name)) for name in ("clip.safetensors", "clip.pt"))
    assert np.array_equal(first.embed([Pixels.of(cat)]), second.embed([Pixels.of(cat)]))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def test_a_pickle_that_runs_code_is_refused(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CurationError, match="cannot be loaded"):
        OpenClip(f"{tiny / 'tiny-clip.json'}:{tmp_path / 'evil.pt'}")
    assert not (tmp_path / "unpickled").exists()


def test_a_folder_says_its_own_preprocessing(tiny: Path) -> None:
    local = f"open_clip:local-dir:{tiny / 'local'}"
    assert describe("image_text", local).problem is None
    own = open_model("image_text", local).embed([Pixels.of(data.cat())])
    assert own.shape == (1, 24)
    assert not np.allclose(own, open_model("image_text", spec(tiny)).embed([Pixels.of(data.cat())]), atol=1e-4)


def test_stages_take_the_backend_from_their_params(tiny: Path) -> None:
    from stages.embedding import Embedding
    from stages.similarity import Similarity

    embedding, similarity = (
        Embedding(Embedding.Params(model=spec(tiny))),
        Similarity(Similarity.Params(model=spec(tiny))),
    )
    embedding.load()
    similarity.load()
    cat = Pixels.of(data.cat())
    assert len(run_guarded(embedding, {"pixels": [cat]})["embedding"][0]) == 24
    columns = run_guarded(similarity, {"pixels": [cat], "caption": ["a cat"], "captions": [["a cat", None]]})
    assert columns["caption_similarities"] == [[columns["similarity"][0], None]]


@pytest.mark.parametrize("shape", [(1, 65535, 3), (65535, 1, 3), (1, 1, 3)])
def test_strips_do_not_swell(tiny: Path, shape: tuple[int, int, int]) -> None:
    strip = Pixels.of(np.zeros(shape, np.uint8))
    assert max(image_of(strip).size) <= 20
    assert np.isfinite(open_model("image_text", spec(tiny)).embed([strip])).all()


def test_ordinary_pictures_are_whole() -> None:
    assert np.array_equal(np.asarray(image_of(Pixels.of(data.cat()))), data.cat())


@pytest.mark.parametrize("caption", ["x" * 1_000_000, "\0", "\ud800", "<b>&amp;</b>", ""])
def test_hostile_captions_are_scored(tiny: Path, caption: str) -> None:
    (score,) = open_model("image_text", spec(tiny)).similarity([Pixels.of(data.cat())], [caption])
    assert -1 <= score <= 1


def test_describe_hashes_files_and_hides_folders(tiny: Path) -> None:
    info = describe("image_text", spec(tiny))
    assert info.id == "open_clip:tiny-clip.json:clip.safetensors"
    assert len(info.sha256) == 64 and info.problem is None
    assert info.sha256 != describe("image_text", spec(tiny, "clip.pt")).sha256


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("", "names no weights"),
        ("ViT-B-32", "names no weights"),
        ("ViT-B-32:/no/such.safetensors", "there is no model file /no/such.safetensors"),
        ("local-dir:/no/such", "there is no model file"),
        ("ViT-B-99:laion2b_s34b_b79k", "no architecture 'ViT-B-99'"),
        ("ViT-B-32:laion3b", "neither a file nor a tag of ViT-B-32"),
    ],
)
def test_problems_are_said_before_anything_is_loaded(argument: str, problem: str) -> None:
    assert problem in (describe("image_text", f"open_clip:{argument}").problem or "")
    with pytest.raises(CurationError, match=problem):
        open_model("image_text", f"open_clip:{argument}")


def test_weights_that_do_not_fit_the_architecture_are_refused(tiny: Path) -> None:
    with pytest.raises(CurationError, match="cannot be loaded"):
        OpenClip(f"ViT-B-32:{tiny / 'clip.safetensors'}")


def test_a_hub_out_of_reach_is_said_with_the_embedded_choice(tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads its environment when it is imported."""
    code = (
        "from curation.models.registry import describe, open_model\n"
        "print(describe('image_text', 'production').problem)\n"
        "try: open_model('image_text', 'production')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    described, raised = done.stdout.splitlines()
    assert "the hub cannot be reached" in described and "`embedded`" in described
    assert raised.startswith("CurationError") and described in raised
