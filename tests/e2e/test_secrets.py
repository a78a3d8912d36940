"""Secrets: a run with canaries for the API key, for links and in links, and then a search through all that is left."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import Stack
from makers import face, new_folder, voice
from test_every_right import Bench
from test_failing import abort

from stacks import SHORT_WAITS, deployed, own_folder

if TYPE_CHECKING:
    from simulator import Simulator

FIRST_KEY, SECOND_KEY = f"sk-canary{uuid.uuid4().hex}", f"sk-canary{uuid.uuid4().hex}"
OWNERS_LINK = "https://canaryuser:canarypassword@127.0.0.1:9/hello.mp3?token=canarytoken#canaryfragment"
TOLD_LINK = "https://b.s3.us-east-1.amazonaws.com/k?X-Amz-Signature=canarysigned&X-Amz-Security-Token=canarysession"
# A link's signature whose value wasn't taken out.
SIGNED = re.compile(r"(Signature|X-Amz-Security-Token|X-Amz-Credential|OSSAccessKeyId)(=|%3D|\"?: ?\"?)[A-Za-z0-9%+/]")


@dataclass(frozen=True)
class Leftovers:
    """All that a run has left, by where it lies, the secrets that it had, and its last job."""

    texts: dict[str, str]
    secrets: dict[str, str]
    last: str

    def holding(self, secret: str, *, but: str = "nowhere") -> list[str]:
        return [place for place, text in self.texts.items() if secret in text and not place.startswith(but)]


def run_through_everything(stack: Stack, simulator: Simulator) -> list[str]:
    """Let jobs come to every kind of end; return their names."""
    folder = new_folder()
    told = {"code": "InvalidParameter", "message": f"The image at {TOLD_LINK} is bad for key {FIRST_KEY}"}
    ends = {"fine": "done", "refused": "rejected", "failing": "failed", "of-links": "failed", "aborted": "failed"}
    names = {what: f"{folder}{what}/line" for what in ends}
    simulator.fault({"status": 400, "body": told}, endpoint="create", match={"contains": "refused"})
    simulator.fault({"task_fails": told}, match={"contains": "failing"})
    simulator.fault({"status": 500, "body": json.dumps(told)}, endpoint="query", match={"contains": "fine"})
    simulator.fault({"close": "after"}, endpoint="result", match={"contains": "fine"})
    for what in ("fine", "refused", "failing"):
        stack.drop_pair(names[what])
    of_links = {
        "input": {
            "image_url": OWNERS_LINK,
            "audio_url": OWNERS_LINK,
            "face_bbox": [0, 0, 9, 9],
            "ext_bbox": [0, 0, 9, 9],
        }
    }
    stack.drop(f"{names['of-links']}.json", json.dumps(of_links).encode())
    for what in ("fine", "refused", "failing", "of-links"):
        stack.wait_report(names[what], "done", "rejected", "failed")
    simulator.set(manual=True)
    stack.drop_pair(names["aborted"], face(1), voice(1.0, 1))
    abort(stack, stack.wait_report(names["aborted"], "rendering"))
    stack.wait_report(names["aborted"], "failed")
    simulator.set(manual=False)
    simulator.finish()
    assert {what: stack.report(name)["status"] for what, name in names.items()} == ends
    for what in ("fine", "refused", "failing", "aborted"):
        stack.notices.wait_for(stack.report(names[what]))
    return list(names.values())


def rotate(stack: Stack, simulator: Simulator) -> str:
    """Change the key at the provider and in the secret; return a job that was made with the new one."""
    simulator.set(api_key=SECOND_KEY)
    stack.client("secretsmanager").put_secret_value(
        SecretId=stack.outputs["api_key_secret_arn"], SecretString=SECOND_KEY
    )
    bench = Bench.__new__(Bench)  # for its cold start: a warm environment takes up to a minute
    bench.outputs, bench.client = stack.outputs, stack.client
    for function in stack.outputs["functions"]:
        bench.start_cold(function)
    name = f"{new_folder()}line"
    stack.drop_pair(name, face(2), voice(1.0, 2))
    stack.wait_report(name, "done")
    return name


def gather(stack: Stack) -> dict[str, str]:
    """Return everything that is written anywhere, as text."""
    texts = {f"log of {function}": stack.logs(function) for function in stack.outputs["functions"]}
    texts |= {f"file {path.name}": path.read_text("utf-8", "replace") for path in stack.run.work.glob("*.log")}
    for page in stack.s3.get_paginator("list_object_versions").paginate(Bucket=stack.outputs["results_bucket"]):
        for each in page.get("Versions", []):
            got = stack.s3.get_object(
                Bucket=stack.outputs["results_bucket"], Key=each["Key"], VersionId=each["VersionId"]
            )
            body = got["Body"].read().decode("utf-8", "replace")
            texts[f"result {each['Key']} {each['VersionId']}"] = body + json.dumps(got["Metadata"])
    inboxes = {"event": stack.events, "notice": stack.notices, "operators' notice": stack.operators}
    texts |= {f"{what} {n}": json.dumps(told) for what, box in inboxes.items() for n, told in enumerate(box.so_far())}
    states, machine = stack.client("stepfunctions"), stack.outputs["state_machine_arn"]
    for page in states.get_paginator("list_executions").paginate(stateMachineArn=machine):
        for each in page["executions"]:
            arn = {"executionArn": each["executionArn"]}
            history = list(states.get_paginator("get_execution_history").paginate(**arn))
            texts[f"execution {each['name']}"] = json.dumps([history, states.describe_execution(**arn)], default=str)
    for page in stack.client("dynamodb").get_paginator("scan").paginate(TableName=stack.outputs["table"]):
        texts |= {f"item {item['pk']['S']} {item['sk']['S']}": json.dumps(item) for item in page["Items"]}
    for function in stack.outputs["functions"].values():
        texts[f"function {function}"] = json.dumps(
            stack.client("lambda").get_function_configuration(FunctionName=function), default=str
        )
    stacks = stack.client("cloudformation")
    texts["stack"] = json.dumps(
        [stacks.describe_stacks(), stacks.list_stack_resources(StackName="portraitcast")], default=str
    )
    return texts


@pytest.fixture(scope="module")
def left() -> Leftovers:
    with (
        own_folder() as work,
        deployed(work, SHORT_WAITS, api_key=FIRST_KEY, task_seconds=0.1, say=lambda _: None) as (run, simulator),
    ):
        stack = Stack(run, simulator)
        names = run_through_everything(stack, simulator)
        names.append(rotate(stack, simulator))
        texts = gather(stack)
        stack.end()
        secrets: dict[str, Any] = {"first key": FIRST_KEY, "second key": SECOND_KEY}
        for n, task in enumerate(simulator.state()["tasks"]):
            for link in (task["image_url"], task["audio_url"]):
                for name, (value, *_) in parse_qs(urlsplit(link).query).items():
                    if name in {"X-Amz-Signature", "X-Amz-Security-Token"}:
                        secrets[f"{name} of task {n}, {urlsplit(link).path[-4:]}"] = value
    return Leftovers(texts, secrets, names[-1])


def test_the_search_would_find_something(left: Leftovers) -> None:
    kinds = {place.split(" ")[0] for place in left.texts}

    assert kinds >= {"log", "file", "result", "event", "notice", "execution", "item", "function", "stack"}
    assert len(left.secrets) > 10
    assert SIGNED.search(TOLD_LINK)
    assert left.holding("InvalidParameter")  # the provider's words, with which the canaries came


def test_the_api_key_is_nowhere_neither_the_old_nor_the_new_one(left: Leftovers) -> None:
    assert {key: left.holding(key) for key in (FIRST_KEY, SECOND_KEY)} == {FIRST_KEY: [], SECOND_KEY: []}


def test_no_presigned_link_of_any_task_is_anywhere(left: Leftovers) -> None:
    found = {what: left.holding(secret) for what, secret in left.secrets.items()}

    assert {what: places for what, places in found.items() if places} == {}


def test_no_signature_at_all_is_anywhere(left: Leftovers) -> None:
    assert {place: text for place, text in left.texts.items() if SIGNED.search(text)} == {}


@pytest.mark.parametrize("canary", ["canarysigned", "canarysession"])
def test_links_in_the_providers_words_are_told_without_their_secrets(left: Leftovers, canary: str) -> None:
    assert left.holding(canary) == []


@pytest.mark.parametrize("canary", ["canaryuser", "canarypassword", "canarytoken", "canaryfragment"])
def test_an_owners_own_link_is_shown_nowhere_with_what_may_be_secret_in_it(left: Leftovers, canary: str) -> None:
    # The job's item holds the link, as the bucket's JSON does: it is what the provider is sent.
    assert left.holding(canary, but="item JOB#") == []
    assert left.holding(canary) != []


def test_a_rotated_key_is_taken_up_without_redeploying(left: Leftovers) -> None:
    """The last job of the run was made after the provider had stopped taking the first key."""
    assert '"status": "done"' in next(
        text for place, text in left.texts.items() if place.startswith(f"result {left.last}.json ")
    )
