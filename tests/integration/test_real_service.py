"""What ``make demo`` asks, says and refuses before a real video is paid, against the simulator."""

from __future__ import annotations

import io
import os
import pty
import socket
import subprocess
import sys
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import confined
import fetch
import real_service
from demo import SAMPLES
from provider import Provider, RunError
from real_service import Order, ask_free, chosen_model, client, confirm, describe, describe_all, how_to_get, plan
from run import ROOT
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-real-0123456789abcdef"
PORTRAIT, VOICE = SAMPLES / "portrait.png", SAMPLES / "voice.mp3"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(api_key=KEY) as running:
        yield running


def order(model: str = "emo-v1") -> Order:
    return plan(PORTRAIT, VOICE, chosen_model({"DefaultModel": model}))


def silence(path: Path, seconds: float) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(round(seconds * 16_000)))
    return path


# ---------------------------------------------------------------------- what it costs, and where it goes
@pytest.mark.parametrize(("model", "rate"), [("emo-v1", 0.08), ("liveportrait", 0.02), ("wan2.2-s2v", 0.5)])
def test_the_price_is_the_models(model: str, rate: float) -> None:
    asked = order(model)
    assert asked.cost == pytest.approx(0.004 + rate * asked.seconds, abs=1e-3)
    words = describe(Provider("https://s.example/api/v1", KEY), asked)
    for part in (
        "https://s.example/api/v1",
        "portrait.png",
        "voice.mp3",
        model,
        f"about CNY {asked.cost:.2f}",
        "48 hours",
    ):
        assert part in words
    assert KEY not in words


def test_make_local_says_every_price() -> None:
    words = describe_all(Provider("https://s.example/api/v1", KEY), {"ModelDeployments": "my-emo=emo-v1"})
    for part in ("emo-v1: CNY 0.08 a second (1:1), 0.16 (3:4)", "liveportrait: CNY 0.02", "720P", "my-emo", "none;"):
        assert part in words
    assert "CNY 20 a Beijing day" in describe_all(Provider("https://s.example", KEY), {"DailyBudgetCny": "20"})


@pytest.mark.parametrize(
    ("model", "seconds", "limit"), [("emo-v1", 61.0, "60 s"), ("wan2.2-s2v", 20.0, "less than 20 s")]
)
def test_too_long_is_refused_before_anything(tmp_path: Path, model: str, seconds: float, limit: str) -> None:
    with pytest.raises(RunError, match=limit):
        plan(PORTRAIT, silence(tmp_path / "v.wav", seconds), chosen_model({"DefaultModel": model}))


def test_no_sound_is_refused_before_anything(tmp_path: Path) -> None:
    (tmp_path / "v.mp3").write_bytes(b"no sound")
    with pytest.raises(RunError, match=r"v\.mp3 holds no sound"):
        plan(PORTRAIT, tmp_path / "v.mp3", chosen_model({}))


# ---------------------------------------------------------------------- free questions
def test_free_questions_cost_nothing(sim: Simulator) -> None:
    ask_free(Provider(sim.base_url, KEY), order())
    state = sim.state()
    assert {name: count for name, count in state["counters"]["requests"].items() if count} == {"policy": 2}
    assert (state["tasks"], state["stored"], dict(state["counters"]["paid_cny"])) == ([], [], {})


def test_a_wrong_key_is_told(sim: Simulator) -> None:
    with pytest.raises(RunError, match=r"InvalidApiKey: .*Nothing was paid") as refused:
        ask_free(Provider(sim.base_url, "sk-wrong-0123456789"), order())
    assert "sk-wrong" not in str(refused.value)


def test_no_network_is_told() -> None:
    with pytest.raises(RunError, match=r"can't be reached: .*Nothing was paid"):
        ask_free(Provider("http://127.0.0.1:9/api/v1", KEY), order())


def test_a_refused_policy_is_told(sim: Simulator) -> None:
    sim.trouble("arrearage")
    with pytest.raises(RunError, match=r"Arrearage: .*Nothing was paid"):
        ask_free(Provider(sim.base_url, KEY), order())


def test_a_file_beyond_the_storage_is_told(sim: Simulator) -> None:
    sim.set(upload_max_mb=0)
    with pytest.raises(RunError, match=r"portrait\.png has \d+ bytes, and the service's temporary storage takes 0"):
        ask_free(Provider(sim.base_url, KEY), order())


# ---------------------------------------------------------------------- the person's word
def test_yes_answers() -> None:
    confirm({"YES": "1"}, "Make it?")


@pytest.mark.parametrize("yes", [{}, {"YES": ""}, {"YES": "0"}])
def test_nobody_to_ask_is_no(yes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(RunError, match="YES=1"):
        confirm(yes, "Make it?")


ASKING = "import real_service; real_service.confirm({}, 'Make it?'); print('agreed')"


@pytest.mark.parametrize(("typed", "agreed"), [(b"y\n", True), (b"yes\n", True), (b"\n", False), (b"n\n", False)])
def test_a_terminal_is_asked(typed: bytes, agreed: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "local")}
    with subprocess.Popen(  # noqa: S603 - a program of this test
        [sys.executable, "-c", ASKING], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as asked:
        os.close(theirs)
        os.write(ours, typed)
        said, _ = asked.communicate(timeout=60)
    os.close(ours)
    assert (b"agreed" in said, asked.returncode == 0) == (agreed, agreed)


def test_a_key_is_typed_without_echo() -> None:
    ours, theirs = pty.openpty()
    program = "import os, provider; os.setsid(); import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    program += "print(len(provider.typed_key()), flush=True)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "local")}
    with subprocess.Popen(  # noqa: S603 - a program of this test
        [sys.executable, "-c", program], stdin=theirs, stdout=subprocess.PIPE, env=environment
    ) as asked:
        os.close(theirs)
        shown = b""
        while b"(not shown)" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, KEY.encode() + b"\n")
        said, _ = asked.communicate(timeout=60)
        shown += os.read(ours, 1000)
    os.close(ours)
    assert said.strip() == str(len(KEY)).encode()
    assert KEY.encode() not in shown


# ---------------------------------------------------------------------- what functions may reach
def test_a_confined_process_is_refused_elsewhere(tmp_path: Path) -> None:
    """A real process with the real hook: a name, an address and a datagram; the engine's port is reached."""
    (tmp_path / "sitecustomize.py").write_bytes(Path(confined.__file__).read_bytes())
    (tmp_path / "confined.json").write_text("[]")
    program = """
import socket, sys
told = []
def refused(what):
    try: what()
    except PermissionError as error: told.append(str(error))
refused(lambda: socket.create_connection(("example.com", 443), 1))
refused(lambda: socket.create_connection(("127.0.0.1", 9), 1))
refused(lambda: socket.socket().connect(("192.0.2.1", 443)))
refused(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)))
socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5).close()
print(len(told))
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        environment = {"PYTHONPATH": str(tmp_path), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        done = subprocess.run(  # noqa: S603 - a program of this test
            [sys.executable, "-c", program, str(port)], env=environment, capture_output=True, text=True, check=False
        )
    assert done.stdout == "4\n", done.stderr


# ---------------------------------------------------------------------- a task that was left
def test_a_task_that_was_left_is_fetched(sim: Simulator) -> None:
    provider = Provider(sim.base_url, KEY)
    sim.set(task_seconds=0.0)
    with client(provider) as service:
        made = []
        for model, path in (("emo-v1", PORTRAIT), ("emo-v1", VOICE)):
            with path.open("rb") as file:
                made.append(service.upload(model, file, path.name, path.stat().st_size))
        from portraitcast.domain.models import MODELS, Boxes  # noqa: PLC0415 - as the client itself

        created = service.create(
            MODELS["emo-v1"],
            image_url=made[0],
            audio_url=made[1],
            boxes=Boxes((100, 50, 300, 250), (0, 0, 400, 400)),
            parameters={},
        )
        sim.wait_for(lambda state: state["tasks"][0]["status"] == "SUCCEEDED")
        assert fetch.wait_for(service, created.task_id).startswith("http")
        with pytest.raises(RunError, match=r"UNKNOWN.*24 hours"):
            fetch.wait_for(service, "00000000-0000-0000-0000-000000000000")
    assert f"make fetch TASK={created.task_id}" in how_to_get(created.task_id, provider)
    assert KEY not in how_to_get(created.task_id, provider)


def test_an_item_is_read_as_plain_values() -> None:
    item = {"spent": {"N": "0.004"}, "breaker": {"M": {"code": {"S": "Arrearage"}}}}
    assert real_service.plain(item)["breaker"] == {"code": "Arrearage"}
