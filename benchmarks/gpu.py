"""What a GPU and the CPU cores beside it do together: models, the CPU side, whole runs, training.

    python -m benchmarks.gpu                  on a GPU machine, about six minutes; writes benchmarks/results-gpu.md
    python -m benchmarks.gpu --tiny           the same path at small sizes, on pretended GPUs where there is none

Weights are random, of the real architectures: speed does not depend on their values. Each section is a process of its
own with a time limit, so that one that fails costs its own rows alone.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from curation.devices import PRETEND

SECTIONS = {"models": 210, "cpu": 90, "score": 150, "encode": 180, "train": 150}
"""Seconds that each may take."""
HEAD = "| what | figure | note |\n|---|---|---|\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="small models and few pictures")
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--folder", type=Path, help="where pictures and models are kept; default: a temporary folder")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results-gpu.md"))
    parser.add_argument("--only", choices=list(SECTIONS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        os.environ.setdefault(PRETEND, "1")
    if asked.only:
        run_section(asked.only, asked.folder, asked.tiny)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = (asked.folder or Path(made)).absolute()
        rows = measured(folder, asked.sections.split(","), asked.tiny)
    if asked.results and not asked.tiny:
        asked.results.write_text(page(rows))


def measured(folder: Path, sections: list[str], tiny: bool) -> list[str]:
    """The rows of all sections, printed as they come."""
    from benchmarks.gpu_data import prepare

    started = time.perf_counter()
    prepare(folder, tiny)
    print(f"{machine()}; pictures and models made in {time.perf_counter() - started:.0f} s\n{HEAD}", end="", flush=True)
    rows = []
    for section in sections:
        command = [sys.executable, "-m", "benchmarks.gpu", "--only", section, "--folder", str(folder)]
        started = time.perf_counter()
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[1]}
        process = subprocess.Popen(command + ["--tiny"] * tiny, start_new_session=True, **options)
        try:
            said, _ = process.communicate(timeout=SECTIONS[section])
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own children hold the pipe too
            said = process.communicate()[0] + f"| {section} | stopped | after {SECTIONS[section]} s |\n"
        if process.returncode:
            said += f"| {section} | exit code {process.returncode} | |\n"
        print(said, end="", flush=True)
        print(f"({section}: {time.perf_counter() - started:.0f} s)", flush=True)
        rows += [line for line in said.splitlines() if line.startswith("| ")]
    return rows


def run_section(name: str, folder: Path, tiny: bool) -> None:
    if name == "models":
        from benchmarks.gpu_models import rates

        rates(folder, tiny)
    elif name == "train":
        from benchmarks.gpu_train import short

        short(tiny)
    else:
        from benchmarks import gpu_runs

        {"cpu": gpu_runs.cpu_side, "score": gpu_runs.score, "encode": gpu_runs.encode}[name](folder, tiny)


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU (pretended)"
    return f"{name}, {cores} cores, torch {torch.__version__}"


def page(rows: list[str]) -> str:
    return (
        f"# Measured on a GPU\n\nWritten by `python -m benchmarks.gpu` on {time.strftime('%Y-%m-%d')}: {machine()}.\n"
        "Random weights of the real architectures; JPEGs of 800x600. Runs go through Ray; their rates count from the\n"
        "first tenth of the commits on: the start of Ray, and loading and compiling models, are apart.\n\n"
        + HEAD
        + "\n".join(rows)
        + "\n"
    )


def row(what: str, figure: str, note: str = "") -> None:
    """Print one row of the table."""
    print(f"| {what} | {figure} | {note} |", flush=True)


if __name__ == "__main__":
    main()
