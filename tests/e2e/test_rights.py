"""Roles: each function may do its own work and none of the others'."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from stacks import policies_of, role_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Stack

    Client = Callable[[str], Any]
    Call = Callable[[Client, dict[str, Any]], object]


def acting_as(stack: Stack, function: str) -> Client:
    """Return clients with the rights of a function's role; nobody but Lambda can take the role itself."""
    iam, sts = stack.client("iam"), stack.client("sts")
    own = role_of(stack, function)
    trust = {"Effect": "Allow", "Principal": {"AWS": sts.get_caller_identity()["Arn"]}, "Action": "sts:AssumeRole"}
    name = f"as-{function}"
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    try:
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        for policy, rights in policies_of(stack, own).items():
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(rights))
        assert iam.list_attached_role_policies(RoleName=own)["AttachedPolicies"] == []
    except iam.exceptions.EntityAlreadyExistsException:
        arn = iam.get_role(RoleName=name)["Role"]["Arn"]
    return clients_of(stack, sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"])


def clients_of(stack: Stack, session: dict[str, str]) -> Client:
    """Return clients with the credentials of a session."""

    def client(service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]  # any service
            service,
            region_name=stack.outputs["region"],
            endpoint_url=stack.outputs["endpoint_url"],
            aws_access_key_id=session["AccessKeyId"],
            aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=session["SessionToken"],
            config=Config(s3={"addressing_style": "path"}, inject_host_prefix=False),
        )

    return client


CALLS: dict[str, Call] = {
    "read the table": lambda c, o: c("dynamodb").get_item(
        TableName=o["table"], Key={"pk": {"S": "none"}, "sk": {"S": "none"}}
    ),
    "delete the table": lambda c, o: c("dynamodb").delete_table(TableName=o["table"]),
    "read the key": lambda c, o: c("secretsmanager").get_secret_value(SecretId=o["api_key_secret_arn"]),
    "change the key": lambda c, o: c("secretsmanager").put_secret_value(
        SecretId=o["api_key_secret_arn"], SecretString="x"
    ),
    "list uploads": lambda c, o: c("s3").list_objects_v2(Bucket=o["upload_bucket"]),
    "delete an upload": lambda c, o: c("s3").delete_object(Bucket=o["upload_bucket"], Key="rights/a.wav"),
    "write an upload": lambda c, o: c("s3").put_object(Bucket=o["upload_bucket"], Key="rights/a.txt", Body=b""),
    "write a report": lambda c, o: c("s3").put_object(Bucket=o["results_bucket"], Key="rights/a.json", Body=b"{}"),
    "write a video": lambda c, o: c("s3").put_object(Bucket=o["results_bucket"], Key="rights/a.mp4", Body=b""),
    "delete a video": lambda c, o: c("s3").delete_object(Bucket=o["results_bucket"], Key="rights/a.mp4"),
    "wake submit": lambda c, o: c("sqs").send_message(QueueUrl=o["uploads_queue_url"], MessageBody='{"wake": true}'),
    "start an execution": lambda c, o: c("stepfunctions").start_execution(
        stateMachineArn=o["state_machine_arn"], name="rights", input='{"not": "ours"}'
    ),
    "send a notice": lambda c, o: c("sns").publish(
        TopicArn=o["operator_topic_arn"], Subject="Portraitcast: a test of rights", Message="Nothing happened."
    ),
}
MAY = {
    "submit": {"read the table", "read the key", "list uploads", "write a report", "wake submit", "send a notice"},
    "status": {"read the key"},
    "deliver": {"read the table", "read the key", "write a report", "write a video", "wake submit", "send a notice"},
}
LEFT_OUT = {("submit", "start an execution")}  # it may, and a task that nobody ordered would be monitored


@pytest.mark.parametrize(("function", "what"), [(function, what) for function in MAY for what in sorted(MAY[function])])
def test_a_function_may_do_its_own_work(stack: Stack, function: str, what: str) -> None:
    CALLS[what](acting_as(stack, function), stack.outputs)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (function, what)
        for function in MAY
        for what in CALLS
        if what not in MAY[function]
        if (function, what) not in LEFT_OUT
    ],
)
def test_a_function_may_not_do_the_work_of_others(stack: Stack, function: str, what: str) -> None:
    with pytest.raises(ClientError, match=r"AccessDenied|not authorized"):
        CALLS[what](acting_as(stack, function), stack.outputs)
