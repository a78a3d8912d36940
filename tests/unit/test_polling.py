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
def test_a_wait_keeps_between_a_quarter_of_the_stacks_least_and_its_most(
    elapsed: float, expected: float, pending: bool, bounds: tuple[int, int]
) -> None:
    least, most = sorted(bounds)
    waited = wait(elapsed, expected, pending=pending, least=least, most=most)
    assert max(1, least / 4) <= waited <= max(most, math.ceil(least / 4))


@given(seconds, st.floats(34, 3600), st.floats(0, 0.9, exclude_max=True))
def test_only_while_the_end_is_expected_are_polls_closer_than_the_least_wait(
    late: float, expected: float, share: float
) -> None:
    before = wait(expected * share, expected)
    assert before >= LEAST or expected * share + before >= expected * 0.9 - 1
    assert wait(expected * 1.2 + late, expected) >= LEAST


@given(st.floats(10, 33), st.floats(1.2, 3))
def test_a_task_of_seconds_is_first_and_last_polled_at_within_half_of_what_it_should_take(
    expected: float, share: float
) -> None:
    assert wait(0, expected) <= 0.5 * expected + 1
    assert wait(expected * share, expected) <= 0.5 * expected + 1


@pytest.mark.parametrize("elapsed", [540, 600, 660])
def test_while_the_end_is_expected_at_any_moment_polls_are_four_times_as_close(elapsed: float) -> None:
    assert wait(elapsed, 600) == 4


@pytest.mark.parametrize("in_flight", [1, 20, 100, 400])
def test_all_tasks_in_flight_together_ask_at_most_ten_times_a_second(in_flight: int) -> None:
    closest = next_poll(elapsed=600, expected=600, waiting_behind_others=False, least=1, most=120, in_flight=in_flight)
    assert in_flight / closest <= 10


def test_a_task_that_is_late_is_polled_at_less_and_less() -> None:
    waits = [wait(elapsed, 100, least=1, most=3600) for elapsed in (121, 1000, 10_000)]
    assert all(earlier < later for earlier, later in pairwise(waits))
    assert waits[0] <= 20


@given(st.floats(40, 5000))
def test_a_task_that_waits_behind_another_is_polled_at_twice_in_the_time_of_its_own_work(expected: float) -> None:
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
def test_with_a_known_pace_a_task_of_minutes_is_seen_three_times_sooner_than_every_15_seconds_for_no_more_polls(
    minutes: tuple[int, int],
) -> None:
    tasks = simulated(minutes[0] * 60, minutes[1] * 60)
    fixed = [every_15_seconds(work) for _, _, work in tasks]
    assert mean(count for _, (count, _), _ in tasks) <= mean(count for count, _ in fixed)
    assert mean(unseen for _, (_, unseen), _ in tasks) <= mean(unseen for _, unseen in fixed) / 3


def test_with_a_known_pace_no_task_under_two_minutes_costs_over_two_polls_more_than_every_15_seconds() -> None:
    assert max(count - every_15_seconds(work)[0] for _, (count, _), work in simulated(20, 120, count=4000)) <= 2


@pytest.mark.parametrize("factor", [5, 0.2])
@pytest.mark.parametrize("band", [(20, 60), (60, 900)])
def test_a_provider_five_times_slower_or_faster_than_known_is_still_seen_in_time(
    band: tuple[int, int], factor: float
) -> None:
    tasks = simulated(*band, factor, count=2000)
    fixed = mean(every_15_seconds(work)[0] for _, _, work in tasks)
    assert mean(count for _, (count, _), _ in tasks) <= 1.25 * fixed
    assert mean(unseen / expected for expected, (_, unseen), _ in tasks) < 0.2


@pytest.mark.parametrize("factor", [5, 0.2])
def test_the_pace_is_right_again_after_three_jobs_of_a_changed_provider(factor: float) -> None:
    chance = random.Random(2)  # noqa: S311  # the same jobs in each run
    pace = Pace(12.0, 9)
    for _ in range(3):
        pace = pace.learn(20, 20 * 12 * factor * chance.uniform(0.9, 1.1))
    assert pace.work_per_second == pytest.approx(12 * factor, rel=0.1)


def test_a_new_stack_expects_minutes_not_seconds() -> None:
    assert 60 <= Pace().expected(10) <= 600


@given(st.floats(0, 60), st.floats(0, 60))
def test_a_longer_voice_is_never_expected_sooner(one: float, other: float) -> None:
    shorter, longer = sorted((one, other))
    for pace in (Pace(), Pace(3.0, 4)):
        assert 0 < pace.expected(shorter) <= pace.expected(longer)


@given(st.floats(1, 60), st.floats(0.5, 3600))
def test_after_one_finished_job_a_voice_of_its_length_is_expected_to_take_as_long(voice: float, work: float) -> None:
    learned = Pace().learn(voice, work)
    assert learned.jobs == 1
    assert learned.expected(voice) == pytest.approx(work)


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_each_later_job_moves_the_pace_towards_what_it_took_and_not_beyond(known: float, seen: float) -> None:
    learned = Pace(known, 3).learn(10, seen * 10)
    assert learned.jobs == 4
    assert min(known, seen) - 1e-9 <= learned.work_per_second <= max(known, seen) + 1e-9
    assert abs(learned.work_per_second - seen) <= 0.9 * abs(known - seen) + 1e-9


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(-5, 10_000)), max_size=20))
def test_whatever_finished_jobs_took_a_pace_stays_above_zero(jobs: list[tuple[float, float]]) -> None:
    pace = Pace()
    for voice, work in jobs:
        pace = pace.learn(voice, work)
    assert pace.work_per_second > 0
    assert pace.expected(0) > 0
