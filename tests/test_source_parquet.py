"""Parquet tables: any column of any Arrow type, any cell: what cannot be read costs its own row, or less."""

import datetime
import decimal
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import CurationError, UsageError
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources import open_source, read_chunk
from curation.sources.arrays import MAX_CELL
from curation.sources.fetch import fetch, file_uri
from curation.sources.pages import sizes_of
from curation.stores.storage import Store
from curation.video.reader import on_disk

FILES = [f"p/{i}.jpg" for i in range(4)]
CAPTIONS = [f"cloth {i}" for i in range(4)]


def read(base: Path, table: str, size: int = 3, **section: Any) -> list[SourceRow]:
    section = {"media": "file", "caption": "caption", **section}
    source = open_source(SourceSection(table=table, **section), str(base), Store(str(base / "_work")))
    return [row for chunk in source.chunks(size) for row in read_chunk(chunk)]


def write(path: Path, columns: dict[str, Any], **options: Any) -> None:
    pq.write_table(pa.table(columns), path, **options)


def invalid_utf8(texts: list[bytes]) -> pa.Array:
    """A string array whose cells are not checked."""
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(texts), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(texts))]
    )


def columns_of_every_type() -> dict[str, tuple[pa.Array, Any]]:
    """Name -> four cells of a type that Parquet stores, and what `extra` says of the second; None: not given."""
    day = datetime.datetime(2024, 2, 29, 12)
    ints = {kind: (pa.array([1, 2, None, 3], kind), 2) for kind in ("int8", "uint8", "int16", "uint32", "int64")}
    times = {
        f"timestamp[{unit}]": (pa.array([day] * 4, pa.timestamp(unit)), "2024-02-29 12:00:00") for unit in ("s", "us")
    }
    texts = ["a", "é", None, ""]
    struct = pa.array([{"w": 1, "b": b"1"}, {"w": 2, "b": b"2"}, None, {"w": None, "b": None}])
    return {
        **ints,
        **times,
        "bool": (pa.array([True, False, None, True]), False),
        "half": (pa.array(np.array([1, 1.5, 2, 3], np.float16)), 1.5),
        "float32": (pa.array([1, 0.25, None, float("nan")], pa.float32()), 0.25),
        "inf": (pa.array([1, float("inf"), None, 2.0]), None),
        "string": (pa.array(texts), "é"),
        "large_string": (pa.array(texts, pa.large_string()), "é"),
        "string_view": (pa.array(texts, pa.string_view()), "é"),
        "dictionary": (pa.array(texts).dictionary_encode(), "é"),
        "date32": (pa.array([day.date()] * 4), "2024-02-29"),
        "date out of range": (pa.array([0, 2**30, 1, 2], pa.int32()).cast(pa.date32()), 2**30),
        "year 20000": (pa.array([0, 568971820800000000, None, 1], pa.timestamp("us")), "20000-01-01 00:00:00.000000"),
        "unknown zone": (pa.array([0, 0, None, 1], pa.timestamp("us", "Mars/Olympus")), 0),
        "time": (pa.array([datetime.time(1, 2)] * 4), "01:02:00"),
        "duration": (pa.array([1, 2**62, None, 0], pa.duration("s")), 2**62),
        "decimal128": (pa.array([decimal.Decimal("1.50")] * 4), "1.50"),
        "decimal256": (pa.array([decimal.Decimal("1.50")] * 4, pa.decimal256(50, 2)), "1.50"),
        "null": (pa.nulls(4), None),
        "list": (pa.array([["a"], ["b", None], None, []]), ["b", None]),
        "large_list": (pa.array([[1], [2, 3], None, []], pa.large_list(pa.int8())), [2, 3]),
        "list_view": (pa.array([[1], [2, 3], None, []], pa.list_view(pa.int8())), [2, 3]),
        "fixed_size_list": (pa.array([[1, 2], [3, 4], None, [5, 6]], pa.list_(pa.int32(), 2)), [3, 4]),
        "list of structs": (pa.array([[{"x": 1}], [{"x": 2}], None, []]), [{"x": 2}]),
        "map": (pa.array([[], [("a", 1)], None, []], pa.map_(pa.string(), pa.int32())), [["a", 1]]),
        "struct": (struct, {"w": 2}),
        "fixed_size_binary": (pa.array([b"12"] * 4, pa.binary(2)), "3132"),
        "uuid": (pa.array([bytes(16)] * 4, pa.uuid()), "00000000-0000-0000-0000-000000000000"),
        "json": (pa.array(["{}"] * 4, pa.json_()), "{}"),
        "Latin-1": (invalid_utf8([b"a", "cirée".encode("latin-1"), b"c", b"d"]), "cir\ufffde"),
    }


def left_out() -> dict[str, pa.Array]:
    """Columns of bytes alone: they are no text, and may be large."""
    binary = [b"1", b"2", None, b"3"]
    return {
        "binary": pa.array(binary),
        "binary_view": pa.array(binary, pa.binary_view()),
        "dictionary of bytes": pa.array(binary).dictionary_encode(),
        "list of bytes": pa.array([binary] * 4),
        "map of bytes": pa.array([[("a", b"1")]] * 4, pa.map_(pa.string(), pa.binary())),
    }


@pytest.mark.parametrize("name", [*columns_of_every_type(), *left_out()])
@pytest.mark.parametrize("dotted", [False, True])
def test_a_further_column_of_any_type_and_name_costs_no_record(tmp_path: Path, name: str, dotted: bool) -> None:
    array, said = columns_of_every_type().get(name) or (left_out()[name], ...)
    column = "file.of.it" if dotted else "more"
    write(tmp_path / "t.parquet", {"file": FILES, column: array, "caption": CAPTIONS})
    found = read(tmp_path, "t.parquet")
    assert [(row.key, list(row.captions), row.error) for row in found] == [
        (file, [caption], None) for file, caption in zip(FILES, CAPTIONS, strict=True)
    ]
    if said is ...:
        assert [row.extra for row in found] == [{}] * 4
    else:
        assert found[1].extra == {column: said} and type(found[1].extra[column]) is type(said)
        json.dumps([row.extra for row in found], allow_nan=False)


@pytest.mark.parametrize("media", ["image.bytes", "image.path"])
def test_flattened_structs_are_columns_like_any_other(tmp_path: Path, media: str) -> None:
    """As `datasets.flatten()` writes them, beside a struct of the first part's name."""
    (tmp_path / "0.png").write_bytes(b"picture 0")
    struct = pa.array([{"bytes": b"another", "path": "x"}])
    columns = {"image": struct, "image.bytes": [b"picture 0"], "image.path": ["0.png"], "caption": ["c"]}
    write(tmp_path / "t.parquet", columns)
    (row,) = read(tmp_path, "t.parquet", media=media)
    assert (row.key, row.captions, fetch(row.uri, max_bytes=99)) == ("0.png", ["c"], b"picture 0")
    (row,) = read(tmp_path, "t.parquet", media="image")
    assert (row.key, fetch(row.uri, max_bytes=99)) == ("x", b"another")


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(1), pa.dictionary(pa.int32(), pa.binary())]
)
def test_media_are_bytes_of_any_encoding(tmp_path: Path, kind: pa.DataType) -> None:
    cells = pa.array([b"1", None, b"3"], pa.binary() if pa.types.is_dictionary(kind) else kind)
    write(tmp_path / "t.parquet", {"image": cells.cast(kind), "caption": ["a", "b", "c"]})
    found = read(tmp_path, "t.parquet", media="image")
    assert [fetch(found[i].uri, max_bytes=1) for i in (0, 2)] == [b"1", b"3"]
    with pytest.raises(CurationError, match="row 1: the media column is empty"):
        fetch(found[1].uri, max_bytes=1)


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (pa.array([float("nan")] * 2), [[], []]),
        (pa.nulls(2), [[], []]),
        (pa.array([b"one", "zwei é".encode()]), [["one"], ["zwei é"]]),
        (pa.array(["one", None], pa.string_view()), [["one"], []]),
        (pa.array([["a", "b"], None], pa.list_view(pa.string())), [["a", "b"], []]),
        (pa.array([["a", "b"], ["c", None]], pa.list_(pa.string(), 2)), [["a", "b"], ["c"]]),
        (pa.array([[b"a"], [b"b", b"c"]], pa.large_list(pa.binary())), [["a"], ["b", "c"]]),
        (pa.array([[float("nan")], []], pa.list_(pa.float64())), [[], []]),
        (invalid_utf8([b"cir\xe9e", b"b"]), [["cir\ufffde"], ["b"]]),
    ],
)
def test_captions_are_text_of_any_encoding_or_missing(
    tmp_path: Path, captions: pa.Array, expected: list[list[str]]
) -> None:
    write(tmp_path / "t.parquet", {"file": FILES[:2], "caption": captions})
    found = read(tmp_path, "t.parquet")
    assert [row.error for row in found] == [None, None]
    assert [list(row.captions) for row in found] == expected


def test_only_the_caption_column_gives_captions(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", {"file": ["v.mp4"], "caption": ["c"], "title": ["VID_1.mp4"], "text": ["t"]})
    (row,) = read(tmp_path, "t.parquet")
    assert (row.captions, row.extra) == (["c"], {"title": "VID_1.mp4", "text": "t"})


def test_a_cell_that_is_too_large_costs_its_row_and_nothing_where_it_is_not_named(tmp_path: Path) -> None:
    texts = ["a", "x" * (MAX_CELL + 1), "c"]
    write(tmp_path / "t.parquet", {"file": FILES[:3], "caption": texts, "more": texts}, compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 10_000
    found = read(tmp_path, "t.parquet")
    assert [list(row.captions) for row in found] == [["a"], [], ["c"]]
    assert found[1].error == (
        f"{tmp_path}/t.parquet, row 1: the cell in the column 'caption' has {MAX_CELL + 1} bytes; "
        f"at most {MAX_CELL} are read"
    )
    unnamed = read(tmp_path, "t.parquet", caption=None)
    assert [row.error for row in unnamed] == [None] * 3
    assert [str(row.extra["more"])[:10] for row in unnamed] == ["a", "(not read:", "c"]


def test_page_sizes_are_read_from_their_headers(tmp_path: Path) -> None:
    """A column of many pages, and one whose dictionary is its largest page."""
    many = [f"{i:08d}" for i in range(20_000)]
    columns = {"plain": many, "one": ["y" * 300_000] * 20_000}
    options: dict[str, Any] = {"use_dictionary": ["one"], "data_page_size": 10_000, "compression": "zstd"}
    write(tmp_path / "t.parquet", columns, **options)
    group = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(0)
    sizes = []
    for number in (0, 1):
        chunk = group.column(number)
        begin = chunk.dictionary_page_offset or chunk.data_page_offset
        with pa.OSFile(str(tmp_path / "t.parquet")) as file:
            sizes.append(sizes_of(file, begin, chunk.total_compressed_size).page)
    assert 10_000 <= sizes[0] <= 30_000 and sizes[1] == 300_004
    with pytest.raises((ValueError, EOFError)):
        sizes_of(pa.BufferReader(b"\xff" * 100), 0, 100)


def damaged(path: Path, column: str) -> None:
    """Overwrite the second row group's data of a column."""
    footer = pq.ParquetFile(path).metadata
    number = footer.schema.names.index(column)
    chunk = footer.row_group(1).column(number)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset : chunk.data_page_offset + chunk.total_compressed_size] = (
        b"\xff" * chunk.total_compressed_size
    )
    path.write_bytes(data)


@pytest.mark.parametrize("column", ["file", "caption", "more"])
def test_a_damaged_part_of_a_file_costs_its_own_rows_at_most(tmp_path: Path, column: str) -> None:
    texts = {name: [f"{name}{i}.jpg" for i in range(9)] for name in ("file", "caption", "more")}
    write(tmp_path / "t.parquet", texts, row_group_size=3, use_dictionary=False)
    damaged(tmp_path / "t.parquet", column)
    found = read(tmp_path, "t.parquet", size=4)
    assert len(found) == 9
    lost = [i for i, row in enumerate(found) if row.error]
    assert lost == ([] if column == "more" else [3, 4, 5])
    assert [row.key for i, row in enumerate(found) if i not in (3, 4, 5)] == [
        f"file{i}.jpg" for i in (0, 1, 2, 6, 7, 8)
    ]
    assert all(f"the cell in the column '{column}' cannot be decoded" in str(found[i].error) for i in lost)


def strange_names() -> Iterator[str]:
    yield from ("any.parquet#row=0&column=nope", "t.parquet#row=0&column=image", "x#offset=0&size=9", "run:x")
    yield from ("jupyter://x", "hf://x", "file://localhost/x", "file://%zz", "s3://", "://", "data:image/png;base64,AA")
    yield from (
        "x" * 5000,
        "zip://a.zip::http://x",
        "reference://x",
        "github://o:r@x/y",
        "s3://[b/x",
        "nope://x",
        "~/x",
    )


@pytest.mark.parametrize("name", list(strange_names()))
@pytest.mark.parametrize("where", ["cell", "struct", "file"])
def test_what_a_cell_names_is_its_own_rows_error(tmp_path: Path, name: str, where: str) -> None:
    """A path in a cell is a file or URL; it never reads as a pointer into a table, and so never to itself."""
    if where == "struct":
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        cells = pa.array([{"bytes": None, "path": name}, {"bytes": b"2", "path": None}], kind)
        write(tmp_path / "t.parquet", {"image": cells})
        found = read(tmp_path, "t.parquet", media="image", caption=None)
    else:
        cells = pa.array([name, f"{tmp_path}/good"])
        (tmp_path / "good").write_bytes(b"2")
        write(tmp_path / "t.parquet", {"image": cells})
        found = read(tmp_path, "t.parquet", media="image", caption=None)
        if where == "file" and "//" not in name and len(name) < 200:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"1")
            assert fetch(found[0].uri, max_bytes=9) == b"1"
            return
    assert fetch(found[1].uri, max_bytes=9) == b"2"
    if found[0].error is None:
        with pytest.raises(CurationError) as raised:
            fetch(found[0].uri, max_bytes=9)
        assert 10 < len(str(raised.value)) < 12_000


def test_a_table_that_names_a_column_twice_says_so_if_it_matters(tmp_path: Path) -> None:
    both = pa.Table.from_arrays(
        [pa.array(["1.jpg"]), pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], ["file", "x", "x", "caption"]
    )
    pq.write_table(both, tmp_path / "t.parquet")
    (row,) = read(tmp_path, "t.parquet")
    assert (row.captions, row.extra) == (["c"], {"x": "a"})
    with pytest.raises(UsageError, match="has two columns 'x'"):
        read(tmp_path, "t.parquet", caption="x")


def test_a_folder_of_tables_is_a_table(tmp_path: Path) -> None:
    """As Spark and img2dataset leave them: parts, empty parts, hidden and other files beside them."""
    part = tmp_path / "out" / "day=1"
    part.mkdir(parents=True)
    write(part / "part-0.parquet", {"file": FILES[:2], "caption": CAPTIONS[:2]})
    (part / "part-1.jsonl").write_text('{"file": "2.jpg", "caption": "two"}\n')
    (part / "part-2.csv").write_text("file,caption\n3.jpg,three\n")
    (part / "part-3.csv").write_text("")
    (part / "part-4.parquet").write_bytes(b"PAR1 cut off")
    for other in ("_SUCCESS", "_metadata.parquet", ".part.parquet.crc", ".hidden.csv", "00000_stats.json"):
        (part / other).write_bytes(b"no table")
    (tmp_path / "out" / "_temporary").mkdir()
    (tmp_path / "out" / "_temporary" / "x.jsonl").write_text('{"file": "no.jpg"}')
    found = read(tmp_path, "out")
    assert [(row.key, list(row.captions)) for row in found] == [
        ("p/0.jpg", ["cloth 0"]),
        ("p/1.jpg", ["cloth 1"]),
        ("2.jpg", ["two"]),
        ("3.jpg", ["three"]),
        ("part-4.parquet", []),
    ]
    assert "is not a Parquet file, or a damaged one" in str(found[4].error)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.jsonl", b"", "t.jsonl has no rows: it is empty"),
        ("t.jsonl", b"\n \n", "t.jsonl has no rows: it is empty"),
        ("t.csv", b"", "t.csv has no rows: it is empty"),
        ("t.tsv", b"file\tcaption\n", "t.tsv has no rows: it is empty"),
        ("t.parquet", b"", "t.parquet has no rows: it is empty"),
        ("t.parquet", b"PAR1 and no more", "t.parquet is not a Parquet file, or a damaged one"),
        ("t.csv", "file,caption\n".encode("utf-16"), "first line is not UTF-8 text"),
        ("t.csv", b"file,caption\r1.jpg,x\r", "first line is not UTF-8 text with lines that end in a newline"),
    ],
)
def test_an_empty_table_is_said_to_be_empty(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        read(tmp_path, name)


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(UsageError, match=r"there is no table \(.*\) in the folder .*/d: it is empty"):
        read(tmp_path, "d")
    (tmp_path / "d" / "a.xlsx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"in the folder .*/d: it has a.xlsx"):
        read(tmp_path, "d")
    write(tmp_path / "d" / "0.parquet", {"file": pa.array([], pa.string()), "caption": pa.array([], pa.string())})
    (tmp_path / "d" / "1.csv").write_text("file,caption\n")
    with pytest.raises(UsageError, match="names tables that have no rows: they are empty"):
        read(tmp_path, "d")


def test_a_count_is_exact_or_called_an_estimate(tmp_path: Path) -> None:
    def count(table: str) -> str:
        source = open_source(SourceSection(table=table, media="file"), str(tmp_path), Store(str(tmp_path)))
        return str(source.estimate())

    line = io.StringIO()
    line.write("file,caption\n" + '1.jpg,"two\nlines"\n' * 10)
    (tmp_path / "short.csv").write_text(line.getvalue())
    (tmp_path / "long.csv").write_text("file,caption\n" + "1.jpg,some words\n" * 60_000)
    for i in range(9):
        write(tmp_path / f"{i}.parquet", {"file": FILES, "caption": CAPTIONS})
    assert count("short.csv") == "10" and count("8.parquet") == "4" and count("{1..8}.parquet") == "32"
    assert count("long.csv") == "about 60,000" and count("*.parquet") == "about 36"


def test_a_file_may_be_named_like_a_place_in_a_table(tmp_path: Path) -> None:
    names = ["t.parquet#row=0&column=x.jpg", "a#row=9&column=image.jpg", "b.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
        (tmp_path / name).with_suffix(".txt").write_text(f"caption of {name}")
    source = open_source(SourceSection(folder="."), str(tmp_path), Store(str(tmp_path / "_work")))
    found = [row for chunk in source.chunks(9) for row in read_chunk(chunk)]
    assert sorted(fetch(row.uri, max_bytes=99).decode() for row in found) == sorted(names)
    assert all(list(row.captions) == [f"caption of {row.key}"] for row in found)
    with on_disk(file_uri(f"{tmp_path}/{names[0]}"), None) as (path, _):
        assert path == f"{tmp_path}/{names[0]}"


def test_an_img2dataset_output_of_parquet_files_is_a_table(tmp_path: Path) -> None:
    """A failed download is a row of it without a picture."""
    out = tmp_path / "out"
    out.mkdir()
    for shard in range(2):
        columns = {
            "key": [f"{shard:05d}0000{i}" for i in range(3)],
            "url": [f"http://x.org/{i}" for i in range(3)],
            "caption": ["a", None, "c"],
            "status": ["success", "failed_to_download", "success"],
            "error_message": [None, "HTTP Error 404: Not Found", None],
            "width": pa.array([64, None, 64], pa.int32()),
            "jpg": [b"0", None, b"2"],
        }
        write(out / f"{shard:05d}.parquet", columns)
        (out / f"{shard:05d}_stats.json").write_text("{}")
    found = read(tmp_path, "out", media="jpg", key="key")
    assert [row.key for row in found] == [f"{shard:05d}0000{i}" for shard in range(2) for i in range(3)]
    assert found[0].extra == {"url": "http://x.org/0", "status": "success", "error_message": None, "width": 64}
    assert fetch(found[5].uri, max_bytes=9) == b"2" and found[1].extra["error_message"] == "HTTP Error 404: Not Found"
    with pytest.raises(CurationError, match="the media column is empty"):
        fetch(found[1].uri, max_bytes=9)


def test_what_is_too_large_is_not_even_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here with a limit of 1 MB."""
    monkeypatch.setattr("curation.sources.cursor.MAX_PAGE", 1_000_000)
    monkeypatch.setattr("curation.sources.cursor.MAX_MEDIA", 1_000_000)
    large = "x" * 2_000_000
    columns = {"file": FILES[:2], "caption": ["a", large], "image": [b"1", large.encode()]}
    write(tmp_path / "t.parquet", columns, compression="zstd", row_group_size=1, use_dictionary=False)
    found = read(tmp_path, "t.parquet")
    assert (found[0].captions, found[0].error) == (["a"], None)
    assert "row 1: the cell in the column 'caption' lies in a page of 2000" in str(found[1].error)
    found = read(tmp_path, "t.parquet", media="image", caption=None)
    assert fetch(found[0].uri, max_bytes=9) == b"1"
    with pytest.raises(CurationError, match=r"row 1: the media lies in \d{3} bytes that unpack to 2000\d{3}"):
        fetch(found[1].uri, max_bytes=9)
