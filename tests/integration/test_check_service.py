"""``make check-service`` against the simulator, which holds to the same documents, and against one that doesn't."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import check_service
from check_service import STATEMENTS, Checker, Finding, Verdict
from portraitcast.domain.models import MODELS
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / "local" / "samples" / "portrait.png"
KEY = "sk-check-0123456789abcdef"
ROWS = {"list-model", "list-row", "list-day", "list-links", "list-order", "list-zone"}
PAID = {name for name, statement in STATEMENTS.items() if statement.costs}
EMO: dict[str, Any] = {
    "model": "emo-v1",
    "face_bbox": (1, 1, 9, 9),
    "ext_bbox": (0, 0, 9, 9),
    "parameters": {"style_level": "calm"},
}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(api_key=KEY, manual=True, check_rate=None, query_rate=None, list_rate=None) as running:
        yield running


def ask(sim: Simulator, portrait: Path | None = None, model: str = "emo-v1") -> dict[str, Finding]:
    told: list[Finding] = []
    checker = Checker(sim.base_url, KEY, MODELS[model], told.append)
    checker.run(portrait)
    assert checker.findings == told
    found = {finding.statement.name: finding for finding in told}
    assert list(found) == list(dict.fromkeys(found))
    assert set(found) == set(STATEMENTS)
    return found


def of(found: dict[str, Finding], verdict: Verdict) -> set[str]:
    return {name for name, finding in found.items() if finding.verdict is verdict}


def test_a_service_without_tasks(sim: Simulator) -> None:
    found = ask(sim)
    assert of(found, Verdict.DIFFERS) == set()
    assert of(found, Verdict.NOT_SEEN) == ROWS | PAID
    assert of(found, Verdict.LEARNED) == {"policy-host", "policy-size", "policy-wrong-model"}


def test_a_service_with_tasks(sim: Simulator) -> None:
    links: dict[str, Any] = {"image_url": "http://127.0.0.1:9/a.png", "audio_url": "http://127.0.0.1:9/a.wav"}
    for _ in range(2):
        sim.account.create(api_key=KEY, **links, **EMO)
    found = ask(sim)
    assert of(found, Verdict.DIFFERS) == set()
    assert of(found, Verdict.NOT_SEEN) == PAID
    assert (found["list-order"].seen, found["list-zone"].seen) == ("newest first", "Beijing")


@pytest.mark.parametrize("model", MODELS)
def test_one_portrait_check(sim: Simulator, model: str) -> None:
    found = ask(sim, PORTRAIT, model)
    assert of(found, Verdict.DIFFERS) == set()
    assert of(found, Verdict.NOT_SEEN) == ROWS | (set() if model == "emo-v1" else {"check-boxes"})
    assert sim.state()["counters"]["requests"]["check"] == 1
    assert sim.state()["counters"]["paid_cny"] == {MODELS[model].check_model: 0.004}


def test_nothing_is_ever_ordered(sim: Simulator) -> None:
    ask(sim, PORTRAIT)
    ask(sim)
    counters = sim.state()["counters"]
    assert counters["creates_accepted"] == 0
    assert "create" not in counters["requests"]
    assert counters["requests"]["check"] == 1


@pytest.mark.parametrize(
    ("fault", "endpoint", "differs"),
    [
        (
            {"status": 404, "body": {"code": "TaskNotFound", "message": "x", "request_id": "r"}},
            "query",
            "query-unknown",
        ),
        ({"merge": {"page_size": 20}}, "list", "list-page"),
        ({"merge": {"data": {}}}, "list", "list-read"),
        ({"merge": {"data": {"expire_in_seconds": 60}}}, "policy", "policy-time"),
        ({"merge": {"data": {"upload_host": "https://127.0.0.1:1/"}}}, "policy", "upload"),
        ({"status": 503}, "upload", "upload"),
        ({"merge": {"output": {"check_pass": "perhaps"}}}, "check", "check-answer"),
        ({"merge": {"output": {"face_bbox": [1.5, 2, 3, 4]}}}, "check", "check-boxes"),
        ({"merge": {"usage": {"image_count": 2}}}, "check", "check-usage"),
    ],
)
def test_what_differs_is_told(sim: Simulator, fault: dict[str, Any], endpoint: str, differs: str) -> None:
    sim.fault(fault, endpoint=endpoint, times=None)
    assert differs in of(ask(sim, PORTRAIT), Verdict.DIFFERS)


def test_a_list_of_other_models_differs(sim: Simulator) -> None:
    row = {"task_id": "t-1", "gmt_create": 1766720000000, "model_name": "another"}
    sim.fault({"merge": {"data": [row, row | {"gmt_create": "yesterday"}], "total": 2}}, endpoint="list", times=None)
    assert {"list-model", "list-row"} <= of(ask(sim), Verdict.DIFFERS)


def run(base_url: str, key: str = KEY, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "layers" / "portraitcast"),
        "DASHSCOPE_BASE_URL": base_url,
        "DASHSCOPE_API_KEY": key,
        **variables,
    }
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(ROOT / "local" / "check_service.py")],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_says_what_it_costs(sim: Simulator) -> None:
    done = run(sim.base_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "this costs nothing" in done.stdout
    assert "0 differs" not in done.stdout
    assert KEY not in done.stdout
    paid = run(sim.base_url, CHECK_PORTRAIT=str(PORTRAIT))
    assert (paid.returncode, "CNY 0.004" in paid.stdout) == (0, True)
    assert KEY not in paid.stdout + paid.stderr


def test_the_command_fails_when_something_differs(sim: Simulator) -> None:
    sim.fault({"merge": {"page_size": 20}}, endpoint="list", times=None)
    done = run(sim.base_url)
    assert done.returncode == 1
    assert "1 differs" in done.stdout


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"key": ""}, "set DASHSCOPE_API_KEY"),
        ({"key": "sk-another-0123456789"}, "InvalidApiKey"),
        ({"key": "sk with spaces"}, "isn't a key"),
        ({"MODEL": "emo-v2"}, "there is no model 'emo-v2'"),
        ({"CHECK_PORTRAIT": "/no/such/file.png"}, "names no file"),
        ({"base_url": "http://127.0.0.1:9/api/v1"}, "could not be asked: NotConnected"),
        ({"base_url": "not an address"}, "could not be asked"),
    ],
)
def test_the_command_says_why_it_cannot_ask(sim: Simulator, variables: dict[str, str], said: str) -> None:
    done = run(**({"base_url": sim.base_url} | variables))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_lists_every_statement() -> None:
    page = (ROOT / "docs" / "check-service.md").read_text("utf-8")
    assert [statement.words for statement in STATEMENTS.values() if statement.words not in page] == []
    assert check_service.__doc__
