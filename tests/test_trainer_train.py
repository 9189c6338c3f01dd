"""Training: resume to the last bit, accumulation, several workers, SIGTERM, and every refusal."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shards import folder, samples
from helpers.training import BUCKET, NULL, settings, shards, trained

from curation.engine.ray_engine import RayEngine
from curation.engine.ray_training import train_workers
from curation.errors import CurationError, UsageError
from curation.shards.reader import Shards
from curation.stores.storage import Store
from curation.trainer import checkpoint
from curation.trainer.config import TrainConfig
from curation.trainer.data import Batches
from curation.trainer.flops import flops_per_sample
from curation.trainer.train import job_of, train, work


def curve(out: Path) -> list[tuple[int, float, float, list[float]]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["gradient_norm"], line["loss_by_t"]) for line in lines]


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(a[p].keys() == b[p].keys() and all(torch.equal(a[p][n], b[p][n]) for n in a[p]) for p in a)


def close(a: dict[str, Any], b: dict[str, Any], atol: float = 2e-5) -> bool:
    return all(torch.allclose(a[p][n], b[p][n], atol=atol) for p in ("model", "ema") for n in a[p])


@pytest.mark.parametrize("options", [{}, {"timesteps": "loss-aware", "objective": "ddpm", "log_every": 5}])
def test_stopped_and_resumed_is_the_same_to_the_last_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    root = shards(tmp_path / "shards")
    once = trained(root, tmp_path / "once", **options)
    trained(root, tmp_path / "twice", checkpoint_every=7, **options | {"steps": 7})
    twice = trained(root, tmp_path / "twice", **options)
    assert equal(once, twice)
    ends = [line for line in curve(tmp_path / "twice") if line[0] != 7 or options.get("log_every") != 5]
    assert [line[0] for line in ends] == [line[0] for line in curve(tmp_path / "once")]
    if not options:
        assert ends == curve(tmp_path / "once")


def test_what_was_written_after_the_checkpoint_is_taken_back(tmp_path: Path) -> None:
    root = shards(tmp_path / "shards")
    trained(root, tmp_path / "once")
    trained(root, tmp_path / "out", steps=6)
    with (tmp_path / "out" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "loss": 99, "gradient_norm": 0, "loss_by_t": []}\n{"step": 8, "lo')
    trained(root, tmp_path / "out")
    assert curve(tmp_path / "out") == curve(tmp_path / "once")


def test_killed_and_resumed_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "killed"
    once = trained(root, tmp_path / "once", steps=80, checkpoint_every=5)
    command = [sys.executable, "-m", "curation", "train", str(root), "--out", str(out)]
    for setting in settings(steps=80, checkpoint_every=5):
        command += ["--set", setting]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for_checkpoint(out, process)
    process.kill()
    process.wait()
    reached = checkpoint.steps(Store(str(out)))[-1]
    assert 0 < reached < 80
    assert equal(once, trained(root, out, steps=80, checkpoint_every=5))
    assert curve(out) == curve(tmp_path / "once")


def wait_for_checkpoint(out: Path, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1200):
        if checkpoint.steps(Store(str(out))) or process.poll() is not None:
            return
        time.sleep(0.05)


def test_sigterm_saves_and_says_so(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    command = [sys.executable, "-m", "curation", "train", str(root), "--out", str(out)]
    for setting in settings(steps=100_000, checkpoint_every=10):
        command += ["--set", setting]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for_checkpoint(out, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    reached = checkpoint.steps(Store(str(out)))[-1]
    assert process.returncode == 143
    assert (
        said.decode()
        .strip()
        .endswith(f"curate: SIGTERM at step {reached}: a checkpoint is written, run again to continue")
    )
    assert curve(out)[-1][0] == reached


def test_accumulated_gradients_are_those_of_the_large_batch(tmp_path: Path) -> None:
    root = shards(tmp_path / "shards")
    assert close(trained(root, tmp_path / "a"), trained(root, tmp_path / "b", accumulate=4))
    assert [x[1] for x in curve(tmp_path / "b")] == pytest.approx([x[1] for x in curve(tmp_path / "a")], rel=1e-4)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for all that need it: starting it is most of their time."""
    engine = RayEngine(cpus=3)
    yield
    engine.close()


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_workers_are_one(tmp_path: Path, parallel: str) -> None:
    """Resumed on two workers what one began, too: state is (seed, step)."""
    root = shards(tmp_path / "shards")
    one = trained(root, tmp_path / "one")
    trained(root, tmp_path / "two", steps=5)
    two = trained(root, tmp_path / "two", workers=2, parallel=parallel)
    assert close(one, two)
    assert [x[1] for x in curve(tmp_path / "two")] == pytest.approx([x[1] for x in curve(tmp_path / "one")], rel=1e-4)


@pytest.mark.usefixtures("ray_here")
def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    root, out, mark = shards(tmp_path / "shards"), tmp_path / "out", tmp_path / "died"
    one = trained(root, tmp_path / "one")

    def dies_once(job: dict[str, Any]) -> None:
        """The second worker is gone without a word after six steps."""
        from curation.trainer import train as module
        from curation.trainer.loop import Trainer

        update = Trainer.update

        def fatal(self: Trainer, batches: list[Any]) -> torch.Tensor:
            if self.step == 6 and self.rank == 1 and not mark.exists():
                mark.touch()
                os._exit(1)
            return update(self, batches)

        Trainer.update = fatal  # type: ignore[method-assign]
        module.work(job)

    job = job_of(str(root), str(out), settings(workers=2, checkpoint_every=4))
    train_workers(dies_once, asdict(job), 2, gpu=False)
    saved = checkpoint.latest(Store(str(out)))
    assert mark.exists() and saved and saved.step == 12
    assert close(one, {part: saved.tensors(part) for part in ("model", "ema")})
    assert [x[0] for x in curve(out)] == list(range(1, 13))


@pytest.mark.usefixtures("ray_here")
def test_a_workers_own_sentence_is_what_one_reads(tmp_path: Path) -> None:
    root = shards(tmp_path / "shards")
    tar = sorted(root.rglob("*.tar"))[0]
    tar.write_bytes(tar.read_bytes()[:-1] + b"1")
    job = job_of(str(root), str(tmp_path / "out"), settings(workers=2))
    with pytest.raises(CurationError, match=r"^/.*00000\.tar does not have the sha256 that the index says"):
        train_workers(work, asdict(job), 2, gpu=False, restarts=0)


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint_activations": "true"},
        {"precision": "bf16"},
        {"model": "UNet"},
        {"positions": "rope"},
        {"objective": "ddpm", "prediction": "v", "schedule": "cosine", "min_snr": 5},
        {"prediction": "x"},
        {"timesteps": "loss-aware"},
        {"tokens": 32, "decay": "cosine", "clip": "null"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_what_can_be_chosen_trains(tmp_path: Path, options: dict[str, Any]) -> None:
    parts = trained(shards(tmp_path / "shards"), tmp_path / "out", **options)
    losses = [x[1] for x in curve(tmp_path / "out")]
    assert len(losses) == 12 and all(np.isfinite(losses))
    assert any(not torch.equal(parts["model"][n], parts["ema"][n]) for n in parts["model"])


def test_checkpointed_activations_change_nothing(tmp_path: Path) -> None:
    root = shards(tmp_path / "shards")
    plain = trained(root, tmp_path / "a")
    assert equal(plain, trained(root, tmp_path / "b", checkpoint_activations="true"))


def test_it_learns(tmp_path: Path) -> None:
    """The same few latents over and over: the loss falls well below that of predicting nothing."""
    trained(shards(tmp_path / "shards", 8), tmp_path / "out", steps=150, lr=0.005, log_every=25, warmup=10)
    losses = [x[1] for x in curve(tmp_path / "out")]
    assert losses[-1] < 0.6 * losses[0]


def test_only_the_last_checkpoints_stay(tmp_path: Path) -> None:
    trained(shards(tmp_path / "shards"), tmp_path / "out", checkpoint_every=2, keep=2)
    assert checkpoint.steps(Store(str(tmp_path / "out"))) == [10, 12]
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 2


def test_a_line_tells_speed_mfu_and_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU, too; of a peak of 1e-3 TFLOP/s, MFU is the work per second over that."""
    trained(shards(tmp_path / "shards"), tmp_path / "out", peak_tflops=0.001)
    said = capsys.readouterr().out
    assert re.search(r"^train   1 of 12 steps   \d+ samples/s   MFU [\d.]+%   loss \d\.\d{4}   \d+ s left$", said, re.M)
    assert re.search(r"^train   12 of 12 steps   \d+ samples/s   MFU [\d.]+%   loss \d\.\d{4}$", said, re.M)
    last = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    with torch.device("meta"):
        model = TrainConfig(model="DiT-tiny/2").make_model(4, 8)
    work = flops_per_sample(model, (4, 1, 4, 4), 8)
    assert last["mfu"] == pytest.approx(last["samples_per_s"] * work / 1e9, rel=1e-3)


def test_work_of_a_sample_by_hand() -> None:
    """One layer on 4 tokens: 2 per multiply-add, three passes."""

    class Layer(torch.nn.Linear):
        def forward(self, x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return super().forward(x.flatten(2).transpose(1, 2))

    with torch.device("meta"):
        layer = Layer(3, 5)
    assert flops_per_sample(layer, (3, 1, 2, 2), 8) == 3 * 2 * 4 * 3 * 5


def test_tensorboard_shows_the_loss(tmp_path: Path) -> None:
    trained(shards(tmp_path / "shards"), tmp_path / "out")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 13))


CLIP = "5x32x32"


def test_images_first_then_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The EMA weights of an image model go on as one of video, patches of two frames and places of all frames."""
    image = trained(shards(tmp_path / "shards"), tmp_path / "image", positions="learned", steps=3)["ema"]
    root = folder(tmp_path / "clips", "webdataset", [(CLIP, samples(16, bucket=CLIP))], null_text=NULL)
    job = settings(init=tmp_path / "image", patch_frames=2, positions="learned", steps=1, lr=1e-12, weight_decay=0)
    capsys.readouterr()
    train(str(root), str(tmp_path / "video"), job)
    assert f"init    EMA weights of {tmp_path / 'image'}, step 3, trained on images" in capsys.readouterr().out
    saved = checkpoint.latest(Store(str(tmp_path / "video")))
    assert saved
    video = saved.tensors("ema")
    halves = video["patch.weight"].reshape(-1, 4, 2, 4).unbind(2)
    assert all(torch.allclose(half, image["patch.weight"].reshape(-1, 4, 4) / 2, atol=1e-6) for half in halves)
    assert torch.allclose(video["positions"], image["positions"][:, :, :1].expand_as(image["positions"]), atol=1e-6)
    assert torch.allclose(video["blocks.0.mlp.0.weight"], image["blocks.0.mlp.0.weight"], atol=1e-6)


def test_images_and_clips_together(tmp_path: Path) -> None:
    """Every fourth step is on clips, through the same weights."""
    parts = [(BUCKET, samples(24, bucket=BUCKET)), (CLIP, samples(8, 1, CLIP))]
    root = folder(tmp_path / "shards", "parquet", parts, null_text=NULL)
    job = job_of(str(root), None, settings(images=0.75, tokens=32, patch_frames=2))
    batches = Batches(Shards(job.shards), TrainConfig.model_validate(job.config))
    shapes = [tuple(batches[step][0]["latents"].shape) for step in range(12)]
    assert [shape[2] for shape in shapes] == [5, 1, 1, 1] * 3
    assert set(shapes) == {(8, 4, 1, 4, 4), (2, 4, 5, 4, 4)}
    trained(root, tmp_path / "out", images=0.75, tokens=32, patch_frames=2, steps=40, lr=0.003)
    losses = [x[1] for x in curve(tmp_path / "out")]
    assert len(losses) == 40 and all(np.isfinite(losses))


def test_latents_of_another_vae_are_told_when_weights_are_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shards(tmp_path / "shards")
    trained(root, tmp_path / "first", steps=1)
    index = json.loads((root / "index.json").read_text())
    other = shards(tmp_path / "other", vae=index["vae"] | {"sha256": "ab" * 32, "id": "another"})
    capsys.readouterr()
    trained(other, tmp_path / "second", steps=1, init=tmp_path / "first")
    assert "caution: they know latents of the VAE test, these shards are of another" in capsys.readouterr().out


# --- refusals


def test_shards_that_do_not_match_are_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    index = json.loads((root / "index.json").read_text())
    other = shards(tmp_path / "other", vae=index["vae"] | {"sha256": "ab" * 32})
    with pytest.raises(
        CurationError, match=r"trained on latents of the vae model test, these shards are of test \(abab"
    ):
        trained(other, out, steps=20)
    with pytest.raises(CurationError, match="a training with model = DiT-tiny/2, this one has DiT-tiny/1"):
        trained(root, out, model="DiT-tiny/1", steps=20)
    with pytest.raises(CurationError, match="objective = flow, this one has ddpm"):
        trained(root, out, objective="ddpm", steps=20)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_an_altered_checkpoint_is_refused(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out)
    file = out / "checkpoints" / "step-00000012" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CurationError, match=r"model\.safetensors is cut short or altered"):
        trained(root, out, steps=20)


def test_a_folder_without_its_state_is_no_checkpoint(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, checkpoint_every=6)
    (out / "checkpoints" / "step-00000012" / "state.json").unlink()
    assert checkpoint.find(str(out)).step == 6
    with pytest.raises(CurationError, match="holds no checkpoint"):
        checkpoint.find(str(tmp_path))


def unchanged(out: Path, root: Path, reason: str, **changes: Any) -> None:
    """A training goes on on spoilt shards: a sentence, and all that it had written stays as it is."""
    before = {p: p.read_bytes() for p in (out / "checkpoints").rglob("*") if p.is_file()}
    with pytest.raises(CurationError, match=reason):
        trained(root, out, steps=20, **changes)
    assert before and {p: p.read_bytes() for p in (out / "checkpoints").rglob("*") if p.is_file()} == before


def test_a_shard_cut_short_stops_with_its_name(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, steps=2)
    tar = sorted(root.rglob("*.tar"))[0]
    tar.write_bytes(tar.read_bytes()[:-512])
    unchanged(out, root, r"00000\.tar has .* bytes, the index says .*: it is cut short or altered")
    tar.unlink()
    unchanged(out, root, r"00000\.tar is in the index but does not exist")


def test_a_shard_without_a_key_stops_with_its_sample(tmp_path: Path) -> None:
    """Its tar is whole and its hash right, but one sample has no text."""
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, steps=2)
    path = sorted(root.rglob("*.tar"))[0]
    with tarfile.open(path) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
    lost = next(i for i, (info, _) in enumerate(members) if info.name.endswith("text.npy"))
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in members[:lost] + members[lost + 1 :]:
            tar.addfile(info, BytesIO(data))
    index, data = json.loads((root / "index.json").read_text()), path.read_bytes()
    index["shards"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (root / "index.json").write_text(json.dumps(index))
    key = members[lost][0].name.partition(".")[0]
    unchanged(out, root, rf"00000\.tar: the sample {key} is incomplete or damaged \(no text\.npy\): encode it again")


def test_an_index_without_a_key_is_told(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, steps=2)
    index = json.loads((root / "index.json").read_text())
    del index["vae"]["latents_std"], index["shards"][1]["bytes"]
    (root / "index.json").write_text(json.dumps(index))
    unchanged(out, root, r"index\.json lacks vae\.latents_std, shards\[1\]\.bytes: it was not written by this program")


def test_a_bucket_without_samples_is_told(tmp_path: Path) -> None:
    root, out = shards(tmp_path / "shards"), tmp_path / "out"
    trained(root, out, steps=2)
    empty = folder(tmp_path / "empty", "webdataset", [(BUCKET, samples(24)), (CLIP, [])], null_text=NULL)
    unchanged(out, empty, r"5x32x32/00000\.tar of the bucket 5x32x32 has no samples: encode again")
    unchanged(out, folder(tmp_path / "none", "webdataset", [], null_text=NULL), "no bucket fills a batch: there are no")


def test_a_checkpoint_of_another_model_does_not_begin_a_training(tmp_path: Path) -> None:
    root = shards(tmp_path / "shards")
    trained(root, tmp_path / "first", steps=1)
    for other, named in (("DiT-S/2", "DiT-S/2"), ("UNet", "UNet")):
        with pytest.raises(CurationError, match=f"train.init .*first does not fit {named}: weights of another model"):
            trained(root, tmp_path / "second", model=other, init=tmp_path / "first")
    with pytest.raises(CurationError, match="nothing holds no checkpoint"):
        trained(root, tmp_path / "second", init=tmp_path / "nothing")
    assert not (tmp_path / "second").exists()


def test_a_nan_latent_stops_with_its_id(tmp_path: Path) -> None:
    members = samples(16, bucket=BUCKET)
    trained(folder(tmp_path / "shards", "webdataset", [(BUCKET, members)], null_text=NULL), tmp_path / "out", steps=2)
    members[3].mean[0, 0, 0, 0] = np.nan
    root = folder(tmp_path / "spoilt", "webdataset", [(BUCKET, members)], null_text=NULL)
    unchanged(tmp_path / "out", root, f"the latents of {members[3].id} are NaN or infinite")


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (["train.model=DiT-huge"], r"--set train\.model: no model 'DiT-huge'; say UNet, or DiT-tiny"),
        (["train.lrr=1"], r"--set train\.lrr: no such key 'lrr'; did you mean 'lr'\?"),
        (["train.steps=0"], r"train\.steps: Input should be greater than or equal to 1 \(given: 0\)"),
        (["train.min_snr=5"], "min_snr weighs ddpm's timesteps"),
        (["steps=3"], r"--set steps=3: say train\.KEY=VALUE"),
        (["train.objective=ddpm", "train.prediction=x"], "ddpm does not predict x"),
    ],
)
def test_wrong_settings(tmp_path: Path, sets: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        train(str(shards(tmp_path / "shards")), str(tmp_path / "out"), sets)
    assert not (tmp_path / "out").exists()


def test_a_key_of_the_manifest_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shards(tmp_path / "runs" / "photos" / "shards")
    (tmp_path / "m.yaml").write_text("name: photos\nsource: {folder: x}\ntrain:\n  steps: 5\n  modle: DiT-S/2\n")
    with pytest.raises(UsageError, match=r"m\.yaml:5: train\.modle: no such key 'modle'; did you mean 'model'\?"):
        train("m.yaml", None, [])


def test_a_manifest_that_was_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text("name: photos\nsource: {folder: x}\n")
    with pytest.raises(UsageError, match=r"holds no index\.json: `curate run m\.yaml` makes the shards first"):
        train("m.yaml", None, [])
    with pytest.raises(UsageError, match=r"nowhere is neither a manifest \(\.yaml\) nor a folder of shards"):
        train("nowhere", None, [])
