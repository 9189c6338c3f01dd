"""Names: each picture and video is a record of its own, with its captions, in tars and in folders."""

import itertools
import unicodedata
from pathlib import Path

import pytest
from helpers.tars import source_rows, write_folder, write_tar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.sources.fetch import fetch
from curation.sources.kinds import MEDIA, extension_of, stem_of
from curation.sources.pairing import PARTS, fold, pair

QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def captions(base: Path, *names: str, size: int = 2) -> dict[str, list[str]]:
    """Captions by key of a tar with these members; texts say their own names."""
    write_tar(base / "x.tar", [(name, name.encode()) for name in names])
    rows = source_rows(base, size, webdataset="x.tar")
    assert [row.error for row in rows] == [None] * len(rows)
    assert len({row.uri for row in rows}) == len({row.key for row in rows}) == len(rows)
    return {row.key: list(row.captions) for row in rows}


def test_dots_in_a_name_are_part_of_it(tmp_path: Path) -> None:
    names = [f"harbour.{i:03d}.{extension}" for i in range(1, 6) for extension in ("jpg", "txt")]
    assert captions(tmp_path, "22.05.png", "22.05.txt", *names) == {
        "22.05": ["22.05.txt"],
        **{f"harbour.{i:03d}": [f"harbour.{i:03d}.txt"] for i in range(1, 6)},
    }


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["v1.2/0001.jpg", "v1.2/0001.txt"], {"v1.2/0001": ["v1.2/0001.txt"]}),
        (["0001.jpg", "0001.seg.png", "0001.cls", "0001.txt"], {"0001": ["0001.txt"]}),
        (["0001.mp4", "0001.thumb.jpg", "0001.txt"], {"0001": ["0001.txt"]}),
        (["0001.left.jpg", "0001.right.jpg", "0001.txt"], {"0001.left": ["0001.txt"], "0001.right": ["0001.txt"]}),
        (
            ["0001.left.jpg", "0001.left.txt", "0001.right.jpg", "0001.txt"],
            {"0001.left": ["0001.left.txt"], "0001.right": ["0001.txt"]},
        ),
        (["0001.seg.png"], {"0001.seg": []}),
        (["pier.jpg", "pier.txt", "pier.2.jpg"], {"pier": ["pier.txt"], "pier.2": []}),
        (["pier.jpg", "pier.2.jpg", "pier.2.txt"], {"pier": [], "pier.2": ["pier.2.txt"]}),
        (["IMG_1.JPG", "IMG_1.MOV", "IMG_1.txt"], {"IMG_1.JPG": ["IMG_1.txt"], "IMG_1.MOV": ["IMG_1.txt"]}),
        (["3.png", "3.jpg", "3.txt", "3.png.txt"], {"3.png": ["3.png.txt", "3.txt"], "3.jpg": ["3.txt"]}),
        (["DSC.JPG", "dsc.Caption", "DSC.TXT"], {"DSC": ["DSC.TXT", "dsc.Caption"]}),
        (["A.jpg", "a.jpg", "a.txt"], {"A": [], "a": ["a.txt"]}),
        (["caf\u00e9.jpg", "cafe\u0301.txt"], {"caf\u00e9": ["cafe\u0301.txt"]}),
        (["wait....jpg", "wait....txt", "._wait.jpg", ".DS_Store"], {"wait...": ["wait....txt"]}),
        (["Mr. Smith.jpg", "Mr. Jones.jpg", "Mr. Jones.txt"], {"Mr. Smith": [], "Mr. Jones": ["Mr. Jones.txt"]}),
    ],
)
def test_what_lies_beside_what(tmp_path: Path, names: list[str], found: dict[str, list[str]]) -> None:
    for order in itertools.islice(itertools.permutations(names), 24):
        for size in (1, 99):
            assert captions(tmp_path, *order, size=size) == found


def test_a_text_without_a_picture_of_its_name_is_a_row_that_says_so(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("harbour.1.jpg", b"x"), ("harbour.2.txt", b"t"), ("harbour.2.cls", b"1")])
    good, bad = source_rows(tmp_path, webdataset="x.tar")
    assert (good.key, good.captions, good.error) == ("harbour.1", [], None)
    assert bad.key == "harbour.2" and "no picture or video among harbour.2.txt, harbour.2.cls" in str(bad.error)


def test_a_member_of_a_name_that_was_there_is_a_row_of_its_own(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("1.jpg", b"first"), ("1.jpg", b"second"), ("1.txt", b"t"), ("1.txt", b"u")])
    good, *bad = source_rows(tmp_path, webdataset="x.tar")
    assert fetch(good.uri, max_bytes=9) == b"first" and good.captions == ["t"]
    assert ["two of its members have one name: 1." in str(row.error) for row in bad] == [True, True]


def test_a_caption_that_is_cut_or_a_link_is_an_error_of_its_picture(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("a.1.jpg", b"x"), ("a.2.jpg", b"y"), ("a.2.txt", b"t" * 2000)])
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[: 2048 + 700])
    good, bad = source_rows(tmp_path, webdataset="x.tar")
    assert (good.key, good.error, bad.key) == ("a.1", None, "a.2") and "'a.2.txt': the archive is cut" in str(bad.error)


def test_very_many_pictures_of_one_beginning_are_cut_into_chunks(tmp_path: Path) -> None:
    names = [f"frame.{i:05d}.{extension}" for i in range(3000) for extension in ("jpg", "txt")]
    assert captions(tmp_path, *names, size=64) == {f"frame.{i:05d}": [f"frame.{i:05d}.txt"] for i in range(3000)}


WORDS = st.text(st.sampled_from("ab.Aé1_ -ß"), min_size=1, max_size=6).map(lambda word: f"n{word}z")
MEDIA_NAMES = st.sampled_from(["jpg", "JPG", "png", "webp", "mp4", "MOV"])
STYLES = st.sampled_from(["{stem}.txt", "{stem}.TXT", "{stem}.caption", "{stem}.{media}.txt", "{other}.txt"])
PICTURES = st.lists(st.tuples(WORDS, MEDIA_NAMES, STYLES), max_size=8, unique_by=lambda one: fold(one[0]))


@QUICK
@given(pictures=PICTURES, size=st.integers(1, 5), order=st.randoms())
def test_captions_land_with_their_pictures(tmp_path: Path, pictures: list, size: int, order: object) -> None:  # type: ignore[type-arg]
    """Unique names with dots, capitals and accents; each has one caption, named in one of the usual ways."""
    members = [("0.jpg", b"0.jpg"), ("0.txt", b"0")]
    expected = {"0.jpg": "0"}
    for stem, media, style in pictures:
        other = unicodedata.normalize("NFD", stem).swapcase() if "ß" not in stem else stem
        pairs = [(f"{stem}.{media}", f"{stem}.{media}".encode())]
        pairs.append((style.format(stem=stem, media=media, other=other), f"about {stem}".encode()))
        order.shuffle(pairs)  # type: ignore[attr-defined]
        members += pairs
        expected[f"{stem}.{media}"] = f"about {stem}"
    write_tar(tmp_path / "x.tar", members)
    found = source_rows(tmp_path, size, webdataset="x.tar")
    assert {fetch(row.uri, max_bytes=99).decode(): "".join(row.captions) for row in found} == expected
    assert [row.error for row in found] == [None] * len(expected)
    folder = tmp_path / f"f{abs(hash(tuple(members)))}"
    write_folder(folder, members)
    assert {row.key: "".join(row.captions) for row in source_rows(folder, size, folder=".")} == expected


NAMES = st.builds(
    lambda parts, folder: folder + ".".join(parts),
    st.lists(st.sampled_from(["a", "A", "1", "seg", "left", "jpg", "png", "mp4", "txt", "json", "npy"]), min_size=1),
    st.sampled_from(["", "", "d.1/"]),
)


@given(names=st.lists(NAMES, max_size=12, unique=True), dotted=st.booleans())
def test_every_file_is_a_medium_or_lies_beside_one_or_is_alone(names: list[str], dotted: bool) -> None:
    paired, alone = pair(names, dotted)
    media = {one.medium for one in paired}
    beside = {i for one in paired for _, i in one.beside}
    assert sorted([*media, *beside, *alone]) == list(range(len(names))) and len(media) == len(paired)
    for i in set(range(len(names))) - media:
        name = names[i]
        assert extension_of(name) not in MEDIA or (dotted and stem_of(name).rpartition(".")[2].lower() in PARTS)


@QUICK
@given(names=st.lists(NAMES, min_size=1, max_size=12), size=st.integers(1, 5))
def test_every_picture_of_a_tar_is_a_record_or_a_row_with_an_error(tmp_path: Path, names: list[str], size: int) -> None:
    """Any names in any order: a record for each, or a row that says why not, alike in chunks of any size."""
    write_tar(tmp_path / "x.tar", [(name, b"{}") for name in names])
    found = source_rows(tmp_path, size, webdataset="x.tar")
    sound = [row.uri for row in found if not row.error]
    media = [name for name in names if extension_of(name) in MEDIA and stem_of(name).rpartition(".")[2] != "seg"]
    assert len(set(sound)) == len(sound) and len(found) >= len(media)
    assert found == source_rows(tmp_path, 99, webdataset="x.tar")
