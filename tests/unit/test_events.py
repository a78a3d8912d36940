"""The events in events/ are what the functions take: each goes through its handler, down to who is asked to do what."""

from __future__ import annotations

import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from package import read_template
from portraitcast.config import Provider
from portraitcast.delivery import Delivery, Lingering
from portraitcast.dispatch import Dispatch
from portraitcast.emo import Emo, Task
from portraitcast.intake import Intake
from portraitcast.messages import Queue
from portraitcast.names import short_hash
from portraitcast.slots import Slots
from portraitcast.submit import Submit
from portraitcast.table import Table
from portraitcast.telling import Teller
from portraitcast.watch import Watch

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent.parent
EVENTS = ROOT / "events"
JOB = short_hash("acme/line-01")
TASK = "a8532587-fa8c-4ef8-82be-0c46b17950d1"
NAMES = sorted(path.stem for path in EVENTS.glob("*.json"))


def event(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text("utf-8"))
    return value


def app(function: str) -> ModuleType:
    """Import a function's handler afresh, under a name of its own: on Lambda all three are called app."""
    spec = importlib.util.spec_from_file_location(f"{function}_app", ROOT / "functions" / function / "app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("function", ["submit", "deliver"])
def test_an_invocation_that_measured_nothing_writes_no_warning_into_the_log(function: str) -> None:
    app(function)  # what it imports may set filters of its own
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = app(function).metrics
        metrics.clear_metrics()
        metrics.flush_metrics()


class Context:
    """What Lambda hands a handler."""

    function_name = "portraitcast"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:portraitcast"
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 90_000


# ---------------------------------------------------------------- submit


@dataclass
class Hands:
    """Everybody whom submit may ask to do something; each remembers what it was asked."""

    table: Mock
    intake: Mock
    dispatch: Mock
    queue: Mock


@pytest.fixture
def hands() -> Hands:
    table = Mock(spec=Table)
    table.open_jobs.return_value = ([], None)
    table.queue.return_value = []
    table.slots.return_value = Slots()
    return Hands(table, Mock(spec=Intake), Mock(spec=Dispatch), Mock(spec=Queue))


@pytest.fixture
def submit(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Submit's handler with its own routing and nobody real behind it."""
    module = app("submit")
    routing = Submit(
        hands.table,
        hands.intake,
        hands.dispatch,
        Mock(spec=Watch),
        Mock(spec=Lingering),
        hands.queue,
        Mock(spec=Teller),
    )
    monkeypatch.setattr(module, "submit", lambda: routing)
    return lambda name: module.handler(event(name), Context())


@pytest.mark.parametrize(
    ("name", "key", "removed"),
    [
        ("submit-voice", "acme/line-01.mp3", False),
        ("submit-portrait", "acme/line-01.png", False),
        ("submit-settings", "acme/line-01.json", False),
        ("submit-folder-settings", "acme/settings.json", False),
        ("submit-odd-name", "acme/100% “a+b” こんにちは 🎤.MP3", False),
        ("submit-deletion", "acme/line-01.mp3", True),
    ],
)
def test_an_event_of_s3_is_taken_in_under_the_objects_own_name(
    submit: Any, hands: Hands, name: str, key: str, *, removed: bool
) -> None:
    submit(name)
    hands.intake.arrive.assert_called_once()
    call = hands.intake.arrive.call_args
    assert call.args == (key,)
    assert call.kwargs["removed"] is removed
    # No version: submit asks the bucket for what lies there, so the file works with whatever was dropped.
    assert call.kwargs["version"] is None
    hands.dispatch.run.assert_called_once()


def test_an_example_says_neither_version_nor_order_so_that_what_lies_in_the_bucket_holds() -> None:
    """With a sequencer of its own it would come before what the stack knows, or later uploads before it."""
    records = [record for name in NAMES for record in event(name).get("Records", [])]
    records += [
        inner for record in records if "body" in record for inner in json.loads(record["body"]).get("Records", [])
    ]
    objects = [record["s3"]["object"] for record in records if "s3" in record]
    assert len(objects) == 8
    assert [found for found in objects if {"sequencer", "versionId"} & set(found)] == []


def test_a_batch_is_taken_in_and_names_the_one_message_that_nobody_sends(submit: Any, hands: Hands) -> None:
    answer = submit("submit-sqs-batch")
    assert [call.args[0] for call in hands.intake.arrive.call_args_list] == ["acme/line-01.png", "acme/line-01.mp3"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": event("submit-sqs-batch")["Records"][3]["messageId"]}]}
    hands.dispatch.run.assert_called_once()


@pytest.mark.parametrize("name", ["submit-wake", "submit-test-event"])
def test_a_wake_up_dispatches_and_does_nothing_else(submit: Any, hands: Hands, name: str) -> None:
    submit(name)
    hands.dispatch.run.assert_called_once()
    assert not hands.intake.method_calls


def test_a_sweep_frees_leaked_slots_and_looks_at_open_jobs(submit: Any, hands: Hands) -> None:
    submit("submit-sweep")
    hands.dispatch.free_leaked.assert_called_once_with()
    hands.table.open_jobs.assert_called_once()


def test_a_scan_takes_in_what_lies_under_a_prefix(submit: Any, hands: Hands) -> None:
    submit("submit-scan")
    hands.intake.scan.assert_called_once_with("acme/", None)


@pytest.mark.parametrize(("name", "paused"), [("submit-pause", True), ("submit-resume", False)])
def test_pause_and_resume_stop_and_start_creates(submit: Any, hands: Hands, name: str, *, paused: bool) -> None:
    submit(name)
    hands.dispatch.pause.assert_called_once_with(paused=paused)


def test_one_job_can_be_decided_about_anew(submit: Any, hands: Hands) -> None:
    submit("submit-job")
    hands.intake.evaluate.assert_called_once_with(JOB)


# ---------------------------------------------------------------- status


def task(status: str) -> Task:
    return Task(TASK, status, None, None, None, None, None, None, None, None)


@pytest.fixture
def emo(monkeypatch: pytest.MonkeyPatch) -> Mock:
    return Mock(spec=Emo)


@pytest.fixture
def status(emo: Mock, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = app("status")
    monkeypatch.setattr(module, "parts", lambda: (Provider("http://127.0.0.1/api/v1", "key", 15.0, 120.0), emo))
    return lambda name: module.handler(event(name), Context())


def test_a_look_at_a_running_task_says_when_to_look_again(status: Any, emo: Mock) -> None:
    emo.query.return_value = task("RUNNING")
    answer = status("status-look")
    emo.query.assert_called_once_with(TASK)
    assert answer["ended"] is False
    assert 15 <= answer["wait_seconds"] <= 120
    assert answer["job"] == JOB


def test_a_task_of_more_than_a_day_is_not_asked_for(status: Any, emo: Mock) -> None:
    assert status("status-task-too-old")["ended"] is True
    emo.query.assert_not_called()


# ---------------------------------------------------------------- deliver


@pytest.fixture
def delivery() -> Mock:
    return Mock(spec=Delivery)


@pytest.fixture
def deliver(delivery: Mock, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = app("deliver")
    monkeypatch.setattr(module, "delivery", lambda: delivery)
    return lambda name: module.handler(event(name), Context())


@pytest.mark.parametrize("name", ["deliver-task-ended", "deliver-look-broke"])
def test_the_machines_state_is_delivered(deliver: Any, delivery: Mock, name: str) -> None:
    deliver(name)
    delivery.deliver.assert_called_once()
    state = delivery.deliver.call_args.args[0]
    assert (state["job"], state["attempt"], state["task"]) == (JOB, 1, TASK)


def test_the_state_of_an_ended_task_is_what_a_look_leaves_behind(status: Any, emo: Mock) -> None:
    emo.query.return_value = task("RUNNING")
    left = set(status("status-look"))
    assert left == set(event("deliver-task-ended"))


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("deliver-execution-aborted", "ABORTED"),
        ("deliver-execution-timed-out", "TIMED_OUT"),
        ("deliver-execution-failed", "FAILED"),
    ],
)
def test_an_execution_that_ended_badly_is_taken_up(deliver: Any, delivery: Mock, name: str, end: str) -> None:
    deliver(name)
    delivery.execution_ended.assert_called_once()
    status, execution, state = delivery.execution_ended.call_args.args
    assert (status, execution) == (end, f"{JOB}-1-1")
    assert (state["job"], state["attempt"], state["task"]) == (JOB, 1, TASK)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("deliver-execution-")])
def test_the_stacks_rule_would_send_the_event(name: str) -> None:
    pattern = read_template(ROOT / "template.yaml")["Resources"]["BadEndRule"]["Properties"]["EventPattern"]
    sent = event(name)
    assert sent["source"] in pattern["source"]
    assert sent["detail-type"] in pattern["detail-type"]
    assert sent["detail"]["status"] in pattern["detail"]["status"]


# ---------------------------------------------------------------- docs/sam.md


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_a_line_for_the_event(name: str) -> None:
    function = {"submit": "SubmitFunction", "status": "StatusFunction", "deliver": "DeliverFunction"}[
        name.split("-", maxsplit=1)[0]
    ]
    lines = (ROOT / "docs" / "sam.md").read_text("utf-8").splitlines()
    assert any(f"{name}.json" in line and function in line for line in lines)
