"""A deployed stack for tests: engine with roles enforced, simulator in this process, template.yaml with short waits."""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from run import ROOT, Provider, Run, origin, stack_up, work_folder
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Policy = dict[str, Any]
    Message = dict[str, Any]

SHORT_WAITS = {
    "MinPollSeconds": "1",
    "MaxPollSeconds": "2",
    "PairSeconds": "1",
    "SettleSeconds": "2",
    "ReconcileSeconds": "1",
    "BreakerSeconds": "1",
    "SweepMinutes": "1",
}


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Take a work folder of its own under ``.test/``."""
    with work_folder(ROOT / ".test" / uuid.uuid4().hex[:8]) as work:
        yield work


@contextlib.contextmanager
def deployed(
    work: Path, parameters: Mapping[str, str], *, api_key: str, task_seconds: float, **how: Any
) -> Iterator[tuple[Run, Simulator]]:
    """Bring up a stack and its simulator, whose tasks take so many seconds; `how` as `run.stack_up` takes it."""
    with Simulator(api_key=api_key, task_seconds=task_seconds) as simulator:
        provider = Provider(simulator.base_url, api_key, simulator_url=origin(simulator.base_url))
        with stack_up(work, parameters, provider=provider, **how) as run:
            yield run, simulator


def open_queue(sqs: Any, name: str) -> tuple[str, str]:
    """Make a queue of the tests' own that a rule and a topic may send to; return its URL and ARN."""
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    senders = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [senders]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    return queue, arn


def variable_of(stack: Any, function: str, name: str) -> str:
    """Return an environment variable of a function; `stack` has ``outputs`` and ``client``."""
    configuration = stack.client("lambda").get_function_configuration(FunctionName=stack.outputs["functions"][function])
    return str(configuration["Environment"]["Variables"][name])


def as_record(body: str, receipt: str, queue: str = "uploads") -> Message:
    """Return a message of a queue (its address, or its name) as Lambda hands it on."""
    return {
        "messageId": "one",
        "receiptHandle": receipt,
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "0"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{queue.rpartition('/')[2]}",
    }


def take_messages(stack: Any, queue: str) -> list[Message]:
    """Take all messages out of a queue that can be received now; return them as Lambda hands them on."""
    sqs, taken = stack.client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            taken.append(as_record(message["Body"], message["ReceiptHandle"], queue))
    return taken


def read_uploads(
    stack: Any, prepare: Callable[[dict[str, Any]], object], submit: Callable[[dict[str, Any]], object]
) -> None:
    """Where queues rest: hand submit's orders to prepare, and its answers to submit, until there are no more.

    `prepare` and `submit` take a batch of their queue.
    """
    while orders := take_messages(stack, stack.outputs["media_queue_url"]):
        for order in orders:
            prepare({"Records": [order]})
        for answer in take_messages(stack, stack.outputs["answers_queue_url"]):
            submit({"Records": [answer]})


def role_of(stack: Any, function: str) -> str:
    """Return the name of a function's role; `stack` has ``outputs`` and ``client``."""
    configuration = stack.client("lambda").get_function_configuration(FunctionName=stack.outputs["functions"][function])
    return str(configuration["Role"].rpartition("/")[2])


def policies_of(stack: Any, role: str) -> dict[str, Policy]:
    """Return a role's own policies, name → document."""
    iam = stack.client("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}


@contextlib.contextmanager
def changed_policy(stack: Any, function: str, sid: str, change: Callable[[Policy], list[Policy]]) -> Iterator[None]:
    """Put what `change` makes of a statement in the place of it, in the deployed role of a function, meanwhile."""
    iam, role = stack.client("iam"), role_of(stack, function)
    found = {name: policy for name, policy in policies_of(stack, role).items() if sid in _sids(policy)}
    if not found:
        raise LookupError(f"{function} has no statement {sid}")
    ((name, policy),) = found.items()
    changed = [
        part
        for statement in policy["Statement"]
        for part in (change(statement) if statement.get("Sid") == sid else [statement])
    ]
    if changed:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps({**policy, "Statement": changed}))
    else:
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(policy))


def _sids(policy: Policy) -> list[str]:
    return [statement.get("Sid", "") for statement in policy["Statement"]]
