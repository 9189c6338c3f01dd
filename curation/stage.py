"""The contract of a stage: the one page to read before writing a stage of your own.

A stage adds columns to records. It never decides: a threshold stands in the manifest (`keep:`), and the
engine compares. It is plain Python, knows neither Ray nor files, and can be called in a test as

    stage = Sharpness(Sharpness.Params())
    stage.load()
    stage.run({"pixels": [Pixels.of(array)]})      # -> {"sharpness": [12.5]}
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curation.errors import Unavailable
from curation.models.registry import open_model

Batch = Mapping[str, Sequence[Any]]
"""Columns of equal length. `pixels` holds `curation.pixels.Pixels`; every other column plain Python values."""

Columns = dict[str, Sequence[Any]]
"""What a stage returns: every column of `writes`, as long as the batch. A value may be None or a `Failure`."""


class Failure(str):
    """Stands in a row in place of a value: the sentence saying why the record cannot be scored.

    The record is quarantined with this sentence; its neighbours are not touched.
    """


class Params(BaseModel):
    """A stage's parameters as a manifest gives them; a stage subclasses it with its own fields.

    valueless  parameters that do not affect the computed values (a timeout, for example); changing one does not
               invalidate stored columns
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    valueless: ClassVar[frozenset[str]] = frozenset()


@dataclass(frozen=True)
class Column:
    """One column that a stage writes: its Arrow type, and what it means with unit and range.

    each  of a value of the record's main caption: the list column with the same value of each of its captions
    """

    type: pa.DataType
    doc: str
    each: str | None = None


@dataclass(frozen=True)
class Resources:
    """What this stage costs the worker that holds it; of a model on a GPU, the worker holds only the front.

    memory_mb     in the worker: where a machine's memory is short, fewer workers start
    milliseconds  about what one record of 1 MP costs on one core; for `curate plan` only
    batch_rows    rows handed to `run` at once; fewer at the end of a micro-batch
    """

    memory_mb: int = 100
    milliseconds: float = 1.0
    batch_rows: int = 32


class Stage(ABC):
    """One way of looking at a record. Subclass it in a file of its own under stages/.

    name      the key in the manifest, and the stage's name in errors and in the ledger
    version   raise it when the same input gives other values: stored columns are then computed anew
    reads     columns of earlier stages or of the record (`id`, `caption`, `captions`, `media`, `pixels` ...)
    writes    the columns it adds
    role      the model role it opens (curation.models), None for a stage without a model; its Params then
              have a field `model: str | None = None`, filled from the manifest's `models:` where unset
    devices   of a stage without a role whose Params have a `device`: where the network that it brings can compute
    gpu_mb    about what that network takes of a GPU's memory
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[Mapping[str, Column]]
    resources: ClassVar[Resources] = Resources()
    role: ClassVar[str | None] = None
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    gpu_mb: ClassVar[int] = 0
    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: Any) -> None:
        self.params = params

    @classmethod
    def reads_with(cls, params: Any) -> tuple[str, ...]:
        """The columns read with these params: `reads`, unless a stage's choice of model decides (see caption)."""
        return cls.reads

    @classmethod
    def resources_with(cls, params: Any) -> Resources:
        """What it needs with these params: `resources`, unless a stage's choice of model decides."""
        return cls.resources

    @classmethod
    def devices_with(cls, params: Any) -> tuple[str, ...]:
        """Where its own network can compute with these params: `devices`, unless a choice of method decides."""
        return cls.devices

    def load(self) -> None:  # noqa: B027 (optional: most stages have nothing to load)
        """Load models and tables, once per worker, before the first batch."""

    @abstractmethod
    def run(self, batch: Batch) -> Columns:
        """Score a batch (column lists in, column lists out).

        It may simply raise on a row that it cannot handle: the engine then calls it row by row and gives the
        exception's sentence to that row alone. `Failure` values do the same without the second call. Where no row
        is at fault (a server is gone) it raises `Unavailable`: the run stops, and continues when called again.
        """


class ModelParams(Params):
    """The parameters that every stage with a model has."""

    model: str | None = Field(None, description="embedded, production, or BACKEND:ARGUMENT; default: `models:`")
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="where the model computes; default: the manifest's `device:`, where the model can"
    )


class ModelStage(Stage):
    """A stage that asks a model of the role `role`, as `self.model`; it does not know where the model computes."""

    role: ClassVar[str]
    Params = ModelParams
    model: Any

    def load(self) -> None:
        self.model = open_model(self.role, self.params.model or "embedded", self.params.device or "cpu")


def rowwise(columns: Sequence[str], score: Callable[..., tuple[Any, ...]], *inputs: Sequence[Any]) -> Columns:
    """Apply `score` to each row of `inputs`; it returns one value per name in `columns`.

    A row in which it raises gets a `Failure` in every column.
    """
    rows: list[tuple[Any, ...]] = []
    for values in zip(*inputs, strict=True):
        try:
            rows.append(score(*values))
        except Exception as error:  # noqa: BLE001 (one bad row must not cost its neighbours)
            rows.append((Failure(sentence(error)),) * len(columns))
    return {name: [row[i] for row in rows] for i, name in enumerate(columns)}


def sentence(error: BaseException) -> str:
    """An exception as one bounded line: `ValueError: needs at least one word`."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__


def run_guarded(stage: Stage, batch: Batch) -> Columns:
    """Run a batch; when the stage raises, run it row by row, so that the failure stays with its row."""
    rows = len(next(iter(batch.values())))
    try:
        return _finite(check_columns(stage, stage.run(batch), rows))
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 (any error of a stage belongs to a row)
        if rows == 1:
            return {name: [Failure(sentence(error))] for name in stage.writes}
    singles = [run_guarded(stage, {name: values[i : i + 1] for name, values in batch.items()}) for i in range(rows)]
    return {name: [single[name][0] for single in singles] for name in stage.writes}


def check_columns(stage: Stage, columns: Columns, rows: int) -> Columns:
    """Raise ValueError when a stage did not return just its columns, each as long as the batch."""
    if set(columns) != set(stage.writes):
        raise ValueError(f"stage {stage.name} declared {sorted(stage.writes)} but returned {sorted(columns)}")
    for name, values in columns.items():
        if len(values) != rows:
            raise ValueError(f"stage {stage.name} returned {len(values)} values of {name} for {rows} rows")
    return columns


def _finite(columns: Columns) -> Columns:
    """A `Failure` in place of every NaN or infinity: it is a model's mistake, and no threshold could judge it."""
    return {name: [_checked(name, value) for value in values] for name, values in columns.items()}


def _checked(name: str, value: Any) -> Any:
    if isinstance(value, float | np.floating):
        sound = bool(np.isfinite(value))
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        sound = bool(np.isfinite(value).all())
    elif isinstance(value, list | tuple):
        sound = all(math.isfinite(each) for each in value if isinstance(each, float))
    else:
        sound = True
    return value if sound else Failure(f"its {name} is not a finite number")
