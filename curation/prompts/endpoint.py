"""A moderation server, hosted or one's own, that speaks OpenAI's `/v1/moderations`.

It is asked only where the user names one, about prompts that the word list passes, and nothing else is sent. Every kind
of failure refuses: no answer, an answer that cannot be read, one that took too long.
"""

import http.client
import json
import urllib.error
from collections.abc import Sequence
from typing import Any

from curation.errors import CurationError, Unavailable, UsageError
from curation.models.openai_server import COMMON, Server, message, refusal, unreachable
from curation.stores.net import Refused

KEY = "CURATION_MODERATION_KEY"
"""The environment variable with the server's key."""
TIMEOUT_S = 20.0
BATCH = 32
"""Prompts of a request."""


def categories(prompts: Sequence[str], spec: str, timeout_s: float = TIMEOUT_S) -> list[str | None]:
    """What each prompt is flagged as, None where it is not; empty where the server flags it and names no category.

    spec       `http://HOST:8000/v1#MODEL`; its key, where it wants one, stands in the environment as `KEY`
    timeout_s  of a request of up to `BATCH` prompts, to the last byte of its answer
    Raises UsageError for a spec that is none, Unavailable where a prompt was not judged.
    """
    try:
        server = Server.parse(spec, "", KEY)
    except CurationError as error:
        raise UsageError(f"moderation: {error}") from error
    found: list[str | None] = []
    for at in range(0, len(prompts), BATCH):
        found += _asked(server, list(prompts[at : at + BATCH]), timeout_s)
    return found


def _asked(server: Server, prompts: list[str], timeout_s: float) -> list[str | None]:
    try:
        answer = server.open("/moderations", timeout_s, {"model": server.model, "input": prompts})
        return read(answer, len(prompts))
    except urllib.error.HTTPError as error:
        with error:
            common = refusal(server, error) if error.code in COMMON else None
            why = common or f"the server at {server.url} answered {error.code}: {message(error, server.key)}"
            raise _unchecked(why) from error
    except Refused as error:
        raise _unchecked(f"the answer of the server at {server.url} is not read: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unchecked(unreachable(server, error)) from error
    except ValueError as error:
        raise _unchecked(f"the server at {server.url} gave no answer that can be read: {error}") from error


def read(answer: bytes, count: int) -> list[str | None]:
    """The categories of `count` results, as in `categories`. Raises ValueError for an answer that judges not all."""
    try:
        results = json.loads(answer)["results"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it is no list of moderation results ({type(error).__name__})") from error
    if not isinstance(results, list) or len(results) != count:
        raise ValueError(f"it has not one result for each of {count} prompts")
    return [_category(result) for result in results]


def _category(result: Any) -> str | None:
    flagged = result.get("flagged") if isinstance(result, dict) else None
    if not isinstance(flagged, bool):
        raise ValueError("a result does not say whether its prompt is flagged")
    named = result.get("categories")
    names = [str(name) for name, holds in named.items() if holds is True] if isinstance(named, dict) else []
    return ", ".join(sorted(names))[:200] if flagged else None


def _unchecked(why: str) -> Unavailable:
    return Unavailable(f"the prompts were not checked, and nothing is painted unchecked: {why[:400]}")
