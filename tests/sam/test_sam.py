"""Every file of events/ by `sam remote invoke`, and in a container by `sam local invoke`: what it does to its job.

The same event, sent by the API itself to a job in the same state, says what is right.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from conftest import BY_NAME, WAYS

from invoke import SAMPLES, invoke
from run import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import World

    from invoke import Report

EVENTS = sorted(path.stem for path in (ROOT / "events").glob("*.json"))


def nothing(_world: World, _job: str) -> None:
    """The event comes first."""


def an_unread_voice(world: World, job: str) -> None:
    world.send("submit-voice", job)


def then_it_is_read(world: World, job: str) -> None:
    world.read(job)


def a_voice(world: World, job: str) -> None:
    world.prepare(job, "submit-voice")


def a_pair(world: World, job: str) -> None:
    world.prepare(job, "submit-voice", "submit-portrait")


def a_deleted_voice(world: World, job: str) -> None:
    a_voice(world, job)
    world.s3.delete_object(Bucket=world.target.upload_bucket, Key=f"{job}.mp3")


def unknown_files(world: World, job: str) -> None:
    for suffix, sample in ((".mp3", "voice.mp3"), (".png", "portrait.png")):
        body = (SAMPLES / sample).read_bytes()
        world.s3.put_object(Bucket=world.target.upload_bucket, Key=job + suffix, Body=body)


def a_stack_that_goes_on(world: World, job: str) -> None:
    world.prepare(job, "submit-resume")


def a_running_task(world: World, job: str) -> None:
    world.render(job)


def an_ended_task(world: World, job: str) -> None:
    world.finish(world.render(job))


def then_a_pair_is_held(world: World, job: str) -> None:
    a_pair(world, job)
    assert (world.target.report(job) or {})["queue"]["held"] == "paused"


def then_it_is_paused_again(world: World, job: str) -> None:
    world.prepare(job, "submit-pause")


@dataclass(frozen=True)
class Row:
    """What is there before an event, what its job is afterwards, and what is tried then."""

    before: Callable[[World, str], None]
    status: str | None
    then: Callable[[World, str], None] = nothing


ROWS = {
    "submit-voice": Row(nothing, "waiting", then_it_is_read),
    "submit-portrait": Row(a_voice, "waiting", then_it_is_read),
    "submit-settings": Row(a_pair, "queued"),
    "submit-folder-settings": Row(a_pair, "queued"),
    "submit-odd-name": Row(nothing, "waiting", then_it_is_read),
    "submit-deletion": Row(a_deleted_voice, "withdrawn"),
    "submit-sqs-batch": Row(nothing, "waiting", then_it_is_read),
    "submit-test-event": Row(nothing, None),
    "submit-wake": Row(a_pair, "queued"),
    "submit-sweep": Row(a_pair, "queued"),
    "submit-scan": Row(unknown_files, "waiting", then_it_is_read),
    "submit-prepared": Row(an_unread_voice, "waiting", then_it_is_read),
    "prepare-voice": Row(an_unread_voice, "waiting", then_it_is_read),
    "prepare-portrait": Row(a_voice, "waiting", then_it_is_read),
    "submit-reconcile": Row(a_pair, "queued"),
    "submit-pause": Row(a_stack_that_goes_on, None, then_a_pair_is_held),
    "submit-resume": Row(a_pair, "rendering", then_it_is_paused_again),
    "status-poll": Row(a_running_task, "rendering"),
    "status-task-too-old": Row(a_running_task, "rendering"),
    "deliver-task-ended": Row(an_ended_task, "done"),
    "deliver-poll-broke": Row(an_ended_task, "done"),
    "deliver-execution-aborted": Row(a_running_task, "failed"),
    "deliver-execution-timed-out": Row(a_running_task, "rendering"),
    "deliver-execution-failed": Row(a_running_task, "rendering"),
}
ANSWERED = ("batchItemFailures", "status", "ended", "published", "unknown", "no_link", "attempt")  # alike for every job


def told(report: Report | None) -> dict[str, Any]:
    """Return what a report says that is alike for every job with these files."""
    if report is None:
        return {}
    inputs = {name: (report["inputs"][name] or {}).get("sha256") for name in ("voice", "portrait")}
    video = {name: (report["video"] or {}).get(name) for name in ("seconds", "width", "height")}
    found = {"status": report["status"], "error": (report["error"] or {}).get("code"), "settings": report["settings"]}
    return found | {"held": (report["queue"] or {}).get("held"), "inputs": inputs, "video": video}


def tried(world: World, event: str, way: str, job: str) -> dict[str, Any]:
    """Bring a job to where the event belongs, send it, and return what that did."""
    row = ROWS[event]
    row.before(world, job)
    started = time.monotonic()
    outcome = world.send(event, job, way)
    took = time.monotonic() - started
    assert not outcome.answer.failed, f"{outcome.answer.value}\n{outcome.answer.log}"
    row.then(world, job)
    after = world.target.report(outcome.name)
    statuses = [report["status"] if report else "nothing" for report in (outcome.before, outcome.after, after)]
    if way != "direct":
        world.lines.append(f"{event:<28} {way:<10} {statuses[0]:<10} → {statuses[1]:<10} {took:5.1f} s")
    if statuses[-1] == "queued":
        world.withdraw(job)
    answer = {name: value for name, value in (outcome.answer.value or {}).items() if name in ANSWERED}
    return {"answer": answer, "statuses": statuses, "report": told(after)}


@pytest.fixture(scope="module")
def right() -> dict[str, dict[str, Any]]:
    """What the API's own Invoke did, by event."""
    return {}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_does_the_same(world: World, right: dict[str, dict[str, Any]], way: str, event: str, job: str) -> None:
    if event not in right:
        right[event] = tried(world, event, "direct", f"direct-{job}")

    did = tried(world, event, way, job)

    assert did == right[event]
    assert did["statuses"][1] == (ROWS[event].status or did["statuses"][0])


@pytest.mark.parametrize("way", [*WAYS, BY_NAME], indirect=True)
def test_a_job_from_voice_to_done(world: World, way: str, job: str) -> None:
    """One way alone takes it there; in containers no deployed function runs at all."""
    way_there = {"submit-voice": "waiting", "submit-portrait": "queued", "submit-resume": "rendering"}
    for event, status in {**way_there, "submit-pause": "rendering"}.items():
        world.send(event, job, way)
        world.read(job, way)
        assert (world.target.report(job) or {})["status"] == status
    task = world.unwatch(job)
    before = {name: world.run.logs(name) for name in world.run.outputs["functions"]} if way != "remote" else {}
    polled = world.send("status-poll", job, way).answer.value
    assert (polled["status"], polled["ended"]) == ("RUNNING", False)
    world.finish(task)
    polled = world.send("status-poll", job, way).answer.value
    assert (polled["status"], polled["ended"]) == ("SUCCEEDED", True)

    done: Report = world.send("deliver-task-ended", job, way).after or {}

    assert done["status"] == "done"
    head = world.s3.head_object(Bucket=world.target.results_bucket, Key=f"{job}.mp4")
    assert head["ContentLength"] == done["video"]["bytes"]
    assert {name: world.run.logs(name) for name in before} == before


def test_a_function_that_fails_is_said_to(world: World, way: str, job: str) -> None:
    """SAM CLI exits with 0."""
    outcome = invoke(world.target, "StatusFunction", {"nobody": "sends this"}, world.ways[way], job)
    assert outcome.answer.failed
    assert outcome.answer.value["errorType"]


def test_every_event_has_a_row() -> None:
    assert set(ROWS) == set(EVENTS)
