"""submit: ingests what was dropped; while a slot is free, creates the oldest job's task."""

from __future__ import annotations

import time
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType

from portraitcast.bootstrap.submit import SubmitWorkflows, from_environment
from portraitcast.errors import PortraitcastError, TryLaterError
from portraitcast.workflows.submit import Origin, Received

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from portraitcast.adapters.queues import Queue

logger = Logger(service="portraitcast")  # the name that the package's own loggers have
metrics = Metrics()
warnings.filterwarnings("ignore", "No application metrics to publish")  # most invocations have nothing to measure
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

AGAIN_AFTER: Final = (10, 30, 120)  # s, by how often a message was received: most trouble passes sooner than 12 minutes


@cache
def workflows() -> SubmitWorkflows:
    """Put submit together, once a process."""
    return from_environment(metrics)


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a batch of a queue, or one message (S3's events as S3 itself would send them); then dispatch."""
    records = event.get("Records", [])
    if not (records and records[0].get("eventSource") == "aws:sqs"):
        message = Received(event, time.time())
        workflows().submit.handle(message, ends_at(context))
        if message.asks_to_dispatch:
            workflows().submit.dispatch(ends_at(context))
        return {}
    with processor(records, handler=handle, lambda_context=context):
        results = processor.process()
    if any(result is True for outcome, result, _ in results if outcome == "success"):
        workflows().submit.dispatch(ends_at(context))
    return dict(processor.response())


def handle(record: SQSRecord, lambda_context: LambdaContext) -> bool:
    """Handle one message of a queue; True when dispatching is to follow.

    What goes wrong is logged here: the batch processor does it at debug level.
    """
    about: dict[str, str] = {}
    answers = workflows().answers_queue.is_source(record.event_source_arn)
    try:
        sent_at = float(record.attributes.sent_timestamp) / 1000
        message = Received.from_text(record.body, sent_at, Origin.ANSWERS if answers else Origin.UPLOADS)
        about = message.about
        workflows().submit.handle(message, ends_at(lambda_context))
    except Exception as error:
        logger.exception("a message could not be handled", extra={**about, "detail": record.body[:1000]})
        if isinstance(error, TryLaterError):
            give_again(workflows().answers_queue if answers else workflows().queue, record)
        raise
    return message.asks_to_dispatch


def give_again(queue: Queue, record: SQSRecord) -> None:
    """Let a message come again soon, later each time."""
    received = int(record.attributes.approximate_receive_count)
    after = AGAIN_AFTER[min(received, len(AGAIN_AFTER)) - 1]
    try:
        queue.give_again(record.receipt_handle, after=after)
    except PortraitcastError:
        logger.warning("a message comes again only after the queue's timeout")


def ends_at(context: LambdaContext) -> float:
    """Return when the function's time ends, epoch seconds."""
    return time.time() + context.get_remaining_time_in_millis() / 1000
