"""What is measured, under which names: the business of a stack.

Powertools writes it in CloudWatch's embedded metric format.
Namespace ``Portraitcast``, one dimension: ``service``, the stack's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portraitcast.domain.job import Job, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.domain.account import Account

    Meter = Callable[[str, float], None]

UNITS: Final = {
    "VideosDelivered": "Count",
    "VideoSeconds": "Seconds",  # of finished video
    "FeesCny": "None",  # what the provider takes for it, CNY
    "TimeToVideo": "Seconds",  # from the pair being whole to the video in the bucket
    "QueueWait": "Seconds",  # from the pair being whole to its task
    "JobsRejected": "Count",
    "JobsFailed": "Count",
    "QueueLength": "Count",  # with each sweep, as are the next four
    "OldestQueued": "Seconds",
    "TasksInFlight": "Count",
    "AccountHeld": "Count",  # 1 while the circuit breaker is open
    "Sweeps": "Count",  # 1 with each sweep: where it is missing, the stack stands still
}


def job_metrics(job: Job, now: float) -> dict[str, float]:
    """Return what a job's newest change adds, by the names of `UNITS`."""
    match job.status:
        case Status.DONE if job.video is not None:
            return {
                "VideosDelivered": 1,
                "VideoSeconds": job.video.seconds,
                "FeesCny": job.video_cost or 0.0,
                "TimeToVideo": max(0.0, now - job.ready_at),
            }
        case Status.RENDERING if job.task is not None:
            return {"QueueWait": max(0.0, job.task.sent_at - job.ready_at)}
        case Status.FAILED:
            return {"JobsFailed": 1}
        case Status.REJECTED:
            return {"JobsRejected": 1}
        case _:
            return {}


def account_metrics(account: Account, queue_length: int, oldest_queued: float) -> dict[str, float]:
    """Return how the stack stands: tasks, jobs, seconds that the oldest has been queued."""
    return {
        "QueueLength": queue_length,
        "OldestQueued": oldest_queued,
        "TasksInFlight": len(account.tasks_in_flight),
        "AccountHeld": 1 if account.breaker else 0,
        "Sweeps": 1,
    }
