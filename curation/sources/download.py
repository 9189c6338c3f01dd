"""Downloads by img2dataset, in this process, through the guarded opener; kept as tars with an index."""

import errno
import os
import shutil
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import xxhash

from curation.stores.location import explain
from curation.stores.net import AGENT, DISALLOWED, Guard, ascii_url, opener
from curation.stores.storage import Store

THREADS = 16
FULL_DISK = 1 << 24
INDEX = pa.schema(
    [
        ("url", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),
        ("tar", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
_patching = threading.Lock()


@dataclass(frozen=True)
class Settings:
    """What one download may cost, and how often a failed one is tried again."""

    max_bytes: int
    private_addresses: bool
    timeout_s: float
    retries: int


@dataclass(frozen=True)
class Download:
    """Where a URL's bytes are, or why there are none."""

    url: str
    error: str | None
    tar: str | None = None
    offset: int | None = None
    size: int | None = None


def complete(store: Store, name: str, urls: Sequence[str], settings: Settings) -> dict[str, Download]:
    """Every URL's download: those that the index knows, and the others, made now and committed with it."""
    index = f"{name}.parquet"
    known = _load(store, index)
    missing = [url for url in urls if url not in known]
    if missing:
        try:
            with store.workspace() as folder:
                fresh = _download(folder, missing, settings)
                known |= _pack(store, name, folder / "pack.tar", fresh)
        except OSError as error:
            raise explain(error, f"{store.root}/{name}", "written") from error
        _save(store, index, known)
    return known


def forget_failed(store: Store) -> int:
    """Forget failed downloads, so that they are tried again; returns how many. `store`: `_work/downloads`."""
    forgotten = 0
    for entry in store.list():
        if entry.name.endswith(".parquet"):
            known = _load(store, entry.name)
            sound = {url: download for url, download in known.items() if not download.error}
            forgotten += len(known) - len(sound)
            if len(sound) < len(known):
                _save(store, entry.name, sound)
    return forgotten


def _load(store: Store, index: str) -> dict[str, Download]:
    if not store.exists(index):
        return {}
    table = pq.read_table(pa.BufferReader(store.read(index)))
    fields = zip(*(table[c].to_pylist() for c in ("url", "error_message", "tar", "offset", "size")), strict=True)
    return {row[0]: Download(*row) for row in fields}


def _save(store: Store, index: str, known: Mapping[str, Download]) -> None:
    rows = [
        {
            "url": d.url,
            "status": "failed_to_download" if d.error else "success",
            "error_message": d.error,
            "tar": d.tar,
            "offset": d.offset,
            "size": d.size,
        }
        for d in known.values()
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, INDEX), sink)
    store.write(index, sink.getvalue().to_pybytes())


def _pack(store: Store, name: str, pack: Path, fresh: Mapping[str, Path | str]) -> dict[str, Download]:
    """Files into one tar, in the order of the URLs and without times or owners: same downloads, same bytes.

    The tar is named by its content, so that an index never points into another attempt's tar.
    """
    places: dict[str, tuple[int, int]] = {}
    digest = xxhash.xxh3_64()
    with tarfile.open(pack, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (url, file) in enumerate(fresh.items()):
            if isinstance(file, Path):
                info = tarfile.TarInfo(f"{number:09d}.{file.suffix[1:]}")
                info.size = file.stat().st_size
                with file.open("rb") as data:
                    tar.addfile(info, data)
                places[url] = (tar.offset - _padded(info.size), info.size)
    with pack.open("rb") as data:
        while piece := data.read(1 << 20):
            digest.update(piece)
    packed = f"{name}-{digest.hexdigest()}.tar"
    if places:
        store.put(packed, pack)
    failed = {url: Download(url, file) for url, file in fresh.items() if isinstance(file, str)}
    return {**failed, **{url: Download(url, None, packed, *place) for url, place in places.items()}}


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _download(folder: Path, urls: Sequence[str], settings: Settings) -> dict[str, Path | str]:
    """Each URL's file below `folder`, or the reason why there is none, in the order of `urls`."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # img2dataset imports it; it would call home
    from img2dataset import downloader
    from img2dataset.resizer import Resizer
    from img2dataset.writer import FilesSampleWriter

    shard = folder / "shard.feather"
    feather.write_feather(pa.table({"url": [ascii_url(url) for url in urls]}), str(shard), compression="uncompressed")
    work = downloader.Downloader(
        sample_writer_class=FilesSampleWriter,
        resizer=_as_it_came(Resizer(256, "no", False, disable_all_reencoding=True)),
        thread_count=THREADS,
        save_caption=False,
        extract_exif=False,
        output_folder=str(folder),
        column_list=["url"],
        timeout=settings.timeout_s,
        number_sample_per_shard=10_000,
        oom_shard_count=5,
        compute_hash=None,
        verify_hash_type=None,
        encode_format="jpg",
        retries=settings.retries,
        user_agent_token=AGENT,
        disallowed_header_directives=list(DISALLOWED),
    )
    with _guarded(downloader, settings):
        work.download_shard((0, str(shard)))
    return {url: _outcome(folder, number, reasons) for reasons in [_reasons(folder)] for number, url in enumerate(urls)}


def _reasons(folder: Path) -> dict[str, str | None]:
    table = pq.read_table(folder / "00000.parquet")
    return dict(zip(table["key"].to_pylist(), table["error_message"].to_pylist(), strict=True))


def _outcome(folder: Path, number: int, reasons: Mapping[str, str | None]) -> Path | str:
    key = f"{number:09d}"
    file = folder / "00000" / f"{key}.jpg"
    if file.is_file() and reasons.get(key) is None:
        return file
    reason = reasons.get(key)
    if reason is None and shutil.disk_usage(folder).free < FULL_DISK:
        raise OSError(errno.ENOSPC, "img2dataset could not write a download")
    reason = reason or "img2dataset gave neither a file nor a reason"
    return " ".join(reason.removeprefix("<urlopen error ").removesuffix(">").split())[:400]


def _as_it_came(resizer: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """img2dataset's resizer told to change nothing; a page in place of a picture is a failure."""

    def check(stream: BytesIO, boxes: Any = None) -> tuple[Any, ...]:
        head = stream.read(512).lstrip().lower()
        stream.seek(0)
        if head.startswith((b"<!doctype html", b"<html")):
            return None, None, None, None, None, "image decoding error: the server sent an HTML page"
        return resizer(stream, boxes)

    return check


@contextmanager
def _guarded(downloader: Any, settings: Settings) -> Iterator[None]:
    """Give img2dataset's module an `urllib` with the guarded opener as its `urlopen`; nobody else sees it."""
    guard = Guard(settings.max_bytes, settings.private_addresses, settings.timeout_s)

    def urlopen(request: urllib.request.Request, timeout: float) -> Any:
        return opener(guard).open(request, timeout=timeout)

    with _patching:
        original = downloader.urllib
        downloader.urllib = SimpleNamespace(request=SimpleNamespace(Request=urllib.request.Request, urlopen=urlopen))
        try:
            yield
        finally:
            downloader.urllib = original
