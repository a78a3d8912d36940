"""`make approve`: what it sends, and what it says where there is nothing to approve."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

import approve
from deployed import Deployed

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDED = {"job": "j1", "revision": 2, "status": "waiting", "message": "It costs …", "error": {"code": "ApprovalNeeded"}}
NEEDED["cost_cny"] = {"estimate": 12.5}
QUEUED = {"job": "j1", "revision": 3, "status": "queued", "message": "Waiting for its turn.", "error": None}


class Stack:
    """A stack's report and queue: the report changes once an order was sent."""

    def __init__(self, before: dict[str, Any] | None, after: dict[str, Any] | None = None) -> None:
        self.report, self.after = before, after
        self.sent: list[dict[str, Any]] = []

    exceptions = SimpleNamespace(NoSuchKey=ClientError)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803  # boto3's names
        assert (Bucket, Key) == ("results", "acme/line.json")
        if self.report is None:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(json.dumps(self.report).encode())}

    def send_message(self, *, QueueUrl: str, MessageBody: str) -> None:  # noqa: N803  # as above
        assert QueueUrl == "queue"
        self.sent.append(json.loads(MessageBody))
        self.report = self.after


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stack]:
    def make(before: dict[str, Any] | None, after: dict[str, Any] | None = None) -> Stack:
        there = Stack(before, after)
        outputs = {"ResultsBucket": "results", "UploadsQueueUrl": "queue"}
        found = Deployed("p", "the stack", lambda _service: there, outputs, {}, {}, is_local=True)
        monkeypatch.setattr(approve, "find_stack", lambda _environment: found)
        monkeypatch.setenv("NAME", "acme/line")
        return there

    return make


def test_an_order(stack: Callable[..., Stack], capsys: pytest.CaptureFixture[str]) -> None:
    there = stack(NEEDED, QUEUED)
    assert approve.main() == 0
    assert there.sent == [{"approve": "j1", "revision": 2, "cny": 12.5}]
    assert capsys.readouterr().out.splitlines()[-1] == "acme/line is queued: Waiting for its turn."


@pytest.mark.parametrize(("report", "says"), [(None, "has no report of acme/line"), (QUEUED, "waits for no approval")])
def test_nothing_to_approve(
    stack: Callable[..., Stack], capsys: pytest.CaptureFixture[str], report: dict[str, Any] | None, says: str
) -> None:
    there = stack(report)
    assert approve.main() == 1
    assert there.sent == []
    assert says in capsys.readouterr().err


def test_without_a_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NAME", raising=False)
    assert approve.main() == 2
    assert "make approve NAME=acme/line-01" in capsys.readouterr().err
