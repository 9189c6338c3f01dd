"""An index that no run wrote is refused with the file and the key, before its numbers decide about memory."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.shards import folder, samples

from curation.errors import CurationError
from curation.shards.reader import Shards

BUCKET = "1x32x48"
MISSING = object()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("shards"), "webdataset", [(BUCKET, samples(3)), (BUCKET, samples(2, 1))])


def changed(index: Any, keys: tuple[str | int, ...], value: Any) -> Any:
    place = index
    for key in keys[:-1]:
        place = place[key]
    if value is MISSING:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return index


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("vae", "latents_std", 0), 0, "a latents_std is not positive"),
        (("vae", "latents_std", 0), float("nan"), "latents_mean or latents_std are not finite"),
        (("vae", "latents_std", 0), 1e-60, "a latents_std is not positive"),
        (("vae", "latents_std", 0), 1e300, "latents_mean or latents_std are not finite"),
        (("vae", "latents_std", 0), -1, "a latents_std is not positive"),
        (("vae", "latents_std", 0), "1", r"index\.json: vae\.latents_std\[0\]: Input should be a valid number"),
        (("vae", "latents_std", 0), True, r"index\.json: vae\.latents_std\[0\]: "),
        (("vae", "latents_std"), [1.0], "4 channels, but 4 values of latents_mean and 1 of latents_std"),
        (("vae", "latents_mean"), {}, r"index\.json: vae\.latents_mean: Input should be a valid list"),
        (("vae", "channels"), 10**18, r"index\.json: vae\.channels: .* 4096"),
        (("vae", "channels"), 4.5, r"index\.json: vae\.channels: "),
        (("vae", "spatial_factor"), 0, r"index\.json: vae\.spatial_factor: .* 1 \(given: 0\)"),
        (("vae", "temporal_factor"), -1, r"index\.json: vae\.temporal_factor: .* 1 \(given: -1\)"),
        (("vae", "spatial_factor"), 5, r"sides of the bucket 1x32x48 are no multiples of the VAE's 5 pixels"),
        (("vae", "channels"), MISSING, r"index\.json lacks vae\.channels"),
        (("vae",), [], r"index\.json: vae: "),
        (("text", "dimensions"), 0, r"index\.json: text\.dimensions: "),
        (("null_text", "shape"), [1, 10**9], r"index\.json: null_text: fp16 holds 4 bytes, which the shape"),
        (("null_text", "fp16"), "?", r"index\.json: null_text: fp16 is not base64"),
        (("text_parts",), {"../x": {}}, r"index\.json: text_parts\."),
        (("text_parts",), {"t5": {"id": "t", "sha256": "", "dimensions": 8}}, r"text_parts\.t5\.null: Field required"),
        (("statistics",), None, r"index\.json: statistics: they are null beside a VAE"),
        (("statistics", "normalized_rms"), "1", r"index\.json: statistics\.normalized_rms: "),
        (("statistics", "mean"), None, r"index\.json: statistics\.mean: "),
        (("samples",), 6, r"index\.json: samples: it says 6, its shards have 5"),
        (("samples",), 10**30, r"index\.json: samples: "),
        (("nan_count",), -1, r"index\.json: nan_count: "),
        (("buckets",), {BUCKET: 4}, r"index\.json: buckets: they are not those of its shards"),
        (("media",), 7, r"index\.json: media: "),
        (("format_version",), [1], r"shards of format \[1\], this reader knows 1"),
        (("shards",), {}, r"index\.json: shards: Input should be a valid list"),
        (("shards", 0), "x", r"index\.json: shards\[0\]: "),
        (("shards", 1, "path"), f"{BUCKET}/00000.tar", r"index\.json: shards: 1x32x48/00000\.tar stands twice"),
        (("shards", 0, "path"), "../x.tar", r"index\.json: shards\[0\]\.path: a shard lies in the index's folder"),
        (("shards", 0, "path"), "/etc/x.tar", r"index\.json: shards\[0\]\.path: a shard lies in the index's folder"),
        (("shards", 0, "path"), "a\0.tar", r"index\.json: shards\[0\]\.path: a shard lies in the index's folder"),
        (("shards", 0, "path"), 7, r"index\.json: shards\[0\]\.path: Input should be a valid string"),
        (("shards", 0, "bucket"), "1x0x48", r"index\.json: shards\[0\]\.bucket: "),
        (("shards", 0, "bucket"), "1x-32x48", r"index\.json: shards\[0\]\.bucket: "),
        (("shards", 0, "bucket"), "1x99999999999x48", r"index\.json: shards\[0\]\.bucket: "),
        (("shards", 0, "bucket"), "999x99992x99992", r"shards\[0\]\.samples: 3 samples .*: their latents alone take"),
        (("shards", 0, "samples"), 10**18, r"index\.json: shards\[0\]\.samples: "),
        (("shards", 0, "samples"), -3, r"index\.json: shards\[0\]\.samples: "),
        (("shards", 0, "samples"), "3", r"index\.json: shards\[0\]\.samples: "),
        (("shards", 0, "bytes"), -1, r"index\.json: shards\[0\]\.bytes: "),
        (("shards", 0, "sha256"), "", r"index\.json: shards\[0\]\.sha256: "),
        (("shards", 0, "bytes"), MISSING, r"index\.json lacks shards\[0\]\.bytes"),
    ],
)
def test_a_value_that_no_run_writes_is_named(
    sound: Path, tmp_path: Path, keys: tuple[str | int, ...], value: Any, words: str
) -> None:
    index = changed(json.loads((sound / "index.json").read_text()), keys, value)
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(CurationError, match=words):
        Shards(str(tmp_path))


def test_counts_that_add_up_to_more_than_the_files_hold_are_refused(sound: Path, tmp_path: Path) -> None:
    index = json.loads((sound / "index.json").read_text())
    index["shards"][0]["samples"], index["samples"] = 9_000_000, 9_000_002
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(CurationError, match=r"shards\[0\]\.samples: 9,000,000 samples of 1x32x48 in [\d,]+ bytes"):
        Shards(str(tmp_path))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "7", '{"shards": ' + "9" * 5000 + "}"])
def test_what_is_no_object_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(CurationError, match=r"index\.json is damaged \("):
        Shards(str(tmp_path))
