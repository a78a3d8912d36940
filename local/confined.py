"""Laid beside the functions as ``sitecustomize``: they reach the engine and the video service, and nothing else.

Python imports it before the handler, in each process that a function starts. ``confined.json`` beside it lists
``host:port``; an entry that begins with a dot stands for every host below it. Functions that know no video service
reach the engine alone. It guards against slips, not against hostile native code.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_resolve = socket.getaddrinfo
_addresses: set[tuple[str, int]] = set()


def allowed(environment: dict[str, str]) -> list[str]:
    """Return what this function may reach, as ``host:port``."""
    engine = [urlsplit(environment.get("AWS_ENDPOINT_URL", "")).netloc, environment.get("AWS_LAMBDA_RUNTIME_API", "")]
    listed = json.loads(Path(__file__).with_name("confined.json").read_text("utf-8"))
    return [*filter(None, engine), *(listed if environment.get("DASHSCOPE_BASE_URL") else [])]


def may_reach(host: str, port: int, listed: list[str]) -> bool:
    """Say whether a host at a port is listed."""
    name = f"{host.rstrip('.').lower()}:{port}"
    return any(name == entry.lower() or (entry.startswith(".") and name.endswith(entry.lower())) for entry in listed)


def install(listed: list[str]) -> None:
    """Look up only what is listed, and connect only there."""

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        number = int(port) if str(port).isdecimal() else 0
        if not may_reach(name, number, listed):
            raise PermissionError(f"on this machine functions may not reach {name}:{number}")
        found = _resolve(host, port, *args, **kwargs)
        _addresses.update((str(address[0]), int(address[1])) for *_, address in found)
        return found

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
            return
        address = arguments[1]
        if not isinstance(address, tuple) or address[:2] in _addresses:  # no tuple: on this machine, or connected
            return
        if not may_reach(str(address[0]), address[1], listed):
            raise PermissionError(f"on this machine functions may not reach {address[0]}:{address[1]}")

    socket.getaddrinfo = look_up
    sys.addaudithook(hook)


if __name__ == "sitecustomize":
    install(allowed(dict(os.environ)))
