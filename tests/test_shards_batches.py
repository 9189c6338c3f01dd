"""Batches of one bucket for any DataLoader: each sample once, shuffled, the same for all who ask, on any worker."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.shards import folder, samples
from helpers.training import NULL
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from curation.errors import CurationError, UsageError
from curation.shards import BucketBatchSampler, LatentDataset, Shards, collate

WIDE, TALL, SQUARE = "1x32x48", "1x48x32", "1x40x40"


class Index:
    """An index of shards without files: (bucket, samples) of each."""

    def __init__(self, *shards: tuple[str, int]) -> None:
        self.entries = [
            {"path": f"{bucket}/{i:05d}.tar", "bucket": bucket, "samples": samples, "sha256": str(i)}
            for i, (bucket, samples) in enumerate(shards)
        ]

    def bucket_of(self, number: int) -> str:
        for entry in self.entries:
            if number < entry["samples"]:
                return str(entry["bucket"])
            number -= entry["samples"]
        raise IndexError


@pytest.fixture(scope="module", params=["webdataset", "parquet"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """43 samples: twenty wide, twenty tall, three square; shards of twelve."""
    parts = [
        (bucket, samples(count, seed, bucket))
        for seed, (bucket, count) in enumerate([(WIDE, 12), (WIDE, 8), (TALL, 12), (TALL, 8), (SQUARE, 3)])
    ]
    return folder(tmp_path_factory.mktemp("shards"), request.param, parts, null_text=NULL)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loader_gives_all_samples_in_batches_of_one_bucket(root: Path, workers: int) -> None:
    data = LatentDataset(str(root))
    loader = DataLoader(data, batch_sampler=BucketBatchSampler(data, 16), collate_fn=collate, num_workers=workers)
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    assert sorted(identity for batch in batches for identity in batch["id"]) == sorted(
        sample.id for sample in data.shards
    )
    assert Counter(batch["bucket"] for batch in batches) == {WIDE: 2, TALL: 2, SQUARE: 1}
    shapes = {WIDE: (4, 6), TALL: (6, 4), SQUARE: (5, 5)}
    assert all(batch["latents"].shape[-2:] == shapes[batch["bucket"]] for batch in batches)


def test_each_epoch_has_another_order_and_other_draws_whatever_the_workers(root: Path) -> None:
    seen: list[list[dict[str, Any]]] = []
    for workers in (0, 2):
        data = LatentDataset(str(root))
        sampler = BucketBatchSampler(data, 8, seed=3)
        options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
        loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, **options)
        seen.append([batch for _ in range(2) for batch in loader])
        assert sampler.epoch == 2
    first, second = seen
    assert [batch["id"] for batch in first] == [batch["id"] for batch in second]
    assert all(torch.equal(a["latents"], b["latents"]) for a, b in zip(first, second, strict=True))
    half = len(first) // 2
    assert [batch["epoch"] for batch in first] == [0] * half + [1] * half
    assert [batch["step"] for batch in first] == list(range(1, half + 1)) * 2
    drawn = [
        {identity: x for batch in epoch for identity, x in zip(batch["id"], batch["latents"], strict=True)}
        for epoch in (first[:half], first[half:])
    ]
    assert drawn[0].keys() == drawn[1].keys() and all(not torch.equal(drawn[0][i], drawn[1][i]) for i in drawn[0])
    assert [batch["id"] for batch in first[:half]] != [batch["id"] for batch in first[half:]]


@pytest.mark.parametrize("done", [0, 1, 5, 8, 9])
def test_it_goes_on_in_the_middle_of_an_epoch(root: Path, done: int) -> None:
    data = LatentDataset(str(root))
    whole = BucketBatchSampler(data, 5, seed=1)
    expected = [*whole, *whole]
    stopped = BucketBatchSampler(data, 5, seed=1)
    passing = iter(stopped)
    for _ in range(done):
        next(passing)
    state = json.loads(json.dumps(stopped.state_dict()))
    resumed = BucketBatchSampler(data, 5, seed=1)
    resumed.load_state_dict(state)
    rest = [*resumed, *resumed]
    assert rest[: len(expected) - done] == expected[done:]
    assert resumed.epoch == 2 + (done == len(whole))


def test_a_loader_that_reads_ahead_goes_on_behind_the_batch_that_was_trained_on(root: Path) -> None:
    data = LatentDataset(str(root))
    sampler = BucketBatchSampler(data, 5)
    loader = iter(DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=2))
    trained = [next(loader) for _ in range(3)]
    resumed = BucketBatchSampler(data, 5)
    resumed.load_state_dict(sampler.state_dict(trained[-1]))
    again = [batch["id"] for batch in DataLoader(data, batch_sampler=resumed, collate_fn=collate)]
    assert [batch["id"] for batch in [*trained, *loader]] == [batch["id"] for batch in trained] + again


def test_a_second_pass_without_a_state_begins_at_the_beginning(root: Path) -> None:
    sampler = BucketBatchSampler(Shards(str(root)), 5)
    first = next(iter(sampler))
    assert next(iter(sampler)) == first
    sampler.set_epoch(7)
    other = next(iter(sampler))
    sampler.set_epoch(0)
    assert next(iter(sampler)) == first != other


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"batch_size": 6}, {"drop_last": True}, {"shuffle": False}, {"world_size": 2}]
)
def test_a_state_of_other_batches_is_refused(changes: dict[str, Any]) -> None:
    index = Index((WIDE, 40))
    state = BucketBatchSampler(index, 5).state_dict()
    with pytest.raises(CurationError, match=f"the sampler has another {next(iter(changes))}: its batches"):
        BucketBatchSampler(index, **{"batch_size": 5} | changes).load_state_dict(state)
    with pytest.raises(CurationError, match="another shards"):
        BucketBatchSampler(Index((WIDE, 41)), 5).load_state_dict(state)


def of_all_workers(index: Index, world: int, **options: Any) -> list[list[list[int]]]:
    """Steps, each with the batch of every worker."""
    workers = [BucketBatchSampler(index, rank=rank, world_size=world, **options) for rank in range(world)]
    passes = [list(worker) for worker in workers]
    assert {len(batches) for batches in passes} == {len(workers[0])}, "every worker has as many batches"
    return [list(step) for step in zip(*passes, strict=True)]


SHARDS = st.lists(st.tuples(st.sampled_from([WIDE, TALL, SQUARE]), st.integers(0, 30)), min_size=1, max_size=8)


@settings(max_examples=150)
@given(shards=SHARDS, batch=st.integers(1, 9), world=st.integers(1, 5), seed=st.integers(0, 9), shuffle=st.booleans())
def test_every_sample_comes_once_and_every_batch_has_one_bucket(
    shards: list[tuple[str, int]], batch: int, world: int, seed: int, shuffle: bool
) -> None:
    index = Index(*shards)
    total = sum(samples for _, samples in shards)
    if not total:
        with pytest.raises(CurationError, match="no bucket fills a batch: there are no samples"):
            BucketBatchSampler(index, batch)
        return
    steps = of_all_workers(index, world, batch_size=batch, seed=seed, shuffle=shuffle)
    batches = [mine for step in steps for mine in step]
    assert all(1 <= len(mine) <= batch for mine in batches)
    assert all(len({index.bucket_of(number) for number in mine}) == 1 for mine in batches)
    numbers = Counter(number for mine in batches for number in mine)
    assert set(numbers) == set(range(total))
    if world == 1 or (batch > 1 and total >= world):
        assert set(numbers.values()) == {1}
    elif set(numbers.values()) != {1}:
        assert sum(numbers.values()) - total < world


@settings(max_examples=60)
@given(shards=SHARDS, batch=st.integers(1, 9), world=st.integers(1, 4))
def test_with_drop_last_all_batches_are_full_and_the_next_epoch_leaves_out_others(
    shards: list[tuple[str, int]], batch: int, world: int
) -> None:
    index = Index(*shards)
    sizes = Counter[str]()
    for bucket, count in shards:
        sizes[bucket] += count
    kept = sum(count // (batch * world) * batch * world for count in sizes.values())
    if not kept:
        with pytest.raises(CurationError, match="no bucket fills a batch"):
            BucketBatchSampler(index, batch, world_size=world, drop_last=True)
        return
    steps = of_all_workers(index, world, batch_size=batch, drop_last=True)
    assert all(len(mine) == batch for step in steps for mine in step)
    assert all(len({index.bucket_of(number) for mine in step for number in mine}) == 1 for step in steps)
    numbers = [number for step in steps for mine in step for number in mine]
    assert len(numbers) == len(set(numbers)) == kept


def test_workers_share_a_step_of_one_bucket_but_for_samples_that_are_left_over() -> None:
    steps = of_all_workers(Index((WIDE, 20), (TALL, 20), (SQUARE, 3)), 4, batch_size=4)
    mixed = [step for step in steps if len({len(mine) for mine in step}) > 1 or sum(map(len, step)) == 3]
    assert len(steps) == 5 and len(mixed) <= 2


def test_few_shards_are_open_at_a_time() -> None:
    index = Index(*[(WIDE, 100)] * 40)
    sampler = BucketBatchSampler(index, 10, shuffle_shards=4)
    touched = [{number // 100 for number in batch} for batch in sampler]
    assert all(len(set().union(*touched[i : i + 40])) <= 4 for i in range(0, 400, 40))
    assert len(set().union(*touched)) == 40


def test_a_bucket_may_have_a_batch_size_of_its_own() -> None:
    index = Index((WIDE, 20), (SQUARE, 6))
    batches = list(BucketBatchSampler(index, {WIDE: 10, SQUARE: 2}))
    assert Counter(len(batch) for batch in batches) == {10: 2, 2: 3}
    with pytest.raises(UsageError, match=r"batch_size of the bucket 1x40x40 is None"):
        BucketBatchSampler(index, {WIDE: 10})
    with pytest.raises(UsageError, match="rank 2 of world_size 2"):
        BucketBatchSampler(index, 2, rank=2, world_size=2)
