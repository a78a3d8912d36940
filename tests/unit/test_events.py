"""The events in events/ are what the functions take: each goes through its handler, down to who is asked to do what."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from package import read_template
from portraitcast.adapters.buckets import Uploads
from portraitcast.adapters.dashscope import DashScope, ProviderTask
from portraitcast.adapters.jobs_table import JobsTable
from portraitcast.adapters.queues import Queue
from portraitcast.bootstrap.submit import SubmitWorkflows
from portraitcast.domain.uploads import Upload, classify, short_hash
from portraitcast.errors import TryLaterError
from portraitcast.workflows.create_task import CreateTask
from portraitcast.workflows.deliver import Deliver
from portraitcast.workflows.dispatch import Dispatch
from portraitcast.workflows.evaluate import Evaluate
from portraitcast.workflows.ingest import Ingest
from portraitcast.workflows.monitor import Monitor
from portraitcast.workflows.poll import Poll
from portraitcast.workflows.publish import Publish
from portraitcast.workflows.read_upload import ReadUpload
from portraitcast.workflows.submit import Received, Submit
from portraitcast.workflows.sweep import Sweep

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent.parent
EVENTS = ROOT / "events"
BUCKET = "portraitcast-uploads"  # that the examples are about
NOW = 1_800_000_000.0
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
class Asked:
    """Everybody whom submit may ask to do something; each remembers what it was asked."""

    ingest: Mock
    evaluate: Mock
    dispatch: Mock
    sweep: Mock
    queue: Mock


@pytest.fixture
def asked() -> Asked:
    queue = Mock(spec=Queue)
    queue.handling.return_value = contextlib.nullcontext()
    return Asked(Mock(spec=Ingest), Mock(spec=Evaluate), Mock(spec=Dispatch), Mock(spec=Sweep), queue)


def routing(asked: Asked) -> Submit:
    return Submit(
        asked.ingest, asked.evaluate, asked.dispatch, asked.sweep, asked.queue, bucket=BUCKET, clock=lambda: NOW
    )


@pytest.fixture
def submit(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Submit's handler with its own routing and nobody real behind it."""
    module, answers = app("submit"), Mock(spec=Queue)
    answers.is_source.return_value = False
    workflows = SubmitWorkflows(
        ingest=asked.ingest,
        evaluate=asked.evaluate,
        create_task=Mock(spec=CreateTask),
        dispatch=asked.dispatch,
        monitor=Mock(spec=Monitor),
        publish=Mock(spec=Publish),
        sweep=asked.sweep,
        submit=routing(asked),
        queue=asked.queue,
        answers_queue=answers,
    )
    monkeypatch.setattr(module, "workflows", lambda: workflows)
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
def test_an_event_of_s3_is_ingested_by_name(submit: Any, asked: Asked, name: str, key: str, *, removed: bool) -> None:
    submit(name)
    asked.ingest.arrive.assert_called_once()
    (arrival,) = asked.ingest.arrive.call_args.args
    assert (arrival.key, arrival.removed) == (key, removed)
    asked.dispatch.run.assert_not_called()  # what becomes of it has a wake-up of its own


def test_an_example_is_old_so_the_bucket_is_asked(submit: Any, asked: Asked) -> None:
    """So the file works with whatever was dropped, whenever it is used."""
    submit("submit-voice")
    (arrival,) = asked.ingest.arrive.call_args.args
    assert arrival.at == 0.0


def test_an_example_says_neither_version_nor_order() -> None:
    """With a sequencer of its own it would come before what the stack knows, or later uploads before it."""
    records = [record for name in NAMES for record in event(name).get("Records", [])]
    records += [
        inner for record in records if "body" in record for inner in json.loads(record["body"]).get("Records", [])
    ]
    described = [record["s3"] for record in records if "s3" in record]
    assert len(described) == 8
    assert [s3 for s3 in described if {"sequencer", "versionId"} & set(s3["object"])] == []
    assert {s3["bucket"]["name"] for s3 in described} == {BUCKET}


def test_an_event_of_another_bucket_is_left_alone(asked: Asked) -> None:
    body = event("submit-voice")
    body["Records"][0]["s3"]["bucket"]["name"] = "somebody-elses"
    routing(asked).handle(Received(body, NOW), NOW + 90)
    asked.ingest.arrive.assert_not_called()


def test_a_batch_names_the_message_that_nobody_sends(submit: Any, asked: Asked) -> None:
    answer = submit("submit-sqs-batch")
    arrived = [call.args[0].key for call in asked.ingest.arrive.call_args_list]
    assert arrived == ["acme/line-01.png", "acme/line-01.mp3"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": event("submit-sqs-batch")["Records"][3]["messageId"]}]}
    asked.queue.give_again.assert_not_called()
    asked.dispatch.run.assert_called_once()


def test_what_aws_refuses_now_comes_again_soon(submit: Any, asked: Asked) -> None:
    asked.ingest.arrive.side_effect = TryLaterError("S3 is ill")
    answer = submit("submit-sqs-batch")
    records = event("submit-sqs-batch")["Records"]
    failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
    assert failed == [records[n]["messageId"] for n in (0, 1, 3)]
    again = [(call.args, call.kwargs) for call in asked.queue.give_again.call_args_list]
    assert again == [((record["receiptHandle"],), {"after": 10}) for record in records[:2]]
    asked.dispatch.run.assert_called_once()  # for the wake-up among them


@pytest.mark.parametrize(("name", "dispatches"), [("submit-wake", True), ("submit-test-event", False)])
def test_a_wake_up_only_dispatches(submit: Any, asked: Asked, name: str, *, dispatches: bool) -> None:
    submit(name)
    assert asked.dispatch.run.called is dispatches
    assert not [mock for mock in (asked.ingest, asked.evaluate, asked.sweep) if mock.method_calls]


def test_a_sweep_runs(submit: Any, asked: Asked) -> None:
    submit("submit-sweep")
    (cursor, _) = asked.sweep.run.call_args.args
    assert cursor is None


def test_a_scan_ingests_what_lies_under_a_prefix(submit: Any, asked: Asked) -> None:
    submit("submit-scan")
    (prefix, after, _) = asked.ingest.scan.call_args.args
    assert (prefix, after) == ("acme/", None)


@pytest.mark.parametrize(("name", "paused"), [("submit-pause", True), ("submit-resume", False)])
def test_pause_and_resume_stop_and_start_creates(submit: Any, asked: Asked, name: str, *, paused: bool) -> None:
    """Without a time of its own the order was given when its message was sent: here, now."""
    before = time.time()
    submit(name)
    ((at,), order) = asked.dispatch.pause.call_args
    assert before <= at <= time.time()
    assert order == {"paused": paused}


def test_what_prepare_has_found_is_kept(submit: Any, asked: Asked) -> None:
    submit("submit-prepared")
    (prepared,) = asked.ingest.prepared.call_args.args
    assert (prepared.key, prepared.version) == ("acme/line-01.mp3", "null")
    assert (prepared.facts.seconds, prepared.facts.type, prepared.facts.plain) == (6.051, "mp3", True)


def test_one_job_is_reconciled(submit: Any, asked: Asked) -> None:
    submit("submit-reconcile")
    asked.sweep.reconcile.assert_called_once_with(JOB)


# ---------------------------------------------------------------- prepare


@pytest.mark.parametrize(("name", "kind"), [("prepare-voice", "voice"), ("prepare-portrait", "portrait")])
def test_an_upload_is_prepared(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the one that submit sends."""
    module, preparing = app("prepare"), Mock()
    preparing.handle.return_value = {"facts": {}}
    monkeypatch.setattr(module, "preparing", lambda: preparing)
    assert module.handler(event(name), Context()) == {"batchItemFailures": []}
    (upload, receives) = preparing.handle.call_args.args
    assert (upload.key, upload.version, upload.kind, receives) == (upload.key, "null", kind, 1)
    queue, written = Mock(spec=Queue), classify(upload.key)
    assert written
    reading = ReadUpload(Mock(spec=JobsTable), Mock(spec=Uploads), queue, clock=lambda: NOW)
    assert reading.ask(Upload(written, upload.version, upload.bytes, NOW))
    (record,) = event(name)["Records"]
    assert json.loads(record["body"]) == queue.send.call_args.args[0]


# ---------------------------------------------------------------- status


def running_task() -> ProviderTask:
    return ProviderTask(TASK, "RUNNING", None, None, None, None, None, None, None, None)


@pytest.fixture
def service() -> Mock:
    return Mock(spec=DashScope)


@pytest.fixture
def status(service: Mock, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = app("status")
    monkeypatch.setattr(module, "poll", lambda: Poll(service, least=15.0, most=120.0, clock=lambda: NOW))
    return lambda name: module.handler(event(name), Context())


def test_a_poll_of_a_running_task_says_when_to_poll_again(status: Any, service: Mock) -> None:
    service.query.return_value = running_task()
    answer = status("status-poll")
    service.query.assert_called_once_with(TASK)
    assert answer["ended"] is False
    assert 15 <= answer["wait_seconds"] <= 120
    assert answer["job"] == JOB


def test_a_task_of_more_than_a_day_is_not_asked_for(status: Any, service: Mock) -> None:
    assert status("status-task-too-old")["ended"] is True
    service.query.assert_not_called()


# ---------------------------------------------------------------- deliver


@pytest.fixture
def workflow() -> Mock:
    """Deliver's workflow: whatever it is asked, it hands the state back."""
    mock = Mock(spec=Deliver)
    mock.task.side_effect = lambda state: state
    mock.ended.side_effect = lambda execution: execution.state
    return mock


@pytest.fixture
def deliver(workflow: Mock, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = app("deliver")
    monkeypatch.setattr(module, "deliver", lambda: workflow)
    return lambda name: module.handler(event(name), Context())


@pytest.mark.parametrize("name", ["deliver-task-ended", "deliver-poll-broke"])
def test_the_machines_state_is_delivered(deliver: Any, workflow: Mock, name: str) -> None:
    deliver(name)
    workflow.task.assert_called_once()
    (state,) = workflow.task.call_args.args
    assert (state.job, state.attempt, state.task, state.execution) == (JOB, 1, TASK, 1)


def test_the_state_of_an_ended_task_is_what_a_poll_leaves(status: Any, service: Mock) -> None:
    service.query.return_value = running_task()
    left = set(status("status-poll"))
    assert left == set(event("deliver-task-ended"))


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("deliver-execution-aborted", "ABORTED"),
        ("deliver-execution-timed-out", "TIMED_OUT"),
        ("deliver-execution-failed", "FAILED"),
    ],
)
def test_an_execution_that_ended_badly_is_taken_up(deliver: Any, workflow: Mock, name: str, end: str) -> None:
    deliver(name)
    workflow.ended.assert_called_once()
    (execution,) = workflow.ended.call_args.args
    assert (execution.status, execution.name) == (end, f"{JOB}-1-1")
    assert (execution.state.job, execution.state.attempt, execution.state.task) == (JOB, 1, TASK)


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
    function = f"{name.partition('-')[0].title()}Function"
    lines = (ROOT / "docs" / "sam.md").read_text("utf-8").splitlines()
    assert any(f"{name}.json" in line and function in line for line in lines)
