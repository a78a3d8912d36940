"""Pictures: type and sides from headers, and a missing end is seen."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from portraitcast.media import EmptyError, Picture, UnreadableError, probe_picture
from unit.media_samples import SHARED_SAMPLES, mp3, picture, riff

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (480, 640)
KINDS = {
    "baseline jpeg": picture("JPEG"),
    "progressive jpeg": picture("JPEG", progressive=True),
    "jpeg with restarts": picture("JPEG", restart_marker_blocks=1),
    "grey jpeg": picture("JPEG", mode="L"),
    "cmyk jpeg": picture("JPEG", mode="CMYK"),
    "png": picture("PNG"),
    "1-bit png": picture("PNG", mode="1"),
    "png with alpha": picture("PNG", mode="RGBA"),
    "palette png": picture("PNG", mode="P"),
    "bmp": picture("BMP"),
    "1-bit bmp": picture("BMP", mode="1"),
    "palette bmp": picture("BMP", mode="P"),
    "bmp with alpha": picture("BMP", mode="RGBA"),
    "lossy webp": picture("WEBP"),
    "lossless webp": picture("WEBP", lossless=True),
    "webp with alpha": picture("WEBP", mode="RGBA"),
    "webp with exif": picture("WEBP", exif=Image.Exif()),
}


def probe(data: bytes) -> Picture:
    return probe_picture(io.BytesIO(data))


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableError) as error:
        probe(data)
    return error.value.reason


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def png_chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("name", KINDS)
def test_type_sides_and_bytes_are_read(name: str) -> None:
    data = KINDS[name]
    kinds: tuple[Literal["jpeg", "png", "bmp", "webp"], ...] = ("jpeg", "png", "bmp", "webp")
    kind = next(kind for kind in kinds if kind in name)

    assert probe(data) == Picture(kind, *SIZE, len(data))


@pytest.mark.parametrize("size", [(400, 401), (401, 400), (7000, 3), (1, 1)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_width_is_width_and_height_is_height(kind: str, size: tuple[int, int]) -> None:
    found = probe(picture(kind, size))

    assert (found.width, found.height) == size
    assert (found.shorter, found.longer) == (min(size), max(size))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_picture_that_was_cut_is_unreadable(name: str, part: float) -> None:
    assert reason(KINDS[name][: int(len(KINDS[name]) * part)])


@pytest.mark.parametrize("name", [name for name in KINDS if "jpeg" not in name])
def test_a_picture_without_its_last_byte_says_that_its_end_is_missing(name: str) -> None:
    assert reason(KINDS[name][:-1]) == "the file ends before its picture does"


@pytest.mark.parametrize("name", [name for name in KINDS if "jpeg" in name])
def test_a_jpeg_without_its_end_marker_is_unreadable_even_if_padded(name: str) -> None:
    assert reason(KINDS[name][:-2]) == "the file ends before its picture does"
    assert reason(KINDS[name][:-2] + b"\0" * 5000) == "the file ends before its picture does"


@pytest.mark.parametrize("name", KINDS)
def test_bytes_behind_the_end_do_no_harm(name: str) -> None:
    found = probe(KINDS[name] + b"\0\xff\xd8padding" * 100)

    assert (found.width, found.height) == SIZE


def test_a_jpegs_thumbnail_is_not_taken_for_the_picture() -> None:
    thumbnail = picture("JPEG", (160, 120))
    exif = segment(0xE1, b"Exif\0\0" + thumbnail)
    whole = KINDS["baseline jpeg"]
    data = whole[:2] + exif + segment(0xE2, bytes(65_000)) * 20 + whole[2:]

    assert probe(data).width == SIZE[0]
    assert reason(data[:-2]) == "the file ends before its picture does"
    assert reason(whole[:2] + exif) == "the file ends before its picture does"


def test_fill_bytes_before_a_jpegs_markers_are_allowed() -> None:
    whole = KINDS["baseline jpeg"]

    assert probe(whole[:2] + b"\xff" * 9 + whole[2:-2] + b"\xff" * 9 + whole[-2:]).height == SIZE[1]


@pytest.mark.parametrize("marker", [0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_every_kind_of_jpeg_frame_gives_its_sides(marker: int) -> None:
    frame = segment(marker, struct.pack(">BHHB", 8, 500, 600, 1) + b"\1\x11\0")
    scan = segment(0xDA, b"\1\1\0\0\x3f\0")

    found = probe(b"\xff\xd8" + frame + scan + b"data\xff\0\xff\xd0more" + b"\xff\xd9")

    assert (found.width, found.height) == (600, 500)


def test_a_marker_is_found_wherever_a_chunk_of_reading_ends() -> None:
    whole = KINDS["baseline jpeg"]
    for padding in range(1024 * 1024 - 8, 1024 * 1024 + 4):
        data = b"\xff\xd8" + whole[2:-2] + bytes(padding) + whole[-2:]
        assert probe(data).width == SIZE[0]


def test_a_jpeg_without_a_frame_or_a_scan_holds_no_picture() -> None:
    assert reason(b"\xff\xd8" + segment(0xFE, b"only a comment") + b"\xff\xd9") == "there is no picture in it"


def test_a_png_needs_pixels_and_a_true_header() -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 500, 500, 8, 2, 0, 0, 0))
    start = b"\x89PNG\r\n\x1a\n"

    assert reason(start + header + png_chunk(b"IEND")) == "there is no picture in it"
    assert reason(start + header[:9] + b"\x7f" + header[10:]) == "its header is damaged"


def test_a_png_without_its_iend_is_cut() -> None:
    whole = KINDS["png"]
    assert reason(whole[:-12]) == "the file ends before its picture does"


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 500, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT")
        + png_chunk(b"IEND"),
        b"BM" + struct.pack("<IHHI IiiHHIIiiII", 54, 0, 0, 54, 40, 500, 0, 1, 24, 0, 0, 0, 0, 0, 0),
        riff((b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 0, 500)), form=b"WEBP"),
        b"\xff\xd8"
        + segment(0xC0, struct.pack(">BHHB", 8, 0, 600, 1) + b"\1\x11\0")
        + segment(0xDA, b"\1\1\0\0\x3f\0")
        + b"\xff\xd9",
    ],
    ids=["png", "bmp", "webp", "jpeg"],
)
def test_a_side_of_0_pixels_is_unreadable(data: bytes) -> None:
    assert reason(data) == "its header says that a side is 0 pixels"


def test_a_bmp_may_start_with_its_top_row() -> None:
    whole = bytearray(KINDS["bmp"])
    whole[22:26] = struct.pack("<i", -SIZE[1])

    assert probe(bytes(whole)).height == SIZE[1]


def test_a_bmp_may_have_the_old_os2_header() -> None:
    head = b"BM" + struct.pack("<IHHI IHHHH", 0, 0, 0, 26, 12, 5, 3, 1, 24)  # rows of 15 bytes, padded to 16

    assert (probe(head + bytes(48)).width, probe(head + bytes(48)).height) == (5, 3)
    assert reason(head + bytes(47)) == "the file ends before its picture does"


def test_a_packed_bmp_is_measured_by_the_size_it_declares() -> None:
    def packed(stored: int, whole: int) -> bytes:
        return b"BM" + struct.pack("<IHHI IiiHHIIiiII", whole, 0, 0, 54, 40, 500, 400, 1, 8, 1, stored, 0, 0, 0, 0)

    assert probe(packed(100, 154) + bytes(100)).width == 500
    assert reason(packed(100, 154) + bytes(99)) == "the file ends before its picture does"
    assert reason(packed(0, 154) + bytes(99)) == "the file ends before its picture does"


def test_a_webp_of_one_pixel_has_sides() -> None:
    assert probe(picture("WEBP", (1, 1), lossless=True)).longer == 1


def test_an_animated_webp_has_the_sides_of_its_canvas() -> None:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])

    assert (probe(out.getvalue()).width, probe(out.getvalue()).height) == SIZE


def test_no_bytes_are_no_picture() -> None:
    with pytest.raises(EmptyError):
        probe(b"")


def test_another_type_is_named() -> None:
    with pytest.raises(UnreadableError) as error:
        probe(mp3(1))

    assert (error.value.kind, error.value.reason) == ("mp3", "it is an MP3 sound")


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 500, 500, 8, 2, 0, 0, 0))
        + png_chunk(b"tEXt") * 2_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 6_000_000,
        b"\xff\xd8" + (b"\xff\xe0\0\2" + b"a" * 600) * 40_000,
        b"\xff\xd8" + b"\xff" * 24_000_000,
        b"\xff\xd8\xff\xda\0\2" + b"\xff\0" * 12_000_000,
        riff((b"abcd", b""), form=b"WEBP")[:12] + b"abcd\0\0\0\0" * 3_000_000,
        b"RIFF\0\0\0\x01WEBP" + b"abcd\0\0\0\0" * 3_000_000,
    ],
    ids=["png chunks", "jpeg segments", "jpeg gaps", "jpeg fill", "jpeg stuffing", "webp", "webp chunks"],
)
def test_endless_parts_are_given_up_soon(data: bytes) -> None:
    started = time.process_time()

    assert reason(data)
    assert time.process_time() - started < 3


def test_memory_stays_flat_however_large_the_picture(tmp_path: Path) -> None:
    whole = KINDS["baseline jpeg"]
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.write(whole[:-2])
        file.seek(40_000_000)
        file.write(whole[-2:])
    with path.open("rb") as file:
        tracemalloc.start()
        found = probe_picture(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert found.width == SIZE[0]
    assert peak < 4 * 1024 * 1024


@settings(max_examples=max(300, settings().max_examples))
@given(
    name=st.sampled_from(sorted(KINDS)),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 3000),
)
def test_a_changed_file_is_a_picture_or_unreadable(name: str, changes: list[tuple[int, int]], cut: int | None) -> None:
    data = bytearray(KINDS[name][:cut])
    for at, value in changes:
        data[at : at + 1] = bytes([value])[: len(data) - at if at < len(data) else 0]
    try:
        found = probe(bytes(data))
    except UnreadableError:
        return
    assert found.shorter > 0


@pytest.mark.parametrize("path", sorted(SHARED_SAMPLES.glob("*.png")), ids=lambda path: path.name)
def test_a_real_portrait_has_the_sides_that_pillow_sees(path: Path) -> None:
    with Image.open(path) as image:
        assert (probe(path.read_bytes()).width, probe(path.read_bytes()).height) == image.size
