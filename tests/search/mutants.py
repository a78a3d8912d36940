"""The product with one of its mends taken out, each by the number of its fault: the search must find every one.

`docs/faults.md` lists what they mend. Each mutant restores what the product did before.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from portraitcast.domain.account import Account
from portraitcast.domain.job import Job, Video
from portraitcast.domain.uploads import Upload
from portraitcast.errors import ConflictError
from portraitcast.workflows import create_task, reconcile_create
from portraitcast.workflows.deliver import Deliver
from portraitcast.workflows.ingest import Ingest
from portraitcast.workflows.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portraitcast.adapters.buckets import StoredVideo
    from portraitcast.adapters.download import Fetched

Change = tuple[Any, str, Any]


def a_list_is_believed() -> list[Change]:
    """7: a list that contradicts what is known counts as one that found nothing."""
    return [(reconcile_create, "_clock_skew", lambda _known, _tasks: 0.0)]


def candidates_are_forgotten() -> list[Change]:
    """12: the tasks named in CreateAmbiguous are not remembered, nor up to when a create was unsettled."""
    drop = Account.drop_create

    def drop_create(self: Account, owner: str, now: float, *, paid: bool = False) -> Account:
        return replace(drop(self, owner, now, paid=paid), unsettled_until=0.0)

    return [(create_task, "REMEMBERED_TASKS", 0), (Account, "drop_create", drop_create)]


def a_slow_deliver_puts() -> list[Change]:
    """13: the job isn't read again before the PUT, and the PUT replaces whatever is there."""

    def put(self: Deliver, job: Job, brought: Fetched, _there: StoredVideo | None) -> tuple[Job, Video]:
        found = brought.video
        video = Video(job.video_key, found.bytes, found.seconds, found.width, found.height, brought.sha256)
        while True:
            with suppress(ConflictError):
                there = self._results.video(job.video_key)
                self._results.put_video(video, job.id, job.video_mark, brought.file, over=there)
                return job, video

    return [(Deliver, "_put", put)]


def a_known_version_keeps_its_order() -> list[Change]:
    """14: an event about a version that is known doesn't raise its sequencer, and doubt asks nobody.

    What is asked of the bucket before a create (18) hides it, so that is taken out too.
    """
    return [
        (Ingest, "_known_again", lambda _self, _upload, known: known),
        (Upload, "follows", lambda _self, _known: True),
        *a_missed_file_is_missed(),
    ]


def a_follow_up_is_forgotten() -> list[Change]:
    """15: a job whose new files wait for the end of a create isn't in the sweep's index, nor evaluated by the sweep."""

    def needs_attention(self: Job) -> bool:
        return self.unpublished or self.at_provider or self.being_read or bool(self.orphans)

    def reconcile_old(self: Sweep, job_id: str) -> None:
        job = self._table.job(job_id)
        if job is not None:
            self._publish.job(job)
            self._monitor.ensure_monitored(job)
            self._monitor.release_orphans(job)

    return [(Job, "needs_attention", property(needs_attention)), (Sweep, "_reconcile_old", reconcile_old)]


def a_missed_file_is_missed() -> list[Change]:
    """18: the bucket isn't asked before a create for files whose events are late."""
    return [(Ingest, "find_missed", lambda _self, _job: False)]


MUTANTS: Final[dict[int, Callable[[], list[Change]]]] = {
    7: a_list_is_believed,
    12: candidates_are_forgotten,
    13: a_slow_deliver_puts,
    14: a_known_version_keeps_its_order,
    15: a_follow_up_is_forgotten,
    18: a_missed_file_is_missed,
}


@contextmanager
def mutant(number: int | None) -> Iterator[None]:
    """Take a mend out meanwhile; none where there is no number."""
    changes = MUTANTS[number]() if number is not None else []
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
