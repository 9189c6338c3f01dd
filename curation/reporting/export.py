"""`curate export-list`: the ids, keys and reasons of records, for other programs."""

import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from curation import rundir
from curation.errors import UsageError
from curation.load import suggest
from curation.scoring import chunkfile
from curation.stores.location import name, parent
from curation.stores.storage import Store

COLUMNS = ("id", "source_key", "decision", "stage", "reason", "value", "threshold", "duplicate_of", "error")


def export_list(directory: str, reasons: Sequence[str], out: str) -> int:
    """Write a row for each record of the reasons (all without any) into a file, and return how many there are.

    reasons  `kept`, `dropped`, `quarantined`, a stage, `stage: reason`, or a reason
    out      a path or URL whose ending says the format: .csv, .jsonl, .parquet; `-` for CSV on standard output

    Raises UsageError for another ending, and for a reason that no record has.
    """
    writer = _writer(out)
    store = Store(directory)
    listed = records(store, reasons)
    data = writer(listed)
    if out == "-":
        sys.stdout.write(data.decode())
    else:
        Store(parent(out)).write(name(out), data)
    return int(listed.num_rows)


def records(store: Store, reasons: Sequence[str] = ()) -> pa.Table:
    """The decision with the records' keys, sorted by id."""
    selection = rundir.read_selection(store)
    selection = selection.filter(pa.array(_of(selection, reasons))) if reasons else selection
    keys = pa.concat_tables([chunkfile.read(store, file, ["id", "source_key"]) for file in rundir.score_files(store)])
    places = pc.index_in(selection["id"], value_set=keys["id"].combine_chunks())
    table = selection.append_column("source_key", keys["source_key"].combine_chunks().take(places.combine_chunks()))
    return table.select(COLUMNS)


def _of(selection: pa.Table, reasons: Sequence[str]) -> np.ndarray:
    columns = [selection[name].to_pylist() for name in ("decision", "stage", "reason")]
    rows = zip(*columns, strict=True)
    words = [(d, s, r, f"{s}: {r}", f"{d} at {s}: {r}") if s else (d, "", "", "") for d, s, r in rows]
    known = sorted({word for row in words for word in row[:4] if word})
    said = {word for row in words for word in row}
    for reason in reasons:
        if reason not in said:
            raise UsageError(
                f"--reason {reason}: no record has it{suggest(reason, known)}; there are: {', '.join(known[:40])}"
            )
    return np.array([any(reason in row for reason in reasons) for row in words], bool)


def _writer(out: str) -> Callable[[pa.Table], bytes]:
    if out == "-" or out.endswith(".csv"):
        return _csv
    if out.endswith(".jsonl"):
        return lambda table: "".join(_lines(table)).encode()
    if out.endswith(".parquet"):
        return _parquet
    raise UsageError(f"--out {out}: the ending says the format; say a name with .csv, .jsonl or .parquet")


def _csv(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    return buffer.getvalue()


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _lines(table: pa.Table) -> Iterator[str]:
    for batch in table.to_batches(10_000):
        for row in batch.to_pylist():
            yield json.dumps({key: value for key, value in row.items() if value is not None}, ensure_ascii=False) + "\n"
