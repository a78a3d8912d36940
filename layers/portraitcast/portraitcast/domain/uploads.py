"""Uploads: what a key in the upload bucket means (kind, folder, stem, job id), and what is known of one file.

Names are compared in Unicode NFC (a Mac uploads both forms) and case-sensitively except for the extension. What we
write keeps the voice's own bytes.
"""

from __future__ import annotations

import hashlib
import posixpath
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from portraitcast.domain.problems import Problem  # noqa: TC001  # what is stored is read back by its fields' types

KEY_MAX_BYTES: Final = 1024  # Amazon S3, "Naming Amazon S3 objects": UTF-8 bytes of an object key
VOICE_SUFFIXES: Final = frozenset(
    {".mp3", ".wav", ".m4a", ".m4b", ".aac", ".ogg", ".oga", ".opus", ".flac", ".wma", ".aif", ".aiff", ".aifc", ".amr"}
    | {".caf", ".3gp", ".webm", ".weba", ".mka", ".mp4", ".mov"}
)
PORTRAIT_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".heic", ".heif", ".avif", ".gif", ".tif", ".tiff"}
)
SETTINGS_SUFFIX: Final = ".json"
RESERVED_NAME: Final = "settings"
LONGEST_OUTPUT_SUFFIX: Final = ".json"
# Folders that NAS systems and desktops make beside people's files: their recycle bins, thumbnails and snapshots.
SYSTEM_FOLDERS: Final = frozenset(
    {"@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "$recycle.bin"}
    | {"system volume information", "lost+found", "__macosx", "recycler", "network trash folder", "temporary items"}
)
METADATA_MAX_BYTES: Final = 2048  # Amazon S3, "Working with object metadata": of all names and values together
ASSET_FRESH_SECONDS: Final = 20 * 86_400.0  # the work bucket keeps assets for 30 days (template.yaml, WorkBucket)
_WAY_OUT: Final = "send the key of an object that is there."


class Kind(StrEnum):
    """What a file is for, judged by its key alone; the content says which sound or picture it is."""

    VOICE = "voice"
    PORTRAIT = "portrait"
    JOB_SETTINGS = "settings of a job"
    FOLDER_SETTINGS = "settings of a folder"

    @property
    def is_settings(self) -> bool:
        """Whether it is a settings JSON, which is read here; media are read by prepare."""
        return self in {Kind.JOB_SETTINGS, Kind.FOLDER_SETTINGS}


class NoKeyError(ValueError):
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


def nfd(text: str) -> str:
    """Return a key, or a part of one, in Unicode normal form D, as a Mac's file system has it."""
    return unicodedata.normalize("NFD", nfc(text))


def short_hash(text: str) -> str:
    """Return the first 32 hex digits of the SHA-256 of `text`: raw names are too long for a sort key and not ASCII."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def classify(key: str) -> Name | None:
    """Take a key apart, or return None when it is left alone (hidden, a folder marker, any other suffix)."""
    base = key.rpartition("/")[2]
    if not base or is_hidden(key):
        return None
    suffix = posixpath.splitext(base)[1]
    stem = key.removesuffix(suffix)
    name = nfc(stem)
    kind = _kind(suffix.lower(), posixpath.basename(name))
    if kind is None:
        return None
    folder, slash, _ = name.rpartition("/")
    return Name(key, kind, suffix.lower(), stem, name, folder if folder.strip("/") else folder + slash)


def is_hidden(key: str) -> bool:
    """Say whether any part of a key begins with a dot, or is a folder that systems make for themselves.

    ``.`` and ``..`` are no hidden folders: a program that joined paths wrote them, and its files are to be made.
    """
    *folders, base = key.split("/")
    return base.startswith(".") or any(_is_hidden_folder(folder) for folder in folders)


def _is_hidden_folder(folder: str) -> bool:
    return folder.lower() in SYSTEM_FOLDERS or (folder.startswith(".") and folder not in {".", ".."})


def _kind(suffix: str, base: str) -> Kind | None:
    if suffix == SETTINGS_SUFFIX:
        return Kind.FOLDER_SETTINGS if base == RESERVED_NAME else Kind.JOB_SETTINGS
    if suffix in VOICE_SUFFIXES:
        return Kind.VOICE
    return Kind.PORTRAIT if suffix in PORTRAIT_SUFFIXES else None


def same_key(one: str, other: str) -> bool:
    """Whether two keys name the same file: NFC, case-sensitive except for the extension."""
    return _comparable(one) == _comparable(other)


def _comparable(key: str) -> tuple[str, str]:
    suffix = posixpath.splitext(key)[1]
    return nfc(key.removesuffix(suffix)), suffix.lower()


@dataclass(frozen=True, slots=True)
class Asset:
    """What prepare has made of an upload: an object of the work bucket, passed on in the upload's place.

    `type` is its Content-Type, `sha256` that of its own bytes.
    """

    key: str
    sha256: str
    bytes: int
    type: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What reading one version of a voice or a picture found; `problem` says why it won't do.

    Attributes
    ----------
    sha256
        Hex digest of the upload; None where it couldn't be read.
    type
        What the content is ("wav", "jpeg"), whatever the file is called.
    seconds
        Of a voice: decoded samples divided by their rate.
    width, height
        Of a picture, pixels as people see it.
    changes
        What was done to it, in words.
    plain
        Whether the upload can be passed on as it is, byte for byte.
    asset
        What is passed on instead; of a plain picture, a smaller one for models that take no larger.
    read_at
        When it was read (epoch seconds): the work bucket forgets assets.
    metadata
        Of a voice: the object's user metadata.
    """

    sha256: str | None = None
    type: str | None = None
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    changes: tuple[str, ...] = ()
    plain: bool = True
    asset: Asset | None = None
    problem: Problem | None = None
    read_at: float = 0.0
    metadata: dict[str, str] | None = None

    def is_fresh(self, now: float) -> bool:
        """Say whether the asset is still there, long enough for a task to fetch it."""
        return self.asset is None or now - self.read_at < ASSET_FRESH_SECONDS


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of the upload bucket as the table knows it.

    Attributes
    ----------
    name
        Its key, taken apart.
    version
        Version id of the object; "null" in a bucket without versioning, or whose versioning is suspended.
    etag
        The object's ETag, which tells versions apart where all are "null"; "" where it isn't known.
    noticed_at
        When we noticed this version (epoch seconds): with a backlog this is the time that counts for quiet periods.
    sequencer
        S3's order of events of one key; "" when the bucket was asked, and its event is still to come or lost.
    deleted
        The deleted marker: kept a while so that an older event, delivered late, doesn't bring the file back.
    unread
        A settings JSON that is noted and not read yet.
    text
        The content of a settings JSON that was read; None for media, and for what is too big or no UTF-8.
    facts, asked_at
        What reading a voice or a picture found, None until then; and when prepare was asked to read it (epoch).
    refused
        A second voice of a job that was already sent: told once, then left alone.
    repeats
        How often the same bytes were uploaded again where versions have no ids to tell that.
    """

    name: Name
    version: str
    bytes: int
    noticed_at: float
    etag: str = ""
    sequencer: str = ""
    deleted: bool = False
    unread: bool = False
    text: str | None = None
    facts: Facts | None = None
    asked_at: float = 0.0
    refused: bool = False
    repeats: int = 0

    @property
    def key(self) -> str:
        """The object's key."""
        return self.name.key

    @property
    def tag(self) -> str:
        """What tells one upload from another: key and version, or ETag where versions have no ids."""
        if self.version != "null":
            return f"{self.key}\n{self.version}"
        return f"{self.key}\n{self.etag or 'null'}" + (f"#{self.repeats}" if self.repeats else "")

    def is_same_version(self, other: Upload) -> bool:
        """Say whether two are the same object, as far as S3 tells objects apart."""
        if self.deleted or other.deleted:
            return self.deleted and other.deleted
        if self.version != other.version:
            return False
        return self.version != "null" or self.etag == other.etag

    def follows(self, known: Upload) -> bool:
        """Say whether the order of two uploads' events is known: S3 told of both, and none was deleted in between."""
        return bool(self.sequencer and known.sequencer) and not known.deleted

    def has_bytes_of(self, known: Upload) -> bool:
        """Say whether another version surely has the bytes of one that was read: S3 gives equal bytes one ETag."""
        read = known.facts is not None and known.facts.problem is None and known.facts.is_fresh(self.noticed_at)
        same = bool(self.etag) and (self.etag, self.bytes) == (known.etag, known.bytes)
        return read and same and not (self.deleted or known.deleted)

    def is_older_event_than(self, known: Upload) -> bool:
        """Say whether S3 ordered this event before the known one; without both sequencers nobody can tell.

        Sequencers are compared as hexadecimal text after padding the shorter on the right (Amazon S3, "Event message
        structure").
        """
        if not self.sequencer or not known.sequencer:
            return False
        width = max(len(self.sequencer), len(known.sequencer))
        return self.sequencer.ljust(width, "0") < known.sequencer.ljust(width, "0")
