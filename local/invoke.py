"""``make invoke``: one event of events/ to one function, with the job's report before and after.

    make invoke F=Submit E=submit-voice [JOB=acme/line-01] [DOCKER=1] [STACK=name]

It goes to the ``make local`` that runs in this checkout, or with STACK to a stack on AWS; by `sam remote invoke`, which
needs no Docker, or with DOCKER=1 by `sam local invoke`, the function's code in a container of this machine. The event
is filled first: bucket, job, and for status and deliver what the job's execution was started with. Meanwhile the
queue's messages wait, so that nobody else does what the event asks for. SAM CLI exits with 0 when a function fails;
this exits with 1.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import mimetypes
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, unquote_plus

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from containers import DockerError, ask, daemon_of
from deployed import NoStackError, find_stack
from loopback import HOST
from package import read_template, this_machine
from reports import read_report
from run import OUTPUTS, ROOT, STACK, Ended, Engine, RunError, ended_by_signals, function_names, say_last
from sam import SAM
from stack import resource_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Event = dict[str, Any]
    Report = dict[str, Any]

NAME, FOLDER = "acme/line-01", "acme/"  # what the files of events/ are about
SAMPLES = ROOT / "local" / "samples"
SAMPLE_SETTINGS = b'{"parameters": {"style_level": "active"}}'
LOCAL_BUILD = ROOT / ".aws-sam" / "local"  # not .aws-sam/build: `sam deploy` takes what lies there
IDS = ("job", "attempt", "task", "execution")  # what tells one job's task from another in an execution's state
STOP_SECONDS = 120  # ours: AWS takes up to a minute to disable a mapping
DRAIN_SECONDS = 20  # ours: what was being handled is done by then, or has failed and comes back later
CALL_SECONDS = 900  # Lambda's longest timeout


class InvokeError(Exception):
    """The event can't be sent so; the message says why and what to do."""


# ---------------------------------------------------------------- Where to


@dataclass(frozen=True)
class Target:
    """A deployed stack.

    Attributes
    ----------
    words
        Which it is, for people.
    stack, region
        Its name and where it is.
    client
        Gives a boto3 client for it.
    upload_bucket, results_bucket, state_machine_arn
        Parts of it.
    functions
        Logical id → name.
    environment
        Variables with which SAM CLI finds it.
    is_toy
        It runs here with the simulator: files may be dropped for a try.
    """

    words: str
    stack: str
    region: str
    client: Callable[[str], Any]
    upload_bucket: str
    results_bucket: str
    state_machine_arn: str
    functions: dict[str, str]
    environment: dict[str, str] = field(repr=False)
    is_toy: bool

    def report(self, name: str) -> Report | None:
        """Return a job's report, None if there is none."""
        return read_report(self.client("s3"), self.results_bucket, f"{name}.json")


def local_target(outputs: Mapping[str, Any]) -> Target:
    """Return the stack of ``make local``, by its outputs.json."""
    engine = Engine(outputs["endpoint_url"], outputs["access_key_id"], outputs["secret_access_key"])
    found = resource_names(engine.client("cloudformation"), STACK)
    environment = {name: value for name, value in os.environ.items() if name != "AWS_PROFILE"} | {
        "AWS_ENDPOINT_URL": engine.endpoint_url,
        "AWS_DEFAULT_REGION": outputs["region"],
        "AWS_ACCESS_KEY_ID": engine.access_key_id,
        "AWS_SECRET_ACCESS_KEY": engine.secret_access_key,
    }
    return Target(
        "the stack of `make local`", STACK, outputs["region"], engine.client, outputs["upload_bucket"],
        outputs["results_bucket"], outputs["state_machine_arn"],
        {logical_id: found[logical_id] for logical_id in functions_of_template()}, environment,
        bool(outputs["simulator_url"]),
    )  # fmt: skip


def aws_target(name: str) -> Target:
    """Return a stack on AWS, with the credentials and region of the environment."""
    stack = find_stack({"STACK": name})
    return Target(
        stack.words, name, stack.client("cloudformation").meta.region_name, stack.client,
        stack.outputs[OUTPUTS["upload_bucket"]], stack.outputs[OUTPUTS["results_bucket"]],
        stack.outputs[OUTPUTS["state_machine_arn"]],
        {logical_id: stack.resources[logical_id] for logical_id in functions_of_template()}, dict(os.environ),
        is_toy=False,
    )  # fmt: skip


def functions_of_template() -> list[str]:
    """Return the logical ids of template.yaml's functions."""
    return list(function_names(read_template(ROOT / "template.yaml")).values())


def find_target(environment: Mapping[str, str]) -> Target:
    """Return the stack that STACK names, else the one that runs here."""
    if environment.get("STACK"):
        return aws_target(environment["STACK"])
    path = ROOT / ".local" / "outputs.json"
    if not path.exists():
        raise InvokeError("no `make local` runs in this checkout: start it in another terminal, or name STACK=….")
    return local_target(json.loads(path.read_text("utf-8")))


# ---------------------------------------------------------------- The event


def read_event(name: str) -> Event:
    """Return an event: a name of events/, or the path of a file."""
    path = ROOT / "events" / f"{name}.json"
    if not path.exists():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in (ROOT / "events").glob("*.json")))
        raise InvokeError(f"E={name}: there is no such event; events/ has {known}.")
    event: Event = json.loads(path.read_text("utf-8"))
    return event


def moved(key: str, name: str) -> str:
    """Return a key of the events' own job or folder as one of the job `name`."""
    if key.startswith(NAME):
        return name + key.removeprefix(NAME)
    folder = name[: name.rfind("/") + 1]
    return folder + key.removeprefix(FOLDER) if key.startswith(FOLDER) else key


@dataclass(frozen=True)
class Filler:
    """Puts a stack and a job into events.

    Attributes
    ----------
    target
        The stack.
    name
        The job's name, such as ``acme/line-01``.
    report
        Its report, None if it has none yet.
    asked
        Somebody asked for this job: what isn't there is an error.
    """

    target: Target
    name: str
    report: Report | None
    asked: bool

    def fill(self, event: Event) -> Event:
        """Return an event with the stack's bucket and machine and the job's ids in place of the example's."""
        if "Records" in event:
            return {**event, "Records": [self._record(record) for record in event["Records"]]}
        if "Bucket" in event:
            return {**event, "Bucket": self.target.upload_bucket}
        for verb in ("prepare", "prepared"):
            if verb in event:
                return {**event, verb: self._version(event[verb])}
        if "scan" in event:
            return {**event, "scan": moved(event["scan"], self.name)}
        if "task" in event:
            execution = self._execution()
            return self._ids(event, execution["input"]) if execution else event
        if "detail" in event:
            return self._ended(event)
        if "reconcile" in event and self.report:
            return {**event, "reconcile": self.report["job"]}
        if "reconcile" in event and self.asked:
            raise InvokeError(f"JOB={self.name}: it has no report yet, so its id isn't known: drop its files first.")
        return event

    def _record(self, record: Event) -> Event:
        if "s3" in record:
            bucket = {**record["s3"]["bucket"], "name": self.target.upload_bucket}
            bucket["arn"] = f"arn:aws:s3:::{self.target.upload_bucket}"
            key = self._key(moved(unquote_plus(record["s3"]["object"]["key"]), self.name))
            described = {**record["s3"]["object"], "key": quote_plus(key, safe="/")}
            return {**record, "s3": {**record["s3"], "bucket": bucket, "object": described}}
        if "body" in record:
            body = json.dumps(self.fill(json.loads(record["body"])))
            return {**record, "body": body, "md5OfBody": hashlib.md5(body.encode()).hexdigest()}  # noqa: S324 (SQS's)
        return record

    def _version(self, about: Event) -> Event:
        """Return what a message says of a version, of the one that lies under the job's key."""
        s3, key = self.target.client("s3"), self._key(moved(about["key"], self.name))
        try:
            there = s3.head_object(Bucket=self.target.upload_bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] != "404":
                raise
            return {**about, "key": key}
        found = {"key": key, "version": there.get("VersionId", "null"), "etag": there["ETag"].strip('"')}
        return {**about, **found, **({"bytes": there["ContentLength"]} if "bytes" in about else {})}

    def _key(self, key: str) -> str:
        """Return the key as it is, or what lies there under another suffix of its kind."""
        kind = (mimetypes.guess_type(key)[0] or "").partition("/")[0]
        if kind not in {"audio", "image"}:
            return key
        prefix = key[: key.rindex(".") + 1]
        found = self.target.client("s3").list_objects_v2(Bucket=self.target.upload_bucket, Prefix=prefix)
        lying = [each["Key"] for each in found.get("Contents", [])]
        alike = [each for each in lying if (mimetypes.guess_type(each)[0] or "").startswith(f"{kind}/")]
        return key if key in lying or not alike else alike[0]

    def _execution(self) -> Event | None:
        """Return the newest execution of the job with its input read, None where the example's own task will do."""
        if self.report is None:
            if self.asked:
                raise InvokeError(f"JOB={self.name}: it has no report yet: drop its files first.")
            return None
        states = self.target.client("stepfunctions")
        pages = states.get_paginator("list_executions").paginate(stateMachineArn=self.target.state_machine_arn)
        own = [each for page in pages for each in page["executions"] if each["name"].startswith(self.report["job"])]
        if not own:
            if self.asked:
                raise InvokeError(f"JOB={self.name}: it is {self.report['status']} and has no execution yet.")
            return None
        newest = max(own, key=lambda each: each["startDate"])
        described: Event = states.describe_execution(executionArn=newest["executionArn"])
        return {**described, "input": json.loads(described["input"])}

    @staticmethod
    def _ids(event: Event, given: Event) -> Event:
        """Return an event with what tells one job's task from another; the rest is what the example is about."""
        return {**event, **{name: given[name] for name in IDS}}

    def _ended(self, event: Event) -> Event:
        machine, execution = self.target.state_machine_arn, self._execution()
        detail = {**event["detail"], "stateMachineArn": machine}
        if execution:
            detail |= {"executionArn": execution["executionArn"], "name": execution["name"]}
            detail["input"] = json.dumps(self._ids(json.loads(detail["input"]), execution["input"]))
        return {**event, "resources": [detail["executionArn"]], "detail": detail}


def keys_of(event: Event, kind: str) -> list[str]:
    """Return the keys of an event's records of a kind (``ObjectCreated``), in its bodies too."""
    keys = []
    for record in event.get("Records", []):
        if "s3" in record and record["eventName"].startswith(kind):
            keys.append(unquote_plus(record["s3"]["object"]["key"]))
        elif "body" in record:
            keys += keys_of(json.loads(record["body"]), kind)
    for verb in ("prepare", "prepared"):
        if verb in event:
            keys.append(event[verb]["key"])
    return keys


def name_of(event: Event, name: str) -> str:
    """Return the name of the job that an event of files is about, `name` for any other."""
    for key in keys_of(event, "Object"):
        if not key.endswith("/settings.json"):
            return key[: key.rindex(".")]
    return name


# ---------------------------------------------------------------- Meanwhile


@contextlib.contextmanager
def kept_away(target: Target, function: str) -> Iterator[None]:
    """Let the messages wait that would invoke `function` (a name); what was disabled before stays so."""
    client, sqs = target.client("lambda"), target.client("sqs")
    pages = client.get_paginator("list_event_source_mappings").paginate(FunctionName=function)
    running = [each for page in pages for each in page["EventSourceMappings"] if each["State"] != "Disabled"]
    try:
        for mapping in running:
            client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        for mapping in running:
            _wait(partial(_is_disabled, client, mapping["UUID"]), STOP_SECONDS)
            queue = sqs.get_queue_url(QueueName=mapping["EventSourceArn"].rpartition(":")[2])["QueueUrl"]
            _wait(partial(_is_drained, sqs, queue), DRAIN_SECONDS)
        yield
    finally:
        for mapping in running:
            client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def _is_disabled(client: Any, mapping: str) -> bool:
    return bool(client.get_event_source_mapping(UUID=mapping)["State"] == "Disabled")


def _is_drained(sqs: Any, queue: str) -> bool:
    name = "ApproximateNumberOfMessagesNotVisible"
    return bool(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])["Attributes"][name] == "0")


def _wait(happened: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so, but not for ever: what stays is seen in the reports."""
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.2)


def drop_samples(target: Target, event: Event) -> list[str]:
    """Drop what an event says has come and isn't there: on this machine with the simulator only. Return the keys."""
    s3, dropped = target.client("s3"), []
    for key in keys_of(event, "ObjectCreated") if target.is_toy else []:
        sample = {".mp3": SAMPLES / "voice.mp3", ".png": SAMPLES / "portrait.png"}.get(Path(key).suffix.lower())
        if sample is None and not key.endswith(".json"):
            continue
        if "Contents" not in s3.list_objects_v2(Bucket=target.upload_bucket, Prefix=key, MaxKeys=1):
            content = sample.read_bytes() if sample else SAMPLE_SETTINGS
            s3.put_object(Bucket=target.upload_bucket, Key=key, Body=content)
            dropped.append(key)
    return dropped


# ---------------------------------------------------------------- The two ways


@dataclass(frozen=True)
class Answer:
    """What a function answered.

    Attributes
    ----------
    failed
        The function raised, ran out of time, or wasn't reached.
    value
        Its answer, or its error.
    log
        What it logged.
    """

    failed: bool
    value: Any
    log: str


def _run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    quiet = {**environment, "SAM_CLI_TELEMETRY": "0"}
    return subprocess.run(
        command, capture_output=True, text=True, env=quiet, cwd=ROOT, timeout=CALL_SECONDS, check=False
    )


def remotely(target: Target, function: str, event: Path) -> Answer:
    """Invoke a deployed function (a logical id) by `sam remote invoke`."""
    command = [str(SAM), "remote", "invoke", function, "--stack-name", target.stack, "--region", target.region]
    done = _run([*command, "--event-file", str(event), "--output", "json"], target.environment)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return Answer(failed=True, value=None, log=done.stdout + done.stderr)
    value = said["Payload"]
    with contextlib.suppress(TypeError, ValueError):
        value = json.loads(value)
    log = base64.b64decode(said.get("LogResult") or "").decode("utf-8", "replace")
    return Answer(failed=bool(done.returncode or said.get("FunctionError")), value=value, log=log)


@dataclass(frozen=True)
class Container:
    """Invokes by `sam local invoke`, in a container of this machine's processor.

    Attributes
    ----------
    variables
        The file for ``--env-vars``.
    hosts
        Names that containers shall look up, each as ``name:address``.
    """

    variables: Path
    hosts: tuple[str, ...] = ()

    def build(self) -> None:
        """Build what the containers run; InvokeError if that fails."""
        command = [str(SAM.parent / "python"), str(ROOT / "local" / "sam.py"), "build", str(LOCAL_BUILD)]
        done = _run(command, {**os.environ, "ARCHITECTURE": this_machine()})
        if done.returncode:
            raise InvokeError(f"the functions can't be built:\n{(done.stdout + done.stderr).strip()[-3000:]}")

    def __call__(self, target: Target, function: str, event: Path) -> Answer:
        """Invoke a function (a logical id)."""
        runtime = read_template(ROOT / "template.yaml")["Globals"]["Function"]["Runtime"]
        machine = this_machine()
        command = [
            str(SAM), "local", "invoke", function, "--event", str(event), "--env-vars", str(self.variables),
            "--template", str(LOCAL_BUILD / "template.yaml"), "--region", target.region,
            "--parameter-overrides", f"Architecture={machine}",
            *(word for host in self.hosts for word in ("--add-host", host)),
        ]  # fmt: skip
        image = f"public.ecr.aws/lambda/{runtime.replace('python', 'python:')}-{machine}"
        if has_image(image):  # to renew it: docker pull
            command.append("--skip-pull-image")
        done = _run(command, target.environment)
        lines = done.stdout.strip().splitlines()
        try:
            value = json.loads(lines[-1])
        except (IndexError, ValueError):  # it ran out of time, or there was no container
            return Answer(failed=True, value=None, log=done.stdout + done.stderr)
        failed = bool(done.returncode) or (isinstance(value, dict) and {"errorType", "errorMessage"} <= set(value))
        return Answer(failed=failed, value=value, log=done.stderr)


def has_image(image: str) -> bool:
    """Say whether the Docker daemon has an image; DockerError if there is no daemon."""
    daemon = daemon_of(os.environ)
    ask(daemon, "/info")
    try:
        ask(daemon, f"/images/{image}/json")
    except DockerError:
        return False
    return True


def aws_variables(target: Target) -> dict[str, dict[str, str]]:
    """Return logical id → variables of a stack's functions on AWS, with the person's own credentials.

    A function's role there is for the Lambda service alone.
    """
    session = boto3.Session()
    own = session.get_credentials()
    if own is None:
        raise InvokeError("no AWS credentials: log in, or export them.")
    frozen, client = own.get_frozen_credentials(), target.client("lambda")
    given = {
        "AWS_REGION": target.region, "AWS_DEFAULT_REGION": target.region, "AWS_ACCESS_KEY_ID": frozen.access_key,
        "AWS_SECRET_ACCESS_KEY": frozen.secret_key, "AWS_SESSION_TOKEN": frozen.token or "",
    }  # fmt: skip
    return {
        logical_id: client.get_function_configuration(FunctionName=name)["Environment"]["Variables"] | given
        for logical_id, name in target.functions.items()
    }


# ---------------------------------------------------------------- The command


@dataclass(frozen=True)
class Outcome:
    """What an invocation did: the job's name, its report before and after, the function's answer, files dropped."""

    name: str
    before: Report | None
    after: Report | None
    answer: Answer
    dropped: list[str]


def invoke(
    target: Target, function: str, event: Event, way: Callable[[Target, str, Path], Answer], job: str = ""
) -> Outcome:
    """Fill an event, keep the queue away, and send it to a function (a logical id).

    Parameters
    ----------
    target
        The stack.
    function
        Logical id.
    event
        As a file of events/ holds it.
    way
        `remotely` or a `Container`.
    job
        Name of the job that it shall be about; empty for the events' own.

    Raises
    ------
    InvokeError
        If the job that was asked for isn't far enough for the event.
    """
    with kept_away(target, target.functions[function]), tempfile.TemporaryDirectory() as folder:
        name = job or NAME
        filled = Filler(target, name, target.report(name), asked=bool(job)).fill(event)
        dropped, name = drop_samples(target, filled), name_of(filled, name)
        before = target.report(name)
        path = Path(folder) / "event.json"
        path.write_text(json.dumps(filled), "utf-8")
        answer = way(target, function, path)
        return Outcome(name, before, target.report(name), answer, dropped)


def described(report: Report | None) -> str:
    """Return a report in a line."""
    if report is None:
        return "no report"
    return f"{report['status']}, revision {report['revision']}: {report['message']}"


def show(outcome: Outcome) -> None:
    """Print what an invocation did."""
    for key in outcome.dropped:
        print(f"dropped  {key}, a sample, as nothing lay there")
    print(f"before   {outcome.name}: {described(outcome.before)}")
    print(outcome.answer.log.strip())
    print(f"{'FAILED' if outcome.answer.failed else 'answer':<9}{json.dumps(outcome.answer.value, ensure_ascii=False)}")
    same = " (unchanged)" if outcome.before == outcome.after else ""
    print(f"after    {outcome.name}: {described(outcome.after)}{same}", flush=True)


def chosen_function(wished: str) -> str:
    """Return the logical id of F=Submit."""
    known = functions_of_template()
    for each in known:
        if wished and wished.lower() in {each.lower(), each.removesuffix("Function").lower()}:
            return each
    raise InvokeError(f"F={wished}: name a function: {', '.join(each.removesuffix('Function') for each in known)}.")


def container(target: Target, environment: Mapping[str, str], stack: contextlib.ExitStack) -> Container:
    """Return the way by `sam local invoke`, built; what it writes goes with `stack`."""
    variables = ROOT / ".local" / "env.json"
    if environment.get("STACK"):
        variables = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "env.json"
        variables.touch(mode=0o600)
        variables.write_text(json.dumps(aws_variables(target)), "utf-8")
    elif f"//{HOST}:" in variables.read_text("utf-8"):  # of a container, the container itself
        raise InvokeError("containers don't reach this `make local`: start it with `make local DOCKER=1`.")
    way = Container(variables)
    way.build()
    return way


def main(environment: Mapping[str, str]) -> int:
    """Do what the variables say; return the exit code."""
    try:
        with ended_by_signals(), contextlib.ExitStack() as stack:
            function, event = chosen_function(environment.get("F", "")), read_event(environment.get("E", ""))
            target = find_target(environment)
            way = remotely if environment.get("DOCKER", "") in {"", "0"} else container(target, environment, stack)
            print(f"{function} of {target.words}, {environment['E']}", flush=True)
            outcome = invoke(target, function, event, way, environment.get("JOB", ""))
            show(outcome)
    except Ended as end:
        say_last(f"{end}: ended.")
        return 130
    except (InvokeError, NoStackError, DockerError, RunError, BotoCoreError, ClientError) as error:
        print(f"make invoke: {error}", file=sys.stderr)
        return 1
    return 1 if outcome.answer.failed else 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
