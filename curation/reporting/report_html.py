"""The page of `curate report`: one HTML file without scripts or outside parts. Every text in it is escaped.

Captions, keys and errors come from the web. They reach the page through `text` alone; the
Content-Security-Policy allows nothing but this style sheet and pictures that lie in the page itself.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.reporting.ledger import footage

BINS = 48
WIDTH, TOP, BASE = 640, 18, 148
"""Of a histogram, px: its width, where its tallest column ends and where all stand."""
LONGEST = 240
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

CSS = """
:root { color-scheme: light dark; --ink: #1b1d22; --paper: #fff; --soft: #6b7280; --line: #d9dce3;
  --kept: #2f7d5b; --lost: #c3c8d2; --cut: #c2410c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --paper: #15171b; --soft: #9aa1ad; --line: #343841;
    --kept: #57b98c; --lost: #4a505c; --cut: #f59e62 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem }
h2 { font-size: 1.15rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
h3 { font-size: 1rem; margin: 1.5rem 0 .3rem }
table { border-collapse: collapse }
td, th { padding: .12rem .8rem .12rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
code { font-size: .92em }
.soft { color: var(--soft) }
svg { display: block; max-width: 100%; height: auto }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft) }
.kept { fill: var(--kept) }
.lost { fill: var(--lost) }
.cut { stroke: var(--cut); stroke-width: 1.5 }
svg text.cutname { fill: var(--cut) }
.row { display: flex; flex-wrap: wrap; gap: .8rem; margin: .5rem 0 1rem }
.pair { border: 1px solid var(--line); padding: .6rem; display: flex; gap: .8rem }
figure { margin: 0; width: 160px; font-size: .78rem; overflow-wrap: anywhere }
figure img { display: block }
"""


@dataclass(frozen=True)
class Picture:
    """A record as the page shows it; `thumbnail` is JPEG bytes, or None and `problem` says why."""

    key: str
    caption: str
    note: str
    thumbnail: bytes | None
    problem: str = ""


@dataclass(frozen=True)
class Cut:
    """A threshold of the manifest, with pictures on both sides of it."""

    stage: str
    text: str
    column: str
    threshold: float | None
    kept: Sequence[Picture] = ()
    dropped: Sequence[Picture] = ()


@dataclass(frozen=True)
class Measured:
    """A column's known values float64 [N], whether each record was kept bool [N], and the cuts through it."""

    column: str
    values: NDArray[np.float64]
    kept: NDArray[np.bool_]
    cuts: Sequence[Cut]


@dataclass(frozen=True)
class Errors:
    """A reason for quarantine, how many records it took, and example sentences (key, error)."""

    reason: str
    count: int
    examples: Sequence[tuple[str, str]]


def text(value: Any, longest: int = LONGEST) -> str:
    """Anything as harmless HTML: escaped, bounded, no control characters, its writing direction its own."""
    plain = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))
    short = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return f"<bdi>{html.escape(short)}</bdi>"


def page(
    name: str,
    account: Mapping[str, Any],
    funnel: Sequence[tuple[str, str, int]],
    measured: Iterable[Measured],
    pairs: Iterable[tuple[str, Picture, Picture]],
    errors: Iterable[Errors],
) -> str:
    """The whole page.

    account  run.json
    funnel   (fate, reason, records) in the order in which records met them
    pairs    what was compared and found, the record that fell, the one that stayed
    """
    allowed = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    dropped, quarantined = sum(account["dropped"].values()), sum(account["quarantined"].values())
    kept = f"{account['kept']:,} kept, {dropped:,} dropped, {quarantined:,} quarantined"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(name)}: report</title>'
        f"<style>{CSS}</style></head><body>"
        f"<h1>{text(name)}</h1><p>{account['records_in']:,} records: {kept}.</p>",
        "<h2>Funnel</h2>" + _funnel(account, funnel),
        "<h2>Phases</h2>" + _phases(account),
        _section("Thresholds", [_measured(each) for each in measured]),
        _section("Duplicates", [_pair(*pair) for pair in pairs]),
        _section("Quarantined", [_errors(each) for each in errors]),
        f'<p class="soft">{text(account.get("engine", ""))}, manifest {text(account.get("config_hash", ""))}</p>',
        "</body></html>",
    ]
    return "\n".join(parts)


def _section(title: str, parts: Sequence[str]) -> str:
    return f"<h2>{title}</h2>{''.join(parts)}" if parts else ""


def _bar(width: float, style: str) -> str:
    return f'<svg width="240" height="12"><rect class="{style}" width="{240 * width:.1f}" height="12"/></svg>'


def _funnel(account: Mapping[str, Any], funnel: Sequence[tuple[str, str, int]]) -> str:
    left = account["records_in"]

    def line(fate: str, reason: str, lost: str, style: str = "lost") -> str:
        bar = _bar(left / max(account["records_in"], 1), style)
        return f"<tr><td>{fate}<td>{reason}<td class=n>{lost}<td class=n>{left:,}<td>{bar}"

    rows = [line("source", "", "")]
    for fate, reason, count in funnel:
        left -= count
        rows.append(line(text(fate), text(reason), f"-{count:,}"))
    rows.append(line("<b>kept</b>", "", "", "kept"))
    return f"<table><tr><th>fate<th>reason<th class=n>records<th class=n>left<th>{''.join(rows)}</table>"


def _phases(account: Mapping[str, Any]) -> str:
    def table(title: str, costs: Mapping[str, Mapping[str, Any]]) -> str:
        rows = "".join(
            f"<tr><td>{text(name)}<td class=n>{cost['records']:,}<td class=n>{cost['seconds']:,.1f}"
            for name, cost in costs.items()
        )
        return f"<table><tr><th>{title}<th class=n>records<th class=n>seconds{rows}</table>"

    parts = [table("phase", account.get("phases", {}))]
    if account.get("stages"):
        parts.append(table("stage, all workers", account["stages"]))
    unused = footage(account.get("phases", {}))
    said = f"<p>{text(unused)}</p>" if unused else ""
    return f'<div class="row">{"".join(f"<div>{part}</div>" for part in parts)}</div>{said}'


def _measured(measured: Measured) -> str:
    parts = [f"<h3>{text(measured.column)}</h3>{histogram(measured)}"]
    for cut in measured.cuts:
        if cut.kept or cut.dropped:
            where = "" if cut.threshold is None else f" at {cut.threshold:.4g}"
            parts.append(f"<p><code>{text(cut.text)}</code> ({text(cut.stage)}){where}</p>")
            parts += [_row("just dropped", cut.dropped), _row("just kept", cut.kept)]
    return "".join(parts)


def histogram(measured: Measured) -> str:
    """Inline SVG: bars of all known values, the kept ones coloured, a line at each threshold.

    Values outside the middle 99 % are counted in the outermost bars, unless a threshold lies there.
    """
    if not len(measured.values):
        return '<p class="soft">no values</p>'
    marks = sorted({cut.threshold for cut in measured.cuts if cut.threshold is not None})
    edges = [*np.quantile(measured.values, [0.005, 0.995]).tolist(), *marks]
    margin = (max(edges) - min(edges) or 1.0) / 50
    low, high = min(edges) - margin, max(edges) + margin
    place = np.clip(((measured.values - low) / (high - low) * BINS).astype(int), 0, BINS - 1)
    every, kept = (np.bincount(part, minlength=BINS) for part in (place, place[measured.kept]))
    parts = []
    for i in np.flatnonzero(every).tolist():
        tip = f"<title>from {low + i * (high - low) / BINS:.4g}: {every[i]:,}, of them kept {kept[i]:,}</title>"
        parts += [
            _column(int(i), every[i] / every.max(), "lost", tip),
            _column(int(i), kept[i] / every.max(), "kept", tip),
        ]
    parts += [_mark((mark - low) / (high - low) * WIDTH, mark) for mark in marks]
    parts.append(f'<text x="0" y="{BASE + 14}">{low:.4g}</text>')
    parts.append(f'<text x="{WIDTH}" y="{BASE + 14}" text-anchor="end">{high:.4g}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {BASE + 20}" width="{WIDTH}" role="img">{"".join(parts)}</svg>'


def _column(place: int, share: float, style: str, tip: str) -> str:
    tall, step = share * (BASE - TOP), WIDTH / BINS
    size = f'width="{step - 1:.1f}" height="{tall:.1f}"'
    return f'<rect class="{style}" x="{place * step:.1f}" y="{BASE - tall:.1f}" {size}>{tip}</rect>'


def _mark(x: float, threshold: float) -> str:
    anchor, aside = ("end", -4) if x > WIDTH / 2 else ("start", 4)
    name = f'<text class="cutname" x="{x + aside:.1f}" y="12" text-anchor="{anchor}">{threshold:.4g}</text>'
    return f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{BASE}"/>{name}'


def _row(title: str, pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    return f'<div class="soft">{title}</div><div class="row">{"".join(map(_picture, pictures))}</div>'


def _picture(picture: Picture) -> str:
    if picture.thumbnail is None:
        shown = f'<div class="soft">{text(picture.problem or "no picture")}</div>'
    else:
        shown = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(picture.thumbnail).decode()}">'
    words = f"<b>{text(picture.note, 80)}</b> {text(picture.caption)}<br><code>{text(picture.key, 80)}</code>"
    return f"<figure>{shown}{words}</figure>"


def _pair(found: str, fell: Picture, stayed: Picture) -> str:
    both = f'<div class="pair">{_picture(fell)}{_picture(stayed)}</div>'
    return f'<h3>{text(found)}</h3><div class="row">{both}</div>'


def _errors(errors: Errors) -> str:
    examples = "".join(f"<li><code>{text(key, 120)}</code> {text(error)}</li>" for key, error in errors.examples)
    return f"<h3>{errors.count:,} records: {text(errors.reason)}</h3><ul>{examples}</ul>"
