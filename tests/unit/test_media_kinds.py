"""What a file really is, by its first bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.media import describe, sniff
from unit.media_samples import encoded, id3v2, mp3, mp4, picture, wav

REAL_FILES = {
    "jpeg": picture("JPEG"),
    "png": picture("PNG"),
    "bmp": picture("BMP"),
    "webp": picture("WEBP"),
    "gif": picture("GIF", mode="L"),
    "tiff": picture("TIFF"),
    "avif": picture("AVIF"),
    "mp3": mp3(1),
    "mp2": encoded("mp2", "mp2", 1),
    "wav": wav(),
    "m4a": encoded("ipod", "aac", 1),
    "aac": encoded("adts", "aac", 1),
    "ogg": encoded("ogg", "libopus", 1, rate=48_000),
    "flac": encoded("flac", "flac", 1),
    "aiff": encoded("aiff", "pcm_s16be", 1),
    "wma": encoded("asf", "wmav2", 1, bit_rate=64_000),
    "webm": encoded("matroska", "libopus", 1, rate=48_000),
    "rf64": encoded("wav", "pcm_s16le", 1, container_options=(("rf64", "always"),)),
    "mp4": mp4(1),
}


@pytest.mark.parametrize("kind", REAL_FILES)
def test_real_files_are_told_apart_by_their_first_bytes(kind: str) -> None:
    assert sniff(REAL_FILES[kind][:4096]) == kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"<!DOCTYPE html><html>", "html"),
        (b"\xef\xbb\xbf\n <HTML lang=en>", "html"),
        ("<!doctype html>".encode("utf-16"), "html"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "xml"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">', "svg"),
        (b'{"code": "InvalidApiKey"}', "json"),
        (b'[{"a": 1}]', "json"),
        (b"%PDF-1.7", "pdf"),
        (b"PK\x03\x04", "zip"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "mov"),
        (b"#!AMR\n", "amr"),
        (id3v2(b"") + b"\0" * 20, "mp3"),
    ],
)
def test_other_things_people_drop_are_named(head: bytes, kind: str) -> None:
    assert sniff(head) == kind


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        b"BMW is a car, not a bitmap.",
        b"Dear Anna,\nhere is the text.",
        b"\0" * 4096,
        b"\xff\xfb\x90\xc4" + b"\0" * 4000,  # one frame header, and no second where the frame ends
        "hello".encode("utf-16"),
    ],
)
def test_what_nobody_can_tell_is_none(head: bytes) -> None:
    assert sniff(head) is None


def test_a_frame_header_of_sound_that_holds_a_brace_is_not_json() -> None:
    frame = b"\xff\xfb\x90{" + b"\0" * 413

    assert sniff(frame * 3) == "mp3"


@given(st.binary(max_size=300))
def test_any_bytes_have_an_answer_that_can_be_put_in_words(head: bytes) -> None:
    kind = sniff(head)

    assert kind is None or describe(kind).startswith(("a ", "an "))
