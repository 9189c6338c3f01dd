"""From corpus to agreement: each demo's own manifest is run, trained for a few steps and judged."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from curation.demo import digits, judge_digits, judge_moving, judge_shapes, moving, shapes
from curation.phases import run
from curation.trainer import checkpoint
from curation.trainer.train import train

MANIFESTS = Path(__file__).parents[1] / "manifests"
FEW = ("train.steps=2", "train.batch=4", "train.model=DiT-tiny/4")
FIGURES = re.compile(r"\d+(?:\.\d+)?")


def made(name: str, out: Path, sets: Sequence[str] = ()) -> str:
    """A run and a training of a demo's manifest over the corpus in `out`; the run's directory."""
    manifest, place = str(MANIFESTS / f"{name}.yaml"), str(out / "run")
    run(manifest, place, [f"source.table={out / 'corpus' / 'captions.jsonl'}"], engine="inline")
    train(f"{place}/shards", f"{place}/train", [*configured(manifest), *FEW, *sets])
    return place


def configured(manifest: str) -> list[str]:
    """The manifest's own section `train:` as settings."""
    from curation.load import load

    return [f"train.{key}={value}" for key, value in (load(manifest, ()).manifest.train or {}).items()]


def said(lines: Sequence[str], *starts: str) -> None:
    """Each line begins as told, and has figures, none of them NaN."""
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start), line
        assert FIGURES.search(line) and "nan" not in line.replace("Ray", "")


def test_digits(tmp_path: Path) -> None:
    digits.build(tmp_path / "corpus", 12)
    lines = list(judge_digits.judge(made("digits", tmp_path), 20, tmp_path / "digits.png"))
    said(lines, "a classifier", "Fréchet", *["agreement"] * 3)
    assert re.fullmatch(r"agreement \d+\.\d % at guidance 1, Fréchet distance \d+\.\d+", lines[2])
    assert (tmp_path / "digits.png").stat().st_size > 1000


def test_shapes(tmp_path: Path) -> None:
    shapes.build(tmp_path / "corpus", 12)
    lines = list(judge_shapes.judge(made("shapes", tmp_path), 6, tmp_path / "shapes.png"))
    said(lines, "real pictures", *["agreement", "  pairs that were drawn"] * 3, "chance")
    assert re.fullmatch(r"agreement \d+\.\d % \(colours .* %, shapes .* %, relation .* %\) at guidance 1", lines[1])
    assert (tmp_path / "shapes.png").stat().st_size > 1000


@pytest.fixture(scope="module")
def moving_shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of clips that went through mp4, and stills."""
    out = tmp_path_factory.mktemp("moving")
    moving.build(out / "corpus", 8, 8)
    return made("moving", out)


def test_moving(moving_shards: str, tmp_path: Path) -> None:
    lines = list(judge_moving.judge(moving_shards, 5, tmp_path / "moving.png"))
    said(lines, "real clips", *["agreement"] * 3, "chance", "stills: agreement")
    assert re.fullmatch(r"agreement \d+\.\d % \(colour .* %, shape .* %, direction .* %\) at guidance 1", lines[1])
    assert (tmp_path / "moving.png").stat().st_size > 1000


def test_images_first_then_video(moving_shards: str, tmp_path: Path) -> None:
    """As the manifest's comment says: one frame a patch, on images alone; then two, on clips alone."""
    text = (MANIFESTS / "moving.yaml").read_text()
    shards, own = f"{moving_shards}/shards", [*configured(str(MANIFESTS / "moving.yaml")), *FEW]
    commands = [line for line in text.splitlines() if line.startswith("#   curate train") and "--set" in line]
    first, second = (re.findall(r"--set (\S+)", command) for command in commands)
    assert first == ["train.images=1", "train.patch_frames=1"]
    assert second == ["train.images=0", "train.init=runs/moving/stills"]
    train(shards, str(tmp_path / "stills"), [*own, *first])
    train(shards, str(tmp_path / "tuned"), [*own, "train.images=0", f"train.init={tmp_path / 'stills'}"])
    still, tuned = (checkpoint.find(str(tmp_path / name)) for name in ("stills", "tuned"))
    assert tuned.tensors("ema")["patch.weight"].shape[1] == 2 * still.tensors("ema")["patch.weight"].shape[1]
    assert tuned.step == 2
