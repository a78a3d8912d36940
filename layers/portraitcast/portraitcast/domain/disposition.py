"""The header that gives a download its name: Content-Disposition (RFC 6266), with names of any script (RFC 5987)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from portraitcast.domain.problems import controls

NAME_MAX_BYTES: Final = 255  # the longest name of a file that common file systems take; S3 takes 2 KB of such headers
_ATTRIBUTE_CHARS: Final = "!#$&+-.^_`|~"  # RFC 5987, attr-char, beside letters and digits
_NOT_QUOTABLE: Final = re.compile(r"[^A-Za-z0-9 !#$&'()+,.;=@\[\]^_`{}~-]")  # no quote, no backslash, no percent sign
_UNSAFE: Final = re.compile(r'[/\\:*?"<>|]')  # separators of paths, and what Windows refuses in a name


def content_disposition(key: str) -> str:
    """Return the value of the header for an object: the last part of its key, as a file on a disk may be called.

    Safe as a header whatever the key holds: printable ASCII without quotes inside the quoted name.
    """
    name = _file_name(key)
    plain = _NOT_QUOTABLE.sub("_", name)
    header = f'attachment; filename="{plain}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE_CHARS)}"


def _file_name(key: str) -> str:
    base = key.rpartition("/")[2]
    base = "".join("_" if controls(char) else char for char in base)
    stem, dot, suffix = _UNSAFE.sub("_", base).rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    room = NAME_MAX_BYTES - len((dot + suffix).encode())
    while len(stem.encode()) > room:
        stem = stem[:-1]
    return stem + dot + suffix
