"""The small language of `keep:` and `when:`: `similarity >= 0.2 and not (caption is null)`.

    compare    == != < <= > >=, chained too: 0.2 <= similarity <= 0.9
    combine    and, or, not, parentheses; a column of true and false may stand alone: not flat
    missing    caption is null, caption is not null; any other test of a null is null, and null is not kept
    lists      format in ["JPEG", "PNG"], not in; "watermark" in caption_flags (an item, or a part of a text)
    text       is equal where its Unicode NFC is: however an accent was written
    columns    a score, a field of the record, or the source's own: extra.NAME, extra.meta.width, extra["any name"].
               One of these is null where a row lacks it, or has another type there than it is compared with; a text
               that is written as a number, true or false (all that csv has) is one. Two of them are compared as numbers
               where both are, else as what both are
    values     numbers, "text", true, false, len(captions): items of a list or characters of a text
    captions   any(similarity >= 0.2), all(...), main(...): of the record, from the same test of each of its captions;
               outside of these, a gate on a value of captions is judged caption by caption
    p0..p100   beside a column: its percentile, over the known values of the records still in (p2_5 is 2.5)

Fractions are compared in float32, in which scores are stored: fresh and stored scores pass the same gates. Whole
numbers are compared exactly, however large; a percentile is a float64.
It is parsed by Python's own parser, and only the forms above get through; nothing is ever executed.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation import extra
from curation.errors import UsageError
from curation.load import suggest
from curation.predicates import (
    Captions,
    Column,
    Columns,
    Comparison,
    Constant,
    Contains,
    IsNull,
    Junction,
    Membership,
    Mismatch,
    Not,
    OfCaptions,
    Operand,
    Percentile,
    Rows,
    Test,
    Truth,
    conjuncts,
)

_LONGEST = 4000
_DEEPEST = 50
_PERCENTILE = re.compile(r"p(\d{1,3})(?:_(\d+))?")
_OF_CAPTIONS = ("any", "all", "main")
_NAMES = ast.Name | ast.Attribute | ast.Subscript
_WORDS: dict[str, Any] = {"null": None, "true": True, "false": False}
_COMPARE = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


@dataclass(frozen=True)
class Explanation:
    """Which rows are kept, and for the others the first part of the expression that they fail.

    keep       bool [N]
    reasons    the distinct reasons
    code       int32 [N], the row's place in `reasons`; -1 where it is kept
    value      float64 [N], what was measured; NaN where it is missing or no number
    threshold  float64 [N], what it was compared with; NaN likewise
    """

    keep: NDArray[np.bool_]
    reasons: list[str]
    code: NDArray[np.int32]
    value: NDArray[np.float64]
    threshold: NDArray[np.float64]


@dataclass(frozen=True)
class Expression:
    """A parsed expression. `names` are the columns it reads (`extra.NAME` for the source's own).

    plain   the names that stand outside of any(), all() and main(): a caption's own, where it is judged for itself
    asks    whether any(), all() or main() stand in it
    """

    text: str
    where: str
    names: frozenset[str]
    plain: frozenset[str]
    asks: bool
    uses_percentiles: bool
    _test: Test = field(repr=False)

    def evaluate(self, columns: Columns, captions: Captions | None = None) -> NDArray[np.bool_]:
        """bool [N]: of which records the expression is true. Null counts as false.

        captions  what any(), all() and main() look at; without them a record is its only caption

        Raises UsageError when a column is not there, or holds what cannot be compared so.
        """
        rows = self._rows(columns, captions)
        return self._guarded(lambda: _true(self._test.outcome(rows)))

    def explain(self, columns: Columns, captions: Captions | None = None) -> Explanation:
        """What `evaluate` says, with reason, value and threshold for each record that is not kept."""
        rows = self._rows(columns, captions)
        return self._guarded(lambda: _explain(list(conjuncts(self._test)), rows))

    def explain_captions(self, captions: Captions) -> Explanation:
        """The same of each caption: the rows are those of `captions`."""
        self._rows(captions.columns, captions)
        rows = Rows.of_captions(captions)
        return self._guarded(lambda: _explain(list(conjuncts(self._test)), rows))

    def _rows(self, columns: Columns, captions: Captions | None) -> Rows:
        for name in sorted(self.names):
            if name not in columns and not (captions and name not in self.plain and name in captions.columns):
                raise UsageError(f"{_at(self.where)}'{self.text}' reads the column {name}, which is not there")
        length = captions.records if captions else len(next(iter(columns.values()), ()))
        return Rows(columns, length, captions)

    def _guarded(self, compute: Any) -> Any:
        try:
            return compute()
        except Mismatch as error:
            raise UsageError(f"{_at(self.where)}{error}") from error


@lru_cache(maxsize=1024)
def parse(text: str, where: str = "") -> Expression:
    """Parse an expression; `where` (file, line, key) opens every error's sentence. Raises UsageError."""
    parser = _Parser(str(text), where)
    test = parser.test(parser.tree())
    names, plain = frozenset(parser.names), frozenset(parser.plain)
    return Expression(parser.text, where, names, plain, parser.asks, parser.percentiles, test)


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _true(outcome: Any) -> NDArray[np.bool_]:
    return pc.fill_null(outcome, False).to_numpy(zero_copy_only=False)


def _explain(tests: list[Test], rows: Rows) -> Explanation:
    """A false part is blamed before a null one: more was known of it."""
    code = np.full(rows.length, -1, np.int32)
    value, threshold = np.full((2, rows.length), np.nan)
    reasons: list[str] = []
    outcomes = [test.outcome(rows) for test in tests]
    for missing in (False, True):
        for test, outcome in zip(tests, outcomes, strict=True):
            failed = outcome.is_null() if missing else pc.fill_null(pc.invert(outcome), False)
            blamed = failed.to_numpy(zero_copy_only=False) & (code < 0)
            if blamed.any():
                code[blamed] = len(reasons)
                reasons.append(f"{test.text} (missing value)" if missing else test.text)
                _fill(test, rows, blamed, value, threshold)
    return Explanation(code < 0, reasons, code, value, threshold)


def _fill(test: Test, rows: Rows, blamed: NDArray[np.bool_], *outputs: NDArray[np.float64]) -> None:
    """Write the numbers that a lone comparison compared into `outputs`, where it is to blame."""
    if not isinstance(test, Comparison):
        return
    for side, output in zip(test.numbers(rows), outputs, strict=True):
        if side is not None:
            output[blamed] = side[blamed] if len(side) > 1 else side


class _Parser:
    """Python's syntax tree -> our own tests, refusing every form that is not ours."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text.strip(), where
        self.names: set[str] = set()
        self.plain: set[str] = set()
        self.percentiles = self.asks = self._inside = False

    def fail(self, problem: str, node: ast.AST | None = None) -> UsageError:
        part = f"'{self.source(node)}' " if node is not None else ""
        inside = f" (in '{self.text[:200]}')" if node is None or self.source(node) != self.text else ""
        return UsageError(f"{_at(self.where)}{part}{problem}{inside}")

    def source(self, node: ast.AST) -> str:
        return " ".join((ast.get_source_segment(self._wrapped, node) or ast.unparse(node)).split())

    def tree(self) -> ast.expr:
        if not self.text or len(self.text) > _LONGEST:
            raise self.fail(f"an expression has 1 to {_LONGEST} characters, this one {len(self.text)}")
        self._wrapped = f"({self.text}\n)"  # parentheses let an expression run over several lines
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as an odd backslash in a text
                return ast.parse(self._wrapped, mode="eval").body
        except SyntaxError as error:
            raise self.fail(_syntax(self.text, error)) from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise self.fail(f"this cannot be read as an expression: {error}") from error

    def test(self, node: ast.expr, depth: int = 0) -> Test:
        if depth > _DEEPEST:
            raise self.fail("this expression is nested too deeply")
        text = self.source(node)
        if isinstance(node, ast.BoolOp):
            operator = "and" if isinstance(node.op, ast.And) else "or"
            return Junction(operator, tuple(self.test(value, depth + 1) for value in node.values), text)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Not(self.test(node.operand, depth + 1), text)
        if isinstance(node, ast.Compare):
            tests = tuple(self.pairs(node))
            return tests[0] if len(tests) == 1 else Junction("and", tests, text)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _OF_CAPTIONS:
            return self.of_captions(node, node.func.id, depth)
        if isinstance(node, _NAMES) and text not in _WORDS and not _PERCENTILE.fullmatch(text):
            return Truth(self.column(node), text)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            raise self.fail("uses & or |; say `and`, `or`", node)
        raise self.fail("is no test; compare a column with something, such as similarity >= 0.2", node)

    def of_captions(self, node: ast.Call, which: str, depth: int) -> Test:
        if self._inside:
            raise self.fail("stands inside another any(), all() or main()", node)
        if len(node.args) != 1 or node.keywords:
            raise self.fail(f"wants one test, such as {which}(similarity >= 0.2)", node)
        self.asks = self._inside = True
        test = self.test(node.args[0], depth + 1)
        self._inside = False
        return OfCaptions(which, test, self.source(node))

    def pairs(self, node: ast.Compare) -> Iterator[Test]:
        """A chain `a < b <= c` as the tests `a < b`, `b <= c`."""
        sides = [node.left, *node.comparators]
        for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
            yield self.pair(left, operator, right, node)

    def pair(self, left: ast.expr, operator: ast.cmpop, right: ast.expr, node: ast.Compare) -> Test:
        if isinstance(operator, ast.Is | ast.IsNot):
            if not _is_null(right):
                raise self.fail("uses `is` for something other than null; say ==", node)
            negated = isinstance(operator, ast.IsNot)
            text = f"{self.source(left)} is {'not ' if negated else ''}null"
            return IsNull(self.column(left), negated, text)
        if _is_null(left) or _is_null(right):
            raise self.fail("compares with null, which is never true; say `is null` or `is not null`", node)
        if isinstance(operator, ast.In | ast.NotIn):
            return self.member(left, right, isinstance(operator, ast.NotIn))
        word = _COMPARE[type(operator)]
        first, second = self.operand(left, right), self.operand(right, left)
        if not isinstance(first, Column) and not isinstance(second, Column):
            raise self.fail("names no column", node)
        return Comparison(first, word, second, f"{self.source(left)} {word} {self.source(right)}")

    def member(self, left: ast.expr, right: ast.expr, negated: bool) -> Test:
        text = f"{self.source(left)} {'not in' if negated else 'in'} {self.source(right)}"
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            if not right.elts:
                raise self.fail("is an empty list", right)
            return Membership(self.column(left), tuple(self.constant(item) for item in right.elts), negated, text)
        return Contains(self.constant(left), self.column(right), negated, text)

    def operand(self, node: ast.expr, other: ast.expr) -> Operand:
        percent = _PERCENTILE.fullmatch(node.id) if isinstance(node, ast.Name) else None
        if percent:
            return self.percentile(percent, node, other)
        if isinstance(node, ast.Call):
            return self.length(node)
        if isinstance(node, _NAMES) and self.source(node) not in _WORDS:
            return self.column(node)
        return self.constant(node)

    def percentile(self, match: re.Match[str], node: ast.expr, other: ast.expr) -> Percentile:
        percent = float(".".join(part for part in match.groups() if part))
        if percent > 100:
            raise self.fail("is no percentile; there are p0 to p100", node)
        if not isinstance(other, _NAMES | ast.Call):
            raise self.fail("is a percentile of the column beside it, and beside it is none", node)
        column = self.length(other) if isinstance(other, ast.Call) else self.column(other)
        self.percentiles = True
        return Percentile(percent, column, self.source(node))

    def length(self, node: ast.Call) -> Column:
        named = isinstance(node.func, ast.Name) and node.func.id == "len"
        if not named or len(node.args) != 1 or node.keywords:
            raise self.fail("is a call, and only len(column) may be called here", node)
        return Column(self.column(node.args[0]).name, self.source(node), length=True)

    def column(self, node: ast.expr) -> Column:
        name = self.source(node)
        if isinstance(node, ast.Attribute | ast.Subscript):
            name = self.of_source(node)
        elif not isinstance(node, ast.Name) or name in _WORDS or _PERCENTILE.fullmatch(name):
            raise self.fail(f"stands where a column's name should{extra.meant(self.text)}", node)
        self.names.add(name)
        if not self._inside:
            self.plain.add(name)
        return Column(name, self.source(node))

    def of_source(self, node: ast.Attribute | ast.Subscript) -> str:
        """The name of a column of the source."""
        path = extra.path_in(node)
        if path is not None:
            return extra.name_of(path)
        root: ast.expr = node
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        hint = extra.meant(self.source(node))
        if not hint and isinstance(root, ast.Name) and root.id != "extra" and suggest(root.id.lower(), ["extra"]):
            hint = f"; did you mean {self.source(node).replace(root.id, 'extra', 1)}?"
        if isinstance(node, ast.Attribute):
            raise self.fail(f"has a dot, and only extra.NAME may have one{hint}", node)
        raise self.fail(f'has brackets, and only extra["NAME"], a name in quotes, may have them{hint}', node)

    def constant(self, node: ast.expr) -> Constant:
        value: Any = _WORDS.get(node.id) if isinstance(node, ast.Name) else getattr(node, "value", None)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            number = self.constant(node.operand).value
            if not isinstance(number, str | bool):
                value = -number if isinstance(node.op, ast.USub) else number
        if not isinstance(value, int | float | str) or not isinstance(node, ast.Constant | ast.Name | ast.UnaryOp):
            raise self.fail(f"is neither a number, a text, true nor false{extra.meant(self.source(node))}", node)
        if isinstance(value, int) and abs(value) > 2**63:
            raise self.fail("is too large a number", node)
        return Constant(value, self.source(node))


def _is_null(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "null") or (isinstance(node, ast.Constant) and node.value is None)


def _syntax(text: str, error: SyntaxError) -> str:
    """Where Python's parser stopped, and what people write who come from SQL or C."""
    place = max((error.offset or 2) - 2, 0) if error.lineno == 1 else 0
    near = text[place : place + 20].strip() or text[-20:].strip()
    hints = {"&&": "and", "||": "or", "!": "not", "<>": "!="}
    hint = next((f"; say `{say}` for {wrote}" for wrote, say in hints.items() if wrote in text.replace("!=", "")), "")
    hint = hint or extra.meant(text)
    if not hint and re.search(r"[^=<>!]=[^=]", text):
        hint = "; say == to compare"
    return f"this is no expression near '{near}'{hint}"
