"""Death at any outside call: for every such point a fresh job, and afterwards everything is as if nobody had died."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from hurt import Point, portrait_of, voice

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    from hurt import Hurt

SAMPLE_JOBS = 5  # of `make test`; chosen by chance, so what is not tried today may be tried tomorrow
SHARDS = 2  # of a full run, each with a stack of its own


@pytest.fixture(scope="module", autouse=True)
def short_times(hurt: Hurt) -> Iterator[None]:
    with hurt.short_times():
        yield


def drop_pair(hurt: Hurt, folder: str, *, sweeps: bool) -> None:
    """Drop a voice, and once its job waits, its portrait: the way through every state."""
    hurt.drop(f"{folder}line.wav", voice(1))
    hurt.wait(lambda: bool(hurt.told.of(f"{folder}line")), "the voice's job", sweeps=sweeps)
    hurt.drop(f"{folder}line.png", portrait_of(folder))


def record(hurt: Hurt, folder: str) -> Counter[tuple[str, str]]:
    """Count the outside calls of a job that nobody hurts."""
    with hurt.recorded() as calls:
        drop_pair(hurt, folder, sweeps=False)
        hurt.wait(lambda: hurt.told.ended(folder) == 1 and hurt.is_quiet(), "the job's end")
    return calls


def points_of(calls: Counter[tuple[str, str]]) -> list[Point]:
    """List every place to die at: before and after each of the calls."""
    return sorted(
        Point(function, call, nth, when)
        for (function, call), times in calls.items()
        for nth in range(1, times + 1)
        for when in ("before", "after")
    )


def hurt_one_job(hurt: Hurt, folder: str, points: list[Point]) -> tuple[list[str], list[Point]]:
    """Take a fresh job through its life while functions die at `points`: what is wrong then, and who didn't die."""
    died = {point: hurt.arm(point) for point in points}
    try:
        drop_pair(hurt, folder, sweeps=True)
        hurt.wait(lambda: hurt.told.ended(folder) == 1 and hurt.is_quiet(), "the job's end", sweeps=True)
    except TimeoutError as error:
        wrong = [str(error), f"told: {[r['status'] for r in hurt.told.of(f'{folder}line')]}", *map(str, hurt.items())]
    else:
        wrong = hurt.faults_of(folder, 1)
    alive = [point for point in points if not died[point]()]
    hurt.disarm()
    return wrong, alive


def sampled(points: list[Point], jobs: int) -> list[list[Point]]:
    """Choose points for `jobs` jobs: those where money is at stake always, the others by chance, two a job."""
    money = [Point("submit", "emo.create", 1, "before"), Point("submit", "emo.create", 1, "after")]
    assert set(money) <= set(points)
    chance = random.Random()  # noqa: S311  # not secrecy; the report names the points
    submits = [p for p in points if p.function == "submit" and p not in money]
    others = [p for p in points if p.function != "submit"]
    return [
        [s, o]
        for s, o in zip(money + chance.sample(submits, jobs - len(money)), chance.sample(others, jobs), strict=True)
    ]


@pytest.mark.parametrize("shard", [0, *(pytest.param(n, marks=pytest.mark.full) for n in range(1, SHARDS))])
def test_a_death_at_any_outside_call_loses_nothing_and_pays_nothing_twice(
    hurt: Hurt, folder: str, full: bool, say: Callable[[str], None], shard: int
) -> None:
    points = points_of(record(hurt, folder))
    jobs = [[point] for point in points[shard::SHARDS]] if full else sampled(points, SAMPLE_JOBS)
    wrong, alive = {}, []
    for number, deaths in enumerate(jobs, 1):
        began = time.monotonic()
        found, left = hurt_one_job(hurt, f"{folder.rstrip('/')}-{number}/", deaths)
        alive += left
        title = " and ".join(map(str, deaths))
        say(
            f"{number}/{len(jobs)} {title}: {'WRONG' if found else 'well'}{' (not reached)' if left else ''} "
            f"{time.monotonic() - began:.1f} s"
        )
        if found:
            wrong[title] = found
    assert not wrong
    assert len(alive) <= len(points) * 0.2, f"too many points were never reached: {[str(point) for point in alive]}"
