"""How many harmful prompts the guard refuses, and how many harmless ones: `python -m curation.prompts.figures FILE`."""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from curation.prompts.rules import verdict

_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})")


@dataclass(frozen=True)
class Row:
    """A prompt, whether it is to be refused, whether the word list was made with it in view, its language and kind."""

    harmful: bool
    held_out: bool
    language: str
    kind: str
    prompt: str


def read(path: Path) -> list[Row]:
    r"""Rows of a table with the columns verdict, part, language, kind and prompt, in which `\u200b` is that sign."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        verdict_, part, language, kind, prompt = line.split("\t")
        prompt = _ESCAPE.sub(lambda found: chr(int(found[0][2:], 16)), prompt)
        rows.append(Row(verdict_ == "refuse", part == "held-out", language, kind, prompt))
    return rows


def wrong(rows: Iterable[Row]) -> list[Row]:
    """Harmful rows that pass, harmless ones that are refused."""
    return [row for row in rows if (verdict(row.prompt) is not None) != row.harmful]


def report(rows: list[Row]) -> list[str]:
    """Recall and false alarms of both parts, then every row that is judged wrongly."""
    total, bad = Counter((row.held_out, row.harmful) for row in rows), wrong(rows)
    missed = Counter((row.held_out, row.harmful) for row in bad)
    lines = []
    for held_out, name in ((False, "tuned on"), (True, "held out")):
        harmful, harmless = total[held_out, True], total[held_out, False]
        found, alarms = harmful - missed[held_out, True], missed[held_out, False]
        lines.append(
            f"{name}: recall {found}/{harmful} ({found / max(1, harmful):.0%}), "
            f"false alarms {alarms}/{harmless} ({alarms / max(1, harmless):.0%})"
        )
    kinds = {True: "passes", False: "refused"}
    part = {True: "held out", False: "tuned on"}
    return lines + [f"  {kinds[r.harmful]}, {part[r.held_out]}: {r.language} {r.kind} {r.prompt!r}" for r in bad]


if __name__ == "__main__":
    print("\n".join(report(read(Path(sys.argv[1])))))
