"""Telling: the report beside the video, one event a change, and the notice; repeating it is harmless."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from world import REGION

from portraitcast.errors import TryLaterError
from portraitcast.jobs import DONE, FAILED, QUEUED, REJECTED, RENDERING, WAITING, WITHDRAWN, Job
from portraitcast.messages import Executions, Queue
from portraitcast.names import classify

if TYPE_CHECKING:
    from world import World


def changed(world: World, name: str = "acme/line", status: str = DONE, **fields: Any) -> Job:
    """Write a job with a change that nobody has told."""
    found = classify(f"{name}.wav")
    assert found is not None
    job = Job(found.job, name, found.folder, name, created_at=world.clock(), status=status, **fields)
    job.change(world.clock())
    world.table.commit(job=job)
    return job


def again(world: World, job: Job) -> Job:
    found = world.table.job(job.id)
    assert found is not None
    return found


def test_a_change_is_told_by_report_event_and_notice_and_then_marked(world: World) -> None:
    job = changed(world)
    world.teller.tell(job)
    report = world.report("acme/line")
    assert report is not None
    assert (report["job"], report["revision"], report["status"]) == (job.id, 1, "done")
    assert world.new_events() == [report]
    (notice,) = world.new_notices()
    assert json.loads(notice["Message"]) == report
    assert again(world, job).untold is False


def test_telling_again_what_is_told_does_nothing(world: World) -> None:
    job = changed(world)
    world.teller.tell(job)
    version = again(world, job).version
    world.new_events()
    world.teller.tell(again(world, job))
    assert (world.new_events(), again(world, job).version) == ([], version)


def test_telling_that_was_broken_off_is_repeated_with_the_same_revision(world: World) -> None:
    job = changed(world)
    world.teller.tell(job)
    lost = again(world, job)
    lost.told = 0  # the function died before it could mark it
    world.table.commit(job=lost)
    world.teller.tell(again(world, job))
    events = world.new_events()
    assert [(e["job"], e["revision"]) for e in events] == [(job.id, 1)] * 2, "told apart by job and revision"
    report = world.report("acme/line")
    assert report is not None
    assert report["revision"] == 1


def test_a_teller_who_is_late_does_not_overwrite_a_newer_report(world: World) -> None:
    job = changed(world, status=RENDERING)
    late = again(world, job)
    job.status = DONE
    job.change(world.clock())
    world.table.commit(job=job)
    world.teller.tell(job)
    world.teller.tell(late)
    report = world.report("acme/line")
    assert report is not None
    assert (report["revision"], report["status"]) == (2, "done")
    assert again(world, job).untold is False


@pytest.mark.parametrize(
    ("status", "noticed"),
    [
        (WAITING, False),
        (QUEUED, False),
        (RENDERING, False),
        (WITHDRAWN, False),
        (DONE, True),
        (REJECTED, True),
        (FAILED, True),
    ],
)
def test_only_ends_are_notices(world: World, status: str, noticed: bool) -> None:
    world.teller.tell(changed(world, status=status))
    assert [e["status"] for e in world.new_events()] == [status]
    notices = world.new_notices()
    assert [n["MessageAttributes"]["status"]["Value"] for n in notices] == [status] * noticed


@pytest.mark.parametrize(
    ("name", "folder"), [("line", "/"), ("acme/line", "acme"), ("acme/ü 名/line", "acme/ü 名"), ("/line", "/")]
)
def test_notices_can_be_filtered_by_folder(world: World, name: str, folder: str) -> None:
    world.teller.tell(changed(world, name))
    (notice,) = world.new_notices()
    assert notice["MessageAttributes"]["folder"] == {"Type": "String", "Value": folder}


@pytest.mark.parametrize("name", ["n" * 300, "bad\nname\x07", "名" * 120, "line"])
def test_a_notices_subject_is_short_and_without_control_characters(world: World, name: str) -> None:
    world.teller.tell(changed(world, name))
    (notice,) = world.new_notices()
    assert len(notice["Subject"]) < 100
    assert notice["Subject"].isprintable()
    assert notice["Subject"].endswith(" is done")


def test_an_event_that_the_bus_did_not_take_is_no_success_and_stays_untold(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = changed(world)
    answer = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
    with monkeypatch.context() as patch:
        patch.setattr(world.teller._events, "put_events", lambda **_: answer)
        with pytest.raises(TryLaterError, match="ThrottlingException"):
            world.teller.tell(job)
    assert again(world, job).untold is True
    assert world.new_notices() == []
    world.teller.tell(again(world, job))
    assert [e["revision"] for e in world.new_events()] == [1]


def test_a_quiet_change_rewrites_the_report_and_makes_no_event(world: World) -> None:
    job = changed(world)
    world.teller.tell(job)
    world.new_events()
    world.new_notices()
    job.change(world.clock(), quiet=True)
    world.table.commit(job=job)
    world.teller.tell(job)
    report = world.report("acme/line")
    assert report is not None
    assert report["revision"] == 2
    assert (world.new_events(), world.new_notices()) == ([], [])


def test_a_quiet_change_after_an_untold_one_does_not_swallow_its_event(world: World) -> None:
    job = changed(world)
    job.change(world.clock(), quiet=True)
    world.table.commit(job=job)
    world.teller.tell(job)
    assert [e["revision"] for e in world.new_events()] == [2]


def test_operators_are_told_once_what_was_noted_for_them(world: World) -> None:
    def note(slots: Any) -> bool:
        slots.notice("the account is held", "Why, and that no job is lost.")
        return True

    world.table.change_slots(note)
    world.teller.tell_operators()
    world.teller.tell_operators()
    assert world.new_operator_notices() == ["the account is held"]
    assert world.new_notices() == [], "operators have a topic of their own"


# ---------------------------------------------------------------------- messages and executions
@pytest.mark.parametrize(("after", "delay"), [(0, "0"), (0.2, "1"), (59.5, "60"), (900, "900"), (5000, "900")])
def test_a_timer_is_a_delayed_message_of_whole_seconds_that_never_comes_early(
    aws: None, after: float, delay: str
) -> None:
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


def test_starting_an_execution_twice_starts_one(executions: tuple[Executions, Any]) -> None:
    ours, client = executions
    assert ours.start("j-1-1", {"b": 1, "a": 2}) is True
    assert ours.start("j-1-1", {"a": 2, "b": 1}) is True
    arn = client.list_state_machines()["stateMachines"][0]["stateMachineArn"]
    assert len(client.list_executions(stateMachineArn=arn)["executions"]) == 1
    assert ours.status("j-1-1") == "RUNNING"


def test_an_execution_of_this_name_that_has_ended_is_told(executions: tuple[Executions, Any]) -> None:
    ours, client = executions
    ours.start("j-1-1", {})
    arn = client.list_state_machines()["stateMachines"][0]["stateMachineArn"]
    running = client.list_executions(stateMachineArn=arn)["executions"][0]["executionArn"]
    client.stop_execution(executionArn=running)
    assert ours.start("j-1-1", {}) is False
    assert ours.status("j-1-1") == "ABORTED"
    assert ours.status("never-was") is None
