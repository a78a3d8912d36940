"""What is known of a file once it has been decoded."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from portraitcast_media.limits import RECIPE

if TYPE_CHECKING:
    from pathlib import Path

TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "bmp": "image/bmp",
    "webp": "image/webp",
    "mp4": "video/mp4",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that prepare has made out of an upload.

    Attributes
    ----------
    key
        Its name in the work bucket, by content and recipe: ``<sha256 of the upload>-<recipe>.<suffix>``.
    sha256
        Of its own bytes, 64 hex digits.
    bytes
        Its size.
    type
        Its Content-Type.
    """

    key: str
    sha256: str
    bytes: int
    type: str


@dataclass(frozen=True, slots=True)
class Pause:
    """A stretch in which nobody speaks, in s from the voice's beginning."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that can be used.

    Attributes
    ----------
    sha256
        Of the upload, 64 hex digits.
    seconds
        Decoded samples divided by their rate, 3 decimals.
    type
        Its kind by its content: ``mp3``, ``wav``, ``m4a``, …
    peak_dbfs
        Its loudest sample, dB of full scale, 1 decimal.
    loudness
        Integrated loudness by EBU R 128, LUFS, 1 decimal; None where it is too short or too quiet to have one.
    pauses
        At least 0.25 s each, in order; at most 2,000, the longest.
    changes
        What was done to it, and what is odd about it, in words.
    plain
        Whether the upload can be passed on as it is.
    asset
        What is passed on instead, else None.
    """

    sha256: str
    seconds: float
    type: str
    peak_dbfs: float
    loudness: float | None
    pauses: tuple[Pause, ...]
    changes: tuple[str, ...]
    plain: bool
    asset: Asset | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it; a pause is ``[start, end]``."""
        return asdict(self) | {"pauses": [[p.start, p.end] for p in self.pauses], "changes": list(self.changes)}


@dataclass(frozen=True, slots=True)
class Picture:
    """A portrait that can be used.

    Attributes
    ----------
    sha256
        Of the upload, 64 hex digits.
    width, height
        Sides as people see it, px: of the upload where it is plain, else of the asset.
    type
        Its kind by its content: ``jpeg``, ``png``, ``heic``, …
    changes
        What was done to it, in words.
    plain
        Whether the upload can be passed on as it is to a model that takes sides up to 7000 px.
    asset
        What is passed on instead; for a plain upload, what goes to a model that takes only 4096 px and 10 MB, or None
        where the upload itself is that small.
    """

    sha256: str
    width: int
    height: int
    type: str
    changes: tuple[str, ...]
    plain: bool
    asset: Asset | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return asdict(self) | {"changes": list(self.changes)}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits; reads 1 MiB at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def asset_of(upload_sha256: str, path: Path, suffix: str) -> Asset:
    """Return the asset that a file in the work folder is."""
    return Asset(
        key=f"assets/{upload_sha256}-{RECIPE}.{suffix}",
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
        type=TYPES[suffix],
    )
