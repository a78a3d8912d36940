"""Videos: sides and seconds of an MP4 that is all there."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitcast.adapters.probe import ProbedVideo, UnreadableVideoError, probe_video
from unit.media_samples import mp4, sound_mp4

WHOLE = mp4(2, (512, 704))
FAST_START = mp4(2, (512, 704), movflags="faststart")


class Counted(io.BytesIO):
    """A file that counts how often it is read."""

    calls = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.calls += 1
        return super().read(size)


def probe(data: bytes) -> ProbedVideo:
    return probe_video(io.BytesIO(data))


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableVideoError) as error:
        probe(data)
    return str(error.value)


@pytest.mark.parametrize("data", [WHOLE, FAST_START, mp4(2, (512, 704), with_sound=False)])
def test_sides_and_seconds(data: bytes) -> None:
    found = probe(data)

    assert (found.width, found.height, found.bytes) == (512, 704, len(data))
    assert found.seconds == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("data", [WHOLE, FAST_START], ids=["moov last", "moov first"])
@pytest.mark.parametrize("part", [0.001, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_video_that_was_cut_is_unreadable(data: bytes, part: float) -> None:
    assert reason(data[: int(len(data) * part)])


@pytest.mark.parametrize("data", [WHOLE, FAST_START], ids=["moov last", "moov first"])
def test_the_last_byte_is_missing(data: bytes) -> None:
    assert reason(data[:-1]) == "the file ends before its video does"


def test_sound_alone_is_no_video() -> None:
    assert reason(sound_mp4()) == "there is no video in it"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "the file is empty"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "it is no MP4 video"),
        (b"RIFF", "it is no MP4 video"),
        (WHOLE[:32], "the file ends before its video does"),
    ],
)
def test_what_is_no_whole_mp4(data: bytes, expected: str) -> None:
    assert reason(data) == expected


def test_a_box_too_small_to_be_one_ends_the_search() -> None:
    assert reason(WHOLE[:32] + b"\0\0\0\7free" + WHOLE[32:]) == "it has no readable header"


def test_a_box_may_have_a_long_size() -> None:
    at = WHOLE.index(b"mdat") - 4
    size = int.from_bytes(WHOLE[at : at + 4])
    long = b"\0\0\0\1mdat" + (size + 8).to_bytes(8) + WHOLE[at + 8 :]

    assert probe(WHOLE[:at] + long).width == 512


def test_endless_boxes_are_given_up_soon() -> None:
    read = Counted(WHOLE[:32] + b"\0\0\0\x08free" * 3_000_000)
    with pytest.raises(UnreadableVideoError, match="it has too many parts"):
        probe_video(read)
    assert read.calls < 20_000


@settings(max_examples=max(300, settings().max_examples))
@given(
    changes=st.lists(st.tuples(st.integers(1, 2500), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 4000),
)
def test_changed_bytes_are_a_video_or_unreadable(changes: list[tuple[int, int]], cut: int | None) -> None:
    data = bytearray(WHOLE[:cut])
    for back, value in changes:  # the boxes that are read lie at the end
        if back <= len(data):
            data[-back] = value
    try:
        found = probe(bytes(data))
    except UnreadableVideoError:
        return
    assert found.seconds > 0
