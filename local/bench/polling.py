"""When to poll next: the product's own pure function over simulated tasks, beside a fixed 15 s and the vendor's SDK.

No clock and no network. A task's work is proportional to its voice, give or take a tenth.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from statistics import mean
from typing import TYPE_CHECKING

from bench.document import Mark, Section, Table
from portraitcast.domain.polling import Pace, next_poll

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST, MOST = 15.0, 120.0  # MinPollSeconds and MaxPollSeconds as template.yaml has them
FIXED = 15.0  # s between polls, as the provider's documentation proposes
SDK_STEPS, SDK_LAST = (1, 1, 2, 2, 2, 4, 4, 4), 5  # s: how the vendor's SDK asks
BANDS = ((20, 60), (60, 120), (120, 300), (300, 600), (600, 900))  # s of work
TASKS = 3000  # a band
WORK_PER_SECOND = 15.0  # what the simulated provider takes for a second of voice
VARIES = 0.1
QUERIES_A_SECOND = 20  # EMO: for the whole account


@dataclass(frozen=True)
class Polled:
    """How one task was polled: polls in all, s from its end to the poll that saw it, s it was expected to take."""

    polls: int
    late: float
    expected: float


def ours(work: float, expected: float) -> Polled:
    """Poll a task with the product's own function."""
    at, polls = 0.0, 0
    while at < work:
        at += next_poll(elapsed=at, expected=expected, waiting_behind_others=False, least=LEAST, most=MOST)
        polls += 1
    return Polled(polls, at - work, expected)


def fixed(work: float, expected: float) -> Polled:
    """Poll a task every 15 s."""
    polls = math.ceil(work / FIXED)
    return Polled(polls, polls * FIXED - work, expected)


def sdk(work: float, expected: float) -> Polled:
    """Poll a task as the vendor's SDK does."""
    steps = (*SDK_STEPS, *[SDK_LAST] * math.ceil(work / SDK_LAST))
    polls, at = next((n, at) for n, at in enumerate(accumulate(steps), 1) if at >= work)
    return Polled(polls, at - work, expected)


def tasks(band: tuple[int, int], factor: float = 1.0, count: int = TASKS) -> list[tuple[float, float]]:
    """Return (work, expected) of simulated tasks: before each, the pace was learnt from ten jobs of this provider.

    `factor` is how many times slower than that the provider has become.
    """
    chance = random.Random(f"{band} {factor}")  # noqa: S311  # the same tasks in each run
    found = []
    for _ in range(count):
        pace = Pace()
        for _ in range(10):
            pace = pace.learn(20, 20 * WORK_PER_SECOND * _varied(chance))
        voice = chance.uniform(*band) / WORK_PER_SECOND
        found.append((voice * WORK_PER_SECOND * _varied(chance) * factor, pace.expected(voice)))
    return found


def _varied(chance: random.Random) -> float:
    return chance.uniform(1 - VARIES, 1 + VARIES)


def polls_of(polled: Sequence[Polled]) -> float:
    """Return the mean count of polls."""
    return mean(w.polls for w in polled)


def late_of(polled: Sequence[Polled]) -> float:
    """Return the mean time from a task's end to the poll that saw it, s."""
    return mean(w.late for w in polled)


# ---------------------------------------------------------------- The rate is known


def known() -> tuple[Table, list[Mark]]:
    """Compare the three while the provider is as fast as it was learnt."""
    rows, long_polls, long_late, more = [], [], [], []
    for band in BANDS:
        drawn = tasks(band)
        mine, every, vendor = ([poll(*task) for task in drawn] for poll in (ours, fixed, sdk))
        extra = [a.polls - b.polls for a, b in zip(mine, every, strict=True)]
        if band[0] >= 120:
            long_polls.append(polls_of(mine) / polls_of(every))
            long_late.append(late_of(mine) / late_of(every))
        else:
            more.append(mean(e > 2 for e in extra))
        rows.append(
            (
                f"{band[0]} to {band[1]} s",
                *(f"{polls_of(w):.1f}" for w in (mine, every, vendor)),
                *(f"{late_of(w):.2f} s" for w in (mine, every, vendor)),
                f"{late_of(mine) / late_of(every):.2f}",
                f"{max(extra):+d}",
                f"{mean(e > 2 for e in extra):.1%}",
            )
        )
    names = "work", "polls", "15 s", "SDK", "late", "15 s", "SDK", "late, ours : 15 s"
    columns = (*names, "most beyond 15 s", "> 2 beyond")
    table = Table(f"Rate known ({TASKS:,} tasks a row): mean polls and mean lateness of seeing the end.", columns, rows)
    marks = [
        Mark("polls, rate known, 2 to 15 min", "≤ fixed 15 s", f"≤ {max(long_polls):.2f}", max(long_polls) <= 1),
        Mark("lateness, rate known, 2 to 15 min", "≤ 1/3 of 15 s", f"≤ {max(long_late):.2f}", max(long_late) <= 1 / 3),
        Mark("tasks below 2 min: more than 2 polls beyond 15 s", "none", f"{max(more):.1%}", max(more) == 0),
    ]
    return table, marks


# ---------------------------------------------------------------- The provider has changed


def changed() -> tuple[Table, list[Mark]]:
    """Compare while what was learnt is five times wrong."""
    rows, lates, ratios = [], [], []
    for factor, word in ((5.0, "5 times slower"), (0.2, "5 times faster")):
        for band in BANDS:
            drawn = tasks(band, factor, 1000)
            mine, every = ([poll(*task) for task in drawn] for poll in (ours, fixed))
            share, ratio = mean(w.late / w.expected for w in mine), polls_of(mine) / polls_of(every)
            rows.append(
                (
                    f"{word}, expected {band[0]} to {band[1]} s",
                    f"{polls_of(mine):.1f}",
                    f"{polls_of(every):.1f}",
                    f"{ratio:.2f}",
                    f"{share:.1%}",
                    f"{max(w.late / w.expected for w in mine):.1%}",
                )
            )
            ratios.append(ratio)
            lates.append(share)
    table = Table(
        "Rate wrong, before anything is learnt of it (1,000 tasks a row).",
        ("provider", "polls", "15 s", "polls, ours : 15 s", "late / expected, mean", "largest"),
        rows,
    )
    late = max(lates)
    return table, [
        Mark("lateness, rate wrong", "< 20 % of what was expected (mean of each row)", f"≤ {late:.1%}", late < 0.2),
        Mark("polls, rate wrong", "≤ 1.25 of fixed 15 s", f"≤ {max(ratios):.2f}", max(ratios) <= 1.25),
    ]


def jobs_to_relearn(factor: float, runs: int = 1000) -> int:
    """Return the most jobs that it took, over all runs, until the pace was within the tasks' own tenth again."""
    chance, most = random.Random(str(factor)), 0  # noqa: S311  # the same jobs in each run
    for _ in range(runs):
        pace, jobs = Pace(WORK_PER_SECOND, 20), 0
        true = WORK_PER_SECOND * factor
        while abs(pace.work_per_second / true - 1) > VARIES + 1e-9:
            pace, jobs = pace.learn(20, 20 * true * _varied(chance)), jobs + 1
        most = max(most, jobs)
    return most


def relearnt() -> tuple[Table, list[Mark]]:
    """Count the jobs after which the expectation is right again, and see a new stack's first jobs."""
    rows = []
    for what, factor in (("5 times slower", 5.0), ("5 times faster", 0.2)):
        rows.append(
            (f"{what}: jobs until right to a tenth again, the most of 1,000 runs", str(jobs_to_relearn(factor)))
        )
    new = Pace()
    rows += [(f"a new stack expects of a voice of {s} s", f"{new.expected(s):.0f} s") for s in (5, 20, 60)]
    most = max(jobs_to_relearn(5.0), jobs_to_relearn(0.2))
    return Table("Learning.", ("what", "figure"), rows), [
        Mark("right again after a change of 5 times", "≤ 3 jobs", f"{most}", most <= 3)
    ]


# ---------------------------------------------------------------- Others are at the provider too


def behind(ahead: int, work: float) -> tuple[int, float]:
    """Poll a task that `ahead` others of the same work run before: polls in all, s its end went unseen."""
    at, polls, starts, expected = 0.0, 0, ahead * work, work
    while at < starts + work:
        at += next_poll(
            elapsed=max(0.0, at - starts),
            expected=expected,
            waiting_behind_others=at < starts,
            least=LEAST,
            most=MOST,
            in_flight=ahead + 1,
        )
        polls += 1
    return polls, at - starts - work


def queued() -> Table:
    """Compare for tasks that wait behind others at the provider."""
    rows = []
    for ahead in (1, 2, 5):
        polls, late = zip(*(behind(ahead, 30.0 + n) for n in range(0, 570, 3)), strict=True)
        every = [math.ceil((ahead + 1) * (30.0 + n) / FIXED) for n in range(0, 570, 3)]
        rows.append((str(ahead), f"{mean(polls):.1f}", f"{mean(every):.1f}", f"{mean(late):.1f} s"))
    return Table(
        "Behind others: one runs at a time, work of 30 s to 10 min each.",
        ("tasks ahead", "polls", "15 s", "late"),
        rows,
    )


def peak(in_flight: int, running: int) -> tuple[int, float]:
    """Poll many tasks at once: the most polls in any second, and their mean a second.

    `running` of them run at a time, each for about 5 minutes; all are sent within a minute.
    """
    chance = random.Random(in_flight)  # noqa: S311  # the same tasks in each run
    work = [300 * _varied(chance) for _ in range(in_flight)]
    free, polls = [0.0] * running, []
    for n, seconds in enumerate(work):
        sent = 60 * n / in_flight
        slot = min(range(running), key=free.__getitem__)
        starts = max(sent, free[slot])
        free[slot], at = starts + seconds, sent
        while at < starts + seconds:
            at += next_poll(
                elapsed=max(0.0, at - starts),
                expected=300,
                waiting_behind_others=at < starts,
                least=LEAST,
                most=MOST,
                in_flight=in_flight,
            )
            polls.append(at)
    in_second = Counter(int(at) for at in polls)
    return max(in_second.values()), len(polls) / max(polls)


def crowd() -> tuple[Table, list[Mark]]:
    """See how close 100 tasks in flight come to what the account may ask."""
    rows, peaks = [], []
    for running in (1, 10, 100):
        most, usual = peak(100, running)
        peaks.append(most)
        rows.append((f"{running} of 100 run at a time", str(most), f"{usual:.2f}"))
    return Table("100 tasks in flight.", ("provider", "most polls in a second", "mean polls a second"), rows), [
        Mark(
            "100 in flight: polls in any second",
            f"never near {QUERIES_A_SECOND}",
            f"≤ {max(peaks)}",
            max(peaks) <= QUERIES_A_SECOND * 0.75,
            "Polls of tasks that were sent together fall into one second; it would take a wait that differs by task.",
        )
    ]


def measure() -> Section:
    """Run this part."""
    parts = [known(), changed(), relearnt(), crowd()]
    tables = [table for table, _ in parts[:3]] + [queued(), parts[3][0]]
    return Section(
        "When to poll next",
        "`portraitcast.domain.polling.next_poll` and `Pace` themselves, over simulated tasks whose work is "
        f"proportional to the voice ± 10 %, with the defaults MinPollSeconds {LEAST:.0f} and MaxPollSeconds {MOST:.0f}"
        "; beside a poll every 15 s and the vendor's SDK (1, 1, 2, 2, 2, 4, 4, 4, 5, 5… s). Late: from a task's "
        "end to the poll that sees it.",
        tables,
        [mark for _, marks in parts for mark in marks],
    )
