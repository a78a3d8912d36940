"""Slots, the account's hold and backoff, and the day's budget: rules of one item, no clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portraitcast.slots import Creating, Slots, beijing_day, next_beijing_day

NOW = datetime(2026, 3, 1, 4, 0, tzinfo=UTC).timestamp()  # noon in Beijing
MIDNIGHT = datetime(2026, 3, 1, 16, 0, tzinfo=UTC).timestamp()  # the end of that day in Beijing

owners = st.lists(st.sampled_from(["a#1", "a#2", "b#1", "c#1"]), max_size=12)


def held(interval: float = 60.0, now: float = NOW) -> Slots:
    slots = Slots()
    assert slots.hold_account(now, hold_seconds=interval, code="Arrearage", message="unpaid")
    return slots


def strike(slots: Slots, now: float = NOW, retry_after: float | None = None) -> bool:
    return slots.strike(now, retry_after=retry_after, hold_seconds=60, code="Throttling", message="slow down")


# Owners


def test_a_slot_is_taken_and_freed_by_its_owners_name() -> None:
    slots = Slots()
    slots.add("a#1")
    slots.add("b#1")
    assert slots.free("a#1")
    assert slots.owners == ["b#1"]


def test_freeing_a_slot_twice_is_harmless() -> None:
    slots = Slots(owners=["a#1", "b#1"])
    assert slots.free("a#1")
    assert not slots.free("a#1")
    assert slots.owners == ["b#1"]


def test_an_older_attempt_frees_nothing_of_a_newer_one() -> None:
    slots = Slots(owners=["a#2"])
    assert not slots.free("a#1")
    assert slots.owners == ["a#2"]


@given(owners, owners)
def test_owners_are_a_set_whatever_comes_twice(added: list[str], freed: list[str]) -> None:
    slots = Slots()
    for owner in added:
        slots.add(owner)
    for owner in freed:
        slots.free(owner)
    assert sorted(slots.owners) == sorted(set(added) - set(freed))


# What is stored


def test_the_item_survives_being_stored_with_its_open_create_and_its_hold() -> None:
    slots = held()
    slots.add("a#3")
    slots.creating = Creating("a", 3, NOW, NOW + 90, 4.8, unknown_since=NOW + 35, looks=1, request_id="r-1")
    slots.spend(4.8, NOW)
    slots.paused = True
    strike(slots)
    again = Slots.from_dict(json.loads(json.dumps(slots.as_dict())))
    assert again == slots
    assert isinstance(again.creating, Creating)
    assert again.not_before(NOW) == slots.not_before(NOW)


def test_what_a_newer_version_has_stored_is_read_after_a_rollback() -> None:
    slots = held()
    slots.creating = Creating("a", 3, NOW, NOW + 90, 4.8)
    stored = slots.as_dict()
    for item in (stored, stored["creating"], stored["hold"]):
        item["of_a_newer_version"] = 1
    assert Slots.from_dict(stored) == slots


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


@given(st.integers(0, 4 * 10**15))
@example(57_599_999_999)
@example(57_600_000_000)
def test_the_next_beijing_day_begins_within_24_hours_and_with_its_first_moment(microseconds: int) -> None:
    now = microseconds / 1e6  # what datetime tells apart: a tenth of one before midnight is midnight to it
    begins = next_beijing_day(now)
    assert 0 < begins - now <= 86400
    assert beijing_day(begins) != beijing_day(now)
    assert beijing_day(begins - 1) == beijing_day(now)


def test_expected_fees_add_up_over_the_day() -> None:
    slots = Slots()
    slots.spend(0.8, NOW)
    slots.spend(1.6, NOW + 3600)
    assert slots.spent_today(NOW + 7200) == pytest.approx(2.4)


def test_a_new_beijing_day_begins_with_nothing_spent() -> None:
    slots = Slots()
    slots.spend(4.8, MIDNIGHT - 1)
    assert slots.spent_today(MIDNIGHT - 1) == pytest.approx(4.8)
    assert slots.spent_today(MIDNIGHT) == 0
    slots.spend(0.8, MIDNIGHT)
    assert slots.spent_today(MIDNIGHT) == pytest.approx(0.8)


def test_the_fee_of_a_create_that_was_not_paid_is_given_back() -> None:
    slots = Slots()
    slots.spend(4.8, NOW)
    slots.spend(0.8, NOW)
    slots.spend(-4.8, NOW)
    assert slots.spent_today(NOW) == pytest.approx(0.8)


def test_yesterdays_fee_given_back_is_no_credit_for_today() -> None:
    slots = Slots()
    slots.spend(4.8, MIDNIGHT - 1)
    slots.spend(-4.8, MIDNIGHT + 1)
    assert slots.spent_today(MIDNIGHT + 1) == 0


@given(st.lists(st.sampled_from([0.004, 0.08, 0.16, 4.8, 9.6]), max_size=200))
def test_what_is_spent_and_given_back_leaves_no_crumbs(fees: list[float]) -> None:
    slots = Slots()
    for fee in fees:
        slots.spend(fee, NOW)
    assert slots.spent_today(NOW) == pytest.approx(sum(fees), abs=1e-4)
    for fee in fees:
        slots.spend(-fee, NOW)
    assert slots.spent_today(NOW) == pytest.approx(0, abs=1e-4)


# Backoff: the account waits, not the job


def test_a_fresh_account_may_be_tried_at_once() -> None:
    assert Slots().not_before(NOW) is None


def test_after_a_throttled_create_the_account_waits_longer_each_time() -> None:
    slots = Slots()
    waits = []
    for _ in range(2):
        assert not strike(slots)
        waits.append((slots.not_before(NOW) or 0) - NOW)
    assert 0 < waits[0] < waits[1]
    assert slots.hold is None


def test_the_wait_is_the_providers_own_where_it_names_one() -> None:
    slots = Slots()
    strike(slots, retry_after=37)
    assert slots.not_before(NOW) == NOW + 37
    assert slots.not_before(NOW + 36.9) == NOW + 37
    assert slots.not_before(NOW + 37) is None


def test_an_absurd_retry_after_is_cut_to_15_minutes() -> None:
    slots = Slots()
    strike(slots, retry_after=1e9)
    assert slots.not_before(NOW) == NOW + 900


def test_three_in_a_row_hold_the_account_and_the_operator_is_told_once() -> None:
    slots = Slots()
    assert [strike(slots) for _ in range(5)] == [False, False, True, False, False]
    assert slots.hold is not None
    assert (slots.hold.code, slots.hold.message) == ("Throttling", "slow down")
    assert [notice["title"] for notice in slots.notices] == ["the account is held"]
    assert "Throttling: slow down" in slots.notices[0]["text"]


def test_strikes_with_a_success_between_them_hold_nothing() -> None:
    slots = Slots()
    for _ in range(4):
        strike(slots)
        strike(slots)
        slots.well_again("a")
    assert slots.hold is None
    assert slots.notices == []
    assert slots.not_before(NOW) is None


# Hold: probes at growing intervals


def test_the_first_probe_of_a_held_account_comes_after_hold_seconds() -> None:
    assert held(60).not_before(NOW) == NOW + 60
    assert held(1).not_before(NOW) == NOW + 1


def test_the_interval_between_probes_doubles_up_to_15_minutes() -> None:
    slots, now, intervals = held(60), NOW, []
    for _ in range(7):
        at = slots.not_before(now)
        assert at is not None
        intervals.append(at - now)
        now = at
        assert slots.not_before(now) is None
        assert not slots.hold_account(now, hold_seconds=60, code="Arrearage", message="unpaid")
    assert intervals == [60, 120, 240, 480, 900, 900, 900]


def test_a_hold_says_the_latest_reason_and_when_it_began_and_is_told_once() -> None:
    slots = held()
    slots.hold_account(NOW + 60, hold_seconds=60, code="InvalidApiKey", message="wrong key")
    assert slots.hold is not None
    assert (slots.hold.code, slots.hold.message, slots.hold.since) == ("InvalidApiKey", "wrong key", NOW)
    assert len(slots.notices) == 1


def test_a_throttled_probe_of_a_held_account_does_not_shorten_the_interval() -> None:
    slots = held(60)
    strike(slots, NOW + 60)
    assert (slots.not_before(NOW + 60) or 0) >= NOW + 60 + 120


def test_the_providers_own_wait_counts_for_a_held_account_too() -> None:
    slots = Slots()
    for retry_after in (None, None, 600):
        strike(slots, retry_after=retry_after)
    assert slots.hold is not None
    assert slots.not_before(NOW) == NOW + 600


def test_a_well_account_goes_on_at_once_and_the_operator_is_told_which_trouble_is_over() -> None:
    slots = held()
    slots.well_again("a")
    assert slots.hold is None
    assert slots.not_before(NOW) is None
    assert [notice["title"] for notice in slots.notices] == ["the account is held", "the account is well again"]
    assert "Arrearage" in slots.notices[-1]["text"]


def test_an_account_that_was_well_all_the_time_is_no_news() -> None:
    slots = Slots()
    slots.well_again("a")
    assert slots.notices == []


def test_a_new_hold_after_a_well_account_begins_with_the_short_interval_again() -> None:
    slots = held()
    for _ in range(4):
        slots.hold_account(NOW, hold_seconds=60, code="Arrearage", message="unpaid")
    slots.well_again("a")
    assert slots.hold_account(NOW, hold_seconds=60, code="Arrearage", message="unpaid")
    assert slots.not_before(NOW) == NOW + 60


@given(st.integers(1, 3600), st.integers(0, 2000))
def test_a_hold_never_keeps_an_account_from_being_probed_longer_than_15_minutes_or_hold_seconds(
    hold_seconds: int, probes: int
) -> None:
    slots = held(hold_seconds)
    for _ in range(probes):
        strike(slots)
    assert (slots.not_before(NOW) or NOW) - NOW <= max(900, hold_seconds)


# Whose fault it is


def keep_failing(slots: Slots, bad: str = "bad") -> bool:
    """Let a job's calls fail, each time before another job's call passes; True when it is blamed in the end."""
    blamed = False
    for _ in range(2):
        blamed = slots.blame(bad) or blamed
        slots.well_again("good")
    return slots.blame(bad) or blamed


def test_a_job_whose_calls_keep_failing_while_anothers_pass_is_at_fault_itself() -> None:
    assert keep_failing(Slots())


def test_a_job_that_was_blamed_begins_anew() -> None:
    slots = Slots()
    assert keep_failing(slots)
    assert not slots.blame("bad")


def test_one_failure_before_anothers_success_is_no_proof_against_a_job() -> None:
    slots = Slots()
    assert not slots.blame("unlucky")
    slots.well_again("good")
    assert not slots.blame("unlucky")


def test_failures_of_all_jobs_are_the_accounts_fault() -> None:
    slots = Slots()
    assert not any(slots.blame(job) for _ in range(5) for job in ("a", "b", "c"))


def test_a_jobs_own_success_clears_it() -> None:
    slots = Slots()
    for _ in range(5):
        assert not slots.blame("a")
        slots.well_again("b")
        slots.well_again("a")
