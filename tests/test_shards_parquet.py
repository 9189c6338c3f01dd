"""Parquet shards as any Parquet reader sees them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.shards import samples

from curation.errors import CurationError
from curation.shards.parquet import ROW_GROUP, ParquetShard, write


def test_columns_are_plain_bytes_with_their_shapes(tmp_path: Path) -> None:
    written = samples(ROW_GROUP + 5, logvar="full")
    write(tmp_path / "s.parquet", written)
    row = pq.read_table(tmp_path / "s.parquet").slice(ROW_GROUP, 1).to_pylist()[0]
    sample = written[ROW_GROUP]
    assert row["id"] == sample.id
    assert np.array_equal(np.frombuffer(row["latent_mean"], np.float16).reshape(row["shape"]), sample.mean)
    assert np.array_equal(np.frombuffer(row["latent_logvar"], np.float16).reshape(row["logvar_shape"]), sample.logvar)
    assert row["text_lengths"] == [len(text) for text in sample.texts]


def test_nothing_is_compressed_encoded_or_counted(tmp_path: Path) -> None:
    write(tmp_path / "s.parquet", samples(ROW_GROUP * 2 + 1))
    file = pq.ParquetFile(tmp_path / "s.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(3)] == [ROW_GROUP, ROW_GROUP, 1]
    for i in range(file.metadata.num_columns):
        column = file.metadata.row_group(0).column(i)
        assert (column.compression, column.statistics) == ("UNCOMPRESSED", None)
        assert not any("DICTIONARY" in encoding for encoding in column.encodings)


def test_latents_of_two_buckets_do_not_fit_into_one_shard(tmp_path: Path) -> None:
    mixed = samples(1) + samples(1, bucket="1x64x64")
    with pytest.raises(pa.ArrowInvalid, match=r"[Ll]ength"):
        write(tmp_path / "s.parquet", mixed)


def test_foreign_tables_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "s.parquet")
    with pytest.raises(CurationError, match=r"s\.parquet is damaged .*latent_mean"):
        list(ParquetShard(pa.py_buffer((tmp_path / "s.parquet").read_bytes()), "s.parquet"))
