"""Where SAM CLI's containers find this machine: asked of the Docker daemon, over its socket."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_DAEMON = "unix:///var/run/docker.sock"
BRIDGE = "bridge"  # the network that SAM CLI starts containers in, whatever --docker-network says (tried with 1.170)
ASK_SECONDS = 5  # ours: the daemon answers at once
SIOCGIFADDR = 0x8915  # linux/sockios.h


class DockerError(Exception):
    """There is no Docker here that the local run can serve; the message says why and what else there is."""


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=ASK_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ASK_SECONDS)
        self.sock.connect(self._path)


def ask(daemon: str, path: str) -> dict[str, Any]:
    """Return the daemon's answer to a GET; DockerError if it gives none."""
    if not daemon.startswith("unix://"):
        raise DockerError(f"DOCKER_HOST is {daemon}: only a daemon of this machine (unix://…) finds this machine.")
    with contextlib.closing(_Unix(daemon.removeprefix("unix://"))) as connection:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            found = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DockerError(
                f"no Docker daemon answers at {daemon} ({error}): start it, or name its socket in DOCKER_HOST. "
                "`sam remote invoke` needs no Docker."
            ) from error
    if answer.status != 200 or not isinstance(found, dict):
        raise DockerError(f"the Docker daemon at {daemon} answered {answer.status} to {path}: {found}")
    return found


def daemon_of(environment: Mapping[str, str]) -> str:
    """Return the address of the daemon that SAM CLI uses."""
    return environment.get("DOCKER_HOST") or DEFAULT_DAEMON


def address_of(interface: str) -> str | None:
    """Return the IPv4 address of an interface of this machine, None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    return None


def is_here(address: str) -> bool:
    """Say whether an address is one of this machine's own."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def gateway(environment: Mapping[str, str]) -> str:
    """Return the address at which containers of this machine's Docker reach this machine.

    Both sides use it, so that every link and address means the same to containers and to this machine.

    Raises
    ------
    DockerError
        Without a daemon here, or where containers run in a machine of their own (Docker Desktop) and no address is the
        same on both sides.
    """
    daemon = daemon_of(environment)
    network = ask(daemon, f"/networks/{BRIDGE}")
    options = network.get("Options") or {}
    addresses = [address_of(options.get("com.docker.network.bridge.name", "docker0"))]
    addresses += [each.get("Gateway") for each in (network.get("IPAM") or {}).get("Config") or []]
    for address in filter(None, addresses):
        if is_here(address):
            return str(address)
    system = ask(daemon, "/info").get("OperatingSystem", "Docker")
    raise DockerError(
        f"{system} runs its containers in a machine of their own: the network's gateway is none of this machine's "
        "addresses. Use Docker Engine on Linux, or `sam remote invoke`, which needs no Docker."
    )
