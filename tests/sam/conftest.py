"""A deployed stack that is paused, whose queue and rules rest: what happens to a job comes of the event that is sent.

Engine and simulator listen where SAM CLI's containers reach them, if a Docker daemon answers; DOCKER=0 leaves it out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from containers import DockerError, gateway
from invoke import Answer, Container, invoke, kept_away, local_target, read_event, remotely
from run import HOST, STACK, Provider, origin, stack_up
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
LINES: list[str] = []  # what `make test-sam` shows at its end


def docker_address() -> str | None:
    """Return where containers find this machine, None without a Docker daemon or with DOCKER=0."""
    if os.environ.get("DOCKER") == "0":
        return None
    with contextlib.suppress(DockerError):
        return gateway(os.environ)
    return None


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
            assert not outcome.answer.failed, outcome.answer
            self.read(job)
        return outcome

    def read(self, job: str, way: str = "direct") -> None:
        """Let prepare read what submit has asked for, and submit take the answers, by one way."""

        def invoked(function: str, event: dict[str, Any]) -> None:
            outcome = invoke(self.target, function, event, self.ways[way], job)
            assert not outcome.answer.failed, outcome.answer

        read_uploads(self.run, partial(invoked, "PrepareFunction"), partial(invoked, "SubmitFunction"))

    def render(self, job: str) -> str:
        """Bring a job to where its task runs and nobody watches it; return the task's id."""
        self.prepare(job, "submit-voice", "submit-portrait", "submit-resume", "submit-pause")
        return self.unwatch(job)

    def unwatch(self, job: str) -> str:
        """Stop the execution that watches a rendering job, and let nobody know; return the task's id once it runs."""
        states, report = self.run.client("stepfunctions"), self.target.report(job)
        assert report
        task: str = report["task"]["id"]
        listed = states.list_executions(stateMachineArn=self.target.state_machine_arn)["executions"]
        for execution in listed:
            if execution["name"].startswith(report["job"]) and execution["status"] == "RUNNING":
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
    host = docker_address()
    with own_folder() as work:
        with (
            Simulator(host=host or HOST, api_key=API_KEY, task_seconds=0.1, running=100, manual=True) as simulator,
            stack_up(
                work, PARAMETERS, provider=Provider(simulator.base_url, API_KEY, origin(simulator.base_url)),
                host=host or HOST, say=LINES.append,
            ) as run,
            resting_rules(run),
        ):  # fmt: skip
            target = local_target(run.outputs)
            variables = work / "env.json"
            variables.touch(mode=0o600)
            variables.write_text(json.dumps(run.variables()))
            ways: dict[str, Way] = {"direct": directly, "remote": remotely}
            if host:
                ways["container"] = container = Container(variables)
                container.build()
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
