"""When a task is looked at again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.waits import Pace, next_wait

LEAST, MOST = 15, 120

seconds = st.floats(0, 200_000)
bounds = st.tuples(st.integers(1, 3600), st.integers(1, 3600))


def wait(elapsed: float, expected: float, *, pending: bool = False, least: float = LEAST, most: float = MOST) -> int:
    return next_wait(elapsed=elapsed, expected=expected, waiting_behind_others=pending, least=least, most=most)


def looks(work: float, expected: float, *, least: float = LEAST, most: float = MOST) -> tuple[int, float]:
    """Return how often a task of so much work is looked at, and how long its end stays unseen."""
    at, count = 0.0, 0
    while True:
        at, count = at + wait(at, expected, least=least, most=most), count + 1
        if at >= work:
            return count, at - work


@given(seconds, seconds, st.booleans(), bounds)
def test_a_wait_keeps_between_the_stacks_least_and_most(
    elapsed: float, expected: float, pending: bool, bounds: tuple[int, int]
) -> None:
    least, most = sorted(bounds)
    assert least <= wait(elapsed, expected, pending=pending, least=least, most=most) <= most


@given(seconds, seconds, st.booleans(), bounds)
def test_where_least_and_most_disagree_it_is_never_sooner_than_least(
    elapsed: float, expected: float, pending: bool, bounds: tuple[int, int]
) -> None:
    most, least = sorted(bounds)
    assert wait(elapsed, expected, pending=pending, least=least, most=most) == least


@given(seconds, seconds, st.floats(1, 3600))
def test_a_least_wait_of_broken_seconds_is_kept_as_well(elapsed: float, expected: float, least: float) -> None:
    assert wait(elapsed, expected, least=least, most=3600) >= least


@given(st.floats(1, 3600), st.floats(0, 0.99))
def test_a_running_task_is_not_looked_at_before_most_of_what_should_be_left(expected: float, share: float) -> None:
    left = expected * (1 - share)
    waited = wait(expected * share, expected, least=1, most=86_400)
    assert left / 2 - 1 <= waited <= max(1, left + 1)


def test_looks_come_closer_together_as_the_expected_end_comes_near() -> None:
    waits = [wait(elapsed, 600, least=1, most=3600) for elapsed in (0, 300, 500, 580, 599)]
    assert all(earlier > later for earlier, later in pairwise(waits))


def test_a_task_that_is_late_is_looked_at_often_first_and_then_less_and_less() -> None:
    waits = [wait(elapsed, 100, least=1, most=3600) for elapsed in (100, 200, 1000, 10_000)]
    assert all(earlier < later for earlier, later in pairwise(waits))
    assert waits[0] <= 20


@given(st.floats(0, 5000))
def test_a_task_that_waits_behind_another_is_not_looked_at_before_its_own_work_could_be_done(expected: float) -> None:
    assert wait(0, expected, pending=True, least=1, most=10_000) >= round(expected)


@pytest.mark.parametrize("voice", [1, 5, 20, 60])
@pytest.mark.parametrize("slower", [0.8, 1.0, 1.25])
def test_with_a_known_pace_a_task_costs_fewer_looks_than_every_15_seconds_and_is_seen_soon(
    voice: int, slower: float
) -> None:
    work = 12.0 * voice * slower
    count, unseen = looks(work, Pace(12.0, 5).expected(voice))
    assert count <= max(1, -(-work // 15))
    assert unseen <= max(15, 0.25 * work)


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
