"""Tables: every line becomes a row or an error, in chunks of any size, reading no more than it must."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import CurationError, UsageError
from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources import open_source, read_chunk
from curation.sources.fetch import fetch
from curation.sources.lines import MAX_LINE
from curation.stores.storage import Store

MAX = 10**9


def section(table: str, media: str | None = "file", **more: Any) -> SourceSection:
    return SourceSection(table=table, media=media, **more)


def rows(section: SourceSection, base: Path, size: int = 3) -> list[SourceRow]:
    """All rows, chunk by chunk, after checking what every chunk promises."""
    out: list[SourceRow] = []
    for number, chunk in enumerate(open_source(section, str(base), Store(str(base / "_work"))).chunks(size)):
        assert chunk.number == number
        assert json.loads(json.dumps(chunk.args)) == chunk.args
        given = list(read_chunk(chunk))
        assert len(given) == chunk.rows <= size
        assert given == list(read_chunk(chunk))
        out += given
    return out


def test_jsonl_gives_media_captions_key_and_the_other_columns(tmp_path: Path) -> None:
    lines = [
        {"file": "a/1.jpg", "caption": "one", "licence": "CC0", "size": {"w": 1}},
        {"file": "/abs/2.mp4", "caption": None},
        {"file": "https://x.org/3.jpg", "caption": "three", "licence": float("nan")},
    ]
    (tmp_path / "t.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    assert rows(section("t.jsonl", caption="caption"), tmp_path) == [
        SourceRow("a/1.jpg", f"{tmp_path}/a/1.jpg", captions=["one"], extra={"licence": "CC0", "size": {"w": 1}}),
        SourceRow("/abs/2.mp4", "/abs/2.mp4", "video", captions=[]),
        SourceRow("https://x.org/3.jpg", "https://x.org/3.jpg", captions=["three"], extra={"licence": None}),
    ]


def test_a_list_column_gives_every_caption_and_a_key_column_the_key(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"file": "1.jpg", "texts": ["a", "", null, "b"], "n": 7}\n')
    (row,) = rows(section("t.jsonl", caption="texts", key="n"), tmp_path)
    assert (row.key, row.captions, row.extra) == ("7", ["a", "b"], {})


def test_malformed_lines_become_rows_with_their_place_and_reason(tmp_path: Path) -> None:
    bad = {
        b"{": "not JSON",
        b"[1]": "a JSON list where an object belongs",
        b'{"caption": "x"}': "no value in the media column 'file'",
        b'{"file": 5}': "the media column 'file' holds int",
        b'{"file": "1.jpg", "caption": {"en": "x"}}': "the caption column 'caption' holds dict",
        b'{"file": "1.jpg", "caption": "\xff"}': "not UTF-8",
        b"[" * 100_000: "not JSON",
        b'{"file": "' + b"x" * MAX_LINE + b'"}': f"at most {MAX_LINE} are read",
        b'{"file": "' + b"x" * 1001 + b'"}': "the key has 1001 characters",
    }
    good = b'{"file": "good.jpg", "caption": "fine"}'
    (tmp_path / "t.jsonl").write_bytes(b"".join(line + b"\n" + good + b"\n" for line in bad))
    found = rows(section("t.jsonl", caption="caption"), tmp_path)
    assert [row.error for row in found[1::2]] == [None] * len(bad)
    for number, (row, reason) in enumerate(zip(found[::2], bad.values(), strict=True)):
        assert row.key == f"t.jsonl:{2 * number + 1}"
        assert row.error and reason in row.error and f"line {2 * number + 1}" in row.error


def test_text_that_no_file_can_store_is_made_storable(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"file": "\\ud800.jpg", "caption": "a\\udfffb", "x\\ud800": ["\\ud800"]}\n')
    (row,) = rows(section("t.jsonl", caption="caption"), tmp_path)
    assert (row.key, list(row.captions), row.extra) == ("\ufffd.jpg", ["a\ufffdb"], {"x\ufffd": ["\ufffd"]})


def test_other_columns_are_bounded(tmp_path: Path) -> None:
    wide = {"file": "1.jpg", "long": "x" * 1_000_000, "list": list(range(100_000))} | {
        f"c{i}": "y" * 5000 for i in range(99)
    }
    (tmp_path / "t.jsonl").write_text(json.dumps(wide))
    (row,) = rows(section("t.jsonl"), tmp_path)
    assert row.error is None and len(json.dumps(row.extra)) < 70_000 and len(row.extra["long"]) == 8001


def test_csv_fields_may_span_lines_and_hold_quotes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(
        b'\xef\xbb\xbffile,caption\r\n1.jpg,"a, ""b""\r\n\r\nc"\r\n\r\n2.jpg,5" disk\r\n3.jpg,\r\n'
    )
    found = rows(section("t.csv", caption="caption"), tmp_path, 1)
    assert [(row.key, list(row.captions)) for row in found] == [
        ("1.jpg", ['a, "b"\r\n\r\nc']),
        ("2.jpg", ['5" disk']),
        ("3.jpg", []),
    ]


def test_an_open_quote_costs_one_csv_row(tmp_path: Path) -> None:
    lines = [
        "file,caption",
        '1.jpg,"never closed',
        *(f"{i}.jpg,x" for i in range(2, 500)),
        "a,b,c",
        "z.jpg,\udcff",
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines), errors="surrogateescape")
    found = rows(section("t.csv", caption="caption"), tmp_path, 7)
    assert [row.key for row in found] == [
        "t.csv:2",
        *(f"{i}.jpg" for i in range(2, 500)),
        "t.csv:501",
        "t.csv:502",
    ]
    assert [row.error for row in found if row.error] == [
        f"{tmp_path}/t.csv, line 2: the line is not well-formed CSV: a quotation mark in it is not closed; "
        "where fields hold such marks, each is written twice",
        f"{tmp_path}/t.csv, line 501: the line has 3 values, the header 2",
        f"{tmp_path}/t.csv, line 502: the line is not UTF-8",
    ]


def test_tsv_is_read_quoted_or_not(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text('file\tcaption\n1.jpg\t"so" she said\n2.jpg\t"a\tb"\n')
    found = rows(section("t.tsv", caption="caption"), tmp_path)
    assert [list(row.captions) for row in found] == [['"so" she said'], ["a\tb"]]


def test_parquet_paths_lists_and_other_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            "file": ["1.jpg", None, "3.jpg"],
            "texts": [["a", "b"], [], None],
            "when": pa.array([0, 1, None], pa.timestamp("s")),
            "raw": [b"1", b"2", b"3"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    found = rows(section("t.parquet", caption="texts"), tmp_path, 2)
    assert found[0] == SourceRow(
        "1.jpg", f"{tmp_path}/1.jpg", captions=["a", "b"], extra={"when": "1970-01-01 00:00:00"}
    )
    assert found[1].key == "t.parquet:1" and "no value in the media column" in str(found[1].error)
    assert found[2].captions == [] and found[2].extra == {"when": None}


@pytest.mark.parametrize("form", ["binary", "large_binary", "huggingface"])
def test_parquet_bytes_are_pointed_at_and_fetched_later(tmp_path: Path, form: str) -> None:
    media: list[Any] = [f"picture {i}".encode() for i in range(1000)]
    kind = {"binary": pa.binary(), "large_binary": pa.large_binary()}.get(form)
    if form == "huggingface":
        (tmp_path / "beside.jpg").write_bytes(b"a file")
        media = [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(media)]
        media[7] = {"bytes": None, "path": "beside.jpg"}
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(media, kind)}), tmp_path / "t.parquet", row_group_size=300)
    found = rows(section("t.parquet", "image"), tmp_path, 64)
    assert {row.error for row in found} == {None} and len(found) == 1000
    for i in (0, 999, 299, 300, 12, 7, 8, 3):
        expected = b"a file" if form == "huggingface" and i == 7 else f"picture {i}".encode()
        assert fetch(found[i].uri, max_bytes=20) == expected
    assert found[12].key == ("12.jpg" if form == "huggingface" else "t.parquet")
    with pytest.raises(CurationError, match=r"row 999: 11 bytes; at most 10 are read"):
        fetch(found[999].uri, max_bytes=10)


def test_patterns_and_ranges_read_files_in_order(tmp_path: Path) -> None:
    for i in (10, 8, 9):
        (tmp_path / f"part-{i:03d}.jsonl").write_text(f'{{"file": "{i}a.jpg"}}\n{{"file": "{i}b.jpg"}}\n')
    expected = ["8a.jpg", "8b.jpg", "9a.jpg", "9b.jpg", "10a.jpg", "10b.jpg"]
    for pattern in ("part-*.jsonl", "part-{008..010}.jsonl", f"{tmp_path}/part-*.jsonl", "**/part*.jsonl"):
        assert [row.key for row in rows(section(pattern), tmp_path)] == expected
    with pytest.raises(CurationError, match=r"nothing-\*.jsonl matches no file"):
        rows(section("nothing-*.jsonl"), tmp_path)


def test_a_misspelt_column_is_found_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"file": "1.jpg", "caption": "x"}\n')
    with pytest.raises(
        UsageError, match=r"caption: .* has no column 'captoin', it has file, caption; did you mean 'caption'"
    ):
        rows(section("t.jsonl", caption="captoin"), tmp_path)
    with pytest.raises(UsageError, match=r"say which column of t.jsonl is `media:`; it has file, caption"):
        rows(section("t.jsonl", media=None), tmp_path)
    with pytest.raises(UsageError, match=r"t.xlsx is not one of .jsonl"):
        rows(section("t.xlsx"), tmp_path)
    with pytest.raises(CurationError, match=r"gone.jsonl does not exist"):
        rows(section("gone.jsonl"), tmp_path)


def test_a_chunk_is_new_when_its_rows_are(tmp_path: Path) -> None:
    lines = [json.dumps({"file": f"{i}.jpg", "caption": "x"}) for i in range(9)]

    def prints() -> list[str]:
        (tmp_path / "t.jsonl").write_text("\n".join(lines))
        source = open_source(section("t.jsonl", caption="caption"), str(tmp_path), Store(str(tmp_path)))
        return [chunk.fingerprint for chunk in source.chunks(3)]

    before = prints()
    assert before == prints() and len(set(before)) == 3
    lines[4] = lines[4].replace("x", "y")
    after = prints()
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def _jsonl(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.writelines(f'{{"file": "{i}.jpg", "caption": "caption {i} of a picture"}}\n' for i in range(count))


def _csv(path: Path, count: int) -> None:
    with path.open("w") as file:
        file.write("file,caption\n")
        file.writelines(f'{i}.jpg,"caption {i},\nof a picture"\n' for i in range(count))


def _parquet(path: Path, count: int) -> None:
    names = pa.array([f"{i}.jpg" for i in range(count)])
    pq.write_table(pa.table({"file": names, "caption": names}), path, row_group_size=5000, use_dictionary=False)


@pytest.mark.parametrize(("suffix", "write"), [(".jsonl", _jsonl), (".csv", _csv), (".parquet", _parquet)])
def test_the_first_chunk_costs_as_many_bytes_of_10_000_as_of_300_000_rows(
    tmp_path: Path, suffix: str, write: Callable[[Path, int], None], bytes_read: Callable[[], int]
) -> None:
    costs = []
    for count in (10_000, 300_000):
        table = tmp_path / f"{count}{suffix}"
        write(table, count)
        before = bytes_read()
        source = open_source(section(table.name, caption="caption"), str(tmp_path), Store(str(tmp_path)))
        first = next(iter(source.chunks(64)))
        estimate = source.estimate()
        assert len(list(read_chunk(first))) == 64
        costs.append(bytes_read() - before)
        assert estimate and abs(estimate.records / count - 1) < 0.1
    assert max(costs) < 2_000_000 and costs[1] < 2 * costs[0] + 200_000
    assert (tmp_path / f"300000{suffix}").stat().st_size > 3_000_000


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    captions=st.lists(CELL, min_size=1, max_size=20),
    size=st.integers(1, 8),
    kind=st.sampled_from(["jsonl", "csv", "tsv"]),
)
def test_any_chunk_size_gives_the_rows_of_one_reading(
    tmp_path: Path, captions: list[str], size: int, kind: str
) -> None:
    cells = [{"file": f"{i}.jpg", "caption": caption} for i, caption in enumerate(captions)]
    text = io.StringIO()
    if kind == "jsonl":
        text.writelines(json.dumps(cell) + "\n" for cell in cells)
    else:
        writer = csv.DictWriter(text, ["file", "caption"], delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(cells)
    (tmp_path / f"t.{kind}").write_bytes(text.getvalue().encode())
    found = rows(section(f"t.{kind}", caption="caption"), tmp_path, size)
    assert found == rows(section(f"t.{kind}", caption="caption"), tmp_path, 1000)
    assert [(row.key, list(row.captions)) for row in found] == [
        (cell["file"], [cell["caption"]] if cell["caption"].strip() else []) for cell in cells
    ]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), size=st.integers(1, 5), kind=st.sampled_from(["jsonl", "csv", "tsv"]))
def test_any_bytes_give_the_same_rows_in_any_chunks(tmp_path: Path, data: bytes, size: int, kind: str) -> None:
    starts = {"jsonl": b'{"file": "1.jpg"}\n', "csv": b"file,caption\n1.jpg,x\n", "tsv": b"file\tcaption\n1.jpg\tx\n"}
    (tmp_path / f"t.{kind}").write_bytes(starts[kind] + data)
    assert rows(section(f"t.{kind}"), tmp_path, size) == rows(section(f"t.{kind}"), tmp_path, 1000)


def test_fetch_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    (tmp_path / "odd #name%20?.jpg").write_bytes(b"odd")
    assert fetch(f"{tmp_path}/odd #name%20?.jpg", max_bytes=MAX) == b"odd"
    assert fetch(f"{tmp_path}/x#offset=2&size=3", max_bytes=3) == b"234"
    assert fetch("run:x#offset=0&size=1", max_bytes=3, run=str(tmp_path)) == b"0"
    for uri, sentence in {
        f"{tmp_path}/gone.jpg": "gone.jpg does not exist",
        f"{tmp_path}": "is a folder",
        "/dev/zero": "is not a regular file",
        f"{tmp_path}/x": "x has 10 bytes; at most 9 are read",
        f"{tmp_path}/x#offset=8&size=5": "x ends at byte 10, before byte 13",
        f"{tmp_path}/a\0b": "is not a path or URL",
        f"{tmp_path}/x/y": "x/y",
    }.items():
        with pytest.raises(CurationError, match=sentence):
            fetch(uri, max_bytes=9)


def test_the_corpus_is_read_whole(shared_corpus: Path) -> None:
    source = open_source(section("captions.jsonl", caption="captions"), str(shared_corpus), Store("/nowhere"))
    found = [row for chunk in source.chunks(64) for row in read_chunk(chunk)]
    assert len(found) == 1966 and {row.error for row in found} == {None}
    assert all(Path(row.uri).is_file() for row in found)
