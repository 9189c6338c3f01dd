"""What follows the gates, as data for the report page: duplicates, caps and the sample."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.manifest import COMPARED, DuplicatesSection, Manifest
from curation.reporting.packing import packed
from curation.selection.looks import LookNeighbours, Looks
from curation.selection.neighbours import FLAT_ROWS, CosineNeighbours, Pairs
from curation.selection.select import Duplicates, draws
from curation.selection.table import IDENTITIES, Scores, codes_of

Ints = NDArray[np.int64]
MOST_PAIRS = 200_000
"""With more near pairs than this in one section, the page gives counts before duplicates."""


def after_gates(scores: Scores, manifest: Manifest, rows: Ints) -> dict[str, Any]:
    """The steps that the page can repeat exactly, or `inexact`: a sentence why it cannot.

    order    the records from best to worst
    codes    of sections that compare for equality: records of equal codes are the same, -1 is none
    pairs    of the others: places of near records, two by two
    """
    if why := _inexact(scores, manifest, rows):
        return {"inexact": why}
    sections = []
    for section in manifest.select.duplicates:
        made = _section(scores, section, manifest.seed, rows)
        if made is None:
            return {"inexact": f"more than {MOST_PAIRS:,} pairs of records are near each other"}
        sections.append({"on": section.on, **made})
    sample = manifest.select.sample
    drawn = None
    if sample is not None:
        drawn = packed(draws(scores.ids.take(pa.array(rows)).to_pylist(), manifest.seed))
    whole = isinstance(sample, int)
    return {"sections": sections, "sample": sample, "sample_is_count": whole, "draws": drawn}


def _inexact(scores: Scores, manifest: Manifest, rows: Ints) -> str | None:
    """Why duplicates, caps and the sample cannot be repeated on the page; None where they can."""
    select = manifest.select
    if not (select.duplicates or select.caps or select.sample is not None):
        return None
    if len(rows) < scores.rows:
        return "this page holds a sample of the records, among which a record's duplicates may be missing"
    if select.caps:
        return "the manifest has `caps`, which the page does not repeat"
    for section in select.duplicates:
        if section.against:
            return "the manifest compares with other runs, which the page does not hold"
        if section.on == "copy":
            return "copies are confirmed by laying pictures over each other, which the page does not do"
        if section.on == "phash" and scores.has_values("phash_frames"):
            return "clips are compared by their frames over time, which the page does not do"
        if section.on == "embedding" and (section.method == "clustered" or len(rows) > FLAT_ROWS):
            return "near embeddings of so many records are searched in clusters"
    return None


def _section(scores: Scores, section: DuplicatesSection, seed: int, rows: Ints) -> dict[str, Any] | None:
    duplicates = Duplicates(scores, section, seed, lambda _: None)
    order = duplicates.order(rows)
    made: dict[str, Any] = {"order": packed(order)}
    if section.on in ("bytes", "pixels"):
        return made | {"codes": packed(codes_of(scores[IDENTITIES[COMPARED[section.on][0]]]))}
    if section.on == "phash":
        looks = Looks.of(scores["phash"].cast(pa.uint64()), scores["phash_look"].cast(pa.binary()))
        known = np.flatnonzero(looks.known)
        found = _pairs(LookNeighbours(looks, int(duplicates.threshold)).pairs, known, known)
    else:
        known, vectors = scores.vectors("embedding", np.sort(rows))
        near = CosineNeighbours(vectors, duplicates.threshold, "flat", seed)
        found = _pairs(near.pairs, np.arange(len(known)), known)
    return None if found is None else made | {"pairs": packed(found)}


def _pairs(find: Callable[[Ints], Iterable[Pairs]], places: Ints, rows: Ints) -> Ints | None:
    """Pairs of rows one behind the other, each once; None where they are too many."""
    held: list[Ints] = []
    total = 0
    for block in find(places) if len(places) else ():
        held.append(np.stack([rows[block.left], rows[block.right]], axis=1))
        total += len(block.left)
        if total > 4 * MOST_PAIRS:
            return None
    if not held:
        return np.empty(0, np.int64)
    every = np.unique(np.sort(np.concatenate(held), axis=1), axis=0)
    return every.ravel() if len(every) <= MOST_PAIRS else None
