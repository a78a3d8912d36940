"""How `make invoke` fills an event of events/ with a job of the stack."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

import pytest
from botocore.exceptions import ClientError

from invoke import Filler, InvokeError, Target, chosen_function, kept_away, keys_of, moved, name_of, read_event

JOB = "böx/my line + 1"
MACHINE = "arn:aws:states:us-east-1:000000000000:stateMachine:StateMachine-1A2B3C4D5E6F"
REPORT = {"job": "f" * 32, "status": "rendering"}
INPUT = {"job": "f" * 32, "attempt": 2, "task": "their-task", "execution": 3, "sent_at": 1.0, "wait_seconds": 7}


@dataclass
class Aws:
    """The few calls that filling makes."""

    keys: list[str] = field(default_factory=list)
    executions: list[dict[str, Any]] = field(default_factory=list)
    mappings: dict[str, bool] = field(default_factory=dict)

    def client(self, _service: str) -> Aws:
        return self

    def list_objects_v2(self, Prefix: str, **_: Any) -> dict[str, Any]:  # noqa: N803 (boto3's name)
        return {"Contents": [{"Key": key} for key in self.keys if key.startswith(Prefix)]}

    def head_object(self, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803 (boto3's name)
        if Key not in self.keys:
            raise ClientError({"Error": {"Code": "404"}}, "HeadObject")
        return {"VersionId": "v1", "ETag": '"e1"', "ContentLength": 7}

    def get_paginator(self, _name: str) -> Aws:
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        mappings = [{"UUID": each, "State": self.state(each), "EventSourceArn": "a:q"} for each in self.mappings]
        return [{"executions": self.executions, "EventSourceMappings": mappings}]

    def describe_execution(self, executionArn: str) -> dict[str, Any]:  # noqa: N803
        return next(each for each in self.executions if each["executionArn"] == executionArn)

    def state(self, mapping: str) -> str:
        return "Enabled" if self.mappings[mapping] else "Disabled"

    def get_event_source_mapping(self, UUID: str) -> dict[str, str]:  # noqa: N803
        return {"State": self.state(UUID)}

    def update_event_source_mapping(self, UUID: str, Enabled: bool) -> None:  # noqa: N803
        self.mappings[UUID] = Enabled

    def get_queue_url(self, **_: Any) -> dict[str, str]:
        return {"QueueUrl": "q"}

    def get_queue_attributes(self, AttributeNames: list[str], **_: Any) -> dict[str, Any]:  # noqa: N803
        return {"Attributes": dict.fromkeys(AttributeNames, "0")}


def execution(name: str, minute: int) -> dict[str, Any]:
    started = datetime(2026, 11, 25, 10, minute, tzinfo=UTC)
    return {"name": name, "executionArn": f"arn:{name}", "startDate": started, "input": json.dumps(INPUT)}


def filler(aws: Aws, report: dict[str, Any] | None = None, *, asked: bool = True) -> Filler:
    target = Target("", "", "us-east-1", aws.client, "uploads", "results", MACHINE, {}, {}, is_toy=True)
    return Filler(target, JOB, report, asked)


def test_a_key_moves_with_its_job_and_its_folder() -> None:
    assert moved("acme/line-01.mp3", JOB) == f"{JOB}.mp3"
    assert moved("acme/settings.json", JOB) == "böx/settings.json"
    assert moved("acme/", "top") == ""
    assert moved("elsewhere.mp3", JOB) == "elsewhere.mp3"


def test_an_upload_gets_bucket_and_key_as_s3_writes_them() -> None:
    (record,) = filler(Aws()).fill(read_event("submit-voice"))["Records"]
    assert record["s3"]["bucket"]["name"] == "uploads"
    assert record["s3"]["object"]["key"] == "b%C3%B6x/my+line+%2B+1.mp3"
    assert unquote_plus(record["s3"]["object"]["key"]) == f"{JOB}.mp3"


def test_a_file_of_the_same_kind_is_taken_if_the_events_own_is_not_there() -> None:
    event = filler(Aws(keys=[f"{JOB}.png", f"{JOB}.wav"])).fill(read_event("submit-voice"))
    assert keys_of(event, "ObjectCreated") == [f"{JOB}.wav"]
    assert name_of(event, "other") == JOB


def test_bodies_are_filled_and_keep_a_right_digest() -> None:
    event = filler(Aws()).fill(read_event("submit-sqs-batch"))
    assert keys_of(event, "ObjectCreated") == [f"{JOB}.png", f"{JOB}.mp3"]
    for record in event["Records"]:
        assert record["md5OfBody"] == hashlib.md5(record["body"].encode()).hexdigest()  # noqa: S324 (SQS's)


def test_prepare_is_asked_for_the_version_that_is_there() -> None:
    (record,) = filler(Aws(keys=[f"{JOB}.wav"])).fill(read_event("prepare-voice"))["Records"]
    asked = json.loads(record["body"])["prepare"]
    assert asked == {"key": f"{JOB}.wav", "version": "v1", "etag": "e1", "kind": "voice", "bytes": 7}
    answer = filler(Aws()).fill(read_event("submit-prepared"))["prepared"]
    assert (answer["key"], answer["version"]) == (f"{JOB}.mp3", "null")


def test_a_task_gets_the_newest_executions_ids_and_keeps_its_times() -> None:
    aws = Aws(executions=[execution("f" * 32 + "-1", 1), execution("f" * 32 + "-2", 2), execution("e" * 32, 3)])
    event = filler(aws, REPORT).fill(read_event("status-task-too-old"))
    assert event == {
        **read_event("status-task-too-old"),
        "job": "f" * 32,
        "attempt": 2,
        "task": "their-task",
        "execution": 3,
    }
    ended = filler(aws, REPORT).fill(read_event("deliver-execution-aborted"))
    assert ended["detail"]["executionArn"] == ended["resources"][0] == "arn:" + "f" * 32 + "-2"
    assert json.loads(ended["detail"]["input"])["task"] == "their-task"


def test_a_job_that_is_not_far_enough_is_said_to() -> None:
    with pytest.raises(InvokeError, match="it has no report yet"):
        filler(Aws()).fill(read_event("status-poll"))
    with pytest.raises(InvokeError, match="it is rendering and has no execution yet"):
        filler(Aws(), REPORT).fill(read_event("status-poll"))
    assert filler(Aws(), asked=False).fill(read_event("status-poll")) == read_event("status-poll")


def test_mappings_come_back_as_they_were() -> None:
    aws = Aws(mappings={"on": True, "off": False})
    with kept_away(filler(aws).target, "submit"):
        assert aws.mappings == {"on": False, "off": False}
    assert aws.mappings == {"on": True, "off": False}


def test_a_function_is_named_short_or_long() -> None:
    assert chosen_function("submit") == chosen_function("SubmitFunction") == "SubmitFunction"
    with pytest.raises(InvokeError, match="Submit, Prepare, Status, Deliver"):
        chosen_function("")
    with pytest.raises(InvokeError, match="submit-voice"):
        read_event("nothing-of-the-kind")
