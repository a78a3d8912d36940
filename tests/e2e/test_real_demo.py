"""``make demo`` with a key: a video of a named service, over TCP and TLS, by upload. The simulator is the service.

The simulator refuses a stored link without its header, and one that was uploaded for another model.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from certificates import self_signed
from run import ROOT
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "sk-demo-0123456789abcdef"
GUARD_SECONDS = 120.0
PYTHON = ROOT / ".venv" / "engine" / "bin" / "python"


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself; return it and its key as PEM files."""
    files = folder / "certificate.pem", folder / "key.pem"
    for file, content in zip(files, self_signed(x509.IPAddress(ip_address("127.0.0.1"))), strict=True):
        file.write_bytes(content)
    return files


class Demo:
    """A demo at a terminal of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._terminal, theirs = pty.openpty()
        self.said = ""
        self.process = subprocess.Popen(  # noqa: S603 - the demo itself
            [PYTHON, ROOT / "local" / "demo.py"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(theirs)
        DEMOS.append(self)

    def until(self, words: str) -> None:
        """Wait until it has said something."""
        while words not in self.said:
            assert self._hear(), f"it ended without {words!r}: {self.said}"

    def end(self) -> int:
        """Wait for its end; return its exit code."""
        while self._hear():
            pass
        os.close(self._terminal)
        return self.process.wait(GUARD_SECONDS)

    def stop(self) -> None:
        """End it, if a test left it: it holds the checkout's folder for demos."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(GUARD_SECONDS)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _hear(self) -> bool:
        deadline = time.monotonic() + GUARD_SECONDS
        readable, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert readable, f"nothing more was said in {GUARD_SECONDS} s: {self.said}"
        try:
            heard = os.read(self._terminal, 10_000)
        except OSError:  # nobody holds the other end any more
            return False
        self.said += heard.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(heard)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(api_key=KEY, task_seconds=0.5, certificate=certificate(tmp_path)) as running:
        yield running


DEMOS: list[Demo] = []


@pytest.fixture(autouse=True)
def all_end() -> Iterator[None]:
    """Leave no demo behind, whatever a test has found."""
    yield
    while DEMOS:
        DEMOS.pop().stop()


def start(service: Simulator, tmp_path: Path, **more: str) -> Demo:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    named = {"DASHSCOPE_BASE_URL": service.base_url, "DASHSCOPE_API_KEY": KEY}
    return Demo({**kept, "DASHSCOPE_CA_BUNDLE": str(tmp_path / "certificate.pem"), **named, **more})


def paid(service: Simulator) -> dict[str, Any]:
    return dict(service.state()["counters"]["paid_cny"])


def test_a_real_video_by_upload(service: Simulator, tmp_path: Path) -> None:
    assert service.base_url.startswith("https://127.0.0.1:")
    demo = start(service, tmp_path, MODEL="liveportrait")
    demo.until("Make it? [y/N]")
    assert "about CNY" in demo.said
    assert paid(service) == {}, "it asks before anything is paid"
    demo.type("y\n")
    assert demo.end() == 0, demo.said

    (task,) = service.state()["tasks"]
    assert task["image_url"].startswith("oss://")
    assert task["audio_url"].startswith("oss://")
    assert sorted(each["model"] for each in service.state()["stored"]) == [
        "liveportrait", "liveportrait", "liveportrait-detect"
    ]  # fmt: skip
    assert re.search(r"Your video: .*\.demo/voice\.mp4", demo.said)
    assert KEY not in demo.said
    assert [path for path in (ROOT / ".demo").rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


def test_a_key_is_asked_for_and_a_no_costs_nothing(service: Simulator, tmp_path: Path) -> None:
    demo = start(service, tmp_path, DASHSCOPE_API_KEY="")
    demo.until("(not shown)")
    demo.type(f"{KEY}\n")
    demo.until("Make it? [y/N]")
    demo.type("n\n")
    assert demo.end() == 1
    assert "Nothing was sent or paid" in demo.said
    assert KEY not in demo.said
    assert (service.state()["stored"], paid(service)) == ([], {})


def test_ctrl_c_at_the_question_costs_nothing(service: Simulator, tmp_path: Path) -> None:
    demo = start(service, tmp_path)
    demo.until("Make it? [y/N]")
    os.kill(demo.process.pid, signal.SIGINT)
    assert demo.end() == 130
    assert (service.state()["stored"], paid(service)) == ([], {})


def test_ctrl_c_after_it_says_how_to_get_the_video(service: Simulator, tmp_path: Path) -> None:
    service.set(manual=True)
    demo = start(service, tmp_path, YES="1")
    demo.until("rendering")
    os.kill(demo.process.pid, signal.SIGINT)
    assert demo.end() == 130
    (task,) = service.state()["tasks"]
    assert f"Task {task['id']} goes on at the service" in demo.said
    assert f"make fetch TASK={task['id']}" in demo.said
    assert KEY not in demo.said


def test_a_wrong_key_is_told_before_anything(service: Simulator, tmp_path: Path) -> None:
    demo = start(service, tmp_path, YES="1", DASHSCOPE_API_KEY="sk-wrong-0123456789")
    assert demo.end() == 1
    assert "answers InvalidApiKey" in demo.said
    assert "Nothing was paid" in demo.said


def test_uploads_that_are_cut_are_told(service: Simulator, tmp_path: Path) -> None:
    service.fault({"close": "before"}, endpoint="upload", times=None)
    demo = start(service, tmp_path, YES="1")
    assert demo.end() == 1
    assert "the video service takes nothing now" in demo.said
    assert "nothing was paid" in demo.said
    assert (service.state()["tasks"], paid(service)) == ([], {})


def test_without_a_key_it_is_the_simulator(tmp_path: Path) -> None:
    demo = Demo({name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ})
    assert demo.end() == 0, demo.said
    assert "EMO simulator at http://127.0.0.1" in demo.said
    assert "Make it?" not in demo.said
