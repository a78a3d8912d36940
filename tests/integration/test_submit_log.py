"""What submit's handler writes into the log, and back to the queue, when a message can't be handled."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from world import World, portrait, voice

from portraitcast.errors import PortraitcastError, TryLaterError

if TYPE_CHECKING:
    from types import ModuleType

APP = Path(__file__).parents[2] / "functions" / "submit" / "app.py"
TROUBLE = {"WARNING", "ERROR", "CRITICAL"}  # the levels of the dashboard's list of trouble


class Context:
    """What Lambda hands a handler."""

    function_name = "submit"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:submit"
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 120_000


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def app(world: World, monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> ModuleType:
    """Submit's handler over the test's stack; what it logs is in `log`."""
    spec = importlib.util.spec_from_file_location("submit_app", APP)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "workflows", lambda: world.flows)
    monkeypatch.setattr(module.logger.registered_handler, "stream", log)
    return module


def batch(world: World, *messages: dict[str, Any] | str, received: int = 1) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"m-{n}",
                "receiptHandle": f"r-{n}",
                "body": message if isinstance(message, str) else json.dumps(message),
                "attributes": {
                    "ApproximateReceiveCount": str(received),
                    "SentTimestamp": str(int(world.clock() * 1000)),
                },
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:uploads",
                "awsRegion": "us-east-1",
            }
            for n, message in enumerate(messages)
        ]
    }


def trouble_in(log: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["level"] in TROUBLE]


@pytest.mark.parametrize("error", [TryLaterError("DynamoDB throttles"), RuntimeError("a fault of ours")])
def test_a_failed_message_leaves_its_cause(world: World, app: ModuleType, log: io.StringIO, error: Exception) -> None:
    """With the file's key, at a level that the runbook's query finds; the rest of the batch is handled."""
    again: list[tuple[str, int]] = []

    def give_again(_: Any, handle: str, *, after: int) -> None:
        again.append((handle, after))

    world.instead(world.queue, "give_again", give_again)

    def arrive(real: Any, arrival: Any) -> None:
        if arrival.key == "acme/line 日本.wav":
            raise error
        real(arrival)

    world.instead(world.ingest, "arrive", arrive)
    failing, fine = world.put("acme/line 日本.wav", voice()), world.put("acme/line 日本.png", portrait())
    answer = app.handler(batch(world, failing, fine), Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-0"}]}
    (line,) = trouble_in(log)
    assert line["level"] == "ERROR"
    assert str(error) in line["exception"]
    assert type(error).__name__ in line["exception"]
    assert line["key"] == "acme/line 日本.wav"
    assert again == ([("r-0", 10)] if isinstance(error, TryLaterError) else [])


def test_a_failing_job_is_named(world: World, app: ModuleType, log: io.StringIO) -> None:
    job = world.job_id("acme/line")

    def fails(*_: Any, **__: Any) -> None:
        raise PortraitcastError("it broke")

    world.instead(world.sweeper, "reconcile", fails)
    app.handler(batch(world, {"reconcile": job}), Context())
    (line,) = trouble_in(log)
    assert line["job"] == job
    assert "it broke" in line["exception"]


@pytest.mark.parametrize("body", ["no JSON", "[]", '{"unheard": "of"}', "{" + '"a":' * 5000])
def test_an_unreadable_message_is_named(world: World, app: ModuleType, log: io.StringIO, body: str) -> None:
    answer = app.handler(batch(world, body), Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-0"}]}
    (line,) = trouble_in(log)
    assert line["detail"] == body[:1000]
    assert "MessageError" in line["exception"]


def test_trouble_with_dispatching_is_logged(world: World, app: ModuleType, log: io.StringIO) -> None:
    """And fails no message."""

    def fails(*_: Any, **__: Any) -> None:
        raise TryLaterError("DynamoDB throttles")

    world.instead(world.dispatch, "run", fails)
    answer = app.handler(batch(world, {"wake": True}), Context())
    assert answer == {"batchItemFailures": []}
    (line,) = trouble_in(log)
    assert "DynamoDB throttles" in line["exception"]
