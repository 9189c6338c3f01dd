"""Without Ray: children that ask the networks of their parent, die and are replaced."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.asking import asking_pool, dying_pool

from curation.engine.inline import InlineEngine


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_PRETEND_GPUS", "2")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent)]))


def payloads(network: str, argument: str, count: int = 10) -> Iterator[dict[str, Any]]:
    for i in range(count):
        yield {"network": network, "argument": argument, "values": list(range(i, i + 5))}


def complete(results: list[dict[str, Any]], count: int = 10) -> bool:
    assert [result["failed"] for result in results if "failed" in result] == []
    return sorted(result["answers"] for result in results) == [
        [float(value) for value in range(i, i + 5)] for i in range(count)
    ]


def test_one_process_asks_its_own_servers() -> None:
    engine = InlineEngine()
    try:
        assert complete(list(engine.map(asking_pool(), payloads("Mean", "8"))))
        assert sum(report["networks"].get("Mean 8", {"rows": 0})["rows"] for report in engine.servers()) == 50
    finally:
        engine.close()


def test_children_ask_the_parents_servers_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    engine = InlineEngine(workers=2)
    try:
        results = list(engine.map(dying_pool(str(tmp_path / "died")), payloads("Mean", "8")))
        assert complete(results) and (tmp_path / "died").exists()
        assert os.getpid() not in {result["pid"] for result in results}
    finally:
        engine.close()


def test_a_failed_device_leaves_the_work_to_the_others(tmp_path: Path) -> None:
    engine = InlineEngine()
    try:
        assert complete(list(engine.map(asking_pool(), payloads("Faulty", f"4:{tmp_path / 'failed'}"))))
        assert [bool(report["networks"]) for report in engine.servers()] == [True, True]
    finally:
        engine.close()


def test_without_a_sound_device_the_run_stops_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_PRETEND_GPUS", "1")
    engine = InlineEngine()
    try:
        results = list(engine.map(asking_pool(), payloads("Faulty", f"4:{tmp_path / 'failed'}")))
        assert any("run the same command again" in result.get("failed", "") for result in results)
    finally:
        engine.close()


def test_a_mistake_of_the_payloads_ends_the_children() -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from payloads("Mean", "8", 3)
        raise ValueError("the source is gone")

    engine = InlineEngine(workers=2)
    try:
        with pytest.raises(ValueError, match="the source is gone"):
            list(engine.map(asking_pool(), broken()))
    finally:
        engine.close()
