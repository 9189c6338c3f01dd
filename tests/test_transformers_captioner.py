"""Real architectures at a tiny random size, saved and loaded through the path that loads real weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from helpers.captioners import MAKERS, WORDS, save
from PIL import Image

from curation.errors import CurationError, UsageError
from curation.load import load
from curation.models.captioner import fitted, spread
from curation.models.registry import describe, open_model
from curation.models.transformers_captioner import TransformersCaptioner
from curation.pixels import Pixels
from curation.plan import Plan, make_plan
from curation.stage import run_guarded
from stages.caption import Caption, CaptionParams

CHATTING = [name for name in MAKERS if name != "blip"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("captioners")
    return {name: save(name, folder / name) for name in MAKERS}


def small(name: str) -> Pixels:
    image = Image.fromarray(getattr(skimage.data, name)()).resize((80, 64))
    return Pixels.of(np.asarray(image))


PICTURES = [small(name) for name in ("cat", "coffee", "rocket")]
CLIP = Pixels.clip([picture.rgb for picture in PICTURES for _ in (0, 1)], 6, {})
BACKWARDS = Pixels.clip([picture.rgb for picture in PICTURES[::-1] for _ in (0, 1)], 6, {})


def stage(folder: Path, **params: object) -> Caption:
    """A few words are asked, so that what a random model says hangs on the pictures."""
    asked = {"clip_prompt": "the cat runs", **({"prompt": "the cat"} if folder.name != "blip" else {}), **params}
    made = Caption(CaptionParams(model=f"transformers:{folder}", max_tokens=8, **asked))  # type: ignore[arg-type]
    made.load()
    return made


def captions(folder: Path, *pictures: Pixels, **params: object) -> list[object]:
    return list(stage(folder, **params).run({"pixels": pictures})["generated_caption"])


@pytest.mark.parametrize("name", MAKERS)
def test_pictures_and_clips_get_words_and_other_pictures_other_words(models: dict[str, Path], name: str) -> None:
    said = captions(models[name], *PICTURES, CLIP)
    assert all(isinstance(caption, str) and set(caption.split()) <= set(WORDS) for caption in said)
    assert len(set(said[:3])) == 3
    assert said == captions(models[name], *PICTURES, CLIP)


@pytest.mark.parametrize("name", MAKERS)
def test_a_caption_does_not_depend_on_its_neighbours(models: dict[str, Path], name: str) -> None:
    together = captions(models[name], CLIP, *PICTURES, small("astronaut"))
    alone = [captions(models[name], picture)[0] for picture in (CLIP, *PICTURES, small("astronaut"))]
    assert together == alone


@pytest.mark.parametrize("name", CHATTING)
def test_all_frames_of_a_clip_are_seen_in_order_and_the_question_is_read(models: dict[str, Path], name: str) -> None:
    forwards, backwards = captions(models[name], CLIP, BACKWARDS, frames=3)
    assert forwards not in (backwards, *captions(models[name], *PICTURES))
    asked = {captions(models[name], PICTURES[0], prompt=prompt)[0] for prompt in ("the cat runs", "a boat and sky")}
    assert len(asked) == 2


def test_a_model_without_a_chat_sees_the_middle_frame_and_continues_the_prompt(models: dict[str, Path]) -> None:
    middle, clip = captions(models["blip"], PICTURES[1], CLIP)
    assert middle == clip
    (said,) = captions(models["blip"], PICTURES[1], prompt="the red boat")
    assert str(said).startswith("the red boat ") and said != middle


def test_the_source_names_the_model_and_not_the_folders_above_it(models: dict[str, Path]) -> None:
    assert stage(models["llava"]).run({"pixels": PICTURES[:1]})["generated_caption_source"] == ["transformers:llava"]


def test_it_says_what_transformers_itself_says(models: dict[str, Path]) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(models["qwen3_vl"])
    model = AutoModelForImageTextToText.from_pretrained(models["qwen3_vl"]).eval()
    picture = {"type": "image", "image": Image.fromarray(PICTURES[2].rgb)}
    chat = [{"role": "user", "content": [picture, {"type": "text", "text": "the cat"}]}]
    inputs = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=5)[0, inputs["input_ids"].shape[1] :]
    expected = processor.decode(tokens, skip_special_tokens=True).strip()
    made = Caption(CaptionParams(model=f"transformers:{models['qwen3_vl']}", prompt="the cat", max_tokens=5))
    made.load()
    assert made.run({"pixels": PICTURES[2:]})["generated_caption"] == [expected]


def test_a_picture_that_the_model_cannot_take_costs_its_row(models: dict[str, Path]) -> None:
    strip = Pixels.of(np.zeros((1, 4000, 3), np.uint8))
    first, odd, last = run_guarded(stage(models["qwen3_vl"]), {"pixels": [PICTURES[0], strip, PICTURES[1]]})[
        "generated_caption"
    ]
    assert [first, last] == captions(models["qwen3_vl"], *PICTURES[:2])
    assert isinstance(odd, str) or odd is None


@pytest.mark.parametrize(
    ("available", "wanted", "indexes"),
    [(8, 4, [1, 3, 5, 7]), (8, 1, [4]), (3, 8, [0, 1, 2]), (1, 4, [0]), (8, 8, list(range(8)))],
)
def test_frames_are_spread_over_a_clip(available: int, wanted: int, indexes: list[int]) -> None:
    assert spread(available, wanted) == indexes


@pytest.mark.parametrize(
    ("shape", "size"),
    [((100, 50), (50, 100)), ((2000, 1000), (384, 768)), ((3, 3000), (60, 3)), ((768, 768), (768, 768))],
)
def test_large_pictures_are_made_smaller_and_strips_cut(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert fitted(Pixels.of(np.zeros((*shape, 3), np.uint8)), 768).size == size


def test_the_hash_is_of_all_that_decides_a_caption(models: dict[str, Path], tmp_path: Path) -> None:
    def digest(change: str) -> str:
        folder = tmp_path / (change or "same")
        shutil.copytree(models["llava"], folder / "llava")
        if change:
            path = folder / "llava" / change
            path.write_bytes(path.read_bytes() + b" ")
        return describe("captions", f"transformers:{folder / 'llava'}").sha256

    changed = [digest(name) for name in ("", "chat_template.jinja", "tokenizer.json", "generation_config.json")]
    assert len(set(changed)) == 4 and changed[0] == describe("captions", f"transformers:{models['llava']}").sha256


def test_weights_that_do_not_fit_their_config_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(models["llava"], tmp_path / "llava")
    config = json.loads((tmp_path / "llava" / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (tmp_path / "llava" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CurationError, match=r"does not fit its config.json: 9 weights differ"):
        TransformersCaptioner(str(tmp_path / "llava"))


def test_pickled_weights_and_code_of_a_repository_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(models["llava"], tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    assert "has no *.safetensors" in (describe("captions", f"transformers:{tmp_path / 'pickled'}").problem or "")
    shutil.copytree(models["llava"], tmp_path / "code")
    config = json.loads((tmp_path / "code" / "config.json").read_text()) | {"model_type": "odd"}
    config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModelForImageTextToText"), "odd.Odd")
    (tmp_path / "code" / "config.json").write_text(json.dumps(config))
    (tmp_path / "code" / "odd.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Odd: pass\n")
    with pytest.raises(CurationError, match=r"cannot be loaded .*`model: embedded`, which needs no hub"):
        TransformersCaptioner(str(tmp_path / "code"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("transformers", "names no model"),
        ("transformers:/no/such", r"has no config.json and no *.safetensors"),
        ("transformers:not a hub id", "neither a path here nor a hub id"),
    ],
)
def test_problems_are_said_before_anything_is_loaded(spec: str, problem: str) -> None:
    assert problem in (describe("captions", spec).problem or "")
    with pytest.raises(CurationError, match="cannot be had"):
        open_model("captions", spec)


def test_a_model_in_the_hubs_cache_needs_no_hub(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub cache as huggingface_hub lays it out, and a hub that is out of reach."""
    repository, commit = tmp_path / "models--someone--tiny", "c" * 40
    shutil.copytree(models["llava"], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    made = Caption(CaptionParams(model="transformers:someone/tiny", prompt="the cat", max_tokens=8))
    made.load()
    found = made.run({"pixels": PICTURES})
    assert found["generated_caption"] == captions(models["llava"], *PICTURES)
    assert found["generated_caption_source"] == ["transformers:someone/tiny"] * 3


def planned(folder: Path, score: list[object], models: str = "embedded") -> Plan:
    manifest = folder / "m.json"
    manifest.write_text(json.dumps({"name": "p", "source": {"folder": "."}, "score": score, "models": models}))
    return make_plan(load(str(manifest)))


def test_what_the_stage_reads_and_needs_is_the_models(models: dict[str, Path], tmp_path: Path) -> None:
    spec = f"transformers:{models['llava']}"
    caption = planned(tmp_path, [{"caption": {"model": spec}}]).named("caption")
    assert caption and caption.reads == ("pixels",) and caption.needs_pixels and caption.resources.memory_mb > 5000
    embedded = planned(tmp_path, ["tags", "overlay", "caption"]).named("caption")
    assert embedded and embedded.reads[0] == "tags" and not embedded.needs_pixels
    with pytest.raises(UsageError, match="reads the column 'tags'"):
        planned(tmp_path, ["caption"])


def test_a_caption_is_stale_when_its_model_or_prompt_changed_and_not_with_a_timeout(
    models: dict[str, Path], tmp_path: Path
) -> None:
    def fingerprint(name: str = "llava", **params: object) -> str:
        return planned(tmp_path, [{"caption": {"model": f"transformers:{models[name]}", **params}}]).score_fingerprint

    assert fingerprint() == fingerprint(timeout_s=9, retries=1, concurrency=2)
    others = [fingerprint("blip"), fingerprint(prompt="Say it."), fingerprint(frames=2), fingerprint(max_tokens=9)]
    assert len({fingerprint(), *others}) == 5


def test_a_hub_out_of_reach_is_said_with_the_embedded_choice(tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads its environment when it is imported."""
    (tmp_path / "m.json").write_text(
        json.dumps({"name": "p", "source": {"folder": "."}, "score": ["caption"], "models": "production"})
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "curation.cli", "plan", str(tmp_path / "m.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    for words in (
        "m.json:1",
        "production",
        "Qwen/Qwen3-VL-4B-Instruct",
        "the hub cannot be reached",
        "`model: embedded`",
    ):
        assert words in done.stderr
