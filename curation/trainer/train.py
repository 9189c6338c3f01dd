"""`curate train`: from a manifest or a folder of shards to checkpoints, alone or with workers on a Ray cluster."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from curation import yamlfile
from curation.errors import CurationError, UsageError
from curation.load import line_of, load, suggest
from curation.progress import console
from curation.shards.index import NAME as INDEX
from curation.shards.reader import Shards
from curation.stores.location import parent
from curation.stores.lock import RunLock
from curation.stores.storage import Store
from curation.trainer import checkpoint
from curation.trainer.config import TrainConfig
from curation.trainer.guard import check_prompts
from curation.trainer.log import following


@dataclass(frozen=True)
class Job:
    """One training: where shards are read, where checkpoints go, and the resolved config as JSON."""

    shards: str
    out: str
    config: dict[str, Any]


def train(source: str, out: str | None, overrides: Sequence[str], address: str | None = None) -> str:
    """Train to the end, continuing where an earlier training of `out` stopped; returns the training directory.

    source     a manifest, whose run directory (runs/NAME) has shards; or a folder of shards
    overrides  such as `train.steps=800`
    Raises CurationError or UsageError with a sentence; Preempted after SIGTERM.
    """
    job = job_of(source, out, overrides)
    config = TrainConfig.model_validate(job.config)
    shards = Shards(job.shards, text=config.text)
    for line in head(config, shards, Store(job.out)):
        console().print(line, highlight=False, soft_wrap=True)
    with RunLock(Store(job.out)):  # two trainings into one directory would write each other's checkpoints
        if config.workers == 1:
            work(asdict(job))
        else:
            from curation.engine.ray_training import train_workers

            with following(Store(job.out), config.steps, console()):
                train_workers(work, asdict(job), config.workers, config.device != "cpu", address)
    console().print(f"\ncheckpoint {Store(job.out).uri(checkpoint.FOLDER)}", soft_wrap=True)
    return job.out


def job_of(source: str, out: str | None, overrides: Sequence[str]) -> Job:
    """Checks the source, the config and its prompts; loads no model."""
    folder = Store(source) if not source.endswith((".yaml", ".yml")) else None
    if folder is not None:
        place = next((s for s in (folder, folder.child("shards")) if s.exists(INDEX)), None)
        if place is None:
            raise UsageError(f"{source} is neither a manifest (.yaml) nor a folder of shards with an {INDEX}")
        data: dict[str, Any] = {}
        lines: dict[yamlfile.Path, int] = {}
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals or not key.startswith("train."):
                raise UsageError(f"--set {override}: say train.KEY=VALUE")
            data[key.removeprefix("train.")] = yamlfile.parse_value(value)
        name = "--set"
        shards, out = place.root, out or Store(parent(place.root)).child("train").root
    else:
        loaded = load(source, overrides)
        run = f"runs/{loaded.manifest.name}"
        data, lines, name = {"seed": loaded.manifest.seed, **(loaded.manifest.train or {})}, loaded.lines, source
        shards, out = Store(run).child("shards").root, out or f"{run}/train"
        if not Store(shards).exists(INDEX):
            raise UsageError(f"{shards} holds no {INDEX}: `curate run {source}` makes the shards first")
    config = _checked(data, name, lines)
    check_prompts({_place(name, lines, n): prompt for n, prompt in enumerate(config.prompts)}, config.moderation)
    return Job(shards, Store(out).root, config.model_dump(mode="json"))


def _place(name: str, lines: dict[yamlfile.Path, int], number: int) -> str:
    """Where a prompt of the grids stands."""
    at = f"{name}:{line_of(lines, ('train', 'prompts', number))}:" if lines else name
    return f"{at} train.prompts.{number}"


def _checked(data: dict[str, Any], name: str, lines: dict[yamlfile.Path, int]) -> TrainConfig:
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        raise UsageError("\n".join(_sentence(item, name, lines) for item in error.errors())) from error


def _sentence(item: Any, name: str, lines: dict[yamlfile.Path, int]) -> str:
    loc = ("train", *item["loc"])
    place = f"{name}:{line_of(lines, loc)}: {'.'.join(map(str, loc))}" if lines else f"{name} {'.'.join(map(str, loc))}"
    if item["type"] == "extra_forbidden":
        known = sorted(TrainConfig.model_fields)
        return f"{place}: no such key '{loc[-1]}'{suggest(str(loc[-1]), known)}; there are: {', '.join(known)}"
    return f"{place}: {item['msg'].removeprefix('Value error, ')} (given: {str(item.get('input'))[:80]})"


def head(config: TrainConfig, shards: Shards, out: Store) -> list[str]:
    """What will be trained on what, and where it begins; raises what a worker would, before any is started."""
    import torch

    from curation.trainer.data import Batches

    shards.check_files()
    batches, saved = Batches(shards, config, 0, config.workers), checkpoint.latest(out)
    if saved:
        refuse_other(saved, config, shards.index)
    elif config.init:
        first_weights(config, shards.index)
    with torch.device("meta"):
        model = config.make_model(shards.index["vae"]["channels"], shards.index["text"]["dimensions"])
    count = sum(p.numel() for p in model.parameters())
    size = f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"
    workers = f", {config.workers} workers" if config.workers > 1 else ""
    lines = [f"model   {config.model}, {size} parameters, {config.objective}, {config.precision}{workers}"]
    lines += [f"data    {line}" for line in batches.report()]
    if config.init and not saved:
        lines += [f"init    {line}" for line in origin(checkpoint.find(config.init), config.init, shards.index)]
    if saved:
        lines.append(f"train   continues at step {saved.step:,} of {config.steps:,}")
        before, now = saved.state["config"], config.model_dump(mode="json")
        changed = [key for key in now if before.get(key) != now[key]]
        if changed:
            lines.append(f"train   changed since the checkpoint: {', '.join(changed)}")
        if saved.state["buckets"] != {bucket.name: bucket.samples for bucket in batches.schedule.buckets}:
            lines.append("train   the shards are others than at the checkpoint: epochs begin anew over these")
    return lines


def work(job: dict[str, Any]) -> None:
    """One worker, in its own process when there are several."""
    import torch

    from curation.trainer.data import Batches
    from curation.trainer.loop import Trainer, run
    from curation.trainer.parallel import rank_and_world

    config, out = TrainConfig.model_validate(job["config"]), Store(job["out"])
    rank, world = rank_and_world()
    if world > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    batches = Batches(Shards(job["shards"], text=config.text), config, rank, world)
    saved = checkpoint.latest(out)
    first = None if saved or not config.init else first_weights(config, batches.shards.index)
    trainer = Trainer(batches, config, first)
    if saved:
        refuse_other(saved, config, batches.shards.index)
        trainer.restore(saved)
    if trainer.step < config.steps:
        run(trainer, out)


def refuse_other(saved: checkpoint.Checkpoint, config: TrainConfig, index: dict[str, Any]) -> None:
    """Raises CurationError where a checkpoint is of another model, objective, VAE or text encoder."""
    before = saved.state["config"]
    try:
        theirs = TrainConfig.model_validate(before).identity()
    except ValidationError as error:
        raise CurationError(
            f"{saved.store.root} was written with settings that this version does not know "
            f"({error.errors()[0]['msg']}): give another --out"
        ) from error
    for key, value in config.identity().items():
        if theirs[key] != value:
            raise CurationError(
                f"{saved.store.root} is of a training with {key} = {theirs[key]}, this one has {value}: "
                f"give another --out, or train.init to start from those weights"
            )
    for role in ("vae", "text"):
        if saved.state[role]["sha256"] != index[role]["sha256"]:
            raise CurationError(
                f"{saved.store.root} was trained on latents of the {role} model {saved.state[role]['id']}, these "
                f"shards are of {index[role]['id']} ({index[role]['sha256'][:12]}): give another --out"
            )


def first_weights(config: TrainConfig, index: dict[str, Any]) -> dict[str, Any]:
    """EMA weights of `train.init`, inflated where an image model becomes one of video. Raises CurationError."""
    from curation.trainer.model import DiT, check_weights, inflate

    assert config.init
    saved = checkpoint.find(config.init)
    if saved.state["text"]["sha256"] != index["text"]["sha256"]:
        raise CurationError(f"{config.init} reads captions through {saved.state['text']['id']}, these shards do not")
    model = config.make_model(index["vae"]["channels"], index["text"]["dimensions"])
    weights = saved.tensors("ema")
    try:
        if isinstance(model, DiT):
            return inflate(weights, model, still=_still(saved))
        check_weights(weights, model)
    except CurationError as error:
        raise CurationError(f"train.init {config.init} does not fit {config.model}: {error}") from error
    return weights


def origin(saved: checkpoint.Checkpoint, init: str, index: dict[str, Any]) -> list[str]:
    """Sentences: what a training begins with, and whether its latents were of another kind."""
    kind = "images" if _still(saved) else "clips"
    lines = [f"EMA weights of {init}, step {saved.step:,}, trained on {kind}"]
    before, now = saved.state["vae"], index["vae"]
    if before["sha256"] != now["sha256"]:
        lines.append(f"caution: they know latents of the VAE {before['id']}, these shards are of {now['id']}")
    return lines


def _still(saved: checkpoint.Checkpoint) -> bool:
    return all(name.startswith("1x") for name in saved.state["buckets"])
