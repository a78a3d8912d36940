"""Sides and seconds of an MP4 (ISO/IEC 14496-12) from its headers, and whether all of it is there.

Videos come from the provider, whose storage may answer anything: every loop has a bound, and `UnreadableVideoError` is
the only error that bytes can cause.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from portraitcast.errors import PortraitcastError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CUT: Final = "the file ends before its video does"
_NO_HEADER: Final = "it has no readable header"
_MAX_BOXES: Final = 10_000  # a bound for hostile files, for one box's children; a real video has tens


class UnreadableVideoError(PortraitcastError):
    """What came is no whole MP4 video; the text is a short plain phrase."""


@dataclass(frozen=True, slots=True)
class ProbedVideo:
    """A complete MP4; sides in pixels as shown."""

    width: int
    height: int
    seconds: float
    bytes: int


def probe_video(file: BinaryIO) -> ProbedVideo:
    """Return sides, seconds and bytes of an MP4. Frames are not decoded.

    Parameters
    ----------
    file
        A seekable binary file, read from its beginning; a few bytes at once.

    Raises
    ------
    UnreadableVideoError
        It isn't an MP4, has no video track, sides or seconds, or a box (frames lie in one) runs over the file's end.
    """
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise UnreadableVideoError("the file is empty")
    file.seek(0)
    if file.read(8)[4:] != b"ftyp":
        raise UnreadableVideoError("it is no MP4 video")
    boxes = dict(reversed(list(_boxes(file, 0, size))))  # of two with one name, the first
    if b"moov" not in boxes or b"mdat" not in boxes:
        raise UnreadableVideoError(_CUT)
    seconds = _seconds(file, *boxes[b"moov"])
    width, height = _sides(file, *boxes[b"moov"])
    if not (width and height and seconds):
        raise UnreadableVideoError("its header names no sides or no seconds")
    return ProbedVideo(width, height, seconds, size)


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield name, beginning and end of the content of each box between two offsets."""
    for _ in range(_MAX_BOXES):
        if at == end:
            return
        head = _read_at(file, at, 8, _CUT)
        length, content = int.from_bytes(head[:4]), at + 8
        if length == 1:
            length, content = int.from_bytes(_read_at(file, content, 8, _CUT)), content + 8
        elif length == 0:
            length = end - at  # to the end
        if length < content - at:
            raise UnreadableVideoError(_NO_HEADER)
        if at + length > end:
            raise UnreadableVideoError(_CUT)
        at += length
        yield head[4:], (content, at)
    raise UnreadableVideoError("it has too many parts")


def _seconds(file: BinaryIO, at: int, end: int) -> float:
    """Return the movie's length from `mvhd`: version 1 has times of 64 bits."""
    for name, (content, content_end) in _boxes(file, at, end):
        if name == b"mvhd":
            header = _read_at(file, content, min(32, content_end - content))
            long = header[:1] == b"\1"
            scale, duration = (header[20:24], header[24:32]) if long else (header[12:16], header[16:20])
            if not int.from_bytes(scale):
                raise UnreadableVideoError(_NO_HEADER)
            return int.from_bytes(duration) / int.from_bytes(scale)
    raise UnreadableVideoError(_NO_HEADER)


def _sides(file: BinaryIO, at: int, end: int) -> tuple[int, int]:
    """Return the sides of the first video track: `tkhd` ends with them, as 16.16 fixed point."""
    for name, (track_at, track_end) in _boxes(file, at, end):
        if name == b"trak":
            track = dict(_boxes(file, track_at, track_end))
            if b"tkhd" in track and b"mdia" in track and _handler(file, *track[b"mdia"]) == b"vide":
                header_at, header_end = track[b"tkhd"]
                if header_end - header_at < 84:
                    raise UnreadableVideoError(_NO_HEADER)
                sides = _read_at(file, header_end - 8, 8)
                return int.from_bytes(sides[:2]), int.from_bytes(sides[4:6])
    raise UnreadableVideoError("there is no video in it")


def _handler(file: BinaryIO, at: int, end: int) -> bytes:
    for name, (content, content_end) in _boxes(file, at, end):
        if name == b"hdlr" and content_end - content >= 12:
            return _read_at(file, content + 8, 4)
    return b""


def _read_at(file: BinaryIO, at: int, count: int, reason: str = _CUT) -> bytes:
    file.seek(at)
    data = file.read(count)
    if len(data) < count:
        raise UnreadableVideoError(reason)
    return data
