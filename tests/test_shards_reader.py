"""What a trainer is given, and every way in which a folder of shards is refused."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shards import VAE, folder, same, samples

from curation.errors import CurationError
from curation.shards.dataset import LatentDataset, collate
from curation.shards.reader import Shards

WIDE, SQUARE = "1x32x48", "1x64x64"


@pytest.fixture(params=["webdataset", "parquet"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    shards = [(WIDE, samples(70)), (WIDE, samples(3, seed=1)), (SQUARE, samples(5, seed=2, bucket=SQUARE))]
    return folder(tmp_path / "shards", request.param, shards)


def shard_files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix in (".tar", ".parquet"))


def test_samples_by_number_and_in_order(root: Path) -> None:
    written = [*samples(70), *samples(3, seed=1), *samples(5, seed=2, bucket=SQUARE)]
    shards = Shards(str(root), vae=VAE)
    assert len(shards) == 78
    assert all(same(a, b) for a, b in zip(written, shards, strict=True))
    assert all(same(written[i], shards[i]) for i in (77, 0, 69, 70, 72, 73))
    assert [sample.id for sample in shards.read(1)] == [sample.id for sample in written[70:73]]
    with pytest.raises(IndexError):
        shards[78]


def test_a_reader_travels_to_workers(root: Path) -> None:
    shards = Shards(str(root))
    first = shards[0]
    assert same(pickle.loads(pickle.dumps(shards))[0], first)


def test_latents_are_unit_scaled_by_the_vaes_own_numbers(root: Path) -> None:
    shards = Shards(str(root))
    raw = shards[0].mean.astype(np.float32)
    scaled = shards.normalize(shards[0].mean)
    assert np.array_equal(scaled[0], (raw[0] - 0.5) / 2) and np.array_equal(scaled[1:], raw[1:])


def test_the_null_embedding(root: Path) -> None:
    assert Shards(str(root)).null_text().tolist() == [[0.0, 1.0]]


def index_with(root: Path, **changes: Any) -> None:
    index = json.loads((root / "index.json").read_text())
    (root / "index.json").write_text(json.dumps(index | changes))


def test_a_folder_without_an_index_is_refused(root: Path) -> None:
    (root / "index.json").unlink()
    with pytest.raises(CurationError, match=r"holds no index\.json: .* or its run did not end"):
        Shards(str(root))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format_version": 99}, "shards of format 99, this reader knows 1"),
        ({"nan_count": 3}, "holds 3 latents that are NaN or infinite"),
        ({"statistics": {"normalized_rms": float("nan")}}, "the normalised latents of the samples have an RMS of nan"),
    ],
)
def test_an_index_that_promises_nothing_good_is_refused(root: Path, changes: dict[str, Any], reason: str) -> None:
    index_with(root, **changes)
    with pytest.raises(CurationError, match=reason):
        Shards(str(root))


@pytest.mark.parametrize("rms", [0.18, 3.44, 5.5])
def test_unusual_content_is_no_reason_to_refuse(root: Path, rms: float) -> None:
    index_with(root, statistics={"normalized_rms": rms})
    assert len(LatentDataset(str(root))) == 78


FIGURES = {"mean": [0.5, 0.0, 0.0, 0.0], "rms": [4.031129, 2.0, 2.0, 2.0], "normalized_rms": 2.0}
"""Of latents with a mean of 0.5 and a spread of 4 in the first channel, under a scaling of 0.5 and 2."""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"latents_std": [2.0, 1, 1, 0.5]}, "RMS of 2 when they were made, but latents_mean and latents_std give 2.65"),
        ({"latents_std": [0.18215] * 4}, "of the samples had an RMS of 2 when they were made"),
        ({"latents_mean": [9.0, 0, 0, 0]}, "of the samples had an RMS of 2 when they were made"),
        ({"latents_std": [2.0, 1, 1, 0]}, "not positive"),
        ({"latents_std": [2.0, 1, 1, -1]}, "not positive"),
        ({"latents_std": [2.0, 1, 1, float("nan")]}, "not finite"),
        ({"latents_mean": [0.5, 0, 0, float("inf")]}, "not finite"),
        ({"latents_mean": [], "latents_std": []}, "4 channels, but 0 values of latents_mean and 0 of latents_std"),
    ],
)
@pytest.mark.parametrize("measured", ["statistics", "calibration"])
def test_a_scaling_that_is_not_the_vaes_is_refused(
    root: Path, changes: dict[str, Any], reason: str, measured: str
) -> None:
    vae = json.loads((root / "index.json").read_text())["vae"]
    facts: dict[str, Any] = {"vae": vae, "statistics": FIGURES}
    if measured == "calibration":
        facts = {"vae": vae | {"calibration": FIGURES}, "statistics": {"normalized_rms": 1.0}}
        reason = reason.replace("of the samples", "of the picture that the VAE was tried on")
    index_with(root, **facts)
    assert len(Shards(str(root))) == 78
    index_with(root, **facts | {"vae": facts["vae"] | changes})
    with pytest.raises(CurationError, match=re.escape(reason)):
        Shards(str(root))


def test_a_damaged_index_is_refused(root: Path) -> None:
    (root / "index.json").write_text("{")
    with pytest.raises(CurationError, match=r"index\.json is damaged .*: run the manifest again"):
        Shards(str(root))
    (root / "index.json").write_text("{}")
    with pytest.raises(CurationError, match=r"lacks format_version, shards, .*not written by this program"):
        Shards(str(root))


def test_latents_of_another_vae_are_refused(root: Path) -> None:
    with pytest.raises(CurationError, match=r"holds latents of the VAE test \(c0ffee000000\), not of beefbeefbeef"):
        Shards(str(root), vae="beef" * 16)


def test_a_missing_shard_is_refused(root: Path) -> None:
    shard_files(root)[0].unlink()
    with pytest.raises(CurationError, match=r"1x32x48/00000\.\w+ is in the index but cannot be read"):
        Shards(str(root))[0]


def test_a_shard_cut_short_is_refused(root: Path) -> None:
    path = shard_files(root)[1]
    path.write_bytes(path.read_bytes()[:-600])
    shards = Shards(str(root))
    shards[0]
    with pytest.raises(CurationError, match=r"00001\.\w+ has [\d,]+ bytes, the index says [\d,]+: it is cut short"):
        shards[70]


def test_one_flipped_bit_is_refused(root: Path) -> None:
    path = shard_files(root)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CurationError, match=r"does not have the sha256 that the index says: it was altered"):
        Shards(str(root))[0]


def test_a_shard_of_another_bucket_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, "webdataset", [(WIDE, samples(2) + samples(1, bucket=SQUARE))])
    shards = Shards(str(root))
    shards[1]
    with pytest.raises(CurationError, match=r"has the shape \(4, 1, 8, 8\), the bucket's is \(4, 1, 4, 6\)"):
        shards[2]


def test_a_shard_with_other_counts_is_refused(root: Path) -> None:
    index = json.loads((root / "index.json").read_text())
    index["shards"][0]["samples"] = 71
    index_with(root, shards=index["shards"], samples=79)
    with pytest.raises(CurationError, match="holds 70 samples, the index says 71"):
        Shards(str(root))[0]


def test_items_are_tensors_of_one_draw(root: Path) -> None:
    dataset = LatentDataset(str(root), vae=VAE)
    item, again = dataset[2], dataset[2]
    assert item["latents"].shape == (4, 1, 4, 6) and item["latents"].dtype == torch.float32
    assert torch.equal(item["latents"], again["latents"])
    assert item["caption"] in dataset.shards[2].meta["captions"] and item["bucket"] == WIDE
    chosen = dataset.shards[2].meta["captions"].index(item["caption"])
    assert np.array_equal(item["text"].numpy(), dataset.shards[2].texts[chosen])
    dataset.epoch = 1
    assert not torch.equal(item["latents"], dataset[2]["latents"])


def test_draws_follow_the_posterior(tmp_path: Path) -> None:
    sample = samples(1, logvar="full")[0]
    dataset = LatentDataset(str(folder(tmp_path, "webdataset", [(WIDE, [sample])])))
    draws = []
    for dataset.epoch in range(2000):
        draws.append(dataset[0]["latents"].numpy())
    scale = np.array([2, 1, 1, 1], np.float32).reshape(-1, 1, 1, 1)
    spread = np.exp(sample.logvar.astype(np.float64) / 2) / scale  # type: ignore[union-attr]
    expected = dataset.shards.normalize(sample.mean)
    assert np.abs((np.mean(draws, 0) - expected) / spread).max() < 5 / np.sqrt(2000)
    assert np.abs(np.std(draws, 0) / spread - 1).max() < 0.1


def test_without_sampling_the_mean_is_given(root: Path) -> None:
    dataset = LatentDataset(str(root), sample=False)
    assert np.array_equal(dataset[5]["latents"].numpy(), dataset.shards.normalize(dataset.shards[5].mean))


def test_a_sample_without_a_caption_has_the_null_text(root: Path) -> None:
    item = LatentDataset(str(root))[0]
    assert item["caption"] == "" and item["text"].tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_same_with_any_number_of_workers(root: Path, workers: int) -> None:
    dataset = LatentDataset(str(root))
    wanted = [i for i in range(70) if i % 3]
    subset = torch.utils.data.Subset(dataset, wanted)
    loader = torch.utils.data.DataLoader(subset, batch_size=8, num_workers=workers, collate_fn=collate)
    batches = list(loader)
    assert [identity for batch in batches for identity in batch["id"]] == [dataset.shards[i].id for i in wanted]
    assert torch.equal(batches[0]["latents"][1], dataset[wanted[1]]["latents"])
    first = batches[0]
    lengths = [len(dataset[i]["text"]) for i in wanted[:8]]
    assert first["text_mask"].sum(1).tolist() == lengths and first["text"].shape == (8, max(lengths), 8)
    assert not first["text"][~first["text_mask"]].any()


def test_a_batch_of_two_buckets_is_refused(root: Path) -> None:
    dataset = LatentDataset(str(root))
    with pytest.raises(CurationError, match="a batch holds latents of one bucket, this one 1x32x48, 1x64x64"):
        collate([dataset[0], dataset[77]])


def test_media_that_the_index_promises_must_be_there(root: Path) -> None:
    index_with(root, media={"video": {"crf": 18}})
    with pytest.raises(CurationError, match=r"has no media, which the index promises: encode it again"):
        Shards(str(root))[0]


def test_shards_without_latents_or_texts_say_so(root: Path) -> None:
    index_with(root, vae=None, statistics=None, text=None, null_text=None)
    shards = Shards(str(root))
    for wanted in (lambda: shards.vae, lambda: shards.shape(0), shards.null_text):
        with pytest.raises(CurationError, match=r"holds media and no latents|holds no text states"):
            wanted()
    with pytest.raises(CurationError, match="the bucket's is None"):  # a shard of latents under such an index
        shards[0]
