"""Refusals before anything is paid: each names the limit, the measured value and the way out."""

from __future__ import annotations

import io

import pytest

from portraitcast.domain.problems import Problem, ProblemError
from portraitcast.media.checks import check_portrait, check_portrait_bytes, check_voice, check_voice_bytes
from unit.media_samples import encoded, id3v2, mp3, picture, wav

MIB = 1024 * 1024


def refused_portrait(data: bytes, key: str = "acme/anna.png") -> Problem:
    with pytest.raises(ProblemError) as error:
        check_portrait(io.BytesIO(data), key)
    return error.value.problem


def refused_voice(data: bytes, key: str) -> Problem:
    with pytest.raises(ProblemError) as error:
        check_voice(io.BytesIO(data), key)
    return error.value.problem


@pytest.mark.parametrize("size", [(400, 400), (400, 7000), (7000, 400), (512, 512)])
def test_a_portrait_at_its_limits_passes(size: tuple[int, int]) -> None:
    found = check_portrait(io.BytesIO(picture("PNG", size, "L")), "anna.png")

    assert (found.width, found.height) == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_portraits_suffix_may_differ_from_its_content(kind: str) -> None:
    assert check_portrait(io.BytesIO(picture(kind)), "anna.jpg").type == kind.lower()


@pytest.mark.parametrize(("size", "measured"), [((399, 600), "399 px"), ((8000, 399), "399 px"), ((1, 1), "1 px")])
def test_a_shorter_side_under_400_pixels_is_too_small(size: tuple[int, int], measured: str) -> None:
    problem = refused_portrait(picture("PNG", size, "L"))

    assert problem == Problem(
        code="PortraitTooSmall",
        message=f"“anna.png” is {size[0]} by {size[1]} pixels; the shorter side must be at least 400 pixels.",
        what_to_do="Use a larger picture, at least 400 by 400 pixels.",
        limit="400 px",
        measured=measured,
    )


@pytest.mark.parametrize("size", [(7001, 400), (400, 7001)])
def test_a_longer_side_over_7000_pixels_is_too_large(size: tuple[int, int]) -> None:
    problem = refused_portrait(picture("PNG", size, "L"))

    assert problem == Problem(
        code="PortraitTooLarge",
        message=f"“anna.png” is {size[0]} by {size[1]} pixels; the longer side must be at most 7000 pixels.",
        what_to_do="Make the picture smaller, so that no side is over 7000 pixels.",
        limit="7000 px",
        measured="7001 px",
    )


@pytest.mark.parametrize("over", [1, 60_000, 10 * MIB])
def test_a_portrait_over_50_mb_is_too_big_and_isnt_read(over: int) -> None:
    check_portrait_bytes(50 * MIB, "anna.png")

    with pytest.raises(ProblemError) as error:
        check_portrait_bytes(50 * MIB + over, "acme/anna.png")

    problem = error.value.problem
    measured = {1: "50.000001 MB", 60_000: "50.1 MB", 10 * MIB: "60.0 MB"}[over]
    assert (problem.code, problem.limit, problem.measured) == ("PortraitTooBig", "50 MB", measured)
    assert problem.message == f"“anna.png” has {measured}; a portrait may have at most 50 MB."
    assert problem.what_to_do


def test_a_portrait_is_measured_before_it_is_read() -> None:
    whole = picture("JPEG")

    assert check_portrait(io.BytesIO(whole.ljust(50 * MIB, b"\0")), "a.jpg").bytes == 50 * MIB
    assert refused_portrait(whole.ljust(50 * MIB + 1, b"\0")).code == "PortraitTooBig"


def test_a_damaged_portrait_says_what_is_wrong_with_it() -> None:
    problem = refused_portrait(picture("PNG")[:-20])

    assert problem.code == "PortraitUnreadable"
    assert problem.message == "“anna.png” can't be read as a picture: the file ends before its picture does."
    assert problem.what_to_do.startswith("Upload it again")


@pytest.mark.parametrize(
    ("data", "really"),
    [
        (picture("GIF", mode="L"), "a GIF picture"),
        (picture("AVIF"), "an AVIF picture"),
        (mp3(1), "an MP3 sound"),
        (b"<!doctype html>", "a web page (HTML)"),
    ],
)
def test_a_portrait_that_is_something_else_says_what_it_is(data: bytes, really: str) -> None:
    problem = refused_portrait(data)

    assert (problem.code, problem.measured) == ("PortraitUnreadable", really)
    assert problem.message == f"“anna.png” is really {really}; a portrait must be JPEG, PNG, BMP or WebP."


@pytest.mark.parametrize("data", [b"", b"just some text"])
def test_no_picture_at_all_is_unreadable(data: bytes) -> None:
    assert refused_portrait(data).code == "PortraitUnreadable"


def test_an_empty_portrait_is_refused_before_it_is_downloaded() -> None:
    with pytest.raises(ProblemError, match="empty, 0 bytes"):
        check_portrait_bytes(0, "anna.png")


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (wav(60), "line.wav"),
        (wav(1), "a/b c/LINE.WAV"),
        (mp3(60, bit_rate=32_000, rate=16_000), "line.Mp3"),
        (mp3(10, header=False)[:50_000], "cut.mp3"),
    ],
)
def test_a_voice_of_up_to_60_seconds_passes(data: bytes, key: str) -> None:
    assert 0 < check_voice(io.BytesIO(data), key).seconds <= 60


@pytest.mark.parametrize(
    ("data", "key", "measured"),
    [
        (wav(61), "a/line.wav", "61.0 s"),
        (wav(60 + 1 / 16_000), "a/line.wav", "60.0001 s"),
        (wav(60.04), "a/line.wav", "60.04 s"),
        (mp3(61.2, bit_rate=32_000, rate=16_000), "a/line.mp3", "61.2 s"),
    ],
)
def test_a_voice_over_60_seconds_is_too_long(data: bytes, key: str, measured: str) -> None:
    problem = refused_voice(data, key)

    assert (problem.code, problem.limit, problem.measured) == ("VoiceTooLong", "60 s", measured)
    assert problem.message == f"“{key[2:]}” lasts {measured}; a voice may last at most 60 s."
    assert "Cut it to 60 s" in problem.what_to_do


@pytest.mark.parametrize(("over", "measured"), [(1, "15.000001 MB"), (MIB, "16.0 MB")])
def test_a_voice_over_15_mb_is_too_big_and_isnt_read(over: int, measured: str) -> None:
    check_voice_bytes(15 * MIB, "line.wav")

    with pytest.raises(ProblemError) as error:
        check_voice_bytes(15 * MIB + over, "a/line.wav")

    problem = error.value.problem
    assert (problem.code, problem.limit, problem.measured) == ("VoiceTooBig", "15 MB", measured)
    assert problem.message == f"“line.wav” has {measured}; a voice may have at most 15 MB."
    assert problem.what_to_do


def test_a_voice_of_exactly_15_mb_is_read() -> None:
    whole = wav(1)

    assert check_voice(io.BytesIO(whole.ljust(15 * MIB, b"\0")), "line.wav").seconds == 1.0
    assert refused_voice(whole.ljust(15 * MIB + 1, b"\0"), "line.wav").code == "VoiceTooBig"


@pytest.mark.parametrize(
    ("data", "key", "limit", "measured", "way_out"),
    [
        (mp3(1), "a/line.wav", "a WAV sound", "an MP3 sound", "Rename it to “line.mp3”"),
        (id3v2(b"\0" * 9) + mp3(1), "a/line.wav", "a WAV sound", "an MP3 sound", "Rename it to “line.mp3”"),
        (wav(1), "a/line.mp3", "an MP3 sound", "a WAV sound", "Rename it to “line.wav”"),
        (wav(1)[:-9], "a/line.mp3", "an MP3 sound", "a WAV sound", "Rename it to “line.wav”"),
        (encoded("ipod", "aac", 1), "a/line.mp3", "an MP3 sound", "an M4A sound", "Save the voice as an MP3 or WAV"),
        (encoded("mp2", "mp2", 1), "a/line.mp3", "an MP3 sound", "an MP2 sound (MPEG Layer II)", "Save the voice"),
        (picture(), "a/line.mp3", "an MP3 sound", "a JPEG picture", "Save the voice as an MP3 or WAV"),
        (b'{"code": 1}', "a/line.wav", "a WAV sound", "a JSON text", "Save the voice as an MP3 or WAV"),
    ],
)
def test_a_voice_that_isnt_what_its_suffix_says_names_both(
    data: bytes, key: str, limit: str, measured: str, way_out: str
) -> None:
    problem = refused_voice(data, key)

    assert (problem.code, problem.limit, problem.measured) == ("VoiceTypeMismatch", limit, measured)
    assert problem.message == f"“{key[2:]}” is named {key[-4:]} but is really {measured}."
    assert problem.what_to_do.startswith(way_out)


@pytest.mark.parametrize(
    ("data", "key"),
    [(b"", "line.mp3"), (b"", "line.wav"), (wav(0), "line.wav"), (id3v2(b"\0" * 100), "line.mp3")],
)
def test_a_voice_without_sound_is_empty(data: bytes, key: str) -> None:
    problem = refused_voice(data, key)

    assert (problem.code, problem.limit, problem.measured) == ("VoiceEmpty", "a sound longer than 0 s", "0 s")
    assert problem.message.startswith(f"“{key}” holds no sound: ")
    assert problem.what_to_do.startswith("Upload it again")


@pytest.mark.parametrize(
    ("data", "key", "message"),
    [
        (wav(1)[:-1], "a.wav", "“a.wav” can't be read: its header promises more sound than the file holds."),
        (b"just some text", "a.mp3", "“a.mp3” can't be read: there is no MP3 or WAV sound in it."),
    ],
)
def test_a_damaged_voice_says_what_is_wrong_with_it(data: bytes, key: str, message: str) -> None:
    problem = refused_voice(data, key)

    assert (problem.code, problem.message) == ("VoiceUnreadable", message)
    assert problem.what_to_do.startswith("Upload it again")


def test_a_name_in_a_message_keeps_its_letters_but_no_control_characters() -> None:
    problem = refused_voice(b"", "folder/声 “x”\n😀.mp3")

    assert problem.message.startswith("“声 “x”\N{REPLACEMENT CHARACTER}😀.mp3” ")
