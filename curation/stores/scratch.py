"""Temporary folders that also go when their process was killed: the next process that wants one removes them.

They lie where Python puts temporary files (TMPDIR), `curate-<machine>-<process>-<its start>-<random>`: the name says
whose they are, so that nobody takes what a living process works in.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from curation.stores.process import machine, process_start

_NAME = re.compile(r"curate-([0-9a-f]{12})-([0-9]{1,10})-([0-9]{1,20})-[^/]+")


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for this process alone, removed at the end. The first one removes what dead processes left."""
    _sweep_once(os.getpid())
    pid = os.getpid()
    prefix = f"curate-{_here()}-{pid}-{process_start(pid) or 0}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sweep() -> None:
    """Remove the folders of processes of this machine that are gone."""
    try:
        there = list(Path(tempfile.gettempdir()).glob("curate-*"))
    except OSError:
        return
    for folder in there:
        found = _NAME.fullmatch(folder.name)
        if found and found[1] == _here() and process_start(int(found[2])) != found[3]:
            shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=1)
def _sweep_once(_pid: int) -> None:
    sweep()


def _here() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:12]
