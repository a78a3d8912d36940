"""Which job is sent next, and when none is: order, slots, models, pause, and links that must outlive the queue."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from world import World, new_job, portrait, voice

from portraitcast.domain.job import iso
from portraitcast.domain.polling import Pace

if TYPE_CHECKING:
    from collections.abc import Callable


def change_limit(world: World, tasks: int) -> None:
    """Change MaxTasksInFlight of a stack that runs."""
    world.dispatch._max_tasks_in_flight = tasks
    world.create_task._limits = replace(world.create_task._limits, max_tasks_in_flight=tasks)
    world.post({"wake": True})
    world.run(5)


def created(world: World) -> list[str]:
    """Return the names of the voices in the order of their creates."""
    return [task["audio_url"].rsplit("/", 1)[1].split(".")[0] for task in world.tasks()]


# ---------------------------------------------------------------------- order and slots
def test_oldest_first_within_the_limit(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=2)
    names = [f"n{i}" for i in range(6)]
    for i, name in enumerate(names):
        world.drop_pair(name, pitch=0.05 + i / 100)
        world.run(1)
    world.run()
    assert [world.status(n) for n in names] == ["done"] * 6
    assert world.sim.state()["counters"]["max_open"] <= 2
    assert created(world) == names


def test_a_freed_slot_starts_the_next(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=1)
    world.sim.set(manual=True)
    world.drop_pair("a")
    world.drop_pair("b", pitch=0.1)
    world.run(60)
    assert (world.status("a"), world.status("b")) == ("rendering", "queued")
    world.sim.finish()
    world.sim.wait_for(lambda s: s["tasks"][0]["status"] == "SUCCEEDED")
    world.run(120)
    assert (world.status("a"), world.status("b")) == ("done", "rendering")


def test_one_create_at_a_time(world: World) -> None:
    """A second submit that runs meanwhile creates nothing."""
    world.sim.set(manual=True)
    depth = 0

    def while_another_submit_runs(create: Callable[..., Any], *args: Any, **given: Any) -> Any:
        nonlocal depth
        depth += 1
        assert depth == 1, "a second create while the first was open"
        world.handle({"sweep": True})
        world.dispatch_now()
        answer = create(*args, **given)
        world.dispatch_now()
        depth -= 1
        return answer

    world.instead(world.service, "create", while_another_submit_runs)
    for name in ("a", "b"):
        world.drop_pair(name)
    world.run(60)
    assert [world.status(name) for name in ("a", "b")] == ["rendering", "rendering"]
    assert len(world.tasks()) == 2


def test_a_changed_limit_takes_effect(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=1)
    world.sim.set(manual=True)
    for n in range(5):
        world.drop_pair(f"line-{n}")
    world.run(20)
    assert len(world.tasks()) == 1
    change_limit(world, 3)
    assert len(world.tasks()) == 3
    change_limit(world, 1)
    world.sim.finish(world.tasks()[0]["id"])
    world.sim.wait_for(lambda s: s["tasks"][0]["status"] == "SUCCEEDED")
    world.run(300)
    assert world.status("line-0") == "done"
    assert len(world.tasks()) == 3, "two are still there, so nothing new is sent"


# ---------------------------------------------------------------------- models
def test_models_have_queues_of_their_own(make_world: Callable[..., World]) -> None:
    """A `liveportrait` job is not held up by a queue of EMO jobs, and takes no place of theirs."""
    world = make_world(max_tasks_in_flight=1)
    world.sim.set(manual=True)
    for n in range(4):
        world.drop_pair(f"emo-{n}", pitch=0.05 + n / 100)
    world.run(20)
    world.drop("fast.json", {"model": "liveportrait"})
    world.drop_pair("fast", seconds=1.2)
    world.run(20)
    assert [world.status(f"emo-{n}") for n in range(4)] == ["rendering", "queued", "queued", "queued"]
    assert world.status("fast") == "rendering"
    assert [task["model"] for task in world.tasks()] == ["emo-v1", "liveportrait"]
    assert world.table.place(world.job("emo-1")) == (1, 3)
    world.sim.set(manual=False)
    world.run()
    assert {world.status(n) for n in ("fast", *(f"emo-{n}" for n in range(4)))} == {"done"}


def test_models_share_nothing_but_the_account(make_world: Callable[..., World]) -> None:
    """Three models, one queue each: of every model one task, and a place in the queue is the model's own."""
    world = make_world(max_tasks_in_flight=1)
    world.sim.set(manual=True)
    models = ("emo-v1", "liveportrait", "wan2.2-s2v")
    for n, model in enumerate(models):
        world.drop(f"{n}/settings.json", {"model": model})
        world.drop(f"{n}/anna.png", portrait(60 + n))
        for name in ("x", "y"):
            world.drop(f"{n}/{name}.wav", voice(1.2, pitch=0.05 + n / 100))
    world.run(120)
    assert sorted(world.table.account().tasks_in_flight.values()) == sorted(models)
    waiting = [name for n in range(3) for name in (f"{n}/x", f"{n}/y") if world.status(name) == "queued"]
    assert [world.table.place(world.job(name)) for name in waiting] == [(1, 1)] * 3
    world.sim.set(manual=False)
    world.run()
    assert {world.status(f"{n}/{name}") for n in range(3) for name in "xy"} == {"done"}


def test_prices_are_the_models_own(world: World) -> None:
    world.drop("a.json", {"model": "liveportrait"})
    world.drop_pair("a", seconds=1.2)
    world.run()
    assert world.its_report("a")["cost_cny"]["video"] == pytest.approx(1.2 * 0.02, abs=0.002)
    assert world.table.account().spent == pytest.approx(0.004 + 1.2 * 0.02)


# ---------------------------------------------------------------------- paused by hand
def test_pause_says_why_and_resume_goes_on(world: World) -> None:
    world.drop_pair("before")
    world.run(1)
    world.post({"pause": True})
    world.run(1)
    world.drop_pair("a", pitch=0.1)
    world.run(100)
    for name in ("before", "a"):
        assert (world.status(name), world.held(name)) == ("queued", "paused")
    assert world.tasks() == []
    world.post({"pause": False})
    world.run()
    assert [world.status(n) for n in ("before", "a")] == ["done", "done"]


@pytest.mark.parametrize("timed", [True, False], ids=["with its time", "by SQS's time"])
@pytest.mark.parametrize("newest", [True, False], ids=["pause", "resume"])
def test_an_old_order_redelivered(world: World, newest: bool, timed: bool) -> None:
    """Of two orders the newer holds, whenever a queue brings the older one again."""

    def order(paused: bool) -> dict[str, Any]:
        return {"pause": paused, "at": iso(world.clock())} if timed else {"pause": paused}

    old = order(not newest)
    fails = world.fails(world.dispatch, "pause", 1)  # it comes again after the queue's timeout
    world.post(old)
    world.run(5)
    fails()
    world.run(60)
    world.post(order(newest))
    world.run(10)
    world.drop_pair("a")
    world.run(2000)
    assert world.handled.count(old) == 2
    assert world.table.account().paused is newest
    assert world.status("a") == ("queued" if newest else "done")


def test_a_dead_order_sent_back_has_its_time(world: World) -> None:
    """A dead letter that is redriven is a new message for SQS; only the order itself knows when it was given."""
    old = {"pause": False, "at": iso(world.clock())}
    world.run(60)
    world.post({"pause": True, "at": iso(world.clock())})
    world.run(60)
    world.post(old)
    world.drop_pair("a")
    world.run(60)
    assert (world.status("a"), world.held("a")) == ("queued", "paused")


# ---------------------------------------------------------------------- links outlive the queue
def test_a_create_waits_for_its_links(make_world: Callable[..., World]) -> None:
    """They live for an hour: a create waits while its turn could come later."""
    world = make_world(max_tasks_in_flight=5)
    slow = Pace(work_per_second=1600.0, jobs=1)  # two of 1,600 s and 10 min are over an hour
    world.table.save(new_job("other/job"), was=None, pace=("emo-v1", slow))
    world.sim.set(manual=True)
    world.drop_pair("a")
    world.drop_pair("b")
    world.run(30)
    assert [world.status(name) for name in ("a", "b")] == ["rendering", "queued"]
    world.sim.set(manual=False)
    world.run()
    assert [world.status(name) for name in ("a", "b")] == ["done", "done"]


# ---------------------------------------------------------------------- nothing stands in its way
def test_a_bus_that_refuses_stops_no_create(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """For six hours: videos are made meanwhile, and every event comes once the bus takes it."""
    world = make_world(max_tasks_in_flight=1)
    refusal = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
    with monkeypatch.context() as refusing:
        refusing.setattr(world.events, "put_events", lambda **_: refusal)
        for n in range(3):
            world.drop_pair(f"{n}", pitch=0.05 + n / 100)
            world.run(7200)
            assert len(world.tasks()) == n + 1, "one more is made"
        assert [world.video(f"{n}") is not None for n in range(3)] == [True] * 3
        assert world.dead == []
    assert world.new_events() == []
    world.sweep(2)
    assert [event["status"] for event in world.new_events()] == ["done"] * 3
    assert [world.status(f"{n}") for n in range(3)] == ["done"] * 3
    assert all(not world.job(f"{n}").unpublished for n in range(3))


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        ("results", "put_report"),
        ("notifications", "send_event"),
        ("notifications", "send_notice"),
        ("notifications", "notify_operators"),
    ],
)
def test_publishing_stops_no_create(make_world: Callable[..., World], owner: str, method: str) -> None:
    world = make_world(max_tasks_in_flight=1)
    world.sim.fault({"task_fails": {"code": "InternalError", "message": "It broke."}})  # a notice goes out at once
    world.sim.fault({"status": 401, "body": {"code": "InvalidApiKey"}}, endpoint="create")  # and one for operators
    cure = world.fails(getattr(world, owner), method)
    for n in range(2):
        world.drop_pair(f"{n}", pitch=0.05 + n / 100)
    world.run(600)
    assert len(world.tasks()) == 2
    assert world.dead == []
    cure()
    world.sweep(2)
    assert sorted(str(world.status(f"{n}")) for n in range(2)) == ["done", "failed"]
    assert {event["status"] for event in world.new_events()} >= {"done", "failed"}
    assert world.new_operator_notices() == ["the account is held", "the account is well again"]
    assert sorted(n["MessageAttributes"]["status"]["Value"] for n in world.new_notices()) == ["done", "failed"]
