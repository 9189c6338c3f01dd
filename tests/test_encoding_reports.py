"""Work files of another form than this program writes are damaged, whatever JSON they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from curation.encoding.reports import fault
from curation.repair import repair
from curation.stores.storage import Store

ENTRY = {"path": "1x64x64/00000.tar", "bucket": "1x64x64", "samples": 1, "bytes": 9000, "sha256": "0" * 64}
DONE: dict[str, Any] = {
    "shard": ENTRY, "sums": {"values": 4, "sum": [1.0], "squares": [2.0], "nan": 0},
    "footage": {"clips": 0, "clip_seconds": 0.0, "clip_seconds_unused": 0.0},
    "members": [{"id": "a", "key": "k", "text_key": None, "media_key": None}],
}  # fmt: skip
REPORT, FAILED = "_work/encode/1x64x64/00000-f.json", "_work/encode/1x64x64/00000-f.failed"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (REPORT, DONE, None),
        (REPORT, DONE | {"sums": {**DONE["sums"], "sum": "1"}}, "sums.sum"),
        (REPORT, DONE | {"shard": {**ENTRY, "path": "../x.tar"}}, r"shard.path: a shard lies in the index's folder"),
        (REPORT, {key: DONE[key] for key in ("shard", "sums", "footage")}, "members: Field required"),
        (FAILED, {"failures": [{"id": "a", "error": "why"}]}, None),
        (FAILED, {"failures": {"a": "why"}}, "failures: Input should be a valid list"),
        ("_work/encode/facts/vae-0.json", {"id": 3}, "id: Input should be a valid string"),
        ("_work/attempts/000001.json", {"count": 2, "row": None, "deaths": {"3": 1}}, None),
        ("_work/attempts/000001.json", {"count": "2"}, "count: Input should be a valid integer"),
        ("_work/seen.json", {"any": "thing"}, None),
    ],
)
def test_what_no_run_writes_is_named(tmp_path: Path, name: str, content: dict[str, Any], why: str | None) -> None:
    found = fault(name, content)
    assert (why in found) if why and found else found is why
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(json.dumps(content))
    said: list[str] = []
    repair(Store(str(tmp_path)), said.append)
    assert (tmp_path / name).exists() == (why is None) and len(said) == (why is not None)
