"""Captions from any server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, Ollama, OpenAI."""

import base64
import hashlib
import http.client
import io
import json
import socket
import time
import urllib.error
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from curation.errors import CurationError, Unavailable
from curation.models.captioner import Effort, Scene
from curation.models.captions import generated
from curation.models.openai_server import COMMON, Server, cause, message, refusal, unreachable
from curation.models.registry import ModelInfo
from curation.stage import Failure
from curation.stores.net import Refused

BACKOFF_S, LONGEST_WAIT_S = 0.5, 30.0
ASK_S = 10.0
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
SUSPICIOUS = 8
"""So many records of a batch, none of which was answered, are no longer the records' fault."""


class OpenAiCaptioner:
    """The role captions. Requests are made at temperature 0; what comes back is the server's own affair.

    The argument is `http://HOST:8000/v1#MODEL`; the key, where one is needed, stands in the environment.
    """

    @staticmethod
    def describe(argument: str) -> ModelInfo:
        """Asks no server: deciding again from stored scores must not need it. A server's weights have no hash."""
        try:
            server = Server.parse(argument)
        except CurationError as error:
            return ModelInfo("openai:", "", str(error))
        name = f"openai:{server.model}"
        return ModelInfo(name, hashlib.sha256(name.encode()).hexdigest())

    @staticmethod
    def absence(argument: str) -> str | None:
        """Why the server cannot caption now, as a sentence; one that does not list its models is believed."""
        server = Server.parse(argument)
        try:
            listed = json.loads(server.open("/models", ASK_S))
            names = [str(entry["id"]) for entry in listed["data"]]
        except urllib.error.HTTPError as error:
            with error:
                return refusal(server, error) if error.code in COMMON - {404, 405} else None
        except (OSError, http.client.HTTPException) as error:
            return unreachable(server, error)
        except (ValueError, KeyError, TypeError):
            return None
        if names and server.model not in names:
            known = ", ".join(names[:5])[:300]
            return f"the server at {server.url} has no model '{server.model}'; it has: {known}"
        return None

    def __init__(self, argument: str, device: str = "cpu") -> None:
        self.server = Server.parse(argument)
        if problem := self.absence(argument):
            raise Unavailable(f"the captioner 'openai:{argument}' cannot be had: {problem}")

    def captions(self, scenes: Sequence[Scene], effort: Effort) -> list[str | Failure | None]:
        """One request a scene, at most `effort.concurrency` at a time; a scene that gets no answer has a Failure.

        Raises Unavailable where none could have one: the server is gone, or refuses the key, the model, the path.
        """
        pool = ThreadPoolExecutor(effort.concurrency, thread_name_prefix="caption")
        try:
            answers = list(pool.map(lambda scene: self._caption(scene, effort), scenes))
        finally:
            pool.shutdown(cancel_futures=True)
        if len(answers) >= SUSPICIOUS and all(isinstance(answer, Failure) for answer in answers):
            raise Unavailable(f"none of {len(answers)} records got a caption, the first because {answers[0]}")
        return answers

    def _caption(self, scene: Scene, effort: Effort) -> str | Failure | None:
        body = request_of(self.server.model, scene, effort.max_tokens)
        for attempt in range(effort.retries + 1):
            wait = min(LONGEST_WAIT_S, BACKOFF_S * 2**attempt)
            gone = False
            try:
                return caption_of(self.server.open("/chat/completions", effort.timeout_s, body))
            except urllib.error.HTTPError as error:
                with error:
                    if error.code in COMMON:
                        raise Unavailable(refusal(self.server, error)) from error
                    failure = f"the caption server answered {error.code}: {message(error, self.server.key)}"
                    if error.code not in PASSING:
                        return Failure(failure)
                    wait = _asked_for(error, wait)
            except Refused as error:
                return Failure(f"the caption server's answer is not read: {error}")
            except (OSError, http.client.HTTPException) as error:
                gone = isinstance(cause(error), ConnectionRefusedError | socket.gaierror)
                failure = unreachable(self.server, error)
            except ValueError as error:
                return Failure(f"the caption server's answer has no caption: {error}"[:300])
            if attempt < effort.retries:
                time.sleep(wait)
        if gone:
            raise Unavailable(failure)
        return Failure(f"{failure} ({effort.retries + 1} attempts)")


def request_of(model: str, scene: Scene, max_tokens: int) -> dict[str, Any]:
    """The body of a chat completion: the question, then the pictures in order as JPEG data URLs."""
    pictures = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in scene.images]
    content = [{"type": "text", "text": scene.prompt}, *pictures]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": max_tokens,
    }


def data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def caption_of(answer: bytes) -> str | None:
    """The caption in a chat completion, None for an empty one. Raises ValueError for what is no chat completion."""
    try:
        choice = json.loads(answer)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"it is no chat completion ({type(error).__name__})") from error
    if text is not None and not isinstance(text, str):
        raise ValueError(f"its content is no text but {type(text).__name__}")
    return generated(text or "", cut=choice.get("finish_reason") == "length")


def _asked_for(error: urllib.error.HTTPError, wait: float) -> float:
    """The seconds of a Retry-After header, bounded; `wait` without one."""
    asked = error.headers.get("Retry-After", "")
    return min(LONGEST_WAIT_S, float(asked)) if asked.isascii() and asked.isdigit() else wait
