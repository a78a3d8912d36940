"""Where the functions connect to, seen at the socket: real TLS on loopback, a resolver that says what a test wants."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests.adapters
import urllib3.util.connection
from cryptography import x509

from certificates import self_signed
from portraitcast.adapters.download import FetchError, fetched
from unit.media_samples import mp4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROVIDER = "dashscope-result-sh.oss-cn-shanghai.aliyuncs.com"
PUBLIC, ELSEWHERE, METADATA = "93.184.216.34", "93.184.216.35", "169.254.169.254"
LINK = f"http://{PROVIDER}/x.mp4?Expires=1&Signature=canary"
VIDEO = mp4(1.0)


class Outside:
    """The outside as a test wants it: names and their addresses, and one web server behind every public address."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.names: dict[str, list[list[str]]] = {PROVIDER: [[PUBLIC]]}  # a name's answers, one a question
        self.asked_names: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.server_names: list[str | None] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.location: str | None = None

    def resolve(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked_names.append(host)
        answers = self.names.get(host) or [[host]]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a self-signed certificate, and its key in the same file, for a name."""

    def make(name: str) -> Path:
        made, private = self_signed(x509.DNSName(name))
        path = tmp_path_factory.mktemp("tls") / "both.pem"
        path.write_bytes(private + made)
        return path

    return make


@pytest.fixture
def cert_name() -> str:
    """Name that the server's certificate is for; tests may parametrize it."""
    return PROVIDER


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch, certificate: Callable[[str], Path], cert_name: str) -> Iterator[Outside]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append((self.path, dict(self.headers)))
            away = served.location if self.path != "/moved.mp4" else None
            self.send_response(302 if away else 200)
            if away:
                self.send_header("Location", away)
            self.send_header("Content-Length", str(0 if away else len(VIDEO)))
            self.end_headers()
            if not away:
                self.wfile.write(VIDEO)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that leaves in the middle of TLS is what some tests want."""

    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)  # this machine's own
    file = certificate(cert_name)
    server = Server(("127.0.0.1", 0), Handler)
    served = Outside(server.server_address[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.sni_callback = lambda _, name, __: served.server_names.append(name)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    connect, resolve = urllib3.util.connection.create_connection, socket.getaddrinfo

    def connect_here(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        served.connected.append(address)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", resolve)
            return connect(("127.0.0.1", served.port), *args, **kwargs)

    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", served.resolve)
    monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(file))
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def bring(url: str = LINK, listed: str = "") -> bytes:
    with fetched(url, extra_hosts=listed) as found:
        return found.file.read()


def test_connects_to_the_judged_address(outside: Outside) -> None:
    """And TLS asks for the name."""
    assert bring() == VIDEO

    assert outside.connected == [(PUBLIC, 443)]
    assert outside.server_names == [PROVIDER]
    ((path, headers),) = outside.requests
    assert path == "/x.mp4?Expires=1&Signature=canary"
    assert headers["Host"] == PROVIDER


def test_a_name_is_asked_for_once(outside: Outside) -> None:
    """A name that changes between check and use gains nothing."""
    outside.names[PROVIDER] = [[PUBLIC], [METADATA]]

    assert bring() == VIDEO

    assert outside.asked_names == [PROVIDER]
    assert outside.connected == [(PUBLIC, 443)]


def test_each_download_judges_anew(outside: Outside) -> None:
    outside.names[PROVIDER] = [[PUBLIC], [METADATA]]
    bring()

    with pytest.raises(FetchError, match="leads to a private address"):
        bring()

    assert outside.connected == [(PUBLIC, 443)]


def test_a_redirect_is_pinned_like_the_link(outside: Outside) -> None:
    outside.names[PROVIDER] = [[PUBLIC], [ELSEWHERE], [METADATA]]
    outside.location = f"http://{PROVIDER}/moved.mp4"

    assert bring() == VIDEO

    assert outside.connected == [(PUBLIC, 443), (ELSEWHERE, 443)]


def test_a_redirect_to_the_metadata_service(outside: Outside) -> None:
    """By a name that leads there only now."""
    outside.names[PROVIDER] = [[PUBLIC], [METADATA]]
    outside.location = f"https://{PROVIDER}/latest/meta-data/"

    with pytest.raises(FetchError, match="leads to a private address"):
        bring()

    assert outside.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "https://[::ffff:169.254.169.254]/",
        f"https://{PROVIDER}:8443/moved.mp4",
        f"https://user@{PROVIDER}/moved.mp4",
        "https://elsewhere.example/moved.mp4",
    ],
)
def test_a_redirect_elsewhere_is_refused(outside: Outside, location: str) -> None:
    """Before a second connection is made."""
    outside.location = location

    with pytest.raises(FetchError):
        bring()

    assert outside.connected == [(PUBLIC, 443)]
    assert outside.asked_names == [PROVIDER]


@pytest.mark.parametrize("cert_name", ["elsewhere.aliyuncs.com"])
def test_an_unproven_machine_is_told_nothing(outside: Outside, cert_name: str) -> None:
    """Its certificate is of another name."""
    with pytest.raises(FetchError, match="connection failed"):
        bring()

    assert outside.connected == [(PUBLIC, 443)]
    assert outside.requests == []


def test_no_proxy_sees_the_link(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://10.0.0.1:3128")

    assert bring() == VIDEO

    assert outside.connected == [(PUBLIC, 443)]


def test_nothing_is_sent_along(outside: Outside, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {PROVIDER} login me password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    bring()

    ((_, headers),) = outside.requests
    assert not {"Authorization", "Cookie", "Referer"} & set(headers)


def test_a_listed_origin_may_be_private(outside: Outside) -> None:
    outside.names[PROVIDER] = [["10.0.0.7"]]

    assert bring(f"https://{PROVIDER}:8443/x.mp4", f"https://{PROVIDER}:8443") == VIDEO

    assert outside.connected == [(PROVIDER, 8443)]
