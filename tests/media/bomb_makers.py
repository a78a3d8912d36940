"""Small files that ask for much: written by hand, since no honest program writes them."""

from __future__ import annotations

import struct

_CRC8 = [0] * 256
_CRC16 = [0] * 256
for _n in range(256):
    _small, _large = _n, _n << 8
    for _ in range(8):
        _small = (_small << 1) ^ (0x07 if _small & 0x80 else 0)
        _large = (_large << 1) ^ (0x8005 if _large & 0x8000 else 0)
    _CRC8[_n], _CRC16[_n] = _small & 0xFF, _large & 0xFFFF


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _CRC16[value >> 8 ^ byte]
    return value


def _coded(number: int) -> bytes:
    """Return a frame's number as FLAC writes it: UTF-8, further than Unicode goes."""
    if number < 0x80:
        return bytes([number])
    tail: list[int] = []
    while number > (0x3F >> len(tail)):
        tail.append(0x80 | number & 0x3F)
        number >>= 6
    lead = 0xFF << (7 - len(tail)) & 0xFF
    return bytes([lead | number, *reversed(tail)])


def flac_of_silence(seconds: int, rate: int = 8000) -> bytes:
    """Return a FLAC of digital silence: 14 bytes for each 8 s."""
    block = 65_535
    frames = seconds * rate // block
    samples = frames * block
    info = struct.pack(">HH", block, block) + bytes(6)
    info += struct.pack(">Q", rate << 44 | 0 << 41 | 15 << 36 | samples) + bytes(16)
    out = bytearray(b"fLaC" + bytes([0x80, 0, 0, len(info)]) + info)
    for number in range(frames):
        head = b"\xff\xf8\x70\x08" + _coded(number) + struct.pack(">H", block - 1)
        frame = head + bytes([_crc8(head)]) + b"\0\0\0"  # one subframe: constant, of the value 0
        out += frame + struct.pack(">H", _crc16(frame))
    return bytes(out)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, body: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]) + body)


def heic_in_itself(derivation: bytes, width: int, height: int) -> bytes:
    """Return a HEIC whose picture is made of itself: ``iden`` (a copy), or a ``grid`` of 256 by 256 of itself."""
    entry = _full(b"infe", struct.pack(">HH", 1, 0) + derivation + b"\0", version=2)
    properties = _box(b"ipco", _full(b"ispe", struct.pack(">II", width, height)))
    links = _full(b"ipma", struct.pack(">IHBB", 1, 1, 1, 0x81))
    grid = bytes([0, 0, 255, 255]) + struct.pack(">HH", width & 0xFFFF, height & 0xFFFF)
    many = 1 if derivation == b"iden" else 60_000
    references = struct.pack(">HH", 1, many) + struct.pack(">H", 1) * many
    meta = (
        _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
        + _full(b"pitm", struct.pack(">H", 1))
        + _full(b"iinf", struct.pack(">H", 1) + entry)
        + _full(b"iref", _box(b"dimg", references))
        + _box(b"iprp", properties + links)
        + _full(b"iloc", bytes([0x44, 0]) + struct.pack(">HHHHHII", 1, 1, 1, 0, 1, 0, len(grid)), version=1)
        + _box(b"idat", grid)
    )
    return _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic") + _full(b"meta", meta)


def id3_tag(size: int) -> bytes:
    """Return the head of an ID3v2 tag that says it has so many bytes."""
    return b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
