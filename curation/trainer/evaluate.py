"""`curate eval`: samples of a model against a reference set, with everything that a number depends on beside it."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.errors import CurationError, UsageError
from curation.media.sandbox import Decoder, Limits
from curation.models import open_model
from curation.pixels import Pixels
from curation.shards.index import NAME as INDEX
from curation.shards.reader import Shards
from curation.stores.storage import Store
from curation.trainer import checkpoint, metrics
from curation.trainer.features import Extractor, Pictures, extractor
from curation.trainer.guard import allowed, check_prompts
from curation.trainer.sample import Painter, Settings, newest

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Evaluation:
    """What is asked for.

    reference  shards (decoded by their VAE) or a folder of pictures; None: the shards that the model was trained on
    prompts    a text file, one a line; None: captions of the reference shards, or of the training's
    n          samples, and at most as many reference pictures as there are
    features   see `features.extractor`
    moderation `http://HOST/v1#MODEL`, a server that is asked about the prompts; None: the word list alone
    score      the image-text model of the CLIP score: `embedded`, or open_clip:MODEL:WEIGHTS
    """

    model: str | None = None
    reference: str | None = None
    prompts: str | None = None
    n: int = 1000
    seed: int = 0
    ema: bool = True
    features: str = "embedded"
    score: str = "embedded"
    moderation: str | None = None


def evaluate(asked: Evaluation, settings: Settings) -> dict[str, Any]:
    """The report: metrics by name, and N, reference, resize, sampler, steps, guidance, seed and EMA beside them.

    Raises CurationError or UsageError with a sentence.
    """
    if asked.n < 2:
        raise UsageError(f"--n {asked.n}: a distance between sets needs 2 or more")
    own = read_prompts(asked.prompts, asked.moderation) if asked.prompts else None
    look = extractor(asked.features)
    saved = checkpoint.find(asked.model or newest())
    painter = Painter.of(saved, asked.ema)
    shape = painter.shape(settings.bucket)
    factor = painter.state["vae"]["spatial_factor"]
    size = (shape[2] * factor, shape[3] * factor)
    reference, captions, described = _reference(asked, painter, size)
    prompts, left_out = (own, 0) if own else _captions(asked, captions, painter)
    order = np.random.default_rng([asked.seed, 5]).permutation(len(prompts))
    wanted = [prompts[order[i % len(order)]] for i in range(asked.n)]
    samples = _stills(painter.paint(wanted, asked.seed, settings))
    return {
        "metrics": _measured(look, samples, reference) | _scored(asked.score, samples, wanted),
        "samples": len(samples),
        "prompts": len(set(wanted)),
        "captions_left_out": left_out,
        "reference": described | {"pictures": len(reference)},
        "size": f"{size[1]}x{size[0]}",
        "features": look.name,
        "resize": look.resize,
        "model": {"checkpoint": saved.store.root, "step": saved.step, "ema": painter.config.ema if asked.ema else None},
        "vae": painter.state["vae"]["id"],
        "sampling": asdict(settings) | {"seed": asked.seed, "method": settings.method or "default"},
    }


def _measured(look: Extractor, samples: Pictures, reference: Pictures) -> dict[str, Any]:
    ours, theirs = look.features(samples), look.features(reference)
    kernel, spread = metrics.kernel_distance(ours, theirs)
    name = "KID" if look.frechet == "FID" else look.frechet.replace("Fréchet", "kernel")
    out: dict[str, Any] = {
        look.frechet: metrics.frechet_distance(ours, theirs),
        name: kernel,
        f"{name}, deviation": spread,
    }
    if look.name.startswith("CLIP"):
        out["CMMD"] = metrics.cmmd(ours, theirs)
    if look.logits:
        out["Inception Score"], out["Inception Score, deviation"] = metrics.inception_score(look.logits(samples))
    dims = ours.shape[1]
    if min(len(ours), len(theirs)) <= dims:
        out["caution"] = (
            f"{min(len(ours), len(theirs))} pictures for {dims} dimensions: Fréchet distances are biased up"
        )
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in out.items()}


def _scored(spec: str, samples: Pictures, prompts: Sequence[str]) -> dict[str, float]:
    model = open_model("image_text", spec)
    cosines = np.array(model.similarity([Pixels.of(picture) for picture in samples], list(prompts)))
    name = "CLIP score" if spec.startswith("open_clip") else "text similarity (embedded)"
    return {name: round(metrics.clip_score(cosines), 4)}


def _stills(frames: NDArray[np.uint8]) -> Pictures:
    """[N, T, H, W, 3] -> each clip's middle frame."""
    return frames[:, frames.shape[1] // 2]


def _reference(
    asked: Evaluation, painter: Painter, size: tuple[int, int]
) -> tuple[Pictures, list[str], dict[str, Any]]:
    """(pictures of one size, captions, how they were had)."""
    place = asked.reference or painter.state["shards"]
    store = Store(place)
    shards = next((s for s in (store, store.child("shards")) if s.exists(INDEX)), None)
    if shards:
        return _decoded(Shards(shards.root, painter.state["vae"]["sha256"]), painter, size, asked)
    if not store.local or not store.local.is_dir():
        raise UsageError(f"--reference {place}: neither a folder of pictures nor shards with an {INDEX}")
    files = sorted(path for path in store.local.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < 2:
        raise UsageError(f"--reference {place}: {len(files)} pictures are too few ({', '.join(SUFFIXES)})")
    chosen = np.random.default_rng([asked.seed, 6]).permutation(len(files))[: asked.n]
    with closing(Decoder(Limits())) as decoder:
        pictures = np.stack([read_picture(decoder, files[i], size) for i in sorted(chosen)])
    return pictures, [], {"folder": str(store.local), "resize": "Pillow bicubic, antialiased, of the central crop"}


def read_picture(decoder: Decoder, path: Path, size: tuple[int, int]) -> Pictures:
    """A picture's central crop of the wanted (height, width), uint8 [H, W, 3].

    Decoded as the pipeline decodes what it trains on: upright, in sRGB, over white. Raises CurationError.
    """
    from PIL import ImageOps

    try:
        rgb = decoder.decode(path.read_bytes()).rgb
    except (OSError, CurationError) as error:
        raise CurationError(f"{path} is no picture that can be read: {error}") from error
    return np.asarray(ImageOps.fit(Image.fromarray(rgb), (size[1], size[0]), Image.Resampling.BICUBIC))


def _decoded(
    shards: Shards, painter: Painter, size: tuple[int, int], asked: Evaluation
) -> tuple[Pictures, list[str], dict[str, Any]]:
    import torch

    factor = painter.state["vae"]["spatial_factor"]
    first, numbers = 0, list[int]()
    for number, entry in enumerate(shards.entries):
        _, _, height, width = shards.shape(number)
        if (height * factor, width * factor) == size:
            numbers += range(first, first + entry["samples"])
        first += entry["samples"]
    if len(numbers) < 2:
        raise UsageError(f"--reference {shards.store.root}: no bucket of {size[1]}x{size[0]} pixels")
    order = np.random.default_rng([asked.seed, 6]).permutation(numbers)
    taken = [shards[int(number)] for number in sorted(order[: asked.n])]
    pictures = [_stills(painter.decode(torch.from_numpy(s.latents.astype(np.float32))[None]))[0] for s in taken]
    captions = [s.meta["captions"][0] for s in taken if s.meta["captions"]]
    how = "decoded posterior means of the shards"
    return np.stack(pictures), captions, {"shards": shards.store.root, "resize": f"none: {how}"}


def read_prompts(file: str, moderation: str | None = None) -> list[str]:
    """The lines of a file that are not empty. Raises UsageError where it cannot be read or a line is refused."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompts {file} cannot be read: {error}") from error
    found = {f"--prompts {file}:{number}": line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    if not found:
        raise UsageError(f"--prompts {file} holds no prompt: write one a line")
    check_prompts(found, moderation)
    return list(found.values())


def _captions(asked: Evaluation, captions: list[str], painter: Painter) -> tuple[list[str], int]:
    """Captions to sample from, and how many the guard left out: they are data, and one of them is no reason to stop."""
    if not captions:
        shards = Shards(painter.state["shards"], painter.state["vae"]["sha256"])
        some = np.random.default_rng([asked.seed, 7]).permutation(len(shards))[: asked.n]
        captions = [caption for number in some for caption in shards[int(number)].meta["captions"][:1]]
    if not captions:
        raise UsageError("there are no captions to sample from: give --prompts FILE with one a line")
    passed = allowed(captions, asked.moderation)
    if not passed:
        raise UsageError(f"the guard refuses all {len(captions):,} captions: give --prompts FILE with one a line")
    return passed, len(captions) - len(passed)


def table(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    rows = [
        (name, f"{value:,.4f}" if isinstance(value, float) else str(value)) for name, value in report["metrics"].items()
    ]
    how, out = report["sampling"], report["captions_left_out"]
    rows += [
        ("samples", f"{report['samples']:,} of {report['size']}, {report['prompts']:,} prompts"),
        *([("left out", f"{out:,} captions that the prompt guard refuses")] if out else []),
        ("reference", f"{report['reference']['pictures']:,}, {report['reference']['resize']}"),
        ("features", f"{report['features']}, resize: {report['resize']}"),
        ("sampling", f"{how['method']}, {how['steps']} steps, guidance {how['guidance']:g}, seed {how['seed']}"),
        ("model", f"step {report['model']['step']:,}, EMA {report['model']['ema'] or 'no'}, VAE {report['vae']}"),
    ]
    return "\n".join(f"{name:<36} {value}" for name, value in rows)


def save(report: dict[str, Any], path: Path) -> Path:
    """Write the report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
