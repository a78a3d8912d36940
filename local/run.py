"""The whole stack on one machine: ``make local``, and what ``make demo`` and the end-to-end tests stand on.

A run is the engine (local/engine.py), the video service (the bundled simulator, or one that the person names), and
template.yaml deployed to the engine. All of a run lies in one work folder, and all of it ends with the run, however the
run ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from assets import DEFAULT, StackModels
from containers import HOST_NAME, LOOPBACK_ONLY, Address, DockerError, address_for_containers
from env_file import RENEW_SECONDS, function_variables
from install import InstallError
from loopback import HOST
from package import PackageError, build, package, read_template, resources, uploader
from page import serve
from provider import Provider, RunError, check_base_url, named_provider, origin, trusted
from stack import StackError, deploy, resource_names

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from types import FrameType

    Say = Callable[[str], None]

__all__ = ["Provider", "RunError", "origin"]  # of provider.py, where others look for them here

ROOT = Path(__file__).resolve().parent.parent
REGION = "us-east-1"
ACCOUNT = "000000000000"
STACK = "portraitcast"
START_SECONDS = 30  # ours: the engine needs 0.5 s and the simulator less, on two idle cores
PAGE_PORT = 8741  # ours: the page is found again after each start, and its browser tab goes on
END_SECONDS = 10  # ours: after that a process is killed outright
OUTPUTS = {  # our names (README.md) → the stack's outputs
    "upload_bucket": "UploadBucket",
    "results_bucket": "ResultsBucket",
    "work_bucket": "WorkBucket",
    "topic_arn": "TopicArn",
    "operator_topic_arn": "OperatorTopicArn",
    "event_bus": "EventBusName",
    "state_machine_arn": "StateMachineArn",
    "table": "TableName",
    "uploads_queue_url": "UploadsQueueUrl",
    "media_queue_url": "MediaQueueUrl",
    "answers_queue_url": "AnswersQueueUrl",
    "dead_letter_queue_url": "DeadLetterQueueUrl",
    "api_key_secret_arn": "ApiKeySecretArn",
}


class Ended(BaseException):
    """Somebody ended the run (a signal, the end of make). No Exception, so nothing on the way swallows it."""


def function_names(template: dict[str, Any]) -> dict[str, str]:
    """Return our name → logical id of the template's functions: ``submit`` → ``SubmitFunction``."""
    return {logical_id.removesuffix("Function").lower(): logical_id for logical_id in resources(template, "Function")}


def read_parameters(text: str, known: Mapping[str, Any]) -> dict[str, str]:
    """Return the stack parameters in PARAMS ("Name=value Name=value", split at spaces)."""
    parameters = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            raise RunError(
                f"PARAMS: {word!r} isn't Name=value with a parameter of the stack: {', '.join(sorted(known))}."
            )
        parameters[name] = value
    defaults = {name: str(parameter.get("Default", "")) for name, parameter in known.items()}
    least, most = (float({**defaults, **parameters}.get(name) or 0) for name in ("MinPollSeconds", "MaxPollSeconds"))
    if "MaxPollSeconds" in known and least > most:
        raise RunError(f"PARAMS: MinPollSeconds is {least:g} and MaxPollSeconds {most:g}; the least is above the most.")
    return parameters


def make_existing_buckets(s3: Any, parameters: Mapping[str, str]) -> None:
    """Make the buckets that a stack on AWS would find there, as a person has them: without versions, EventBridge on."""
    for name in {parameters.get(f"Existing{which}Bucket", "") for which in ("Upload", "Results")} - {""}:
        s3.create_bucket(Bucket=name)
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )


def stack_parameters(provider: Provider, wished: Mapping[str, str]) -> dict[str, str]:
    """Return the stack's parameters: what is wished for, and the way to the service and its videos.

    A service that a person names gets its inputs by upload: from elsewhere it can't reach this machine.
    """
    parameters = {"DashScopeBaseUrl": provider.base_url, **provider.transfer, **wished}
    check_base_url(parameters["DashScopeBaseUrl"], parameters.get("InputTransfer", "links"))
    try:
        StackModels.read(parameters.get("DefaultModel", DEFAULT), parameters.get("ModelDeployments", ""))
    except ValueError as error:
        raise RunError(f"PARAMS: {error}") from None
    hosts = [wished.get("ExtraVideoHosts", ""), origin(parameters["DashScopeBaseUrl"])]
    return parameters | {"ExtraVideoHosts": ",".join(filter(None, hosts))}


def confinement(provider: Provider, parameters: Mapping[str, str]) -> dict[str, bytes]:
    """Return what keeps functions from reaching anything but engine, service and video hosts: name → content."""
    videos = [urlsplit(entry.strip()) for entry in parameters["ExtraVideoHosts"].split(",") if entry.strip()]
    hosts = [f"{each.hostname}:{each.port or {'http': 80}.get(each.scheme, 443)}" for each in videos]
    return {
        "sitecustomize.py": (ROOT / "local" / "confined.py").read_bytes(),
        "confined.json": json.dumps(sorted({*provider.hosts, *hosts})).encode(),
    }


# ---------------------------------------------------------------- Processes


class Process:
    """A child in a process group of its own, that ends with this process whatever happens to it.

    Attributes
    ----------
    name
        For messages.
    log
        File that holds what it printed.
    """

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], log: Path, *, announces: bool = False
    ) -> None:
        self.name, self.log = name, log
        tethered = [sys.executable, str(ROOT / "local" / "tether.py"), str(os.getpid()), *command]
        with log.open("wb") as words:
            self._process = subprocess.Popen(
                tethered,
                env=dict(environment),
                cwd=log.parent,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if announces else words,
                stderr=words,
            )

    def running(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    def died(self) -> RunError:
        """Return the error that says that it ended by itself."""
        return RunError(f"the {self.name} ended by itself (exit {self._process.poll()}); its words are in {self.log}")

    def announcement(self) -> str:
        """Return the line that it prints when it is ready (started with `announces`)."""
        assert self._process.stdout  # noqa: S101 - what `announces` asked for
        readable, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        if not readable:
            raise RunError(f"the {self.name} was not ready after {START_SECONDS} s; its words are in {self.log}")
        if line := self._process.stdout.readline():
            return line.decode()
        self._process.wait()
        raise self.died()

    def end(self) -> None:
        """End it and its children: politely, and then not."""
        for sign, patience in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        if self._process.stdout:
            self._process.stdout.close()


def simulator(
    work: Path, stack: contextlib.ExitStack, processes: list[Process], address: Address = LOOPBACK_ONLY
) -> Provider:
    """Start the bundled EMO simulator where containers reach it; it ends with `stack`."""
    api_key = f"sk-local-{secrets.token_hex(16)}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT / "local"),
        "SIMULATOR_API_KEY": api_key,
    }
    command = [sys.executable, "-m", "simulator", "--host", address.listen, "--port", "0", "--also-named", address.name]
    process = Process("simulator", command, environment, work / "simulator.log", announces=True)
    stack.callback(process.end)
    processes.append(process)
    base_url = json.loads(process.announcement())["base_url"]
    return Provider(base_url, api_key, simulator_url=origin(base_url))


@dataclass(frozen=True)
class Engine:
    """The local AWS, ready: its address and the credentials of its account's root."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)

    def client(self, service: str) -> Any:
        """Return a boto3 client of the engine with all rights."""
        return boto3.client(  # type: ignore[call-overload]  # the types want a service's name written out
            service, region_name=REGION, endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id, aws_secret_access_key=self.secret_access_key,
            config=Config(s3={"addressing_style": "path"}, inject_host_prefix=False, retries={"mode": "standard"}),
        )  # fmt: skip


def free_port(host: str = HOST) -> int:
    """Return a port that nobody listens on at an address of this machine."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def engine(work: Path, stack: contextlib.ExitStack, processes: list[Process], host: str = HOST) -> Engine:
    """Start the engine with an empty memory, bound to `host` alone, roles enforced; it ends with `stack`."""
    port, secret = free_port(host), secrets.token_hex(20)
    ready = Engine(f"http://{host}:{port}", ACCOUNT, secret)
    temporary = work / "tmp"
    temporary.mkdir()
    stack.callback(shutil.rmtree, temporary, ignore_errors=True)  # functions' code and layers, after the engine's end
    environment = {  # nothing of the person's own environment: functions inherit it
        "PATH": os.environ["PATH"], "HOME": str(work), "LANG": "C.UTF-8", "TMPDIR": str(temporary),
        "GATEWAY_PORT": str(port), "BIND_HOST": host, "MINISTACK_HOST": host, "MINISTACK_REGION": REGION,
        "MINISTACK_ACCOUNT_ID": ACCOUNT, "AWS_ENDPOINT_URL": ready.endpoint_url, "AUTH": "true",
        "AWS_ACCESS_KEY_ID": ready.access_key_id, "AWS_SECRET_ACCESS_KEY": secret,
        **trusted(os.environ),
        "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "DOCKER_HOST": f"unix://{temporary}/no-docker.sock",
    }  # fmt: skip
    python = ROOT / ".venv" / "engine" / "bin" / "python"
    process = Process("engine", [str(python), str(ROOT / "local" / "engine.py")], environment, work / "engine.log")
    stack.callback(process.end)
    processes.append(process)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not process.running():
            raise process.died()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{ready.endpoint_url}/_ministack/health", timeout=1):  # noqa: S310 (ours)
            return ready
        time.sleep(0.05)
    raise RunError(f"the engine was not ready after {START_SECONDS} s; its words are in {process.log}")


# ---------------------------------------------------------------- The run


@dataclass(frozen=True)
class Run:
    """A stack that runs.

    Attributes
    ----------
    outputs
        What ``outputs.json`` holds: addresses, names and credentials, under the names of README.md.
    engine
        The local AWS.
    functions
        Logical id → name of each function.
    work
        Its folder, with ``engine.log`` and ``simulator.log``.
    processes
        Engine and simulator.
    address
        Where they listen, and what containers call that.
    template_url
        Where the packaged template lies in the engine.
    """

    outputs: dict[str, Any]
    functions: dict[str, str]
    engine: Engine
    work: Path
    processes: list[Process]
    template_url: str
    address: Address = LOOPBACK_ONLY

    def client(self, service: str) -> Any:
        """Return a boto3 client with all rights."""
        return self.engine.client(service)

    def check(self) -> None:
        """Raise RunError if a part of the run has ended by itself."""
        for process in self.processes:
            if not process.running():
                raise process.died()

    def variables(self) -> dict[str, dict[str, str]]:
        """Return logical id → variables of each function, with fresh credentials of its role (see `env_file`)."""
        return function_variables(
            self.client, self.functions, self.outputs["endpoint_url"], self.outputs["region"], self.address
        )

    def logs(self, function: str) -> str:
        """Return what a function (``submit``, …) has logged, oldest first."""
        configuration = self.client("lambda").get_function_configuration(
            FunctionName=self.outputs["functions"][function]
        )
        group = configuration.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{configuration['FunctionName']}"
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        events = sorted((event["timestamp"], event["message"]) for page in pages for event in page["events"])
        return "\n".join(message.rstrip("\n") for _, message in events)

    def save_logs(self) -> list[Path]:
        """Write each function's log into the work folder; return the files that hold something."""
        paths = []
        for function in self.outputs["functions"]:
            if log := self.logs(function):
                path = self.work / f"{function}.log"
                path.write_text(log + "\n", "utf-8")
                paths.append(path)
        return paths


@contextlib.contextmanager
def work_folder(work: Path) -> Iterator[Path]:
    """Take `work` for one run and empty it; RunError if another run has it."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RunError(
                f"{work.name} is in use: another run (process {lock.read() or '?'}) of this checkout has not ended."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for path in work.iterdir():
            if path.name == "lock":
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        yield work


@contextlib.contextmanager
def stack_up(
    work: Path,
    wished: Mapping[str, str],
    *,
    provider: Provider | None = None,
    try_sam: bool = False,
    beside: Mapping[str, bytes] | None = None,
    address: Address = LOOPBACK_ONLY,
    say: Say = print,
) -> Iterator[Run]:
    """Start engine and service, deploy template.yaml, and hand over the running stack; end all of it afterwards.

    Parameters
    ----------
    work
        Folder of this run alone (see `work_folder`).
    wished
        Stack parameters.
    provider
        The video service; None starts the bundled simulator.
    try_sam
        Deploy the output of ``sam build`` where SAM CLI and the runtime's Python are here.
    beside
        Modules that a test lays beside the functions' layer (see `package`).
    address
        Where engine and simulator listen, and what containers call that.
    say
        Takes a line of progress.

    Raises
    ------
    RunError
        With what failed and the log to look into.
    """
    processes: list[Process] = []
    with contextlib.ExitStack() as stack:
        aws = engine(work, stack, processes, address.listen)
        say(f"local AWS engine at {aws.endpoint_url}")
        service = provider or simulator(work, stack, processes, address)
        say(f"{'EMO simulator' if service.simulator_url else 'video service'} at {service.base_url}")
        bucket = f"code-{ACCOUNT}"
        try:
            built = build(ROOT, work, try_sam=try_sam)
            say(built.how)
            s3 = aws.client("s3")
            s3.create_bucket(Bucket=bucket)
            upload = uploader(s3, bucket)
            parameters = stack_parameters(service, wished)
            laid = confinement(service, parameters) | dict(beside or {})
            template = package(built, ROOT / ".venv" / "runtime" / "bin" / "python", upload, laid)
            path = upload(json.dumps(template).encode(), ".json").removeprefix("s3://")
            template_url = f"{aws.endpoint_url}/{path}"
            make_existing_buckets(s3, wished)
            cloudformation = aws.client("cloudformation")
            found = deploy(cloudformation, STACK, template_url, parameters)
        except (StackError, PackageError, InstallError) as error:
            raise RunError(
                f"template.yaml could not be deployed: {error}\nThe engine's words are in {work / 'engine.log'}"
            ) from error
        aws.client("secretsmanager").put_secret_value(SecretId=found["ApiKeySecretArn"], SecretString=service.api_key)
        say("template.yaml deployed, roles enforced")
        names, physical = function_names(built.template), resource_names(cloudformation, STACK)
        outputs = {
            "endpoint_url": aws.endpoint_url,
            "region": REGION,
            "access_key_id": aws.access_key_id,
            "secret_access_key": aws.secret_access_key,
            **{name: found[output] for name, output in OUTPUTS.items()},
            "functions": {name: physical[logical_id] for name, logical_id in names.items()},
            "simulator_url": service.simulator_url,
        }
        functions = {logical_id: physical[logical_id] for logical_id in names.values()}
        yield Run(outputs, functions, aws, work, processes, template_url, address)


# ---------------------------------------------------------------- Signals


def make_has_ended(parent: int, signs: Collection[int] = (signal.SIGINT,)) -> bool:
    """Say whether the `make` that started this process was ended.

    SIGTERM make hands on. SIGINT and SIGHUP it doesn't: it expects the terminal to send one to everybody (a terminal
    that closes sends SIGHUP to the first process of its session alone), puts that signal back to its default, and waits
    for its recipe for ever. A make that is killed outright leaves its recipe behind.
    """
    return os.getppid() != parent or not catches(parent, signs)


def catches(process: int, signs: Collection[int]) -> bool:
    """Say whether a process has handlers for all of these signals."""
    try:
        status = Path(f"/proc/{process}/status").read_text("ascii", "replace")
    except OSError:
        return False
    caught = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")), -1)
    return all(caught & (1 << (sign - 1)) for sign in signs)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[Callable[[], None]]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Ended`; yield a function to call now and then, that sees the end of make.

    SIGHUP comes when the terminal closes; it is left alone where it is ignored already (nohup).
    """
    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ends.append(signal.SIGHUP)

    def end(number: int, _: FrameType | None) -> None:
        for ignored in ends:  # tidying up isn't interrupted
            signal.signal(ignored, signal.SIG_IGN)
        raise Ended(signal.Signals(number).name)

    parent = os.getppid()
    signs = [sign for sign in (signal.SIGINT, signal.SIGHUP) if catches(parent, [sign])]  # nohup's make has no SIGHUP
    watched = "MAKELEVEL" in os.environ and signal.SIGINT in signs

    def check() -> None:
        if watched and make_has_ended(parent, signs):
            raise Ended("make was ended")

    before = {number: signal.signal(number, end) for number in ends}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say_last(line: str) -> None:
    """Print a line to whoever is still there: the terminal may be closed."""
    with contextlib.suppress(OSError):
        print(f"\n{line}", file=sys.stderr, flush=True)


def exit_code(command: str, do: Callable[[], None]) -> int:
    """Do what a command is for; return its exit code, having said on stderr what ended it or why it failed."""
    try:
        do()
    except Ended as end:
        say_last(f"{end}: ended.")
        return 130
    except RunError as error:
        print(f"\n{command} failed: {error}", file=sys.stderr)
        return 1
    return 0


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader sees all of it or nothing; for the owner's eyes, as it holds credentials."""
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    part.replace(path)


GUIDE = """
Ready. Drop a portrait and a voice of one name, and look for the video:

  export AWS_ENDPOINT_URL={endpoint_url} AWS_DEFAULT_REGION={region}
  export AWS_ACCESS_KEY_ID={access_key_id} AWS_SECRET_ACCESS_KEY={secret_access_key}
  aws s3 cp anna.png s3://{upload_bucket}/acme/line-01.png
  aws s3 cp line-01.mp3 s3://{upload_bucket}/acme/line-01.mp3
  aws s3 cp s3://{results_bucket}/acme/line-01.json -
  aws s3 cp s3://{results_bucket}/acme/line-01.mp4 .

Or in a browser, with all jobs to look at: {page_url}

One event to one function:  make invoke F=Submit E=submit-voice{docker}

All addresses are in {outputs}, what SAM CLI needs in {variables}. Ctrl-C ends it and forgets everything."""

WHO_ELSE = """
DOCKER=1: engine and simulator listen at {listen}, this machine's address in Docker's network. Every container on this
machine reaches them there, and so does every user of it; the engine's root needs no secret, so whoever reaches it can
do anything with what lies in it. The simulator's control address and the page answer this machine alone."""

BY_NAME = """
DOCKER=1: containers here run in a machine of their own, and call this one {name}. Engine, simulator and page listen at
{listen}, which every container reaches by that name, and every user of this machine; the engine's root needs no secret,
so whoever reaches it can do anything with what lies in it. If containers don't find {name} (rootless Docker may hide
this machine from them), use `sam remote invoke`, which needs none."""


def check_reachable(provider: Provider | None, address: Address) -> None:
    """Raise RunError if containers would look for the named service in themselves."""
    if provider and address.listen != HOST and provider.base_url.partition("//")[2].startswith(f"{HOST}:"):
        raise RunError(
            f"DOCKER=1: DASHSCOPE_BASE_URL names {HOST}, which in a container is the container. Let that service "
            f"listen at {address.listen}, and name it so."
        )


def agree(provider: Provider, parameters: Mapping[str, str]) -> None:
    """Say what a stack that talks to a named service sends and costs, and go on only if the person agrees."""
    from real_service import confirm, describe_all  # noqa: PLC0415 - only these runs need a client of the service

    print(describe_all(provider, parameters), flush=True)
    confirm(os.environ, "Start it?")


def tasks_left(run: Run, provider: Provider) -> str:
    """Return what is still being made at the service, and how to get it; all creates have been stopped."""
    from real_service import how_to_get, stop_creates  # noqa: PLC0415 - as above

    tasks, paid = stop_creates(run)
    return "\n".join([f"Counted as paid today: CNY {paid:g}.", *(how_to_get(task, provider) for task in tasks)])


def run_local() -> int:
    """Keep a stack running until told to end; return the exit code."""
    outputs, variables = ROOT / ".local" / "outputs.json", ROOT / ".local" / "env.json"
    try:
        docker = os.environ.get("DOCKER", "") not in {"", "0"}
        address = address_for_containers(os.environ) if docker else LOOPBACK_ONLY
        provider = named_provider(os.environ)
        check_reachable(provider, address)
        with ended_by_signals() as check, work_folder(ROOT / ".local") as work:
            parameters = read_parameters(
                os.environ.get("PARAMS", ""), read_template(ROOT / "template.yaml")["Parameters"]
            )
            if provider:
                agree(provider, parameters)
            with (
                stack_up(work, parameters, provider=provider, address=address) as run,
                serve(
                    run.client("s3"),
                    run.outputs["upload_bucket"],
                    run.outputs["results_bucket"],
                    run.outputs["work_bucket"],
                    port=PAGE_PORT,
                ) as page,
            ):
                try:
                    known = run.outputs | {"page_url": page}
                    write_whole(variables, run.variables())
                    write_whole(outputs, known)
                    if docker:
                        print((BY_NAME if address.name == HOST_NAME else WHO_ELSE).format(**vars(address)))
                    paths = {"outputs": outputs.relative_to(ROOT), "variables": variables.relative_to(ROOT)}
                    print(GUIDE.format(**known, **paths, docker=" [DOCKER=1]" if docker else ""), flush=True)
                    renewed = time.monotonic()
                    while True:
                        check()
                        run.check()
                        if time.monotonic() > renewed + RENEW_SECONDS:
                            write_whole(variables, run.variables())
                            renewed = time.monotonic()
                        time.sleep(0.5)
                except Ended:
                    if provider:
                        say_last(tasks_left(run, provider))
                    raise
                finally:
                    for path in (outputs, variables):
                        path.unlink(missing_ok=True)
    except Ended as end:
        say_last(f"{end}: ended.")
        return 0
    except (RunError, DockerError) as error:
        say_last(f"make local failed: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(run_local())
