"""Make the virtual environments that the make targets use: ``python3 local/install.py GROUP…``.

Each group of pyproject.toml gets ``.venv/<group>``, filled from ``locks/<group>.txt`` with hashes, and nothing outside
the checkout is touched but the caches of pip and uv. A stamp keeps what was installed, so that nothing is installed
twice. pip installs uv, and uv the rest, many times sooner; where uv can't, pip does. Standard library only: this runs
first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venv"
OLDEST = (3, 11)
UV = "lock"  # the group that holds uv
# The locks are complete, so nothing is resolved; wheels only, so no compiler is needed.
LOCKED = ["--require-hashes", "--only-binary", ":all:"]


class InstallError(Exception):
    """Something that the person must mend; the message says what and how."""


def check_machine(platform: str = sys.platform, version: tuple[int, int] = sys.version_info[:2]) -> None:
    """Raise InstallError, saying what is missing, unless this machine can run the project."""
    if platform != "linux":
        raise InstallError(
            f"This runs on Linux, and this is {platform!r}: use WSL on Windows, a Linux machine on a Mac."
        )
    if version < OLDEST:
        found = ".".join(map(str, version))
        raise InstallError(f"Python 3.11 or newer is needed, this is {found}: name one with PYTHON=/path/to/python3.12")
    if not all(importlib.util.find_spec(name) for name in ("venv", "ssl", "ctypes")):
        raise InstallError("This Python lacks venv, ssl or ctypes. On Debian and Ubuntu: apt install python3-full")
    if not any(importlib.util.find_spec(name) for name in ("ensurepip", "pip")):
        raise InstallError("This Python has neither ensurepip nor pip. On Debian and Ubuntu: apt install python3-venv")


def pip_of(python: Path) -> list[str]:
    """Return the command that runs pip for `python`: its own, the one beside uv, or the person's."""
    base = Path(sys._base_executable)  # type: ignore[attr-defined]  # the person's Python, from within a venv of ours too
    for owner in (python, VENVS / UV / "bin" / "python", base):
        command = [str(owner), "-m", "pip"]
        if owner.exists() and subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
            break
    return command if owner == python else [*command, "--python", str(python)]


def run_quietly(command: list[str], what: str) -> None:
    """Run `command` without its chatter; raise InstallError with its output if it fails."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=False
    )
    if done.returncode:
        tail = "\n".join(line for line in done.stdout.splitlines()[-25:] if not line.startswith("WARNING"))
        raise InstallError(f"{what} failed (exit {done.returncode}):\n{tail}")


def wanted_stamp(lock: Path, python: str = sys.executable) -> str:
    """Return what the stamp must hold: the lock, the Python, and the place (virtual environments can't be moved)."""
    return f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {sys.version_info[:3]} {Path(python).resolve()} {ROOT}\n"


def make_venv(folder: Path, *, pip: bool) -> None:
    """Make an empty virtual environment, with pip in it if it should and where ensurepip works."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    try:
        run_quietly(command if pip else [*command, "--without-pip"], "making a virtual environment")
    except InstallError:
        if not pip or not importlib.util.find_spec("pip"):
            raise
        make_venv(folder, pip=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let no other process of this checkout install meanwhile: it waits, and finds what was installed."""
    VENVS.mkdir(exist_ok=True)
    with (VENVS / "busy").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def has_index_of_its_own(settings: str) -> bool:
    """Whether pip is told where to look (what `pip config list` says): uv doesn't read that, so pip must install."""
    names = {line.partition("=")[0].rpartition(".")[2] for line in settings.splitlines()}
    return not names.isdisjoint({"index-url", "no-index"})


def find_uv() -> Path | None:
    """Return uv, installed if it wasn't; None where there is none for this machine, or where pip must install."""
    try:
        install(UV)
    except InstallError:
        print(" not to be had here: pip installs", flush=True)
        return None
    pip = pip_of(VENVS / UV / "bin" / "python")
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False)
    return None if has_index_of_its_own(listed.stdout) else VENVS / UV / "bin" / "uv"


def fill(folder: Path, lock: Path, uv: Path | None) -> None:
    """Make the virtual environment anew and install into it what `lock` says."""
    python, what = folder / "bin" / "python", f"installing '{folder.name}'"
    if uv:
        make_venv(folder, pip=False)
        # Copies: whoever edits a package in .venv/ must not edit the one in uv's cache.
        command = [str(uv), "pip", "sync", "--no-config", "--link-mode", "copy", *LOCKED, "--python", str(python)]
        with contextlib.suppress(InstallError):
            return run_quietly([*command, str(lock)], what)
    make_venv(folder, pip=True)
    return run_quietly([*pip_of(python), "install", "--no-deps", *LOCKED, "-r", str(lock)], what)


def install(group: str) -> None:
    """Bring ``.venv/<group>`` to what ``locks/<group>.txt`` says, if it isn't."""
    lock, folder = ROOT / "locks" / f"{group}.txt", VENVS / group
    stamp, wanted = folder / "installed", wanted_stamp(lock)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    uv = find_uv() if group != UV else None
    print(f"installing what '{group}' needs into .venv/{group} (first time only) …", end="", flush=True)
    started = time.monotonic()
    fill(folder, lock, uv)
    stamp.write_text(wanted)
    print(f" {time.monotonic() - started:.0f} s", flush=True)


def main(groups: list[str]) -> int:
    """Install `groups`; return the exit code."""
    try:
        check_machine()
        with alone():
            for group in groups:
                install(group)
    except InstallError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
