"""Whatever is wrong with JSON is one kind of error, and in a file of a run a sentence that names it."""

from pathlib import Path

import pytest

from curation.errors import CurationError
from curation.stores import jsontext
from curation.stores.storage import Store


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"a": "\xff"}', "can't decode"),
        (b"[1]", "it holds a JSON list where an object belongs"),
        (b"", "Expecting value"),
    ],
)
def test_a_damaged_file_is_a_sentence(tmp_path: Path, text: bytes, why: str) -> None:
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(ValueError, match=why):
        jsontext.parse_object(text)
    with pytest.raises(CurationError, match=rf"x\.json is damaged \(.*{why}"):
        jsontext.read_object(Store(str(tmp_path)), "x.json")


def test_numbers_of_any_size_are_read() -> None:
    assert jsontext.parse("[1e400, 1e-400]") == [float("inf"), 0.0]
