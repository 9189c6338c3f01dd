"""A changed manifest does again just what depends on the change, and ends as a fresh run of it would."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.corpus import write_corpus

from curation.errors import CurationError, NothingKept, UsageError
from curation.phases import reselect, run
from curation.reporting.ledger import Ledger

RECORDS = 20


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """20 records: widths 96, 104, 112, 120, 128 in turn, all 80 px high but every fifth, which is 60."""
    odd = dict.fromkeys(range(0, RECORDS, 5), (96, 60))
    table = write_corpus(tmp_path / "corpus", RECORDS, odd)
    path = tmp_path / "manifest.yaml"
    path.write_text(
        f"name: rerun\nsource: {{table: {table}, media: file, caption: caption}}\nscore:\n"
        f'  - resolution: {{keep: "min_side >= 70"}}\n'
        f'  - "helpers.stages:Told": {{log: {tmp_path / "log"}}}\n'
        "engine: {rows_per_chunk: 8}\n"
    )
    return path


def go(manifest: Path, *overrides: str, out: str = "run") -> Ledger:
    return run(str(manifest), str(manifest.parent / out), overrides, engine="inline")


def log(manifest: Path) -> list[str]:
    """What the stage has noted since the last look."""
    path = manifest.parent / "log"
    lines = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def scores(manifest: Path, out: str = "run") -> list[dict[str, object]]:
    return pq.read_table(manifest.parent / out / "scores").sort_by("id").to_pylist()


def test_a_record_that_a_gate_stops_does_not_reach_the_stages_behind_it(manifest: Path) -> None:
    assert go(manifest).kept == 16
    assert log(manifest) == ["load", "6", "6", "4"]
    assert {row["twice"] for row in scores(manifest) if row["min_side"] == 60} == {None}


def test_running_again_computes_nothing(manifest: Path) -> None:
    go(manifest)
    log(manifest)
    before = {path.name: path.stat().st_mtime_ns for path in (manifest.parent / "run" / "scores").iterdir()}
    assert go(manifest).kept == 16
    assert log(manifest) == []
    assert before == {path.name: path.stat().st_mtime_ns for path in (manifest.parent / "run" / "scores").iterdir()}


def test_a_tighter_gate_loads_no_model(manifest: Path) -> None:
    go(manifest)
    log(manifest)
    with pytest.raises(NothingKept, match="min_side >= 90"):
        go(manifest, "score.resolution.keep=min_side >= 90")
    assert log(manifest) == []


def test_a_looser_gate_computes_only_the_missing_cells(manifest: Path) -> None:
    go(manifest)
    log(manifest)
    assert go(manifest, "score.resolution.keep=min_side >= 10").kept == RECORDS
    assert log(manifest) == ["load", "2", "2"]
    go(manifest, "score.resolution.keep=min_side >= 10", out="fresh")
    assert scores(manifest) == scores(manifest, "fresh")


def test_a_new_stage_computes_that_stage(manifest: Path) -> None:
    go(manifest)
    log(manifest)
    text = manifest.read_text().replace("engine:", "  - phash\nengine:")
    manifest.write_text(text)
    go(manifest)
    assert log(manifest) == []
    go(manifest, out="fresh")
    assert scores(manifest) == scores(manifest, "fresh")


def test_changed_params_compute_that_stage_again(manifest: Path) -> None:
    go(manifest)
    log(manifest)
    manifest.write_text(manifest.read_text().replace("log:", "factor: 3, log:"))
    go(manifest)
    assert log(manifest) == ["load", "6", "6", "4"]
    assert {row["twice"] for row in scores(manifest) if row["min_side"] == 80} == {240}


def test_an_edited_caption_scores_its_chunk_again(manifest: Path) -> None:
    go(manifest)
    log(manifest)
    table = manifest.parent / "corpus" / "captions.jsonl"
    table.write_text(table.read_text().replace("the number 19", "another text"))
    go(manifest)
    assert log(manifest) == ["load", "4"]
    assert [row["caption"] for row in scores(manifest)].count("a pattern with another text") == 1


def test_rows_that_the_source_lost_are_gone(manifest: Path) -> None:
    go(manifest)
    table = manifest.parent / "corpus" / "captions.jsonl"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:8]))
    ledger = go(manifest)
    assert ledger.sources_in == ledger.records_in == 8


def test_select_decides_again_but_never_invents_scores(manifest: Path) -> None:
    go(manifest)
    out = str(manifest.parent / "run")
    assert reselect(out, ['select.keep=["twice > 159"]']).kept == 16
    with pytest.raises(CurationError, match="curate run"):
        reselect(out, ["score.resolution.keep=min_side >= 10"])


def test_a_stage_that_failed_on_a_record_does_not_stop_later_manifests(tmp_path: Path) -> None:
    """Whatever is added, moved or taken out, a rerun ends as a fresh run of the same manifest."""
    table = write_corpus(tmp_path / "corpus", 10)
    narrow = '"helpers.stages:Narrow": {}'
    plans = [
        ["resolution", narrow],
        ["resolution", "phash", narrow],
        [narrow, "resolution", "phash"],
        ["resolution", "phash"],
        ['resolution: {when: "width > 100"}', narrow, "phash"],
    ]
    for number, stages in enumerate(plans):
        path = tmp_path / "manifest.yaml"
        lines = "".join(f"  - {stage}\n" for stage in stages)
        path.write_text(f"name: m\nsource: {{table: {table}, media: file, caption: caption}}\nscore:\n{lines}")
        again = run(str(path), str(tmp_path / "run"), [], engine="inline")
        fresh = run(str(path), str(tmp_path / f"fresh{number}"), [], engine="inline")
        assert (again.kept, again.dropped, again.quarantined) == (fresh.kept, fresh.dropped, fresh.quarantined)
        expected, found = (pq.read_table(tmp_path / name / "selection.parquet") for name in (f"fresh{number}", "run"))
        assert found.equals(expected), stages
    assert again.quarantined == {"narrow: ValueError: a picture … px wide": 2}


def test_select_refuses_what_would_need_scores_by_other_parameters(manifest: Path) -> None:
    """Their cells are stale: a run with the same settings would decide otherwise."""
    go(manifest)
    out, before = str(manifest.parent / "run"), (manifest.parent / "run" / "manifest.yaml").read_bytes()
    for override in ("score.1.resolution.when=width > 100", "score.1.resolution.when=media == 'image'"):
        with pytest.raises(UsageError, match=r"was scored with other parameters .*`curate run` with these settings"):
            reselect(out, [override])
    assert (manifest.parent / "run" / "manifest.yaml").read_bytes() == before


def test_equal_rows_get_ids_of_their_own_wherever_they_stand(manifest: Path) -> None:
    table = manifest.parent / "corpus" / "captions.jsonl"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines[:10], lines[3], *lines[10:], lines[3], lines[3]]))
    assert go(manifest).records_in == RECORDS + 3
    first = {row["id"] for row in scores(manifest)}
    table.write_text("".join([lines[3], lines[3], *reversed(lines), lines[3]]))
    go(manifest, out="reversed")
    assert first == {row["id"] for row in scores(manifest, "reversed")} and len(first) == RECORDS + 3


def test_a_lost_source_is_a_sentence_and_what_was_committed_stays(manifest: Path) -> None:
    go(manifest)
    (manifest.parent / "corpus" / "captions.jsonl").unlink()
    with pytest.raises(CurationError, match=r"captions\.jsonl"):
        go(manifest)
    assert len(scores(manifest)) == RECORDS
