"""What is said about a file that is refused: code, words, limit, measured value, way out."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final

from portraitcast_media.limits import (
    MIB,
    PORTRAIT_FIT_SIDE,
    PORTRAIT_MAX_BYTES,
    PORTRAIT_MAX_PIXELS,
    PORTRAIT_MAX_SIDE,
    PORTRAIT_MIN_SIDE,
    VOICE_MAX_BYTES,
    VOICE_SILENT_DBFS,
)

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_REASON_MAX: Final = 200  # characters of a decoder's own words


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file can't be used, for its owner.

    Attributes
    ----------
    code
        One of the codes of the report, such as ``PortraitTooSmall``.
    message
        One plain sentence: what is wrong.
    what_to_do
        One plain sentence: the way out.
    limit, measured
        The limit and the value that broke it, in words with their unit ("300 px", "280 px"), or None.
    """

    code: str
    message: str
    what_to_do: str
    limit: str | None = None
    measured: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, for a message."""
        return asdict(self)


class RefusedError(Exception):
    """A file can't be used and its owner must mend it; carries the `Problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def name_of(key: str) -> str:
    """Return the file's own name for a sentence: without its folders, and without control characters."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", key.rpartition("/")[2])


def over(limit: float, measured: float, unit: str) -> tuple[str, str]:
    """Return a limit and a value over it in print, with as many decimals as it takes to tell them apart."""
    for decimals in range(1, 12):
        text = f"{measured:.{decimals}f}"
        if float(text) > limit:
            break
    return f"{limit:g} {unit}", f"{text} {unit}"


def reason_of(error: BaseException) -> str:
    """Return a decoder's own words, short and on one line; its name where it says nothing."""
    words = getattr(error, "strerror", None) or str(error)
    words = " ".join(_CONTROLS.sub(" ", words).split()).rstrip(".")
    words = re.sub(r"[:;]? ?'?(/proc/self/fd/\d+|<_io\.[^>]*>)'?", "", words)
    return words[:_REASON_MAX] or type(error).__name__


# ---------------------------------------------------------------- voices


def voice_empty(key: str, reason: str = "the file is empty, 0 bytes") -> Problem:
    """``VoiceEmpty``: no bytes, or no sound in them."""
    return Problem(
        code="VoiceEmpty",
        message=f"“{name_of(key)}” holds no sound: {reason}.",
        what_to_do="Upload it again; if that doesn't help, open it in a sound program and save it as an MP3 or WAV.",
        limit="a sound longer than 0 s",
        measured="0 s",
    )


def voice_too_big(key: str, size: int) -> Problem:
    """``VoiceTooBig``: more bytes than are ever downloaded."""
    limit, measured = over(VOICE_MAX_BYTES / MIB, size / MIB, "MB")
    return Problem(
        code="VoiceTooBig",
        message=f"“{name_of(key)}” has {measured}; a voice may have at most {limit}.",
        what_to_do="Save the voice as an MP3, or make it shorter.",
        limit=limit,
        measured=measured,
    )


def voice_too_long(key: str, limit_seconds: float, seconds: float | None) -> Problem:
    """``VoiceTooLong``: `seconds` is what the file says of itself, or None where it says nothing that can be true."""
    limit = f"{limit_seconds:g} s"
    measured = f"more than {limit}" if seconds is None else over(limit_seconds, seconds, "s")[1]
    return Problem(
        code="VoiceTooLong",
        message=f"“{name_of(key)}” lasts {measured}; a voice may last at most {limit}.",
        what_to_do=f"Cut it to {limit} or less, or split it into several files: each becomes a video.",
        limit=limit,
        measured=measured,
    )


def voice_is_video(key: str, sound: bool) -> Problem:
    """``VoiceIsVideo``: a moving picture is in it, so it may be someone's finished film."""
    return Problem(
        code="VoiceIsVideo",
        message=f"“{name_of(key)}” is a video{'' if sound else ' without sound'}; a voice must be sound alone.",
        what_to_do="Save its sound as an M4A, MP3 or WAV and upload that."
        if sound
        else "Upload the voice as a sound file, such as an M4A, MP3 or WAV.",
        limit="sound without a moving picture",
        measured="sound with a moving picture" if sound else "a moving picture without sound",
    )


def voice_silent(key: str, peak_dbfs: float | None) -> Problem:
    """``VoiceSilent``: no sample is loud enough to be heard; None is digital silence."""
    loudest = "every sample is zero" if peak_dbfs is None else f"its loudest sample is at {peak_dbfs:.1f} dBFS"
    return Problem(
        code="VoiceSilent",
        message=f"“{name_of(key)}” is silent throughout: {loudest}.",
        what_to_do="Check that the microphone was on, record it again and upload that.",
        limit=f"a peak of at least {VOICE_SILENT_DBFS:g} dBFS",
        measured="digital silence" if peak_dbfs is None else f"{peak_dbfs:.1f} dBFS",
    )


def voice_unreadable(key: str, reason: str, really: str | None = None) -> Problem:
    """``VoiceUnreadable``: not a sound, damaged, or of a kind that no decoder here knows."""
    if really:
        return Problem(
            code="VoiceUnreadable",
            message=f"“{name_of(key)}” is really {really}; a voice must be a sound file.",
            what_to_do="Save the voice as an M4A, MP3 or WAV and upload that.",
            limit="a sound file",
            measured=really,
        )
    return Problem(
        code="VoiceUnreadable",
        message=f"“{name_of(key)}” can't be read as sound: {reason}.",
        what_to_do="Upload it again; if that doesn't help, open it in a sound program and save it as an MP3 or WAV.",
        limit="a sound file that can be decoded",
        measured=reason,
    )


# ---------------------------------------------------------------- portraits


def portrait_too_big(key: str, size: int) -> Problem:
    """``PortraitTooBig``: more bytes than are ever downloaded."""
    limit, measured = over(PORTRAIT_MAX_BYTES / MIB, size / MIB, "MB")
    return Problem(
        code="PortraitTooBig",
        message=f"“{name_of(key)}” has {measured}; a portrait may have at most {limit}.",
        what_to_do="Save the picture as a JPEG, or make its sides smaller.",
        limit=limit,
        measured=measured,
    )


def portrait_too_small(key: str, width: int, height: int) -> Problem:
    """``PortraitTooSmall``: enlarging it would show."""
    least = PORTRAIT_MIN_SIDE
    return Problem(
        code="PortraitTooSmall",
        message=f"“{name_of(key)}” is {width} by {height} pixels; the shorter side must be at least {least} pixels.",
        what_to_do=f"Use a larger picture, at least {least} by {least} pixels.",
        limit=f"{least} px",
        measured=f"{min(width, height)} px",
    )


def portrait_too_large(key: str, width: int, height: int) -> Problem:
    """``PortraitTooLarge``: more pixels than are ever decoded."""
    limit, measured = over(PORTRAIT_MAX_PIXELS / 1e6, width * height / 1e6, "megapixels")
    return Problem(
        code="PortraitTooLarge",
        message=f"“{name_of(key)}” is {width} by {height} pixels, {measured}; a portrait may have at most {limit}.",
        what_to_do="Make the picture smaller, 4096 pixels at its longer side or less.",
        limit=limit,
        measured=measured,
    )


def portrait_too_long(key: str, width: int, height: int) -> Problem:
    """``PortraitTooLarge``: so long and narrow that no size of it fits the models."""
    ratio, measured = max(width, height) / min(width, height), f"{width} by {height} pixels"
    return Problem(
        code="PortraitTooLarge",
        message=f"“{name_of(key)}” is {measured}, {ratio:.1f} times as long as it is wide; no model takes that.",
        what_to_do="Cut the picture to the person's head and shoulders.",
        limit=f"longer side at most {PORTRAIT_MAX_SIDE} px where the shorter is {PORTRAIT_FIT_SIDE} px",
        measured=measured,
    )


def portrait_unreadable(key: str, reason: str, really: str | None = None) -> Problem:
    """``PortraitUnreadable``: not a picture, damaged, cut short, or of a kind that no decoder here knows."""
    if really:
        return Problem(
            code="PortraitUnreadable",
            message=f"“{name_of(key)}” is really {really}; a portrait must be a picture.",
            what_to_do="Save the picture as a JPEG or PNG and upload that.",
            limit="a picture",
            measured=really,
        )
    return Problem(
        code="PortraitUnreadable",
        message=f"“{name_of(key)}” can't be read as a picture: {reason}.",
        what_to_do="Upload it again; if that doesn't help, open it in a picture program and save it as a JPEG or PNG.",
        limit="a complete picture",
        measured=reason,
    )


# ---------------------------------------------------------------- either


def unreadable(kind: str, key: str, reason: str, really: str | None = None) -> Problem:
    """``VoiceUnreadable`` or ``PortraitUnreadable``; `kind` is ``voice`` or ``portrait``."""
    return (voice_unreadable if kind == "voice" else portrait_unreadable)(key, reason, really)


def takes_too_much(kind: str, key: str, what: str) -> Problem:
    """Return the problem of a file on which a decoder crashed, hung or asked for more than it may have."""
    return unreadable(kind, key, f"the decoder {what}")


def file_unreadable(key: str, reason: str, what_to_do: str) -> Problem:
    """``FileUnreadable``: S3 has it and doesn't hand it out, for good."""
    return Problem(
        code="FileUnreadable",
        message=f"“{name_of(key)}” can't be fetched: {reason}.",
        what_to_do=what_to_do,
        limit="an object that this stack may read",
        measured=reason,
    )
