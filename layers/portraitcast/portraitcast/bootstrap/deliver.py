"""Puts deliver together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portraitcast.adapters.buckets import Results
from portraitcast.adapters.download import listed_origins
from portraitcast.adapters.executions import ExecutionHistory
from portraitcast.adapters.jobs_table import JobsTable
from portraitcast.adapters.notifications import Notifications
from portraitcast.adapters.queues import Queue
from portraitcast.bootstrap.clients import client, meter, s3_client, service
from portraitcast.config import DeliverConfig, Provider, Resources
from portraitcast.workflows.deliver import Deliver
from portraitcast.workflows.monitor import PollBounds
from portraitcast.workflows.publish import Publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools import Metrics

    from portraitcast.adapters.dashscope import DashScope
    from portraitcast.domain.metrics import Meter


@dataclass(frozen=True, slots=True)
class DeliverAdapters:
    """The outside world as deliver sees it."""

    table: JobsTable
    results: Results
    service: DashScope
    queue: Queue
    history: ExecutionHistory
    notifications: Notifications
    meter: Meter


def from_environment(metrics: Metrics) -> Deliver:
    """Assemble deliver from the environment that template.yaml gives it."""
    resources, provider, config = Resources.from_env(), Provider.from_env(), DeliverConfig.from_env()
    adapters = DeliverAdapters(
        table=JobsTable(client("dynamodb"), resources.table),
        results=Results(s3_client(), resources.results_bucket, resources.results_prefix),
        service=service(provider),
        queue=Queue(client("sqs"), resources.uploads_queue),
        history=ExecutionHistory(client("stepfunctions")),
        notifications=Notifications(
            client("events"),
            client("sns"),
            bus=resources.event_bus,
            topic=resources.topic,
            operator_topic=resources.operator_topic,
        ),
        meter=meter(metrics),
    )
    bounds = PollBounds(provider.min_poll, provider.max_poll)
    return assemble(adapters, bounds, extra_video_hosts=config.extra_video_hosts, upload_prefix=resources.upload_prefix)


def assemble(
    adapters: DeliverAdapters,
    bounds: PollBounds,
    *,
    extra_video_hosts: str,
    upload_prefix: str = "",
    clock: Callable[[], float] = time.time,
) -> Deliver:
    """Assemble deliver over adapters."""
    listed_origins(extra_video_hosts)  # a slip in it is told at the first start, not when a paid video is fetched
    a = adapters
    return Deliver(
        a.table,
        a.results,
        a.service,
        a.queue,
        a.history,
        Publish(a.table, a.results, a.notifications, a.meter, upload_prefix=upload_prefix, clock=clock),
        bounds,
        extra_video_hosts=extra_video_hosts,
        clock=clock,
    )
