"""A stack in one process and in memory: the product's workflows and adapters over `fake_aws` and `fake_service`.

As `tests/integration/world.py`, but a call takes microseconds, functions run beside each other and stop at any outside
call, and everything that can go wrong can be ordered: deaths, conflicts, refusals, lost answers, stalls. Time is a
number; what S3, SQS, Step Functions and the schedule would do by themselves happens in its order.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

from botocore.exceptions import ReadTimeoutError
from fake_aws import S3, DynamoDB, Messages, Run, StepFunctions, refusal
from fake_service import ORIGIN, InProcess, Service
from fibers import Died, Fiber

from portraitcast.adapters.buckets import Results, Uploads
from portraitcast.adapters.dashscope import DashScope
from portraitcast.adapters.dashscope.errors import ProviderIllError
from portraitcast.adapters.download import Fetched, FetchError
from portraitcast.adapters.executions import ExecutionHistory, Executions
from portraitcast.adapters.jobs_table import JobsTable
from portraitcast.adapters.notifications import Notifications
from portraitcast.adapters.probe import ProbedVideo
from portraitcast.adapters.queues import Queue
from portraitcast.adapters.records import from_plain, to_plain
from portraitcast.bootstrap import deliver, submit
from portraitcast.domain.execution import Execution
from portraitcast.domain.job import iso
from portraitcast.domain.models import StackModels
from portraitcast.domain.uploads import classify
from portraitcast.errors import MessageError, TryLaterError
from portraitcast.workflows import deliver as deliver_workflow
from portraitcast.workflows.create_task import Limits
from portraitcast.workflows.deliver import EndedExecution
from portraitcast.workflows.evaluate import QuietPeriods
from portraitcast.workflows.monitor import PollBounds
from portraitcast.workflows.poll import Poll
from portraitcast.workflows.submit import Origin, Received

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portraitcast.adapters.presign import LinkedObject

UPLOADS, RESULTS, QUEUE, MEDIA_QUEUE, ANSWERS = "uploads", "results", "uploads-queue", "media-queue", "answers-queue"
START: Final = 1_800_000_000.0  # 2027-01-15 16:00 in Beijing
# As in template.yaml: how long a function may run, when SQS gives a message again, and how often.
SECONDS: Final = {"submit": 120.0, "prepare": 300.0, "status": 60.0, "deliver": 600.0}
VISIBILITY, MEDIA_VISIBILITY, RECEIVES, MEDIA_RECEIVES = 720.0, 1800.0, 5, 6
AGAIN_AFTER: Final = (10.0, 30.0, 120.0)  # functions/submit/app.py
STEP_TRIES: Final = 6  # of a function in the wait loop
SWEEP_SECONDS: Final = 300.0
AWS_CALL, SERVICE_CALL = 0.01, 0.2  # s; each call moves the clock, so that moments differ
OF_SERVICE: Final = "service."  # how its calls' names begin, and a download's
WRITES: Final = frozenset({"put_item", "update_item", "transact_write_items", "put_object"})

Message = dict[str, Any]


@dataclass
class Strike:
    """What goes wrong at the n-th call of an operation (or of any) in a function (or in any)."""

    what: str  # die, die after, refuse, lose, conflict, stall
    function: str
    operation: str
    nth: int
    seconds: float = 0.0  # of a stall

    def hits(self, function: str, operation: str) -> bool:
        """Count a call; say whether it is the one."""
        if self.function not in {"any", function} or self.operation not in {"any", operation}:
            return False
        self.nth -= 1
        return self.nth == 0


@dataclass(frozen=True)
class Change:
    """What happened to a key of the upload bucket; no content where it was deleted."""

    at: float
    key: str
    content: str | None


class Container:
    """One process with the product in it: submit, status and deliver."""

    def __init__(self, world: SmallWorld) -> None:
        bounds = PollBounds(15, 120)
        table, results = JobsTable(world.dynamodb, "jobs"), Results(world.s3, RESULTS)  # type: ignore[arg-type]
        queue, media = Queue(world.messages, QUEUE), Queue(world.messages, MEDIA_QUEUE)  # type: ignore[arg-type]
        service = DashScope(ORIGIN + "/api/v1", lambda: world.service.settings.api_key)
        service._transport = world.transport  # type: ignore[assignment]
        said = Notifications(world.messages, world.messages, bus="bus", topic="owners", operator_topic="operators")  # type: ignore[arg-type]
        self.table = table
        self.submit = submit.assemble(
            submit.SubmitAdapters(
                table=table,
                uploads=Uploads(world.s3, UPLOADS),  # type: ignore[arg-type]
                results=results,
                links=world,  # type: ignore[arg-type]
                service=service,
                queue=queue,
                media_queue=media,
                answers_queue=Queue(world.messages, ANSWERS),  # type: ignore[arg-type]
                executions=Executions(world.sfn, "arn:aws:states:::stateMachine:monitor"),  # type: ignore[arg-type]
                notifications=said,
                meter=lambda _name, _value: None,
            ),
            Limits(world.most, world.budget, 0, world.reconcile_seconds, 60),
            QuietPeriods(3, 15),
            bounds,
            StackModels(),
            clock=world.clock,
        )
        self.poll = Poll(service, least=15, most=120, clock=world.clock)
        self.deliver = deliver.assemble(
            deliver.DeliverAdapters(
                table=table,
                results=results,
                service=service,
                queue=queue,
                history=ExecutionHistory(world.sfn),  # type: ignore[arg-type]
                notifications=said,
                meter=lambda _name, _value: None,
            ),
            bounds,
            extra_video_hosts="",
            clock=world.clock,
        )


class SmallWorld:
    """One stack."""

    def __init__(self, *, most: int = 2, budget: float = 0.0, reconcile_seconds: float = 20.0) -> None:
        self.most = most
        self.budget = budget
        self.reconcile_seconds = reconcile_seconds
        self.now = START
        self.fiber: Fiber | None = None
        self.strikes: list[Strike] = []
        self.stop_at_calls = False  # every outside call gives the turn back: the explorer's
        self.dead: list[tuple[str, Message]] = []
        self.aborted: set[str] = set()  # tasks whose execution was aborted
        self.surprises: list[str] = []  # what no function may raise
        self.changes: list[Change] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._sequence = itertools.count(1)
        self._stalled: list[Fiber] = []

        self.dynamodb = DynamoDB(self.outside)
        self.s3 = S3(self.outside, UPLOADS)
        self.sfn = StepFunctions(self.outside, self._begin)
        self.messages = Messages(self.outside, self._sent)
        self.service = Service(self.clock, self.content)
        self.transport = InProcess(self.service, self.outside, self._wait)
        deliver_workflow.fetched = self.fetched  # type: ignore[assignment]  # a download takes a network
        self._containers: list[Container] = []
        self.eye = Container(self)  # what tests look through
        self._at(START + SWEEP_SECONDS, self._tick)

    def close(self) -> None:
        """End every function that still runs."""
        for fiber in self._stalled:
            fiber.kill()
        self.service.close()

    # ------------------------------------------------------------------ time
    def clock(self) -> float:
        """Return the time (epoch)."""
        return self.now

    def _at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), do))

    def run(self, seconds: float) -> None:
        """Let everything happen that is due within so many seconds."""
        until = self.now + seconds
        for _ in range(20_000):
            if not self._due or self._due[0][0] > until:
                self.now = max(self.now, until)
                return
            when, _, do = heapq.heappop(self._due)
            self.now = max(self.now, when)
            do()
        raise AssertionError(f"it goes on for ever: {self.eye.table.account()}")

    def _tick(self) -> None:
        self.post({"sweep": True})
        self._at(self.now + SWEEP_SECONDS, self._tick)

    def _wait(self, seconds: float) -> None:
        self.now += seconds

    # ------------------------------------------------------------------ functions, and what befalls them
    def outside(self, operation: str, do: Callable[[], Any]) -> Any:
        """Make an outside call of the function that runs now, or what goes wrong instead."""
        fiber = self.fiber
        if fiber is None:
            return do()
        fiber.calls.append(operation)
        name, _, prefix = operation.partition(" ")
        if self.stop_at_calls:
            fiber.stop()
        self.now += SERVICE_CALL if name.startswith(OF_SERVICE) else AWS_CALL
        if self.now > fiber.ends_at:
            raise Died
        if name == "list_objects_v2":
            fiber.listed[prefix] = len(self.changes)
        strike = next((s for s in self.strikes if s.hits(fiber.name, name)), None)
        if strike is None:
            return do()
        self.strikes.remove(strike)
        return self._struck(strike, fiber, name, do)

    def _struck(self, strike: Strike, fiber: Fiber, operation: str, do: Callable[[], Any]) -> Any:
        of_service = operation.startswith(OF_SERVICE)
        match strike.what:
            case "die":
                raise Died
            case "die after":
                do()
                raise Died
            case "refuse":
                raise _lost() if of_service else refusal(operation, "ThrottlingException")
            case "lose":
                do()
                raise _lost() if of_service else ReadTimeoutError(endpoint_url="https://aws.example")
            case "conflict" if operation in WRITES:
                raise _conflict(operation)
            case "stall":
                self._at(min(self.now + strike.seconds, fiber.ends_at + 0.1), lambda: self.go(fiber))
                fiber.stop()
                if self.now > fiber.ends_at:
                    raise Died
        return do()

    def function(self, name: str, body: Callable[[Container], None]) -> Fiber:
        """Return a function that is invoked now; `go` runs it."""
        container = self._containers.pop() if self._containers else Container(self)

        def run() -> None:
            body(container)
            self._containers.append(container)

        return Fiber(run, name, self.now + SECONDS[name])

    def go(self, fiber: Fiber) -> None:
        """Let a function run until it ends or stops."""
        before, self.fiber = self.fiber, fiber
        try:
            fiber.resume()
        finally:
            self.fiber = before
        if fiber.done:
            self._stalled = [other for other in self._stalled if other is not fiber]
        elif fiber not in self._stalled:
            self._stalled.append(fiber)

    def _surprised(self, error: Exception) -> None:
        self.surprises.append(f"{type(error).__name__}: {error}")

    # ------------------------------------------------------------------ SQS and submit
    def post(self, message: Message, *, after: float = 0.0, receives: int = 1) -> None:
        """Put a message into the uploads queue."""
        sent_at = self.now
        self._at(self.now + after, lambda: self.go(self.submitting(message, receives, sent_at)))

    def _sent(self, queue: str, message: Message, after: float) -> None:
        if queue == MEDIA_QUEUE:
            self._at(self.now + after + 0.1, lambda: self._prepare(message, 1))
        else:
            self.post(message, after=after)

    def submitting(self, message: Message, receives: int = 1, sent_at: float | None = None) -> Fiber:
        """Return submit with one message."""

        def handle(container: Container) -> None:
            work = container.submit.submit
            origin = Origin.ANSWERS if "prepared" in message else Origin.UPLOADS
            received = Received.from_text(json.dumps(message), self.now if sent_at is None else sent_at, origin)
            try:
                try:
                    work.handle(received, fiber.ends_at)
                except TryLaterError:
                    self._again(message, receives, AGAIN_AFTER[min(receives, len(AGAIN_AFTER)) - 1])
                except MessageError:
                    self._again(message, receives, VISIBILITY)
                except Exception as error:  # noqa: BLE001  # told by the judge
                    self._surprised(error)
                    self._again(message, receives, VISIBILITY)
                if received.asks_to_dispatch:
                    work.dispatch(fiber.ends_at)
            except Died:
                self._again(message, receives, VISIBILITY)

        fiber = self.function("submit", handle)
        return fiber

    def _again(self, message: Message, receives: int, after: float) -> None:
        if receives >= RECEIVES:
            self.dead.append((QUEUE, message))
        else:
            self.post(message, after=after, receives=receives + 1)

    # ------------------------------------------------------------------ prepare
    def _prepare(self, message: Message, receives: int) -> None:
        order = message["prepare"]

        def handle(_: Container) -> None:
            try:
                self.messages.send_message(QueueUrl=ANSWERS, MessageBody=json.dumps({"prepared": self._read(order)}))
            except (Died, Exception) as error:  # of whatever it dies
                if receives >= MEDIA_RECEIVES:
                    self.dead.append((MEDIA_QUEUE, message))
                else:
                    self._at(self.now + MEDIA_VISIBILITY, lambda: self._prepare(message, receives + 1))
                if isinstance(error, Died):
                    raise

        self.go(self.function("prepare", handle))

    def _read(self, order: dict[str, Any]) -> dict[str, Any]:
        """Answer as prepare does: what the content says of itself."""
        about = {"key": order["key"], "version": order["version"], "etag": order["etag"]}
        name = classify(order["key"])
        versions = self.s3.buckets[UPLOADS].get(order["key"], [])
        found = next((v for v in versions if v.id == order["version"] and v.body is not None), None)
        self.outside("get_object", lambda: None)
        if found is None or found.body is None or name is None:
            return about | {"gone": True}
        content = found.body.decode()
        facts: dict[str, Any] = {"sha256": hashlib.sha256(found.body).hexdigest(), "plain": True}
        if content.startswith("voice "):
            facts |= {"type": "wav", "seconds": float(content.rpartition(" ")[2])}
        else:
            facts |= {"type": "png", "width": 900, "height": 900}
        return about | {"facts": facts}

    # ------------------------------------------------------------------ Step Functions, status and deliver
    def _begin(self, run: Run) -> None:
        self._at(self.now + run.state["wait_seconds"], lambda: self._step(run, "status"))

    def _step(self, run: Run, function: str) -> None:
        if run.status == "RUNNING":
            self.go(self.stepping(run, function))

    def stepping(self, run: Run, function: str) -> Fiber:
        """Return status or deliver at a step of an execution."""

        def step(container: Container) -> None:
            work = container.poll.task if function == "status" else container.deliver.task
            try:
                state = to_plain(work(from_plain(Execution, run.state)))
            except Died:
                self._step_failed(run, function)
                raise
            except TryLaterError:
                self._step_failed(run, function)
                return
            except Exception as error:  # noqa: BLE001  # told by the judge
                self._surprised(error)
                self._step_failed(run, function)
                return
            if run.status != "RUNNING":
                return
            run.tries, run.state = 0, json.loads(json.dumps(state))
            if function == "deliver" and run.state["published"]:
                run.status = "SUCCEEDED"
            elif function == "status" and run.state["ended"]:
                self._at(self.now, lambda: self._step(run, "deliver"))
            else:
                self._begin(run)

        return self.function(function, step)

    def _step_failed(self, run: Run, function: str) -> None:
        run.tries += 1
        if run.tries <= STEP_TRIES:
            self._at(self.now + min(60, 2**run.tries), lambda: self._step(run, function))
        elif function == "status":
            run.tries = 0
            self._at(self.now, lambda: self._step(run, "deliver"))
        elif run.status == "RUNNING":
            self.end(run, "FAILED")

    def end(self, run: Run, status: str, *, told: bool = True) -> None:
        """End an execution badly; deliver is called by the rule, if it is `told`."""
        if run.status != "RUNNING":
            return
        run.status = status
        if status == "ABORTED":
            self.aborted.add(run.state["task"])
        if told:
            self._at(self.now + 0.5, lambda: self.go(self.ending(run, status, 0)))

    def ending(self, run: Run, status: str, tries: int = 0) -> Fiber:
        """Return deliver, called for an execution that ended badly."""

        def handle(container: Container) -> None:
            ended = EndedExecution(status, run.name, f"arn:{run.name}", from_plain(Execution, run.input))
            try:
                container.deliver.ended(ended)
            except (Died, TryLaterError) as error:
                if tries < 2:  # Lambda, asynchronous invocation
                    self._at(self.now + 60 * (tries + 1), lambda: self.go(self.ending(run, status, tries + 1)))
                if isinstance(error, Died):
                    raise
            except Exception as error:  # noqa: BLE001  # told by the judge
                self._surprised(error)

        return self.function("deliver", handle)

    # ------------------------------------------------------------------ links and downloads
    def sign(self, *objects: LinkedObject) -> list[str]:
        """Sign links, as `presign.Links` does."""
        made = [f"https://uploads.example/{quote(o.key)}?versionId={o.version}" for o in objects]
        signed: list[str] = self.outside("sign", lambda: made)
        return signed

    def content(self, link: str) -> str | None:
        """Return what lies behind a link: of our bucket, or of somebody's server, whose path says it."""
        parts = urlsplit(link)
        if parts.hostname != "uploads.example":
            return unquote(parts.path.rpartition("/")[2])
        versions = self.s3.buckets[UPLOADS].get(unquote(parts.path[1:]), [])
        found = next((v for v in versions if v.id == parts.query.removeprefix("versionId=")), None)
        return found.body.decode() if found and found.body is not None else None

    @contextmanager
    def fetched(self, url: str, *, extra_hosts: str) -> Iterator[Fetched]:  # noqa: ARG002  # the product's signature
        """Fetch a video: it says which task made it."""
        task = self.service.tasks[url.rpartition("/")[2]]

        def do() -> bytes:
            self.service.count("result")
            for kind in ("http", "results"):
                if self.service.faults.take(kind, "result", task.id, task.text):
                    raise FetchError("the video could not be brought")
            return json.dumps({"task": task.id}).encode()

        data: bytes = self.outside("service.fetch", do)
        video = ProbedVideo(512, 512, self.service.seconds_of(task), len(data))
        yield Fetched(BytesIO(data), hashlib.sha256(data).hexdigest(), video)

    # ------------------------------------------------------------------ what people do
    def put(self, key: str, content: str, *, late: float | None = 0.0, again: float | None = None) -> Message:
        """Upload a file and return its event, which comes so late (None: not by itself), and perhaps again."""
        version = self.s3.store(UPLOADS, key, content.encode())
        fields = {"versionId": version.id, "eTag": version.etag.strip('"'), "size": len(content.encode())}
        return self._changed(key, content, "ObjectCreated:Put", fields, late, again)

    def delete(self, key: str, *, late: float | None = 0.0, again: float | None = None) -> Message:
        """Delete a file that is there; returns its event as `put` does."""
        marker = self.s3.store(UPLOADS, key, None)
        return self._changed(key, None, "ObjectRemoved:DeleteMarkerCreated", {"versionId": marker.id}, late, again)

    def _changed(
        self, key: str, content: str | None, event: str, fields: dict[str, Any], late: float | None, again: float | None
    ) -> Message:
        self.changes.append(Change(self.now, key, content))
        about = {"key": quote_plus(key), "sequencer": f"{next(self._sequence):016X}", **fields}
        s3 = {"bucket": {"name": UPLOADS}, "object": about}
        record = {"eventSource": "aws:s3", "eventName": event, "eventTime": iso(self.now), "s3": s3}
        if late is not None:
            self.post({"Records": [record]}, after=late)
            if again is not None:
                self.post({"Records": [record]}, after=late + again)
        return {"Records": [record]}

    def running(self) -> list[Run]:
        """Return the executions that run, oldest first."""
        return [run for run in self.sfn.runs.values() if run.status == "RUNNING"]

    def redrive(self) -> None:
        """Send every dead letter back."""
        letters, self.dead = self.dead, []
        for queue, message in letters:
            self._sent(queue, message, 0.0)

    def report(self, name: str) -> dict[str, Any] | None:
        """Return a job's report."""
        there = self.s3.current(RESULTS, f"{name}.json")
        return json.loads(there.body or b"") if there else None


def _lost() -> ProviderIllError:
    return ProviderIllError("NoAnswer", "the service's answer was lost")


def _conflict(operation: str) -> Exception:
    match operation:
        case "transact_write_items":
            reasons = [{"Code": "TransactionConflict"}]
            return refusal("TransactWriteItems", "TransactionCanceledException", CancellationReasons=reasons)
        case "put_object":
            return refusal("PutObject", "ConditionalRequestConflict", 409)
        case _:
            return refusal(operation, "TransactionConflictException")
