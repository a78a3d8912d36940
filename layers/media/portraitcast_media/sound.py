"""Decode sound to 16-bit mono, a piece at a time, whatever the file is. Runs in the child process only."""

from __future__ import annotations

import os
import wave
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.stream import Disposition

from portraitcast_media.limits import VOICE_MAX_RATE, VOICE_MIN_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.container import InputContainer

# Only these are tried: among FFmpeg's others are playlists (hls, concat, dash), which open files and links.
FORMATS: Final = (
    "wav w64 mp3 mov ogg flac matroska webm asf aiff caf amr amrnb amrwb aac loas au ac3 eac3 ape wv tta avi mpeg "
    "mpegts flv dsf voc mpc mpc8"
)
_STILL: Final = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_TICK: Final = Fraction(1, 1_000_000)
_FILLED_UP: Final = Fraction(3, 20)  # s: a frame of AAC at 8,000 Hz has 0.128
_HELD: Final = VOICE_MAX_RATE * 3 // 20 + 1  # samples of that at the highest rate


class NoSoundError(Exception):
    """A container that can be opened, with no sound in it."""


class MovingPictureError(Exception):
    """There is a moving picture in the file; `sound` says whether there is sound too."""

    def __init__(self, sound: bool) -> None:
        super().__init__("a moving picture")
        self.sound = sound


class TooLongError(Exception):
    """Decoding has passed its bound; `claimed` is the length that the container says, in s, or None."""

    def __init__(self, claimed: float | None) -> None:
        super().__init__("too long")
        self.claimed = claimed


class DamagedError(Exception):
    """Most of the sound can't be decoded, or it ends before its index does; the message says which."""


@dataclass(slots=True)
class Decoded:
    """What decoding has found so far.

    Attributes
    ----------
    container, codec
        FFmpeg's names, such as ``mov,mp4,m4a,3gp,3g2,mj2`` and ``aac``.
    claimed
        The length that the container says, in s, or None.
    rate, channels
        Of the first frame: Hz, number.
    seconds
        Decoded samples divided by their rate.
    bad
        Packets that couldn't be decoded.
    good
        Packets that could.
    """

    container: str
    codec: str
    claimed: float | None
    rate: int = 0
    channels: int = 0
    seconds: Fraction = field(default_factory=Fraction)
    bad: int = 0
    good: int = 0


def rate_for(rate: int) -> int:
    """Return the rate that a source's sound is made into, Hz: its own, where 0.2 s are whole samples of it."""
    if rate > VOICE_MAX_RATE:
        return 44_100 if rate % 44_100 == 0 else VOICE_MAX_RATE
    if rate < VOICE_MIN_RATE:
        return VOICE_MIN_RATE
    if rate % 5 == 0:
        return rate
    return next(known for known in (16_000, 24_000, 44_100, 48_000) if known >= rate)


def open_media(path: Path) -> InputContainer:
    """Open a file by its content alone: its name says nothing, and nothing else can be opened through it.

    The caller keeps the descriptor's number out of sight: FFmpeg is given a name without a suffix.

    Raises
    ------
    av.error.FFmpegError
        No decoder knows it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return av.open(
            f"/proc/self/fd/{descriptor}",
            options={"format_whitelist": FORMATS.replace(" ", ","), "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    finally:
        os.close(descriptor)


def decode(
    path: Path, most: float, *, left_only: bool = False, rate: int | None = None
) -> Iterator[tuple[Decoded, bytes]]:
    """Yield pieces of a file's sound as 16-bit mono samples, with what is known so far; the last has no samples.

    Parameters
    ----------
    path
        The file.
    most
        Where decoding stops, s.
    left_only
        Take the first channel instead of the mean of all.
    rate
        Hz to make the samples of; None is `rate_for` of the source's.

    Raises
    ------
    MovingPictureError, NoSoundError, TooLongError, DamagedError, av.error.FFmpegError
        What is wrong with it.
    """
    with open_media(path) as container:
        stream = _best(container)
        if stream.codec_context is None:
            raise DamagedError("no decoder here knows its codec")
        found = Decoded(container.format.name, stream.codec_context.name, _claimed(container, stream))
        slack = _FILLED_UP if found.claimed and found.claimed <= most and _is_mp4(found) else Fraction()
        held = bytearray()  # the last moment, until it is known whether it is the voice's
        for samples in _converted(_frames(container, stream, found), found, rate, left_only):
            if found.seconds > most + slack:
                raise TooLongError(found.claimed if found.claimed and found.claimed > most else None)
            held += samples
            if (ready := len(held) - 2 * _HELD) > 0:
                yield found, bytes(held[:ready])
                del held[:ready]
        _check_whole(found)
        del held[len(held) - 2 * _filling(found, rate or rate_for(found.rate)) :]
        yield found, bytes(held)


def _converted(frames: Iterator[AudioFrame], found: Decoded, rate: int | None, left_only: bool) -> Iterator[bytes]:
    """Yield frames as samples, and note their rate and length."""
    converter: _Converter | None = None
    for frame in frames:
        if not found.rate:
            found.rate, found.channels = frame.sample_rate, frame.layout.nb_channels
        found.seconds += Fraction(frame.samples, frame.sample_rate)
        if converter is None or not converter.fits(frame):  # joined files change their rate midway
            if converter:
                yield converter.rest()
            converter = _Converter(frame, rate or rate_for(found.rate), left_only)
        yield converter.convert(frame)
    if converter:
        yield converter.rest()


def _is_mp4(found: Decoded) -> bool:
    return found.container.startswith("mov")


def _filling(found: Decoded, rate: int) -> int:
    """Return how many samples at the end only fill the last frame up, as an MP4's index says; takes them off.

    A memo of 60 s would else have 60.02 s, and be too long for what takes 60.
    """
    if not found.claimed or not _is_mp4(found):
        return 0
    surplus = found.seconds - Fraction(found.claimed).limit_denominator(1_000_000)
    if not 0 < surplus <= _FILLED_UP:
        return 0
    found.seconds -= surplus
    return int(surplus * rate)


def _best(container: InputContainer) -> AudioStream:
    stream = container.streams.best("audio")
    if isinstance(stream, AudioStream):
        return stream
    if any(not video.disposition & _STILL for video in container.streams.video):
        raise MovingPictureError(sound=False)
    raise NoSoundError("there is no sound in it")


def _claimed(container: InputContainer, stream: AudioStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _check_whole(found: Decoded) -> None:
    """Refuse what can't be decoded for the most part, or has an index and ends before it: it was cut short."""
    if not found.seconds:
        raise DamagedError("nothing can be decoded") if found.bad else NoSoundError("nothing in it can be decoded")
    if found.bad > found.good:
        raise DamagedError("most of it can't be decoded")
    indexed = found.container.startswith("mov") or found.container in {"flac", "caf", "asf"}
    if indexed and found.claimed and float(found.seconds) < found.claimed - max(0.5, 0.02 * found.claimed):
        raise DamagedError(
            f"it is cut short: {found.claimed:.1f} s by its index, {float(found.seconds):.1f} s are there"
        )


def _frames(container: InputContainer, stream: AudioStream, found: Decoded) -> Iterator[AudioFrame]:
    """Yield the frames of the sound, leaving out what can't be decoded; refuse at the second frame of a picture."""
    pictures = [video for video in container.streams.video if not video.disposition & _STILL]
    seen = dict.fromkeys((video.index for video in pictures), 0)
    packets = container.demux([stream, *pictures])
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:  # the file ends within something, or what follows is no packet
            found.bad += 1
            return
        if packet.stream.index != stream.index:
            seen[packet.stream.index] += bool(packet.size)
            if seen[packet.stream.index] > 1:
                raise MovingPictureError(sound=True)
            continue
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            found.bad += 1
            continue
        found.good += bool(packet.size)
        for frame in frames:
            if isinstance(frame, AudioFrame) and frame.samples and frame.sample_rate:
                yield frame


class _Converter:
    """Makes frames of one format into 16-bit mono at one rate."""

    def __init__(self, frame: AudioFrame, rate: int, left_only: bool) -> None:
        self._format = _shape(frame)
        self._graph = graph = Graph()
        source = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name, time_base=_TICK
        )
        last = source
        if left_only or not _known_layout(frame):
            pan = graph.add("pan", "mono|c0=c0")
            last.link_to(pan)
            last = pan
        for name, arguments in (
            ("aresample", str(rate)),
            ("aformat", f"sample_fmts=s16:channel_layouts=mono:sample_rates={rate}"),
        ):
            following = graph.add(name, arguments)
            last.link_to(following)
            last = following
        self._sink = graph.add("abuffersink")
        last.link_to(self._sink)
        self._source = source
        graph.configure()

    def fits(self, frame: AudioFrame) -> bool:
        return _shape(frame) == self._format

    def convert(self, frame: AudioFrame) -> bytes:
        frame.pts = None  # gaps in the stamps are no gaps in the sound
        self._source.push(frame)
        return self._pull()

    def rest(self) -> bytes:
        self._source.push(None)
        return self._pull()

    def _pull(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            try:
                frame = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return b"".join(pieces)
            if isinstance(frame, AudioFrame):
                pieces.append(bytes(frame.planes[0])[: frame.samples * 2])


def _shape(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _known_layout(frame: AudioFrame) -> bool:
    """Whether FFmpeg knows how to mix the channels: not where it names only their number."""
    return frame.layout.nb_channels <= 2 or not frame.layout.name.endswith(" channels")


class Wav:
    """A WAV being written: 16-bit mono."""

    def __init__(self, path: Path, rate: int) -> None:
        self._file = wave.open(str(path), "wb")  # noqa: SIM115  # closed by close()
        self._file.setnchannels(1)
        self._file.setsampwidth(2)
        self._file.setframerate(rate)

    def write(self, samples: bytes) -> None:
        """Append samples."""
        self._file.writeframesraw(samples)

    def close(self) -> None:
        """Write the true sizes into the header."""
        self._file.close()
