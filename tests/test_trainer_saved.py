"""A checkpoint that was cut or edited is refused with its file and key, before a model is built."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.training import settings, shards, trained
from safetensors.torch import save

from curation.errors import CurationError
from curation.stores.storage import Store
from curation.trainer import checkpoint
from curation.trainer.sample import Painter
from curation.trainer.train import train


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    trained(shards(folder / "shards"), folder / "out", steps=1)
    return folder / "out" / "checkpoints" / "step-00000001"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": -1}, r"state\.json: step: "),
        ({"step": "1"}, r"state\.json: step: "),
        ({"vae": None}, r"state\.json: vae: "),
        ({"buckets": {}}, r"state\.json: buckets: "),
        ({"since_log": [0.0]}, r"state\.json: since_log: "),
        ({"since_log": [float("nan"), 1]}, r"state\.json: since_log\[0\]: "),
        ({"losses": {"mean": [], "square": [], "count": []}}, r"state\.json: losses: mean, square and count have 20"),
        ({"null_text": {"shape": [1, 8], "fp16": ""}}, r"state\.json: null_text: fp16 holds 0 bytes"),
        ({"files": None}, r"state\.json: files: "),
        ({"config": []}, r"state\.json: config: "),
    ],
)
def test_a_state_that_no_training_writes_is_named(
    out: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    state = json.loads((out / "state.json").read_text()) | change
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(CurationError, match=words):
        checkpoint.read(Store(str(tmp_path)))


@pytest.mark.parametrize("std", [0, -1, float("nan"), float("inf")])
def test_latents_cannot_be_scaled_by_nothing(out: Path, tmp_path: Path, std: float) -> None:
    state = json.loads((out / "state.json").read_text())
    state["vae"]["latents_std"][0] = std
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(CurationError, match=r"state\.json: vae: latents_mean or latents_std are not finite"):
        checkpoint.read(Store(str(tmp_path)))


def test_a_state_nested_deep_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("[" * 100_000)
    with pytest.raises(CurationError, match=r"state\.json is damaged \(.*nested too deeply"):
        checkpoint.read(Store(str(tmp_path)))


def test_settings_of_another_version_are_a_sentence(out: Path) -> None:
    saved = checkpoint.read(Store(str(out)))
    with pytest.raises(CurationError, match=r"settings that this version does not know \(config\.model: "):
        Painter(saved.state | {"config": {"model": "DiT-XXL"}}, {})
    with pytest.raises(CurationError, match="weights of another model"):  # a large one is not built for that
        Painter(saved.state | {"config": {"model": "DiT-XL/2"}}, saved.tensors("ema"))


def test_a_part_without_a_tensor_is_a_sentence(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    tensors = trained(root, out, steps=1)["optimizer"]
    folder = out / "checkpoints" / "step-00000001"
    data = save(dict(list(tensors.items())[1:]))
    (folder / "optimizer.safetensors").write_bytes(data)
    state = json.loads((folder / "state.json").read_text())
    state["files"]["optimizer.safetensors"] = hashlib.sha256(data).hexdigest()
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(CurationError, match="is missing in one of its files or has another shape"):
        train(str(root), str(out), settings(steps=2))
