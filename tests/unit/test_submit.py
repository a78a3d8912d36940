"""What submit does with each message of its queues: fakes stand for everything that it hands on to."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from portraitcast.adapters.queues import HOPS_MAX, MAX_DELAY, Queue
from portraitcast.domain.account import Account
from portraitcast.domain.problems import Problem
from portraitcast.domain.uploads import Asset, Facts
from portraitcast.errors import ConflictError, MessageError, NotFoundError, PortraitcastError, TryLaterError
from portraitcast.workflows.ingest import Arrival, Prepared
from portraitcast.workflows.submit import PROBLEMS, RESERVE_SECONDS, Origin, Received, Submit
from portraitcast.workflows.sweep import SWEEP_PAGE, SWEEP_PATIENCE, Sweep
from unit.samples import living

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from portraitcast.domain.job import Job

NOW = 1_772_337_600.0
ENDS_AT = NOW + 100
UNTIL = ENDS_AT - RESERVE_SECONDS
ID = f"{1:032x}"
APP = Path(__file__).parents[2] / "functions" / "submit" / "app.py"

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


class Sqs:
    """Amazon SQS, noting what is asked of it."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.given_again: list[tuple[str, int]] = []
        self.given_to: list[str] = []
        self.trouble: Exception | None = None

    def send_message(self, **asked: Any) -> None:
        self.sent.append({"body": json.loads(asked["MessageBody"]), "after": asked["DelaySeconds"]})

    def change_message_visibility(self, **asked: Any) -> None:
        if self.trouble:
            raise self.trouble
        self.given_again.append((asked["ReceiptHandle"], asked["VisibilityTimeout"]))
        self.given_to.append(asked["QueueUrl"])


class World:
    """A submit among fakes, and the calls that it made."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[Call] = []
        self.sqs = Sqs()
        self.queue = Queue(cast("Any", self.sqs), "https://sqs.example/1/uploads")
        self.answers_queue = Queue(cast("Any", self.sqs), "https://sqs.example/1/answers")
        ingest, evaluate, dispatch, sweep = (
            cast("Any", Part(name, self.calls, answers.get(name)))
            for name in ("ingest", "evaluate", "dispatch", "sweep")
        )
        self.submit = Submit(
            *(ingest, evaluate, dispatch, sweep, self.queue),
            bucket="uploads",
            prefix=answers.get("prefix", ""),
            clock=lambda: NOW,
        )

    def handle(self, message: Any, origin: Origin = Origin.CALLER) -> list[Call]:
        text = message if isinstance(message, str) else json.dumps(message)
        self.submit.handle(Received.from_text(text, NOW - 5, origin), ENDS_AT)
        return self.calls


def record(event: str, key: str, *, bucket: str | None = "uploads", **fields: Any) -> dict[str, Any]:
    there = {"name": bucket} if bucket else {}
    return {
        "eventName": event,
        "eventTime": "2026-03-01T03:59:00.000Z",
        "s3": {"bucket": there, "object": {"key": key, **fields}},
    }


AT = datetime.fromisoformat("2026-03-01T03:59:00+00:00").timestamp()


# S3's events


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
def test_an_upload_and_a_deletion(event: str, removed: bool) -> None:
    sent = record(event, "acme/line-01.mp3", versionId="v1", eTag="e1", size=49_197, sequencer="0055")
    arrival = Arrival("acme/line-01.mp3", "v1", "e1", 49_197, "0055", removed=removed, at=AT)
    assert World().handle({"Records": [sent]}) == [("ingest.arrive", arrival)]


def test_a_bucket_without_versions() -> None:
    """Its events name no version; one without a size neither (a deletion), so the bucket is asked."""
    assert World().handle({"Records": [record("ObjectCreated:Put", "a.mp3", size=1, eTag="e")]}) == [
        ("ingest.arrive", Arrival("a.mp3", "null", "e", 1, at=AT))
    ]
    assert World().handle({"Records": [record("ObjectRemoved:Delete", "a.mp3")]}) == [
        ("ingest.arrive", Arrival("a.mp3", removed=True, at=AT))
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
def test_a_key_comes_url_encoded(sent: str, key: str) -> None:
    ((_, arrival),) = World().handle({"Records": [record("ObjectCreated:Put", sent)]})
    assert arrival.key == key


def test_every_record_is_ingested_in_order() -> None:
    calls = World().handle({"Records": [record("ObjectCreated:Put", f"{number}.mp3") for number in range(3)]})
    assert [arrival.key for _, arrival in calls] == ["0.mp3", "1.mp3", "2.mp3"]


@pytest.mark.parametrize("time", [None, 7, "yesterday", "9999-99-99"])
def test_an_event_without_a_time(time: object) -> None:
    ((_, arrival),) = World().handle({"Records": [{**record("ObjectCreated:Put", "a.mp3"), "eventTime": time}]})
    assert arrival.at is None


@pytest.mark.parametrize("bucket", ["results", "", None])
def test_an_event_of_another_bucket(bucket: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """It is left alone, and the rest of the message is ingested."""
    other = record("ObjectCreated:Put", "a.mp3", bucket=bucket)
    calls = World().handle({"Records": [other, record("ObjectCreated:Put", "b.mp3")]})
    assert [arrival.key for _, arrival in calls] == ["b.mp3"]
    assert "another bucket" in caplog.text


def test_a_file_that_can_t_be_ingested_now() -> None:
    """Its message fails and comes again."""
    world = World(ingest={"arrive": TryLaterError("throttled")})
    with pytest.raises(TryLaterError):
        world.handle({"Records": [record("ObjectCreated:Put", "a.mp3")]})


def test_a_key_that_no_object_has() -> None:
    world = World(ingest={"arrive": ValueError("A key has 1030 bytes")})
    with pytest.raises(MessageError, match="1030 bytes"):
        world.handle({"Records": [record("ObjectCreated:Put", "a.mp3")]})


@pytest.mark.parametrize("message", [{"Service": "Amazon S3", "Event": "s3:TestEvent"}, {"Records": []}])
def test_s3s_test_event_is_taken_silently(message: dict[str, Any]) -> None:
    assert World().handle(message) == []


# Our own messages


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ({"ingest": "acme/a.mp3"}, ("ingest.arrive", Arrival("acme/a.mp3"))),
        ({"scan": "acme/"}, ("ingest.scan", "acme/", None, UNTIL)),
        ({"scan": ""}, ("ingest.scan", "", None, UNTIL)),
        ({"scan": "acme/", "after": "acme/k.mp3"}, ("ingest.scan", "acme/", "acme/k.mp3", UNTIL)),
        ({"folder": ID}, ("evaluate.folder", ID, None, UNTIL)),
        ({"folder": ID, "cursor": "next"}, ("evaluate.folder", ID, "next", UNTIL)),
        ({"reconcile": ID}, ("sweep.reconcile", ID)),
        ({"pause": True}, ("dispatch.pause", NOW - 5, ("paused", True))),
        ({"pause": False}, ("dispatch.pause", NOW - 5, ("paused", False))),
        ({"pause": True, "at": "2026-03-01T03:59:00Z"}, ("dispatch.pause", AT, ("paused", True))),
        ({"pause": True, "at": "now"}, ("dispatch.pause", NOW - 5, ("paused", True))),
        ({"held": True}, ("dispatch.show_held", None, UNTIL)),
        ({"held": True, "cursor": "next"}, ("dispatch.show_held", "next", UNTIL)),
        ({"sweep": True}, ("sweep.run", None, UNTIL)),
        ({"sweep": True, "cursor": "next"}, ("sweep.run", "next", UNTIL)),
        ({"sweep": True, "cursor": 7, "hops": 3}, ("sweep.run", None, UNTIL)),
    ],
    ids=str,
)
def test_each_message_goes_where_it_belongs(message: dict[str, Any], call: Call) -> None:
    assert World().handle(message) == [call]


@pytest.mark.parametrize(
    ("message", "dispatches"),
    [
        ({"wake": True}, True),
        ({"sweep": True}, True),
        ({"pause": False}, True),
        ({"reconcile": ID}, False),
        ({"folder": ID}, False),
        ({"Records": []}, False),
    ],
    ids=str,
)
def test_what_dispatching_follows(message: dict[str, Any], dispatches: bool) -> None:
    """What evaluating a job brings into the queue has a wake-up of its own."""
    assert Received(message, NOW).asks_to_dispatch is dispatches
    assert not [call for call in World().handle(message) if call[0] == "dispatch.run"]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "not json",
        "[" * 100_000,
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
        {"ingest": 7},
        {"reconcile": 7},
        {"folder": None},
        {"held": False},
        {"Records": {}},
        {"Records": [{}]},
        {"Records": ["x"]},
        {"Records": [None]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {}}}]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": None}]},
        {"Records": [{"s3": {"object": {"key": "a.mp3"}}}]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": 7}}}]},
    ],
    ids=lambda message: str(message)[:40],
)
def test_a_message_for_the_dead_letters(message: Any) -> None:
    world = World()
    with pytest.raises(MessageError):
        world.handle(message)
    assert (world.calls, world.sqs.sent) == ([], [])


# What prepare answers

SHA = "a" * 64
ASSET = {"key": f"assets/{SHA}-1.wav", "sha256": "b" * 64, "bytes": 9000, "type": "audio/wav"}
VOICE = {"sha256": SHA, "seconds": 6.05, "type": "mp3", "changes": [], "plain": True, "asset": None}
VOICE |= {"peak_dbfs": -3.1, "loudness": None, "pauses": [[1.0, 1.5]]}  # as prepare says them; not kept so far
MADE = VOICE | {"type": "m4a", "changes": ["decoded from AAC"], "plain": False, "asset": ASSET}
PICTURE = {"sha256": SHA, "width": 900, "height": 800, "type": "png", "changes": [], "plain": True, "asset": None}
LARGE = PICTURE | {"width": 5000, "asset": ASSET | {"key": f"assets/{SHA}-1.jpg", "type": "image/jpeg"}}
REFUSED = {"code": "VoiceSilent", "message": "It is silent.", "what_to_do": "Record it again.", "limit": None}


def answer(key: object = "acme/line-01.mp3", **said: Any) -> dict[str, Any]:
    return {"prepared": {"key": key, "version": "v1", "etag": "e1"} | said}


@pytest.mark.parametrize(
    ("message", "facts"),
    [
        (answer(facts=VOICE), Facts(SHA, "mp3", seconds=6.05)),
        (
            answer(facts=MADE),
            Facts(SHA, "m4a", 6.05, changes=("decoded from AAC",), plain=False, asset=Asset(**ASSET)),  # type: ignore[arg-type]  # a dict of both
        ),
        (answer("anna.png", facts=PICTURE), Facts(SHA, "png", width=900, height=800)),
        (answer(facts=VOICE | {"seconds": 6}), Facts(SHA, "mp3", seconds=6.0)),
        (
            answer(problem=REFUSED | {"measured": "digital silence"}),
            Facts(problem=Problem("VoiceSilent", "It is silent.", "Record it again.", measured="digital silence")),
        ),
        (answer(gone=True), None),
    ],
    ids=["plain voice", "made voice", "picture", "whole seconds", "problem", "gone"],
)
def test_what_prepare_answers(message: dict[str, Any], facts: Facts | None) -> None:
    key = message["prepared"]["key"]
    assert World().handle(message) == [("ingest.prepared", Prepared(key, "v1", "e1", facts))]


def test_a_plain_picture_may_have_a_smaller_one() -> None:
    ((_, prepared),) = World().handle(answer("anna.png", facts=LARGE))
    assert (prepared.facts.plain, prepared.facts.asset.key) == (True, f"assets/{SHA}-1.jpg")


def with_each(name: str, *values: object, of: dict[str, Any] = VOICE) -> list[dict[str, Any]]:
    """Return answers whose facts are all right but for one."""
    return [{"facts": of | {name: value}} for value in values]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"gone": False},
        {"gone": "yes"},
        {"facts": None},
        {"facts": []},
        {"facts": {}},
        {"facts": VOICE | {"problem": REFUSED}},
        *({"facts": {k: v for k, v in VOICE.items() if k != name}} for name in ("sha256", "seconds", "type")),
        *with_each("seconds", 0, -1, "x", None, [], 1e99, 10**400),
        *with_each("sha256", "", "A" * 64, "a" * 63, 7, None),
        *with_each("type", "", 7, "x" * 5000, "\ud800"),
        *with_each("changes", None, 7, [7], [""], [[]], ["x"] * 21),
        *with_each("plain", False, None, "yes", 0),
        {"facts": VOICE | {"asset": {}}},
        {"facts": VOICE | {"asset": "assets/x"}},
        *with_each("asset", *(ASSET | {"key": key} for key in ("", 7, f"{SHA}-1.wav", "assets/other-1")), of=MADE),
        *with_each("asset", *(ASSET | {"bytes": size} for size in (0, -1, 2.5, True, "9", 10**30)), of=MADE),
        *with_each("asset", *(ASSET | {"sha256": digest} for digest in ("", "x" * 64)), of=MADE),
        {"facts": MADE | {"asset": ASSET | {"type": ""}}},
        {"facts": PICTURE},
        {"problem": {}},
        {"problem": "broken"},
        {"problem": REFUSED | {"code": 7}},
        {"problem": REFUSED | {"message": ""}},
        {"problem": REFUSED | {"what_to_do": None}},
        {"problem": REFUSED | {"limit": 60}},
        *({"problem": REFUSED | {"code": code}} for code in ("DeliveryFailed", "PortraitTooSmall", "OverBudget")),
        {"key": 7, "facts": VOICE},
        {"key": "", "facts": VOICE},
        {"key": "a" * 1100 + ".mp3", "facts": VOICE},
        {"key": "acme/line-01.json", "facts": VOICE},
        {"key": "acme/line-01.txt", "facts": VOICE},
        {"version": None, "facts": VOICE},
        {"key": "anna.png", "facts": VOICE},
        *({"key": "anna.png"} | said for said in with_each("width", 0, -1, 2.5, True, "9", None, of=PICTURE)),
    ],
    ids=lambda said: str(said)[:60],
)
def test_an_answer_that_no_file_can_have(said: dict[str, Any]) -> None:
    """It goes to the dead letters: a voice without a length, or another file's asset, is never paid for."""
    world = World()
    with pytest.raises(MessageError):
        world.handle(answer(**said))
    assert world.calls == []


@pytest.mark.parametrize("answered", [None, [], "done", 7])
def test_an_answer_that_is_none(answered: object) -> None:
    with pytest.raises(MessageError):
        World().handle({"prepared": answered})


# Where a message may come from: prepare decodes strangers' bytes, and may say nothing but what it found

ORDERS: list[dict[str, Any]] = [
    {"Records": [record("ObjectCreated:Put", "a.mp3")]},
    {"wake": True},
    {"sweep": True},
    {"folder": "f"},
    {"ingest": "a.mp3"},
    {"reconcile": ID},
    {"held": True},
    {"pause": False},
    {"scan": ""},
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: next(iter(order)))
def test_no_order_comes_from_the_answers_queue(order: dict[str, Any]) -> None:
    """Neither alone nor beside an answer; from where it belongs it is obeyed."""
    for hostile in (order, answer(facts=VOICE) | order):
        world = World()
        with pytest.raises(MessageError, match="the answers queue takes nothing but an answer of prepare"):
            world.handle(hostile, Origin.ANSWERS)
        assert world.calls == []
    World().handle(order, Origin.UPLOADS)


def test_an_answer_comes_from_the_answers_queue() -> None:
    said = answer(facts=VOICE)
    assert [call for call, _ in World().handle(said, Origin.ANSWERS)] == ["ingest.prepared"]
    assert [call for call, _ in World().handle(said, Origin.CALLER)] == ["ingest.prepared"]
    with pytest.raises(MessageError, match="does not come from the uploads queue"):
        World().handle(said, Origin.UPLOADS)


def test_prepare_says_its_own_problems_only() -> None:
    """Submit knows the very codes that the decoders' layer has."""
    text = (APP.parents[2] / "layers" / "media" / "portraitcast_media" / "problems.py").read_text("utf-8")
    codes = set(re.findall(r'code="(\w+)"', text))
    assert set.union(*PROBLEMS.values()) == codes
    assert all(code.startswith((kind.name.title(), "File")) for kind, known in PROBLEMS.items() for code in known)


def test_a_fault_names_fields_and_no_content() -> None:
    with pytest.raises(MessageError, match="alpha, beta") as caught:
        World().handle({"beta": "sk-secret", "alpha": 1})
    assert "secret" not in str(caught.value)


# Dispatch


def test_dispatch_is_given_the_functions_end() -> None:
    world = World()
    world.submit.dispatch(ENDS_AT)
    assert world.calls == [("dispatch.run", ENDS_AT)]


@pytest.mark.parametrize(
    "error", [TryLaterError("x"), ConflictError("x"), NotFoundError("x"), KeyError("a fault of ours")], ids=repr
)
def test_dispatch_never_fails_what_it_follows(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The schedule tries again; the fault stands in the log with its place."""
    World(dispatch={"run": error}).submit.dispatch(ENDS_AT)
    assert "dispatch was broken off" in caplog.text
    assert type(error).__name__ in caplog.text


# Hops: Lambda's own detection of loops is off for submit


def test_messages_count_their_hops() -> None:
    world: World = World(ingest={"scan": lambda *_: world.queue.send({"scan": "", "after": "k"})})
    world.handle({"scan": ""})
    world.handle({"scan": "", "after": "k", "hops": 7})
    assert [message["body"]["hops"] for message in world.sqs.sent] == [1, 8]


def test_dispatching_goes_on_counting() -> None:
    """A wake-up that makes a wake-up is a chain too."""
    world: World = World(dispatch={"run": lambda *_: world.queue.send({"wake": True})})
    for message in ({"wake": True, "hops": 7}, {"wake": True, "hops": 3}, {"reconcile": ID, "hops": 99}):
        world.handle(message)
    world.submit.dispatch(ENDS_AT)
    world.submit.dispatch(ENDS_AT)
    assert [message["body"]["hops"] for message in world.sqs.sent] == [8, 1]


def test_a_chain_without_end_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    world: World = World(ingest={"scan": lambda *_: world.queue.send({"scan": "", "after": "k"})})
    world.handle({"scan": "", "hops": HOPS_MAX - 1})
    world.handle({"scan": "", "hops": HOPS_MAX})
    assert [message["body"]["hops"] for message in world.sqs.sent] == [HOPS_MAX]
    assert "a chain of messages has no end" in caplog.text


@pytest.mark.parametrize(("after", "delay"), [(1e9, MAX_DELAY), (0.2, 1), (900, 900)])
def test_a_delay_begins_a_new_chain(after: float, delay: int) -> None:
    world: World = World(ingest={"scan": lambda *_: world.queue.send({"wake": True}, after=after)})
    world.handle({"scan": "", "hops": HOPS_MAX})
    assert world.sqs.sent == [{"body": {"wake": True}, "after": delay}]


@pytest.mark.parametrize("hops", [-1, "7", None, 1.5])
def test_hops_that_nobody_sent(hops: object) -> None:
    assert Received({"wake": True, "hops": hops}, NOW).hops == 0


# The handler: a batch of the queue, or one event


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the function's module as Lambda loads it, over a submit among fakes."""
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Portraitcast")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "a-stack")
    spec = importlib.util.spec_from_file_location("submit_app", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "submit_app", module)
    spec.loader.exec_module(module)
    yield module
    module.logger.clear_state()


def serve(app: Any, world: World) -> None:
    """Let the function's handler work with a submit among fakes."""
    app.workflows = lambda: SimpleNamespace(submit=world.submit, queue=world.queue, answers_queue=world.answers_queue)


CONTEXT: Any = SimpleNamespace(
    function_name="submit",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:eu-central-1:123456789012:function:submit",
    aws_request_id="r-1",
    get_remaining_time_in_millis=lambda: 90_000,
)


def batch(*messages: Any, received: int = 1, queue: str = "uploads") -> dict[str, Any]:
    """Return an event as Lambda makes it of messages of a queue."""
    return {
        "Records": [
            {
                "messageId": f"m-{number}",
                "receiptHandle": f"h-{number}",
                "body": message if isinstance(message, str) else json.dumps(message),
                "attributes": {"ApproximateReceiveCount": str(received), "SentTimestamp": "1772337600000"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:eu-central-1:123456789012:{queue}",
                "awsRegion": "eu-central-1",
            }
            for number, message in enumerate(messages)
        ]
    }


def test_a_batch_is_handled_then_dispatched_once(app: ModuleType) -> None:
    world = World()
    serve(app, world)
    assert app.handler(batch({"reconcile": ID}, {"wake": True}, {"wake": True}), CONTEXT) == {"batchItemFailures": []}
    assert [call[0] for call in world.calls] == ["sweep.reconcile", "dispatch.run"]


def test_a_batch_of_answers(app: ModuleType) -> None:
    """Lambda says which queue a message comes of; what can't be kept now comes again from that one."""
    world = World(ingest={"prepared": TryLaterError("DynamoDB is ill")})
    serve(app, world)
    told = app.handler(batch(answer(facts=VOICE), {"wake": True}, {"pause": False}, queue="answers"), CONTEXT)
    assert [failed["itemIdentifier"] for failed in told["batchItemFailures"]] == ["m-0", "m-1", "m-2"]
    assert [call[0] for call in world.calls] == ["ingest.prepared"]
    assert (world.sqs.given_again, world.sqs.given_to) == ([("h-0", 10)], ["https://sqs.example/1/answers"])


def test_a_batch_that_nothing_follows(app: ModuleType) -> None:
    world = World()
    serve(app, world)
    app.handler(batch({"reconcile": ID}), CONTEXT)
    assert [call[0] for call in world.calls] == ["sweep.reconcile"]


def test_one_event_as_s3_would_send_it(app: ModuleType) -> None:
    """A console's test button and `sam local invoke` send such; the fault of one is told by its failing."""
    world = World()
    serve(app, world)
    assert app.handler({"Records": [record("ObjectCreated:Put", "a.mp3")]}, CONTEXT) == {}
    assert app.handler({"wake": True}, CONTEXT) == {}
    assert [call[0] for call in world.calls] == ["ingest.arrive", "dispatch.run"]
    with pytest.raises(MessageError):
        app.handler({"hello": "world"}, CONTEXT)


def test_only_the_messages_that_failed_come_again(app: ModuleType) -> None:
    world = World(sweep={"reconcile": lambda job: (_ for _ in ()).throw(TryLaterError("x")) if job == "b" else None})
    serve(app, world)
    answer = app.handler(batch({"reconcile": "a"}, {"reconcile": "b"}, {"hello": 1}, {"wake": True}), CONTEXT)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-2"}]}
    assert [call[0] for call in world.calls] == ["sweep.reconcile", "sweep.reconcile", "dispatch.run"]


@pytest.mark.parametrize(("received", "after"), [(1, 10), (2, 30), (3, 120), (9, 120)])
def test_trouble_that_passes_comes_again_soon(app: ModuleType, received: int, after: int) -> None:
    """Later each time, and long before the queue's own timeout."""
    world = World(sweep={"reconcile": TryLaterError("throttled")})
    serve(app, world)
    app.handler(batch({"reconcile": ID}, received=received), CONTEXT)
    assert world.sqs.given_again == [("h-0", after)]


def test_a_message_that_nobody_sends_waits(app: ModuleType) -> None:
    """Trying it again soon mends nothing."""
    world = World()
    serve(app, world)
    app.handler(batch({"hello": "world"}), CONTEXT)
    assert world.sqs.given_again == []


def test_sqs_that_can_t_give_it_again(app: ModuleType) -> None:
    """The message comes again after the queue's timeout all the same, and the batch goes on."""
    world = World(sweep={"reconcile": TryLaterError("throttled")})
    world.sqs.trouble = TryLaterError("SQS is throttled too")
    serve(app, world)
    answer = app.handler(batch({"reconcile": ID}, {"wake": True}), CONTEXT)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-0"}]}
    assert world.calls[-1][0] == "dispatch.run"


@pytest.mark.parametrize("error", [TryLaterError("throttled"), KeyError("a fault of ours"), PortraitcastError("x")])
@pytest.mark.parametrize(
    ("part", "message", "named"),
    [
        ({"sweep": {"reconcile": ...}}, {"reconcile": ID}, ID),
        ({"ingest": {"arrive": ...}}, {"Records": [record("ObjectCreated:Put", "acme/line-01.mp3")]}, "acme/line-01"),
    ],
    ids=["job", "key"],
)
def test_what_fails_is_logged_with_its_name(
    app: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    part: dict[str, dict[str, Any]],
    message: dict[str, Any],
    named: str,
    error: Exception,
) -> None:
    """The batch processor itself logs an exception at debug level only."""
    world = World(**{name: dict.fromkeys(methods, error) for name, methods in part.items()})
    serve(app, world)
    out = io.StringIO()
    monkeypatch.setattr(app.logger.registered_handler, "stream", out)
    app.handler(batch(message), CONTEXT)
    (line,) = [json.loads(text) for text in out.getvalue().splitlines() if "could not be handled" in text]
    assert line["level"] == "ERROR"
    assert named in line["detail"]
    assert type(error).__name__ in line["exception"]
    assert re.search(r"submit\.py", line["exception"])


# The sweep


class Swept:
    """A sweep among fakes, over jobs and folders that need attention."""

    def __init__(
        self, jobs: list[Job], *, cursor: str | None = None, folders: tuple[str, ...] = (), **more: Any
    ) -> None:
        self.calls: list[Call] = []
        by_id = {job.id: job for job in jobs}
        page = SimpleNamespace(jobs=more.get("ids", list(by_id)), folders=list(folders), cursor=cursor)
        pages = [page, SimpleNamespace(jobs=[], folders=[], cursor=None)]
        table = {
            "job": by_id.get,
            "open_entries": lambda *_: pages.pop(0),
            "account": Account(),
            "update_account": lambda change: (Account(), change(Account())),
            "queue": [],
            "folder": lambda _: SimpleNamespace(reevaluate_at=more.get("due")),
            **more.get("table", {}),
        }
        answers = {"table": table, **more.get("answers", {})}
        parts = [
            Part(name, self.calls, answers.get(name)) for name in ("table", "evaluate", "monitor", "queue", "publish")
        ]
        self.sweep = Sweep(*(cast("Any", part) for part in parts), clock=lambda: more.get("now", NOW))

    def run(self, cursor: str | None = None) -> Swept:
        self.sweep.run(cursor, ENDS_AT)
        return self

    def made(self, *names: str) -> list[Call]:
        return [call for call in self.calls if call[0] in names]


def old(status: str = "rendering", **known: Any) -> Job:
    """Return a job that changed an hour ago."""
    return living(status, **{"changed_at": NOW - 3600, **known})


def test_a_sweep_does_some_things_once() -> None:
    """With its first page: operators' notices, leaked slots, measures."""
    first, later = Swept([]).run(), Swept([]).run("next")
    for once in ("publish.operators", "publish.measure"):
        assert (len(first.made(once)), later.made(once)) == (1, [])
    assert first.made("table.open_entries") == [("table.open_entries", None, SWEEP_PAGE)]
    assert later.made("table.open_entries") == [("table.open_entries", "next", SWEEP_PAGE)]


@pytest.mark.parametrize("status", ["waiting", "queued", "creating", "rendering", "done", "rejected", "failed"])
@pytest.mark.parametrize("follow_up", [False, True])
def test_what_reconciling_a_job_does(status: str, follow_up: bool) -> None:
    """One code path for the message and for the sweep: publish, monitor, orphans; evaluate what files may change."""
    seen = old(status, follow_up=follow_up)
    evaluated = status in {"waiting", "queued", "rejected"} or (follow_up and status in {"done", "failed"})
    calls = [
        ("publish.job", seen),
        ("monitor.ensure_monitored", seen),
        ("monitor.release_orphans", seen),
        *([("evaluate.job", seen.id)] * evaluated),
    ]
    swept, asked = Swept([seen]).run(), Swept([seen])
    asked.sweep.reconcile(seen.id)
    for done in (swept, asked):
        assert done.made("publish.job", "monitor.ensure_monitored", "monitor.release_orphans", "evaluate.job") == calls


def test_a_fresh_job_is_in_somebodys_hands() -> None:
    for changed, swept in ((NOW - SWEEP_PATIENCE + 1, False), (NOW - SWEEP_PATIENCE, True)):
        seen = old(changed_at=changed)
        assert bool(Swept([seen]).run().made("publish.job")) is swept


def test_a_job_that_is_not_there() -> None:
    swept = Swept([], ids=[ID]).run()
    swept.sweep.reconcile(ID)
    assert swept.made("publish.job") == []


def test_one_jobs_trouble_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    bad, good = old(), replace(old("done"), id="f" * 32)
    answers = {"monitor": {"ensure_monitored": lambda job: 1 / 0 if job is bad else None}}
    swept = Swept([bad, good], answers=answers).run()
    assert ("publish.job", good) in swept.calls
    assert "a job could not be reconciled" in caplog.text


@pytest.mark.parametrize(
    ("due", "reminded"), [(None, False), (NOW, False), (NOW - SWEEP_PATIENCE - 1, True), (NOW + 9, False)]
)
def test_a_lost_re_evaluation(due: float | None, reminded: bool) -> None:
    swept = Swept([], folders=("f",), due=due).run()
    assert swept.made("evaluate.folder_at") == [("evaluate.folder_at", "f", NOW)] * reminded


@pytest.mark.parametrize(
    ("now", "sent"), [(NOW, []), (ENDS_AT + 1, [("queue.send", {"sweep": True, "cursor": "next"})])]
)
def test_a_sweep_goes_on_page_by_page(now: float, sent: list[Call]) -> None:
    """Within its time by itself, then by a message."""
    swept = Swept([], cursor="next", now=now).run()
    assert swept.made("queue.send") == sent
    assert len(swept.made("table.open_entries")) == (1 if sent else 2)


@pytest.mark.parametrize(
    ("owner", "status", "kept"),
    [
        ("#1", "rendering", True),
        ("#1", "creating", True),
        ("#1", "done", False),
        ("#1", "queued", False),
        ("#2", "rendering", False),
    ],
)
def test_a_leaked_slot_is_released(owner: str, status: str, kept: bool) -> None:
    """Whose job, read consistently, is no longer at the provider in that attempt."""
    seen = old(status, attempt=1)
    account = Account().take_slot(seen.id + owner, "emo-v1")
    after: list[Account] = []

    def update(change: Any) -> tuple[Account, Account]:
        after.append(change(account))
        return account, after[-1]

    Swept([seen], table={"account": account, "update_account": update}).run()
    assert bool(after[0].tasks_in_flight) is kept


# S3's events by EventBridge


def bridged(kind: str, key: str, *, bucket: str = "uploads", **fields: Any) -> dict[str, Any]:
    """Return an event as S3 sends it to EventBridge (Amazon S3, "EventBridge event message structure")."""
    return {
        "version": "0",
        "detail-type": kind,
        "source": "aws.s3",
        "time": "2026-03-01T03:59:00Z",
        "detail": {"version": "0", "bucket": {"name": bucket}, "object": {"key": key, **fields}},
    }


def test_eventbridge_tells_of_an_upload() -> None:
    """Its keys are not encoded."""
    event = bridged("Object Created", "a/1+1 %2B.mp3", size=5, etag="e1", sequencer="0055", **{"version-id": "v1"})
    arrival = Arrival("a/1+1 %2B.mp3", "v1", "e1", 5, "0055", at=AT)
    assert World().handle(event) == [("ingest.arrive", arrival)]


def test_eventbridge_tells_of_no_versions() -> None:
    event = bridged("Object Created", "a.mp3", size=5, etag="e1", sequencer="0055")
    assert World().handle(event) == [("ingest.arrive", Arrival("a.mp3", "null", "e1", 5, "0055", at=AT))]


def test_eventbridge_tells_of_a_deletion() -> None:
    event = bridged("Object Deleted", "a.mp3", sequencer="0055", **{"version-id": "v2"})
    assert World().handle(event) == [("ingest.arrive", Arrival("a.mp3", "v2", "", None, "0055", removed=True, at=AT))]


def test_other_events_of_s3_are_left_alone() -> None:
    assert World().handle(bridged("Object Tags Added", "a.mp3")) == []


def test_eventbridge_of_another_bucket_is_left_alone() -> None:
    assert World().handle(bridged("Object Created", "a.mp3", bucket="theirs", size=1, etag="e")) == []


def test_eventbridge_without_a_key_is_a_fault() -> None:
    event = bridged("Object Created", "a.mp3")
    del event["detail"]["object"]
    with pytest.raises(MessageError, match="lacks its key"):
        World().handle(event)


@pytest.mark.parametrize(("key", "inside"), [("in/a/b.mp3", "a/b.mp3"), ("out/a/b.json", None), ("a/b.mp3", None)])
def test_keys_begin_behind_the_prefix(key: str, inside: str | None) -> None:
    world = World(prefix="in/")
    for message in (
        bridged("Object Created", key, size=1, etag="e"),
        {"Records": [record("ObjectCreated:Put", key, size=1)]},
    ):
        world.calls.clear()
        assert [arrival.key for _, arrival in world.handle(message)] == ([inside] if inside else [])
