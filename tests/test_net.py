"""URLs from strangers: nothing inside the network is reached, nothing is read without end."""

import datetime
import ipaddress
import socket
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from webserver import Web, serve

from curation.errors import CurationError
from curation.sources.fetch import fetch
from curation.stores.net import Guard, _tls, get, opted_out, refusal

OPEN = Guard(max_bytes=1000, private_addresses=True, timeout_s=5)


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with serve({"/a.jpg": b"picture", "/b%20%C3%A9.jpg": b"odd name", "/x": b"x", "/big.jpg": bytes(1001)}) as web:
        yield web


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2001:db8::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "::ffff:169.254.169.254",
        "fec0::1",
    ],
)
def test_addresses_inside_are_refused(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
def test_no_spelling_of_this_machine_gets_through(web: Web, host: str) -> None:
    before = web.requests.total()
    with pytest.raises(CurationError, match=r"is not a public address|has no address|not known"):
        get(f"http://{host}:{web.server_port}/a.jpg", Guard(max_bytes=1000), retries=0)
    assert web.requests.total() == before


def test_a_body_is_read_within_its_bound(web: Web) -> None:
    assert get(web.url("/a.jpg"), OPEN) == b"picture"
    assert fetch(web.url("/b é.jpg"), max_bytes=1000, private_addresses=True) == b"odd name"


def test_the_environment_proxies_nothing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert get(web.url("/a.jpg"), OPEN) == b"picture"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nothing.jpg", "the server answered 404 Not Found"),
        ("/big.jpg", "it has 1001 bytes; at most 1000 are read"),
        ("/endless/", "it has more than the 1000 bytes that are read"),
        ("/cut/", "IncompleteRead"),
        ("/noai/a.jpg", "its owner does not allow this use .X-Robots-Tag: noai."),
        ("/loop/", "would lead to an infinite loop"),
        ("/redirect/ftp://127.0.0.1/a.jpg", "unknown url type: ftp"),
        (
            "/redirect/file:///etc/passwd",
            "302 Found - Redirection to url 'file:///etc/passwd' is not allowed",
        ),
        ("/redirect/nothing.jpg", "404"),
    ],
)
def test_a_failure_says_why(web: Web, path: str, reason: str) -> None:
    with pytest.raises(CurationError, match=rf"{path[:9]}.* cannot be downloaded: .*{reason}"):
        get(web.url(path), OPEN, retries=0)


@pytest.mark.parametrize("path", ["/drip/headers", "/drip/body", "/silent/"])
def test_a_server_that_drips_or_hangs_runs_into_the_deadline(web: Web, path: str) -> None:
    with pytest.raises(CurationError, match=r"timed out"):
        get(web.url(path), Guard(max_bytes=1000, private_addresses=True, timeout_s=0.3), retries=0)


def test_passing_troubles_are_tried_again_and_lasting_ones_are_not(web: Web) -> None:
    assert get(web.url("/flaky/a.jpg"), OPEN, retries=1) == b"picture"
    before = web.requests["/gone.jpg"]
    with pytest.raises(CurationError):
        get(web.url("/gone.jpg"), OPEN, retries=5)
    assert web.requests["/gone.jpg"] == before + 1


def test_redirects_are_followed_and_every_address_on_the_way_is_checked(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get(web.url("/redirect/a.jpg"), OPEN) == b"picture"
    # 127.0.0.1 plays a public server here: it is let through, and redirects to another loopback address.
    monkeypatch.setattr(
        "curation.stores.net.refusal", lambda address: None if address == "127.0.0.1" else refusal(address)
    )
    inside = f"/redirect/http://127.0.0.2:{web.server_port}/a.jpg"
    with pytest.raises(CurationError, match=r"127.0.0.2 is not a public address"):
        get(web.url(inside), Guard(max_bytes=1000), retries=0)
    assert get(web.url("/a.jpg"), Guard(max_bytes=1000)) == b"picture"


def test_a_name_that_resolves_anew_gains_nothing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name leads to a public address when it is checked and inside when it is looked up again."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    connected: list[object] = []

    def resolve(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(self: socket.socket, place: object) -> None:
        connected.append(place)
        raise ConnectionRefusedError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr("curation.stores.net._Socket.connect", connect)
    with pytest.raises(CurationError):
        get("http://rebinding.example/a.jpg", Guard(max_bytes=1000), retries=0)
    assert connected == [("93.184.216.34", 80)]


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x/y", "gopher://x", "data:image/png;base64,AA", "nonsense", ""]
)
def test_only_the_web_is_opened(url: str) -> None:
    with pytest.raises(CurationError, match=r"cannot be downloaded: .*unknown url type"):
        get(url, OPEN, retries=0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*plain))
    return path


def test_tls_is_checked_and_bounded_alike(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({"/a.jpg": b"picture"}, certificate) as web:
        with pytest.raises(CurationError, match=r"certificate verify failed"):
            get(web.url("/a.jpg"), OPEN, retries=0)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        _tls.cache_clear()
        try:
            assert get(web.url("/a.jpg"), OPEN, retries=0) == b"picture"
            assert get(web.url("/redirect/a.jpg"), OPEN, retries=0) == b"picture"
            with pytest.raises(CurationError, match=r"certificate|Hostname|mismatch"):
                get(web.url("/a.jpg").replace("127.0.0.1", "localhost"), OPEN, retries=0)
            with pytest.raises(CurationError, match=r"timed out"):
                get(web.url("/drip/body"), Guard(1000, private_addresses=True, timeout_s=0.5), retries=0)
            with pytest.raises(CurationError, match=r"is not a public address"):
                get(web.url("/a.jpg"), Guard(1000), retries=0)
        finally:
            _tls.cache_clear()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        (["all"], None),
        (["noai"], "noai"),
        (["nofollow, NoImageAI"], "noimageai"),
        (["otherbot: noai"], None),
        (["curation: noindex"], "noindex"),
        (["otherbot: none", "noimageindex"], "noimageindex"),
    ],
)
def test_owners_can_opt_out(values: list[str], expected: str | None) -> None:
    headers = Message()
    for value in values:
        headers["X-Robots-Tag"] = value
    assert opted_out(headers) == expected


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw", "false"])
def test_a_compression_that_nobody_asked_for_is_undone(web: Web, coding: str) -> None:
    assert get(web.url(f"/coded/{coding}/a.jpg"), OPEN) == b"picture"


def test_a_compressed_answer_is_bounded_and_complete(web: Web) -> None:
    with pytest.raises(CurationError, match="it has more than the 1000 bytes that are read"):
        get(web.url("/coded/gzip/big.jpg"), OPEN)
    with pytest.raises(CurationError, match="IncompleteRead"):
        get(web.url("/coded/cut/a.jpg"), OPEN)
