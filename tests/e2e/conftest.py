"""One deployed stack for all end-to-end tests: engine with roles enforced, simulator, template.yaml with short waits.

Tests share it, each in folders of its own (the fixture ``folder``).
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from run import ROOT, Provider, Run, origin, stack_up, work_folder
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Report = dict[str, Any]

API_KEY = "sk-end-to-end"
GUARD_SECONDS = 60.0  # against hanging only: what is waited for comes within a few seconds on two idle cores
PARAMETERS = {
    "MinWaitSeconds": "1",
    "MaxWaitSeconds": "2",
    "PairSeconds": "1",
    "SettleSeconds": "2",
    "LookSeconds": "1",
    "HoldSeconds": "1",
    "SweepMinutes": "1",
}


class Events:
    """Everything that the stack's bus tells, as it comes, through a queue that the tests subscribe to it."""

    def __init__(self, run: Run) -> None:
        self._sqs = run.client("sqs")
        self._changed = threading.Condition()
        self._reports: list[Report] = []
        self._ended = threading.Event()
        self._queue = self._sqs.create_queue(QueueName=f"test-events-{uuid.uuid4().hex}")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        rule = {"Name": "test-events", "EventBusName": run.outputs["event_bus"]}
        events = run.client("events")
        events.put_rule(**rule, EventPattern=json.dumps({"source": ["portraitcast"]}))
        events.put_targets(Rule=rule["Name"], EventBusName=rule["EventBusName"], Targets=[{"Id": "queue", "Arn": arn}])
        self._reader = threading.Thread(target=self._read, name="events", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            answer = self._sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=1, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
                with self._changed:
                    self._reports.append(json.loads(message["Body"])["detail"])
                    self._changed.notify_all()

    def end(self) -> None:
        self._ended.set()
        self._reader.join()

    def of(self, name: str) -> list[Report]:
        """Return the reports of one job so far, in the order of their coming."""
        with self._changed:
            return [report for report in self._reports if report["name"] == name]

    def wait(self, wanted: Callable[[Report], bool], seconds: float = GUARD_SECONDS) -> Report:
        """Return the first report, past or to come, that is wanted."""
        deadline = time.monotonic() + seconds
        with self._changed:
            seen = 0
            while True:
                for report in self._reports[seen:]:
                    if wanted(report):
                        return report
                seen = len(self._reports)
                left = deadline - time.monotonic()
                if left <= 0:
                    told = [(report["name"], report["revision"], report["status"]) for report in self._reports[-20:]]
                    raise TimeoutError(f"nothing of the kind was told in {seconds} s; last told: {told}")
                self._changed.wait(left)


class Stack:
    """The deployed stack, as tests use it.

    Attributes
    ----------
    outputs
        As in ``outputs.json``.
    simulator
        The EMO simulator, in this process.
    events
        What the bus has told.
    """

    def __init__(self, run: Run, simulator: Simulator, events: Events) -> None:
        self.run, self.simulator, self.events = run, simulator, events
        self.outputs = run.outputs
        self.s3 = run.client("s3")

    def client(self, service: str) -> Any:
        """Return a boto3 client with all rights."""
        return self.run.client(service)

    def drop(self, key: str, content: bytes | Path) -> str:
        """Put a file into the upload bucket; return its version."""
        body = content.read_bytes() if isinstance(content, Path) else content
        version: str = self.s3.put_object(Bucket=self.outputs["upload_bucket"], Key=key, Body=body)["VersionId"]
        return version

    def delete(self, key: str) -> None:
        """Delete a file in the upload bucket, as a person would."""
        self.s3.delete_object(Bucket=self.outputs["upload_bucket"], Key=key)

    def result(self, key: str) -> bytes:
        """Return an object of the results bucket."""
        content: bytes = self.s3.get_object(Bucket=self.outputs["results_bucket"], Key=key)["Body"].read()
        return content

    def results(self, prefix: str) -> list[str]:
        """Return the keys under `prefix` in the results bucket."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.outputs["results_bucket"], Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def report(self, name: str) -> Report:
        """Return the report that lies beside a job's video."""
        report: Report = json.loads(self.result(f"{name}.json"))
        return report

    def wait_report(self, name: str, *status: str, after: int = 0, seconds: float = GUARD_SECONDS) -> Report:
        """Wait until the bus tells one of `status` for a job, in a revision above `after`; return that report.

        The report in the bucket is written before the event is sent, so it is there, in this revision or a later one.
        """
        return self.events.wait(
            lambda report: report["name"] == name and report["status"] in status and report["revision"] > after, seconds
        )

    def logs(self, function: str) -> str:
        """Return what a function has logged."""
        return self.run.logs(function)


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Bring up the stack; its logs stay in ``.test/`` when a test failed."""
    with (
        work_folder(ROOT / ".test" / uuid.uuid4().hex[:8]) as work,
        Simulator(api_key=API_KEY, task_seconds=0.3) as simulator,
    ):
        provider = Provider(simulator.base_url, API_KEY, simulator_url=origin(simulator.base_url))
        capture = request.config.pluginmanager.getplugin("capturemanager")

        def say(line: str) -> None:
            with capture.global_and_fixture_disabled():
                print(f"\n[stack] {line}", end="", flush=True)

        with stack_up(work, PARAMETERS, provider=provider, try_sam=True, say=say) as run:
            events = Events(run)
            yield Stack(run, simulator, events)
            events.end()
            if request.session.testsfailed:
                say(f"logs of the failed run: {[str(path) for path in run.save_logs()]}\n")
    if not request.session.testsfailed:
        for path in sorted(work.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        work.rmdir()


@pytest.fixture
def folder() -> str:
    """Return a folder of the upload bucket that no other test uses, with its last slash."""
    return f"t{uuid.uuid4().hex[:10]}/"
