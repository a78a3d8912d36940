"""What installing asks of the machine, and the locks that it installs from."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

import install
from install import ROOT, InstallError, check_machine
from lock import pins

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOCKS = sorted((ROOT / "locks").glob("*.txt"))
LAYER = ROOT / "layers" / "portraitcast" / "requirements.txt"


def test_a_machine_with_what_is_needed_passes() -> None:
    check_machine("linux", (3, 11))


@pytest.mark.parametrize(("platform", "version", "says"), [("darwin", (3, 12), "Linux"), ("linux", (3, 10), "3.11")])
def test_what_a_machine_lacks_is_said(platform: str, version: tuple[int, int], says: str) -> None:
    with pytest.raises(InstallError, match=re.escape(says)):
        check_machine(platform, version)


def test_every_group_has_a_lock() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert {lock.stem for lock in LOCKS} == set(groups)


@pytest.mark.parametrize("lock", [*LOCKS, LAYER], ids=lambda path: path.parent.name + "/" + path.name)
def test_locks_pin_versions_with_hashes_and_name_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert pins(text)
    assert len(re.findall(r"^\S+==\S+.* \\$", text, flags=re.MULTILINE)) == len(pins(text))
    assert not re.search(r"://|index-url|find-links|trusted-host", text)


def test_the_layer_and_the_tests_use_the_same_versions() -> None:
    tested = set(pins((ROOT / "locks" / "test.txt").read_text()))
    assert set(pins(LAYER.read_text())) <= tested


# pip installs uv, and uv the rest


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Let nothing be run; give what would be, of a machine on which the commands that hold a word fail."""
    monkeypatch.setattr(install, "VENVS", tmp_path)
    monkeypatch.setattr(install, "pip_of", lambda python: [str(python), "-m", "pip"])

    def of(*groups: str, fails: str = "no such word", settings: str = "") -> list[str]:
        ran: list[str] = []

        def run(command: list[str], what: str) -> None:
            ran.append(" ".join(command).replace(str(tmp_path), ""))
            if fails in ran[-1]:
                raise InstallError(what)
            if "venv" in command:
                (tmp_path / command[command.index("--clear") + 1]).mkdir()

        def config(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess([], 0, settings, "")

        monkeypatch.setattr(install, "run_quietly", run)
        monkeypatch.setattr(subprocess, "run", config)
        for group in groups:
            install.install(group)
        return [command.split(" --")[0] for command in ran if "venv" not in command.split()]

    return of


def test_pip_installs_uv_and_uv_the_rest(commands: Callable[..., list[str]]) -> None:
    pip, *rest = commands("engine", "runtime", "engine")
    assert pip == "/lock/bin/python -m pip install"
    assert rest == ["/lock/bin/uv pip sync"] * 2


@pytest.mark.parametrize("trouble", ["/lock/bin/python -m pip install", "/lock/bin/uv pip sync"])
def test_pip_installs_where_uv_is_not_to_be_had_or_fails(commands: Callable[..., list[str]], trouble: str) -> None:
    assert commands("engine", fails=trouble)[-1] == "/engine/bin/python -m pip install"


@pytest.mark.parametrize(
    ("settings", "uv"),
    [
        ("global.index-url='https://mirror.example/simple'\n", False),
        (":env:.index-url='https://mirror.example/simple'\n", False),
        ("install.no-index='true'\n", False),
        ("global.extra-index-url='https://more.example/simple'\nglobal.timeout='9'\n", True),
    ],
)
def test_pip_installs_where_it_is_told_of_an_index(commands: Callable[..., list[str]], settings: str, uv: bool) -> None:
    assert ("/lock/bin/uv pip sync" in commands("engine", settings=settings)) is uv


def test_what_neither_can_install_is_said(commands: Callable[..., list[str]]) -> None:
    with pytest.raises(InstallError, match="installing 'engine'"):
        commands("engine", fails="locks/engine.txt")
