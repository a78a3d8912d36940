"""``make check-aws`` and ``make redrive`` against the engine: on a stack of their own, whose key nobody has put in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from check_aws import FOLDER, FOLLOWED, READ_BACK, Checker, Verdict
from deployed import Deployed, describe
from redrive import SOURCES, redrive
from run import ROOT, STACK
from stacks import SHORT_WAITS, deployed, own_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from run import Run
    from simulator import Simulator

NOT_HERE = {"customer-key", "sweeps"}  # this stack has no such key, and no sweep comes in its time
# Where the engine does otherwise than AWS. They show that it is told.
DIFFERS_HERE = {
    "mapping-tags": "CloudFormation tags no mapping",
    "topics": "CloudFormation sets no key of a topic",
    "table": "CloudFormation sets neither expiry nor recovery, and an index has no status",
    "lifecycle": "CloudFormation keeps no lifecycle of a bucket",
    "link-suspended": "HEAD says no version in a suspended bucket, where S3 says null",
}


class Own:
    """The stack, its run and its simulator."""

    def __init__(self, run: Run, simulator: Simulator) -> None:
        self.run, self.simulator = run, simulator
        self.stack: Deployed = describe(STACK, "the tests' stack", run.client, is_local=True)

    def ask(self, name: str) -> Verdict:
        return Checker(self.stack, lambda _: None).ask(name).verdict

    def command(self, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as people do for a stack on AWS."""
        outputs = self.run.outputs
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.run.work), "STACK": STACK,
            "AWS_ENDPOINT_URL": outputs["endpoint_url"], "AWS_DEFAULT_REGION": outputs["region"],
            "AWS_ACCESS_KEY_ID": outputs["access_key_id"], "AWS_SECRET_ACCESS_KEY": outputs["secret_access_key"],
            **variables,
        }  # fmt: skip
        return subprocess.run(  # noqa: S603 - our own program
            [sys.executable, str(ROOT / "local" / program)],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    with own_folder() as work:
        waits = SHORT_WAITS | {"SweepMinutes": "60"}
        with deployed(work, waits, api_key="sk-check", task_seconds=0.3, say=lambda _: None) as (run, simulator):
            secret = run.outputs["api_key_secret_arn"]
            run.client("secretsmanager").put_secret_value(SecretId=secret, SecretString="not-set")
            yield Own(run, simulator)
        shutil.rmtree(work)


# ---------------------------------------------------------------- check-aws


@pytest.fixture(scope="module")
def findings(own: Own) -> dict[str, dict[str, str]]:
    """Return what `make check-aws JSON=1` found in a stack as it was deployed."""
    said = own.command("check_aws.py", JSON="1")
    assert said.stderr == ""
    found = {each["name"]: each for each in json.loads(said.stdout)}
    assert said.returncode == (1 if any(each["verdict"] == "differs" for each in found.values()) else 0)
    return found


def test_a_stack_as_deployed_agrees(findings: dict[str, dict[str, str]]) -> None:
    assert list(findings) == [*READ_BACK, *FOLLOWED]
    differs = {name: each["seen"] for name, each in findings.items() if each["verdict"] == "differs"}
    assert differs.keys() == DIFFERS_HERE.keys()
    assert {name for name, each in findings.items() if each["verdict"] == "not seen"} <= NOT_HERE


def test_nothing_is_paid_and_nothing_stays(own: Own, findings: dict[str, dict[str, str]]) -> None:
    counters = own.simulator.state()["counters"]
    assert (counters["creates_accepted"], counters["paid_cny"]) == (0, {})
    s3 = own.run.client("s3")
    for bucket in ("upload_bucket", "results_bucket"):
        listed = s3.list_object_versions(Bucket=own.run.outputs[bucket])
        assert listed.get("Versions", []) + listed.get("DeleteMarkers", []) == []
    assert [each for each in s3.list_buckets()["Buckets"] if each["Name"].startswith(FOLDER)] == []
    assert own.run.client("sqs").list_queues(QueueNamePrefix=FOLDER).get("QueueUrls", []) == []
    secret = own.run.client("secretsmanager").get_secret_value(SecretId=own.run.outputs["api_key_secret_arn"])
    assert secret["SecretString"] == "not-set"
    items = own.run.client("dynamodb").scan(TableName=own.run.outputs["table"])["Items"]
    assert {item["pk"]["S"] for item in items if item["pk"]["S"].startswith(("JOB#", "QUEUE#"))} == set()


def broken_recursion(own: Own) -> None:
    own.run.client("lambda").put_function_recursion_config(
        FunctionName=own.run.outputs["functions"]["submit"], RecursiveLoop="Terminate"
    )


def broken_environment(own: Own) -> None:
    client, name = own.run.client("lambda"), own.run.outputs["functions"]["prepare"]
    variables = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**variables, "API_KEY_SECRET_ARN": ""}}
    )


def broken_trust(own: Own) -> None:
    trust = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "sts:AssumeRole"}
    own.run.client("iam").update_assume_role_policy(
        RoleName=own.stack.resources["LinkRole"],
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )


def broken_rights(own: Own) -> None:
    may = {"Effect": "Allow", "Action": ["s3:*", "sts:*"], "Resource": "*"}
    own.run.client("iam").put_role_policy(
        RoleName=own.stack.resources["DeliverRole"], PolicyName="too-much",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may]}),
    )  # fmt: skip


def broken_queue(own: Own) -> None:
    own.run.client("sqs").set_queue_attributes(
        QueueUrl=own.stack.resources["MediaQueue"], Attributes={"VisibilityTimeout": "30", "RedrivePolicy": ""}
    )


def broken_rule(own: Own) -> None:
    own.run.client("events").disable_rule(Name=own.stack.resources["SweepRule"].rpartition("|")[2])


def broken_buckets(own: Own) -> None:
    s3, bucket = own.run.client("s3"), own.run.outputs["results_bucket"]
    s3.delete_bucket_lifecycle(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.put_bucket_notification_configuration(Bucket=own.run.outputs["upload_bucket"], NotificationConfiguration={})


def broken_alarms(own: Own) -> None:
    own.run.client("cloudwatch").set_alarm_state(
        AlarmName=own.stack.resources["OldMessageAlarm"], StateValue="ALARM", StateReason="a test"
    )


def broken_machine(own: Own) -> None:
    client, arn = own.run.client("stepfunctions"), own.run.outputs["state_machine_arn"]
    definition = json.loads(client.describe_state_machine(stateMachineArn=arn)["definition"])
    del definition["States"]["Deliver"]["Retry"]
    client.update_state_machine(stateMachineArn=arn, definition=json.dumps(definition))


BROKEN: dict[Callable[[Own], None], set[str]] = {
    broken_recursion: {"recursion"},
    broken_environment: {"environment"},
    broken_trust: {"link-trust", "link-refused"},
    broken_rights: {"link-rights", "no-deletions"},
    broken_queue: {"redrive-policies", "queue-settings"},
    broken_rule: {"rules"},
    broken_buckets: {"versioning", "notifications"},
    broken_alarms: {"alarms"},
    broken_machine: {"machine"},
}


# ---------------------------------------------------------------- redrive


def lay(own: Own, source: str, *bodies: Any) -> None:
    for body in bodies:
        queue = own.stack.resources[SOURCES[source].dead_letters]
        own.run.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(body))


def held(own: Own, name: str) -> int:
    """Return how many messages a queue has, visible or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = own.run.client("sqs").get_queue_attributes(QueueUrl=own.stack.resources[name], AttributeNames=names)
    return sum(map(int, answer["Attributes"].values()))


@pytest.fixture
def resting(own: Own, findings: dict[str, dict[str, str]]) -> Iterator[None]:
    """Let the queues rest meanwhile: what is sent back stays to be seen."""
    client = own.run.client("lambda")
    mappings = client.list_event_source_mappings()["EventSourceMappings"]
    for mapping in mappings:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    yield
    for mapping in mappings:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def test_dead_letters_go_back(own: Own, resting: None) -> None:
    """Each once: those of queues into them, those of deliver and its rule to deliver."""
    event = json.loads((ROOT / "events" / "deliver-execution-failed.json").read_text("utf-8"))
    sqs = own.run.client("sqs")
    for name in ("UploadsQueue", "MediaQueue"):
        sqs.purge_queue(QueueUrl=own.stack.resources[name])
    lay(own, "uploads", *({"scan": str(n)} for n in range(23)))
    lay(own, "media", *({"prepare": {"key": f"{n}.mp3", "version": "v"}} for n in range(2)))
    lay(own, "deliver", {"requestContext": {}, "requestPayload": event})
    lay(own, "rule", event, event)

    said = own.command("redrive.py")

    assert (said.returncode, said.stderr) == (0, "")
    assert [line.split()[:4] for line in said.stdout.splitlines()[1:]] == [
        ["uploads", "23", "of", "23"],
        ["media", "2", "of", "2"],
        ["answers", "none"],
        ["deliver", "1", "of", "1"],
        ["rule", "2", "of", "2"],
    ]
    assert [held(own, its.dead_letters) for its in SOURCES.values()] == [0, 0, 0, 0, 0]
    back: list[str] = []
    queue = own.stack.resources["UploadsQueue"]
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        back += [json.loads(message["Body"])["scan"] for message in messages]
    assert sorted(back, key=int) == [str(n) for n in range(23)]
    assert held(own, "MediaQueue") == 2


def test_one_queue_alone(own: Own, resting: None) -> None:
    lay(own, "media", {"prepare": {"key": "a.mp3", "version": "v"}})
    assert own.command("redrive.py", Q="uploads").stdout.splitlines()[1:] == ["uploads  none"]
    assert held(own, "MediaDeadLetterQueue") == 1
    assert redrive(own.stack, "media").moved == 1
    wrong = own.command("redrive.py", Q="letters")
    assert (wrong.returncode, "there are uploads, media, answers, deliver, rule" in wrong.stderr) == (2, True)


def test_what_deliver_cannot_take_stays(own: Own, resting: None) -> None:
    lay(own, "rule", {"nobody": "knows"})
    said = own.command("redrive.py", Q="rule")
    assert said.returncode == 1
    assert "0 of 1" in said.stdout
    assert "is no event of an execution" in said.stdout
    assert held(own, "RuleDeadLetterQueue") == 1


@pytest.mark.parametrize(("program", "code"), [("check_aws.py", 2), ("redrive.py", 1)])
def test_a_stack_that_is_not_there(own: Own, program: str, code: int) -> None:
    said = own.command(program, STACK="nobodys")
    assert (said.returncode, "Traceback" in said.stderr) == (code, False)
    assert "nobodys on AWS can't be asked" in said.stderr


# ---------------------------------------------------------------- last: what is broken on purpose


@pytest.mark.parametrize("breaking", BROKEN, ids=lambda breaking: breaking.__name__)
def test_what_is_broken_differs(own: Own, findings: dict[str, Any], breaking: Callable[[Own], None]) -> None:
    breaking(own)
    assert {name for name in BROKEN[breaking] if own.ask(name) is not Verdict.DIFFERS} == set()


def test_a_check_that_differs_fails(own: Own, findings: dict[str, Any]) -> None:
    """Notifications are gone by now, so no report comes of a pair that nobody is told of."""
    checker = Checker(own.stack, lambda _: None)
    checker.ask("notifications")
    assert checker.findings[-1].verdict is Verdict.DIFFERS
