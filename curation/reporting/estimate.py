"""`curate plan`: what a run would do and about what it would cost, from the manifest and a few reads."""

import shutil
from collections.abc import Callable, Sequence

from rich.table import Table

from curation.devices import check_gpus, gpus_here
from curation.engine.choice import Choice, choose
from curation.engine.choice import cores as available_cores
from curation.engine.layout import Node, lay_out
from curation.errors import CurationError
from curation.load import load
from curation.models.registry import absence
from curation.plan import Plan, make_plan
from curation.progress import console, duration
from curation.sources import open_source
from curation.sources.base import Count, total_of
from curation.stores.storage import Store

DECODE_MS = 12.0
"""About one 1 MP JPEG, with its way to the decoder process and back."""
ENCODE_MS = 60.0
"""About one picture of 256 px through the embedded VAE, decoded again."""
SCORE_BYTES = 4_000
"""About one row of scores/ with an embedding, compressed."""
TEXT_BYTES = 12_000
"""About one caption of 15 tokens at 384 x fp16."""
MEDIA_BYTES = {"jpg": 1, "png": 3, "webp": 3}
"""At most about so many bytes a pixel; photos take half."""


def show_plan(manifest: str, out: str | None, overrides: Sequence[str]) -> None:
    """Print the checked plan. Raises UsageError for anything that could not run."""
    plan = make_plan(load(manifest, overrides))
    store = Store(out or f"runs/{plan.loaded.manifest.name}")
    count = count_records(plan, store)
    screen = console()
    screen.print(stage_table(plan))
    check_answers(plan)
    cores = available_cores()
    layout = lay_out([Node(cores)], plan.loaded.manifest.engine.workers)
    screen.print(f"\nworkers  {layout.workers}, {layout.cpus} CPU each, on {cores:g} CPUs here")
    show_gpus(plan, screen.print)
    screen.print(f"memory   about {memory_mb(plan, layout.workers):,} MB for the workers")
    if plan.loaded.manifest.encode:
        screen.print(f"encode   {encode_line(plan)}")
    if count is None:
        screen.print("records  unknown before a full pass over the source")
        return
    records = count.records
    seconds = score_seconds(plan, records) / layout.workers
    screen.print(f"records  {count}   score in at most about {duration(seconds)} when no gate stops any")
    needed = disk_bytes(plan, records)
    screen.print(f"disk     at most about {needed / 1e6:,.0f} MB under {store.root}")
    check_disk(store, needed)


def show_gpus(plan: Plan, say: Callable[[str], None]) -> None:
    """Which models share each GPU and how much memory they take. Raises UsageError where they cannot be had."""
    if not plan.on_gpu:
        return
    check_gpus(plan.on_gpu, gpus_here(), plan.loaded.manifest.engine.gpu_memory_gb)
    parts = ", ".join(f"{model.id} {model.gpu_mb:,} MB" for model in plan.on_gpu.values())
    say(f"gpus     {gpus_here()} here, each with {parts}")


def encode_line(plan: Plan) -> str:
    """What shards will hold: latents of which VAE, media of which quality, text states of which encoder."""
    encode = plan.loaded.manifest.encode
    assert encode
    parts = [f"{role} {model.id}" for role, model in (("vae", plan.vae), ("text", plan.text)) if model]
    if encode.media:
        parts.append(f"media mp4 crf {encode.media.crf:g}, {encode.media.images}")
    return "   ".join(parts)


def check_answers(plan: Plan) -> None:
    """Raise CurationError for a model that would have to answer while the run goes on, and does not."""
    for stage in plan.stages:
        if stage.model and stage.factory.role and (why := absence(stage.factory.role, stage.params.model)):  # type: ignore[attr-defined]
            raise CurationError(f"{stage.name}: {why}")


def stage_table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("stage", "reads", "writes", "keep", "when", "model", "ms"):
        table.add_column(heading, overflow="fold")
    for stage in plan.stages:
        model = stage.model.id if stage.model else ""
        cells = (
            ", ".join(stage.reads),
            ", ".join(stage.writes),
            stage.keep or "",
            stage.when or "",
            model,
        )
        table.add_row(stage.name, *cells, f"{stage.resources.milliseconds:g}")
    return table


def count_records(plan: Plan, store: Store) -> Count | None:
    """How many records the sources have, None where that takes a full pass."""
    work = store.child("_work")
    sources = [open_source(section, plan.loaded.base, work) for section in plan.loaded.manifest.source]
    return total_of(source.estimate() for source in sources)


def score_seconds(plan: Plan, records: int) -> float:
    """Of one core, when no gate stops any record."""
    return records * (DECODE_MS + sum(stage.resources.milliseconds for stage in plan.stages)) / 1000


def suited(plan: Plan, count: Count | None) -> Choice:
    """The engine for a run of this plan on this machine, which has the GPUs that it may need."""
    engine = plan.loaded.manifest.engine
    if count is None:
        return choose(None, 0, memory_mb(plan, 1))
    records = count.records
    seconds = score_seconds(plan, records) + (records * ENCODE_MS / 1000 if plan.loaded.manifest.encode else 0)
    # videos are chunks of their own: they are cut by their size
    chunks = records if plan.named("clips") else -(-records // engine.rows_per_chunk)
    return choose(seconds, chunks, memory_mb(plan, 1), engine.workers)


def memory_mb(plan: Plan, workers: int) -> int:
    per_worker = 600 + sum(stage.resources.memory_mb for stage in plan.stages if not stage.second)
    return workers * per_worker


def disk_bytes(plan: Plan, records: int) -> int:
    """An upper bound for pictures: every record kept, a mean and a log-variance of 16 channels in fp16 each."""
    encode = plan.loaded.manifest.encode
    size = records * SCORE_BYTES
    if encode and encode.latents:
        size += records * 16 * (encode.size // 8) ** 2 * 2 * (2 if encode.logvar else 1)
    if encode and encode.media:
        size += records * MEDIA_BYTES[encode.media.images] * encode.size**2
    if encode and encode.text:
        size += records * TEXT_BYTES
    return size


def check_room(store: Store, plan: Plan, count: Count | None) -> None:
    """Raise CurationError when what is still to be written does not fit a local disk."""
    if store.local and count is not None:
        check_disk(store, disk_bytes(plan, count.records) - sum(entry.size for entry in store.list()))


def check_disk(store: Store, needed: int) -> None:
    """Raise CurationError when a local disk has not the room; object stores are not asked."""
    if store.local is None:
        return
    place = store.local
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise CurationError(
            f"the run may need {needed / 1e9:.1f} GB under {store.root}, where {free / 1e9:.1f} GB are free; "
            "give --out a roomier place"
        )
