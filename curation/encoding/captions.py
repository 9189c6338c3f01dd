"""Which captions go into a shard: those that the decision left to a record, each with its source and its scores."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.captions.stage import GENERATED, GENERATED_SOURCE, texts_of

_JSON = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True)
class Caption:
    """A caption, where it is from, and what the stages said of it."""

    text: str
    source: str
    scores: dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What the decision says of a record's captions.

    kept    places among its own, the generated one as the last
    merged  (id, place) of captions taken over from its exact duplicates
    """

    kept: tuple[int, ...]
    merged: tuple[tuple[str, int], ...]


def choices_of(selection: pa.Table) -> dict[str, Choice]:
    """id -> choice, of kept records that do not just keep all of their own captions."""
    columns = ("captions_merged", "captions_set_aside")
    concerned = pc.or_(*(selection[name].is_valid() for name in columns))
    rows = selection.filter(concerned).select(["id", "captions_kept", "captions_merged"]).to_pylist()
    return {
        row["id"]: Choice(
            tuple(row["captions_kept"] or ()),
            tuple((taken["id"], taken["caption"]) for taken in row["captions_merged"] or ()),
        )
        for row in rows
    }


def own_captions(row: Mapping[str, Any], lists: Mapping[str, str]) -> list[Caption]:
    """All captions of a row of scores/.

    lists  a score's name -> the column with its value for each caption
    """
    if not lists and not row.get(GENERATED):
        return [Caption(text, "source", {}) for text in row["captions"] or ()]
    texts = texts_of(row["captions"], row.get(GENERATED))
    own = len(row["captions"] or ())
    return [
        Caption(
            text,
            "source" if i < own else row.get(GENERATED_SOURCE) or "generated",
            {name: value for name, column in lists.items() if is_value(value := _at(row.get(column), i))},
        )
        for i, text in enumerate(texts)
    ]


def captions_of(own: list[Caption], choice: Choice | None, donors: Mapping[str, list[Caption]]) -> dict[str, Any]:
    """The columns `captions`, `caption_sources` and `caption_scores` of a shard's record."""
    chosen = own if choice is None else [own[i] for i in choice.kept]
    chosen = chosen + [donors[identity][i] for identity, i in (choice.merged if choice else ())]
    return {
        "captions": [caption.text for caption in chosen],
        "caption_sources": [caption.source for caption in chosen],
        "caption_scores": _JSON.encode([caption.scores for caption in chosen]),
    }


def _at(values: list[Any] | None, place: int) -> Any:
    return values[place] if values is not None and place < len(values) else None


def is_value(value: Any) -> bool:
    """JSON knows no NaN."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
