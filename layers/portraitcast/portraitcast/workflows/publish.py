"""Telling: the report beside the video, one event a change, and the notice. Repeating it is harmless."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from portraitcast.adapters.aws import aws_errors
from portraitcast.errors import ConflictError, TryLaterError
from portraitcast.domain.job import QUEUED, TOLD_BY_SNS, Job
from portraitcast.domain.limits import KEY_MAX_BYTES, VOICE_MAX_SECONDS
from portraitcast.domain.metrics import job_metrics
from portraitcast.domain.report import build_report, folder_attribute, subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sns import SNSClient

    from portraitcast.adapters.buckets import Results
    from portraitcast.domain.metrics import Meter
    from portraitcast.domain.account import Slots
    from portraitcast.adapters.jobs_table import Table

log = logging.getLogger(__name__)

SOURCE: Final = "portraitcast"
DETAIL_TYPE: Final = "Job State Changed"


class Teller:
    """Tells people and systems what became of a job, and operators what became of the account."""

    def __init__(
        self,
        table: Table,
        results: Results,
        events: EventBridgeClient,
        sns: SNSClient,
        *,
        bus: str,
        topic: str,
        operator_topic: str,
        meter: Meter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._results = results
        self._events = events
        self._sns = sns
        self._bus = bus
        self._topic = topic
        self._operator_topic = operator_topic
        self._meter = meter
        self._clock = clock

    def tell(self, job: Job) -> None:
        """Tell a job's latest change, unless it is told: report, event, notice, in this order, then the mark.

        Whoever dies in between leaves the mark, and the schedule tells again.
        """
        if not job.untold:
            return
        place: tuple[int | None, int | None] = (None, None)
        usual: float | None = None
        ahead = 0
        if job.shown_status == QUEUED and job.queue_key:
            place = self._table.place(job.queue_key)
            usual = self._table.pace().expected(float((job.voice or {}).get("seconds") or VOICE_MAX_SECONDS))
            ahead = len(self._table.slots().owners)
        report = build_report(job, now=self._clock(), place=place, usual_seconds=usual, ahead=ahead)
        if len(job.report_key.encode()) <= KEY_MAX_BYTES:
            job.report_etag = self._results.put_report(job.report_key, report, job.report_etag)
        if not job.quiet:
            self.publish(job, report)
            self.measure(job_metrics(job, self._clock()))
        log.info("told", extra={"job": job.id, "status": job.shown_status, "revision": job.revision})
        job.told = job.revision
        try:
            self._table.commit(job=job)
        except ConflictError:
            return  # changed meanwhile: whoever changed it tells it

    def publish(self, job: Job, report: dict[str, Any]) -> None:
        """Send a report as an event, and as a notice when it is an end."""
        body = json.dumps(report, ensure_ascii=False)
        with aws_errors():
            answer = self._events.put_events(
                Entries=[{"EventBusName": self._bus, "Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": body}]
            )
            if answer["FailedEntryCount"]:
                raise TryLaterError(f"EventBridge did not take an event: {answer['Entries'][0].get('ErrorCode')}")
            if report["status"] in TOLD_BY_SNS:
                self._sns.publish(
                    TopicArn=self._topic,
                    Subject=subject(job),
                    Message=json.dumps(report, ensure_ascii=False, indent=2),
                    MessageAttributes={
                        "status": {"DataType": "String", "StringValue": report["status"]},
                        "folder": {"DataType": "String", "StringValue": folder_attribute(job)},
                    },
                )

    def measure(self, values: dict[str, float]) -> None:
        """Hand values to CloudWatch, by the names of `metrics.UNITS`."""
        for name, value in values.items():
            self._meter(name, value)

    def tell_operators(self) -> None:
        """Send what operators are still to be told; twice rather than never."""
        notices = self._table.slots().notices
        for notice in notices:
            self.tell_operator(notice["title"], notice["text"])

        def sent(slots: Slots) -> bool:
            slots.notices = [notice for notice in slots.notices if notice not in notices]
            return bool(notices)

        if notices:
            self._table.change_slots(sent)

    def tell_operator(self, title: str, text: str) -> None:
        """Send operators a notice: `title` under 100 characters, `text` in plain sentences."""
        with aws_errors():
            self._sns.publish(TopicArn=self._operator_topic, Subject=f"Portraitcast: {title}"[:99], Message=text)
