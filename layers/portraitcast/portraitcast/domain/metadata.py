"""S3 user metadata: what an uploader writes on an object, as reports may repeat it."""

from __future__ import annotations

from email.errors import HeaderParseError
from email.header import decode_header
from typing import TYPE_CHECKING

from portraitcast.domain.problems import controls
from portraitcast.domain.uploads import METADATA_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping


def user_metadata(raw: Mapping[str, str]) -> dict[str, str]:
    """Return an object's user metadata, by name: in readable text, `METADATA_MAX_BYTES` at the most.

    S3 hands out values beyond ASCII as RFC 2047 words (Amazon S3, "Working with object metadata"). Control characters
    are left out. S3 takes no more at a PUT; of what came otherwise, the first names in order are kept.
    """
    kept: dict[str, str] = {}
    size = 0
    for name in sorted(raw):
        value = _clean(_decoded(raw[name]))
        size += len(name.encode(errors="replace")) + len(value.encode())
        if size > METADATA_MAX_BYTES:
            break
        kept[_clean(name)] = value
    return kept


def _decoded(value: str) -> str:
    if "=?" not in value:
        return value
    try:
        words = decode_header(value)
        return "".join(w if isinstance(w, str) else w.decode(encoding or "ascii") for w, encoding in words)
    except (HeaderParseError, LookupError, ValueError):
        return value  # no such words after all


def _clean(text: str) -> str:
    text = text.encode(errors="replace").decode()  # half a surrogate pair can't be written
    return "".join(char for char in text if not controls(char))
