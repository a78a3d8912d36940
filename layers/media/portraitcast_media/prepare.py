"""The one verb: what a file is, and what is passed on in its place. Safe to call with anybody's bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitcast_media import child
from portraitcast_media.child import LIMITS, Limits
from portraitcast_media.facts import Asset
from portraitcast_media.limits import PORTRAIT_MAX_BYTES, VOICE_MAX_BYTES, VOICE_MAX_SECONDS
from portraitcast_media.problems import (
    RefusedError,
    portrait_too_big,
    portrait_unreadable,
    takes_too_much,
    voice_empty,
    voice_too_big,
)

KINDS = ("voice", "portrait")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What prepare makes of a file.

    Attributes
    ----------
    facts
        `portraitcast_media.facts.Voice` or `Picture` as JSON: strings, numbers, lists and dicts.
    asset, file
        What is to be put into the work bucket, and where it lies on this disk; None where the upload is passed on.
    """

    facts: dict[str, Any]
    asset: Asset | None
    file: Path | None


def check_bytes(kind: str, key: str, size: int) -> None:
    """Refuse a file of `size` bytes that needn't even be downloaded.

    Raises
    ------
    RefusedError
        ``VoiceEmpty``, ``VoiceTooBig``, ``PortraitUnreadable`` (no bytes) or ``PortraitTooBig``.
    """
    if kind == "voice":
        if not size:
            raise RefusedError(voice_empty(key))
        if size > VOICE_MAX_BYTES:
            raise RefusedError(voice_too_big(key, size))
    elif not size:
        raise RefusedError(portrait_unreadable(key, "the file is empty, 0 bytes"))
    elif size > PORTRAIT_MAX_BYTES:
        raise RefusedError(portrait_too_big(key, size))


def prepare(
    path: Path,
    key: str,
    kind: str,
    work: Path,
    *,
    max_seconds: float = VOICE_MAX_SECONDS,
    limits: Limits = LIMITS,
) -> Prepared:
    """Return what a file is, decoded in a child process.

    Parameters
    ----------
    path
        The upload on this disk.
    key
        Its key in the bucket, for messages and for its suffix.
    kind
        ``voice`` or ``portrait``, as its suffix says.
    work
        A folder for the asset; the caller removes it.
    max_seconds
        The longest voice that is taken.
    limits
        What the child process may have.

    Raises
    ------
    RefusedError
        Why it can't be used; also where a decoder crashes, hangs or asks for too much.
    child.ChildBrokenError
        Our own code failed.
    """
    if kind not in KINDS:
        raise ValueError(f"a file is a voice or a portrait, not {kind!r}")
    check_bytes(kind, key, path.stat().st_size)
    arguments = {"path": str(path), "key": key, "work": str(work)}
    more = {"max_seconds": max_seconds} if kind == "voice" else {}
    try:
        said = child.run(f"prepare:in_child_{kind}", arguments | more, work, limits)
    except child.DecoderDiedError as error:
        raise RefusedError(takes_too_much(kind, key, str(error))) from error
    asset = said["facts"]["asset"]
    return Prepared(said["facts"], Asset(**asset) if asset else None, Path(said["file"]) if said["file"] else None)


def in_child_voice(path: str, key: str, work: str, max_seconds: float) -> dict[str, Any]:
    """Read a voice; runs in the child process."""
    from portraitcast_media.voices import read_voice  # noqa: PLC0415  # the decoders are loaded in the child only

    voice, file = read_voice(Path(path), key, Path(work), max_seconds=max_seconds)
    return {"facts": voice.as_dict(), "file": str(file) if file else None}


def in_child_portrait(path: str, key: str, work: str) -> dict[str, Any]:
    """Read a picture; runs in the child process."""
    from portraitcast_media.pictures import read_picture  # noqa: PLC0415  # the decoders are loaded in the child only

    picture, file = read_picture(Path(path), key, Path(work))
    return {"facts": picture.as_dict(), "file": str(file) if file else None}
