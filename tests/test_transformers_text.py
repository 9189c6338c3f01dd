"""Text encoders: the library's own states, whatever the neighbours, from the plan to the index."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pretended import pretended_server
from helpers.text_encoders import CAPTIONS, KINDS, save

from curation.errors import CurationError, UsageError
from curation.inference.server import Server
from curation.install import command
from curation.models import transformers_text_network
from curation.models.captions import bounded
from curation.models.registry import describe, open_model
from curation.models.text_spec import parsed
from curation.models.transformers_text import TransformersText
from curation.models.transformers_text_network import CALL, TextNetwork

ALMOST = 1e-4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("text")
    return {kind: save(kind, folder / kind) for kind in KINDS}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Of a pretended GPU, with batches of four."""
    with pretended_server(monkeypatch, transformers_text_network) as made:
        yield made


def by_the_library(folder: Path, kind: str, prompts: list[str], longest: int, **asked: Any) -> Any:
    """The output of the class that a user would load, for all prompts in one padded batch, and its mask."""
    import transformers

    name = {"clip": "CLIPTextModel", "clip_projected": "CLIPTextModelWithProjection", "t5": "T5EncoderModel"}
    name |= {"umt5": "UMT5EncoderModel"}
    model = getattr(transformers, name.get(kind, "AutoModel")).from_pretrained(folder).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder, padding_side="right")
    inputs = words(
        [bounded(prompt) for prompt in prompts],
        padding="max_length",
        truncation=True,
        max_length=longest,
        return_tensors="pt",
    )
    with torch.no_grad():
        output = model(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, output_hidden_states=True, **asked
        )
    return output, inputs.attention_mask.bool()


@pytest.mark.parametrize("layer", [None, -2, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_the_library(models: dict[str, Path], kind: str, layer: int | None) -> None:
    asked = "max_tokens=40" + (f"&layer={layer}" if layer is not None else "")
    encoder = TransformersText(f"{models[kind]}?{asked}")
    captions = [caption for caption in CAPTIONS if caption]
    output, mask = by_the_library(models[kind], kind, captions, 40)
    theirs = output.last_hidden_state if layer is None else output.hidden_states[layer]
    ours = encoder.states(captions)
    assert encoder.dimensions == 32 and [len(states) for (states,) in ours] == mask.sum(1).tolist()
    assert len(ours[-1][0]) == 40  # the long caption is cut
    for (states,), row, kept in zip(ours, theirs, mask, strict=True):
        assert np.abs(states - row[kept].numpy()).max() <= ALMOST
    stored = encoder.tokens(captions)
    assert all(
        a.dtype == np.float16 and np.array_equal(a, b.astype(np.float16)) for a, (b,) in zip(stored, ours, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_on_a_gpu_gives_what_one_at_a_time_gives(models: dict[str, Path], kind: str, server: Server) -> None:
    alone = TransformersText(f"{models[kind]}?max_tokens=70").states(CAPTIONS)
    together = TransformersText(f"{models[kind]}?max_tokens=70", "cuda").states(CAPTIONS)
    for (one,), (other,) in zip(alone, together, strict=True):
        assert one.shape == other.shape and np.abs(one - other).max() <= ALMOST
    (network,) = server.report()["networks"].values()
    assert network["rows"] == len(CAPTIONS) and network["batches"] < len(CAPTIONS)


@pytest.mark.parametrize("kind", ["clip", "t5", "gemma3_text", "qwen3"])
def test_values_have_the_same_bits_in_any_place_among_any_neighbours(models: dict[str, Path], kind: str) -> None:
    front = TransformersText(f"{models[kind]}?max_tokens=64")
    front.batched = True
    rows = [front._row(caption) for caption in CAPTIONS[:4]]
    network = TextNetwork(f"{models[kind]}?max_tokens=64", "cpu", "fp32")

    def answers(order: list[int | None]) -> list[bytes]:
        batch = [
            np.stack([np.zeros_like(rows[0][part]) if i is None else rows[i][part] for i in order]) for part in (0, 1)
        ]
        lengths = [0 if i is None else int(rows[i][1].sum()) for i in order]
        return [row[:n].tobytes() for row, n in zip(network.compute(CALL, batch)[0], lengths, strict=True)]

    first = answers([0, 1, 2, 3])
    assert answers([3, 2, 1, 0]) == first[::-1]
    assert answers([2, None, None, None])[0] == answers([0, 0, 2, 0])[2] == first[2]


@pytest.mark.parametrize("kind", ["clip", "clip_projected"])
def test_the_pooled_output_is_a_part_of_its_own_or_all_there_is(models: dict[str, Path], kind: str) -> None:
    output, _ = by_the_library(models[kind], kind, CAPTIONS, 77)
    theirs = (output.pooler_output if kind == "clip" else output.text_embeds).numpy()
    both = TransformersText(f"{models[kind]}?layer=-2&pooled=true")
    made = both.encode(CAPTIONS)
    assert [part.shape for part in made.more["pooled"]] == [(1, theirs.shape[1])] * len(CAPTIONS)
    assert both.max_tokens == 77 and [len(states) for states in made.main][1::3] == [2, 77]
    assert np.abs(np.concatenate([part for _, part in both.states(CAPTIONS)]) - theirs).max() <= ALMOST
    known = both.parts()["pooled"]
    alone = open_model("text", known["spec"])
    assert alone.dimensions == known["dimensions"] == theirs.shape[1] and alone.info.sha256 == known["sha256"]
    assert [a.tolist() for a in alone.tokens(CAPTIONS)] == [b.tolist() for b in made.more["pooled"]]


@pytest.mark.parametrize("kind", ["t5", "clip"])
def test_padding_is_attended_to_and_stored_where_it_is_asked_for(models: dict[str, Path], kind: str) -> None:
    padded = TransformersText(f"{models[kind]}?max_tokens=30&padded=true").states(CAPTIONS)
    plain = TransformersText(f"{models[kind]}?max_tokens=30").states(CAPTIONS)
    assert all(states.shape == (30, 32) for (states,) in padded)
    moved = max(np.abs(a[: len(b)] - b).max() for (a,), (b,) in zip(padded, plain, strict=True))
    assert (moved > 0.01) == (kind == "t5")  # CLIP's tokens see only what stands before them


def test_a_template_is_read_and_its_first_tokens_left_out(models: dict[str, Path]) -> None:
    encoder = TransformersText(f"{models['qwen2']}?template=describe%3A+{{caption}}+now&skip=3")
    (states,) = encoder.states(["a red cat"])[0]
    output, mask = by_the_library(models["qwen2"], "qwen2", ["describe: a red cat now"], 40)
    assert np.abs(states - output.last_hidden_state[0, 3 : int(mask.sum())].numpy()).max() <= ALMOST
    with pytest.raises(CurationError, match="`skip: 30` leaves nothing of a prompt of 2 tokens"):
        TransformersText(f"{models['clip']}?skip=30").tokens([""])


def test_the_empty_caption_has_states_in_every_family(models: dict[str, Path]) -> None:
    lengths = {kind: len(TransformersText(str(models[kind])).tokens([""])[0]) for kind in KINDS}
    assert {kind for kind, length in lengths.items() if length == 2} == {"clip", "clip_projected"}
    assert set(lengths.values()) == {1, 2}


def test_bf16_moves_states_by_its_digits(models: dict[str, Path]) -> None:
    full, half = (TransformersText(f"{models['t5']}{query}").states(CAPTIONS) for query in ("", "?precision=bf16"))
    gaps = [np.linalg.norm(a - b) / np.linalg.norm(a) for (a,), (b,) in zip(full, half, strict=True)]
    assert 0 < max(gaps) < 0.06 and half[0][0].dtype == np.float16


def test_other_settings_and_other_files_are_other_encoders(models: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(models["clip"], tmp_path / "clip")
    queries = ["", "?layer=-2", "?layer=-2&max_tokens=20", "?template=a+{caption}", "?pooled=true", "?padded=true"]
    infos = [describe("text", f"transformers:{folder}{query}") for query in [*queries, "?precision=bf16", "?skip=1"]]
    assert len({info.id for info in infos}) == len({info.sha256 for info in infos}) == 8
    assert infos[1].id == "transformers:clip?layer=-2" and infos[1].devices == ("cpu", "cuda") and not infos[1].problem
    described = json.loads((folder / "tokenizer_config.json").read_text()) | {"model_max_length": 50}
    moved = shutil.copytree(folder, tmp_path / "other" / "clip")
    (moved / "tokenizer_config.json").write_text(json.dumps(described))
    assert describe("text", f"transformers:{moved}").sha256 != infos[0].sha256
    assert TransformersText(str(moved)).max_tokens == 50


def test_a_pipelines_tokenizer_lies_beside_its_encoder(models: dict[str, Path], tmp_path: Path) -> None:
    for number in ("", "_2"):
        (tmp_path / f"tokenizer{number}").mkdir()
        shutil.copytree(models["t5"], tmp_path / f"text_encoder{number}")
        for file in (tmp_path / f"text_encoder{number}").glob("*token*"):
            file.rename(tmp_path / f"tokenizer{number}" / file.name)
    inside, beside = TransformersText(str(models["t5"])), TransformersText(str(tmp_path / "text_encoder_2"))
    assert [a.tolist() for a in inside.tokens(CAPTIONS)] == [b.tolist() for b in beside.tokens(CAPTIONS)]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("", "it names no model"),
        ("/nowhere/clip", "there is no folder /nowhere/clip"),
        ("{empty}", "has no config.json and no model.safetensors"),
        ("{untold}", "it has no tokenizer"),
        ("{seeing}", "says model_type 'vit'"),
        ("{t5}?pooled=true", "`pooled` is an output of CLIP's text models, which t5 is not"),
        ("{clip}?layer=-9", "`layer: -9` is none of its 3 layers; say -4 to 3"),
        ("{clip}?max_tokens=100", "it takes 77 tokens at most"),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_runs(
    models: dict[str, Path], tmp_path: Path, argument: str, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("untold", "seeing"):
        shutil.copytree(models["clip"], tmp_path / name)
    for file in (tmp_path / "untold").glob("*token*"):
        file.unlink()
    (tmp_path / "seeing" / "config.json").write_text('{"model_type": "vit"}')
    places = {name: tmp_path / name for name in ("empty", "untold", "seeing")} | models
    argument = argument.format_map(places)
    assert sentence in str(describe("text", f"transformers:{argument}").problem)
    with pytest.raises(CurationError, match="cannot be had"):
        TransformersText(argument)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("layr=1", "layr: Extra inputs"),
        ("layer=x", "layer: "),
        ("template=hi", "once where the caption"),
        ("x", "behind"),
    ],
)
def test_wrong_settings_are_a_sentence(query: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parsed(f"/models/clip?{query}")


def test_values_that_fp16_does_not_hold_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(models["qwen2"], tmp_path / "qwen2")
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 1e6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CurationError, match="states of layer 0 are NaN, infinite or above 65,504"):
        TransformersText(f"{folder}?layer=0").tokens(["a cat"])
    assert np.isfinite(TransformersText(str(folder)).tokens(["a cat"])[0]).all()  # behind the final norm


def test_without_transformers_the_command_that_brings_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    problem = TransformersText.describe("google/t5-v1_1-xxl?layer=-2").problem
    assert problem == f"the package transformers is not installed; to install it: {command('production')}"


def test_a_hub_id_is_read_from_the_cache(models: dict[str, Path], tmp_path: Path) -> None:
    """A pipeline's subfolder with the tokenizer beside it, as the hub's client lays it out, without a network."""
    commit, cache = "0" * 40, tmp_path / "hub" / "models--owner--pipe"
    snapshot = cache / "snapshots" / commit
    shutil.copytree(models["t5"], snapshot / "text_encoder_2")
    (snapshot / "tokenizer_2").mkdir()
    for file in (snapshot / "text_encoder_2").glob("*token*"):
        file.rename(snapshot / "tokenizer_2" / file.name)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    script = (
        "from curation.models.registry import describe, open_model\n"
        "spec = 'transformers:owner/pipe/text_encoder_2?layer=1'\n"
        "info = describe('text', spec); assert not info.problem and info.sha256, info.problem\n"
        "print(info.id, open_model('text', spec).tokens(['a red cat'])[0].tolist())"
    )
    told = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=told, capture_output=True, text=True, check=False)
    states = TransformersText(f"{models['t5']}?layer=1").tokens(["a red cat"])[0].tolist()
    assert done.stdout.strip() == f"transformers:owner/pipe/text_encoder_2?layer=1 {states}", done.stderr[-2000:]


def test_weights_that_do_not_fit_are_not_left_at_random(models: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(models["clip"], tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(CurationError, match=r"cannot be loaded: 16 weights do not fit its config.json, such as"):
        TransformersText(str(folder))
