"""Reading bytes that may not be there."""

from __future__ import annotations

import os
from typing import BinaryIO, Final

from portraitcast.errors import PortraitcastError

CUT_SHORT: Final = "the file ends before its content does"


class UnreadableError(PortraitcastError):
    """A file is damaged, or isn't what was asked for.

    Attributes
    ----------
    reason
        A short plain phrase: "the file ends before its picture does".
    kind
        What the content is by `sniff`, or None where nobody can tell.
    """

    def __init__(self, reason: str, kind: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind


class EmptyError(UnreadableError):
    """A file without content: no bytes, no sound frames, or zero seconds."""


def size_of(file: BinaryIO) -> int:
    """Return the file's bytes; leaves it at its end."""
    return file.seek(0, os.SEEK_END)


def read_at(file: BinaryIO, at: int, count: int, reason: str = CUT_SHORT) -> bytes:
    """Return `count` bytes from offset `at`.

    Raises
    ------
    UnreadableError
        The file ends before; `reason` is what it then says.
    """
    file.seek(at)
    data = file.read(count)
    if len(data) < count:
        raise UnreadableError(reason)
    return data
