"""How many workers fit the CPUs and the memory of a machine or a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

from curation.errors import UsageError

SPARE_CPUS = 0.5
"""Left free of actors, so that Ray's own tasks always find room (a full cluster hangs for ever)."""
MEMORY_SHARE = 0.8
"""Of a node's memory that Ray offers, what workers may take: the rest is the system's and Ray's own."""


@dataclass(frozen=True)
class Node:
    """What a node offers: CPUs, GPUs, and memory in MB (None where it is not known)."""

    cpus: float
    gpus: float = 0.0
    memory_mb: float | None = None


@dataclass(frozen=True)
class Layout:
    """How many workers there are and how many CPUs each reserves."""

    workers: int
    cpus: float


def lay_out(nodes: Sequence[Node], wanted: int | None, memory_mb: float = 0.0, on_gpu: bool = False) -> Layout:
    """Workers for these nodes, such that the loss of the largest one still leaves room.

    One worker per core, or two where they use networks on GPUs, as far as each worker's `memory_mb` fits, unless
    `wanted` says otherwise. Each reserves a
    share of the CPUs that are left after the spare and, with several nodes, after the largest node is gone.
    Raises UsageError where nothing fits.
    """
    cpus = [node.cpus for node in nodes]
    total = sum(cpus)
    workers = wanted or max(1, sum(_fitting(node, memory_mb, workers_per_core(on_gpu)) for node in nodes))
    safe = total - (max(cpus) if len(cpus) > 1 else 0.0) - SPARE_CPUS
    if safe <= 0:
        raise UsageError(
            f"this plan would hang: {total:g} CPUs leave no room for workers beside Ray's own tasks ({SPARE_CPUS} CPU)"
        )
    share = min(1.0, safe / workers)
    if share < 0.01:
        raise UsageError(f"this plan would hang: {workers} workers do not fit {safe:g} CPUs; lower engine.workers")
    return Layout(workers, int(share * 100) / 100)


def workers_per_core(on_gpu: bool) -> int:
    """Two where they wait for GPUs: one decodes while the other waits, over the ends of chunks too."""
    return 2 if on_gpu else 1


def _fitting(node: Node, memory_mb: float, per_core: int) -> int:
    """So many workers per core of a node, or as many as its memory holds."""
    if not memory_mb or node.memory_mb is None:
        return per_core * int(node.cpus)
    return min(per_core * int(node.cpus), int(MEMORY_SHARE * node.memory_mb / memory_mb))
