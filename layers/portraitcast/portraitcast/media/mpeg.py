"""Frame headers of MPEG audio (ISO/IEC 11172-3 and 13818-3): layers I to III, versions 1, 2 and 2.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# kbit/s by index 1 to 14; 0 is "free format", which decoders don't play, and 15 is forbidden.
_V1_I: Final = (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448)
_V1_II: Final = (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_V1_III: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_V2_I: Final = (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_V2_II_III: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBPS: Final = {
    (True, 1): _V1_I,
    (True, 2): _V1_II,
    (True, 3): _V1_III,
    (False, 1): _V2_I,
    (False, 2): _V2_II_III,
    (False, 3): _V2_II_III,
}
_RATES: Final = (44_100, 48_000, 32_000)  # Hz in version 1
_RATE_SHIFT: Final = {3: 0, 2: 1, 0: 2}  # version bits (1, 2, 2.5): each halves the rate


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, as its header says: layer 1 to 3, length in bytes, samples of each channel, rate in Hz."""

    layer: int
    length: int
    samples: int
    rate: int
    version_1: bool
    mono: bool


def parse_frame(header: bytes) -> Frame | None:
    """Return what the first four bytes of a frame say, or None if they are no frame header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bits, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or bits in {0, 15} or rate == 3:
        return None
    hertz = _RATES[rate] >> _RATE_SHIFT[version]
    bit_rate = _KBPS[version == 3, layer][bits - 1] * 1000
    mono = header[3] >> 6 == 3
    if layer == 1:
        return Frame(1, (12 * bit_rate // hertz + padding) * 4, 384, hertz, version == 3, mono)
    samples = 576 if layer == 3 and version != 3 else 1152
    return Frame(layer, samples // 8 * bit_rate // hertz + padding, samples, hertz, version == 3, mono)


def same_stream(header: bytes, other: bytes) -> bool:
    """Whether two headers agree in what never changes within a stream: version, layer, sample rate."""
    return header[0] == other[0] and header[1] & 0xFE == other[1] & 0xFE and header[2] & 0x0C == other[2] & 0x0C
