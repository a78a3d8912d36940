"""The video service that a run on this machine talks to: the bundled simulator, or one that a person names."""

from __future__ import annotations

import getpass
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

REAL = "https://dashscope.aliyuncs.com/api/v1"
KEY = "DASHSCOPE_API_KEY"
CERTIFICATES = "DASHSCOPE_CA_BUNDLE"  # not requests' own name, which pip would obey too
KEY_FORM = re.compile(r"[\x21-\x7e]{8,512}")  # as the product takes it: it goes into a header


class RunError(Exception):
    """The run can't start or go on; the message says what failed and where to look."""


@dataclass(frozen=True)
class Provider:
    """The video service that the stack talks to.

    Attributes
    ----------
    base_url, api_key
        As the stack uses them.
    simulator_url
        Origin of the bundled simulator (its control address is ``/control`` there), None for another service.
    """

    base_url: str
    api_key: str = field(repr=False)
    simulator_url: str | None = None

    @property
    def transfer(self) -> dict[str, str]:
        """The stack parameter by which inputs reach it; none is by links, which the simulator can fetch."""
        return {} if self.simulator_url else {"InputTransfer": "upload"}

    @property
    def hosts(self) -> list[str]:
        """The hosts with ports that functions may reach: the service's own, and where Alibaba Cloud keeps its files."""
        own = urlsplit(self.base_url)
        port = own.port or {"http": 80, "https": 443}[own.scheme]
        files = [".aliyuncs.com:443"] if is_alibaba_cloud(self.base_url) else []
        return [f"{own.hostname}:{port}", *files]


def origin(url: str) -> str:
    """Return scheme://host:port of a URL, as ExtraVideoHosts wants it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def is_alibaba_cloud(url: str) -> bool:
    """Say whether a URL's host is one of Alibaba Cloud's."""
    return f".{(urlsplit(url).hostname or '').rstrip('.').lower()}".endswith(".aliyuncs.com")


def check_base_url(url: str, transfer: str = "upload") -> None:
    """Raise RunError unless the service behind `url` could work with a stack on this machine."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in url:
        raise RunError(f"DASHSCOPE_BASE_URL must look like {REAL} or http://127.0.0.1:9700/api/v1, not {url!r}.")
    if not is_alibaba_cloud(url):
        return
    if parts.scheme != "https":
        raise RunError(f"DASHSCOPE_BASE_URL must begin with https://, or the key goes over the network in clear: {url}")
    if transfer == "links":
        raise RunError(
            f"{parts.hostname} would have to download portrait and voice from this stack, and the links of a local "
            "stack point to 127.0.0.1, which it can't reach. Leave InputTransfer out: DASHSCOPE_API_KEY alone names "
            "the real service, and files are uploaded to it; or deploy to AWS with `make deploy`."
        )


def trusted(environment: Mapping[str, str]) -> dict[str, str]:
    """Return, for requests, the certificates that DASHSCOPE_CA_BUNDLE names: a proxy's, or a service's own."""
    return {"REQUESTS_CA_BUNDLE": environment[CERTIFICATES]} if environment.get(CERTIFICATES) else {}


def typed_key() -> str:
    """Return an API key that is typed at the terminal without echo; "" where there is no terminal."""
    if not sys.stdin.isatty():
        return ""
    return getpass.getpass("API key of the video service (not shown): ")


def named_provider(environment: MutableMapping[str, str], ask: Callable[[], str] = typed_key) -> Provider | None:
    """Return the service that a person names, None where the simulator is to be used.

    DASHSCOPE_API_KEY alone names the real service; DASHSCOPE_BASE_URL names another, or the same. The key is taken out
    of the environment, so that no child of this process inherits it.

    Raises
    ------
    RunError
        The address or the key can't be one, there is none, or the key stands in make's own command line.
    """
    base_url, key = environment.get("DASHSCOPE_BASE_URL", "").strip().rstrip("/"), environment.pop(KEY, "").strip()
    if not base_url and not key:
        return None
    if f"{KEY}=" in environment.get("MAKEFLAGS", "") + environment.get("MFLAGS", ""):
        raise RunError(
            f"{KEY} stands behind `make`, where everybody on this machine can read it in the list of processes. Put it "
            f"before: {KEY}=… make demo; or leave it out, and it is asked for."
        )
    base_url = base_url or REAL
    check_base_url(base_url)
    key = key or ask().strip()
    if not key:
        raise RunError(
            f"DASHSCOPE_BASE_URL is set, but {KEY} isn't, and there is no terminal to ask at: set it to a key of that "
            "service."
        )
    if not KEY_FORM.fullmatch(key):
        raise RunError(f"{KEY} can't be a key: a key has at least 8 characters of ASCII and no spaces.")
    return Provider(base_url, key)
