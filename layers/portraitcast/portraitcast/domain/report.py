"""The report beside the video, as people and programs read it: built from the job, nothing secret in it. Pure."""

from __future__ import annotations

from typing import Any, Final

from portraitcast.domain.job import DONE, QUEUED, RENDERING, WITHDRAWN, Job, iso
from portraitcast.domain.matching import shown_file
from portraitcast.domain.prices import CHECK_CNY

SCHEMA: Final = "portraitcast.domain.report/1"
SUBJECT_MAX: Final = 99  # SNS: fewer than 100 characters

_FILE: Final = ("key", "url", "version", "sha256", "bytes")
_PROBLEM: Final = (
    "code",
    "message",
    "provider_code",
    "provider_message",
    "request_id",
    "limit",
    "measured",
    "what_to_do",
)
_HELD: Final = {
    "account": "the account at the video service must be put in order first; the operator has been told",
    "budget": "the day's budget is used up; it goes on with the next day (Beijing time)",
    "paused": "the operator has paused new videos",
}


def build_report(
    job: Job,
    *,
    now: float,
    place: tuple[int | None, int | None] = (None, None),
    usual_seconds: float | None = None,
    ahead: int = 0,
) -> dict[str, Any]:
    """Return a job's report (product page, section 2): every field is there, what isn't known is None.

    Parameters
    ----------
    place
        Place in the queue (1 is next) and length of the queue, for a queued job.
    usual_seconds
        What a job usually takes at the provider, which makes one video at a time; None where nobody can tell.
    ahead
        Tasks that are at the provider already: they come before the whole queue.
    """
    check = round(job.checks_paid * CHECK_CNY, 6)
    problem = job.problem
    return {
        "schema": SCHEMA,
        "job": job.id,
        "name": job.name,
        "revision": job.revision,
        "as_of": iso(now),
        "status": job.shown_status,
        "message": _message(job, place, usual_seconds, ahead),
        "inputs": {
            "voice": shown_file(job.voice, (*_FILE, "seconds", "type")),
            "portrait": shown_file(job.portrait, (*_FILE, "width", "height", "type", "chosen_by")),
            "settings": job.settings_files,
        },
        "candidates": job.candidates,
        "settings": _settings(job),
        "queue": {"place": place[0], "of": place[1], "held": job.held} if job.shown_status == QUEUED else None,
        "task": {k: job.task.get(k) for k in ("id", "submit_time", "scheduled_time", "end_time")} if job.task else None,
        "video": job.video,
        "cost_cny": {"check": check, "video": job.video_cost, "total": round(check + (job.video_cost or 0.0), 6)},
        "tries": job.tries,
        "asked_again_at": iso(job.asked_again_at),
        "error": {name: problem.get(name) for name in _PROBLEM if name != "message"} if problem else None,
    }


def subject(job: Job) -> str:
    """Return a notice's subject that a person can read: under 100 characters, no control characters."""
    tail = f" is {job.shown_status}"
    name = "".join(c if c.isprintable() else " " for c in job.name)
    room = SUBJECT_MAX - len("Portraitcast: ") - len(tail)
    if len(name) > room:
        name = "…" + name[-(room - 1) :]
    return f"Portraitcast: {name}{tail}"


def folder_attribute(job: Job) -> str:
    """Return the folder to filter notices on: without its last slash, ``/`` for the root."""
    return job.folder or "/"


def _settings(job: Job) -> dict[str, Any] | None:
    if job.settings is None:
        return None
    fields = ("model", "style_level", "ratio", "face_bbox", "ext_bbox")
    settings = {name: job.settings.get(name) for name in fields}
    if job.boxes:
        settings |= {"face_bbox": job.boxes["face"], "ext_bbox": job.boxes["ext"]}
    return settings


def _message(job: Job, place: tuple[int | None, int | None], usual_seconds: float | None, ahead: int) -> str:
    if job.shown_status == QUEUED:
        if job.held:
            return f"Waiting in the queue: {_HELD[job.held]}."
        if place[0] is None or place[1] is None:
            return f"Waiting for its turn.{_about_links(job)}"
        seconds = (ahead + place[0]) * (usual_seconds or 0.0)
        when = f"; its video should be there in {_about(seconds)}" if seconds else ""
        return f"Waiting for its turn: place {place[0]} of {place[1]}{when}.{_about_links(job)}"
    if job.status == RENDERING:
        return job.message or f"The video is being made.{_about_links(job)}"
    if job.status == DONE:
        return f"The video is ready: {job.video_key}."
    if job.status == WITHDRAWN:
        return "The file that asked for this video was deleted before the job was sent."
    return job.problem["message"] if job.problem else job.message


def _about_links(job: Job) -> str:
    linked = any((file or {}).get("link") for file in (job.voice, job.portrait))
    return " The video service looks at linked files itself; we have not seen them." if linked else ""


def _about(seconds: float) -> str:
    """Return a length of time as people say it, no finer than it is known."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return "a minute or two"
    if minutes < 100:
        return f"about {minutes} minutes"
    return f"about {round(minutes / 60)} hours"
