"""The uploads queue as a timer and as the way to wake submit."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final, TypeAlias

from portraitcast.adapters.aws import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MAX_DELAY: Final = 900  # Amazon SQS, "Message timers": the longest delay of a message, seconds

Message: TypeAlias = dict[str, object]
"""A message of our own (docs/design.md lists them)."""


class Queue:
    """Sends messages to the uploads queue."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def send(self, message: Message, *, after: float = 0.0) -> None:
        """Send a message that arrives after so many seconds (rounded up, 15 minutes at the most)."""
        delay = min(MAX_DELAY, max(0, math.ceil(after)))
        with aws_errors():
            self._client.send_message(QueueUrl=self._url, MessageBody=json.dumps(message), DelaySeconds=delay)

    def give_again(self, receipt_handle: str, *, after: int) -> None:
        """Let a message that couldn't be handled come again in so many seconds, not after the whole timeout."""
        with aws_errors():
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=after
            )
