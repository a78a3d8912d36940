"""Every problem of a file or a job: its code, words, limit, measured value and way out; and redaction of others' words.

Problems of files are made where they are measured (the media layer), those of settings in `settings`. What the
provider says, and what befalls a task, is put into words here.
"""

from __future__ import annotations

import math
import posixpath
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

SHOWN_MAX: Final = 80  # ours: characters of somebody's value that a message repeats
NAME_MAX: Final = 200  # ours: characters of a file's name that a message repeats


@dataclass(frozen=True, slots=True)
class Problem:
    """What a person is told about a job that waits, was rejected, or failed: `error` in the report.

    Attributes
    ----------
    code
        One of the codes of the report (docs/integration.md), such as ``PortraitTooSmall``.
    message
        One plain sentence: what is wrong.
    what_to_do
        One plain sentence: the way out.
    limit, measured
        The limit and the value that broke it, in words with their unit ("60 s", "61.2 s"), or None.
    provider_code, provider_message, request_id
        The provider's own words, where it has said something.
    """

    code: str
    message: str
    what_to_do: str
    limit: str | None = None
    measured: str | None = None
    provider_code: str | None = None
    provider_message: str | None = None
    request_id: str | None = None


class ProblemError(Exception):
    """Something about a file or a setting is wrong and its owner must mend it; carries the `Problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def file_unreadable(key: str, why: str) -> Problem:
    """Return the problem of a file that S3 will never hand out; `why` in words for its owner."""
    return Problem(
        "FileUnreadable",
        f"{posixpath.basename(key)} can't be read from the bucket: {why}.",
        "Upload it again, in the storage class Standard and without an encryption key of your own.",
        measured=why,
    )


# ---------------------------------------------------------------------- what the provider says of a portrait or a job
# Codes of the portrait check (Model Studio, emo-detect-v1, error codes): what is wrong, and the way out.
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


def portrait_refused(code: str, message: str, request_id: str | None, portrait_key: str | None) -> Problem:
    """Return the problem of a portrait that the check did not pass; `portrait_key` is None for a link."""
    said, way_out = _PORTRAIT.get(code.removeprefix("InvalidFile."), _OTHER_PORTRAIT)
    name = posixpath.basename(portrait_key) if portrait_key else "the linked portrait"
    then = "Drop the new one under the same name." if portrait_key else "Write its link into the JSON."
    return Problem(
        "PortraitRefused",
        f"{name}: {said}",
        f"{way_out} {then}",
        provider_code=code or None,
        provider_message=message or None,
        request_id=request_id,
    )


def approval_needed(price: float, above: float) -> Problem:
    """Return the problem of a job whose price somebody must approve first (both in CNY)."""
    least = f"{math.ceil(price * 100 - 1e-6) / 100:.2f}"  # whole cents that are enough
    return Problem(
        "ApprovalNeeded",
        f"This video costs up to CNY {least}; above CNY {above:.2f} somebody must approve the price first.",
        f'Write {{"job": {{"approved_cny": {least}}}}} into the job\'s own JSON, or ask the operator to approve it.',
        limit=f"CNY {above:.2f}",
        measured=f"CNY {least}",
    )


def provider_refused(code: str, message: str, request_id: str | None) -> Problem:
    """Return the problem of a job that the provider refused with its own words."""
    return Problem(
        "ProviderRejected",
        f"The video service refused this job: {message or code}",
        "Mend what the service names and drop the file again.",
        provider_code=code,
        provider_message=message or None,
        request_id=request_id,
    )


def account_refuses_job(code: str, message: str, request_id: str | None) -> Problem:
    """Return the problem of a job that the account was blamed for, while the account took other jobs."""
    return Problem(
        "ProviderRejected",
        f"The video service refuses this job, but takes others: {message or code}",
        "Try another portrait or voice; if it goes on, ask the service's support with the request id.",
        provider_code=code,
        provider_message=message or None,
        request_id=request_id,
    )


def no_usable_answer() -> Problem:
    """Return the problem of a job whose creates never get a usable answer, while those of other jobs do."""
    return Problem(
        "TaskFailed",
        "The video service gives no usable answer to this job, but takes others.",
        "Try another portrait or voice; nothing was paid for this one.",
    )


def create_ambiguous(task_ids: list[str], why: str) -> Problem:
    """Return the problem of a create of unknown outcome that no look at the service's list could settle.

    `why` is the trouble with the list where it never came to candidates, "" where it did.
    """
    if not task_ids:
        return Problem(
            "CreateAmbiguous",
            "Nobody knows whether the video service took this job: its list of tasks did not tell within an hour.",
            "Ask the operator to look at the service's tasks; drop the files again to have the video made in any case.",
            limit="1 h",
            measured=why or None,
        )
    return Problem(
        "CreateAmbiguous",
        "Nobody knows whether the video service took this job, and which of its tasks it would be.",
        "Ask the operator to look at these tasks; drop the files again to have the video made in any case.",
        measured=f"tasks {', '.join(task_ids[:20])}",
    )


def over_budget(price: float, ceiling: float) -> Problem:
    """Return the problem of a job that alone costs more than a whole day may (CNY)."""
    return Problem(
        "OverBudget",
        f"This video would cost CNY {price:.2f}, and the stack may spend CNY {ceiling:g} a day.",
        "Make the voice shorter, or ask the operator to raise DailyBudgetCny; then drop the file again.",
        limit=f"CNY {ceiling:g} a day",
        measured=f"CNY {price:.2f}",
    )


# ---------------------------------------------------------------------- what befalls a task
def task_failed(code: str | None, message: str | None, request_id: str | None) -> Problem:
    """Return the problem of a task that the provider ended without a video."""
    said = message or code
    return Problem(
        "TaskFailed",
        f"The video service could not make the video: {said}"
        if said
        else "The video service could not make the video.",
        "Drop the same files again for another try; if it fails again, try another portrait or voice.",
        provider_code=code,
        provider_message=message,
        request_id=request_id,
    )


def task_life_over(task: str) -> Problem:
    """Return the problem of a task that gave no video within the 24 hours that it lives."""
    return Problem(
        "TaskFailed",
        "The video service gave no video within the 24 hours that a task lives.",
        "Drop the same files again for another try.",
        limit="24 h",
        measured=f"task {task}",
    )


def no_video_link(task: str, request_id: str | None) -> Problem:
    """Return the problem of a task that succeeded and names no video, each time it is asked."""
    return Problem(
        "TaskFailed",
        "The video service says that the video is ready but gives no link to it.",
        "Drop the same files again for another try; tell the service's support the task's id.",
        request_id=request_id,
        measured=f"task {task}",
    )


def wrong_length(voice_seconds: float, video_seconds: float, margin: float) -> Problem:
    """Return the problem of an adopted task whose video is not as long as the voice: it may be another person's."""
    return Problem(
        "CreateAmbiguous",
        "The only task that could be this job's made a video of another length, so it was not delivered.",
        "Ask the operator to look at the task; drop the files again to have the video made in any case.",
        limit=f"{voice_seconds:g} s ± {margin:g} s",
        measured=f"{video_seconds:.2f} s",
    )


def not_delivered(task: str, why: str) -> Problem:
    """Return the problem of a video that was made and could not be downloaded while its link lived."""
    return Problem(
        "DeliveryFailed",
        f"The video was made but could not be brought within the 24 hours that its link lives: {why}.",
        "Drop the same files again to have it made anew; the operator's page says how to fetch such a video by hand.",
        limit="24 h",
        measured=f"task {task}",
    )


def execution_aborted(*, cancelled: bool) -> Problem:
    """Return the problem of a job whose execution somebody ended by hand."""
    rest = "Its task was cancelled, so nothing is paid." if cancelled else "Its task goes on at the video service."
    return Problem(
        "ExecutionAborted",
        f"Somebody ended this job's execution by hand. {rest}",
        "Drop the same files again to have the video after all.",
    )


# ---------------------------------------------------------------------- redaction
# From behind the scheme on: a search for schemes would look at each letter thirty times.
_LINK: Final = re.compile(r"(:(?:\\?/){2})(?:[^\s/?#]*@)?([^\s?#]*)(?:[?#]\S*)?")
_SIGNED: Final = re.compile(  # repetitions have a bound: "x-amz-x-amz-…" would take time by the square of its length
    r"\b(x-amz-[a-z-]{1,40}+|x-oss-[a-z-]{1,40}+|signature|ossaccesskeyid|awsaccesskeyid|security-token)(=|%3d)\S+",
    re.IGNORECASE,
)
_KEY: Final = re.compile(r"\bsk-[A-Za-z0-9_.-]{4,}")
_TURNS: Final = (
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # characters that turn the direction of reading
)


def show_link(url: str) -> str:
    """Return a link as people may see it: without user-info, query and fragment, where secrets are kept."""
    return re.sub(r"^([^/?#]*//)?[^/?#]*@", r"\1", re.split(r"[?#]", url, maxsplit=1)[0])


def scrub(text: str) -> str:
    """Take what may be secret out of somebody's text: links' user-info, query and fragment, signatures, API keys."""
    return _KEY.sub("sk-…", _SIGNED.sub(r"\1=…", _LINK.sub(r"\1\2", text)))


def plain(text: str, most: int = SHOWN_MAX) -> str:
    """Return text as one short line that any encoding and any terminal takes."""
    line = "".join("\N{REPLACEMENT CHARACTER}" if controls(char) else char for char in text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"


def controls(char: str) -> bool:
    """Say whether a character is a control, a line end, half a surrogate pair, or turns the direction of reading."""
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _TURNS
