"""Join the parts' videos and the whole voice into one video. Runs in the child process only.

Video packets are copied part behind part, each part at its exact place; the voice is encoded once over the whole
length. Memory stays flat: the packets of one part are held at a time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from heapq import merge
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from portraitcast_media.limits import GRID_SECONDS
from portraitcast_media.sound import decode, open_media

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

TICKS: Final = 90_000  # a second, of the joined video's clock: exact at 15, 24, 25 and 30 frames a second
_CLOCK: Final = Fraction(1, TICKS)
_AAC_RATES: Final = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_AAC_FRAME: Final = 1024  # samples
_PADDING: Final = 0.14  # s: the last frame of AAC is filled up, at 8,000 Hz with up to 0.128 s
_HELD_MAX: Final = 1.0  # s that a part's last picture may be held: rounding takes a frame or two, more is a broken part
_AAC_BIT_RATE: Final = 128_000  # one voice: more can't be heard
# Tests hold pictures encoded with it to a mean difference of 1.5 of 255 (test_label); two CPU s for 20 s are the bound
X264: Final = {"preset": "veryfast", "crf": "13", "tune": "film"}


_OF_THE_FILE: Final = {"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time"}


class VideoError(Exception):
    """A video can't be used, or the result would be wrong; the message says why."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part's video.

    Attributes
    ----------
    file
        Where it lies on this disk.
    seconds
        How long it is to be shown, s: the length of its part of the voice. The last is shown to the voice's end.
    """

    file: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Film:
    """A video, measured.

    Attributes
    ----------
    width, height
        px.
    seconds
        From the first frame's beginning to the last one's end, s, 3 decimals.
    frames
        Number of pictures.
    sound_seconds
        Decoded samples of its sound divided by their rate, s, 3 decimals; 0 without one.
    reencoded
        Whether pictures were encoded anew.
    """

    width: int
    height: int
    seconds: float
    frames: int
    sound_seconds: float
    reencoded: bool


def join(pieces: Sequence[Piece], voice: Path, out: Path, *, max_seconds: float) -> Film:
    """Write one video of all parts with the whole voice, and return what it is.

    Parameters
    ----------
    pieces
        The parts in order.
    voice
        The whole voice, of any kind that can be decoded.
    out
        The video to write, an MP4 whose index is at its beginning.
    max_seconds
        The longest voice that is taken.

    Raises
    ------
    VideoError
        A part has no picture, sides differ, or the result isn't what it must be.
    """
    if not pieces:
        raise VideoError("there are no parts")
    looks = [_look(Path(piece.file)) for piece in pieces]
    sides = {(look.width, look.height) for look in looks}
    if len(sides) != 1:
        raise VideoError(f"the parts have different sides: {sorted(sides)}")
    length = _voice_seconds(voice, max_seconds)
    total = sum(piece.seconds for piece in pieces)
    if abs(total - length) > GRID_SECONDS:
        raise VideoError(f"the parts are {total:.3f} s of a voice that has {length:.3f} s")
    starts = _starts(pieces)
    ends = [*starts[1:], max(_ticks(length), starts[-1] + 1)]
    for look, start, end in zip(looks, starts, ends, strict=True):
        if look.seconds < (end - start) / TICKS - _HELD_MAX:
            raise VideoError(f"a part has {look.seconds:.3f} s instead of {(end - start) / TICKS:.3f} s")
    copied = len({look.parameters for look in looks}) == 1 and all(
        look.can_end(end - start) for look, start, end in zip(looks, starts, ends, strict=True)
    )
    places = list(zip(pieces, starts, ends, strict=True))
    with open_media(Path(pieces[0].file)) as first, open_target(out, first) as target:
        picture = _copied_stream(first, target) if copied else _encoded_stream(first, target)
        sound = _sound_stream(target, voice)
        packets = _copied(places, picture) if copied else _encoded(places, picture)
        for packet in merge(packets, _voice_packets(voice, sound, max_seconds), key=_when):
            target.mux_one(packet)
    film = measure(out, reencoded=not copied)
    _check(film, sides.pop(), length)
    return film


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS)


def _starts(pieces: Sequence[Piece]) -> list[int]:
    starts, at = [], Fraction()
    for piece in pieces:
        starts.append(round(at * TICKS))
        at += Fraction(piece.seconds).limit_denominator(TICKS)
    return starts


def _when(packet: Packet[Any]) -> Fraction:
    return (packet.dts or 0) * (packet.time_base or _CLOCK)


def _check(film: Film, sides: tuple[int, int], length: float) -> None:
    """Refuse a result that isn't what it must be: sides, seconds to a frame, one unbroken sound to its end."""
    frame = film.seconds / film.frames if film.frames else 1
    if (film.width, film.height) != sides:
        raise VideoError(
            f"the joined video has {film.width} by {film.height} pixels instead of {sides[0]} by {sides[1]}"
        )
    if abs(film.seconds - length) > frame + 0.001:
        raise VideoError(f"the joined video has {film.seconds} s instead of {length:.3f} s")
    if not -0.01 <= film.sound_seconds - length <= _PADDING:
        raise VideoError(f"the joined video's sound has {film.sound_seconds} s instead of {length:.3f} s")


# ---------------------------------------------------------------- what the parts are


@dataclass(frozen=True, slots=True)
class _Look:
    """What decides whether a part's packets can be copied.

    Attributes
    ----------
    width, height
        px.
    parameters
        Codec, its set-up (SPS and PPS) and pixels: packets of equal ones can follow one another.
    stamps
        When each packet is shown, in the order in which they are decoded, ticks from the first picture.
    """

    width: int
    height: int
    parameters: tuple[object, ...]
    stamps: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """How long the part is: from its first picture to when the one behind its last would be shown, s."""
        return (max(self.stamps) / TICKS) * len(self.stamps) / max(len(self.stamps) - 1, 1)

    def can_end(self, ticks: int) -> bool:
        """Whether the part can be cut to a length by leaving out packets: none that is kept may need one that isn't."""
        kept = [stamp < ticks for stamp in self.stamps]
        return any(kept) and not any(later and not earlier for earlier, later in pairwise(kept))


def video_of(container: InputContainer, path: Path) -> VideoStream:
    """Return a file's moving picture. Raises `VideoError` where it has none."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise VideoError(f"there is no picture in {path.name}")
    return stream


def open_video(path: Path) -> InputContainer:
    """Open a video. Raises `VideoError` where no decoder knows it."""
    try:
        return open_media(path)
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"{path.name} can't be read as a video") from error


def _packets(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[tuple[Packet[Any], int, int]]:
    """Yield packets with when they are shown and decoded, in ticks from the first picture."""
    try:
        packets = [packet for packet in container.demux(stream) if packet.size]
    except av.error.FFmpegError as error:
        raise VideoError(f"{path.name} is damaged") from error
    if not packets or any(packet.pts is None for packet in packets):
        raise VideoError(f"there is no picture in {path.name}")
    base = stream.time_base or _CLOCK
    first = min(packet.pts or 0 for packet in packets)
    for packet in packets:
        shown = ((packet.pts or 0) - first) * base
        decoded_at = ((packet.dts if packet.dts is not None else packet.pts or 0) - first) * base
        yield packet, round(shown * TICKS), round(decoded_at * TICKS)


def _look(path: Path) -> _Look:
    with open_video(path) as container:
        stream = video_of(container, path)
        codec = stream.codec_context
        parameters = (codec.name, codec.extradata, codec.pix_fmt, codec.width, codec.height)
        stamps = tuple(shown for _, shown, _ in _packets(container, stream, path))
        return _Look(codec.width, codec.height, parameters, stamps)


def _voice_seconds(voice: Path, max_seconds: float) -> float:
    seconds = 0.0
    for found, _ in decode(voice, max_seconds):
        seconds = float(found.seconds)
    return seconds


def open_target(out: Path, source: InputContainer) -> OutputContainer:
    """Begin an MP4 whose index is at its beginning, and keep what the source says of itself in words."""
    words = {name: text for name, text in source.metadata.items() if name not in _OF_THE_FILE}
    flags = "faststart+use_metadata_tags" if words else "faststart"  # names of one's own are written only then
    target = av.open(str(out), "w", format="mp4", options={"movflags": flags})
    target.metadata.update(words)
    return target


# ---------------------------------------------------------------- pictures


def _copied_stream(first: InputContainer, target: OutputContainer) -> VideoStream:
    stream = target.add_stream_from_template(video_of(first, Path("the first part")))
    stream.time_base = _CLOCK
    return stream


def _copied(places: Sequence[tuple[Piece, int, int]], target: VideoStream) -> Iterator[Packet[Any]]:
    """Yield the parts' packets at their places. A part's last picture is held until the next begins."""
    last = None
    for piece, start, end in places:
        path = Path(piece.file)
        with open_video(path) as container:
            kept = [
                (packet, shown, decoded_at)
                for packet, shown, decoded_at in _packets(container, video_of(container, path), path)
                if shown < end - start
            ]
            order = [*sorted(shown for _, shown, _ in kept), end - start]
            following = dict(pairwise(order))
            for packet, shown, decoded_at in kept:
                packet.stream = target
                packet.time_base = _CLOCK
                packet.pts = start + shown
                at = start + decoded_at
                packet.dts = at if last is None else min(max(at, last + 1), packet.pts)
                packet.duration = following[shown] - shown
                last = packet.dts
                yield packet


def _encoded_stream(first: InputContainer, target: OutputContainer) -> VideoStream:
    source = video_of(first, Path("the first part"))
    stream = target.add_stream("libx264", rate=source.average_rate or 15, options=X264)
    stream.width, stream.height, stream.pix_fmt = source.width, source.height, "yuv420p"
    stream.codec_context.time_base = _CLOCK
    stream.time_base = _CLOCK
    return stream


def _encoded(places: Sequence[tuple[Piece, int, int]], target: VideoStream) -> Iterator[Packet[Any]]:
    """Yield the parts' pictures, encoded anew, at their places."""
    for piece, start, end in places:
        path = Path(piece.file)
        with open_video(path) as container:
            stream = video_of(container, path)
            first = None
            try:
                for frame in container.decode(stream):
                    if frame.pts is None:
                        continue
                    first = frame.pts if first is None else first
                    shown = round((frame.pts - first) * (stream.time_base or _CLOCK) * TICKS)
                    if shown < end - start:
                        frame.pts, frame.time_base = start + shown, _CLOCK
                        frame.pict_type = 0
                        yield from target.encode(frame)
            except av.error.FFmpegError as error:
                raise VideoError(f"{path.name} is damaged") from error
    yield from target.encode(None)


# ---------------------------------------------------------------- sound


def _sound_stream(target: OutputContainer, voice: Path) -> AudioStream:
    with open_media(voice) as container:
        source = container.streams.best("audio")
        rate = source.codec_context.sample_rate if isinstance(source, AudioStream) else 0
    fitting = min((known for known in _AAC_RATES if known >= rate), default=_AAC_RATES[-1])
    stream: AudioStream = target.add_stream("aac", rate=fitting, layout="mono")
    stream.bit_rate = min(_AAC_BIT_RATE, fitting * 4)  # AAC has at most 6 bits a sample
    return stream


def _voice_packets(voice: Path, target: AudioStream, max_seconds: float) -> Iterator[Packet[Any]]:
    """Yield the whole voice as AAC, one encoder over its whole length."""
    rate, at, pending = target.codec_context.sample_rate, 0, bytearray()

    def frame(samples: bytes) -> AudioFrame:
        made = AudioFrame(format="s16", layout="mono", samples=len(samples) // 2)
        made.planes[0].update(samples.ljust(made.planes[0].buffer_size, b"\0"))
        made.sample_rate, made.pts, made.time_base = rate, at, Fraction(1, rate)
        return made

    for _, samples in decode(voice, max_seconds, rate=rate):
        pending += samples
        while len(pending) >= 2 * _AAC_FRAME:
            yield from target.encode(frame(bytes(pending[: 2 * _AAC_FRAME])))
            del pending[: 2 * _AAC_FRAME]
            at += _AAC_FRAME
    if pending:
        yield from target.encode(frame(bytes(pending)))
    yield from target.encode(None)


# ---------------------------------------------------------------- measured


def measure(path: Path, *, reencoded: bool = False) -> Film:
    """Return what a video is: its index read whole, its sound decoded, its pictures not.

    Raises
    ------
    VideoError
        It can't be read, has no picture, or its sound has a gap.
    """
    with open_video(path) as container:
        stream = video_of(container, path)
        base = stream.time_base or _CLOCK
        frames, end, first = 0, Fraction(), None
        samples = Fraction()
        expected = None
        sounds = [container.streams.best("audio")] if container.streams.audio else []
        try:
            for packet in container.demux([stream, *(sound for sound in sounds if sound)]):
                if not packet.size or packet.pts is None:
                    continue
                if packet.stream.index == stream.index:
                    frames += 1
                    first = packet.pts if first is None else min(first, packet.pts)
                    end = max(end, (packet.pts + (packet.duration or 0)) * base)
                    continue
                if expected is not None and abs(packet.pts - expected) > 1:
                    raise VideoError(f"the sound of {path.name} has a gap")
                expected = packet.pts + (packet.duration or 0)
        except av.error.FFmpegError as error:
            raise VideoError(f"{path.name} is damaged") from error
        if not frames:
            raise VideoError(f"there is no picture in {path.name}")
        width, height = stream.width, stream.height
    if sounds:
        samples = _sound_seconds(path)
    return Film(
        width=width,
        height=height,
        seconds=round(float(end - (first or 0) * base), 3),
        frames=frames,
        sound_seconds=round(float(samples), 3),
        reencoded=reencoded,
    )


def _sound_seconds(path: Path) -> Fraction:
    seconds = Fraction()
    with open_video(path) as container:
        try:
            for frame in container.decode(audio=0):
                seconds += Fraction(frame.samples, frame.sample_rate)
        except av.error.FFmpegError as error:
            raise VideoError(f"the sound of {path.name} is damaged") from error
    return seconds


def as_dict(film: Film) -> dict[str, Any]:
    """Return a film's facts as JSON knows them."""
    return asdict(film)
