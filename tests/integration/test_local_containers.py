"""Where containers find this machine."""

from __future__ import annotations

import pytest

import containers
from containers import DockerError, address_of, ask, gateway, is_here

NETWORK = {"Options": {"com.docker.network.bridge.name": "nobodys0"}, "IPAM": {"Config": [{"Gateway": "127.0.0.2"}]}}


def answers(network: dict[str, object]) -> object:
    return lambda _daemon, path: {"OperatingSystem": "Docker Desktop"} if path == "/info" else network


def test_the_bridges_address_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "ask", answers({**NETWORK, "Options": {"com.docker.network.bridge.name": "lo"}}))
    monkeypatch.setattr(containers, "is_here", lambda _address: True)
    assert gateway({}) == address_of("lo") == "127.0.0.1"


def test_the_networks_gateway_is_taken_where_no_bridge_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "ask", answers(NETWORK))
    monkeypatch.setattr(containers, "is_here", lambda _address: True)
    assert gateway({}) == "127.0.0.2"


def test_containers_in_a_machine_of_their_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "ask", answers(NETWORK))
    monkeypatch.setattr(containers, "is_here", lambda _address: False)
    with pytest.raises(DockerError, match="Docker Desktop runs its containers in a machine of their own"):
        gateway({})


def test_without_a_daemon_the_way_without_docker_is_named() -> None:
    with pytest.raises(DockerError, match=r"no Docker daemon answers at unix:///nowhere.*needs no Docker"):
        ask("unix:///nowhere", "/info")
    with pytest.raises(DockerError, match="only a daemon of this machine"):
        gateway({"DOCKER_HOST": "tcp://192.0.2.1:2375"})


def test_an_interface_without_an_address_has_none() -> None:
    assert address_of("nobodys0") is None


def test_an_address_of_another_machine_is_not_here() -> None:
    assert is_here("127.0.0.1")
    assert not is_here("192.0.2.1")
