"""What a portrait is: sides as people see it; and the JPEG that is passed on where it isn't plain.

Runs in the child process only: pictures are decoded by C libraries.
"""

from __future__ import annotations

import io
import shutil
import zlib
from typing import TYPE_CHECKING, Final

import pi_heif  # type: ignore[import-untyped]  # it has no stubs
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError

from portraitcast_media.facts import Asset, Picture, asset_of, sha256_of
from portraitcast_media.kinds import other_than
from portraitcast_media.limits import (
    MIB,
    PORTRAIT_ASSET_BYTES,
    PORTRAIT_ASSET_SIDE,
    PORTRAIT_FIT_SIDE,
    PORTRAIT_MAX_BYTES,
    PORTRAIT_MAX_PIXELS,
    PORTRAIT_MAX_SIDE,
    PORTRAIT_MIN_SIDE,
)
from portraitcast_media.problems import (
    RefusedError,
    portrait_too_big,
    portrait_too_large,
    portrait_too_long,
    portrait_too_small,
    portrait_unreadable,
    reason_of,
)

if TYPE_CHECKING:
    from pathlib import Path

# Only these are tried; Pillow's others include EPS, which runs a program.
_FORMATS: Final = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "AVIF", "HEIF")
_TYPES: Final = {"HEIF": "heic", "MPO": "jpeg", "DIB": "bmp"}  # others: Pillow's name in small letters
_WORDS: Final = {
    "jpeg": "JPEG",
    "png": "PNG",
    "bmp": "BMP",
    "webp": "WebP",
    "gif": "GIF",
    "tiff": "TIFF",
    "heic": "HEIC",
    "avif": "AVIF",
}
_SUFFIXES: Final = {"jpeg": ("jpg", "jpeg"), "png": ("png",), "bmp": ("bmp",), "webp": ("webp",)}  # that models name
_ORIENTATION: Final = 0x0112  # Exif
_SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_SRGB_NAMES: Final = ("srgb", "c2", "c2ci", "urgb")  # how profiles call themselves that are sRGB
_QUALITIES: Final = (95, 90, 85)

Image.MAX_IMAGE_PIXELS = None  # ours is checked right after the header has been read
PngImagePlugin.MAX_TEXT_CHUNK = 16 * MIB  # picture generators write their whole workflow into one
pi_heif.register_heif_opener(thumbnails=False)
pi_heif.options.DECODE_THREADS = 2


def read_picture(path: Path, key: str, work: Path) -> tuple[Picture, Path | None]:
    """Return what a portrait is, and the file of its asset, if it has one.

    Parameters
    ----------
    path
        The upload on this disk; its name is not looked at.
    key
        Its key in the bucket, for messages; its suffix says what the service will take it for.
    work
        A folder to write into.

    Raises
    ------
    RefusedError
        ``PortraitUnreadable``, ``PortraitTooBig``, ``PortraitTooSmall`` or ``PortraitTooLarge``.
    """
    size = path.stat().st_size
    if not size:
        raise RefusedError(portrait_unreadable(key, "the file is empty, 0 bytes"))
    if size > PORTRAIT_MAX_BYTES:
        raise RefusedError(portrait_too_big(key, size))
    with path.open("rb") as file:
        image = _opened(file, key)
        stored = image.size
        _check_sides(*stored, key)
        scale = scale_for(*stored, key)
        if scale < 1:  # JPEG only: decoded at half or a quarter of its sides at once, never below what is wanted
            image.draft(None, (round(stored[0] * scale), round(stored[1] * scale)))
        # To its end, also where it is plain: what is damaged is not passed on. And first of all: reading a PNG's Exif
        # decodes it too, and an error would be lost there.
        _load(image, key)
        turn = _turn(image)
        width, height = stored[::-1] if turn >= 5 else stored
        why = _not_plain(image, turn, path)
        kind = _TYPES.get(image.format or "", (image.format or "").lower())
        sha256 = sha256_of(path)
        fits = min(width, height) >= PORTRAIT_FIT_SIDE and max(width, height) <= PORTRAIT_MAX_SIDE
        small = size <= PORTRAIT_ASSET_BYTES and max(width, height) <= PORTRAIT_ASSET_SIDE
        suffix = key.rpartition("/")[2].rpartition(".")[2].lower()
        named = suffix in _SUFFIXES.get(kind, ())
        if not why and fits and not named and small:
            right = _SUFFIXES[kind][0]
            file_ = work / f"portrait-copy.{right}"
            shutil.copyfile(path, file_)
            asset: Asset | None = asset_of(sha256, file_, right)
            changes: tuple[str, ...] = (f"renamed from .{suffix} to .{right}",)
            return Picture(sha256, width, height, kind, changes, plain=False, asset=asset), file_
        plain = not why and fits and named
        if plain and small:
            return Picture(sha256, width, height, kind, (), plain=True, asset=None), None
        made, changes = _made_plain(image, kind, scale, (width, height), turn, why)
        file_ = work / "portrait.jpg"
        made = _saved(made, file_)
        asset = asset_of(sha256, file_, "jpg")
        if plain:
            return Picture(sha256, width, height, kind, (), plain=True, asset=asset), file_
        return Picture(sha256, made.width, made.height, kind, changes, plain=False, asset=asset), file_


def scale_for(width: int, height: int, key: str) -> float:
    """Return the factor that brings a picture's sides to 400 px at least and, where that leaves it so, 4096 at most.

    Raises
    ------
    RefusedError
        ``PortraitTooLarge``: with its shorter side at 400 px the longer one is over 7000.
    """
    longer, shorter = max(width, height), min(width, height)
    scale = min(1.0, PORTRAIT_ASSET_SIDE / longer)
    if shorter * scale < PORTRAIT_FIT_SIDE:
        scale = PORTRAIT_FIT_SIDE / shorter
    if round(longer * scale) > PORTRAIT_MAX_SIDE:
        raise RefusedError(portrait_too_long(key, width, height))
    return scale


def _opened(file: io.BufferedReader, key: str) -> Image.Image:
    """Return the picture with its header read; nothing is decoded yet."""
    head = file.read(64)
    file.seek(0)
    try:
        return Image.open(file, formats=_FORMATS)
    except Exception as error:  # Pillow and its plug-ins raise whatever they meet
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "no picture file begins like this" if unknown else reason_of(error)
        raise RefusedError(portrait_unreadable(key, reason, other_than("portrait", head))) from error


def _load(image: Image.Image, key: str) -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # Pillow and its plug-ins raise whatever they meet
        raise RefusedError(portrait_unreadable(key, reason_of(error))) from error


def _turn(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  # an Exif block that can't be read turns nothing: viewers do the same
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _check_sides(width: int, height: int, key: str) -> None:
    if width * height > PORTRAIT_MAX_PIXELS:
        raise RefusedError(portrait_too_large(key, width, height))
    if min(width, height) < PORTRAIT_MIN_SIDE:
        raise RefusedError(portrait_too_small(key, width, height))


# ---------------------------------------------------------------- plain or not


def _not_plain(image: Image.Image, turn: int, path: Path) -> str:
    """Return why the file can't be passed on as it is, in a few words; "" if nothing speaks against it."""
    form = image.format or ""
    if form not in {"JPEG", "PNG", "BMP", "WEBP"}:
        return _WORDS.get(_TYPES.get(form, form.lower()), form)
    if getattr(image, "is_animated", False):
        return "animated"
    if image.has_transparency_data:
        return "transparency"
    if turn != 1:
        return "turned by Exif"
    if image.mode not in {"RGB", "L"}:
        words = {"CMYK": "CMYK", "P": "a palette", "1": "black and white", "F": "32 bits"}
        return words.get(image.mode, "16 bits a channel" if image.mode.startswith("I") else f"mode {image.mode}")
    if not _is_srgb(image):
        return "a colour profile other than sRGB"
    return _odd_container(form, path)


def _odd_container(form: str, path: Path) -> str:
    """Return what about the file's bytes makes some decoders fail; "" if nothing does."""
    data = path.read_bytes()
    if form == "PNG":
        return _odd_png(data)
    if form == "BMP":
        bits, method = int.from_bytes(data[28:30], "little"), int.from_bytes(data[30:34], "little")
        return "" if (bits, method) == (24, 0) else f"a BMP of {bits} bits"
    if form == "JPEG" and b"\xff\xd9" not in data[-MIB:]:
        return "a JPEG without an end"
    return ""


def _odd_png(data: bytes) -> str:
    at = 8
    while at + 12 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return "a damaged PNG chunk"
        if name == b"IHDR" and data[at + 16] != 8:
            return f"{data[at + 16]} bits a channel"
        if name == b"IEND":
            return "" if end == len(data) else "bytes behind the PNG's end"
        at = end
    return "a PNG without an end"


def _is_srgb(image: Image.Image) -> bool:
    profile = image.info.get("icc_profile")
    if not profile:
        return True
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return True  # a profile that can't be read changes nothing: viewers do the same
    name = name.strip().lower()
    return "srgb" in name or name in _SRGB_NAMES


# ---------------------------------------------------------------- made plain


def _made_plain(
    image: Image.Image, kind: str, scale: float, seen: tuple[int, int], turn: int, why: str
) -> tuple[Image.Image, tuple[str, ...]]:
    """Return the picture as 8-bit sRGB, upright, on white, of a size that models take; and what was done, in words."""
    changes = [] if kind == "jpeg" else [f"converted from {_WORDS.get(kind, kind.upper())} to JPEG"]
    if getattr(image, "is_animated", False):
        changes.append("first frame taken")
    target = round(seen[0] * scale), round(seen[1] * scale)
    stored = target[::-1] if turn >= 5 else target
    if target != seen:
        verb = "enlarged" if scale > 1 else "made smaller"
        changes.append(f"{verb} from {seen[0]} by {seen[1]} to {target[0]} by {target[1]} pixels")
    exact = image.convert("RGBA" if image.has_transparency_data else "RGB") if image.mode in {"P", "1", "PA"} else image
    if exact.mode.startswith("I") or exact.mode == "F":
        exact = _eight_bit(exact)
    smaller = exact if exact.size == stored else exact.resize(stored, Image.Resampling.LANCZOS, reducing_gap=3.0)
    profile = image.info.get("icc_profile")
    if smaller.has_transparency_data:
        changes.append("transparency put on white")
        clear = smaller.convert("RGBA")
        alpha = clear.getchannel("A")
        colours = _to_srgb(clear.convert("RGB"), profile)
        smaller = Image.new("RGB", clear.size, "white")
        smaller.paste(colours, mask=alpha)
    else:
        smaller = _to_srgb(smaller, profile)
    if not _is_srgb(image) or image.mode in {"CMYK", "LAB"}:
        changes.append(f"colours converted from {'CMYK' if image.mode == 'CMYK' else 'a wider gamut'} to sRGB")
    elif "bits" in why and kind == "png":
        changes.append("reduced to 8 bits")
    if turn != 1:
        changes.append("turned upright as its Exif says")
        smaller.getexif()[_ORIENTATION] = turn
        smaller = ImageOps.exif_transpose(smaller)
    return smaller, tuple(changes or [f"written anew ({why or 'too big'})"])


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return a grey picture of 16 or 32 bits or floating point as 8-bit grey."""
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]  # one band, two numbers
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and high < 65_536):
        most = 65_535.0
    else:
        most = 1.0 if image.mode == "F" and high <= 1 else max(high, 1.0)
    wide = image.convert("F")
    return wide.point(lambda value: value * (255 / most) + 0.5).convert("L")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture as RGB in sRGB; without a profile that fits, its colours are taken for sRGB."""
    if image.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return _through(image, lab) or image.convert("L").convert("RGB")
    if profile:
        try:
            described = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        except (ImageCms.PyCMSError, OSError, ValueError):
            return image.convert("RGB")
        if (through := _through(image, described)) is not None:
            return through
    return image.convert("RGB")


def _through(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image | None:
    try:
        return ImageCms.profileToProfile(image, profile, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, ValueError):
        return None  # a profile of another kind of picture


def _saved(image: Image.Image, path: Path) -> Image.Image:
    """Write a JPEG below 10 MB; return the picture as it was written."""
    while True:
        for quality in _QUALITIES:
            image.save(path, "JPEG", quality=quality, subsampling=0)
            if path.stat().st_size <= PORTRAIT_ASSET_BYTES:
                return image
        sides = image.width * 4 // 5, image.height * 4 // 5
        image = image.resize(sides, Image.Resampling.LANCZOS)
