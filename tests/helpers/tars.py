"""Tars and folders with given names, and the rows that a source gives of them."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources import open_source, read_chunk
from curation.stores.storage import Store

Members = Sequence[tuple[str, bytes]]


def write_tar(path: Path, members: Members, form: int = tarfile.PAX_FORMAT) -> None:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_folder(path: Path, members: Members) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, data in members:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)


def source_rows(base: Path | str, size: int = 2, **section: Any) -> list[SourceRow]:
    """Every row of a source, in chunks of `size`; each chunk is what it says and survives JSON."""
    source = open_source(SourceSection(**section), str(base), Store(str(base)))
    out: list[SourceRow] = []
    for number, chunk in enumerate(source.chunks(size)):
        given = list(read_chunk(chunk))
        assert chunk.number == number and len(given) == chunk.rows <= size
        assert json.loads(json.dumps(chunk.args)) == chunk.args
        out += given
    return out
