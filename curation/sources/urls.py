"""`urls:` sources: tables of URLs, downloaded by img2dataset on the workers, chunk by chunk.

What was downloaded stays in the run's `_work/downloads/`: a tar of the files as they came and a Parquet index
in img2dataset's columns. A later phase, another node, a second try read it there: nothing comes twice.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

from curation.errors import UsageError
from curation.install import command
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources.base import VIDEO_BYTES, Chunk, Count
from curation.sources.download import Download, Settings, complete
from curation.sources.fetch import IN_RUN
from curation.sources.rows import broken
from curation.sources.table import Table, fingerprint, known_columns, open_table, read_table, table_files
from curation.stores.location import WEB, name, resolve, scheme_of
from curation.stores.storage import Store

URL_COLUMNS = ("url", "URL", "image_url")


@dataclass(frozen=True)
class Urls:
    """A table whose media column holds URLs; `work` is where downloads are kept."""

    table: Table
    work: Store
    settings: Settings

    def chunks(self, rows_per_chunk: int, video_bytes: int = VIDEO_BYTES) -> Iterator[Chunk]:
        for chunk in self.table.chunks(rows_per_chunk, video_bytes):
            args = {
                "table": chunk.args,
                "name": chunk.fingerprint,
                "work": self.work.root,
                **asdict(self.settings),
            }
            yield replace(chunk, kind="urls", args=args, fingerprint=fingerprint("urls", {}, chunk.fingerprint))

    def estimate(self) -> Count:
        return self.table.estimate()


def open_urls(section: SourceSection, base: str, work: Store) -> Urls:
    """Raises UsageError where img2dataset is not installed, or no column with URLs is named or known."""
    urls = section.urls or ""
    if find_spec("img2dataset") is None:
        raise UsageError(f"source: urls: needs img2dataset; to install it: {command('download')}")
    if section.media is None:
        known = known_columns(next(table_files(resolve(base, urls))))
        section = section.model_copy(update={"media": next((c for c in URL_COLUMNS if c in known), None)})
    settings = Settings(
        max_bytes=int(section.max_mb * 1e6),
        private_addresses=section.private_addresses,
        timeout_s=section.timeout_s,
        retries=section.retries,
    )
    return Urls(open_table(section, base, urls), work, settings)


def read_urls(args: dict[str, Any]) -> Iterator[SourceRow]:
    """The rows of a chunk, after downloading what is not there yet; a failed download is its row's error."""
    rows = list(read_table(args["table"]))
    work = Store(args["work"])
    settings = Settings(**{field: args[field] for field in Settings.__dataclass_fields__})
    wanted = dict.fromkeys(row.uri for row in rows if not row.error and scheme_of(row.uri) in WEB)
    found = complete(work.child("downloads"), args["name"], list(wanted), settings)
    for row in rows:
        yield row if row.error else _downloaded(row, found.get(row.uri), name(work.root))


def _downloaded(row: SourceRow, download: Download | None, work: str) -> SourceRow:
    if download is None:
        return replace(row, error=f"{row.uri[:300]} is not an http or https URL")
    if download.error:
        return broken(row.key, f"{row.uri[:300]} cannot be downloaded: {download.error}", row.uri)
    place = f"{IN_RUN}{work}/downloads/{download.tar}#offset={download.offset}&size={download.size}"
    return replace(row, uri=place, extra={"url": row.uri, **row.extra})
