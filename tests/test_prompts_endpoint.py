"""A moderation server over real HTTP: what it is asked, and that every failure refuses."""

import json
import socket
import time
from typing import Any

import pytest
from helpers.chat import ChatServer, Reply

from curation.errors import Unavailable, UsageError
from curation.prompts.endpoint import BATCH, KEY, categories, read

UNCHECKED = "the prompts were not checked, and nothing is painted unchecked: the server at http://127"


def spec(server: ChatServer) -> str:
    return server.spec.removeprefix("openai:")


def results(*found: list[str] | None) -> Reply:
    listed = [
        {"flagged": names is not None, "categories": {"other": False, **dict.fromkeys(names or (), True)}}
        for names in found
    ]
    return 200, {}, json.dumps({"id": "modr-1", "model": "tiny", "results": listed}).encode()


def honest(body: dict[str, Any], _: int) -> Reply:
    """Flags what is called bad."""
    return results(*(["violence", "sexual/minors"] if "bad" in text else None for text in body["input"]))


def test_each_prompt_has_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    with ChatServer(honest) as server:
        found = categories(["good", "bad"], spec(server))
    assert found == [None, "sexual/minors, violence"]
    assert server.bodies == [{"model": "tiny", "input": ["good", "bad"]}] and server.paths == ["/v1/moderations"]
    assert server.heads[0]["Authorization"] == "Bearer secret"


def test_many_prompts_take_several_requests_and_none_takes_none() -> None:
    with ChatServer(honest) as server:
        found = categories(["good"] * BATCH + ["bad"], spec(server))
        assert categories([], spec(server)) == []
    assert found == [None] * BATCH + ["sexual/minors, violence"]
    assert [len(body["input"]) for body in server.bodies] == [BATCH, 1]


def test_a_flag_without_categories_counts() -> None:
    assert read(b'{"results": [{"flagged": true}]}', 1) == [""]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ((500, {}, b'{"error": {"message": "out of memory"}}'), "answered 500: out of memory"),
        ((401, {}, b""), f"wants a key (401); put it into the environment as {KEY}"),
        ((404, {}, b"nothing"), "answered 404: nothing; is it the right path and model?"),
        ((302, {"Location": "http://x/"}, b""), "redirects to http://x/, which is not followed"),
        ((200, {}, b"<html>"), "gave no answer that can be read: it is no list of moderation results"),
        ((200, {}, b'{"results": null}'), "it has not one result for each of 1 prompts"),
        ((200, {}, b'{"results": []}'), "it has not one result for each of 1 prompts"),
        ((200, {}, b'{"results": [{"flagged": "no"}]}'), "does not say whether its prompt is flagged"),
        ((200, {}, b'{"results": [{}]}'), "does not say whether its prompt is flagged"),
    ],
)
def test_a_failure_refuses(reply: Reply, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    with ChatServer(lambda *_: reply) as server, pytest.raises(Unavailable) as raised:
        categories(["good"], spec(server))
    assert str(raised.value).startswith(UNCHECKED) and told in str(raised.value)


def test_a_server_that_hangs_is_given_up() -> None:
    def slow(body: dict[str, Any], _: int) -> Reply:
        time.sleep(5)
        return honest(body, 0)

    with ChatServer(slow) as server, pytest.raises(Unavailable, match="took too long"):
        categories(["good"], spec(server), timeout_s=0.3)


def test_a_server_that_is_not_there_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match="cannot be reached"):
        categories(["good"], f"http://127.0.0.1:{port}/v1#tiny")


@pytest.mark.parametrize("wrong", ["http://host/v1", "ftp://host/v1#m", "x", "http://#m"])
def test_an_address_that_is_none_is_a_usage_error(wrong: str) -> None:
    with pytest.raises(UsageError, match="is no server and model; say http://HOST:8000/v1#MODEL"):
        categories(["good"], wrong)
    with pytest.raises(UsageError, match=f"put it into the environment as {KEY}"):
        categories(["good"], "http://me:secret@host/v1#m")
