"""Storms: hundreds of voices of one folder and one portrait at once; counted at the simulator."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
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
DUPLICATES = 0.3  # of the events of S3 come twice or more


def drop_all(hurt: Hurt, folder: str, count: int) -> None:
    """Drop the voices and, somewhere among them, the only portrait."""
    files = [(f"{folder}line-{n:03}.wav", voice(1)) for n in range(count)]
    files.insert(count // 3, (f"{folder}anna.png", portrait_of(folder)))
    with ThreadPoolExecutor(4) as people:
        list(people.map(lambda file: hurt.drop(*file), files))


def repeat_events(hurt: Hurt, folder: str, count: int, stop: threading.Event) -> None:
    """Send events of S3 that were sent before, until told to stop: S3 and SQS deliver at least once, in any order."""
    chance = random.Random()  # noqa: S311  # not secrecy
    listed = hurt.client("s3").list_object_versions(Bucket=hurt.outputs["upload_bucket"], Prefix=folder)["Versions"]
    for version in chance.sample(listed, round(len(listed) * DUPLICATES)):
        for _ in range(chance.randint(1, 3)):
            if stop.wait(chance.uniform(0, 1)):
                return
            hurt.send(event_of(version))


def event_of(version: dict[str, Any]) -> dict[str, Any]:
    """Return the event that S3 sent for a version, with the least of sequencers: it comes late."""
    s3_object = {"key": version["Key"], "size": version["Size"], "versionId": version["VersionId"], "sequencer": "0"}
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"object": s3_object}}]}


def storm(
    hurt: Hurt, folder: str, count: int, say: Callable[[str], None], *, duplicates: bool = False
) -> tuple[list[str], dict[str, Any]]:
    """Let a storm pass; return what is wrong afterwards, and the simulator's counters."""
    stop = threading.Event()
    with hurt.recorded() as calls, ThreadPoolExecutor(1) as postman:
        drop_all(hurt, folder, count)
        again = postman.submit(repeat_events, hurt, folder, count, stop) if duplicates else None
        try:
            told_last = -1

            def over() -> bool:
                nonlocal told_last
                ended = hurt.told.ended(folder)
                if ended != told_last and ended % (count // 5) == 0:
                    told_last = ended
                    say(f"{ended} of {count} ended")
                return ended == count and hurt.is_quiet()

            hurt.wait(over, "the storm's end", seconds=count * 12)
        finally:
            stop.set()
        if again:
            again.result()
    counters: dict[str, Any] = hurt.simulator.state()["counters"]
    span = counters["last_end"] - counters["first_start"]
    tasks = sorted((task["started_at"], task["ended_at"]) for task in hurt.tasks(folder) if task["started_at"])
    idle = sorted(((b[0] - a[1], round(b[0] - tasks[0][0])) for a, b in pairwise(tasks)), reverse=True)
    writes = sum(n for (_, call), n in calls.items() if ".Put" in call or ".Update" in call or ".Transact" in call)
    say(
        f"{count} voices in {span:.0f} s, provider busy {counters['busy_seconds'] / span:.2%}, at most "
        f"{counters['max_open']} tasks there, {counters['creates_accepted']} creates; a job: "
        f"{sum(counters['requests'].values()) / count:.1f} requests to the service "
        f"({', '.join(f'{k} {v / count:.2f}' for k, v in sorted(counters['requests'].items()))}), "
        f"{writes / count:.1f} writes, {sum(calls.values()) / count:.1f} outside calls; longest pauses "
        f"of the provider: {', '.join(f'{seconds:.1f} s at {at} s' for seconds, at in idle[:5])}"
    )
    return hurt.faults_of(folder, count), counters


@pytest.fixture
def size(full: bool, hurt: Hurt) -> int:
    """Return how many voices a storm has; the simulator is new and has tasks of the storm's length."""
    hurt.simulator.reset()
    hurt.simulator.set(task_seconds=TASK_SECONDS if full else FEW_TASK_SECONDS)
    return VOICES if full else FEW_VOICES


def test_every_voice_of_a_storm_becomes_one_paid_video_and_the_provider_is_kept_busy(
    hurt: Hurt, folder: str, size: int, full: bool, say: Callable[[str], None]
) -> None:
    wrong, counters = storm(hurt, folder, size, say)

    assert not wrong
    assert counters["creates_accepted"] == size
    assert counters["max_open"] <= 2
    assert not counters["throttled"]
    if full:
        assert counters["busy_seconds"] >= BUSY * (counters["last_end"] - counters["first_start"])


@pytest.mark.full
@pytest.mark.parametrize("hurt", [{"MaxTasksInFlight": "20"}], indirect=True)
def test_a_storm_of_repeated_events_with_twenty_tasks_in_flight_is_paid_once_too(
    hurt: Hurt, folder: str, size: int, say: Callable[[str], None]
) -> None:
    wrong, counters = storm(hurt, folder, size, say, duplicates=True)

    assert not wrong
    assert counters["creates_accepted"] == size
    assert 2 < counters["max_open"] <= 20
    assert not counters["throttled"]
    assert counters["busy_seconds"] >= BUSY * (counters["last_end"] - counters["first_start"])


@pytest.mark.full
def test_a_storm_loses_nothing_and_pays_nothing_twice_while_one_call_in_twenty_fails(
    hurt: Hurt, folder: str, size: int, say: Callable[[str], None]
) -> None:
    hurt.simulator.set(task_seconds=FEW_TASK_SECONDS)
    for effect in (False, True):  # the half of them after the call took effect
        hurt.simulator.fault({"status": 500, "effect": effect}, times=None, probability=FAILING / 2)

    wrong, counters = storm(hurt, folder, size, say)

    assert not wrong
    assert counters["creates_accepted"] == size
    assert counters["max_open"] <= 2
