"""``sam local invoke`` without Docker: each event of events/ goes to its deployed function.

The functions are the packaged artefacts under Lambda's own runtime client. While files are put here, the bucket tells
nobody (`silently`), so that what happens comes of the event file.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from makers import face, sha256, voice

from invoke import Filler, local_target
from package import read_template
from portraitcast.domain.uploads import short_hash
from run import ROOT, STACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Stack

    from simulator import Simulator

    Report = dict[str, Any]
    Event = dict[str, Any]

EVENTS = ROOT / "events"
NAME = "acme/line-01"  # what the events are about
ODD_NAME = "acme/100% “a+b” こんにちは 🎤"
PAIR_SECONDS = 1  # the stack's parameter
LEAST_POLL, MOST_POLL = 1, 2  # the stack's parameters
INVOKED = {
    "submit": "SubmitFunction",
    "prepare": "PrepareFunction",
    "status": "StatusFunction",
    "deliver": "DeliverFunction",
}


def read(name: str) -> Event:
    event: Event = json.loads((EVENTS / f"{name}.json").read_text("utf-8"))
    return event


def filled(stack: Stack, event: Event) -> Event:
    """Return an event with the stack's upload bucket and the job's versions in it, as `make invoke` fills it."""
    return Filler(local_target(stack.outputs), NAME, report=None, asked=False).fill(event)


def invoke(stack: Stack, name: str, event: Event | None = None) -> tuple[Any, str]:
    """Invoke the function that an event file is for, with that file or another event.

    Returns its answer and the end of its log.
    """
    payload = json.dumps(filled(stack, read(name)) if event is None else event).encode()
    answer = stack.client("lambda").invoke(
        FunctionName=stack.outputs["functions"][name.partition("-")[0]], Payload=payload, LogType="Tail"
    )
    said, log = answer["Payload"].read(), base64.b64decode(answer.get("LogResult", "")).decode("utf-8", "replace")
    assert "FunctionError" not in answer, f"{name}: {said.decode()}\n{log}"
    return json.loads(said or b"null"), log


def mp3(seed: int) -> bytes:
    """Return the sample voice with a tag of its own at the end (ID3v1): other bytes, the same sound."""
    return (ROOT / "local" / "samples" / "voice.mp3").read_bytes() + b"TAG" + f"{seed:030}".encode().ljust(125, b"\0")


@pytest.fixture(scope="module")
def seeds() -> Iterator[int]:
    return iter(range(1, 1000))


class Acme:
    """The folder that the events are about."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._bucket = stack.outputs["upload_bucket"]
        self.clear()

    @contextlib.contextmanager
    def silently(self) -> Iterator[None]:
        """Let the bucket tell nobody what happens to its files meanwhile."""
        s3 = self._stack.s3
        told = s3.get_bucket_notification_configuration(Bucket=self._bucket)["QueueConfigurations"]
        s3.put_bucket_notification_configuration(Bucket=self._bucket, NotificationConfiguration={})
        try:
            yield
        finally:
            s3.put_bucket_notification_configuration(
                Bucket=self._bucket, NotificationConfiguration={"QueueConfigurations": told}
            )

    def put(self, key: str, content: bytes) -> None:
        """Put a file that the bucket tells nobody of."""
        with self.silently():
            self._stack.drop(f"acme/{key}", content)

    def drop(self, **contents: bytes) -> None:
        """Drop files of the job, by suffix, as people do; return when they are taken in."""
        for suffix, content in contents.items():
            self._stack.drop(f"{NAME}.{suffix}", content)
        self._stack.until(self._stack.is_drained, "what was dropped is taken in")

    def clear(self) -> None:
        """Delete all files as people do; return when that is taken in."""
        pages = self._stack.s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix="acme/")
        for page in pages:
            for item in page.get("Contents", []):
                self._stack.delete(item["Key"])
        self._stack.until(self._stack.is_drained, "the deletions are taken in")

    def revision(self) -> int:
        """Return the newest revision that was told of the job."""
        return max((report["revision"] for report in self._stack.events.of(NAME)), default=0)


@pytest.fixture
def acme(stack: Stack) -> Iterator[Acme]:
    """Return the folder of the events, empty; no video is started while a test has it."""
    with stack.paused():
        acme = Acme(stack)
        yield acme
        acme.clear()


def paused(stack: Stack) -> bool:
    key = {"pk": {"S": "ACCOUNT"}, "sk": {"S": "ACCOUNT"}}
    item = stack.client("dynamodb").get_item(TableName=stack.outputs["table"], Key=key, ConsistentRead=True)["Item"]
    return bool(item["paused"]["BOOL"])


def asks_for_its_portrait(stack: Stack, before: int) -> Report:
    """Wait until the job asks for its portrait: its voice has been read then."""
    told = stack.wait_report(NAME, "waiting", after=before)
    while not told["error"]:
        told = stack.wait_report(NAME, "waiting", after=told["revision"])
    assert told["error"]["code"] == "PortraitMissing"
    return told


# ---------------------------------------------------------------- submit: files


def test_a_voice_makes_a_report_that_asks_for_its_portrait(stack: Stack, acme: Acme, seeds: Iterator[int]) -> None:
    content, before = mp3(next(seeds)), acme.revision()
    acme.put("line-01.mp3", content)

    invoke(stack, "submit-voice")

    told = asks_for_its_portrait(stack, before)
    assert told["inputs"]["voice"]["sha256"] == sha256(content)
    assert stack.report(NAME)["revision"] == told["revision"]


def test_a_voice_that_is_known_changes_nothing_when_its_event_is_repeated(
    stack: Stack, acme: Acme, seeds: Iterator[int]
) -> None:
    acme.drop(mp3=mp3(next(seeds)))
    before = stack.report(NAME)

    invoke(stack, "submit-voice")

    assert stack.report(NAME) == before


def test_a_portrait_makes_its_job_whole(stack: Stack, acme: Acme, seeds: Iterator[int]) -> None:
    acme.drop(mp3=mp3(next(seeds)))
    before, portrait = acme.revision(), face(1)
    acme.put("line-01.png", portrait)

    invoke(stack, "submit-portrait")

    told = stack.wait_report(NAME, "queued", after=before)
    assert told["inputs"]["portrait"]["sha256"] == sha256(portrait)
    assert told["queue"]["held"] == "paused"


@pytest.mark.parametrize(
    ("name", "file", "style"),
    [("submit-settings", "line-01.json", "active"), ("submit-folder-settings", "settings.json", "calm")],
    ids=["of a job", "of a folder"],
)
def test_settings_hold_for_the_jobs_that_they_are_for(
    stack: Stack, acme: Acme, seeds: Iterator[int], name: str, file: str, style: str
) -> None:
    acme.drop(mp3=mp3(next(seeds)), png=face())
    before = acme.revision()
    acme.put(file, json.dumps({"parameters": {"style_level": style}}).encode())

    invoke(stack, name)

    told = stack.events.wait(lambda r: r["name"] == NAME and r["revision"] > before and bool(r["inputs"]["settings"]))
    assert told["settings"]["style_level"] == style
    assert [each["key"] for each in told["inputs"]["settings"]] == [f"acme/{file}"]


def test_a_name_with_signs_japanese_and_an_emoji_keeps_it(stack: Stack, acme: Acme, seeds: Iterator[int]) -> None:
    content = mp3(next(seeds))
    acme.put(f"{ODD_NAME.removeprefix('acme/')}.MP3", content)

    invoke(stack, "submit-odd-name")
    stack.until(stack.is_drained, "the voice is read")

    report = stack.report(ODD_NAME)
    assert report["name"] == ODD_NAME
    assert report["inputs"]["voice"]["key"] == f"{ODD_NAME}.MP3"
    assert report["inputs"]["voice"]["sha256"] == sha256(content)


def test_a_deleted_voice_withdraws_its_job(stack: Stack, acme: Acme, seeds: Iterator[int]) -> None:
    acme.drop(mp3=mp3(next(seeds)), png=face())
    before = acme.revision()
    with acme.silently():
        stack.delete(f"{NAME}.mp3")

    invoke(stack, "submit-deletion")

    stack.wait_report(NAME, "withdrawn", after=before)


def test_a_batch_of_the_queue_is_taken_in_and_names_the_message_that_is_nobodys(
    stack: Stack, acme: Acme, seeds: Iterator[int]
) -> None:
    before = acme.revision()
    acme.put("line-01.png", face())
    acme.put("line-01.mp3", mp3(next(seeds)))

    answer, _ = invoke(stack, "submit-sqs-batch")

    nobodys = read("submit-sqs-batch")["Records"][3]["messageId"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": nobodys}]}
    stack.wait_report(NAME, "queued", after=before)


def test_what_s3_sends_when_the_notification_is_set_up_changes_nothing(stack: Stack, acme: Acme) -> None:
    before = stack.results("acme/")

    answer, _ = invoke(stack, "submit-test-event")

    assert answer == {}
    assert stack.results("acme/") == before


# ---------------------------------------------------------------- submit: messages


def test_a_scan_takes_in_what_nobody_told_of(stack: Stack, acme: Acme) -> None:
    acme.put("forgotten.png", face())
    acme.put("forgotten.wav", voice())

    invoke(stack, "submit-scan")

    told = stack.wait_report("acme/forgotten", "queued")
    assert told["inputs"]["voice"]["sha256"] == sha256(voice())


def test_one_job_is_decided_about_anew_and_that_gives_the_same(stack: Stack, acme: Acme, seeds: Iterator[int]) -> None:
    acme.drop(mp3=mp3(next(seeds)), png=face())
    before = stack.report(NAME)
    assert read("submit-reconcile")["reconcile"] == before["job"] == short_hash(NAME)

    invoke(stack, "submit-reconcile")

    assert stack.report(NAME) == before


def test_pause_stops_new_videos_and_resume_starts_them(
    stack: Stack, simulator: Simulator, seeds: Iterator[int]
) -> None:
    acme = Acme(stack)
    before = acme.revision()
    invoke(stack, "submit-pause")
    assert paused(stack)
    acme.drop(mp3=mp3(next(seeds)), png=face())
    held = stack.wait_report(NAME, "queued", after=before)
    assert held["queue"]["held"] == "paused"

    invoke(stack, "submit-resume")

    assert not paused(stack)
    stack.wait_report(NAME, "done", after=held["revision"])
    assert f"{NAME}.mp4" in stack.results("acme/")
    acme.clear()


@contextlib.contextmanager
def nobody_reads_the_queue(stack: Stack, *functions: str) -> Iterator[None]:
    """Let messages lie in the queues of functions meanwhile: what happens comes of direct invocations."""
    client, found = stack.client("lambda"), [stack.outputs["functions"][name] for name in functions]
    mappings = [
        each for name in found for each in client.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    ]
    for mapping in mappings:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        yield
    finally:
        for mapping in mappings:
            client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
        stack.until(stack.is_drained, "what lay in the queue meanwhile is handled")


def hand_on_what_is_prepared(stack: Stack) -> None:
    """Take answers of prepare out of their queue and hand them to submit, until the job is queued."""
    sqs, queue = stack.client("sqs"), stack.outputs["answers_queue_url"]

    def queued() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", []):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            invoke(stack, "submit-prepared", json.loads(message["Body"]))
        return stack.report(NAME)["status"] == "queued"

    stack.until(queued, "the job is queued")


def test_a_wake_up_sends_what_can_be_sent(stack: Stack, simulator: Simulator, seeds: Iterator[int]) -> None:
    acme = Acme(stack)
    before = acme.revision()
    with nobody_reads_the_queue(stack, "submit"):
        for key, content in (("line-01.mp3", mp3(next(seeds))), ("line-01.png", face())):
            acme.put(key, content)
        invoke(stack, "submit-voice")
        invoke(stack, "submit-portrait")
        hand_on_what_is_prepared(stack)
        queued = stack.wait_report(NAME, "queued", after=before)
        may_be_sent = time.monotonic() + PAIR_SECONDS
        stack.until(lambda: time.monotonic() > may_be_sent, "the job may be sent")

        invoke(stack, "submit-wake")

        stack.wait_report(NAME, "rendering", after=queued["revision"])
    stack.wait_report(NAME, "done", after=queued["revision"])
    acme.clear()


def test_prepare_reads_what_submit_asks_for(stack: Stack, acme: Acme, seeds: Iterator[int]) -> None:
    content, before = mp3(next(seeds)), acme.revision()
    acme.put("line-01.mp3", content)
    with nobody_reads_the_queue(stack, "prepare"):
        invoke(stack, "submit-voice")

        answer, _ = invoke(stack, "prepare-voice")

        assert answer == {"batchItemFailures": []}
        told = asks_for_its_portrait(stack, before)
    assert told["inputs"]["voice"]["sha256"] == sha256(content)
    assert told["inputs"]["voice"]["seconds"] == pytest.approx(6.05, abs=0.05)


def test_prepare_reads_a_portrait(stack: Stack, acme: Acme, seeds: Iterator[int]) -> None:
    acme.drop(mp3=mp3(next(seeds)))
    before, portrait = acme.revision(), face(3)
    acme.put("line-01.png", portrait)
    with nobody_reads_the_queue(stack, "prepare"):
        invoke(stack, "submit-portrait")

        invoke(stack, "prepare-portrait")

        told = stack.wait_report(NAME, "queued", after=before)
    assert told["inputs"]["portrait"]["sha256"] == sha256(portrait)


def test_submit_keeps_what_prepare_has_found(stack: Stack, acme: Acme, seeds: Iterator[int]) -> None:
    """What the example says is believed, whatever lies there: only prepare can send to its queue."""
    before = acme.revision()
    acme.put("line-01.mp3", mp3(next(seeds)))
    with nobody_reads_the_queue(stack, "prepare"):
        invoke(stack, "submit-voice")

        invoke(stack, "submit-prepared")

        told = asks_for_its_portrait(stack, before)
    assert told["inputs"]["voice"]["sha256"] == read("submit-prepared")["prepared"]["facts"]["sha256"]


def test_a_sweep_looks_at_everything_and_measures_it(stack: Stack) -> None:
    _, log = invoke(stack, "submit-sweep")

    measured = [json.loads(line) for line in log.splitlines() if '"_aws"' in line]
    assert {"QueueLength", "OldestQueued", "TasksInFlight", "AccountHeld", "service"} <= set(measured[0])
    assert measured[0]["service"] == "portraitcast"


# ---------------------------------------------------------------- status and deliver


class Rendering:
    """A job whose task runs until it is told to finish, and its execution's input."""

    def __init__(self, stack: Stack, simulator: Simulator, folder: str) -> None:
        self.name, self._stack, self._simulator = f"{folder}line", stack, simulator
        self.report = stack.hold_rendering(self.name)
        states, machine = stack.client("stepfunctions"), stack.outputs["state_machine_arn"]
        # The report is told before the execution is started.
        self.execution = ""
        stack.until(lambda: self._found(states, machine), "the job's execution runs")
        self.input: Event = json.loads(states.describe_execution(executionArn=self.execution)["input"])
        task = self.report["task"]["id"]
        simulator.wait_for(lambda s: any(t["id"] == task and t["status"] == "RUNNING" for t in s["tasks"]), 60)

    def _found(self, states: Any, machine: str) -> bool:
        pages = states.get_paginator("list_executions").paginate(stateMachineArn=machine, statusFilter="RUNNING")
        for page in pages:
            for each in page["executions"]:
                if each["name"].startswith(self.report["job"]):
                    self.execution = each["executionArn"]
        return bool(self.execution)

    def fill(self, name: str) -> Event:
        """Return an event with the ids of this job in it, as README tells its reader to put them there."""
        event, own = read(name), {key: self.input[key] for key in ("job", "attempt", "task", "execution")}
        if "detail" not in event:
            return {**event, **own}
        inside = {**json.loads(event["detail"]["input"]), **own}
        execution = {"executionArn": self.execution, "name": self.execution.rpartition(":")[2]}
        return {**event, "detail": {**event["detail"], **execution, "input": json.dumps(inside)}}

    def finish(self) -> None:
        self._simulator.finish(self.input["task"])
        self._simulator.wait_for(
            lambda s: any(t["id"] == self.input["task"] and t["status"] == "SUCCEEDED" for t in s["tasks"]), 60
        )


@pytest.fixture
def rendering(stack: Stack, simulator: Simulator, folder: str) -> Rendering:
    return Rendering(stack, simulator, folder)


@pytest.fixture
def unmonitored(stack: Stack, rendering: Rendering) -> Iterator[Rendering]:
    """Return such a job whose execution was stopped, and nobody was told: what happens comes of the invocation."""
    events, states = stack.client("events"), stack.client("stepfunctions")
    found = stack.client("cloudformation").describe_stack_resource(StackName=STACK, LogicalResourceId="BadEndRule")
    rule = found["StackResourceDetail"]["PhysicalResourceId"]
    events.disable_rule(Name=rule)
    try:
        states.stop_execution(executionArn=rendering.execution)
        yield rendering
    finally:
        events.enable_rule(Name=rule)


def test_a_poll_of_a_running_task_says_when_to_poll_again(stack: Stack, rendering: Rendering) -> None:
    answer, _ = invoke(stack, "status-poll", rendering.fill("status-poll"))

    assert (answer["status"], answer["ended"]) == ("RUNNING", False)
    assert LEAST_POLL <= answer["wait_seconds"] <= MOST_POLL
    assert answer["task"] == rendering.input["task"]


def test_a_poll_of_a_task_that_ended_says_so(stack: Stack, rendering: Rendering) -> None:
    rendering.finish()

    answer, _ = invoke(stack, "status-poll", rendering.fill("status-poll"))

    assert (answer["status"], answer["ended"]) == ("SUCCEEDED", True)


def test_an_unknown_task_is_not_yet_believed(stack: Stack) -> None:
    answer, _ = invoke(stack, "status-poll")

    assert (answer["status"], answer["ended"], answer["unknown"]) == ("UNKNOWN", False, 1)


def test_a_task_of_more_than_a_day_has_ended(stack: Stack) -> None:
    answer, _ = invoke(stack, "status-task-too-old")

    assert answer["ended"] is True


@pytest.mark.parametrize("name", ["deliver-task-ended", "deliver-poll-broke"])
def test_what_has_ended_is_delivered_and_published(stack: Stack, unmonitored: Rendering, name: str) -> None:
    unmonitored.finish()

    answer, _ = invoke(stack, name, unmonitored.fill(name))

    assert answer["published"] is True
    assert "error" not in answer
    done = stack.report(unmonitored.name)
    assert done["status"] == "done"
    assert sha256(stack.result(f"{unmonitored.name}.mp4")) == done["video"]["sha256"]


def test_a_poll_that_broke_goes_back_into_the_wait(stack: Stack, rendering: Rendering) -> None:
    answer, _ = invoke(stack, "deliver-poll-broke", rendering.fill("deliver-poll-broke"))

    assert (answer["published"], answer["ended"]) == (False, False)
    assert answer["wait_seconds"] >= LEAST_POLL
    assert stack.report(rendering.name)["status"] == "rendering"


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("deliver-*.json")))
def test_an_event_of_a_job_that_does_not_render_changes_nothing(stack: Stack, acme: Acme, name: str) -> None:
    """As the files lie there, they speak of a task that nobody has."""
    before = stack.results("acme/"), acme.revision()

    answer, _ = invoke(stack, name)

    assert answer["published"] is True
    assert (stack.results("acme/"), acme.revision()) == before


def test_an_execution_aborted_by_hand_fails_its_job(stack: Stack, unmonitored: Rendering) -> None:
    answer, _ = invoke(stack, "deliver-execution-aborted", unmonitored.fill("deliver-execution-aborted"))

    assert answer["published"] is True
    assert stack.report(unmonitored.name)["error"]["code"] == "ExecutionAborted"


@pytest.mark.parametrize(
    ("name", "end"), [("deliver-execution-timed-out", "TIMED_OUT"), ("deliver-execution-failed", "FAILED")]
)
def test_an_execution_that_broke_is_told_to_operators_and_its_job_goes_on(
    stack: Stack, unmonitored: Rendering, name: str, end: str
) -> None:
    answer, _ = invoke(stack, name, unmonitored.fill(name))

    assert answer["published"] is True
    notice = stack.operators.wait(lambda n: f"of {unmonitored.name} ended {end}" in n["message"])
    assert notice["subject"] == "Portraitcast: an execution broke"
    assert stack.report(unmonitored.name)["status"] == "rendering"
    unmonitored.finish()
    stack.wait_report(unmonitored.name, "done")


# ---------------------------------------------------------------- what is logged meanwhile

RUNTIMES_OWN = ("START ", "END ", "REPORT ", "INIT_START ")  # lines of Lambda itself


@pytest.fixture(scope="module", autouse=True)
def lines_before(stack: Stack) -> dict[str, int]:
    """Return how long each function's log was before this file: others make functions break on purpose."""
    return {function: len(stack.logs(function).splitlines()) for function in INVOKED}


@pytest.mark.parametrize("function", INVOKED)
def test_every_line_of_a_functions_log_is_json_and_names_its_job_where_it_has_one(
    stack: Stack, rendering: Rendering, function: str, lines_before: dict[str, int]
) -> None:
    rendering.finish()
    stack.wait_report(rendering.name, "done")
    new = stack.logs(function).splitlines()[lines_before[function] :]
    lines = [line for line in new if line and not line.startswith(RUNTIMES_OWN)]

    said = [record for record in map(json.loads, lines) if "message" in record]

    assert said or function == "status"  # a poll that goes well has nothing to say
    nobodys = read("submit-sqs-batch")["Records"][3]["body"]  # is about no job
    nameless = [record for record in said if not record.get("job") and record.get("detail") != nobodys]
    assert [record["message"] for record in nameless if record["level"] != "INFO"] == []


# ---------------------------------------------------------------- all of them, and .local/env.json


def test_no_event_is_forgotten_here() -> None:
    text = Path(__file__).read_text("utf-8")
    assert [path.stem for path in EVENTS.glob("*.json") if f'"{path.stem}"' not in text] == []


def test_env_json_holds_what_each_function_has_and_its_roles_credentials(stack: Stack) -> None:
    """What `make local` writes to .local/env.json is all that `sam local invoke` needs (local/env_file.py)."""
    named = read_template(ROOT / "template.yaml")["Globals"]["Function"]["Environment"]["Variables"]
    for logical_id, variables in stack.run.variables().items():
        configuration = stack.client("lambda").get_function_configuration(FunctionName=stack.run.functions[logical_id])
        added = {name: value for name, value in variables.items() if name.startswith("AWS_")}
        assert set(added) <= set(named)  # else SAM CLI would not set them
        assert {**variables, **configuration["Environment"]["Variables"]} == variables
        sts = boto3.client(
            "sts", endpoint_url=added["AWS_ENDPOINT_URL"], region_name=added["AWS_REGION"],
            aws_access_key_id=added["AWS_ACCESS_KEY_ID"], aws_secret_access_key=added["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=added["AWS_SESSION_TOKEN"],
        )  # fmt: skip
        role = configuration["Role"].rpartition("/")[2]
        assert f":assumed-role/{role}/" in sts.get_caller_identity()["Arn"]


def test_a_functions_role_is_lent_to_nobody_else(stack: Stack) -> None:
    """On AWS only the Lambda service takes it; the engine lends it to `make local` for containers alone."""
    configuration = stack.client("lambda").get_function_configuration(FunctionName=stack.outputs["functions"]["submit"])
    with pytest.raises(ClientError, match="AccessDenied"):
        stack.client("sts").assume_role(RoleArn=configuration["Role"], RoleSessionName="somebody")
