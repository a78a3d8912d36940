"""A create of unknown outcome: it is looked for in the service's list before anything is paid again."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from world import SUBMIT_SECONDS, Died, World, portrait, voice

from portraitcast.adapters.dashscope import ProviderIllError
from portraitcast.workflows.create_task import LEASE_MARGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from portraitcast.adapters.dashscope import ListedTask

HALF = '{"output": {"task_id": "0000'
UNKNOWN: dict[str, tuple[dict[str, Any], bool]] = {
    "500": ({"status": 500}, False),
    "500 after a task was made": ({"status": 500, "effect": True}, True),
    "a page of a proxy": ({"status": 502, "body": "<html>Bad gateway</html>", "effect": True}, True),
    "200 with a page": ({"status": 200, "body": "<html></html>"}, False),
    "200 with half a JSON": ({"status": 200, "body": HALF, "effect": True}, True),
    "200 without a task id": ({"status": 200, "body": {"output": {}, "request_id": "r"}}, False),
    "cut before it took effect": ({"close": "before"}, False),
    "cut after it took effect": ({"close": "after"}, True),
    "no answer, made": ({"hang": True, "effect": True}, True),
    "no answer, not made": ({"hang": True}, False),
}
LOST = {"close": "after"}  # the task is made, and nobody hears of it


def lists(world: World, change: Callable[[list[ListedTask]], Iterable[ListedTask]]) -> Callable[[], None]:
    """Let the service's list be what `change` makes of it; returns the cure."""
    return world.instead(world.service, "list_tasks", lambda real, *a, **k: list(change(real(*a, **k))))


def without(task: str) -> Callable[[list[ListedTask]], list[ListedTask]]:
    return lambda rows: [row for row in rows if row.task_id != task]


def takes(world: World, seconds: float, died: list[float] | None = None) -> Callable[[], None]:
    """Let a whole list take so long. Who asks without a bound, or with one beyond the function's time, dies with it.

    `died` gets the time of each such death.
    """

    def slow(real: Callable[..., Any], model: Any, *, seconds: float | None = None, needed: float = seconds) -> Any:
        bound = needed if seconds is None else min(needed, seconds)
        left = world.function_ends_at - world.clock()
        world.advance(min(bound, left))
        if bound >= left:
            (died if died is not None else []).append(world.clock())
            raise Died
        if bound < needed:
            raise ProviderIllError("NoAnswer", f"the list wasn't complete after {bound:.0f} s")
        return real(model)

    return world.instead(world.service, "list_tasks", slow)


# ---------------------------------------------------------------------- found, or not
@pytest.mark.parametrize(("fault", "made"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_is_looked_for_and_paid_once(
    make_world: Callable[..., World], fault: dict[str, Any], made: bool
) -> None:
    world = make_world(call_seconds=1.5 if "hang" in fault else 5)
    world.sim.fault(fault, endpoint="create")
    world.drop_pair("a")
    world.run(10)
    assert world.status("a") == "queued", "creating is shown as queued"
    world.drop_pair("b", pitch=0.1)
    world.run(40)
    assert (world.requests("create"), world.requests("list")) == (1, 0), "creates stand still meanwhile"
    world.run(60)
    assert world.requests("list") == 1, "the first look comes at ReconcileSeconds"
    world.run()
    assert world.requests("list") == (1 if made else 2)
    assert [world.status(n) for n in ("a", "b")] == ["done", "done"]
    assert len(world.tasks()) == 2, "each is paid once"
    job = world.job("a")
    assert (job.adopted, job.attempt) == ((True, 1) if made else (False, 2))


def test_second_look_at_five_times(world: World) -> None:
    world.sim.fault({"status": 500}, endpoint="create")
    world.drop_pair("a")
    world.run(4)
    began = world.table.account().open_create
    assert began is not None
    assert began.unknown_since is not None
    world.run(began.unknown_since + 290 - world.clock())
    assert (world.requests("list"), world.requests("create")) == (1, 1)
    world.run(20)
    assert (world.requests("list"), world.tasks() != []) == (2, True)


def test_failed_look_never_counts(world: World) -> None:
    world.sim.fault({"status": 500}, endpoint="create")
    world.sim.fault({"status": 503}, endpoint="list", times=2)
    world.drop_pair("a")
    world.run()
    assert world.requests("list") == 4
    assert world.status("a") == "done"
    assert len(world.tasks()) == 1


def test_late_in_the_list_is_found(world: World) -> None:
    world.sim.set(list_lag_seconds=150)
    world.sim.fault(LOST, endpoint="create")
    world.drop_pair("a")
    world.run()
    assert (world.status("a"), world.requests("create"), world.requests("list")) == ("done", 1, 2)


@pytest.mark.parametrize("after", [False, True], ids=["before it left", "after it was accepted"])
def test_dead_function_is_looked_for(world: World, after: bool) -> None:
    """Once its lease is over: until then it may still be at work."""
    world.dies(world.service, "create", after=after)
    world.drop_pair("a")
    world.run(5)
    create = world.table.account().open_create
    assert create is not None
    assert create.lease_until >= create.sent_at + SUBMIT_SECONDS + LEASE_MARGIN - 10
    world.drop_pair("b", pitch=0.1)
    world.run(100)
    assert (len(world.tasks()), world.requests("list")) == (int(after), 0), "within the lease nobody creates or looks"
    world.run()
    assert [world.status(n) for n in ("a", "b")] == ["done", "done"]
    assert world.job("a").adopted is after
    assert len(world.tasks()) == 2, "each is paid once"


# ---------------------------------------------------------------------- candidates
def test_two_candidates_go_to_a_person(world: World) -> None:
    world.sim.fault(LOST, endpoint="create")
    world.drop_pair("a")
    world.run(10)
    world.foreign_task()
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("failed", "CreateAmbiguous")
    for task in world.tasks():
        assert task["id"] in report["error"]["measured"]
    assert world.video("a") is None
    account = world.table.account()
    assert account.tasks_in_flight == {}
    assert account.spent == pytest.approx(0.036), "one of them may be paid: check and video stay spent"
    assert world.requests("create") == 2, "ours and theirs"
    assert world.new_operator_notices() == ["a create is left to you"]


@pytest.mark.parametrize("lost", [LOST, {"close": "before"}], ids=["made", "not made"])
def test_left_candidates_are_never_adopted(world: World, lost: dict[str, str]) -> None:
    """The next lost create of the same length must not take one: it may be another person's video."""
    world.sim.fault(LOST, endpoint="create")
    world.drop_pair("anna")
    world.run(10)
    world.foreign_task()
    world.run()
    assert world.error("anna") == "CreateAmbiguous"
    left = {task["id"] for task in world.tasks()}
    assert all(world.table.is_known_task(task) for task in left)
    world.sim.fault(lost, endpoint="create")
    world.drop_pair("bert", pitch=0.1)
    world.run()
    job = world.job("bert")
    assert job.task is not None
    assert (world.status("bert"), job.task.id in left) == ("done", False)
    assert "bert.wav" in {t["id"]: t["audio_url"] for t in world.tasks()}[job.task.id].rpartition("/")[2]


def test_a_late_task_of_a_lost_create_stays(world: World) -> None:
    """No candidate was there to be remembered: then no later create's time begins before the lost one's end."""
    world.sim.fault(LOST, endpoint="create")
    world.drop_pair("anna")
    world.run(6)
    (late,) = world.tasks()
    cure = lists(world, without(late["id"]))
    world.run(290)
    world.sim.fault({"close": "before"}, endpoint="create", times=2)
    world.drop_pair("bert", pitch=0.1)
    world.run(60)
    cure()
    world.run()
    for name in ("anna", "bert"):
        task = world.job(name).task
        assert task is not None
        assert task.id != late["id"]
        assert world.status(name) == "done"


def test_the_window_begins_at_the_end_of_the_last(world: World) -> None:
    """An hour without a list: what came of the first create is unknown, so no later one may take it."""
    world.sim.fault(LOST, endpoint="create")
    world.sim.fault({"status": 503}, endpoint="list", times=None)
    world.drop_pair("anna")
    world.run(3700)
    assert world.error("anna") == "CreateAmbiguous"
    (theirs,) = world.tasks()
    assert not world.table.is_known_task(theirs["id"])
    world.sim.clear_faults()
    account = world.table.account()
    assert account.unsettled_until >= theirs["submitted_at"]
    world.advance(-3600)  # as if it had come to an end at once
    world.sim.fault({"close": "before"}, endpoint="create")
    world.drop_pair("bert", pitch=0.1)
    world.run()
    task = world.job("bert").task
    assert task is not None
    assert task.id != theirs["id"]
    assert world.job("bert").adopted is False


def test_our_other_tasks_are_no_candidates(world: World) -> None:
    world.drop_pair("a")
    world.drop_pair("b", pitch=0.1)
    world.sim.fault({"status": 500}, endpoint="create", match={"nth": 2})
    world.run()
    assert [world.status(n) for n in ("a", "b")] == ["done", "done"]
    assert [world.job(n).adopted for n in ("a", "b")] == [False, False]
    assert len(world.tasks()) == 2


def test_its_own_earlier_task_is_no_candidate(world: World) -> None:
    world.sim.fault({"task_fails": {"code": "InvalidURL.Timeout", "message": "Downloading timed out."}})
    world.sim.fault({"close": "before"}, endpoint="create", match={"nth": 2})
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert [t["status"] for t in world.tasks()] == ["FAILED", "SUCCEEDED"]
    assert world.job("a").adopted is False


def test_another_stacks_key_is_no_candidate(world: World) -> None:
    world.sim.set(more_api_keys=("sk-another-stack",))
    world.drop_pair("first")
    world.run()  # from now on the list tells which key is ours
    world.sim.fault({"status": 500}, endpoint="create")
    world.drop_pair("a")
    world.run(10)
    world.foreign_task(key="sk-another-stack")
    world.run()
    assert (world.status("a"), world.job("a").adopted) == ("done", False)
    assert len(world.tasks()) == 3


def test_another_models_task_is_no_candidate(world: World) -> None:
    world.sim.fault({"status": 500}, endpoint="create")
    world.drop("a.json", {"model": "liveportrait"})
    world.drop_pair("a", seconds=1.2)
    world.run(10)
    world.foreign_task()
    world.run()
    assert (world.status("a"), world.job("a").adopted) == ("done", False)


def test_a_changed_key_hides_no_task(world: World) -> None:
    world.drop_pair("first")
    world.run()
    world.sim.set(api_key="sk-rotated-key", more_api_keys=("sk-simulator",))
    world.sim.fault(LOST, endpoint="create")
    world.drop_pair("a", pitch=0.1)
    world.run()
    assert (world.status("a"), world.job("a").adopted) == ("done", True)
    assert len(world.tasks()) == 2


def test_a_job_of_links_goes_to_a_person(world: World) -> None:
    """Its voice's length is unknown, so no video can be held against it."""
    world.s3.put_object(Bucket="uploads", Key=".v.wav", Body=voice())
    world.s3.put_object(Bucket="uploads", Key=".p.png", Body=portrait())
    links = {"image_url": f"{world.files.origin}/.p.png", "audio_url": f"{world.files.origin}/.v.wav"}
    world.sim.fault(LOST, endpoint="create")
    world.drop("a.json", {"input": links})
    world.run()
    assert (world.status("a"), world.error("a")) == ("failed", "CreateAmbiguous")
    assert len(world.tasks()) == 1


# ---------------------------------------------------------------------- a list that contradicts what is known
@pytest.mark.parametrize("ahead", [130.0, -130.0, 4000.0])
@pytest.mark.parametrize("made", [True, False])
def test_a_clock_that_is_off_pays_once(world: World, ahead: float, made: bool) -> None:
    """The tasks that we know tell by how much."""
    world.skew_provider(ahead)
    world.drop_pair("known")
    world.run()
    world.sim.fault(LOST if made else {"close": "before"}, endpoint="create")
    world.drop_pair("a", pitch=0.1)
    world.run()
    assert (world.status("a"), world.job("a").adopted) == ("done", made)
    assert len(world.tasks()) == 2


@pytest.mark.parametrize("ahead", [130.0, -130.0])
def test_a_new_stacks_clock_is_unproven(world: World, ahead: float) -> None:
    """No known task tells how far the provider's clock is off, so nobody pays again, and nobody adopts."""
    world.skew_provider(ahead)
    world.sim.fault(LOST, endpoint="create")
    world.drop_pair("a")
    world.run()
    assert (world.error("a"), len(world.tasks())) == ("CreateAmbiguous", 1)
    assert world.tasks()[0]["id"] in world.its_report("a")["error"]["measured"]


@pytest.mark.parametrize("made", [True, False])
def test_a_list_without_our_task_is_no_list(world: World, made: bool) -> None:
    """While it lacks a task that certainly runs it proves nothing; once it has it again, it is read."""
    world.rendering("known")
    (known,) = world.tasks()
    cure = lists(world, without(known["id"]) if made else lambda _: [])
    world.sim.fault(LOST if made else {"close": "before"}, endpoint="create")
    world.drop_pair("a", pitch=0.1)
    world.run(1000)
    assert (world.status("a"), world.requests("create")) == ("queued", 2), "nothing is paid on the word of such a list"
    create = world.table.account().open_create
    assert create is not None
    assert (create.looks, create.trouble) == (0, "the list of tasks can't be believed: it lacks 1 of our tasks")
    cure()
    world.sim.set(manual=False)
    world.run()
    assert (world.status("a"), world.job("a").adopted) == ("done", made)
    assert len(world.tasks()) == 2


def test_known_tasks_that_disagree(world: World) -> None:
    """Two known tasks, of which the list moves one by ten minutes."""
    for n, name in enumerate(("one", "two")):
        world.drop_pair(name, pitch=0.08 + n / 50)
        world.run()
    first = world.tasks()[0]["id"]

    def moved(rows: list[ListedTask]) -> list[ListedTask]:
        return [type(r)(r.task_id, r.created_at - 600 * (r.task_id == first), r.request_id, r.api_key_id) for r in rows]

    cure = lists(world, moved)
    world.sim.fault(LOST, endpoint="create")
    world.drop_pair("a", pitch=0.2)
    world.run(700)
    assert (world.status("a"), world.requests("create")) == ("queued", 3)
    cure()
    world.run()
    assert (world.status("a"), world.job("a").adopted) == ("done", True)


def test_lag_hides_known_tasks_for_a_while(world: World) -> None:
    """A list that lags lacks our newest task too: its looks don't count until it has caught up."""
    world.sim.set(list_lag_seconds=400)
    world.drop_pair("known")
    world.run(6)
    world.sim.fault(LOST, endpoint="create")
    world.drop_pair("a", pitch=0.1)
    world.run()
    assert [world.status(n) for n in ("known", "a")] == ["done", "done"]
    assert (world.job("a").adopted, len(world.tasks())) == (True, 2)


# ---------------------------------------------------------------------- a slow list
@pytest.mark.parametrize("seconds", [60.0, 125.0])
def test_a_slow_list_never_outlasts_submit(world: World, seconds: float) -> None:
    """Five pages of 25 s: a look ends before its function does, and no message becomes a dead letter."""
    world.sim.fault({"close": "before"}, endpoint="create")
    died: list[float] = []
    cure = takes(world, seconds, died)
    world.drop_pair("a")
    world.run(1200)
    assert (died, world.dead) == ([], [])
    assert world.table.account().open_create is None or seconds > 75
    cure()
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)
    assert world.dead == []


def test_a_look_that_died_was_a_look(world: World) -> None:
    """It is written before it begins, so the next comes ReconcileSeconds later and not at once, for ever."""
    world.sim.fault({"close": "before"}, endpoint="create")
    asked = []

    def dies(_real: Any, *_: Any, **__: Any) -> Any:
        asked.append(world.clock())
        world.post({"wake": True})
        raise Died

    cure = world.instead(world.service, "list_tasks", dies)
    world.drop_pair("a")
    world.run(330)
    apart = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert len(apart) >= 2
    assert min(apart) >= 60
    cure()
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)


def test_an_hour_without_a_list_is_given_up(world: World) -> None:
    """The job ends with the reason, the operator is told, the fee stays spent, and others go on."""
    world.sim.fault(LOST, endpoint="create")
    takes(world, 125.0)
    world.drop_pair("a")
    world.run(10)
    world.drop_pair("b", pitch=0.1)
    world.run(3000)
    assert [world.status(n) for n in ("a", "b")] == ["queued", "queued"]
    world.run(900)
    report = world.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("failed", "CreateAmbiguous")
    assert "the list wasn't complete" in report["error"]["measured"]
    assert world.new_operator_notices() == ["a create is left to you"]
    assert world.table.account().spent == pytest.approx(0.036 + 0.032)
    world.run()
    assert world.status("b") == "done"
    assert len(world.tasks()) == 2
    assert world.dead == []
