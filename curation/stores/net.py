"""Opening URLs that strangers wrote: public addresses only, bounded in size, time and redirects."""

import http.client
import ipaddress
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache, partial
from typing import Any, cast

from curation.errors import CurationError, TimedOut
from curation.stores.location import trimmed_url

AGENT = "curation"
DISALLOWED = ("noai", "noimageai", "noindex", "noimageindex")
PIECE = 1 << 18
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")


@dataclass(frozen=True)
class Guard:
    """What a URL may cost: bytes, seconds from the first connection to the last byte, redirects."""

    max_bytes: int
    private_addresses: bool = False
    timeout_s: float = 20.0
    redirects: int = 5


class Refused(OSError):
    """The request is not made, or its answer not read, because a bound of the guard forbids it."""


def get(url: str, guard: Guard, retries: int = 1) -> bytes:
    """The body behind an http(s) URL. Raises CurationError with the reason, TimedOut where it was the time; passing
    troubles are retried."""
    for attempt in range(retries + 1):
        kind = CurationError
        try:
            return _get(url, guard)
        except urllib.error.HTTPError as error:
            failure = f"the server answered {error.code} {error.reason}"
            passing = error.code in (408, 429) or error.code >= 500
            error.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            failure = str(cause) or type(cause).__name__
            passing = not isinstance(cause, Refused | ValueError | str)
            kind = TimedOut if isinstance(cause, TimeoutError) else CurationError
        if not passing or attempt == retries:
            break
        time.sleep(0.5 * (attempt + 1))
    raise kind(f"{url[:500]} cannot be downloaded: {failure[:300]}")


def _get(url: str, guard: Guard) -> bytes:
    request = urllib.request.Request(ascii_url(url), headers={"User-Agent": AGENT})
    with opener(guard).open(request, timeout=guard.timeout_s) as response:
        if directive := opted_out(response.headers):
            raise Refused(f"its owner does not allow this use (X-Robots-Tag: {directive})")
        return bytes(response.read())


def ascii_url(url: str) -> str:
    """The URL with blanks and other signs percent-encoded where its writer forgot to."""
    return urllib.parse.quote(trimmed_url(url).strip(), safe="%/:=&?~#+!$,;'@()*[]-._")


def opted_out(headers: Message) -> str | None:
    """The directive of an X-Robots-Tag header that forbids training use, for every agent or for this one."""
    for value in headers.get_all("X-Robots-Tag", []):
        agent, mark, directives = value.rpartition(":")
        if mark and agent.strip().lower() != AGENT:
            continue
        for directive in directives.lower().split(","):
            if directive.strip() in DISALLOWED:
                return str(directive.strip())
    return None


def refusal(address: str) -> str | None:
    """Why an IP address must not be connected to, None for a public one.

    IPv6 addresses that carry an IPv4 address (mapped, 6to4, NAT64) are judged by it; Teredo is refused.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            return refusal(str(inner))
        public = ip.is_global and ip in _UNICAST and ip.teredo is None
    else:
        public = ip.is_global and not ip.is_multicast and not ip.is_reserved
    return None if public else f"{address} is not a public address"


@lru_cache(maxsize=16)
def opener(guard: Guard) -> urllib.request.OpenerDirector:
    """Opens http and https URLs within `guard`, whatever proxies or credentials the environment offers."""
    director = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        *([_Redirects(guard)] if guard.redirects else []),  # without it a redirect is an HTTPError
        _Web(guard),
    ]
    for handler in handlers:
        director.add_handler(handler)
    return director


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A redirected request has the deadline of the first one; its address is checked like any other's."""

    def __init__(self, guard: Guard) -> None:
        self.max_redirections = guard.redirects  # type: ignore[misc]

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.deadline = req.deadline  # type: ignore[attr-defined]
        return following


class _Web(urllib.request.AbstractHTTPHandler):
    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self.guard = guard

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self._open(Connection, request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self._open(SecureConnection, request, context=_tls())

    def _open(self, kind: Any, request: Any, **options: Any) -> http.client.HTTPResponse:
        if not hasattr(request, "deadline"):
            request.deadline = time.monotonic() + self.guard.timeout_s
        factory = partial(kind, guard=self.guard, deadline=request.deadline)
        return cast(http.client.HTTPResponse, self.do_open(cast(Any, factory), request, **options))

    http_request = urllib.request.AbstractHTTPHandler.do_request_
    https_request = urllib.request.AbstractHTTPHandler.do_request_


class _Deadline:
    """A socket whose every receive ends at one moment, so that no server can drip for ever."""

    deadline = float("inf")

    def recv_into(self, *args: Any, **options: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out: the server was too slow")
        self.settimeout(left)  # type: ignore[attr-defined]
        return int(super().recv_into(*args, **options))  # type: ignore[misc]


class _Socket(_Deadline, socket.socket):
    pass


class _SecureSocket(_Deadline, ssl.SSLSocket):
    pass


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.sslsocket_class = _SecureSocket
    return context


class Response(http.client.HTTPResponse):
    """A response whose `read()` gives the whole body or raises: too large, cut short, too slow."""

    max_bytes = 0

    def read(self, amt: int | None = None) -> bytes:
        if amt is not None:
            return super().read(amt)
        if (self.length or 0) > self.max_bytes:
            raise Refused(f"it has {self.length} bytes; at most {self.max_bytes} are read (max_mb)")
        pieces: list[bytes] = []
        size = 0
        while piece := super().read(PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > self.max_bytes:
                raise Refused(f"it has more than the {self.max_bytes} bytes that are read (max_mb)")
        if self.length:
            raise http.client.IncompleteRead(b"", self.length)
        return self._decoded(b"".join(pieces))

    def _decoded(self, body: bytes) -> bytes:
        """Without the compression that a server applies unasked; a body that has none, whatever is said, as it is."""
        if (self.headers.get("Content-Encoding") or "").strip().lower() not in ("gzip", "x-gzip", "deflate"):
            return body
        for window in (zlib.MAX_WBITS + 32, -zlib.MAX_WBITS):  # with the header of gzip or zlib, or without any
            inflate = zlib.decompressobj(window)
            try:
                data = inflate.decompress(body, self.max_bytes + 1)
            except zlib.error:
                continue
            if len(data) > self.max_bytes:
                raise Refused(f"it has more than the {self.max_bytes} bytes that are read (max_mb)")
            if not inflate.eof:
                raise http.client.IncompleteRead(data)
            return data
        return body


class Connection(http.client.HTTPConnection):
    """Connects to the very address that was checked: a name that resolves anew in between gains nothing."""

    def __init__(self, host: str, *, guard: Guard, deadline: float, **options: Any) -> None:
        super().__init__(host, **options)
        self.guard, self.deadline = guard, deadline
        self.response_class = type("BoundedResponse", (Response,), {"max_bytes": guard.max_bytes})
        self._create_connection = self._connect_checked

    def connect(self) -> None:
        super().connect()
        cast(_Deadline, self.sock).deadline = self.deadline

    def _connect_checked(self, address: tuple[str, int], *_: Any) -> socket.socket:
        """A connected socket; the first of the host's addresses that is allowed and answers."""
        failure: OSError = Refused(f"{address[0]} has no address")
        for family, kind, protocol, _name, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            why = None if self.guard.private_addresses else refusal(str(place[0]))
            if why:
                failure = Refused(f"{address[0]} leads to {why} (private_addresses: true would allow it)")
                continue
            sock = _Socket(family, kind, protocol)
            try:
                sock.settimeout(max(0.001, self.deadline - time.monotonic()))
                sock.connect(place)
                return sock
            except OSError as error:
                failure = error
                sock.close()
        raise failure


class SecureConnection(Connection, http.client.HTTPSConnection):
    """The same with TLS; the certificate is checked against the URL's host name."""

    def __init__(self, host: str, *, guard: Guard, deadline: float, **options: Any) -> None:
        Connection.__init__(self, host, guard=guard, deadline=deadline, **options)
