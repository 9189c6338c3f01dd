"""What both containers promise: every byte back, the same file for the same samples, damage is a sentence."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.shards import same, samples

from curation.errors import CurationError
from curation.shards.containers import CONTAINERS, Container, container_of, open_shard
from curation.shards.sample import MediaFile, Sample
from curation.stores.storage import Store


@pytest.fixture(params=["webdataset", "parquet"])
def container(request: pytest.FixtureRequest) -> Container:
    return CONTAINERS[request.param]


@pytest.mark.parametrize("logvar", ["constant", "full", "none"])
def test_samples_come_back_to_the_byte(container: Container, tmp_path: Path, logvar: str) -> None:
    written = samples(150, logvar=logvar)
    path = tmp_path / f"00000{container.suffix}"
    container.write(path, iter(written))
    for root in (str(tmp_path), f"memory://{tmp_path.name}-{logvar}"):
        Store(root).put(path.name, path)
        shard = open_shard(Store(root), path.name)
        assert len(shard) == 150
        assert all(same(a, b) for a, b in zip(written, shard, strict=True))
        assert all(same(written[i], shard[i]) for i in (149, 0, 63, 64, 7, 128))


def test_text_parts_come_back_by_name(container: Container, tmp_path: Path) -> None:
    """Of samples with none, one and two captions; names that could be taken for those of other columns too."""
    written = samples(70)
    for i, sample in enumerate(written):
        for width, name in ((5, "clip_g_pooled"), (3, "shape"), (2, "lengths_of_x")):
            sample.parts[name] = [np.full((1 + k, width), i + k, np.float16) for k in range(len(sample.texts))]
    container.write(tmp_path / "s", written)
    read = list(container.open(pa.py_buffer((tmp_path / "s").read_bytes()), "s"))
    assert all(same(a, b) for a, b in zip(written, read, strict=True))
    assert {"part_lengths", "text_lengths"}.isdisjoint(read[2].meta)


def test_a_sample_that_lacks_a_part_is_not_taken_for_whole(tmp_path: Path) -> None:
    written = samples(3)
    written[1].parts["t5"] = [np.zeros((2, 2), np.float16)]
    with pytest.raises(pa.ArrowInvalid, match="with and without"):
        CONTAINERS["parquet"].write(tmp_path / "s", written)


def test_the_same_samples_give_the_same_bytes(container: Container, tmp_path: Path) -> None:
    for name in "ab":
        container.write(tmp_path / name, samples(70))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_cut_anywhere_is_refused(container: Container, tmp_path: Path) -> None:
    container.write(tmp_path / "whole", samples(5))
    data = (tmp_path / "whole").read_bytes()
    end = len(data) if container.suffix == ".parquet" else len(data.rstrip(b"\0")) // 512 * 512 + 512
    for size in np.linspace(0, end - 1, 60, dtype=int):
        with pytest.raises(CurationError, match=r"x/00000 .*cut short.*encode it again"):
            list(container.open(pa.py_buffer(data[:size]), "x/00000"))


def test_noise_is_refused(container: Container) -> None:
    noise = np.random.default_rng(0).bytes(4096)
    with pytest.raises(CurationError, match="encode it again"):
        list(container.open(pa.py_buffer(noise), "x/00000"))


def test_a_position_past_the_end_is_an_index_error(container: Container, tmp_path: Path) -> None:
    container.write(tmp_path / "s", samples(3))
    with pytest.raises(IndexError):
        container.open(pa.py_buffer((tmp_path / "s").read_bytes()), "s")[3]


def test_a_shard_is_written_from_a_stream(container: Container, tmp_path: Path) -> None:
    """A shard of 200 MB is written within 120 MB above the interpreter."""
    script = f"""
import resource, numpy as np
from pathlib import Path
from curation.shards.containers import CONTAINERS
from curation.shards.sample import Sample
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mean = np.zeros((16, 1, 160, 160), np.float16)
stream = (Sample(f"{{i:032x}}", mean + np.float16(i), None, [], {{}}) for i in range(256))
container = next(c for c in CONTAINERS.values() if c.suffix == {container.suffix!r})
container.write(Path({str(tmp_path / "shard")!r}), stream)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    megabytes = int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout)
    assert megabytes < 120
    assert (tmp_path / "shard").stat().st_size > 200_000_000


def test_other_files_are_no_shards() -> None:
    with pytest.raises(CurationError, match=r"00000\.npz is no latent shard: they end in \.tar or \.parquet"):
        container_of("00000.npz")


def with_media(count: int, latents: bool, size: int = 500) -> list[Sample]:
    rng = np.random.default_rng(1)
    made = samples(count)
    for i, sample in enumerate(made):
        sample.media = MediaFile("mp4", rng.bytes(size + i))
        if not latents:
            sample.mean = sample.logvar = None
    return made


@pytest.mark.parametrize("latents", [True, False])
@pytest.mark.parametrize("name", CONTAINERS)
def test_media_come_back_to_the_byte(tmp_path: Path, name: str, latents: bool) -> None:
    container, written = CONTAINERS[name], with_media(70, latents)
    for file in "ab":
        container.write(tmp_path / file, written)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = container.open(pa.py_buffer((tmp_path / "a").read_bytes()), "a")
    for position in (0, 69, 33):
        ours, theirs = written[position], read[position]
        assert ours.media and theirs.media and bytes(theirs.media.data) == ours.media.data
        assert (theirs.id, theirs.media.suffix, theirs.meta) == (ours.id, "mp4", ours.meta)
        assert same(ours, theirs) if latents else (theirs.mean, theirs.logvar) == (None, None)


def test_row_groups_of_heavy_samples_are_small(tmp_path: Path) -> None:
    """One random access reads about 32 MB, not 64 clips."""
    write = CONTAINERS["parquet"].write
    write(tmp_path / "s.parquet", with_media(10, latents=False, size=11_000_000))
    file = pq.ParquetFile(tmp_path / "s.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 2, 2, 2, 2]
    shard = CONTAINERS["parquet"].open(pa.py_buffer((tmp_path / "s.parquet").read_bytes()), "s")
    assert [len(sample.media.data) for sample in (shard[9], shard[2])] == [11_000_009, 11_000_002]  # type: ignore[union-attr]


def test_a_sample_with_neither_latents_nor_media_is_refused(tmp_path: Path) -> None:
    empty = with_media(1, latents=False)
    empty[0].media = None
    CONTAINERS["webdataset"].write(tmp_path / "a.tar", empty)
    with pytest.raises(CurationError, match=r"incomplete or damaged \(no latent_mean\.npy\)"):
        list(CONTAINERS["webdataset"].open(pa.py_buffer((tmp_path / "a.tar").read_bytes()), "a.tar"))
