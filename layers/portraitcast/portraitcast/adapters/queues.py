"""What the functions send each other: messages to the uploads queue (timers, wake-ups), and executions."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from portraitcast.adapters.aws import aws_errors
from portraitcast.errors import TryLaterError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

MAX_DELAY: Final = 900  # SQS: the longest delay of a message, seconds


class Queue:
    """The uploads queue as a timer and as the way to wake submit."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def send(self, message: dict[str, Any], *, after: float = 0.0) -> None:
        """Send a message that arrives after so many seconds (rounded up, 15 minutes at the most)."""
        delay = min(MAX_DELAY, max(0, math.ceil(after)))
        with aws_errors():
            self._client.send_message(QueueUrl=self._url, MessageBody=json.dumps(message), DelaySeconds=delay)


class Executions:
    """Executions of the wait loop."""

    def __init__(self, client: SFNClient, state_machine_arn: str) -> None:
        self._client = client
        self._arn = state_machine_arn

    def start(self, name: str, execution_input: dict[str, Any]) -> bool:
        """Start the execution of this name; True when it runs, False when one of this name has ended.

        On AWS, the same name and input while it runs answers as if started; `ExecutionAlreadyExists` means that it has
        ended (or that the input differs), which only DescribeExecution tells for sure.
        """
        try:
            with aws_errors():
                self._client.start_execution(
                    stateMachineArn=self._arn, name=name, input=json.dumps(execution_input, sort_keys=True)
                )
        except TryLaterError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] == "ExecutionAlreadyExists":
                return self.status(name) == "RUNNING"
            raise
        return True

    def status(self, name: str) -> str | None:
        """Return Step Functions' status of an execution, or None when there never was one of this name."""
        try:
            with aws_errors():
                return self._client.describe_execution(executionArn=self._execution(name))["status"]
        except TryLaterError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] == "ExecutionDoesNotExist":
                return None
            raise

    def cause(self, name: str) -> str | None:
        """Return what a failed execution's history says was the cause (error and message), or None."""
        with aws_errors():
            events = self._client.get_execution_history(
                executionArn=self._execution(name), reverseOrder=True, maxResults=20, includeExecutionData=False
            )["events"]
        for event in events:
            for key, details in event.items():
                if key.endswith("EventDetails") and isinstance(details, dict) and details.get("error"):
                    return f"{details['error']}: {details.get('cause', '')}"[:500]
        return None

    def _execution(self, name: str) -> str:
        return f"{self._arn.replace(':stateMachine:', ':execution:')}:{name}"
