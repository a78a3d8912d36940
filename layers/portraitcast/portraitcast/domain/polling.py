"""When to poll a task next, and what finished tasks taught. Times in seconds, no clock.

The provider's work grows with the voice, so polls are rare until a job of this length should be finished and close
around that moment; each poll costs three Step Functions transitions and one of the account's 20 queries a second (EMO,
task query).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

START_WORK_PER_SECOND: Final = 12.0  # "several minutes" a job of up to 60 s (EMO): what a new stack assumes
START_FIXED_SECONDS: Final = 20.0  # what a job of no length at all would take
LEARNING: Final = 0.3  # weight of the newest finished job while it agrees with what was known
SURPRISE: Final = 1.3  # a job so many times slower or faster than known: the provider has changed, and it alone counts

# Shares of the expected work, but for CLOSE. Work varies by about a tenth; `make bench` shows what these figures do.
# Between polls long before the expected end: a provider that has become five times faster, give or take a tenth, is
# seen at the first of them.
EARLY: Final = 0.23
SOON: Final = 0.25  # a poll after this share is the last one before the end is expected
OPENS: Final = 0.9  # from here to CLOSES the end is expected at any moment
CLOSES: Final = 1.2
LATE: Final = 0.15  # between polls at a task that is later than that, growing with what has passed:
LATE_GROWS: Final = 0.05
BEHIND: Final = 0.45  # between polls at a task that waits behind others
SHORT: Final = 0.45  # never longer between polls at a task of seconds, though the least interval is
CLOSE: Final = 0.25  # of the least interval: between polls while the end is expected at any moment
POLLS_A_SECOND: Final = 10.0  # of all tasks in flight together: half of what the account may ask (EMO, task query)


@dataclass(frozen=True, slots=True)
class Pace:
    """What finished tasks took: provider's seconds of work for each second of voice, and how many jobs taught it."""

    work_per_second: float = START_WORK_PER_SECOND
    jobs: int = 0

    def expected(self, voice_seconds: float) -> float:
        """Return the seconds of work that a voice of this length should take."""
        fixed = START_FIXED_SECONDS if self.jobs == 0 else 0.0
        return fixed + self.work_per_second * max(voice_seconds, 1.0)

    def learn(self, voice_seconds: float, work_seconds: float) -> Pace:
        """Return the pace after one more finished job: a running mean, begun anew when the provider has changed."""
        seen = max(work_seconds, 0.1) / max(voice_seconds, 1.0)
        known = self.work_per_second
        if self.jobs == 0 or not known / SURPRISE <= seen <= known * SURPRISE:
            return Pace(seen, self.jobs + 1)
        return Pace(known + LEARNING * (seen - known), self.jobs + 1)


def next_poll(
    *, elapsed: float, expected: float, waiting_behind_others: bool, least: float, most: float, in_flight: int = 1
) -> int:
    """Return the whole seconds until the next poll.

    Parameters
    ----------
    elapsed
        Seconds that the task has been running (0 before it runs).
    expected
        Seconds of work that it should take in all.
    waiting_behind_others
        The task is PENDING: its own work has not begun, so it is polled rarely.
    least, most
        The stack's MinPollSeconds and MaxPollSeconds. While the end is expected at any moment, polls come four times
        as close as `least`; at a task of seconds, `least` is `SHORT` of what it should take.
    in_flight
        Tasks at the provider, which share the account's queries.
    """
    close = max(least * CLOSE, in_flight / POLLS_A_SECOND)
    opens = expected * OPENS
    soonest = min(least, expected * SHORT)
    if waiting_behind_others:
        wait = max(least, expected * BEHIND)
    elif elapsed < opens:
        step, rest = max(soonest, expected * EARLY), opens - elapsed
        wait = max(close, rest if rest < 1.5 * step or elapsed > expected * SOON else step)
    elif elapsed < expected * CLOSES:
        wait = close
    else:
        wait = max(soonest, expected * LATE, elapsed * LATE_GROWS)
    return max(1, math.ceil(close), round(min(most, wait)))
