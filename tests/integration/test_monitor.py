"""What monitors a task: executions that are aborted, break or grow long, the schedule's net, and orphaned tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import World, portrait, voice

from portraitcast.domain import execution
from portraitcast.domain.job import TASK_LIFE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = voice(), voice(pitch=0.2)


# ---------------------------------------------------------------------- aborted by hand
def test_abort_cancels_a_pending_task(world: World) -> None:
    world.rendering("a", "b")
    world.rule(world.execution_of("b"), "ABORTED")
    assert [t["status"] for t in world.tasks()] == ["RUNNING", "CANCELED"]
    assert (world.status("b"), world.error("b")) == ("failed", "ExecutionAborted")
    assert list(world.table.account().tasks_in_flight) == [world.job("a").owner]


def test_an_orphan_keeps_its_slot(make_world: Callable[..., World]) -> None:
    """Until its task has ended: the provider runs it, and nobody may be sent beside it."""
    world = make_world(max_tasks_in_flight=1)
    world.rendering("a")
    world.rule(world.execution_of("a"), "ABORTED")
    assert (world.status("a"), world.error("a")) == ("failed", "ExecutionAborted")
    world.drop_pair("b", pitch=0.1)
    world.run(600)
    world.post({"sweep": True})
    world.run(60)
    assert (world.status("b"), len(world.tasks())) == ("queued", 1)
    world.finish_tasks()
    world.run()
    assert world.status("b") == "done"
    assert world.status("a") == "failed"
    assert world.sim.state()["counters"]["max_open"] == 1


def test_dropped_again_takes_up_the_task(world: World) -> None:
    world.rendering("a")
    world.rule(world.execution_of("a"), "ABORTED")
    world.drop("a.wav", A)
    world.run(60)
    assert world.status("a") == "rendering"
    world.sim.set(manual=False)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)


def test_dropped_again_takes_up_an_ended_task(world: World) -> None:
    world.rendering("a")
    world.rule(world.execution_of("a"), "ABORTED")
    world.finish_tasks()
    world.run(1000)
    assert world.table.account().tasks_in_flight == {}
    world.drop("a.wav", A)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1), "what is paid is delivered"


def test_other_files_after_an_abort(world: World) -> None:
    world.rendering("a")
    world.rule(world.execution_of("a"), "ABORTED")
    world.drop("a.wav", B)
    world.sim.set(manual=False)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 2)


def test_aborted_a_then_b_then_a(world: World) -> None:
    """A is paid once, however far B has got: it is taken up, and replaces B's video."""
    world.rendering("a")
    world.rule(world.execution_of("a"), "ABORTED")
    world.drop("a.wav", B)
    world.finish_tasks()
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 2)
    of_b = world.its_report("a")["video"]["sha256"]
    world.drop("a.wav", A)
    world.run()
    report = world.its_report("a")
    assert (report["status"], len(world.tasks())) == ("done", 2)
    assert report["video"]["sha256"] != of_b
    assert report["task"]["id"] == world.tasks()[0]["id"]
    assert world.table.account().tasks_in_flight == {}


@pytest.mark.parametrize("seconds", [1, 8], ids=["B waits", "B renders"])
def test_a_again_before_b_has_ended(world: World, seconds: int) -> None:
    world.rendering("a")
    world.rule(world.execution_of("a"), "ABORTED")
    world.drop("a.wav", B)
    world.run(seconds)
    world.drop("a.wav", A)
    world.run(30)
    world.sim.set(manual=False)
    world.run()
    of_a = [t for t in world.tasks() if t["id"] == world.its_report("a")["task"]["id"]]
    assert (world.status("a"), of_a) == ("done", world.tasks()[:1])
    assert len(world.tasks()) == (1 if seconds == 1 else 2), "B is paid only if it was sent"
    assert world.table.account().tasks_in_flight == {}


def test_two_aborted_each_paid_once(world: World) -> None:
    """Both go on at the provider; each is taken up when its files come again."""
    world.sim.set(running=2)
    world.rendering("a")
    world.rule(world.execution_of("a"), "ABORTED")
    world.drop("a.wav", B)
    world.run(8)
    world.rule(world.execution_of("a"), "ABORTED")
    world.finish_tasks()
    world.run()
    for again, task in ((A, 0), (B, 1)):
        world.drop("a.wav", again)
        world.run()
        assert world.status("a") == "done"
        assert world.its_report("a")["task"]["id"] == world.tasks()[task]["id"]
    assert len(world.tasks()) == 2
    assert world.job("a").orphans == ()


def test_a_made_orphan_is_forgotten_with_its_task(world: World) -> None:
    """After 24 h its link is dead: dropped again, the video is made anew."""
    world.rendering("a")
    world.rule(world.execution_of("a"), "ABORTED")
    world.finish_tasks()
    world.run(1000)
    world.advance(TASK_LIFE_SECONDS)
    world.drop("a.wav", A)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 2)


def test_aborted_after_the_task_ended(world: World) -> None:
    world.rendering("a")
    world.finish_tasks()
    world.rule(world.execution_of("a"), "ABORTED")
    assert world.status("a") == "done"


def test_an_old_executions_abort_ends_nothing(world: World) -> None:
    """The event of an execution that another one has followed."""
    world.rendering("a")
    old = world.execution_of("a")
    world.rule(old, "FAILED")
    world.run(30)
    world.rule(old, "ABORTED")
    assert (world.status("a"), len(world.execution_names())) == ("rendering", 2)


# ---------------------------------------------------------------------- the net
@pytest.mark.parametrize("status", ["TIMED_OUT", "FAILED"])
def test_a_broken_execution_is_followed_by_one(world: World, status: str) -> None:
    world.rendering("a")
    name = world.execution_of("a")
    world.rule(name, status)
    world.rule(name, status)  # the event comes at least once
    world.sim.set(manual=False)
    world.run()
    assert world.status("a") == "done"
    job = world.job("a")
    assert world.execution_names() == [f"{job.id}-1-1", f"{job.id}-1-2"]
    assert len(world.tasks()) == 1
    assert "an execution broke" in world.new_operator_notices()


def test_sweep_mends_a_lost_execution(world: World) -> None:
    world.rendering("a")
    world.end(world.execution_of("a"), "FAILED")  # without an event
    world.run(120)
    world.sim.set(manual=False)
    world.sweep(1)
    assert world.status("a") == "done"
    assert len(world.execution_names()) == 2


def test_sweep_publishes_what_was_not(world: World) -> None:
    world.rendering("a")
    world.dies(world.results, "put_report")
    world.sim.set(manual=False)
    world.run(100)
    world.sweep(1)
    assert world.status("a") == "done"
    job = world.job("a")
    changed, _ = world.table.save(job.show_held("paused", world.clock()), was=job)  # whose function died before telling
    world.new_events()
    world.run(300)
    world.sweep(1)
    assert [(e["status"], e["revision"]) for e in world.new_events()] == [("done", changed.revision)]
    assert world.its_report("a")["revision"] == changed.revision


def test_sweep_releases_leaked_slots_only(world: World) -> None:
    world.rendering("a")
    for leaked in ("0" * 32 + "#1", f"{world.job_id('a')}#0"):
        world.table.update_account(lambda account, owner=leaked: account.take_slot(owner, "emo-v1"))
    world.post({"sweep": True})
    world.run(60)
    assert list(world.table.account().tasks_in_flight) == [world.job("a").owner]


def test_sweep_goes_on_though_nobody_can_be_told(world: World) -> None:
    """A topic that refuses keeps its notices, and stops nothing of what the sweep does."""
    world.rendering("a")
    leaked = "0" * 32 + "#1"
    world.table.update_account(lambda account: account.take_slot(leaked, "emo-v1").notify("a title", "Some text."))
    cure = world.fails(world.notifications, "notify_operators")
    world.post({"sweep": True})
    world.run(60)
    assert list(world.table.account().tasks_in_flight) == [world.job("a").owner]
    assert world.dead == []
    cure()
    world.post({"sweep": True})
    world.run(60)
    assert world.new_operator_notices() == ["a title"]


# ---------------------------------------------------------------------- long executions
@pytest.mark.parametrize("most", [1, 4])
def test_a_long_execution_hands_over(world: World, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Before its history is full (25,000 events) another goes on, and no operator hears of it."""
    monkeypatch.setattr(execution, "POLLS_MAX", most)
    world.rendering("a")
    world.run(120 * 3 * most)
    names = world.execution_names()
    assert len(names) >= 3
    assert [world.execution(name).status for name in names] == ["SUCCEEDED"] * (len(names) - 1) + ["RUNNING"]
    assert all(world.states[name]["polls"] <= most for name in names)
    monkeypatch.undo()
    world.sim.set(manual=False)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)
    assert world.new_operator_notices() == []
    told = [event["status"] for event in world.new_events()]
    assert [status for status in told if status != "waiting"] == ["queued", "rendering", "done"]


def test_a_hand_over_whose_deliver_died(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes again sends the message that was missing; two executions never go on at once."""
    monkeypatch.setattr(execution, "POLLS_MAX", 2)
    world.rendering("a")
    world.dies(world.queue, "send")
    world.run(400)
    monkeypatch.undo()
    assert [world.execution(name).status for name in world.execution_names()].count("RUNNING") == 1
    world.sim.set(manual=False)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)


# ---------------------------------------------------------------------- out of sight
def test_out_of_sight_frees_the_slot(world: World) -> None:
    """UNKNOWN three times: the slot is freed, and the job goes on."""
    world.sim.fault({"task_status": "UNKNOWN"}, times=6)
    world.drop_pair("a")
    world.run(10)
    task = world.tasks()[0]["id"]
    world.run(150)
    assert world.status("a") == "rendering"
    assert world.table.account().tasks_in_flight == {}
    assert world.new_operator_notices() == ["a task is out of sight"]
    world.run()
    assert world.status("a") == "done"
    assert world.tasks()[0]["id"] == task


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"close": "before"}, {"task_status": "RUNNING"}], ids=["ill", "cut", "in sight"]
)
def test_out_of_sight_though_deliver_failed(world: World, fault: dict[str, object]) -> None:
    """At least three, asked again: the query that tells something else is deliver's, right at the third UNKNOWN."""
    world.sim.fault(fault, endpoint="query", match={"nth": 4})
    world.sim.fault({"task_status": "UNKNOWN"}, times=None)
    world.drop_pair("a")
    world.run(600)
    assert world.requests("query") >= 5
    assert world.table.account().tasks_in_flight == {}
    assert world.new_operator_notices() == ["a task is out of sight"], "once"
    assert world.status("a") == "rendering"


def test_out_of_sight_for_a_day_fails(world: World) -> None:
    world.sim.fault({"task_status": "UNKNOWN"}, times=None)
    world.drop_pair("a")
    world.run(600)
    assert world.status("a") == "rendering"
    world.advance(TASK_LIFE_SECONDS)
    world.run()
    assert (world.status("a"), world.error("a")) == ("failed", "TaskFailed")


def test_a_portraits_change_leaves_an_orphan(world: World) -> None:
    """Another portrait under the same voice is another video: the orphan isn't taken up for it."""
    world.rendering("a")
    world.rule(world.execution_of("a"), "ABORTED")
    world.drop("a.png", portrait(120))
    world.sim.set(manual=False)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 2)
