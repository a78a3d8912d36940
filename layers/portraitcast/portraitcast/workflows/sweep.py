"""Sweep: reconcile jobs with what should be. The net under every lost message and every process that died.

One job at a time is what the message ``{"reconcile": job}`` asks for; the schedule's sweep does it for all that need
attention.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Final

from portraitcast.domain.job import Job, Status
from portraitcast.domain.metrics import account_metrics
from portraitcast.workflows.evaluate import each

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.jobs_table import JobsTable
    from portraitcast.adapters.queues import Queue
    from portraitcast.domain.account import Account
    from portraitcast.workflows.evaluate import Evaluate
    from portraitcast.workflows.monitor import Monitor
    from portraitcast.workflows.publish import Publish

log = logging.getLogger(__name__)

SWEEP_PAGE: Final = 25  # jobs that are looked at before the time is
SWEEP_PATIENCE: Final = 60.0  # s; a job that changed a moment ago is in somebody's hands
_EVALUATED: Final = frozenset({Status.WAITING, Status.QUEUED, Status.REJECTED})


class Sweep:
    """Finds what is missing and does it."""

    def __init__(
        self,
        table: JobsTable,
        evaluate: Evaluate,
        monitor: Monitor,
        queue: Queue,
        publish: Publish,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._evaluate = evaluate
        self._monitor = monitor
        self._queue = queue
        self._publish = publish
        self._clock = clock

    # ------------------------------------------------------------------ one job
    def reconcile(self, job_id: str) -> None:
        """Read a job, see what is missing (publishing, an execution, an orphaned task, evaluation), and do it."""
        job = self._table.job(job_id)
        if job is not None:
            self._reconcile(job)

    def _reconcile(self, job: Job) -> None:
        self._publish.job(job)
        self._monitor.ensure_monitored(job)
        self._monitor.release_orphans(job)
        if not job.at_provider and (job.follow_up or job.being_read or job.status in _EVALUATED):
            self._evaluate.job(job.id)

    # ------------------------------------------------------------------ all that need attention
    def run(self, cursor: str | None, ends_at: float) -> None:
        """Look at everything that a lost message may have left, as much as time allows."""
        if cursor is None:
            self._publish.operators()
            self._release_leaked_slots()
            self._measure()
        while True:
            page = self._table.open_entries(cursor, SWEEP_PAGE)
            each(page.jobs, self._reconcile_old, "a job could not be reconciled")
            each(page.folders, self._remind_folder, "a folder could not be reminded")
            if page.cursor is None:
                return
            cursor = page.cursor
            if self._clock() > ends_at:
                self._queue.send({"sweep": True, "cursor": cursor})
                return

    def _reconcile_old(self, job_id: str) -> None:
        job = self._table.job(job_id)
        if job is not None and self._clock() - job.changed_at >= SWEEP_PATIENCE:
            self._reconcile(job)

    def _remind_folder(self, folder: str) -> None:
        """Re-evaluate a folder whose re-evaluation is overdue: its message was lost."""
        due = self._table.folder(folder).reevaluate_at
        now = self._clock()
        if due is not None and now - due > SWEEP_PATIENCE:
            log.warning("a re-evaluation was lost", extra={"folder": folder})
            self._evaluate.folder_at(folder, now)

    def _release_leaked_slots(self) -> None:
        """Release slots whose job, read consistently, is no longer at the provider in that attempt."""
        each(tuple(self._table.account().tasks_in_flight), self._release_if_leaked, "a slot could not be looked at")

    def _release_if_leaked(self, owner: str) -> None:
        job_id, _, attempt = owner.partition("#")

        def release(account: Account) -> Account:
            create = account.open_create
            if (create and create.owner == owner) or _holds_slot(self._table.job(job_id), int(attempt)):
                return account
            return account.release_slot(owner)

        before, after = self._table.update_account(release)
        if before != after:
            log.warning("a leaked slot was released", extra={"owner": owner})

    def _measure(self) -> None:
        """Measure how the stack stands."""
        now = self._clock()
        account = self._table.account()
        oldest = [entry for model in account.models for entry in self._table.queue(model, 1)]
        waited = max((now - datetime.fromisoformat(e.key.partition("#")[0]).timestamp() for e in oldest), default=0.0)
        length = self._table.queue_length(account.models) if oldest else 0
        self._publish.measure(account_metrics(account, length, max(0.0, waited)))


def _holds_slot(job: Job | None, attempt: int) -> bool:
    """Say whether a job rightly holds a slot in an attempt."""
    if job is None:
        return False
    current = job.attempt == attempt and job.at_provider
    return current or any(orphan.attempt == attempt and not orphan.made for orphan in job.orphans)
