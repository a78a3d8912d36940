"""MP4 files as boxes: insert some without touching any other byte but the sizes and the offsets that move.

Pictures and sound are never read here, only the index (``moov``), which is small.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_INDEX_MAX: Final = 64 * 1_048_576  # bytes; ten minutes have 300 KB
_BOXES_MAX: Final = 100_000
_DEPTH_MAX: Final = 8
_PIECE: Final = 1_048_576
_CONTAINERS: Final = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"edts", b"dinf", b"mvex"}
XMP_ID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # of the uuid box (Adobe, XMP part 3)


class BoxError(ValueError):
    """The file's boxes don't hold together; the message says where."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box at the top of a file.

    Attributes
    ----------
    type
        Four bytes.
    at, size
        Where its header begins and how long it is with it, bytes.
    header
        Length of its header: 8 or 16 bytes.
    """

    type: bytes
    at: int
    size: int
    header: int

    @property
    def end(self) -> int:
        """Where the next box begins."""
        return self.at + self.size


def top_boxes(file: BinaryIO, size: int) -> list[Box]:
    """Return a file's boxes. What follows the last whole box, once there is an index and the pictures, is left out.

    Raises
    ------
    BoxError
        A box is longer than the file.
    """
    boxes: list[Box] = []
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        box = _box(head, at, size)
        if box is None or box.end > size or len(boxes) > _BOXES_MAX:
            if {b"moov", b"mdat"} <= {found.type for found in boxes}:
                return boxes  # bytes behind the end: players leave them out, and so are they left where they are
            raise BoxError(f"the box at byte {at} is longer than the file")
        boxes.append(box)
        at = box.end
    return boxes


def _box(head: bytes, at: int, size: int) -> Box | None:
    if len(head) < 8:
        return None
    length, kind, header = struct.unpack(">I", head[:4])[0], head[4:8], 8
    if length == 1:
        if len(head) < 16:
            return None
        length, header = struct.unpack(">Q", head[8:16])[0], 16
    elif length == 0:
        length = size - at
    return Box(kind, at, length, header) if length >= header else None


def children(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return (type, whole box) of the boxes that a box's body is made of. Raises `BoxError`."""
    found, at = [], 0
    while at < len(body):
        if len(body) - at == 4 and body[at:] == bytes(4):  # the zero that QuickTime ends udta with
            break
        box = _box(body[at : at + 16], at, len(body))
        if box is None or box.end > len(body):
            raise BoxError("a box within the index is longer than what holds it")
        found.append((box.type, body[at : box.end]))
        at = box.end
    return found


def make(kind: bytes, *bodies: bytes) -> bytes:
    """Return a box."""
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + kind + body


def body_of(box: bytes) -> bytes:
    """Return a whole box's body."""
    return box[16:] if box[:4] == b"\0\0\0\1" else box[8:]


def find(body: bytes, *path: bytes) -> bytes | None:
    """Return the body of the first box along a path of types below `body`, or None."""
    for kind in path:
        found = next((box for name, box in children(body) if name == kind), None)
        if found is None:
            return None
        body = body_of(found)
    return body


def shifted(body: bytes, after: int, by: int, depth: int = 0) -> bytes:
    """Return an index's body with every chunk's offset that lies at or behind `after` moved by `by` bytes.

    Raises
    ------
    BoxError
        An offset no longer fits.
    """
    if depth > _DEPTH_MAX:
        raise BoxError("boxes are nested too deeply")
    out = []
    for kind, box in children(body):
        if kind in _CONTAINERS:
            out.append(make(kind, shifted(body_of(box), after, by, depth + 1)))
        elif kind in {b"stco", b"co64"}:
            out.append(make(kind, _shifted_offsets(kind, body_of(box), after, by)))
        else:
            out.append(box)
    return b"".join(out)


def _shifted_offsets(kind: bytes, body: bytes, after: int, by: int) -> bytes:
    code = "I" if kind == b"stco" else "Q"
    count = struct.unpack(">I", body[4:8])[0]
    if len(body) < 8 + count * struct.calcsize(">" + code):
        raise BoxError("a table of offsets is cut short")
    offsets = struct.unpack_from(f">{count}{code}", body, 8)
    moved = [offset + by if offset >= after else offset for offset in offsets]
    try:
        return body[:8] + struct.pack(f">{count}{code}", *moved)
    except struct.error as error:
        raise BoxError("an offset no longer fits into 32 bits") from error


def index_of(path: Path) -> tuple[list[Box], Box, bytes]:
    """Return a file's boxes, its index, and the index's body.

    Raises
    ------
    BoxError
        It has no index, more than one, a huge one, or is fragmented (its pictures are placed by every fragment).
    """
    with path.open("rb") as file:
        boxes = top_boxes(file, path.stat().st_size)
        indices = [box for box in boxes if box.type == b"moov"]
        if len(indices) != 1 or indices[0].size > _INDEX_MAX:
            raise BoxError("it has no index" if not indices else "its index is not one of ordinary size")
        if any(box.type == b"moof" for box in boxes):
            raise BoxError("it is fragmented")
        if not any(box.type == b"mdat" for box in boxes):
            raise BoxError("there is nothing behind its index")
        file.seek(indices[0].at + indices[0].header)
        return boxes, indices[0], file.read(indices[0].size - indices[0].header)


def rewrite(path: Path, out: Path, index: bytes, behind: bytes) -> None:
    """Write a file anew with another index body, and a box right behind the index.

    Raises
    ------
    BoxError
        As `index_of` and `shifted`.
    """
    _, moov, _ = index_of(path)
    grown = 8 + len(index) + len(behind) - moov.size
    moov_and_more = make(b"moov", shifted(index, moov.end, grown)) + behind
    with path.open("rb") as source, out.open("wb") as target:
        _copy(source, target, moov.at)
        target.write(moov_and_more)
        source.seek(moov.end)
        _copy(source, target, None)


def _copy(source: BinaryIO, target: BinaryIO, length: int | None) -> None:
    left = length
    while left is None or left > 0:
        piece = source.read(_PIECE if left is None else min(_PIECE, left))
        if not piece:
            return
        target.write(piece)
        if left is not None:
            left -= len(piece)
