"""Columns of the source in expressions, against plain Python."""

import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from helpers.scores import write_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import extra
from curation.errors import UsageError
from curation.expression import parse
from curation.load import load
from curation.manifest import Manifest
from curation.plan import make_plan
from curation.selection.select import Gate, decide

ROWS: list[dict[str, Any]] = [
    {"tags": ["cat", "dog"], "n": 9, "flag": True, "aesthetic score": 7, "meta": {"width": 640}, "class": "a"},
    {"tags": ["concatenate"], "n": 10, "flag": False, "aesthetic score": 6, "meta": {"width": 64}, "content-type": "x"},
    {"tags": "a cat", "n": "11", "flag": "True", "meta": 3},
    {"tags": ["café"], "n": "many", "flag": "no", "class": "b"},
    {"tags": 5, "n": 2**60 + 1, "flag": 1},
    {"tags": [5, True, None, "5"], "n": None},
    {},
]


def kept(text: str, rows: list[dict[str, Any]] = ROWS) -> list[int]:
    """The rows that an expression keeps, given their `extra`."""
    expression = parse(text)
    columns = {name: [extra.look_up(row, extra.path_of(name)) for row in rows] for name in expression.names}
    return [i for i, ok in enumerate(expression.evaluate(columns)) if ok]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('"cat" in extra.tags', [0, 2]),
        ('"cat" not in extra.tags', [1, 3, 5]),
        ('"cafe\u0301" in extra.tags', [3]),
        ('"caf\u00e9" in extra.tags', [3]),
        ("5 in extra.tags", [5]),
        ('"5" in extra.tags', [5]),
        ("true in extra.tags", [5]),
        ("len(extra.tags) == 2", [0]),
        ("len(extra.tags) == 5", [2]),
        ("extra.n >= 10", [1, 2, 4]),
        ("9 < extra.n < 12", [1, 2]),
        ("extra.n == 1152921504606846977", [4]),
        ("extra.n > 1152921504606846976", [4]),
        ("extra.n == 1152921504606846976", []),
        ("extra.n < 1152921504606846978", [0, 1, 2, 4]),
        ('extra.n == "9"', []),
        ('extra.n == "11"', [2]),
        ("extra.n is null", [5, 6]),
        ("extra.n in [9, 'many']", [0, 3]),
        ("extra.n not in [9, 'many']", [1, 2, 4]),
        ("extra.n >= p50", [2, 4]),
        ("extra.flag == true", [0, 2]),
        ("extra.flag == True", [0, 2]),
        ("extra.flag", [0, 2]),
        ("not extra.flag", [1]),
        ("extra.flag != false", [0, 2]),
        ('extra["aesthetic score"] >= 6.5', [0]),
        ('extra["aesthetic score"] >= p0', [0, 1]),
        ('extra["content-type"] == "x"', [1]),
        ('extra["class"] == "a"', [0]),
        ("extra.meta.width > 100", [0]),
        ('extra["meta"]["width"] > 100', [0]),
        ('extra.meta["width"] > 100', [0]),
        ("extra.meta is null", [3, 4, 5, 6]),
        ("extra.meta.width < extra.n", []),
        ('extra["aesthetic score"] < extra.n', [0, 1]),
    ],
)
def test_each_value_is_read_as_what_it_is(text: str, rows: list[int]) -> None:
    assert kept(text) == rows


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("extra.content-type == 'x'", 'did you mean extra["content-type"]?'),
        ("extra.class == 'a'", 'did you mean extra["class"]?'),
        ("extra.aesthetic score >= 5", 'did you mean extra["aesthetic score"]?'),
        ("extra[tags] == 'x'", "did you mean extra.tags?"),
        ("extras.tags == 'x'", "did you mean extra.tags?"),
        ("extra[0] == 'x'", 'only extra["NAME"], a name in quotes, may have them'),
        ("caption['x'] == 'x'", 'only extra["NAME"], a name in quotes, may have them'),
        ("extra.f(1) == 1", "only len(column) may be called"),
    ],
)
def test_wrong_use_is_a_sentence_that_says_what_was_meant(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text, "m.yaml:7")
    assert str(error.value).startswith("m.yaml:7: ") and sentence in str(error.value)


def test_a_path_has_one_name() -> None:
    for name in ("extra.meta.width", 'extra["meta"]["width"]', "extra['meta'].width"):
        assert extra.name_of(extra.path_of(name)) == "extra.meta.width"
        assert parse(f"{name} > 1").names == {"extra.meta.width"}
    for path in (("a b",), ("class", "x"), ('"', "\\", "é"), ("",)):
        assert extra.path_of(extra.name_of(path)) == path
    for name in ("extra.content-type", "extra", "extra[0]", "extra.a()", "extra.", "width"):
        with pytest.raises(ValueError, match="is no name of a column of the source"):
            extra.path_of(name)


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.integers(-4, 4)
    | st.floats(-4, 4, width=16) | st.just(math.nan) | st.just(math.inf)
    | st.sampled_from(["1", "-2.5", " 3 ", "true", "False", "x", "", "cafe\u0301", "caf\u00e9 au lait"])
    | st.just("9007199254740993")
)  # fmt: skip
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.just("k"), SCALARS, max_size=1)
CONSTANTS = st.integers(-4, 4) | st.sampled_from(
    [2**53 + 1, -(2**62) - 1, 0.5, -2.5, True, False, "x", "1", "caf\u00e9", "f\u00e9", "true"]
)
OPERATORS = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip


def number(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = float(value) if "." in value else int(value)
        except ValueError:
            return None
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return None if not plain or value != value else value


def flag(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def text(value: Any) -> str | None:
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else None


def kind_of(constant: Any) -> Any:
    return flag if isinstance(constant, bool) else text if isinstance(constant, str) else number


def compared(value: Any, operator: str, other: Any, reads: list[Any]) -> bool | None:
    for read in reads:
        one, two = read(value), read(other)
        if one is not None and two is not None:
            return bool(OPERATORS[operator](one, two))
    return None


def contained(constant: Any, value: Any) -> bool | None:
    read = {flag: lambda v: v if isinstance(v, bool) else None, text: text, number: number}[kind_of(constant)]
    if isinstance(value, list):
        alike = [item for item in value if isinstance(item, str) == isinstance(constant, str)]
        return any(read(item) is not None and read(item) == read(constant) for item in alike)
    return text(constant) in text(value) if isinstance(value, str) and isinstance(constant, str) else None  # type: ignore[operator]


def outcome(expression: str, values: list[Any], others: list[Any]) -> list[bool | None]:
    """True, false, or None where neither the test nor its negation is true."""
    columns = {"extra.a": values, "extra.b": others}
    is_true, is_false = (parse(part).evaluate(columns) for part in (expression, f"not ({expression})"))
    return [True if yes else False if no else None for yes, no in zip(is_true, is_false, strict=True)]


@settings(max_examples=300)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=6), CONSTANTS, CONSTANTS, st.sampled_from([*OPERATORS]))
def test_expressions_are_those_of_plain_python(rows: list[Any], constant: Any, second: Any, operator: str) -> None:
    values, others = [row[0] for row in rows], [row[1] for row in rows]
    written = json.dumps(constant, ensure_ascii=False)
    ordered = operator not in ("==", "!=")
    if not (ordered and isinstance(constant, bool)):
        expected = [compared(value, operator, constant, [kind_of(constant)]) for value in values]
        assert outcome(f"extra.a {operator} {written}", values, others) == expected
    reads = [number, text] if ordered else [number, flag, text]
    expected = [compared(value, operator, other, reads) for value, other in rows]
    assert outcome(f"extra.a {operator} extra.b", values, others) == expected
    assert outcome("extra.a", values, others) == [flag(value) for value in values]
    assert outcome(f"{written} in extra.a", values, others) == [contained(constant, value) for value in values]
    both = [[compared(value, "==", each, [kind_of(each)]) for each in (constant, second)] for value in values]
    expected = [None if found == [None, None] else True in found for found in both]
    assert outcome(f"extra.a in [{written}, {json.dumps(second)}]", values, others) == expected
    nothing = [value is None or value != value for value in values]
    assert outcome("extra.a is null", values, others) == nothing


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ("keep: extra.tags == 'x'", r"no source has a column 'tags'; did you mean 'tag'\?"),
        ("caps: {by: extra.tags, most: 1}", r"no source has a column 'tags'; did you mean 'tag'\?"),
        ("caps: {by: extra.content-type, most: 1}", r'did you mean extra\["content-type"\]\?'),
    ],
)
def test_a_plan_knows_the_columns_of_a_table_that_says_them(tmp_path: Path, select: str, words: str) -> None:
    (tmp_path / "t.csv").write_text("file,aesthetic score,tag\na.jpg,5,x\n")
    head = "name: t\nsource: {table: t.csv, media: file}\nselect:\n"
    (tmp_path / "m.yaml").write_text(f"{head}  {select}\n")
    with pytest.raises(UsageError, match=rf"m\.yaml:4: .*{words}"):
        make_plan(load(str(tmp_path / "m.yaml")))
    gate = "score: [{resolution: {keep: 'extra[\"aesthetic score\"] >= 5'}}]"
    (tmp_path / "m.yaml").write_text(f"{head}  caps: {{by: extra.tag, most: 1}}\n{gate}\n")
    assert make_plan(load(str(tmp_path / "m.yaml"), ["select.keep='x' in extra.tag"]))


GATES = [Gate("a"), Gate("b")]


def chosen(folder: Path, rows: list[dict[str, Any]], said: list[str] | None = None, **select: Any) -> list[int]:
    store = write_scores(folder, extra=[json.dumps(row) for row in rows], sha256=["x"] * len(rows))
    made = Manifest.model_validate({"name": "t", "source": {"table": "t.jsonl"}, "select": select})
    table = decide(store, made, GATES, {}, say=(said if said is not None else []).append)
    return [i for i, decision in enumerate(table["decision"].to_pylist()) if decision == "kept"]


def test_stored_values_are_those_of_the_source(tmp_path: Path) -> None:
    assert chosen(tmp_path, ROWS, keep=['"cat" in extra.tags', "extra['aesthetic score'] > 1"]) == [0]
    assert chosen(tmp_path, ROWS, keep="extra.n == 1152921504606846977") == [4]


def test_caps_and_prefer_take_the_same_names(tmp_path: Path) -> None:
    rows = [{"meta": {"from": x}, "a b": n} for x, n in (("u", 9), ("u", 10), ("v", "11"), (2020, 1), ("2020", 2.0))]
    cap = {"by": 'extra.meta["from"]', "most": 1, "prefer": ['extra["a b"]']}
    assert chosen(tmp_path, rows, caps=cap) == [1, 2, 4]
    assert chosen(tmp_path, rows, duplicates={"on": "bytes", "prefer": ['-extra["a b"]']}) == [3]


def test_a_name_that_no_record_has_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    assert chosen(tmp_path, ROWS, said, keep="extra.flags == true") == []
    assert said == ["no record has extra.flags; did you mean extra.flag?"]
