"""`python -m benchmarks.fuzz --seed 2026 --count 10000`: damaged inputs through the functions that load them.

Each case must end within its time as a success or as one of the project's own errors. Anything else is a finding.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.mutate import changed, damaged
from curation.errors import CurationError
from curation.expression import parse
from curation.load import load
from curation.phases import reselect, run
from curation.plan import make_plan
from curation.repair import repair, verify
from curation.shards.batches import BucketBatchSampler
from curation.shards.reader import Shards
from curation.stores.storage import Store
from curation.trainer import checkpoint
from curation.trainer.config import TrainConfig
from curation.trainer.data import Batches
from curation.trainer.sample import Painter
from curation.trainer.train import train

SECONDS = 30
MANIFEST = """\
name: m
seed: 3
source: {table: corpus/rows.jsonl, media: file, caption: caption, max_mb: 20.5, allow: ["s3://bucket/photos/"]}
score:
  - resolution: {keep: "min_side >= 16"}
  - phash
  - text: {boilerplate: [stock photo]}
select:
  keep: ["aspect >= p5", "not (caption is null)"]
  duplicates: {on: phash, threshold: 4, prefer: [-width]}
  caps: [{by: extra.kind, most: 50}]
  sample: 0.9
encode:
  {size: 64, buckets: ["64x64", "96x64"], frames: [9, 17], media: {crf: 20}, reconstructions: 0, shards: {samples: 3}}
engine: {rows_per_chunk: 3, workers: 1}
train: {model: DiT-tiny/2, steps: 2}
"""
EXPRESSIONS = (
    "similarity >= 0.2 and not (caption is null)", "0.2 <= width <= 0.9 or flat", 'format in ["JPEG", "PNG"]',
    '"x" in tags', "len(caption) > 3", "any(similarity >= 0.2)", "similarity > p5 and p2_5 < width", "not flat",
    "extra.kind == 'a'", "-1.5 < similarity", "width == 10", "main(similarity < 1) and extra.n > 3",
)  # fmt: skip
OPERATORS = (
    "not", "or", "<", "!=", "in", "is", "null", "p50", "(", ")", "len(tags)", "extra.n", "true", "-", "any(", "1e400",
    "9999999999999999999999", '"x"',
)  # fmt: skip
COLUMNS: dict[str, list[Any]] = {
    "similarity": [0.1, None, float("nan"), 0.9], "width": [1, 2, 3, None], "caption": ["a", "", None, "é"],
    "flat": [True, False, None, True], "format": ["JPEG", "PNG", None, "GIF"], "tags": [["x"], [], None, ["y", "x"]],
    "extra.kind": ["a", None, "b", {"c": 1}], "extra.n": [1, "4", None, 2.5],
}  # fmt: skip


@dataclass
class Found:
    """What became of the cases: kind -> outcome -> how many; and a text for each finding."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    findings: dict[str, str] = field(default_factory=dict)


class Late(BaseException):
    """A case took longer than it may."""


@contextmanager
def seconds(limit: float) -> Iterator[None]:
    def late(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Cases:
    """The sound originals, and one function for each kind of input that damages a copy and loads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        corpus(folder / "corpus")
        (folder / "m.yaml").write_text(MANIFEST)
        plain = MANIFEST.replace("media: {crf: 20}, ", "").replace("sample: 0.9", "sample: 1.0")
        (folder / "plain.yaml").write_text(plain.replace('"64x64", "96x64"', '"64x64"'))
        run(str(folder / "plain.yaml"), str(folder / "run"), [], engine="inline")
        options = {"model": "DiT-tiny/2", "batch": 2, "steps": 1, "device": "cpu", "peak_tflops": 1}
        train(str(folder / "run"), str(folder / "train"), [f"train.{key}={value}" for key, value in options.items()])
        self.config = TrainConfig(model="DiT-tiny/2", batch=2, device="cpu")
        saved = checkpoint.latest(Store(str(folder / "train")))
        assert saved
        self.weights = {part: saved.tensors(part) for part in ("model", "ema")}
        self.state = Path(saved.store.root) / checkpoint.STATE

    def manifest(self, rng: random.Random) -> None:
        if rng.random() < 0.5:
            data = damaged(MANIFEST.encode(), rng)
        else:
            data = yaml.safe_dump(changed(yaml.safe_load(MANIFEST), rng)).encode("utf-8", "surrogatepass")
        (self.folder / "damaged.yaml").write_bytes(data)
        make_plan(load(str(self.folder / "damaged.yaml")), gpus=0)

    def expression(self, rng: random.Random) -> None:
        words = " and ".join(rng.sample(EXPRESSIONS, rng.randint(1, 4))).split()
        for _ in range(rng.choice([0, 1, 1, 2, 4])):
            words[rng.randrange(len(words))] = rng.choice([*words, *OPERATORS])
        text = " ".join(words)
        text = (
            text
            if rng.random() < 0.5
            else damaged(text.encode("utf-8", "surrogatepass"), rng).decode("utf-8", "surrogateescape")
        )
        parsed = parse(text)
        parsed.evaluate(COLUMNS)
        parsed.explain(COLUMNS)

    def index(self, rng: random.Random) -> None:
        root = self._copy("run/shards", "shards")
        self._damage_json(root / "index.json", rng)
        shards = Shards(str(root))
        shards.check_files()
        for number in range(min(len(shards), 3)):
            shards[number]
        shards.null_text()
        list(BucketBatchSampler(shards, 2))
        Batches(shards, self.config, 0, 1)[0]

    def checkpoint(self, rng: random.Random) -> None:
        folder = self.folder / "checkpoint"
        folder.mkdir(exist_ok=True)
        shutil.copy(self.state, folder / checkpoint.STATE)
        self._damage_json(folder / checkpoint.STATE, rng)
        saved = checkpoint.read(Store(str(folder)))
        painter = Painter(saved.state, self.weights["ema"])
        painter.shape(None)

    def work(self, rng: random.Random) -> None:
        out = self._copy("run", "damaged-run")
        files = sorted(f for f in out.rglob("*") if f.is_file() and f.name != "lock" and "shards" not in f.parts)
        for _ in range(rng.choice([1, 1, 2])):
            file = rng.choice(files)
            if file.suffix in (".json", ".failed"):
                self._damage_json(file, rng)
            else:
                file.write_bytes(damaged(file.read_bytes(), rng))
        verify(Store(str(out)))
        repair(Store(str(out)), lambda _: None)
        reselect(str(out), ())

    def rerun(self, rng: random.Random) -> None:
        out = self._copy("run", "damaged-run")
        file = rng.choice(sorted(f for f in out.rglob("*.json")))
        self._damage_json(file, rng)
        run(str(self.folder / "plain.yaml"), str(out), [], engine="inline")

    def _copy(self, name: str, to: str) -> Path:
        shutil.rmtree(self.folder / to, ignore_errors=True)
        return Path(shutil.copytree(self.folder / name, self.folder / to, copy_function=shutil.copy2))

    def _damage_json(self, path: Path, rng: random.Random) -> None:
        data = path.read_bytes()
        try:
            content = json.loads(data)
        except ValueError:  # it was damaged before
            content = None
        if rng.random() < 0.3 or content is None:
            path.write_bytes(damaged(data, rng))
            return
        sys.set_int_max_str_digits(0)
        text = json.dumps(changed(content, rng))
        sys.set_int_max_str_digits(4300)
        path.write_text(text)


KINDS: dict[str, float] = {
    "manifest": 0.3,
    "expression": 0.3,
    "index": 0.15,
    "checkpoint": 0.15,
    "work": 0.09,
    "rerun": 0.01,
}


def corpus(folder: Path) -> None:
    """Eight textured pictures and their table."""
    folder.mkdir()
    rows = []
    for i in range(8):
        values = np.random.default_rng(i).integers(70, 190, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(values).resize((96, 80), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg")
        rows.append(json.dumps({"file": f"{i}.jpg", "caption": f"a pattern with the number {i}", "kind": "ab"[i % 2]}))
    (folder / "rows.jsonl").write_text("\n".join(rows))


def outcome(case: Callable[[random.Random], None], rng: random.Random) -> tuple[str, str]:
    """`sound`, `refused` or `finding`, with what was said."""
    try:
        with seconds(SECONDS), Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
            case(rng)
    except CurationError as error:
        return ("refused", str(error)) if str(error).strip() else ("finding", "an error without a word")
    except (Exception, Late) as error:  # noqa: BLE001  that is what is looked for
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "curation" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return "finding", f"{type(error).__name__} at {place}: {str(error)[:200]}"
    return "sound", ""


def fuzz(seed: int, count: int, folder: Path, kinds: dict[str, float] | None = None) -> Found:
    """Run `count` cases, divided among the kinds by their shares."""
    found, cases = Found(), Cases(folder)
    for kind, share in (kinds or KINDS).items():
        counts = found.counts[kind] = Counter[str]()
        for number in range(round(count * share)):
            what, said = outcome(getattr(cases, kind), random.Random(f"{seed} {kind} {number}"))
            counts[what] += 1
            if what == "finding":
                found.findings.setdefault(said.partition(": ")[0], f"{kind} {number}: {said}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=list(KINDS))
    arguments = parser.parse_args()
    kinds = {kind: share for kind, share in KINDS.items() if not arguments.only or kind in arguments.only}
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(arguments.seed, arguments.count, Path(folder), kinds)
    for kind, counts in found.counts.items():
        print(
            f"{kind:<12}{sum(counts.values()):>7,} cases  " + "  ".join(f"{n:,} {what}" for what, n in counts.items())
        )
    for text in found.findings.values():
        print(text)
    sys.exit(1 if found.findings else 0)


if __name__ == "__main__":
    main()
