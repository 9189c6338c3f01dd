"""What the servers of networks did: per model its speed, its batches, and which side waited for which."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Reports = Sequence[Mapping[str, Any]]
"""Of each server, see `curation.inference.server.Server.report`."""


def summary(reports: Reports, waited: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Per model, over all servers, for run.json.

    rows, batches, padding   answered rows, batches computed, places of batches that no row filled
    mean_batch               rows per batch
    rows_per_s               while it computed
    busy_share               of the servers' time that this model computed, 0-1
    idle_share               of the servers' time in which no row of any model was there to compute
    workers_waited_s         seconds that workers waited for its answers, summed over workers
    halvings                 how often memory ran out and the batch was halved
    spread                   largest difference that neighbours in a batch made when it was opened; 0.0: none
    """
    total = sum(report["seconds"] for report in reports)
    idle = sum(report["idle"] for report in reports) / total if total else 0.0
    models: dict[str, dict[str, Any]] = {}
    for report in reports:
        for name, network in report["networks"].items():
            model = models.setdefault(name, {"device": network["device"], "precision": network["precision"]})
            for key in ("rows", "batches", "padding", "seconds", "halvings"):
                model[key] = model.get(key, 0) + network[key]
            for key in ("largest_batch", "spread"):
                model[key] = max(model.get(key, 0), network[key])
            if "parity" in network:
                model["parity"] = network["parity"]
    for name, model in models.items():
        seconds = model.pop("seconds")
        model["mean_batch"] = round(model["rows"] / max(1, model["batches"]), 1)
        model["rows_per_s"] = round(model["rows"] / seconds, 1) if seconds else 0.0
        model["busy_share"] = round(seconds / total, 4) if total else 0.0
        model["idle_share"] = round(idle, 4)
        model["workers_waited_s"] = round(waited.get(name, 0.0), 2)
    return models


def sentences(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line per model for the end of a run."""
    lines = []
    for name, model in models.items():
        side = "the GPU waited for the workers" if model["idle_share"] > 0.2 else "the workers waited for the GPU"
        lines.append(
            f"{name}: {model['rows']:,} rows at {model['rows_per_s']:,.0f}/s, mean batch {model['mean_batch']:g}, "
            f"computing {model['busy_share']:.0%} of the time; no rows to compute {model['idle_share']:.0%} ({side})"
        )
    return lines


def busy(servers: Callable[[], Reports]) -> Callable[[], str]:
    """For the progress line: the share of their time that the servers have computed so far."""

    def text() -> str:
        reports = servers()
        total = sum(report["seconds"] for report in reports)
        idle = sum(report["idle"] for report in reports)
        return f"GPU busy {1 - idle / total:.0%}" if total else ""

    return text
