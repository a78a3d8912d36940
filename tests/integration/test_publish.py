"""Publishing: the report beside the video, one event a change, and the notice; repeating it is harmless."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from world import REGION, new_job

from portraitcast.adapters.executions import Executions
from portraitcast.adapters.queues import Queue
from portraitcast.domain.execution import Execution
from portraitcast.domain.job import Status
from portraitcast.domain.problems import Problem

if TYPE_CHECKING:
    from world import World

    from portraitcast.domain.job import Job


PROBLEM = Problem("JobAmbiguous", "line.mp3 was refused.", "Give it another name.")


def changed(world: World, name: str = "acme/line", status: Status = Status.DONE, **fields: Any) -> Job:
    """Write a job with a change that nobody has published."""
    job = new_job(name, status=status, revision=1, changed_at=world.clock(), **fields)
    return world.table.save(job, was=None)[0]


def change(world: World, job: Job, **fields: Any) -> Job:
    """Change a job as the table has it."""
    there = again(world, job)
    return world.table.save(replace(there, **fields), was=there)[0]


def again(world: World, job: Job) -> Job:
    found = world.table.job(job.id)
    assert found is not None
    return found


def test_a_change_is_published_and_then_marked(world: World) -> None:
    """By report, event and notice."""
    job = changed(world)
    world.publish.job(job)
    report = world.its_report("acme/line")
    assert (report["job"], report["revision"], report["status"]) == (job.id, 1, "done")
    assert world.new_events() == [report]
    (notice,) = world.new_notices()
    assert json.loads(notice["Message"]) == report
    assert again(world, job).unpublished is False


def test_what_is_published_is_not_published_again(world: World) -> None:
    job = changed(world)
    world.publish.job(job)
    version = again(world, job).version
    world.new_events()
    world.publish.job(again(world, job))
    assert (world.new_events(), again(world, job).version) == ([], version)


def test_broken_off_publishing_is_repeated(world: World) -> None:
    """With the same revision: whoever hears it twice can tell."""
    job = changed(world)
    world.publish.job(job)
    lost = change(world, job, published=0, report_etag=None)  # the function died before it could mark it
    world.publish.job(lost)
    assert [(e["job"], e["revision"]) for e in world.new_events()] == [(job.id, 1)] * 2
    assert world.its_report("acme/line")["revision"] == 1


def test_late_publishing_leaves_a_newer_report(world: World) -> None:
    late = changed(world, status=Status.RENDERING)
    job = change(world, late, status=Status.DONE, revision=2)
    world.publish.job(job)
    world.publish.job(late)
    report = world.its_report("acme/line")
    assert (report["revision"], report["status"]) == (2, "done")
    assert again(world, job).unpublished is False


@pytest.mark.parametrize("status", list(Status))
def test_only_ends_are_notices(world: World, status: Status) -> None:
    shown = "queued" if status is Status.CREATING else status.value
    world.publish.job(changed(world, status=status))
    assert [e["status"] for e in world.new_events()] == [shown]
    notices = world.new_notices()
    ends = {Status.DONE, Status.REJECTED, Status.FAILED}
    assert [n["MessageAttributes"]["status"]["Value"] for n in notices] == [shown] * (status in ends)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("line", "/"), ("acme/line", "acme"), ("acme/ü 名/line", "acme/ü 名"), ("/line", "/"), ("a\x07b/line", "a b")],
)
def test_notices_can_be_filtered_by_folder(world: World, name: str, folder: str) -> None:
    world.publish.job(changed(world, name))
    (notice,) = world.new_notices()
    assert notice["MessageAttributes"]["folder"] == {"Type": "String", "Value": folder}


@pytest.mark.parametrize("name", ["n" * 300, "bad\nname\x07", "名" * 120, "line", "😀" * 99])
def test_a_notices_subject_is_short_and_printable(world: World, name: str) -> None:
    world.publish.job(changed(world, name))
    (notice,) = world.new_notices()
    assert len(notice["Subject"].encode("utf-16-le")) < 2 * 100
    assert notice["Subject"].isprintable()
    assert notice["Subject"].endswith(" is done")


def test_an_event_that_the_bus_refused_is_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """PutEvents answers 200 all the same. It stands in nobody's way; the sweep publishes again."""
    job = changed(world)
    answer = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
    with monkeypatch.context() as patch:
        patch.setattr(world.events, "put_events", lambda **_: answer)
        world.publish.job(job)
    assert again(world, job).unpublished is True
    assert world.new_notices() == []
    assert "ThrottlingException" in caplog.text
    world.sweep(1)
    assert [e["revision"] for e in world.new_events()] == [1]
    assert again(world, job).unpublished is False


def test_a_quiet_change_makes_no_event(world: World) -> None:
    job = changed(world)
    world.publish.job(job)
    world.new_events()
    world.new_notices()
    world.publish.job(change(world, job, revision=2, quiet=True))
    assert world.its_report("acme/line")["revision"] == 2
    assert (world.new_events(), world.new_notices()) == ([], [])


def test_a_refused_upload_is_a_notice_too(world: World) -> None:
    """The job goes on as it was: one more event of it, with an error, and a notice to its owner."""
    sent = changed(world, status=Status.RENDERING, published=1)
    told = world.table.save(sent.refuse_upload(PROBLEM, world.clock()), was=sent)[0]
    world.publish.job(told)
    (event,) = world.new_events()
    assert (event["status"], event["error"]["code"]) == ("rendering", "JobAmbiguous")
    assert [n["MessageAttributes"]["status"]["Value"] for n in world.new_notices()] == ["rendering"]


def test_operators_are_told_once(world: World) -> None:
    world.table.update_account(lambda account: account.notify("the account is held", "Why; no job is lost."))
    world.publish.operators()
    world.publish.operators()
    assert world.new_operator_notices() == ["the account is held"]
    assert world.new_notices() == [], "operators have a topic of their own"


# ---------------------------------------------------------------------- messages and executions
@pytest.mark.parametrize(("after", "delay"), [(0, "0"), (0.2, "1"), (59.5, "60"), (900, "900"), (5000, "900")])
def test_a_timer_never_comes_early(aws: None, after: float, delay: str) -> None:
    client = boto3.client("sqs", region_name=REGION)
    url = client.create_queue(QueueName="q")["QueueUrl"]
    sent: list[str] = []
    client.meta.events.register(
        "provide-client-params.sqs.SendMessage", lambda params, **_: sent.append(str(params["DelaySeconds"]))
    )
    Queue(client, url).send({"wake": True}, after=after)
    assert sent == [delay]
    attributes: Any = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
    assert sum(int(attributes[name]) for name in counts) == 1


@pytest.fixture
def executions(aws: None) -> tuple[Executions, Any]:
    client = boto3.client("stepfunctions", region_name=REGION)
    arn = client.create_state_machine(
        name="watch", definition="{}", roleArn=f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/watch"
    )["stateMachineArn"]
    return Executions(client, arn), client


def test_an_execution_started_twice_is_one(executions: tuple[Executions, Any]) -> None:
    ours, client = executions
    assert ours.start("j-1-1", Execution("j", 1, "t", 0.0)) is True
    assert ours.start("j-1-1", Execution("j", 1, "t", 0.0)) is True
    arn = client.list_state_machines()["stateMachines"][0]["stateMachineArn"]
    assert len(client.list_executions(stateMachineArn=arn)["executions"]) == 1
    assert ours.status("j-1-1") == "RUNNING"


def test_an_execution_that_has_ended_is_told(executions: tuple[Executions, Any]) -> None:
    ours, client = executions
    ours.start("j-1-1", Execution("j", 1, "t", 0.0))
    arn = client.list_state_machines()["stateMachines"][0]["stateMachineArn"]
    running = client.list_executions(stateMachineArn=arn)["executions"][0]["executionArn"]
    client.stop_execution(executionArn=running)
    assert ours.start("j-1-1", Execution("j", 1, "t", 0.0)) is False
    assert ours.status("j-1-1") == "ABORTED"
    assert ours.status("never-was") is None
