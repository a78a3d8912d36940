"""Where SAM CLI's containers find this machine: asked of the Docker daemon, over its socket."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from loopback import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_DAEMON = "unix:///var/run/docker.sock"
BRIDGE = "bridge"  # the network that SAM CLI starts containers in, whatever --docker-network says (tried with 1.170)
ASK_SECONDS = 5  # ours: the daemon answers at once
SIOCGIFADDR = 0x8915  # linux/sockios.h
# What Docker Desktop's containers call the machine of the person; what comes by it reaches loopback there (Docker
# Desktop, "Networking", "I want to connect from a container to a service on the host").
HOST_NAME: Final = "host.docker.internal"
DESKTOP: Final = "Docker Desktop"


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


@dataclass(frozen=True)
class Address:
    """Where containers and this machine meet.

    Attributes
    ----------
    listen
        Address of this machine at which engine and simulator listen.
    name
        What containers call it. It is the same address, or with Docker Desktop a name that they alone know.
    """

    listen: str
    name: str

    def as_containers_see(self, text: str) -> str:
        """Return a text with every address of this machine as containers write it."""
        return text.replace(f"//{self.listen}:", f"//{self.name}:")


LOOPBACK_ONLY: Final = Address(HOST, HOST)  # without containers


def address_for_containers(environment: Mapping[str, str]) -> Address:
    """Return where containers of this machine's Docker reach this machine.

    With Docker Engine it is the gateway of the network: both sides use that address, so that every link means the same
    to both. Where containers run in a machine of their own (Docker Desktop) no address is the same on both sides; they
    know this machine by a name, `HOST_NAME`.

    Raises
    ------
    DockerError
        Without a daemon here.
    """
    daemon = daemon_of(environment)
    if ask(daemon, "/info").get("OperatingSystem") == DESKTOP:
        return Address(HOST, HOST_NAME)
    network = ask(daemon, f"/networks/{BRIDGE}")
    options = network.get("Options") or {}
    addresses = [address_of(options.get("com.docker.network.bridge.name", "docker0"))]
    addresses += [each.get("Gateway") for each in (network.get("IPAM") or {}).get("Config") or []]
    for address in filter(None, addresses):
        if is_here(address):
            return Address(str(address), str(address))
    return Address(HOST, HOST_NAME)
