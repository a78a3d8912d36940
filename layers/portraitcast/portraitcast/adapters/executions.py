"""Executions of the wait loop in Step Functions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from portraitcast.adapters.aws import aws_errors
from portraitcast.adapters.records import to_plain
from portraitcast.errors import TryLaterError

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from portraitcast.domain.execution import Execution


class Executions:
    """Starts executions by name, and says how they stand."""

    def __init__(self, client: SFNClient, state_machine_arn: str) -> None:
        self._client = client
        self._arn = state_machine_arn

    def start(self, name: str, execution: Execution) -> bool:
        """Start the execution of this name; True when it runs, False when one of this name has ended.

        On AWS, the same name and input while it runs answers as if started; `ExecutionAlreadyExists` means that it has
        ended (or that the input differs), which only DescribeExecution tells for sure (Step Functions,
        "StartExecution").
        """
        try:
            with aws_errors():
                self._client.start_execution(
                    stateMachineArn=self._arn, name=name, input=json.dumps(to_plain(execution), sort_keys=True)
                )
        except TryLaterError as error:
            if _code(error) == "ExecutionAlreadyExists":
                return self.status(name) == "RUNNING"
            raise
        return True

    def status(self, name: str) -> str | None:
        """Return Step Functions' status of an execution, or None when there never was one of this name."""
        try:
            with aws_errors():
                return self._client.describe_execution(executionArn=self._execution(name))["status"]
        except TryLaterError as error:
            if _code(error) == "ExecutionDoesNotExist":
                return None
            raise

    def _execution(self, name: str) -> str:
        return f"{self._arn.replace(':stateMachine:', ':execution:')}:{name}"


class ExecutionHistory:
    """Says why an execution failed."""

    def __init__(self, client: SFNClient) -> None:
        self._client = client

    def cause(self, execution_arn: str) -> str | None:
        """Return what a failed execution's history says was the cause (error and message), or None."""
        with aws_errors():
            events = self._client.get_execution_history(
                executionArn=execution_arn, reverseOrder=True, maxResults=20, includeExecutionData=False
            )["events"]
        for event in events:
            for key, details in event.items():
                if key.endswith("EventDetails") and isinstance(details, dict) and details.get("error"):
                    return f"{details['error']}: {details.get('cause', '')}"[:500]
        return None


def _code(error: TryLaterError) -> str | None:
    cause = error.__cause__
    return cause.response["Error"]["Code"] if isinstance(cause, ClientError) else None
