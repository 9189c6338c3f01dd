"""The report: everything a run holds on one page, on which nothing from the web can act."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.corpus import write_corpus
from PIL import Image

from curation.errors import CurationError, UsageError
from curation.reporting.report import SIDE, THUMBNAILS, write_report
from curation.run import run

HOSTILE = ['<script>alert("1")</script>', '"><img src=x onerror=alert(2)>', "a\x00b\u202ec </bdi></table>"]
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

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


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
def page(finished: Path) -> str:
    assert write_report(str(finished)) == str(finished / "report.html")
    return (finished / "report.html").read_text()


def test_captions_are_text_whatever_they_say(page: str) -> None:
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;" in page
    assert "<script" not in page and "\x00" not in page
    tags = Tags(page)
    assert {name for name, _ in tags.seen}.isdisjoint({"script", "iframe", "object", "embed", "link", "a", "form"})
    assert not [name for tag, attributes in tags.seen for name in attributes if name.startswith("on")]


def test_nothing_is_loaded_and_nothing_may_run(page: str) -> None:
    tags = Tags(page)
    sources = [attributes["src"] or "" for tag, attributes in tags.seen if tag == "img"]
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    policy = next(a["content"] for tag, a in tags.seen if a.get("http-equiv") == "Content-Security-Policy")
    style = re.search("<style>(.*?)</style>", page, re.S)
    assert style and policy
    allowed = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{allowed}'" in policy
    assert not any("style" in attributes for _, attributes in tags.seen)


def test_the_pictures_are_few_and_small(page: str) -> None:
    pictures = re.findall('base64,([^"]+)">', page)
    assert 4 <= len(pictures) <= THUMBNAILS
    for picture in pictures:
        assert max(Image.open(io.BytesIO(base64.b64decode(picture))).size) <= SIDE


def test_it_shows_the_funnel_the_thresholds_the_pairs_and_the_errors(page: str, finished: Path) -> None:
    account = json.loads((finished / "run.json").read_text())
    assert f"24 records: {account['kept']} kept, " in page
    for reason in (*account["dropped"], *account["quarantined"]):
        assert reason.replace(">", "&gt;").replace("<", "&lt;") in page
    for column in ("min_side", "flat", "sharpness"):
        assert f"<h3><bdi>{column}</bdi></h3><svg" in page
    assert 'class="cut"' in page and ">70</text>" in page
    assert '<div class="pair"><figure><img' in page
    assert "not a picture: it holds HTML or XML" in page and "0010.jpg" in page


def test_the_smallest_side_that_fell_is_shown_beside_its_value(page: str) -> None:
    row = page[page.index("just dropped") :]
    assert "<b><bdi>60</bdi></b>" in row[: row.index("just kept")] and "0003.jpg" in row[: row.index("just kept")]


def test_the_same_run_gives_the_same_page(page: str, finished: Path) -> None:
    write_report(str(finished))
    assert (finished / "report.html").read_text() == page


def test_pictures_that_are_gone_are_told_in_a_sentence(finished: Path, page: str) -> None:
    corpus = finished.parent / "corpus"
    corpus.rename(corpus.with_name("away"))
    try:
        write_report(str(finished))
        without = (finished / "report.html").read_text()
    finally:
        corpus.with_name("away").rename(corpus)
    assert "<img" not in without and "0003.jpg" in without


def test_a_directory_without_a_finished_run_is_refused(tmp_path: Path) -> None:
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
