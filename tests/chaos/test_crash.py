"""Death at any outside call: for every such point a fresh job, and afterwards everything is as if nobody had died."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hurt import Point, portrait_of, voice

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping

    from hurt import Hurt

SAMPLE_JOBS = 4  # of `make test`: always the same points, so that it is never red by chance; `make chaos` tries all

ROUNDS = 3  # of a loop: its later rounds are like these


@pytest.fixture(scope="module", autouse=True)
def short_times(hurt: Hurt) -> Iterator[None]:
    with hurt.short_times():
        yield


@dataclass(frozen=True)
class Way:
    """A way through a job's life: what people and the provider do, and how it may end."""

    live: Callable[[Hurt, str, bool], None]
    ends: tuple[str, ...] = ("done",)


def drop_pair(hurt: Hurt, folder: str, sweeps: bool) -> None:
    """A voice, and once its job waits, its portrait: the way through every state."""
    hurt.drop(f"{folder}line.wav", voice(1))
    hurt.wait(lambda: bool(hurt.told.of(f"{folder}line")), "the voice's job", sweeps=sweeps)
    hurt.drop(f"{folder}line.png", portrait_of(folder))


def drop_with_the_only_image(hurt: Hurt, folder: str, sweeps: bool) -> None:
    """The portrait has another name: the job is sent by a re-evaluation of its folder."""
    hurt.drop(f"{folder}line.wav", voice(1))
    hurt.wait(lambda: bool(hurt.told.of(f"{folder}line")), "the voice's job", sweeps=sweeps)
    hurt.drop(f"{folder}anna.png", portrait_of(folder))


def cut_the_create(hurt: Hurt, folder: str, sweeps: bool) -> None:
    """The create's answer is lost: nobody knows whether the task was made, and it was."""
    hurt.simulator.fault({"close": "after"}, endpoint="create")
    drop_pair(hurt, folder, sweeps)


def lose_the_create(hurt: Hurt, folder: str, sweeps: bool) -> None:
    """The create's answer is lost and no task was made: both looks find nothing, and it is sent again."""
    hurt.simulator.fault({"status": 500}, endpoint="create")
    drop_pair(hurt, folder, sweeps)


def abort_the_execution(hurt: Hurt, folder: str, sweeps: bool) -> None:
    """Somebody aborts the execution while the task runs."""
    hurt.simulator.set(manual=True)
    try:
        drop_pair(hurt, folder, sweeps)
        hurt.wait(lambda: "rendering" in hurt.told.states(f"{folder}line"), "the task", sweeps=sweeps)
        hurt.abort(f"{folder}line")
        hurt.wait(lambda: bool(hurt.told.ended(folder)) or hurt.is_monitored(), "the abort", sweeps=sweeps)
    finally:
        hurt.simulator.set(manual=False)


WAYS = {
    "a pair": Way(drop_pair),
    "the only image": Way(drop_with_the_only_image),
    "a create cut off": Way(cut_the_create),
    "a create lost": Way(lose_the_create),
    # Should its event be lost with the process, the schedule has the task monitored anew: what is paid is delivered.
    "an execution aborted": Way(abort_the_execution, ("failed", "done")),
}


def record(hurt: Hurt, folder: str, way: Way) -> Counter[tuple[str, str]]:
    """Count the outside calls of a job that nobody hurts, by functions that have just been started."""
    hurt.start_anew()
    with hurt.recorded() as calls:
        way.live(hurt, folder, False)
        hurt.wait(lambda: hurt.told.ended(folder) == 1 and hurt.is_quiet(), "the job's end")
    assert not hurt.faults_of(folder, 1, way.ends)
    return calls


def points_of(calls: Mapping[tuple[str, str], int]) -> list[Point]:
    """List every place to die at: before and after each of the calls."""
    return sorted(
        Point(function, call, nth, when)
        for (function, call), times in calls.items()
        for nth in range(1, times + 1)
        for when in ("before", "after")
    )


def hurt_one_job(hurt: Hurt, folder: str, way: Way, points: list[Point]) -> tuple[list[str], list[Point]]:
    """Take a fresh job through its life while functions die at `points`: what is wrong then, and who didn't die."""
    if any(point.call.startswith("secretsmanager") for point in points):
        hurt.start_anew()  # the key is remembered
    died = {point: hurt.arm(point) for point in points}
    try:
        way.live(hurt, folder, True)
        hurt.wait(lambda: hurt.told.ended(folder) == 1 and hurt.is_quiet(), "the job's end", sweeps=True)
    except TimeoutError as error:
        wrong = [str(error), f"told: {hurt.told.states(f'{folder}line')}", *map(str, hurt.items())]
    else:
        wrong = hurt.faults_of(folder, 1, way.ends)
    alive = [point for point in points if not died[point]()]
    hurt.disarm()
    return wrong, alive


def hurt_all(hurt: Hurt, folder: str, way: Way, deaths: list[list[Point]], say: Callable[[str], None]) -> None:
    """Let each of the lists of points be the death of functions in the life of a job of its own."""
    wrong, alive = {}, []
    for number, points in enumerate(deaths, 1):
        began = time.monotonic()
        found, left = hurt_one_job(hurt, f"{folder.rstrip('/')}-{number}/", way, points)
        alive += left
        title = " and ".join(map(str, points))
        verdict = ("WRONG" if found else "well") + (" (not reached)" if left else "")
        say(f"{number}/{len(deaths)} {title}: {verdict} {time.monotonic() - began:.1f} s")
        if found:
            wrong[title] = found
    assert not wrong
    assert len(alive) <= sum(map(len, deaths)) * 0.2, f"too many points were never reached: {list(map(str, alive))}"


def test_a_death_at_a_call_chosen_by_chance_and_round_each_create_loses_nothing_and_pays_nothing_twice(
    hurt: Hurt, folder: str, say: Callable[[str], None]
) -> None:
    way = WAYS["a pair"]
    points = points_of(record(hurt, folder, way))
    money = [Point("submit", "emo.create", 1, "before"), Point("submit", "emo.create", 1, "after")]
    assert set(money) <= set(points)
    chance = random.Random(4)  # noqa: S311  # not secrecy; the report names the points
    submits = [p for p in points if p.function == "submit" and p not in money]
    others = [p for p in points if p.function != "submit"]
    firsts = money + chance.sample(submits, SAMPLE_JOBS - len(money))
    hurt_all(
        hurt, folder, way, [list(two) for two in zip(firsts, chance.sample(others, SAMPLE_JOBS), strict=True)], say
    )


@pytest.mark.full
def test_a_death_at_any_outside_call_loses_nothing_and_pays_nothing_twice(
    hurt: Hurt, folder: str, say: Callable[[str], None]
) -> None:
    way = WAYS["a pair"]
    points = points_of(record(hurt, folder, way))
    hurt_all(hurt, folder, way, [[point] for point in points], say)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in WAYS if name != "a pair"])
def test_a_death_at_any_further_call_of_another_way_loses_nothing_and_pays_nothing_twice(
    hurt: Hurt, folder: str, say: Callable[[str], None], name: str
) -> None:
    usual = record(hurt, f"{folder.rstrip('/')}-usual/", WAYS["a pair"])
    calls = record(hurt, folder, WAYS[name])
    further = {call: min(times, usual[call] + ROUNDS) for call, times in calls.items() if times > usual[call]}
    points = [point for point in points_of(further) if point.nth > usual[point.function, point.call]]
    hurt_all(hurt, folder, WAYS[name], [[point] for point in points], say)
