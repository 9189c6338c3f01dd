"""The report in a real browser: what it says under moved thresholds is what `curate select` then gives."""

import json
import random
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.browser import CHROMIUM, Page, browser
from helpers.corpus import write_corpus

from curation import rundir
from curation.errors import CurationError
from curation.phases import run
from curation.plan import make_plan
from curation.reporting import report_data
from curation.reporting.report import write_report
from curation.session import decide_run
from curation.stores.storage import Store

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium runs these tests")
HOSTILE = ['</script><script>document.title="hit"</script>', '"><img src=x onerror="document.title=1">']
MANIFEST = """\
name: moved
source: {{table: {table}, media: file, caption: captions}}
score:
  - resolution: {{keep: "min_side >= 64 and 0.5 <= aspect <= 1.8"}}
  - phash
  - text: {{keep: "caption_problems <= 1 and not words == 1", when: "extra.kind == 'a'"}}
  - quality: {{keep: "not (flat >= 0.97) and sharpness >= 2.2"}}
select:
  keep: ["contrast >= p10", "any(words >= 4) or len(captions) < 1", "sharpness <= p95"]
  duplicates: [exact, {{on: phash, threshold: 10, prefer: [sharpness]}}]
  sample: 0.9
"""


def write_records(folder: Path, count: int) -> Path:
    """Pictures with none to three captions; some are small, some stand twice, one is broken."""
    table = write_corpus(folder, count, odd={i: (40 + i, 50 + i % 30) for i in range(0, count, 7)})
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for i, row in enumerate(rows):
        own = row.pop("caption")
        row["captions"] = [[], [own], [own, "two words"], ["x", f"{own} again", own]][i % 4]
    rows[1]["captions"], rows[5]["captions"] = [HOSTILE[0]], [HOSTILE[1]]
    for i in range(10, count, 17):
        (folder / f"{i:04d}.jpg").write_bytes((folder / f"{i - 4:04d}.jpg").read_bytes())
    (folder / "0004.jpg").write_bytes(b"<html></html>")
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return table


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moved")
    table = write_records(folder / "corpus", 90)
    (folder / "manifest.yaml").write_text(MANIFEST.format(table=table))
    run(str(folder / "manifest.yaml"), str(folder / "run"), [], engine="inline")
    write_report(str(folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture
def page(tab: Page, finished: Path) -> Page:
    tab.problems.clear()
    tab.open(finished / "report.html")
    return tab


def selected(directory: Path, overrides: list[str]) -> pa.Table:
    """What `curate select` gives, without writing it."""
    store = Store(str(directory))
    return decide_run(store, make_plan(rundir.load_manifest(store, overrides)), {}, lambda _: None)


def fates(selection: pa.Table) -> list[list[str]]:
    columns = [selection[name].to_pylist() for name in ("decision", "stage", "reason")]
    return [[d, s or "", r or ""] for d, s, r in zip(*columns, strict=True)]


def command(page: Page) -> list[str]:
    """The overrides of the command that the page says."""
    words = shlex.split(page.run("document.getElementById('command').textContent"))
    assert words[:3] == ["curate", "select", "DIR"]
    return words[4::2]


def settled(page: Page, settings: dict[int, float]) -> dict[str, Any]:
    """Move thresholds as a person would, and read what the page then says."""
    page.run("document.getElementById('reset').click()")
    for place, setting in settings.items():
        page.run(f"curationReport.app.move({place}, {setting})")
    page.settle()
    found = page.run(
        "(() => { const d = curationReport.app.now; return {fates: Array.from(d.fate, (f) => d.reasons[f]), "
        "kept: d.kept, missing: [...d.missing], said: document.getElementById('count').textContent, "
        "duplicates: d.duplicateOf.length}; })()"
    )
    return dict(found)


def test_the_page_opens_without_a_complaint_and_agrees_with_the_run(page: Page, finished: Path) -> None:
    kept = json.loads((finished / "run.json").read_text())["kept"]
    assert page.run("document.getElementById('count').textContent") == f"{kept} of 90 kept"
    assert page.run("curationReport.app.differing()") == 0
    assert page.run("document.getElementById('notices').textContent") == ""
    assert page.problems == [] and page.run("document.title") == "moved: report"


def test_any_thresholds_give_what_select_gives(page: Page, finished: Path) -> None:
    thresholds = page.run("curationReport.app.model.thresholds")
    names = [each["name"] for each in thresholds]
    assert {"min_side", "aspect", "caption_problems", "words", "flat", "sharpness", "contrast"} <= set(names)
    spans = {"min_side": (64, 90), "aspect": (0.5, 1.8), "flat": (0.0, 1.0), "words": (0, 7), "sharpness": (2.2, 3.3)}
    drawn = random.Random(3)
    compared = 0
    for _ in range(25):
        settings: dict[int, float] = {}
        for i in drawn.sample(range(len(names)), drawn.randint(1, 4)):
            low, high = (0, 100) if thresholds[i]["percent"] is not None else spans.get(names[i], (0, 5))
            fraction = names[i] in ("aspect", "flat", "sharpness")
            settings[i] = round(drawn.uniform(low, high), 2) if fraction else drawn.randint(int(low), int(high))
        said = settled(page, settings)
        if said["missing"]:
            continue
        overrides = command(page) if page.run("curationReport.app.isMoved()") else []
        assert said["fates"] == fates(selected(finished, overrides)), overrides
        compared += 1
    assert compared > 10


def test_records_that_would_need_scoring_are_those_that_select_names(page: Page, finished: Path) -> None:
    place = page.run("curationReport.app.model.thresholds.findIndex((each) => each.name === 'min_side')")
    said = settled(page, {place: 50})
    with pytest.raises(CurationError, match="never scored them") as error:
        selected(finished, command(page))
    assert said["missing"]
    for stage, count in said["missing"]:
        assert f"{count} by '{stage}'" in str(error.value)
        assert f"{count} by {stage}" in page.run("document.getElementById('missing').textContent")


def test_a_drag_moves_counts_funnel_pictures_and_lines(page: Page, finished: Path) -> None:
    def shown() -> list[str]:
        return list(page.run("['funnel', 'pictures', 'count'].map((id) => document.getElementById(id).textContent)"))

    before = shown()
    card = page.run(
        "[...document.querySelectorAll('#histograms .card')].findIndex((e) => e.firstChild.textContent === 'sharpness')"
    )
    page.drag(f"#histograms .card:nth-child({card + 1}) .handle .knob", 60)
    after = shown()
    assert all(one != other for one, other in zip(before, after, strict=True))
    kept = fates(selected(finished, command(page))).count(["kept", "", ""])
    assert f"→ {kept} kept" in after[2]
    line = page.run("document.getElementById('lines').textContent")
    assert line.startswith("score:\n  - quality: {keep: ") and "sharpness >= 2.2" not in line
    page.run("document.getElementById('reset').click()")
    assert shown() == before and page.problems == []


def test_a_page_of_a_sample_says_that_its_counts_are_before_duplicates(
    tab: Page, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_data, "MOST_ROWS", 60)
    write_report(str(finished))
    tab.open(finished / "report.html")
    monkeypatch.undo()
    write_report(str(finished))
    assert "left after the gates" in tab.run("document.getElementById('count').textContent")
    assert "before duplicates, caps and the sample" in tab.run("document.getElementById('inexact').textContent")
    assert "a sample of 60 of 90 records" in tab.run("document.getElementById('notices').textContent")


def test_the_effect_of_each_alone_and_of_all_together_is_said(page: Page) -> None:
    names = page.run("curationReport.app.model.thresholds.map((each) => each.name)")
    settled(page, {names.index("sharpness"): 2.6, names.index("words"): 6})
    effects = page.run("[...document.querySelectorAll('#effects li')].map((each) => each.textContent)")
    assert len(effects) == 3 and "alone" in effects[0] and effects[2].startswith("All of them together")


def test_the_gallery_shows_24_and_24_more(page: Page) -> None:
    figures = "document.querySelectorAll('#pictures figure').length"
    assert page.run(figures) == 24
    page.run("document.getElementById('more').click()")
    kept = page.run("curationReport.app.now.kept")
    assert page.run(figures) == min(48, kept) and "Showing" in page.run("galleryinfo.textContent")
    page.run("[...document.querySelectorAll('#funnel button')].find((e) => e.textContent.includes('min_side')).click()")
    fallen = page.run("[...document.querySelectorAll('#pictures .badge')].map((each) => each.textContent)")
    assert fallen and all(each.startswith("dropped at resolution: ") for each in fallen)


def test_duplicates_stand_behind_the_one_that_stays(page: Page) -> None:
    page.run("group.value = 'duplicates'; group.dispatchEvent(new Event('change'))")
    badges = page.run("[...document.querySelectorAll('#pictures .badge')].map((each) => each.textContent)")
    assert badges[0] == "kept, has duplicates" and badges[1].startswith("dropped at duplicates")


def test_hostile_captions_are_inert(page: Page) -> None:
    texts = page.run("curationReport.app.data.pictures.map((each) => each.caption)")
    assert set(HOSTILE) <= set(texts)
    for value in page.run("[...group.options].map((each) => each.value)"):
        page.run(f"group.value = {json.dumps(value)}; group.dispatchEvent(new Event('change'))")
    assert page.run("document.title") == "moved: report" and page.problems == []
    assert page.run("document.querySelectorAll('script').length") == 2


def test_everything_is_reached_by_keyboard(page: Page, finished: Path) -> None:
    page.run("document.querySelector('#histograms .handle').focus()")
    before = page.run("curationReport.app.settings[0]")
    page.press("ArrowRight")
    assert page.run("curationReport.app.settings[0]") == before + 1
    assert page.run("document.activeElement.getAttribute('aria-valuenow')") == str(before + 1)
    page.press("Home")
    assert page.run("curationReport.app.isMoved()") is False
    page.run("document.querySelector('#funnel tr:last-child button').focus()")
    page.press("Enter")
    assert page.run("document.activeElement.id") == "group"
    page.press("Tab")
    assert page.run("document.activeElement.className") == "frame"
    nameless = page.run(
        "[...document.querySelectorAll('button, select, input, [tabindex]')].filter((e) => !e.hidden && "
        "!(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).length"
    )
    assert nameless == 0


def test_unsafe_pictures_are_blurred_until_they_are_pressed(
    tab: Page, finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report_data.RunData, "unsafe", lambda run: report_data.np.ones(len(run.rows), bool))
    write_report(str(finished))
    blurred = tmp_path / "report.html"
    blurred.write_bytes((finished / "report.html").read_bytes())
    monkeypatch.undo()
    write_report(str(finished))
    tab.open(blurred)
    style = "getComputedStyle(document.querySelector('#pictures img')).filter"
    assert tab.run(style) == "blur(16px)"
    tab.run("document.querySelector('#pictures button').focus()")
    tab.press("Enter")
    assert tab.run(style) == "none"
    assert tab.run("document.querySelectorAll('#pictures .blurred').length") == 23


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_wide_and_narrow_in_light_and_dark(tab: Page, finished: Path, width: int, dark: bool) -> None:
    tab.problems.clear()
    tab.open(finished / "report.html", width=width, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") == width
    colours = tab.run(
        "(() => { const s = getComputedStyle(document.documentElement); "
        "return ['--ink', '--soft', '--link', '--cut', '--paper', '--card'].map((n) => s.getPropertyValue(n)); })()"
    )
    *inks, paper, card = [luminance(colour.strip()) for colour in colours]
    for ink in inks:
        for ground in (paper, card):
            low, high = sorted((ink, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, level AA for text
    assert tab.problems == []


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as WCAG defines it."""
    digits = "".join(digit * 2 for digit in colour[1:]) if len(colour) == 4 else colour[1:]
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
