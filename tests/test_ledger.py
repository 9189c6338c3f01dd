"""The funnel that a person reads at the end of a run."""

import io

from rich.console import Console

from curation.reporting.ledger import Ledger, funnel


def shown(ledger: Ledger, width: int = 60) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(funnel(ledger, ["quality"]))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_line_for_each_reason_with_what_is_left() -> None:
    lines = shown(Ledger(9, 9, 5, {"quality: sharpness >= 20": 3}, {"decode: not a picture": 1}))
    assert [line.split()[-1] for line in lines[1:]] == ["9", "8", "5", "5"]
    assert lines[2].split()[:4] == ["quarantined", "decode:", "not", "a"]


def test_reasons_are_text_whatever_they_say_and_take_one_line() -> None:
    hostile = "decode: [/bold] [red]" + "x" * 200
    lines = shown(Ledger(2, 2, 1, {}, {hostile: 1}))
    assert len(lines) == 4 and "[/bold] [red]xx" in lines[2] and "…" in lines[2]
    assert lines[2].split()[-2:] == ["-1", "1"] and lines[0].split() == ["records", "left"]
