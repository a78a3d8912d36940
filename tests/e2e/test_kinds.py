"""A folder of what people really have, twelve kinds at once: twelve videos, upright and of the right length."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest
from makers import new_folder, seconds_of, voice
from PIL import Image

if TYPE_CHECKING:
    from conftest import Stack

CASES = Path(__file__).parents[1] / "media" / "cases"
SECONDS = {
    case["file"]: case["expect"].get("accept_seconds")
    for case in json.loads((CASES.parent / "cases.json").read_text("utf-8"))
}
RED, BLUE, GREEN, YELLOW = (220, 30, 30), (30, 30, 220), (30, 160, 30), (230, 220, 40)
STORED = {  # how a camera that was held so stores what is upright: the inverse of what Exif asks for
    1: (),
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_90,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_270,),
}


def quarters(form: str, turn: int = 1, mode: str = "RGB", **options: object) -> bytes:
    """Return a picture of four quarters, each of a colour, stored as a camera does that is held otherwise."""
    image = Image.new("RGB", (600, 600), RED)
    for place, colour in (((300, 0), BLUE), ((0, 300), GREEN), ((300, 300), YELLOW)):
        image.paste(colour, (*place, place[0] + 300, place[1] + 300))
    for how in STORED[turn]:
        image = image.transpose(how)
    exif = Image.Exif()
    exif[0x0112] = turn
    out = io.BytesIO()
    image.convert(mode).save(out, form, **({"exif": exif} if turn > 1 else {}), **options)
    return out.getvalue()


def coded(container: str, codec: str, rate: int, layout: str = "mono") -> bytes:
    """Return a second of a voice in a container."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        with av.open(io.BytesIO(voice(1.0, rate=rate))) as source, av.open(made, "w", format=container) as out:
            stream = out.add_stream(codec, rate=rate, layout=layout)
            if codec.startswith("wma"):
                stream.bit_rate = 64_000
            for frame in [*source.decode(audio=0), None]:
                out.mux(stream.encode(frame))
        return made.read_bytes()


def case(name: str) -> bytes:
    return (CASES / name).read_bytes()


# A name → its voice, its portrait, and whether the portrait is one of four quarters.
FOLDER = {
    "01 iPhone": (("m4a", coded("ipod", "aac", 44_100, "stereo")), ("jpg", case("p01_iphone_orientation6.jpg"))),
    "02 Telegram": (("oga", case("v46_telegram.oga")), ("jpg", quarters("JPEG", 6))),
    "03 speech synthesis": (("wav", case("v01_dashscope_7fffff9b.wav")), ("png", quarters("PNG", 8))),
    "04 Android": (("mp3", case("v24_android_m4a_mp42.mp3")), ("webp", quarters("WEBP", 3))),
    "05 voicemail": (("wav", case("v13_gsm610_voicemail.wav")), ("jpeg", case("p03_cmyk_adobe.jpg"))),
    "06 browser": (("webm", coded("webm", "libopus", 48_000)), ("avif", quarters("AVIF"))),
    "07 studio": (("flac", coded("flac", "flac", 44_100, "stereo")), ("tiff", quarters("TIFF", 5))),
    "08 Mac": (("caf", coded("caf", "alac", 44_100)), ("gif", quarters("GIF", mode="P"))),
    "09 Windows": (("wma", coded("asf", "wmav2", 44_100)), ("bmp", quarters("BMP"))),
    "10 cut short": (("mp3", case("v35_cut_midframe.mp3")), ("jpg", quarters("JPEG", 7, progressive=True))),
    "11 old Mac": (("aiff", coded("aiff", "pcm_s16be", 8_000)), ("png", case("p02_transparent.png"))),
    "12 old phone": (("3gp", coded("3gp", "aac", 8_000)), ("heic", case("../fixtures/turn6.heic"))),
}
VOICES = {  # where the right length is not a second
    "02 Telegram": SECONDS["v46_telegram.oga"],
    "03 speech synthesis": SECONDS["v01_dashscope_7fffff9b.wav"],
    "04 Android": SECONDS["v24_android_m4a_mp42.mp3"],
    "05 voicemail": SECONDS["v13_gsm610_voicemail.wav"],
    "10 cut short": SECONDS["v35_cut_midframe.mp3"],
}
QUARTERS = [name for name, (_, portrait) in FOLDER.items() if portrait[1] not in {
    case("p01_iphone_orientation6.jpg"), case("p03_cmyk_adobe.jpg"), case("p02_transparent.png"),
    case("../fixtures/turn6.heic")}]  # fmt: skip


def first_frame(video: bytes) -> Image.Image:
    with av.open(io.BytesIO(video)) as file:
        return next(file.decode(video=0)).to_image()


def is_upright(frame: Image.Image) -> bool:
    """Say whether the frame's quarters have the colours that they have as people see the picture."""
    width, height = frame.size
    places = [(x, y) for y in (height // 12, height * 11 // 12) for x in (width // 12, width * 11 // 12)]
    colours = [RED, BLUE, GREEN, YELLOW]
    seen = [frame.getpixel(place) for place in places]
    return all(
        isinstance(one, tuple)
        and min(colours, key=lambda c: sum(abs(a - b) for a, b in zip(one, c, strict=True))) == it
        for one, it in zip(seen, colours, strict=True)
    )


def test_twelve_kinds_are_twelve_videos(stack: Stack) -> None:
    folder = new_folder()
    for name, files in FOLDER.items():
        for suffix, content in files:
            stack.drop(f"{folder}{name}.{suffix}", content)

    for name in FOLDER:
        done = stack.wait_report(f"{folder}{name}", "done")
        video, seconds = stack.result(f"{folder}{name}.mp4"), VOICES.get(name, 1.0)
        assert done["inputs"]["voice"]["seconds"] == pytest.approx(seconds, abs=0.1), name
        assert seconds_of(video) == pytest.approx(seconds, abs=0.2), name
        if name in QUARTERS:
            assert is_upright(first_frame(video)), f"{name}: {done['inputs']['portrait']['changes']}"
