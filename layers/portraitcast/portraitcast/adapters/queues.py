"""Queues: the uploads queue as a timer and as the way to wake submit, the one to prepare, and the one back."""

from __future__ import annotations

import json
import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from portraitcast.adapters.aws import aws_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

HOPS_MAX: Final = (
    10_000  # ours: messages without a delay that follow from one another; a scan of a million files is 2,000
)
MAX_DELAY: Final = 900  # Amazon SQS, "Message timers": the longest delay of a message, seconds

Message: TypeAlias = dict[str, object]
"""A message of our own (docs/design.md lists them)."""


class Queue:
    """Sends messages to a queue, and has messages of it come again.

    Lambda's detection of recursive loops is off for submit, which sends itself messages by design; so they count their
    own hops, and a chain that goes round without end is cut. The sweep takes up what was cut off.
    """

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url
        self._hops = 0

    def is_source(self, arn: str) -> bool:
        """Say whether a message that Lambda hands on with this ``eventSourceARN`` comes of this queue."""
        return arn.rpartition(":")[2] == self._url.rpartition("/")[2]

    @contextmanager
    def handling(self, hops: int) -> Iterator[None]:
        """Handle a message of so many hops: what is sent meanwhile without a delay is one hop further."""
        self._hops = hops
        try:
            yield
        finally:
            self._hops = 0

    def send(self, message: Message, *, after: float = 0.0) -> None:
        """Send a message that arrives after so many seconds (rounded up, 15 minutes at the most)."""
        delay = min(MAX_DELAY, max(0, math.ceil(after)))
        hops = 0 if delay else self._hops + 1
        if hops > HOPS_MAX:
            log.error("a chain of messages has no end", extra={"detail": ", ".join(message)})
            return
        body = json.dumps({**message, "hops": hops} if hops else message)
        with aws_errors():
            self._client.send_message(QueueUrl=self._url, MessageBody=body, DelaySeconds=delay)

    def give_again(self, receipt_handle: str, *, after: int) -> None:
        """Let a message that couldn't be handled come again in so many seconds, not after the whole timeout."""
        with aws_errors():
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=after
            )
