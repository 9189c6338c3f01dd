"""The report's data and its file: what select decided, and nothing from the web that could act."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.corpus import write_corpus

from curation import rundir
from curation.errors import CurationError, NothingKept, UsageError
from curation.manifest import EncodeSection
from curation.phases import run
from curation.plan import make_plan
from curation.reporting import report_data
from curation.reporting.album import strip
from curation.reporting.corpus import cropped
from curation.reporting.encoded import encoded_part
from curation.reporting.packing import packed
from curation.reporting.pictured import wanted
from curation.reporting.report import write_report
from curation.reporting.report_data import page_data
from curation.reporting.report_html import embedded, page
from curation.stores.storage import Store

HOSTILE = ['</script><script>alert("1")</script>', '"><img src=x onerror=alert(2)>', "a\x00b\u202ec\u2028 </bdi><!--"]
MANIFEST = """\
name: seen
source: {{table: {table}, media: file, caption: caption}}
score:
  - resolution: {{keep: "min_side >= 70"}}
  - phash
  - quality: {{keep: "flat < 0.97"}}
select: {{keep: ["sharpness >= p20"], duplicates: exact}}
"""


class Tags(HTMLParser):
    """Every tag with its attributes, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def unpack(array: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(array["data"]), f"<{array['type']}")


def data_of(directory: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    store = Store(str(directory))
    return page_data(store, make_plan(rundir.load_manifest(store, overrides)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over 24 pictures: one is small, one broken, one stands twice, three have hostile captions."""
    folder = tmp_path_factory.mktemp("report")
    table = write_corpus(folder / "corpus", 24, odd={3: (60, 60)})
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for row, caption in zip(rows[5:], HOSTILE, strict=False):
        row["caption"] = caption
    (folder / "corpus" / "0010.jpg").write_bytes(b"<html><script>alert(3)</script></html>")
    (folder / "corpus" / "0012.jpg").write_bytes((folder / "corpus" / "0005.jpg").read_bytes())
    rows[12]["caption"] = HOSTILE[0]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = folder / "manifest.yaml"
    manifest.write_text(MANIFEST.format(table=table))
    run(str(manifest), str(folder / "run"), [], engine="inline")
    return folder / "run"


@pytest.fixture(scope="module")
def text(finished: Path) -> str:
    assert write_report(str(finished)) == str(finished / "report.html")
    return (finished / "report.html").read_text()


def test_what_the_page_holds_is_what_was_decided(finished: Path) -> None:
    data, selection = data_of(finished), pq.read_table(finished / "selection.parquet")
    fates = [tuple(data["reasons"][code]) for code in unpack(data["fates"])]
    columns = [selection[name].to_pylist() for name in ("decision", "stage", "reason")]
    assert fates == [(d, s or "", r or "") for d, s, r in zip(*columns, strict=True)]
    ids = selection["id"].to_pylist()
    twins = [ids[at] if at >= 0 else None for at in unpack(data["duplicate_of"])]
    assert twins == selection["duplicate_of"].to_pylist() and len(set(twins)) == 2
    account = json.loads((finished / "run.json").read_text())
    assert (data["records"], data["kept"], data["sampled"]) == (24, account["kept"], False)
    assert {f"{s}: {r}": n for d, s, r, n in data["totals"] if d == "dropped"} == account["dropped"]


def test_thresholds_are_the_manifests_numbers_with_their_places(finished: Path) -> None:
    model = data_of(finished)["model"]
    found = [(t["line"], t["name"], t["operator"], t["value"], t["percent"]) for t in model["thresholds"]]
    assert found == [
        ("score.resolution", "min_side", ">=", 70.0, None),
        ("score.quality", "flat", "<", 0.97, None),
        ("select.keep.0", "sharpness", ">=", None, 20.0),
    ]
    texts = [model["texts"][t["line"]][t["start"] : t["end"]] for t in model["thresholds"]]
    assert texts == ["70", "0.97", "p20"]


def test_the_same_number_twice_in_a_gate_has_two_places(finished: Path) -> None:
    gate = "0.2 <= flat <= 0.9 and sharpness > 0.2 and not (0.2 > flat)"
    model = data_of(finished, [f"score.quality.keep={gate}"])["model"]
    found = [(t["start"], t["name"], t["reversed"]) for t in model["thresholds"] if t["line"] == "score.quality"]
    assert found == [(0, "flat", True), (15, "flat", False), (35, "sharpness", False), (48, "flat", True)]


def test_captions_cannot_leave_the_json_that_holds_them(text: str) -> None:
    tags = Tags(text)
    assert [tag for tag, _ in tags.seen if tag == "script"] == ["script"] * 2
    assert {name for name, _ in tags.seen}.isdisjoint({"img", "iframe", "object", "embed", "link", "form"})
    assert not [name for _, attributes in tags.seen for name in attributes if name.startswith("on")]
    assert "\x00" not in text and "\u2028" not in text
    held = re.search('id="data">(.*?)</script>', text, re.S)
    assert held and "<" not in held[1]
    captions = {picture["caption"] for picture in json.loads(held[1])["pictures"]}
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[2].replace("\x00", "\ufffd")} <= captions


def test_nothing_is_loaded_and_only_this_script_may_run(text: str) -> None:
    tags = Tags(text)
    policy = next(a["content"] for _, a in tags.seen if a.get("http-equiv") == "Content-Security-Policy")
    style, script = re.search("<style>(.*?)</style>", text, re.S), re.search("<script>(.*?)</script>", text, re.S)
    assert style and script and policy
    hashes = [base64.b64encode(hashlib.sha256(part[1].encode()).digest()).decode() for part in (style, script)]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'" in policy
    assert not any("style" in attributes or "src" in attributes for _, attributes in tags.seen)
    assert "innerHTML" not in script[1] and "eval(" not in script[1]


def test_hostile_names_stay_names() -> None:
    assert json.loads(embedded({"a": "</script>\u2029&"})) == {"a": "</script>\u2029&"}
    assert "<title>&lt;b&gt;{{DATA}}: report" in page({"name": "<b>{{DATA}}"})


def test_the_same_run_gives_the_same_page(text: str, finished: Path) -> None:
    write_report(str(finished))
    assert (finished / "report.html").read_text() == text


def test_pictures_that_are_gone_are_told_in_a_sentence(finished: Path) -> None:
    corpus = finished.parent / "corpus"
    corpus.rename(corpus.with_name("away"))
    try:
        data = data_of(finished)
    finally:
        corpus.with_name("away").rename(corpus)
    assert not any("data" in picture for picture in data["pictures"])
    assert data["notices"][-1].startswith("23 pictures of scored records could not be read again: ")


def test_the_same_array_comes_back_in_the_smallest_type() -> None:
    for values, kind in (([0, 255], "u1"), ([-1, 3], "i1"), ([0, 70000], "i4")):
        array = packed(np.array(values))
        assert array["type"] == kind and unpack(array).tolist() == values
    assert packed(np.array([0.5, np.nan, np.inf]))["type"] == "f4"
    assert unpack(packed(np.array([0.1]))).tolist() == [0.1]


def test_a_large_run_shows_a_sample_and_says_so(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_data, "MOST_ROWS", 10)
    monkeypatch.setattr(report_data, "PICTURES", 4)
    data = data_of(finished)
    assert (data["records"], data["rows"], data["sampled"], len(data["pictures"])) == (24, 10, True, 4)
    assert "a sample of 10 of 24 records" in data["notices"][0]
    assert "holds a sample" in data["after"]["inexact"]


def test_an_unfinished_run_says_so(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_bytes((finished / "manifest.yaml").read_bytes())
    (tmp_path / "scores").mkdir()
    for file in (finished / "scores").glob("*.parquet"):
        (tmp_path / "scores" / file.name).write_bytes(file.read_bytes())
    data = data_of(tmp_path)
    assert "not finished" in data["notices"][0] and data["kept"] == data_of(finished)["kept"]


def test_a_run_that_kept_nothing_says_so(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingKept):
        overrides = ["score.resolution.keep=min_side >= 5000"]
        run(str(finished.parent / "manifest.yaml"), str(tmp_path), overrides, engine="inline", report=True)
    text = (tmp_path / "report.html").read_text()
    assert "Nothing was kept" in text and "The score flat has no value in any record." in text


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no manifest\.yaml"):
        write_report(str(tmp_path))


def test_a_decision_over_other_scores_is_refused(finished: Path, tmp_path: Path) -> None:
    for name in ("manifest.yaml", "run.json"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    (tmp_path / "scores").mkdir()
    only = sorted((finished / "scores").glob("*.parquet"))[0]
    (tmp_path / "scores" / only.name).write_bytes(only.read_bytes())
    decision = pq.read_table(finished / "selection.parquet")
    pq.write_table(decision.slice(1), tmp_path / "selection.parquet")
    with pytest.raises(CurationError, match="is no decision over these scores"):
        write_report(str(tmp_path))


def test_every_record_is_wanted_once_and_rare_fates_first() -> None:
    fates, twins = np.array([0] * 50 + [1] * 2), np.full(52, -1)
    twins[7] = 8
    order = list(wanted(fates, twins, [(np.arange(52.0), 20.0)], seed=0))
    assert sorted(order) == list(range(52))
    assert {50, 51, 20, 19, 7, 8} <= set(order[:12])


def test_a_strip_holds_a_clips_frames_side_by_side() -> None:
    picture = strip([np.zeros((90, 288, 3), np.uint8)] * 4)
    assert (picture.width, picture.height, picture.frames) == (144, 45, 4)


def test_what_a_bucket_crops_away() -> None:
    assert cropped((0, 0, 200, 100), 1.0) == 0.5
    assert cropped((0, 0, 100, 200), 0.5) == 0.0


def test_the_part_that_is_encoded() -> None:
    square = EncodeSection(size=64)
    assert encoded_part({"width": 200, "height": 100}, square) == [0.25, 0.0, 0.75, 1.0]
    assert encoded_part({"width": 100, "height": 100}, square) is None
    bordered = {"width": 100, "height": 100, "content_box": [0, 20, 100, 80]}
    assert encoded_part(bordered, square) == [0.2, 0.2, 0.8, 0.8]
    assert encoded_part({"width": 200, "height": 100}, None) is None


def test_clips_are_strips_and_finding_their_shots_is_timed(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from helpers.videos import numbered, write_video

    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "a.mp4", [numbered(i) for i in range(60)])
    manifest = tmp_path / "manifest.yaml"
    stages = "[probe, {shots: {method: content}}, {clips: {min_s: 1}}]"
    manifest.write_text(f"name: clips\nsource: {{folder: {tmp_path / 'clips'}}}\nscore: {stages}\n")
    ledger = run(str(manifest), str(tmp_path / "run"), [], engine="inline")
    assert ledger.stages["shots"]["seconds"] > 0.01
    (picture,) = data_of(tmp_path / "run")["pictures"]
    assert (picture["frames"], picture["width"], picture["height"]) == (6, 144, 72)
