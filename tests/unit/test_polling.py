"""When a task is polled next, and what finished tasks taught."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.domain.polling import Pace, next_poll

LEAST, MOST = 15, 120

seconds = st.floats(0, 200_000)
bounds = st.tuples(st.integers(1, 3600), st.integers(1, 3600))


def wait(elapsed: float, expected: float, *, pending: bool = False, least: float = LEAST, most: float = MOST) -> int:
    return next_poll(elapsed=elapsed, expected=expected, waiting_behind_others=pending, least=least, most=most)


def polls(work: float, expected: float, *, least: float = LEAST, most: float = MOST) -> tuple[int, float]:
    """Return how often a task of so much work is polled, and how long its end stays unseen."""
    at, count = 0.0, 0
    while True:
        at, count = at + wait(at, expected, least=least, most=most), count + 1
        if at >= work:
            return count, at - work


@given(seconds, seconds, st.booleans(), bounds)
def test_bounds_of_the_interval(elapsed: float, expected: float, pending: bool, bounds: tuple[int, int]) -> None:
    """An interval keeps between a quarter of the stack's least and its most."""
    least, most = sorted(bounds)
    waited = wait(elapsed, expected, pending=pending, least=least, most=most)
    assert max(1, least / 4) <= waited <= max(most, math.ceil(least / 4))


@given(seconds, st.floats(34, 3600), st.floats(0, 0.9, exclude_max=True))
def test_close_only_while_the_end_is_expected(late: float, expected: float, share: float) -> None:
    before = wait(expected * share, expected)
    assert before >= LEAST or expected * share + before >= expected * 0.9 - 1
    assert wait(expected * 1.2 + late, expected) >= LEAST


@given(st.floats(10, 33), st.floats(1.2, 3))
def test_a_task_of_seconds(expected: float, share: float) -> None:
    """It is first and last polled within half of what it should take."""
    assert wait(0, expected) <= 0.5 * expected + 1
    assert wait(expected * share, expected) <= 0.5 * expected + 1


@pytest.mark.parametrize("elapsed", [540, 600, 660])
def test_polls_around_the_expected_end(elapsed: float) -> None:
    assert wait(elapsed, 600) == 4


@pytest.mark.parametrize("in_flight", [1, 20, 100, 400])
def test_ten_queries_a_second_in_all(in_flight: int) -> None:
    closest = next_poll(elapsed=600, expected=600, waiting_behind_others=False, least=1, most=120, in_flight=in_flight)
    assert in_flight / closest <= 10


def test_a_late_task_is_polled_less_and_less() -> None:
    waits = [wait(elapsed, 100, least=1, most=3600) for elapsed in (121, 1000, 10_000)]
    assert all(earlier < later for earlier, later in pairwise(waits))
    assert waits[0] <= 20


@given(st.floats(40, 5000))
def test_a_task_that_waits_behind_another(expected: float) -> None:
    """It is polled twice in the time of its own work."""
    assert wait(0, expected, pending=True, least=1, most=10_000) == pytest.approx(expected * 0.45, abs=1)


def every_15_seconds(work: float) -> tuple[int, float]:
    count = math.ceil(work / 15)
    return count, count * 15 - work


def simulated(
    shortest: float, longest: float, factor: float = 1.0, count: int = 400
) -> list[tuple[float, tuple[int, float], float]]:
    """Return (expected, (polls, seconds unseen), work) of tasks whose work varies by a tenth."""
    chance = random.Random(1)  # noqa: S311  # the same tasks in each run
    tasks = []
    for _ in range(count):
        expected = chance.uniform(shortest, longest)
        work = expected * factor * chance.uniform(0.9, 1.1)
        tasks.append((expected, polls(work, expected * chance.uniform(0.97, 1.03)), work))
    return tasks


@pytest.mark.parametrize("minutes", [(2, 3), (3, 5), (5, 10), (10, 15)])
def test_minutes_are_seen_three_times_sooner(
    minutes: tuple[int, int],
) -> None:
    """With a known pace, than with a poll every 15 seconds, for no more polls."""
    tasks = simulated(minutes[0] * 60, minutes[1] * 60)
    fixed = [every_15_seconds(work) for _, _, work in tasks]
    assert mean(count for _, (count, _), _ in tasks) <= mean(count for count, _ in fixed)
    assert mean(unseen for _, (_, unseen), _ in tasks) <= mean(unseen for _, unseen in fixed) / 3


def test_two_more_polls_at_short_tasks() -> None:
    """With a known pace no task under two minutes costs over two polls more than every 15 seconds."""
    assert max(count - every_15_seconds(work)[0] for _, (count, _), work in simulated(20, 120, count=4000)) <= 2


@pytest.mark.parametrize("factor", [5, 0.2])
@pytest.mark.parametrize("band", [(20, 60), (60, 900)])
def test_a_provider_of_another_pace(band: tuple[int, int], factor: float) -> None:
    """Five times slower or faster than known is still seen in time."""
    tasks = simulated(*band, factor, count=2000)
    fixed = mean(every_15_seconds(work)[0] for _, _, work in tasks)
    assert mean(count for _, (count, _), _ in tasks) <= 1.25 * fixed
    assert mean(unseen / expected for expected, (_, unseen), _ in tasks) < 0.2


@pytest.mark.parametrize("factor", [5, 0.2])
def test_the_pace_is_right_after_three_jobs(factor: float) -> None:
    chance = random.Random(2)  # noqa: S311  # the same jobs in each run
    pace = Pace(12.0, 9)
    for _ in range(3):
        pace = pace.learn(20, 20 * 12 * factor * chance.uniform(0.9, 1.1))
    assert pace.work_per_second == pytest.approx(12 * factor, rel=0.1)


def test_a_new_stack_expects_minutes_not_seconds() -> None:
    assert 60 <= Pace().expected(10) <= 600


@given(st.floats(0, 60), st.floats(0, 60))
def test_a_longer_voice_takes_no_less(one: float, other: float) -> None:
    shorter, longer = sorted((one, other))
    for pace in (Pace(), Pace(3.0, 4)):
        assert 0 < pace.expected(shorter) <= pace.expected(longer)


@given(st.floats(1, 60), st.floats(0.5, 3600))
def test_one_finished_job_teaches_its_length(voice: float, work: float) -> None:
    learned = Pace().learn(voice, work)
    assert learned.jobs == 1
    assert learned.expected(voice) == pytest.approx(work)


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_each_later_job_moves_the_pace(known: float, seen: float) -> None:
    learned = Pace(known, 3).learn(10, seen * 10)
    assert learned.jobs == 4
    assert min(known, seen) - 1e-9 <= learned.work_per_second <= max(known, seen) + 1e-9
    assert abs(learned.work_per_second - seen) <= 0.9 * abs(known - seen) + 1e-9


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(-5, 10_000)), max_size=20))
def test_a_pace_stays_above_zero(jobs: list[tuple[float, float]]) -> None:
    pace = Pace()
    for voice, work in jobs:
        pace = pace.learn(voice, work)
    assert pace.work_per_second > 0
    assert pace.expected(0) > 0
