"""The report beside the video, as people and programs read it: built from the job, nothing secret in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from portraitcast.domain.job import Job, Portrait, Status, Task, Voice, iso
from portraitcast.domain.price import estimate
from portraitcast.domain.problems import Problem, show_link

SCHEMA: Final = "portraitcast.report/1"
SUBJECT_MAX: Final = 99  # Amazon SNS, "Publish": fewer than 100 characters
NOTICED: Final = frozenset({Status.DONE, Status.REJECTED, Status.FAILED})  # ends that a notice goes out for

Report: TypeAlias = dict[str, object]
"""A JSON object: fixed names, what isn't known is None."""

_HELD: Final = {
    "account": "the account at the video service must be put in order first; the operator has been told",
    "budget": "the day's budget is used up; it goes on with the next day (Beijing time)",
    "paused": "the operator has paused new videos",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """What is known of a queued job's turn.

    Attributes
    ----------
    place, of
        Place in the queue (1 is next) and the queue's length; None where counting would take too long.
    ahead
        Tasks that are at the provider already: they come before the whole queue.
    usual_seconds
        What a job usually takes at the provider, which makes one video at a time; 0 where nobody has seen it yet.
    """

    place: int | None = None
    of: int | None = None
    ahead: int = 0
    usual_seconds: float = 0.0


def build_report(job: Job, *, now: float, turn: Turn | None = None, upload_prefix: str = "") -> Report:
    """Return a job's report: every field is there, what isn't known is None.

    `turn` is for a queued job. `upload_prefix` is the stack's UploadPrefix: inside, keys begin behind it, and in a
    report they are those of the bucket.
    """
    turn = turn or Turn()
    error = job.problems[0] if job.problems else job.refused
    errors = [*job.problems, *([job.refused] if job.refused else [])]
    queued = job.shown_status is Status.QUEUED
    return {
        "schema": SCHEMA,
        "job": job.id,
        "name": job.name,
        "reference": job.inputs.reference,
        "metadata": job.inputs.voice.metadata if job.inputs.voice else None,
        "created_at": iso(job.created_at),
        "revision": job.revision,
        "as_of": iso(now),
        "status": job.shown_status.value,
        "message": _message(job, turn),
        "inputs": {
            "voice": _voice(job.inputs.voice, upload_prefix),
            "portrait": _portrait(job.inputs.portrait, upload_prefix),
            "settings": [
                {"key": upload_prefix + f.key, "version": f.version, "sha256": f.sha256}
                for f in job.inputs.settings_files
            ],
        },
        "candidates": {"keys": [upload_prefix + key for key in job.candidates.keys], "count": job.candidates.count}
        if job.candidates
        else None,
        "settings": _settings(job),
        "queue": {"place": turn.place, "of": turn.of, "held": job.held} if queued else None,
        "task": _task(job.task) if job.task else None,
        "video": _video(job),
        "cost_cny": {
            "estimate": estimate(job.inputs),
            "check": job.check_cost,
            "video": job.video_cost,
            "total": job.cost,
            "ever": round(job.paid_before + job.cost, 6),
        },
        "tries": job.tries,
        "asked_again_at": iso(job.asked_again_at) if job.asked_again_at is not None else None,
        "error": _problem(error) if error else None,
        "errors": [_problem(problem) for problem in errors],
    }


def subject(job: Job) -> str:
    """Return a notice's subject that a person can read: under 100 characters, no control characters.

    Counted in UTF-16 code units, as a service written in Java may count.
    """
    tail = f" is {job.shown_status}"
    name = "".join(c if c.isprintable() else " " for c in job.name)
    room = SUBJECT_MAX - _units("Portraitcast: ") - _units(tail)
    if _units(name) > room:
        while _units(name) > room - 1:
            name = name[1:]
        name = "…" + name
    return f"Portraitcast: {name}{tail}"


def folder_attribute(job: Job) -> str:
    """Return the folder to filter notices on: without its last slash, ``/`` for the root, no control characters."""
    return "".join(c if c.isprintable() else " " for c in job.folder) or "/"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _voice(voice: Voice | None, upload_prefix: str) -> Report | None:
    if voice is None:
        return None
    return {
        "key": upload_prefix + voice.key if voice.key else None,
        "url": show_link(voice.link) if voice.link else None,
        "version": voice.version,
        "sha256": voice.sha256,
        "bytes": voice.bytes,
        "seconds": voice.seconds,
        "type": voice.type,
        "changes": list(voice.changes),
    }


def _portrait(portrait: Portrait | None, upload_prefix: str) -> Report | None:
    if portrait is None:
        return None
    return {
        "key": upload_prefix + portrait.key if portrait.key else None,
        "url": show_link(portrait.link) if portrait.link else None,
        "version": portrait.version,
        "sha256": portrait.sha256,
        "bytes": portrait.bytes,
        "width": portrait.width,
        "height": portrait.height,
        "type": portrait.type,
        "changes": list(portrait.changes),
        "chosen_by": portrait.chosen_by,
    }


def _settings(job: Job) -> Report | None:
    settings = job.inputs.settings
    if settings is None:
        return None
    face = job.boxes.face if job.boxes else settings.face_bbox
    ext = job.boxes.ext if job.boxes else settings.ext_bbox
    boxes = {"face_bbox": list(face) if face else None, "ext_bbox": list(ext) if ext else None}
    return {"model": settings.model, **settings.parameters, **(boxes if settings.definition.takes_boxes else {})}


def _task(task: Task) -> Report:
    times = {name: getattr(task, name) for name in ("submit_time", "scheduled_time", "end_time")}
    return {"id": task.id, **{name: iso(at) if at is not None else None for name, at in times.items()}}


def _video(job: Job) -> Report | None:
    video = job.video
    if video is None:
        return None
    return {
        "bucket": video.bucket,
        "key": video.key,
        "bytes": video.bytes,
        "seconds": video.seconds,
        "width": video.width,
        "height": video.height,
        "sha256": video.sha256,
    }


def _problem(problem: Problem) -> Report:
    return {
        "code": problem.code,
        "provider_code": problem.provider_code,
        "provider_message": problem.provider_message,
        "request_id": problem.request_id,
        "limit": problem.limit,
        "measured": problem.measured,
        "what_to_do": problem.what_to_do,
    }


def _message(job: Job, turn: Turn) -> str:
    """Return what people are told, in plain sentences."""
    said = _status_message(job, turn)
    return f"{said} {job.refused.message}" if job.refused else said


def _status_message(job: Job, turn: Turn) -> str:
    match job.shown_status:
        case Status.QUEUED:
            return f"{_queued(job, turn)}{_about_links(job)}"
        case Status.RENDERING:
            return f"The video is being made.{_about_links(job)}"
        case Status.DONE:
            return f"The video is ready: {job.video.key if job.video else job.video_key}."
        case Status.WITHDRAWN:
            return "The file that asked for this video was deleted before the job was sent."
        case _:
            return " ".join(problem.message for problem in job.problems) or job.message


def _queued(job: Job, turn: Turn) -> str:
    if job.held:
        return f"Waiting in the queue: {_HELD[job.held]}."
    if turn.place is None:
        return "Waiting for its turn."
    place = f"place {turn.place} of {turn.of}" if turn.of is not None else f"place {turn.place}"
    seconds = (turn.ahead + turn.place) * turn.usual_seconds
    when = f"; its video should be there in {_about(seconds)}" if seconds else ""
    return f"Waiting for its turn: {place}{when}."


def _about_links(job: Job) -> str:
    if job.held or not any(file and file.link for file in (job.inputs.voice, job.inputs.portrait)):
        return ""
    return " The video service looks at linked files itself; we have not seen them."


def _about(seconds: float) -> str:
    """Return a length of time as people say it, no finer than it is known."""
    if seconds < 45:
        return "less than a minute"
    minutes = round(seconds / 60)
    if minutes < 2:
        return "a minute or two"
    if minutes < 100:
        return f"about {minutes} minutes"
    return f"about {round(minutes / 60)} hours"
