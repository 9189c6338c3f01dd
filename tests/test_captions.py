"""Every caption of a record is judged, those that fail are set aside, and exact duplicates hand theirs on."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.errors import NothingKept, UsageError
from curation.phases import reselect, run
from curation.reporting.ledger import Ledger, caption_lines
from curation.reporting.why import tell
from curation.shards.dataset import LatentDataset

ENCODE = "encode: {size: 64, buckets: square, reconstructions: 0}\n"


def picture(seed: int) -> bytes:
    y, x = np.mgrid[0:80, 0:80]
    bands = [128 + 90 * np.sin(x / (5 + seed)), 120 + 80 * np.cos(y / (6 + seed)), 90 + x]
    buffer = io.BytesIO()
    Image.fromarray(np.stack(bands, -1).clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, rows: Sequence[tuple[int, Sequence[str]]], score: str, rest: str = "") -> Path:
    """A table with a row for each (picture, captions), and a manifest for it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.jsonl").open("w") as table:
        for i, captions in rows:
            (folder / f"{i}.png").write_bytes(picture(i))
            table.write(json.dumps({"file": f"{i}.png", "captions": list(captions)}) + "\n")
    source = f"source: {{table: {folder / 'table.jsonl'}, media: file, caption: captions}}\n"
    (folder / "m.yaml").write_text(f"name: t\n{source}score:\n{score}{rest}")
    return folder / "m.yaml"


def go(manifest: Path, *overrides: str, out: str = "run") -> Ledger:
    return run(str(manifest), str(manifest.parent / out), overrides, engine="inline")


def decided(manifest: Path, out: str = "run") -> list[dict[str, Any]]:
    """Rows of selection.parquet with the record's key, in the order of the source's rows."""
    selection = {row["id"]: row for row in pq.read_table(manifest.parent / out / "selection.parquet").to_pylist()}
    return [selection[row["id"]] | {"key": row["source_key"]} for row in scores(manifest, out)]


def scores(manifest: Path, out: str = "run") -> list[dict[str, Any]]:
    files = sorted((manifest.parent / out / "scores").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def metas(manifest: Path, out: str = "run") -> dict[str, dict[str, Any]]:
    """source_key -> what its sample says."""
    found = {}
    for path in (manifest.parent / out / "shards").rglob("*.tar"):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                if name.endswith(".json"):
                    meta = json.load(tar.extractfile(name))  # type: ignore[arg-type]
                    found[meta["source_key"]] = meta
    return found


SECOND = ["https://shop.example/item?id=77", "IMG_20180302_1.jpg", "<a href='x'>buy</a>", "a second, proper caption"]


@pytest.fixture
def two_each(tmp_path: Path) -> Path:
    """Pictures with two captions, of which the second is an address, a file name, HTML, and a good one."""
    rows = [(i, [f"a striped cloth, number {i}", text]) for i, text in enumerate(SECOND)]
    return write(tmp_path, rows, '  - text: {keep: "caption_problems == 0"}\n', ENCODE)


def test_captions_that_fail_a_gate_stay_out_of_the_shard_and_the_record_is_kept(two_each: Path) -> None:
    ledger = go(two_each)
    assert ledger.kept == 4
    assert [row["captions_kept"] for row in decided(two_each)] == [[0], [0], [0], [0, 1]]
    (aside,) = decided(two_each)[0]["captions_set_aside"]
    assert aside == {"caption": 1, "stage": "text", "reason": "caption_problems == 0", "value": 1, "threshold": 0}
    made = metas(two_each)
    assert {key: len(meta["captions"]) for key, meta in made.items()} == {f"{i}.png": 1 + (i == 3) for i in range(4)}
    assert made["3.png"]["caption_sources"] == ["source", "source"]
    assert [each["words"] for each in made["3.png"]["caption_scores"]] == [5, 4]
    report = json.loads((two_each.parent / "run" / "run.json").read_text())["captions"]
    assert report == ledger.captions
    assert (report["kept"], report["set_aside"]) == (5, {"text: caption_problems == 0": 3})
    assert caption_lines(report)[1].endswith("3 set aside: text: caption_problems == 0")


def test_a_record_without_a_caption_that_passes_is_dropped(tmp_path: Path) -> None:
    rows = [(0, ["a red house", "photo"]), (1, ["photo", "click here"]), (2, [])]
    manifest = write(tmp_path, rows, '  - text: {keep: "caption_problems == 0"}\n')
    go(manifest)
    assert [row["decision"] for row in decided(manifest)] == ["kept", "dropped", "dropped"]
    assert {row["reason"] for row in decided(manifest)[1:]} == {"caption_problems == 0"}


def test_a_caption_has_to_pass_all_gates_on_captions(tmp_path: Path) -> None:
    """One caption passes the first gate, the other one the second: none is left."""
    rows = [(0, ["a good http://a.example/x", "a red house"]), (1, ["a good house", "photo"])]
    score = '  - text: {keep: "caption_problems == 0"}\n  - "helpers.captioning:Fit": {keep: "fit > 0.5"}\n'
    manifest = write(tmp_path, rows, score)
    go(manifest)
    assert [(row["decision"], row["stage"]) for row in decided(manifest)] == [("dropped", "fit"), ("kept", None)]


@pytest.mark.parametrize(
    ("keep", "kept", "places"),
    [
        ("fit > 0.5", [True, False, True], [[0], None, [1]]),
        ("any(fit > 0.5)", [True, False, True], [[0, 1], None, [0, 1]]),
        ("all(fit > 0.5)", [False, False, False], [None, None, None]),
        ("main(fit > 0.5)", [True, False, False], [[0, 1], None, None]),
        ("not any(fit > 0.5)", [False, True, False], [None, [0], None]),
        ("any(fit > 0.5) and words > 2", [True, False, True], [[0, 1], None, [1]]),
        ("width == 80", [True, True, True], [[0, 1], [0], [0, 1]]),
        ('"house" in caption', [True, False, True], [[1], None, [0]]),
    ],
)
def test_a_gate_asks_for_each_caption_or_for_the_record(
    tmp_path: Path, keep: str, kept: list[bool], places: list[Any]
) -> None:
    rows = [(0, ["a good dog", "the red house"]), (1, ["bad"]), (2, ["red house", "a good cat"])]
    manifest = write(tmp_path, rows, f"  - text\n  - 'helpers.captioning:Fit': {{keep: '{keep}'}}\n")
    if any(kept):
        go(manifest)
    else:
        with pytest.raises(NothingKept):
            go(manifest)
    assert [row["decision"] == "kept" for row in decided(manifest)] == kept
    assert [row["captions_kept"] for row in decided(manifest)] == places


def test_a_moved_threshold_changes_which_captions_reach_the_shard_and_computes_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rows = [(i, ["a good dog", "a plain dog"]) for i in range(3)]
    score = f'  - "helpers.captioning:Fit": {{log: {log}}}\n'
    manifest = write(tmp_path / "a", rows, score, f'select: {{keep: ["fit > 0.1"]}}\n{ENCODE}')
    go(manifest)
    assert log.read_text() == "6\n"
    tight = "select.keep=fit > 0.5"
    assert reselect(str(manifest.parent / "run"), [tight]).captions["set_aside"] == {"select: fit > 0.5": 3}
    go(manifest, tight)
    assert log.read_text() == "6\n"
    assert {tuple(meta["captions"]) for meta in metas(manifest).values()} == {("a good dog",)}
    go(manifest, tight, out="fresh")
    assert shard_bytes(manifest, "run") == shard_bytes(manifest, "fresh")


def shard_bytes(manifest: Path, out: str) -> dict[str, bytes]:
    folder = manifest.parent / out / "shards"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_percentile_counts_every_caption_but_a_record_only_once(tmp_path: Path) -> None:
    rows = [(0, ["good"] * 1), (1, ["a", "b", "c", "d", "good"]), (2, ["good"])]
    manifest = write(tmp_path, rows, "  - text\n  - 'helpers.captioning:Fit'\n")
    go(manifest, "select.keep=fit > p50")  # of 0.75 thrice and 0.25 four times: 0.25
    assert [row["captions_kept"] for row in decided(manifest)] == [[0], [4], [0]]
    go(manifest, "select.keep=file_bytes >= p50 and fit > 0.1")  # five captions do not make a file count fivefold
    assert sum(row["decision"] == "kept" for row in decided(manifest)) == 2


GENERATED = "  - 'helpers.captioning:Namer': {when: \"caption is null or fit < 0.5\"}\n"


@pytest.mark.parametrize("judged", ["before", "behind"])
def test_a_generated_caption_is_judged_as_those_of_the_source(tmp_path: Path, judged: str) -> None:
    rows = [(0, []), (1, ["a dog"]), (2, ["a good dog"])]
    fit = "  - 'helpers.captioning:Fit'\n"
    namer = GENERATED if judged == "before" else GENERATED.replace("fit < 0.5", "media is null")
    score = (fit + namer if judged == "before" else namer + fit) + "  - text\n"
    manifest = write(tmp_path, rows, score, f'select: {{keep: ["caption_problems == 0 and fit > 0.5"]}}\n{ENCODE}')
    go(manifest)
    made = {key: (meta["captions"], meta["caption_sources"]) for key, meta in metas(manifest).items()}
    by_source, generated = (["a good dog"], ["source"]), (["a good generated caption"], ["namer"])
    if judged == "before":
        assert made == {"0.png": generated, "1.png": generated, "2.png": by_source}
        assert [row["caption_fits"] for row in scores(manifest)] == [[0.75], [0.25, 0.75], [0.75]]
        assert [row["fit"] for row in scores(manifest)] == [None, 0.25, 0.75]
        assert [row["caption_words"] for row in scores(manifest)] == [[4], [2, 4], [3]]
        assert [row["caption_sources"] for row in scores(manifest)] == [["namer"], ["source", "namer"], ["source"]]
    else:
        assert made == {"0.png": generated, "2.png": by_source}
        assert scores(manifest)[0]["fit"] == 0.75


def test_gates_hold_for_a_generated_caption_wherever_they_stand(tmp_path: Path) -> None:
    """The gate before the captioner holds for its caption, too; that one fails it and is set aside."""
    score = f"  - 'helpers.captioning:Fit'\n  - text: {{keep: \"caption_problems == 0\"}}\n{GENERATED}"
    manifest = write(tmp_path, [(0, ["a dog"]), (1, ["a cat", "a good cat"])], score, ENCODE)
    path = manifest.read_text().replace("{when:", '{text: "http://a.example/x", when:')
    manifest.write_text(path)
    go(manifest)
    assert [row["captions_kept"] for row in decided(manifest)] == [[0], [0, 1]]
    assert decided(manifest)[0]["captions_set_aside"][0]["stage"] == "text_generated"
    assert all(meta["caption_sources"] == ["source"] * len(meta["captions"]) for meta in metas(manifest).values())


def test_another_captioner_computes_its_captions_alone_and_ends_as_a_fresh_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rows = [(0, []), (1, ["a dog", "a cat"]), (2, ["a good dog"])]
    score = f"  - 'helpers.captioning:Fit': {{log: {log}}}\n{GENERATED}"
    manifest = write(tmp_path / "a", rows, score, ENCODE)
    go(manifest)
    assert log.read_text().split() == ["4", "2"]  # one row stands for a record without a caption
    before = manifest.read_text()
    manifest.write_text(before.replace("{when:", "{text: another good one, when:"))
    go(manifest)
    assert log.read_text().split() == ["4", "2", "2"]
    go(manifest, out="fresh")
    assert scores(manifest) == scores(manifest, "fresh")
    assert shard_bytes(manifest, "run") == shard_bytes(manifest, "fresh")
    manifest.write_text(before.replace(GENERATED, ""))
    go(manifest)
    go(manifest, out="without")
    assert scores(manifest) == scores(manifest, "without")
    assert [row["caption_fits"] for row in scores(manifest)] == [[], [0.25, 0.25], [0.75]]


def test_the_resolved_manifest_runs_again_and_a_stage_twice_is_refused(tmp_path: Path) -> None:
    manifest = write(tmp_path, [(0, ["a dog"])], f"  - 'helpers.captioning:Fit'\n{GENERATED}")
    go(manifest)
    assert reselect(str(tmp_path / "run"), []).kept == 1
    manifest.write_text(manifest.read_text() + "  - 'helpers.captioning:Fit'\n")
    with pytest.raises(UsageError, match="judge a generated one by themselves"):
        go(manifest)


COCO = [(i, [f"view {i} told in way {k}"]) for i in range(3) for k in range(4)] + [(0, ["view 0  told in way 0 "])]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Three pictures, a row for each of their four captions, and one of the rows twice."""
    score = "  - resolution\n  - text\n"
    return write(tmp_path, COCO, score, f"select: {{duplicates: exact}}\n{ENCODE}")


def test_a_record_takes_over_the_captions_of_its_exact_duplicates(coco: Path) -> None:
    ledger = go(coco)
    assert (ledger.kept, ledger.captions["merged"], ledger.captions["merged_from"]) == (3, 9, 9)
    assert "9 of them taken over from 9 exact duplicates" in caption_lines(ledger.captions)[0]
    for key, meta in metas(coco).items():
        assert {" ".join(text.split()) for text in meta["captions"]} == {
            f"view {key[0]} told in way {k}" for k in range(4)
        }
        assert meta["caption_sources"] == ["source"] * 4
        assert [each["words"] for each in meta["caption_scores"]] == [6] * 4
    assert len(LatentDataset(str(coco.parent / "run" / "shards"))) == 3


def test_what_is_taken_over_does_not_depend_on_the_order_of_the_rows(coco: Path, tmp_path: Path) -> None:
    go(coco)
    lines = (tmp_path / "table.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "table.jsonl").write_text("".join(reversed(lines)))
    go(coco, out="reversed")
    assert metas(coco) == metas(coco, "reversed")
    tars = [
        {name: data for name, data in shard_bytes(coco, out).items() if name.endswith(".tar")}
        for out in ("run", "reversed")
    ]
    assert tars[0] == tars[1]


def test_captions_fall_with_their_records_where_the_manifest_says_so(coco: Path) -> None:
    go(coco, "select.duplicates=[{on: bytes, captions: drop}]")
    assert {len(meta["captions"]) for meta in metas(coco).values()} == {1}
    go(coco, "select.duplicates=[{on: bytes}, {on: pixels, captions: drop}]")
    assert {len(meta["captions"]) for meta in metas(coco).values()} == {4}


def test_captions_that_a_gate_refuses_are_not_taken_over(tmp_path: Path) -> None:
    rows = [(0, ["a red house"]), (0, ["photo", "a small house"]), (0, ["IMG_1234.jpg"])]
    rest = f"select: {{duplicates: exact}}\n{ENCODE}"
    manifest = write(tmp_path, rows, '  - text: {keep: "caption_problems == 0"}\n', rest)
    go(manifest)
    assert {frozenset(meta["captions"]) for meta in metas(manifest).values()} == {
        frozenset({"a red house", "a small house"})
    }


def test_chains_of_duplicates_hand_their_captions_on(tmp_path: Path) -> None:
    """Equal bytes fall first, then equal pixels in another file: all captions end with the one that stays."""
    manifest = write(tmp_path, [(0, ["one"]), (0, ["two"]), (1, ["three"]), (1, ["four"])], "  - resolution\n", ENCODE)
    with Image.open(tmp_path / "0.png") as same:
        same.save(tmp_path / "1.png", compress_level=1)
    go(manifest, "select.duplicates=exact")
    (meta,) = metas(manifest).values()
    assert sorted(meta["captions"]) == ["four", "one", "three", "two"]


def test_a_record_says_no_caption_twice_and_none_that_is_blank(tmp_path: Path) -> None:
    manifest = write(tmp_path, [(0, ["a dog", "a  dog ", "a cat"])], "  - text\n", ENCODE)
    ledger = go(manifest)
    assert ledger.captions["set_aside"] == {"captions: the same as another caption of the record": 1}
    assert metas(manifest)["0.png"]["captions"] == ["a dog", "a cat"]


def test_captions_beyond_what_a_shard_takes_are_told(coco: Path) -> None:
    assert go(coco, "encode.captions=3").captions["not_stored"] == 3


def test_why_tells_which_captions_stay_and_where_others_went(
    two_each: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(two_each)
    tell(str(two_each.parent / "run"), "1.png")
    told = capsys.readouterr().out
    assert "SET ASIDE at text: caption_problems == 0 (value 1)" in told and "caption_flags=['filename']" in told
    twins = write(tmp_path / "b", [(0, ["one"]), (0, ["two"])], "  - text\n", "select: {duplicates: exact}\n")
    go(twins)
    for row in decided(twins):
        tell(str(tmp_path / "b" / "run"), row["id"])
    told = capsys.readouterr().out
    assert "1 more, taken over from its exact duplicate" in told and "1 of them went to" in told
