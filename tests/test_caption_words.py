"""Words of every script; what is boilerplate, an address or a file name, and what only sounds like it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.captions.words import is_repetitive, words_of
from stages.text import examine

HINDI = "एक शांत गाँव की सुबह का दृश्य है जिसमें मिट्टी के घरों की कतार के सामने एक चौड़ी पगडंडी दिखाई देती है।"
TAMIL = "ஒரு சிறிய கிராமத்தின் காலை நேரக் காட்சி இது. ஓட்டு வீடுகளின் முன்னால் ஒரு அகலமான மண் பாதை செல்கிறது."


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        (HINDI, 22),
        (TAMIL, 15),
        ("السَّلَامُ عَلَيْكُمْ يَا أَصْدِقَاء", 4),
        ("שָׁלוֹם עֲלֵיכֶם חֲבֵרִים", 3),
        ("고양이가 창가에 앉아 있다", 4),
        ("می‌خواهم کتاب بخوانم", 3),
        ("বাংলাদেশের একটি সুন্দর গ্রাম", 4),
        ("తెలుగు మాట్లాడే పిల్లలు", 3),
        ("e\u0301te\u0301 cafe\u0301", 2),
        ("👩‍👩‍👧 a family 🏳️‍🌈", 2),
        ("🐶🐱", 0),
        ("it's a well-made hat, isn\u2019t it? — yes", 7),
        ("main.io, 3.5 km and 1,200 steps", 6),
        ("dog,cat,bird", 3),
        ("一只棕色的狗", 6),
        ("茶色の犬 ベーコン", 8),
        ("แมวนั่ง", 5),
        ("ខ្មែរ", 3),
        ("ລາວ", 3),
        ("မြန်မာ", 3),
    ],
)
def test_words_of_every_script(caption: str, words: int) -> None:
    assert len(words_of(caption)) == words


WORDS = [
    *(HINDI.rstrip("।").split() + TAMIL.replace(".", "").split()),
    *("السَّلَامُ", "عَلَيْكُمْ", "שָׁלוֹם", "חֲבֵרִים", "고양이가", "창가에", "ζώα", "собака", "Füße", "l'été", "naïve"),
    *("well-made", "don't", "3.5"),
]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(WORDS), max_size=60), st.sampled_from([" ", ", ", "  ", " — ", "\n"]))
def test_a_text_has_the_words_that_were_joined_by_blanks(words: list[str], between: str) -> None:
    assert words_of(between.join(words)) == words


@settings(max_examples=200)
@given(st.text(max_size=80))
def test_any_text_has_words_of_its_own_characters_and_flags(text: str) -> None:
    found = words_of(text)
    assert all(word and word in text for word in found)
    words, characters, flags, count = examine(text)
    assert (words, characters, count) == (len(found), len(text), len(flags))
    assert ("empty" in flags) == (not found)


@settings(max_examples=100)
@given(st.permutations(sorted(set(WORDS))), st.integers(8, len(set(WORDS))))
def test_different_words_are_no_repetition_and_a_sentence_said_again_and_again_is(words: list[str], n: int) -> None:
    assert not is_repetitive(words[:n])
    assert is_repetitive(words[:n] * 4)


HONEST = [
    "a photo of a cookie", "my cookies", "a sign that asks children to read more books",
    "a laptop on which main.io is open in an editor", "a woman reads the terms of service on her phone",
    "a sign that says click here", 'a poster with the words "subscribe to our channel"', "chocolate cookie",
    "people sign up on the wall beside the cookie jar", "a log in the forest", "the photo booth at a wedding",
    "a man carries the shopping home", "a picture frame on a desk", "shelves in a shop, now empty",
    "a child learns to read more slowly", "a store with a banner: all rights reserved", "a next-door neighbour",
    "an untitled painting of a horse", "a placeholder stone on a grave", "a menu on a table", "a cart full of apples",
    "a button labeled buy now beside a lever", "stock cars race on a track", "a browser window that shows example.com",
    "a thumbnail sketch of a barn", "cookies and milk; the child clicks a pen here", "bear cubs share this den",
    "a photographer with his camera", "books by J.K. Rowling on a shelf", "a house at 3.15 p.m. in Washington D.C.",
    "a van of a company, its name Booking.com on the side, parked in a street", "20 dogs", "an advertisement for soap",
]  # fmt: skip
BOILERPLATE = [
    "click here", "Click here to see more", "Blue mug - click to enlarge", "Accept cookies", "Accept all cookies",
    "We use cookies to improve your experience", "This site uses cookies.", "Copyright 2020 Acme. All rights reserved.",
    "Read more", "Read more »", "READ MORE", "Learn more", "Sign up for our newsletter", "Subscribe now!",
    "red shoes, free shipping", "Add to cart", "Wooden chair | Buy now", "image", "Photo", "picture 3", "An image",
    "Untitled", "placeholder", "thumbnail image", "No image available", "Image not available", "Image coming soon",
    "no caption", "No description", "Lorem ipsum dolor sit amet", "image may contain: one person, smiling",
    "May be an image of text", "stock photo", "Stock photo of a man", "Royalty free stock vector", "Skip to content",
    "Back to top", "Log in to see prices", "Please enable JavaScript to view this page", "Follow us on Instagram",
    "Privacy policy", "Terms of use", "Default title", "Product image", "Shop now", "Link in bio", "View full size",
    "Alle Rechte vorbehalten", "Mehr lesen", "Cliquez ici", "Tous droits réservés", "Leer más", "Подробнее", "版权所有",
    "続きを読む",
]  # fmt: skip
ADDRESSES = [
    "https://shop.example/item?id=77", "see https://example.org/x", "www.example.com red shoes", "example.com",
    "shop.example.net/items/77", "ftp://example.org/a", "info@example.com", "mysite.co.uk - home",
]  # fmt: skip
FILE_NAMES = [
    "IMG_2034.JPG", "VID_20190712_181233.mp4", "holiday-photo.webp", "DSC01234", "20190304_112233", "MOV_0012.mov",
    "Screenshot_20230101-101010", "photo(1).jpeg", "a.b.c.png", "PXL_20210101.dng", "GOPR0034", "clip-7.webm",
]  # fmt: skip


@pytest.mark.parametrize("caption", HONEST)
def test_honest_captions_have_no_flags(caption: str) -> None:
    assert examine(caption)[2] == []


@pytest.mark.parametrize("caption", BOILERPLATE)
def test_stock_phrases_are_boilerplate(caption: str) -> None:
    assert "boilerplate" in examine(caption)[2]


@pytest.mark.parametrize("caption", ADDRESSES)
def test_addresses(caption: str) -> None:
    assert "url" in examine(caption)[2]


@pytest.mark.parametrize("caption", FILE_NAMES)
def test_file_names(caption: str) -> None:
    assert "filename" in examine(caption)[2]


def test_a_long_caption_is_no_repetition_for_its_length() -> None:
    """Less than 35 % of these 400 words are different ones, as in any long text; in a window of 50 they are more."""
    places = [
        "on the left",
        "on the right",
        "in the middle",
        "behind it",
        "in front of it",
        "above",
        "below",
        "further away",
    ]
    things = [word for caption in HONEST for word in words_of(caption) if len(word) > 5]
    parts = [
        f"{places[i % 8]} of the picture there is a {thing} and a {things[-i]}" for i, thing in enumerate(things[:34])
    ]
    words = words_of(", ".join(parts))
    assert len(words) > 400 and len(set(words)) < 0.35 * len(words)
    assert not is_repetitive(words)


def test_no_caption_of_the_corpus_is_taken_for_boilerplate(shared_corpus: Path) -> None:
    """0 of 3,305: captions by people, of stamps, and the names of emoji."""
    lines = map(json.loads, (shared_corpus / "captions.jsonl").read_text().splitlines())
    captions = [text for row in lines for text in dict.fromkeys(row.get("captions") or [row["caption"]]) if text]
    wrong = {"boilerplate", "url", "filename", "html", "repetition", "empty"}
    assert len(captions) == 3305
    assert [text for text in captions if wrong & set(examine(text)[2])] == []
