"""Draw the sample portrait and have the sample voice spoken: ``python local/samples/make.py``.

Both results are committed, so nobody needs to run this. It takes Pillow and PyAV, and for the voice ``espeak-ng`` (on
Debian and Ubuntu: ``apt-get install espeak-ng``).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable

HERE: Final = Path(__file__).parent
SIDE: Final = 640  # px; EMO asks for 400 at least
FINER: Final = 4  # everything is drawn that much larger and scaled down, so that edges are smooth
SENTENCE: Final = "Hello! I am Portraitcast. Drop a portrait and a voice, and I will do the talking."

SKIN: Final = "#f2c4a0"
SHADE: Final = "#dd9f7c"
BLUSH: Final = "#ee9a86"
HAIR: Final = "#4a2c22"
HAIR_LIGHT: Final = "#6d4434"
LIPS: Final = "#b55254"
JACKET: Final = "#24506b"
SHIRT: Final = "#f6efe4"

Box = tuple[float, float, float, float]


class Canvas:
    """A picture to draw on in units of its final pixels."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (SIDE * FINER, SIDE * FINER), "white")

    def paint(
        self,
        colour: str,
        shape: Callable[[ImageDraw.ImageDraw], None],
        soft: float = 0,
        within: Image.Image | None = None,
    ) -> Image.Image:
        """Fill a shape with a colour.

        Parameters
        ----------
        colour : str
            Any that Pillow knows.
        shape : Callable[[ImageDraw.ImageDraw], None]
            Draws the shape in white on a mask, in final pixels times ``FINER``.
        soft : float
            Blur of its edge, final pixels.
        within : Image.Image, optional
            The mask of another shape, which this one may not leave.

        Returns
        -------
        Image.Image
            The mask.
        """
        mask = Image.new("L", self.image.size, 0)
        shape(ImageDraw.Draw(mask))
        if soft:
            # Blurred at the final size: the same to the eye, and sixteen times as quick.
            small = mask.resize((SIDE, SIDE), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(soft))
            mask = small.resize(self.image.size, Image.Resampling.BILINEAR)
        if within:
            mask = Image.composite(mask, Image.new("L", mask.size, 0), within)
        self.image.paste(colour, (0, 0), mask)
        return mask


def ellipse(*box: float) -> Callable[[ImageDraw.ImageDraw], None]:
    """Make an ellipse by its left, top, right, bottom."""
    return lambda draw: draw.ellipse([side * FINER for side in box], fill=255)


def polygon(*points: tuple[float, float]) -> Callable[[ImageDraw.ImageDraw], None]:
    """Make a polygon."""
    return lambda draw: draw.polygon([(x * FINER, y * FINER) for x, y in points], fill=255)


def curve(*points: tuple[float, float], width: float = 0) -> Callable[[ImageDraw.ImageDraw], None]:
    """Make a smooth closed shape through points (Catmull-Rom), or a line along them if it has a width."""

    def spline(draw: ImageDraw.ImageDraw) -> None:
        closed = width == 0
        known = [points[-1], *points, *points[:2]] if closed else [points[0], *points, points[-1]]
        path = []
        for a, b, c, d in zip(known, known[1:], known[2:], known[3:], strict=False):
            for step in range(24):
                t = step / 24
                path.append(
                    tuple(
                        0.5
                        * FINER
                        * (2 * q + (r - p) * t + (2 * p - 5 * q + 4 * r - s) * t**2 + (3 * q - p - 3 * r + s) * t**3)
                        for p, q, r, s in zip(a, b, c, d, strict=True)
                    )
                )
        if closed:
            draw.polygon(path, fill=255)
            return
        path.append((points[-1][0] * FINER, points[-1][1] * FINER))
        draw.line(path, fill=255, width=round(width * FINER), joint="curve")
        for x, y in (path[0], path[-1]):
            r = width * FINER / 2
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)

    return spline


def mirrored(*points: tuple[float, float]) -> list[tuple[float, float]]:
    """Complete the right half of a shape, given from top to bottom, by its mirror image."""
    return [*points, *((SIDE - x, y) for x, y in reversed(points) if x != SIDE / 2)]


def portrait() -> Image.Image:
    """Draw a friendly person, face where the simulator looks for it: in a square around (320, 288)."""
    canvas = Canvas()
    body(canvas.paint)
    face(canvas.paint)
    hair(canvas.paint)
    return canvas.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def body(paint: Callable[..., Image.Image]) -> None:
    """Paint the background, the hair behind the head, the clothes and the neck."""
    paint("#cfe3e2", lambda draw: draw.rectangle((0, 0, SIDE * FINER, SIDE * FINER), fill=255))
    paint("#e9f1ea", ellipse(60, 10, 580, 530), soft=60)

    back = paint(
        HAIR, curve(*mirrored((320, 92), (410, 112), (456, 190), (462, 290), (476, 390), (450, 452), (390, 462)))
    )
    paint("#3a211a", ellipse(210, 300, 430, 520), soft=22, within=back)

    # Shoulders, shirt, neck
    jacket = paint(JACKET, curve(*mirrored((320, 470), (390, 482), (480, 512), (548, 566), (578, 660), (500, 720))))
    paint("#1b3f56", ellipse(80, 560, 260, 760), soft=26, within=jacket)
    paint("#1b3f56", ellipse(380, 560, 560, 760), soft=26, within=jacket)
    paint("#2f6688", ellipse(150, 500, 300, 560), soft=20, within=jacket)
    paint("#2f6688", ellipse(360, 490, 500, 550), soft=20, within=jacket)
    paint(SHIRT, polygon((262, 478), (378, 478), (344, 660), (296, 660)))
    neck = paint(SKIN, curve(*mirrored((320, 388), (364, 390), (366, 440), (376, 478), (348, 510), (320, 522))))
    paint(SHADE, ellipse(238, 330, 402, 462), soft=9, within=neck)
    for sign in (-1, 1):
        x = 320
        collar = polygon((x + sign * 52, 466), (x + sign * 84, 492), (x + sign * 40, 566), (x + sign * 2, 524))
        paint("#d8d0c4", lambda draw, c=collar: c(draw), soft=4)
        paint("#fffaf1", collar)
        lapel = polygon(
            (x + sign * 80, 482),
            (x + sign * 116, 492),
            (x + sign * 96, 560),
            (x + sign * 112, 572),
            (x + sign * 30, 660),
        )
        paint("#2b5d7c", lapel, within=jacket)


def face(paint: Callable[..., Image.Image]) -> None:
    """Paint the head and what is in it."""
    head = paint(
        SKIN, curve(*mirrored((320, 140), (390, 158), (428, 220), (430, 290), (410, 362), (366, 412), (320, 426)))
    )
    paint(
        SHADE,
        curve(*mirrored((320, 440), (384, 430), (436, 350), (446, 260), (470, 330), (420, 450))),
        soft=13,
        within=head,
    )
    paint("#f8d4b4", ellipse(250, 190, 360, 250), soft=26, within=head)
    for x in (248, 392):
        paint(BLUSH, ellipse(x - 26, 312, x + 26, 344), soft=15, within=head)

    # Eyes and brows
    for sign in (-1, 1):
        x = 320 + sign * 52
        paint(SHADE, ellipse(x - 34, 246, x + 34, 292), soft=9)
        white = paint(
            "#fffdf8", curve((x - 26, 273), (x - 11, 258), (x + 9, 257), (x + 26, 272), (x + 10, 284), (x - 10, 284))
        )
        paint("#3f6b4f", ellipse(x - 14, 256, x + 14, 285), within=white)
        paint("#6fa27c", ellipse(x - 10, 266, x + 10, 284), soft=2, within=white)
        paint("#16130f", ellipse(x - 7, 263, x + 7, 278), within=white)
        paint("#c9c2b8", ellipse(x - 28, 248, x + 28, 263), soft=2, within=white)
        paint("#ffffff", ellipse(x + 2, 262, x + 8, 268))
        paint("#2b1a14", curve((x - 27, 273), (x - 11, 258), (x + 9, 257), (x + 27, 272), width=4.5))
        paint("#2b1a14", curve((x + sign * 24, 269), (x + sign * 33, 263), width=3.5))
        paint("#c98d6c", curve((x - 20, 286), (x, 290), (x + 20, 286), width=1.6), soft=0.6)
        paint(HAIR, curve((x - sign * 28, 239), (x - sign * 4, 229), (x + sign * 32, 238), width=7.5), soft=0.8)

    # Nose
    paint(SHADE, curve((330, 268), (334, 300), (342, 322), width=5), soft=3)
    paint("#fbdcc0", ellipse(313, 290, 325, 322), soft=5)
    paint("#cf8a69", curve((302, 326), (311, 332), (320, 333), (329, 332), (338, 326), width=3.5), soft=1)

    # A shut, smiling mouth, 0.77 down the face
    paint(LIPS, curve((278, 350), (302, 350), (320, 353), (338, 350), (362, 350), (344, 366), (320, 372), (296, 366)))
    paint("#cf7472", ellipse(303, 361, 337, 369), soft=2.5)
    paint("#7c2e33", curve((275, 347), (298, 356), (320, 360), (342, 356), (365, 347), width=2.8))
    for x in (271, 369):
        paint(SHADE, ellipse(x - 5, 338, x + 5, 352), soft=3)
    paint(SHADE, ellipse(296, 374, 344, 384), soft=5)


def hair(paint: Callable[..., Image.Image]) -> None:
    """Paint the hair in front, parted to one side."""
    fringe = paint(
        HAIR,
        curve(
            (274, 118), (322, 98), (388, 112), (436, 168), (450, 262), (438, 316), (424, 268), (412, 222), (380, 186),
            (332, 166), (286, 162), (252, 190), (228, 228), (214, 272), (202, 316), (188, 262), (200, 176),
        ),
    )  # fmt: skip
    for line in (
        [(284, 150), (340, 138), (396, 168), (424, 218)],
        [(276, 138), (344, 118), (408, 148), (440, 220)],
        [(262, 150), (226, 186), (206, 250)],
        [(270, 132), (222, 160), (198, 222)],
    ):
        paint(HAIR_LIGHT, curve(*line, width=6), soft=3, within=fringe)
    paint("#8a5b46", ellipse(330, 108, 410, 140), soft=10, within=fringe)
    for sign in (-1, 1):
        lock = [(118, 250), (140, 300), (152, 380), (128, 446), (92, 452), (112, 396), (112, 330)]
        side = paint(HAIR, curve(*((320 + sign * x, y) for x, y in lock)))
        paint(
            HAIR_LIGHT,
            curve(*((320 + sign * x, y) for x, y in [(128, 290), (138, 372), (116, 436)]), width=5),
            soft=3,
            within=side,
        )


def voice(path: Path) -> None:
    """Have the sentence spoken, and store it as MP3."""
    espeak = shutil.which("espeak-ng")
    if espeak is None:
        sys.exit("espeak-ng is not installed, so there is no voice (apt-get install espeak-ng). The portrait is made.")
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "voice.wav"
        subprocess.run([espeak, "-v", "en-us+f3", "-s", "158", "-p", "52", "-w", wav, SENTENCE], check=True)
        with av.open(str(wav), "r") as spoken, av.open(str(path), "w", format="mp3") as written:
            stream = written.add_stream("libmp3lame", rate=24_000, layout="mono")
            stream.bit_rate = 64_000
            for frame in spoken.decode(audio=0):
                written.mux(stream.encode(frame))
            written.mux(stream.encode(None))


if __name__ == "__main__":
    portrait().save(HERE / "portrait.png", optimize=True)
    voice(HERE / "voice.mp3")
