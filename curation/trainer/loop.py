"""The training loop of one worker: the same alone, and as one of many."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from curation.errors import CurationError, Preempted
from curation.progress import console
from curation.stores.storage import Store
from curation.trainer.checkpoint import Checkpoint, Tensors
from curation.trainer.config import TrainConfig
from curation.trainer.data import Batch, Batches
from curation.trainer.flops import flops_per_sample, peak_flops
from curation.trainer.log import TrainLog
from curation.trainer.objectives import LossByTime
from curation.trainer.parallel import Spread, device_of, gathered, put, rank_and_world, whole
from curation.trainer.writer import Writer

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of AdamW, per parameter; its step count is the training's own."""
LOSSES = ("mean", "square", "count")
SPARE = 1.25
"""Free GPU memory over a checkpoint's size from which its copies stay there until they are written."""


class Trainer:
    """Model, averaged weights, optimizer and the losses so far; `step` and all of these make up a checkpoint."""

    def __init__(self, batches: Batches, config: TrainConfig, first: Tensors | None = None) -> None:
        """first  weights to begin with instead of random ones"""
        self.batches, self.config = batches, config
        self.device, (self.rank, self.world) = device_of(config), rank_and_world()
        if self.device.type == "cuda" and config.precision == "bf16":
            torch.set_float32_matmul_precision("high")  # what autocast leaves in fp32 may run as TF32
        index = batches.shards.index
        self.sizes = (index["vae"]["channels"], index["text"]["dimensions"])
        model = config.make_model(*self.sizes)
        if first is not None:
            model.load_state_dict(first)
        self.model = model.to(self.device)
        self.spread = Spread(self.model, config)
        self.objective = config.make_objective()
        self.parameters = dict(self.model.named_parameters())
        self.ema = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.parameters, config.weight_decay),
            config.lr,
            config.betas,
            **{"fused" if self.device.type == "cuda" else "foreach": True},
        )
        self.losses, self.step = LossByTime(), 0
        self.since_log = (0.0, 0)
        self._unread: list[Tensor] = []

    def update(self, micro_batches: list[Batch]) -> Tensor:
        """One step over this worker's part of a global batch; the gradient's norm, still on the device.

        On a GPU nothing here waits for it: the host is free to prepare the next step.
        """
        rate = self.config.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        seen = []
        for i, batch in enumerate(micro_batches):
            with self.spread.accumulating() if i < len(micro_batches) - 1 else nullcontext():
                t, losses, counted = self._losses(batch)
                # workers' gradients are averaged, so that a sum over this one's samples counts for all
                (counted.sum() * self.world / batch["size"]).backward()
                seen.append(torch.stack([t, losses.detach(), counted.detach()], dim=1))
        limit = self.config.clip if self.config.clip is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), limit, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._average()
        self._unread.append(gathered(torch.cat(seen), self.batches.counts(micro_batches[0]["size"])))
        if self.config.timesteps == "loss-aware":
            self.read_losses()
        return norm

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(t, the objective's loss, the same as it counts in the gradient) of each sample, [B].

        They differ by the importance weight of loss-aware timesteps.
        """
        u, weight = batch["u"], torch.ones(len(batch["u"]))
        if self.config.timesteps == "loss-aware":
            u, weight = self.losses.draw(u)
        t, weight = self._moved(self.objective.time(u)), self._moved(weight)
        x, noise, text, mask = (self._moved(batch[key]) for key in ("latents", "noise", "text", "text_mask"))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            predicted = self.spread.forward(self.objective.noised(x, noise, t), t, text, mask)
        error = (predicted.float() - self.objective.target(x, noise, t)).square().flatten(1).mean(1)
        loss = error * self.objective.weight(t)
        return t, loss, loss * weight

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def _average(self) -> None:
        """EMA of the weights; its decay grows from 0.1, so that the first weights are soon forgotten."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        averaged, current = list(self.ema.values()), [p.detach() for p in self.parameters.values()]
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def read_losses(self) -> None:
        """Take the losses of the steps since the last reading off the device."""
        for seen in self._unread:
            t, losses, counted = seen.cpu().unbind(1)
            if not bool(counted.isfinite().all()):
                raise CurationError(
                    f"the loss is not finite at step {self.step:,}: the training has diverged. Checkpoints before it "
                    "are kept; lower train.lr, say train.clip, or train.precision: fp32, and run again"
                )
            self.losses.update(t, losses)
            total, count = self.since_log
            self.since_log = (total + float(counted.double().sum()), count + len(counted))
        self._unread.clear()

    def parts(self) -> dict[str, Tensors]:
        """Copies of everything a checkpoint holds, in full; every worker must ask.

        On the GPU where it has room for them: to copy them there takes milliseconds, to the CPU as long as many steps.
        """
        place = self._place_of_copies()
        moments = {
            f"{name}.{moment}": whole(self.optimizer.state[p][moment], place)
            for name, p in self.parameters.items()
            for moment in MOMENTS
            if moment in self.optimizer.state[p]
        }
        model = {name: whole(p, place) for name, p in self.parameters.items()}
        return {"model": model, "ema": {name: whole(p, place) for name, p in self.ema.items()}, "optimizer": moments}

    def _place_of_copies(self) -> str:
        if self.device.type != "cuda":
            return "cpu"
        copies = 2 + len(MOMENTS)  # weights, averaged weights, moments
        needed = copies * sum(p.numel() * p.element_size() for p in self.parameters.values())
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        room = torch.cuda.mem_get_info(self.device)[0] + cached
        return str(self.device) if room > SPARE * needed else "cpu"

    def state(self) -> dict[str, Any]:
        """The rest of a checkpoint, JSON; `step` and `config.seed` say which batches come next."""
        shards = self.batches.shards
        index = shards.index
        self.read_losses()
        return {
            "step": self.step,
            "config": self.config.model_dump(mode="json"),
            "vae": index["vae"],
            "text": index["text"],
            "null_text": index["null_text"],
            "shards": shards.store.root,
            "buckets": {bucket.name: bucket.samples for bucket in self.batches.schedule.buckets},
            "since_log": list(self.since_log),
            "losses": {key: getattr(self.losses, key).tolist() for key in LOSSES},
        }

    def _check_parts(self, parts: Mapping[str, Tensors], saved: Checkpoint) -> None:
        """Raise CurationError where a tensor is missing, or has another shape."""
        for name, p in self.parameters.items():
            moments = (parts["optimizer"].get(f"{name}.{moment}") for moment in MOMENTS)
            for tensor in (parts["model"].get(name), parts["ema"].get(name), *moments):
                if tensor is None or tensor.shape != p.shape:
                    raise CurationError(
                        f"{saved.store.root}: {name} is missing in one of its files or has another shape: delete the "
                        "checkpoint's folder, and train again"
                    )

    def restore(self, saved: Checkpoint) -> None:
        """Go on where a checkpoint was written, on any number of workers."""
        parts = {part: saved.tensors(part) for part in ("model", "ema", "optimizer")}
        self._check_parts(parts, saved)
        for name, p in self.parameters.items():
            put(parts["model"][name], p)
            put(parts["ema"][name], self.ema[name])
            state = {moment: torch.zeros_like(p) for moment in MOMENTS}
            for moment, tensor in state.items():
                put(parts["optimizer"][f"{name}.{moment}"], tensor)
            # the fused optimizer counts on the device
            count = torch.tensor(float(saved.step), device=self.device if self.device.type == "cuda" else None)
            self.optimizer.state[p] = {"step": count, **state}
        self.step = saved.step
        total, count = saved.state["since_log"]
        self.since_log = (total, count)
        mean, square, seen = (torch.tensor(saved.state["losses"][key], dtype=torch.float64) for key in LOSSES)
        self.losses = LossByTime(mean, square, seen)


def decay_groups(parameters: Mapping[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: weights of layers decay; biases, norms and positions, which no width makes large, do not."""
    decaying = {name for name, p in parameters.items() if p.ndim >= 2 and name.rpartition(".")[2] == "weight"}
    groups = [
        {"params": [p for name, p in parameters.items() if name in decaying], "weight_decay": weight_decay},
        {"params": [p for name, p in parameters.items() if name not in decaying], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def run(trainer: Trainer, out: Store) -> None:
    """Train to config.steps. Raises Preempted after SIGTERM, when a checkpoint is written."""
    config, chief = trainer.config, trainer.rank == 0
    log = TrainLog(out, trainer.step, config.steps, console()) if chief else None
    meter = Meter(trainer)
    with terminated() as stop, Writer() as writer:
        for micro_batches in trainer.batches.stream(trainer.step, config.steps):
            norm = trainer.update(micro_batches)
            meter.count(micro_batches)
            if trainer.step % config.log_every == 0 or trainer.step == config.steps:
                values = meter.read(norm)
                if log:
                    log.add(trainer.step, values)
            if config.sample_every and trainer.step % config.sample_every == 0:
                _grid(trainer, out)
            stopping = _agreed(trainer, bool(stop))
            if stopping or trainer.step % config.checkpoint_every == 0 or trainer.step == config.steps:
                _save(trainer, out, log, writer)
            if stopping and trainer.step < config.steps:
                raise Preempted(f"SIGTERM at step {trainer.step}: a checkpoint is written, run again to continue")
    if trainer.world > 1:
        dist.barrier()  # the chief's last checkpoint is written
    if log:
        log.close()


def _agreed(trainer: Trainer, stop: bool) -> bool:
    """Whether any worker was told to stop; asked at every log step when there are several."""
    if trainer.world == 1:
        return stop
    if trainer.step % trainer.config.log_every:
        return False
    flag = torch.tensor([float(stop)], device=trainer.device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def _save(trainer: Trainer, out: Store, log: TrainLog | None, writer: Writer) -> None:
    """Begin to write a checkpoint. Raises CurationError where the weights or the losses are not finite."""
    writer.wait()  # the copies of the one before hold memory
    state, parts = trainer.state(), trainer.parts()
    finite = torch.stack([weight.isfinite().all() for weight in parts["model"].values()]).tolist()
    wrong = next((name for name, sound in zip(parts["model"], finite, strict=True) if not sound), None)
    if wrong:
        raise CurationError(
            f"the weights of {wrong} are not finite at step {trainer.step:,}: the training has diverged. No checkpoint "
            "was written and none removed; lower train.lr or say train.clip, and run again"
        )
    if log:
        log.checkpoint()
        writer.write(out, state, parts, trainer.config.keep)


def _grid(trainer: Trainer, out: Store) -> None:
    """samples/step-N.png: the averaged weights' pictures of the prompts."""
    from curation.trainer.grids import write_grid

    ema = {name: whole(p) for name, p in trainer.ema.items()}
    if trainer.rank == 0:
        write_grid(trainer.state() | {"config": trainer.config.model_dump(mode="json")}, ema, trainer.batches, out)


@contextmanager
def terminated() -> Iterator[list[int]]:
    """A list that is no longer empty after SIGTERM. Elsewhere than in the main thread it stays empty."""
    got: list[int] = []
    try:
        before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    except ValueError:
        yield got
        return
    try:
        yield got
    finally:
        signal.signal(signal.SIGTERM, before)


class Meter:
    """Samples per second and MFU between two log lines, and the rest of a line."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.peak = (trainer.config.peak_tflops or 0) * 1e12 or peak_flops(trainer.device)
        self.work: dict[str, float] = {}
        self._reset()

    def _reset(self) -> None:
        self.samples, self.flops, self.steps, self.began = 0, 0.0, 0, time.monotonic()

    def count(self, micro_batches: list[Batch]) -> None:
        bucket, size = micro_batches[0]["bucket"], micro_batches[0]["size"]
        if bucket not in self.work:
            shape = tuple(micro_batches[0]["latents"].shape[1:])
            with torch.device("meta"):
                model: nn.Module = self.trainer.config.make_model(*self.trainer.sizes)
            self.work[bucket] = flops_per_sample(model, shape, self.trainer.sizes[1])
        self.samples += size
        self.steps += 1
        self.flops += size * self.work[bucket]

    def read(self, norm: Tensor) -> dict[str, Any]:
        """A line of metrics; loss is the mean over all samples since the last line, loss_by_t a running mean."""
        trainer = self.trainer
        trainer.read_losses()
        seconds = max(time.monotonic() - self.began, 1e-9)
        total, count = trainer.since_log
        trainer.since_log = (0.0, 0)
        values = {
            "loss": total / max(1, count),
            "gradient_norm": float(whole(norm)),
            "lr": trainer.config.learning_rate(trainer.step - 1),
            "epoch": trainer.batches.schedule.epochs(trainer.step),
            "seconds_per_step": round(seconds / max(1, self.steps), 5),
            "samples_per_s": round(self.samples / seconds, 3),
            "mfu": round(self.flops / seconds / (self.peak * trainer.world), 5),
            "loss_by_t": [float(f"{value:.6g}") for value in trainer.losses.mean],
        }
        self._reset()
        return values
