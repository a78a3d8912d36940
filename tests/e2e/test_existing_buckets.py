"""Buckets that are there already: versioned, suspended or not; under a prefix; two stacks on one bucket."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from conftest import GUARD_SECONDS, Events
from makers import face, new_folder, voice
from test_rights import acting_as

from run import Provider, origin, stack_parameters
from stack import deploy
from stacks import SHORT_WAITS, deployed, own_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from run import Run
    from simulator import Simulator

API_KEY = "sk-existing"
BUCKET = "theirs"


def on(prefix: str) -> dict[str, str]:
    """Return the parameters of a stack that works under a prefix of the bucket."""
    places = {"ExistingUploadBucket": BUCKET, "UploadPrefix": f"{prefix}in/"}
    return {**SHORT_WAITS, **places, "ExistingResultsBucket": BUCKET, "ResultsPrefix": f"{prefix}out/"}


class Theirs:
    """A bucket that somebody has, with one stack on it, and another one on demand."""

    def __init__(self, run: Run, simulator: Simulator) -> None:
        self.run, self.simulator, self.outputs = run, simulator, run.outputs
        self.s3 = run.client("s3")
        self.events = {"a/": Events(run)}

    def client(self, service: str) -> Any:
        return self.run.client(service)

    def drop(self, key: str, content: bytes, **how: Any) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content, **how)

    def drop_pair(self, name: str) -> None:
        self.drop(f"{name}.png", face())
        self.drop(f"{name}.wav", voice())

    def wait(self, name: str, status: str, prefix: str = "a/") -> dict[str, Any]:
        return self.events[prefix].wait(lambda r: r["name"] == name and r["status"] == status, GUARD_SECONDS)

    def listed(self, prefix: str = "") -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]

    def add_stack(self, prefix: str) -> None:
        provider = Provider(self.simulator.base_url, API_KEY, simulator_url=origin(self.simulator.base_url))
        parameters = stack_parameters(provider, on(prefix))
        found = deploy(self.client("cloudformation"), f"stack-{prefix[0]}", self.run.template_url, parameters)
        self.client("secretsmanager").put_secret_value(SecretId=found["ApiKeySecretArn"], SecretString=API_KEY)
        self.events[prefix] = Events(replace(self.run, outputs=self.outputs | {"event_bus": found["EventBusName"]}))


@pytest.fixture(scope="module")
def theirs() -> Iterator[Theirs]:
    with own_folder() as work:
        with deployed(work, on("a/"), api_key=API_KEY, task_seconds=0.3, say=lambda _: None) as (run, simulator):
            bucket = Theirs(run, simulator)
            yield bucket
            for events in bucket.events.values():
                events.end()
        assert not (work / "tmp").exists()  # 38 MB of functions' code
        shutil.rmtree(work)


@pytest.mark.parametrize("versioning", [None, "Enabled", "Suspended"])
def test_a_drop_becomes_a_video(theirs: Theirs, versioning: str | None) -> None:
    if versioning:
        theirs.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": versioning})
    name = f"{new_folder()}line 1+2"

    theirs.drop(f"a/in/{name}.png", face())
    theirs.drop(f"a/in/{name}.json", json.dumps({"job": {"reference": "order-4711"}}).encode())
    theirs.drop(f"a/in/{name}.wav", voice(), Metadata={"customer": "k-1"})
    done = theirs.wait(name, "done")

    assert done["inputs"]["voice"]["key"] == f"a/in/{name}.wav"
    assert (done["inputs"]["voice"]["version"] != "null") == (versioning == "Enabled")
    assert (done["reference"], done["metadata"]) == ("order-4711", {"customer": "k-1"})
    assert (done["video"]["bucket"], done["video"]["key"]) == (BUCKET, f"a/out/{name}.mp4")
    video = theirs.s3.head_object(Bucket=BUCKET, Key=done["video"]["key"])
    assert video["ContentDisposition"] == 'attachment; filename="line 1+2.mp4"'
    report = json.loads(theirs.s3.get_object(Bucket=BUCKET, Key=f"a/out/{name}.json")["Body"].read())
    assert report == done


def test_a_voice_that_is_deleted_withdraws(theirs: Theirs) -> None:
    name = f"{new_folder()}lonely"
    theirs.drop(f"a/in/{name}.wav", voice())
    theirs.wait(name, "waiting")

    theirs.s3.delete_object(Bucket=BUCKET, Key=f"a/in/{name}.wav")

    theirs.wait(name, "withdrawn")


def test_two_stacks_share_a_bucket(theirs: Theirs) -> None:
    theirs.add_stack("b/")
    name, other = f"{new_folder()}line", f"{new_folder()}line"

    theirs.drop_pair(f"c/in/{name}")  # of neither stack
    theirs.drop_pair(f"a/in/{name}")
    theirs.drop_pair(f"b/in/{other}")

    theirs.wait(name, "done")
    theirs.wait(other, "done", "b/")
    assert theirs.listed("b/out/") == [f"b/out/{other}.json", f"b/out/{other}.mp4"]
    assert not [report for report in theirs.events["a/"].so_far() if report["name"] == other]
    assert not [report for report in theirs.events["b/"].so_far() if report["name"] == name]
    assert not [key for key in theirs.listed() if not key.startswith(("a/", "b/", "c/in/"))]


def test_a_scan_finds_what_lay_there_before(theirs: Theirs) -> None:
    off: dict[str, Any] = {}
    theirs.s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=off)
    folder = new_folder()
    theirs.drop_pair(f"a/in/{folder}old")
    theirs.s3.put_bucket_notification_configuration(
        Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )

    message = json.dumps({"scan": folder})
    theirs.client("sqs").send_message(QueueUrl=theirs.outputs["uploads_queue_url"], MessageBody=message)

    theirs.wait(f"{folder}old", "done")


@pytest.mark.parametrize("function", ["submit", "prepare", "deliver"])
def test_no_right_reaches_beyond_the_prefixes(theirs: Theirs, function: str) -> None:
    theirs.drop("private/pay.json", b"{}")
    s3 = acting_as(theirs, function)("s3")  # type: ignore[arg-type]  # has outputs and client, as a Stack

    with pytest.raises(ClientError, match="AccessDenied"):
        s3.get_object(Bucket=BUCKET, Key="private/pay.json")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket=BUCKET, Prefix="private/")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket=BUCKET, Key="private/new.json", Body=b"")
