"""Faults of docs/faults.md that belong to no one part: at once, in between, and of AWS itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from world import RECEIVES, REGION, UPLOADS, VISIBILITY, World, portrait, voice

from portraitcast.adapters.buckets import LINK_SECONDS, Links
from portraitcast.errors import TryLaterError
from portraitcast.domain.polling import Pace

if TYPE_CHECKING:
    from collections.abc import Callable


def change_limit(world: World, tasks: int) -> None:
    """Change MaxTasksInFlight of a stack that runs."""
    world.dispatch._limits = replace(world.dispatch._limits, max_in_flight=tasks)
    world.post({"wake": True})
    world.run(5)


# ---------------------------------------------------------------------- several at once
def test_a_second_submit_creates_nothing_while_a_create_is_open(world: World) -> None:
    world.sim.set(manual=True)
    create, depth = world.emo.create, 0

    def create_while_another_submit_runs(**given: Any) -> Any:
        nonlocal depth
        depth += 1
        assert depth == 1, "a second create while the first was open"
        world.submit.handle_body('{"sweep": true}')
        world.submit.dispatch(world.clock() + 120)
        answer = create(**given)
        world.submit.dispatch(world.clock() + 120)
        depth -= 1
        return answer

    world.emo.create = create_while_another_submit_runs  # type: ignore[method-assign]
    for name in ("a", "b"):
        world.drop_pair(name)
    world.run(60)
    assert [world.status(name) for name in ("a", "b")] == ["rendering", "rendering"]
    assert len(world.tasks()) == 2


def test_a_changed_max_tasks_in_flight_takes_effect_on_a_live_stack(make_world: Callable[..., World]) -> None:
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


# ---------------------------------------------------------------------- links outlive the queue
def test_a_create_waits_while_its_links_could_end_before_its_turn(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=5)
    world.table.put_pace(Pace(work_per_second=1600.0, jobs=1))  # two tasks of 1,600 s and 10 min are more than an hour
    world.sim.set(manual=True)
    world.drop_pair("a")
    world.drop_pair("b")
    world.run(30)
    assert [world.status(name) for name in ("a", "b")] == ["rendering", "queued"]
    world.sim.set(manual=False)
    world.run()
    assert [world.status(name) for name in ("a", "b")] == ["done", "done"]


@pytest.fixture
def link(aws: None) -> str:
    sts = boto3.client("sts", region_name=REGION)
    links = Links(sts, "arn:aws:iam::123456789012:role/links", UPLOADS)
    (signed,) = links.sign(("acme/Anna & Bob/日本 +1.jpg", "v-1", ".png"))
    return signed


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Expires", "3600"),
        ("versionId", "v-1"),
        ("response-content-type", "image/png"),
    ],
)
def test_a_link_carries(link: str, part: str, value: str) -> None:
    assert parse_qs(urlsplit(link).query)[part] == [value]


def test_a_link_is_of_a_session_that_was_assumed_for_it_and_lasts_as_long(aws: None) -> None:
    sts, asked = boto3.client("sts", region_name=REGION), []
    sts.meta.events.register("provide-client-params.sts.AssumeRole", lambda params, **_: asked.append(params))
    (signed,) = Links(sts, "arn:aws:iam::123456789012:role/links", UPLOADS).sign(("a.wav", "v", ".wav"))
    (assumed,) = asked
    assert assumed["DurationSeconds"] == LINK_SECONDS == int(parse_qs(urlsplit(signed).query)["X-Amz-Expires"][0])
    assert parse_qs(urlsplit(signed).query)["X-Amz-Security-Token"]


def test_a_link_is_https_to_the_buckets_own_regional_host_with_plain_slashes_and_the_suffix_last(link: str) -> None:
    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc) == ("https", f"{UPLOADS}.s3.{REGION}.amazonaws.com")
    assert parts.path.startswith("/acme/Anna%20%26%20Bob/")
    assert unquote(parts.path) == "/acme/Anna & Bob/日本 +1.jpg"


# ---------------------------------------------------------------------- the account
def test_without_an_api_key_jobs_keep_their_places_and_go_on_once_it_is_there(world: World) -> None:
    key = "not-set"
    world.emo._api_key = lambda: key
    world.drop_pair("a")
    world.run(200)
    report = world.report("a")
    assert report is not None
    assert (report["status"], report["queue"]["held"]) == ("queued", "account")
    assert world.new_operator_notices() == ["the account is held"]
    assert sum(world.sim.state()["counters"]["requests"].values()) == 0
    key = world.sim.account.settings.api_key
    world.run(1000)
    assert world.status("a") == "done"
    assert world.new_operator_notices() == ["the account is well again"]


# ---------------------------------------------------------------------- AWS itself
def fails(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, times: int) -> None:
    """Let AWS refuse the first calls of a method."""
    real, left = getattr(owner, method), times

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            raise TryLaterError("AWS refuses")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, method, call)


def test_a_video_that_s3_refuses_is_put_later_and_made_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sim.set(manual=True)
    world.drop_pair("a")
    world.run(20)
    (name,) = world.execution_names()
    world.sim.set(manual=False)
    world.sim.wait_for(lambda s: s["tasks"][0]["status"] == "SUCCEEDED")
    fails(monkeypatch, world.results, "put_video", 1)
    with pytest.raises(TryLaterError):
        world.delivery.deliver(world.states[name])
    assert world.table.slots().owners == [], "the next job is not held up"
    world.rule(name, "FAILED")
    world.run()
    assert world.status("a") == "done"
    assert world.video("a") is not None
    assert len(world.tasks()) == 1


def test_an_upload_that_cannot_be_read_now_is_taken_in_by_the_messages_redelivery(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, world.uploads, "download", 2)
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert world.dead == []


def test_a_dead_letter_that_is_sent_back_does_what_it_should_have_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        fails(broken, world.uploads, "download", 1000)
        world.drop_pair("a")
        world.run(RECEIVES * VISIBILITY)
    assert len(world.dead) >= 1
    assert world.status("a") != "done"
    while world.dead:
        world.post(world.dead.pop())
    world.run()
    assert world.status("a") == "done"
    assert len(world.tasks()) == 1


def test_a_dead_letter_that_is_sent_back_when_its_job_is_done_changes_nothing(world: World) -> None:
    events = [world.drop("a.png", portrait()), world.drop("a.wav", voice())]
    world.run()
    done = world.report("a")
    for event in events:
        world.post(event)
    world.sweep(1)
    assert world.report("a") == done
    assert len(world.tasks()) == 1


def test_an_event_that_the_bus_refuses_is_told_by_the_schedule(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sim.set(manual=True)
    world.drop_pair("a")
    world.run(20)
    refusals = [{"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}] * 3
    put_events = world.events.put_events

    def refused(**given: Any) -> Any:
        return refusals.pop() if refusals else put_events(**given)

    monkeypatch.setattr(world.events, "put_events", refused)
    world.new_events()
    world.sim.set(manual=False)
    world.run()
    world.sweep(2)
    assert [report["status"] for report in world.new_events()] == ["done"]
    assert len(world.new_notices()) == 1


def test_deliver_called_before_the_task_has_ended_goes_back_to_waiting(world: World) -> None:
    world.sim.set(manual=True)
    world.drop_pair("a")
    world.run(20)
    (name,) = world.execution_names()
    answer = world.delivery.deliver({**world.states[name], "error": {"Error": "States.Timeout"}})
    assert (answer["ended"], answer["told"]) == (False, False)
    assert "error" not in answer
    assert world.status("a") == "rendering"
    assert world.table.slots().owners == [world.job("a").owner]
