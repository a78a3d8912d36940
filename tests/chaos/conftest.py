"""A stack of its own for chaos and storms: the end-to-end stack with the hook beside its functions."""

from __future__ import annotations

import shutil
import uuid
from typing import TYPE_CHECKING

import pytest
from hurt import Hurt, hook_files

from stacks import SHORT_WAITS, deployed, own_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


API_KEY = "sk-chaos"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="every crash point and storms of 300 voices, not a sample")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: takes long; only with --full")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("full", default=False):
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="in full runs only"))


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("full", default=False))


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Show a line of progress: full runs take long."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n[chaos] {line}", end="", flush=True)

    return say


@pytest.fixture(scope="session", params=[{}])
def hurt(request: pytest.FixtureRequest, say: Callable[[str], None]) -> Iterator[Hurt]:
    """Bring up a stack, with parameters of a test's own if it asks; its logs stay in ``.test/`` when a test failed."""
    failed_before = request.session.testsfailed
    with own_folder() as work:
        hook = work / "chaos"
        beside, wished = hook_files(hook), SHORT_WAITS | request.param
        with deployed(work, wished, api_key=API_KEY, task_seconds=0.1, beside=beside, say=say) as (run, simulator):
            stack = Hurt(run, simulator, hook)
            yield stack
            stack.told.end()
            failed = request.session.testsfailed > failed_before
            if failed:
                say(f"logs of the failed run: {[str(path) for path in run.save_logs()]}\n")
    if not failed:
        shutil.rmtree(work)


@pytest.fixture
def folder() -> str:
    """Return a folder of the upload bucket that no other test uses, with its last slash."""
    return f"t{uuid.uuid4().hex[:10]}/"
