"""A stack that is there: the ``make local`` of this checkout, or one on AWS. What operators' commands talk to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from run import ROOT, STACK, Engine
from stack import resource_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OUTPUTS = ROOT / ".local" / "outputs.json"


class NoStackError(Exception):
    """There is no such stack, or it can't be asked; the message says what to do."""


@dataclass(frozen=True)
class Deployed:
    """A stack that is there.

    Attributes
    ----------
    name, words
        Its name; and which it is, for people.
    client
        Gives a boto3 client for it.
    outputs
        The stack's outputs, by their keys.
    resources
        Logical id → physical id of everything in it; a queue's is its URL.
    parameters
        The stack's parameters.
    is_local
        It runs on the engine of this checkout.
    """

    name: str
    words: str
    client: Callable[[str], Any]
    outputs: dict[str, str]
    resources: dict[str, str]
    parameters: dict[str, str]
    is_local: bool


def find_stack(environment: Mapping[str, str]) -> Deployed:
    """Return the stack that runs here, else the one on AWS; ``STACK=name`` always means AWS.

    On AWS it takes the credentials and region of the environment, and samconfig.toml's name where none is given.

    Raises
    ------
    NoStackError
        There is none.
    """
    name = environment.get("STACK", "")
    if not name and OUTPUTS.exists():
        local = json.loads(OUTPUTS.read_text("utf-8"))
        engine = Engine(local["endpoint_url"], local["access_key_id"], local["secret_access_key"])
        return describe(STACK, "the stack of `make local`", engine.client, is_local=True)
    name = name or STACK
    try:
        session = boto3.Session()
    except BotoCoreError as error:  # a profile that isn't there
        raise NoStackError(str(error)) from error
    if not session.region_name:
        raise NoStackError("no AWS region is set: export AWS_DEFAULT_REGION, or choose a profile that has one.")

    def client(service: str) -> Any:
        return session.client(service)  # type: ignore[call-overload]  # its stubs know names, not any string

    return describe(name, f"the stack {name} on AWS", client, is_local=False)


def describe(name: str, words: str, client: Callable[[str], Any], *, is_local: bool) -> Deployed:
    """Return what CloudFormation says of a stack; raises `NoStackError`."""
    cloudformation = client("cloudformation")
    try:
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        resources = resource_names(cloudformation, name)
    except (BotoCoreError, ClientError) as error:
        raise NoStackError(f"{words} can't be asked: {error}") from error
    if "UploadsQueue" not in resources:
        raise NoStackError(f"{words} is no Portraitcast: it has no uploads queue.")
    return Deployed(
        name,
        words,
        client,
        {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])},
        resources,
        {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])},
        is_local,
    )
