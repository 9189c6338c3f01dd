"""Columns of a whole run's scores, in the order of the ids: what a decision looks at."""

import difflib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from curation import extra
from curation.captions.stage import GENERATED
from curation.errors import CurationError, UsageError
from curation.identities import IDENTITY, identities
from curation.load import suggest
from curation.manifest import LARGE
from curation.predicates import as_array, as_kind, kind_of
from curation.scoring import chunkfile
from curation.stores.ahead import READ_BYTES, grouped, read_ahead
from curation.stores.storage import Entry, Store

REPEATS = "caption_repeats"
"""Derived here: how many records of the corpus share the main caption, case and blanks aside."""
HASHES, GENERATED_HASH = "caption_hashes", "generated_caption_hash"
"""Derived here: 64 bits of each caption's text, blanks at its ends and their number aside; 0 where it is blank."""
IN_MEMORY = 1 << 29
"""Embeddings of more bytes than this are laid out in a temporary file."""

IDENTITIES = {name: f"identity of {name}" for name in ("sha256", "pixel_sha256")}
"""Derived here: 16 bytes that stand for a hash of 64 digits where records are only compared by it."""

_HASHED = {HASHES: ("captions", pa.list_(pa.uint64())), GENERATED_HASH: (GENERATED, pa.uint64())}
_HASHED |= {name: (source, IDENTITY) for source, name in IDENTITIES.items()}
_DERIVED_FROM = {REPEATS: "caption", **{name: source for name, (source, _) in _HASHED.items()}}
_MARK = "\x1f"
"""Between the names of stages in `scored`, where a few combinations stand for all records."""
LOOK = pa.binary(8 + 3 * 4 * 4)
"""`phash_look`, of which every value is as long."""


class Damaged(CurationError):
    """A file of scores/ is damaged; `name` says which."""

    def __init__(self, sentence: str, name: str) -> None:
        super().__init__(sentence)
        self.name = name


class Scores:
    """The named columns of scores/, read in one pass; row i has the i-th id, however the files are cut.

    Raises UsageError for a column that no file has, CurationError where an id stands twice.
    """

    def __init__(self, store: Store, names: Iterable[str], optional: Iterable[str] = ()) -> None:
        """Columns in `optional` may be missing from every file; `known` then lacks them."""
        self.store = store
        self._files = chunkfile.entries(store)
        if not self._files:
            raise UsageError(f"{store.root} holds no scores yet: `curate run` makes them")
        self.known: set[str] = set()
        names = set(names) | {"id"}
        asked = names | set(optional)
        self._hashed = sorted(asked & set(_HASHED))
        self._kept_whole = asked | ({"caption"} if REPEATS in asked else set())
        self._types: dict[str, pa.DataType] = {}
        self._table = self._read(sorted({_stored(name) for name in names | set(optional)} - LARGE))
        self.rows = self._table.num_rows
        self.notes: list[str] = []
        self._check(names)
        self._order = pc.sort_indices(self._table["id"]).to_numpy()
        self._columns: dict[str, pa.Array] = {}
        self._orders: dict[tuple[str, ...], NDArray[np.int64]] = {}
        self.ids = self["id"]
        self._check_ids()

    def _read(self, columns: list[str]) -> pa.Table:
        try:
            groups = grouped(self._files, lambda entry: entry.size, READ_BYTES)
            parts = list(read_ahead(lambda group: self._group(group, columns), groups))
            for part in parts:
                self._types |= {field.name: field.type for field in part.schema if field.name not in self._types}
            table = pa.concat_tables([_without_empty(part) for part in parts], promote_options="permissive")
        except pa.ArrowException as error:
            raise CurationError(f"the files of {self.store.root}/scores do not fit together: {error}") from error
        del parts
        table = table.unify_dictionaries().combine_chunks()  # out of the gaps between what was read for hashes alone
        pa.default_memory_pool().release_unused()
        return table

    def _group(self, files: Sequence[Entry], columns: list[str]) -> pa.Table:
        """Some files as one table, in few large buffers."""
        tables = [self._file(entry.name, columns) for entry in files]
        table = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries().combine_chunks()
        return self._compact(table)

    def _compact(self, table: pa.Table) -> pa.Table:
        """Columns in the smallest form that says the same: they are held for all records at once."""
        for source, name in IDENTITIES.items():
            if name in self._hashed and source in table.column_names:
                table = table.append_column(name, identities(as_array(table[source])))
                table = table if source in self._kept_whole else table.drop_columns([source])
        casts: dict[str, pa.Array] = {}
        if "scored" in table.column_names:
            casts["scored"] = pc.binary_join(as_array(table["scored"]), _MARK).dictionary_encode()
        if "phash_look" in table.column_names:
            looks = as_array(table["phash_look"])
            lengths = pc.min_max(pc.binary_length(looks)).as_py()
            if pa.types.is_binary(looks.type) and set(lengths.values()) <= {LOOK.byte_width, None}:
                casts["phash_look"] = looks.cast(LOOK)
        if "id" in table.column_names:
            casts["id"] = as_array(table["id"]).cast(pa.large_string())
        for name, column in casts.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        return table

    def _file(self, name: str, columns: list[str]) -> pa.Table:
        with self.store.open(name) as file:
            try:
                parquet = pq.ParquetFile(
                    file,
                    read_dictionary=["error_stage"],
                    page_checksum_verification=True,
                    pre_buffer=not self.store.local,
                )
                there = set(parquet.schema_arrow.names)
                self.known |= there
                table = parquet.read([column for column in columns if column in there], use_threads=False)
                return self._with_hashes(table)
            except (pa.ArrowException, OSError) as error:
                raise Damaged(
                    f"{self.store.uri(name)} cannot be read as scores: {' '.join(str(error).split())[:200]}", name
                ) from error

    def _with_hashes(self, table: pa.Table) -> pa.Table:
        """Captions as their hashes, file by file: the texts of a large run would fill the memory."""
        for name in (name for name in self._hashed if name not in IDENTITIES.values()):
            source, kind = _HASHED[name]
            if source in table.column_names:
                values = table[source].to_pylist()
                table = table.append_column(name, pa.array([_hashes(value) for value in values], kind))
                table = table if source in self._kept_whole else table.drop_columns([source])
        return table

    def _check(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            if (stored := _stored(name)) not in self.known:
                name = stored if name in _HASHED else name
                known = sorted(self.known | {REPEATS})
                raise UsageError(
                    f"the scores have no column '{name}'{suggest(name, known)}; there are: {', '.join(known)}"
                )

    def _check_ids(self) -> None:
        if self.ids.null_count or (twice := _equal_to_next(self.ids)).any():
            which = "none" if self.ids.null_count else f"{self.ids[int(np.argmax(twice))]} twice"
            raise CurationError(f"among the ids of {self.store.root}/scores is {which}: no run writes that")

    def __getitem__(self, name: str) -> pa.Array:
        """A column by its name in expressions; `extra.NAME` as `extra.TYPE`."""
        if name not in self._columns:
            column = self._read_column(name if name in _HASHED else _stored(name))
            if column is None:
                return pa.nulls(self.rows, _HASHED[name][1] if name in _HASHED else self._types[_stored(name)])
            if extra.is_extra(name):
                objects, path = (json.loads(text) if text else {} for text in column.to_pylist()), extra.path_of(name)
                column = extra.column(extra.look_up(each, path) for each in objects)
                self._note_missing(path, column)
            self._columns[name] = (caption_repeats(column) if name == REPEATS else column).take(self._order)
        return self._columns[name]

    def _read_column(self, name: str) -> pa.Array | None:
        """As the files have it, in their order; None where it holds nothing. What others are not derived from is held
        once, in the order of the ids."""
        if name not in self._table.column_names:
            return None
        column = as_array(self._table[name])
        if name not in _SHARED:
            self._table = self._table.drop_columns([name])
        return column

    def _note_missing(self, path: tuple[str, ...], column: pa.Array) -> None:
        """Remember a column of the source that no record has: a name that is misspelt, perhaps."""
        if column.null_count == len(column):
            texts = self._read_column("extra")
            keys = {
                key for text in (texts.to_pylist() if texts is not None else ()) if text for key in json.loads(text)
            }
            near = difflib.get_close_matches(path[0], sorted(keys - {path[0]}), n=1)
            hint = f"; did you mean {extra.name_of((near[0],))}?" if near else ""
            self.notes.append(f"no record has {extra.name_of(path)}{hint}")

    def columns(self, names: Iterable[str], rows: NDArray[np.int64]) -> Mapping[str, pa.Array]:
        """Some rows of some columns, for an expression."""
        taken = pa.array(rows)
        return {name: self[name].take(taken) for name in names}

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as float64, NaN where it is null; UsageError where it holds no numbers."""
        column = self[name]
        if kind_of(column.type) not in ("number", "flag", "null", "any"):
            raise UsageError(f"records cannot be ordered by '{name}': its values are {column.type}, not numbers")
        return as_kind(column, "number").to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def ranked(self, prefer: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """`rows` from best to worst: by the columns of `prefer`, `-column` where less is better, then by
        width x height inside borders and by a clip's length where these are known, then by id. A null is worst."""
        keys = tuple(prefer)
        if keys not in self._orders:
            columns = [-self.numbers(key) if key[0] != "-" else self.numbers(key[1:]) for key in reversed(keys)]
            if {"width", "height"} <= self.known:
                border = np.nan_to_num(self.numbers("border")) if "border" in self.known else 0.0
                columns.insert(0, -self.numbers("width") * self.numbers("height") * (1 - border))
            if {"start_s", "end_s"} <= self.known:
                columns.insert(0, self.numbers("start_s") - self.numbers("end_s"))
            self._orders[keys] = np.lexsort(columns) if columns else np.arange(self.rows)
        wanted = np.zeros(self.rows, bool)
        wanted[rows] = True
        return self._orders[keys][wanted[self._orders[keys]]]

    def has_values(self, name: str) -> bool:
        """Whether there is such a column, and any record has a value in it."""
        return name in self.known and self[name].null_count < self.rows

    def scored(self) -> dict[str, NDArray[np.bool_]]:
        """stage -> bool [rows], whether the row has its cells."""
        column = self["scored"] if "scored" in self._table.column_names else None
        out: dict[str, NDArray[np.bool_]] = {}
        if column is None:
            return out
        encoded = column.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for code, names in enumerate(encoded.dictionary.to_pylist()):
            for stage in names.split(_MARK) if names else ():
                out[stage] = out.get(stage, False) | (codes == code)
        return out

    def vectors(self, name: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Those of `rows` that have a finite vector in the column (`embedding`, `copy`) which is not zero, and these,
        float16 [n, D].

        Read file by file; many of them lie in a temporary file, not in memory. Raises CurationError where
        their lengths differ: they came from different models.
        """
        found, vectors = np.zeros(len(rows), bool), None
        for here, column in self._files_of(name, rows):
            some, block = _vectors(column)
            if not len(some):
                continue
            vectors = room(len(rows), block.shape[1]) if vectors is None else vectors
            if block.shape[1] != vectors.shape[1]:
                raise CurationError(
                    f"{self.store.root}/scores holds vectors '{name}' of {vectors.shape[1]} and of {block.shape[1]} "
                    f"dimensions: they came from different models and cannot be compared"
                )
            at = here[some]
            vectors[at], found[at] = block, True
        if vectors is None:
            return rows[:0], np.empty((0, 1), np.float16)
        return rows[found], _closed_up(vectors, np.flatnonzero(found))

    def thumbnails(self, rows: NDArray[np.int64]) -> "Packed":
        """The thumbnails of `rows`, in a temporary file, by row. Raises CurationError on a full disk."""
        packed = Packed()
        for here, column in self._files_of("thumbnail", rows):
            packed.add(rows[here].tolist(), column.to_pylist())
        return packed

    def _files_of(self, name: str, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], pa.Array]]:
        """A column of the `rows`, file by file: places in `rows`, and the values."""
        places, start = np.full(self.rows, -1, np.int64), 0
        places[self._order[rows]] = np.arange(len(rows))
        for entry in self._files:
            table = self._file(entry.name, [name, "id"])
            here = places[start : start + table.num_rows]
            start += table.num_rows
            if name in table.column_names:
                yield here[here >= 0], as_array(table[name]).take(pa.array(np.flatnonzero(here >= 0)))


class Packed:
    """Bytes by row, in a temporary file that goes with it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as this)
        self._places: dict[int, tuple[int, int]] = {}
        self._end = 0

    def add(self, rows: Iterable[int], values: Iterable[bytes | None]) -> None:
        """Keep each value under its row; None leaves the row out."""
        for row, value in zip(rows, values, strict=True):
            if value:
                self._places[row] = (self._end, len(value))
                self._end += len(value)
                _written(self._file, value)
        self._file.flush()

    def __contains__(self, row: int) -> bool:
        return row in self._places

    def __getitem__(self, row: int) -> bytes:
        start, length = self._places[row]
        return os.pread(self._file.fileno(), length, start)


def _written(file: IO[bytes], value: bytes) -> None:
    try:
        file.write(value)
    except OSError as error:
        raise CurationError(
            f"{tempfile.gettempdir()} has no room for the thumbnails ({error.strerror}); TMPDIR names another folder"
        ) from error


def _closed_up(vectors: NDArray[np.float16], places: NDArray[np.int64]) -> NDArray[np.float16]:
    """The vectors at `places` (ascending), moved to the front in place: a second copy might not fit."""
    if len(places) < len(vectors):
        for low, high in pairwise([*range(0, len(places), 65536), len(places)]):
            vectors[low:high] = vectors[places[low:high]]
    return vectors[: len(places)]


_SHARED = frozenset({"extra", "caption"})
"""Columns of which several others are made."""


def _without_empty(table: pa.Table) -> pa.Table:
    """The columns that hold anything: of pictures, those of clips do not."""
    return table.select([name for name in table.column_names if table[name].null_count < max(1, table.num_rows)])


def _stored(name: str) -> str:
    return "extra" if extra.is_extra(name) else _DERIVED_FROM.get(name, name)


def _hashes(texts: Any) -> Any:
    """Of one text, or of each of a list; null for null."""
    if texts is None or isinstance(texts, list):
        return texts and [_hashes(text) or 0 for text in texts]
    single = " ".join(texts.split())
    return xxhash.xxh3_64_intdigest(single.encode()) or 1 if single else 0


def _equal_to_next(ids: pa.Array) -> NDArray[np.bool_]:
    return pc.equal(ids[:-1], ids[1:]).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def room(rows: int, size: int) -> NDArray[np.float16]:
    """float16 [rows, size], in a file that goes with it where it is large. Raises CurationError on a full disk."""
    needed = rows * size * 2
    if needed <= IN_MEMORY:
        return np.empty((rows, size), np.float16)
    try:
        with tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, needed)  # a hole on a full disk would be a crash later
            return np.memmap(file, np.float16, "r+", shape=(rows, size))
    except OSError as error:
        raise CurationError(
            f"{tempfile.gettempdir()} has no room for {needed / 1e9:.1f} GB of embeddings ({error.strerror}); "
            f"TMPDIR names another folder"
        ) from error


def _vectors(column: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Places that hold a usable embedding, and these."""
    places = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    if not len(places):
        return places, np.empty((0, 1), np.float16)
    vectors = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(len(places), -1)
    sound = np.isfinite(vectors).all(1) & vectors.any(1)
    return places[sound], vectors[sound].astype(np.float16)


def caption_repeats(captions: pa.Array) -> pa.Array:
    """How many rows share each row's caption, lower-cased and with single blanks; null for none."""
    single = pc.replace_substring_regex(captions.cast(pa.large_string()), r"\s+", " ")
    codes = codes_of(pc.utf8_lower(pc.utf8_trim_whitespace(single)))
    counts = np.bincount(codes[codes >= 0], minlength=1)
    return pa.array(counts[np.maximum(codes, 0)], pa.int64(), mask=codes < 0)


def codes_of(column: pa.Array) -> NDArray[np.int64]:
    """Equal values -> equal numbers >= 0; null -> -1."""
    if column.type == extra.TYPE:
        return extra.codes_of(column)
    if pa.types.is_null(column.type):
        return np.full(len(column), -1, np.int64)
    if column.type == IDENTITY:
        return _codes_of_identities(column)
    codes = column.dictionary_encode().indices.fill_null(-1)
    return codes.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]


def _codes_of_identities(column: pa.Array) -> NDArray[np.int64]:
    """By sorting: a hash table of all of them would take several times their room."""
    words = np.frombuffer(column.buffers()[1], np.uint64, 2 * len(column), column.offset * 16).reshape(-1, 2)
    there = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    order = there[np.lexsort((words[there, 1], words[there, 0]))]
    changes = (words[order[1:]] != words[order[:-1]]).any(1)
    codes = np.full(len(column), -1, np.int64)
    codes[order] = np.cumsum(np.concatenate([[0], changes]))[: len(order)]
    return codes
