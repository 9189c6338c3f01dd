"""What the corpus of a run is like, counted for the report page: sizes, buckets, lengths, languages, sources."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.encoding.buckets import Clip, choose, content
from curation.manifest import EncodeSection, Manifest
from curation.selection.select import SIZE
from curation.selection.table import Scores

BARS = 12
"""Of a chart at most; rarer values are counted together."""
BINS = 16
COLUMNS = (
    *("width", "height", "duration_s", "fps", "fps_fraction", "language", "words", "format", "content_box"),
    *("start_s", "end_s", "media", "source_uri", "extra"),
)
"""What is read here, where a run has it."""
_LICENCES = ("license", "licence", "License", "LICENSE")


@dataclass(frozen=True)
class Chart:
    """Bars: label, all records, kept ones; `note` says what the numbers mean where the title does not."""

    title: str
    bars: list[tuple[str, int, int]]
    note: str = ""
    ordered: bool = False


def charts(scores: Scores, kept: NDArray[np.bool_], manifest: Manifest) -> list[dict[str, Any]]:
    """All charts for which the run has values."""
    made = [
        _words(scores, kept, "media", "Media"),
        _numbers(scores, kept, "width", "Width, px"),
        _numbers(scores, kept, "height", "Height, px"),
        _buckets(scores, kept, manifest.encode),
        _clip_lengths(scores, kept),
        _numbers(scores, kept, "duration_s", "Length of whole videos, seconds"),
        _numbers(scores, kept, "fps", "Frames a second"),
        _words(scores, kept, "language", "Languages of captions"),
        _numbers(scores, kept, "words", "Caption lengths, words"),
        _words(scores, kept, "format", "File formats"),
        _of_texts("Places the files come from", list(_places(scores)), kept),
        _of_texts("Licences", list(_licences(scores)), kept),
    ]
    return [asdict(chart) for chart in made if chart is not None and chart.bars]


def _words(scores: Scores, kept: NDArray[np.bool_], name: str, title: str) -> Chart | None:
    return _of_texts(title, scores[name].to_pylist(), kept) if scores.has_values(name) else None


def _of_texts(title: str, values: Sequence[str | None], kept: NDArray[np.bool_]) -> Chart | None:
    counts = Counter(value for value in values if value)
    mine = Counter(value for value, stays in zip(values, kept.tolist(), strict=True) if value and stays)
    bars = [(name[:80], count, mine[name]) for name, count in counts.most_common(BARS)]
    if len(counts) > BARS:
        rest = counts.total() - sum(count for _, count, _ in bars)
        bars.append((f"{len(counts) - BARS:,} others", rest, mine.total() - sum(count for *_, count in bars)))
    return Chart(title, bars)


def _numbers(scores: Scores, kept: NDArray[np.bool_], name: str, title: str) -> Chart | None:
    if not scores.has_values(name):
        return None
    return _histogram(title, scores.numbers(name), kept)


def _histogram(title: str, values: NDArray[np.float64], kept: NDArray[np.bool_]) -> Chart | None:
    """Few distinct values as they are, many in ranges; the outermost hold what lies beyond the middle 98 %."""
    known = np.isfinite(values)
    if not known.any():
        return None
    values, mine = values[known], kept[known]
    distinct = np.unique(values)
    if len(distinct) <= BINS:
        bars = [(f"{v:.6g}", int((values == v).sum()), int((values[mine] == v).sum())) for v in distinct.tolist()]
        return Chart(title, bars, ordered=True)
    low, high = np.quantile(values, [0.01, 0.99])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, values, "right") - 1, 0, BINS - 1)
    every, some = (np.bincount(part, minlength=BINS) for part in (place, place[mine]))
    names = [f"{a:.4g} to {b:.4g}" for a, b in pairwise(edges.tolist())]
    bars = list(zip(names, every.tolist(), some.tolist(), strict=True))
    return Chart(title, bars, "The outermost bars also count what lies beyond them.", True)


def _clip_lengths(scores: Scores, kept: NDArray[np.bool_]) -> Chart | None:
    if not scores.has_values("start_s"):
        return None
    return _histogram("Length of clips, seconds", scores.numbers("end_s") - scores.numbers("start_s"), kept)


def _buckets(scores: Scores, kept: NDArray[np.bool_], encode: EncodeSection | None) -> Chart | None:
    """Kept records by bucket, and how much of their pictures cropping to it leaves out."""
    if encode is None or not (scores.has_values("width") and scores.has_values("height")):
        return None
    rows = np.flatnonzero(kept)
    names = [name for name in SIZE if name in scores.known]
    taken = [scores[name].take(pa.array(rows)).to_pylist() for name in names]
    counts, lost = Counter[str](), defaultdict[str, float](float)
    for values in zip(*taken, strict=True):
        facts = {"content_box": None, "start_s": None, **dict(zip(names, values, strict=True))}
        if facts["width"] and facts["height"]:
            size = facts["width"], facts["height"], facts["content_box"], encode
            bucket = choose(*size, Clip.of(facts, encode))
            counts[bucket.name] += 1
            lost[bucket.name] += cropped(content(*size), bucket.width / bucket.height)
    bars = [
        (f"{name}: {lost[name] / count:.0%} cropped away", count, count) for name, count in counts.most_common(BARS)
    ]
    share = sum(lost.values()) / max(counts.total(), 1)
    note = f"Cropping to the buckets leaves out {share:.1%} of the area."
    return Chart("Buckets, frames x height x width", bars, note)


def cropped(box: tuple[int, int, int, int], aspect: float) -> float:
    """The share of a picture's area that is cut off to fill a shape of this width / height."""
    own = (box[2] - box[0]) / (box[3] - box[1])
    return 1 - min(own / aspect, aspect / own)


def _places(scores: Scores) -> Iterator[str | None]:
    """Host of a URL, otherwise the last folder of a path."""
    for uri in scores["source_uri"].to_pylist():
        place = urlsplit(uri or "")
        folder = place.path.rpartition("/")[0].rpartition("/")[2]
        yield (place.netloc if place.scheme in ("http", "https", "s3", "gs") else folder) or None


def _licences(scores: Scores) -> Iterator[str | None]:
    if "extra" not in scores.known:
        return
    for text in scores["extra"].to_pylist():
        found = json.loads(text) if text else {}
        value = next((found[name] for name in _LICENCES if found.get(name)), None)
        yield None if value is None else str(value)
