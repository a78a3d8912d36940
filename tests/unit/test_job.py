"""The job's states: every transition from every status, what it changes, and properties of any way through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import states
from portraitcast.domain.job import (
    TASK_LIFE_SECONDS,
    TRANSITIONS,
    IllegalTransitionError,
    Job,
    Portrait,
    Status,
    Task,
    iso,
    owner_of,
)
from portraitcast.domain.models import Boxes
from unit.samples import INPUTS, KEY, NOW, ORPHAN, PROBLEM, TASK, VIDEO, job, living, named

Change = Callable[[Job], Job]

HOME = ("a" * 32,)
OTHER = replace(INPUTS, folders=HOME, own=("acme/line-01.mp3\nv2",))
LATER = NOW + 60
NEW_TASK = Task("t-2", LATER)

# Every method that goes over to another status, under its transition's name.
WAYS: dict[str, tuple[str, Change]] = {
    "wait": ("wait", lambda j: j.wait(OTHER, "i2", LATER, message="Waiting.")),
    "queue": ("queue", lambda j: j.queue(OTHER, "i2", "f2", LATER, ready_at=LATER)),
    "reject": ("reject", lambda j: j.reject(OTHER, "i2", (PROBLEM,), LATER, shared=False)),
    "reject, shared": ("reject", lambda j: j.reject(OTHER, "i2", (PROBLEM,), LATER, shared=True)),
    "refuse": ("reject", lambda j: j.refuse(PROBLEM, LATER, home=HOME)),
    "withdraw": ("withdraw", lambda j: j.withdraw(LATER)),
    "confirm": ("confirm", lambda j: j.confirm(OTHER, "i2", "f2", LATER)),
    "start_create": ("start_create", lambda j: j.start_create()),
    "requeue": ("requeue", lambda j: j.requeue(LATER, held="account", home=HOME)),
    "accept": ("accept", lambda j: j.accept(NEW_TASK, LATER, adopted=False)),
    "retry": ("retry", lambda j: j.retry(LATER, home=HOME)),
    "deliver": ("deliver", lambda j: j.deliver(VIDEO, TASK, 0.48, LATER)),
    "fail": ("fail", lambda j: j.fail(PROBLEM, LATER)),
    "take_up": ("take_up", lambda j: j.take_up(ORPHAN, OTHER, "i2", LATER)),
}
# What leaves the status as it is.
NOTES: dict[str, Change] = {
    "next_generation": lambda j: j.next_generation() if j.status in {Status.DONE, Status.FAILED} else j,
    "want_follow_up": Job.want_follow_up,
    "end_follow_up": Job.end_follow_up,
    "refuse_upload": lambda j: j.refuse_upload(PROBLEM, LATER),
    "pass_check": lambda j: j.pass_check(None, 0.004),
    "pay_check": lambda j: j.pay_check(0.004),
    "use_retry": Job.use_retry,
    "next_execution": Job.next_execution,
    "orphan_task": lambda j: j.orphan_task() if j.task else j,
    "with_orphan": lambda j: j.with_orphan(1, None),
    "show_held": lambda j: j.show_held("paused", LATER),
    "mark_published": lambda j: j.mark_published('"e"'),
}
# The same as TRANSITIONS, written down by hand: where a job may go from where.
MAY_GO = {
    "waiting": "waiting queued rendering done rejected withdrawn",
    "queued": "waiting queued creating rendering done rejected withdrawn",
    "creating": "queued rendering rejected failed",
    "rendering": "queued done failed",
    "done": "waiting queued rendering done rejected",
    "rejected": "waiting queued rendering done rejected withdrawn",
    "failed": "waiting queued rendering done rejected",
    "withdrawn": "waiting queued rendering done rejected",
}


# Every pair of a status and a transition


def test_every_transition_has_a_method() -> None:
    assert {transition for transition, _ in WAYS.values()} == set(TRANSITIONS)


@pytest.mark.parametrize("start", Status)
@pytest.mark.parametrize("end", Status)
def test_each_pair_is_allowed_or_not(start: Status, end: Status) -> None:
    allowed = any(start in froms and end is to for froms, to in TRANSITIONS.values())
    assert allowed is (end in MAY_GO[start].split())


@pytest.mark.parametrize("start", Status)
@pytest.mark.parametrize("way", WAYS)
def test_each_transition_from_each_status(start: Status, way: str) -> None:
    transition, change = WAYS[way]
    froms, to = TRANSITIONS[transition]
    before = living(start)
    assert before.can(transition) is (start in froms)
    if start in froms:
        assert change(before).status is to
        return
    with pytest.raises(IllegalTransitionError, match=f"job {before.id} is {start} and can't {transition}"):
        change(before)


def test_the_docs_draw_the_table() -> None:
    """`make states` wrote the page, and nothing has changed since."""
    assert states.PAGE.read_text("utf-8") == states.page()


def test_nobody_assigns_a_job_s_fields() -> None:
    with pytest.raises(FrozenInstanceError):
        job().status = Status.DONE


# What each transition changes: revision, queue entry, folders that may change the job again

PLACE = living("queued").queue_key
OTHER_PLACE = f"{iso(LATER)}#{named(KEY).job}"


@pytest.mark.parametrize(
    ("way", "start", "revision", "queue_key", "open_folders"),
    [
        ("wait", "queued", 5, None, HOME),
        ("queue", "waiting", 5, OTHER_PLACE, HOME),
        ("queue", "queued", 4, PLACE, HOME),
        ("reject", "queued", 5, None, ()),
        ("reject, shared", "queued", 5, None, HOME),
        ("refuse", "creating", 5, None, HOME),
        ("withdraw", "queued", 5, None, ()),
        ("confirm", "queued", 5, None, ()),
        ("start_create", "queued", 4, None, ()),
        ("requeue", "creating", 5, PLACE, HOME),
        ("accept", "creating", 5, None, ()),
        ("retry", "rendering", 5, PLACE, HOME),
        ("deliver", "rendering", 5, None, ()),
        ("fail", "creating", 5, None, ()),
        ("fail", "rendering", 5, None, ()),
        ("take_up", "failed", 5, None, ()),
    ],
)
def test_what_a_transition_leaves(
    way: str, start: str, revision: int, queue_key: str | None, open_folders: tuple[str, ...]
) -> None:
    before = living(start)
    after = WAYS[way][1](before)
    assert (after.revision, after.queue_key, after.open_folders) == (revision, queue_key, open_folders)
    assert (after.published, after.version, after.id, after.stem) == (4, before.version, before.id, before.stem)
    assert after.changed_at == (LATER if revision == 5 else before.changed_at)
    assert after.unpublished is (revision == 5)


def test_the_same_again_is_no_news() -> None:
    waiting = living("waiting").wait(OTHER, "i2", LATER, message="Waiting.")
    again = waiting.wait(OTHER, "i3", LATER + 1, message="Waiting.")
    assert (again.revision, again.identity, again.changed_at) == (waiting.revision, "i3", LATER)


def test_a_new_job_s_first_state_is_news() -> None:
    made = Job.new("0" * 32, "a", "", INPUTS, NOW)
    assert not made.unpublished
    assert made.wait(INPUTS, "i", NOW).revision == 1


def test_a_rejected_job_keeps_all_its_problems() -> None:
    second = replace(PROBLEM, code="PortraitTooSmall")
    assert living("queued").reject(OTHER, "i", (PROBLEM, second), NOW, shared=False).problems == (PROBLEM, second)


def test_a_create_gets_a_number_of_its_own() -> None:
    """A slot's owner and an execution's name are never used twice."""
    first = living("queued").start_create()
    second = first.requeue(NOW, held=None, home=HOME).start_create()
    assert (first.owner, second.owner) == (owner_of(first.id, 1), owner_of(first.id, 2))
    assert second.place_key == PLACE


def test_back_in_the_queue_without_news() -> None:
    """A create that was throttled leaves the report alone while the reason for waiting is the same."""
    back = living("creating").requeue(LATER, held=None, home=HOME)
    assert (back.status, back.revision, back.queue_key) == ("queued", 4, PLACE)


def test_a_task_counts_a_try_and_an_execution() -> None:
    made = living("creating", held="account").accept(NEW_TASK, LATER, adopted=True)
    assert (made.task, made.tries, made.execution, made.adopted, made.held) == (NEW_TASK, 1, 1, True, None)
    assert made.execution_name == f"{made.id}-1-1"


def test_the_one_more_try_is_used_up() -> None:
    again = living("rendering").retry(LATER, home=HOME)
    assert (again.retried, again.task) == (True, None)


def test_a_video_is_remembered_by_content() -> None:
    done = living("rendering").deliver(VIDEO, TASK, 0.48, LATER)
    assert (done.video, done.video_cost, done.done_fingerprint) == (VIDEO, 0.48, "f")


def test_asked_again_after_a_success() -> None:
    """The report says so, in no event of its own; after anything else it is an event."""
    again = living("done").confirm(OTHER, "i2", "f", LATER)
    assert (again.quiet, again.asked_again_at, again.video) == (True, LATER, VIDEO)
    assert not living("queued", video=VIDEO).confirm(OTHER, "i2", "f", LATER).quiet


def test_quiet_news_swallows_no_loud_news() -> None:
    loud = living("done", revision=5)
    assert not loud.confirm(OTHER, "i2", "f", LATER).quiet


def test_a_failed_job_keeps_its_task() -> None:
    assert living("rendering").fail(PROBLEM, LATER).task == TASK
    told = replace(TASK, end_time=NOW)
    assert living("rendering").fail(PROBLEM, LATER, task=told).task == told


@pytest.mark.parametrize("status", ["waiting", "queued", "rejected"])
def test_a_check_is_of_one_content(status: str) -> None:
    """Another portrait, model or ratio is checked again; the same one is not."""
    boxes = Boxes((0, 0, 1, 1), (0, 0, 2, 2))
    checked = living(status, checked=True, boxes=boxes, fingerprint="f")
    same = checked.queue(OTHER, "i2", "f", LATER, ready_at=LATER)
    other = checked.queue(OTHER, "i2", "f2", LATER, ready_at=LATER)
    assert (same.checked, same.boxes) == (True, boxes)
    assert (other.checked, other.boxes) == (False, None)


def test_a_new_generation_pays_anew() -> None:
    first = living("done", check_cost=0.004, video_cost=0.48, paid_before=1.0, retried=True, asked_again_at=NOW)
    then = first.next_generation()
    assert (then.generation, then.paid_before, then.cost) == (2, 1.484, 0.0)
    assert (then.task, then.retried, then.asked_again_at, then.place_key) == (None, False, None, None)
    assert then.video == VIDEO  # it stays until the new one replaces it


def test_the_first_stem_stays() -> None:
    """A job has one report, whichever Unicode form of its name came later."""
    other = replace(INPUTS, stem="acme/LINE")
    for change in (
        living("queued").wait(other, "i", NOW),
        living("done").confirm(other, "i", "f", NOW),
        living("failed").take_up(ORPHAN, other, "i", NOW),
    ):
        assert change.stem == "acme/line-01"
    assert Job.new("0" * 32, "a", "", INPUTS, NOW).wait(other, "i", NOW).stem == "acme/LINE"


# Orphaned tasks


def aborted() -> Job:
    """Return a job whose execution was aborted by hand while its task runs."""
    return living("rendering", adopted=True).orphan_task().fail(PROBLEM, NOW)


def test_an_aborted_execution_leaves_an_orphan() -> None:
    failed = aborted()
    (orphan,) = failed.orphans
    assert (orphan.task, orphan.generation, orphan.attempt, orphan.fingerprint) == (TASK, 1, 1, "f")
    assert orphan.adopted
    assert failed.needs_attention
    assert not failed.with_orphan(1, None).orphans
    assert failed.with_orphan(1, replace(orphan, made=True)).orphans[0].made
    assert failed.with_orphan(2, None).orphans == failed.orphans


def test_no_task_leaves_no_orphan() -> None:
    with pytest.raises(IllegalTransitionError):
        living("queued").orphan_task()


def test_the_same_files_take_the_orphan_up() -> None:
    failed = aborted()
    orphan = failed.orphan_of("f", NOW)
    assert orphan is not None
    again = failed.take_up(orphan, OTHER, "i2", LATER)
    assert (again.status, again.task, again.attempt, again.generation) == ("rendering", TASK, 1, 1)
    assert (again.orphans, again.adopted, again.execution) == ((), True, 2)


def test_an_orphan_of_an_earlier_generation() -> None:
    """Its fees stay with what was paid before; its slot is that of its own attempt."""
    failed = replace(aborted(), attempt=2, attempts=2, generation=2, check_cost=0.004)
    again = failed.take_up(failed.orphans[0], OTHER, "i2", LATER)
    assert (again.attempt, again.attempts, again.generation, again.paid_before) == (1, 2, 3, 0.004)


def test_a_taken_up_task_may_be_tried_again() -> None:
    """It has left the queue, so one more create needs a place: else the job would stand in no queue for ever."""
    failed = aborted()
    again = failed.take_up(failed.orphans[0], OTHER, "i2", LATER).retry(LATER, home=HOME)
    assert again.queue_key == again.place_key == f"{iso(failed.ready_at)}#{failed.id}"


@pytest.mark.parametrize(
    ("fingerprint", "now", "found"),
    [("f", NOW, True), ("other", NOW, False), ("f", TASK.sent_at + TASK_LIFE_SECONDS + 1, False)],
)
def test_only_a_living_orphan_is_found(fingerprint: str, now: float, found: bool) -> None:
    assert (aborted().orphan_of(fingerprint, now) is not None) is found


def test_the_newest_of_two_orphans() -> None:
    newer = replace(ORPHAN, attempt=2)
    assert living("failed", orphans=(ORPHAN, newer)).orphan_of(ORPHAN.fingerprint, NOW) == newer


# What people are shown


@pytest.mark.parametrize("status", Status)
def test_creating_is_shown_as_queued(status: Status) -> None:
    assert living(status).shown_status is (Status.QUEUED if status is Status.CREATING else status)


def test_why_it_waits_is_news_once() -> None:
    shown = living("queued").show_held("account", LATER)
    assert (shown.held, shown.revision) == ("account", 5)
    assert shown.show_held("account", LATER) is shown


def test_a_refused_upload_is_told_once() -> None:
    told = living("rendering").refuse_upload(PROBLEM, LATER)
    assert (told.status, told.refused, told.revision, told.task) == ("rendering", PROBLEM, 5, TASK)
    assert told.mark_published(None).deliver(VIDEO, TASK, 0.48, LATER).refused is None


def test_a_refused_upload_outlives_a_crash() -> None:
    """What was not published yet is published with the next change."""
    told = living("rendering").refuse_upload(PROBLEM, LATER)
    assert told.deliver(VIDEO, TASK, 0.48, LATER).refused == PROBLEM


@pytest.mark.parametrize(
    ("known", "needed"),
    [
        ({}, False),
        ({"revision": 5}, True),
        ({"status": "creating"}, True),
        ({"status": "rendering"}, True),
        ({"follow_up": True}, True),
        ({"orphans": (ORPHAN,)}, True),
    ],
    ids=str,
)
def test_what_the_sweep_must_look_at(known: dict[str, Any], needed: bool) -> None:
    assert replace(living("done"), **known).needs_attention is needed


def test_names_of_what_a_job_owns() -> None:
    made = living("rendering", generation=2, attempt=3, execution=4)
    assert (made.owner, made.execution_name, made.video_mark) == (
        f"{made.id}#3",
        f"{made.id}-3-4",
        f"{made.id}-2-3",
    )
    assert (made.report_key, made.video_key) == ("acme/line-01.json", "acme/line-01.mp4")


def test_costs_add_up() -> None:
    paid = living("rendering").pay_check(0.004).pass_check(None, 0.004)
    assert (paid.check_cost, paid.cost, paid.checked) == (0.008, 0.008, True)
    assert paid.deliver(VIDEO, TASK, 0.48, NOW).cost == 0.488


@pytest.mark.parametrize(
    ("portrait", "shared"),
    [
        (Portrait("same_name", "a.png"), False),
        (Portrait("only_image", "a.png"), True),
        (Portrait("folder_settings", "a.png"), True),
        (Portrait("own_settings", "a.png"), True),
        (Portrait("own_settings", link="https://a.example/p.png"), False),
    ],
)
def test_whose_portrait_it_is(portrait: Portrait, shared: bool) -> None:
    assert portrait.is_shared is shared


def test_what_a_job_without_inputs_knows() -> None:
    bare = job("waiting")
    assert (bare.voice_seconds, bare.ratio, bare.cost) == (None, "1:1", 0.0)


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_times_sort_as_text(one: float, other: float) -> None:
    assert len(iso(one)) == len("2026-03-01T04:00:00.000Z")
    assert abs(datetime.fromisoformat(iso(one)).timestamp() - one) < 0.002
    if round(one, 2) < round(other, 2):
        assert iso(one) < iso(other)
    assert datetime.fromisoformat(iso(one)).tzinfo == UTC


# Any way through the states


def step(before: Job, name: str) -> Job:
    """Make a change if it is legal."""
    if name in NOTES:
        return NOTES[name](before)
    if name == "take_up":  # only its own
        living_orphan = before.orphans[-1] if before.orphans and before.can(name) else None
        return before.take_up(living_orphan, OTHER, "i2", LATER) if living_orphan else before
    transition, change = WAYS[name]
    return change(before) if before.can(transition) else before


@given(st.lists(st.sampled_from([*WAYS, *NOTES]), max_size=40))
def test_any_way_through_the_states(names: list[str]) -> None:
    now = Job.new(named(KEY).job, "acme/line-01", "acme", INPUTS, NOW)
    for name in names:
        before, now = now, step(now, name)
        assert now.revision >= before.revision
        assert now.revision > before.revision or (now.shown_status, now.problems) == (
            before.shown_status,
            before.problems,
        )
        assert before.published <= now.published <= now.revision
        assert now.generation >= before.generation
        assert now.attempts >= max(before.attempts, now.attempt)
        assert now.execution >= before.execution
        assert now.paid_before + now.cost >= before.paid_before + before.cost - 1e-6 or name in {"deliver", "take_up"}
        assert now.stem == before.stem
        assert (now.queue_key is not None) is (now.status is Status.QUEUED), name
        assert now.queue_key in (None, now.place_key)
        assert now.task is not None or now.status is not Status.RENDERING
        assert not (now.at_provider and now.open_folders)
