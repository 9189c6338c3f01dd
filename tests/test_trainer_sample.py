"""`curate sample` and `curate eval` on models trained for a moment through the embedded VAEs and text encoder."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.corpus import write_corpus
from PIL import Image

from curation.errors import CurationError, UsageError
from curation.phases import run
from curation.trainer import checkpoint
from curation.trainer.evaluate import Evaluation, evaluate, table
from curation.trainer.sample import Painter, Request, Settings, newest, paint
from curation.trainer.train import train

MANIFEST = """\
name: tiny
source: {table: %s, media: file, caption: caption}
score: [resolution]
encode: {size: 64, vae: %s, text: embedded, reconstructions: 0}
train:
  {model: DiT-tiny/2, steps: 4, batch: 4, lr: 0.001, warmup: 0, ema: 0.5, device: cpu, peak_tflops: 1, log_every: 2,
   sample_every: 4, sampling_steps: 2, prompts: [a pattern]}
"""
PROMPT = "a pattern with the number 3"
QUICK = Settings(steps=3, guidance=2.0)


def model_of(folder: Path, vae: str) -> Path:
    """The training directory of a model of 12 pictures."""
    (folder / "m.yaml").write_text(MANIFEST % (write_corpus(folder / "corpus", 12), vae))
    run(str(folder / "m.yaml"), str(folder / "run"), [], engine="inline")
    train(str(folder / "run"), None, train_settings(folder / "m.yaml"))
    return folder / "run" / "train"


def train_settings(manifest: Path) -> list[str]:
    from curation.load import load

    return [f"train.{key}={json.dumps(value)}" for key, value in (load(str(manifest), []).manifest.train or {}).items()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of(tmp_path_factory.mktemp("image"), "embedded")


@pytest.fixture(scope="module")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the video autoencoder, for which a picture is a clip of one frame."""
    return model_of(tmp_path_factory.mktemp("video"), "video_autoencoder")


@pytest.fixture(scope="module")
def painter(model: Path) -> Painter:
    return Painter.of(checkpoint.find(str(model)))


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def sampled(model: Path, out: Path, settings: Settings = QUICK, **changes: Any) -> Path:
    """A hardly trained model paints mush, of which the safety model thinks what it likes: no limit here."""
    asked = {"prompt": PROMPT, "n": 1, "seed": 1, "model": str(model), "out": str(out), "limit": 1.0}
    return paint(Request(**asked | changes), settings)


def test_samples_are_a_grid_of_pictures(model: Path, tmp_path: Path) -> None:
    """Four of 64 px with gaps of 2; each the same as when fewer were asked for, to the bit."""
    four = read(sampled(model, tmp_path / "deep" / "four.png", n=4))
    one = read(sampled(model, tmp_path / "one.png", n=1))
    assert four.shape == (130, 130, 3) and one.shape == (64, 64, 3)
    tiles = [four[y : y + 64, x : x + 64] for y in (0, 66) for x in (0, 66)]
    assert np.array_equal(tiles[0], one)
    assert len({tile.tobytes() for tile in tiles}) == 4
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["one.png"]


def test_a_sample_does_not_depend_on_its_company(painter: Painter) -> None:
    """Alone it is to the bit what it is as the last of three; in one batch but for rounding."""
    settings = replace(QUICK, method="ddpm", batch=1)
    seeds = [(1, i) for i in range(3)]
    three = painter.latents([PROMPT] * 3, seeds, settings)
    alone = painter.latents([PROMPT], seeds[2:], settings)
    assert torch.equal(three[2:], alone)
    assert np.array_equal(painter.decode(three, 1)[2:], painter.decode(alone, 1))
    mixed = painter.latents(["a", PROMPT, "something much longer, with many more words than the others"], seeds, QUICK)
    assert torch.allclose(mixed[1:2], painter.latents([PROMPT], seeds[1:2], QUICK), atol=1e-4)


def test_seeds_are_those_of_the_command(model: Path, tmp_path: Path) -> None:
    zero, one, again = (read(sampled(model, tmp_path / "x.png", seed=seed)) for seed in (0, 1, 0))
    assert np.array_equal(zero, again) and not np.array_equal(zero, one)


def test_guidance_of_one_is_the_conditional_model_in_one_pass(
    painter: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.Tensor] = []
    forward = painter.model.forward
    monkeypatch.setattr(painter.model, "forward", lambda *given: calls.append(given[2]) or forward(*given))
    got = painter.latents([PROMPT], [(1, 0)], replace(QUICK, guidance=1.0))
    assert len(calls) == 3
    (text,) = painter.read([PROMPT])
    assert all(torch.equal(given[0], text) for given in calls)
    x = torch.from_numpy(np.random.default_rng([1, 0, 4]).standard_normal((16, 1, 8, 8), dtype=np.float32))[None]
    with torch.inference_mode():
        for t, to in ((1.0, 1 - 1 / 3), (1 - 1 / 3, 1 - 2 / 3), (1 - 2 / 3, 0.0)):
            v = forward(x, torch.tensor([t]), text[None], torch.ones(1, len(text), dtype=torch.bool))
            data, _ = painter.objective.split(x, v, torch.tensor([t]))
            x = x + (to - t) * (x - data) / t if to else data
    vae = painter.state["vae"]
    mean, std = (torch.tensor(vae[key]).reshape(-1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
    assert torch.equal(got, x * std + mean)
    painter.latents([PROMPT], [(1, 0)], QUICK)
    assert len(calls) == 3 + 6


def test_a_negative_prompt_takes_the_place_of_the_empty_one(painter: Painter) -> None:
    def latents(**changes: Any) -> torch.Tensor:
        return painter.latents([PROMPT], [(1, 0)], replace(QUICK, **changes))

    assert torch.equal(latents(), latents(negative=""))
    assert not torch.allclose(latents(), latents(negative="rain"))
    assert torch.equal(latents(guidance=1.0), latents(guidance=1.0, negative="rain"))
    same = latents(negative=PROMPT)
    assert torch.allclose(same, latents(guidance=1.0), atol=1e-4)


def test_the_empty_prompt_is_what_dropout_trained(painter: Painter) -> None:
    assert torch.equal(painter.read([""])[0], painter.null)


def test_clips_become_an_mp4_and_a_strip(video_model: Path, tmp_path: Path) -> None:
    import av

    settings = replace(QUICK, bucket="5x64x64", guidance=1.0)
    path = sampled(video_model, tmp_path / "x.mp4", settings, n=2, fps=8)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert (len(frames), stream.average_rate, stream.codec_context.name) == (5, 8, "h264")
        assert frames[0].shape == (64, 130, 3)
    strip = read(sampled(video_model, tmp_path / "x.png", settings, n=2))
    assert strip.shape == (130, 5 * 66 - 2, 3)
    assert float(np.abs(frames[0][:, :64].astype(int) - strip[:64, :64].astype(int)).mean()) < 12


def test_a_grid_is_painted_during_training(model: Path) -> None:
    assert read(model / "samples" / "step-00000004.png").shape == (64, 4 * 66 - 2, 3)


# --- refusals


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a naked child", "sexual content with minors"),
        ("\uff30\uff4f\uff52\uff4e", "sexual content"),
        ("a beheading", "extreme violence"),
    ],
)
def test_an_unsafe_prompt_is_refused(prompt: str, reason: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"the prompt is refused: it names {reason}"):
        sampled(model, tmp_path / "x.png", prompt=prompt)
    assert not list(tmp_path.iterdir())


def test_an_unsafe_picture_is_refused_and_not_written(model: Path, tmp_path: Path) -> None:
    """With a limit of 0 every picture is."""
    with pytest.raises(
        CurationError, match=r"sample 1 is refused and nothing was written: an unsafe picture .*0\.\d\d \(limit 0\)"
    ):
        sampled(model, tmp_path / "x.png", limit=0.0)
    assert not list(tmp_path.iterdir())


def test_a_refusal_is_a_sentence_and_an_exit_code(model: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "curation",
        "sample",
        "a nude",
        "--model",
        str(model),
        "--out",
        str(tmp_path / "x.png"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    told = "curate: the prompt is refused: it names sexual content; say it in other words, or leave it out\n"
    assert done.stderr == told and done.stdout == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bucket": "64x64"}, r"--bucket 64x64: say FRAMESxHEIGHTxWIDTH; trained were 1x64x64"),
        ({"bucket": "1x60x64"}, "--bucket 1x60x64: sides are multiples of 16, frames 1"),
        ({"method": "heun"}, "--sampler heun: there are ddpm, ddim, euler"),
        ({"steps": 0}, "--steps 0: say 1 to 1000"),
    ],
)
def test_wrong_settings(model: Path, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        sampled(model, tmp_path / "x.png", replace(QUICK, **changes))
    assert not list(tmp_path.iterdir())


def test_another_ending_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--out .*x\.gif: say a name that ends in \.png or \.mp4"):
        sampled(model, tmp_path / "x.gif")


def test_a_missing_and_a_damaged_checkpoint(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no trained model under runs/: name one with --model"):
        newest()
    with pytest.raises(CurationError, match="nowhere holds no checkpoint: name a folder that `curate train` wrote"):
        sampled(tmp_path / "nowhere", tmp_path / "x.png")
    copy = tmp_path / "runs" / "tiny" / "train" / "checkpoints" / "step-00000004"
    copy.mkdir(parents=True)
    for file in (model / "checkpoints" / "step-00000004").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert sampled(Path(newest()), tmp_path / "x.png").is_file()
    weights = (copy / "ema.safetensors").read_bytes()
    (copy / "ema.safetensors").write_bytes(weights[:-9] + b"\1" + weights[-8:])
    with pytest.raises(CurationError, match=r"ema\.safetensors is cut short or altered"):
        sampled(copy, tmp_path / "y.png")
    (copy / "ema.safetensors").unlink()
    with pytest.raises(CurationError, match=r"ema\.safetensors"):
        sampled(copy, tmp_path / "y.png")
    (copy / "state.json").write_text("{")
    with pytest.raises(CurationError, match=r"state\.json is damaged"):
        sampled(copy, tmp_path / "y.png")
    assert not (tmp_path / "y.png").exists()


@pytest.mark.parametrize("role", ["vae", "text"])
def test_a_model_with_other_weights_than_the_shards_had(painter: Painter, role: str) -> None:
    state = painter.state | {role: painter.state[role] | {"sha256": "ab" * 32}}
    other = Painter(state, painter.model.state_dict())
    with pytest.raises(CurationError, match=f"the {role} model embedded:.* has other weights than .* training shards"):
        other.paint([PROMPT], 0, QUICK)


# --- evaluation


def test_a_report_says_all_that_its_numbers_depend_on(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks no one outside this machine."""

    def refuse(*given: object) -> None:
        raise AssertionError(f"a connection to {given[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    report = evaluate(Evaluation(str(model), n=6, seed=3), QUICK)
    assert list(report["metrics"]) == [
        "Fréchet distance (embedded features)",
        "kernel distance (embedded features)",
        "kernel distance (embedded features), deviation",
        "caution",
        "text similarity (embedded)",
    ]
    assert "FID" not in json.dumps(report, ensure_ascii=False)
    assert report["metrics"]["caution"] == "6 pictures for 1280 dimensions: Fréchet distances are biased up"
    assert report["samples"] == 6 and report["reference"]["pictures"] == 6 and report["size"] == "64x64"
    assert report["reference"]["resize"] == "none: decoded posterior means of the shards"
    assert report["reference"]["shards"].endswith("run/shards")
    assert report["sampling"] == {
        "steps": 3, "method": "default", "guidance": 2.0, "rescale": 0.0, "shift": 1.0, "negative": "",
        "bucket": None, "batch": 64, "seed": 3,
    }  # fmt: skip
    assert report["model"]["step"] == 4 and report["model"]["ema"] == 0.5
    said = table(report)
    for part in ("3 steps, guidance 2, seed 3", "step 4, EMA 0.5", "6 of 64x64", "embedded features"):
        assert part in said


def test_a_folder_of_pictures_as_reference(model: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "pictures", 5)
    (tmp_path / "prompts.txt").write_text("a pattern\n\nanother\n")
    asked = Evaluation(
        str(model), str(tmp_path / "pictures"), str(tmp_path / "prompts.txt"), n=4, features="pixels8", ema=False
    )
    report = evaluate(asked, replace(QUICK, guidance=1.0))
    assert report["reference"]["pictures"] == 4 and report["prompts"] == 2 and report["model"]["ema"] is None
    assert report["reference"]["resize"] == "Pillow bicubic, antialiased, of the central crop"
    assert "Fréchet distance (8x8 pixels)" in report["metrics"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 1}, "--n 1: a distance between sets needs 2 or more"),
        ({"features": "fid"}, "--features fid: say embedded, pixels8"),
        ({"features": "inception:/none.pth"}, "/none.pth is no file"),
        ({"reference": "/none"}, "--reference /none: neither a folder of pictures nor shards"),
        ({"prompts": "/none.txt"}, "--prompts /none.txt cannot be read"),
    ],
)
def test_what_cannot_be_evaluated(model: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        evaluate(Evaluation(**{"model": str(model), "n": 2} | changes), replace(QUICK, guidance=1.0))


def test_a_picture_that_cannot_be_read_is_named(model: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path, 2)
    (tmp_path / "0001.jpg").write_bytes(b"no picture")
    with pytest.raises(CurationError, match=r"0001\.jpg is no picture that can be read"):
        evaluate(Evaluation(str(model), str(tmp_path), n=2), QUICK)
