"""Records that a limit of wall-clock time ended: noted beside their chunk, tried once more when all else is scored.

A note is written before the chunk's file that it speaks of, and removed after that file is written again, so that an
interrupted run finds it and tries these records again, too.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from curation.scoring.chunkfile import SCORES, ChunkTask
from curation.sources.base import Chunk
from curation.stores import jsontext
from curation.stores.storage import Store

NOTES = "_work/again"


@dataclass(frozen=True)
class Note:
    """What to try again of a chunk.

    file   the chunk's file in scores/, in which the records stand as failed
    rows   their places in it
    whole  a video is among them: the chunk's videos are split anew, since what splitting learnt is not stored
    """

    chunk: Chunk
    file: str
    rows: tuple[int, ...]
    whole: bool


def write(store: Store, note: Note) -> None:
    store.write(_path(note.chunk.number), json.dumps(asdict(note)).encode())


def forget(store: Store, number: int) -> None:
    """Nothing of the chunk with this number is left to be tried again."""
    if store.exists(_path(number)):
        store.delete(_path(number))


def find(store: Store, number: int, file: str | None) -> Note | None:
    """The note on a chunk's file, None where there is none or it speaks of another file."""
    if file is None or not store.exists(_path(number)):
        return None
    note = _read(store, _path(number))
    return note if note.file == file else None


def tasks(store: Store, chunks: Iterable[int]) -> Iterator[tuple[int, ChunkTask]]:
    """Those of the numbered `chunks` with records to try again, and how many these are; notes on others, and on files
    that are gone, are removed."""
    known = set(chunks)
    for entry in sorted(store.list(NOTES), key=lambda entry: entry.name):
        note = _read(store, entry.name)
        if note.chunk.number in known and store.exists(f"{SCORES}/{note.file}"):
            yield len(note.rows), ChunkTask(note.chunk, note.file, again=True)
        else:
            store.delete(entry.name)


def _read(store: Store, path: str) -> Note:
    found = jsontext.read_object(store, path)
    return Note(Chunk(**found["chunk"]), found["file"], tuple(found["rows"]), found["whole"])


def _path(number: int) -> str:
    return f"{NOTES}/{number:06d}.json"
