"""Tars as the webdataset package and any tar reader see them."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from helpers.shards import samples

from curation.errors import CurationError
from curation.shards.webdataset import TarShard, write


def test_the_webdataset_package_reads_them(tmp_path: Path) -> None:
    written = samples(20, logvar="full")
    write(tmp_path / "00000.tar", written)
    read = list(webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in read] == [sample.id for sample in written]
    for ours, theirs in zip(written, read, strict=True):
        assert np.array_equal(theirs["latent_mean.npy"], ours.mean)
        assert np.array_equal(theirs["latent_logvar.npy"], ours.logvar)
        meta = theirs["json"]
        assert [len(text) for text in ours.texts] == meta.get("text_lengths", [])
        assert theirs["text.npy"].shape[0] == sum(meta.get("text_lengths", []))
        assert meta.get("captions", []) == ours.meta["captions"]


def test_headers_say_nothing_of_when_and_where(tmp_path: Path) -> None:
    write(tmp_path / "00000.tar", samples(3))
    with tarfile.open(tmp_path / "00000.tar") as tar:
        members = tar.getmembers()
    stems = [member.name.partition(".")[0] for member in members]
    assert stems == sorted(stems, key=stems.index)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert [m.name.partition(".")[2] for m in members[:4]] == [
        "json",
        "latent_mean.npy",
        "latent_logvar.npy",
        "text.npy",
    ]


def _tar(path: Path, members: dict[str, bytes]) -> pa.Buffer:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return pa.py_buffer(path.read_bytes())


def _npy(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


META = json.dumps({"id": "a", "text_lengths": [2]}).encode()


@pytest.mark.parametrize(
    ("mean", "text", "meta", "reason"),
    [
        (np.array([{"an": "object"}], object), np.zeros((2, 3), np.float16), META, "not fp16"),
        (np.zeros((2, 2), np.float32), np.zeros((2, 3), np.float16), META, "not fp16"),
        (np.zeros((2, 3), np.float16).T, np.zeros((2, 3), np.float16), META, "not fp16"),
        (
            np.zeros((2, 2), np.float16),
            np.zeros((3, 3), np.float16),
            META,
            "2 tokens in all, but 3 token states",
        ),
        (np.zeros((2, 2), np.float16), np.zeros((2, 3), np.float16), b"{", "EOF while parsing"),
        (np.zeros((2, 2), np.float16), np.zeros((2, 3), np.float16), b'{"id": "a"}', "but 2 token states"),
    ],
)
def test_foreign_content_is_refused(tmp_path: Path, mean: object, text: object, meta: bytes, reason: str) -> None:
    members = {"a.json": meta, "a.latent_mean.npy": _npy(mean), "a.text.npy": _npy(text)}
    with pytest.raises(CurationError, match=f"the sample a is incomplete or damaged .*{reason}"):
        list(TarShard(_tar(tmp_path / "x.tar", members), "x.tar"))


def test_no_pickle_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    body = b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O'} " + pickle.dumps(Evil())
    members = {"a.json": META, "a.latent_mean.npy": body, "a.text.npy": body}
    with pytest.raises(CurationError, match="not fp16"):
        list(TarShard(_tar(tmp_path / "x.tar", members), "x.tar"))
    assert not (tmp_path / "ran").exists()
