"""What the provider's refusals mean to the owner of the files, in plain words. Pure."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, Final

from portraitcast.errors import Problem

if TYPE_CHECKING:
    from portraitcast.emo import EmoError, JobRefusedError, Task

# Codes of the portrait check (EMO, emo-detect-v1, error codes): what is wrong, and the way out.
_PORTRAIT: Final = {
    "NoHuman": ("No person was found in the portrait.", "Use a clear photo of one person."),
    "MultiHuman": ("More than one person was found in the portrait.", "Use a photo of one person only."),
    "BodyProportion": ("The person is too large or too small in the portrait.", "Use a photo of head and shoulders."),
    "Resolution": ("The portrait's sides are outside the service's limits.", "Use a picture of 400 to 7000 px a side."),
    "Value": ("The portrait is unclear.", "Use a sharp, well lit photo."),
    "FrontBody": ("The person doesn't face the camera.", "Use a photo that is taken from the front."),
    "FullFace": ("The face is not whole in the portrait.", "Use a photo with the whole face, nothing before it."),
    "FacePose": ("The head is turned too far.", "Use a photo in which the person looks into the camera."),
    "FullBody": ("For a half-body video the body is not whole.", 'Use the ratio "1:1", or show the whole upper body.'),
}
_OTHER_PORTRAIT: Final = ("The video service refused the portrait.", "Use a clear photo of one person from the front.")


def portrait_refused(code: str, message: str, request_id: str | None, portrait: dict[str, Any]) -> Problem:
    """Return the problem of a portrait that the check did not pass."""
    said, way_out = _PORTRAIT.get(code.removeprefix("InvalidFile."), _OTHER_PORTRAIT)
    key = portrait.get("key")
    name = posixpath.basename(key) if key else "the linked portrait"
    then = "Drop the new one under the same name." if key else "Write its link into the JSON."
    return Problem(
        "PortraitRefused",
        f"{name}: {said}",
        f"{way_out} {then}",
        provider_code=code or None,
        provider_message=message or None,
        request_id=request_id,
    )


def provider_refused(error: JobRefusedError) -> Problem:
    """Return the problem of a job that the provider refused with its own words."""
    return Problem(
        "ProviderRejected",
        f"The video service refused this job: {error.message or error.code}",
        "Mend what the service names and drop the file again.",
        provider_code=error.code,
        provider_message=error.message or None,
        request_id=error.request_id,
    )


def account_refuses_job(error: EmoError) -> Problem:
    """Return the problem of a job that the account was blamed for, while the account took other jobs."""
    return Problem(
        "ProviderRejected",
        f"The video service refuses this job, but takes others: {error.message or error.code}",
        "Try another portrait or voice; if it goes on, ask the service's support with the request id.",
        provider_code=error.code,
        provider_message=error.message or None,
        request_id=error.request_id,
    )


def no_usable_answer() -> Problem:
    """Return the problem of a job whose creates never get a usable answer, while those of other jobs do."""
    return Problem(
        "TaskFailed",
        "The video service gives no usable answer to this job, but takes others.",
        "Try another portrait or voice; nothing was paid for this one.",
    )


def task_failed(task: Task) -> Problem:
    """Return the problem of a task that the provider ended without a video."""
    said = task.message or task.code
    return Problem(
        "TaskFailed",
        f"The video service could not make the video: {said}"
        if said
        else "The video service could not make the video.",
        "Drop the same files again for another try; if it fails again, try another portrait or voice.",
        provider_code=task.code,
        provider_message=task.message,
        request_id=task.request_id,
    )
