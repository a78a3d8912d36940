"""Voices: type by content, and seconds as a decoder gives them."""

from __future__ import annotations

import contextlib
import io
import struct
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitcast.media import EmptyError, UnreadableError, Voice, probe_voice
from unit.media_samples import (
    SHARED_SAMPLES,
    ape_tag,
    decoded_seconds,
    encoded,
    fmt,
    id3v2,
    junk,
    mp3,
    picture,
    riff,
    wav,
)

if TYPE_CHECKING:
    from pathlib import Path

VBRI_FRAME = b"\xff\xfb\x90\xc4" + b"\0" * 32 + b"VBRI" + b"\0" * 377
ID3V1 = b"TAG" + b"Title".ljust(125, b"\0")


def probe(data: bytes) -> Voice:
    return probe_voice(io.BytesIO(data))


def reason(data: bytes, error_type: type[UnreadableError] = UnreadableError) -> str:
    with pytest.raises(error_type) as error:
        probe(data)
    assert type(error.value) is error_type
    return error.value.reason


# --- MP3 ---


@pytest.mark.parametrize("header", [True, False], ids=["with header", "without header"])
@pytest.mark.parametrize(
    "options",
    [
        {"bit_rate": 64_000},
        {"bit_rate": 128_000},
        {"bit_rate": 320_000, "channels": 2},
        {"quality": 0, "channels": 2},
        {"quality": 4},
        {"quality": 9},
        {"bit_rate": 96_000, "codec_options": (("abr", "1"),)},
        {"bit_rate": 64_000, "rate": 48_000},
        {"bit_rate": 64_000, "rate": 32_000},
        {"bit_rate": 32_000, "rate": 24_000},
        {"quality": 5, "rate": 22_050, "channels": 2},
        {"bit_rate": 32_000, "rate": 16_000},
        {"quality": 5, "rate": 11_025},
        {"bit_rate": 16_000, "rate": 8_000},
    ],
    ids=str,
)
def test_an_mp3_lasts_as_long_as_a_decoder_plays_it(options: dict[str, int], header: bool) -> None:
    data = mp3(header=header, **options)

    found = probe(data)

    assert (found.type, found.bytes) == ("mp3", len(data))
    assert found.seconds == pytest.approx(decoded_seconds(data), rel=0.005)


def test_sixty_seconds_of_sound_are_sixty_seconds_in_an_mp3() -> None:
    assert probe(mp3(60, bit_rate=32_000, rate=16_000)).seconds == 60.0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (id3v2(b"\0" * 3000), b""),
        (id3v2(b"\xff\x00" * 500, flags=0x80), b""),  # unsynchronised
        (id3v2(b"\0" * 50, flags=0x10), b""),  # with a footer
        (id3v2(b"a" * 40) + id3v2(b"b" * 400), b""),
        (id3v2(b""), b""),
        (id3v2(picture("JPEG")), b""),
        (b"", ID3V1),
        (b"", ape_tag(picture("JPEG"))),
        (b"", b"LYRICSBEGIN" + b"IND0000200" + b"la la la" + b"000029LYRICS200" + ID3V1),
        (b"", ape_tag(b"x" * 100) + ID3V1),
        (ape_tag(b"x" * 1000), b""),
        (b"\0" * 5000, b""),
        (junk(300_000), junk(200_000)),
    ],
    ids=[
        "id3v2",
        "unsynchronised",
        "footer",
        "two tags",
        "empty tag",
        "album art",
        "id3v1",
        "apev2 with art",
        "lyrics3",
        "apev2 and id3v1",
        "apev2 first",
        "zeros first",
        "junk around",
    ],
)
@pytest.mark.parametrize("header", [True, False], ids=["with header", "without header"])
def test_tags_and_junk_around_the_sound_are_no_sound(before: bytes, after: bytes, header: bool) -> None:
    plain = mp3(quality=4, header=header)

    assert probe(before + plain + after).seconds == probe(plain).seconds


def test_frames_inside_a_tag_are_no_sound() -> None:
    plain = mp3(quality=4)

    assert probe(id3v2(mp3(3)) + plain).seconds == probe(plain).seconds
    assert reason(id3v2(mp3(3)), EmptyError) == "there is no sound in it"


def test_a_tag_that_claims_more_than_the_file_is_searched_for_sound() -> None:
    plain = mp3(quality=4)
    tag = bytearray(id3v2(b"\0" * 300))
    tag[6:10] = b"\x7f\x7f\x7f\x7f"

    assert probe(bytes(tag) + plain).seconds == probe(plain).seconds


@pytest.mark.parametrize("part", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("header", [True, False], ids=["with header", "without header"])
def test_a_cut_mp3_is_a_voice_of_the_seconds_that_are_left(part: float, header: bool) -> None:
    whole = mp3(quality=4, header=header)
    data = whole[: int(len(whole) * part)]

    assert probe(data).seconds == pytest.approx(decoded_seconds(data), abs=0.03)  # a frame is 26 ms
    assert probe(data).seconds < probe(whole).seconds


def test_sound_behind_a_damaged_place_counts() -> None:
    whole = mp3(bit_rate=64_000, header=False)
    middle = len(whole) // 2
    data = whole[:middle] + junk(20_000) + whole[middle:]

    assert probe(data).seconds == pytest.approx(probe(whole).seconds, abs=0.06)


def test_pieces_of_two_sample_rates_joined_add_up() -> None:
    first, second = mp3(4, header=False), mp3(5, rate=22_050, header=False)

    assert probe(first + second).seconds == pytest.approx(probe(first).seconds + probe(second).seconds, abs=0.001)


def test_a_vbri_header_is_no_sound() -> None:
    plain = mp3(bit_rate=128_000, header=False)

    assert probe(VBRI_FRAME + plain).seconds == probe(plain).seconds


def test_a_headers_lie_about_its_frames_is_not_believed() -> None:
    data = bytearray(mp3(quality=4))
    at = data.index(b"Xing") + 8
    data[at : at + 4] = struct.pack(">I", 3)

    assert probe(bytes(data)).seconds == pytest.approx(10.0, rel=0.005)


@pytest.mark.parametrize("codec", ["mp2", "aac", "flac"])
def test_other_sound_behind_an_id3_tag_is_named(codec: str) -> None:
    data = id3v2(b"\0" * 20) + encoded({"aac": "adts"}.get(codec, codec), codec, 2)

    with pytest.raises(UnreadableError) as error:
        probe(data)

    assert error.value.kind == codec


def test_a_tag_alone_holds_no_sound() -> None:
    assert reason(id3v2(b"\0" * 5000), EmptyError) == "there is no sound in it"


def test_random_bytes_are_no_voice() -> None:
    data = b"\0" + junk(3_000_000)

    assert reason(data) == "there is no MP3 or WAV sound in it"


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xf3\x14\xc4" + b"\0" * 20,
        b"\xff\xfb\x90\0",
        b"\xff\xfb\x90\0\7",
        b"\xff",
        id3v2(b""),
        b"R",
    ],
    ids=["smallest frames", "false headers", "odd false headers", "sync bytes", "tags", "letters"],
)
def test_fifteen_megabytes_of_anything_take_little_time(data: bytes) -> None:
    data *= 15 * 1024 * 1024 // len(data)
    started = time.process_time()
    with contextlib.suppress(UnreadableError):
        probe(data)

    assert time.process_time() - started < 1


def test_sound_in_fifty_thousand_pieces_is_none() -> None:
    frame = b"\xff\xf3\x14\xc4" + bytes(20)

    assert probe((frame * 3 + b"\0") * 50_000).seconds == pytest.approx(50_000 * 3 * 0.024)
    assert reason((frame * 3 + b"\0") * 50_001) == "too much of it is not sound"


# --- WAV ---


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_a_pcm_wav_lasts_as_long_as_its_samples(rate: int, channels: int, width: int) -> None:
    assert probe(wav(1.5, rate, channels, width)).seconds == 1.5


@pytest.mark.parametrize(
    "codec",
    ["pcm_u8", "pcm_s24le", "pcm_f32le", "pcm_f64le", "pcm_mulaw", "pcm_alaw", "adpcm_ms", "adpcm_ima_wav"],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_lasts_as_long_as_a_decoder_plays_it(codec: str, channels: int) -> None:
    data = encoded("wav", codec, rate=22_050, channels=channels)

    assert probe(data).type == "wav"
    assert probe(data).seconds == pytest.approx(decoded_seconds(data), rel=0.005)


def test_chunks_may_come_in_any_order_with_odd_lengths_between() -> None:
    data = riff((b"LIST", b"odd"), (b"data", bytes(16_001)), (b"junk", b"x"), (b"fmt ", fmt(bits=8)))

    assert probe(data).seconds == pytest.approx(16_001 / 16_000)


def test_an_extensible_header_names_its_format_further_on() -> None:
    pcm_guid = bytes.fromhex("0100000000001000800000aa00389b71")
    header = fmt(0xFFFE, channels=2, bits=24) + struct.pack("<HHI", 22, 24, 3) + pcm_guid

    assert probe(riff((b"fmt ", header), (b"data", bytes(96_000)))).seconds == 1.0


@pytest.mark.parametrize(("fact", "seconds"), [(15_000, 0.9375), (1, 1.0), (4_000_000_000, 1.0)])
def test_a_fact_chunk_counts_only_where_the_byte_rate_bears_it_out(fact: int, seconds: float) -> None:
    header = fmt(tag=2, bits=4, byte_rate=8_000)
    data = riff((b"fmt ", header), (b"fact", struct.pack("<I", fact)), (b"data", bytes(8_000)))

    assert probe(data).seconds == seconds


@pytest.mark.parametrize("missing", [1, 1000, 31_000])
def test_a_wav_whose_data_is_longer_than_the_file_is_damaged(missing: int) -> None:
    assert reason(wav()[:-missing]) == "its header promises more sound than the file holds"


def test_a_wav_from_a_stream_that_never_got_its_size_is_damaged() -> None:
    data = wav().replace(b"data" + struct.pack("<I", 32_000), b"data\xff\xff\xff\xff")

    assert reason(data) == "its header promises more sound than the file holds"


def test_a_wav_with_a_cut_chunk_behind_its_sound_is_whole() -> None:
    assert probe(wav() + b"LIST\xff\0\0\0abc").seconds == 1.0


@pytest.mark.parametrize("data", [wav(0), riff((b"fmt ", fmt()), (b"data", b""))])
def test_a_wav_without_samples_holds_no_sound(data: bytes) -> None:
    assert reason(data, EmptyError) == "its header says that there is no sound in it"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (wav()[:20], "it ends before its sound begins"),
        (riff((b"fmt ", fmt())), "it ends before its sound begins"),
        (riff((b"data", bytes(100))), "it has no header that says what its sound is"),
        (riff((b"fmt ", fmt(channels=0)), (b"data", bytes(100))), "its header is damaged"),
        (riff((b"fmt ", fmt(rate=0)), (b"data", bytes(100))), "its header is damaged"),
        (riff((b"fmt ", fmt(bits=0)), (b"data", bytes(100))), "its header is damaged"),
        (riff((b"fmt ", fmt(tag=2, byte_rate=0)), (b"data", bytes(9))), "its header doesn't say how long it plays"),
        (riff((b"data", bytes(100)), (b"fmt ", b"ab")), "the file ends before its content does"),
        (riff(*[(b"abcd", b"")] * 50_000), "it has too many parts"),
    ],
)
def test_a_wav_with_a_senseless_header_is_unreadable(data: bytes, expected: str) -> None:
    assert reason(data) == expected


# --- Both ---


def test_no_bytes_are_no_voice() -> None:
    assert reason(b"", EmptyError) == "the file is empty"


SEEDS = [mp3(1, quality=4), mp3(1, header=False), id3v2(b"abc") + mp3(1), wav(), encoded("wav", "adpcm_ms", 1)]


@settings(max_examples=max(300, settings().max_examples))
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 5000),
)
def test_a_changed_file_is_a_voice_or_unreadable(seed: bytes, changes: list[tuple[int, int]], cut: int | None) -> None:
    data = bytearray(seed[:cut])
    for at, value in changes:
        if at < len(data):
            data[at] = value
    try:
        found = probe(bytes(data))
    except UnreadableError:
        return
    assert found.seconds > 0


@given(st.sampled_from([b"", b"ID3\4\0\0", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0"]), st.binary())
def test_random_bytes_are_a_voice_or_unreadable(start: bytes, rest: bytes) -> None:
    try:
        found = probe(start + rest)
    except UnreadableError:
        return
    assert found.seconds > 0


@pytest.mark.parametrize(
    "path", sorted([*SHARED_SAMPLES.glob("*.mp3"), *SHARED_SAMPLES.glob("*.wav")]), ids=lambda path: path.name
)
def test_a_real_voice_lasts_as_long_as_a_decoder_plays_it(path: Path) -> None:
    data = path.read_bytes()

    assert f".{probe(data).type}" == path.suffix
    assert probe(data).seconds == pytest.approx(decoded_seconds(data), rel=0.005)
    assert probe(data).bytes == len(data)
