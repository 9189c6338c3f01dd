"""Seconds and peak memory of the driver, phase by phase, over the made-up scores of a large run.

    python -m benchmarks.bench_scale [--records 1000000] [--chunk 64] [--embedding 1280] [--dir DIR]

Each phase runs in a process of its own, so that its peak is not another's: unique ids, the decision, its account, the
deal, and the rows of all shards' records. With --dir the scores stay there, and a second call uses them again.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.synthetic import plan_of, write_scores
from curation import rundir
from curation.encoding.encode_phase import Deal
from curation.encoding.scored import ScoredRows
from curation.plan import Plan
from curation.reporting.ledger import Ledger
from curation.scoring import ids
from curation.session import decide_run, scored_rows
from curation.stores.storage import Store


def unique(store: Store, _: Plan) -> str:
    changed = ids.make_unique(store, rundir.score_files(store))
    return f"{changed:,} renumbered"


def select(store: Store, plan: Plan) -> str:
    selection = decide_run(store, plan, {}, lambda _: None)
    rundir.write_selection(store, selection)
    return f"{selection.num_rows:,} decided"


def account(store: Store, plan: Plan) -> str:
    selection = rundir.read_selection(store)
    rows, sources = scored_rows(store)
    ledger = Ledger.of(selection, sources, None)
    ledger.check(rows, sources)
    return f"{ledger.kept:,} kept"


def dealt(store: Store, plan: Plan) -> Deal:
    selection = rundir.read_selection(store)
    return Deal.of(ScoredRows(store, selection["id"]), plan, selection)


def deal(store: Store, plan: Plan) -> str:
    return f"{len(dealt(store, plan).members):,} shards"


def deal_and_members(store: Store, plan: Plan) -> str:
    made = dealt(store, plan)
    started, first, count = time.monotonic(), 0.0, 0
    for _ in made.write_members(list(made.members)):
        count += 1
        first = first or time.monotonic() - started
    return f"{count:,} shards' records; the first shard's {first:.1f} s after the deal"


PHASES: dict[str, Callable[[Store, Plan], str]] = {
    "unique ids": unique,
    "select": select,
    "account": account,
    "deal": deal,
    "deal + members": deal_and_members,
}


def measure(name: str, root: str, dimensions: int, out: Any) -> None:
    """One phase in this process."""
    plan, store = plan_of(Path(root), dimensions), Store(f"{root}/run")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, spent = time.monotonic(), time.process_time()
    told = PHASES[name](store, plan)
    seconds, spent = time.monotonic() - started, time.process_time() - spent
    out.send((seconds, spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, before, told))


def in_child(name: str, root: str, dimensions: int) -> tuple[float, float, float, float, str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=measure, args=(name, root, dimensions, theirs))
    child.start()
    theirs.close()
    found: tuple[float, float, float, float, str] = ours.recv()
    child.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--chunk", type=int, default=64, help="rows of a chunk file")
    parser.add_argument("--embedding", type=int, default=1280, help="dimensions; 0: neither embeddings nor thumbnails")
    parser.add_argument("--dir", type=Path, default=None, help="where the scores are kept")
    parser.add_argument("--only", nargs="*", default=list(PHASES), choices=list(PHASES))
    arguments = parser.parse_args()
    holder = nullcontext(arguments.dir) if arguments.dir else tempfile.TemporaryDirectory()
    with holder as folder:
        root = Path(str(folder))
        root.mkdir(parents=True, exist_ok=True)
        store = Store(str(root / "run"))
        wanted = {name: getattr(arguments, name) for name in ("records", "chunk", "embedding")}
        note = root / "made.json"
        if not note.exists() or json.loads(note.read_text()) != wanted:
            started = time.monotonic()
            files = write_scores(
                store, plan_of(root, arguments.embedding), arguments.records, arguments.chunk, arguments.embedding
            )
            note.write_text(json.dumps(wanted))
            print(f"{files:,} files of scores made in {time.monotonic() - started:.0f} s", flush=True)
        load = os.getloadavg()[0]
        print(f"\n{os.cpu_count()} cores, load average {load:.1f} before; `of a core`: seconds that it computed\n")
        print("| phase | seconds | of a core | peak MiB | before it | |\n|---|---:|---:|---:|---:|---|")
        for name in arguments.only:
            seconds, spent, peak, before, told = in_child(name, str(root), arguments.embedding)
            print(f"| {name} | {seconds:.1f} | {spent:.1f} | {peak:,.0f} | {before:,.0f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
