"""Fixtures that several test files share."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_corpus() -> Path:
    """The folder ../shared/corpus beside the repository (its README says what is in it); skips without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "corpus"
    if not (folder / "captions.jsonl").is_file():
        pytest.skip("needs ../shared/corpus")
    return folder


@pytest.fixture
def bytes_read() -> Callable[[], int]:
    """How many bytes this process has asked files for so far (Linux); skips elsewhere."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        pytest.skip("needs /proc/self/io")
    return lambda: int(counters.read_text().split()[1])
