"""The commands of README.md, docs/local.md and docs/sam.md, as they stand there, on a fresh copy of the checkout.

What a newcomer does: a demo, and beside it `make local` in another terminal, with the variables that it prints.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from conftest import docker_address

from invoke import SAMPLES, has_image
from package import this_machine
from run import ROOT
from sam import check_python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = ("README.md", "docs/local.md", "docs/sam.md")
PROGRAMS = ("make", "sam", "aws", ".venv/")
SECONDS = 600  # for one command, with what it installs: on two idle cores none takes more than 30
IMAGE = f"public.ecr.aws/lambda/python:3.13-{this_machine()}"
SWEPT = r'"Sweeps"'  # a metric that only the sweep writes

# Command → what it says. They are run in this order, against a `make local`.
DEMOS = {
    "make demo": r"Your video: .*/\.demo/voice\.mp4",
    "make demo PORTRAIT=anna.png VOICE=hello.mp3": r"Your video: .*/\.demo/hello\.mp4",
}
BESIDE_MAKE_LOCAL = {
    "make sam": r"",
    ".venv/sam/bin/sam remote invoke SubmitFunction --stack-name portraitcast "
    "--event-file events/submit-sweep.json": SWEPT,
    "sam remote invoke StateMachine --stack-name portraitcast --event-file events/status-task-too-old.json": (
        r'"published": ?true'
    ),
    "make invoke F=Submit E=submit-voice": r"before   acme/line-01: no report[^$]*after    acme/line-01: waiting",
    "make invoke F=Submit E=submit-voice JOB=acme/line-01": r"answer   \{\}",
    'aws --endpoint-url "$AWS_ENDPOINT_URL" s3 cp anna.png s3://<upload bucket>/acme/line-01.png': r"upload: ",
    'aws --endpoint-url "$AWS_ENDPOINT_URL" s3 cp line-01.mp3 s3://<upload bucket>/acme/line-01.mp3': r"upload: ",
    "sam remote invoke SubmitFunction --stack-name portraitcast --event-file events/submit-sweep.json": SWEPT,
    "sam logs -n SubmitFunction --stack-name portraitcast": SWEPT,
    "sam list resources --stack-name portraitcast": r"UploadBucket",
}
BESIDE_DOCKER = {  # against `make local DOCKER=1`
    "make build ARCHITECTURE=x86_64": r"Build Succeeded",
    ".venv/sam/bin/sam local invoke SubmitFunction -e events/submit-sweep.json --env-vars .local/env.json "
    "--parameter-overrides Architecture=x86_64": SWEPT,
    ".venv/sam/bin/sam local generate-event s3 put --bucket <upload bucket> --key acme/line-01.mp3 | "
    ".venv/sam/bin/sam local invoke SubmitFunction -e - --env-vars .local/env.json "
    "--parameter-overrides Architecture=x86_64": r"REPORT RequestId",
    "aws --endpoint-url http://127.0.0.1:3001 lambda invoke --function-name SubmitFunction "
    "--payload fileb://events/submit-sweep.json /dev/stdout": r'"StatusCode": 200',
    "make invoke F=Submit E=submit-voice JOB=acme/line-01 DOCKER=1": r"answer   \{\}",
    "make deploy LOCAL=1": r"Successfully created/updated stack",
}
SERVERS = (  # they run until they are ended
    "make local",
    "make local DOCKER=1",
    ".venv/sam/bin/sam local start-lambda --env-vars .local/env.json --parameter-overrides Architecture=x86_64",
)
NOT_HERE = {
    "make test": "this is it",
    "make deploy": "needs an AWS account",
    "make fetch TASK=id": "needs a task at the real service",
}


def commands_of(page: str) -> list[str]:
    """Return a page's command lines: those of its blocks and tables that are whole."""
    text = (ROOT / page).read_text("utf-8")
    fence = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    found = []
    for language, block in fence.findall(text):
        lines = re.sub(r"\|\n\s*", "| ", block).splitlines() if not language else []
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found += typed or [line for line in lines if line.startswith(PROGRAMS)]
    spans = re.findall(r"`([^`]+)`", fence.sub("", text))
    found += [" ".join(span.split()) for span in spans if re.match(r"(make|sam|aws) ", span) and "=" in span]
    found += [" ".join(span.split()) for span in spans if span.startswith(("sam ", "make local", "make demo"))]
    found = [re.sub(r"\s+#.*", "", command) for command in found]
    return list(dict.fromkeys(command for command in found if is_whole(command)))


def is_whole(command: str) -> bool:
    """Say whether a command could be typed so: a mention names a verb, or has `…` where something is left out."""
    return "…" not in command and not re.fullmatch(r"sam( [a-z-]+){1,2}|make [A-Z=].*|.*\[.*", command)


def test_every_command_is_run_here_or_says_why_not() -> None:
    known = {*DEMOS, *BESIDE_MAKE_LOCAL, *BESIDE_DOCKER, *SERVERS, *NOT_HERE}
    there = {command for page in PAGES for command in commands_of(page)}
    assert there - known == set()
    assert known - there == set()


# ---------------------------------------------------------------- the newcomer


@dataclass
class Newcomer:
    """Somebody with a fresh copy of the checkout, an environment of their own, and some patience."""

    checkout: Path
    environment: dict[str, str]
    upload_bucket: str = ""
    printed: dict[str, str] = field(default_factory=dict)

    def start(self, command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command of a page in a terminal of its own."""
        with log.open("wb") as words:
            return subprocess.Popen(  # noqa: S603 - the pages' own words
                ["bash", "-o", "pipefail", "-c", self.typed(command)],  # noqa: S607 - whichever bash the person has
                cwd=self.checkout, env=self.environment | self.printed, stdin=subprocess.PIPE, stdout=words,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def typed(self, command: str) -> str:
        """Return what a person types for a command: with the bucket's name, on this machine's processor."""
        command = re.sub(r"(^|\| )sam ", r"\1.venv/sam/bin/sam ", command)
        if " local invoke " in command or "start-lambda" in command:
            command += " --skip-pull-image"  # what docs/sam.md says for an image that is here
        typed = command.replace("<upload bucket>", self.upload_bucket).replace("x86_64", this_machine())
        return f"echo y | {typed}" if command.startswith("make deploy") else typed

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End a command and what it has started."""
        for sign in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, sign)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                continue

    def run(self, command: str, says: str, log: Path) -> None:
        """Run a command of a page to its end, which must be good."""
        process = self.start(command, log)
        try:
            assert process.stdin
            process.stdin.close()
            code = process.wait(SECONDS)
        finally:
            self.end(process)
        said = log.read_text("utf-8", "replace")
        assert code == 0, f"{command}\n{said}"
        assert re.search(says, said), f"{command}\n{said}"

    @contextmanager
    def running(self, command: str, ready: str, log: Path) -> Iterator[str]:
        """Keep a command running meanwhile, once it has said that it is ready; yield what it said."""
        process = self.start(command, log)
        try:
            deadline = time.monotonic() + SECONDS
            while ready not in (said := log.read_text("utf-8", "replace")):
                assert process.poll() is None, f"{command}\n{said}"
                assert time.monotonic() < deadline, f"{command}\n{said}"
                time.sleep(0.1)
            yield said
        finally:
            self.end(process)

    @contextmanager
    def beside(self, command: str, log: Path) -> Iterator[None]:
        """Keep a `make local` running, and do in this terminal what it says: export its variables."""
        with self.running(command, "Ctrl-C ends it", log) as said:
            self.printed = dict(
                word.split("=", 1) for line in re.findall(r"^ *export (.*)", said, re.M) for word in line.split()
            )
            self.upload_bucket = json.loads((self.checkout / ".local" / "outputs.json").read_text())["upload_bucket"]
            yield
        assert not (self.checkout / ".local" / "outputs.json").exists()
        self.printed = {}


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """Give a newcomer with every file that git has, as it lies here, and nothing that was installed or built."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if listed.returncode:
        pytest.skip("no git checkout")
    checkout = tmp_path_factory.mktemp("newcomer") / "portraitcast"
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    for name, sample in {"anna.png": "portrait.png", "hello.mp3": "voice.mp3", "line-01.mp3": "voice.mp3"}.items():
        shutil.copy(SAMPLES / sample, checkout / name)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DASHSCOPE_", "MAKE", "COVERAGE"))}
    yield Newcomer(checkout, environment)
    shutil.rmtree(checkout)


def test_without_docker(newcomer: Newcomer, tmp_path: Path) -> None:
    """`make demo` runs beside `make local`, as docs/local.md says."""
    demo, *more = DEMOS
    with ExitStack() as terminals:
        first = newcomer.start(demo, tmp_path / "demo.log")
        terminals.callback(newcomer.end, first)
        terminals.enter_context(newcomer.beside("make local", tmp_path / "local.log"))
        for command, says in BESIDE_MAKE_LOCAL.items():
            if not command.startswith("aws ") or shutil.which("aws"):
                newcomer.run(command, says, tmp_path / "words")
        assert first.wait(SECONDS) == 0
    assert re.search(DEMOS[demo], (tmp_path / "demo.log").read_text())
    for command in more:
        newcomer.run(command, DEMOS[command], tmp_path / "words")


def test_in_containers(newcomer: Newcomer, tmp_path: Path) -> None:
    if not docker_address() or not has_image(IMAGE):
        pytest.skip("no Docker daemon answers, or it hasn't the image, or DOCKER=0: see docs/sam.md")
    check_python("python3.13")
    server = SERVERS[-1]
    with newcomer.beside("make local DOCKER=1", tmp_path / "local.log"), ExitStack() as terminals:
        for command, says in BESIDE_DOCKER.items():
            if "127.0.0.1:3001" in command:
                if not shutil.which("aws"):
                    continue
                terminals.enter_context(newcomer.running(server, "Running on", tmp_path / "lambda.log"))
            newcomer.run(command, says, tmp_path / "words")
