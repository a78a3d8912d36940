"""The account: tasks in flight, the open create, circuit breaker, pause, and the day's budget; one value, no clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.domain.account import (
    PASSES_TO_BLAME,
    PROBE_MAX_SECONDS,
    RECENT_TASKS,
    STRIKES_TO_OPEN,
    Account,
    KnownTask,
    Notice,
    OpenCreate,
    beijing_day,
    next_beijing_day,
)

NOW = datetime(2026, 3, 1, 4, 0, tzinfo=UTC).timestamp()  # noon in Beijing
MIDNIGHT = datetime(2026, 3, 1, 16, 0, tzinfo=UTC).timestamp()  # the end of that day in Beijing
EMO = "emo-v1"

owners = st.lists(st.sampled_from(["a#1", "a#2", "b#1", "c#1"]), max_size=12)


def with_slots(*owners: str, account: Account = Account()) -> Account:  # noqa: B008  # it is frozen
    return reduce(lambda held, owner: held.take_slot(owner, EMO), owners, account)


def broken(interval: float = 60.0, now: float = NOW, account: Account = Account()) -> Account:  # noqa: B008  # frozen
    """Return an account whose circuit breaker has opened, or whose probe failed once more."""
    return account.open_breaker(now, interval=interval, code="Arrearage", message="unpaid")


def strike(account: Account, now: float = NOW, retry_after: float | None = None) -> Account:
    return account.strike(now, retry_after=retry_after, interval=60, code="Throttling", message="slow down")


def titles(account: Account) -> list[str]:
    return [notice.title for notice in account.notices]


# Tasks in flight


def test_a_slot_is_freed_by_its_owners_name() -> None:
    account = with_slots("a#1", "b#1")
    assert account.release_slot("a#1").tasks_in_flight == {"b#1": EMO}
    assert account.tasks_in_flight == {"a#1": EMO, "b#1": EMO}  # the value itself stays as it is


def test_freeing_a_slot_twice_is_harmless() -> None:
    freed = with_slots("a#1", "b#1").release_slot("a#1")
    assert freed.release_slot("a#1") is freed


def test_an_older_attempt_frees_nothing_newer() -> None:
    account = with_slots("a#2")
    assert account.release_slot("a#1") is account


def test_a_models_slots_are_its_own() -> None:
    account = with_slots("a#1", "b#1").take_slot("c#1", "liveportrait")
    assert (account.in_flight(EMO), account.in_flight("liveportrait"), account.in_flight("wan2.2-s2v")) == (2, 1, 0)


@given(owners, owners)
def test_owners_are_a_set(added: list[str], freed: list[str]) -> None:
    account = reduce(Account.release_slot, freed, with_slots(*added))
    assert set(account.tasks_in_flight) == set(added) - set(freed)


# The open create

CREATE = OpenCreate("a", 3, EMO, NOW, NOW + 90, 4.8)


def known(number: int) -> KnownTask:
    return KnownTask(f"t-{number}", EMO, NOW, NOW + 1, "k1")


def test_an_open_create_takes_slot_and_fee() -> None:
    account = Account().lease_check("a", NOW + 37, 0.004, NOW).begin_create(CREATE, "k1")
    assert account.open_create == CREATE
    assert account.check is None  # the create takes its lease over
    assert account.tasks_in_flight == {"a#3": EMO}
    assert account.spent_today(NOW) == pytest.approx(4.804)


def test_a_create_that_made_its_task() -> None:
    account = Account().begin_create(CREATE, "k1").settle_create(known(1))
    assert (account.open_create, account.recent_tasks) == (None, (known(1),))
    assert account.tasks_in_flight == {"a#3": EMO}
    assert account.spent_today(NOW) == pytest.approx(4.8)


def test_only_the_newest_tasks_are_kept() -> None:
    account = reduce(Account.settle_create, [known(n) for n in (*range(RECENT_TASKS + 3), 5)], Account())
    assert [task.id for task in account.recent_tasks] == ["t-3", "t-4", *(f"t-{n}" for n in range(6, 11)), "t-5"]


@pytest.mark.parametrize(("paid", "spent"), [(False, 0.0), (True, 4.8)])
def test_a_create_without_a_task(paid: bool, spent: float) -> None:
    """Its slot is free again, and its fee comes back unless it may have been paid."""
    account = Account().begin_create(CREATE, "k1").drop_create("a#3", NOW, paid=paid)
    assert (account.open_create, account.tasks_in_flight, account.unsettled_until) == (None, {}, 0.0)
    assert account.spent_today(NOW) == pytest.approx(spent)


def test_a_create_that_was_never_settled() -> None:
    """If its task shows up after all, no later create may take it for its own."""
    unknown = replace(CREATE, unknown_since=NOW + 35)
    account = Account().begin_create(unknown, "k1").drop_create("a#3", NOW + 400)
    assert account.unsettled_until == NOW + 35
    assert replace(account, unsettled_until=NOW + 99, open_create=unknown).drop_create("a#3", NOW).unsettled_until == (
        NOW + 99
    )


def test_another_owners_create_stays_open() -> None:
    account = with_slots("b#1").begin_create(CREATE, "k1").drop_create("b#1", NOW)
    assert account.open_create == CREATE
    assert account.spent_today(NOW) == pytest.approx(4.8)


def test_a_new_key_is_noticed() -> None:
    """The provider's list names keys by numbers of its own: tasks since the change tell which is ours."""
    first = Account().begin_create(CREATE, "k1")
    assert (first.key_mark, first.key_since) == ("k1", 0.0)
    same = first.begin_create(replace(CREATE, sent_at=NOW + 1), "k1")
    assert (same.key_mark, same.key_since) == ("k1", 0.0)
    other = same.begin_create(replace(CREATE, sent_at=NOW + 2), "k2")
    assert (other.key_mark, other.key_since) == ("k2", NOW + 2)
    assert other.begin_create(CREATE, None).key_mark == "k2"


# The portrait check


def test_one_check_at_a_time() -> None:
    account = Account().lease_check("a", NOW + 37, 0.004, NOW)
    assert account.check is not None
    assert (account.check.job, account.check.until) == ("a", NOW + 37)
    assert account.end_check("b") is account
    assert account.end_check("a").check is None
    assert account.spent_today(NOW) == pytest.approx(0.004)


# The budget, by the Beijing day


@pytest.mark.parametrize(
    ("utc", "day"),
    [
        ("2026-02-28T15:59:59+00:00", "2026-02-28"),
        ("2026-02-28T16:00:00+00:00", "2026-03-01"),
        ("2025-12-31T16:00:00+00:00", "2026-01-01"),
        ("2026-03-01T00:00:00+00:00", "2026-03-01"),
    ],
)
def test_the_day_is_beijings(utc: str, day: str) -> None:
    assert beijing_day(datetime.fromisoformat(utc).timestamp()) == day


@given(st.floats(0, 4e9))
def test_the_next_beijing_day(now: float) -> None:
    begins = next_beijing_day(now)
    assert 0 < begins - now <= 86400
    assert beijing_day(begins) != beijing_day(now)
    assert beijing_day(begins - 1) == beijing_day(now)


def test_expected_fees_add_up_over_the_day() -> None:
    assert Account().spend(0.8, NOW).spend(1.6, NOW + 3600).spent_today(NOW + 7200) == pytest.approx(2.4)


def test_a_new_day_begins_with_nothing_spent() -> None:
    account = Account().spend(4.8, MIDNIGHT - 1)
    assert account.spent_today(MIDNIGHT - 1) == pytest.approx(4.8)
    assert account.spent_today(MIDNIGHT) == 0
    assert account.spend(0.8, MIDNIGHT).spent_today(MIDNIGHT) == pytest.approx(0.8)


def test_a_clock_behind_resets_no_day() -> None:
    """Two functions whose clocks differ over midnight never begin a day twice."""
    account = Account().spend(4.8, MIDNIGHT).spend(0.8, MIDNIGHT - 1)
    assert account.spent_day == beijing_day(MIDNIGHT)
    assert account.spent_today(MIDNIGHT) == pytest.approx(5.6)


def test_a_fee_that_was_not_paid_comes_back() -> None:
    assert Account().spend(4.8, NOW).spend(0.8, NOW).spend(-4.8, NOW).spent_today(NOW) == pytest.approx(0.8)


def test_yesterdays_fee_is_no_credit_today() -> None:
    assert Account().spend(4.8, MIDNIGHT - 1).spend(-4.8, MIDNIGHT + 1).spent_today(MIDNIGHT + 1) == 0


@given(st.lists(st.sampled_from([0.004, 0.08, 0.16, 4.8, 9.6]), max_size=200))
def test_fees_leave_no_crumbs(fees: list[float]) -> None:
    account = reduce(lambda held, fee: held.spend(fee, NOW), fees, Account())
    assert account.spent_today(NOW) == pytest.approx(sum(fees), abs=1e-4)
    account = reduce(lambda held, fee: held.spend(-fee, NOW), fees, account)
    assert account.spent_today(NOW) == pytest.approx(0, abs=1e-4)


def test_the_budget_is_told_once_a_day() -> None:
    account = Account().spend(9.0, NOW).reach_budget(10.0, 4.8, NOW)
    assert account.reach_budget(10.0, 4.8, NOW + 60) is account
    (notice,) = account.notices
    assert notice.title == "the day's budget is reached"
    for part in ("CNY 9.00", "CNY 10", "CNY 4.80", "2026-03-01", "DailyBudgetCny"):
        assert part in notice.text
    assert len(account.reach_budget(10.0, 4.8, MIDNIGHT).notices) == 2


def test_why_jobs_wait() -> None:
    reached = Account().reach_budget(10.0, 4.8, NOW)
    assert (Account().held(NOW), reached.held(NOW), reached.held(MIDNIGHT)) == (None, "budget", None)
    assert reached.leave_budget().held(NOW) is None
    assert broken(account=reached).held(NOW) == "account"
    assert broken().pause(NOW, paused=True).held(NOW) == "paused"


# Pause


def test_of_two_orders_the_newer_holds() -> None:
    paused = Account().pause(NOW, paused=True)
    assert paused.paused
    assert paused.pause(NOW - 1, paused=False) is paused  # it came late
    assert not paused.pause(NOW + 1, paused=False).paused


# Backoff: the account waits, not the job


def test_a_fresh_account_may_be_tried_at_once() -> None:
    assert Account().not_before(NOW) is None


def test_a_throttled_account_waits_longer_each_time() -> None:
    first = strike(Account())
    second = strike(first)
    assert 0 < (first.not_before(NOW) or 0) - NOW < (second.not_before(NOW) or 0) - NOW
    assert second.breaker is None


def test_the_providers_own_wait_is_kept() -> None:
    account = strike(Account(), retry_after=37)
    assert account.not_before(NOW) == account.not_before(NOW + 36.9) == NOW + 37
    assert account.not_before(NOW + 37) is None


def test_an_absurd_wait_is_cut_to_15_minutes() -> None:
    assert strike(Account(), retry_after=1e9).not_before(NOW) == NOW + PROBE_MAX_SECONDS


def test_three_in_a_row_open_the_breaker() -> None:
    states = [Account()]
    for _ in range(5):
        states.append(strike(states[-1]))
    assert [state.breaker is not None for state in states[1:]] == [n >= STRIKES_TO_OPEN for n in range(1, 6)]
    assert states[-1].breaker is not None
    assert (states[-1].breaker.code, states[-1].breaker.message) == ("Throttling", "slow down")
    assert titles(states[-1]) == ["the account is held"]
    assert "Throttling: slow down" in states[-1].notices[0].text


def test_a_success_between_strikes() -> None:
    account = Account()
    for _ in range(4):
        account = strike(strike(account)).close_breaker("a")
    assert (account.breaker, account.notices, account.not_before(NOW)) == (None, (), None)


# Circuit breaker: probes at growing intervals


@pytest.mark.parametrize("interval", [60, 1])
def test_the_first_probe_of_an_open_breaker(interval: float) -> None:
    assert broken(interval).not_before(NOW) == NOW + interval


def test_probes_come_further_and_further_apart() -> None:
    account, now, intervals = broken(60), NOW, []
    for _ in range(7):
        at = account.not_before(now)
        assert at is not None
        intervals.append(at - now)
        now = at
        assert account.not_before(now) is None
        account = broken(60, now, account)
    assert intervals == [60, 120, 240, 480, 900, 900, 900]
    assert titles(account) == ["the account is held"]


def test_an_open_breaker_says_its_latest_reason() -> None:
    account = broken().open_breaker(NOW + 60, interval=60, code="InvalidApiKey", message="wrong key")
    assert account.breaker is not None
    assert (account.breaker.code, account.breaker.message, account.breaker.since) == ("InvalidApiKey", "wrong key", NOW)
    assert len(account.notices) == 1


def test_a_throttled_probe_shortens_nothing() -> None:
    assert (strike(broken(60), NOW + 60).not_before(NOW + 60) or 0) >= NOW + 60 + 120


def test_the_providers_wait_counts_when_open_too() -> None:
    account = reduce(lambda held, after: strike(held, retry_after=after), [None, None, 600.0], Account())
    assert account.breaker is not None
    assert account.not_before(NOW) == NOW + 600


def test_a_well_account_goes_on_at_once() -> None:
    account = broken().close_breaker("a")
    assert (account.breaker, account.not_before(NOW)) == (None, None)
    assert titles(account) == ["the account is held", "the account is well again"]
    assert "Arrearage" in account.notices[-1].text


def test_an_account_that_was_well_is_no_news() -> None:
    assert Account().close_breaker("a") == Account()


def test_a_new_trouble_begins_with_short_probes() -> None:
    account = reduce(lambda held, _: broken(account=held), range(4), broken())
    again = broken(60, NOW, account.close_breaker("a"))
    assert again.not_before(NOW) == NOW + 60


@given(st.integers(1, 3600), st.integers(0, 2000))
def test_probes_are_never_over_15_minutes_apart(interval: int, probes: int) -> None:
    account = reduce(lambda held, _: strike(held), range(min(probes, 50)), broken(interval))
    assert (account.not_before(NOW) or NOW) - NOW <= max(PROBE_MAX_SECONDS, interval)


# Whose fault it is: `note_failure` after a call that looks like the account's trouble, `close_breaker` after a good one


def fail_between(account: Account, *jobs: str, bad: str = "bad") -> Account:
    """Let a bad job's call fail before each of these jobs' calls passes."""
    return reduce(lambda held, good: held.note_failure(bad).close_breaker(good), jobs, account)


def test_a_job_that_fails_while_others_pass() -> None:
    account = fail_between(Account(), *["good"] * PASSES_TO_BLAME)
    assert account.blames("bad")
    assert not account.blames("good")


def test_a_job_that_was_blamed_begins_anew() -> None:
    account = fail_between(Account(), "good", "good").forget_suspect("bad")
    assert not account.blames("bad")
    assert not fail_between(account, "good").blames("bad")


def test_one_failure_is_no_proof() -> None:
    """The account may have been mended in between."""
    assert not fail_between(Account(), "good").note_failure("bad").blames("bad")


def test_failures_of_all_jobs_are_the_accounts() -> None:
    account = reduce(Account.note_failure, ["a", "b", "c"] * 5, Account())
    assert not any(account.blames(job) for job in ("a", "b", "c"))
    assert account.failures == {"a": 5, "b": 5, "c": 5}


def test_a_jobs_own_success_clears_it() -> None:
    account = Account()
    for _ in range(5):
        account = fail_between(account, "b", bad="a").close_breaker("a")
        assert not account.blames("a")


@pytest.mark.parametrize(
    ("refused", "like_others"),
    [
        ([], False),
        ([("a", "w"), ("a", "w")], False),
        ([("b", "w")], False),
        ([("b", "w"), ("c", "w")], True),
        ([("b", "w"), ("c", "w"), ("b", "w")], True),
        ([("b", "w"), ("a", "w")], False),
        ([("b", "w"), ("b", "w")], False),
        ([("b", "w"), ("c", "other"), ("b", "w")], False),
    ],
)
def test_refused_in_the_same_words(refused: list[tuple[str, str]], like_others: bool) -> None:
    """Words that two other jobs met in a row are about nobody's files: the service has changed."""
    account = reduce(lambda held, job: held.note_refusal(*job), refused, Account())
    assert account.is_refused_like_others("a", "w") is like_others
    assert not account.settle_create(known(1)).is_refused_like_others("a", "w")


# Models


def test_models_that_have_a_queue() -> None:
    account = Account().use_model(EMO).use_model("liveportrait")
    assert account.models == (EMO, "liveportrait")
    assert account.use_model(EMO) is account


# Notices


def test_only_what_was_sent_is_forgotten() -> None:
    """A notice that came while the others were sent stays."""
    first, second = Notice("one", "text"), Notice("two", "text")
    account = Account().notify("one", "text").notify("two", "text")
    assert account.notices == (first, second)
    assert account.without_notices((first,)).notices == (second,)
