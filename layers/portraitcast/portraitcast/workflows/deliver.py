"""Delivery: every end of a task, good or bad. Asks the provider itself: that gives a fresh link, and the truth.

Each step can be repeated: the slot is freed by its owner's name, the video is put by job, take and attempt, and people
are told by revision.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from portraitcast.adapters.dashscope.client import EmoError, JobRefusedError, worth_one_more_try
from portraitcast.errors import Problem
from portraitcast.adapters.download import FetchError, fetched
from portraitcast.domain.job import DONE, FAILED, QUEUED, RENDERING, Job, iso, owner_of
from portraitcast.workflows.poll import EMPTY_LOOKS, TASK_LIFE
from portraitcast.domain.uploads import short_hash
from portraitcast.domain.prices import video_fee
from portraitcast.domain.problems import task_failed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from portraitcast.adapters.buckets import Results
    from portraitcast.adapters.dashscope.client import Emo, Task
    from portraitcast.adapters.download import Fetched
    from portraitcast.adapters.queues import Executions, Queue
    from portraitcast.domain.account import Slots
    from portraitcast.adapters.jobs_table import Table
    from portraitcast.workflows.publish import Teller

log = logging.getLogger(__name__)

LENGTH_MARGIN: Final = 0.5  # s; an adopted video must be as long as the voice
BROKEN_WAIT: Final = 5.0  # s; doubled with each watch that broke
RETRY_WAIT: Final = 60.0  # most seconds until a video that couldn't be brought is tried again
TIMEOUT_CODE: Final = "InternalError.Timeout"  # EMO: no result three hours after submit; worth one new attempt

State = dict[str, Any]


class Delivery:
    """Brings what tasks end with to those who asked for it."""

    def __init__(
        self,
        table: Table,
        results: Results,
        emo: Emo,
        queue: Queue,
        executions: Executions,
        teller: Teller,
        *,
        extra_video_hosts: str,
        min_wait: float,
        max_wait: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._results = results
        self._emo = emo
        self._queue = queue
        self._executions = executions
        self._teller = teller
        self._extra_video_hosts = extra_video_hosts
        self._min_wait = min_wait
        self._max_wait = max_wait
        self._clock = clock

    # ------------------------------------------------------------------ the machine's call
    def deliver(self, state: State) -> State:
        """Deliver what a task ended with; ``told`` says if all is done, else ``wait_seconds`` when to come again."""
        state = {k: v for k, v in state.items() if k != "error"}
        job = self._table.job(state["job"])
        if job is None or job.attempt != state["attempt"] or job.status != RENDERING:
            return self._nothing_to_do(job, state)
        try:
            task = self._emo.query(state["task"])
        except EmoError as error:
            if not self._life_is_over(job):
                log.warning(
                    "provider did not answer", extra={"job": job.id, "code": error.code, "detail": error.message}
                )
                return self._again(state)
            task = None
        if task is None or (self._life_is_over(job) and task.status != "SUCCEEDED"):
            self._free_slot(job)
            why = state.get("fetch_error")  # it was made then, and only its task's end made it vanish
            return self._fail(job, state, _not_delivered(job, why) if why else _life_over(job), task)
        if task.status == "UNKNOWN":
            return self._lost_sight(job, state)
        if not task.ended:
            return self._again(state)
        self._free_slot(job)
        if task.status == "SUCCEEDED":
            return self._succeeded(job, state, task)
        return self._task_failed(job, state, task)

    def _nothing_to_do(self, job: Job | None, state: State) -> State:
        """Another call has brought this attempt to its end; what may be missing is the telling and what follows it."""
        return self._told(job, state)

    def _again(self, state: State, wait: float | None = None) -> State:
        seconds = wait if wait is not None else self._min_wait
        return {**state, "ended": False, "told": False, "wait_seconds": round(max(1.0, seconds))}

    def _life_is_over(self, job: Job) -> bool:
        return job.task_sent_at is not None and self._clock() - job.task_sent_at > TASK_LIFE

    def _free_slot(self, job: Job) -> None:
        """Free the task's slot and wake submit, so that the next job starts at once."""
        owner = owner_of(job.id, job.attempt)
        if self._table.change_slots(lambda slots: slots.free(owner)):
            self._queue.send({"wake": True})

    def _lost_sight(self, job: Job, state: State) -> State:
        """UNKNOWN before the task's life is over: a rotated key answers so. The slot goes on, the job stays."""
        if state.get("unknown") == EMPTY_LOOKS:
            owner = owner_of(job.id, job.attempt)

            def note(slots: Slots) -> bool:
                if not slots.free(owner):
                    return False
                slots.notice(
                    "a task is out of sight",
                    f"The video service doesn't know task {state['task']} of {job.name}. If its key was changed, its "
                    "tasks can't be seen with the new one. The job is looked at until the task's 24 h are over.",
                )
                return True

            if self._table.change_slots(note):
                self._teller.tell_operators()
                self._queue.send({"wake": True})
        return self._again(state, self._max_wait)

    # ------------------------------------------------------------------ good ends
    def _succeeded(self, job: Job, state: State, task: Task) -> State:
        if task.video_url is None:
            if state.get("no_link", 0) < EMPTY_LOOKS:
                return self._again(state, 2 * self._min_wait)
            return self._fail(job, state, _no_link(task), task)
        if self._is_there(job):
            return self._done(job, state, task, None)
        try:
            with fetched(task.video_url, extra_hosts=self._extra_video_hosts) as video:
                if job.adopted and not _fits(job, video):
                    return self._fail(job, state, _wrong_length(job, video), task)
                self._put(job, video)
                return self._done(job, state, task, video)
        except FetchError as error:
            log.warning("video could not be brought", extra={"job": job.id, "detail": str(error)})
            if self._life_is_over(job):
                return self._fail(job, state, _not_delivered(job, str(error)), task)
            tries = state.get("fetch_tries", 0) + 1
            return self._again(
                {**state, "fetch_tries": tries, "fetch_error": str(error)}, min(self._min_wait * 2**tries, RETRY_WAIT)
            )

    def _is_there(self, job: Job) -> bool:
        """Whether this attempt's video was put before (and its function died before it could say so)."""
        there = self._results.metadata(job.video_key)
        return there is not None and there.get("owner") == _mark(job)

    def _put(self, job: Job, video: Fetched) -> None:
        metadata = {
            "job": job.id,
            "owner": _mark(job),
            "sha256": video.sha256,
            "seconds": f"{video.video.seconds:.3f}",
            "width": str(video.video.width),
            "height": str(video.video.height),
            "bytes": str(video.video.bytes),
        }
        self._results.put_video(job.video_key, video.file, metadata)

    def _done(self, job: Job, state: State, task: Task, video: Fetched | None) -> State:
        there = self._results.metadata(job.video_key) if video is None else None
        now = self._clock()
        made: dict[str, Any] = (
            {
                "bytes": video.video.bytes,
                "seconds": round(video.video.seconds, 3),
                "width": video.video.width,
                "height": video.video.height,
                "sha256": video.sha256,
            }
            if video is not None
            else _from_metadata(there or {})
        )
        seconds = task.video_seconds or made["seconds"]

        def done(current: Job, _: Slots) -> bool:
            if current.status != RENDERING or current.attempt != job.attempt:
                return False
            current.status, current.problem = DONE, None
            current.task = _times(current.task, task)
            current.video = {"key": current.video_key, **made}
            current.video_cost = video_fee(seconds, str((current.settings or {}).get("ratio", "1:1")))
            current.done_fingerprint = current.fingerprint
            current.change(now)
            return True

        written = self._table.change(job.id, done, with_slots=False)
        if written is not None:
            self._learn(written, task)
        return self._told(written, state)

    def _learn(self, job: Job, task: Task) -> None:
        seconds = (job.voice or {}).get("seconds")
        if seconds and task.scheduled_time and task.end_time and task.end_time > task.scheduled_time:
            work = (task.end_time - task.scheduled_time).total_seconds()
            self._table.put_pace(self._table.pace().learn(float(seconds), work))

    # ------------------------------------------------------------------ bad ends
    def _task_failed(self, job: Job, state: State, task: Task) -> State:
        code, message = task.code or "", task.message or ""
        if not job.retried and (worth_one_more_try(code, message) or code == TIMEOUT_CODE):
            return self._one_more_attempt(job, state, task)
        return self._fail(job, state, task_failed(task), task)

    def _one_more_attempt(self, job: Job, state: State, task: Task) -> State:
        log.info("one more attempt", extra={"job": job.id, "code": task.code})

        def again(current: Job, _: Slots) -> bool:
            if current.status != RENDERING or current.attempt != job.attempt:
                return False
            current.status, current.retried, current.task = QUEUED, True, None
            current.queue_key, current.look_in = current.place_key, [short_hash(current.folder)]
            current.change(self._clock())
            return True

        written = self._table.change(job.id, again, with_slots=False)
        self._queue.send({"wake": True})
        return self._told(written, state)

    def _fail(self, job: Job, state: State, problem: Problem, task: Task | None) -> State:
        def fail(current: Job, _: Slots) -> bool:
            if current.status != RENDERING or current.attempt != job.attempt:
                return False
            current.status, current.problem = FAILED, problem.as_dict()
            current.task = _times(current.task, task)
            current.change(self._clock())
            return True

        return self._told(self._table.change(job.id, fail, with_slots=False), state)

    def _told(self, written: Job | None, state: State) -> State:
        job = written or self._table.job(state["job"])
        if job is not None:
            self._teller.tell(job)
            if job.follow_up:
                self._queue.send({"job": job.id})  # new files came while it was at the provider
        return {**state, "told": True}

    # ------------------------------------------------------------------ executions that ended where no Catch can see
    def execution_ended(self, status: str, name: str, state: State) -> State:
        """Take up a job whose execution ended FAILED, TIMED_OUT or ABORTED without telling anybody."""
        job = self._table.job(state["job"])
        if job is None or job.attempt != state["attempt"] or job.status != RENDERING:
            return self._nothing_to_do(job, state)
        log.warning("execution ended badly", extra={"job": job.id, "execution": name, "status": status})
        if status != "ABORTED":
            return self._broken(job, name, status, state)
        if state.get("watch", job.watch) != job.watch:
            return {**state, "told": True}  # an old watch; a newer one is at work
        return self._aborted(job, state)

    def _broken(self, job: Job, name: str, status: str, state: State) -> State:
        """Have the task watched anew, later each time, and tell the operator why the execution broke."""
        cause = self._executions.cause(name) or "its history names no cause"
        watch = int(state.get("watch", job.watch))
        log.warning("its cause", extra={"job": job.id, "detail": cause})
        self._queue.send({"watch": job.id, "attempt": job.attempt, "ended_watch": watch}, after=BROKEN_WAIT * 2**watch)
        self._teller.tell_operator(
            "an execution broke",
            f"Execution {name} of {job.name} ended {status}: {cause}\n\nNo job is lost: its task is watched anew.",
        )
        return {**state, "told": True, "cause": cause}

    def _aborted(self, job: Job, state: State) -> State:
        try:
            task: Task | None = self._emo.query(state["task"])
        except EmoError as error:
            log.warning("provider did not answer", extra={"job": job.id, "code": error.code})
            task = None
        if task is not None and task.ended and task.status != "UNKNOWN":
            result = self.deliver(state)  # the task ended: what is paid is delivered
            if not result["told"]:
                self._queue.send(
                    {"watch": job.id, "attempt": job.attempt, "ended_watch": job.watch}, after=result["wait_seconds"]
                )
            return result
        cancelled = task is not None and task.status == "PENDING" and self._cancel(state["task"])

        def fail(current: Job, slots: Slots) -> bool:
            if current.status != RENDERING or current.attempt != job.attempt:
                return False
            current.status, current.problem = FAILED, _aborted_problem(cancelled=cancelled).as_dict()
            current.task = _times(current.task, task)
            if cancelled:
                slots.free(owner_of(job.id, job.attempt))
            else:
                current.lingering = {
                    "task": state["task"],
                    "attempt": job.attempt,
                    "until": state["sent_at"] + TASK_LIFE,
                }
            current.change(self._clock())
            return True

        written = self._table.change(job.id, fail)
        if written is not None and written.lingering:
            self._queue.send({"lingering": job.id, "attempt": job.attempt}, after=self._max_wait)
        self._queue.send({"wake": True})
        return self._told(written, state)

    def _cancel(self, task: str) -> bool:
        try:
            return self._emo.cancel(task)
        except EmoError:
            return False


class Lingering:
    """Sees to tasks whose execution was aborted by hand: they keep their slot until they have ended."""

    def __init__(
        self, table: Table, emo: Emo, queue: Queue, *, max_wait: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._emo = emo
        self._queue = queue
        self._max_wait = max_wait
        self._clock = clock

    def see_to(self, job_id: str, attempt: int, *, come_again: bool = True) -> None:
        """Look whether the task has ended; free its slot then, come again else (the schedule comes by itself).

        A task that made its video is remembered while it lives: the same files dropped again have it delivered.
        """
        job = self._table.job(job_id)
        if job is None or not job.lingering or job.lingering["attempt"] != attempt:
            return
        life_over = self._clock() >= job.lingering["until"]
        if job.lingering.get("made") and not life_over:
            return
        status = self._end_of(job.lingering["task"])
        if not status and not life_over:
            if come_again:
                self._queue.send({"lingering": job_id, "attempt": attempt}, after=self._max_wait)
            return

        def over(current: Job, slots: Slots) -> bool:
            if not current.lingering or current.lingering["attempt"] != attempt:
                return False
            made = status == "SUCCEEDED" and not life_over
            current.lingering = {**current.lingering, "made": True} if made else None
            slots.free(owner_of(job_id, attempt))
            return True

        self._table.change(job_id, over)

    def _end_of(self, task: str) -> str | None:
        """Return the status that a task has ended with, None while it goes on or the service can't tell."""
        try:
            found = self._emo.query(task)
        except JobRefusedError:
            return "UNKNOWN"
        except EmoError:
            return None
        return found.status if found.ended else None


def _mark(job: Job) -> str:
    return f"{job.id}-{job.take}-{job.attempt}"


def _fits(job: Job, video: Fetched) -> bool:
    seconds = (job.voice or {}).get("seconds")
    return seconds is not None and abs(video.video.seconds - float(seconds)) <= LENGTH_MARGIN


def _times(known: dict[str, Any] | None, task: Task | None) -> dict[str, Any] | None:
    if task is None:
        return known

    def shown(when: datetime | None) -> str | None:
        return iso(when.timestamp()) if when else None

    times = {"submit_time": shown(task.submit_time), "scheduled_time": shown(task.scheduled_time)}
    return {**(known or {}), **times, "end_time": shown(task.end_time)}


def _from_metadata(metadata: dict[str, str]) -> dict[str, Any]:
    return {
        "bytes": int(metadata["bytes"]),
        "seconds": float(metadata["seconds"]),
        "width": int(metadata["width"]),
        "height": int(metadata["height"]),
        "sha256": metadata["sha256"],
    }


def _life_over(job: Job) -> Problem:
    return Problem(
        "TaskFailed",
        "The video service gave no video within the 24 hours that a task lives.",
        "Drop the same files again for another try.",
        limit="24 h",
        measured=f"task {(job.task or {}).get('id')}",
    )


def _no_link(task: Task) -> Problem:
    return Problem(
        "TaskFailed",
        "The video service says that the video is ready but gives no link to it.",
        "Drop the same files again for another try; tell the service's support the task's id.",
        request_id=task.request_id,
        measured=f"task {task.task_id}",
    )


def _wrong_length(job: Job, video: Fetched) -> Problem:
    voice = (job.voice or {}).get("seconds")
    return Problem(
        "CreateAmbiguous",
        "The only task that could be this job's made a video of another length, so it was not delivered.",
        "Ask the operator to look at the task; drop the files again to have the video made in any case.",
        limit=f"{voice} s ± {LENGTH_MARGIN} s",
        measured=f"{video.video.seconds:.2f} s",
    )


def _not_delivered(job: Job, why: str) -> Problem:
    return Problem(
        "DeliveryFailed",
        f"The video was made but could not be brought within the 24 hours that its link lives: {why}.",
        "Drop the same files again to have it made anew; the operator's page says how to fetch such a video by hand.",
        limit="24 h",
        measured=f"task {(job.task or {}).get('id')}",
    )


def _aborted_problem(*, cancelled: bool) -> Problem:
    rest = "Its task was cancelled, so nothing is paid." if cancelled else "Its task goes on at the video service."
    return Problem(
        "ExecutionAborted",
        f"Somebody ended this job's execution by hand. {rest}",
        "Drop the same files again to have the video after all.",
    )
