"""Text encoders from the manifest to the shards, the reader and the trainer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.text_encoders import save
from PIL import Image
from skimage import data

from curation.devices import PRETEND
from curation.errors import CurationError, UsageError
from curation.models import open_model
from curation.phases import run
from curation.shards.dataset import LatentDataset
from curation.shards.reader import Shards
from curation.trainer.config import TrainConfig
from curation.trainer.data import Batches

MANIFEST = """\
name: texts
source: {{table: captions.jsonl, media: file, caption: captions}}
score: [resolution]
encode:
  size: 64
  reconstructions: 0
  shards: {{format: {format}, samples: 4}}
  text: {text}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: save(kind, folder / kind) for kind in ("clip_projected", "t5")}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six pictures with none, one and two captions."""
    rows = []
    for i in range(6):
        Image.fromarray(data.astronaut()[20 * i : 20 * i + 96, : 96 + i]).save(tmp_path / f"{i}.png")
        rows.append({"file": f"{i}.png", "captions": [f"a red cat, number {i}", "two boats"][: i % 3]})
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def encoded(corpus: Path, text: Any, name: str = "run", format: str = "webdataset") -> Path:
    manifest = corpus / f"{name}.yaml"
    manifest.write_text(MANIFEST.format(format=format, text=json.dumps(text)))
    run(str(manifest), str(corpus / name), (), engine="inline")
    return corpus / name / "shards"


def index(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "index.json").read_text())
    return loaded


def several(models: dict[str, Path]) -> list[Any]:
    clip = {"model": f"transformers:{models['clip_projected']}", "name": "clip", "layer": -2, "pooled": True}
    return [clip, {"model": f"transformers:{models['t5']}", "max_tokens": 9}]


def test_shards_hold_the_states_of_one_encoder_and_tell_how_they_were_made(
    corpus: Path, models: dict[str, Path]
) -> None:
    text = {"model": f"transformers:{models['t5']}", "layer": -2, "max_tokens": 12, "template": "see {caption}"}
    shards = Shards(str(encoded(corpus, text)))
    spec = f"transformers:{models['t5']}?layer=-2&max_tokens=12&template=see+%7Bcaption%7D"
    encoder = open_model("text", spec)
    assert len(shards) == 6 and shards.text_parts == []
    for sample in shards:
        assert [t.tolist() for t in sample.texts] == [t.tolist() for t in encoder.tokens(sample.meta["captions"])]
        assert sample.parts == {}
    assert shards.null_text().tolist() == encoder.tokens([""])[0].tolist()
    known = {"id": "transformers:t5?layer=-2&max_tokens=12&template=see+%7Bcaption%7D", "spec": spec, "layer": -2}
    known |= {"max_tokens": 12, "template": "see {caption}", "dimensions": 32, "precision": "fp32", "skip": 0}
    assert known.items() <= shards.index["text"].items() and "text_parts" not in shards.index


def test_other_settings_encode_the_captions_again_and_no_picture(corpus: Path, models: dict[str, Path]) -> None:
    before = index(encoded(corpus, {"model": f"transformers:{models['t5']}"}))
    after = index(encoded(corpus, {"model": f"transformers:{models['t5']}", "layer": 1}))
    assert before["config_hash"] != after["config_hash"] and before["text"]["sha256"] != after["text"]["sha256"]
    assert [entry["sha256"] for entry in before["shards"]] != [entry["sha256"] for entry in after["shards"]]
    assert before["statistics"] == after["statistics"] and before["vae"] == after["vae"]


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_several_encoders_are_parts_by_name(corpus: Path, models: dict[str, Path], format: str) -> None:
    folder = encoded(corpus, several(models), format=format)
    shards = Shards(str(folder))
    model = open_model("text", f"transformers:{models['clip_projected']}?layer=-2&pooled=true")
    t5 = open_model("text", f"transformers:{models['t5']}?max_tokens=9")
    assert shards.text_parts == ["clip_pooled", "t5"] and shards.index["text"]["name"] == "clip"
    assert shards.index["text_parts"]["t5"]["max_tokens"] == 9
    for sample in shards:
        captions = sample.meta["captions"]
        made = model.encode(captions)
        assert [t.tolist() for t in sample.texts] == [t.tolist() for t in made.main]
        assert [t.tolist() for t in sample.parts["clip_pooled"]] == [t.tolist() for t in made.more["pooled"]]
        assert [t.tolist() for t in sample.parts["t5"]] == [t.tolist() for t in t5.tokens(captions)]
    assert {len(sample.texts) for sample in shards} == {0, 1, 2}
    chosen = Shards(str(folder), text="t5")
    assert chosen.null_text().tolist() == t5.tokens([""])[0].tolist()
    assert all(sample.texts is sample.parts["t5"] for sample in chosen)
    assert Shards(str(folder), text="clip").null_text().tolist() == model.tokens([""])[0].tolist()
    assert LatentDataset(str(folder), text="clip_pooled")[2]["text"].shape == (1, 24)
    with pytest.raises(CurationError, match="no text states named 't6'; there are: clip, clip_pooled, t5"):
        Shards(str(folder), text="t6")


def test_the_states_survive_a_new_deal(corpus: Path, models: dict[str, Path]) -> None:
    """Another size of shards deals the samples anew: what is there from earlier is not encoded again."""
    before = {sample.id: sample for sample in Shards(str(encoded(corpus, several(models))))}
    manifest = corpus / "run.yaml"
    run(str(manifest), str(corpus / "run"), ("encode.shards.samples=3",), engine="inline")
    for sample in Shards(str(corpus / "run" / "shards")):
        parts = before[sample.id].parts
        assert {name: [t.tolist() for t in made] for name, made in sample.parts.items()} == {
            name: [t.tolist() for t in made] for name, made in parts.items()
        }


def test_one_encoder_alone_is_written_as_ever(corpus: Path) -> None:
    files = []
    for name, text in (("a", "embedded"), ("b", ["embedded"]), ("c", {"model": "embedded"})):
        folder = encoded(corpus, text, name)
        files.append({str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert files[0] == files[1] == files[2]
    assert set(json.loads(files[0]["index.json"])["text"]) == {"id", "spec", "sha256", "dimensions", "max_tokens"}


def test_on_a_gpu_the_service_gives_the_same_states(
    corpus: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = {s.id: s for s in Shards(str(encoded(corpus, several(models), "cpu")))}
    monkeypatch.setenv(PRETEND, "1")
    folder = encoded(corpus, several(models), "gpu")
    report = json.loads((folder.parent / "run.json").read_text())
    assert "Text" in json.dumps(report)
    for sample in Shards(str(folder)):
        for ours, theirs in zip(sample.texts, cpu[sample.id].texts, strict=True):
            assert ours.shape == theirs.shape and np.abs(ours.astype(float) - theirs).max() < 5e-3


def test_the_trainer_reads_a_part_by_its_name(corpus: Path, models: dict[str, Path], tmp_path: Path) -> None:
    folder = encoded(corpus, several(models))
    config = TrainConfig(model="DiT-tiny/2", text="clip_pooled", steps=2, batch=2, device="cpu", checkpoint_every=2)
    batch = Batches(Shards(str(folder), text=config.text), config)[0][0]
    assert batch["text"].shape[1:] == (1, 24)


def test_what_cannot_be_had_is_said_by_the_plan(corpus: Path, models: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"run.yaml:8: encode.text: .* it has no tokenizer|no folder"):
        encoded(corpus, {"model": "transformers:/nowhere/t5"})
    with pytest.raises(
        UsageError, match=r"run.yaml:8: encode.text.encoder.layr: no such key 'layr'; did you mean 'layer'"
    ):
        encoded(corpus, {"model": f"transformers:{models['t5']}", "layr": 1})
