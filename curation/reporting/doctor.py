"""`curate doctor`: what this machine has of what a run needs, and what to do about each thing that is missing."""

import os
import platform
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text

from curation.devices import DRIVERS, gpu_memory_mb, gpus_here
from curation.errors import CurationError
from curation.install import NAME, command, program_version
from curation.models.registry import ROLES, describe
from curation.progress import console

PYTHON = ((3, 11), (3, 12))
"""The oldest and the newest Python that pyproject.toml allows."""
FREE_GB = 10.0
"""Less free disk than this is mentioned: a small corpus, its shards and Ray's own files fit in it."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    fix  what to do, None where nothing is wrong
    bad  a run cannot start without it; otherwise it only limits what a manifest may ask for
    """

    name: str
    state: str
    fix: str | None = None
    bad: bool = False


def examine() -> None:
    """Print all findings. Raises CurationError where something has to be fixed before anything runs."""
    found = [*_program(), *_packages(), *_gpu(), *_ray(), *_disk(), *_models()]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in found:
        table.add_row(finding.name, Text(finding.state))
        if finding.fix:  # never wrapped: it is there to be copied
            table.add_row("", Text(f"fix: {finding.fix}", style="yellow", overflow="fold"))
    console().print(table)
    if bad := [finding.name for finding in found if finding.bad]:
        raise CurationError(f"this has to be fixed first: {', '.join(bad)}")


def _program() -> Iterable[Finding]:
    yield Finding("curation", program_version())
    oldest, newest = PYTHON
    running = platform.python_version()
    fits = oldest <= tuple(int(part) for part in platform.python_version_tuple()[:2]) <= newest
    allowed = f"{oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
    fix = None if fits else f"install Python {allowed} and make a new environment with it: python3.11 -m venv .venv"
    yield Finding("Python", running, fix, bad=not fits)


def _packages() -> Iterable[Finding]:
    """A line for the base installation and one for each extra that pyproject.toml names."""
    try:
        lines = requires(NAME) or []
    except PackageNotFoundError:
        yield Finding("packages", "curation itself is not installed here", "pip install -e . in the clone", bad=True)
        return
    wanted = [Requirement(line) for line in lines]
    base = [need for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    lacking = [problem for need in base if (problem := _lacks(need))]
    state = f"lacks {', '.join(lacking)}" if lacking else f"all {len(base)} are installed"
    yield Finding("packages", state, command("embedded") if lacking else None, bad=bool(lacking))
    for extra in sorted({name for line in lines for name in re.findall(r"extra == ['\"](\w+)['\"]", line)} - {"dev"}):
        needs = [need for need in wanted if need not in base and need.marker and need.marker.evaluate({"extra": extra})]
        lacking = [problem for need in needs if need.name != NAME and (problem := _lacks(need))]
        state = f"not there: {', '.join(lacking)}" if lacking else "installed"
        yield Finding(f"  extra {extra}", state, command(extra) if lacking else None)


def _lacks(need: Requirement) -> str | None:
    """The package, and why it does not satisfy the requirement; None where it does."""
    try:
        found = version(need.name)
    except PackageNotFoundError:
        return need.name
    return None if need.specifier.contains(found, prereleases=True) else f"{need.name} {need.specifier} (is {found})"


def _gpu() -> Iterable[Finding]:
    count = gpus_here()
    memory = gpu_memory_mb()
    if count:
        yield Finding("GPU", f"{count}" + (f", the smallest has {memory:,} MB" if memory else ", pretended"))
    elif driver := next((driver for driver in DRIVERS if Path(driver).exists()), None):
        fix = (
            "install the build of torch for this driver (pytorch.org says which); until then models compute on the CPU"
        )
        yield Finding("GPU", f"there is a driver ({driver}), and torch cannot use it", fix)
    else:
        yield Finding("GPU", "none; models compute on the CPU")


def _ray() -> Iterable[Finding]:
    try:
        from curation.engine.ray_engine import check_answers
    except ImportError as error:
        yield Finding("Ray", f"cannot be imported: {error}", command("embedded"), bad=True)
        return
    address = os.environ.get("RAY_ADDRESS")
    if not address or address == "local":
        yield Finding(
            "Ray", f"{version('ray')}; RAY_ADDRESS is not set, so a run starts its own Ray where it needs one"
        )
        return
    try:
        check_answers(address)
    except CurationError as error:
        yield Finding("Ray", str(error), "unset RAY_ADDRESS, or set it to a cluster that runs", bad=True)
    else:
        yield Finding("Ray", f"{version('ray')}; the cluster of RAY_ADDRESS answers at {address}")


def _disk() -> Iterable[Finding]:
    temporary = os.environ.get("TMPDIR", "/tmp")
    for name, place in (("disk here", "."), ("temporary disk", temporary), ("shared memory", "/dev/shm")):
        try:
            usage = shutil.disk_usage(place)
        except OSError as error:
            fix = "set TMPDIR to a folder that exists" if place == temporary else f"mount {place}"
            yield Finding(name, f"{place}: {error.strerror}", fix, bad=place == temporary)
            continue
        free = usage.free / 1e9
        least = 1.0 if place == "/dev/shm" else FREE_GB
        advice = (
            "start the container with --shm-size=2g" if place == "/dev/shm" else "free some, or use --out elsewhere"
        )
        yield Finding(name, f"{free:,.1f} GB free", None if free >= least else advice)


def _models() -> Iterable[Finding]:
    """The embedded model of each role; the production ones depend on what a manifest names."""
    for role, kinds in ROLES.items():
        if kinds.embedded:
            info = describe(role, "embedded")
            yield Finding(f"model {role}", info.problem or info.id)
