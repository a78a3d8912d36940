"""When to look at a task again. Pure: times in seconds, no clock.

The provider's work grows with the voice, so the first look comes when a job of this length should be finished, and
later ones tighten around that moment; each look costs three Step Functions transitions and one of the account's 20
queries a second (EMO, task query).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

START_WORK_PER_SECOND: Final = 12.0  # "several minutes" a job of up to 60 s (EMO): what a new stack assumes
START_FIXED_SECONDS: Final = 20.0  # what a job of no length at all would take
LEARNING: Final = 0.5  # weight of the newest finished job
SHARE_OF_REST: Final = 0.9  # of what should be left, a look comes after this share
OVERDUE_SHARE: Final = 0.08  # of what has passed, once a task is later than expected


@dataclass(frozen=True, slots=True)
class Pace:
    """What finished jobs took: provider's seconds of work for each second of voice, and how many jobs taught it."""

    work_per_second: float = START_WORK_PER_SECOND
    jobs: int = 0

    def expected(self, voice_seconds: float) -> float:
        """Return the seconds of work that a voice of this length should take."""
        fixed = START_FIXED_SECONDS if self.jobs == 0 else 0.0
        return fixed + self.work_per_second * max(voice_seconds, 1.0)

    def learn(self, voice_seconds: float, work_seconds: float) -> Pace:
        """Return the pace after one more finished job; the first job replaces the assumption."""
        seen = max(work_seconds, 0.1) / max(voice_seconds, 1.0)
        if self.jobs == 0:
            return Pace(seen, 1)
        return Pace(self.work_per_second + LEARNING * (seen - self.work_per_second), self.jobs + 1)


def next_wait(*, elapsed: float, expected: float, waiting_behind_others: bool, least: float, most: float) -> int:
    """Return the whole seconds until the next look.

    Parameters
    ----------
    elapsed
        Seconds that the task has been running (0 before it runs).
    expected
        Seconds of work that it should take in all.
    waiting_behind_others
        The task is PENDING: it can't be finished before its own work is done, so it is looked at rarely.
    least, most
        The stack's MinWaitSeconds and MaxWaitSeconds.
    """
    if waiting_behind_others:
        wait = expected
    elif elapsed < expected:
        wait = (expected - elapsed) * SHARE_OF_REST
    else:
        wait = elapsed * OVERDUE_SHARE
    return max(math.ceil(least), round(min(most, wait)))
