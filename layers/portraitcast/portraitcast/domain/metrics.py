"""What is measured, under which names: the business of a stack. Pure.

Powertools writes it in CloudWatch's embedded metric format.
Namespace ``Portraitcast``, one dimension: ``service``, the stack's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portraitcast.domain.job import DONE, FAILED, REJECTED, RENDERING, Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.domain.account import Slots

    Meter = Callable[[str, float], None]

NAMESPACE: Final = "Portraitcast"
UNITS: Final = {
    "VideosDelivered": "Count",
    "VideoSeconds": "Seconds",  # of finished video
    "FeesCny": "None",  # what the provider takes for it, CNY
    "TimeToVideo": "Seconds",  # from the pair being whole to the video in the bucket
    "QueueWait": "Seconds",  # from the pair being whole to its task
    "JobsRejected": "Count",
    "JobsFailed": "Count",
    "QueueLength": "Count",  # with each sweep, as are the next three
    "OldestQueued": "Seconds",
    "TasksInFlight": "Count",
    "AccountHeld": "Count",  # 1 while it is held
}


def job_metrics(job: Job, now: float) -> dict[str, float]:
    """Return what a job's newest change adds, by the names of `UNITS`."""
    if job.status == DONE and job.video is not None:
        return {
            "VideosDelivered": 1,
            "VideoSeconds": float(job.video["seconds"]),
            "FeesCny": job.video_cost or 0.0,
            "TimeToVideo": max(0.0, now - job.ready_at),
        }
    if job.status == RENDERING and job.task_sent_at is not None:
        return {"QueueWait": max(0.0, job.task_sent_at - job.ready_at)}
    if job.status == FAILED:
        return {"JobsFailed": 1}
    return {"JobsRejected": 1} if job.status == REJECTED else {}


def account_metrics(slots: Slots, queue_length: int, oldest_queued: float) -> dict[str, float]:
    """Return how the stack stands: tasks, jobs, seconds that the oldest has been queued."""
    return {
        "QueueLength": queue_length,
        "OldestQueued": oldest_queued,
        "TasksInFlight": len(slots.owners),
        "AccountHeld": 1 if slots.hold else 0,
    }
