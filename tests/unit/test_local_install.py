"""What installing asks of the machine, and the locks that it installs from."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from install import ROOT, InstallError, check_machine
from lock import pins

if TYPE_CHECKING:
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
