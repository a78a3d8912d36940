"""A stack to be hurt: the deployed template with the hook beside its functions, and what is counted afterwards."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
import uuid
import wave
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from portraitcast.adapters.records import from_attribute
from run import ROOT
from stacks import open_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from run import Run
    from simulator import Simulator

SAMPLES = ROOT / "local" / "samples"
GUARD_SECONDS = 90.0  # against hanging only
ENDS = frozenset({"done", "failed", "rejected"})

# The product's own patience, short, so that a death is got over within seconds. How they hang together stays: a lease
# outlives the function's time, and a visibility timeout is no shorter than that time.
SHORT_TIMES = {
    "portraitcast.workflows.create_task": {
        "CREATE_SECONDS": 1.5,
        "CHECK_SECONDS": 1.5,
        "UPLOAD_SECONDS": 1.0,
        "UPLOAD_MARGIN": 0.2,
        "LEASE_MARGIN": 0.5,
    },
    "portraitcast.workflows.reconcile_create": {"LOOK_SECONDS": 1.5, "LOOK_RESERVE": 1.0},
    "portraitcast.adapters.jobs_table": {"OVERDUE": 1.0},
    "portraitcast.workflows.read_upload": {"ASK_AGAIN_SECONDS": 20.0},
    "portraitcast.workflows.sweep": {"SWEEP_PATIENCE": 1.0},
    "portraitcast.workflows.evaluate": {"PUBLISHING_SECONDS": 1.0},
}
SHORT_TIMEOUTS = {"submit": 5, "prepare": 15}  # s; prepare gives up a file that was received four times
RECEIVED_AT_MOST = 20  # template.yaml's 5 are for functions that die rarely


@dataclass(frozen=True, order=True)
class Point:
    """A place to die at: before or after the n-th call of this name that a function makes for a job."""

    function: str
    call: str
    nth: int
    when: str

    def __str__(self) -> str:
        return f"{self.function} dies {self.when} its {self.call} no. {self.nth}"


@dataclass(frozen=True)
class Times:
    """A function's timeout, s, and what is set of the queues that invoke it, by their addresses."""

    timeout: int
    queues: dict[str, dict[str, str]]


def portrait_of(folder: str) -> bytes:
    """Return the sample portrait as a file of its own, so that its check is not remembered."""
    note = PngInfo()
    note.add_text("Comment", folder)
    file = io.BytesIO()
    Image.open(SAMPLES / "portrait.png").save(file, "png", pnginfo=note, compress_level=1)
    return file.getvalue()


def voice(seconds: float) -> bytes:
    """Return a voice that is quickly rendered: a hum."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(b"".join(struct.pack("<h", 9000 * (n // 25 % 2)) for n in range(round(8000 * seconds))))
    return file.getvalue()


def hook_files(folder: Path) -> dict[str, bytes]:
    """Return the modules to lay beside the functions, and make the folder that they look into."""
    (folder / "armed").mkdir(parents=True)
    return {
        "sitecustomize.py": Path(__file__).with_name("hook.py").read_bytes(),
        "chaos.json": json.dumps({"folder": str(folder)}).encode(),
    }


class Told:
    """Every report that the stack's bus tells, through a queue of the tests' own."""

    def __init__(self, run: Run) -> None:
        self._sqs = run.client("sqs")
        self._reports: dict[str, list[dict[str, Any]]] = {}
        self._ended = threading.Event()
        self._queue, arn = open_queue(self._sqs, "told")
        rule, events = {"Rule": "told", "EventBusName": run.outputs["event_bus"]}, run.client("events")
        events.put_rule(
            Name="told", EventBusName=rule["EventBusName"], EventPattern=json.dumps({"source": ["portraitcast"]})
        )
        events.put_targets(**rule, Targets=[{"Id": "queue", "Arn": arn}])
        self._reader = threading.Thread(target=self._read, name="told", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            answer = self._sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=1, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                report = json.loads(message["Body"])["detail"]
                self._reports[report["name"]] = [*self.of(report["name"]), report]
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the reports of one job so far, in the order of their coming."""
        return self._reports.get(name, [])

    def states(self, name: str) -> list[str]:
        """Return the statuses of one job so far."""
        return [report["status"] for report in self.of(name)]

    def ended(self, folder: str) -> int:
        """Count the jobs of a folder that were told to have ended."""
        return sum(
            any(report["status"] in ENDS for report in reports)
            for name, reports in list(self._reports.items())
            if name.startswith(folder)
        )

    def end(self) -> None:
        self._ended.set()
        self._reader.join()


class Hurt:
    """The deployed stack, with a hand on its functions' lives."""

    def __init__(self, run: Run, simulator: Simulator, folder: Path) -> None:
        self.simulator, self.told, self.outputs = simulator, Told(run), run.outputs
        self.client = run.client
        self._folder = folder
        self._s3, self._sqs, self._table = run.client("s3"), run.client("sqs"), run.client("dynamodb")
        self._lambda = run.client("lambda")

    def drop(self, key: str, content: bytes) -> str:
        """Put a file into the upload bucket; return its version."""
        version: str = self._s3.put_object(Bucket=self.outputs["upload_bucket"], Key=key, Body=content)["VersionId"]
        return version

    def report(self, name: str) -> dict[str, Any]:
        """Return the report that lies beside a job's video."""
        answer = self._s3.get_object(Bucket=self.outputs["results_bucket"], Key=f"{name}.json")
        report: dict[str, Any] = json.loads(answer["Body"].read())
        return report

    def results(self, prefix: str) -> list[str]:
        """Return the keys under `prefix` in the results bucket."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.outputs["results_bucket"], Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    # ------------------------------------------------------------------ the hook
    @contextmanager
    def recorded(self) -> Iterator[Counter[tuple[str, str]]]:
        """Count the outside calls that are made meanwhile: (function, call) → times."""
        calls: Counter[tuple[str, str]] = Counter()
        (self._folder / "calls.jsonl").unlink(missing_ok=True)
        (self._folder / "recording").touch()
        try:
            yield calls
        finally:
            (self._folder / "recording").unlink()
            if (path := self._folder / "calls.jsonl").exists():
                for line in path.read_text("utf-8").splitlines():
                    entry = json.loads(line)
                    calls[entry["function"], entry["call"]] += 1

    def arm(self, point: Point) -> Callable[[], bool]:
        """Let a function die at a point, once; returns what says whether it has."""
        path = self._folder / "armed" / f"{uuid.uuid4().hex}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(point)), "utf-8")
        part.rename(path)
        return path.with_suffix(".dead").exists

    def disarm(self) -> None:
        """Let nobody die any more."""
        for path in (self._folder / "armed").iterdir():
            path.unlink()

    @contextmanager
    def short_times(self) -> Iterator[None]:
        """Shorten timeouts of functions, visibility timeouts of their queues and the product's patience meanwhile.

        A message may be received more often too: functions die here so often that one would be given up by chance.
        """
        usual = {name: self._times(name) for name in SHORT_TIMEOUTS}
        (self._folder / "constants.json").write_text(json.dumps(SHORT_TIMES), "utf-8")
        for name, seconds in SHORT_TIMEOUTS.items():
            short = {}
            for queue, found in usual[name].queues.items():
                often = json.loads(found["RedrivePolicy"]) | {"maxReceiveCount": RECEIVED_AT_MOST}
                short[queue] = {"VisibilityTimeout": str(seconds), "RedrivePolicy": json.dumps(often)}
            self._set(name, Times(seconds, short))
        self.start_anew()  # constants are read at a function's start
        try:
            yield
        finally:
            self.disarm()
            (self._folder / "constants.json").unlink()
            for name, times in usual.items():
                self._set(name, times)
            self.start_anew()

    def _queues_of(self, function: str) -> list[str]:
        """Return the addresses of the queues that invoke a function."""
        name = self.outputs["functions"][function]
        mappings = self._lambda.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
        return [self._url(mapping["EventSourceArn"]) for mapping in mappings]

    def _url(self, arn: str) -> str:
        return str(self._sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"])

    def _attributes(self, queue: str) -> dict[str, str]:
        names = ["VisibilityTimeout", "RedrivePolicy"]
        return dict(self._sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"])

    def _times(self, function: str) -> Times:
        name = self.outputs["functions"][function]
        timeout = self._lambda.get_function_configuration(FunctionName=name)["Timeout"]
        return Times(timeout, {queue: self._attributes(queue) for queue in self._queues_of(function)})

    def _set(self, function: str, times: Times) -> None:
        for queue, attributes in times.queues.items():
            self._sqs.set_queue_attributes(QueueUrl=queue, Attributes=attributes)
        name = self.outputs["functions"][function]
        self._lambda.update_function_configuration(FunctionName=name, Timeout=times.timeout)

    def start_anew(self) -> None:
        """Give every function fresh processes, which remember nothing: the engine does so when a timeout is set."""
        for name in self.outputs["functions"].values():
            timeout = self._lambda.get_function_configuration(FunctionName=name)["Timeout"]
            self._lambda.update_function_configuration(FunctionName=name, Timeout=timeout)

    # ------------------------------------------------------------------ what happens by itself, sooner
    def send(self, message: dict[str, Any]) -> None:
        """Put a message into the uploads queue."""
        self._sqs.send_message(QueueUrl=self.outputs["uploads_queue_url"], MessageBody=json.dumps(message))

    def wait(
        self, happened: Callable[[], bool], what: str, *, sweeps: bool = False, seconds: float = GUARD_SECONDS
    ) -> None:
        """Wait for something; with `sweeps` the schedule's message comes every second instead of every minute."""
        deadline = time.monotonic() + seconds
        swept = 0.0
        while not happened():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:g} s")
            if sweeps and time.monotonic() - swept > 1:
                swept = time.monotonic()
                self.send({"sweep": True})
            time.sleep(0.1)

    def abort(self, name: str) -> None:
        """Abort the execution of a job, as a person would."""
        (job,) = (item for item in self.items() if item["sk"] == "JOB" and item["name"] == name)
        machine = self.outputs["state_machine_arn"].replace(":stateMachine:", ":execution:")
        execution = f"{machine}:{job['id']}-{job['attempt']}-{job['execution']}"
        self.client("stepfunctions").stop_execution(executionArn=execution)

    # ------------------------------------------------------------------ what is counted
    def items(self) -> list[dict[str, Any]]:
        """Return every item of the Jobs table as plain values."""
        pages = self._table.get_paginator("scan").paginate(TableName=self.outputs["table"], ConsistentRead=True)
        return [
            {name: from_attribute(value) for name, value in item.items()} for page in pages for item in page["Items"]
        ]

    def jobs(self, folder: str) -> dict[str, dict[str, Any]]:
        """Return the jobs of a folder as the table knows them, by name."""
        jobs = [item for item in self.items() if item["sk"] == "JOB"]
        return {job["name"]: job for job in jobs if f"{job['name'].rpartition('/')[0]}/" == folder}

    def tasks(self, folder: str) -> list[dict[str, Any]]:
        """Return the provider's tasks of a folder's jobs: each was paid when it was created."""
        return [task for task in self.simulator.state()["tasks"] if f"/{folder}" in task["audio_url"]]

    def is_quiet(self) -> bool:
        """Say whether nothing is left to do: no task in flight, no open create, no queue, nothing unpublished."""
        return not any(map(_is_unsettled, self.items()))

    def dead_letters(self) -> list[str]:
        """Take what lies among the dead letters of the queues that invoke functions."""
        found = []
        for queue in (queue for function in SHORT_TIMEOUTS for queue in self._queues_of(function)):
            dead = self._url(json.loads(self._attributes(queue)["RedrivePolicy"])["deadLetterTargetArn"])
            answer = self._sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10, VisibilityTimeout=0)
            found += [message["Body"] for message in answer.get("Messages", [])]
        return found

    def is_monitored(self) -> bool:
        """Say whether an execution runs."""
        arn = self.outputs["state_machine_arn"]
        answer = self.client("stepfunctions").list_executions(stateMachineArn=arn, statusFilter="RUNNING")
        return bool(answer["executions"])

    def faults_of(self, folder: str, jobs: int, ends: tuple[str, ...] = ("done",)) -> list[str]:
        """Say what is wrong with a folder whose jobs should all have ended so, once; nothing if all is well."""
        known, tasks = self.jobs(folder), self.tasks(folder)
        wrong = [] if len(known) == jobs else [f"{len(known)} jobs instead of {jobs}"]
        paid = Counter(task["audio_url"].partition(f"/{folder}")[2].partition("?")[0] for task in tasks)
        wrong += [f"{name} was paid {times} times" for name, times in paid.items() if times > 1]
        videos = {key.removesuffix(".mp4") for key in self.results(folder) if key.endswith(".mp4")}
        done = {name for name, job in known.items() if job["status"] == "done"}
        if len(tasks) != jobs or videos != done:
            wrong.append(f"{jobs} jobs, {len(tasks)} tasks, {len(done)} done, {len(videos)} videos")
        for name, job in known.items():
            told_ends = {report["revision"] for report in self.told.of(name) if report["status"] in ENDS}
            report = self.report(name)
            told = (report["status"], report["revision"], (report["task"] or {}).get("id"))
            true = (job["status"], job["revision"], (job["task"] or {}).get("id"))
            if job["status"] not in ends or told != true or len(told_ends) != 1:
                wrong.append(f"{name}: table {true}, report {told}, {job['problems']}, ends told: {sorted(told_ends)}")
        return wrong + [f"dead letter: {body}" for body in self.dead_letters()]


def _is_unsettled(item: dict[str, Any]) -> bool:
    if item["pk"] == "ACCOUNT":
        return any(item.get(name) for name in ("tasks_in_flight", "open_create", "check", "notices"))
    if item["sk"] == "JOB":
        return bool(item["revision"] > item["published"] or item["status"] in {"creating", "rendering"})
    return str(item["pk"]).startswith("QUEUE#")
