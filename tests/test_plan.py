"""The plan refuses, before anything starts, what could not run."""

from pathlib import Path

import pytest

from curation.devices import check_gpus
from curation.errors import UsageError
from curation.load import load
from curation.models.registry import ModelInfo
from curation.plan import Plan, make_plan


def plan(folder: Path, score: str, rest: str = "") -> Plan:
    (folder / "m.yaml").write_text(f"name: p\nsource: {{folder: .}}\nscore:\n{score}{rest}")
    return make_plan(load(str(folder / "m.yaml")))


def test_probe_runs_whether_named_or_not(tmp_path: Path) -> None:
    assert [stage.name for stage in plan(tmp_path, "  - phash\n").stages] == ["probe", "phash"]


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ("  - phsh\n", r"m\.yaml:4: .*no stage 'phsh'; did you mean 'phash'\?"),
        ("  - phash\n  - phash\n", r"m\.yaml:5: .*stands twice"),
        ("  - caption\n", r"reads the column 'tags', which nothing before it writes; put `- tags` before it"),
        (
            '  - resolution: {keep: "mn_side > 3"}\n',
            r"no column 'mn_side' is written before this; did you mean 'min_side'\?",
        ),
        ('  - resolution: {keep: "min_side > p20"}\n', r"a percentile needs the whole corpus"),
        ('  - resolution: {keep: "min_side >"}\n', r"resolution"),
        ("  - resolution: {keep: \"min_side > 'x'\"}\n", r"m\.yaml:4: .*keep: .*compares number with text"),
        ('  - embedding: {keep: "len(embedding) > 3"}\n', r"'embedding' is compared by `duplicates:`"),
        ('  - phash: {when: "caption > 3"}\n', r"m\.yaml:4: .*when: .*compares text with number"),
        ("  - phash: {bits: 4}\n", r"no such key 'bits'"),
        ('  - phash: {when: "similarity > 1"}\n', r"no column 'similarity' is written before this"),
        ("  - embedding: {model: clip}\n", r"no model 'clip' for the role image_embedding"),
        ("  - no.such.module:Stage\n", r"cannot import 'no\.such\.module'"),
        ("  - curation.errors:CurationError\n", r"is not a curation\.stage\.Stage"),
    ],
)
def test_a_plan_that_cannot_run_is_refused(tmp_path: Path, score: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(tmp_path, score)


def test_select_needs_its_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the column 'phash', which no stage"):
        plan(tmp_path, "  - resolution\n", "select: {duplicates: {on: phash}}\n")
    with pytest.raises(UsageError, match="no column 'aesthetic'"):
        plan(tmp_path, "  - resolution\n", 'select: {keep: "aesthetic > p10"}\n')


def test_a_model_that_cannot_be_had_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="embedded"):
        plan(tmp_path, "  - phash\n", "encode: {vae: 'diffusers:/no/such/folder/at/all'}\n")


def test_a_gate_is_in_no_fingerprint_but_parameters_are(tmp_path: Path) -> None:
    loose, tight = (plan(tmp_path, f'  - resolution: {{keep: "min_side > {n}"}}\n') for n in (1, 9))
    assert loose.score_fingerprint == tight.score_fingerprint and loose.gates_fingerprint != tight.gates_fingerprint
    read, unread = (plan(tmp_path, f"  - overlay: {{read: {flag}}}\n") for flag in ("true", "false"))
    assert read.score_fingerprint != unread.score_fingerprint


def test_a_model_computes_on_the_runs_device_where_it_can(tmp_path: Path) -> None:
    score = "  - phash\n  - embedding\n  - tags: {device: cpu}\n  - overlay\n  - safety\n  - aesthetic\n"
    made = plan(tmp_path, score, "device: cuda\n")
    assert {stage.name: stage.device for stage in made.stages} == {
        "probe": "cpu",
        "phash": "cpu",
        "embedding": "cuda",
        "tags": "cpu",
        "overlay": "cuda",
        "safety": "cuda",
        "aesthetic": "cpu",
    }
    assert list(made.on_gpu) == [
        "embedded:efficientnet-lite0",
        "embedded:rapidocr-ppocrv6-small",
        "embedded:open-nsfw",
    ]
    assert not plan(tmp_path, score).on_gpu


def test_shots_are_found_on_the_runs_device_by_the_method_that_has_a_network(tmp_path: Path) -> None:
    for method, device in (("transnetv2", "cuda"), ("content", "cpu")):
        made = plan(tmp_path, f"  - shots: {{method: {method}}}\n  - clips\n", "device: cuda\n")
        assert [stage.device for stage in made.stages if stage.name == "shots"] == [device]
        assert [model.gpu_mb for model in made.on_gpu.values()] == ([2000] if device == "cuda" else [])
    with pytest.raises(UsageError, match="on a CPU alone"):
        plan(tmp_path, "  - shots: {method: content, device: cuda}\n  - clips\n")


def test_a_device_that_a_model_cannot_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"score.*device.*computes on a CPU alone"):
        plan(tmp_path, "  - aesthetic: {device: cuda}\n")


def test_models_that_do_not_fit_a_gpu_are_refused_with_the_sum(tmp_path: Path) -> None:
    models = {name: ModelInfo(name, "", gpu_mb=size) for name, size in (("large", 60_000), ("huge", 30_000))}
    with pytest.raises(UsageError, match=r"large 60,000 MB.*huge 30,000 MB = 90,000 MB of 80,000 MB"):
        check_gpus(models, 1, 80)
    with pytest.raises(UsageError, match="there is none"):
        check_gpus(models, 0, None)
    check_gpus(models, 1, None)
    check_gpus({}, 0, None)


@pytest.mark.parametrize(
    ("source", "score", "words"),
    [
        ("", "[clips]", "by `shots` and `clips` together; put `- shots` under score:"),
        ("", "[shots]", "by `shots` and `clips` together; put `- clips` under score:"),
        (", clips: spans", "[resolution]", "are read by `shots` and `clips`; put `- shots` and `- clips` under score:"),
    ],
)
def test_clips_need_both_stages(tmp_path: Path, source: str, score: str, words: str) -> None:
    (tmp_path / "m.yaml").write_text(f"name: m\nsource: {{table: t.jsonl, media: file{source}}}\nscore: {score}\n")
    with pytest.raises(UsageError) as raised:
        make_plan(load(str(tmp_path / "m.yaml")))
    assert words in str(raised.value) and "m.yaml:" in str(raised.value)


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ("{sample: true}", "say how many records, or which share"),
        ("{sample: 0}", "greater than 0"),
        ("{sample: 1.5}", "neither a number of records nor a share"),
        ("{duplicates: [{on: phash, threshold: .nan}]}", "threshold: Input should be a finite number"),
        ("{duplicates: [{on: phash, threshold: .inf}]}", "threshold: Input should be a finite number"),
        ("{duplicates: [{on: phash, threshold: 20}]}", r"threshold 20 is not a whole number of bits, 0 to 16"),
        ("{duplicates: [{on: phash, threshold: 2.5}]}", r"threshold 2\.5 is not a whole number of bits"),
        ("{duplicates: [{on: embedding, threshold: 95}]}", r"threshold 95 is not a cosine above 0, 1 at most"),
        ("{duplicates: [{on: embedding, threshold: .nan}]}", "threshold: Input should be a finite number"),
        ("{duplicates: [{on: bytes, prefer: [captions]}]}", r"prefer: the values of 'captions' .* have no order"),
        ("{duplicates: [{on: bytes, prefer: [aspct]}]}", r"no column 'aspct'.*did you mean 'aspect'"),
        ("{duplicates: [{on: bytes, against: [nowhere]}]}", r"against: .*nowhere is no finished run directory"),
        ("{caps: [{by: aspct, most: 2}]}", r"caps.0: by: no column 'aspct'.*did you mean 'aspect'"),
        ("{duplicates: [{on: bytes, prefer: [caption]}]}", r"prefer: the values of 'caption' \(string\) have no order"),
        ("{duplicates: [{on: bytes, prefer: [--aspect]}]}", r"prefer: no column '-aspect'.*did you mean 'aspect'"),
        ("{duplicates: [{on: bytes, threshold: 3}]}", r"threshold 3 does nothing: bytes are the same or are not"),
        ("{caps: [{by: captions, most: 2}]}", r"by: a value of 'captions' .* is no single one that records share"),
        ("{caps: [{by: embedding, most: 2}]}", r"by: a value of 'embedding' .* is no single one that records share"),
        ("{caps: [{by: aspect, most: 2, prefer: [format]}]}", r"prefer: .*'format'"),
        ("{keep: ['embedding is not null']}", r"'embedding' is compared by `duplicates:` and stands in no condition"),
        ("{keep: ['aspect > \"wide\"']}", r"keep.0: .*compares number with text"),
        ('{keep: ["aspct > p5"]}', r"no column 'aspct'.*did you mean 'aspect'"),
    ],
)
def test_a_selection_that_could_not_be_made_is_refused_before_scoring(tmp_path: Path, select: str, words: str) -> None:
    with pytest.raises(UsageError, match=rf"m\.yaml:7: select.*{words}"):
        plan(tmp_path, "  - resolution\n  - phash\n  - embedding\n", f"select: {select}\n")


def test_a_selection_by_any_column_that_there_will_be_is_planned(tmp_path: Path) -> None:
    select = (
        '{keep: ["aspect >= p10 and not (caption is null)", "extra.year > 2000", "phash > 5", "caption_repeats < 3"], '
        "duplicates: [{on: phash, threshold: 16, prefer: [-width, extra.votes]}], caps: [{by: extra.site, most: 2}]}"
    )
    plan(tmp_path, "  - resolution\n  - phash\n", f"select: {select}\n")


@pytest.mark.parametrize(("written", "meant"), [("1000.0", 1000), ("1e3", 1000), ("1", 1), ("0.5", 0.5), ("1.0", 1.0)])
def test_a_sample_is_so_many_records_or_a_share(tmp_path: Path, written: str, meant: float) -> None:
    sample = plan(tmp_path, "  - resolution\n", f"select: {{sample: {written}}}\n").loaded.manifest.select.sample
    assert sample == meant and type(sample) is type(meant)
