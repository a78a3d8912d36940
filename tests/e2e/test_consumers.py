"""Who builds on the events: the templates of docs/consumers/, deployed as they stand there, and what really comes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from makers import face, voice

from package import read_template
from run import ROOT
from stack import deploy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Stack

    Report = dict[str, Any]
    Consume = Callable[..., dict[str, str]]

CONSUMERS = sorted((ROOT / "docs" / "consumers").glob("*.yaml"))
SCHEMA = Draft202012Validator(json.loads((ROOT / "docs" / "report.schema.json").read_text("utf-8")))


@pytest.fixture
def consume(stack: Stack) -> Iterator[Consume]:
    """Return what deploys the template that has a resource of one type, and returns its outputs."""
    cloudformation, names = stack.client("cloudformation"), []

    def deployed(kind: str, **parameters: str) -> dict[str, str]:
        (path,) = [template for template in CONSUMERS if f"Type: {kind}\n" in template.read_text("utf-8")]
        bucket, key = stack.outputs["upload_bucket"], f".{uuid.uuid4().hex}.json"  # a hidden file: left alone
        stack.s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(read_template(path)).encode())
        names.append(f"consumer-{uuid.uuid4().hex[:8]}")
        return deploy(cloudformation, names[-1], f"{stack.outputs['endpoint_url']}/{bucket}/{key}", parameters)

    yield deployed
    for name in names:
        cloudformation.delete_stack(StackName=name)


class Bus:
    """A bus of a test's own, to tell real events twice or late without anybody else hearing it."""

    def __init__(self, stack: Stack) -> None:
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self._events = stack.client("events")
        self._events.create_event_bus(Name=self.name)

    def tell(self, report: Report) -> None:
        entry = {"EventBusName": self.name, "Source": "portraitcast", "DetailType": "Job State Changed"}
        answer = self._events.put_events(Entries=[{**entry, "Detail": json.dumps(report)}])
        assert answer["FailedEntryCount"] == 0


@pytest.fixture
def bus(stack: Stack) -> Bus:
    return Bus(stack)


@pytest.fixture
def job() -> str:
    """Return the name of a new job in acme/, the folder of the templates."""
    return f"acme/{uuid.uuid4().hex[:10]}"


def made(stack: Stack, name: str) -> list[Report]:
    """Have a video made; return all that was told of it."""
    stack.drop(f"{name}.png", face())
    stack.drop(f"{name}.wav", voice())
    stack.wait_report(name, "done")
    return stack.events.of(name)


class Machine:
    """The executions of a consumer's state machine."""

    def __init__(self, stack: Stack, arn: str) -> None:
        self._states, self._arn = stack.client("stepfunctions"), arn

    def executions(self) -> list[str]:
        return [e["executionArn"] for e in self._states.list_executions(stateMachineArn=self._arn)["executions"]]

    def inputs(self) -> list[Report]:
        return [json.loads(self._states.describe_execution(executionArn=arn)["input"]) for arn in self.executions()]

    def ways(self) -> list[list[str]]:
        """Return the states that each execution which has ended went through."""
        ended = []
        for arn in self.executions():
            if self._states.describe_execution(executionArn=arn)["status"] == "SUCCEEDED":
                events = self._states.get_execution_history(executionArn=arn)["events"]
                ended.append([e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e])
        return sorted(ended)


# ---------------------------------------------------------------- a rule that starts a state machine


def test_the_rule_starts_the_state_machine_for_a_finished_video_of_its_folder_and_for_no_other(
    stack: Stack, consume: Consume, folder: str, job: str
) -> None:
    outputs = consume("AWS::StepFunctions::StateMachine", EventBusName=stack.outputs["event_bus"])
    machine = Machine(stack, outputs["StateMachineArn"])

    made(stack, f"{folder}other")
    done = made(stack, job)[-1]

    stack.until(machine.executions, "an execution was started")
    assert machine.inputs() == [done]


def test_the_state_machine_publishes_once_what_is_told_twice(
    stack: Stack, consume: Consume, bus: Bus, job: str
) -> None:
    outputs = consume("AWS::StepFunctions::StateMachine", EventBusName=bus.name)
    machine = Machine(stack, outputs["StateMachineArn"])
    done = made(stack, job)[-1]

    bus.tell(done)
    stack.until(lambda: len(machine.ways()) == 1, "the first execution has ended")
    bus.tell(done)
    stack.until(lambda: len(machine.ways()) == 2, "both executions have ended")

    assert machine.ways() == [["IsItNew", "PublishIt"], ["IsItNew", "SeenBefore"]]


# ---------------------------------------------------------------- a queue behind the topic


def test_the_filtered_queue_gets_finished_videos_of_its_folder_and_nothing_else(
    stack: Stack, consume: Consume, folder: str, job: str
) -> None:
    queue = consume("AWS::SNS::Subscription", TopicArn=stack.outputs["topic_arn"])["QueueUrl"]
    sqs = stack.client("sqs")
    told: list[Any] = []

    def arrived() -> bool:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        told.extend(json.loads(message["Body"]) for message in answer.get("Messages", []))
        return bool(told)

    stack.notices.wait_for(made(stack, f"{folder}other")[-1])  # of the wanted state, in another folder
    stack.drop(f"{job}-refused.m4a", b"sound")  # of the wanted folder, in another state
    stack.notices.wait_for(stack.wait_report(f"{job}-refused", "rejected"))
    done = made(stack, job)[-1]

    stack.until(arrived, "a notice has come")
    assert told == [done]


# ---------------------------------------------------------------- a function on the bus


@pytest.fixture
def newest(stack: Stack) -> Callable[[str, Report], tuple[str, int] | None]:
    """Return what reads the function's table: status and revision that it knows of a report's job."""
    dynamodb = stack.client("dynamodb")

    def read(table: str, report: Report) -> tuple[str, int] | None:
        item = dynamodb.get_item(TableName=table, Key={"job": {"S": report["job"]}}, ConsistentRead=True).get("Item")
        return (item["status"]["S"], int(item["revision"]["N"])) if item else None

    return read


def test_the_function_follows_every_job(
    stack: Stack, consume: Consume, folder: str, newest: Callable[[str, Report], tuple[str, int] | None]
) -> None:
    table = consume("AWS::Lambda::Function", EventBusName=stack.outputs["event_bus"])["TableName"]

    done = made(stack, f"{folder}line")[-1]
    stack.drop(f"{folder}other.m4a", b"sound")
    refused = stack.wait_report(f"{folder}other", "rejected")

    for report in (done, refused):
        known = (report["status"], report["revision"])
        stack.until(lambda report=report, known=known: newest(table, report) == known, "the function knows the end")


def test_the_function_keeps_the_newest_state_when_events_come_late_and_twice(
    stack: Stack, consume: Consume, bus: Bus, folder: str, newest: Callable[[str, Report], tuple[str, int] | None]
) -> None:
    table = consume("AWS::Lambda::Function", EventBusName=bus.name)["TableName"]
    line = made(stack, f"{folder}line")
    last = made(stack, f"{folder}last")[-1]
    done = line[-1]
    assert len(line) > 2

    bus.tell(done)
    stack.until(lambda: newest(table, done), "the function knows the end")
    for report in (*line, done, last):
        bus.tell(report)
    stack.until(lambda: newest(table, last), "the function has seen all of them")

    assert newest(table, done) == ("done", done["revision"])


# ---------------------------------------------------------------- a webhook


class Webhook(BaseHTTPRequestHandler):
    """Somebody's server: refuses the first call, and keeps what it is told."""

    told: list[Report]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.told.append({"key": self.headers["X-Api-Key"], "report": body})
        self.send_response(503 if len(self.told) == 1 else 204)
        self.end_headers()

    def log_message(self, *args: object) -> None:  # nothing on the terminal
        pass


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Report]]]:
    """Return the address of a server, and what it is told."""
    told: list[Report] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Kept", (Webhook,), {"told": told})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/portraitcast", told
        server.shutdown()


def test_a_webhook_is_told_until_it_has_taken_it(
    stack: Stack, consume: Consume, bus: Bus, job: str, webhook: tuple[str, list[Report]]
) -> None:
    address, told = webhook
    consume("AWS::Events::ApiDestination", EventBusName=bus.name, Url=address, ApiKey="s3cret")
    reports = made(stack, job)

    for report in reports:
        bus.tell(report)

    stack.until(lambda: len(told) >= 2, "the webhook was called again")
    assert told == [{"key": "s3cret", "report": reports[-1]}] * 2


# ---------------------------------------------------------------- a program


def with_policy(stack: Stack, policy: str) -> dict[str, str]:
    """Return the environment of a program that has one policy and nothing else."""
    iam, sts, name = stack.client("iam"), stack.client("sts"), f"program-{uuid.uuid4().hex[:8]}"
    trust = {"Effect": "Allow", "Principal": {"AWS": sts.get_caller_identity()["Arn"]}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=policy)
    session = sts.assume_role(RoleArn=role, RoleSessionName="program")["Credentials"]
    return {
        "AWS_ENDPOINT_URL": stack.outputs["endpoint_url"],
        "AWS_DEFAULT_REGION": stack.outputs["region"],
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
        "PATH": os.environ["PATH"],
    }


def test_the_program_fetches_each_video_once(
    stack: Stack, consume: Consume, bus: Bus, job: str, tmp_path: Path
) -> None:
    program = ROOT / "docs" / "consumers" / "fetch_videos.py"
    assert len(program.read_text("utf-8").splitlines()) <= 25
    outputs = consume("AWS::IAM::ManagedPolicy", EventBusName=bus.name, ResultsBucket=stack.outputs["results_bucket"])
    stack.drop(f"{job}.json", json.dumps({"job": {"reference": "order-4711"}}).encode())
    line, last = made(stack, job), made(stack, f"{job}-2")[-1]
    command = [sys.executable, str(program), outputs["QueueUrl"], str(tmp_path)]
    environment = with_policy(stack, outputs["PolicyArn"])

    for report in [*line, line[-1], last]:
        bus.tell(report)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:  # noqa: S603 - our own
        assert running.stdout
        said = {running.stdout.readline() for _ in range(2)}
        running.terminate()

    files = {report["name"]: f"{report['job']}-{report['revision']}.mp4" for report in (line[-1], last)}
    assert said == {f"order-4711 {files[job]}\n", f"{job}-2 {files[f'{job}-2']}\n"}
    for report in (line[-1], last):
        fetched = (tmp_path / files[report["name"]]).read_bytes()
        assert hashlib.sha256(fetched).hexdigest() == report["video"]["sha256"]


# ---------------------------------------------------------------- what comes


def test_every_event_holds_to_the_schema(stack: Stack, folder: str) -> None:
    """All that the stack has told so far: of this file, and of those that ran before it."""
    made(stack, f"{folder}line")
    stack.drop(f"{folder}refused.m4a", b"sound")
    stack.wait_report(f"{folder}refused", "rejected")
    stack.drop(f"{folder}lonely.mp3", b"no voice")
    stack.wait_report(f"{folder}lonely", "rejected", "waiting")

    told = stack.events.so_far()
    faults = [(r["name"], r["status"], error.message) for r in told for error in SCHEMA.iter_errors(r)]

    assert {r["status"] for r in told} >= {"queued", "rendering", "done", "rejected"}
    assert faults == []


def test_a_report_in_the_bucket_is_the_events_detail(stack: Stack, folder: str) -> None:
    done = made(stack, f"{folder}line")[-1]

    assert stack.report(f"{folder}line") == done


@pytest.mark.parametrize(
    "name",
    ["line", "x" * 180, "語" * 60, "🎤 “quoted” 100%"],
    ids=["short", "long", "japanese", "emoji"],
)
def test_a_notices_subject_can_be_read_and_sent(stack: Stack, folder: str, name: str) -> None:
    """SNS: fewer than 100 characters, no line breaks or control characters (API reference, Publish)."""
    stack.drop(f"{folder}{name}.m4a", b"sound")
    refused = stack.wait_report(f"{folder}{name}", "rejected")

    notice = stack.notices.wait_for(refused)

    subject = notice["subject"]
    assert len(subject) < 100
    assert subject.isprintable()
    assert subject.startswith("Portraitcast: ")
    assert subject.endswith("is rejected")
    assert name[-4:] in subject
    assert json.loads(notice["message"]) == refused
    assert notice["attributes"] == {"status": "rejected", "folder": folder[:-1]}
