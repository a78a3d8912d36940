"""submit: takes in what was dropped; while a slot is free, creates the oldest job's task."""

from __future__ import annotations

import time
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from portraitcast.adapters.buckets import Links, Results, Uploads
from portraitcast.config import Places, Provider, SubmitConfig
from portraitcast.workflows.deliver import Lingering
from portraitcast.workflows.dispatch import Dispatch, Limits
from portraitcast.workflows.ingest import Intake
from portraitcast.adapters.queues import Executions, Queue
from portraitcast.workflows.submit import Submit
from portraitcast.adapters.jobs_table import Table
from portraitcast.workflows.monitor import Watch
from portraitcast.bootstrap import client, emo, teller

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger(service="portraitcast")  # the name that the package's own loggers have
metrics = Metrics()
warnings.filterwarnings("ignore", "No application metrics to publish")  # most invocations have nothing to measure
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


@cache
def submit() -> Submit:
    """Put submit together, once a process."""
    places, provider, config = Places.from_env(), Provider.from_env(), SubmitConfig.from_env()
    table = Table(client("dynamodb"), places.table)
    results = Results(client("s3"), places.results_bucket)
    tell = teller(places, table, results, metrics)
    queue = Queue(client("sqs"), places.uploads_queue)
    service = emo(provider)
    watch = Watch(table, Executions(client("stepfunctions"), places.state_machine))
    intake = Intake(
        table,
        Uploads(client("s3"), places.upload_bucket),
        results,
        queue,
        tell,
        pair_seconds=config.pair_seconds,
        settle_seconds=config.settle_seconds,
    )
    limits = Limits(
        max_in_flight=config.max_tasks_in_flight,
        daily_budget=config.daily_budget_cny,
        look_seconds=config.look_seconds,
        hold_seconds=config.hold_seconds,
        min_wait=provider.min_wait,
        max_wait=provider.max_wait,
    )
    links = Links(client("sts"), config.link_role, places.upload_bucket)
    dispatch = Dispatch(table, intake, service, links, watch, queue, tell, limits)
    lingering = Lingering(table, service, queue, max_wait=provider.max_wait)
    return Submit(table, intake, dispatch, watch, lingering, queue, tell)


def take_in(record: SQSRecord) -> None:
    """Handle one message of the uploads queue."""
    submit().handle_body(record.body)


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take in a batch of the uploads queue, or S3's events as S3 itself would send them; then dispatch."""
    ends_at = time.time() + context.get_remaining_time_in_millis() / 1000
    records = event.get("Records", [])
    answer: dict[str, Any] = {}
    if records and records[0].get("eventSource") == "aws:sqs":
        answer = dict(process_partial_response(event, record_handler=take_in, processor=processor, context=context))
    else:
        submit().handle(event)
    submit().dispatch(ends_at)
    return answer
