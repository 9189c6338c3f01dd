"""The contract of a stage that judges captions: it sees one caption at a time, the record's others are its own rows."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from curation.stage import Batch, Column, Columns, Failure, Stage

GENERATED, GENERATED_SOURCE = "generated_caption", "generated_caption_source"
"""Columns of a caption that a stage made, and of what made it. It stands behind those of the source."""


def with_lists(columns: Mapping[str, Column]) -> dict[str, Column]:
    """What a caption stage writes: values of the main caption, and beside them the lists (`each`) for all captions."""
    lists = {
        column.each: Column(pa.list_(column.type), f"`{name}` of each of `captions`, then of the generated caption")
        for name, column in columns.items()
        if column.each
    }
    return {**columns, **lists}


class CaptionStage(Stage):
    """Judges every caption of a record. A subclass writes `with_lists({...})` and implements `judge`.

    Its `reads` name `captions`; where a generated caption exists, that one is judged too, as the last. The value of
    the record is that of its main caption: the first one that there is.
    """

    @abstractmethod
    def judge(self, batch: Batch) -> Columns:
        """Judge single captions.

        `batch` has one row for each caption, in `caption` (None for a record without any), and beside it the other
        columns that the stage reads, of the caption's record. Returns the columns that have an `each`.
        """

    def run(self, batch: Batch) -> Columns:
        """The columns of `writes` for records, from one call of `judge` for all their captions."""
        records = [texts_of(*row) for row in zip(batch["captions"], batch.get(GENERATED) or _none(batch), strict=True)]
        rows: list[tuple[int, str | None]] = [(i, text) for i, texts in enumerate(records) for text in texts or (None,)]
        others = {name: values for name, values in batch.items() if name not in ("captions", GENERATED, "caption")}
        single: dict[str, Sequence[Any]] = {name: [values[i] for i, _ in rows] for name, values in others.items()}
        judged = self.judge({**single, "caption": [text for _, text in rows]})
        out: dict[str, list[Any]] = {name: [] for name in self.writes}
        start = 0
        for texts in records:
            end = start + max(1, len(texts))
            for name, column in self.writes.items():
                if column.each is not None:
                    values = list(judged[name][start:end])
                    failure = next((value for value in values if isinstance(value, Failure)), None)
                    out[name].append(failure if failure is not None else values[0])
                    out[column.each].append(values if texts else [])
            start = end
        return dict(out)


def texts_of(captions: Sequence[str] | None, generated: str | None) -> list[str]:
    """All captions of a record in the order of its list columns: the source's, then the generated one."""
    return [*(captions or ()), *([generated] if generated else [])]


def _none(batch: Batch) -> list[None]:
    return [None] * len(batch["captions"])
