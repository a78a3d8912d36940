"""What the integration tests share: moto in this process, one simulator a worker, and a stack to play with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import quick_moto
from moto import mock_aws
from world import REGION, FileServer, World, make_table, serving

import hypothesis_profile  # noqa: F401 - importing it sets the profile
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portraitcast.adapters.jobs_table import JobsTable

quick_moto.use()

NO_RATES: dict[str, Any] = dict.fromkeys(("check_rate", "create_rate", "query_rate", "list_rate", "cancel_rate"))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        yield


@pytest.fixture
def table(aws: None) -> JobsTable:
    return make_table()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore waits between its tries; the tests need not."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)


@pytest.fixture(scope="session")
def one_simulator() -> Iterator[Simulator]:
    """One for all, since it remembers videos it has rendered; `sim` gives it as new."""
    with Simulator(task_seconds=0.0, **NO_RATES) as sim:
        yield sim


@pytest.fixture
def emo_service(one_simulator: Simulator) -> Simulator:
    one_simulator.reset()
    return one_simulator


@pytest.fixture(scope="session")
def file_server() -> Iterator[FileServer]:
    files = FileServer()
    with serving(files.server):
        yield files


@pytest.fixture
def make_world(aws: None, emo_service: Simulator, file_server: FileServer) -> Callable[..., World]:
    """Give a stack with parameters of one's own; one a test."""

    def make(**parameters: float | str) -> World:
        return World(emo_service, file_server, **parameters)  # type: ignore[arg-type]

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
