import math
import pickle
import sqlite3

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UsageError
from curation.expression import parse
from curation.predicates import Captions

COLUMNS = {
    "side": [64, 128, None, 512],
    "score": [0.1, math.nan, 0.7, 0.9],
    "format": ["JPEG", "PNG", None, "GIF"],
    "flags": [["url"], [], None, ["url", "html"]],
    "flat": [True, False, None, False],
    "caption": ["a dog", "", None, "two cats"],
    "never": [None, None, None, None],
    "extra.licence": ["CC0", "MIT", None, 7],
    "extra.stars": ["5", 3, None, "many"],
}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("side >= 128", [1, 3]),
        ("128 <= side", [1, 3]),
        ("100 < side < 500", [1]),
        ("not (side >= 128)", [0]),
        ("side != 64", [1, 3]),
        ("side > -1", [0, 1, 3]),
        ("side is null", [2]),
        ("side is not null", [0, 1, 3]),
        ("score is null", [1]),
        ("score < 0.5 or side >= 128", [0, 1, 3]),
        ("score < 0.5 and format == 'JPEG'", [0]),
        ("not (score < 0.5)", [2, 3]),
        ('format in ["JPEG", "GIF"]', [0, 3]),
        ('format not in ["JPEG"]', [1, 3]),
        ('"url" in flags', [0, 3]),
        ('"url" not in flags', [1]),
        ('"o" in caption', [0, 3]),
        ("flat", [0]),
        ("not flat", [1, 3]),
        ("flat == false", [1, 3]),
        ("len(flags) >= 2", [3]),
        ("len(caption) > 0", [0, 3]),
        ("len(never) > 0", []),
        ("never > 3", []),
        ("never is null", [0, 1, 2, 3]),
        ("never == 'x' or side == 64", [0]),
        ('extra.licence == "CC0"', [0]),
        ('extra.licence in ["MIT", 7]', [1, 3]),
        ("extra.stars >= 3", [0, 1]),
        ("side\n>= 128", [1, 3]),
    ],
)
def test_keeps_rows_for_which_it_is_true_and_not_those_for_which_it_is_null(text: str, kept: list[int]) -> None:
    assert [i for i, ok in enumerate(parse(text).evaluate(COLUMNS)) if ok] == kept


def test_names_are_the_columns_read() -> None:
    assert parse('a >= p20 and (extra.b == "x" or len(c) > 1) and d is null and e').names == {
        "a", "extra.b", "c", "d", "e",
    }  # fmt: skip


def test_percentile_is_of_the_known_values() -> None:
    expression = parse("a >= p50")
    assert expression.uses_percentiles and not parse("a >= 50").uses_percentiles
    assert expression.evaluate({"a": [1, 2, None, 3, 100]}).tolist() == [False, False, False, True, True]
    assert parse("a <= p2_5").evaluate({"a": list(range(101))}).sum() == 3
    assert parse("p25 < a < p75").evaluate({"a": [0, 1, 2, 3, 4]}).tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert not parse("a >= p50").evaluate({"a": [None, math.nan]}).any()


def test_a_fresh_score_and_the_stored_one_pass_the_same_threshold() -> None:
    for value in (0.7, 0.2, 1 / 3):
        for sign in ("<", "<=", "==", ">=", ">"):
            expression = parse(f"a {sign} {value!r}")
            fresh = expression.evaluate({"a": [value]}).tolist()
            stored = expression.evaluate({"a": pa.array([value], pa.float32())}).tolist()
            assert fresh == stored == [sign in ("<=", "==", ">=")]


def test_whole_numbers_are_compared_as_they_are() -> None:
    assert parse("a > 123456788").evaluate({"a": [123456789]}).tolist() == [True]


def test_explains_with_the_part_that_failed() -> None:
    columns = {"side": [64, 256, 256, None], "score": [0.9, 0.1, None, 0.5]}
    why = parse("side >= 128 and 0.2 <= score < 0.8").explain(columns)
    assert why.keep.tolist() == [False, False, False, False]
    assert [why.reasons[code] for code in why.code] == [
        "side >= 128",
        "0.2 <= score",
        "0.2 <= score (missing value)",
        "side >= 128 (missing value)",
    ]
    assert why.value[:2].tolist() == pytest.approx([64, 0.1]) and math.isnan(why.value[2])
    assert why.threshold.tolist() == [128, 0.2, 0.2, 128]


@pytest.mark.parametrize(
    "values, threshold, passing",
    [
        ([1.0, 2.0, math.inf, math.inf], "p50", [False, False, True, True]),
        ([-math.inf, -math.inf, 1.0, 2.0], "p50", [False, False, True, True]),
        ([-math.inf, math.inf], "p50", [False, True]),
        ([math.inf, math.inf], "p50", [True, True]),
        ([1.0, math.nan, 3.0, math.inf], "p50", [False, False, True, True]),
        ([2**24 + 1, 2**24 + 2, 2**24 + 3, 2**24 + 4], "p50", [False, False, True, True]),
        ([2**40 + 1, 2**40 + 2], "p50", [False, True]),
    ],
)
def test_percentiles_hold_where_values_are_infinite_or_large(
    values: list[float], threshold: str, passing: list[bool]
) -> None:
    assert parse(f"a >= {threshold}").evaluate({"a": values}).tolist() == passing


def test_explains_a_percentile_with_its_value() -> None:
    why = parse("a > p50").explain({"a": [1.0, 2.0, 3.0]})
    assert why.threshold[:2].tolist() == [2, 2] and why.value[:2].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = 1", "say == to compare"),
        ("a >", "no expression near 'a >'"),
        ("a > 1 && b", "say `and` for &&"),
        ("a <> 1", "say `!=` for <>"),
        ("a & b", "'a & b' uses & or |; say `and`, `or`"),
        ("a == null", "say `is null` or `is not null`"),
        ("a is 3", "'a is 3' uses `is` for something other than null"),
        ("a + 1 > 2", "'a + 1' is neither a number"),
        ("1 < 2", "'1 < 2' names no column"),
        ("a > p101", "'p101' is no percentile"),
        ("p20 < p30", "'p30' stands where a column's name should"),
        ("p20", "'p20' is no test"),
        ("open('x')", "'open('x')' is no test"),
        ("open('x') > 1", "only len(column) may be called"),
        ("a.b > 1", "only extra.NAME may have one"),
        ("a.__class__ == 1", "only extra.NAME may have one"),
        ("a in []", "'[]' is an empty list"),
        ("a in b", "'a' is neither a number"),
        ("", "an expression has 1 to 4000 characters"),
        ("(" * 3000 + "a" + ")" * 3000, "an expression has 1 to 4000 characters"),
        ("not " * 900 + "a", "nested too deeply"),
        ("a > 1\x00", "expression"),
    ],
)
def test_refuses_everything_else_with_the_place_and_the_part(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text, "m.yaml:7: select.keep.0")
    assert str(error.value).startswith("m.yaml:7: select.keep.0: ") and sentence in str(error.value)


@pytest.mark.parametrize("text", ["format > 3", "side == 'x'", "flat < true", "side", "flags == 1", "3 in flags"])
def test_refuses_to_compare_what_cannot_be_compared(text: str) -> None:
    with pytest.raises(UsageError, match=r"^m\.yaml:7: "):
        parse(text, "m.yaml:7").evaluate(COLUMNS)


def test_refuses_a_column_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="reads the column b, which is not there"):
        parse("a > 1 and b > 2").evaluate({"a": [1]})


def test_travels_to_other_processes() -> None:
    expression = parse("side >= 128 and not flat")
    assert pickle.loads(pickle.dumps(expression)).evaluate(COLUMNS).tolist() == [False, True, False, True]


TESTS = st.recursive(
    st.sampled_from(["a > 1", "b <= 2", "a == b", "a is null", "b is not null", "a in [1, 3]", "b not in [0, 2]"]),
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
    ),
    max_leaves=6,
)
VALUES = st.lists(st.tuples(*[st.none() | st.integers(0, 3)] * 2), min_size=1, max_size=8)


@given(TESTS, VALUES)
def test_logic_is_that_of_sql(text: str, values: list[tuple[int | None, int | None]]) -> None:
    database = sqlite3.connect(":memory:")
    database.execute("create table t (a integer, b integer)")
    database.executemany("insert into t values (?, ?)", values)
    sql = text.replace("[", "(").replace("]", ")")
    expected = [bool(row[0]) for row in database.execute(f"select {sql} from t order by rowid")]
    columns = {"a": [a for a, _ in values], "b": [b for _, b in values]}
    assert parse(text).evaluate(columns).tolist() == expected
    why = parse(text).explain(columns)
    assert why.keep.tolist() == expected and ((why.code < 0) == why.keep).all()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("any(all(similarity > 1))", "stands inside another"),
        ("any(similarity)", "is number, not true or false"),
        ("any()", "wants one test"),
        ("main(similarity > 1, 2)", "wants one test"),
    ],
)
def test_any_all_and_main_take_one_test(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse(text, "m.yaml:7").evaluate({"similarity": [0.5, 1.5]})


def test_any_all_and_main_look_at_the_captions_of_a_record() -> None:
    """Two records, of three captions and of one; a null is no caption of which a test is true."""
    scores = {"similarity": [0.1, 0.9, None, 0.5]}
    captions = Captions(scores, np.array([0, 0, 0, 1]), 2, frozenset(scores))
    answers = {
        "any(similarity > 0.4)": [True, True],
        "all(similarity > 0.0)": [False, True],
        "main(similarity > 0.4)": [False, True],
        "not any(similarity > 0.95)": [True, True],
        "width > 5 and any(similarity > 0.8)": [True, False],
        "any(similarity >= p50)": [True, True],
    }
    for text, kept in answers.items():
        assert parse(text).evaluate({"width": [6, 6]}, captions).tolist() == kept, text
