"""JSON that somebody else may have written: whatever is wrong with it is one kind of error."""

import json
from typing import Any

from curation.errors import CurationError
from curation.stores.storage import Store


def parse(text: str | bytes) -> Any:
    """The value. Raises ValueError with a part of a sentence: not JSON, not UTF-8, too deep, a number too long."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("lists and objects are nested too deeply in it") from error
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError as error:  # Python's own bound on the digits of a whole number
        raise ValueError("a number in it has too many digits") from error


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object. Raises ValueError as `parse` does, and for any other value."""
    value = parse(text)
    if not isinstance(value, dict):
        raise ValueError(f"it holds a JSON {type(value).__name__} where an object belongs")
    return value


def read_object(store: Store, name: str) -> dict[str, Any]:
    """The object in a file of a run directory. Raises CurationError with the file's name."""
    try:
        return parse_object(store.read(name))
    except ValueError as error:
        raise CurationError(
            f"{store.uri(name)} is damaged ({error}): delete it, and run the same command again"
        ) from error
