"""What submit does with each message of the uploads queue: files, timers, commands; then it dispatches."""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

from portraitcast.errors import PortraitcastError
from portraitcast.domain.job import AT_PROVIDER
from portraitcast.domain.metrics import account_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.workflows.deliver import Lingering
    from portraitcast.workflows.dispatch import Dispatch
    from portraitcast.workflows.ingest import Intake
    from portraitcast.domain.job import Job
    from portraitcast.adapters.queues import Queue
    from portraitcast.adapters.jobs_table import Table
    from portraitcast.workflows.publish import Teller
    from portraitcast.workflows.monitor import Watch

log = logging.getLogger(__name__)

SWEEP_PAGE: Final = 25  # jobs a message of a sweep
SWEEP_PATIENCE: Final = 60.0  # s; a job that changed a moment ago is in somebody's hands


class MessageError(PortraitcastError):
    """A message that nobody of ours has sent: it goes to the dead letters for a person to look at."""


class Submit:
    """Handles the messages of the uploads queue."""

    def __init__(
        self,
        table: Table,
        intake: Intake,
        dispatch: Dispatch,
        watch: Watch,
        lingering: Lingering,
        queue: Queue,
        teller: Teller,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._intake = intake
        self._dispatch = dispatch
        self._watch = watch
        self._lingering = lingering
        self._queue = queue
        self._teller = teller
        self._clock = clock

    def handle_body(self, body: str) -> None:
        """Handle one message as it lies in the queue."""
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:  # the latter: nested too deeply
            raise MessageError("the message is not JSON") from error
        if not isinstance(message, dict):
            raise MessageError("the message is not a JSON object")
        self.handle(message)

    def handle(self, message: dict[str, Any]) -> None:  # noqa: C901  # a table of messages, one line each
        """Handle one message: S3's events, or one of ours (docs/design.md lists them)."""
        match message:
            case {"Records": list() as records}:
                for record in records:
                    self._s3_event(record)
            case {"Event": "s3:TestEvent"} | {"wake": True}:
                pass  # dispatching, which follows every message, is all that a wake-up is for
            case {"scan": str() as prefix}:
                self._intake.scan(prefix, message.get("after"))
            case {"folder": str() as folder}:
                self._intake.walk(folder, message.get("cursor"))
            case {"job": str() as job}:
                self._intake.evaluate(job)
            case {"watch": str() as job, "attempt": int() as attempt}:
                self._follow(job, attempt, message.get("ended_watch"))
            case {"lingering": str() as job, "attempt": int() as attempt}:
                self._lingering.see_to(job, attempt)
            case {"pause": bool() as paused}:
                self._dispatch.pause(paused=paused)
            case {"held": True}:
                self._dispatch.show_held(message.get("cursor"))
            case {"sweep": True}:
                self._sweep(message.get("cursor"))
            case _:
                raise MessageError(f"nobody sends messages of this kind: {', '.join(sorted(message))[:200]}")

    def dispatch(self, ends_at: float) -> None:
        """Send what can be sent. Never fails what was taken in: the schedule tries again."""
        try:
            self._dispatch.run(ends_at)
        except PortraitcastError:
            log.exception("dispatch was broken off")

    def _s3_event(self, record: dict[str, Any]) -> None:
        try:
            s3_object = record["s3"]["object"]
            removed = str(record["eventName"]).removeprefix("s3:").startswith("ObjectRemoved:")
            key = unquote_plus(s3_object["key"])
        except (AttributeError, KeyError, TypeError) as error:
            raise MessageError("an S3 event lacks its key or its name") from error
        self._intake.arrive(
            key,
            version=s3_object.get("versionId"),
            size=s3_object.get("size"),
            sequencer=str(s3_object.get("sequencer", "")),
            removed=removed,
        )

    def _follow(self, job_id: str, attempt: int, ended_watch: int | None) -> None:
        if ended_watch is not None:
            self._watch.follow(job_id, attempt, ended_watch)
        elif (job := self._table.job(job_id)) is not None and job.attempt == attempt:
            self._watch.start(job)

    def _see_to(self, job: Job) -> None:
        self._teller.tell(job)
        if job.status in AT_PROVIDER:
            self._watch.see_to(job)
        if job.lingering:
            self._lingering.see_to(job.id, job.lingering["attempt"], come_again=False)

    def _measure(self) -> None:
        """Measure how the stack stands."""
        oldest = self._table.queue(1)
        since = datetime.fromisoformat(oldest[0][0].partition("#")[0]).timestamp() if oldest else self._clock()
        length = self._table.queue_length() if oldest else 0
        self._teller.measure(account_metrics(self._table.slots(), length, max(0.0, self._clock() - since)))

    def _sweep(self, cursor: str | None) -> None:
        """Look at everything that a lost wake-up may have left: untold jobs, unwatched tasks, leaked slots."""
        if cursor is None:
            self._teller.tell_operators()
            self._dispatch.free_leaked()
            self._measure()
        jobs, more = self._table.open_jobs(cursor, SWEEP_PAGE)
        for job_id in jobs:
            job = self._table.job(job_id)
            if job is None or self._clock() - job.changed_at < SWEEP_PATIENCE:
                continue
            try:
                self._see_to(job)
            except PortraitcastError:  # the others of the page are looked at all the same
                log.exception("a job could not be seen to", extra={"job": job.id})
        if more:
            self._queue.send({"sweep": True, "cursor": more})
