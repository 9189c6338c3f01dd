"""text and language: what a caption looks like, whatever it holds."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from curation.stage import Params
from stages.language import Language, identify
from stages.text import Text, examine


@pytest.mark.parametrize(
    ("caption", "flags"),
    [
        ("a dog runs on the beach", []),
        ("it's a man's hat, size 7", []),
        ("people sign up on the wall beside the cookie jar", []),
        ("A&B; 3 < 4 and 5 > 2", []),
        ("東京タワーの夜景", []),
        (None, ["empty"]),
        ("", ["empty"]),
        (" ... !", ["empty"]),
        ("IMG_2034.JPG", ["filename"]),
        ("holiday-photo.webp", ["filename"]),
        ("DSC01234", ["filename", "digits"]),
        ("20190304_112233", ["filename", "digits"]),
        ("see https://example.org/x", ["url"]),
        ("www.example.com red shoes", ["url"]),
        ("<p>a dog</p>", ["html"]),
        ("a dog&nbsp;on a beach", ["html"]),
        ("photo", ["boilerplate"]),
        ("Picture of the image 3", ["boilerplate"]),
        ("red shoes, free shipping", ["boilerplate"]),
        ("Untitled", ["boilerplate"]),
        ("A RED CAR ON THE ROAD", ["all_caps"]),
        ("0123-4567 12", ["digits"]),
        ("dog dog dog dog dog dog dog dog", ["repetition"]),
        ("a dog\0 on a beach", ["control_characters"]),
        ("a dog \ud800 on a beach", ["control_characters"]),
        ("caf\ufffd in Paris", ["control_characters"]),
    ],
)
def test_flags(caption: str | None, flags: list[str]) -> None:
    assert examine(caption)[2] == flags


def test_words_and_characters() -> None:
    assert examine("it's a well-made café, isn\u2019t it?")[:2] == (6, 32)
    assert examine(None)[:2] == (0, 0)


def test_further_boilerplate_comes_from_the_manifest() -> None:
    stage = Text(Text.Params(boilerplate=("Courtesy of ACME",)))
    columns = stage.run({"captions": [["a dog, courtesy of Acme"], ["a dog"]]})
    assert columns["caption_flags"] == [["boilerplate"], []]
    assert columns["caption_problems"] == [1, 0]


@pytest.mark.parametrize("part", ["x", "<", "<a ", "a-", "w.", "&", "1", "\0", "\ud800", "dog "])
def test_a_megabyte_of_anything_is_examined_in_part(part: str) -> None:
    caption = part * (1_000_000 // len(part))
    assert examine(caption)[1] == len(caption)
    identify(caption)


def test_columns_have_their_types() -> None:
    captions = ["a dog runs on the beach", None, "\ud800", "photo.jpg"]
    for stage in (Text(Text.Params(boilerplate=())), Language(Params())):
        stage.load()
        columns = stage.run({"captions": [[caption] if caption else None for caption in captions]})
        for name, column in stage.writes.items():
            assert len(pa.array(columns[name], column.type)) == 4, name


@pytest.mark.parametrize(
    ("caption", "language"),
    [
        ("a brown dog is running along the beach", "en"),
        ("ein brauner Hund läuft am Strand entlang", "de"),
        ("un chien brun court le long de la plage", "fr"),
        ("un perro marrón corre por la playa", "es"),
        ("коричневая собака бежит по пляжу", "ru"),
        ("一只棕色的狗在海滩上奔跑", "zh"),
        ("茶色の犬が海辺を走っている", "ja"),
    ],
)
def test_languages(caption: str, language: str) -> None:
    code, probability = identify(caption)
    assert code == language
    assert probability is not None
    assert 0.5 < probability <= 1


@pytest.mark.parametrize("caption", [None, "", "12 34", "!?", "\ud800"])
def test_no_letters_no_language(caption: str | None) -> None:
    assert identify(caption) == (None, None)


def test_short_captions_are_uncertain() -> None:
    for caption in ("dog", "ok", "IMG"):
        probability = identify(caption)[1]
        assert probability is not None
        assert probability < 0.3


def test_human_captions_of_the_corpus(shared_corpus: Path) -> None:
    """706 English captions: all are recognised, and only those in capitals are flagged."""
    rows = [json.loads(line) for line in (shared_corpus / "captions.jsonl").read_text().splitlines()]
    captions = [caption for row in rows if "/coco_" in row["file"] for caption in row["captions"]]
    assert len(captions) == 706
    assert {identify(caption)[0] for caption in captions} == {"en"}
    flagged = {caption: flags for caption in captions if (flags := examine(caption)[2])}
    assert len(flagged) == 9
    assert all(flags == ["all_caps"] and caption.isupper() for caption, flags in flagged.items())
