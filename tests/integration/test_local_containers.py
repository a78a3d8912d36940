"""Where containers find this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import containers
from containers import HOST_NAME, Address, DockerError, address_for_containers, address_of, ask, is_here
from env_file import function_variables

if TYPE_CHECKING:
    from collections.abc import Callable

    Says = Callable[..., None]

DESKTOP = Address("127.0.0.1", HOST_NAME)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Says:
    """Let a daemon say what it is and which bridge it has, on a machine that has these addresses itself."""

    def of(system: str, bridge: str, gateway: str, *, own: set[str]) -> None:
        network = {
            "Options": {"com.docker.network.bridge.name": bridge},
            "IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": gateway}]},
        }
        answers: dict[str, dict[str, Any]] = {"/info": {"OperatingSystem": system}, "/networks/bridge": network}
        monkeypatch.setattr(containers, "ask", lambda _daemon, path: answers[path])
        monkeypatch.setattr(containers, "is_here", own.__contains__)

    return of


def test_the_bridges_address_is_this_machines(says: Says) -> None:
    says("Debian GNU/Linux 12 (bookworm)", "lo", "172.17.0.1", own={"127.0.0.1"})
    assert address_of("lo") == "127.0.0.1"
    assert address_for_containers({}) == Address("127.0.0.1", "127.0.0.1")


def test_the_networks_gateway_is_taken_where_no_bridge_is_seen(says: Says) -> None:
    says("Debian GNU/Linux 12 (bookworm)", "nobodys0", "172.17.0.1", own={"172.17.0.1"})
    assert address_for_containers({}) == Address("172.17.0.1", "172.17.0.1")


def test_docker_desktops_containers_have_a_name_for_it(says: Says) -> None:
    """A bridge of another daemon may be here as well."""
    says("Docker Desktop", "docker0", "172.17.0.1", own={"172.17.0.1"})
    assert address_for_containers({}) == DESKTOP


def test_so_have_those_whose_gateway_is_elsewhere(says: Says) -> None:
    says("Alpine Linux v3.20", "nobodys0", "172.17.0.1", own=set())
    assert address_for_containers({}) == DESKTOP


def test_without_a_daemon_the_way_without_docker_is_named() -> None:
    with pytest.raises(DockerError, match=r"no Docker daemon answers at unix:///nowhere.*needs no Docker"):
        ask("unix:///nowhere", "/info")
    with pytest.raises(DockerError, match="only a daemon of this machine"):
        address_for_containers({"DOCKER_HOST": "tcp://192.0.2.1:2375"})


def test_an_interface_without_an_address_has_none() -> None:
    assert address_of("nobodys0") is None


def test_an_address_of_another_machine_is_not_here() -> None:
    assert is_here("127.0.0.1")
    assert not is_here("192.0.2.1")


# What is written for them


class Engine:
    """Answers for the services that are asked for a function's variables."""

    def __call__(self, _service: str) -> Engine:
        return self

    def get_function_configuration(self, **_: str) -> dict[str, Any]:
        variables = {
            "UPLOADS_QUEUE_URL": "http://127.0.0.1:4566/000000000000/uploads",
            "DASHSCOPE_BASE_URL": "http://127.0.0.1:9700/api/v1",
            "EXTRA_VIDEO_HOSTS": "https://videos.example,http://127.0.0.1:9700",
            "UPLOAD_BUCKET": "uploads",
        }
        return {"Role": "arn:aws:iam::000000000000:role/submit", "Environment": {"Variables": variables}}

    def assume_role(self, **_: object) -> dict[str, Any]:
        return {"Credentials": dict.fromkeys(("AccessKeyId", "SecretAccessKey", "SessionToken"), "lent")}


@pytest.mark.parametrize("address", [DESKTOP, Address("127.0.0.1", "127.0.0.1")])
def test_each_address_is_written_as_containers_call_it(address: Address) -> None:
    made = function_variables(Engine(), {"Submit": "submit"}, "http://127.0.0.1:4566", "us-east-1", address)["Submit"]
    host = address.name
    assert made["AWS_ENDPOINT_URL"] == f"http://{host}:4566"
    assert made["UPLOADS_QUEUE_URL"] == f"http://{host}:4566/000000000000/uploads"
    assert made["DASHSCOPE_BASE_URL"] == f"http://{host}:9700/api/v1"
    assert made["EXTRA_VIDEO_HOSTS"] == f"https://videos.example,http://{host}:9700"
    assert made["UPLOAD_BUCKET"] == "uploads"
