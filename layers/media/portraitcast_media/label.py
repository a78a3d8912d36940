"""Mark a video as made by AI: for machines, in its metadata; for people, in its pictures.

For machines two things are written, without encoding anything: the ``AIGC`` entry that China's labelling measures ask
for (GB 45438-2025: JSON under that name in the metadata, here as a QuickTime key), and the digital
source type of IPTC in an XMP box. What the service has written stays.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import quoteattr

import av
import av.error
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw, ImageFont

from portraitcast_media.join import X264, VideoError, measure, open_target, open_video, video_of
from portraitcast_media.mp4 import (
    XMP_ID,
    BoxError,
    body_of,
    children,
    find,
    index_of,
    make,
    rewrite,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

AIGC: Final = b"AIGC"
SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"  # IPTC NewsCodes
START_SECONDS: Final = 2.4  # the measures ask for 2 s at the beginning, and a frame more is no harm
_SHARE: Final = 0.06  # of the shorter side: letters must have 5 %
_FONT: Final = Path(__file__).parent / "fonts" / "NotoSansCJKsc-Regular-subset.otf"
_TEXT_TYPE: Final = 1  # UTF-8, in QuickTime's table of well-known types


@dataclass(frozen=True, slots=True)
class Maker:
    """Who made a video with which job.

    Attributes
    ----------
    producer
        ``ContentProducer``: a name or a code that authorities have given; may be empty.
    produce_id
        ``ProduceID``: the job and its generation.
    """

    producer: str
    produce_id: str


@dataclass(frozen=True, slots=True)
class Written:
    """What marks a video has now.

    Attributes
    ----------
    aigc
        The ``AIGC`` entry, as text.
    aigc_by
        ``us`` or ``service``: whose entry that is.
    source_type
        The digital source type.
    """

    aigc: str
    aigc_by: str
    source_type: str


# ---------------------------------------------------------------- for machines


def write_metadata(path: Path, out: Path, maker: Maker) -> Written:
    """Write a video with the marks for machines; its pictures and sound are the same bytes.

    Raises
    ------
    VideoError
        It isn't an MP4 of one index, or the result wouldn't be what the source is. `out` is then not there.
    """
    try:
        _, _, index = index_of(path)
        theirs = read_aigc(index)
        entry = theirs if theirs is not None else aigc_entry(maker)
        marked = index if theirs is not None else _with_key(index, entry)
        rewrite(path, out, marked, _xmp_box())
        same = _content(path) == _content(out)
    except (BoxError, struct.error, av.error.FFmpegError, UnicodeDecodeError) as error:
        out.unlink(missing_ok=True)
        raise VideoError(f"the video can't be marked: {error}") from error
    except VideoError:
        out.unlink(missing_ok=True)
        raise
    if not same:
        out.unlink()
        raise VideoError("the marked video's pictures or sound would not be the same")
    return Written(entry, "us" if theirs is None else "service", SOURCE_TYPE)


def aigc_entry(maker: Maker) -> str:
    """Return the entry: JSON with the seven names that the standard gives; ``Label`` 1 is "made by AI"."""
    fields = {
        "Label": "1",
        "ContentProducer": maker.producer,
        "ProduceID": maker.produce_id,
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def read_aigc(index: bytes) -> str | None:
    """Return the ``AIGC`` entry of an index's body, wherever it is usual, or None."""
    for place in ((b"meta",), (b"udta", b"meta")):
        meta = find(index, *place)
        if meta is not None and (text := _key_of(_meta_boxes(meta))) is not None:
            return text
    plain = find(index, b"udta", AIGC)
    return plain.decode("utf-8", "replace").lstrip("\0") if plain is not None else None


def _meta_boxes(meta: bytes) -> list[tuple[bytes, bytes]]:
    """Return the boxes of a ``meta``, which in MP4 begins with four bytes of version and in QuickTime doesn't."""
    return children(meta[4:] if meta[4:8] != b"hdlr" else meta)


def _keys(boxes: list[tuple[bytes, bytes]]) -> list[bytes]:
    for kind, box in boxes:
        if kind == b"keys":
            return [body_of(entry) for _, entry in children(body_of(box)[8:])]
    return []


def _key_of(boxes: list[tuple[bytes, bytes]]) -> str | None:
    names = _keys(boxes)
    for kind, box in boxes:
        if kind != b"ilst":
            continue
        for item, entry in children(body_of(box)):
            number = struct.unpack(">I", item)[0]
            named = names[number - 1] if 0 < number <= len(names) else item
            data = find(body_of(entry), b"data")
            if named == AIGC and data is not None:
                return data[8:].decode("utf-8", "replace")
    return None


def _with_key(index: bytes, entry: str) -> bytes:
    """Return an index's body with the entry as one more key.

    Where there are keys already, in ``moov/meta`` or as FFmpeg writes them in ``moov/udta/meta``, it is added to them:
    FFmpeg reads one table of keys. Else a ``moov/meta`` is made.
    """
    kept = children(index)
    if b"meta" in dict(kept):
        return _replaced(kept, b"meta", lambda meta: _meta_with(meta, entry))
    udta = dict(kept).get(b"udta")
    if udta is not None:
        within = children(body_of(udta))
        meta = dict(within).get(b"meta")
        if meta is not None and _is_mdta(_meta_boxes(body_of(meta))):
            marked = make(b"udta", _replaced(within, b"meta", lambda body: _meta_with(body, entry)))
            return b"".join(marked if box == udta else box for _, box in kept)
    return index + make(b"meta", _meta_with(b"", entry))


def _replaced(boxes: list[tuple[bytes, bytes]], kind: bytes, how: Callable[[bytes], bytes]) -> bytes:
    """Return boxes as bytes, the first of a kind with another body."""
    at = next(at for at, (name, _) in enumerate(boxes) if name == kind)
    return b"".join(make(kind, how(body_of(box))) if n == at else box for n, (_, box) in enumerate(boxes))


def _is_mdta(boxes: list[tuple[bytes, bytes]]) -> bool:
    return any(kind == b"hdlr" and body_of(box)[8:12] == b"mdta" for kind, box in boxes)


def _meta_with(meta: bytes, entry: str) -> bytes:
    """Return the body of a ``meta`` with the entry as one more key; b"" is a new one."""
    boxes = _meta_boxes(meta) if meta else []
    if meta and not _is_mdta(boxes):
        raise BoxError("its index has metadata of another kind where the entry belongs")
    names = _keys(boxes)
    value = make(b"data", struct.pack(">II", _TEXT_TYPE, 0), entry.encode())
    items = next((body_of(box) for kind, box in boxes if kind == b"ilst"), b"")
    items += make(struct.pack(">I", len(names) + 1), value)
    table = b"".join(make(b"mdta", name) for name in [*names, AIGC])
    handler = make(b"hdlr", bytes(8), b"mdta", bytes(13))
    others = [box for kind, box in boxes if kind not in {b"hdlr", b"keys", b"ilst"}]
    keys = make(b"keys", struct.pack(">II", 0, len(names) + 1), table)
    # Without the four bytes of version that MP4 knows, unless they are there: readers expect QuickTime's way in moov.
    version = meta[:4] if meta and _is_full(meta) else b""
    return b"".join([version, handler, keys, make(b"ilst", items), *others])


def _is_full(meta: bytes) -> bool:
    return meta[4:8] != b"hdlr"


def _xmp_box() -> bytes:
    kind = quoteattr(SOURCE_TYPE)
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType={kind}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
    return make(b"uuid", XMP_ID, packet.encode())


def _content(path: Path) -> list[tuple[int, int | None, int | None, int, int]]:
    """Return stream, times, size and a checksum of every packet of a video."""
    import zlib  # noqa: PLC0415  # needed here only

    with open_video(path) as container:
        return [
            (packet.stream.index, packet.pts, packet.dts, packet.size, zlib.crc32(bytes(packet)))
            for packet in container.demux()
            if packet.size
        ]


# ---------------------------------------------------------------- for people


def draw_label(text: str, width: int, height: int) -> Image.Image:
    """Return the label as a picture with transparency, of even sides, at most as wide as the video.

    Letters have 6 % of the shorter side, or as much as lets the text fit, in white on a dark ground: readable on both.

    Raises
    ------
    VideoError
        The text needs letters below 5 %: it is too long.
    """
    least = 0.05 * min(width, height)
    size = max(round(_SHARE * min(width, height)), 8)
    while True:
        # Latin capitals have about 0.73 of the font's size: the letters themselves must have the share.
        font = ImageFont.truetype(str(_FONT), round(size / 0.73), layout_engine=ImageFont.Layout.BASIC)
        left, top, right, bottom = font.getbbox(text)
        pad = max(round(size * 0.45), 2)
        sides = round(right - left) + 2 * pad, round(bottom - top) + 2 * pad
        if sides[0] <= width - 2 * pad:
            break
        size -= 1
        if size < least:
            raise VideoError(f"the label has too many letters for {width} px: {text!r}")
    sides = sides[0] + sides[0] % 2, sides[1] + sides[1] % 2
    label = Image.new("RGBA", sides, (0, 0, 0, 0))
    draw = ImageDraw.Draw(label)
    draw.rounded_rectangle([0, 0, sides[0] - 1, sides[1] - 1], radius=pad, fill=(0, 0, 0, 150))
    draw.text((pad - left, pad - top), text, font=font, fill=(255, 255, 255, 255))
    return label


def write_visible(path: Path, out: Path, text: str, seconds: float | None) -> None:
    """Write a video with a label in its upper left corner; the sound's packets are copied.

    Parameters
    ----------
    path, out
        The video, and the one to write.
    text
        What the label says.
    seconds
        How long it is shown from the beginning; None is always.

    Raises
    ------
    VideoError
        It can't be read, or the result isn't as long as the source.
    """
    before = measure(path)
    try:
        with open_video(path) as source:
            picture = video_of(source, path)
            with open_target(out, source) as target:
                encoder = target.add_stream("libx264", rate=picture.average_rate or 15, options=X264)
                encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuv420p"
                encoder.codec_context.time_base = picture.time_base or Fraction(1, 90_000)
                sounds = {sound.index: target.add_stream_from_template(sound) for sound in source.streams.audio}
                for packet in _labelled(source, picture, encoder, sounds, text, seconds):
                    target.mux_one(packet)
    except av.error.FFmpegError as error:
        out.unlink(missing_ok=True)
        raise VideoError(f"{path.name} is damaged") from error
    after = measure(out)
    if (before.width, before.height, before.frames, before.sound_seconds) != (
        after.width,
        after.height,
        after.frames,
        after.sound_seconds,
    ) or abs(before.seconds - after.seconds) > 0.002:
        out.unlink(missing_ok=True)
        raise VideoError("the labelled video would not be as long as its source")


def _labelled(
    source: InputContainer,
    picture: VideoStream,
    encoder: VideoStream,
    sounds: dict[int, AudioStream],
    text: str,
    seconds: float | None,
) -> Iterator[Packet[Any]]:
    painter = _Painter(picture, text, seconds)
    ending = False
    for packet in source.demux([picture, *source.streams.audio]):
        if packet.stream.index != picture.index:
            if packet.size:
                packet.stream = sounds[packet.stream.index]
                yield packet
            continue
        for frame in packet.decode():
            if isinstance(frame, VideoFrame):
                yield from encoder.encode(painter.painted(frame))
        ending = ending or not packet.size
    yield from encoder.encode(None)


def _frame_of(image: Image.Image) -> VideoFrame:
    """Return a picture with its transparency as a frame: PyAV's own way drops it."""
    frame = VideoFrame(image.width, image.height, "rgba")
    plane, row = frame.planes[0], image.width * 4
    data = image.tobytes()
    rows = (data[at : at + row].ljust(plane.line_size, b"\0") for at in range(0, len(data), row))
    plane.update(b"".join(rows).ljust(plane.buffer_size, b"\0"))
    return frame


class _Painter:
    """Lays the label over pictures, in their own colours: those without it stay as they were decoded."""

    def __init__(self, picture: VideoStream, text: str, seconds: float | None) -> None:
        label = draw_label(text, picture.width, picture.height)
        self._seconds = seconds
        self._first: int | None = None
        self._base = picture.time_base or Fraction(1, 90_000)
        self._graph = graph = Graph()
        self._source = graph.add_buffer(template=picture, time_base=self._base)
        self._label_source = graph.add_buffer(
            width=label.width,
            height=label.height,
            format=VideoFormat("rgba", label.width, label.height),
            time_base=self._base,
        )
        overlay = graph.add("overlay", "x=8:y=8:eof_action=repeat:format=yuv420")
        shape = graph.add("format", "pix_fmts=yuv420p")
        self._sink = graph.add("buffersink")
        self._source.link_to(overlay, 0, 0)
        self._label_source.link_to(overlay, 0, 1)
        overlay.link_to(shape)
        shape.link_to(self._sink)
        graph.configure()
        stamp = _frame_of(label)
        stamp.pts, stamp.time_base = 0, self._base
        self._label_source.push(stamp)
        self._label_source.push(None)

    def painted(self, frame: VideoFrame) -> VideoFrame:
        self._first = frame.pts if self._first is None else self._first
        frame.pict_type = 0  # the encoder chooses anew
        shown = ((frame.pts or 0) - (self._first or 0)) * self._base
        if self._seconds is not None and shown >= self._seconds:
            return frame if frame.format.name == "yuv420p" else frame.reformat(format="yuv420p")
        pts = frame.pts
        frame.pts = max(frame.pts or 0, 0)
        self._source.push(frame)
        made = self._sink.pull()
        if not isinstance(made, VideoFrame):
            raise VideoError("no picture came back from the label")
        made.pts, made.time_base = pts, self._base
        return made
