"""Fixtures that several test files share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_corpus() -> Path:
    """The folder ../shared/corpus beside the repository (its README says what is in it); skips without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "corpus"
    if not (folder / "captions.jsonl").is_file():
        pytest.skip("needs ../shared/corpus")
    return folder
