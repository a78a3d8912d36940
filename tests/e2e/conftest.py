"""A deployed stack for the end-to-end tests: engine with roles enforced, simulator, template.yaml with short waits.

Tests share it, each in folders of its own (the fixture ``folder``); with two processes each half of them has its own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from makers import face, new_folder, voice
from xdist.scheduler import LoadScopeScheduling

from stacks import SHORT_WAITS, deployed, open_queue, own_folder, variable_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xdist.remote import Producer

    from run import Run
    from simulator import Simulator

    Report = dict[str, Any]

API_KEY = "sk-end-to-end"
# Parted by the time that they take, most of it waiting.
SECOND_HALF = {
    "test_consumers.py",
    "test_engine.py",
    "test_engine_like_aws.py",
    "test_every_right.py",
    "test_made_fit.py",
    "test_operations.py",
    "test_refused_files.py",
    "test_rights.py",
    "test_secrets.py",
    "test_settings_files.py",
}
GUARD_SECONDS = 60.0  # against hanging only: what is waited for comes within a few seconds on two idle cores


class Inbox:
    """What comes to a queue of the tests' own, in the order of its coming."""

    def __init__(self, run: Run, name: str) -> None:
        self._sqs = run.client("sqs")
        self._changed = threading.Condition()
        self._told: list[Report] = []
        self._ended = threading.Event()
        self._queue, self.arn = open_queue(self._sqs, f"test-{name}-{uuid.uuid4().hex}")
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    def unpack(self, body: Report) -> Report:
        """Return what a message's body is about."""
        raise NotImplementedError

    def _read(self) -> None:
        while not self._ended.is_set():
            answer = self._sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=1, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
                with self._changed:
                    self._told.append(self.unpack(json.loads(message["Body"])))
                    self._changed.notify_all()

    def end(self) -> None:
        self._ended.set()
        self._reader.join()

    def so_far(self) -> list[Report]:
        """Return all that has come."""
        with self._changed:
            return list(self._told)

    def wait(self, wanted: Callable[[Report], bool], seconds: float = GUARD_SECONDS, *, since: int = 0) -> Report:
        """Return the first, past or to come, that is wanted; `since` leaves out as many of the oldest."""
        deadline = time.monotonic() + seconds
        with self._changed:
            seen = since
            while True:
                for told in self._told[seen:]:
                    if wanted(told):
                        return told
                seen = max(seen, len(self._told))
                left = deadline - time.monotonic()
                if left <= 0:
                    last = [self.short(told) for told in self._told[-20:]]
                    raise TimeoutError(f"nothing of the kind was told in {seconds} s; last told: {last}")
                self._changed.wait(left)

    def short(self, told: Report) -> object:
        """Return what tells one from another in a failure's words."""
        raise NotImplementedError


class Events(Inbox):
    """Everything that the stack's bus tells: reports."""

    def __init__(self, run: Run) -> None:
        super().__init__(run, "events")
        rule = {"Name": "test-events", "EventBusName": run.outputs["event_bus"]}
        events = run.client("events")
        events.put_rule(**rule, EventPattern=json.dumps({"source": ["portraitcast"]}))
        events.put_targets(
            Rule=rule["Name"], EventBusName=rule["EventBusName"], Targets=[{"Id": "queue", "Arn": self.arn}]
        )

    def unpack(self, body: Report) -> Report:
        detail: Report = body["detail"]
        return detail

    def short(self, told: Report) -> object:
        return told["name"], told["revision"], told["status"]

    def of(self, name: str) -> list[Report]:
        """Return the reports of one job so far, each revision once: events come at least once."""
        return list({report["revision"]: report for report in self.so_far() if report["name"] == name}.values())


class Notices(Inbox):
    """Everything that a topic sends: ``Subject``, ``Message`` and, by name, the values of its attributes."""

    def __init__(self, run: Run, name: str, topic: str) -> None:
        super().__init__(run, name)
        run.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=self.arn)

    def unpack(self, body: Report) -> Report:
        attributes = {name: value["Value"] for name, value in body.get("MessageAttributes", {}).items()}
        return {"subject": body["Subject"], "message": body["Message"], "attributes": attributes}

    def short(self, told: Report) -> object:
        return told["subject"]

    def of(self, name: str) -> list[Report]:
        """Return the notices of one job so far, each as it came, with its ``report``."""
        found = [notice | {"report": json.loads(notice["message"])} for notice in self.so_far()]
        return [notice for notice in found if notice["report"]["name"] == name]

    def wait_for(self, report: Report) -> Report:
        """Return the notice that tells this very revision of a job."""

        def told(notice: Report) -> bool:
            content = json.loads(notice["message"])
            return bool(content["job"] == report["job"] and content["revision"] == report["revision"])

        return self.wait(told)


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
    notices, operators
        What the topic of the jobs has sent, and the one of the operators.
    """

    def __init__(self, run: Run, simulator: Simulator) -> None:
        self.run, self.simulator = run, simulator
        self.outputs = run.outputs
        self.s3, self._sqs = run.client("s3"), run.client("sqs")
        self.media_queue_url = variable_of(self, "submit", "MEDIA_QUEUE_URL")
        self.events = Events(run)
        self.notices = Notices(run, "notices", run.outputs["topic_arn"])
        self.operators = Notices(run, "operators", run.outputs["operator_topic_arn"])

    def end(self) -> None:
        for inbox in (self.events, self.notices, self.operators):
            inbox.end()

    def client(self, service: str) -> Any:
        """Return a boto3 client with all rights."""
        return self.run.client(service)

    def drop(self, key: str, content: bytes | Path) -> str:
        """Put a file into the upload bucket; return its version."""
        body = content.read_bytes() if isinstance(content, Path) else content
        version: str = self.s3.put_object(Bucket=self.outputs["upload_bucket"], Key=key, Body=body)["VersionId"]
        return version

    def drop_pair(self, name: str, portrait: bytes | None = None, sound: bytes | None = None) -> None:
        """Drop a portrait and a voice of one name, by default those that most tests share."""
        self.drop(f"{name}.png", portrait or face())
        self.drop(f"{name}.wav", sound or voice())

    def hold_rendering(self, name: str) -> Report:
        """Drop a pair whose task goes on until the simulator is told otherwise; return the report that it renders."""
        self.simulator.set(manual=True)
        self.drop_pair(name)
        return self.wait_report(name, "rendering")

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

    @staticmethod
    def until(happened: Callable[[], object], what: str) -> None:
        """Wait for what nobody tells: asks again and again, `GUARD_SECONDS` at most."""
        deadline = time.monotonic() + GUARD_SECONDS
        while not happened():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {GUARD_SECONDS} s: {what}")
            time.sleep(0.05)

    def tasks(self, part: str) -> list[dict[str, Any]]:
        """Return the simulator's tasks, oldest first, whose links hold `part`: a folder, or a file of ASCII name."""
        return [task for task in self.simulator.state()["tasks"] if part in task["audio_url"] + task["image_url"]]

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the uploads queue, as ``make pause`` does, and wait until submit has handled it."""
        self._sqs.send_message(QueueUrl=self.outputs["uploads_queue_url"], MessageBody=json.dumps(message))
        self.until(self.is_drained, f"{message} is handled")

    def is_drained(self) -> bool:
        """Whether no message of the two queues waits to be handled or is being handled; timers may still come.

        One queue's messages become the other's, so each is asked twice.
        """
        return all(map(self._is_empty, [self.outputs["uploads_queue_url"], self.media_queue_url] * 2))

    def _is_empty(self, queue: str) -> bool:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self._sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return all(counts[name] == "0" for name in names)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Start no task meanwhile: what is dropped is taken in as a whole, however busy the machine is."""
        self.send({"pause": True})
        try:
            yield
        finally:
            self.send({"pause": False})

    def pass_through(self) -> None:
        """Drop a pair and wait for its video: what was dropped before and could be sent has been sent by then."""
        name = f"{new_folder()}later"
        self.drop_pair(name)
        self.wait_report(name, "done")
        self.until(self.is_drained, "the uploads queue is empty")

    def logs(self, function: str) -> str:
        """Return what a function has logged."""
        return self.run.logs(function)


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Bring up the stack; its logs stay in ``.test/`` when a test failed."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n[stack] {line}", end="", flush=True, file=sys.stderr)  # what xdist leaves to its processes

    with (
        own_folder() as work,
        deployed(work, SHORT_WAITS, api_key=API_KEY, task_seconds=0.3, try_sam=True, say=say) as (run, simulator),
    ):
        stack = Stack(run, simulator)
        yield stack
        stack.end()
        if request.session.testsfailed:
            say(f"logs of the failed run: {[str(path) for path in run.save_logs()]}\n")
    if not request.session.testsfailed:
        shutil.rmtree(work)


@pytest.fixture
def folder() -> str:
    """Return a folder of the upload bucket that no other test uses, with its last slash."""
    return new_folder()


@pytest.fixture
def simulator(stack: Stack) -> Iterator[Simulator]:
    """Return the simulator, and make it behave again afterwards."""
    yield stack.simulator
    stack.simulator.clear_faults()
    stack.simulator.trouble("ok")
    stack.simulator.set(manual=False)
    stack.simulator.finish()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Judge the stack of each half."""
    if metafunc.module.__name__ == "test_the_end":
        metafunc.fixturenames.append("half")
        metafunc.parametrize("half", ["first", "second"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run last what judges a whole stack."""
    items.sort(key=lambda item: item.path.name == "test_the_end.py")


class Halves(LoadScopeScheduling):
    """Parts the tests into two halves, each with a stack of its own in a process of its own."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].rpartition("/")[2]
        return "second" if file in SECOND_HALF or nodeid.endswith("[second]") else "first"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Halves:
    """Part the tests by `Halves` when there are several processes."""
    return Halves(config, log)
