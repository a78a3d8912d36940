"""Watches: one execution of the wait loop for each task, found again or started anew whatever happened to it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from portraitcast.domain.job import RENDERING, Job, execution_name

if TYPE_CHECKING:
    from portraitcast.adapters.queues import Executions
    from portraitcast.domain.account import Slots
    from portraitcast.adapters.jobs_table import Table

log = logging.getLogger(__name__)

TRIES: Final = 10


class Watch:
    """Starts executions; their names make it safe to repeat."""

    def __init__(self, table: Table, executions: Executions) -> None:
        self._table = table
        self._executions = executions

    def start(self, job: Job) -> None:
        """See that an execution watches a rendering job; an ended one of this name is followed by the next watch."""
        current: Job | None = job
        for _ in range(TRIES):
            if current is None or current.status != RENDERING or current.execution_input is None:
                return
            if self._executions.start(execution_name(current), {**current.execution_input, "watch": current.watch}):
                return
            current = self._raise_watch(current.id, current.attempt, current.watch)

    def follow(self, job_id: str, attempt: int, ended_watch: int) -> None:
        """Start the watch after one that ended before its task did; asked twice, it starts one."""
        job = self._raise_watch(job_id, attempt, ended_watch) or self._table.job(job_id)
        if job is not None and job.attempt == attempt:
            self.start(job)

    def see_to(self, job: Job) -> None:
        """Find out whether a rendering job is watched (events of Step Functions are best effort), and mend it."""
        if job.status == RENDERING and self._executions.status(execution_name(job)) != "RUNNING":
            log.warning("a rendering job was not watched", extra={"job": job.id, "watch": job.watch})
            self.start(job)

    def _raise_watch(self, job_id: str, attempt: int, watch: int) -> Job | None:
        def raise_it(job: Job, _: Slots) -> bool:
            if job.status != RENDERING or job.attempt != attempt or job.watch != watch:
                return False
            job.watch += 1
            return True

        return self._table.change(job_id, raise_it, with_slots=False)
