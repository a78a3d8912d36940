"""What all jobs share at the provider: tasks in flight, the open create, circuit breaker, pause, and the day's budget.

One frozen value, changed by compare-and-swap: each method returns the account as it is then.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Final, Self

from portraitcast.domain.job import owner_of

BEIJING: Final = timezone(timedelta(hours=8))
PROBE_MAX_SECONDS: Final = 900.0  # longest interval between probes; also Amazon SQS's longest delay
STRIKES_TO_OPEN: Final = 3  # throttled, not connected or without an answer, in a row
PASSES_TO_BLAME: Final = 2  # once may be chance: the account was mended in between
ALIKE_TO_HOLD: Final = 2  # jobs refused in a row with the same words, after which these are no job's own trouble
RECENT_TASKS: Final = 8  # known tasks that the provider's list is held against


@dataclass(frozen=True, slots=True)
class OpenCreate:
    """The one open create. While it is set nobody else creates.

    Attributes
    ----------
    lease_until
        When its function must be dead: from then on, or once its outcome is known to be unknown, it is reconciled.
    unknown_since
        The end of a create of unknown outcome; None while its function works.
    looks
        Complete looks at the provider's list that counted and found nothing.
    next_look_at
        From when on the list may be read again; set before it is read, so that a look that dies is a look.
    request_id
        The provider's id of the create's request, where it told one.
    trouble
        Why the last look did not count.
    sent
        False while its inputs are being uploaded: nothing can have been paid. `sent_at` is set anew when it is sent.
    """

    job: str
    attempt: int
    model: str
    sent_at: float
    lease_until: float
    fee: float
    unknown_since: float | None = None
    looks: int = 0
    next_look_at: float = 0.0
    request_id: str | None = None
    trouble: str = ""
    sent: bool = True

    @property
    def owner(self) -> str:
        """The slot's owner: the job in this attempt."""
        return owner_of(self.job, self.attempt)


@dataclass(frozen=True, slots=True)
class CheckLease:
    """The job whose portrait is being checked, and until when its function may live: nobody else checks or creates."""

    job: str
    until: float


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A task that certainly is ours, and between which moments it was created: what a list must agree with."""

    id: str
    model: str
    sent_at: float
    accepted_at: float
    key_mark: str | None


@dataclass(frozen=True, slots=True)
class Breaker:
    """The circuit breaker is open: no creates but a single probe at growing intervals."""

    since: float
    code: str
    message: str
    interval: float
    next_probe_at: float


@dataclass(frozen=True, slots=True)
class Notice:
    """What operators are still to be told."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Account:
    """The state of the stack's account at the provider, as one item.

    Attributes
    ----------
    models
        The models whose queues hold jobs, or have held some.
    tasks_in_flight
        ``job#attempt`` of every task at the provider (or about to be), and the model it is for: a set by name, never a
        counter.
    paused, paused_at
        Creates are stopped by hand, and when that was ordered: of two orders the newer holds.
    strikes, backoff_until
        Throttled or unreachable creates in a row, and until when the account waits after one.
    spent_day, spent
        Beijing day (YYYY-MM-DD) and the fees in CNY of what may have been paid on it. A day never goes back.
    budget_day
        The day for which operators were told that its budget is used up.
    failures
        How often each job's call ended in trouble of the account since the account was last seen well.
    suspects
        How often another job's call passed after each of these jobs had failed: at the second time the next such
        trouble is the job's own.
    refusal, refused
        The words of the last refusals in a row that were alike, and the jobs that met them.
    key_mark, key_since
        Which API key the last create was sent with, and since when (0: there was no other before it).
    recent_tasks
        The newest tasks that are ours.
    unsettled_until
        Up to when (epoch) a create was sent whose task, if there is one, is still unknown: no later create's.
    notices
        Written with the change itself, so that no crash swallows them.
    """

    version: int = 0
    models: tuple[str, ...] = ()
    tasks_in_flight: dict[str, str] = field(default_factory=dict)
    open_create: OpenCreate | None = None
    check: CheckLease | None = None
    breaker: Breaker | None = None
    paused: bool = False
    paused_at: float = 0.0
    strikes: int = 0
    backoff_until: float = 0.0
    spent_day: str = ""
    spent: float = 0.0
    budget_day: str = ""
    failures: dict[str, int] = field(default_factory=dict)
    suspects: dict[str, int] = field(default_factory=dict)
    refusal: str = ""
    refused: tuple[str, ...] = ()
    key_mark: str | None = None
    key_since: float = 0.0
    recent_tasks: tuple[KnownTask, ...] = ()
    unsettled_until: float = 0.0
    notices: tuple[Notice, ...] = ()

    # ------------------------------------------------------------------ models and slots
    def use_model(self, model: str) -> Self:
        """Note that a model has a queue."""
        return self if model in self.models else replace(self, models=(*self.models, model))

    def in_flight(self, model: str) -> int:
        """Return how many tasks of a model are at the provider: its limits hold for each model apart."""
        return sum(1 for its_model in self.tasks_in_flight.values() if its_model == model)

    def take_slot(self, owner: str, model: str) -> Self:
        """Give `owner` a slot; twice is harmless."""
        return replace(self, tasks_in_flight={**self.tasks_in_flight, owner: model})

    def release_slot(self, owner: str) -> Self:
        """Take the owner's slot back, if it holds one."""
        if owner not in self.tasks_in_flight:
            return self
        return replace(self, tasks_in_flight={o: model for o, model in self.tasks_in_flight.items() if o != owner})

    # ------------------------------------------------------------------ the portrait check
    def lease_check(self, job: str, until: float, fee: float, now: float) -> Self:
        """Let one job's portrait be checked; the fee counts as spent until the check is known not to be paid."""
        return replace(self.spend(fee, now), check=CheckLease(job, until))

    def end_check(self, job: str) -> Self:
        """End the job's check."""
        return replace(self, check=None) if self.check and self.check.job == job else self

    # ------------------------------------------------------------------ the open create
    def begin_create(self, create: OpenCreate, key_mark: str | None) -> Self:
        """Open a create: its slot and its fee are taken at once."""
        taken = replace(self.spend(create.fee, create.sent_at), open_create=create, check=None).take_slot(
            create.owner, create.model
        )
        if key_mark is None or key_mark == self.key_mark:
            return taken
        return replace(taken, key_mark=key_mark, key_since=create.sent_at if self.key_mark is not None else 0.0)

    def send_create(self, owner: str, now: float) -> Self:
        """Note that the inputs of the owner's open create are uploaded, and that it is sent now."""
        create = self.open_create
        if create is None or create.owner != owner:
            return self
        return replace(self, open_create=replace(create, sent=True, sent_at=now))

    def settle_create(self, task: KnownTask, *, certain: bool = True) -> Self:
        """The open create made this task; one adopted by its time alone is not `certain`, and proves nothing."""
        recent = self.recent_tasks
        if certain:
            recent = (*[t for t in recent if t.id != task.id], task)[-RECENT_TASKS:]
        return replace(self, open_create=None, recent_tasks=recent, refusal="", refused=())

    def drop_create(self, owner: str, now: float, *, paid: bool = False) -> Self:
        """Close the owner's create without a task of ours; its fee comes back unless it may have been `paid`."""
        freed = self.release_slot(owner)
        create = self.open_create
        if create is None or create.owner != owner:
            return freed
        closed = replace(freed, open_create=None)
        if create.unknown_since is not None:  # if its task shows up after all, no later create may take it
            closed = replace(closed, unsettled_until=max(self.unsettled_until, create.unknown_since))
        return closed if paid else closed.spend(-create.fee, now)

    # ------------------------------------------------------------------ money
    def spent_today(self, now: float) -> float:
        """Return the fees of this Beijing day so far, CNY."""
        return self.spent if self.spent_day >= beijing_day(now) else 0.0

    def spend(self, fee: float, now: float) -> Self:
        """Count a fee (CNY; negative gives it back) on today's account; clocks that differ never reset a day."""
        day = max(beijing_day(now), self.spent_day)
        return replace(self, spent=round(max(0.0, self.spent_today(now) + fee), 6), spent_day=day)

    def reach_budget(self, ceiling: float, fee: float, now: float) -> Self:
        """Note, once a day, that the day's budget doesn't bear the next job."""
        day = beijing_day(now)
        if self.budget_day >= day:
            return self
        return replace(self, budget_day=day).notify(
            "the day's budget is reached",
            f"CNY {self.spent_today(now):.2f} of CNY {ceiling:g} are spent on {day} (Beijing) and the next job would "
            f"cost CNY {fee:.2f}. Jobs keep their places and go on tomorrow. The ceiling is the parameter "
            "DailyBudgetCny.",
        )

    def leave_budget(self) -> Self:
        """A job passed: the budget bears jobs again."""
        return replace(self, budget_day="")

    # ------------------------------------------------------------------ pause and circuit breaker
    def pause(self, at: float, *, paused: bool) -> Self:
        """Stop or start creates by hand; an order older than the last one is left alone."""
        return self if at < self.paused_at else replace(self, paused=paused, paused_at=at)

    def held(self, now: float) -> str | None:
        """Return why queued jobs wait: ``paused``, ``account``, ``budget``, or None."""
        if self.paused:
            return "paused"
        if self.breaker is not None:
            return "account"
        return "budget" if self.budget_day >= beijing_day(now) else None

    def not_before(self, now: float) -> float | None:
        """Return when the account may be tried again (epoch), or None when it may be now."""
        until = max(self.backoff_until, self.breaker.next_probe_at if self.breaker else 0.0)
        return until if until > now else None

    def strike(self, now: float, *, retry_after: float | None, interval: float, code: str, message: str) -> Self:
        """Note a create that was throttled, never connected or got no usable answer; three in a row open the breaker.

        `interval` is BreakerSeconds, `retry_after` what the provider asked for, both in seconds.
        """
        strikes = self.strikes + 1
        opens = self.breaker is not None or strikes >= STRIKES_TO_OPEN
        own_pause = 0.0 if opens else float(2**strikes)
        until = now + min(own_pause if retry_after is None else retry_after, PROBE_MAX_SECONDS)
        struck = replace(self, strikes=strikes, backoff_until=until)
        return struck.open_breaker(now, interval=interval, code=code, message=message) if opens else struck

    def open_breaker(self, now: float, *, interval: float, code: str, message: str) -> Self:
        """Open the circuit breaker; if it is open, prolong it: the probe failed."""
        if self.breaker is not None:
            longer = min(self.breaker.interval * 2, PROBE_MAX_SECONDS)
            return replace(self, breaker=Breaker(self.breaker.since, code, message, longer, now + longer))
        return replace(self, breaker=Breaker(now, code, message, interval, now + interval)).notify(
            "the account is held",
            f"The video service answers {code}: {message}\n\nNo job is lost: all keep their places, and it goes on by "
            f"itself once the service takes a create again. It is tried again in {interval:g} s and then at growing "
            "intervals of up to 15 minutes.",
        )

    def is_refused_like_others(self, job: str, words: str) -> bool:
        """Say whether the last refusals, of other jobs, had the same words: then these are about no job's files."""
        return words == self.refusal and len(set(self.refused) - {job}) >= ALIKE_TO_HOLD

    def note_refusal(self, job: str, words: str) -> Self:
        """Note in which words a job was refused."""
        alike = self.refused if words == self.refusal else ()
        return replace(self, refusal=words, refused=(*(j for j in alike if j != job), job)[-ALIKE_TO_HOLD:])

    def blames(self, job: str) -> bool:
        """Say whether trouble that looks like the account's is this job's own: others passed twice meanwhile."""
        return self.suspects.get(job, 0) >= PASSES_TO_BLAME

    def note_failure(self, job: str) -> Self:
        """Note that a job's call met what looks like the account's trouble."""
        return replace(self, failures={**self.failures, job: self.failures.get(job, 0) + 1})

    def forget_suspect(self, job: str) -> Self:
        """Forget a job that was blamed."""
        return replace(self, suspects={name: count for name, count in self.suspects.items() if name != job})

    def close_breaker(self, job: str) -> Self:
        """Note a job's answer that shows the account to be well: closes the breaker, suspects jobs that failed."""
        suspects = {name: count for name, count in self.suspects.items() if name != job}
        for other in self.failures.keys() - {job}:
            suspects[other] = suspects.get(other, 0) + 1
        well = replace(self, suspects=suspects, failures={}, breaker=None, strikes=0, backoff_until=0.0)
        if self.breaker is None:
            return well
        return well.notify(
            "the account is well again", f"The video service takes creates again; {self.breaker.code} is over."
        )

    # ------------------------------------------------------------------ operators
    def notify(self, title: str, text: str) -> Self:
        """Leave a notice for operators; whoever publishes next sends it."""
        return replace(self, notices=(*self.notices, Notice(title, text)))

    def without_notices(self, sent: tuple[Notice, ...]) -> Self:
        """Forget notices that were sent."""
        return replace(self, notices=tuple(notice for notice in self.notices if notice not in sent))


def beijing_day(now: float) -> str:
    """Return the provider's day of an epoch time, YYYY-MM-DD."""
    return datetime.fromtimestamp(now, BEIJING).date().isoformat()


def next_beijing_day(now: float) -> float:
    """Return the epoch time at which the next Beijing day begins."""
    today = datetime.fromtimestamp(now, BEIJING).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today + timedelta(days=1)).timestamp()
