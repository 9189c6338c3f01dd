"""One network in batches of fixed sizes: a row's answer depends neither on its neighbours nor on the batch."""

import numpy as np
import pytest
from helpers.networks import (
    MeanNetwork,
    NeighbourlyNetwork,
    NoMemoryNetwork,
    ShapelyNetwork,
    SmallMemoryNetwork,
)

from curation.errors import Unavailable
from curation.inference.network import Row, Signature
from curation.inference.runner import Runner, Sizes, proven


def rows(count: int, side: int = 4) -> list[Row]:
    return [(np.full((side, side), i, np.uint8),) for i in range(count)]


def test_answers_come_in_order_whatever_shapes_are_mixed() -> None:
    runner = Runner(MeanNetwork("8", "cuda", "fp32"), "mean")
    mixed = [row for pair in zip(rows(9, 4), rows(9, 6), strict=True) for row in pair]
    assert [float(answer[0]) for answer in runner.run("mean", mixed)] == [i for i in range(9) for _ in "ab"]
    assert runner.run("mean", []) == []


def test_an_exact_network_runs_small_batches_at_small_sizes_and_others_at_one_size() -> None:
    signature = Signature.of("mean", rows(1)[0])
    assert proven(MeanNetwork("64", "cuda", "fp32"), signature, 64).allowed == (4, 8, 16, 32, 64)
    assert proven(ShapelyNetwork("64", "cuda", "fp32"), signature, 64).allowed == (64,)
    spread = proven(NeighbourlyNetwork("64", "cuda", "fp32"), signature, 64)
    assert spread.allowed == (64,) and 0 < spread.spread < 1e-4


@pytest.mark.parametrize(
    ("waiting", "taken"), [(1, 1), (3, 3), (4, 4), (5, 4), (6, 6), (40, 32), (48, 48), (47, 32), (64, 64), (500, 64)]
)
def test_a_batch_takes_what_fills_three_quarters_of_a_size(waiting: int, taken: int) -> None:
    assert Sizes((4, 8, 16, 32, 64)).taken(waiting) == taken
    assert Sizes((64,)).taken(waiting) == min(waiting, 64)  # there is no smaller batch with the same bits


@pytest.mark.parametrize("kind", [MeanNetwork, ShapelyNetwork])
def test_the_same_bits_alone_and_among_others(kind: type[MeanNetwork]) -> None:
    runner = Runner(kind("16", "cuda", "fp32"), "mean")
    random = np.random.default_rng(1)
    many = [(random.integers(0, 256, (4, 4), np.uint8),) for _ in range(50)]
    together = runner.run("mean", many)
    alone = [runner.run("mean", [row])[0] for row in many]
    assert [answer[0].tobytes() for answer in together] == [answer[0].tobytes() for answer in alone]


def test_memory_that_runs_out_halves_the_batch_and_is_remembered() -> None:
    network = SmallMemoryNetwork("16", "cuda", "fp32")
    runner = Runner(network, "small")
    assert [float(answer[0]) for answer in runner.run("mean", rows(20))] == list(range(20))
    signature = Signature.of("mean", rows(1)[0])
    assert runner.sizes[signature].largest == 2 and runner.meter.halvings == 3
    before = len(network.batches)
    runner.run("mean", rows(4))
    assert network.batches[before:] == [2, 2]


def test_memory_that_runs_out_in_mid_run_costs_no_row() -> None:
    network = SmallMemoryNetwork("3", "cuda", "fp32")
    runner = Runner(network, "small")
    runner.run("mean", rows(3))
    network.size = 3
    runner.sizes = {signature: type(sizes)((12,)) for signature, sizes in runner.sizes.items()}  # as if it had grown
    assert [float(answer[0]) for answer in runner.run("mean", rows(12))] == list(range(12))
    assert runner.meter.halvings == 2


def test_no_room_for_one_row_is_a_sentence_and_no_records_fault() -> None:
    runner = Runner(NoMemoryNetwork("8", "cuda", "fp32"), "huge")
    with pytest.raises(Unavailable, match="no room for one row"):
        runner.run("mean", rows(3))


def test_what_was_done_is_counted() -> None:
    runner = Runner(ShapelyNetwork("8", "cuda", "fp32"), "mean")
    runner.run("mean", rows(11))
    assert (runner.meter.rows, runner.meter.batches, runner.meter.padding) == (11, 2, 5)
