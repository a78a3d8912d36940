"""What a portrait and a voice must hold to before anything is paid; a refusal names limit, value and way out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, Final

from portraitcast.domain.models import DEFAULT, MIB, MODELS
from portraitcast.domain.problems import Problem, ProblemError
from portraitcast.media import EmptyError, UnreadableError, describe, probe_picture, probe_voice
from portraitcast.media.reading import size_of

if TYPE_CHECKING:
    from portraitcast.media import Picture, Voice

PORTRAIT_MIN_SIDE: Final = MODELS[DEFAULT].picture.min_side
PORTRAIT_MAX_SIDE: Final = MODELS[DEFAULT].picture.max_side
PORTRAIT_MAX_BYTES: Final = 50 * MIB  # ours: the provider names none, a function's time does
VOICE_MAX_BYTES: Final = MODELS[DEFAULT].voice.max_bytes
VOICE_MAX_SECONDS: Final = MODELS[DEFAULT].voice.max_seconds

_PORTRAIT_TYPES: Final = ("jpeg", "png", "bmp", "webp")
_VOICE_TYPES: Final = {".mp3": "mp3", ".wav": "wav"}
_NO_BYTES: Final = "the file is empty, 0 bytes"
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_portrait(file: BinaryIO, key: str) -> Picture:
    """Return what a portrait is, if EMO will take it.

    Parameters
    ----------
    file
        A seekable binary file, read in pieces of at most 1 MiB.
    key
        Its key in the bucket; its last part names it in messages. Its suffix may differ from its content.

    Raises
    ------
    ProblemError
        ``PortraitTooBig``, ``PortraitUnreadable``, ``PortraitTooSmall`` or ``PortraitTooLarge``.
    """
    check_portrait_bytes(size_of(file), key)
    try:
        picture = probe_picture(file)
    except UnreadableError as error:
        raise ProblemError(_unreadable_portrait(error, key)) from error
    sides = f"“{_name(key)}” is {picture.width} by {picture.height} pixels"
    if picture.shorter < PORTRAIT_MIN_SIDE:
        raise ProblemError(
            Problem(
                code="PortraitTooSmall",
                message=f"{sides}; the shorter side must be at least {PORTRAIT_MIN_SIDE} pixels.",
                what_to_do=f"Use a larger picture, at least {PORTRAIT_MIN_SIDE} by {PORTRAIT_MIN_SIDE} pixels.",
                limit=f"{PORTRAIT_MIN_SIDE} px",
                measured=f"{picture.shorter} px",
            )
        )
    if picture.longer > PORTRAIT_MAX_SIDE:
        raise ProblemError(
            Problem(
                code="PortraitTooLarge",
                message=f"{sides}; the longer side must be at most {PORTRAIT_MAX_SIDE} pixels.",
                what_to_do=f"Make the picture smaller, so that no side is over {PORTRAIT_MAX_SIDE} pixels.",
                limit=f"{PORTRAIT_MAX_SIDE} px",
                measured=f"{picture.longer} px",
            )
        )
    return picture


def check_portrait_bytes(size: int, key: str) -> None:
    """Refuse a portrait of `size` bytes that needn't even be downloaded.

    Raises
    ------
    ProblemError
        ``PortraitUnreadable`` (no bytes) or ``PortraitTooBig``.
    """
    if size == 0:
        raise ProblemError(_unreadable_portrait(EmptyError(_NO_BYTES), key))
    if size > PORTRAIT_MAX_BYTES:
        what_to_do = "Save the picture as a JPEG, or make its sides smaller."
        raise ProblemError(_too_big("portrait", PORTRAIT_MAX_BYTES, size, key, what_to_do))


def check_voice(file: BinaryIO, key: str) -> Voice:
    """Return what a voice is, if EMO will take it.

    Parameters
    ----------
    file
        A seekable binary file; one of at most 15 MB is read whole.
    key
        Its key in the bucket, ending in .mp3 or .wav (any case): the content must be that; EMO may judge by the name.

    Raises
    ------
    ProblemError
        ``VoiceEmpty``, ``VoiceTooBig``, ``VoiceTypeMismatch``, ``VoiceUnreadable`` or ``VoiceTooLong``.
    """
    check_voice_bytes(size_of(file), key)
    suffix = key[-4:].lower()
    try:
        voice = probe_voice(file)
    except UnreadableError as error:
        if error.kind and error.kind != _VOICE_TYPES[suffix]:
            raise ProblemError(_mismatch(error.kind, key)) from error
        raise ProblemError(_unreadable_voice(error, key)) from error
    if voice.type != _VOICE_TYPES[suffix]:
        raise ProblemError(_mismatch(voice.type, key))
    if voice.seconds > VOICE_MAX_SECONDS:
        limit, measured = _over(VOICE_MAX_SECONDS, voice.seconds, "s")
        raise ProblemError(
            Problem(
                code="VoiceTooLong",
                message=f"“{_name(key)}” lasts {measured}; a voice may last at most {limit}.",
                what_to_do=f"Cut it to {limit} or less, or split it into several files: each becomes a video.",
                limit=limit,
                measured=measured,
            )
        )
    return voice


def check_voice_bytes(size: int, key: str) -> None:
    """Refuse a voice of `size` bytes that needn't even be downloaded.

    Raises
    ------
    ProblemError
        ``VoiceEmpty`` or ``VoiceTooBig``.
    """
    if size == 0:
        raise ProblemError(_unreadable_voice(EmptyError(_NO_BYTES), key))
    if size > VOICE_MAX_BYTES:
        what_to_do = "Save the voice as an MP3, or make it shorter."
        raise ProblemError(_too_big("voice", VOICE_MAX_BYTES, size, key, what_to_do))


def _too_big(kind: str, most: int, size: int, key: str, what_to_do: str) -> Problem:
    limit, measured = _over(most / MIB, size / MIB, "MB")
    return Problem(
        code="PortraitTooBig" if kind == "portrait" else "VoiceTooBig",
        message=f"“{_name(key)}” has {measured}; a {kind} may have at most {limit}.",
        what_to_do=what_to_do,
        limit=limit,
        measured=measured,
    )


def _unreadable_portrait(error: UnreadableError, key: str) -> Problem:
    if error.kind and error.kind not in _PORTRAIT_TYPES:
        return Problem(
            code="PortraitUnreadable",
            message=f"“{_name(key)}” is really {describe(error.kind)}; a portrait must be JPEG, PNG, BMP or WebP.",
            what_to_do="Save the picture as a JPEG or PNG and upload that.",
            limit="JPEG, PNG, BMP or WebP",
            measured=describe(error.kind),
        )
    return Problem(
        code="PortraitUnreadable",
        message=f"“{_name(key)}” can't be read as a picture: {error.reason}.",
        what_to_do="Upload it again; if that doesn't help, open it in a picture program and save it as a JPEG or PNG.",
        limit="a complete JPEG, PNG, BMP or WebP",
        measured=error.reason,
    )


def _unreadable_voice(error: UnreadableError, key: str) -> Problem:
    empty = isinstance(error, EmptyError)
    trouble = "holds no sound" if empty else "can't be read"
    return Problem(
        code="VoiceEmpty" if empty else "VoiceUnreadable",
        message=f"“{_name(key)}” {trouble}: {error.reason}.",
        what_to_do="Upload it again; if that doesn't help, open it in a sound program and save it as an MP3 or WAV.",
        limit="a sound longer than 0 s" if empty else "a complete MP3 or WAV",
        measured="0 s" if empty else error.reason,
    )


def _mismatch(kind: str, key: str) -> Problem:
    name, suffix = _name(key), key[-4:].lower()
    if kind in _VOICE_TYPES.values():
        what_to_do = f"Rename it to “{name[:-4]}.{kind}”; nothing else needs to change."
    else:
        what_to_do = "Save the voice as an MP3 or WAV and upload that."
    return Problem(
        code="VoiceTypeMismatch",
        message=f"“{name}” is named {suffix} but is really {describe(kind)}.",
        what_to_do=what_to_do,
        limit=describe(_VOICE_TYPES[suffix]),
        measured=describe(kind),
    )


def _name(key: str) -> str:
    """Return the file's own name for a sentence: without its folders, and without control characters."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", key.rpartition("/")[2])


def _over(limit: float, measured: float, unit: str) -> tuple[str, str]:
    """Return a limit and a value over it in print, with as many decimals as it takes to tell them apart."""
    for decimals in range(1, 12):
        text = f"{measured:.{decimals}f}"
        if float(text) > limit:
            break
    return f"{limit:g} {unit}", f"{text} {unit}"
