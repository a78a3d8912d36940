"""From where a finished video is fetched, and from where it never is: hosts, origins, redirects, private addresses."""

from __future__ import annotations

import io
import socket
from typing import Any

import pytest
import requests
import urllib3
from pytest_socket import SocketBlockedError
from requests.adapters import HTTPAdapter

from portraitcast.adapters.download import FetchError, allowed_url, fetched, is_public, listed_origins
from portraitcast.errors import ParameterError
from unit.media_samples import mp4

PROVIDER = "dashscope-result-sh.oss-cn-shanghai.aliyuncs.com"
PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.7"
LISTED = "http://127.0.0.1:9700, https://videos.example:8443,"


class Web:
    """Addresses with their answers: a video, or (status, headers). Notes what was asked for."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def send(self, request: requests.PreparedRequest) -> requests.Response:
        url = request.url or ""
        self.asked.append(url)
        answer = self.answers.get(url, (404, {}))
        if isinstance(answer, Exception):
            raise answer
        status, headers, content = answer if len(answer) == 3 else (*answer, b"")
        response = requests.Response()
        response.status_code = status
        response.headers.update(headers)
        response.raw = urllib3.HTTPResponse(io.BytesIO(content), status=status, headers=headers, preload_content=False)
        response.url, response.request = url, request
        return response


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and their addresses: what the resolver would answer; any other name can't be resolved."""
    known: dict[str, list[str]] = {PROVIDER: [PUBLIC], "videos.aliyuncs.com": [PUBLIC]}

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


def fetch(url: str, answers: dict[str, Any], *, extra_hosts: str = "", seconds: float = 60) -> tuple[bytes, list[str]]:
    web = Web(answers)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HTTPAdapter, "send", lambda _adapter, request, **_: web.send(request))
            with fetched(url, extra_hosts=extra_hosts, seconds=seconds) as found:
                return found.file.read(), web.asked
    except FetchError as error:
        error.add_note("\n".join(web.asked))
        raise


def refused(url: str, answers: dict[str, Any], *, extra_hosts: str = "") -> tuple[str, list[str]]:
    with pytest.raises(FetchError) as caught:
        fetch(url, answers, extra_hosts=extra_hosts)
    return str(caught.value), caught.value.__notes__[0].split("\n")


@pytest.fixture(scope="module")
def video() -> bytes:
    return mp4(1.0)


# The link itself


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (
            f"http://{PROVIDER}/a/x.mp4?Expires=1&Signature=a%2Bb",
            f"https://{PROVIDER}/a/x.mp4?Expires=1&Signature=a%2Bb",
        ),
        (f"https://{PROVIDER}/x.mp4", f"https://{PROVIDER}/x.mp4"),
        (f"http://{PROVIDER}:80/x.mp4", f"https://{PROVIDER}/x.mp4"),
        (f"https://{PROVIDER}:443/x.mp4", f"https://{PROVIDER}/x.mp4"),
        (f"HTTP://{PROVIDER.upper()}/X.mp4", f"https://{PROVIDER}/X.mp4"),
    ],
)
def test_the_providers_link_goes_over_https(url: str, target: str) -> None:
    """On port 443, though it is written as http."""
    assert allowed_url(url, "") == (target, False)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9700/v/x.mp4?sig=a%2Fb",
        "https://videos.example:8443/x.mp4",
        "https://VIDEOS.example:8443/x.mp4",
    ],
)
def test_a_listed_origin_is_fetched_as_written(url: str) -> None:
    assert allowed_url(url, LISTED) == (url, True)


@pytest.mark.parametrize(("listed", "url"), [("https://a.example", ":443"), ("https://a.example:443", "")])
def test_an_origins_usual_port_needs_no_writing(listed: str, url: str) -> None:
    assert allowed_url(f"https://a.example{url}/x.mp4", listed)[1]


@pytest.mark.parametrize(
    "url",
    [
        # no other origin than the one that is listed
        "https://127.0.0.1:9700/x.mp4",
        "http://127.0.0.1:9701/x.mp4",
        "http://127.0.0.1/x.mp4",
        "http://localhost:9700/x.mp4",
        "http://videos.example:8443/x.mp4",
        "https://videos.example/x.mp4",
        "https://sub.videos.example:8443/x.mp4",
        "https://videos.example.evil.example:8443/x.mp4",
        # nobody else's host
        "https://evil.example/x.mp4",
        "https://aliyuncs.com/x.mp4",
        "https://evilaliyuncs.com/x.mp4",
        "https://x.aliyuncs.com.evil.example/x.mp4",
        "https://evil.example/x.aliyuncs.com",
        "https://evil.example?.aliyuncs.com",
        "https://evil.example#.aliyuncs.com",
        "https://evil.example\\.aliyuncs.com/x.mp4",
        "https://x.aliyuncs.com\\@evil.example/x.mp4",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/x.mp4",
        # user-info, which hides where a link leads
        f"https://{PROVIDER}@evil.example/x.mp4",
        f"https://user:pw@{PROVIDER}/x.mp4",
        "http://user@127.0.0.1:9700/x.mp4",
        # another port or another way
        f"https://{PROVIDER}:8443/x.mp4",
        f"http://{PROVIDER}:22/x.mp4",
        f"ftp://{PROVIDER}/x.mp4",
        f"file://{PROVIDER}/etc/passwd",
        f"//{PROVIDER}/x.mp4",
        "oss://bucket/x.mp4",
        # no link at all
        "",
        "x.mp4",
        "https://",
        "https:///x.mp4",
        f"https://{PROVIDER}:port/x.mp4",
        f"https://{PROVIDER}:99999/x.mp4",
        "https://[::1/x.mp4",
        "https://[nonsense].aliyuncs.com/x.mp4",
        # spellings that one program reads as another does not
        "https://x\uff0ealiyuncs.com/x.mp4",
        "https://x.aliyuncs.com./x.mp4",
        "https://evil.example%2f.aliyuncs.com/x.mp4",
        "https://evil.example%00.aliyuncs.com/x.mp4",
        "https://evil example.aliyuncs.com/x.mp4",
        "https://.aliyuncs.com/x.mp4",
        # addresses in disguise: decimal, hexadecimal, octal, short
        "http://2130706433:9700/x.mp4",
        "http://0x7f000001:9700/x.mp4",
        "http://0177.0.0.1:9700/x.mp4",
        "http://127.1:9700/x.mp4",
        "http://[::ffff:127.0.0.1]:9700/x.mp4",
        "http://2852039166/latest/meta-data/",
        "http://0xa9fea9fe/latest/meta-data/",
        "https://a\u2100b.aliyuncs.com/x.mp4",
    ],
)
def test_every_other_link_is_refused(url: str) -> None:
    with pytest.raises(FetchError):
        allowed_url(url, LISTED)


def test_a_refusal_names_the_host_and_never_the_link() -> None:
    with pytest.raises(FetchError, match=r"evil\.example") as caught:
        allowed_url("https://evil.example/x.mp4?Signature=secret", "")
    assert "secret" not in str(caught.value)
    assert "ExtraVideoHosts" in str(caught.value)


def test_nothing_is_listed_by_an_empty_parameter() -> None:
    for nothing in ("", " ", ",", " , "):
        with pytest.raises(FetchError):
            allowed_url("http://127.0.0.1:9700/x.mp4", nothing)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("http://videos.example:99999", "range"),
        ("http://videos.example:abc", "abc"),
        ("https://videos.example:-1", "-1"),
        ("https://[::1", "IPv6"),
        ("videos.example:8443", "must begin"),
        ("videos.example", "must begin"),
        ("https://", "must begin"),
        ("ftp://videos.example", "must begin"),
        ("*", "must begin"),
        ("https://videos.example/results", "behind its port"),
        ("https://user:secret@videos.example", "behind its port"),
        ("https://videos.example?key=secret", "behind its port"),
    ],
)
def test_a_slip_in_the_parameter_is_told(entry: str, why: str) -> None:
    """With its name, the value and the way out."""
    with pytest.raises(ParameterError, match="ExtraVideoHosts") as caught:
        listed_origins(f"https://fine.example, {entry}")
    said = str(caught.value)
    assert why in said
    assert entry.partition("user:secret@")[0].partition("?")[0] in said
    assert "https://videos.example:8443, and deploy again" in said
    assert "secret" not in said
    assert "fine.example" not in said


# On the way


def test_no_unit_test_reaches_a_network() -> None:
    with pytest.warns(UserWarning, match="socket"), pytest.raises(SocketBlockedError):
        socket.socket()
    with pytest.warns(UserWarning, match="getaddrinfo"), pytest.raises(SocketBlockedError):
        socket.getaddrinfo(PROVIDER, 443)


def test_the_video_is_brought_whole(names: dict[str, list[str]], video: bytes) -> None:
    link = f"http://{PROVIDER}/x.mp4?Signature=s"
    content, asked = fetch(link, {link.replace("http:", "https:"): (200, {"Content-Length": str(len(video))}, video)})
    assert content == video
    assert asked == [f"https://{PROVIDER}/x.mp4?Signature=s"]


@pytest.mark.parametrize(
    "addresses",
    [
        [PRIVATE],
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["192.168.1.1"],
        ["100.64.0.1"],
        ["0.0.0.0"],  # noqa: S104  # an answer of the resolver, nothing is bound
        ["::1"],
        ["fe80::1"],
        ["fd00::1"],
        ["::ffff:10.0.0.7"],
        [PUBLIC, PRIVATE],
    ],
)
def test_a_private_address_is_refused(names: dict[str, list[str]], addresses: list[str]) -> None:
    """Before anything is sent."""
    names[PROVIDER] = addresses
    said, asked = refused(f"http://{PROVIDER}/x.mp4?Signature=secret", {})
    assert "private address" in said
    assert PROVIDER in said
    assert "secret" not in said
    assert asked == [""]


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",  # the metadata service
        "169.254.170.2",  # the credentials of containers
        "100.100.100.200",  # the metadata service of the provider's own cloud
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104  # nothing is bound
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fd00:ec2::254",  # the metadata service
        "ff02::1",
        "ff0e::1",
        "::ffff:169.254.169.254",
        "::ffff:93.184.216.34",
        "::169.254.169.254",
        "2002:a9fe:a9fe::1",  # 6to4 of the metadata service
        "64:ff9b::a9fe:a9fe",  # NAT64 of the metadata service
        "64:ff9b:1::a9fe:a9fe",
        "2001::a9fe:a9fe",  # Teredo
        "2001:db8::1",
        "100::1",
    ],
)
def test_no_public_address(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "47.95.0.1", "8.8.8.8", "2408:4002:1000::1", "2606:2800:220:1::1"])
def test_a_public_address(address: str) -> None:
    assert is_public(address)


def test_an_unresolved_name(names: dict[str, list[str]]) -> None:
    assert "could not be resolved" in refused("https://gone.aliyuncs.com/x.mp4", {})[0]


def test_a_listed_origin_may_be_private(names: dict[str, list[str]], video: bytes) -> None:
    link = "http://127.0.0.1:9700/x.mp4"
    assert fetch(link, {link: (200, {}, video)}, extra_hosts=LISTED) == (video, [link])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_provider(names: dict[str, list[str]], video: bytes, status: int) -> None:
    """It is followed over https."""
    first, second = f"https://{PROVIDER}/x.mp4", "https://videos.aliyuncs.com/y.mp4"
    answers = {first: (status, {"Location": "http://videos.aliyuncs.com/y.mp4"}), second: (200, {}, video)}
    assert fetch(first, answers) == (video, [first, second])


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "https://evil.example/x.mp4",
        f"https://{PROVIDER}:8443/x.mp4",
        "file:///etc/passwd",
        "//evil.example/x.mp4",
        f"https://{PROVIDER}@evil.example/",
        "http://127.0.0.1:9700/x.mp4",
        "https://private.aliyuncs.com/x.mp4",
        "https://[::1/x.mp4",
        "",
    ],
)
def test_a_redirect_is_judged_like_the_link_itself(names: dict[str, list[str]], location: str) -> None:
    names["private.aliyuncs.com"] = [PRIVATE]
    first = f"https://{PROVIDER}/x.mp4"
    _, asked = refused(first, {first: (302, {"Location": location})})
    assert set(asked) == {first}


def test_a_listed_origin_lends_its_trust_to_nobody(names: dict[str, list[str]]) -> None:
    names["private.aliyuncs.com"] = [PRIVATE]
    first = "http://127.0.0.1:9700/x.mp4"
    for location in ("https://private.aliyuncs.com/x.mp4", "http://127.0.0.1:9701/x.mp4"):
        _, asked = refused(first, {first: (302, {"Location": location})}, extra_hosts=LISTED)
        assert asked == [first]


def test_redirects_without_end_are_given_up(names: dict[str, list[str]]) -> None:
    first = f"https://{PROVIDER}/x.mp4"
    said, asked = refused(first, {first: (302, {"Location": "/x.mp4"})})
    assert "without end" in said
    assert len(asked) < 10


# What comes


@pytest.mark.parametrize("status", [204, 206, 304, 400, 403, 404, 500, 503])
def test_only_200_is_a_video(names: dict[str, list[str]], video: bytes, status: int) -> None:
    link = f"https://{PROVIDER}/x.mp4?Signature=secret"
    said, _ = refused(link, {link: (status, {}, video)})
    assert f"HTTP {status}" in said
    assert "secret" not in said


@pytest.mark.parametrize("error", [requests.ConnectTimeout("secret"), requests.ConnectionError("secret")])
def test_a_failed_connection_hides_the_link(names: dict[str, list[str]], error: Exception) -> None:
    link = f"https://{PROVIDER}/x.mp4?Signature=secret"
    said, _ = refused(link, {link: error})
    assert "connection failed" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("headers", "cut"), [({"Content-Length": "9999999"}, 0), ({}, 100), ({"Content-Length": "no number"}, 100)]
)
def test_half_a_video_is_refused(names: dict[str, list[str]], video: bytes, headers: dict[str, str], cut: int) -> None:
    link = f"https://{PROVIDER}/x.mp4"
    refused(link, {link: (200, headers, video[: len(video) - cut])})


@pytest.mark.parametrize(
    "content", [b"", b"<!doctype html><p>403 Forbidden", b'{"code": "AccessDenied"}', b"\0" * 5000]
)
def test_a_page_is_no_video(names: dict[str, list[str]], content: bytes) -> None:
    link = f"https://{PROVIDER}/x.mp4"
    assert "not a whole MP4" in refused(link, {link: (200, {}, content)})[0]


def test_a_drip_is_given_up_at_the_deadline(names: dict[str, list[str]], video: bytes) -> None:
    link = f"https://{PROVIDER}/x.mp4"
    with pytest.raises(FetchError, match="too long"):
        fetch(link, {link: (200, {}, video)}, seconds=-1)
