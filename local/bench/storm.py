"""Storms: 10 and 100 voices of one portrait at once (and as many as STORM says), and a folder of 10,000 pictures."""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.delivering import forget_peak, memory
from bench.document import Mark, Section, Table
from bench.stack import PORTRAIT, QUICK, hum, stack, videos
from portraitcast.adapters.jobs_table import JobsTable
from portraitcast.domain.matching import LIST_MAX
from portraitcast.domain.uploads import Upload, classify, short_hash
from run import ROOT, engine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

VOICES = (10, 100)
TASK_SECONDS = 3.0  # the busy share is asked for with tasks of 3 s or more
BUSY = 0.98
FOLDERS = (100, 10_000)  # pictures
SPREAD = 1.25  # ours: calls a job count as flat within a quarter


@dataclass(frozen=True)
class Passed:
    """A storm that has passed: voices, s from the first drop to the last video, the provider's busy share, calls."""

    voices: int
    wall: float
    busy: float
    calls: float
    service_calls: float
    creates: int


def storm(voices: int) -> Passed:
    """Drop so many voices and their portrait at once, and wait for the last video."""
    files = [(f"bench/line-{n:04}.wav", hum(1, n)) for n in range(voices)]
    files.insert(voices // 3, ("bench/anna.png", PORTRAIT.read_bytes()))
    with stack(QUICK, task_seconds=TASK_SECONDS) as running:
        began = time.time()
        with ThreadPoolExecutor(4) as people:
            list(people.map(lambda file: running.drop(*file), files))
        running.wait(lambda r: len(videos(r)) >= voices, "the storm's end", seconds=60 + voices * 3 * TASK_SECONDS)
        recording = running.quiet()
        state = running.simulator.state()["counters"]
    return Passed(
        voices,
        videos(recording)[-1].ended - began,
        state["busy_seconds"] / (state["last_end"] - state["first_start"]),
        len(recording.calls) / voices,
        sum(state["requests"].values()) / voices,
        state["creates_accepted"],
    )


# ---------------------------------------------------------------- A large folder


def fill(client: Any, table: str, pictures: int) -> None:
    """Put so many pictures of other names into a folder of the Jobs table, as ingesting does."""
    jobs = JobsTable(client, table)

    def put(n: int) -> None:
        name = classify(f"bench/face-{n:05}.png")
        if name:
            jobs.note_upload(Upload(name, "1", 500_000, 1.0, sequencer=f"{n:020}"), None)

    with ThreadPoolExecutor(4) as people:
        list(people.map(put, range(pictures)))


def looked_at(pictures: int) -> tuple[int, int, float, float]:
    """Look into a folder of so many pictures as evaluating does for one event.

    Returns the queries for a voice that has a picture of its name, those for one that has none (all pictures are
    counted then, for its question), the seconds of the latter, and how much memory grew, MiB.
    """
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / ".bench")))
        client = engine(folder, ends, []).client("dynamodb")
        client.create_table(
            TableName="jobs",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        fill(client, "jobs", pictures)
        queries: list[str] = []
        client.meta.events.register("before-call.dynamodb.Query", lambda **_: queries.append("one"))
        jobs, place = JobsTable(client, "jobs"), short_hash("bench")
        name = classify("bench/face-00042.wav")
        if name is None or len(jobs.job_files(name.job).pictures) != 1:
            raise RuntimeError("the folder is not as it was filled")
        state = jobs.folder(place)
        paired = len(queries)
        forget_peak()
        before, began = memory("VmRSS"), time.monotonic()
        found = jobs.pictures(place, state.pictures)
        if found.count != pictures or len(found.keys) > LIST_MAX:
            raise RuntimeError(f"{found.count} of {pictures} pictures were seen")
        return paired, len(queries) - paired, time.monotonic() - began, max(0.0, memory("VmHWM") - before)


def measure() -> Section:
    """Run this part."""
    (ROOT / ".bench").mkdir(exist_ok=True)
    sizes = [*VOICES, *map(int, os.environ.get("STORM", "").split())]
    return section([storm(voices) for voices in sizes], {pictures: looked_at(pictures) for pictures in FOLDERS})


def section(storms: Sequence[Passed], folders: dict[int, tuple[int, int, float, float]]) -> Section:
    """Say what was found."""
    rows = [
        (
            f"{s.voices}",
            f"{s.wall:.0f} s",
            f"{s.wall / s.voices:.2f} s",
            f"{s.busy:.1%}",
            f"{s.calls:.1f}",
            f"{s.service_calls:.2f}",
            f"{s.creates}",
        )
        for s in storms
    ]
    busy = min(s.busy for s in storms)
    calls = max(s.calls for s in storms) / min(s.calls for s in storms)
    paired = max(row[0] for row in folders.values()) - min(row[0] for row in folders.values())
    growth = max(row[3] for row in folders.values())
    return Section(
        "Storms",
        f"Voices of 1 s and one portrait dropped at once; tasks of {TASK_SECONDS:g} s, one running and one next at the "
        "provider (the default), MinPollSeconds 1. `STORM=1000 make bench PART=storm` adds a storm of 1,000 (an hour). "
        "The folders are items of the Jobs table, looked at as evaluating does for one event.",
        [
            Table(
                "Wall: from the first drop to the last video.",
                (
                    "voices",
                    "wall",
                    "wall a job",
                    "provider busy",
                    "calls a job",
                    "requests to the service a job",
                    "creates",
                ),
                rows,
            ),
            Table(
                "One event in a large folder.",
                (
                    "pictures",
                    "queries, picture of its name",
                    "queries, none of its name",
                    "seconds of those",
                    "memory growth",
                ),
                [
                    (f"{n:,}", f"{paired_}", f"{alone}", f"{took:.2f} s", f"{grew:.1f} MiB")
                    for n, (paired_, alone, took, grew) in folders.items()
                ],
            ),
        ],
        [
            Mark("provider busy", f"≥ {BUSY:.0%}", f"≥ {busy:.1%}", busy >= BUSY, WHY_IDLE),
            Mark("calls a job, largest : smallest storm", "flat", f"{calls:.2f}", calls <= SPREAD, WHY_CALLS),
            Mark(
                "one paid task a voice",
                "1",
                f"{max(s.creates / s.voices for s in storms):g}",
                all(s.creates == s.voices for s in storms),
            ),
            Mark("queries of an event whose picture has its name", "same in any folder", f"{paired:+d}", paired == 0),
            Mark("memory for a folder of 10,000", "flat (≤ 16 MiB)", f"{growth:.1f} MiB", growth <= 16, WHY_MEMORY),
        ],
    )


WHY_IDLE = (
    "The provider is idle whenever a task ends before the next one is there: a poll, deliver and submit must fit into "
    "one task's time, and here they share two cores with the provider. Tasks of minutes leave it a hundred times that."
)
WHY_CALLS = (
    "A small storm pays for its stack's first calls; a large one makes more rounds of what is asked of the queue."
)
WHY_MEMORY = "A page of the table is 1 MB of items and is read whole; it would take a count kept with the folder."
