"""A server on 127.0.0.1 that speaks OpenAI's chat completions, and misbehaves when told to."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]
Script = Callable[[dict[str, Any], int], Reply]


def completion(text: str | None, finish: str = "stop") -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {}, json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


class ChatServer(ThreadingHTTPServer):
    """`script` gets each request's body and how often that very body came before; `bodies` and `heads` keep them."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: Script, models: tuple[str, ...] = ("tiny",), port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.script, self.models = script, models
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.busy, self.most_busy = 0, 0
        self.lock = threading.Lock()

    @property
    def spec(self) -> str:
        return f"openai:http://127.0.0.1:{self.server_port}/v1#tiny"

    def __enter__(self) -> "ChatServer":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self._send(200, {}, json.dumps({"data": [{"id": name} for name in self.server.models]}).encode())

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            before = server.bodies.count(body)
            server.bodies.append(body)
            server.heads.append(dict(self.headers))
            server.paths.append(self.path)
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
        time.sleep(0.02)
        reply = server.script(body, before)
        with server.lock:
            server.busy -= 1
        self._send(*reply)

    def _send(self, code: int, headers: dict[str, str], body: bytes) -> None:
        try:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client did not wait
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
