"""deliver: every end of a task, good or bad, and executions that ended where no Catch can see."""

from __future__ import annotations

import json
import os
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics

from portraitcast.adapters.buckets import Results
from portraitcast.config import Places, Provider
from portraitcast.workflows.deliver import Delivery
from portraitcast.adapters.download import listed_origins
from portraitcast.adapters.queues import Executions, Queue
from portraitcast.adapters.jobs_table import Table
from portraitcast.bootstrap import client, emo, teller

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger(service="portraitcast")  # the name that the package's own loggers have
metrics = Metrics()
warnings.filterwarnings("ignore", "No application metrics to publish")  # most invocations have nothing to measure


@cache
def delivery() -> Delivery:
    """Put deliver together, once a process."""
    places, provider = Places.from_env(), Provider.from_env()
    table = Table(client("dynamodb"), places.table)
    results = Results(client("s3"), places.results_bucket)
    extra_video_hosts = os.environ["EXTRA_VIDEO_HOSTS"]
    listed_origins(extra_video_hosts)  # a slip in it is told at the first start, not when a paid video is fetched
    return Delivery(
        table,
        results,
        emo(provider),
        Queue(client("sqs"), places.uploads_queue),
        Executions(client("stepfunctions"), places.state_machine),
        teller(places, table, results, metrics),
        extra_video_hosts=extra_video_hosts,
        min_wait=provider.min_wait,
        max_wait=provider.max_wait,
    )


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001  # Lambda's signature
    """Deliver for the wait loop, or for the rule on executions that ended badly."""
    detail = event.get("detail")
    if event.get("source") == "aws.states" and isinstance(detail, dict):
        state = json.loads(detail["input"])
        logger.append_keys(job=state["job"])
        return delivery().execution_ended(detail["status"], detail["name"], state)
    logger.append_keys(job=event.get("job"))
    return delivery().deliver(event)
