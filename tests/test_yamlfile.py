"""YAML is read within bounds: whatever a text says, it ends soon, as data or as a sentence with a line."""

import re
import tracemalloc

import pytest

from curation.errors import UsageError
from curation.yamlfile import DEEPEST, LONGEST, parse, parse_value

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)
)
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 40))
LADDER = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 150))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, "m.yaml:5: this is not YAML: it holds more than 20,000 values, counting what aliases (*name) repeat"),
        (MERGED, "m.yaml:5: this is not YAML: it holds more than 20,000 values"),
        (LADDER, f"m.yaml:{DEEPEST - 1}: this is not YAML: lists and mappings lie more than {DEEPEST} deep"),
        ("name: x\ndeep: " + "[" * 10_000 + "]" * 10_000, "m.yaml:2: this is not YAML: lists and mappings lie more"),
        ("deep: " + "{a: " * 10_000 + "}" * 10_000, "m.yaml:1: this is not YAML: lists and mappings lie more than"),
        ("x:\n" + "".join(" " * i + "-\n" for i in range(1, 300)), "this is not YAML: lists and mappings lie more"),
        ("a: &a [1, *a]", "m.yaml:1: this is not YAML: an alias stands inside of what it repeats"),
        ("a: &a {<<: *a}", "m.yaml:1: this is not YAML: an alias stands inside of what it repeats"),
        ("k: v\n" * LONGEST, f"m.yaml: it has more than {LONGEST:,} characters, which no manifest needs"),
        ("a: 1\nb: " + "9" * 10_000, "cannot be read as int"),
        ("a: 1\nb: 0b" + "1" * 100_000, "is too large a number"),
        ("a: 1\nb: 1" + ":59" * 5000, "is too large a number"),
        ("a: 1\nb: 9223372036854775808", "m.yaml:2: '9223372036854775808' is too large a number"),
        ("a: 1\nb: 2001-99-99", "m.yaml:2: '2001-99-99' cannot be read as timestamp"),
        ("a: 1\nb: !!timestamp abc", "m.yaml:2: 'abc' cannot be read as timestamp"),
        ("a: 1\nb: !!int ''", "m.yaml:2: '' cannot be read as int"),
        ("a: 1\nb: !!bool abc", "m.yaml:2: 'abc' cannot be read as bool"),
        ("a: 1\n? [b, c]\n: 1", "m.yaml:2: a list or mapping stands where a key should, which is a word"),
    ],
)
def test_what_cannot_be_read_is_a_sentence_with_its_line(text: str, sentence: str) -> None:
    tracemalloc.start()
    with pytest.raises(UsageError, match=re.escape(sentence)):
        parse(text, "m.yaml")
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_aliases_that_repeat_little_are_read() -> None:
    data, lines = parse("a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n  y: [2]\n", "m.yaml")
    assert data == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": [2]}}
    assert (lines["b",], lines["c", "y"], lines["c", "y", 0]) == (2, 5, 5)


def test_large_numbers_are_read_whole() -> None:
    assert parse("[9223372036854775807, -9223372036854775807, 1e400]", "m.yaml")[0][:2] == [2**63 - 1, 1 - 2**63]


@pytest.mark.parametrize("text", ["a >= 1: x", "[" * 10_000, "&a [*a]", "9" * 10_000, "2001-99-99"])
def test_an_override_that_is_no_yaml_is_its_text(text: str) -> None:
    assert parse_value(text) == text
