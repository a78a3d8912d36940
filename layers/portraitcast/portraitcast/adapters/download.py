"""Fetching a finished video from the provider onto the function's own disk, and from nowhere else.

A link is judged by its form, then by the addresses that its host has; the connection goes to the very address that was
judged, so a name that changes between check and use gains nothing. Each redirect is judged anew.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import socket
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias, cast
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from portraitcast.adapters.probe import ProbedVideo, UnreadableVideoError, probe_video
from portraitcast.domain.problems import show_link
from portraitcast.errors import ParameterError, PortraitcastError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDER_HOST: Final = re.compile(r"([a-z0-9-]+\.)+aliyuncs\.com")
CHUNK: Final = 262_144
MAX_BYTES: Final = 512 * 1_048_576  # ours: 60 s of 512x704 H.264 are some 20 MB
FETCH_SECONDS: Final = 300.0  # for the whole; a drip is tried again with a fresh link
MAX_REDIRECTS: Final = 3
_PORTS: Final = {"http": 80, "https": 443}
_GLOBAL_IPV6: Final = ipaddress.ip_network("2000::/3")  # without IPv4-mapped, NAT64, local and multicast addresses
_6TO4: Final = ipaddress.ip_network("2002::/16")  # an IPv4 address in disguise


class FetchError(PortraitcastError):
    """The video could not be brought: why, in plain words without the link. It is tried again with a fresh link."""


Origin: TypeAlias = tuple[str, str | None, int | None]
"""Scheme, host and port of a link."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole, playable video on disk."""

    file: BinaryIO
    sha256: str
    video: ProbedVideo


def allowed_url(url: str, extra_hosts: str) -> tuple[str, bool]:
    """Return the address to fetch a video from, and whether an operator has listed its origin.

    A host under ``.aliyuncs.com`` is fetched over https on port 443, though the provider writes http. Any other must be
    an origin of `extra_hosts` (see `listed_origins`) exactly. Raises `FetchError`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FetchError("the link is not a plain http(s) link") from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or "\\" in url:
        raise FetchError("the link is not a plain http(s) link")
    if _origin(parts) in listed_origins(extra_hosts):
        return url, True
    if PROVIDER_HOST.fullmatch(parts.hostname) and port in {None, 80, 443}:
        return parts._replace(scheme="https", netloc=parts.hostname).geturl(), False
    raise FetchError(
        f"the link leads to {parts.hostname}, which is neither the provider's nor listed in ExtraVideoHosts"
    )


def listed_origins(extra_hosts: str) -> set[Origin]:
    """Return the origins of the stack's parameter ExtraVideoHosts: ``scheme://host:port``, comma-separated.

    Raises
    ------
    ParameterError
        An entry is none: what it is, and how to write it.
    """
    entries = [entry.strip() for entry in extra_hosts.split(",")]
    return {_listed_origin(entry) for entry in entries if entry}


def _listed_origin(entry: str) -> Origin:
    try:
        parts = urlsplit(entry)
        origin = _origin(parts)  # reading the port is what checks it
    except ValueError as error:
        raise _no_origin(entry, str(error)) from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise _no_origin(entry, "it must begin with http:// or https:// and a host")
    if "@" in parts.netloc or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise _no_origin(entry, "it must end behind its port")
    return origin


def _no_origin(entry: str, why: str) -> ParameterError:
    return ParameterError(
        f"The stack's parameter ExtraVideoHosts holds {show_link(entry)[:100]!r}, which is no origin: {why}. "
        "Write scheme://host:port, several with commas between, such as https://videos.example:8443, and deploy again."
    )


def _origin(parts: SplitResult) -> Origin:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


@contextmanager
def fetched(url: str, *, extra_hosts: str, seconds: float = FETCH_SECONDS) -> Iterator[Fetched]:
    """Bring a video onto the disk, checked: whole, MP4, with sides and seconds. Memory: one chunk.

    Raises `FetchError`.
    """
    ends_at = time.monotonic() + seconds
    with tempfile.TemporaryFile() as temporary:
        file = cast("BinaryIO", temporary)
        try:
            response = _open(url, extra_hosts)
            with response:
                digest, size = _copy(response, file, ends_at)
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise FetchError(f"the connection failed ({type(error).__name__})") from None
        expected = response.headers.get("Content-Length")
        if expected is not None and response.headers.get("Content-Encoding") is None and expected != str(size):
            raise FetchError(f"the video was cut off after {size} of {expected} bytes")
        file.seek(0)
        try:
            video = probe_video(file)
        except UnreadableVideoError as error:
            raise FetchError(f"what came is not a whole MP4 video: {error}") from None
        if video.seconds <= 0 or not video.width or not video.height:
            raise FetchError("the video has no picture or no length")
        file.seek(0)
        yield Fetched(file, digest, video)


class PinnedAdapter(HTTPAdapter):
    """A transport that connects to one address; TLS asks for, and verifies, the name in the link all the same."""

    def __init__(self, address: str) -> None:
        super().__init__(max_retries=0)
        self._address = address

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:  # as requests' own
        """Put the address in the place of the host."""
        host, pool = super().build_connection_pool_key_attributes(*args, **kwargs)
        return {**host, "host": self._address}, {**pool, "server_hostname": host["host"]}


def _open(url: str, extra_hosts: str) -> requests.Response:
    for _ in range(MAX_REDIRECTS + 1):
        target, listed = allowed_url(url, extra_hosts)
        request = requests.Request("GET", target).prepare()
        if listed:
            transport = HTTPAdapter(max_retries=0)
        else:
            host = str(urlsplit(target).hostname)
            request.headers["Host"] = host
            transport = PinnedAdapter(_public_address(host))
        # Without a session: no proxy, no .netrc, no cookie, no redirect followed on the way. What a session would take
        # out of the environment and is wanted: other certificates to trust (never set on AWS).
        trusted = os.environ.get("REQUESTS_CA_BUNDLE") or True
        response = transport.send(request, stream=True, timeout=(5, 30), verify=trusted)
        if response.status_code == requests.codes.ok:
            return response
        response.close()
        if not response.is_redirect:
            raise FetchError(f"the provider's storage answered HTTP {response.status_code}")
        url = urljoin(target, response.headers["Location"])
    raise FetchError("the link leads from one address to the next without end")


def _public_address(host: str) -> str:
    """Resolve a name, once; refuse it if any of its addresses is not a public one (the metadata service's is not)."""
    try:
        addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]
    except OSError:
        raise FetchError(f"the name {host} could not be resolved") from None
    if not all(is_public(address) for address in addresses):
        raise FetchError(f"{host} leads to a private address")
    # IPv4 first: it is there wherever a function runs, IPv6 is not.
    return next((address for address in addresses if ":" not in address), addresses[0])


def is_public(address: str) -> bool:
    """Say whether an IP address is one machine of the public internet, written as itself."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return ip.is_global and ip in _GLOBAL_IPV6 and ip not in _6TO4
    return ip.is_global and not ip.is_multicast


def _copy(response: requests.Response, file: BinaryIO, ends_at: float) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    # Each read ends after 30 s at the latest; read1-sized pieces let the deadline see a drip.
    while chunk := response.raw.read1(CHUNK, decode_content=True):
        size += len(chunk)
        if size > MAX_BYTES:
            raise FetchError(f"the video is larger than {MAX_BYTES} bytes")
        if time.monotonic() > ends_at:
            raise FetchError("the download took too long")
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest(), size
