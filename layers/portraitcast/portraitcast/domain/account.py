"""Slots, the open create, hold, backoff, pause and budget: one item, changed by compare-and-swap, rules only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from portraitcast.domain.job import known_fields, owner_of

BEIJING: Final = timezone(timedelta(hours=8))
HOLD_MAX_SECONDS: Final = 900.0  # longest interval between probes; also SQS's longest delay
STRIKES_TO_HOLD: Final = 3  # throttled, not connected or without an answer, in a row
PASSES_TO_BLAME: Final = 2  # once may be chance: the account was mended in between


@dataclass(slots=True)
class Creating:
    """The one open create. While it is set nobody else creates.

    `lease_until` is when its Lambda must be dead; from then on, or once its outcome is known to be unknown, it is
    looked for: `unknown_since` is the end of the create, `looks` the complete looks that found nothing.
    """

    job: str
    attempt: int
    sent_at: float
    lease_until: float
    fee: float
    unknown_since: float | None = None
    looks: int = 0
    next_look_at: float = 0.0
    request_id: str | None = None

    @property
    def owner(self) -> str:
        """The slot's owner: the job in this attempt."""
        return owner_of(self.job, self.attempt)


@dataclass(slots=True)
class Hold:
    """The account is held: no creates but a single probe at growing intervals."""

    since: float
    code: str
    message: str
    interval: float
    next_probe_at: float


@dataclass(slots=True)
class Slots:
    """The state of the stack's account at the provider, as one item.

    Attributes
    ----------
    owners
        ``job#attempt`` of every task at the provider (or about to be): a set by name, never a counter.
    strikes, backoff_until
        Throttled or unreachable creates in a row, and until when the account waits after one.
    spent_day, spent
        Beijing day (YYYY-MM-DD) and the expected fees in CNY of what was created on it.
    failures
        How often each job's call ended in trouble of the account since the account was last seen well.
    suspects
        How often another job's call passed after each of these jobs had failed: at the second time the next such
        trouble is the job's own.
    checking, checking_until
        The job whose portrait is being checked, and until when its function may live: nobody else checks or creates.
    key_mark, key_since
        Which API key the last create was sent with, and since when (0: there was no other before it).
    notices
        What operators are still to be told: written with the change itself, so that no crash swallows it.
    """

    version: int = 0
    owners: list[str] = field(default_factory=list)
    creating: Creating | None = None
    hold: Hold | None = None
    paused: bool = False
    strikes: int = 0
    backoff_until: float = 0.0
    spent_day: str = ""
    spent: float = 0.0
    budget_told_day: str = ""
    failures: dict[str, int] = field(default_factory=dict)
    suspects: dict[str, int] = field(default_factory=dict)
    checking: str | None = None
    checking_until: float = 0.0
    key_mark: str | None = None
    key_since: float = 0.0
    notices: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Slots:
        """Make one from `as_dict`'s answer."""
        slots = cls(**known_fields(cls, stored))
        if slots.creating is not None:
            slots.creating = Creating(**known_fields(Creating, stored["creating"]))
        if slots.hold is not None:
            slots.hold = Hold(**known_fields(Hold, stored["hold"]))
        return slots

    def add(self, owner: str) -> None:
        """Take a slot for `owner`; twice is harmless."""
        if owner not in self.owners:
            self.owners.append(owner)

    def free(self, owner: str) -> bool:
        """Free the owner's slot; False when it held none."""
        if owner not in self.owners:
            return False
        self.owners.remove(owner)
        return True

    def spent_today(self, now: float) -> float:
        """Return the expected fees of this Beijing day so far, CNY."""
        return self.spent if self.spent_day == beijing_day(now) else 0.0

    def spend(self, fee: float, now: float) -> None:
        """Count an expected fee (CNY; negative gives it back) on today's account."""
        self.spent = round(max(0.0, self.spent_today(now) + fee), 6)
        self.spent_day = beijing_day(now)

    def holds_jobs(self, now: float) -> str | None:
        """Return why queued jobs are held: ``paused``, ``account``, ``budget``, or None."""
        if self.paused:
            return "paused"
        if self.hold is not None:
            return "account"
        return "budget" if self.budget_told_day == beijing_day(now) else None

    def notice(self, title: str, text: str) -> None:
        """Leave a notice for operators; whoever dispatches next sends it."""
        self.notices.append({"title": title, "text": text})

    def use_key(self, mark: str | None, now: float) -> None:
        """Note with which API key a create is sent."""
        if mark is not None and mark != self.key_mark:
            self.key_since = now if self.key_mark is not None else 0.0
            self.key_mark = mark

    def blame(self, job: str) -> bool:
        """Note that a job's call met what looks like the account's trouble; True when the job itself is at fault."""
        if self.suspects.get(job, 0) >= PASSES_TO_BLAME:
            del self.suspects[job]
            return True
        self.failures[job] = self.failures.get(job, 0) + 1
        return False

    def strike(self, now: float, *, retry_after: float | None, hold_seconds: float, code: str, message: str) -> bool:
        """Note a create that was throttled or never connected; True when that begins a hold."""
        self.strikes += 1
        holds = self.hold is not None or self.strikes >= STRIKES_TO_HOLD
        own_pause = 0.0 if holds else float(2**self.strikes)
        self.backoff_until = now + min(own_pause if retry_after is None else retry_after, HOLD_MAX_SECONDS)
        return holds and self.hold_account(now, hold_seconds=hold_seconds, code=code, message=message)

    def hold_account(self, now: float, *, hold_seconds: float, code: str, message: str) -> bool:
        """Begin or prolong a hold; True when it begins."""
        if self.hold is None:
            self.hold = Hold(now, code, message, hold_seconds, now + hold_seconds)
            self.notice(
                "the account is held",
                f"The video service answers {code}: {message}\n\nNo job is lost: all keep their places, and it goes on "
                f"by itself once the service takes a create again. It is tried again in {hold_seconds:g} s and then at "
                "growing intervals of up to 15 minutes.",
            )
            return True
        self.hold.interval = min(self.hold.interval * 2, HOLD_MAX_SECONDS)
        self.hold.next_probe_at = now + self.hold.interval
        self.hold.code, self.hold.message = code, message
        return False

    def well_again(self, job: str) -> None:
        """Note a job's answer that shows the account to be well: ends a hold, makes suspects of jobs that failed."""
        for other in self.failures.keys() - {job}:
            self.suspects[other] = self.suspects.get(other, 0) + 1
        self.suspects.pop(job, None)
        self.failures = {}
        if self.hold is not None:
            self.notice(
                "the account is well again", f"The video service takes creates again; {self.hold.code} is over."
            )
        self.hold = None
        self.strikes, self.backoff_until = 0, 0.0

    def not_before(self, now: float) -> float | None:
        """Return when the account may be tried again (epoch), or None when it may be now."""
        until = max(self.backoff_until, self.hold.next_probe_at if self.hold else 0.0)
        return until if until > now else None


def beijing_day(now: float) -> str:
    """Return the provider's day of an epoch time, YYYY-MM-DD."""
    return datetime.fromtimestamp(now, BEIJING).date().isoformat()


def next_beijing_day(now: float) -> float:
    """Return the epoch time at which the next Beijing day begins."""
    today = datetime.fromtimestamp(now, BEIJING).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today + timedelta(days=1)).timestamp()
