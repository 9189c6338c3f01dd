"""Captions from an OpenAI-compatible server: what it is asked, and what becomes of every way to fail."""

import base64
import io
import json
import re
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.chat import ChatServer, Reply, Script, completion
from helpers.videos import number_in, numbered, write_video
from PIL import Image

from curation.errors import CurationError, Unavailable, UsageError
from curation.models.openai_captioner import OpenAiCaptioner
from curation.models.registry import absence, describe
from curation.phases import run
from curation.pixels import Pixels
from curation.reporting.estimate import show_plan
from curation.stage import Failure, run_guarded
from stages.caption import CLIP_PROMPT, PROMPT, Caption, CaptionParams

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def picture(colour: str, width: int = 64, height: int = 48) -> Pixels:
    return Pixels.of(np.full((height, width, 3), COLOURS[colour], np.uint8))


def clip(*colours: str) -> Pixels:
    return Pixels.clip([picture(colour).rgb for colour in colours], len(colours), {})


def images_of(body: dict[str, Any]) -> list[Image.Image]:
    parts = body["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert all(url.startswith("data:image/jpeg;base64,") for url in urls)
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def colours_of(body: dict[str, Any]) -> str:
    """The names of the pictures' colours, as the server sees them."""
    middles = [np.asarray(image.getpixel((image.width // 2, image.height // 2)), int) for image in images_of(body)]
    return " ".join(min(COLOURS, key=lambda name: int(abs(middle - COLOURS[name]).sum())) for middle in middles)


def honest(body: dict[str, Any], before: int) -> Reply:
    return completion(f"A {colours_of(body)} wall.")


def captioner(server: ChatServer, **params: Any) -> Caption:
    stage = Caption(CaptionParams(model=server.spec, **{"retries": 1, **params}))
    stage.load()
    return stage


def captions(script: Script, *pictures: Pixels, **params: Any) -> list[Any]:
    with ChatServer(script) as server:
        return list(run_guarded(captioner(server, **params), {"pixels": pictures})["generated_caption"])


def only(colour: str, reply: Reply) -> Script:
    """`reply` to pictures of that colour; the others are captioned."""
    return lambda body, before: reply if colours_of(body) == colour else honest(body, before)


def test_a_request_is_a_question_and_a_picture() -> None:
    with ChatServer(honest) as server:
        made = captioner(server, max_tokens=99).run({"pixels": [picture("red", 2000, 1000)]})
    assert made == {"generated_caption": ["A red wall."], "generated_caption_source": ["openai:tiny"]}
    (body,) = server.bodies
    content = body.pop("messages")
    assert body == {"model": "tiny", "temperature": 0, "max_tokens": 99}
    assert [message["role"] for message in content] == ["user"]
    assert content[0]["content"][0] == {"type": "text", "text": PROMPT}
    assert [image.size for image in images_of({"messages": content})] == [(768, 384)]
    assert server.paths == ["/v1/models", "/v1/chat/completions"]


def test_a_clip_is_one_request_with_frames_in_order_of_time() -> None:
    with ChatServer(honest) as server:
        stage = captioner(server, frames=3)
        made = stage.run({"pixels": [clip("red", "red", "green", "green", "blue", "blue"), clip("blue")]})
    assert made["generated_caption"] == ["A red green blue wall.", "A blue wall."]
    questions = {body["messages"][0]["content"][0]["text"] for body in server.bodies}
    assert questions == {CLIP_PROMPT.replace("{frames}", "3"), PROMPT}


def test_the_key_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURATION_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "another service's")
    with ChatServer(honest) as server:
        captioner(server).run({"pixels": [picture("red")]})
        monkeypatch.setenv("CURATION_API_KEY", "secret")
        captioner(server).run({"pixels": [picture("red")]})
    assert [head.get("Authorization") for head in server.heads] == [None, "Bearer secret"]


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_a_passing_trouble_is_retried(code: int) -> None:
    def once(body: dict[str, Any], before: int) -> Reply:
        return honest(body, before) if before else (code, {"Retry-After": "0"}, b"busy")

    assert captions(once, picture("red"), picture("green")) == ["A red wall.", "A green wall."]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            (500, {"Retry-After": "0"}, b'{"error": {"message": "out of\\nmemory"}}'),
            r"answered 500: out of memory \(2 at",
        ),
        ((400, {}, b'{"message": "context length exceeded"}'), r"answered 400: context length exceeded$"),
        ((200, {}, b"<html>hello</html>"), r"no chat completion"),
        ((200, {}, b'{"choices": []}'), r"no chat completion"),
        ((200, {}, b"[" * 100_000), r"no chat completion"),
        (completion({"a": 1}), r"its content is no text but dict"),  # type: ignore[arg-type]
        ((200, {}, b" " * 5_000_000), r"5000000 bytes"),
    ],
)
def test_a_row_that_gets_no_caption_says_why_and_its_neighbours_have_theirs(reply: Reply, words: str) -> None:
    first, bad, last = captions(only("green", reply), picture("red"), picture("green"), picture("blue"))
    assert (first, last) == ("A red wall.", "A blue wall.")
    assert isinstance(bad, Failure) and re.search(words, bad), bad


def test_a_server_that_takes_too_long_costs_the_row() -> None:
    def slow(body: dict[str, Any], before: int) -> Reply:
        if colours_of(body) == "green":
            time.sleep(0.6)
        return honest(body, before)

    first, bad = captions(slow, picture("red"), picture("green"), timeout_s=0.3, retries=0)
    assert first == "A red wall." and isinstance(bad, Failure) and "took too long (1 attempts)" in bad


def test_a_redirect_is_not_followed() -> None:
    with ChatServer(honest) as target:
        elsewhere = f"http://127.0.0.1:{target.server_port}/v1/chat/completions"
        with pytest.raises(Unavailable, match=r"redirects to http://127.*not followed; name the final address"):
            captions(lambda body, before: (307, {"Location": elsewhere}, b""), picture("red"))
    assert target.paths == []


@pytest.mark.parametrize(("code", "words"), [(401, "wants a key .*CURATION_API_KEY"), (404, "right path and model")])
def test_what_every_record_would_get_stops_the_run(code: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURATION_API_KEY", raising=False)
    with pytest.raises(Unavailable, match=words):
        captions(lambda body, before: (code, {}, b""), picture("red"))


def test_a_batch_without_any_answer_is_not_the_records_fault() -> None:
    with pytest.raises(Unavailable, match=r"none of 8 records got a caption, the first because .* answered 500"):
        captions(lambda body, before: (500, {}, b"down"), *[picture("red")] * 8, retries=0)


def test_a_server_that_is_gone_stops_the_run() -> None:
    with ChatServer(honest) as server:
        stage = captioner(server, retries=0)
    with pytest.raises(Unavailable, match="cannot be reached"):
        run_guarded(stage, {"pixels": [picture("red")]})
    with pytest.raises(Unavailable, match=r"cannot be had: .*cannot be reached"):
        OpenAiCaptioner(server.spec.removeprefix("openai:"))


def test_no_more_requests_than_asked_for_are_made_at_once() -> None:
    with ChatServer(honest) as server:
        captioner(server, concurrency=3).run({"pixels": [picture("red")] * 12})
    assert server.most_busy <= 3 and len(server.bodies) == 12


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("  A red\n\twall.\x00 ", "A red wall."),
        ("<think>a wall?\nyes</think>A wall.", "A wall."),
        ("<think>a wall, or", None),
        ("", None),
        (None, None),
        ("A \u202ellaw red.", "A llaw red."),
    ],
)
def test_an_answer_becomes_one_clean_line(answer: str | None, caption: str | None) -> None:
    with ChatServer(lambda body, before: completion(answer)) as server:
        made = captioner(server).run({"pixels": [picture("red")]})
    assert made["generated_caption"] == [caption]
    assert made["generated_caption_source"] == ["openai:tiny" if caption else None]


def test_a_sentence_cut_short_by_the_token_limit_is_left_out() -> None:
    cut = completion('A wall says "No." It is 2.5 m high. Beside it sta', "length")
    assert captions(lambda body, before: cut, picture("red")) == ['A wall says "No." It is 2.5 m high.']
    assert captions(lambda body, before: completion("Beside a wall sta", "length"), picture("red")) == [
        "Beside a wall sta"
    ]
    (long,) = captions(lambda body, before: completion("word. " * 10_000), picture("red"))
    assert len(long) <= 4000 and long.endswith("word.")


@pytest.mark.parametrize("spec", ["openai", "openai:http://h/v1", "openai:ftp://h#m", "openai:#m", "openai:http://[#m"])
def test_a_server_must_be_named_with_a_model(spec: str) -> None:
    assert "is no server and model" in (describe("captions", spec).problem or "")


def test_a_key_in_the_address_is_refused() -> None:
    problem = describe("captions", "openai:http://me:secret@h/v1#m").problem
    assert problem and "CURATION_API_KEY" in problem and "secret" not in problem


def test_the_plan_asks_no_server_but_curate_plan_does(tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def plan(spec: str) -> None:
        manifest.write_text(
            json.dumps({"name": "p", "source": {"folder": "."}, "score": [{"caption": {"model": spec}}]})
        )
        show_plan(str(manifest), str(tmp_path / "out"), [])

    with ChatServer(honest, models=("other", "more")) as server:
        assert describe("captions", server.spec).problem is None and server.paths == []
        with pytest.raises(CurationError, match=r"caption: the server .* has no model 'tiny'; it has: other, more"):
            plan(server.spec)
        server.models = ("tiny",)
        plan(server.spec)
    with pytest.raises(CurationError, match="cannot be reached"):
        plan(server.spec)
    with pytest.raises(UsageError, match="is no server and model"):
        plan("openai:nowhere")
    assert absence("captions", "embedded") is None


def test_a_server_that_lists_no_models_is_believed() -> None:
    with ChatServer(honest, models=()) as server:
        assert OpenAiCaptioner(server.spec.removeprefix("openai:")).server.model == "tiny"


def test_a_run_stops_when_its_server_goes_and_continues_when_it_is_back(tmp_path: Path) -> None:
    for colour in COLOURS:
        Image.fromarray(picture(colour).rgb).save(tmp_path / f"{colour}.png")
    server = ChatServer(honest)
    score = [{"caption": {"model": server.spec, "retries": 0}}]
    manifest = tmp_path / "m.json"
    manifest.write_text(json.dumps({"name": "p", "source": {"folder": "."}, "score": score}))
    out = str(tmp_path / "out")
    with server:
        pass
    for _ in range(5):  # more often than a chunk may kill its worker: no record is blamed
        with pytest.raises(CurationError, match="cannot be reached"):
            run(str(manifest), out, [], engine="inline")
    with ChatServer(honest, port=server.server_port):
        ledger = run(str(manifest), out, [], engine="inline")
    assert (ledger.kept, ledger.quarantined) == (3, {})
    (file,) = (tmp_path / "out" / "scores").glob("*.parquet")
    assert sorted(pq.read_table(file)["generated_caption"].to_pylist()) == [
        "A blue wall.",
        "A green wall.",
        "A red wall.",
    ]


def test_a_clips_frames_are_seen_in_order_and_its_shard_has_the_caption_alone(tmp_path: Path) -> None:
    """Frames 0 to 39 and 40 to 79 of a video are two scenes; the server reads the numbers that the frames show."""
    videos = tmp_path / "videos"
    videos.mkdir()
    write_video(videos / "two.mp4", [numbered(i, 1 + i // 40) for i in range(80)])
    (videos / "two.json").write_text('{"title": "A film"}')

    def numbers(body: dict[str, Any], before: int) -> Reply:
        return completion(" ".join(str(number_in(np.asarray(image))) for image in images_of(body)))

    with ChatServer(numbers) as server:
        score = [
            "probe",
            {"shots": {"method": "content"}},
            {"clips": {"min_s": 1}},
            {"caption": {"model": server.spec}},
        ]
        encode = {"size": 64, "frames": [9], "vae": "video_autoencoder", "reconstructions": 0}
        manifest = {"name": "p", "source": {"folder": "videos"}, "score": score, "encode": encode}
        (tmp_path / "m.json").write_text(json.dumps(manifest))
        run(str(tmp_path / "m.json"), str(tmp_path / "out"), [], engine="inline")
    assert len(server.bodies) == 2
    with tarfile.open(tmp_path / "out" / "shards" / "9x64x64" / "00000.tar") as tar:
        metas = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]  # type: ignore[arg-type]
    for meta in metas:
        (caption,) = meta["captions"]  # a title is no caption: no manifest named it so
        shown = [int(number) for number in caption.split()]
        start = meta["frame_start"]
        assert meta["caption_sources"] == ["openai:tiny"]
        assert len(shown) == 4 and shown == sorted(set(shown)) and start <= shown[0] and shown[-1] < start + 40
