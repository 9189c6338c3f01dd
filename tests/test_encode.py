"""From a decision to shards: what is in them, and that nothing but the decision decides it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from skimage import data

from curation.encoding.reconstruct import psnr_db
from curation.errors import NothingKept, UsageError
from curation.models import open_model, registry
from curation.models.patch_torchvision import patch_torchvision
from curation.phases import reselect, run
from curation.reporting.ledger import Ledger
from curation.shards.containers import container_of, open_shard
from curation.shards.reader import Shards
from curation.shards.sample import Sample
from curation.stores.storage import Store
from curation.threads import one_thread

SCORE = """\
name: encode
source: {table: captions.jsonl, media: file, caption: captions}
score: [resolution, phash]
select: {keep: "%s", duplicates: {on: phash, threshold: 3, prefer: [width]}}
"""
ENCODE = "encode: {size: 64, buckets: aspect, reconstructions: 2, batch: 3, shards: {samples: 4}}\n"
ALL = "width > 0"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 different pictures with captions, four of which have a larger near duplicate."""
    folder = tmp_path_factory.mktemp("pictures")
    photos = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "cat", "coffee", "rocket", "chelsea")]
    rows: list[dict[str, Any]] = []

    def add(picture: Image.Image, name: str) -> None:
        picture.save(folder / name)
        rows.append({"file": name, "captions": [f"a photo, {name}", f"part {len(rows)}"][: len(rows) % 3]})

    for i in range(18):
        x, y = 12 * i, 9 * (i % 7)
        part = photos[i % 5].crop((x % 150, y, x % 150 + 110 + 20 * (i % 4), y + 120))
        add(part, f"{i:02d}.png")
        if i < 4:
            add(part.resize((part.width * 2, part.height * 2), Image.Resampling.BICUBIC), f"{i:02d}-large.png")
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def corpus(pictures: Path, tmp_path: Path) -> Path:
    """A copy to spoil, with manifest.yaml (all of it) and score.yaml (without `encode:`)."""
    folder = tmp_path / "corpus"
    shutil.copytree(pictures, folder)
    (folder / "score.yaml").write_text(SCORE % ALL)
    (folder / "manifest.yaml").write_text(SCORE % ALL + ENCODE)
    return folder


def go(manifest: Path, out: Path, *overrides: str, retry: bool = False) -> Ledger:
    return run(str(manifest), str(out), overrides, engine="inline", retry=retry)


def everything(out: Path) -> dict[str, bytes]:
    files = [out / "selection.parquet", *(out / "shards").rglob("*"), *(out / "reconstructions").rglob("*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in files if file.is_file()}


def decided(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of selection.parquet by file name."""
    names = {row["id"]: Path(row["source_uri"]).name for row in scores(out)}
    return {names[row["id"]]: row for row in pq.read_table(out / "selection.parquet").to_pylist()}


def scores(out: Path) -> list[dict[str, Any]]:
    return [row for file in sorted((out / "scores").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def sound(out: Path) -> Shards:
    """The shards, which hold just what was kept, in full shards with dense numbers."""
    shards = Shards(str(out / "shards"))
    kept = [row["id"] for row in decided(out).values() if row["decision"] == "kept"]
    assert sorted(sample.id for sample in shards) == sorted(kept)
    by_bucket: dict[str, list[dict[str, Any]]] = {}
    for entry in shards.entries:
        by_bucket.setdefault(entry["bucket"], []).append(entry)
    for bucket, entries in by_bucket.items():
        assert [entry["path"] for entry in entries] == [f"{bucket}/{i:05d}.tar" for i in range(len(entries))]
        assert all(entry["samples"] == 4 for entry in entries[:-1])
    on_disk = {str(path.relative_to(out / "shards")) for path in (out / "shards").rglob("*") if path.is_file()}
    assert on_disk == {*shards.paths, "index.json"}
    return shards


def test_a_sample_holds_what_the_models_say_of_the_pictures_pixels(corpus: Path, tmp_path: Path) -> None:
    go(corpus / "manifest.yaml", tmp_path / "run")
    shards, by_id = sound(tmp_path / "run"), {row["id"]: row for row in scores(tmp_path / "run")}
    assert len(shards) == 18 and len(shards.index["buckets"]) > 1
    vae, text = open_model("vae", "embedded"), open_model("text", "embedded")
    for sample in shards:
        row, meta = by_id[sample.id], sample.meta
        picture = Image.open(row["source_uri"]).convert("RGB")
        size = (meta["target_width"], meta["target_height"])
        pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box=tuple(meta["crop_ltrb"])))
        with one_thread():  # the last bit depends on it
            mean, logvar = vae.encode(
                torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].contiguous().float() / 127.5 - 1
            )
        assert np.array_equal(sample.mean[:, 0], mean[0].numpy().astype(np.float16))
        assert np.array_equal(sample.logvar[:, 0, 0, 0], logvar[0, :, 0, 0].numpy().astype(np.float16))  # type: ignore[index]
        assert meta["captions"] == row["captions"] and meta["caption_sources"] == ["source"] * len(row["captions"])
        assert [t.tolist() for t in sample.texts] == [t.tolist() for t in text.tokens(row["captions"])]
        assert (meta["original_width"], meta["original_height"]) == (meta["width"], meta["height"]) == picture.size
        assert meta["scores"]["min_side"] == min(picture.size) and "captions" not in meta["scores"]
        assert {"media": "image", "frames": 1, "frame_start": 0, "frame_step": 1}.items() <= meta.items()


def test_the_index_says_how_latents_were_made(corpus: Path, tmp_path: Path) -> None:
    go(corpus / "manifest.yaml", tmp_path / "run")
    shards = sound(tmp_path / "run")
    index, vae = shards.index, open_model("vae", "embedded")
    assert index["vae"]["sha256"] == registry.describe("vae", "embedded").sha256
    assert (index["vae"]["latents_mean"], index["vae"]["latents_std"]) == (
        list(vae.latents_mean),
        list(vae.latents_std),
    )
    assert np.array_equal(shards.null_text(), open_model("text", "embedded").tokens([""])[0])
    assert index["nan_count"] == 0 and 0.5 < index["statistics"]["normalized_rms"] < 1.5
    flat = np.concatenate([sample.mean.astype(np.float64).reshape(16, -1) for sample in shards], axis=1)
    assert index["statistics"]["mean"] == pytest.approx(flat.mean(1), abs=2e-6)
    assert index["statistics"]["std"] == pytest.approx(flat.std(1), abs=2e-6)
    assert index["statistics"]["rms"] == pytest.approx(np.sqrt((flat**2).mean(1)), abs=2e-6)
    normal = np.concatenate([shards.normalize(sample.mean).ravel() for sample in shards]).astype(np.float64)
    assert index["statistics"]["normalized_rms"] == pytest.approx(np.sqrt((normal**2).mean()), abs=1e-5)


def test_reconstructions_show_the_picture_beside_its_latent(corpus: Path, tmp_path: Path) -> None:
    go(corpus / "manifest.yaml", tmp_path / "run")
    folder, ids = tmp_path / "run/reconstructions", sorted(sample.id for sample in sound(tmp_path / "run"))
    psnr = json.loads((folder / "psnr.json").read_text())
    assert sorted(psnr["samples"]) == ids[:2] == sorted(path.stem for path in folder.glob("*.png"))
    for identity, value in psnr["samples"].items():
        left, right = np.hsplit(np.asarray(Image.open(folder / f"{identity}.png")), 2)
        assert value == pytest.approx(psnr_db(left, right), abs=0.01) and value > 15


def test_the_order_of_the_source_and_the_batch_do_not_matter(corpus: Path, tmp_path: Path) -> None:
    go(corpus / "manifest.yaml", tmp_path / "one")
    lines = (corpus / "captions.jsonl").read_text().splitlines(keepends=True)
    (corpus / "captions.jsonl").write_text("".join(reversed(lines)))
    go(corpus / "manifest.yaml", tmp_path / "two", "engine.rows_per_chunk=5")
    assert everything(tmp_path / "one") == everything(tmp_path / "two")


def test_parquet_shards_hold_the_same_samples(corpus: Path, tmp_path: Path) -> None:
    go(corpus / "manifest.yaml", tmp_path / "run")
    tars = [(s.id, s.mean.tobytes(), [t.tobytes() for t in s.texts], s.meta) for s in sound(tmp_path / "run")]
    go(corpus / "manifest.yaml", tmp_path / "run", "encode.shards.format=parquet")
    parquet = Shards(str(tmp_path / "run/shards"))
    assert {Path(path).suffix for path in parquet.paths} == {".parquet"}
    assert [(s.id, s.mean.tobytes(), [t.tobytes() for t in s.texts], s.meta) for s in parquet] == tars


def test_without_enlarging_small_pictures_are_dropped(corpus: Path, tmp_path: Path) -> None:
    ledger = go(corpus / "manifest.yaml", tmp_path / "run", "encode.size=128", "encode.upscale=false")
    small = [row for row in decided(tmp_path / "run").values() if row["stage"] == "encode"]
    assert small and all(row["decision"] == "dropped" for row in small)
    assert all(row["reason"].startswith("smaller than its bucket 1x") for row in small)
    assert ledger.kept == len(sound(tmp_path / "run"))
    assert all(s.meta["width"] >= s.meta["target_width"] for s in sound(tmp_path / "run"))


def test_a_file_that_vanished_or_changed_is_quarantined_and_replaced(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(corpus / "score.yaml", out)
    (corpus / "02-large.png").unlink()
    Image.open(corpus / "09.png").rotate(180).save(corpus / "09.png")
    ledger = go(corpus / "manifest.yaml", out)
    rows = decided(out)
    assert rows["02-large.png"]["decision"] == rows["09.png"]["decision"] == "quarantined"
    assert rows["02-large.png"]["error"].endswith("02-large.png does not exist")
    assert rows["09.png"]["error"] == "the file changed since it was scored: `curate run --retry` scores it again"
    assert rows["02.png"]["decision"] == "kept"  # the next best of its duplicates
    assert (ledger.kept, len(sound(out))) == (17, 17)


def test_a_finished_run_with_failures_is_left_as_it_is(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(corpus / "score.yaml", out)
    for name in ("00.png", "02-large.png", "09.png", "17.png"):
        (corpus / name).unlink(missing_ok=True)
    go(corpus / "manifest.yaml", out)
    before = everything(out)
    registry._open.clear()
    go(corpus / "manifest.yaml", out)
    assert everything(out) == before
    assert not registry._open, "a finished run loads no model"
    assert json.loads((out / "run.json").read_text())["phases"]["encode"]["records"] == len(sound(out))


def test_a_plain_select_revives_no_record_that_encode_quarantined(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(corpus / "score.yaml", out)
    (corpus / "05.png").unlink()
    go(corpus / "manifest.yaml", out)
    before = decided(out)
    assert before["05.png"]["decision"] == "quarantined"
    reselect(str(out), ())
    assert decided(out) == before
    reselect(str(out), ["select.keep=['height < 0 or min_side > 0']"])
    assert decided(out)["05.png"]["decision"] == "quarantined"


def test_retry_takes_back_a_file_that_returned(corpus: Path, tmp_path: Path) -> None:
    go(corpus / "manifest.yaml", tmp_path / "whole")
    out = tmp_path / "run"
    go(corpus / "score.yaml", out)
    (corpus / "05.png").rename(corpus / "away")
    go(corpus / "manifest.yaml", out)
    (corpus / "away").rename(corpus / "05.png")
    go(corpus / "manifest.yaml", out)
    assert decided(out)["05.png"]["decision"] == "quarantined"
    go(corpus / "manifest.yaml", out, retry=True)
    assert everything(out) == everything(tmp_path / "whole")


def _lose_index(out: Path) -> None:
    (out / "shards/index.json").unlink()


def _lose_reports(out: Path) -> None:
    for file in (out / "_work/encode").rglob("*.json"):
        file.unlink()


def _lose_half(out: Path) -> None:
    for file in sorted((out / "_work/encode").rglob("*"))[::2]:
        if file.is_file():
            file.unlink()


def _lose_a_shard(out: Path) -> None:
    sorted((out / "shards").rglob("*.tar"))[1].unlink()


def _lose_all_shards(out: Path) -> None:
    shutil.rmtree(out / "shards")


def _stray_files(out: Path) -> None:
    (out / "shards/1x64x64/00099.tar").write_bytes(b"stale")
    (out / "shards/1x8x8").mkdir()
    (out / "shards/1x8x8/00000.parquet").write_bytes(b"stale")


def _staged_but_not_placed(out: Path) -> None:
    """As if it had been killed between the reports and the first move."""
    _lose_index(out)
    for report in (out / "_work/encode").rglob("*.json"):
        if "facts" not in report.parts:
            stem = report.relative_to(out / "_work/encode").with_suffix(".tar")
            staged = out / "_work/encode/staged" / stem
            staged.parent.mkdir(parents=True, exist_ok=True)
            path = json.loads(report.read_text())["shard"]["path"]
            (out / "shards" / path).rename(staged)


@pytest.mark.parametrize(
    "lose",
    [
        _lose_index,
        _lose_reports,
        _lose_half,
        _lose_a_shard,
        _lose_all_shards,
        _stray_files,
        _staged_but_not_placed,
    ],
)
def test_what_is_lost_is_made_again(corpus: Path, tmp_path: Path, lose: Callable[[Path], None]) -> None:
    out = tmp_path / "run"
    go(corpus / "score.yaml", out)
    (corpus / "07.png").unlink()
    go(corpus / "manifest.yaml", out)
    before = everything(out)
    lose(out)
    go(corpus / "manifest.yaml", out)
    assert everything(out) == before


def test_a_moved_threshold_computes_nothing_that_is_there(corpus: Path, tmp_path: Path) -> None:
    out, narrow = tmp_path / "run", f"select.keep={json.dumps('width > 140')}"
    go(corpus / "manifest.yaml", out)
    whole = everything(out)
    registry._open.clear()
    go(corpus / "manifest.yaml", out, narrow, "encode.reconstructions=0")
    assert 0 < len(sound(out)) < 18
    assert not registry._open, "fewer of the same records need no model"
    go(corpus / "manifest.yaml", tmp_path / "fresh", narrow, "encode.reconstructions=0")
    assert everything(out) == everything(tmp_path / "fresh")
    go(corpus / "manifest.yaml", out)
    assert everything(out) == whole


def test_an_altered_shard_is_not_used_again(corpus: Path, tmp_path: Path) -> None:
    out, other_deal = tmp_path / "run", "encode.shards.samples=3"
    go(corpus / "manifest.yaml", out)
    for path in (out / "shards").rglob("*.tar"):
        spoilt = bytearray(path.read_bytes())
        spoilt[len(spoilt) // 2] ^= 1
        path.write_bytes(spoilt)
    go(corpus / "manifest.yaml", out, other_deal)
    go(corpus / "manifest.yaml", tmp_path / "fresh", other_deal)
    assert everything(out) == everything(tmp_path / "fresh")


def autoencoder_kl(folder: Path) -> Any:
    """diffusers' architecture, tiny, at random weights, saved as the hub has them."""
    patch_torchvision()
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.18215,
    )
    model.save_pretrained(folder)
    return model.eval()


def test_a_diffusers_vae_stores_its_raw_posterior(corpus: Path, tmp_path: Path) -> None:
    model = autoencoder_kl(tmp_path / "vae")
    out = tmp_path / "run"
    go(corpus / "manifest.yaml", out, f"encode.vae=diffusers:{tmp_path / 'vae'}")
    index = json.loads((out / "shards/index.json").read_text())
    assert index["vae"]["latents_std"] == pytest.approx([1 / 0.18215] * 4) and index["vae"]["spatial_factor"] == 8
    uris = {row["id"]: row["source_uri"] for row in scores(out)}
    for sample in open_shard(Store(str(out / "shards")), index["shards"][0]["path"]):
        size = (sample.meta["target_width"], sample.meta["target_height"])
        picture = Image.open(uris[sample.id]).convert("RGB")
        pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box=tuple(sample.meta["crop_ltrb"])))
        with torch.inference_mode():
            posterior = model.encode(
                torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].contiguous() / 127.5 - 1
            ).latent_dist
        assert sample.mean[:, 0] == pytest.approx(posterior.mean[0].numpy(), abs=2e-3)
        assert sample.logvar is not None and sample.logvar.shape == sample.mean.shape
        assert sample.logvar[:, 0] == pytest.approx(posterior.logvar[0].numpy(), abs=2e-3)


def test_another_precision_is_another_latent_and_stands_in_the_index(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(corpus / "manifest.yaml", out)
    exact = {sample.id: sample.latents.astype(np.float32) for sample in sound(out)}
    assert sound(out).index["vae"]["precision"] == "fp32"
    go(corpus / "manifest.yaml", out, "encode.precision=bf16")
    assert sound(out).index["vae"]["precision"] == "bf16"
    moved = [np.abs(sample.latents - exact[sample.id]).mean() / exact[sample.id].std() for sample in sound(out)]
    assert all(0 < each < 0.02 for each in moved)


def test_latents_that_are_not_numbers_never_reach_a_shard(corpus: Path, tmp_path: Path) -> None:
    model = autoencoder_kl(tmp_path / "vae")
    with torch.no_grad():
        model.encoder.conv_in.weight[0, 0, 0, 0] = float("nan")
    model.save_pretrained(tmp_path / "vae")
    with pytest.raises(NothingKept):
        go(corpus / "manifest.yaml", tmp_path / "run", f"encode.vae=diffusers:{tmp_path / 'vae'}")
    rows = decided(tmp_path / "run").values()
    failed = [row["error"] for row in rows if row["decision"] == "quarantined"]
    assert len(failed) == len(rows) and set(failed) == {"the VAE gave values that are NaN or infinite in fp16"}
    assert json.loads((tmp_path / "run/shards/index.json").read_text())["shards"] == []


def test_work_files_name_no_time_and_no_worker(corpus: Path, tmp_path: Path) -> None:
    for name in "ab":
        go(corpus / "manifest.yaml", tmp_path / name)
    work = [
        {
            str(path.relative_to(tmp_path / name)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name / "_work/encode").rglob("*")
            if path.is_file()
        }
        for name in "ab"
    ]
    assert work[0] == work[1]


def first_sample(out: Path) -> Sample:
    path = sorted((out / "shards").rglob("*.tar"))[0]
    return open_shard(Store(str(path.parent)), path.name)[0]


def test_no_more_captions_than_asked_are_stored(corpus: Path, tmp_path: Path) -> None:
    go(corpus / "manifest.yaml", tmp_path / "run", "encode.captions=1", "encode.logvar=false")
    samples = list(sound(tmp_path / "run"))
    assert {len(sample.texts) for sample in samples} == {0, 1}
    assert all(sample.logvar is None for sample in samples)
    assert container_of("x.tar").suffix == ".tar" and first_sample(tmp_path / "run").logvar is None


def test_a_device_that_is_not_there_is_a_sentence(corpus: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match=r"embedded:autoencoder\S* shall compute on a GPU, and there is none"):
        go(corpus / "manifest.yaml", tmp_path / "run", "encode.device=cuda")


def test_an_object_store_gets_the_same_shards(corpus: Path, tmp_path: Path) -> None:
    go(corpus / "manifest.yaml", tmp_path / "disk")
    url = f"memory://{tmp_path.name}/run"
    for _ in "ab":
        run(str(corpus / "manifest.yaml"), url, (), engine="inline")
    files = Store(url)
    remote = {entry.name: files.read(entry.name) for entry in files.list()}
    for name, body in everything(tmp_path / "disk").items():
        assert remote[name] == body
    assert len([name for name in remote if name.startswith("shards/")]) == len(Shards(f"{url}/shards").paths) + 1
    assert not [name for name in remote if "staged" in name]
