"""What `make local` takes from the person, and how it guards its folder."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

import confined
from confined import may_reach
from containers import HOST_NAME, LOOPBACK_ONLY, Address
from provider import named_provider
from run import (
    ROOT,
    Provider,
    RunError,
    check_reachable,
    confinement,
    read_parameters,
    stack_parameters,
    work_folder,
    write_whole,
)
from stack import StackError, deploy

if TYPE_CHECKING:
    from pathlib import Path

KNOWN: dict[str, dict[str, Any]] = {"MaxTasksInFlight": {}, "MinPollSeconds": {}}
KEY = "sk-0123456789abcdef"


def test_params_are_split_at_spaces() -> None:
    wished = read_parameters("MaxTasksInFlight=4  MinPollSeconds=1", KNOWN)
    assert wished == {"MaxTasksInFlight": "4", "MinPollSeconds": "1"}


@pytest.mark.parametrize("text", ["MaxTasks=4", "MaxTasksInFlight", "=4"])
def test_a_parameter_that_the_stack_does_not_have_is_refused_with_those_it_has(text: str) -> None:
    with pytest.raises(RunError, match="MaxTasksInFlight, MinPollSeconds"):
        read_parameters(text, KNOWN)


def test_a_value_that_the_template_refuses_is_told_in_cloudformations_words() -> None:
    cloudformation = boto3.client(
        "cloudformation", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
    )
    words = "Parameter 'MaxTasksInFlight' must be at most 100"
    with Stubber(cloudformation) as engine:
        engine.add_client_error("create_change_set", "ValidationError", words)
        with pytest.raises(StackError, match=words):
            deploy(cloudformation, "portraitcast", "http://127.0.0.1/template", {"MaxTasksInFlight": "999"})


def test_without_a_named_service_the_simulator_is_used() -> None:
    assert named_provider({}) is None


def test_a_key_alone_names_the_real_service() -> None:
    environment = {"DASHSCOPE_API_KEY": f" {KEY}\n"}
    assert named_provider(environment) == Provider("https://dashscope.aliyuncs.com/api/v1", KEY)
    assert environment == {}, "no child inherits the key"


def test_a_named_service_is_used_with_its_key() -> None:
    named = named_provider({"DASHSCOPE_BASE_URL": "http://127.0.0.1:9700/api/v1/", "DASHSCOPE_API_KEY": KEY})
    assert named == Provider("http://127.0.0.1:9700/api/v1", KEY, simulator_url=None)
    assert KEY not in repr(named)


def test_a_key_is_asked_for_where_a_service_is_named() -> None:
    named = named_provider({"DASHSCOPE_BASE_URL": "https://dashscope.aliyuncs.com/api/v1"}, ask=lambda: f"{KEY}\n")
    assert named == Provider("https://dashscope.aliyuncs.com/api/v1", KEY)


def test_a_key_behind_make_is_refused() -> None:
    """Its command line is in the list of processes."""
    with pytest.raises(RunError, match=r"DASHSCOPE_API_KEY=… make demo") as refused:
        named_provider({"DASHSCOPE_API_KEY": KEY, "MAKEFLAGS": f" -- DASHSCOPE_API_KEY={KEY}"})
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("key", ["sk-1", "sk-with a space", "sk-gedöns-0123456789"])
def test_what_cannot_be_a_key_is_refused(key: str) -> None:
    with pytest.raises(RunError, match="can't be a key") as refused:
        named_provider({"DASHSCOPE_API_KEY": key})
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://dashscope.aliyuncs.com/api/v1",
        "https://ws-1.cn-beijing.maas.aliyuncs.com/api/v1",
        "https://DASHSCOPE.ALIYUNCS.COM./api/v1",
    ],
)
def test_the_real_service_gets_files_by_upload(url: str) -> None:
    """It can't fetch them from this machine; nor can it be asked to."""
    provider = named_provider({"DASHSCOPE_BASE_URL": url, "DASHSCOPE_API_KEY": KEY})
    assert provider
    assert stack_parameters(provider, {})["InputTransfer"] == "upload"
    with pytest.raises(RunError, match=r"127\.0\.0\.1, which it can't reach"):
        stack_parameters(provider, {"InputTransfer": "links"})
    simulated = Provider("http://127.0.0.1:1/api/v1", "k", simulator_url="http://127.0.0.1:1")
    with pytest.raises(RunError, match=r"127\.0\.0\.1, which it can't reach"):
        stack_parameters(simulated, {"DashScopeBaseUrl": url})


def test_a_key_goes_to_the_real_service_by_tls_only() -> None:
    with pytest.raises(RunError, match="in clear"):
        named_provider({"DASHSCOPE_BASE_URL": "http://dashscope.aliyuncs.com/api/v1", "DASHSCOPE_API_KEY": KEY})


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(RunError, match="DefaultModel is 'emo-v9'"):
        stack_parameters(Provider("http://127.0.0.1:1/api/v1", "k"), {"DefaultModel": "emo-v9"})


@pytest.mark.parametrize("url", ["127.0.0.1:9700", "ftp://127.0.0.1/api/v1", "http:///api/v1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(RunError, match="must look like"):
        named_provider({"DASHSCOPE_BASE_URL": url, "DASHSCOPE_API_KEY": KEY})


def test_a_named_service_without_a_key_is_refused() -> None:
    with pytest.raises(RunError, match="DASHSCOPE_API_KEY"):
        named_provider({"DASHSCOPE_BASE_URL": "http://127.0.0.1:9700/api/v1"}, ask=lambda: "")


def test_a_service_that_containers_would_seek_in_themselves_is_refused() -> None:
    near, elsewhere = Provider("http://127.0.0.1:9700/api/v1", "sk"), Provider("http://172.17.0.1:9700/api/v1", "sk")
    bridge, desktop = Address("172.17.0.1", "172.17.0.1"), Address("127.0.0.1", HOST_NAME)
    with pytest.raises(RunError, match=r"listen at 172\.17\.0\.1"):
        check_reachable(near, bridge)
    for provider, address in [(elsewhere, bridge), (near, desktop), (near, LOOPBACK_ONLY), (None, bridge)]:
        check_reachable(provider, address)


def test_the_services_origin_is_added_to_the_video_hosts() -> None:
    provider = Provider("http://127.0.0.1:9700/api/v1", "k")
    assert stack_parameters(provider, {}) == {
        "InputTransfer": "upload",
        "DashScopeBaseUrl": "http://127.0.0.1:9700/api/v1",
        "ExtraVideoHosts": "http://127.0.0.1:9700",
    }
    wished = {"ExtraVideoHosts": "https://videos.example"}
    assert stack_parameters(provider, wished)["ExtraVideoHosts"] == "https://videos.example,http://127.0.0.1:9700"


# ---------------------------------------------------------------- what functions may reach
LISTED = json.loads(
    confinement(Provider("https://dashscope.aliyuncs.com/api/v1", KEY), {"ExtraVideoHosts": ""})["confined.json"]
)
OTHER = json.loads(
    confinement(
        Provider("http://127.0.0.1:9700/api/v1", KEY), {"ExtraVideoHosts": "https://v.example, http://[::1]:99"}
    )["confined.json"]
)


@pytest.mark.parametrize(
    "host", ["dashscope.aliyuncs.com", "files.oss-cn-beijing.aliyuncs.com", "DashScope.Aliyuncs.com."]
)
def test_functions_reach_the_service_and_its_files(host: str) -> None:
    assert may_reach(host, 443, LISTED)


@pytest.mark.parametrize(
    ("host", "port"),
    [("example.com", 443), ("aliyuncs.com.example", 443), ("badaliyuncs.com", 443), ("dashscope.aliyuncs.com", 80)],
)
def test_functions_reach_nothing_else(host: str, port: int) -> None:
    assert not may_reach(host, port, LISTED)
    assert not may_reach(host, port, OTHER)


def test_another_service_adds_its_own_hosts() -> None:
    assert OTHER == ["127.0.0.1:9700", "::1:99", "v.example:443"]
    assert not may_reach("127.0.0.1", 9701, OTHER)


def test_who_knows_no_service_reaches_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As prepare: it decodes strangers' bytes."""
    (tmp_path / "confined.json").write_text(json.dumps(LISTED))
    monkeypatch.setattr(confined, "__file__", str(tmp_path / "sitecustomize.py"))
    engine = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}
    assert confined.allowed(engine) == ["127.0.0.1:4566", "127.0.0.1:9001"]
    assert confined.allowed(engine | {"DASHSCOPE_BASE_URL": "https://x"})[2:] == LISTED


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    with (
        work_folder(tmp_path / ".local"),
        pytest.raises(RunError, match="has not ended"),
        work_folder(tmp_path / ".local"),
    ):
        pass
    with work_folder(tmp_path / ".local"):
        pass


def test_a_run_starts_with_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "tmp/deep").mkdir(parents=True)
    (tmp_path / "outputs.json").write_text("{}")
    with work_folder(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_outputs_are_written_for_their_owner_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "outputs.json", {"region": "us-east-1"})
    assert json.loads((tmp_path / "outputs.json").read_text()) == {"region": "us-east-1"}
    assert stat.S_IMODE((tmp_path / "outputs.json").stat().st_mode) == 0o600
    assert len(list(tmp_path.iterdir())) == 1


def test_another_version_of_the_engine_is_refused(tmp_path: Path) -> None:
    """The corrections reach into internals: with another version they must not be tried."""
    described = tmp_path / "ministack-9.9.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: ministack\nVersion: 9.9\n")
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(ROOT / "local/engine.py")],
        env={"PYTHONPATH": str(tmp_path), "BIND_HOST": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "9.9 is installed" in done.stderr


WAITS = """
import sys, time, pathlib
from run import ended_by_signals, Ended
try:
    with ended_by_signals() as check:
        pathlib.Path(sys.argv[1], "ready").touch()
        while True:
            check()
            time.sleep(0.05)
except Ended as end:
    pathlib.Path(sys.argv[1], "ended").write_text(str(end))
"""


def comes(path: Path) -> str:
    deadline = time.monotonic() + 30  # against hanging only
    while not path.exists() or (path.name == "ended" and not path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.02)
    return path.read_text()


@pytest.mark.parametrize("through_make", [False, True])
def test_a_terminal_that_closes_ends_the_run(tmp_path: Path, through_make: bool) -> None:
    """The kernel sends SIGHUP to the first process of the session alone: to make, which waits for its recipe."""
    (tmp_path / "waits.py").write_text(WAITS)
    program = [sys.executable, str(tmp_path / "waits.py"), str(tmp_path)]
    (tmp_path / "Makefile").write_text(f"run:\n\t@{' '.join(program)}\n")
    command = ["make", "-f", str(tmp_path / "Makefile"), "run"] if through_make else program
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, and so for every child, where tests run under nohup
        os.environ |= {"PYTHONPATH": str(ROOT / "local")}
        os.environ.pop("MAKELEVEL", None)
        os.execvp(command[0], command)  # noqa: S606 - our own program
    comes(tmp_path / "ready")

    os.close(terminal)

    assert comes(tmp_path / "ended") == ("make was ended" if through_make else "SIGHUP")
    os.waitpid(child, 0)


POLLS: dict[str, dict[str, Any]] = {"MinPollSeconds": {"Default": 15}, "MaxPollSeconds": {"Default": 120}}


@pytest.mark.parametrize("text", ["MinPollSeconds=5 MaxPollSeconds=2", "MaxPollSeconds=2", "MinPollSeconds=500"])
def test_a_least_above_its_most_is_refused(text: str) -> None:
    with pytest.raises(RunError, match="least is above the most"):
        read_parameters(text, POLLS)


def test_a_least_below_its_most_is_taken() -> None:
    assert read_parameters("MinPollSeconds=1 MaxPollSeconds=1", POLLS)["MaxPollSeconds"] == "1"
