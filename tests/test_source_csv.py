"""csv and tsv files as they are found: quoted, unquoted and damaged; no row swallows its neighbours."""

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.manifest import SourceSection
from curation.record import SourceRow
from curation.sources import open_source, read_chunk
from curation.stores.storage import Store

ALT_TEXTS = [
    "a dog asleep on a porch",
    '"Bread is love: a sign above a baker',
    "two boats tied to a jetty",
    "a red kite over a field",
    'an oak picture frame, 16x20"',
    "a mug on a window sill",
    'a tall mug marked "best gran"',
    '"home is here" painted on a wooden sign',
    '"all of it in marks"',
    'back \\"slash\\"',
]


def read(base: Path, table: str, size: int = 3, **section: Any) -> list[SourceRow]:
    section = {"media": "file", "caption": "caption", **section}
    source = open_source(SourceSection(table=table, **section), str(base), Store(str(base / "_work")))
    return [row for chunk in source.chunks(size) for row in read_chunk(chunk)]


def told(rows: list[SourceRow]) -> list[tuple[str, list[str]]]:
    return [(row.key, list(row.captions)) for row in rows]


@pytest.mark.parametrize("media_first", [False, True])
@pytest.mark.parametrize("name", ["{}.jpg", "http://x.org/{}?w=1", "{:06d}"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_line_of_an_unquoted_tsv_is_a_record(tmp_path: Path, media_first: bool, name: str, end: str) -> None:
    rows = [(caption, name.format(i)) for i, caption in enumerate(ALT_TEXTS)]
    lines = [("caption", "file"), *rows]
    text = end.join("\t".join(reversed(line) if media_first else line) for line in lines) + end
    (tmp_path / "t.tsv").write_bytes(text.encode())
    for size in (1, 3, 100):
        assert told(read(tmp_path, "t.tsv", size)) == [(file, [caption]) for caption, file in rows]


TEXT = st.lists(st.sampled_from(['"', "a", " ", ",", "\\", "é", "16x20"]), max_size=6).map("".join)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(captions=st.lists(TEXT, min_size=1, max_size=12), media_first=st.booleans())
def test_an_unquoted_tsv_keeps_any_text(tmp_path: Path, captions: list[str], media_first: bool) -> None:
    """But for text that a tsv with quoting would hold between marks, each mark in it written twice."""
    rows = [(caption, f"{i}.jpg") for i, caption in enumerate(captions)]
    lines = [("caption", "file"), *rows]
    (tmp_path / "t.tsv").write_text("".join("\t".join(line[:: -1 if media_first else 1]) + "\n" for line in lines))
    found = read(tmp_path, "t.tsv")
    assert [(row.key, row.error) for row in found] == [(file, None) for _, file in rows]
    whole = all(len(c) > 2 and c[0] == c[-1] == '"' for c in captions if c)  # every cell between marks: a quoted column
    if not whole or len([c for c in captions if c]) < 3:
        kept = [c for c in captions if not (len(c) > 1 and c[0] == c[-1] == '"' and ('""' in c))]
        assert [c for c in kept if c.strip()] == [
            row.captions[0] for row, c in zip(found, captions, strict=True) if c in kept and c.strip()
        ]


CELL = st.lists(st.sampled_from(['"', "'", "a", " ", ",", "\t", "\n", "\r\n", "\r", "\\", "é"]), max_size=8).map(
    "".join
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    captions=st.lists(CELL, min_size=1, max_size=12),
    kind=st.sampled_from(["csv", "tsv"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    media_first=st.booleans(),
    size=st.integers(1, 8),
)
def test_what_the_csv_module_writes_is_read(
    tmp_path: Path, captions: list[str], kind: str, quoting: Any, media_first: bool, size: int
) -> None:
    text = io.StringIO()
    fields = ["file", "caption"] if media_first else ["caption", "file"]
    writer = csv.DictWriter(text, fields, delimiter="\t" if kind == "tsv" else ",", quoting=quoting)
    writer.writeheader()
    writer.writerows({"file": f"{i}.jpg", "caption": caption} for i, caption in enumerate(captions))
    (tmp_path / f"t.{kind}").write_bytes(text.getvalue().encode())
    expected = [(f"{i}.jpg", [caption] if caption.strip() else []) for i, caption in enumerate(captions)]
    assert told(read(tmp_path, f"t.{kind}", size)) == expected


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_pandas_writes_is_read(tmp_path: Path, quoting: Any) -> None:
    captions = ['she said "so"', "a\tb", "two\nlines", "", None, 'x"', '"all"', "a\r\n\r\nb"]
    frame = pd.DataFrame({"caption": captions, "file": [f"{i}.jpg" for i in range(len(captions))]})
    for name, separator in (("t.tsv", "\t"), ("t.csv", ",")):
        frame.to_csv(tmp_path / name, sep=separator, index=False, quoting=quoting)
        assert told(read(tmp_path, name)) == [(f"{i}.jpg", [c] if c else []) for i, c in enumerate(captions)]


def test_lone_marks_in_a_csv_cost_their_own_line(tmp_path: Path) -> None:
    lines = ["caption,file", '"Bread is love,0.jpg', "boats,1.jpg", 'a frame 16x20",2.jpg', "a mug,3.jpg"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = read(tmp_path, "t.csv", 2)
    assert told(found) == [("t.csv:2", []), ("1.jpg", ["boats"]), ("2.jpg", ['a frame 16x20"']), ("3.jpg", ["a mug"])]
    assert "line 2: the line is not well-formed CSV: a quotation mark in it is not closed" in str(found[0].error)


def test_marks_written_with_a_backslash_are_read(tmp_path: Path) -> None:
    """As MySQL and Spark write them, at the start, in the middle and at the end of a field, over lines too."""
    lines = [
        r'1.jpg,"say \"hi\" twice, now"',
        r'2.jpg,"\"all\""',
        r'3.jpg,"ends so \""',
        r'4.jpg,"C:\dir\"x\""',
        "5.jpg,plain",
        '6.jpg,"two\n\\"lines\\", here"',
        r'7.jpg,"C:\"',
    ]
    (tmp_path / "t.csv").write_text("\n".join(["file,caption", *lines]))
    assert told(read(tmp_path, "t.csv", 2)) == [
        ("1.jpg", ['say "hi" twice, now']),
        ("2.jpg", ['"all"']),
        ("3.jpg", ['ends so "']),
        ("4.jpg", ['C:\\dir"x"']),
        ("5.jpg", ["plain"]),
        ("6.jpg", ['two\n"lines", here']),
        ("7.jpg", ["C:\\"]),
    ]


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_each_malformed_line_is_an_error_of_its_own(tmp_path: Path, kind: str) -> None:
    sign = "\t" if kind == "tsv" else ","
    bad = {
        b"short": "the line has 1 values, the header 2",
        b"9.jpg,x,too,many": "the line has 4 values, the header 2",
        b",": "the row has no value in the media column 'file'",
        b"9.jpg,caf\xe9": "the line is not UTF-8",
        b"\0\0\0\0": "the line has 1 values, the header 2",
        b'9.jpg,"a,b': "the line has 3 values" if kind == "tsv" else "a quotation mark in it is not closed",
        b'"9.jpg,x,"y"z': "the line has 3 values" if kind == "tsv" else "a quotation mark in it is not closed",
    }
    lines = [b"\xef\xbb\xbffile,caption"]
    for i, line in enumerate(bad):
        lines += [line, f"{i}.jpg,good".encode()]
    (tmp_path / f"t.{kind}").write_bytes(b"\r\n".join(lines).replace(b",", sign.encode()) + b"\r\n")
    found = read(tmp_path, f"t.{kind}", 4)
    assert told(found[1::2]) == [(f"{i}.jpg", ["good"]) for i in range(len(bad))]
    for number, (row, reason) in enumerate(zip(found[::2], bad.values(), strict=True)):
        assert reason in str(row.error) and f"line {2 * number + 2}:" in str(row.error)


def test_a_header_may_come_after_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'\n\r\n"file","caption"\n1.jpg,one\n')
    assert told(read(tmp_path, "t.csv")) == [("1.jpg", ["one"])]


def test_a_caption_of_many_lines_with_names_of_files_in_it_is_one_record(tmp_path: Path) -> None:
    caption = "see\ta.jpg and\nb.jpg, which show\nthe same"
    frame = pd.DataFrame({"file": ["1.jpg", "2.jpg"], "caption": [caption, "x"]})
    for name, separator in (("t.tsv", "\t"), ("t.csv", ",")):
        frame.to_csv(tmp_path / name, sep=separator, index=False)
        assert told(read(tmp_path, name)) == [("1.jpg", [caption]), ("2.jpg", ["x"])]
