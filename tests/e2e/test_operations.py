"""The runbook, docs/operations.md: its commands are run as they stand there, or named as needing AWS."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from makers import face, sha256, voice

from run import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Stack

    Report = dict[str, Any]

pytestmark = pytest.mark.skipif(
    not (shutil.which("aws") and shutil.which("curl") and shutil.which("bash")),
    reason="the runbook's commands need bash, curl and the AWS CLI",
)

BLOCKS = [
    re.sub(r"^  ", "", block, flags=re.MULTILINE) if indented else block
    for indented, block in re.findall(
        r"^( *)```\n(.*?)^ *```$", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
]
NEEDS_AWS = {  # words of a block → why the local engine can't
    "start-query": "Logs Insights",
    "batch-get-traces": "X-Ray",
    "FormerKeyArns": "deploys to AWS",
    "sam deploy": "deploys to AWS",
}
RUNS = {  # words of a block → what its words on standard output are like
    "stack() {": r"",
    "get-metric-statistics": r"Datapoints",
    "receive-message": r"",
    "put-secret-value": r"VersionId",
    '{"pause": true}': r"MessageId",
    '{"scan": "acme/"}': r"MessageId",
    '"ACCOUNT"': r'"tasks_in_flight"',
    "JOB=$(": r"",
    "\"JOB#'$JOB'\"": r'"status": \{\s*"S": "done"',
    "list-object-versions": r"VersionId",
    "list-executions": r"SUCCEEDED",
    "list-stack-resources": r"published",
    '{"sweep": true}': r"MessageId",
    "TASK=": r"upload: ",
}
COMMON = 'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }\n'  # some versions need it for SQS


def block(words: str) -> str:
    (found,) = [each for each in BLOCKS if words in each]
    return found


def test_every_command_of_the_runbook_is_run_here_or_needs_aws() -> None:
    known = [*RUNS, *NEEDS_AWS]
    assert [each for each in BLOCKS if sum(words in each for words in known) != 1] == []
    assert all(sum(words in each for each in BLOCKS) == 1 for words in known)


@pytest.fixture(scope="module")
def done(stack: Stack) -> Report:
    """Return the report of a job that was made: the runbook's commands are about it."""
    name = "runbook/line-01"
    stack.drop(f"{name}.png", face())
    stack.drop(f"{name}.wav", voice())
    return stack.wait_report(name, "done")


def run(stack: Stack, words: str, done: Report, work: Path, stdin: str = "") -> str:
    """Run a block of the runbook in bash, with the names of a real job in it; return what it says."""
    text = (
        block(words)
        .replace("acme/line-01", done["name"])
        .replace("TASK=" + "a8532587-fa8c-4ef8-82be-0c46b17950d1", f"TASK={done['task']['id']}")
    )
    before = "" if words == "stack() {" else block("stack() {")
    return run_text(stack, before + text, work, stdin, JOB=done["job"])


def run_text(stack: Stack, text: str, work: Path, stdin: str = "", **more: str) -> str:
    """Run commands in bash against the local stack; return what they say."""
    o = stack.outputs
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": o["endpoint_url"],
        "AWS_DEFAULT_REGION": o["region"],
        "AWS_ACCESS_KEY_ID": o["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": o["secret_access_key"],
        "AWS_PAGER": "",
        "DASHSCOPE_BASE_URL": stack.simulator.base_url,
        **more,
    }
    ended = subprocess.run(  # noqa: S603 - the runbook's own words
        ["bash", "-euo", "pipefail", "-c", COMMON + text],  # noqa: S607 - whichever bash the person has
        env=environment, cwd=work, input=stdin, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("words", [words for words in RUNS if words not in {"TASK=", '{"pause": true}'}])
def test_a_command_of_the_runbook_does_its_work(stack: Stack, done: Report, tmp_path: Path, words: str) -> None:
    key = stack.client("secretsmanager").get_secret_value(SecretId=stack.outputs["api_key_secret_arn"])["SecretString"]

    said = run(stack, words, done, tmp_path, stdin=key if words == "put-secret-value" else "")

    assert re.search(RUNS[words], said)
    stack.until(stack.is_drained, "its message was handled")


def test_the_hash_of_a_name_is_its_job(stack: Stack, done: Report, tmp_path: Path) -> None:
    text = block("JOB=$(").replace("acme/line-01", done["name"]) + "printf %s $JOB"
    said = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)  # noqa: S603, S607
    assert said.stdout == done["job"]


def test_pause_by_message_holds_what_comes(stack: Stack, done: Report, tmp_path: Path, folder: str) -> None:
    try:
        run(stack, '{"pause": true}', done, tmp_path)
        stack.until(stack.is_drained, "its message was handled")
        stack.drop(f"{folder}line.png", face())
        stack.drop(f"{folder}line.wav", voice())
        assert stack.wait_report(f"{folder}line", "queued")["queue"]["held"] == "paused"
    finally:
        stack.send({"pause": False})
    stack.wait_report(f"{folder}line", "done")


def test_a_video_is_brought_by_hand_with_a_fresh_link(stack: Stack, done: Report, tmp_path: Path) -> None:
    stack.s3.delete_object(Bucket=stack.outputs["results_bucket"], Key=f"{done['name']}.mp4")

    run(stack, "TASK=", done, tmp_path)

    assert sha256(stack.result(f"{done['name']}.mp4")) == done["video"]["sha256"]


def dropping(page: str, words: str) -> str:
    """Return the block of another page that holds these words."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    found = re.findall(r"^( *)```\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    (block,) = [re.sub(rf"^{indented}", "", block, flags=re.MULTILINE) for indented, block in found if words in block]
    return block


@pytest.mark.parametrize(
    ("page", "words", "name"),
    [("local.md", "<upload bucket>", "acme/line-01"), ("deploying.md", "first/hello.png", "first/hello")],
)
def test_a_pair_is_dropped_with_the_aws_cli(
    stack: Stack, tmp_path: Path, folder: str, page: str, words: str, name: str
) -> None:
    (tmp_path / "anna.png").write_bytes(face())
    for file in ("line-01.mp3", "hello.mp3"):
        shutil.copy(ROOT / "local" / "samples" / "voice.mp3", tmp_path / file)
    commands = dropping(page, words).replace(f"{name.rpartition('/')[0]}/", folder)
    commands = commands.replace("<upload bucket>", stack.outputs["upload_bucket"])
    uploads = [line for line in commands.splitlines() if not line.rstrip().endswith(" -")]

    run_text(stack, block("stack() {") + "\n".join(uploads), tmp_path)

    stack.wait_report(f"{folder}{name.rpartition('/')[2]}", "done")
