"""Files on a disk that are no data: devices, pipes, and files that are mostly holes."""

import os
import stat

from curation.errors import CurationError

SPARSE = 1 << 30
"""Bytes of holes from which on a file is looked at: reading 2 TB of zeros takes an hour."""


def check_whole(path: str) -> None:
    """Raise CurationError where a local file is no regular one, or has more holes than data, and a GB of them."""
    try:
        facts = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(facts.st_mode):
            raise CurationError(f"{path} is not a regular file")
        if facts.st_size > SPARSE and facts.st_blocks * 512 < facts.st_size - SPARSE:
            data = _data(path, facts.st_size)
            if facts.st_size - data > max(SPARSE, data):
                raise CurationError(
                    f"{path} is a sparse file: {data:,} of its {facts.st_size:,} bytes are there, the rest is holes"
                )
    except OSError:  # reading it says what is wrong
        return


def _data(path: str, size: int) -> int:
    """Bytes outside of holes, as far as the filesystem says; after 1,000 pieces what follows counts as data."""
    found = place = 0
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(1000):
            try:
                begin = os.lseek(descriptor, place, os.SEEK_DATA)
            except OSError:  # ENXIO: no data follow
                return found
            place = os.lseek(descriptor, begin, os.SEEK_HOLE)
            found += place - begin
            if place >= size:
                return found
        return found + size - place
    finally:
        os.close(descriptor)
