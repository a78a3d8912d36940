"""A deployed stack that is paused, whose queue and rules rest: what happens to a job comes of the event that is sent.

Engine and simulator listen where SAM CLI's containers reach them, if a Docker daemon answers; DOCKER=0 leaves it out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from containers import HOST_NAME, LOOPBACK_ONLY, Address, DockerError, address_for_containers
from invoke import Answer, Container, invoke, kept_away, local_target, read_event, remotely
from run import STACK, Provider, origin, stack_up
from simulator import Simulator
from stacks import own_folder, read_uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from invoke import Outcome, Target
    from run import Run

    Way = Callable[[Target, str, Path], Answer]

API_KEY = "sk-sam"
PARAMETERS = {"PairSeconds": "0", "SettleSeconds": "0", "MaxTasksInFlight": "100"}
WAYS = ("remote", "container")
BY_NAME = "by name"  # in a container that knows this machine by a name alone, as those of Docker Desktop do
LINES: list[str] = []  # what `make test-sam` shows at its end


def docker_address() -> Address | None:
    """Return where containers find this machine, None without a Docker daemon or with DOCKER=0."""
    if os.environ.get("DOCKER") == "0":
        return None
    with contextlib.suppress(DockerError):
        return address_for_containers(os.environ)
    return None


def container_ways(run: Run, work: Path, address: Address) -> dict[str, Container]:
    """Return the ways by `sam local invoke`: by the address of this machine, and by a name in place of it."""
    named = Address(address.listen, HOST_NAME)
    ways = {
        "container": Container(write_variables(replace(run, address=address), work / "env.json")),
        BY_NAME: Container(
            write_variables(replace(run, address=named), work / "by-name.json"),
            () if address == named else (f"{HOST_NAME}:{address.listen}",),
        ),
    }
    ways["container"].build()
    return ways


def write_variables(run: Run, path: Path) -> Path:
    """Write what `make local` writes into .local/env.json."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(run.variables()))
    return path


def went_well(outcome: Outcome) -> bool:
    """Say whether a function neither failed nor gave a message back."""
    return not outcome.answer.failed and not (outcome.answer.value or {}).get("batchItemFailures")


@dataclass(frozen=True)
class World:
    """The stack, its simulator, the ways to its functions, and the lines that are shown at the end."""

    run: Run
    target: Target
    simulator: Simulator
    ways: dict[str, Way]
    lines: list[str]

    def send(self, event: str, job: str, way: str = "direct") -> Outcome:
        """Send a file of events/ to its function."""
        function = f"{event.partition('-')[0].title()}Function"
        return invoke(self.target, function, read_event(event), self.ways[way], job)

    def prepare(self, job: str, *events: str) -> Outcome:
        """Send events that must not fail, and have uploads read; return what the last event did."""
        for event in events:
            outcome = self.send(event, job)
            assert went_well(outcome), outcome.answer
            self.read(job)
        return outcome

    def read(self, job: str, way: str = "direct") -> None:
        """Let prepare read what submit has asked for, and submit take the answers, by one way."""

        def invoked(function: str, event: dict[str, Any]) -> None:
            outcome = invoke(self.target, function, event, self.ways[way], job)
            assert went_well(outcome), outcome.answer

        read_uploads(self.run, partial(invoked, "PrepareFunction"), partial(invoked, "SubmitFunction"))

    def render(self, job: str) -> str:
        """Bring a job to where its task runs and nobody watches it; return the task's id."""
        self.prepare(job, "submit-voice", "submit-portrait", "submit-resume", "submit-pause")
        return self.unwatch(job)

    def unwatch(self, job: str) -> str:
        """Stop the execution that watches a rendering job, and let nobody know; return the task's id once it runs.

        Executions of jobs before it are stopped too: from now on no deployed function runs by itself.
        """
        states, report = self.run.client("stepfunctions"), self.target.report(job)
        assert report
        task: str = report["task"]["id"]
        pages = states.get_paginator("list_executions").paginate(
            stateMachineArn=self.target.state_machine_arn, statusFilter="RUNNING"
        )
        for execution in [each for page in pages for each in page["executions"]]:
            states.stop_execution(executionArn=execution["executionArn"])
        self.simulator.wait_for(lambda s: any(t["id"] == task and t["status"] == "RUNNING" for t in s["tasks"]), 60)
        return task

    def withdraw(self, job: str) -> None:
        """Delete a job's voice: a job that stays queued stands before the next."""
        self.s3.delete_object(Bucket=self.target.upload_bucket, Key=f"{job}.mp3")
        self.prepare(job, "submit-deletion")

    def finish(self, task: str) -> None:
        """Let a task end well."""
        self.simulator.finish(task)
        self.simulator.wait_for(lambda s: any(t["id"] == task and t["status"] == "SUCCEEDED" for t in s["tasks"]), 60)

    @property
    def s3(self) -> Any:
        """A client for the buckets."""
        return self.run.client("s3")


def directly(target: Target, function: str, event: Path) -> Answer:
    """Invoke a deployed function by the API itself: what the other ways are compared with."""
    client = target.client("lambda")
    answer = client.invoke(FunctionName=target.functions[function], Payload=event.read_bytes())
    return Answer(failed="FunctionError" in answer, value=json.loads(answer["Payload"].read() or b"null"), log="")


@contextlib.contextmanager
def resting_rules(run: Run) -> Iterator[None]:
    """Let no rule of the stack act meanwhile."""
    events = run.client("events")
    found = run.client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    for resource in found:
        if resource["ResourceType"] == "AWS::Events::Rule":
            events.disable_rule(Name=resource["PhysicalResourceId"])
    yield  # the stack ends with the tests


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    docker = docker_address()
    address = docker or LOOPBACK_ONLY
    with own_folder() as work:
        with (
            Simulator(
                host=address.listen, also_named=HOST_NAME, api_key=API_KEY, task_seconds=0.1, running=100, manual=True
            ) as simulator,
            stack_up(
                work, PARAMETERS, provider=Provider(simulator.base_url, API_KEY, origin(simulator.base_url)),
                address=address, say=LINES.append,
            ) as run,
            resting_rules(run),
        ):  # fmt: skip
            target = local_target(run.outputs)
            ways: dict[str, Way] = {"direct": directly, "remote": remotely}
            if docker:
                ways |= container_ways(run, work, docker)
            away = (kept_away(target, target.functions[name]) for name in ("SubmitFunction", "PrepareFunction"))
            with contextlib.ExitStack() as resting:
                for queue in away:
                    resting.enter_context(queue)
                world = World(run, target, simulator, ways, LINES)
                world.prepare("", "submit-pause")
                yield world
        shutil.rmtree(work)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, world: World) -> str:
    """Return a way of SAM CLI's; a test may take more of them by indirect parameters."""
    if request.param not in world.ways:
        pytest.skip("no Docker daemon answers, or DOCKER=0: see docs/sam.md")
    return str(request.param)


@pytest.fixture
def job() -> str:
    return f"{uuid.uuid4().hex[:8]}/line-01"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what each event did to its job, by each way."""
    for line in LINES:
        terminalreporter.write_line(line)
