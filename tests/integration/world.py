"""A stack in one process: the product's real objects over moto, the EMO simulator over HTTP, and a clock to turn.

Time passes only for the product and for the provider's clock: a message or an execution that is due later moves the
clock there, so nothing sleeps. What S3, SQS and Step Functions would do by themselves (events, delays, redelivery, the
wait loop) is done here, in the order of time.
"""

from __future__ import annotations

import hashlib
import heapq
import importlib
import io
import itertools
import json
import re
import threading
import time
import wave
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import boto3
import numpy as np
import yaml
from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError, ClientError
from moto.core import DEFAULT_ACCOUNT_ID
from moto.stepfunctions.models import stepfunctions_backends
from PIL import Image, PngImagePlugin

from portraitcast.adapters.buckets import NO_VERSION, Results, Uploads
from portraitcast.adapters.dashscope import Created, DashScope
from portraitcast.adapters.executions import ExecutionHistory, Executions
from portraitcast.adapters.jobs_table import JobsTable
from portraitcast.adapters.notifications import Notifications
from portraitcast.adapters.queues import Queue
from portraitcast.adapters.records import from_plain, to_plain
from portraitcast.adapters.temporary_storage import TemporaryStorage
from portraitcast.bootstrap import deliver, submit
from portraitcast.domain.execution import Execution
from portraitcast.domain.job import Inputs, Job, iso
from portraitcast.domain.models import DEFAULT, MODELS, Boxes, StackModels
from portraitcast.domain.uploads import Name, Upload, classify
from portraitcast.errors import MessageError, TryLaterError
from portraitcast.workflows.create_task import Limits
from portraitcast.workflows.deliver import EndedExecution
from portraitcast.workflows.evaluate import QuietPeriods
from portraitcast.workflows.monitor import PollBounds
from portraitcast.workflows.poll import Poll
from portraitcast.workflows.submit import Origin, Received
from portraitcast_media import child
from preparing import Preparing
from preparing import Upload as PreparedUpload
from storage import Answers, Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import HTTPServer

    from portraitcast.adapters.presign import LinkedObject
    from simulator import Simulator

REGION = "eu-central-1"
TEMPLATE = Path(__file__).parents[2] / "template.yaml"
TABLE = "jobs"
UPLOADS, RESULTS, WORK = "uploads", "results", "work"
QUEUE, MEDIA_QUEUE, ANSWERS_QUEUE = "uploads-queue", "media-queue", "answers-queue"
MAX_VOICE_SECONDS = 600.0
BUS = "jobs-bus"
THE_EVENT = (BUS, "portraitcast", "Job State Changed")

PUT_EVENTS = "provide-client-params.events.PutEvents"
HOPS = 16  # invocations of a function in one chain, before Lambda stops it
LAMBDA_RETRY = 2  # seconds until the state machine calls a function again that died

REFUSED = {  # by the provider, for what is in a file
    "status": 400,
    "body": {
        "code": "DataInspectionFailed",
        "message": "Input data may contain inappropriate content.",
        "request_id": "r",
    },
}

Message = dict[str, Any]


def _in_this_process(function: str, arguments: dict[str, Any], *_: Any) -> dict[str, Any]:
    """Stand in for `child.run`: the decoders are loaded once, and there is nobody's file here to be afraid of."""
    module, _sep, name = function.partition(":")
    result: dict[str, Any] = getattr(importlib.import_module(f"portraitcast_media.{module}"), name)(**arguments)
    return result


child.run = _in_this_process  # type: ignore[assignment]  # it takes fewer arguments


class Died(BaseException):
    """The function's process is gone: nothing of ours may catch it."""


# ---------------------------------------------------------------------- files
def voice(seconds: float = 0.4, *, pitch: float = 0.08) -> bytes:
    """Return a WAV; another pitch is another voice of the same length."""
    samples = np.sin(np.arange(round(seconds * 16_000)) * pitch) * 12_000
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


def portrait(shade: int = 60, *, note: str | None = None, size: tuple[int, int] = (400, 400)) -> bytes:
    """Return a PNG; another shade is another picture; the simulator's check refuses it with `note`."""
    image = Image.new("RGB", size, (200, 160, 140))
    image.paste((shade, 70, 90), (0, 0, 40, 40))
    text = PngImagePlugin.PngInfo()
    if note:
        text.add_text("portraitcast-sim", note)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=text)
    return out.getvalue()


def sha256(data: bytes) -> str:
    """Return what reports and the simulator say of a file's content."""
    return hashlib.sha256(data).hexdigest()


def named(key: str) -> Name:
    """Return a key that counts, taken apart."""
    name = classify(key)
    assert name is not None, f"{key} doesn't count"
    return name


def upload(key: str = "acme/line.wav", version: str = "v1", sequencer: str = "01", **fields: Any) -> Upload:
    """Return an upload of 10 bytes, with fields as a test needs them."""
    fields = {"bytes": 10, "noticed_at": 1_800_000_000.0} | fields
    return Upload(named(key), version, sequencer=sequencer, **fields)


def new_job(name: str = "acme/line", *, at: float = 1_800_000_000.0, **fields: Any) -> Job:
    """Return a job that was not there before, with fields as a test needs them."""
    its = named(f"{name}.wav")
    inputs = fields.pop("inputs", Inputs(its.stem))
    return replace(Job.new(its.job, its.name, its.folder, inputs, at), **fields)


# ---------------------------------------------------------------------- what moto stands in for
class _Template(yaml.SafeLoader):
    """Reads a CloudFormation template; what its functions give isn't asked for here."""


def _condition(loader: _Template, node: yaml.SequenceNode) -> Any:
    """Give what holds without a condition: the template's defaults."""
    return loader.construct_sequence(node, deep=True)[2]


_Template.add_multi_constructor("!", lambda _loader, suffix, _node: suffix)
_Template.add_constructor("!If", _condition)


_template = yaml.load(TEMPLATE.read_text(), _Template)  # noqa: S506  # a SafeLoader
_uploads_queue = _template["Resources"]["UploadsQueue"]["Properties"]
SUBMIT_SECONDS: int = _template["Resources"]["SubmitFunction"]["Properties"]["Timeout"]
UPLOADING_SUBMIT_SECONDS = 300  # with InputTransfer upload
VISIBILITY: int = _uploads_queue["VisibilityTimeout"]  # seconds until SQS gives a failed message again
MEDIA_VISIBILITY: int = _template["Resources"]["MediaQueue"]["Properties"]["VisibilityTimeout"]
RECEIVES: int = _uploads_queue["RedrivePolicy"]["maxReceiveCount"]  # then it is a dead letter
MEDIA_RECEIVES: int = _template["Resources"]["MediaQueue"]["Properties"]["RedrivePolicy"]["maxReceiveCount"]


def table_definition() -> dict[str, Any]:
    """Return keys and indexes of the Jobs table as template.yaml defines them."""
    properties = _template["Resources"]["JobsTable"]["Properties"]
    wanted = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    return {name: properties[name] for name in wanted}


@cache
def client(service: str) -> Any:
    """Return a client; making one takes longer than most tests, and moto forgets everything between them anyhow."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(service, region_name=REGION, **keys)  # type: ignore[call-overload]  # any service


def make_table() -> JobsTable:
    """Create the Jobs table in moto."""
    client("dynamodb").create_table(TableName=TABLE, **table_definition())
    return JobsTable(client("dynamodb"), TABLE)


VERSIONED, SUSPENDED, UNVERSIONED = "Enabled", "Suspended", None


def make_bucket(name: str, versioning: str | None = VERSIONED) -> Any:
    """Create a bucket in moto, versioned unless another state is asked for, and return an S3 client."""
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    if versioning is not None:
        client("s3").put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": versioning})
    return client("s3")


def keys(bucket: str) -> set[str]:
    """List the keys of a bucket."""
    return {entry["Key"] for entry in client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])}


def items(pk: str) -> list[dict[str, Any]]:
    """Return a partition of the Jobs table as it is stored."""
    answer = client("dynamodb").query(
        TableName=TABLE, KeyConditionExpression="pk = :p", ExpressionAttributeValues={":p": {"S": pk}}
    )
    return list(answer["Items"])


def forget(key: str) -> None:
    """Let what the table knows of a file expire."""
    name = named(key)
    for item in items(f"JOB#{name.job}"):
        if item.get("key") == {"S": key}:
            client("dynamodb").delete_item(TableName=TABLE, Key={"pk": item["pk"], "sk": item["sk"]})


@contextmanager
def on_call(service: str, event: str, do: Callable[..., Any]) -> Iterator[None]:
    """Have a function called at one of botocore's events meanwhile, before moto is."""
    hooks = client(service).meta.events
    hooks.register_first(event, do, unique_id=f"world {event}")
    try:
        yield
    finally:
        hooks.unregister(event, unique_id=f"world {event}")


class _Body(io.BytesIO):
    """A body as botocore wants one: its HTTP client has `stream`."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


@dataclass(frozen=True)
class S3Error:
    """What S3 answers instead of an object: an HTTP status, a code and a message. HEAD tells the status only."""

    status: int
    code: str
    message: str


@contextmanager
def s3_answers(error: S3Error, *keys: str, operation: str = "GetObject", times: int | None = None) -> Iterator[None]:
    """Let S3 refuse calls about some keys, so many times or always, as moto can't."""
    left = [times]

    def answer(request: Any, **_: Any) -> AWSResponse | None:
        if unquote(urlsplit(request.url).path).partition("/")[2].removeprefix(f"{UPLOADS}/") not in keys:
            return None
        if left[0] is not None:
            if left[0] <= 0:
                return None
            left[0] -= 1
        text = f"<Error><Code>{error.code}</Code><Message>{error.message}</Message></Error>"
        body = "" if request.method == "HEAD" else text
        headers: Any = {"content-type": "application/xml"}
        return AWSResponse(request.url, error.status, headers, _Body(body.encode()))

    with on_call("s3", f"before-send.s3.{operation}", answer):
        yield


class Reads:
    """How many items DynamoDB read for queries, as it charges for them."""

    def __init__(self) -> None:
        self.items = 0

    def count(self, parsed: dict[str, Any], **_: Any) -> None:
        self.items += parsed["ScannedCount"]


@contextmanager
def counting_reads() -> Iterator[Reads]:
    """Count meanwhile what DynamoDB reads for queries."""
    reads = Reads()
    with on_call("dynamodb", "after-call.dynamodb.Query", reads.count):
        yield reads


class FileServer:
    """Serves versions of uploaded objects over loopback, as presigned links would; stands in for `presign.Links`."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # Not `self.path`, in which http.server makes "//" "/"; S3 does not.
                path, _sep, fields = self.requestline.split()[1].partition("?")
                query = dict(parse_qsl(fields))
                version = {"VersionId": query["versionId"]} if "versionId" in query else {}
                bucket = query.get("bucket", UPLOADS)
                body = client("s3").get_object(Bucket=bucket, Key=unquote(path[1:]), **version)["Body"].read()
                self.send_response(200)
                self.send_header("Content-Type", query.get("type", "application/octet-stream"))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

            def handle(self) -> None:
                with suppress(ConnectionError):  # the simulator leaves when a test ends
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.server.server_port}"

    def sign(self, *objects: LinkedObject) -> list[str]:
        return [self._link(linked) for linked in objects]

    def _link(self, linked: LinkedObject) -> str:
        version = "" if linked.version == NO_VERSION else f"versionId={linked.version}&"
        bucket = f"bucket={WORK}&" if linked.is_asset else ""
        return f"{self.origin}/{quote(linked.key)}?{bucket}{version}type={quote_plus(linked.content_type)}"


@contextmanager
def serving(server: HTTPServer) -> Iterator[None]:
    """Let a server serve meanwhile, in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Timers:
    """The part of an SQS client that `Queue` uses: keeps messages until the world's clock brings them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sent: list[Message] = []

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> None:  # noqa: N803  # boto3's names
        assert 0 <= DelaySeconds <= 900
        if QueueUrl == MEDIA_QUEUE:
            self._world.have_prepared(json.loads(MessageBody), after=DelaySeconds)
            return
        if QueueUrl == ANSWERS_QUEUE:
            self._world.post(json.loads(MessageBody), after=DelaySeconds, origin=Origin.ANSWERS)
            return
        assert QueueUrl == QUEUE
        message = json.loads(MessageBody)
        self.sent.append({name: value for name, value in message.items() if name != "hops"})
        self._world.post(message, after=DelaySeconds)


# ---------------------------------------------------------------------- the world
class World:
    """One stack. Parameters are named as in template.yaml, in snake case."""

    def __init__(
        self,
        sim: Simulator,
        links: FileServer,
        *,
        max_tasks_in_flight: int = 2,
        daily_budget_cny: float = 0.0,
        approve_above_cny: float = 0.0,
        pair_seconds: float = 3,
        settle_seconds: float = 15,
        reconcile_seconds: float = 60,
        breaker_seconds: float = 60,
        min_poll_seconds: float = 15,
        max_poll_seconds: float = 120,
        call_seconds: float = 5.0,
        extra_video_hosts: str | None = None,
        versioning: str | None = VERSIONED,
        recursive_loop: str = "Allow",
        models: StackModels | None = None,
        upload_inputs: bool = False,
    ) -> None:
        self.sim = sim
        self._stops_loops = recursive_loop == "Terminate"
        self._chain = 0  # how often submit was invoked in the chain that runs now
        self.longest_chain = 0
        self.files = links
        self.offset = 0.0
        self.provider_ahead = 0.0
        self.submit_seconds = UPLOADING_SUBMIT_SECONDS if upload_inputs else SUBMIT_SECONDS
        self.function_ends_at = 0.0  # when Lambda kills the submit that runs now
        self._due: list[tuple[float, int, str, Any]] = []
        self._order = itertools.count()
        self._sequence = itertools.count(1)
        self.dead: list[Message] = []
        self.handled: list[Message] = []
        self.expected: tuple[type[Exception], ...] = (TryLaterError, MessageError)  # what may become of a message

        self.table = make_table()
        self.s3 = make_bucket(UPLOADS, versioning)
        self._versioning = versioning
        make_bucket(RESULTS)
        make_bucket(WORK, UNVERSIONED)
        self.metadata: dict[str, str] = {}  # of what is uploaded next
        self._make_listeners()
        self.sfn = client("stepfunctions")
        self.machine = self.sfn.create_state_machine(
            name="watch", definition="{}", roleArn=f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/watch"
        )["stateMachineArn"]
        self._known_executions: set[str] = set()
        self.states: dict[str, dict[str, Any]] = {}

        self.timers = Timers(self)
        self.queue = Queue(self.timers, QUEUE)  # type: ignore[arg-type]
        answers = Answers(self.timers, ANSWERS_QUEUE)  # type: ignore[arg-type]
        self.preparing = Preparing(Storage(self.s3, WORK), answers, UPLOADS, MAX_VOICE_SECONDS)
        self.uploads, self.results = Uploads(self.s3, UPLOADS), Results(self.s3, RESULTS)
        self.service = DashScope(
            sim.base_url, lambda: sim.account.settings.api_key, connect_timeout=1, read_timeout=call_seconds
        )
        self.executions = Executions(self.sfn, self.machine)
        self.measured: list[tuple[str, float]] = []
        self.notifications = Notifications(
            self.events,
            client("sns"),
            bus=BUS,
            topic=self._topics["notices"],
            operator_topic=self._topics["operator"],
        )
        bounds = PollBounds(min_poll_seconds, max_poll_seconds)

        def meter(name: str, value: float) -> None:
            self.measured.append((name, value))

        flows = submit.assemble(
            submit.SubmitAdapters(
                table=self.table,
                uploads=self.uploads,
                results=self.results,
                links=links,  # type: ignore[arg-type]
                service=self.service,
                queue=self.queue,
                media_queue=Queue(self.timers, MEDIA_QUEUE),  # type: ignore[arg-type]
                answers_queue=Queue(self.timers, ANSWERS_QUEUE),  # type: ignore[arg-type]
                executions=self.executions,
                notifications=self.notifications,
                meter=meter,
                storage=TemporaryStorage(self.service, self.uploads, Uploads(self.s3, WORK)) if upload_inputs else None,
            ),
            Limits(max_tasks_in_flight, daily_budget_cny, approve_above_cny, reconcile_seconds, breaker_seconds),
            QuietPeriods(pair_seconds, settle_seconds),
            bounds,
            models or StackModels(),
            clock=self.clock,
        )
        self.flows = flows
        self.submit, self.dispatch, self.evaluate = flows.submit, flows.dispatch, flows.evaluate
        self.ingest, self.monitor, self.sweeper, self.publish = flows.ingest, flows.monitor, flows.sweep, flows.publish
        self.create_task = flows.create_task
        self.poll = Poll(self.service, least=min_poll_seconds, most=max_poll_seconds, clock=self.clock)
        self.deliver = deliver.assemble(
            deliver.DeliverAdapters(
                table=self.table,
                results=self.results,
                service=self.service,
                queue=self.queue,
                history=ExecutionHistory(self.sfn),
                notifications=self.notifications,
                meter=meter,
            ),
            bounds,
            extra_video_hosts=sim.base_url.removesuffix("/api/v1") if extra_video_hosts is None else extra_video_hosts,
            clock=self.clock,
        )

    def _make_listeners(self) -> None:
        """Keep what is put on the bus, and subscribe a queue each to notices and operators' notices."""
        self._put_on_bus: list[dict[str, Any]] = []
        self.events = client("events")
        self.events.create_event_bus(Name=BUS)
        self.events.meta.events.unregister(PUT_EVENTS, unique_id="world")
        self.events.meta.events.register(
            PUT_EVENTS, lambda params, **_: self._put_on_bus.extend(params["Entries"]), unique_id="world"
        )
        self.sqs, sns = client("sqs"), client("sns")
        self._topics: dict[str, str] = {}
        for name in ("notices", "operator"):
            self.sqs.create_queue(QueueName=name)
            self._topics[name] = sns.create_topic(Name=name)["TopicArn"]
            arn = f"arn:aws:sqs:{REGION}:{DEFAULT_ACCOUNT_ID}:{name}"
            sns.subscribe(TopicArn=self._topics[name], Protocol="sqs", Endpoint=arn)

    # ------------------------------------------------------------------ time
    def clock(self) -> float:
        """Return the product's time: the machine's, moved by what `advance` added."""
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        """Let time pass for the product and the provider."""
        self.offset += seconds
        self.sim.set(clock_offset_seconds=self.offset + self.provider_ahead)

    def skew_provider(self, seconds: float) -> None:
        """Let the provider's clock be so far ahead of ours."""
        self.provider_ahead = seconds
        self.advance(0)

    def advance_to_beijing_midnight(self, *, before: float = 0.0) -> None:
        """Let time pass until so many seconds before the provider's next day begins; a negative number is after it."""
        self.advance(-(self.clock() + 8 * 3600) % 86_400 - before)

    def post(self, message: Message, *, after: float = 0.0, origin: Origin = Origin.UPLOADS) -> None:
        """Put a message into one of submit's queues."""
        self._push(self.clock() + after, "message", (message, origin, 0, self.clock(), self._chain))

    def _push(self, due: float, kind: str, what: Any) -> None:
        heapq.heappush(self._due, (due, next(self._order), kind, what))

    def run(self, seconds: float | None = None, *, steps: int = 2000) -> None:
        """Let everything happen that is due within so many seconds, or until nothing is left to happen."""
        until = None if seconds is None else self.clock() + seconds
        for _ in range(steps):
            self._collect_executions()
            if not self._due or (until is not None and self._due[0][0] > until):
                if until is not None and until > self.clock():
                    self.advance(until - self.clock())
                return
            due, _, kind, what = heapq.heappop(self._due)
            self._chain = 0
            if due > self.clock():
                self.advance(due - self.clock())
            if kind == "message":
                self._message(*what)
            elif kind == "media":
                self._prepare(*what)
            else:
                self._step(what)
            self._chain = 0
        raise AssertionError(f"it goes on for ever; next are {sorted(self._due)[:3]}; {self.table.account()}")

    # ------------------------------------------------------------------ what SQS and Lambda do
    def handle(self, message: Message) -> None:
        """Have one message handled now, by a function that dies with the test's `Died`."""
        self.submit.handle(Received.from_text(json.dumps(message), self.clock()), self.clock() + self.submit_seconds)

    def dispatch_now(self) -> None:
        """Dispatch now, as every message makes submit do."""
        self.submit.dispatch(self.clock() + self.submit_seconds)

    def _message(self, message: Message, origin: Origin, receives: int, sent_at: float, chain: int = 0) -> None:
        """Have submit handle a message, unless Lambda stops the chain that led to it.

        After 16 invocations in one chain, however long its messages were delayed (AWS Lambda, "Use Lambda recursive
        loop detection to prevent infinite loops").
        """
        self.longest_chain = max(self.longest_chain, chain + 1)
        if self._stops_loops and chain >= HOPS:
            self.dead.append(message)
            return
        self._chain = chain + 1
        self.handled.append(message)
        self.function_ends_at = self.clock() + self.submit_seconds
        received = Received.from_text(json.dumps(message), sent_at, origin)
        try:
            self.submit.handle(received, self.function_ends_at)
        except self.expected:
            self._give_again(message, origin, receives, sent_at)
        except Died:
            self._give_again(message, origin, receives, sent_at)
            return
        if not received.asks_to_dispatch:
            return
        try:
            self.submit.dispatch(self.function_ends_at)
        except Died:  # before Lambda could say that the message was handled
            self._give_again(message, origin, receives, sent_at)

    def have_prepared(self, message: Message, *, after: float = 0.0, receives: int = 1) -> None:
        """Put a message into the media queue."""
        self._push(self.clock() + after, "media", (message, receives, self._chain))

    def _prepare(self, message: Message, receives: int, chain: int = 0) -> None:
        """Have prepare handle a message of the media queue; what it can't handle comes again."""
        self._chain = chain  # its answer goes on with the chain
        try:
            self.preparing.handle(PreparedUpload.from_message(message), receives)
        except (Died, BotoCoreError, ClientError):
            if receives < MEDIA_RECEIVES:
                self.have_prepared(message, after=MEDIA_VISIBILITY, receives=receives + 1)
            else:
                self.dead.append(message)

    def _give_again(self, message: Message, origin: Origin, receives: int, sent_at: float) -> None:
        if receives + 1 >= RECEIVES:
            self.dead.append(message)
        else:
            self._push(self.clock() + VISIBILITY, "message", (message, origin, receives + 1, sent_at, self._chain - 1))

    # ------------------------------------------------------------------ what Step Functions does
    def _executions(self) -> list[Any]:
        return stepfunctions_backends[DEFAULT_ACCOUNT_ID][REGION].describe_state_machine(self.machine).executions

    def execution(self, name: str) -> Any:
        """Return moto's execution of a name."""
        return next(e for e in self._executions() if e.name == name)

    def execution_names(self) -> list[str]:
        """List every execution there ever was."""
        return [e.name for e in self._executions()]

    def _collect_executions(self) -> None:
        for execution in self._executions():
            if execution.name not in self._known_executions:
                self._known_executions.add(execution.name)
                self.states[execution.name] = json.loads(execution.execution_input)
                self._push(self.clock() + self.states[execution.name]["wait_seconds"], "execution", execution.name)

    def _step(self, name: str) -> None:
        """Go once round the wait loop: Poll, HasItEnded, Deliver, IsItPublished."""
        if self.execution(name).status != "RUNNING":
            return
        if not self.sim.account.settings.manual:
            self.sim.wait_for(lambda s: not any(t["status"] in {"PENDING", "RUNNING"} for t in s["tasks"]))
        try:
            state = self.poll.task(from_plain(Execution, self.states[name]))
            if state.ended:
                state = self.deliver.task(from_plain(Execution, json.loads(json.dumps(to_plain(state)))))
        except (Died, TryLaterError):
            self._push(self.clock() + LAMBDA_RETRY, "execution", name)
            return
        if state.ended and state.published:
            self.end(name, "SUCCEEDED")
        self.states[name] = json.loads(json.dumps(to_plain(state)))
        self._push(self.clock() + state.wait_seconds, "execution", name)

    def end(self, name: str, status: str) -> None:
        """End an execution; FAILED, TIMED_OUT and ABORTED reach deliver by the rule only when `rule` is called."""
        self.execution(name).status = status

    def rule(self, name: str, status: str) -> Execution:
        """End an execution badly and let the EventBridge rule call deliver with its input."""
        execution = self.execution(name)
        execution.status = status
        state = from_plain(Execution, json.loads(execution.execution_input))
        return self.deliver.ended(EndedExecution(status, name, execution.execution_arn, state))

    # ------------------------------------------------------------------ what people do
    def put(self, key: str, body: bytes | str | dict[str, Any]) -> Message:
        """Upload a file and return the event that S3 would send."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
        answer = self.s3.put_object(Bucket=UPLOADS, Key=key, Body=data, Metadata=self.metadata)
        fields = {"eTag": answer["ETag"].strip('"'), "size": len(data)}
        return self._event(key, "ObjectCreated:Put", fields | self._version(answer))

    def drop(self, key: str, body: bytes | str | dict[str, Any]) -> Message:
        """Upload a file; its event is on its way."""
        event = self.put(key, body)
        self.post(event)
        return event

    def drop_pair(self, name: str, *, seconds: float = 0.4, pitch: float = 0.08) -> None:
        """Upload a voice and a portrait of one name."""
        self.drop(f"{name}.png", portrait())
        self.drop(f"{name}.wav", voice(seconds, pitch=pitch))

    def rendering(self, *names: str) -> None:
        """Bring jobs to the provider and keep their tasks there: the first RUNNING, the others PENDING."""
        self.sim.set(manual=True)
        for n, name in enumerate(names):
            self.drop_pair(name, pitch=0.08 + n / 50)
            self.run(8)
            assert self.status(name) == "rendering"

    def finish_tasks(self) -> None:
        """Let the tasks that `rendering` keeps end, and wait until they have."""
        self.sim.set(manual=False)
        self.sim.wait_for(lambda s: not any(t["status"] in {"PENDING", "RUNNING"} for t in s["tasks"]))

    def foreign_task(self, *, seconds: float = 0.4, key: str | None = None) -> str:
        """Let somebody else create a task with the same account; returns its id."""
        self.s3.put_object(Bucket=UPLOADS, Key=".theirs/v.wav", Body=voice(seconds))
        self.s3.put_object(Bucket=UPLOADS, Key=".theirs/p.png", Body=portrait())
        theirs = DashScope(self.sim.base_url, lambda: key or self.sim.account.settings.api_key)
        made = theirs.create(
            MODELS[DEFAULT],
            image_url=f"{self.files.origin}/.theirs/p.png",
            audio_url=f"{self.files.origin}/.theirs/v.wav",
            boxes=Boxes((100, 50, 300, 250), (0, 0, 400, 400)),
            parameters={},
        )
        assert isinstance(made, Created)
        return made.task_id

    def sweep(self, times: int = 6) -> None:
        """Let the schedule come so many times, and everything happen."""
        for _ in range(times):
            self.run(300)
            self.post({"sweep": True})
        self.run()

    def delete(self, key: str, *, told: bool = True) -> Message:
        """Delete a file and return S3's event; it is on its way if it is to be `told`."""
        answer = self.s3.delete_object(Bucket=UPLOADS, Key=key)
        name = "ObjectRemoved:Delete" if self._versioning is UNVERSIONED else "ObjectRemoved:DeleteMarkerCreated"
        event = self._event(key, name, self._version(answer))
        if told:
            self.post(event)
        return event

    def _version(self, answer: dict[str, Any]) -> dict[str, str]:
        """Return what S3's event says of a version: nothing in a bucket that never had versions."""
        return {} if self._versioning is UNVERSIONED else {"versionId": answer.get("VersionId", NO_VERSION)}

    def _event(self, key: str, name: str, fields: dict[str, Any]) -> Message:
        s3_object = {"key": quote_plus(key), "sequencer": f"{next(self._sequence):016X}", **fields}
        s3 = {"bucket": {"name": UPLOADS}, "object": s3_object}
        return {"Records": [{"eventSource": "aws:s3", "eventName": name, "eventTime": iso(self.clock()), "s3": s3}]}

    # ------------------------------------------------------------------ what people and tests see
    def job_id(self, name: str) -> str:
        """Return the id of the job of a name without suffix."""
        return named(name + ".mp3").job

    def job(self, name: str) -> Job:
        """Return the job of a name as the table has it."""
        job = self.table.job(self.job_id(name))
        assert job is not None, f"there is no job {name}"
        return job

    def report(self, name: str) -> dict[str, Any] | None:
        """Return a job's report, or None when there is none."""
        with suppress(self.s3.exceptions.NoSuchKey):
            body = self.s3.get_object(Bucket=RESULTS, Key=f"{name}.json")["Body"].read()
            return dict(json.loads(body))
        return None

    def its_report(self, name: str) -> dict[str, Any]:
        """Return the report of a job that must have one."""
        report = self.report(name)
        assert report is not None, f"there is no report of {name}"
        return report

    def status(self, name: str) -> str | None:
        """Return a job's status as its report says it."""
        report = self.report(name)
        return report["status"] if report else None

    def error(self, name: str) -> str | None:
        """Return the code of a job's error as its report says it."""
        report = self.report(name)
        return report["error"]["code"] if report and report["error"] else None

    def held(self, name: str) -> str | None:
        """Return why a queued job waits as its report says it."""
        report = self.report(name)
        return report["queue"]["held"] if report and report["queue"] else None

    def execution_of(self, name: str) -> str:
        """Return the name of a job's current execution."""
        return self.job(name).execution_name

    def video_versions(self, name: str) -> int:
        """Return how often a job's video was put."""
        listed = self.s3.list_object_versions(Bucket=RESULTS, Prefix=f"{name}.mp4").get("Versions", [])
        return sum(version["Key"] == f"{name}.mp4" for version in listed)

    def video(self, name: str) -> bytes | None:
        """Return a job's video, or None when there is none."""
        with suppress(self.s3.exceptions.NoSuchKey):
            return bytes(self.s3.get_object(Bucket=RESULTS, Key=f"{name}.mp4")["Body"].read())
        return None

    def _drain(self, queue: str) -> list[dict[str, Any]]:
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        bodies: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                bodies.append(json.loads(message["Body"]))
        return bodies

    def new_events(self) -> list[dict[str, Any]]:
        """Return the reports of the events since the last call."""
        entries = self._put_on_bus.copy()
        self._put_on_bus.clear()
        assert all((e["EventBusName"], e["Source"], e["DetailType"]) == THE_EVENT for e in entries)
        return [json.loads(entry["Detail"]) for entry in entries]

    def new_notices(self) -> list[dict[str, Any]]:
        """Return the SNS notices about jobs since the last call, as SNS wraps them."""
        return self._drain("notices")

    def new_operator_notices(self) -> list[str]:
        """Return the subjects of the notices to operators since the last call."""
        return [re.sub("^Portraitcast: ", "", notice["Subject"]) for notice in self._drain("operator")]

    def tasks(self) -> list[dict[str, Any]]:
        """Return the provider's tasks in the order of their creates: each of them is paid."""
        return list(self.sim.state()["tasks"])

    def voices_made(self) -> list[str]:
        """Return which voices were sent to the provider, by content, in the order of their creates."""
        return [task["audio_sha256"] for task in self.tasks()]

    def requests(self, endpoint: str) -> int:
        """Return how many calls of an endpoint the provider got."""
        return int(self.sim.state()["counters"]["requests"].get(endpoint, 0))

    def instead(self, owner: Any, method: str, do: Callable[..., Any]) -> Callable[[], None]:
        """Let `do(real, …)` stand for a method, which is its first argument; returns the cure."""
        real = getattr(owner, method)
        setattr(owner, method, lambda *args, **kwargs: do(real, *args, **kwargs))
        return lambda: setattr(owner, method, real)

    def fails(self, owner: Any, method: str, times: int | None = None) -> Callable[[], None]:
        """Let AWS refuse the first calls of a method, or all; returns the cure."""
        calls = itertools.count(1)

        def call(real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if times is None or next(calls) <= times:
                raise TryLaterError("AWS refuses")
            return real(*args, **kwargs)

        return self.instead(owner, method, call)

    def dies(self, owner: Any, method: str, *, after: bool = False, nth: int = 1) -> Callable[[], None]:
        """Let the n-th call of a method kill the process, before or after it took effect; returns the cure."""
        real, calls = getattr(owner, method), itertools.count(1)

        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) != nth:
                return real(*args, **kwargs)
            if after:
                real(*args, **kwargs)
            raise Died

        setattr(owner, method, call)
        return lambda: setattr(owner, method, real)
