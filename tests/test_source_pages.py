"""What a Parquet page would unpack to is known from its header, whatever the footer says."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_source_parquet import FILES, read, write


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_cell_of_400_mb_in_14_kb_costs_no_memory(tmp_path: Path, dictionary: bool) -> None:
    columns = {"file": FILES[:1], "caption": ["x" * (400 << 20)]}
    write(tmp_path / "t.parquet", columns, compression="zstd", use_dictionary=dictionary)
    del columns
    pa.default_memory_pool().release_unused()
    before = pa.default_memory_pool().max_memory()
    (found,) = read(tmp_path, "t.parquet")
    assert "row 0: the cell in the column 'caption' has 4194304" in str(found.error)
    assert pa.default_memory_pool().max_memory() == before


def test_a_footer_that_lies_of_sizes_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.sources.cursor.MAX_PAGE", 1_000_000)
    large = ["x" * 1_000] * 2_000
    write(
        tmp_path / "t.parquet", {"file": FILES[:1] * 2_000, "caption": large}, compression="zstd", use_dictionary=False
    )
    with pq.ParquetFile(tmp_path / "t.parquet") as file:
        said = file.metadata.row_group(0).column(1).total_uncompressed_size
    data = (tmp_path / "t.parquet").read_bytes()
    honest, lie = zigzag(said), zigzag(5_000)
    at = data.rindex(honest)  # in the footer
    (tmp_path / "t.parquet").write_bytes(data[:at] + padded_to(lie, len(honest)) + data[at + len(honest) :])
    with pq.ParquetFile(tmp_path / "t.parquet") as file:
        assert file.metadata.row_group(0).column(1).total_uncompressed_size == 5_000
    found = read(tmp_path, "t.parquet")
    assert "lies in a page of" in str(found[0].error)


def zigzag(value: int) -> bytes:
    """Thrift's compact integer."""
    value, out = value << 1, b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def padded_to(number: bytes, size: int) -> bytes:
    """The same number in more bytes."""
    missing = size - len(number)
    return number[:-1] + bytes([number[-1] | 128] + [128] * (missing - 1) + [0]) if missing else number
