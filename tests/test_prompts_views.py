"""Readings of a prompt: every disguise is undone in one of them, and the text itself is always among them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.prompts.views import plain, views


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nude", "nude"),
        ("\uff4e\uff55\uff44\uff45", "nude"),
        ("\U0001d427\U0001d42e\U0001d41d\U0001d41e", "nude"),
        ("n\u200bu\u00add\u2060e\ufeff", "nude"),
        ("n\u0336u\u0336d\u0336e", "nude"),
        ("n\u00fad\u00e9", "nude"),
        ("Обнажённая", "обнаженная"),
        ("ÇIPLAK ç\u0131plak", "ciplak ciplak"),
        ("नग्न", "नग्न"),  # vowels of Indic scripts stay
        ("ｾｯｸｽ", "セックス"),
        ("١٢ سنة", "12 سنة"),
    ],
)
def test_plain_text_keeps_its_script_and_loses_its_dress(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "nud\u0435",  # Cyrillic
        "n\u03c5de",  # Greek
        "\u0274\u1d1c\u1d05\u1d07",  # small capitals
        "\U0001f15d\U0001f164\U0001f153\U0001f154",  # letters in black circles
        "nud3",
        "n u d e",
        "n.u.d.e",
        "n-u_d.3",
        "nuuuude",
        "n\u200b u d e",
    ],
)
def test_a_disguise_is_undone_in_some_view(text: str) -> None:
    assert "nude" in views(text)


def test_one_stands_for_i_and_for_l() -> None:
    assert {"loli", "lolita"} <= {*views("l0l1"), *views("l0l1ta"), *views("lo1i")}


def test_cyrillic_words_are_read_as_cyrillic_too() -> None:
    assert "секс" in views("ceкc") and "порно" in views("п0рно")
    assert views("секс")[0] == "секс"


def test_spaced_words_are_parted_at_wider_gaps() -> None:
    assert "child nude" in views("c h i l d  n u d e")


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_the_plain_text_is_the_first_view(text: str) -> None:
    found = views(text)
    assert found[0] == plain(text) and len(set(found)) == len(found)
