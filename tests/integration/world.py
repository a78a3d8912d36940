"""A stack in one process: the product's real objects over moto, the EMO simulator over HTTP, and a clock to turn.

Time passes only for the product and for the provider's clock: a message or an execution that is due later moves the
clock there, so nothing sleeps. What S3, SQS and Step Functions would do by themselves (events, delays, redelivery, the
wait loop) is done here, in the order of time.
"""

from __future__ import annotations

import heapq
import io
import itertools
import json
import re
import threading
import time
import wave
from contextlib import contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import boto3
import numpy as np
import yaml
from moto.core import DEFAULT_ACCOUNT_ID
from moto.stepfunctions.models import stepfunctions_backends
from PIL import Image, PngImagePlugin

from portraitcast.buckets import CONTENT_TYPES, Results, Uploads
from portraitcast.delivery import Delivery, Lingering
from portraitcast.dispatch import Dispatch, Limits
from portraitcast.emo import Emo
from portraitcast.errors import TryLaterError
from portraitcast.intake import Intake
from portraitcast.look import look
from portraitcast.messages import Executions, Queue
from portraitcast.names import classify
from portraitcast.submit import Submit
from portraitcast.table import Table
from portraitcast.telling import Teller
from portraitcast.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import HTTPServer

    from portraitcast.jobs import Job
    from simulator import Simulator

REGION = "eu-central-1"
TEMPLATE = Path(__file__).parents[2] / "template.yaml"
TABLE = "jobs"
UPLOADS, RESULTS, QUEUE = "uploads", "results", "uploads-queue"
BUS = "jobs-bus"
THE_EVENT = (BUS, "portraitcast", "Job State Changed")

PUT_EVENTS = "provide-client-params.events.PutEvents"
LAMBDA_RETRY = 2  # seconds until the state machine calls a function again that died

Message = dict[str, Any]


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


# ---------------------------------------------------------------------- what moto stands in for
class _Template(yaml.SafeLoader):
    """Reads a CloudFormation template; what its functions give isn't asked for here."""


_Template.add_multi_constructor("!", lambda _loader, suffix, _node: suffix)


_template = yaml.load(TEMPLATE.read_text(), _Template)  # noqa: S506  # a SafeLoader
_uploads_queue = _template["Resources"]["UploadsQueue"]["Properties"]
SUBMIT_SECONDS: int = _template["Resources"]["SubmitFunction"]["Properties"]["Timeout"]
VISIBILITY: int = _uploads_queue["VisibilityTimeout"]  # seconds until SQS gives a failed message again
RECEIVES: int = _uploads_queue["RedrivePolicy"]["maxReceiveCount"]  # then it is a dead letter


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


def make_table() -> Table:
    """Create the Jobs table in moto."""
    client("dynamodb").create_table(TableName=TABLE, **table_definition())
    return Table(client("dynamodb"), TABLE)


def make_bucket(name: str) -> Any:
    """Create a versioned bucket in moto and return an S3 client."""
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    client("s3").put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return client("s3")


class FileServer:
    """Serves versions of uploaded objects over loopback, as presigned links would; stands in for `buckets.Links`."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                version = {"VersionId": query["versionId"]} if "versionId" in query else {}
                body = client("s3").get_object(Bucket=UPLOADS, Key=unquote(parts.path[1:]), **version)["Body"].read()
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

    def sign(self, *files: tuple[str, str, str]) -> list[str]:
        return [
            f"{self.origin}/{quote(key)}?versionId={version}&type={quote_plus(CONTENT_TYPES[suffix])}"
            for key, version, suffix in files
        ]


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

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int) -> None:  # noqa: N803  # boto3's names
        assert QueueUrl == QUEUE
        assert 0 <= DelaySeconds <= 900
        self.sent.append(json.loads(MessageBody))
        self._world.post(json.loads(MessageBody), after=DelaySeconds)


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
        pair_seconds: float = 3,
        settle_seconds: float = 15,
        look_seconds: float = 60,
        hold_seconds: float = 60,
        min_wait_seconds: float = 15,
        max_wait_seconds: float = 120,
        call_seconds: float = 5.0,
        extra_video_hosts: str | None = None,
    ) -> None:
        self.sim = sim
        self.offset = 0.0
        self._due: list[tuple[float, int, str, Any]] = []
        self._order = itertools.count()
        self._sequence = itertools.count(1)
        self.dead: list[Message] = []
        self.handled: list[Message] = []
        self.min_wait, self.max_wait = min_wait_seconds, max_wait_seconds

        self.table = make_table()
        self.s3 = make_bucket(UPLOADS)
        make_bucket(RESULTS)
        self._make_listeners()
        self.sfn = client("stepfunctions")
        self.machine = self.sfn.create_state_machine(
            name="watch", definition="{}", roleArn=f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/watch"
        )["stateMachineArn"]
        self._known_executions: set[str] = set()
        self.states: dict[str, dict[str, Any]] = {}

        self.timers = Timers(self)
        self.queue = Queue(self.timers, QUEUE)  # type: ignore[arg-type]
        self.uploads, self.results = Uploads(self.s3, UPLOADS), Results(self.s3, RESULTS)
        self.emo = Emo(sim.base_url, lambda: sim.account.settings.api_key, connect_timeout=1, read_timeout=call_seconds)
        self.executions = Executions(self.sfn, self.machine)
        self.measured: list[tuple[str, float]] = []
        self.teller = Teller(
            self.table,
            self.results,
            self.events,
            client("sns"),
            bus=BUS,
            topic=self._topics["notices"],
            operator_topic=self._topics["operator"],
            meter=lambda name, value: self.measured.append((name, value)),
            clock=self.clock,
        )
        self.watch = Watch(self.table, self.executions)
        self.intake = Intake(
            self.table,
            self.uploads,
            self.results,
            self.queue,
            self.teller,
            pair_seconds=pair_seconds,
            settle_seconds=settle_seconds,
            clock=self.clock,
        )
        limits = Limits(
            max_in_flight=max_tasks_in_flight,
            daily_budget=daily_budget_cny,
            look_seconds=look_seconds,
            hold_seconds=hold_seconds,
            min_wait=min_wait_seconds,
            max_wait=max_wait_seconds,
        )
        self.dispatch = Dispatch(
            self.table,
            self.intake,
            self.emo,
            links,  # type: ignore[arg-type]
            self.watch,
            self.queue,
            self.teller,
            limits,
            clock=self.clock,
        )
        self.lingering = Lingering(self.table, self.emo, self.queue, max_wait=max_wait_seconds, clock=self.clock)
        self.submit = Submit(
            self.table,
            self.intake,
            self.dispatch,
            self.watch,
            self.lingering,
            self.queue,
            self.teller,
            clock=self.clock,
        )
        self.delivery = Delivery(
            self.table,
            self.results,
            self.emo,
            self.queue,
            self.executions,
            self.teller,
            extra_video_hosts=sim.base_url.removesuffix("/api/v1") if extra_video_hosts is None else extra_video_hosts,
            min_wait=min_wait_seconds,
            max_wait=max_wait_seconds,
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
        self.sim.set(clock_offset_seconds=self.offset)

    def post(self, message: Message, *, after: float = 0.0) -> None:
        """Put a message into the uploads queue."""
        self._push(self.clock() + after, "message", (message, 0))

    def _push(self, due: float, kind: str, what: Any) -> None:
        heapq.heappush(self._due, (due, next(self._order), kind, what))

    def run(self, seconds: float | None = None) -> None:
        """Let everything happen that is due within so many seconds, or until nothing is left to happen."""
        until = None if seconds is None else self.clock() + seconds
        for _ in range(2000):
            self._collect_executions()
            if not self._due or (until is not None and self._due[0][0] > until):
                if until is not None and until > self.clock():
                    self.advance(until - self.clock())
                return
            due, _, kind, what = heapq.heappop(self._due)
            if due > self.clock():
                self.advance(due - self.clock())
            if kind == "message":
                self._message(*what)
            else:
                self._step(what)
        raise AssertionError(f"it goes on for ever; next are {sorted(self._due)[:3]}")

    # ------------------------------------------------------------------ what SQS and Lambda do
    def _message(self, message: Message, receives: int) -> None:
        self.handled.append(message)
        try:
            self.submit.handle_body(json.dumps(message))
        except TryLaterError:
            self._give_again(message, receives)
        except Died:
            self._give_again(message, receives)
            return
        try:
            self.submit.dispatch(self.clock() + SUBMIT_SECONDS)
        except Died:  # before Lambda could say that the message was handled
            self._give_again(message, receives)

    def _give_again(self, message: Message, receives: int) -> None:
        if receives + 1 >= RECEIVES:
            self.dead.append(message)
        else:
            self._push(self.clock() + VISIBILITY, "message", (message, receives + 1))

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
        """Go once round the wait loop: Look, HasItEnded, Deliver, IsItTold."""
        if self.execution(name).status != "RUNNING":
            return
        if not self.sim.account.settings.manual:
            self.sim.wait_for(lambda s: not any(t["status"] in {"PENDING", "RUNNING"} for t in s["tasks"]))
        try:
            state = look(self.states[name], self.emo, least=self.min_wait, most=self.max_wait, clock=self.clock)
            if state["ended"]:
                state = self.delivery.deliver(json.loads(json.dumps(state)))
        except (Died, TryLaterError):
            self._push(self.clock() + LAMBDA_RETRY, "execution", name)
            return
        if state["ended"] and state["told"]:
            self.end(name, "SUCCEEDED")
        self.states[name] = json.loads(json.dumps(state))
        self._push(self.clock() + state["wait_seconds"], "execution", name)

    def end(self, name: str, status: str) -> None:
        """End an execution; FAILED, TIMED_OUT and ABORTED reach deliver by the rule only when `rule` is called."""
        self.execution(name).status = status

    def rule(self, name: str, status: str) -> dict[str, Any]:
        """End an execution badly and let the EventBridge rule call deliver with its input."""
        execution = self.execution(name)
        execution.status = status
        return self.delivery.execution_ended(status, name, json.loads(execution.execution_input))

    # ------------------------------------------------------------------ what people do
    def put(self, key: str, body: bytes | str | dict[str, Any]) -> Message:
        """Upload a file and return the event that S3 would send."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
        version = self.s3.put_object(Bucket=UPLOADS, Key=key, Body=data)["VersionId"]
        return self._event(key, "ObjectCreated:Put", {"versionId": version, "size": len(data)})

    def drop(self, key: str, body: bytes | str | dict[str, Any]) -> Message:
        """Upload a file; its event is on its way."""
        event = self.put(key, body)
        self.post(event)
        return event

    def drop_pair(self, name: str, *, seconds: float = 0.4, pitch: float = 0.08) -> None:
        """Upload a voice and a portrait of one name."""
        self.drop(f"{name}.png", portrait())
        self.drop(f"{name}.wav", voice(seconds, pitch=pitch))

    def sweep(self, times: int = 6) -> None:
        """Let the schedule come so many times, and everything happen."""
        for _ in range(times):
            self.run(300)
            self.post({"sweep": True})
        self.run()

    def delete(self, key: str) -> Message:
        """Delete a file; its event is on its way."""
        version = self.s3.delete_object(Bucket=UPLOADS, Key=key)["VersionId"]
        event = self._event(key, "ObjectRemoved:DeleteMarkerCreated", {"versionId": version})
        self.post(event)
        return event

    def _event(self, key: str, name: str, fields: dict[str, Any]) -> Message:
        s3_object = {"key": quote_plus(key), "sequencer": f"{next(self._sequence):016X}", **fields}
        return {"Records": [{"eventSource": "aws:s3", "eventName": name, "s3": {"object": s3_object}}]}

    # ------------------------------------------------------------------ what people and tests see
    def job_id(self, name: str) -> str:
        """Return the id of the job of a name without suffix."""
        found = classify(name + ".mp3")
        assert found is not None
        return found.job

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

    def status(self, name: str) -> str | None:
        """Return a job's status as its report says it."""
        report = self.report(name)
        return report["status"] if report else None

    def error(self, name: str) -> str | None:
        """Return the code of a job's error as its report says it."""
        report = self.report(name)
        return report["error"]["code"] if report and report["error"] else None

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

    def requests(self, endpoint: str) -> int:
        """Return how many calls of an endpoint the provider got."""
        return int(self.sim.state()["counters"]["requests"].get(endpoint, 0))

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
