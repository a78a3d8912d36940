"""Every kind of picture that people send: upright, in sRGB, on white, of a size that fits; plain files untouched."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from media_makers import BLUE, GREEN, RED, STORED, corners, marked, near, png_chunk, turned
from PIL import Image, ImageCms

from portraitcast_media.limits import PORTRAIT_ASSET_BYTES
from portraitcast_media.pictures import read_picture, scale_for
from portraitcast_media.problems import RefusedError

if TYPE_CHECKING:
    from portraitcast_media.facts import Picture

FIXTURES = Path(__file__).parent / "fixtures"
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tiff", "AVIF": "avif", "BMP": "bmp", "GIF": "gif"}


def read(content: bytes, name: str, work: Path) -> tuple[Picture, Image.Image | None]:
    """Return the facts, and the asset as a picture; it must be a plain JPEG of the sides that the facts name."""
    file = work / "upload"
    file.write_bytes(content)
    picture, made = read_picture(file, f"acme/{name}", work)
    assert file.read_bytes() == content
    assert picture.sha256 == hashlib.sha256(content).hexdigest()
    assert (picture.asset is None) == (made is None)
    if made is None or picture.asset is None:
        return picture, None
    assert picture.asset.sha256 == hashlib.sha256(made.read_bytes()).hexdigest()
    assert picture.asset.bytes == made.stat().st_size <= PORTRAIT_ASSET_BYTES
    image = Image.open(made)
    image.load()
    if picture.asset.key.endswith("-1.jpg") and "renamed" not in "".join(picture.changes):
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert not image.getexif()
        assert "icc_profile" not in image.info
        assert getattr(image, "layer")[1][1:3] == (1, 1)  # noqa: B009  # 4:4:4; a JPEG's own attribute, not in the types
        assert picture.plain or image.size == (picture.width, picture.height)
    return picture, image


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    made = io.BytesIO()
    image.save(made, form, **options)
    return made.getvalue()


def refused(content: bytes, name: str, work: Path) -> str:
    with pytest.raises(RefusedError) as error:
        read(content, name, work)
    problem = error.value.problem
    assert problem.limit
    assert problem.measured
    assert name in problem.message
    return problem.code


# ---------------------------------------------------------------- turned


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_turn(form: str, orientation: int, tmp_path: Path) -> None:
    """The red corner ends top left, the blue one top right, the green one bottom left."""
    image, exif = turned(marked(), orientation)
    picture, made = read(saved(image, form, exif=exif, quality=95), f"a.{SUFFIXES[form]}", tmp_path)
    assert (picture.width, picture.height) == (480, 640)
    plain = orientation == 1 and form in {"JPEG", "PNG", "WEBP"}
    assert picture.plain == plain
    if made is not None:
        assert all(map(near, corners(made), (RED, BLUE, GREEN)))
    else:
        assert plain


@pytest.mark.parametrize("orientation", STORED)
def test_every_turn_of_heic(orientation: int, tmp_path: Path) -> None:
    content = (FIXTURES / f"turn{orientation}.heic").read_bytes()
    picture, made = read(content, "IMG_0001.HEIC", tmp_path)
    assert (picture.width, picture.height, picture.type) == (480, 640, "heic")
    assert made
    assert all(map(near, corners(made), (RED, BLUE, GREEN)))


@pytest.mark.parametrize("name", ["alpha.heic", "ten_bit.heic"])
def test_other_heic(name: str, tmp_path: Path) -> None:
    _, made = read((FIXTURES / name).read_bytes(), name, tmp_path)
    assert made
    assert all(map(near, corners(made), (RED, BLUE, GREEN)))
    assert near(made.getpixel((240, 340)), (255, 255, 255))


def test_a_turn_that_is_none(tmp_path: Path) -> None:
    for orientation in (0, 9, 77):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture, _ = read(saved(marked(), "JPEG", exif=exif), "a.jpg", tmp_path)
        assert picture.plain


# ---------------------------------------------------------------- plain


@pytest.mark.parametrize(
    ("form", "mode", "name", "options"),
    [
        ("JPEG", "RGB", "a.jpg", {}),
        ("JPEG", "RGB", "a.JPEG", {"progressive": True}),
        ("JPEG", "L", "a.jpg", {}),
        ("JPEG", "RGB", "a.jpg", {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}),
        ("PNG", "RGB", "a.png", {}),
        ("PNG", "L", "a.png", {}),
        ("BMP", "RGB", "a.bmp", {}),
        ("WEBP", "RGB", "a.webp", {}),
        ("WEBP", "RGB", "a.webp", {"lossless": True}),
    ],
)
def test_plain_is_untouched(form: str, mode: str, name: str, options: dict[str, Any], tmp_path: Path) -> None:
    picture, made = read(saved(marked().convert(mode), form, **options), name, tmp_path)
    assert (picture.plain, picture.asset, made, picture.changes) == (True, None, None, ())


@pytest.mark.parametrize(
    ("form", "name", "becomes"),
    [("JPEG", "a.png", "jpg"), ("PNG", "a.jpg", "png"), ("WEBP", "a.jpeg", "webp"), ("JPEG", "a.jfif", "jpg"),
     ("JPEG", "a.jpe", "jpg"), ("JPEG", "a.heic", "jpg")],
)  # fmt: skip
def test_a_wrong_suffix_is_corrected(form: str, name: str, becomes: str, tmp_path: Path) -> None:
    content = saved(marked(), form)
    picture, _ = read(content, name, tmp_path)
    assert picture.asset
    assert picture.asset.key == f"assets/{picture.sha256}-1.{becomes}"
    assert picture.asset.sha256 == picture.sha256
    assert picture.changes == (f"renamed from .{name[2:]} to .{becomes}",)


def test_plain_for_one_model_and_too_large_for_another(tmp_path: Path) -> None:
    """EMO takes 7000 px: the upload. LivePortrait takes 4096: the asset."""
    content = saved(marked(5000, 4000), "JPEG")
    picture, made = read(content, "a.jpg", tmp_path)
    assert (picture.plain, picture.width, picture.height, picture.changes) == (True, 5000, 4000, ())
    assert made
    assert made.size == (4096, 3277)
    assert near(made.getpixel((30, 30)), RED)


def test_plain_and_over_ten_megabytes(tmp_path: Path) -> None:
    noise = Image.effect_noise((2000, 2000), 200).convert("RGB")
    content = saved(noise, "BMP")
    picture, made = read(content, "a.bmp", tmp_path)
    assert (len(content) > PORTRAIT_ASSET_BYTES, picture.plain) == (True, True)
    assert made


# ---------------------------------------------------------------- made plain


@pytest.mark.parametrize("form", ["GIF", "TIFF", "AVIF"])
def test_other_kinds_become_jpeg(form: str, tmp_path: Path) -> None:
    picture, made = read(saved(marked(), form, quality=95), f"a.{SUFFIXES[form]}", tmp_path)
    assert picture.type == form.lower()
    assert f"converted from {form} to JPEG" in picture.changes
    assert made
    assert all(map(near, corners(made), (RED, BLUE, GREEN)))


def modes() -> dict[str, bytes]:
    clear = marked().convert("RGBA")
    clear.paste((255, 0, 255, 0), (200, 300, 280, 380))  # hidden behind it: magenta
    grey = Image.new("I", (480, 640), 0xFFFF)
    grey.paste(0x8000, (0, 0, 101, 101))
    grey = grey.convert("I;16")
    cut = Image.new("P", (480, 640))
    cut.putpalette([255, 255, 255, 255, 0, 0, 9, 9, 9])
    cut.paste(1, (0, 0, 101, 101))
    cut.paste(2, (200, 300, 280, 380))
    return {
        "palette.png": saved(marked().quantize(16), "PNG"),
        "palette-clear.png": saved(cut, "PNG", transparency=2),
        "rgba.png": saved(clear, "PNG"),
        "la.png": saved(clear.convert("LA"), "PNG"),
        "rgba.webp": saved(clear, "WEBP", lossless=True),
        "rgba.tiff": saved(clear, "TIFF"),
        "rgba.avif": saved(clear, "AVIF", quality=95),
        "grey16.png": saved(grey, "PNG"),
        "grey16.tiff": saved(grey, "TIFF"),
        "one-bit.png": saved(marked().convert("1"), "PNG"),
        "cmyk.jpg": saved(marked().convert("CMYK"), "JPEG", quality=95),
        "cmyk.tiff": saved(marked().convert("CMYK"), "TIFF"),
        "float.tiff": saved(Image.new("F", (480, 640), 1.0), "TIFF"),
        "lzw.tiff": saved(marked(), "TIFF", compression="tiff_lzw"),
    }


MODES = modes()


@pytest.mark.parametrize("name", MODES)
def test_every_mode(name: str, tmp_path: Path) -> None:
    picture, made = read(MODES[name], name, tmp_path)
    assert not picture.plain
    assert picture.changes
    assert made
    assert near(made.getpixel((240, 340)), (255, 255, 255)), "the middle is white, or clear"
    red = {"grey16.png": (128, 128, 128), "grey16.tiff": (128, 128, 128), "la.png": (76, 76, 76),
           "one-bit.png": None, "float.tiff": (255, 255, 255)}.get(name, RED)  # fmt: skip
    if red:
        assert near(made.getpixel((30, 30)), red, by=20)


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    """A PNG of 16 bits a channel, written by hand: Pillow doesn't write them."""
    row = b"\0" + struct.pack(">HHH", 0x80FF, 0x40FF, 0xFFFF) * 480
    import zlib  # noqa: PLC0415

    header = struct.pack(">IIBBBBB", 480, 640, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(row * 640))
    picture, made = read(content + png_chunk(b"IEND", b""), "a.png", tmp_path)
    assert "reduced to 8 bits" in picture.changes
    assert made
    assert near(made.getpixel((240, 340)), (0x80, 0x40, 0xFF), by=4)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_the_first_frame(form: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (480, 640), colour) for colour in (RED, BLUE)]
    content = saved(frames[0], form, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    picture, made = read(content, f"a.{SUFFIXES[form]}", tmp_path)
    assert "first frame taken" in picture.changes
    assert made
    assert near(made.getpixel((240, 340)), RED)


def test_a_wide_gamut(tmp_path: Path) -> None:
    """Pixels of a profile with red and blue swapped end as the colours that the profile means."""
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = srgb.find(b"rXYZ"), srgb.find(b"bXYZ")
    srgb[red : red + 4], srgb[blue : blue + 4] = b"bXYZ", b"rXYZ"
    named = bytes(srgb).replace(b"s\0R\0G\0B", b"w\0i\0d\0e").replace(b"sRGB built-in", b"wide built-in")
    picture, made = read(saved(marked(), "JPEG", quality=95, icc_profile=named), "a.jpg", tmp_path)
    assert "colours converted from a wider gamut to sRGB" in picture.changes
    assert made
    assert all(map(near, corners(made), (BLUE, RED, GREEN)))


def test_a_profile_that_is_rubbish(tmp_path: Path) -> None:
    picture, _ = read(saved(marked(), "JPEG", icc_profile=b"rubbish" * 40), "a.jpg", tmp_path)
    assert picture.plain


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("sides", "becomes"),
    [((300, 300), (400, 400)), ((399, 800), (400, 802)), ((350, 500), (400, 571)), ((300, 5000), (400, 6667)),
     ((8000, 6000), (4096, 3072)), ((9000, 600), (6000, 400))],
)  # fmt: skip
def test_sizes(sides: tuple[int, int], becomes: tuple[int, int], tmp_path: Path) -> None:
    """300 to 399 px are enlarged to 400; too large ones made 4096, or as large as leaves 400 px."""
    picture, _ = read(saved(Image.new("RGB", sides, "white"), "JPEG"), "a.jpg", tmp_path)
    assert (picture.width, picture.height) == becomes
    assert not picture.plain
    verb = "enlarged" if min(sides) < 400 else "made smaller"
    assert f"{verb} from {sides[0]} by {sides[1]} to {becomes[0]} by {becomes[1]} pixels" in picture.changes


@pytest.mark.parametrize("sides", [(299, 299), (299, 2000), (1, 1)])
def test_too_small(sides: tuple[int, int], tmp_path: Path) -> None:
    assert refused(saved(Image.new("RGB", sides), "PNG"), "a.png", tmp_path) == "PortraitTooSmall"


def test_too_many_pixels_before_decoding(tmp_path: Path) -> None:
    """100 megapixels pass the header; one row more doesn't. Nothing behind the header is there."""
    for sides, code in (((10_000, 10_000), "PortraitUnreadable"), ((10_000, 10_001), "PortraitTooLarge")):
        header = struct.pack(">IIBBBBB", *sides, 8, 2, 0, 0, 0)
        content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"")
        assert refused(content, "a.png", tmp_path) == code


def test_no_size_fits(tmp_path: Path) -> None:
    assert refused(saved(Image.new("RGB", (300, 6000)), "PNG"), "a.png", tmp_path) == "PortraitTooLarge"


def test_scale_is_one_in_between() -> None:
    assert [scale_for(side, 4096, "a") for side in (400, 1000, 4096)] == [1, 1, 1]


# ---------------------------------------------------------------- damaged


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "HEIC"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_cut_short(form: str, share: float, tmp_path: Path) -> None:
    if form == "HEIC":
        content = (FIXTURES / "turn1.heic").read_bytes()
    else:
        noise = Image.effect_noise((480, 640), 90).convert("RGB")
        content = saved(noise, form)
    name = f"a.{SUFFIXES.get(form, 'heic')}"
    assert refused(content[: int(len(content) * share)], name, tmp_path) == "PortraitUnreadable"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"),
        (b"%PDF-1.7\n" + b"x" * 99, "a PDF document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"data:image/png;base64,AAAA", "a data URL"),
        (b"ID3\x03\0\0\0\0\0\0" + b"x" * 99, "an MP3"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 500 500\n", "no picture file"),
    ],
)
def test_no_picture(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as error:
        read(content, "a.jpg", tmp_path)
    assert error.value.problem.code == "PortraitUnreadable"
    assert words in error.value.problem.message


def test_too_big(tmp_path: Path) -> None:
    file = tmp_path / "x"
    with file.open("wb") as sparse:
        sparse.truncate(50 * 1_048_576 + 1)
    with pytest.raises(RefusedError) as error:
        read_picture(file, "a.jpg", tmp_path)
    assert error.value.problem.code == "PortraitTooBig"
