"""Tars: members by their place, rows before any damage, nothing extracted, nothing lost in silence."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tars import Members, source_rows
from helpers.tars import write_tar as write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import CurationError, UsageError
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources import open_source, read_chunk
from curation.sources.fetch import fetch
from curation.stores.storage import Store


def rows(base: Path, pattern: str = "x.tar", size: int = 2, **more: Any) -> list[SourceRow]:
    return source_rows(base, size, webdataset=pattern, **more)


def samples(count: int) -> list[tuple[str, bytes]]:
    return [
        (f"{i:04d}.{extension}", data)
        for i in range(count)
        for extension, data in (("jpg", b"picture %d" % i), ("txt", b"caption %d" % i))
    ]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_member_and_the_original_key_are_kept(tmp_path: Path, form: int) -> None:
    meta = {"caption": "from json", "url": "https://x.org/1.jpg", "width": 5}
    members = [
        ("./a/0001.jpg", b"picture"),
        ("./a/0001.txt", b"from txt\n"),
        ("./a/0001.json", json.dumps(meta).encode()),
        ("./a/0001.cls", b"7"),
        ("./a/0001.seg.png", b"mask"),
        ("./a/0001.npy", b"\x93NUMPY"),
    ]
    write(tmp_path / "x.tar", members, form)
    (row,) = rows(tmp_path)
    assert (row.key, row.captions, row.error) == ("a/0001", ["from txt", "from json"], None)
    assert fetch(row.uri, max_bytes=99) == b"picture"
    assert {k: v for k, v in row.extra.items() if k not in ("seg.png", "npy")} == {
        "url": "https://x.org/1.jpg",
        "width": 5,
        "cls": "7",
    }
    for extension, data in (("seg.png", b"mask"), ("npy", b"\x93NUMPY")):
        place = row.extra[extension]
        uri = f"{tmp_path}/x.tar#offset={place['offset']}&size={place['size']}"
        assert fetch(uri, max_bytes=99) == data


def test_the_manifest_may_name_json_fields_for_caption_and_key(tmp_path: Path) -> None:
    write(
        tmp_path / "x.tar",
        [("1.jpg", b"x"), ("1.json", b'{"alt": ["a", "b"], "uid": "u1"}'), ("1.txt", b"t")],
    )
    (row,) = rows(tmp_path, caption="alt", key="uid")
    assert (row.key, row.captions, row.extra) == ("u1", ["a", "b"], {"uid": "u1", "txt": "t"})


def test_members_that_come_back_are_an_error_beside_the_first_ones(tmp_path: Path) -> None:
    write(
        tmp_path / "x.tar",
        [("1.jpg", b"x"), ("2.jpg", b"y"), ("1.txt", b"t"), ("3.jpg", b"z"), ("2.txt", b"t")],
    )
    for size in (1, 2, 3, 99):
        found = rows(tmp_path, size=size)
        assert [row.key for row in found] == ["1", "2", "1", "3", "2"]
        assert [bool(row.error) for row in found] == [False, False, True, False, True]
        assert "members of '1' are not adjacent" in str(found[2].error)


@pytest.mark.parametrize("hostile", ["../../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "..\\x.jpg"])
def test_a_hostile_name_is_an_error_and_never_a_path(tmp_path: Path, hostile: str) -> None:
    write(tmp_path / "x.tar", [("1.jpg", b"x"), (hostile, b"evil"), ("2.jpg", b"y")])
    found = rows(tmp_path)
    assert [bool(row.error) for row in found] == [False, True, False]
    assert "leads outside the archive" in str(found[1].error) and found[1].uri == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.tar"]


def test_links_and_devices_are_errors_folders_and_dotfiles_are_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in [
            ("a", tarfile.DIRTYPE),
            ("a/1.jpg", tarfile.SYMTYPE),
            ("a/2.jpg", tarfile.LNKTYPE),
            ("a/3.jpg", tarfile.CHRTYPE),
            ("a/4.jpg", tarfile.FIFOTYPE),
            ("a/._5.jpg", tarfile.REGTYPE),
            ("a/5.jpg", tarfile.REGTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    found = rows(tmp_path)
    assert [row.key for row in found] == ["a/1", "a/2", "a/3", "a/4", "a/5"]
    assert ["a link, a device" in str(row.error) for row in found] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("1.txt", b"alone")], "no picture or video among 1.txt"),
        ([("1.jpg", b"x"), ("1.txt", b"\xff")], "1.txt is not UTF-8"),
        ([("1.jpg", b"x"), ("1.json", b"{")], "its json member is not JSON"),
        ([("1.jpg", b"x"), ("1.json", b'{"caption": 5}')], "'caption' holds int, not text"),
        ([("k" * 1001 + ".jpg", b"x")], "its header makes no sense"),
    ],
)
def test_a_sample_that_is_no_record_says_why(tmp_path: Path, members: Members, reason: str) -> None:
    write(tmp_path / "x.tar", [("0.jpg", b"before"), *members, ("z.jpg", b"after")])
    before, bad, after = rows(tmp_path)
    assert (before.error, after.error) == (None, None) and reason in str(bad.error)


def test_a_cut_archive_gives_the_rows_before_and_one_error(tmp_path: Path) -> None:
    write(tmp_path / "whole.tar", samples(20))
    data = (tmp_path / "whole.tar").read_bytes()
    for cut in range(379, 20 * 2048, 379):
        (tmp_path / "x.tar").write_bytes(data[:cut])
        found = rows(tmp_path, size=3)
        good = [row for row in found if not row.error]
        assert [row.key for row in good] == [f"{i:04d}" for i in range(len(good))]
        assert len(good) in (cut // 2048, cut // 2048 + 1)
        assert all(fetch(row.uri, max_bytes=99) == b"picture %d" % i for i, row in enumerate(good))
        assert len(found) - len(good) == (0 if cut % 1024 == 0 else 1)
        assert all("cut at byte" in str(row.error) for row in found[len(good) :])


def test_damage_in_the_middle_is_one_error_and_what_follows_is_said_to_be_lost(tmp_path: Path) -> None:
    write(tmp_path / "x.tar", samples(10))
    data = bytearray((tmp_path / "x.tar").read_bytes())
    data[5 * 2048 : 5 * 2048 + 512] = b"\xaa" * 512
    (tmp_path / "x.tar").write_bytes(data)
    for size in (1, 5, 99):
        found = rows(tmp_path, size=size)
        assert [bool(row.error) for row in found] == [False] * 5 + [True]
        assert "damaged or cut at byte 10240" in str(found[-1].error) and "nothing after it" in str(found[-1].error)


@pytest.mark.parametrize(("data", "why"), [(b"<html>" * 1000, "damaged or cut"), (b"\x1f\x8b" * 600, "is compressed")])
def test_what_is_no_tar_gives_one_error(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    (row,) = rows(tmp_path)
    assert why in str(row.error)


@pytest.mark.parametrize("data", [b"", bytes(10240)])
def test_a_tar_without_samples_is_said_to_be_empty(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(UsageError, match=r"x\.tar is a tar without samples: it is empty"):
        rows(tmp_path)


def test_a_header_that_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    info = tarfile.TarInfo("1.jpg")
    info.size, info.type = 8 << 30, tarfile.XHDTYPE
    write(tmp_path / "x.tar", [("0.jpg", b"x")])
    data = (tmp_path / "x.tar").read_bytes()[:1024] + info.tobuf() + bytes(2048)
    (tmp_path / "x.tar").write_bytes(data)
    good, bad = rows(tmp_path)
    assert good.key == "0" and "damaged" in str(bad.error)


def test_ranges_read_archives_in_order_and_a_missing_one_is_named(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"{i:03d}.tar", [(f"{i}a.jpg", b"x"), (f"{i}b.jpg", b"x")])
    assert [row.key for row in rows(tmp_path, "{000..002}.tar")] == ["0a", "0b", "1a", "1b", "2a", "2b"]
    with pytest.raises(CurationError, match=r"003\.tar does not exist"):
        rows(tmp_path, "{000..003}.tar")
    with pytest.raises(UsageError, match=r"x\.tar\.gz is not a \.tar; unpack it first"):
        rows(tmp_path, "x.tar.gz")


def test_the_first_chunk_of_a_large_archive_costs_few_bytes(tmp_path: Path, bytes_read: Callable[[], int]) -> None:
    costs = []
    for count in (500, 20_000):
        write(tmp_path / f"{count}.tar", samples(count))
        before = bytes_read()
        source = open_source(SourceSection(webdataset=f"{count}.tar"), str(tmp_path), Store(str(tmp_path)))
        first = next(iter(source.chunks(64)))
        assert len(list(read_chunk(first))) == 64
        estimate = source.estimate()
        costs.append(bytes_read() - before)
        assert estimate and abs(estimate.records / count - 1) < 0.1
    assert costs[1] < costs[0] + 100_000 < 2_000_000 < (tmp_path / "20000.tar").stat().st_size


NAMES = st.sampled_from(
    ["1.jpg", "1.txt", "2.jpg", "2.json", "3.png", "../4.jpg", "d/1.jpg", ".5.jpg", "6.txt", "7.npy"]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, max_size=12), size=st.integers(1, 4), cut=st.integers(0, 20_000))
def test_any_chunk_size_gives_the_rows_of_one_reading(tmp_path: Path, names: list[str], size: int, cut: int) -> None:
    write(tmp_path / "x.tar", [("0.jpg", b"first"), *((name, b"{}") for name in names)])
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[: max(cut, 1)])
    assert rows(tmp_path, size=size) == rows(tmp_path, size=1000)


def test_joined_tars_are_read_to_the_last(tmp_path: Path) -> None:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        write(tmp_path / "a.tar", samples(6), form)
        write(tmp_path / "b.tar", samples(6), form)
        joined = (tmp_path / "a.tar").read_bytes() + (tmp_path / "b.tar").read_bytes()
        (tmp_path / "x.tar").write_bytes(joined)
        for size in (1, 4, 5, 99):
            found = rows(tmp_path, size=size)
            assert [(row.key, row.captions, row.error) for row in found] == [
                (f"{i:04d}", [f"caption {i}"], None) for i in [*range(6), *range(6)]
            ]
            assert [fetch(row.uri, max_bytes=99) for row in found] == [b"picture %d" % i for i in [*range(6)] * 2]
        estimate = open_source(SourceSection(webdataset="x.tar"), str(tmp_path), Store(str(tmp_path))).estimate()
        assert str(estimate) == "12"


@pytest.mark.parametrize("tail", [b"<html>" * 200, b"\0" * 5000 + b"x", b"\0" * 700 + b"\x1f\x8b\x08"])
def test_what_follows_an_archive_and_is_no_tar_is_an_error(tmp_path: Path, tail: bytes) -> None:
    write(tmp_path / "x.tar", samples(3))
    with (tmp_path / "x.tar").open("ab") as file:
        file.write(tail)
    size = (tmp_path / "x.tar").stat().st_size
    expected = rows(tmp_path, size=99)
    assert [bool(row.error) for row in expected] == [False, False, False, True]
    assert f"to {size} follow the end of the archive and are no tar" in str(expected[-1].error)
    assert rows(tmp_path, size=1) == rows(tmp_path, size=3) == expected


def test_a_cut_archive_that_another_follows_is_accounted_for(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", samples(4))
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(data[: 3 * 2048] + data)
    assert [bool(row.error) for row in rows(tmp_path)] == [False] * 3 + [True] * 3 + [False]
    (tmp_path / "x.tar").write_bytes(data[: 3 * 2048 + 100] + data)
    found = rows(tmp_path)
    assert [bool(row.error) for row in found] == [False] * 3 + [True] and "nothing after it" in str(found[-1].error)


def test_a_folder_of_tars_is_read_in_order_and_what_is_compressed_is_said(tmp_path: Path) -> None:
    (tmp_path / "shards" / "b").mkdir(parents=True)
    for name in ("b/00001.tar", "00000.tar", "_old.tar", ".part.tar"):
        write(tmp_path / "shards" / name, [(f"{Path(name).stem}-{i}.jpg", b"x") for i in range(3)])
    (tmp_path / "shards" / "00000_stats.json").write_text("{}")
    for word in ("webdataset", "folder"):
        source = open_source(SourceSection(**{word: "shards"}), str(tmp_path), Store(str(tmp_path)))
        found = [row.key for chunk in source.chunks(2) for row in read_chunk(chunk)]
        assert found == [f"{tar}-{i}" for tar in ("00000", "00001") for i in range(3)]
        assert str(source.estimate()) == "6"
    (tmp_path / "shards" / "a.tar.gz").write_bytes(b"\x1f\x8b")
    found = rows(tmp_path, "shards")
    assert [bool(row.error) for row in found] == [False] * 3 + [True] + [False] * 3
    assert "a.tar.gz is compressed; unpack it first" in str(found[3].error)


@pytest.mark.parametrize("count", [5, 9])
def test_a_count_is_exact_or_called_an_estimate(tmp_path: Path, count: int) -> None:
    for i in range(count):
        write(tmp_path / f"{i}.tar", samples(i + 1))
    estimate = open_source(SourceSection(webdataset="*.tar"), str(tmp_path), Store(str(tmp_path))).estimate()
    assert str(estimate) == ("15" if count == 5 else "about 40")
