"""The card of a data set and its description in Croissant."""

import hashlib
import json
from pathlib import Path

import pytest
from helpers.corpus import write_corpus

from curation.errors import UsageError
from curation.phases import run
from curation.reporting.card import write_card

MANIFEST = """\
name: carded
source: {{table: {table}, media: file, caption: caption}}
score:
  - resolution: {{keep: "min_side >= 70"}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    table = write_corpus(folder / "corpus", 8, odd={3: (60, 60)})
    rows = [json.loads(line) | {"license": "CC <b>|BY"} for line in table.read_text().splitlines()]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "manifest.yaml").write_text(MANIFEST.format(table=table))
    run(str(folder / "manifest.yaml"), str(folder / "run"), [], engine="inline")
    write_card(str(folder / "run"))
    return folder / "run"


def test_the_card_says_what_was_kept_and_why_not(finished: Path) -> None:
    text = (finished / "card.md").read_text()
    assert text.startswith("# carded\n\nPictures or clips with captions, chosen from 8 records: 7 were kept, 1 dropped")
    assert "| dropped, resolution: min_side >= 70 | 1 |" in text
    assert "- Licences: CC &lt;b>\\|BY (7)" in text


def test_croissant_names_each_file_with_its_hash(finished: Path) -> None:
    described = json.loads((finished / "croissant.json").read_text())
    (file,) = described["distribution"]
    data = (finished / file["contentUrl"]).read_bytes()
    assert file["sha256"] == hashlib.sha256(data).hexdigest() and file["contentSize"] == f"{len(data)} B"
    (records,) = described["recordSet"]
    assert [field["name"] for field in records["field"]][:4] == ["id", "decision", "stage", "reason"]


def test_mlcroissant_reads_it(finished: Path) -> None:
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed here")
    dataset = croissant.Dataset(jsonld=str(finished / "croissant.json"))
    assert not dataset.metadata.issues.errors
    decisions = [record["decisions/decision"] for record in dataset.records("decisions")]
    assert sorted(decisions) == [b"dropped"] + [b"kept"] * 7


def test_an_unfinished_run_has_no_card(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_bytes((finished / "manifest.yaml").read_bytes())
    with pytest.raises(UsageError, match=r"holds no run\.json yet"):
        write_card(str(tmp_path))
