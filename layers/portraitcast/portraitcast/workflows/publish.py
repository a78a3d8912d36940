"""Publish a job's latest change: the report beside the video, one event a change, and the notice.

Repeating it is harmless. If the process crashes before the mark, the sweep publishes again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from portraitcast.domain.job import Job, Status
from portraitcast.domain.metrics import job_metrics
from portraitcast.domain.models import DEFAULT, MODELS
from portraitcast.domain.report import NOTICED, Turn, build_report, folder_attribute, subject
from portraitcast.domain.uploads import KEY_MAX_BYTES
from portraitcast.errors import ConflictError, PortraitcastError

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.buckets import Results
    from portraitcast.adapters.jobs_table import JobsTable
    from portraitcast.adapters.notifications import Notifications
    from portraitcast.domain.account import Account
    from portraitcast.domain.metrics import Meter

log = logging.getLogger(__name__)


class Publish:
    """Publishes what became of a job, and tells operators what became of the account."""

    def __init__(
        self,
        table: JobsTable,
        results: Results,
        notifications: Notifications,
        meter: Meter,
        *,
        clock: Callable[[], float],
        upload_prefix: str = "",
    ) -> None:
        self._table = table
        self._upload_prefix = upload_prefix
        self._results = results
        self._notifications = notifications
        self._meter = meter
        self._clock = clock

    def job(self, job: Job, turn: Turn | None = None) -> None:
        """Publish a job's latest change, unless it is published: report, event, notice, in this order, then the mark.

        `turn` is that of a queued job, where it is known. Trouble with publishing is logged and left to the sweep: it
        never stands in the way of what follows.
        """
        try:
            self._job(job, turn)
        except ConflictError:
            return  # changed meanwhile: whoever changed it publishes it
        except PortraitcastError:
            log.exception("a change could not be published yet", extra={"job": job.id, "revision": job.revision})

    def _job(self, job: Job, turn: Turn | None) -> None:
        if not job.unpublished:
            return
        now = self._clock()
        report = build_report(job, now=now, turn=turn or self.turn(job, None), upload_prefix=self._upload_prefix)
        etag = job.report_etag
        if len((self._results.prefix + job.report_key).encode()) <= KEY_MAX_BYTES:
            etag = self._results.put_report(job.report_key, report, etag)
        if not job.quiet:
            self._notifications.send_event(report)
            if job.status in NOTICED or job.refused:
                self._notifications.send_notice(report, subject=subject(job), folder=folder_attribute(job))
            self.measure(job_metrics(job, now))
        log.info("published", extra={"job": job.id, "status": job.shown_status.value, "revision": job.revision})
        self._table.save(job.mark_published(etag), was=job)

    def turn(self, job: Job, account: Account | None) -> Turn | None:
        """Return what is known of a queued job's turn; `account` as it was read a moment ago spares a read."""
        if job.shown_status is not Status.QUEUED or job.queue_key is None:
            return None
        place, of = self._table.place(job)
        model = job.inputs.settings.definition if job.inputs.settings else MODELS[DEFAULT]
        pace = self._table.pace(model.name)
        # A new stack has seen no task, and says nothing rather than minutes for a job of seconds.
        usual = pace.expected(model.voice.at_most(job.voice_seconds)) if pace.jobs else 0.0
        ahead = (account or self._table.account()).in_flight(model.name)
        return Turn(place, of, ahead, usual)

    def measure(self, values: dict[str, float]) -> None:
        """Hand values to CloudWatch, by the names of `metrics.UNITS`."""
        for name, value in values.items():
            self._meter(name, value)

    def operators(self) -> None:
        """Send what operators are still to be told; twice rather than never, and never in anybody's way."""
        try:
            notices = self._table.account().notices
            for notice in notices:
                self._notifications.notify_operators(notice.title, notice.text)
            if notices:
                self._table.update_account(lambda account: account.without_notices(notices))
        except PortraitcastError:
            log.exception("operators could not be told yet")

    def operator(self, title: str, text: str) -> None:
        """Tell operators one thing now."""
        self._notifications.notify_operators(title, text)
