"""Dispatch: while a slot is free, the oldest queued job's portrait is checked and its task created. It alone creates.

A create is paid once accepted, and there is no idempotency key. So one create is open at a time in a stack, it is sent
once, and when nobody knows its outcome the service's list is looked at, twice, before anything is paid again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from portraitcast.adapters.dashscope.client import (
    AccountError,
    Boxes,
    EmoError,
    JobRefusedError,
    NotConnectedError,
    ThrottledError,
    Unknown,
)
from portraitcast.errors import ConflictError, Problem
from portraitcast.domain.job import AT_PROVIDER, FAILED, QUEUED, REJECTED, RENDERING, SUBMITTING, Job, owner_of
from portraitcast.domain.limits import VOICE_MAX_SECONDS
from portraitcast.adapters.queues import MAX_DELAY
from portraitcast.domain.uploads import classify, short_hash
from portraitcast.domain.prices import CHECK_CNY, video_fee
from portraitcast.domain.problems import account_refuses_job, no_usable_answer, portrait_refused, provider_refused
from portraitcast.workflows.reconcile_create import Ambiguous, Later, NotTaken, Search, Taken
from portraitcast.domain.account import Creating, Hold, Slots, beijing_day, next_beijing_day
from portraitcast.domain.polling import next_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.buckets import Links
    from portraitcast.adapters.dashscope.client import Emo, ListedTask
    from portraitcast.workflows.ingest import Intake
    from portraitcast.adapters.queues import Queue
    from portraitcast.adapters.jobs_table import Table
    from portraitcast.workflows.publish import Teller
    from portraitcast.workflows.monitor import Watch

log = logging.getLogger(__name__)

CREATE_SECONDS: Final = 42.0  # a create's own timeouts (`Emo.call_seconds`) and what must be written behind it
CHECK_SECONDS: Final = 37.0
LEASE_MARGIN: Final = 30.0  # behind the end of the function's time: until then a create may be on the wire
LINK_MARGIN: Final = 600.0  # of a link's hour, kept free for the download itself and for a slow provider
LINK_SECONDS: Final = 3600.0
QUEUE_LOOK: Final = 10  # queue entries read at once: the first may wait for its pair's last file
HELD_PAGE: Final = 25  # jobs a message of showing why they wait


@dataclass(frozen=True, slots=True)
class Limits:
    """The stack's parameters that bound creates: seconds, tasks, CNY a Beijing day (0 is no ceiling)."""

    max_in_flight: int
    daily_budget: float
    look_seconds: float
    hold_seconds: float
    min_wait: float
    max_wait: float


class Dispatch:
    """Sends queued jobs to the provider, oldest first."""

    def __init__(
        self,
        table: Table,
        intake: Intake,
        emo: Emo,
        links: Links,
        watch: Watch,
        queue: Queue,
        teller: Teller,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._intake = intake
        self._emo = emo
        self._links = links
        self._watch = watch
        self._queue = queue
        self._teller = teller
        self._limits = limits
        self._clock = clock
        self._search = Search(table, emo, look_seconds=limits.look_seconds)

    def run(self, ends_at: float) -> None:
        """Dispatch until nothing can be sent, or the function's time (epoch `ends_at`) runs short."""
        passed: set[str] = set()
        while ends_at - self._clock() > CHECK_SECONDS + CREATE_SECONDS:
            try:
                if not self._step(ends_at, passed):
                    return
            except ConflictError:
                continue  # somebody else has got on: look again
        self._queue.send({"wake": True})

    def _step(self, ends_at: float, passed: set[str]) -> bool:
        """Do one thing; False when there is nothing to do now."""
        slots = self._table.slots()
        now = self._clock()
        if slots.creating is not None:
            return self._attend(slots, slots.creating, now)
        if slots.checking and now < slots.checking_until:
            return self._wake_at(slots.checking_until)
        if slots.paused or len(slots.owners) >= self._limits.max_in_flight:
            return False
        if (until := slots.not_before(now)) is not None:
            return self._wake_at(until)
        return self._send_oldest(slots, ends_at, passed)

    def _wake_at(self, at: float) -> bool:
        now = self._clock()
        at = min(at, now + MAX_DELAY)  # no timer reaches further: whom it wakes too early sets the next one
        if self._table.claim_wake(at, now):
            self._queue.send({"wake": True}, after=at - now)
        return False

    def _change(self, job_id: str, change: Callable[[Job, Slots], bool], *, task: str | None = None) -> Job | None:
        """Change a job and the slots in one transaction, then tell whom it concerns."""
        before: list[Hold | None] = []
        after: list[Slots] = []

        def noted(job: Job, slots: Slots) -> bool:
            before[:], after[:] = [slots.hold], [slots]
            return change(job, slots)

        written = self._table.change(job_id, noted, task=task)
        if written is None:
            return None
        if after[0].notices:
            self._teller.tell_operators()
        if (before[0] is None) != (after[0].hold is None):
            self._queue.send({"held": True})
        if written.follow_up and written.status in {REJECTED, FAILED}:
            self._queue.send({"job": written.id})  # new files came while it was being sent
        return written

    # ------------------------------------------------------------------ the oldest job
    def _send_oldest(self, slots: Slots, ends_at: float, passed: set[str]) -> bool:
        """Send the oldest job that is ready. `passed` holds entries whose job was found to have left the queue."""
        ready_at: list[float] = []
        # While the account is in trouble, the job that met it least often is tried: one bad job can't hold the rest.
        for queue_key, job_id in sorted(self._table.queue(QUEUE_LOOK), key=lambda e: slots.failures.get(e[1], 0)):
            job = self._intake.evaluate(job_id)  # the last look: files and settings as they are now
            if job is None or job.status != QUEUED or job.queue_key != queue_key:
                if queue_key not in passed:
                    passed.add(queue_key)
                    return True
                log.error("a queue entry has no queued job", extra={"job": job_id, "entry": queue_key})
                continue
            if job.ready_at > self._clock():
                ready_at.append(job.ready_at)
                continue
            return self._send(job, slots, ends_at)
        return self._wake_at(min(ready_at)) if ready_at else False

    def _send(self, job: Job, slots: Slots, ends_at: float) -> bool:
        now = self._clock()
        expected = self._table.pace().expected(_seconds(job))
        ahead = len(slots.owners)
        if ahead and (ahead + 1) * expected + LINK_MARGIN > LINK_SECONDS:
            return False  # its links would end before its turn: it goes when a task ahead has ended
        fee = video_fee(_seconds(job), _ratio(job))
        if not self._within_budget(slots, fee + CHECK_CNY, now):
            return self._wake_at(next_beijing_day(now))
        if not job.boxes and (boxes := _given_boxes(job)):
            job.boxes = boxes
        if not job.boxes and not self._check(job, slots):
            return True
        try:
            if slots.checking == job.id:
                slots = self._table.slots()  # the check took its time
            if not (slots.creating or slots.paused or len(slots.owners) >= self._limits.max_in_flight):
                return self._create(job, slots, ends_at, fee, expected)
        except ConflictError:
            self._checked(job)
            raise
        self._checked(job)
        return True

    def _within_budget(self, slots: Slots, fee: float, now: float) -> bool:
        ceiling = self._limits.daily_budget
        if not ceiling or slots.spent_today(now) + fee <= ceiling:
            return True

        def note(current: Slots) -> bool:
            day = beijing_day(now)
            if current.budget_told_day == day:
                return False
            current.budget_told_day = day
            current.notice(
                "the day's budget is reached",
                f"CNY {current.spent_today(now):.2f} of CNY {ceiling:g} are spent on {day} (Beijing) and the next job "
                f"would cost CNY {fee:.2f}. Jobs keep their places and go on tomorrow. The ceiling is the parameter "
                "DailyBudgetCny.",
            )
            return True

        if self._table.change_slots(note):
            self._teller.tell_operators()
            self._queue.send({"held": True})
        return False

    # ------------------------------------------------------------------ the portrait check
    def _check(self, job: Job, slots: Slots) -> bool:
        """Find the portrait's boxes, from memory or by the provider; False when the job can't be sent now.

        After a passed check the lease stays until the create's transaction takes it over.
        """
        assert job.portrait is not None  # noqa: S101  # a queued job has one
        sha, ratio = job.portrait.get("sha256"), _ratio(job)
        passed_key = f"{sha}#{ratio}"
        refused_key = f"{short_hash(str(job.portrait.get('key')))}#{job.portrait.get('version')}#{ratio}"
        if sha:
            if known := self._table.check(passed_key):
                job.boxes = {"face": known["face"], "ext": known["ext"]}
                return True
            if refused := self._table.check(refused_key):
                return self._reject(job, Problem(**refused), shared=_is_shared(job), answered=False)
        slots.checking, slots.checking_until = job.id, self._clock() + CHECK_SECONDS
        self._table.commit(slots=slots)  # one check at a time, or every submit of a storm would pay for the same one
        (image,) = self._sign(job.portrait)
        try:
            answer = self._emo.check_portrait(image, ratio)
        except EmoError as error:
            self._checked(job)
            return self._not_sent(job, error)
        now = self._clock()
        if isinstance(answer, Boxes):
            job.boxes = {"face": list(answer.face), "ext": list(answer.ext)}
            if sha:
                self._table.put_check(passed_key, job.boxes, now)
            self._count_check(job)
            return True
        problem = portrait_refused(answer.code, answer.message, answer.request_id, job.portrait)
        if sha:
            self._table.put_check(refused_key, problem.as_dict(), now)
        self._count_check(job)
        self._checked(job)
        return self._reject(job, problem, shared=_is_shared(job))

    def _count_check(self, job: Job) -> None:
        """Count a check as paid at once: a job that was changed meanwhile is decided anew, from memory."""

        def count(current: Job, _: Slots) -> bool:
            current.checks_paid += 1
            return True

        job.checks_paid += 1
        try:
            self._table.commit(job=job)
        except ConflictError:
            self._table.change(job.id, count, with_slots=False)

    def _checked(self, job: Job) -> None:
        def over(slots: Slots) -> bool:
            mine = slots.checking == job.id
            slots.checking = None if mine else slots.checking
            return mine

        self._table.change_slots(over)

    def _not_sent(self, job: Job, error: EmoError) -> bool:
        """The provider did not take a call and nothing was paid: sort whose trouble it is."""
        if isinstance(error, JobRefusedError) and error.worth_one_more_try and not job.retried:
            job.retried = True
            self._table.commit(job=job)
        elif isinstance(error, JobRefusedError):
            self._reject(job, provider_refused(error), shared=False)
        else:
            self._trouble(job.id, job.attempt, error)
        return False

    def _reject(self, job: Job, problem: Problem, *, shared: bool, answered: bool = True) -> bool:
        def reject(current: Job, slots: Slots) -> bool:
            if current.version != job.version:
                return False  # changed meanwhile: the next step looks at it again
            if answered:
                slots.well_again(job.id)
            _end(current, REJECTED, problem, self._clock(), keep_looking=shared)
            return True

        if ended := self._change(job.id, reject):
            self._teller.tell(ended)
        return False

    def _sign(self, *files: dict[str, Any]) -> list[str]:
        """Return a link for each input: the owner's own as it is written, else a presigned one."""
        own = [f["link"] if f.get("link") else None for f in files]
        ours = [(f["key"], f["version"], _suffix(f)) for f in files if not f.get("link")]
        signed = iter(self._links.sign(*ours)) if ours else iter(())
        return [link or next(signed) for link in own]

    # ------------------------------------------------------------------ the create
    def _create(self, job: Job, slots: Slots, ends_at: float, fee: float, expected: float) -> bool:
        assert job.portrait and job.voice and job.boxes and job.settings  # noqa: S101, PT018  # a queued job has them
        image, audio = self._sign(job.portrait, job.voice)
        now = self._clock()
        if ends_at - now < CREATE_SECONDS:
            self._checked(job)
            return True
        job.attempt += 1
        job.status, job.queue_key, job.look_in = SUBMITTING, None, []
        slots.checking = None
        slots.creating = Creating(job.id, job.attempt, now, ends_at + LEASE_MARGIN, fee)
        slots.add(job.owner)
        slots.spend(fee, now)
        slots.use_key(self._emo.key_mark(), now)
        self._table.commit(job=job, slots=slots)
        log.info("create is sent", extra={"job": job.id, "attempt": job.attempt})
        boxes = Boxes(_box(job.boxes["face"]), _box(job.boxes["ext"]))
        try:
            answer = self._emo.create(
                image_url=image, audio_url=audio, boxes=boxes, style_level=job.settings["style_level"]
            )
        except JobRefusedError as error:
            return self._refused(job, error)
        except EmoError as error:
            self._trouble(job.id, job.attempt, error)
            return True
        if isinstance(answer, Unknown):
            return self._unknown(job, answer)
        self._accepted(job.id, job.attempt, answer.task_id, expected, adopted=False)
        return True

    def _accepted(
        self,
        job_id: str,
        attempt: int,
        task: str,
        expected: float,
        *,
        adopted: bool,
        sent_at: float | None = None,
    ) -> None:
        """The task is paid: its id is stored, its execution started, people are told. Each step can be repeated."""
        in_budget_again: list[bool] = []

        def render(job: Job, slots: Slots) -> bool:
            if job.status != SUBMITTING or job.attempt != attempt:
                return False
            now = self._clock()
            slots.creating = None
            slots.well_again(job.id)
            if job.held == "budget":  # another day, or a higher ceiling
                slots.budget_told_day = ""
                in_budget_again.append(True)
            job.status, job.held, job.problem = RENDERING, None, None
            job.tries += 1
            job.adopted = adopted
            job.task = {"id": task}
            job.task_sent_at = sent_at or now
            job.watch = 1
            wait = next_wait(
                elapsed=0,
                expected=expected,
                waiting_behind_others=len(slots.owners) > 1,
                least=self._limits.min_wait,
                most=self._limits.max_wait,
                in_flight=len(slots.owners),
            )
            job.execution_input = {
                "job": job.id,
                "attempt": attempt,
                "task": task,
                "sent_at": job.task_sent_at,
                "expected_seconds": round(expected, 1),
                "in_flight": len(slots.owners),
                "wait_seconds": wait,
            }
            job.change(now)
            return True

        job = self._change(job_id, render, task=task)
        if job is None:
            return
        log.info("task is accepted", extra={"job": job.id, "attempt": attempt, "task": task})
        if in_budget_again:
            self._queue.send({"held": True})
        self._watch.start(job)
        self._teller.tell(job)

    def _refused(self, job: Job, error: JobRefusedError) -> bool:
        again = error.worth_one_more_try and not job.retried

        def refuse(current: Job, slots: Slots) -> bool:
            if not _release(current, slots, job.attempt, self._clock()):
                return False
            slots.well_again(job.id)
            if again:
                current.retried = True
                _back_to_its_place(current, slots, self._clock())
            else:
                _end(current, REJECTED, provider_refused(error), self._clock(), keep_looking=False)
            return True

        if written := self._change(job.id, refuse):
            self._teller.tell(written)
        return True

    def _trouble(self, job_id: str, attempt: int, error: EmoError) -> None:
        """Nothing was paid and it looks like the account's trouble: the job keeps its place, the account waits."""
        log.warning("provider took no call", extra={"job": job_id, "code": error.code, "detail": error.message})

        def again(job: Job, slots: Slots) -> bool:
            now = self._clock()
            if job.status == SUBMITTING and not _release(job, slots, attempt, now):
                return False
            if job.status not in {SUBMITTING, QUEUED}:
                return False
            if not isinstance(error, ThrottledError | NotConnectedError) and slots.blame(job.id):
                _end(job, REJECTED, account_refuses_job(error), now, keep_looking=False)
                return True
            if isinstance(error, AccountError):
                slots.hold_account(now, hold_seconds=self._limits.hold_seconds, code=error.code, message=error.message)
            else:
                self._strike(slots, error.code, error.message, error.retry_after)
            _back_to_its_place(job, slots, now)
            return True

        if written := self._change(job_id, again):
            self._teller.tell(written)

    def _strike(self, slots: Slots, code: str, message: str, retry_after: float | None) -> None:
        slots.strike(
            self._clock(), retry_after=retry_after, hold_seconds=self._limits.hold_seconds, code=code, message=message
        )

    # ------------------------------------------------------------------ nobody knows
    def _unknown(self, job: Job, answer: Unknown) -> bool:
        log.warning(
            "create has no known outcome", extra={"job": job.id, "attempt": job.attempt, "reason": answer.reason}
        )

        def note(slots: Slots) -> bool:
            if slots.creating is None or slots.creating.owner != job.owner:
                return False
            self._search.begin(slots.creating, self._clock(), answer.request_id)
            return True

        self._table.change_slots(note)
        return True

    def _attend(self, slots: Slots, creating: Creating, now: float) -> bool:
        """Look after the open create: wait for it, or search for it when nobody knows what became of it."""
        match self._search.go_on(slots, creating, now):
            case Later(at):
                return self._wake_at(at)
            case Taken(job, task, certain):
                expected = self._table.pace().expected(_seconds(job))
                self._accepted(
                    job.id, job.attempt, task.task_id, expected, adopted=not certain, sent_at=creating.sent_at
                )
            case NotTaken(job):
                self._not_taken(job)
            case Ambiguous(job, tasks):
                self._give_up(job, tasks)
        return True

    def _not_taken(self, job: Job) -> None:
        """Nothing was made: the job goes back to its place, the service counts as ill."""
        log.info("create was not taken", extra={"job": job.id, "attempt": job.attempt})

        def back(current: Job, slots: Slots) -> bool:
            now = self._clock()
            if not _release(current, slots, job.attempt, now):
                return False
            if slots.blame(current.id):
                _end(current, FAILED, no_usable_answer(), now, keep_looking=False)
                return True
            self._strike(slots, "NoUsableAnswer", "creates get no usable answer, and no task comes of them", None)
            _back_to_its_place(current, slots, now)
            return True

        if written := self._change(job.id, back):
            self._teller.tell(written)

    def _give_up(self, job: Job, tasks: list[ListedTask]) -> None:
        ids = ", ".join(t.task_id for t in tasks[:20])
        problem = Problem(
            "CreateAmbiguous",
            "Nobody knows whether the video service took this job, and which of its tasks it would be.",
            "Ask the operator to look at these tasks; drop the files again to have the video made in any case.",
            measured=f"tasks {ids}",
        )

        def fail(current: Job, slots: Slots) -> bool:
            if not _release(current, slots, job.attempt, self._clock()):
                return False
            _end(current, FAILED, problem, self._clock(), keep_looking=False)
            return True

        if ended := self._change(job.id, fail):
            self._teller.tell(ended)

    # ------------------------------------------------------------------ by hand, and the net
    def pause(self, *, paused: bool) -> None:
        """Stop or start creates by hand; what is at the provider goes on."""

        def set_paused(slots: Slots) -> bool:
            changed = slots.paused != paused
            slots.paused = paused
            return changed

        if self._table.change_slots(set_paused):
            self._queue.send({"held": True})

    def show_held(self, cursor: str | None) -> None:
        """Say in the reports of what waits why it waits, a page a message; asked for when that changes."""
        slots = self._table.slots()
        held = slots.holds_jobs(self._clock())
        entries = self._table.queue(HELD_PAGE, after=cursor)
        for _, job_id in entries:

            def show(job: Job, _: Slots) -> bool:
                if job.status != QUEUED or job.held == held:
                    return False
                job.held = held
                job.change(self._clock())
                return True

            if written := self._table.change(job_id, show, with_slots=False):
                self._teller.tell(written)
        if len(entries) == HELD_PAGE:
            self._queue.send({"held": True, "cursor": entries[-1][0]})

    def free_leaked(self) -> None:
        """Free slots whose job, read consistently, is no longer at the provider in that attempt."""
        for owner in self._table.slots().owners:
            job_id, _, attempt = owner.partition("#")

            def leaked(slots: Slots, owner: str = owner, job_id: str = job_id, attempt: str = attempt) -> bool:
                if slots.creating and slots.creating.owner == owner:
                    return False
                job = self._table.job(job_id)
                rendering = job and job.attempt == int(attempt) and job.status in AT_PROVIDER
                lingering = job and job.lingering and job.lingering["attempt"] == int(attempt)
                return not rendering and not lingering and slots.free(owner)

            if self._table.change_slots(leaked):
                log.warning("a leaked slot was freed", extra={"owner": owner})


def _release(job: Job, slots: Slots, attempt: int, now: float) -> bool:
    """Close the open create of a job that was not paid; False when it is no longer this attempt's."""
    if job.status != SUBMITTING or job.attempt != attempt:
        return False
    owner = owner_of(job.id, attempt)
    if slots.creating and slots.creating.owner == owner:
        slots.spend(-slots.creating.fee, now)
        slots.creating = None
    slots.free(owner)
    return True


def _back_to_its_place(job: Job, slots: Slots, now: float) -> None:
    job.status, job.queue_key = QUEUED, job.place_key
    job.look_in = [short_hash(job.folder)]
    held = "account" if slots.hold else None
    if job.held != held:
        job.held = held
        job.change(now)


def _end(job: Job, status: str, problem: Problem, now: float, *, keep_looking: bool) -> None:
    job.status, job.problem, job.message = status, problem.as_dict(), ""
    job.queue_key, job.place_key, job.held = None, None, None
    job.look_in = _folders(job) if keep_looking else []
    job.change(now)


def _folders(job: Job) -> list[str]:
    """Return the folders whose files may mend a job: its own and its portrait's."""
    portrait = classify((job.portrait or {}).get("key") or "")
    return sorted({short_hash(folder) for folder in (job.folder, portrait.folder if portrait else job.folder)})


def _seconds(job: Job) -> float:
    """Return the voice's length; for a link, which nobody has measured, the longest that the service takes."""
    seconds = (job.voice or {}).get("seconds")
    return float(seconds) if seconds is not None else VOICE_MAX_SECONDS


def _is_shared(job: Job) -> bool:
    return (job.portrait or {}).get("chosen_by") != "same_name"


def _ratio(job: Job) -> str:
    return str((job.settings or {}).get("ratio", "1:1"))


def _given_boxes(job: Job) -> dict[str, list[int]] | None:
    settings = job.settings or {}
    if settings.get("face_bbox") and settings.get("ext_bbox"):
        return {"face": list(settings["face_bbox"]), "ext": list(settings["ext_bbox"])}
    return None


def _box(values: list[int]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = values
    return x1, y1, x2, y2


def _suffix(file: dict[str, Any]) -> str:
    """Return the suffix that fits the content: a JPEG named .png is served as what it is."""
    kind = str(file["type"])
    return ".jpg" if kind == "jpeg" else f".{kind}"
