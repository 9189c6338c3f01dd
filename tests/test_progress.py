"""A phase's line says how many records will come, and whether they were counted."""

import pytest
from rich.console import Console

from curation.progress import PhaseProgress


@pytest.mark.parametrize(
    ("total", "exact", "start"),
    [
        (5000, True, "score   0 of 5,000 "),
        (5000, False, "score   0 of about 5,000 "),
        (None, True, "score   0 records "),
    ],
)
def test_an_estimate_is_called_one(total: int | None, exact: bool, start: str) -> None:
    assert PhaseProgress("score", total, Console(), exact).line().startswith(start)
