"""The source's own columns (licence, url, author ...) that a manifest wants in the shards: `encode: {extra: ...}`.

All samples of a run have the same JSON type under one name, so that readers that infer a schema from the first samples
read the rest: numbers stay numbers where all of them are, everything else becomes text.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError, UsageError
from curation.load import Loaded, suggest
from curation.sources.files import expand
from curation.sources.table import known_columns
from curation.stores.location import resolve

if TYPE_CHECKING:  # the plan checks names here, and what reads scores/ knows the plan
    from curation.encoding.scored import ScoredRows

Names = tuple[str, ...] | Literal[True]
LARGEST = 2**63


@dataclass
class Extras:
    """What the kept records' own columns hold.

    kinds    the type under each name: boolean, integer, number, texts (a list of them) or text
    digests  a hash of each record's values, by id
    """

    kinds: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def of(self, ids: Iterable[str]) -> list[Any]:
        """What the bytes of a shard with these records depend on."""
        return [sorted(self.kinds.items()), [self.digests[identity] for identity in ids]]

    def typed(self, extra: str | None) -> dict[str, Any]:
        """A record's values as its sample has them; what is missing is left out."""
        found = chosen(extra, tuple(self.kinds))
        return {name: as_kind(value, self.kinds[name]) for name, value in found.items()}


def extras_of(scored: "ScoredRows", wanted: NDArray[np.bool_], names: Names) -> Extras:
    """One pass over scores/: types and hashes of the `wanted` records' columns."""
    extras, kinds = Extras(), dict[str, set[str]]()
    for _, table in scored.scan(["extra"], wanted):
        for row in table.to_pylist():
            found = chosen(row["extra"], names)
            text = json.dumps(found, sort_keys=True)
            extras.digests[row["id"]] = hashlib.sha256(text.encode()).hexdigest()[:16]
            for name, value in found.items():
                kinds.setdefault(name, set()).add(kind_of(value))
    extras.kinds = {name: common(each) for name, each in sorted(kinds.items())}
    return extras


def chosen(extra: str | None, names: Names) -> dict[str, Any]:
    """The values under the names that are wanted, without those that are missing: null, NaN, empty lists."""
    values: dict[str, Any] = json.loads(extra or "{}")
    return {
        name: value
        for name, value in values.items()
        if (names is True or name in names)
        and value not in (None, [], {})
        and not (isinstance(value, float) and not math.isfinite(value))
    }


def kind_of(value: Any) -> str:
    """The JSON type of one value, as `Extras.kinds` names it."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -LARGEST <= value < LARGEST else "text"
    if isinstance(value, float):
        return "number"
    return "texts" if isinstance(value, list) and all(isinstance(item, str) for item in value) else "text"


def common(kinds: set[str]) -> str:
    """One type for all: integers and numbers are numbers, any other mixture is text."""
    return next(iter(kinds)) if len(kinds) == 1 else "number" if kinds == {"integer", "number"} else "text"


def as_kind(value: Any, kind: str) -> Any:
    """A value as the run has it under its name; what is no text becomes text as JSON."""
    if kind == "number":
        return float(value)
    return json.dumps(value, ensure_ascii=False) if kind == "text" and not isinstance(value, str) else value


def check_names(loaded: Loaded) -> None:
    """Raises UsageError for a name that no source can have: tables that say their columns, and those that they use."""
    encode, sources = loaded.manifest.encode, loaded.manifest.source
    if encode is None or encode.extra is True:
        return
    where = loaded.where("encode", "extra")
    used = {getattr(section, word): word for section in sources for word in ("media", "caption")}
    known = columns_of_sources(loaded) if encode.extra else None
    for name in encode.extra:
        if word := used.get(name):
            raise UsageError(f"{where}: '{name}' is the column of source: {word}:, which is not kept as an extra one")
        if known is not None and name not in known:
            raise UsageError(
                f"{where}: no source has a column '{name}'{suggest(name, known)}; there are: {', '.join(known[:30])}"
            )


def columns_of_sources(loaded: Loaded) -> list[str] | None:
    """All columns of the sources, where each is a table that says them; None where they cannot be known."""
    sources = loaded.manifest.source
    columns = [_columns(resolve(loaded.base, section.table)) if section.table else None for section in sources]
    return None if None in columns else sorted({column for each in columns if each for column in each})


def _columns(table: str) -> list[str] | None:
    """All columns of a csv, tsv or Parquet table; None where they cannot be known, as with jsonl."""
    try:
        first = next(expand(table))
        return None if first.lower().endswith((".jsonl", ".ndjson")) else known_columns(first)
    except (CurationError, UsageError, OSError, StopIteration):
        return None  # opening the source says what is wrong with it
