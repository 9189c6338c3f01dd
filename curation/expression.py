"""The small language of `keep:` and `when:`, such as `similarity >= 0.2 and not (caption is null)`.

Parsed by Python's own parser, of which only comparisons, and / or / not, `in [...]`, `is null`, numbers,
strings, column names, `extra.NAME` and percentiles (`p20`) are let through. Logic is SQL's: a comparison with
null is unknown, and unknown at the end is False.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.errors import UsageError

Bools = NDArray[np.bool_]
_PERCENTILE = re.compile(r"^p(\d{1,2}|100)$")
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_NULL = object()


@dataclass(frozen=True)
class Truth:
    """Three-valued truth per row: `yes` where certainly true, `no` where certainly false, else unknown."""

    yes: Bools
    no: Bools


@dataclass(frozen=True)
class Atom:
    """One comparison of a column with a constant, for the ledger: which of them a record failed."""

    text: str
    column: str
    threshold: float | None
    truth: Truth


@dataclass(frozen=True)
class Expression:
    """A parsed expression; build it with `parse`. Picklable."""

    text: str
    where: str

    @cached_property
    def _tree(self) -> ast.expr:
        return _checked(self.text, self.where)

    @cached_property
    def names(self) -> frozenset[str]:
        """Columns that it reads, `extra.NAME` included."""
        return frozenset(name for node in ast.walk(self._tree) if (name := _column(node)) and not _is_inner(node, self._tree))

    @cached_property
    def percentiles(self) -> frozenset[tuple[str, int]]:
        """(column, p) of each percentile: `aesthetic >= p20` is ("aesthetic", 20)."""
        found = set()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                columns = [name for side in sides if (name := _column(side))]
                for side in sides:
                    if (p := _percentile(side)) is not None:
                        if len(columns) != 1:
                            raise UsageError(f"{self.where}: '{ast.unparse(node)}': a percentile stands beside just one column")
                        found.add((columns[0], p))
        return frozenset(found)

    @property
    def uses_percentiles(self) -> bool:
        return bool(self.percentiles)

    def evaluate(self, columns: Mapping[str, Any], percentiles: Mapping[tuple[str, int], float | None] | None = None) -> Bools:
        """Which rows it certainly holds for: bool [rows]. Raises UsageError where types cannot be compared."""
        return self._truth(columns, percentiles or {}, []).yes

    def blame(
        self, columns: Mapping[str, Any], percentiles: Mapping[tuple[str, int], float | None] | None = None
    ) -> tuple[list[str | None], NDArray[np.float64], NDArray[np.float64]]:
        """For each row the column of the first comparison that does not hold, its value and threshold (NaN: none)."""
        atoms: list[Atom] = []
        self._truth(columns, percentiles or {}, atoms)
        rows = len(next(iter(columns.values())))
        column: list[str | None] = [None] * rows
        value, threshold = np.full(rows, np.nan), np.full(rows, np.nan)
        for atom in reversed(atoms):
            failed = ~atom.truth.yes
            numbers = _numbers(columns[atom.column])
            value[failed] = numbers[failed]
            threshold[failed] = np.nan if atom.threshold is None else atom.threshold
            for i in np.flatnonzero(failed) if rows < 10_000 else ():
                column[i] = atom.column
        return column, value, threshold

    def _truth(self, columns: Mapping[str, Any], percentiles: Mapping[tuple[str, int], float | None], atoms: list[Atom]) -> Truth:
        return _Evaluation(self, columns, percentiles, atoms).truth(self._tree)


@lru_cache(maxsize=1024)
def parse(text: str, where: str = "") -> Expression:
    """Check and parse; raises UsageError with a sentence pointing at `where` and at the offending part."""
    expression = Expression(str(text), where)
    _ = expression.names, expression.percentiles
    return expression


class _Evaluation:
    """One evaluation over columns of equal length."""

    def __init__(
        self, expression: Expression, columns: Mapping[str, Any], percentiles: Mapping[tuple[str, int], float | None], atoms: list[Atom]
    ) -> None:
        self.expression, self.columns, self.percentiles, self.atoms = expression, columns, percentiles, atoms
        self.rows = len(next(iter(columns.values()))) if columns else 0

    def truth(self, node: ast.expr) -> Truth:
        if isinstance(node, ast.BoolOp):
            parts = [self.truth(value) for value in node.values]
            yes, no = [part.yes for part in parts], [part.no for part in parts]
            if isinstance(node.op, ast.And):
                return Truth(np.logical_and.reduce(yes), np.logical_or.reduce(no))
            return Truth(np.logical_or.reduce(yes), np.logical_and.reduce(no))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self.truth(node.operand)
            return Truth(inner.no, inner.yes)
        if isinstance(node, ast.Compare):
            return self._chain(node)
        values, valid = self._column_values(_column(node) or "")
        held = values.astype(bool)
        return Truth(held & valid, ~held & valid)

    def _chain(self, node: ast.Compare) -> Truth:
        sides = [node.left, *node.comparators]
        parts = [self._compare(sides[i], op, sides[i + 1]) for i, op in enumerate(node.ops)]
        return Truth(np.logical_and.reduce([p.yes for p in parts]), np.logical_or.reduce([p.no for p in parts]))

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Truth:
        text = f"{ast.unparse(left)} {_SIGN[type(op)]} {ast.unparse(right)}"
        name = _column(left) or _column(right)
        if isinstance(op, ast.Is | ast.IsNot):
            _, valid = self._column_values(_column(left) or "")
            truth = Truth(valid, ~valid) if isinstance(op, ast.IsNot) else Truth(~valid, valid)
        elif isinstance(op, ast.In | ast.NotIn):
            truth = self._membership(left, op, right)
        else:
            truth = self._ordered(left, op, right, text)
        if name:
            self.atoms.append(Atom(text, name, self._threshold(left, right), truth))
        return truth

    def _membership(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Truth:
        options = [_constant(item) for item in right.elts]  # type: ignore[attr-defined]
        values, valid = self._column_values(_column(left) or "")
        found = np.isin(values, np.array(options, dtype=values.dtype if values.dtype == object else None))
        held = ~found if isinstance(op, ast.NotIn) else found
        return Truth(held & valid, ~held & valid)

    def _ordered(self, left: ast.expr, op: ast.cmpop, right: ast.expr, text: str) -> Truth:
        (a, a_valid), (b, b_valid) = self._operand(left, right), self._operand(right, left)
        valid = a_valid & b_valid
        held = np.zeros(self.rows, bool)
        try:
            a, b = np.broadcast_to(a, self.rows), np.broadcast_to(b, self.rows)
            held[valid] = _COMPARE[type(op)](a[valid], b[valid]).astype(bool)
        except TypeError as error:
            raise UsageError(f"{self.expression.where}: '{text}' compares text with a number") from error
        return Truth(held, ~held & valid)

    def _operand(self, node: ast.expr, other: ast.expr) -> tuple[NDArray[Any], Bools]:
        """Values and validity of one side; a percentile belongs to the column on the other side."""
        if (p := _percentile(node)) is not None:
            value = self.percentiles.get((_column(other) or "", p))
            return np.array(np.nan if value is None else value), np.full(self.rows, value is not None)
        if name := _column(node):
            return self._column_values(name)
        value = _constant(node)
        return np.array(value, dtype=object if isinstance(value, str) else None), np.ones(self.rows, bool)

    def _threshold(self, left: ast.expr, right: ast.expr) -> float | None:
        for side, other in ((right, left), (left, right)):
            if (p := _percentile(side)) is not None:
                return self.percentiles.get((_column(other) or "", p))
            value = _constant(side)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
        return None

    def _column_values(self, name: str) -> tuple[NDArray[Any], Bools]:
        if name not in self.columns:
            raise UsageError(f"{self.expression.where}: there is no column '{name}' for '{self.expression.text}'")
        return as_numpy(self.columns[name])


def as_numpy(column: Any) -> tuple[NDArray[Any], Bools]:
    """A column as an array and its validity; nulls (and NaN) are not valid."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
            valid = column.is_valid().to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.is_valid().to_numpy()
            filled = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
            values = filled.to_numpy(zero_copy_only=False) if isinstance(filled, pa.Array) else filled.to_numpy()
            if values.dtype.kind == "f":
                valid = valid & ~np.isnan(values)
            return values, valid
        column = column.to_pylist()
    if isinstance(column, np.ndarray) and column.dtype != object:
        return column, ~np.isnan(column) if column.dtype.kind == "f" else np.ones(len(column), bool)
    valid = np.array([value is not None and value == value for value in column], bool)
    kinds = {type(value) for value, ok in zip(column, valid, strict=True) if ok}
    if kinds and kinds <= {int, float, bool}:
        return np.array([value if ok else 0 for value, ok in zip(column, valid, strict=True)]), valid
    values = np.empty(len(column), object)
    for i, value in enumerate(column):
        values[i] = tuple(value) if isinstance(value, list) else value
    return values, valid


def _numbers(column: Any) -> NDArray[np.float64]:
    values, valid = as_numpy(column)
    if values.dtype == object:
        return np.full(len(values), np.nan)
    return np.where(valid, values.astype(np.float64), np.nan)


_SIGN = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}


def _checked(text: str, where: str) -> ast.expr:
    """The tree, with every node allowed. Raises UsageError."""
    prefix = f"{where}: " if where else ""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{prefix}'{text}' is not an expression such as \"similarity >= 0.2 and width > 256\"") from error
    _check(tree, text, prefix)
    return tree


def _check(node: ast.expr, text: str, prefix: str) -> None:
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _check(value, text, prefix)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand, text, prefix)
    elif isinstance(node, ast.Compare):
        _check_compare(node, text, prefix)
    elif not _column(node):
        raise UsageError(f"{prefix}'{text}': '{ast.unparse(node)}' is neither true nor false; compare it with something")


def _check_compare(node: ast.Compare, text: str, prefix: str) -> None:
    sides = [node.left, *node.comparators]
    for i, op in enumerate(node.ops):
        left, right = sides[i], sides[i + 1]
        part = f"{ast.unparse(left)} {_SIGN.get(type(op), '?')} {ast.unparse(right)}"
        if isinstance(op, ast.Is | ast.IsNot):
            if not _column(left) or _constant(right) is not _NULL:
                raise UsageError(f"{prefix}'{part}': say `COLUMN is null` or `COLUMN is not null`")
        elif isinstance(op, ast.In | ast.NotIn):
            fine = isinstance(right, ast.List | ast.Tuple) and all(_constant(item) not in (None, _NULL) for item in right.elts)
            if not _column(left) or not fine:
                raise UsageError(f'{prefix}\'{part}\': say `COLUMN in ["a", "b"]`')
        else:
            for side in (left, right):
                if not _column(side) and _percentile(side) is None and _constant(side) in (None, _NULL):
                    raise UsageError(f"{prefix}'{part}': '{ast.unparse(side)}' is no column, number, text or percentile")
            if not _column(left) and not _column(right):
                raise UsageError(f"{prefix}'{part}' names no column")


def _column(node: ast.AST) -> str | None:
    """The column that a node names, None for anything else."""
    if isinstance(node, ast.Name) and node.id not in ("null", "None", "true", "false") and not _PERCENTILE.match(node.id):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "extra":
        return f"extra.{node.attr}"
    return None


def _is_inner(node: ast.AST, tree: ast.AST) -> bool:
    """Whether a Name is the `extra` of an `extra.NAME`."""
    return isinstance(node, ast.Name) and any(isinstance(outer, ast.Attribute) and outer.value is node for outer in ast.walk(tree))


def _percentile(node: ast.AST) -> int | None:
    match = _PERCENTILE.match(node.id) if isinstance(node, ast.Name) else None
    return int(match.group(1)) if match else None


def _constant(node: ast.AST) -> Any:
    """A literal's value, `_NULL` for null, None for anything that is no literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | bool):
        return node.value
    if isinstance(node, ast.Constant) and node.value is None:
        return _NULL
    if isinstance(node, ast.Name) and node.id in ("null", "true", "false"):
        return {"null": _NULL, "true": True, "false": False}[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(value := _constant(node.operand), int | float):
        return -value
    return None


def columns_of(table: pa.Table, names: Sequence[str]) -> dict[str, Any]:
    """Columns of a table by name, for `evaluate`; a column that the table lacks is all null."""
    return {name: table[name] if name in table.column_names else pa.nulls(table.num_rows) for name in names}
