"""Rows sorted into temporary files by a number: the first half of a sort that is larger than memory."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BUFFERED_BYTES = 64_000_000
"""Held before they are sorted into the files: many small pieces would cost more than what is in them."""
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class Spool:
    """Files of one schema in a folder, one for each number that rows come with, in the order in which rows came."""

    def __init__(self, folder: Path, name: str, buffered: int = BUFFERED_BYTES) -> None:
        self._folder, self._name, self._buffered = folder, name, buffered
        self._held: list[tuple[NDArray[np.int32], pa.Table]] = []
        self._bytes = 0
        self._files: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        self._inside = ExitStack()

    def add(self, numbers: NDArray[np.int32], table: pa.Table) -> None:
        """The file of each row, and the rows; all tables have the same schema."""
        self._held.append((numbers, table))
        self._bytes += table.get_total_buffer_size()
        if self._bytes >= self._buffered:
            self._sort_out()

    def finish(self) -> None:
        """All rows are there: close the files."""
        self._sort_out()
        self._inside.close()

    def read(self, number: int) -> pa.Table | None:
        """The rows of one number, None where there are none; their file is removed."""
        if number not in self._files:
            return None
        path = self._path(number)
        with pa.OSFile(str(path)) as file:
            table = pa.ipc.open_stream(file).read_all()
        path.unlink()
        return table

    def _sort_out(self) -> None:
        if not self._held:
            return
        numbers = np.concatenate([held for held, _ in self._held])
        table = pa.concat_tables([table for _, table in self._held])
        self._held, self._bytes = [], 0
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        table = table.combine_chunks().take(pa.array(order)).combine_chunks()
        edges = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1))
        for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            self._file(int(numbers[low]), table.schema).write_table(table.slice(low, high - low))

    def _file(self, number: int, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
        if number not in self._files:
            file = self._inside.enter_context(pa.OSFile(str(self._path(number)), "wb"))
            writer = pa.ipc.new_stream(file, schema, options=_OPTIONS)
            self._files[number] = self._inside.enter_context(writer)
        return self._files[number]

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number}.arrow"
