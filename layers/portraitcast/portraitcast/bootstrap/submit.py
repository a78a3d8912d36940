"""Puts submit together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portraitcast.adapters.buckets import Results, Uploads
from portraitcast.adapters.executions import Executions
from portraitcast.adapters.jobs_table import JobsTable
from portraitcast.adapters.notifications import Notifications
from portraitcast.adapters.presign import Links
from portraitcast.adapters.queues import Queue
from portraitcast.adapters.temporary_storage import TemporaryStorage
from portraitcast.bootstrap.clients import client, meter, s3_client, service
from portraitcast.config import Provider, Resources, SubmitConfig, check_places, check_poll_seconds
from portraitcast.domain.models import StackModels
from portraitcast.errors import ParameterError
from portraitcast.workflows.create_task import CreateTask, Limits
from portraitcast.workflows.dispatch import Dispatch
from portraitcast.workflows.evaluate import Evaluate, QuietPeriods
from portraitcast.workflows.ingest import Ingest
from portraitcast.workflows.monitor import Monitor, PollBounds
from portraitcast.workflows.publish import Publish
from portraitcast.workflows.read_upload import ReadUpload
from portraitcast.workflows.reconcile_create import ReconcileCreate
from portraitcast.workflows.submit import Submit
from portraitcast.workflows.sweep import Sweep
from portraitcast.workflows.wake import Wake

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools import Metrics

    from portraitcast.adapters.dashscope import DashScope
    from portraitcast.domain.metrics import Meter


@dataclass(frozen=True, slots=True)
class SubmitAdapters:
    """The outside world as submit sees it."""

    table: JobsTable
    uploads: Uploads
    results: Results
    links: Links
    service: DashScope
    queue: Queue
    media_queue: Queue
    answers_queue: Queue
    executions: Executions
    notifications: Notifications
    meter: Meter
    storage: TemporaryStorage | None = None


@dataclass(frozen=True, slots=True)
class SubmitWorkflows:
    """What submit does, one verb each."""

    ingest: Ingest
    evaluate: Evaluate
    create_task: CreateTask
    dispatch: Dispatch
    monitor: Monitor
    publish: Publish
    sweep: Sweep
    submit: Submit
    queue: Queue
    answers_queue: Queue


def from_environment(metrics: Metrics) -> SubmitWorkflows:
    """Assemble submit from the environment that template.yaml gives it.

    Raises `ParameterError` if DefaultModel or ModelDeployments make no sense.
    """
    resources, provider, config = Resources.from_env(), Provider.from_env(), SubmitConfig.from_env()
    try:
        models = StackModels.read(config.default_model, config.model_deployments)
    except ValueError as error:
        raise ParameterError(f"The stack's parameter {error} Deploy again.") from None
    dashscope, uploads = service(provider), Uploads(s3_client(), config.upload_bucket, resources.upload_prefix)
    assets = Uploads(s3_client(), config.work_bucket)
    adapters = SubmitAdapters(
        table=JobsTable(client("dynamodb"), resources.table),
        uploads=uploads,
        results=Results(s3_client(), resources.results_bucket, resources.results_prefix),
        links=Links(client("sts"), config.link_role, config.upload_bucket, config.work_bucket, resources.upload_prefix),
        service=dashscope,
        queue=Queue(client("sqs"), resources.uploads_queue),
        media_queue=Queue(client("sqs"), config.media_queue),
        answers_queue=Queue(client("sqs"), config.answers_queue),
        executions=Executions(client("stepfunctions"), config.state_machine),
        notifications=Notifications(
            client("events"),
            client("sns"),
            bus=resources.event_bus,
            topic=resources.topic,
            operator_topic=resources.operator_topic,
        ),
        meter=meter(metrics),
        storage=TemporaryStorage(dashscope, uploads, assets) if config.uploads_inputs else None,
    )
    return assemble(
        adapters,
        Limits(
            max_tasks_in_flight=config.max_tasks_in_flight,
            daily_budget_cny=config.daily_budget_cny,
            approve_above_cny=config.approve_above_cny,
            reconcile_seconds=config.reconcile_seconds,
            breaker_seconds=config.breaker_seconds,
        ),
        QuietPeriods(config.pair_seconds, config.settle_seconds),
        PollBounds(provider.min_poll, provider.max_poll),
        models,
    )


def assemble(
    adapters: SubmitAdapters,
    limits: Limits,
    quiet: QuietPeriods,
    bounds: PollBounds,
    models: StackModels,
    *,
    clock: Callable[[], float] = time.time,
) -> SubmitWorkflows:
    """Assemble submit's workflows over adapters; raises `ParameterError` where parameters contradict each other.

    Only submit, which begins what is paid: a task that runs is polled and delivered all the same.
    """
    a = adapters
    check_poll_seconds(bounds.least, bounds.most)
    check_places(a.uploads.bucket, a.uploads.prefix, a.results.bucket, a.results.prefix)
    publish = Publish(a.table, a.results, a.notifications, a.meter, upload_prefix=a.uploads.prefix, clock=clock)
    reading = ReadUpload(a.table, a.uploads, a.media_queue, clock=clock)
    wake = Wake(a.table, a.queue, clock=clock)
    evaluate = Evaluate(
        *(a.table, a.uploads, a.results, a.queue, wake, reading, publish, quiet, models),
        approve_above_cny=limits.approve_above_cny,
        clock=clock,
    )
    ingest = Ingest(a.table, a.uploads, a.queue, reading, evaluate, clock=clock)
    monitor = Monitor(a.table, a.service, a.executions, a.queue, bounds, clock=clock)
    create_task = CreateTask(
        a.table, a.service, a.links, monitor, a.queue, publish, limits, clock=clock, storage=a.storage
    )
    reconcile_create = ReconcileCreate(a.table, a.service, reconcile_seconds=limits.reconcile_seconds, clock=clock)
    dispatch = Dispatch(
        a.table,
        ingest,
        evaluate,
        create_task,
        reconcile_create,
        a.queue,
        wake,
        publish,
        max_tasks_in_flight=limits.max_tasks_in_flight,
        clock=clock,
    )
    sweep = Sweep(a.table, evaluate, monitor, a.queue, publish, clock=clock)
    submit = Submit(
        ingest, evaluate, dispatch, sweep, a.queue, bucket=a.uploads.bucket, prefix=a.uploads.prefix, clock=clock
    )
    return SubmitWorkflows(
        ingest, evaluate, create_task, dispatch, monitor, publish, sweep, submit, a.queue, a.answers_queue
    )
