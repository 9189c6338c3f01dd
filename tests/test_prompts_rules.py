"""The guard's rules, and its figures on the prompts of data/guard_prompts.tsv."""

import subprocess
import sys
from pathlib import Path

import pytest

from curation.prompts.figures import Row, read, report, wrong
from curation.prompts.rules import MINORS, SEXUAL, VIOLENCE, verdict

FILE = Path(__file__).parent / "data" / "guard_prompts.tsv"
ROWS = read(FILE)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a nude", SEXUAL),
        ("a child in lingerie", MINORS),
        ("lingerie, child", MINORS),
        ("a woman in lingerie", None),
        ("12yo, naked", MINORS),
        ("naked, aged twelve", MINORS),
        ("30 years old, naked", SEXUAL),
        ("12 year old whisky", None),
        ("desnuda, 10 años", MINORS),
        ("nackt, 12 Jahre", MINORS),
        ("nude 子供", MINORS),
        ("a beheading", VIOLENCE),
        ("nude heels", None),
        ("a child in nude heels", MINORS),
        ("nude heels on a nude", SEXUAL),
        ("sex education for children", None),
        ("Bitte, Kinder", None),
        ("", None),
    ],
)
def test_a_prompt_breaks_the_gravest_rule(prompt: str, reason: str | None) -> None:
    assert verdict(prompt) == reason


def test_the_shipped_list_counts_beside_a_minor() -> None:
    """Words that only glin-profanity has."""
    assert verdict("dziwka") is None and verdict("dziwka, dziecko") == MINORS


def test_recall_and_false_alarms() -> None:
    """The figures of the README, to the prompt; a row that is judged better raises them."""
    assert report(ROWS)[:2] == [
        "tuned on: recall 195/199 (98%), false alarms 1/133 (1%)",
        "held out: recall 137/147 (93%), false alarms 6/111 (5%)",
    ]


def test_no_sexualised_minor_passes_but_one() -> None:
    assert {row.prompt for row in wrong(ROWS) if row.kind == "minor"} == {"裸的女孩"}


def test_rows_are_short_and_a_third_is_held_out() -> None:
    assert len(ROWS) == len({row.prompt for row in ROWS}) and max(len(row.prompt) for row in ROWS) < 60
    assert sum(row.held_out for row in ROWS) >= len(ROWS) // 3 - 2
    assert {"de", "fr", "es", "pt", "it", "ru", "zh", "ja", "ko", "ar", "hi", "tr", "pl"} <= {r.language for r in ROWS}


def test_the_command_prints_the_figures() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "curation.prompts.figures", str(FILE)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == report(ROWS)


def test_no_rows_no_division() -> None:
    assert report([])[0] == "tuned on: recall 0/0 (0%), false alarms 0/0 (0%)"
    assert wrong([Row(True, False, "en", "word", "a park")]) != []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", ["n u d a " * 1250, "a" * 10_000, "n_" * 5000, "n*" * 5000, "д" * 10_000])
def test_no_prompt_takes_long(text: str) -> None:
    """As long as the guard reads: a quadratic step would run into the limit."""
    verdict(text)
