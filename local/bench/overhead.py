"""What the product adds to a job's time, and every call of AWS and of the service that a job makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.document import Mark, Section, Table
from bench.stack import PORTRAIT, QUICK, Recording, hum, stack, videos

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

JOBS = 12
VOICE_SECONDS, TASK_SECONDS = 1.0, 1.5

# The most calls of a clean job: a voice dropped where the portrait of its name is (its check is remembered), functions
# warm, the video delivered. Of status for each poll. Held by tests/e2e/test_calls.py.
CALLS = {
    ("submit", "dynamodb.Query"): 11,
    ("submit", "dynamodb.GetItem"): 8,  # one for the question to the bucket before the last evaluation
    ("submit", "dynamodb.PutItem"): 5,
    ("submit", "dynamodb.UpdateItem"): 2,
    ("submit", "dynamodb.TransactWriteItems"): 5,
    ("submit", "s3.ListObjectsV2"): 2,
    ("submit", "s3.PutObject .json"): 4,
    ("submit", "events.PutEvents"): 4,
    ("submit", "sqs.SendMessage"): 3,
    ("submit", "sts.AssumeRole"): 1,
    ("submit", "emo.create"): 1,
    ("submit", "stepfunctions.StartExecution"): 1,
    ("prepare", "s3.GetObject .png"): 1,
    ("prepare", "s3.GetObject .wav"): 1,
    ("prepare", "sqs.SendMessage"): 2,
    ("status", "emo.query"): 1,
    ("deliver", "emo.query"): 1,
    ("deliver", "dynamodb.GetItem"): 2,
    ("deliver", "dynamodb.UpdateItem"): 1,
    ("deliver", "dynamodb.Query"): 1,
    ("deliver", "dynamodb.TransactWriteItems"): 1,
    ("deliver", "dynamodb.PutItem"): 1,
    ("deliver", "video.GET"): 1,
    ("deliver", "s3.PutObject .mp4"): 1,
    ("deliver", "s3.PutObject .json"): 1,
    ("deliver", "events.PutEvents"): 1,
    ("deliver", "sns.Publish"): 1,
}


@dataclass(frozen=True)
class Jobs:
    """What jobs dropped one after the other took.

    Attributes
    ----------
    to_create
        s from the voice's PUT being answered to its create being sent, a job.
    to_bucket
        s from a video being ready to its being in the bucket, a job.
    from_poll
        s of that after the poll that saw it ready.
    calls
        (function, call) → times, a job.
    recordings
        What the functions did, a job.
    transitions
        How often an execution entered each state, an execution.
    """

    to_create: list[float]
    to_bucket: list[float]
    from_poll: list[float]
    calls: list[Counter[tuple[str, str]]]
    recordings: list[Recording]
    transitions: list[Counter[str]]


@cache
def one_by_one(jobs: int = JOBS) -> Jobs:
    """Drop jobs one after the other, each when the one before has been delivered, and the first ones to warm up."""
    with stack(QUICK, task_seconds=TASK_SECONDS) as running:
        found = Jobs([], [], [], [], [], [])
        for number in range(jobs + 2):
            running.drop(f"bench/line-{number}.png", PORTRAIT.read_bytes())
            running.quiet(1.0)
            dropped = running.drop(f"bench/line-{number}.wav", hum(VOICE_SECONDS, number))
            running.wait(lambda r, n=number: len(videos(r)) > n, "a video")  # type: ignore[misc]  # bound now
            recording = running.quiet().since(dropped - 0.5)
            if number < 2:
                continue
            task, video = running.tasks()[-1], videos(recording)[-1]
            polls = [c for c in recording.calls if c.function == "status" and c.call == "emo.query"]
            found.to_create.append(task["submitted_at"] - dropped)
            found.to_bucket.append(video.ended - task["ended_at"])
            found.from_poll.append(video.ended - polls[-1].ended)
            found.calls.append(recording.count())
            found.recordings.append(recording)
        found.transitions.extend(running.transitions())
    return found


def end_to_next(jobs: int = JOBS) -> tuple[list[float], list[float]]:
    """Drop all jobs at once with one task in flight, and then two.

    Returns, for the first, the time from the end of a task to the create of the next, and for the second to the start
    of the next, s.
    """
    found = []
    for in_flight, key in ((1, "submitted_at"), (2, "started_at")):
        with stack({**QUICK, "MaxTasksInFlight": str(in_flight)}, task_seconds=TASK_SECONDS) as running:
            running.drop("bench/anna.png", PORTRAIT.read_bytes())
            for number in range(jobs + 1):
                running.drop(f"bench/line-{number:02}.wav", hum(VOICE_SECONDS, number))
            running.wait(lambda r: len(videos(r)) > jobs, "all videos", seconds=300)
            found.append(gaps(running.tasks(), key))
    return found[0], found[1]


def gaps(tasks: Sequence[dict[str, Any]], key: str) -> list[float]:
    """Return the times from each task's end to the next one's `key`, s."""
    ordered = sorted(tasks, key=lambda task: task["started_at"])
    return [later[key] - earlier["ended_at"] for earlier, later in pairwise(ordered)]


def usual(calls: Sequence[Counter[tuple[str, str]]]) -> dict[tuple[str, str], float]:
    """Return the median count of each call, without those that most jobs don't make."""
    kinds = sorted({kind for count in calls for kind in count})
    medians = {kind: float(median(count[kind] for count in calls)) for kind in kinds}
    return {kind: times for kind, times in medians.items() if times}


def beyond_table(jobs: Jobs) -> dict[tuple[str, str], int]:
    """Return the calls that every one of the jobs made more often than `CALLS` says, and how often at the least."""
    least: dict[tuple[str, str], int] = {}
    for kind in {kind for count in jobs.calls for kind in count}:
        least[kind] = min(count[kind] for count in jobs.calls)
    polls = max(sum(i.function == "status" for i in r.invocations) for r in jobs.recordings)
    return {
        (function, call): times
        for (function, call), times in least.items()
        if times > CALLS.get((function, call), 0) * (polls if function == "status" else 1)
    }


def seconds(values: Sequence[float]) -> tuple[str, str, str]:
    """Return median, least and most in words."""
    return f"{median(values):.2f} s", f"{min(values):.2f} s", f"{max(values):.2f} s"


def measure() -> Section:
    """Run this part."""
    jobs = one_by_one()
    one, two = end_to_next()
    times = Table(
        f"Seconds ({JOBS} jobs a row).",
        ("from … to", "median", "least", "most"),
        [
            ("voice dropped → create sent (beside PairSeconds)", *seconds(jobs.to_create)),
            ("video ready → video in the bucket", *seconds(jobs.to_bucket)),
            ("of that, from the poll that saw it", *seconds(jobs.from_poll)),
            ("end of one → create of the next, one task in flight", *seconds(one)),
            ("end of one → start of the next, two in flight (the default)", *seconds(two)),
        ],
    )
    calls = usual(jobs.calls)
    rows = [(function, call, f"{times:g}") for (function, call), times in calls.items()]
    total = sum(calls.values())
    beyond = beyond_table(jobs)
    return Section(
        "Overhead of a job",
        "template.yaml on the local engine with the simulator, roles enforced, a recorder beside the functions. A "
        f"voice of {VOICE_SECONDS:g} s whose portrait is there, tasks of {TASK_SECONDS:g} s, MinPollSeconds 1 and "
        "PairSeconds 0, so that what is left is the product's own; processes are warm. Where a "
        "task's end must be seen, up "
        "to a second of waiting for the next poll is in the figure.",
        [
            times,
            Table("Calls of a job, median by kind.", ("function", "call", "times"), [*rows, ("all", "", f"{total:g}")]),
        ],
        [
            Mark(
                "calls of a job, by kind",
                "none beyond `CALLS` of `bench.overhead`",
                f"{total:g} in all",
                not beyond,
                f"Beyond it: {beyond}.",
            )
        ],
        [
            (
                "What could still go, and why it stays. Writing `rendering` reads job and slots again, though "
                "both were just "
                "written (2 reads): while the create is on the wire, others free slots. deliver asks for the video's "
                "metadata before it downloads (1 HEAD): so a video that was put before its function died is not "
                "fetched "
                "twice, nor lost with its link. Each telling clears its mark (3 writes): the mark is what makes a lost "
                "telling come again. The report's place in the queue takes two counts."
            ),
        ],
    )
