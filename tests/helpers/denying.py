"""An S3 server that lets nobody write."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

EMPTY = b"<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command in ("PUT", "POST", "DELETE"):
            status, body = 403, b"<Error><Code>AccessDenied</Code><Message>not for you</Message></Error>"
        elif "list-type" in self.path:
            status, body = 200, EMPTY
        else:
            status, body = 404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer


@contextmanager
def denying_bucket() -> Iterator[str]:
    """The URL of a folder in its bucket."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = quote(f"http://127.0.0.1:{server.server_port}", safe="")
    yield f"s3://bucket/run?endpoint_override={endpoint}&region=us-east-1"
    server.shutdown()
