"""Requests of many workers share batches; what fails is the server's own and reaches every caller as a sentence."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from curation.errors import CurationError, Unavailable
from curation.inference.client import connect, service, waited
from curation.inference.network import DeviceFault, Row, Spec
from curation.inference.server import Server

MEAN = Spec("helpers.networks:MeanNetwork", "16", "cuda")


def rows(values: range) -> list[Row]:
    return [(np.full((4, 4), value, np.uint8),) for value in values]


def values(answers: list[tuple[np.ndarray, ...]]) -> list[float]:  # type: ignore[type-arg]
    return [float(answer[0]) for answer in answers]


def test_rows_of_several_callers_share_a_batch() -> None:
    server = Server(flush_s=5.0)
    try:
        futures = [server.submit(MEAN, "mean", rows(range(4 * i, 4 * i + 4))) for i in range(8)]
        assert [values(future.result(60)) for future in futures] == [list(range(4 * i, 4 * i + 4)) for i in range(8)]
        report = server.report()["networks"]["Mean 16"]
        assert (report["rows"], report["batches"], report["padding"]) == (32, 2, 0)
    finally:
        server.close()


def test_a_lone_row_does_not_wait_for_a_full_batch() -> None:
    server = Server(flush_s=0.01)
    try:
        assert values(server.submit(MEAN, "mean", rows(range(7, 8))).result(60)) == [7.0]
        assert server.submit(MEAN, "mean", []).result(1) == []
    finally:
        server.close()


def test_rows_that_come_while_the_device_is_busy_share_a_batch() -> None:
    server, slow = Server(flush_s=0.005), Spec("helpers.networks:TimedNetwork", "10", "cuda")  # 64 rows: 0.64 s
    try:
        busy = [server.submit(slow, "mean", rows(range(64))) for _ in range(2)]
        late = [server.submit(slow, "mean", rows(range(8 * i, 8 * i + 8))) for i in range(8)]
        assert [values(future.result(60)) for future in busy] == [list(range(64))] * 2
        assert [value for future in late for value in values(future.result(60))] == list(range(64))
        assert server.report()["networks"]["Timed 10"]["batches"] == 3
    finally:
        server.close()


def test_many_threads_and_several_networks_get_their_own_answers() -> None:
    server = Server()
    specs = [
        MEAN,
        Spec("helpers.networks:ShapelyNetwork", "8", "cuda"),
        Spec("helpers.networks:MeanNetwork", "3", "cuda"),
    ]

    def ask(number: int) -> bool:
        start = number % 200
        asked = rows(range(start, start + 1 + number % 5))
        got = values(server.run(specs[number % 3], "mean", asked))
        return np.allclose(got, range(start, start + 1 + number % 5), rtol=1e-6)

    try:
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(ask, range(300)))
    finally:
        server.close()


def test_a_network_is_loaded_once_however_many_ask_at_once() -> None:
    server = Server()
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(facts == {"side": 4} for facts in pool.map(lambda _: server.facts(MEAN), range(8)))
        assert list(server.report()["networks"]) == ["Mean 16"]
    finally:
        server.close()


def test_a_failed_device_breaks_the_server_once_and_says_so_to_all(tmp_path: Path) -> None:
    reasons: list[str] = []
    server = Server(on_fault=reasons.append)
    spec = Spec("helpers.networks:FaultyNetwork", f"6:{tmp_path / 'failed'}", "cuda")
    try:
        with pytest.raises(DeviceFault, match="illegal memory access"):
            for _ in range(10):
                server.run(spec, "mean", rows(range(3)))
        with pytest.raises(DeviceFault):
            server.run(spec, "mean", rows(range(3)))
        assert reasons == ["the GPU failed: an illegal memory access"]
    finally:
        server.close()


def test_a_hanging_device_is_noticed(tmp_path: Path) -> None:
    noticed = threading.Event()
    server = Server(on_fault=lambda reason: noticed.set(), hang_s=0.3)
    spec = Spec("helpers.networks:HangingNetwork", f"4:{tmp_path / 'hung'}", "cuda")
    future = server.submit(spec, "mean", rows(range(2)))
    values(future.result(30))
    server.submit(spec, "mean", rows(range(2)))
    assert noticed.wait(30)
    with pytest.raises(DeviceFault, match="hangs"):
        server.run(spec, "mean", rows(range(2)))


def test_a_network_that_cannot_be_loaded_is_a_sentence() -> None:
    server = Server()
    try:
        with pytest.raises(Unavailable, match="cannot be loaded"):
            server.run(Spec("helpers.networks:MeanNetwork", "many", "cuda"), "mean", rows(range(2)))
        with pytest.raises(CurationError):
            server.facts(Spec("helpers.networks:MeanNetwork", "many", "cuda"))
    finally:
        server.close()


def test_a_closed_server_answers_nobody() -> None:
    server = Server()
    server.close()
    with pytest.raises(DeviceFault, match="closed"):
        server.run(MEAN, "mean", rows(range(2)))


def test_a_front_reaches_its_network_here_or_in_the_service() -> None:
    server = Server()
    front = connect(MEAN)
    here = values(front.run("mean", rows(range(5))))
    waited()
    try:
        with service(server):
            assert values(front.run("mean", rows(range(5)))) == here and front.facts == {"side": 4}
        assert list(waited()) == ["Mean 16"] and waited() == {}
        with service(server):
            on_cpu = connect(Spec("helpers.networks:MeanNetwork", "16", "cpu"))
            assert values(on_cpu.run("mean", rows(range(5)))) == here
        assert waited() == {} and server.report()["networks"]["Mean 16"]["rows"] == 5
    finally:
        server.close()


def test_the_share_of_time_without_work_is_known() -> None:
    server = Server()
    try:
        server.run(MEAN, "mean", rows(range(16)))
        report = server.report()
        assert 0 <= report["idle"] <= report["seconds"]
        assert report["networks"]["Mean 16"]["seconds"] <= report["seconds"]
    finally:
        server.close()
