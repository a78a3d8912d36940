"""One poll of one task: every status and every trouble of the provider, and when to poll again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from portraitcast.adapters.dashscope import (
    AccountError,
    DashScope,
    JobRefusedError,
    NotConnectedError,
    ProviderError,
    ProviderIllError,
    ProviderTask,
    ThrottledError,
)
from portraitcast.adapters.records import from_plain, to_plain
from portraitcast.domain.execution import BELIEVED_AFTER, POLLS_MAX, Execution
from portraitcast.workflows.poll import Poll

SENT_AT = 1_772_337_600.0
LEAST, MOST = 15, 120
DAY = 24 * 3600
STATE = Execution("0" * 32, 1, "t-1", SENT_AT, expected_seconds=400.0)


def task(status: str, *, link: bool = False, scheduled_after: float | None = None) -> ProviderTask:
    scheduled = None if scheduled_after is None else datetime.fromtimestamp(SENT_AT + scheduled_after, UTC)
    return ProviderTask(
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


Answer = ProviderTask | ProviderError


class Service:
    """The provider, giving the same answer to every query."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def query(self, task_id: str) -> ProviderTask:
        self.asked.append(task_id)
        if isinstance(self.answer, ProviderError):
            raise self.answer
        return self.answer


def poller(service: Service, *, at: float = 60, least: float = LEAST, most: float = MOST) -> Poll:
    return Poll(cast("DashScope", service), least=least, most=most, clock=lambda: SENT_AT + at)


def after(state: Execution, answer: Answer, *, at: float = 60, least: float = LEAST, most: float = MOST) -> Execution:
    return poller(Service(answer), at=at, least=least, most=most).task(state)


def polls(answer: Answer, count: int, **bounds: float) -> list[Execution]:
    states = [STATE]
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
    ids=lambda value: value.status + "+link" * bool(value.video_url) if isinstance(value, ProviderTask) else str(value),
)
def test_the_first_poll_of_each_status(answer: ProviderTask, ended: bool) -> None:
    state = after(STATE, answer)
    assert state.ended is ended
    assert state.status == answer.status
    assert type(state.wait_seconds) is int
    assert LEAST <= state.wait_seconds <= MOST


def test_it_asks_once_for_its_own_task() -> None:
    service = Service(task("RUNNING"))
    poller(service).task(STATE)
    assert service.asked == ["t-1"]


@pytest.mark.parametrize(
    "answer", [task("RUNNING"), task("SUCCEEDED", link=True), ThrottledError("Throttling", "slow")], ids=str
)
def test_the_state_is_plain_and_without_links(answer: Answer) -> None:
    """The state machine hands it on: what an error handler left beside it is forgotten."""
    event = {**to_plain(STATE), "error": {"Error": "States.Timeout"}}
    state = after(from_plain(Execution, event), answer)
    assert replace(state, ended=False, wait_seconds=1, status="", running_since=None, polls=0) == STATE
    assert "http" not in json.dumps(to_plain(state))
    assert from_plain(Execution, json.loads(json.dumps(to_plain(state)))) == state


@pytest.mark.parametrize("least", [15, 1.5])
def test_a_history_that_grows_too_long_is_handed_over(least: float) -> None:
    """Before an execution has its 25,000 events, deliver starts the next one; the service isn't asked for it."""
    service = Service(task("RUNNING"))
    state = poller(service, least=least).task(replace(STATE, polls=POLLS_MAX - 1))
    assert (state.ended, state.is_long, service.asked) == (True, True, [])
    assert state.wait_seconds == math.ceil(least)
    assert not after(replace(STATE, polls=POLLS_MAX - 2), task("RUNNING")).ended


def test_a_status_that_nobody_knows() -> None:
    states = polls(task("PRE-PROCESSING"), 50)
    assert not any(state.ended for state in states)


def test_a_waiting_task_is_polled_rarely() -> None:
    pending, running = after(STATE, task("PENDING"), at=390), after(STATE, task("RUNNING"), at=390)
    assert pending.wait_seconds == MOST
    running = after(replace(running, running_since=SENT_AT), task("RUNNING"), at=390)
    assert running.wait_seconds < MOST


def test_the_providers_clock_says_how_long() -> None:
    fresh = after(STATE, task("RUNNING", scheduled_after=350), at=360)
    nearly = after(STATE, task("RUNNING", scheduled_after=0), at=360)
    assert fresh.wait_seconds > 60
    assert nearly.wait_seconds < LEAST


def test_without_a_beginning_the_first_poll() -> None:
    first = after(STATE, task("RUNNING"), at=100)
    later = after(first, task("RUNNING"), at=100 + 380)
    assert later.wait_seconds <= 40


@pytest.mark.parametrize("wrong", [timedelta(hours=8), timedelta(hours=-8)])
def test_a_clock_in_another_zone(wrong: timedelta) -> None:
    state = after(STATE, task("RUNNING", scheduled_after=wrong.total_seconds()), at=60)
    assert state.ended is False
    assert LEAST <= state.wait_seconds <= MOST


# SUCCEEDED without a link


def test_three_polls_without_a_link() -> None:
    states = polls(task("SUCCEEDED"), 3)
    assert [state.ended for state in states] == [n >= BELIEVED_AFTER for n in (1, 2, 3)]
    assert all(state.wait_seconds >= 2 * LEAST for state in states[:2])


@pytest.mark.parametrize(("least", "most"), [(1, 1), (15, 15), (1.25, 120)])
def test_polls_for_a_missing_link_keep_apart(least: float, most: float) -> None:
    assert after(STATE, task("SUCCEEDED"), least=least, most=most).wait_seconds >= 2 * least


def test_a_link_that_comes_late_is_the_end() -> None:
    state = polls(task("SUCCEEDED"), 2)[-1]
    assert after(state, task("SUCCEEDED", link=True)).ended is True


def test_only_polls_that_agree_count() -> None:
    state = after(polls(task("SUCCEEDED"), 2)[-1], task("RUNNING"))
    states = [state := after(state, task("SUCCEEDED")) for _ in range(3)]
    assert [state.ended for state in states] == [False, False, True]


def test_trouble_between_polls_is_no_poll() -> None:
    state = after(polls(task("SUCCEEDED"), 2)[-1], ProviderIllError("InternalError", "ill"))
    assert state.ended is False
    assert after(state, task("SUCCEEDED")).ended is True


# UNKNOWN


def test_three_polls_of_unknown() -> None:
    states = polls(task("UNKNOWN"), 6)
    assert [state.ended for state in states] == [False, False, True, False, False, False]


def test_after_the_third_unknown_rarely() -> None:
    states = polls(task("UNKNOWN"), 5)
    assert [state.wait_seconds for state in states] == [30, 30, MOST, MOST, MOST]


def test_a_key_that_works_again() -> None:
    state = after(polls(task("UNKNOWN"), 2)[-1], task("RUNNING"))
    states = [state := after(state, task("UNKNOWN")) for _ in range(3)]
    assert [state.ended for state in states] == [False, False, True]


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
        ProviderError("Odd", "odd"),
    ],
    ids=lambda error: f"{type(error).__name__}-{error.retry_after}",
)
def test_each_trouble_means_to_poll_later(error: ProviderError) -> None:
    state = after(STATE, error)
    assert state.ended is False
    assert type(state.wait_seconds) is int
    assert 2 * LEAST <= state.wait_seconds <= MOST


def test_the_providers_own_wait_is_kept() -> None:
    assert after(STATE, ThrottledError("Throttling", "slow", retry_after=77)).wait_seconds == 77


def test_the_accounts_trouble_is_polled_rarely() -> None:
    assert after(STATE, AccountError("Arrearage", "unpaid")).wait_seconds == MOST


def test_earlier_counts_outlive_a_trouble() -> None:
    state = after(polls(task("UNKNOWN"), 2)[-1], NotConnectedError("NotConnected", "refused"))
    assert after(state, task("UNKNOWN")).ended is True


# The task's life


@pytest.mark.parametrize("answer", [task("UNKNOWN"), task("RUNNING"), NotConnectedError("NotConnected", "refused")])
def test_a_task_over_24_hours_old(answer: Answer) -> None:
    assert after(STATE, answer, at=DAY - 1).ended is False
    assert after(STATE, answer, at=DAY + 1).ended is True
