"""Storms: hundreds of voices of one folder and one portrait at once; counted at the simulator."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hurt import portrait_of, voice

if TYPE_CHECKING:
    from collections.abc import Callable

    from hurt import Hurt

VOICES, FEW_VOICES = 300, 40
TASK_SECONDS, FEW_TASK_SECONDS = 3.0, 0.3  # the busy ratio is asked for with tasks of 3 s or more
BUSY = 0.98
FAILING = 0.05  # of all calls of the video service
FLAT = 1.2  # how much more of anything a job of a thousand may take than a job of ten
DUPLICATES = 0.3  # of the events of S3 come twice or more


def drop_all(hurt: Hurt, folder: str, count: int) -> None:
    """Drop the voices and, somewhere among them, the only portrait."""
    files = [(f"{folder}line-{n:03}.wav", voice(1)) for n in range(count)]
    files.insert(count // 3, (f"{folder}anna.png", portrait_of(folder)))
    with ThreadPoolExecutor(4) as people:
        list(people.map(lambda file: hurt.drop(*file), files))


def repeat_events(hurt: Hurt, folder: str, stop: threading.Event) -> None:
    """Send events of S3 that were sent before, until told to stop: S3 and SQS deliver at least once, in any order."""
    chance = random.Random(5)  # noqa: S311  # the same events each time
    bucket = hurt.outputs["upload_bucket"]
    listed = hurt.client("s3").list_object_versions(Bucket=bucket, Prefix=folder)["Versions"]
    for version in chance.sample(listed, round(len(listed) * DUPLICATES)):
        for _ in range(chance.randint(1, 3)):
            if stop.wait(chance.uniform(0, 1)):
                return
            hurt.send(event_of(bucket, version))


def event_of(bucket: str, version: dict[str, Any]) -> dict[str, Any]:
    """Return the event that S3 sent for a version, with the least of sequencers: it comes late."""
    s3_object = {"key": version["Key"], "size": version["Size"], "versionId": version["VersionId"], "sequencer": "0"}
    place = {"bucket": {"name": bucket}, "object": s3_object}
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": place}]}


@dataclass(frozen=True)
class Passed:
    """What a storm left behind: what is wrong, the simulator's counters, and what one job took."""

    wrong: list[str]
    counters: dict[str, Any]
    busy: float
    requests: float
    writes: float
    calls: float
    transitions: float

    def __str__(self) -> str:
        return (
            f"provider busy {self.busy:.2%}, at most {self.counters['max_open']} tasks there, "
            f"{self.counters['creates_accepted']} creates; a job: {self.requests:.2f} requests to the service, "
            f"{self.writes:.2f} writes to the table, {self.calls:.1f} outside calls, {self.transitions:.1f} transitions"
        )


def storm(hurt: Hurt, folder: str, count: int, say: Callable[[str], None], *, duplicates: bool = False) -> Passed:
    """Let a storm pass."""
    stop = threading.Event()
    with hurt.recorded() as calls, ThreadPoolExecutor(1) as postman:
        drop_all(hurt, folder, count)
        again = postman.submit(repeat_events, hurt, folder, stop) if duplicates else None
        told_last = -1

        def over() -> bool:
            nonlocal told_last
            ended = hurt.told.ended(folder)
            if ended != told_last and ended % max(1, count // 5) == 0:
                told_last = ended
                say(f"{ended} of {count} ended")
            return ended == count and hurt.is_quiet()

        try:
            hurt.wait(over, "the storm's end", seconds=count * 12 + 60)
        finally:
            stop.set()
        if again:
            again.result()
    counters: dict[str, Any] = hurt.simulator.state()["counters"]
    written = ("dynamodb.Put", "dynamodb.Update", "dynamodb.Transact")
    polls, delivers = calls["status", "emo.query"], calls["deliver", "emo.query"]
    passed = Passed(
        wrong=hurt.faults_of(folder, count),
        counters=counters,
        busy=counters["busy_seconds"] / (counters["last_end"] - counters["first_start"]),
        requests=sum(counters["requests"].values()) / count,
        writes=sum(n for (_, call), n in calls.items() if call.startswith(written)) / count,
        calls=sum(calls.values()) / count,
        transitions=(3 * polls + 2 * delivers) / count
        + 2,  # Wait, Poll, HasItEnded; Deliver, IsItPublished; begin, Done
    )
    say(f"{count} voices in {counters['last_end'] - counters['first_start']:.0f} s, {passed}; {pauses(hurt, folder)}")
    return passed


def pauses(hurt: Hurt, folder: str) -> str:
    """Name the provider's longest pauses between two tasks, for whoever looks for their reason."""
    tasks = sorted((task["started_at"], task["ended_at"]) for task in hurt.tasks(folder) if task["started_at"])
    found = sorted(((after[0] - before[1], after[0] - tasks[0][0]) for before, after in pairwise(tasks)), reverse=True)
    return "longest pauses: " + ", ".join(f"{seconds:.1f} s at {at:.0f} s" for seconds, at in found[:5])


@pytest.fixture
def size(full: bool, hurt: Hurt) -> int:
    """Return how many voices a storm has; the simulator is new and has tasks of the storm's length."""
    hurt.simulator.reset()
    hurt.simulator.set(task_seconds=TASK_SECONDS if full else FEW_TASK_SECONDS)
    return VOICES if full else FEW_VOICES


def test_every_voice_of_a_storm_becomes_one_paid_video_and_the_provider_is_kept_busy(
    hurt: Hurt, folder: str, size: int, full: bool, say: Callable[[str], None]
) -> None:
    passed = storm(hurt, folder, size, say)

    assert not passed.wrong
    assert passed.counters["creates_accepted"] == size
    assert passed.counters["max_open"] <= 2
    assert not passed.counters["throttled"]
    if full:
        assert passed.busy >= BUSY


@pytest.mark.full
@pytest.mark.parametrize("hurt", [{"MaxTasksInFlight": "20"}], indirect=True)
def test_a_storm_of_repeated_events_with_twenty_tasks_in_flight_is_paid_once_too(
    hurt: Hurt, folder: str, size: int, say: Callable[[str], None]
) -> None:
    passed = storm(hurt, folder, size, say, duplicates=True)

    assert not passed.wrong
    assert passed.counters["creates_accepted"] == size
    assert 2 < passed.counters["max_open"] <= 20
    assert not passed.counters["throttled"]
    assert passed.busy >= BUSY


@pytest.mark.full
def test_a_storm_loses_nothing_and_pays_nothing_twice_while_one_call_in_twenty_fails(
    hurt: Hurt, folder: str, size: int, say: Callable[[str], None]
) -> None:
    hurt.simulator.set(task_seconds=FEW_TASK_SECONDS)
    for effect in (False, True):  # the half of them after the call took effect
        hurt.simulator.fault({"status": 500, "effect": effect}, times=None, probability=FAILING / 2)

    passed = storm(hurt, folder, size, say)

    assert not passed.wrong
    assert passed.counters["creates_accepted"] == size
    assert passed.counters["max_open"] <= 2


@pytest.mark.full
def test_what_a_job_takes_does_not_grow_with_the_number_of_jobs(
    hurt: Hurt, folder: str, say: Callable[[str], None]
) -> None:
    took = {}
    for count in (10, 100, 1000):
        hurt.simulator.reset()
        hurt.simulator.set(task_seconds=FEW_TASK_SECONDS)
        took[count] = storm(hurt, f"{folder.rstrip('/')}-{count}/", count, say)
        assert not took[count].wrong

    few, many = took[10], took[1000]
    assert many.requests <= few.requests * FLAT
    assert many.writes <= few.writes * FLAT
    assert many.transitions <= few.transitions * FLAT
