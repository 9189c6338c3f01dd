"""Where records come from. A source makes chunks on the driver; a worker reads a chunk's rows.

Modules are imported by kind, late: a table of paths needs neither tar nor img2dataset.
"""

from collections.abc import Iterator
from importlib import import_module

from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources.base import Chunk, Source
from curation.stores.storage import Store

_READERS = {
    "table": ("curation.sources.table", "read_table"),
    "folder": ("curation.sources.folder", "read_folder"),
    "webdataset": ("curation.sources.webdataset", "read_webdataset"),
    "urls": ("curation.sources.urls", "read_urls"),
}


def open_source(section: SourceSection, base: str, work: Store) -> Source:
    """The source that a manifest's `source:` describes.

    base  the folder (or URL) that relative paths start from: the manifest's own
    work  the run directory's `_work`; downloads are kept in it

    Reads a bounded part of it, whatever its size. Raises UsageError or CurationError if it cannot be opened.
    """
    if section.table:
        from curation.sources.table import open_table

        return open_table(section, base, section.table)
    if section.folder or section.webdataset:
        from curation.sources.directory import open_media

        return open_media(section, base)
    from curation.sources.urls import open_urls

    return open_urls(section, base, work)


def read_chunk(chunk: Chunk) -> Iterator[SourceRow]:
    """The chunk's rows, the same on every machine every time. Raises CurationError if the source is gone."""
    module, function = _READERS[chunk.kind]
    yield from getattr(import_module(module), function)(chunk.args)
