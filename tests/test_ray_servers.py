"""Servers of networks in a cluster of two nodes, one of which has two pretended GPUs: they are lost, and no row is."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.asking import asking_pool

from curation.engine.ray_engine import RayEngine

COUNT = 12


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    import ray
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "CURATION_PRETEND_GPUS")}
    os.environ["PYTHONPATH"], os.environ["CURATION_PRETEND_GPUS"] = str(Path(__file__).parent), "2"
    ray.shutdown()
    head = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, num_gpus=2)
    made = RayEngine(cluster.address, hang_s=2.0)
    yield made
    made.close()
    ray.shutdown()
    cluster.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def ask(engine: RayEngine, network: str, argument: str, seconds: float = 0.0) -> list[dict[str, Any]]:
    payloads = [
        {"network": network, "argument": argument, "values": list(range(i, i + 5)), "seconds": seconds}
        for i in range(COUNT)
    ]
    return list(engine.map(asking_pool(), payloads))


def complete(results: list[dict[str, Any]]) -> bool:
    assert [result["failed"] for result in results if "failed" in result] == []
    return sorted(result["answers"] for result in results) == [
        [float(value) for value in range(i, i + 5)] for i in range(COUNT)
    ]


def server_processes() -> list[int]:
    found = subprocess.run(["pgrep", "-f", "ray::ServerActor"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def test_workers_of_all_nodes_ask_the_servers_of_one(engine: RayEngine) -> None:
    assert engine.gpus() == 2
    results = ask(engine, "Mean", "8", seconds=0.05)
    assert complete(results) and len({result["pid"] for result in results}) > 1
    reports = engine.servers()
    assert len(reports) == 2 and sum(report["networks"].get("Mean 8", {"rows": 0})["rows"] for report in reports) == 60
    assert "2 GPUs on 2 nodes" in engine.describe()


def test_a_device_that_fails_is_replaced_and_its_work_done_again(engine: RayEngine, tmp_path: Path) -> None:
    assert complete(ask(engine, "Faulty", f"4:{tmp_path / 'failed'}"))
    assert (tmp_path / "failed").exists()


def test_a_device_that_hangs_is_replaced(engine: RayEngine, tmp_path: Path) -> None:
    assert complete(ask(engine, "Hanging", f"4:{tmp_path / 'hung'}"))
    assert (tmp_path / "hung").exists()


def killed(pids: list[int]) -> list[int]:
    """Kills those of the processes that still live; what an earlier test left may end by itself meanwhile."""
    done = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            done.append(pid)
    return done


def test_a_server_that_is_killed_in_mid_run_costs_no_row(engine: RayEngine) -> None:
    assert complete(ask(engine, "Mean", "4"))
    results = iter(
        engine.map(
            asking_pool(),
            [
                {"network": "Mean", "argument": "4", "values": list(range(i, i + 5)), "seconds": 0.3}
                for i in range(COUNT)
            ],
        )
    )
    got = [next(results)]
    gone = killed(server_processes())
    assert gone
    assert complete(got + list(results))
    assert not set(gone) & set(server_processes())


def test_memory_that_runs_out_halves_the_batches(engine: RayEngine) -> None:
    assert complete(ask(engine, "SmallMemory", "16"))
    networks = [report["networks"].get("SmallMemory 16") for report in engine.servers()]
    assert {network["largest_batch"] for network in networks if network} == {2}


def test_no_room_for_a_single_row_is_a_sentence(engine: RayEngine) -> None:
    results = ask(engine, "NoMemory", "8")
    assert all("no room for one row" in result["failed"] for result in results)
