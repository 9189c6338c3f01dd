"""Entries of a word list, and where they are found."""

import pytest

from curation.prompts.wordlist import LONGEST, Words, parted

LIST = Words(["nude", "porn*", "*nackt", "*xxx*", "strip club", "bare breast*", "裸女", "=エロ", "누드", "عارية"])


@pytest.mark.parametrize(
    "text",
    [
        "a nude,",
        "pornography",
        "splitternackt",
        "axxxb",
        "a strip-club",
        "bare breasts",
        "一个裸女",
        "裸 女",
        "エロ",
        "누드사진",
        "والعارية",
        "n*de",
        "p#rn",
    ],
)
def test_entries_are_found(text: str) -> None:
    assert LIST.in_text(text)


@pytest.mark.parametrize(
    "text",
    ["denuded", "xporn", "nackter", "strip the club", "裸子", "エロイカ", "아이누 드럼", "n**", "****", "", "nu de"],
)
def test_nothing_else_is(text: str) -> None:
    assert not LIST.in_text(text)


def test_an_empty_list_finds_nothing() -> None:
    assert not Words([]).in_text("a nude") and Words([" "]).removed.sub("", "a nude") == "a nude"


def test_entries_can_be_taken_out() -> None:
    harmless = Words(["nude heel*", "blue tit", "裸眼"])
    assert harmless.removed.sub("", "nude-heels and a blue tit, 裸眼") == " and a , "


def test_compounds_come_apart() -> None:
    parts = frozenset({"nude", "girl", "anal"})
    assert parted("nudegirl", parts) == ["nude", "girl"]
    assert parted("nude", parts) is None and parted("analyst", parts) is None
    assert parted("nude" * LONGEST, parts) is None
