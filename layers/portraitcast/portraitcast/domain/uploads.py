"""What a key in the upload bucket means: the kind of file, its folder, its name, and the job it belongs to.

Names are compared in Unicode NFC (a Mac uploads both forms) and case-sensitively except for the extension. What we
write keeps the voice's own bytes.
"""

from __future__ import annotations

import hashlib
import posixpath
import unicodedata
from dataclasses import dataclass
from enum import Enum
from typing import Final

from portraitcast.errors import PortraitcastError
from portraitcast.domain.limits import KEY_MAX_BYTES

VOICE_SUFFIXES: Final = frozenset({".mp3", ".wav"})
OTHER_SOUND_SUFFIXES: Final = frozenset({".m4a", ".aac", ".ogg", ".opus", ".flac", ".wma", ".aiff", ".amr"})
PORTRAIT_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
OTHER_PICTURE_SUFFIXES: Final = frozenset({".heic", ".heif", ".avif", ".gif", ".tif", ".tiff"})
SETTINGS_SUFFIX: Final = ".json"
RESERVED_NAME: Final = "settings"
LONGEST_OUTPUT_SUFFIX: Final = ".json"
_WAY_OUT: Final = "send the key of an object that is there."


class Kind(Enum):
    """What a file is for, judged by its key alone."""

    VOICE = "voice"
    OTHER_SOUND = "other sound"
    PORTRAIT = "portrait"
    OTHER_PICTURE = "other picture"
    JOB_SETTINGS = "settings of a job"
    FOLDER_SETTINGS = "settings of a folder"

    @property
    def is_sound(self) -> bool:
        """Whether a file of this kind makes a job."""
        return self in {Kind.VOICE, Kind.OTHER_SOUND}

    @property
    def is_picture(self) -> bool:
        """Whether a file of this kind counts as an image of its folder."""
        return self in {Kind.PORTRAIT, Kind.OTHER_PICTURE}


class NoKeyError(PortraitcastError):
    """Text that no object in S3 can have as its key; nobody but a hostile hand sends it."""


@dataclass(frozen=True, slots=True)
class Name:
    """A key that counts, taken apart.

    Attributes
    ----------
    key
        The object's key as it is in the bucket.
    stem
        The key without its extension, in the key's own bytes: outputs are ``stem + ".mp4"`` and ``stem + ".json"``.
    name, folder
        NFC forms of the stem and of the part before its last ``/`` (``""`` is the root; where there are only slashes,
        all of them: the folder of ``/a.mp3`` is ``"/"``, not the root).
    """

    key: str
    kind: Kind
    suffix: str
    stem: str
    name: str
    folder: str

    @property
    def job(self) -> str:
        """The id of the job that this file belongs to if it is a job's own file: 32 hex digits."""
        return short_hash(self.name)

    @property
    def reserved(self) -> bool:
        """Whether the name is the one that `settings.json` has in every folder."""
        return posixpath.basename(self.name) == RESERVED_NAME


def nfc(text: str) -> str:
    """Return a key, or a part of one, in Unicode normal form C.

    Raises
    ------
    NoKeyError
        It is longer than a key can be (a megabyte of accents would take an hour to sort), or UTF-8 can't write it.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise NoKeyError(f"A key holds half a surrogate pair, which UTF-8 can't write: {_WAY_OUT}") from None
    if size > KEY_MAX_BYTES:
        raise NoKeyError(f"A key has {size} bytes, and in Amazon S3 at most {KEY_MAX_BYTES}: {_WAY_OUT}")
    return unicodedata.normalize("NFC", text)


def short_hash(text: str) -> str:
    """Return the first 32 hex digits of the SHA-256 of `text`: raw names are too long for a sort key and not ASCII."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def classify(key: str) -> Name | None:
    """Take a key apart, or return None when it is left alone (hidden, a folder marker, any other suffix)."""
    base = key.rpartition("/")[2]
    if not base or base.startswith("."):
        return None
    suffix = posixpath.splitext(base)[1]
    stem = key.removesuffix(suffix)
    name = nfc(stem)
    kind = _kind(suffix.lower(), posixpath.basename(name))
    if kind is None:
        return None
    folder, slash, _ = name.rpartition("/")
    return Name(key, kind, suffix.lower(), stem, name, folder if folder.strip("/") else folder + slash)


def _kind(suffix: str, base: str) -> Kind | None:
    if suffix == SETTINGS_SUFFIX:
        return Kind.FOLDER_SETTINGS if base == RESERVED_NAME else Kind.JOB_SETTINGS
    for kind, suffixes in (
        (Kind.VOICE, VOICE_SUFFIXES),
        (Kind.OTHER_SOUND, OTHER_SOUND_SUFFIXES),
        (Kind.PORTRAIT, PORTRAIT_SUFFIXES),
        (Kind.OTHER_PICTURE, OTHER_PICTURE_SUFFIXES),
    ):
        if suffix in suffixes:
            return kind
    return None


def same_key(one: str, other: str) -> bool:
    """Whether two keys name the same file: NFC, case-sensitive except for the extension."""
    return _comparable(one) == _comparable(other)


def _comparable(key: str) -> tuple[str, str]:
    suffix = posixpath.splitext(key)[1]
    return nfc(key.removesuffix(suffix)), suffix.lower()
