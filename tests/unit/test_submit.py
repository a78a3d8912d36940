"""What submit does with each message of the uploads queue: fakes stand for everything that it hands on to."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from portraitcast.errors import ConflictError, NotFoundError, PortraitcastError, TryLaterError
from portraitcast.domain.job import Job
from portraitcast.domain.account import Slots
from portraitcast.workflows.submit import SWEEP_PAGE, SWEEP_PATIENCE, MessageError, Submit

NOW = 1_772_337_600.0
Call = tuple[Any, ...]


class Part:
    """A part of the product that notes every call made to it, under its own name."""

    def __init__(self, name: str, calls: list[Call], answers: dict[str, Any] | None = None) -> None:
        self._name = name
        self._calls = calls
        self._answers = answers or {}

    def __getattr__(self, method: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls.append((f"{self._name}.{method}", *args, *sorted(kwargs.items())))
            answer = self._answers.get(method)
            if isinstance(answer, Exception):
                raise answer
            return answer(*args) if callable(answer) else answer

        return call


class World:
    """A submit among fakes, and the calls that it made."""

    def __init__(
        self, jobs: list[Job] | None = None, more: str | None = None, gone: tuple[str, ...] = (), **answers: Any
    ) -> None:
        self.calls: list[Call] = []
        by_id = {job.id: job for job in jobs or []}
        table = {"job": by_id.get, "open_jobs": ([*gone, *by_id], more), "slots": Slots(), "queue": []}
        parts = [
            Part(name, self.calls, table if name == "table" else answers.get(name))
            for name in ("table", "intake", "dispatch", "watch", "lingering", "queue", "teller")
        ]
        self.submit = Submit(*(cast("Any", part) for part in parts), clock=lambda: NOW)

    def handle(self, message: Any) -> list[Call]:
        self.submit.handle_body(message if isinstance(message, str) else json.dumps(message))
        return self.calls

    def made(self, name: str) -> list[Call]:
        return [call for call in self.calls if call[0] == name]


def job(number: int = 1, status: str = "rendering", *, changed: float = NOW - 3600, **fields: Any) -> Job:
    made = Job(f"{number:032x}", "a", "", "a", created_at=changed, status=status, attempt=2, changed_at=changed)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def record(event: str, key: str, **fields: Any) -> dict[str, Any]:
    return {"eventName": event, "s3": {"bucket": {"name": "uploads"}, "object": {"key": key, **fields}}}


# S3's events


def arrival(key: str, *, removed: bool, version: Any = None, size: Any = None, sequencer: str = "") -> Call:
    return (
        "intake.arrive",
        key,
        ("removed", removed),
        ("sequencer", sequencer),
        ("size", size),
        ("version", version),
    )


@pytest.mark.parametrize(
    ("event", "removed"),
    [
        ("ObjectCreated:Put", False),
        ("ObjectCreated:CompleteMultipartUpload", False),
        ("ObjectCreated:Copy", False),
        ("ObjectRemoved:Delete", True),
        ("ObjectRemoved:DeleteMarkerCreated", True),
        ("s3:ObjectCreated:Put", False),
        ("s3:ObjectRemoved:Delete", True),
    ],
)
def test_an_upload_and_a_deletion_are_taken_in_as_what_they_are(event: str, removed: bool) -> None:
    sent = record(event, "acme/line-01.mp3", versionId="v1", size=49_197, sequencer="0055")
    assert World().handle({"Records": [sent]}) == [
        arrival("acme/line-01.mp3", removed=removed, version="v1", size=49_197, sequencer="0055")
    ]


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("acme/line+01.mp3", "acme/line 01.mp3"),
        ("a%2Bb+100%25.mp3", "a+b 100%.mp3"),
        ("%E6%97%A5%E6%9C%AC/%F0%9F%98%80.mp3", "日本/😀.mp3"),
        ("it%27s+%22quoted%22.mp3", 'it\'s "quoted".mp3'),
        ("a%2Fb%2Fc.mp3", "a/b/c.mp3"),
    ],
)
def test_a_key_is_taken_out_of_its_url_encoding(sent: str, key: str) -> None:
    assert World().handle({"Records": [record("ObjectCreated:Put", sent)]}) == [arrival(key, removed=False)]


def test_every_record_of_a_message_is_taken_in_in_its_order() -> None:
    world = World()
    world.handle({"Records": [record("ObjectCreated:Put", f"{number}.mp3") for number in range(3)]})
    assert [call[1] for call in world.calls] == ["0.mp3", "1.mp3", "2.mp3"]


def test_a_message_whose_file_cannot_be_taken_in_now_fails_and_comes_again() -> None:
    world = World(intake={"arrive": TryLaterError("throttled")})
    with pytest.raises(TryLaterError):
        world.handle({"Records": [record("ObjectCreated:Put", "a.mp3")]})


@pytest.mark.parametrize("message", [{"Service": "Amazon S3", "Event": "s3:TestEvent"}, {"Records": []}])
def test_s3s_test_event_is_taken_without_a_word(message: dict[str, Any]) -> None:
    assert World().handle(message) == []


# Our own messages


ID = f"{1:032x}"


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ({"scan": "acme/"}, ("intake.scan", "acme/", None)),
        ({"scan": ""}, ("intake.scan", "", None)),
        ({"scan": "acme/", "after": "acme/k.mp3"}, ("intake.scan", "acme/", "acme/k.mp3")),
        ({"folder": ID}, ("intake.walk", ID, None)),
        ({"folder": ID, "cursor": "next"}, ("intake.walk", ID, "next")),
        ({"job": ID}, ("intake.evaluate", ID)),
        ({"watch": ID, "attempt": 2, "ended_watch": 3}, ("watch.follow", ID, 2, 3)),
        ({"watch": ID, "attempt": 2, "ended_watch": 0}, ("watch.follow", ID, 2, 0)),
        ({"lingering": ID, "attempt": 2}, ("lingering.see_to", ID, 2)),
        ({"pause": True}, ("dispatch.pause", ("paused", True))),
        ({"pause": False}, ("dispatch.pause", ("paused", False))),
        ({"held": True}, ("dispatch.show_held", None)),
        ({"held": True, "cursor": "next"}, ("dispatch.show_held", "next")),
    ],
)
def test_each_message_goes_to_whom_it_concerns_and_to_nobody_else(message: dict[str, Any], call: Call) -> None:
    assert World().handle(message) == [call]


def test_a_wake_up_needs_nothing_but_the_dispatching_that_follows_every_message() -> None:
    assert World().handle({"wake": True}) == []


def test_a_watch_is_started_for_the_job_in_that_attempt() -> None:
    rendering = job(1)
    world = World([rendering])
    world.handle({"watch": rendering.id, "attempt": 2})
    assert world.made("watch.start") == [("watch.start", rendering)]


@pytest.mark.parametrize(("known", "attempt"), [([], 2), ([job(1)], 1), ([job(1)], 3)])
def test_no_watch_is_started_for_another_attempt_or_for_a_job_that_is_not_there(known: list[Job], attempt: int) -> None:
    world = World(known)
    world.handle({"watch": ID, "attempt": attempt})
    assert world.made("watch.start") == []


@pytest.mark.parametrize(
    "message",
    [
        "",
        "not json",
        "[]",
        '"wake"',
        "7",
        "null",
        "{}",
        {"hello": "world"},
        {"wake": False},
        {"sweep": "yes"},
        {"pause": "yes"},
        {"scan": None},
        {"job": 7},
        {"watch": ID},
        {"lingering": ID, "attempt": "2"},
        {"Records": {}},
        {"Records": [{}]},
        {"Records": ["x"]},
        {"Records": [None]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {}}}]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": None}]},
        {"Records": [{"s3": {"object": {"key": "a.mp3"}}}]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": 7}}}]},
    ],
    ids=str,
)
def test_a_message_that_nobody_sends_is_for_the_dead_letters_and_changes_nothing(message: Any) -> None:
    world = World()
    with pytest.raises(MessageError):
        world.handle(message)
    assert world.calls == []


def test_the_fault_of_a_message_names_its_fields_and_not_their_content() -> None:
    with pytest.raises(MessageError, match="alpha, beta") as caught:
        World().handle({"beta": "sk-secret", "alpha": 1})
    assert "secret" not in str(caught.value)


# Dispatch


def test_dispatch_is_given_the_end_of_the_functions_time() -> None:
    world = World()
    world.submit.dispatch(NOW + 100)
    assert world.calls == [("dispatch.run", NOW + 100)]


@pytest.mark.parametrize("error", [TryLaterError("x"), ConflictError("x"), NotFoundError("x")])
def test_dispatch_never_fails_what_was_taken_in(error: PortraitcastError) -> None:
    world = World(dispatch={"run": error})
    world.submit.dispatch(NOW + 100)
    assert world.calls == [("dispatch.run", NOW + 100)]


def test_a_fault_of_ours_in_dispatch_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        World(dispatch={"run": KeyError("bug")}).submit.dispatch(NOW + 100)


# The sweep


def test_a_sweep_tells_operators_frees_leaked_slots_and_measures_once_with_its_first_page() -> None:
    first, later = World(), World()
    first.handle({"sweep": True})
    later.handle({"sweep": True, "cursor": "next"})
    for once in ("dispatch.free_leaked", "teller.tell_operators", "teller.measure"):
        assert (len(first.made(once)), later.made(once)) == (1, [])
    assert first.made("table.open_jobs") == [("table.open_jobs", None, SWEEP_PAGE)]
    assert later.made("table.open_jobs") == [("table.open_jobs", "next", SWEEP_PAGE)]


@pytest.mark.parametrize("status", ["waiting", "queued", "submitting", "rendering", "done", "rejected", "failed"])
def test_a_sweep_tells_every_job_and_sees_to_the_watch_of_those_at_the_provider(status: str) -> None:
    seen = job(1, status)
    world = World([seen])
    world.handle({"sweep": True})
    assert world.made("teller.tell") == [("teller.tell", seen)]
    assert world.made("watch.see_to") == [("watch.see_to", seen)] * (status in {"submitting", "rendering"})
    assert world.made("lingering.see_to") == []


def test_a_sweep_sees_to_a_task_that_lives_on_after_its_job_and_starts_no_second_timer() -> None:
    world = World([job(1, "failed", lingering={"until": NOW, "attempt": 2})])
    world.handle({"sweep": True})
    assert world.made("lingering.see_to") == [("lingering.see_to", ID, 2, ("come_again", False))]


def test_a_job_that_changed_a_moment_ago_is_in_somebodys_hands() -> None:
    fresh, old = job(1, changed=NOW - SWEEP_PATIENCE + 1), job(2, changed=NOW - SWEEP_PATIENCE - 1)
    world = World([fresh, old])
    world.handle({"sweep": True})
    assert world.made("teller.tell") == [("teller.tell", old)]
    assert world.made("watch.see_to") == [("watch.see_to", old)]


def test_a_job_that_vanished_meanwhile_is_passed_over() -> None:
    there = job(2)
    world = World([there], gone=(ID,))
    world.handle({"sweep": True})
    assert world.made("teller.tell") == [("teller.tell", there)]


@pytest.mark.parametrize(("more", "sent"), [("next", [("queue.send", {"sweep": True, "cursor": "next"})]), (None, [])])
def test_a_sweep_goes_on_page_by_page(more: str | None, sent: list[Call]) -> None:
    world = World([job(1)], more)
    world.handle({"sweep": True})
    assert world.made("queue.send") == sent
