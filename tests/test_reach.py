"""A place that never answers ends in a bounded time, and is not asked again for every row."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.errors import CurationError
from curation.manifest import SourceSection
from curation.sources import open_source
from curation.sources.fetch import fetch
from curation.stores import location, reach
from curation.stores.lock import RunLock
from curation.stores.reach import Contacts, survived, within
from curation.stores.storage import Store


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a host that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Contacts.get, "__defaults__", (1.0,))
    monkeypatch.setattr(location, "RETRY_S", 1)


@pytest.mark.parametrize(
    "place",
    [
        "ftp://127.0.0.1:{}/run",
        "gs://anonymous@bucket/run?endpoint_override=127.0.0.1:{}&scheme=http",
        "s3://bucket/run?endpoint_override=http%3A%2F%2F127.0.0.1%3A{}&region=us-east-1",
    ],
)
def test_a_silent_host_is_a_sentence_for_a_source_a_run_and_a_row(
    silent: int, hurried: None, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    url = place.format(silent)
    began = time.monotonic()
    with pytest.raises(CurationError, match="cannot be opened: it gave no answer in 1 s"):
        open_source(SourceSection(folder=url), str(tmp_path), Store(str(tmp_path)))
    with pytest.raises(CurationError, match="cannot be opened"), RunLock(Store(url)):
        pass
    for _ in range(100):
        with pytest.raises(CurationError, match="cannot be opened"):
            fetch(url, max_bytes=9)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "place", ["gs://anonymous@b/x?endpoint_override=127.0.0.1:1&scheme=http", "ftp://127.0.0.1:1/x"]
)
def test_a_host_that_is_not_there_is_a_sentence(hurried: None, place: str) -> None:
    with pytest.raises(CurationError, match=r"cannot be opened: .*([Cc]ould not connect|refused|no answer)"):
        Store(place).write("x", b"1")


def test_what_a_call_returns_or_raises_is_passed_on() -> None:
    assert within(5, lambda: 7) == 7
    with pytest.raises(KeyError):
        within(5, lambda: {}[0])  # type: ignore[index]
    with pytest.raises(TimeoutError, match=r"no answer in 0\.01 s"):
        within(0.01, lambda: time.sleep(3))


def test_a_client_that_crashes_costs_a_child_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    survived("raise SystemExit(3)")
    with pytest.raises(OSError, match="its client crashed no token"):
        survived("import os, sys; print('  what():  no token', file=sys.stderr, flush=True); os.abort()")
    monkeypatch.setattr(reach, "SILENT_S", 0.2)
    with pytest.raises(TimeoutError):
        survived("import time; time.sleep(9)")
