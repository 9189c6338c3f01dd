"""What `select:` asks for, held against the columns that stages write: mistakes are found before hours of scoring."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from curation.encoding.extras import columns_of_sources
from curation.errors import UsageError
from curation.expression import Expression, parse
from curation.extra import is_extra, path_of
from curation.load import Loaded, suggest
from curation.manifest import COMPARED, LARGE, DuplicatesSection
from curation.predicates import kind_of
from curation.selection.neighbours import MAX_HAMMING
from curation.stores.location import resolve
from curation.stores.storage import Store

Types = Mapping[str, pa.DataType]
SELECTION = "selection.parquet"


def check_select(loaded: Loaded, types: Types) -> None:
    """Raise UsageError with file and line for what `select` could not do. `types`: of every column that it may name."""
    select = loaded.manifest.select
    _check_extras(loaded)
    for i, text in enumerate(select.keep):
        where = loaded.where("select", "keep", i)
        check_names_and_types(parse(text, where), where, types)
    for i, section in enumerate(select.duplicates):
        _check_duplicates(section, loaded.where("select", "duplicates", i), loaded, types)
    for i, cap in enumerate(select.caps):
        where = loaded.where("select", "caps", i)
        _check_column(cap.by, f"{where}: by", types)
        if not is_extra(cap.by) and kind_of(types[cap.by]) not in ("number", "text", "flag"):
            raise UsageError(
                f"{where}: by: a value of '{cap.by}' ({types[cap.by]}) is no single one that records share; "
                f"name a number or a text"
            )
        _check_preferred(cap.prefer, f"{where}: prefer", types)


def _check_extras(loaded: Loaded) -> None:
    """Raise UsageError for a column of the source that no source has, where all of them say their columns."""
    named = list(_extras_named(loaded))
    known = columns_of_sources(loaded) if named else None
    for name, where in named:
        first = path_of(name)[0]
        if known is not None and first not in known:
            hint = f"{suggest(first, known)}; there are: {', '.join(known[:30])}"
            raise UsageError(f"{where}: no source has a column '{first}'{hint}")


def _extras_named(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """Each column of the source that `score:` and `select:` name, and where."""
    manifest = loaded.manifest
    tests: list[tuple[tuple[str | int, ...], str | None]] = [
        (("score", i, entry.stage), text) for i, entry in enumerate(manifest.score) for text in (entry.keep, entry.when)
    ]
    tests += [(("select", "keep", i), text) for i, text in enumerate(manifest.select.keep)]
    for keys, text in tests:
        where = loaded.where(*keys)
        yield from ((name, where) for name in sorted(parse(text, where).names if text else ()) if is_extra(name))
    sections = [("duplicates", i, section.prefer) for i, section in enumerate(manifest.select.duplicates)]
    sections += [("caps", i, (cap.by, *cap.prefer)) for i, cap in enumerate(manifest.select.caps)]
    for word, i, columns in sections:
        for name in (column.removeprefix("-") for column in columns):
            if is_extra(name):
                where = loaded.where("select", word, i)
                _check_column(name, where, {})
                yield name, where


def check_names_and_types(expression: Expression, where: str, types: Types) -> None:
    """Raise UsageError for a column that is not there, or a comparison that its type does not allow."""
    for name in sorted(expression.names):
        _check_column(name, where, types)
        if name in LARGE:
            raise UsageError(f"{where}: '{name}' is compared by `duplicates:` and stands in no condition")
    expression.evaluate({name: [None] if is_extra(name) else pa.nulls(1, types[name]) for name in expression.names})


def _check_duplicates(section: DuplicatesSection, where: str, loaded: Loaded, types: Types) -> None:
    for name in COMPARED[section.on]:
        if name not in types:
            raise UsageError(
                f"{where}: it needs the column '{name}', which no stage under score: writes{suggest(name, types)}"
            )
    _check_preferred(section.prefer, f"{where}: prefer", types)
    if (threshold := section.threshold) is not None:
        if section.on in ("bytes", "pixels") and threshold != 0:
            raise UsageError(f"{where}: threshold {threshold:g} does nothing: {section.on} are the same or are not")
        hamming = section.on == "phash"
        sound = 0 <= threshold <= MAX_HAMMING and threshold.is_integer() if hamming else 0 < threshold <= 1
        sound |= section.on in ("bytes", "pixels")
        if not math.isfinite(threshold) or not sound:
            allowed = f"a whole number of bits, 0 to {MAX_HAMMING}" if hamming else "a cosine above 0, 1 at most"
            raise UsageError(f"{where}: threshold {threshold:g} is not {allowed}")
    for place in section.against:
        if not Store(resolve(loaded.base, place)).exists(SELECTION):
            raise UsageError(f"{where}: against: {place} is no finished run directory (it has no {SELECTION})")


def _check_column(name: str, where: str, types: Types) -> None:
    if is_extra(name):
        try:
            path_of(name)
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from error
    elif name not in types:
        raise UsageError(
            f"{where}: no column '{name}' is written before this{suggest(name, types)}; "
            f"there are: {', '.join(sorted(types))}"
        )


def _check_preferred(prefer: Sequence[str], where: str, types: Types) -> None:
    """Raise UsageError for a column whose values have no order: only numbers have, and the source's own that are."""
    for key in prefer:
        name = key.removeprefix("-")
        _check_column(name, where, types)
        if not is_extra(name) and kind_of(types[name]) not in ("number", "flag"):
            raise UsageError(f"{where}: the values of '{name}' ({types[name]}) have no order; name a number")
