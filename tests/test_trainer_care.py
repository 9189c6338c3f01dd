"""What a training takes care of: divergence, leftovers, decay, epochs, order of frames, shards without captions."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shards import folder, samples
from helpers.training import BUCKET, NULL, settings, shards, trained

from curation.errors import CurationError
from curation.stores.lock import RunLock
from curation.stores.storage import Store
from curation.trainer import checkpoint, metrics
from curation.trainer.config import TrainConfig
from curation.trainer.log import TrainLog
from curation.trainer.loop import Trainer, decay_groups
from curation.trainer.model import DiT, DiTConfig
from curation.trainer.schedule import Bucket, Schedule
from curation.trainer.train import train
from curation.trainer.unet import UNet, UNetConfig


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, write, went_on = shards(tmp_path / "shards"), checkpoint.write, threading.Event()
    once = trained(root, tmp_path / "once", steps=4, checkpoint_every=4)
    update, waited = Trainer.update, []

    def updated(trainer: Trainer, micro_batches: Any) -> Any:
        norm = update(trainer, micro_batches)
        if trainer.step > 4:
            went_on.set()
        return norm

    def slow(out: Store, state: Any, parts: Any, keep: int) -> Any:
        waited.append(went_on.wait(60))
        return write(out, state, parts, keep)

    monkeypatch.setattr(Trainer, "update", updated)
    monkeypatch.setattr(checkpoint, "write", slow)
    train(str(root), str(tmp_path / "out"), settings(steps=8, checkpoint_every=4))
    assert waited == [True, True]
    saved = checkpoint.read(Store(str(tmp_path / "out" / "checkpoints" / checkpoint.name_of(4))))
    assert saved.step == 4
    for part, tensors in once.items():
        assert all(torch.equal(tensor, saved.tensors(part)[name]) for name, tensor in tensors.items())
    assert checkpoint.steps(Store(str(tmp_path / "out"))) == [4, 8]


@pytest.mark.parametrize("every", [2, 6])
def test_a_checkpoint_that_cannot_be_written_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, steps=1, checkpoint_every=1)

    def full(*_: Any) -> Any:
        raise CurationError("no space left on the device; free some, and run again")

    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(CurationError, match="no space left on the device"):
        train(str(root), str(out), settings(steps=6, checkpoint_every=every))
    assert checkpoint.steps(Store(str(out))) == [1]


def test_a_training_that_diverges_stops_and_keeps_its_sound_checkpoints(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, steps=6, checkpoint_every=2, keep=3)
    before = checkpoint.steps(Store(str(out)))
    with pytest.raises(CurationError, match=r"not finite at step .*: the training has diverged"):
        train(str(root), str(out), settings(steps=60, checkpoint_every=2, keep=3, lr=1e30, clip="null", warmup=0))
    kept = checkpoint.steps(Store(str(out)))
    assert set(before[-2:]) <= set(kept)
    for step in kept:
        saved = checkpoint.read(Store(str(out)).child(f"checkpoints/{checkpoint.name_of(step)}"))
        assert all(bool(weight.isfinite().all()) for weight in saved.tensors("model").values())
    for line in (out / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_metric_that_is_no_number_is_null(tmp_path: Path) -> None:
    from rich.console import Console

    log = TrainLog(Store(str(tmp_path)), 0, 9, Console(quiet=True))
    values = {
        "seconds_per_step": 1.0,
        "samples_per_s": 1.0,
        "mfu": 0.0,
        "loss": float("nan"),
        "loss_by_t": [float("inf"), 1.0],
    }
    log.add(1, values)
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss_by_t"] == [None, 1.0]


def test_leftovers_of_a_killed_training_are_removed(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, steps=2, checkpoint_every=2)
    half = out / "checkpoints" / "step-00000001"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    (out / "checkpoints" / "step-00000002" / ".model.tmp-123").write_bytes(b"left")
    trained(root, out, steps=12, checkpoint_every=2, keep=2)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-00000010", "step-00000012"]


def test_a_checkpoint_without_a_part_is_a_sentence(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, steps=2)
    (out / "checkpoints" / "step-00000002" / "optimizer.safetensors").unlink()
    with pytest.raises(CurationError, match=r"optimizer\.safetensors is missing"):
        train(str(root), str(out), settings(steps=4))


def test_two_trainings_in_one_directory_are_refused(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    with RunLock(Store(str(out))), pytest.raises(CurationError, match="run"):
        train(str(root), str(out), settings(steps=2))


def test_equal_settings_written_otherwise_continue(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, steps=2, model="DiT-tiny/2")
    trained(root, out, steps=4, model="DiT-tiny", prediction="v", schedule="cosine")
    assert checkpoint.steps(Store(str(out))) == [2, 4]
    with pytest.raises(CurationError, match="prediction = v, this one has x"):
        train(str(root), str(out), settings(steps=6, prediction="x"))
    assert TrainConfig.model_validate({"flip": False}) == TrainConfig()


def test_shards_without_captions_get_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.trainer import grids

    shown: list[list[str]] = []

    def paint(self: Any, prompts: list[str], seed: int, settings: Any) -> Any:
        shown.append(list(prompts))
        return np.zeros((len(prompts), 1, 32, 32, 3), np.uint8)

    monkeypatch.setattr(grids.Painter, "paint", paint)
    members = samples(16, 0, BUCKET)
    for member in members:
        member.texts.clear()
        member.meta |= {"captions": [], "caption_sources": []}
    root = folder(tmp_path / "shards", "webdataset", [(BUCKET, members)], null_text=NULL)
    trained(root, tmp_path / "out", steps=2, sample_every=2)
    assert shown == [[""] * 4] and (tmp_path / "out" / "samples" / "step-00000002.png").exists()


def test_only_weights_of_layers_decay() -> None:
    model = DiT(DiTConfig(4, 8, positions="learned", width=32, depth=1, heads=2))
    parameters = dict(model.named_parameters())
    decaying, others = decay_groups(parameters, 0.1)
    names = {id(p): name for name, p in parameters.items()}
    assert decaying["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert all(p.ndim == 2 for p in decaying["params"])
    left = {names[id(p)] for p in others["params"]}
    assert "positions" in left and {name for name in parameters if name.endswith("bias")} <= left
    assert {name for name in parameters if "norm" in name} <= left
    assert len(decaying["params"]) + len(left) == len(parameters)


def test_an_epoch_is_one_turn_of_every_sample_also_when_images_have_a_share() -> None:
    images = Bucket("1x32x32", (4, 1, 4, 4), ((0, 40),), 8)
    clips = Bucket("17x32x32", (4, 5, 4, 4), ((40, 24),), 8)
    schedule = Schedule([images, clips], 0, images=0.5)
    drawn = np.zeros(64)
    for step in range(30):
        drawn[schedule[step].numbers] += 1
    assert schedule.epochs(30) == pytest.approx(drawn.mean())
    assert Schedule([images, clips], 0).epochs(16) == 2.0
    assert Schedule([images, clips], 0, images=1.0).epochs(10) == 2.0


def test_the_unet_knows_the_order_of_frames_and_begins_as_pictures_side_by_side() -> None:
    torch.manual_seed(0)
    model = UNet(UNetConfig(3, 8, width=16)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    x, t = torch.randn(1, 3, 4, 8, 8), torch.tensor([0.5])
    text, mask = torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool)
    with torch.inference_mode():
        clip = model(x, t, text, mask)
        alone = torch.cat([model(x[:, :, i : i + 1], t, text, mask) for i in range(4)], dim=2)
        assert torch.allclose(clip, alone, atol=1e-5)
        for attention in (model.to_all, model.to_text):
            torch.nn.init.normal_(attention.out.weight, std=0.3)
        turned = model(x.flip(2), t, text, mask).flip(2)
        assert not torch.allclose(model(x, t, text, mask), turned, atol=1e-3)


def test_the_residual_stream_stays_in_fp32_under_autocast() -> None:
    """Many small updates to a large value: bf16 would round each of them away."""
    torch.manual_seed(0)
    model = DiT(DiTConfig(4, 8, width=64, depth=24, heads=4)).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    given = torch.randn(2, 4, 1, 8, 8), torch.rand(2), torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    kinds: list[torch.dtype] = []
    hooks = [block.register_forward_hook(lambda _m, _i, out: kinds.append(out.dtype)) for block in model.blocks]
    with torch.inference_mode():
        exact = model(*given)
        kinds.clear()
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(*given).float()
    for hook in hooks:
        hook.remove()
    assert set(kinds) == {torch.float32} and len(kinds) == 24
    assert float((rough - exact).norm() / exact.norm()) < 0.01


def test_a_kernel_distance_over_one_subset_has_no_deviation() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.standard_normal((50, 4)), draw.standard_normal((50, 4))
    assert metrics.kernel_distance(a, b, subsets=3)[1] is None
    assert (metrics.kernel_distance(a, b, subsets=3, size=20)[1] or 0) > 0
