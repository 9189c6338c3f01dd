"""Any server that speaks OpenAI's protocol: its address, requests to it, and its refusals as sentences."""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from curation.errors import CurationError
from curation.models.captions import generated
from curation.stores.net import Guard, opener

KEY = "CURATION_API_KEY"
"""The environment variable with the server's key. A name of its own: no other service's key is sent to a manifest's."""
MAX_ANSWER = 4_000_000
COMMON = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
"""Answers that every record would get: the address, the key or the model is wrong."""


@dataclass(frozen=True)
class Server:
    """`http://HOST:8000/v1#MODEL`: the address is the manifest's own choice and may be a private one."""

    url: str
    model: str
    key: str = KEY

    @classmethod
    def parse(cls, argument: str, prefix: str = "openai:", key: str = KEY) -> "Server":
        """`prefix`: what stands before the address where it is written. Raises CurationError with what is wrong."""
        url, _, model = argument.partition("#")
        try:
            parts = urllib.parse.urlsplit(url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
            _ = parts.port
        except ValueError:
            sound = False
        if not sound or not model.strip():
            raise CurationError(
                f"'{prefix}{argument[:200]}' is no server and model; say {prefix}http://HOST:8000/v1#MODEL"
            )
        if parts.username or parts.password:
            raise CurationError(f"a server's key does not belong in its address; put it into the environment as {key}")
        return cls(url.rstrip("/"), model.strip(), key)

    def open(self, path: str, timeout_s: float, body: Any = None) -> bytes:
        """The answer to a POST of `body`, or to a GET. Raises HTTPError for all but 2xx, OSError, HTTPException."""
        headers = {"User-Agent": "curation", "Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(self.key):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        guard = Guard(MAX_ANSWER, private_addresses=True, timeout_s=timeout_s, redirects=0)
        with opener(guard).open(request, timeout=timeout_s) as response:
            return bytes(response.read())


def refusal(server: Server, error: urllib.error.HTTPError) -> str:
    """Why every request is answered like this one, and what to do."""
    if error.code in (401, 403):
        said = "refuses the key" if os.environ.get(server.key) else "wants a key"
        return f"the server at {server.url} {said} ({error.code}); put it into the environment as {server.key}"
    if 300 <= error.code < 400:
        target = str(error.headers.get("Location"))[:200]
        return f"the server at {server.url} redirects to {target}, which is not followed; name the final address"
    said = message(error, server.key)
    return f"the server at {server.url} answered {error.code}: {said}; is it the right path and model?"


def message(error: urllib.error.HTTPError, key_name: str) -> str:
    """What the server says, on one bounded line, without the key."""
    try:
        text = error.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        text = ""
    with suppress(ValueError, AttributeError, RecursionError):  # not in OpenAI's form: then it is passed on as it came
        said = json.loads(text)
        said = said.get("error", said)
        text = str(said.get("message", said) if isinstance(said, dict) else said)
    if key := os.environ.get(key_name):
        text = text.replace(key, "***")
    return (generated(text) or str(error.reason))[:200]


def unreachable(server: Server, error: BaseException) -> str:
    """Why there is no answer."""
    found = cause(error)
    said = (
        "took too long" if isinstance(found, TimeoutError) else f"cannot be reached ({found or type(found).__name__})"
    )
    return f"the server at {server.url} {said}"[:400]


def cause(error: BaseException) -> Any:
    """What urllib wraps."""
    return error.reason if isinstance(error, urllib.error.URLError) else error
