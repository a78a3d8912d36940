"""Deploy a packaged template to the local engine as CloudFormation does it: change set, wait, outputs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, WaiterError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPLOY_SECONDS = 120  # ours: the engine takes 2 to 5; AWS isn't deployed to from here
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]


class StackError(Exception):
    """The stack did not deploy; the message holds CloudFormation's own reasons, first cause first."""


def deploy(cloudformation: Any, name: str, template_url: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Create the stack `name` and return its outputs.

    Parameters
    ----------
    cloudformation
        boto3 client of the engine.
    name
        Name of a stack that isn't there yet: each local run starts empty.
    template_url
        Address of the packaged template in S3 (a template sent in the request may hold 51,200 bytes only).
    parameters
        Values of stack parameters; those left out keep their defaults.

    Returns
    -------
    dict
        Output key → value.

    Raises
    ------
    StackError
        With CloudFormation's words: about a parameter's value, or about every failed resource.
    """
    try:
        cloudformation.create_change_set(
            StackName=name,
            ChangeSetName="create",
            ChangeSetType="CREATE",
            TemplateURL=template_url,
            Capabilities=CAPABILITIES,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
    except ClientError as error:
        raise StackError(error.response["Error"]["Message"]) from error
    waiter = cloudformation.get_waiter("change_set_create_complete")
    try:
        waiter.wait(StackName=name, ChangeSetName="create", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    except WaiterError as error:
        change_set = cloudformation.describe_change_set(StackName=name, ChangeSetName="create")
        raise StackError(f"the change set failed: {change_set.get('StatusReason', error)}") from error
    cloudformation.execute_change_set(StackName=name, ChangeSetName="create")
    stack = wait_for(cloudformation, name)
    if stack["StackStatus"] != "CREATE_COMPLETE":
        reasons = "\n".join(f"  {reason}" for reason in failures(cloudformation, name))
        raise StackError(f"{stack['StackStatus']}: {stack.get('StackStatusReason', 'no reason given')}\n{reasons}")
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def resource_names(cloudformation: Any, name: str) -> dict[str, str]:
    """Return logical id → physical id of a stack's resources."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    found = [resource for page in pages for resource in page["StackResourceSummaries"]]
    return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found if each.get("PhysicalResourceId")}


def wait_for(cloudformation: Any, name: str) -> dict[str, Any]:
    """Return the stack's description once nothing is in progress (its own waiter would look every 30 s)."""
    deadline = time.monotonic() + DEPLOY_SECONDS
    while time.monotonic() < deadline:
        stack: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack
        time.sleep(0.1)
    raise StackError(f"the stack was not there after {DEPLOY_SECONDS} s")


def failures(cloudformation: Any, name: str) -> list[str]:
    """Return a line for every failed resource, oldest first."""
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=name)
    events = [event for page in pages for event in page["StackEvents"] if event["ResourceStatus"].endswith("_FAILED")]
    return [
        f"{event['LogicalResourceId']} ({event['ResourceType']}): {event.get('ResourceStatusReason', '')}"
        for event in reversed(events)
    ]
