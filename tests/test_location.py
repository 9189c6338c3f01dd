"""Addresses: options stand behind the last `?`, and whatever a listing gives is a name."""

import pytest

from curation.errors import CurationError
from curation.stores.location import locate, name, parent, resolve, split_options

ODD = ["what?.jpg", "a?x=1", "a?x=1.jpg", "?", "a??", "50% off #1.jpg", "a//b.jpg", "x.jpg?r=1&s=2"]


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("options", ["", "?region=x", "?endpoint_override=http%3A%2F%2F127.0.0.1%3A9&region=x"])
def test_a_name_comes_back_from_its_address(path: str, options: str) -> None:
    address = resolve(f"mem://b/d{options}", path)
    head, found = split_options(address)
    assert head == f"mem://b/d/{path}"
    assert found.lstrip("?") == options.lstrip("?")
    assert name(address) == path.rpartition("/")[2]
    assert resolve(parent(resolve(f"mem://b/d{options}", "t.jsonl")), path) == address


@pytest.mark.parametrize(
    ("base", "path", "address"),
    [
        ("s3://b/in?r=x", "../o/a.jpg", "s3://b/o/a.jpg?r=x"),
        ("s3://b/in/?r=x", "./a.jpg", "s3://b/in/a.jpg?r=x"),
        ("s3://b?r=x", "../../a.jpg", "s3://b/a.jpg?r=x"),
        ("s3://b/in?r=x", "s3://c/a.jpg", "s3://c/a.jpg"),
        ("s3://b/in", "a.jpg", "s3://b/in/a.jpg"),
        ("/d", "../e/what?.jpg", "/e/what?.jpg"),
        ("http://h/d?k=1", "a.jpg", "http://h/d/a.jpg?k=1"),
    ],
)
def test_relative_paths_start_at_their_base(base: str, path: str, address: str) -> None:
    assert resolve(base, path) == address


@pytest.mark.parametrize("address", ["nope://x/y", "file://localhost/x", "jupyter://x", "s3://[b/x?y=1"])
def test_an_address_that_nothing_opens_is_a_sentence(address: str) -> None:
    with pytest.raises(CurationError, match="cannot be opened"):
        locate(address)
