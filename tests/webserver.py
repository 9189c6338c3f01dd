"""A web server on 127.0.0.1 that behaves as badly as the web does."""

import gzip
import ssl
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = b"<!DOCTYPE html><html><body>Not here any more</body></html>"


class Web(ThreadingHTTPServer):
    """Serves `files`; counts requests per path."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.requests: Counter[str] = Counter()
        self.scheme = "http"

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}{path}"


def _raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        name, _, argument = self.path[1:].partition("/")
        odd = getattr(self, f"_{name}", None)
        if odd:
            odd(argument)
        elif self.path in self.server.files:
            self._answer(self.server.files[self.path])
        else:
            self.send_error(404)

    def _answer(self, body: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _noai(self, path: str) -> None:
        self._answer(self.server.files["/" + path], X_Robots_Tag="noai")

    def _coded(self, argument: str) -> None:
        """`gzip/x`: the file x in that coding, which nobody asked for; `false/x` says so and sends it as it is."""
        coding, _, path = argument.partition("/")
        body = self.server.files["/" + path]
        sent = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": _raw_deflate}.get(coding, bytes)(body)
        name = {"raw": "deflate", "false": "gzip", "cut": "gzip"}.get(coding, coding)
        self._answer(gzip.compress(body)[:-9] if coding == "cut" else sent, Content_Encoding=name)

    def _html(self, path: str) -> None:
        self._answer(PAGE, Content_Type="image/jpeg")

    def _redirect(self, target: str) -> None:
        self._answer(b"moved", 302, Location=target if "://" in target else "/" + target)

    def _loop(self, path: str) -> None:
        self._answer(b"", 302, Location=f"/loop/{path}x")

    def _flaky(self, path: str) -> None:
        if self.server.requests[self.path] == 1:
            self.send_error(503)
        else:
            self._answer(self.server.files["/" + path])

    def _drip(self, where: str) -> None:
        """Never ends: a byte now and then, in the headers or in the body."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"" if where == "headers" else b"\r\n"))
        while True:
            self.wfile.write(b"X")
            time.sleep(0.05)

    def _endless(self, path: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            self.wfile.write(bytes(1 << 16))

    def _cut(self, path: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    def _silent(self, path: str) -> None:
        time.sleep(30)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""


@contextmanager
def serve(files: dict[str, bytes], certificate: Path | None = None) -> Iterator[Web]:
    """The server on a free port, while the block runs; over TLS with a file of certificate and key."""
    web = Web(files)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        web.socket = context.wrap_socket(web.socket, server_side=True)
        web.scheme = "https"
    thread = threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.shutdown()
        web.server_close()
