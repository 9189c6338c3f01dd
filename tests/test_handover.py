"""A chunk that crosses from a CPU pool to another arrives as it was, and ends with the bytes of one pool."""

from pathlib import Path

import pytest
from helpers.corpus import write_corpus

from curation.inline import InlineEngine
from curation.load import load
from curation.plan import make_plan
from curation.scoring.pending import Pending
from curation.scoring.score import RunContext
from curation.sources import open_source
from curation.stores.storage import Store
from curation.work import Pool, ScoreWorker, task_item

MANIFEST = """\
name: two
source: {table: %s, media: file, caption: caption}
score:
  - resolution: {keep: "min_side >= 70"}
  - phash
  - quality
engine: {rows_per_chunk: 4}
"""


@pytest.mark.parametrize("split", [1, 2, 3])
def test_two_pools_make_the_bytes_of_one(tmp_path: Path, split: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_corpus(tmp_path / "corpus", 10, {3: (60, 60)})
    (tmp_path / "m.yaml").write_text(MANIFEST % table)
    plan = make_plan(load(str(tmp_path / "m.yaml")))

    def scores(store: Store, pools: list[Pool]) -> dict[str, bytes]:
        source = open_source(plan.loaded.manifest.source[0], plan.loaded.base, store.child("_work"))
        tasks = [task_item(task) for task in Pending(plan, store, [source])]
        assert sum(report["rows"] for report in InlineEngine().map(pools, tasks)) == 10
        return {entry.name: store.read(entry.name) for entry in store.list("scores")}

    def pool(store: Store, group: int) -> Pool:
        context = RunContext.of(store, plan.loaded.manifest.source)
        return Pool("p", lambda: ScoreWorker(plan, context, group))

    one = Store(str(tmp_path / "one"))
    expected = scores(one, [pool(one, 0)])
    groups = (plan.stages[:split], plan.stages[split:])
    monkeypatch.setattr(type(plan), "groups", property(lambda _: groups))
    two = Store(str(tmp_path / "two"))
    assert scores(two, [pool(two, 0), pool(two, 1)]) == expected
