"""Global batches: a pure function of (index, seed, step), whatever the workers; small buckets told; ratios kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shards import folder, samples
from helpers.training import NULL

from curation.errors import CurationError, UsageError
from curation.shards.reader import Shards
from curation.trainer.config import TrainConfig
from curation.trainer.data import Batches, caption_weights
from curation.trainer.schedule import Bucket, Schedule, buckets_of

WIDE, SQUARE, CLIP = "1x32x48", "1x64x64", "5x32x32"


@pytest.fixture(params=["webdataset", "parquet"])
def shards(request: pytest.FixtureRequest, tmp_path: Path) -> Shards:
    parts = [(WIDE, samples(30)), (WIDE, samples(11, seed=1)), (SQUARE, samples(5, seed=2, bucket=SQUARE))]
    return Shards(str(folder(tmp_path / "shards", request.param, parts, null_text=NULL)))


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"model": "DiT-tiny/2", "batch": 8, "shuffle_shards": 1} | changes)


def joined(micro: list[dict[str, Any]], key: str) -> Any:
    return [x for batch in micro for x in batch[key]]


def same_batches(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> bool:
    tensors = all(torch.equal(torch.stack(joined(a, k)), torch.stack(joined(b, k))) for k in ("latents", "noise", "u"))
    return tensors and joined(a, "id") == joined(b, "id") and joined(a, "caption") == joined(b, "caption")


def test_workers_and_micro_batches_are_slices_of_one_batch(shards: Shards) -> None:
    whole = Batches(shards, config())
    for world, accumulate in ((2, 1), (3, 1), (2, 2), (1, 4)):
        parts = [Batches(shards, config(accumulate=accumulate), rank, world) for rank in range(world)]
        for step in (0, 7, 1003):
            cut = [micro for part in parts for micro in part[step]]
            assert len(cut) == world * accumulate
            assert same_batches(whole[step], cut)
            assert {batch["size"] for batch in cut} == {8}


def test_threads_read_ahead_in_order(shards: Shards) -> None:
    for threads in (1, 3):
        batches = Batches(shards, config(loader_threads=threads))
        for step, micro in enumerate(batches.stream(4, 30), start=4):
            assert same_batches(micro, batches[step])


def test_an_epoch_has_each_sample_at_most_once_and_the_next_another_order(shards: Shards) -> None:
    batches = Batches(shards, config())
    steps = batches.schedule.epoch_steps
    assert steps == 41 // 8
    epochs = [
        [int(n) for s in range(e * steps, e * steps + steps) for n in batches.schedule[s].numbers] for e in (0, 1)
    ]
    assert all(len(set(numbers)) == len(numbers) == 40 for numbers in epochs)
    assert epochs[0] != epochs[1] and batches.schedule[steps].epoch == 1
    assert set(epochs[0]) | set(epochs[1]) <= set(range(41))


def test_another_seed_is_another_order_with_other_noise(shards: Shards) -> None:
    assert not same_batches(Batches(shards, config())[0], Batches(shards, config(seed=1))[0])


def test_posterior_noise_and_captions_are_drawn_anew_each_time(shards: Shards) -> None:
    batches = Batches(shards, config())
    seen: dict[str, list[torch.Tensor]] = {}
    for step in range(10):
        (batch,) = batches[step]
        for identity, latents in zip(batch["id"], batch["latents"], strict=True):
            seen.setdefault(identity, []).append(latents)
    twice = [drawn for drawn in seen.values() if len(drawn) > 1]
    assert twice and all(not torch.equal(drawn[0], drawn[1]) for drawn in twice)
    spread = torch.stack([drawn[0] - drawn[1] for drawn in twice])[:, 1:].std()
    assert float(spread) == pytest.approx(np.exp(-3) * 2**0.5, rel=0.1)
    mean = Batches(shards, config(sample_posterior=False))[0][0]
    at = mean["id"].index(mean["id"][0])
    number = next(i for i in range(46) if shards[i].id == mean["id"][at])
    assert np.array_equal(mean["latents"][at], shards.normalize(shards[number].mean))


def test_timesteps_are_spread_over_the_batch(shards: Shards) -> None:
    u = Batches(shards, config())[3][0]["u"]
    assert (u * 8).floor().tolist() == list(range(8))


def test_buckets_too_small_are_told_with_their_cost(shards: Shards) -> None:
    assert Batches(shards, config()).report() == [
        "46 samples in 2 buckets, 5 steps an epoch",
        "bucket 1x64x64 has 5 samples and a batch takes 8: 5 samples (10.9%) are never used",
    ]
    with pytest.raises(CurationError, match="no bucket fills a batch: 1x32x48 has 41 of 64, 1x64x64 has 5 of 64"):
        Batches(shards, config(batch=64))


def test_a_budget_of_tokens(shards: Shards) -> None:
    """1x32x48 are 2x3 patches, 1x64x64 are 4x4."""
    buckets = {bucket.name: bucket.batch for bucket in Batches(shards, config(tokens=48)).schedule.buckets}
    assert buckets == {WIDE: 8, SQUARE: 3}


def test_a_patch_that_does_not_divide_is_told(shards: Shards) -> None:
    with pytest.raises(CurationError, match="bucket 1x32x48 has latents of 4x6, which patches of 4x4 do not divide"):
        Batches(shards, config(model="DiT-tiny/4"))


def test_a_batch_that_cannot_be_cut_is_told(shards: Shards) -> None:
    with pytest.raises(UsageError, match="global batch of 8 cannot be cut for 4 workers x 3 micro-batches"):
        Batches(shards, config(accumulate=3), 0, 4)


def test_a_shard_without_samples_is_told() -> None:
    with pytest.raises(CurationError, match=r"1x32x48/00001.tar of the bucket 1x32x48 has no samples"):
        entries = [{"path": f"{WIDE}/{i:05d}.tar", "bucket": WIDE, "samples": n} for i, n in enumerate((8, 0))]
        buckets_of(entries, [(4, 1, 4, 6)] * 2, 8)


def test_a_misspelt_caption_source_is_refused(shards: Shards) -> None:
    (known,) = {source for sample in shards for source in sample.meta["caption_sources"]}
    with pytest.raises(UsageError, match=f"source '{known}x'; did you mean '{known}'.; there are: {known}"):
        Batches(shards, config(captions={f"{known}x": 1.0}))
    Batches(shards, config(captions={known: 1.0, "absent": 0.0}))


def test_caption_dropout_gives_the_stored_null_embedding(shards: Shards) -> None:
    batch = Batches(shards, config(caption_dropout=1.0))[0][0]
    assert batch["caption"] == [""] * 8
    assert all(np.array_equal(text, shards.null_text()) for text in batch["text"])
    told = [Batches(shards, config(caption_dropout=0.25))[s][0]["caption"] for s in range(100)]
    with_captions = [Batches(shards, config(caption_dropout=0.0))[s][0]["caption"] for s in range(100)]
    dropped = sum(
        a == "" and b != "" for x, y in zip(told, with_captions, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert dropped / sum(b != "" for y in with_captions for b in y) == pytest.approx(0.25, abs=0.06)


def test_captions_by_their_sources() -> None:
    (sample,) = (s for s in samples(3) if len(s.texts) == 2)
    sample.meta["caption_sources"] = ["alt", "vlm"]
    assert caption_weights(sample, None).tolist() == [1, 1]
    assert caption_weights(sample, {"vlm": 3, "other": 1}).tolist() == [0, 3]


def bucket(name: str, shards: list[int], batch: int) -> Bucket:
    starts = np.cumsum([0, *shards])
    return Bucket(name, (4, 1, 4, 4), tuple(zip(starts[:-1].tolist(), shards, strict=True)), batch)


def test_images_and_videos_in_the_wanted_ratio() -> None:
    schedule = Schedule([bucket(SQUARE, [100], 10), bucket(CLIP, [40], 4)], seed=0, images=0.7)
    names = [schedule[step].bucket.name for step in range(1000)]
    assert names.count(SQUARE) == 700
    assert all(abs(names[:n].count(SQUARE) - 0.7 * n) <= 1 for n in range(1, 1000))
    firsts = [schedule[s].numbers for s in range(100) if names[s] == SQUARE][:10]
    assert len(np.unique(np.concatenate(firsts))) == 100
    with pytest.raises(CurationError, match=r"images is 0\.5, but no bucket of videos fills a batch"):
        Schedule([bucket(SQUARE, [100], 10)], seed=0, images=0.5)


def test_few_shards_are_open_at_a_time() -> None:
    """Samples are shuffled among `window` shards: consecutive batches touch few of them."""
    schedule = Schedule([bucket(SQUARE, [50] * 40, 10)], seed=0, window=4)
    touched = [{int(n) // 50 for n in schedule[step].numbers} for step in range(200)]
    assert all(len(set().union(*touched[i : i + 20])) == 4 for i in range(0, 200, 20))
    assert len(set().union(*touched)) == 40
