"""Roles: a function has no right that it could do without, and none of the rights that only others have.

Rights are read from template.yaml: one is one action on one resource of one statement. Each is taken away on a deployed
stack, what needs it is done, and breaks. The queue's own calls of submit are switched off, so that nothing happens but
what a test does. What the local engine lets pass whatever a role says is held against the template itself.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from makers import as_m4a, face, new_folder, voice
from test_rights import acting_as, clients_of

from env_file import SESSION
from package import read_template
from portraitcast.domain.uploads import short_hash
from run import ROOT
from stacks import (
    as_record,
    changed_policy,
    deployed,
    own_folder,
    read_uploads,
    role_of,
    take_messages,
    variable_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from run import Run
    from simulator import Simulator

API_KEY = "sk-every-right"
PARAMETERS = {"PairSeconds": "0", "SettleSeconds": "0", "MinPollSeconds": "3600", "MaxPollSeconds": "3600"}
SEQUENCE = itertools.count(1)
ROLES = {
    "submit": ["SubmitRole", "SubmitMayPresign"],
    "prepare": ["PrepareRole"],
    "status": ["StatusRole"],
    "deliver": ["DeliverRole", "DeliverMayReadHistories"],
}
TEMPLATE = read_template(ROOT / "template.yaml")["Resources"]
THE_BUCKET = "arn:${AWS::Partition}:s3:::${Bucket}"


def made_or_existing(which: str) -> dict[str, Any]:
    """Return what names a bucket in the template: the stack's own, or the one that is there already."""
    return {"Fn::If": [f"Makes{which}Bucket", {"Ref": f"{which}Bucket"}, {"Ref": f"Existing{which}Bucket"}]}


UPLOADS, RESULTS = made_or_existing("Upload"), made_or_existing("Results")


@dataclass(frozen=True)
class Right:
    """One action on one resource (by its place in the statement's list) of one statement."""

    function: str
    sid: str
    action: str
    place: int

    def __str__(self) -> str:
        return f"{self.function}-{self.sid}-{self.action}-{self.place}"


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(function: str) -> list[dict[str, Any]]:
    """Return all statements of a function's role, as template.yaml has them."""
    found = []
    for name in ROLES[function]:
        properties = TEMPLATE[name]["Properties"]
        for policy in properties.get("Policies", [properties]):
            found += policy["PolicyDocument"]["Statement"]
    return found


RIGHTS = [
    Right(function, statement["Sid"], action, place)
    for function in ROLES
    for statement in statements(function)
    for action in as_list(statement["Action"])
    for place in range(len(as_list(statement["Resource"])))
]


class Broken(Exception):  # noqa: N818  # not an error of anything: what a test waits for
    """A function did not do what it is there for."""


class Bench:
    """A stack in which nothing happens by itself."""

    def __init__(self, run: Run, simulator: Simulator) -> None:
        self.outputs, self.client, self.simulator = run.outputs, run.client, simulator
        self.s3 = run.client("s3")
        self.folder = new_folder()
        # Tests tell functions of files themselves. A poller that is switched off may still handle what comes just then.
        self.s3.put_bucket_notification_configuration(Bucket=run.outputs["upload_bucket"], NotificationConfiguration={})
        lambdas = run.client("lambda")
        for mapping in lambdas.list_event_source_mappings()["EventSourceMappings"]:
            lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)

    @property
    def name(self) -> str:
        return f"{self.folder}line"

    @property
    def job(self) -> str:
        return short_hash(self.name)

    def anew(self) -> None:
        """Forget all jobs, and go to another folder."""
        self.folder = new_folder()
        self.simulator.clear_faults()
        self.simulator.trouble("ok")
        for queue in ("uploads", "media", "answers"):
            take_messages(self, self.outputs[f"{queue}_queue_url"])
        client, table = self.client("dynamodb"), self.outputs["table"]
        for page in client.get_paginator("scan").paginate(TableName=table):
            for item in page["Items"]:
                client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})

    @contextlib.contextmanager
    def without(self, right: Right) -> Iterator[None]:
        """Take a right away, and everything that a function remembers of having used it."""
        with changed_policy(self, right.function, right.sid, lambda statement: self._less(statement, right)):
            self.start_cold(right.function)
            yield
        self.start_cold(right.function)

    @staticmethod
    def _less(statement: dict[str, Any], right: Right) -> list[dict[str, Any]]:
        actions, resources = as_list(statement["Action"]), as_list(statement["Resource"])
        others = [action for action in actions if action != right.action]
        elsewhere = [resource for place, resource in enumerate(resources) if place != right.place]
        parts = [(others, resources), ([right.action], elsewhere)]
        return [{"Effect": "Allow", "Action": what, "Resource": where} for what, where in parts if what and where]

    def start_cold(self, function: str) -> None:
        """Let the next invocation start a new environment: a warm one remembers the API key."""
        name, lambdas = self.outputs["functions"][function], self.client("lambda")
        timeout = lambdas.get_function_configuration(FunctionName=name)["Timeout"]
        lambdas.update_function_configuration(FunctionName=name, Timeout=timeout)

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """Invoke a function; raise `Broken` if it fails or logs an exception."""
        answer, log = self.run(function, event)
        if "exception_name" in log:
            raise Broken(f"{function}: {answer}\n{log}")
        return answer

    def run(self, function: str, event: dict[str, Any]) -> tuple[Any, str]:
        """Invoke a function; return its answer and its log, raise `Broken` if it fails."""
        answer = self.client("lambda").invoke(
            FunctionName=self.outputs["functions"][function], Payload=json.dumps(event).encode(), LogType="Tail"
        )
        said, log = answer["Payload"].read().decode(), base64.b64decode(answer.get("LogResult", "")).decode()
        if "FunctionError" in answer:
            raise Broken(f"{function}: {said}\n{log}")
        return json.loads(said or "null"), log

    def prepare(self) -> None:
        """Let prepare read what submit has it read, and submit take the answers; raise `Broken` if one fails."""
        read_uploads(self, partial(self._batch, "prepare"), partial(self._batch, "submit"))

    def _batch(self, function: str, batch: dict[str, Any]) -> None:
        if (answer := self.invoke(function, batch))["batchItemFailures"]:
            raise Broken(f"{function}: {answer}")

    def answer(self) -> dict[str, Any]:
        """Return what prepare has answered."""
        for record in take_messages(self, self.outputs["answers_queue_url"]):
            return dict(json.loads(record["body"])["prepared"])
        raise Broken("prepare did not answer")

    def receive(self, queue: str, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message and receive it as Lambda's poller does: nobody else sees it for a while."""
        sqs, url = self.client("sqs"), self.outputs[f"{queue}_queue_url"]
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(message))
        (received,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
        return as_record(received["Body"], received["ReceiptHandle"], url)

    def put(self, key: str, content: bytes) -> dict[str, Any]:
        """Put a file into the upload bucket; return S3's record of it."""
        version = self.s3.put_object(Bucket=self.outputs["upload_bucket"], Key=key, Body=content)["VersionId"]
        return self.record("ObjectCreated:Put", key, versionId=version, size=len(content))

    def record(self, event: str, key: str, **more: Any) -> dict[str, Any]:
        about = {"key": key, "sequencer": f"{next(SEQUENCE):016X}", **more}
        place = {"bucket": {"name": self.outputs["upload_bucket"]}, "object": about}
        return {"eventSource": "aws:s3", "eventName": event, "s3": place}

    def drop(self, **contents: bytes) -> None:
        """Put files of the job, tell submit, and have them prepared."""
        self.invoke(
            "submit", {"Records": [self.put(f"{self.name}.{suffix}", content) for suffix, content in contents.items()]}
        )
        self.prepare()

    def wake(self) -> None:
        """Let submit dispatch, as the wake-up does that follows what was dropped."""
        self.invoke("submit", {"wake": True})

    def report(self) -> dict[str, Any]:
        try:
            body = self.s3.get_object(Bucket=self.outputs["results_bucket"], Key=f"{self.name}.json")["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            raise Broken("there is no report") from None
        report: dict[str, Any] = json.loads(body)
        return report

    def must_be(self, status: str) -> None:
        if (there := self.report()["status"]) != status:
            raise Broken(f"the job is {there}, not {status}")

    def spoil(self, key: str) -> None:
        """Put something of somebody else's into the results bucket."""
        self.s3.put_object(Bucket=self.outputs["results_bucket"], Key=key, Body=b"not ours")

    def execution(self) -> tuple[str, dict[str, Any]]:
        """Return name and input of the job's newest execution."""
        states, machine = self.client("stepfunctions"), self.outputs["state_machine_arn"]
        pages = states.get_paginator("list_executions").paginate(stateMachineArn=machine)
        own = [each for page in pages for each in page["executions"] if each["name"].startswith(self.job)]
        if not own:
            raise Broken("no execution monitors the task")
        newest = max(own, key=lambda each: each["startDate"])
        found = states.describe_execution(executionArn=newest["executionArn"])
        return newest["name"], json.loads(found["input"])

    def finished(self) -> dict[str, Any]:
        """Have a task made and ended; return the execution's state."""
        send(self)
        return self.ended()

    def ended(self) -> dict[str, Any]:
        """Wait until the job's newest task has ended; return its execution's state."""
        state = self.execution()[1]
        self.simulator.wait_for(
            lambda s: any(t["id"] == state["task"] and t["status"] in {"SUCCEEDED", "FAILED"} for t in s["tasks"]), 30
        )
        return state


@pytest.fixture(scope="module")
def one_bench() -> Iterator[Bench]:
    with (
        own_folder() as work,
        deployed(work, PARAMETERS, api_key=API_KEY, task_seconds=0.0, say=lambda _: None) as (run, simulator),
    ):
        yield Bench(run, simulator)


@pytest.fixture(scope="module")
def one_uploading_bench() -> Iterator[Bench]:
    wished = PARAMETERS | {"InputTransfer": "upload"}
    with (
        own_folder() as work,
        deployed(work, wished, api_key=API_KEY, task_seconds=0.0, say=lambda _: None) as (run, simulator),
    ):
        yield Bench(run, simulator)


@pytest.fixture
def uploading_bench(one_uploading_bench: Bench) -> Bench:
    one_uploading_bench.anew()
    return one_uploading_bench


@pytest.fixture
def bench(one_bench: Bench) -> Bench:
    one_bench.anew()
    return one_bench


# ---------------------------------------------------------------- What functions are there for


def send(bench: Bench) -> None:
    bench.drop(png=face(), wav=voice())
    bench.wake()
    bench.must_be("rendering")
    bench.execution()


def wait(bench: Bench) -> None:
    bench.drop(wav=voice())
    bench.must_be("waiting")


def serve_a_folder(bench: Bench) -> None:
    wait(bench)
    bench.invoke("submit", {"Records": [bench.put(f"{bench.folder}anna.png", face())]})
    for _ in range(2):  # once for the picture, and again when it has been read
        bench.invoke("submit", {"folder": short_hash(bench.folder.rstrip("/"))})
        bench.prepare()
    bench.wake()
    bench.must_be("rendering")


def read_settings(bench: Bench) -> None:
    bench.drop(json=b'{"parameters": {"style_level": "calm"}}', png=face(), wav=voice())
    if (bench.report()["settings"] or {}).get("style_level") != "calm":
        raise Broken("the settings are not read")


def make_an_asset(bench: Bench) -> None:
    bench.drop(png=face(), m4a=as_m4a(voice(1.0, next(SEQUENCE))))  # of a content that no asset was made of before
    bench.wake()
    bench.must_be("rendering")


def prepare_without_versions(bench: Bench) -> None:
    """Read an upload as it lies in a bucket that has no versions."""
    bench.put(f"{bench.name}.wav", voice())
    order = {"key": f"{bench.name}.wav", "version": "null", "etag": "", "kind": "voice", "bytes": len(voice())}
    bench.invoke("prepare", {"Records": [as_record(json.dumps({"prepare": order}), "none")]})
    if "facts" not in bench.answer():
        raise Broken("prepare did not read the upload")


def see_a_deletion(bench: Bench) -> None:
    bench.drop(wav=voice())
    bench.s3.delete_object(Bucket=bench.outputs["upload_bucket"], Key=f"{bench.name}.wav")
    bench.invoke("submit", {"Records": [bench.record("ObjectRemoved:Delete", f"{bench.name}.wav")]})
    bench.must_be("withdrawn")


def scan(bench: Bench) -> None:
    bench.put(f"{bench.name}.wav", voice())
    bench.invoke("submit", {"scan": bench.folder})
    bench.must_be("waiting")


def take_the_reports_name_back(bench: Bench) -> None:
    bench.spoil(f"{bench.name}.json")
    wait(bench)


def refuse(bench: Bench) -> None:
    bench.drop(png=face(), wav=b"no voice")
    bench.must_be("rejected")


def hold(bench: Bench) -> None:
    bench.simulator.trouble("arrearage")
    bench.drop(png=face(), wav=voice())
    bench.wake()
    bench.must_be("queued")


def sweep(bench: Bench) -> None:
    bench.invoke("submit", {"sweep": True})


def find_the_execution_again(bench: Bench) -> None:
    send(bench)
    bench.invoke("submit", {"reconcile": bench.job})


def have_a_message_again(bench: Bench, queue: str, message: dict[str, Any]) -> None:
    """A message that can't be handled now comes again soon, not after the queue's whole timeout."""
    record = bench.receive(queue, message)
    with changed_policy(bench, "submit", "Jobs", lambda _: []):
        answer, log = bench.run("submit", {"Records": [record]})
    if not answer["batchItemFailures"] or "only after the queue's timeout" in log:
        raise Broken(f"{answer}\n{log}")


def have_an_order_again(bench: Bench) -> None:
    have_a_message_again(bench, "uploads", {"reconcile": bench.job})


def have_an_answer_again(bench: Bench) -> None:
    gone = {"key": f"{bench.name}.wav", "version": "v", "etag": "", "gone": True}
    have_a_message_again(bench, "answers", {"prepared": gone})


def poll(bench: Bench) -> None:
    if not bench.invoke("status", bench.finished())["ended"]:
        raise Broken("status did not see that the task has ended")


def deliver(bench: Bench) -> None:
    if not bench.invoke("deliver", bench.finished())["published"]:
        raise Broken("deliver did not publish")
    bench.must_be("done")
    bench.s3.head_object(Bucket=bench.outputs["results_bucket"], Key=f"{bench.name}.mp4")


def ask_again(bench: Bench) -> None:
    deliver(bench)
    bench.drop(wav=voice())
    if not bench.report()["asked_again_at"]:
        raise Broken("the report does not say that it was asked again")


def deliver_over_somebody_elses_report(bench: Bench) -> None:
    state = bench.finished()
    bench.spoil(f"{bench.name}.json")
    if not bench.invoke("deliver", state)["published"]:
        raise Broken("deliver did not publish")
    bench.must_be("done")


def deliver_over_an_earlier_video(bench: Bench) -> None:
    deliver(bench)
    bench.drop(wav=voice(1.0, 2))
    bench.wake()
    if not bench.invoke("deliver", bench.ended())["published"]:
        raise Broken("deliver did not publish")
    bench.must_be("done")


def give_one_more_attempt(bench: Bench) -> None:
    bench.simulator.fault({"task_fails": {"code": "InternalError.Timeout"}}, match={"contains": bench.folder})
    bench.invoke("deliver", bench.finished())
    bench.must_be("queued")


def explain_a_broken_execution(bench: Bench) -> None:
    state = bench.finished()
    name, _ = bench.execution()
    arn = f"{bench.outputs['state_machine_arn'].replace(':stateMachine:', ':execution:')}:{name}"
    detail = {"status": "FAILED", "name": name, "executionArn": arn, "input": json.dumps(state)}
    bench.invoke("deliver", {"source": "aws.states", "detail": detail})


# What needs each right: by statement, or by statement and action, or by statement, action and resource.
NEEDED_FOR: dict[str, Callable[[Bench], None]] = {
    "submit-UploadsQueue-sqs:SendMessage": serve_a_folder,
    "submit-UploadsQueue-sqs:ChangeMessageVisibility": have_an_order_again,
    "submit-AnswersQueue-sqs:ChangeMessageVisibility": have_an_answer_again,
    "submit-ReadUploads-s3:GetObject-": see_a_deletion,
    "submit-ReadUploads-s3:GetObjectVersion": read_settings,
    "submit-HavePrepared": send,
    "prepare-ReadUploads-s3:GetObject-": prepare_without_versions,
    "prepare-ReadUploads-s3:GetObjectVersion": send,
    "prepare-Assets": make_an_asset,
    "prepare-Answer": send,
    "submit-ListUploads": scan,
    "submit-WriteReports-s3:GetObject": take_the_reports_name_back,
    "submit-WriteReports-s3:PutObject": wait,
    "submit-SeeWhetherTheVideoIsThere": ask_again,
    "submit-Jobs": send,
    "submit-OpenJobs": sweep,
    "submit-Key": send,
    "submit-Monitor": send,
    "submit-SeeExecutions": find_the_execution_again,
    "submit-Notify-sns:Publish-0": refuse,
    "submit-Notify-sns:Publish-1": hold,
    "submit-PublishEvents": wait,
    "submit-Presign": send,
    "status-Key": poll,
    "deliver-Wake-sqs:SendMessage-0": give_one_more_attempt,
    "deliver-WriteResults-s3:GetObject-0": deliver_over_somebody_elses_report,
    "deliver-WriteResults-s3:GetObject-1": deliver_over_an_earlier_video,
    "deliver-WriteResults-s3:PutObject": deliver,
    "deliver-Jobs-dynamodb:Query": give_one_more_attempt,
    "deliver-Jobs": deliver,
    "deliver-Key": deliver,
    "deliver-FindCauses": explain_a_broken_execution,
    "deliver-Notify-sns:Publish-0": deliver,
    "deliver-Notify-sns:Publish-1": explain_a_broken_execution,
    "deliver-PublishEvents": deliver,
}
# What the engine lets pass without asking the role; tests below hold the template to it instead.
NOT_ENFORCED = {
    "Logs": "Lambda itself writes logs",
    "Traces": "Lambda itself sends traces",
    "UploadsQueue-sqs:ReceiveMessage": "Lambda's poller",
    "UploadsQueue-sqs:DeleteMessage": "Lambda's poller",
    "UploadsQueue-sqs:GetQueueAttributes": "Lambda's poller",
    "MediaQueue": "Lambda's poller",
    "AnswersQueue-sqs:ReceiveMessage": "Lambda's poller",
    "AnswersQueue-sqs:DeleteMessage": "Lambda's poller",
    "AnswersQueue-sqs:GetQueueAttributes": "Lambda's poller",
    "MissingReadsAs404": "without it S3 answers 403 for a missing key, the engine 404 all the same",
    "MissingAssetsReadAs404": "without it S3 answers 403 for a missing key, the engine 404 all the same",
    "MissingResultsReadAs404": "without it S3 answers 403 for a missing key, the engine 404 all the same",
    "Wake-sqs:SendMessage-1": "Lambda sends there what deliver could not take from its rule",
}


def is_enforced(right: Right) -> bool:
    return not any(str(right).startswith(f"{right.function}-{what}") for what in NOT_ENFORCED)


def story_of(right: Right) -> Callable[[Bench], None]:
    for what, story in NEEDED_FOR.items():
        if f"{right}-".startswith(what):
            return story
    pytest.fail(f"nobody knows what {right} is needed for")


@pytest.mark.parametrize("story", sorted(set(NEEDED_FOR.values()), key=lambda each: getattr(each, "__name__", "")))
def test_with_all_its_rights_a_function_does_its_work(bench: Bench, story: Callable[[Bench], None]) -> None:
    story(bench)


@pytest.mark.parametrize("right", [right for right in RIGHTS if is_enforced(right)], ids=str)
def test_a_function_without_one_of_its_rights_breaks(bench: Bench, right: Right) -> None:
    with bench.without(right), pytest.raises(Broken):
        story_of(right)(bench)


# What submit needs besides where it uploads inputs: it reads what links else let the service read.
UPLOADING = {
    Right("submit", "ReadAssets", "s3:GetObject", 0): make_an_asset,
    Right("submit", "ReadUploads", "s3:GetObjectVersion", 0): send,
}


@pytest.mark.parametrize("right", UPLOADING, ids=str)
def test_uploads_need_their_rights(uploading_bench: Bench, right: Right) -> None:
    UPLOADING[right](uploading_bench)
    uploading_bench.anew()
    with uploading_bench.without(right), pytest.raises(Broken):
        UPLOADING[right](uploading_bench)


def test_where_inputs_are_uploaded_no_link_is_signed(uploading_bench: Bench) -> None:
    with uploading_bench.without(Right("submit", "Presign", "sts:AssumeRole", 0)):
        send(uploading_bench)
    assert all(task["audio_url"].startswith("oss://") for task in uploading_bench.simulator.state()["tasks"][-1:])


def test_reading_assets_is_all_that_uploads_add() -> None:
    added = TEMPLATE["SubmitMayReadAssets"]
    (statement,) = added["Properties"]["PolicyDocument"]["Statement"]

    assert added["Condition"] == "UploadsInputs"
    assert added["Properties"]["Roles"] == [{"Ref": "SubmitRole"}]
    assert (statement["Action"], statement["Resource"]) == ("s3:GetObject", {"Fn::Sub": "${WorkBucket.Arn}/assets/*"})


def test_what_was_taken_away_is_there_again(bench: Bench) -> None:
    ask_again(bench)


# ---------------------------------------------------------------- The rights of others

KEY = {"pk": {"S": "none"}, "sk": {"S": "none"}}


def table(operation: str, **more: Any) -> Callable[..., object]:
    return lambda client, o: getattr(client("dynamodb"), operation)(TableName=o["table"], **more)


def bucket(operation: str, which: str, **more: Any) -> Callable[..., object]:
    return lambda client, o: getattr(client("s3"), operation)(Bucket=o[which], **more)


QUERY = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "none"}}}
OPEN = {
    "IndexName": "open",
    "KeyConditionExpression": "#o = :p",
    "ExpressionAttributeNames": {"#o": "open"},
    "ExpressionAttributeValues": {":p": {"S": "open"}},
}
# A call for each right: what it may do, said once more and apart from template.yaml.
CALLS: dict[str, tuple[set[str], Callable[..., object]]] = {
    "send to the uploads queue": (
        {"submit", "deliver"},
        lambda c, o: c("sqs").send_message(QueueUrl=o["uploads_queue_url"], MessageBody='{"wake": true}'),
    ),
    "send to the answers queue": (
        {"prepare"},
        lambda c, o: c("sqs").send_message(QueueUrl=o["answers_queue_url"], MessageBody='{"wake": true}'),
    ),
    "read the answers queue": ({"submit"}, lambda c, o: c("sqs").receive_message(QueueUrl=o["answers_queue_url"])),
    "send to the media queue": (
        {"submit"},
        lambda c, o: c("sqs").send_message(QueueUrl=o["media_queue_url"], MessageBody="{}"),
    ),
    "read the media queue": ({"prepare"}, lambda c, o: c("sqs").receive_message(QueueUrl=o["media_queue_url"])),
    "read the uploads queue": ({"submit"}, lambda c, o: c("sqs").receive_message(QueueUrl=o["uploads_queue_url"])),
    "send to the dead letters of uploads": (
        set(),
        lambda c, o: c("sqs").send_message(QueueUrl=o["dead_letter_queue_url"], MessageBody="{}"),
    ),
    "purge the uploads queue": (set(), lambda c, o: c("sqs").purge_queue(QueueUrl=o["uploads_queue_url"])),
    "read an upload": ({"submit", "prepare"}, bucket("get_object", "upload_bucket", Key="rights.wav")),
    "list uploads": ({"submit", "prepare"}, bucket("list_objects_v2", "upload_bucket")),
    "write an upload": (set(), bucket("put_object", "upload_bucket", Key="rights.txt", Body=b"")),
    "delete an upload": (set(), bucket("delete_object", "upload_bucket", Key="rights.wav")),
    "write an asset": ({"prepare"}, bucket("put_object", "work_bucket", Key="assets/rights.wav", Body=b"")),
    "read an asset": ({"prepare"}, bucket("get_object", "work_bucket", Key="assets/rights.wav")),
    "delete an asset": (set(), bucket("delete_object", "work_bucket", Key="assets/rights.wav")),
    "read a report": ({"submit", "deliver"}, bucket("get_object", "results_bucket", Key="rights.json")),
    "write a report": ({"submit", "deliver"}, bucket("put_object", "results_bucket", Key="rights.json", Body=b"")),
    "look at a video": ({"submit", "deliver"}, bucket("head_object", "results_bucket", Key="rights.mp4")),
    "write a video": ({"deliver"}, bucket("put_object", "results_bucket", Key="rights.mp4", Body=b"")),
    "write another result": (set(), bucket("put_object", "results_bucket", Key="rights.html", Body=b"")),
    "delete a video": (set(), bucket("delete_object", "results_bucket", Key="rights.mp4")),
    "list results": ({"submit", "deliver"}, bucket("list_objects_v2", "results_bucket")),
    "open the results to all": (set(), bucket("delete_public_access_block", "results_bucket")),
    "read the table": ({"submit", "deliver"}, table("get_item", Key=KEY)),
    "ask the table": ({"submit", "deliver"}, table("query", **QUERY)),
    "ask for open jobs": ({"submit"}, table("query", **OPEN)),
    "put into the table": ({"submit", "deliver"}, table("put_item", Item=KEY)),
    "update the table": ({"submit", "deliver"}, table("update_item", Key=KEY)),
    "delete from the table": ({"submit"}, table("delete_item", Key=KEY)),
    "scan the table": (set(), table("scan")),
    "delete the table": (set(), table("delete_table")),
    "read the key": (
        {"submit", "status", "deliver"},
        lambda c, o: c("secretsmanager").get_secret_value(SecretId=o["api_key_secret_arn"]),
    ),
    "change the key": (
        set(),
        lambda c, o: c("secretsmanager").put_secret_value(SecretId=o["api_key_secret_arn"], SecretString="x"),
    ),
    "start an execution": (
        {"submit"},
        lambda c, o: c("stepfunctions").start_execution(
            stateMachineArn=o["state_machine_arn"], name=uuid.uuid4().hex, input='{"wait_seconds": 3600}'
        ),
    ),
    "end an execution": (
        set(),
        lambda c, o: c("stepfunctions").stop_execution(
            executionArn=o["state_machine_arn"].replace(":stateMachine:", ":execution:") + ":none"
        ),
    ),
    "notify people": ({"submit", "deliver"}, lambda c, o: c("sns").publish(TopicArn=o["topic_arn"], Message="m")),
    "notify operators": (
        {"submit", "deliver"},
        lambda c, o: c("sns").publish(TopicArn=o["operator_topic_arn"], Message="m"),
    ),
    "subscribe": (
        set(),
        lambda c, o: c("sns").subscribe(TopicArn=o["topic_arn"], Protocol="sqs", Endpoint="arn:aws:sqs:x:1:y"),
    ),
    "publish events": (
        {"submit", "deliver"},
        lambda c, o: c("events").put_events(
            Entries=[{"EventBusName": o["event_bus"], "Source": "t", "DetailType": "t", "Detail": "{}"}]
        ),
    ),
    "invoke a function": (
        set(),
        lambda c, o: c("lambda").invoke(FunctionName=o["functions"]["status"], Payload=b"{}"),
    ),
    "look at roles": (set(), lambda c, _: c("iam").list_roles()),
}


@pytest.mark.parametrize("function", ROLES)
def test_a_function_may_make_its_own_calls_and_is_refused_all_others(bench: Bench, function: str) -> None:
    for key in ("rights.json", "rights.mp4"):
        bench.spoil(key)
    bench.put("rights.wav", b"")
    client = acting_as(bench, function)  # type: ignore[arg-type]  # has what it uses of a Stack
    may = set()
    for what, (_, call) in CALLS.items():
        try:
            call(client, bench.outputs)
        except ClientError as error:
            if error.response["Error"]["Code"] in {
                "403",
                "AccessDenied",
                "AccessDeniedException",
                "AuthorizationError",
            }:
                continue
            if "not authorized" in str(error):
                continue
            raise
        may.add(what)

    assert may == {what for what, (functions, _) in CALLS.items() if function in functions}


# ---------------------------------------------------------------- What the engine lets pass, on the template


def of(function: str, sid: str) -> dict[str, Any]:
    (found,) = [statement for statement in statements(function) if statement["Sid"] == sid]
    return found


@pytest.mark.parametrize("function", ROLES)
def test_a_function_writes_into_its_own_log_group_and_makes_none(function: str) -> None:
    logs = TEMPLATE[f"{function.title()}Function"]["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]

    assert of(function, "Logs")["Action"] == ["logs:CreateLogStream", "logs:PutLogEvents"]
    assert of(function, "Logs")["Resource"] == {"Fn::GetAtt": [logs, "Arn"]}
    assert TEMPLATE[logs]["Properties"]["RetentionInDays"] == 90


@pytest.mark.parametrize("function", ROLES)
def test_nothing_but_traces_is_allowed_on_all_resources(function: str) -> None:
    everywhere = [statement["Sid"] for statement in statements(function) if "*" in as_list(statement["Resource"])]

    assert everywhere == ["Traces"]
    assert of(function, "Traces")["Action"] == ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]


@pytest.mark.parametrize("function", ROLES)
def test_no_action_is_a_pattern(function: str) -> None:
    assert not [right for right in RIGHTS if right.function == function and "*" in right.action]


@pytest.mark.parametrize(
    ("function", "event"), [("submit", "Uploads"), ("submit", "Answers"), ("prepare", "Media")], ids=str
)
def test_a_function_has_what_lambdas_poller_needs_on_its_queue(function: str, event: str) -> None:
    queue = TEMPLATE[f"{function.title()}Function"]["Properties"]["Events"][event]["Properties"]["Queue"]

    may = of(function, f"{event}Queue")
    assert may["Resource"] == queue
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"} <= set(may["Action"])


def test_deliver_may_send_to_the_dead_letters_because_lambda_sends_there_in_its_name() -> None:
    destination = TEMPLATE["DeliverAsyncConfig"]["Properties"]["DestinationConfig"]["OnFailure"]["Destination"]

    assert of("deliver", "Wake")["Resource"][1] == destination


@pytest.mark.parametrize("function", ["submit", "deliver"])
def test_a_missing_result_reads_as_404_to_who_reads_results(function: str) -> None:
    assert of(function, "MissingResultsReadAs404")["Action"] == "s3:ListBucket"
    assert of(function, "MissingResultsReadAs404")["Resource"] == {"Fn::Sub": [THE_BUCKET, {"Bucket": RESULTS}]}
    under_prefix = {"StringLikeIfExists": {"s3:prefix": {"Fn::Sub": "${ResultsPrefix}*"}}}
    assert of(function, "MissingResultsReadAs404")["Condition"] == under_prefix


def test_links_can_only_read_uploads_and_assets() -> None:
    properties = TEMPLATE["LinkRole"]["Properties"]
    (found,) = [policy["PolicyDocument"]["Statement"] for policy in properties["Policies"]]

    assert [(each["Action"], each["Resource"]["Fn::Sub"]) for each in found] == [
        (["s3:GetObject", "s3:GetObjectVersion"], [f"{THE_BUCKET}/${{UploadPrefix}}*", {"Bucket": UPLOADS}]),
        ("s3:GetObject", "${WorkBucket.Arn}/assets/*"),
    ]
    assert properties["MaxSessionDuration"] == 3600


def test_links_are_signed_for_submit_alone(bench: Bench) -> None:
    """LinkRole names submit by a condition: the root of the account and the other functions don't get it."""
    (trust,) = TEMPLATE["LinkRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    submit = {"Fn::GetAtt": ["SubmitRole", "Arn"]}
    assert trust["Condition"] == {"ArnEquals": {"aws:PrincipalArn": submit}}
    assert trust["Principal"] == {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}

    link_role = variable_of(bench, "submit", "LINK_ROLE_ARN")
    sts = bench.client("sts")
    may = set()
    for who in [*ROLES, "root"]:
        client: Callable[[str], Any] = bench.client
        if who != "root":
            arn = f"{link_role.partition(':role/')[0]}:role/{role_of(bench, who)}"
            lent = sts.assume_role(RoleArn=arn, RoleSessionName=SESSION)["Credentials"]
            client = clients_of(bench, lent)  # type: ignore[arg-type]  # has what it uses of a Stack
        with contextlib.suppress(ClientError):
            client("sts").assume_role(RoleArn=link_role, RoleSessionName="test")
            may.add(who)
    assert may == {"submit"}


def test_the_machine_may_call_its_two_functions_and_is_this_accounts() -> None:
    properties = TEMPLATE["StateMachineRole"]["Properties"]
    ((call, traces),) = [policy["PolicyDocument"]["Statement"] for policy in properties["Policies"]]
    (trust,) = properties["AssumeRolePolicyDocument"]["Statement"]

    assert call["Action"] == "lambda:InvokeFunction"
    assert call["Resource"] == [{"Fn::GetAtt": [f"{name}Function", "Arn"]} for name in ("Status", "Deliver")]
    assert all(action.startswith("xray:") for action in traces["Action"])
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


POLICIES = [
    name for name, each in TEMPLATE.items() if each["Type"].endswith(("BucketPolicy", "QueuePolicy", "TopicPolicy"))
]


@pytest.mark.parametrize("name", POLICIES)
def test_nobody_but_who_is_named_may_and_that_over_tls_only(name: str) -> None:
    found = TEMPLATE[name]["Properties"]["PolicyDocument"]["Statement"]
    denied = [each for each in found if each["Effect"] == "Deny"]

    assert [each["Condition"] for each in denied] == [{"Bool": {"aws:SecureTransport": "false"}}]
    assert denied[0]["Principal"] == "*"
    for each in found:
        if each["Effect"] == "Allow":
            assert each["Principal"] != "*"
            if "Service" in each["Principal"]:  # bound to the account, or to the one rule that sends
                assert set(each["Condition"]) & {"StringEquals", "ArnEquals"}, each["Sid"]


def test_every_bucket_queue_and_topic_has_a_policy() -> None:
    kinds = {"AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::SNS::Topic"}

    guarded = [
        each["Ref"]
        for name in POLICIES
        for of in ("Bucket", "Queues", "Topics")
        for each in as_list(TEMPLATE[name]["Properties"].get(of, []))
    ]
    assert sorted(guarded) == sorted(name for name, each in TEMPLATE.items() if each["Type"] in kinds)


def test_a_customers_key_is_used_by_who_reads_or_writes_what_lies_under_it_and_links_open_with_it() -> None:
    both = {name: TEMPLATE[name] for name in ("UsesCustomerKey", "ReadsWithCustomerKey")}
    rights = {
        role["Ref"]: as_list(policy["Properties"]["PolicyDocument"]["Statement"][0]["Action"])
        for policy in both.values()
        for role in policy["Properties"]["Roles"]
    }

    assert rights == {
        "SubmitRole": ["kms:Decrypt", "kms:GenerateDataKey"],
        "PrepareRole": ["kms:Decrypt", "kms:GenerateDataKey"],
        "DeliverRole": ["kms:Decrypt", "kms:GenerateDataKey"],
        "StatusRole": ["kms:Decrypt"],
        "LinkRole": ["kms:Decrypt"],
    }
    assert all(policy["Condition"] == "HasCustomerKey" for policy in both.values())
    assert all(
        policy["Properties"]["PolicyDocument"]["Statement"][0]["Resource"] == {"Ref": "CustomerKeyArn"}
        for policy in both.values()
    )
