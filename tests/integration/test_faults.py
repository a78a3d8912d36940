"""Faults of docs/faults.md that belong to no one part: sudden death, AWS itself, dead letters, no API key."""

from __future__ import annotations

import pytest
from botocore.exceptions import EndpointConnectionError
from world import MEDIA_RECEIVES, MEDIA_VISIBILITY, RECEIVES, VISIBILITY, World, portrait, voice

# ---------------------------------------------------------------------- sudden death
DEATHS = [  # tests/chaos goes through all; these are the ones that matter most
    ("table", "save", range(1, 7)),
    ("table", "save_account", [1]),
    ("service", "check_portrait", [1]),
    ("service", "query", [1]),
    ("service", "list_tasks", [1]),
    ("results", "put_report", [1, 4]),
    ("results", "put_video", [1]),
    ("notifications", "send_event", [1, 4]),
    ("notifications", "send_notice", [1]),
    ("executions", "start", [1]),
    ("queue", "send", range(1, 4)),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "method", "nth"), [(o, m, n) for o, m, calls in DEATHS for n in calls])
def test_death_at_any_call_pays_once(world: World, owner: str, method: str, nth: int, after: bool) -> None:
    """And loses nothing."""
    if method == "list_tasks":
        world.sim.fault({"close": "after"}, endpoint="create")
    world.dies(getattr(world, owner), method, after=after, nth=nth)
    world.drop("acme/line.wav", voice())
    world.run(1)
    world.drop("acme/anna.png", portrait())
    world.run(1500)
    world.sweep(3)
    assert world.status("acme/line") == "done"
    assert len(world.tasks()) == 1
    assert world.video("acme/line") is not None
    assert world.table.account().tasks_in_flight == {}
    assert "done" in [e["status"] for e in world.new_events()]
    assert len(world.new_notices()) >= 1
    assert world.dead == []


# ---------------------------------------------------------------------- the account
def test_without_a_key_jobs_keep_their_places(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "not-set"
    monkeypatch.setattr(world.service, "_api_key", lambda: key)
    world.drop_pair("a")
    world.run(200)
    assert (world.status("a"), world.held("a")) == ("queued", "account")
    assert world.new_operator_notices() == ["the account is held"]
    assert sum(world.sim.state()["counters"]["requests"].values()) == 0
    key = world.sim.account.settings.api_key
    world.run(1000)
    assert world.status("a") == "done"
    assert world.new_operator_notices() == ["the account is well again"]


# ---------------------------------------------------------------------- AWS itself
def test_an_unread_upload_comes_again(world: World) -> None:
    """By its message's redelivery."""
    world.fails(world.uploads, "download", 2)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert world.dead == []


def test_a_dead_letter_sent_back_does_its_work(world: World) -> None:
    cure = world.fails(world.uploads, "read")
    world.drop("a.json", {"parameters": {"style_level": "calm"}})
    world.drop_pair("a")
    world.run((RECEIVES + 1) * VISIBILITY)
    cure()
    assert len(world.dead) >= 1
    assert world.status("a") != "done"
    while world.dead:
        world.post(world.dead.pop())
    world.run()
    assert world.status("a") == "done"
    assert len(world.tasks()) == 1


def test_a_dead_order_to_prepare_sent_back(world: World) -> None:
    def refuse(*_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://s3.example.com")

    cure = world.instead(world.preparing, "handle", refuse)
    world.drop_pair("a")
    world.run((MEDIA_RECEIVES + 1) * MEDIA_VISIBILITY)
    cure()
    assert (len(world.dead), world.status("a")) == (2, "waiting")  # the voice's order and the portrait's
    for order in [world.dead.pop(), world.dead.pop()]:
        world.have_prepared(order)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 1)


def test_a_dead_letter_of_a_done_job(world: World) -> None:
    """Sent back, it changes nothing."""
    events = [world.drop("a.png", portrait()), world.drop("a.wav", voice())]
    world.run()
    done = world.report("a")
    for event in events:
        world.post(event)
    world.sweep(1)
    assert world.report("a") == done
    assert len(world.tasks()) == 1


def test_a_refused_event_comes_by_the_sweep(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.rendering("a")
    refusals = [{"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}] * 2
    put_events = world.events.put_events
    monkeypatch.setattr(world.events, "put_events", lambda **given: refusals.pop() if refusals else put_events(**given))
    world.new_events()
    world.sim.set(manual=False)
    world.run()
    world.sweep(2)
    assert [report["status"] for report in world.new_events()] == ["done"]
    assert len(world.new_notices()) == 1
