"""Marks of AI: read back by others than what wrote them; pictures, sound and length as before; never a broken video."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest
from film_makers import clicked, film, heard
from PIL import Image, ImageChops

from portraitcast_media.finish import Label, run
from portraitcast_media.join import VideoError, measure
from portraitcast_media.label import Maker, draw_label, write_metadata, write_visible
from portraitcast_media.poster import write_poster

if TYPE_CHECKING:
    from portraitcast_media.finish import Finished

MAKER = Maker("ACME 株式会社", "0123abcd#2")
ENTRY = {"Label": "1", "ContentProducer": "ACME 株式会社", "ProduceID": "0123abcd#2", "ReservedCode1": "",
         "ContentPropagator": "", "PropagateID": "", "ReservedCode2": ""}  # fmt: skip
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
KINDS = {"index-behind": "", "index-before": "faststart"}


def packets(path: Path) -> list[tuple[int, int | None, int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(p.stream.index, p.pts, p.dts, bytes(p)) for p in container.demux() if p.size]


def picture(path: Path, second: float) -> Image.Image:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if float(frame.pts * frame.time_base) >= second - 0.001:
                return frame.to_image()
    raise AssertionError("no such picture")


def labelled(path: Path, second: float, source: Path) -> bool:
    """Whether the corner differs from the source's picture of the same time, far more than encoding makes it."""
    box = (8, 8, 90, 30)
    difference = ImageChops.difference(picture(path, second).crop(box), picture(source, second).crop(box)).convert("L")
    return sum(difference.tobytes()) / (82 * 22) > 15


# ---------------------------------------------------------------- for machines


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_read_by_ffmpeg(kind: str, tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4", 60, movflags=KINDS[kind], metadata={"title": "theirs"})
    out = tmp_path / "out.mp4"
    written = write_metadata(source, out, MAKER)
    with av.open(str(out)) as container:
        words = container.metadata
    assert json.loads(words["AIGC"]) == ENTRY
    assert json.loads(written.aigc) == ENTRY
    assert words["title"] == "theirs"
    assert packets(out) == packets(source)
    assert SOURCE_TYPE.encode() in out.read_bytes()
    assert measure(out) == measure(source)
    assert heard(out) == heard(source)


@pytest.mark.skipif(not shutil.which("exiftool"), reason="Debian: apt install libimage-exiftool-perl")
@pytest.mark.parametrize("kind", KINDS)
def test_metadata_read_by_exiftool(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    write_metadata(film(tmp_path / "a.mp4", 30, movflags=KINDS[kind]), out, MAKER)
    found = json.loads(subprocess.check_output(["exiftool", "-j", "-G1", str(out)]))[0]  # noqa: S603, S607  # a test's tool
    assert json.loads(found["Keys:AIGC"]) == ENTRY
    assert found["XMP-iptcExt:DigitalSourceType"] == SOURCE_TYPE
    assert "ExifTool:Warning" not in found


@pytest.mark.skipif(not shutil.which("mediainfo"), reason="Debian: apt install mediainfo")
def test_metadata_read_by_mediainfo(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    write_metadata(film(tmp_path / "a.mp4", 30), out, MAKER)
    found = json.loads(subprocess.check_output(["mediainfo", "--Output=JSON", str(out)]))  # noqa: S603, S607  # as above
    general = found["media"]["track"][0]
    assert json.loads(general["extra"]["AIGC"]) == ENTRY


def test_metadata_walked_by_hand(tmp_path: Path) -> None:
    """moov/meta of the kind mdta has the key AIGC with a UTF-8 value; every box ends where the next begins."""
    out = tmp_path / "out.mp4"
    write_metadata(film(tmp_path / "a.mp4", 30), out, MAKER)

    def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
        found = []
        while data:
            size = struct.unpack(">I", data[:4])[0]
            assert 8 <= size <= len(data)
            found.append((data[4:8], data[8:size]))
            data = data[size:]
        return found

    top = boxes(out.read_bytes())
    index = next(body for kind, body in top if kind == b"moov")
    meta = dict(boxes(next(body for kind, body in boxes(index) if kind == b"meta")))
    assert meta[b"hdlr"][8:12] == b"mdta"
    assert boxes(meta[b"keys"][8:]) == [(b"mdta", b"AIGC")]
    ((item, entry),) = boxes(meta[b"ilst"])
    assert item == struct.pack(">I", 1)
    assert json.loads(boxes(entry)[0][1][8:]) == ENTRY
    assert [body[:16].hex() for kind, body in top if kind == b"uuid"] == ["be7acfcb97a942e89c71999491e3afac"]


def test_the_services_own_entry_stays(tmp_path: Path) -> None:
    """What the service has said is kept, and not said again."""
    theirs = '{"Label":"1","ContentProducer":"Alibaba"}'
    source = tmp_path / "a.mp4"
    film(tmp_path / "plain.mp4", 30)
    with (
        av.open(str(tmp_path / "plain.mp4")) as given,
        av.open(str(source), "w", options={"movflags": "use_metadata_tags"}) as made,
    ):
        made.metadata["AIGC"] = theirs
        streams = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    written = write_metadata(source, tmp_path / "out.mp4", MAKER)
    assert (written.aigc, written.aigc_by) == (theirs, "service")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["AIGC"] == theirs


def test_marked_twice_is_marked_once(tmp_path: Path) -> None:
    once, twice = tmp_path / "1.mp4", tmp_path / "2.mp4"
    write_metadata(film(tmp_path / "a.mp4", 30), once, MAKER)
    written = write_metadata(once, twice, Maker("other", "other"))
    assert json.loads(written.aigc) == ENTRY
    assert twice.read_bytes().count(b"ContentProducer") == 1


# ---------------------------------------------------------------- odd files


@pytest.mark.parametrize(
    "tail",
    [
        b"\0\0\0\x10free\0\0\0\0\0\0\0\0",
        b"\0\0\0\x08skip",
        b"\0\0\x10\0junkjunk",
        b"abc",
        b"\0" * 7,
        b"\0\0\0\0free1234",
    ],
    ids=["free", "skip", "longer-than-the-file", "three-bytes", "zeros", "to-the-end"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_trailing_bytes(kind: str, tail: bytes, tmp_path: Path) -> None:
    """Whatever lies behind the last box stays there, and the video plays."""
    source = film(tmp_path / "a.mp4", 30, movflags=KINDS[kind])
    wanted = packets(source)
    with source.open("ab") as file:
        file.write(tail)
    out = tmp_path / "out.mp4"
    write_metadata(source, out, MAKER)
    assert packets(out) == wanted
    assert out.read_bytes().endswith(tail)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_never_marked_broken(kind: str, share: float, tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4", 90, movflags=KINDS[kind])
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * share)])
    out = tmp_path / "out.mp4"
    try:
        write_metadata(source, out, MAKER)
    except VideoError:
        assert not out.exists()
    else:
        assert packets(out) == packets(source)


def test_a_fragmented_file_is_told(tmp_path: Path) -> None:
    """Its pictures are placed by each fragment: it is handed on as it is, with the reason."""
    source = film(tmp_path / "a.mp4", 30, movflags="frag_keyframe+empty_moov")
    before = source.read_bytes()
    made = run([(source, 2.0)], None, Label("metadata"), tmp_path, max_seconds=60)
    assert (made.ai_label, made.label_problem) == (None, "the video can't be marked: it is fragmented")
    assert Path(made.video).read_bytes() == before


def test_index_of_64_bit_offsets(tmp_path: Path) -> None:
    """A co64 in place of the stco, as in files of over 4 GB."""
    source = film(tmp_path / "a.mp4", 30, sound_rate=0)
    data = source.read_bytes()
    at = data.index(b"stco") - 4
    size, count = struct.unpack(">I", data[at : at + 4])[0], struct.unpack(">I", data[at + 12 : at + 16])[0]
    offsets = struct.unpack(f">{count}I", data[at + 16 : at + size])
    wide = struct.pack(">I4sII", 16 + 8 * count, b"co64", 0, count) + struct.pack(f">{count}Q", *offsets)
    data = data[:at] + wide + data[at + size :]
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        place = data.index(name) - 4
        grown = struct.unpack(">I", data[place : place + 4])[0] + 4 * count
        data = data[:place] + struct.pack(">I", grown) + data[place + 4 :]
    source.write_bytes(data)
    wanted = packets(source)
    write_metadata(source, tmp_path / "out.mp4", MAKER)
    assert packets(tmp_path / "out.mp4") == wanted


# ---------------------------------------------------------------- for people


def finished(mode: str, source: Path, work: Path, text: str = "AI generated") -> Finished:
    return run([(source, 5.0)], None, Label(mode, text, "ACME", "job#1"), work, max_seconds=60)


@pytest.mark.parametrize("mode", ["start", "always"])
def test_visible(mode: str, tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4", 75, sides=(512, 512), metadata={"title": "theirs"})
    made = finished(mode, source, tmp_path)
    out = Path(made.video)
    assert [labelled(out, second, source) for second in (0.1, 1.9, 3.0, 4.9)] == [True, True, *[mode == "always"] * 2]
    before = measure(source)
    assert (made.seconds, made.frames, made.sound_seconds) == (before.seconds, before.frames, before.sound_seconds)
    assert (made.width, made.height, made.reencoded) == (512, 512, True)
    assert heard(out) == heard(source)
    assert made.ai_label
    assert (made.ai_label["mode"], made.ai_label["text"], made.ai_label["aigc_by"]) == (mode, "AI generated", "us")
    with av.open(str(out)) as container:
        assert json.loads(container.metadata["AIGC"])["ProduceID"] == "job#1"
        assert container.metadata["title"] == "theirs"


def test_pictures_without_the_label_cannot_be_told_apart(tmp_path: Path) -> None:
    """Encoded once more: within 1.5 of 255 on average, and nowhere far off."""
    source = film(tmp_path / "a.mp4", 75, sides=(256, 256))
    out = tmp_path / "out.mp4"
    write_visible(source, out, "AI", 2.4)
    for second in (3.2, 4.0, 4.9):
        difference = ImageChops.difference(picture(out, second), picture(source, second)).tobytes()
        assert sum(difference) / len(difference) < 1.5
        assert max(difference) < 40


def test_the_sound_is_untouched(tmp_path: Path) -> None:
    """Its packets are copied, and the clicks stay where they were."""
    from film_makers import clicks  # noqa: PLC0415
    from media_makers import wav_bytes  # noqa: PLC0415

    from portraitcast_media.join import Piece, join  # noqa: PLC0415

    (tmp_path / "voice").write_bytes(wav_bytes(clicks(4, 22050), 22050))
    pieces = [Piece(str(film(tmp_path / f"{n}.mp4", 30, first=30 * n)), 2.0) for n in range(2)]
    source, out = tmp_path / "joined.mp4", tmp_path / "out.mp4"
    join(pieces, tmp_path / "voice", source, max_seconds=60)
    write_visible(source, out, "AI", None)
    assert clicked(out) == clicked(source)
    assert [p[3] for p in packets(out) if p[0] == 1] == [p[3] for p in packets(source) if p[0] == 1]


@pytest.mark.parametrize(
    "text", ["AI generated", "AI生成", "人工智能生成", "人工智慧生成", "AIによる生成", "Généré par IA"]
)
@pytest.mark.parametrize("sides", [(512, 512), (512, 704), (1280, 720)])
def test_letters_are_large_enough(text: str, sides: tuple[int, int]) -> None:
    """At least 5 % of the shorter side, and every letter is one that the font has."""
    label = draw_label(text, *sides)
    ink = label.convert("L").point(lambda value: 255 if value > 200 else 0).getbbox()
    assert ink
    assert ink[3] - ink[1] >= 0.05 * min(sides)
    assert label.width <= sides[0]
    assert (label.width % 2, label.height % 2) == (0, 0)
    missing = draw_label("\U0010ffff", *sides).tobytes()
    assert all(draw_label(letter, *sides).tobytes() != missing for letter in text if letter != " ")


@pytest.mark.parametrize("ground", ["white", "black", (128, 128, 128)])
def test_readable_on_any_ground(ground: str) -> None:
    """White letters on the label's own dark: a contrast of 4.5 to 1, as WCAG asks, whatever lies behind."""
    picture = Image.new("RGB", (512, 512), ground)
    label = draw_label("AI generated", 512, 512)
    picture.paste(label, (8, 8), label)
    shades = picture.convert("L").crop((14, 30, 8 + label.width - 6, label.height - 6)).tobytes()

    def luminance(value: float) -> float:
        return float(((value / 255 + 0.055) / 1.055) ** 2.4) if value > 10 else value / 255 / 12.92

    assert (luminance(max(shades)) + 0.05) / (luminance(min(shades)) + 0.05) > 4.5


def test_a_text_that_does_not_fit(tmp_path: Path) -> None:
    """It is told; the video is handed on as it was."""
    source = film(tmp_path / "a.mp4", 30)
    made = finished("start", source, tmp_path, "a label " * 30)
    assert made.ai_label is None
    assert made.label_problem
    assert "too many letters" in made.label_problem
    assert Path(made.video) == source


def test_poster(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mp4", 30, sides=(96, 128))
    assert write_poster(source, tmp_path / "p.jpg") == (96, 128)
    with Image.open(tmp_path / "p.jpg") as poster:
        assert min(poster.convert("L").tobytes()) > 200  # the first picture is white
