"""One look at one task: every status and every trouble of the provider, and when to look again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from portraitcast.adapters.dashscope.client import (
    AccountError,
    Emo,
    EmoError,
    JobRefusedError,
    NotConnectedError,
    ProviderIllError,
    Task,
    ThrottledError,
)
from portraitcast.workflows.poll import look

SENT_AT = 1_772_337_600.0
LEAST, MOST = 15, 120
DAY = 24 * 3600
STATE = {"job": "0" * 32, "attempt": 1, "task": "t-1", "sent_at": SENT_AT, "expected_seconds": 400.0, "watch": 1}


def task(status: str, *, link: bool = False, scheduled_after: float | None = None) -> Task:
    scheduled = None if scheduled_after is None else datetime.fromtimestamp(SENT_AT + scheduled_after, UTC)
    return Task(
        task_id="t-1",
        status=status,
        submit_time=None,
        scheduled_time=scheduled,
        end_time=None,
        video_url="http://x.aliyuncs.com/v.mp4?Signature=secret" if link else None,
        code=None,
        message=None,
        request_id="r-1",
        video_seconds=None,
    )


class Service:
    """The provider, giving the same answer to every query."""

    def __init__(self, answer: Task | EmoError) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def query(self, task_id: str) -> Task:
        self.asked.append(task_id)
        if isinstance(self.answer, EmoError):
            raise self.answer
        return self.answer


def after(
    state: dict[str, Any], answer: Task | EmoError, *, at: float = 60, least: float = LEAST, most: float = MOST
) -> dict[str, Any]:
    return look(state, cast("Emo", Service(answer)), least=least, most=most, clock=lambda: SENT_AT + at)


def looks(answer: Task | EmoError, count: int, **bounds: float) -> list[dict[str, Any]]:
    states = [dict(STATE)]
    for _ in range(count):
        states.append(after(states[-1], answer, **bounds))
    return states[1:]


# Statuses


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        (task("PENDING"), False),
        (task("RUNNING"), False),
        (task("RUNNING", scheduled_after=10), False),
        (task("SUCCEEDED", link=True), True),
        (task("FAILED"), True),
        (task("CANCELED"), True),
        (task("SUCCEEDED"), False),
        (task("UNKNOWN"), False),
        (task("PRE-PROCESSING"), False),
        (task("SUSPENDED"), False),
        (task(""), False),
        (task("succeeded-ish", link=True), False),
    ],
    ids=lambda value: value.status + "+link" * bool(value.video_url) if isinstance(value, Task) else str(value),
)
def test_the_first_look_tells_whether_a_task_has_ended_and_when_to_look_again(answer: Task, ended: bool) -> None:
    state = after(dict(STATE), answer)
    assert state["ended"] is ended
    assert state["status"] == answer.status
    assert type(state["wait_seconds"]) is int
    assert LEAST <= state["wait_seconds"] <= MOST


def test_it_asks_once_and_for_the_executions_own_task() -> None:
    service = Service(task("RUNNING"))
    look(dict(STATE), cast("Emo", service), least=LEAST, most=MOST, clock=lambda: SENT_AT)
    assert service.asked == ["t-1"]


@pytest.mark.parametrize(
    "answer", [task("RUNNING"), task("SUCCEEDED", link=True), ThrottledError("Throttling", "slow")]
)
def test_the_executions_state_is_kept_plain_and_without_links(answer: Task | EmoError) -> None:
    state = after({**STATE, "error": {"Error": "States.Timeout"}}, answer)
    assert STATE.items() <= state.items()
    assert "error" not in state
    assert "http" not in json.dumps(state)


def test_a_status_that_nobody_knows_goes_on_until_the_deadline() -> None:
    states = looks(task("PRE-PROCESSING"), 50)
    assert not any(state["ended"] for state in states)


def test_a_task_that_waits_behind_another_is_looked_at_rarely() -> None:
    pending, running = after(dict(STATE), task("PENDING"), at=390), after(dict(STATE), task("RUNNING"), at=390)
    assert pending["wait_seconds"] == MOST
    running = after({**running, "running_since": SENT_AT}, task("RUNNING"), at=390)
    assert running["wait_seconds"] < MOST


def test_the_wait_follows_from_how_long_the_task_has_run_by_the_providers_clock() -> None:
    fresh = after(dict(STATE), task("RUNNING", scheduled_after=350), at=360)
    nearly = after(dict(STATE), task("RUNNING", scheduled_after=0), at=360)
    assert fresh["wait_seconds"] > 60
    assert nearly["wait_seconds"] < LEAST


def test_where_the_provider_names_no_beginning_it_counts_from_the_first_look_that_saw_it_run() -> None:
    first = after(dict(STATE), task("RUNNING"), at=100)
    later = after(first, task("RUNNING"), at=100 + 380)
    assert later["wait_seconds"] <= 40


@pytest.mark.parametrize("wrong", [timedelta(hours=8), timedelta(hours=-8)])
def test_a_clock_in_another_zone_than_thought_makes_no_wait_leave_its_bounds(wrong: timedelta) -> None:
    state = after(dict(STATE), task("RUNNING", scheduled_after=wrong.total_seconds()), at=60)
    assert state["ended"] is False
    assert LEAST <= state["wait_seconds"] <= MOST


# SUCCEEDED without a link


def test_succeeded_without_a_link_ends_with_the_third_look_at_least_twice_the_least_wait_apart() -> None:
    states = looks(task("SUCCEEDED"), 3)
    assert [state["ended"] for state in states] == [False, False, True]
    assert all(state["wait_seconds"] >= 2 * LEAST for state in states[:2])


@pytest.mark.parametrize(("least", "most"), [(1, 1), (15, 15), (1.25, 120)])
def test_the_looks_for_a_missing_link_keep_their_distance_whatever_the_most_wait(least: float, most: float) -> None:
    assert after(dict(STATE), task("SUCCEEDED"), least=least, most=most)["wait_seconds"] >= 2 * least


def test_a_link_that_comes_late_is_the_end() -> None:
    state = looks(task("SUCCEEDED"), 2)[-1]
    assert after(state, task("SUCCEEDED", link=True))["ended"] is True


def test_only_looks_that_agree_count_for_a_missing_link() -> None:
    state = after(looks(task("SUCCEEDED"), 2)[-1], task("RUNNING"))
    states = [state := after(state, task("SUCCEEDED")) for _ in range(3)]
    assert [state["ended"] for state in states] == [False, False, True]


def test_trouble_between_the_looks_is_no_look() -> None:
    state = after(looks(task("SUCCEEDED"), 2)[-1], ProviderIllError("InternalError", "ill"))
    assert state["ended"] is False
    assert after(state, task("SUCCEEDED"))["ended"] is True


# UNKNOWN


def test_unknown_ends_with_the_third_look_so_that_the_slot_is_freed_once() -> None:
    states = looks(task("UNKNOWN"), 6)
    assert [state["ended"] for state in states] == [False, False, True, False, False, False]


def test_after_the_third_unknown_it_is_looked_at_as_rarely_as_may_be() -> None:
    states = looks(task("UNKNOWN"), 5)
    assert [state["wait_seconds"] for state in states] == [30, 30, MOST, MOST, MOST]


def test_a_key_that_works_again_begins_the_count_of_unknown_anew() -> None:
    state = after(looks(task("UNKNOWN"), 2)[-1], task("RUNNING"))
    states = [state := after(state, task("UNKNOWN")) for _ in range(3)]
    assert [state["ended"] for state in states] == [False, False, True]


# The provider's troubles are answers


@pytest.mark.parametrize(
    "error",
    [
        ThrottledError("Throttling.RateQuota", "slow down", http_status=429),
        ThrottledError("Throttling", "slow down", http_status=429, retry_after=7),
        ThrottledError("Throttling", "slow down", http_status=429, retry_after=1e9),
        ProviderIllError("InternalError", "ill", http_status=500),
        ProviderIllError("Nonsense", "not JSON", http_status=200),
        NotConnectedError("NotConnected", "refused"),
        AccountError("InvalidApiKey", "wrong key", http_status=401),
        JobRefusedError("InvalidParameter", "no", http_status=400),
        EmoError("Odd", "odd"),
    ],
    ids=lambda error: f"{type(error).__name__}-{error.retry_after}",
)
def test_each_trouble_of_the_provider_means_to_look_again_later(error: EmoError) -> None:
    state = after(dict(STATE), error)
    assert state["ended"] is False
    assert type(state["wait_seconds"]) is int
    assert 2 * LEAST <= state["wait_seconds"] <= MOST


def test_a_wait_that_the_provider_asks_for_is_kept() -> None:
    assert after(dict(STATE), ThrottledError("Throttling", "slow", retry_after=77))["wait_seconds"] == 77


def test_the_accounts_trouble_is_looked_at_rarely() -> None:
    assert after(dict(STATE), AccountError("Arrearage", "unpaid"))["wait_seconds"] == MOST


def test_what_earlier_looks_counted_outlives_a_trouble() -> None:
    state = after(looks(task("UNKNOWN"), 2)[-1], NotConnectedError("NotConnected", "refused"))
    assert after(state, task("UNKNOWN"))["ended"] is True


# The task's life


@pytest.mark.parametrize("answer", [task("UNKNOWN"), task("RUNNING"), NotConnectedError("NotConnected", "refused")])
def test_a_task_over_24_hours_old_has_ended_whatever_the_provider_says(answer: Task | EmoError) -> None:
    assert after(dict(STATE), answer, at=DAY - 1)["ended"] is False
    assert after(dict(STATE), answer, at=DAY + 1)["ended"] is True
