"""What a file really is, by its first bytes."""

from __future__ import annotations

from typing import Final

from portraitcast.media.mpeg import parse_frame, same_stream

HEAD_BYTES: Final = 4096  # what `sniff` needs: two frames of MPEG sound (at most 1,729 bytes each) fit in

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"ID3", "mp3"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"#!AMR", "amr"),
    (b"RF64", "rf64"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "wma"),
    (b"\x1a\x45\xdf\xa3", "webm"),
    (b"%PDF", "pdf"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
)
_FORMS: Final = {  # container and form of the IFF family
    (b"RIFF", b"WAVE"): "wav",
    (b"RIFF", b"WEBP"): "webp",
    (b"RIFF", b"AVI "): "avi",
    (b"FORM", b"AIFF"): "aiff",
    (b"FORM", b"AIFC"): "aiff",
}
_BRANDS: Final = {
    b"avif": "avif",
    b"avis": "avif",
    b"heic": "heic",
    b"heix": "heic",
    b"hevc": "heic",
    b"heim": "heic",
    b"mif1": "heic",
    b"msf1": "heic",
    b"M4A ": "m4a",
    b"M4B ": "m4a",
    b"qt  ": "mov",
}
_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})  # bytes of the header after the file's own

_NAMES: Final = {
    "jpeg": "a JPEG picture",
    "png": "a PNG picture",
    "bmp": "a BMP picture",
    "webp": "a WebP picture",
    "gif": "a GIF picture",
    "heic": "a HEIC picture",
    "avif": "an AVIF picture",
    "tiff": "a TIFF picture",
    "svg": "an SVG drawing",
    "mp3": "an MP3 sound",
    "mp2": "an MP2 sound (MPEG Layer II)",
    "mp1": "an MP1 sound (MPEG Layer I)",
    "wav": "a WAV sound",
    "rf64": "an RF64 sound",
    "m4a": "an M4A sound",
    "aac": "an AAC sound",
    "ogg": "an Ogg sound",
    "flac": "a FLAC sound",
    "aiff": "an AIFF sound",
    "amr": "an AMR sound",
    "wma": "a WMA sound",
    "mp4": "an MP4 video",
    "mov": "a QuickTime video",
    "avi": "an AVI video",
    "webm": "a WebM or Matroska video",
    "html": "a web page (HTML)",
    "xml": "an XML text",
    "json": "a JSON text",
    "pdf": "a PDF document",
    "zip": "a ZIP archive",
    "gzip": "a gzip archive",
}


def describe(kind: str) -> str:
    """Return an answer of `sniff` in words, with its article: "gif" is "a GIF picture"."""
    return _NAMES[kind]


def sniff(head: bytes) -> str | None:
    """Return what a file really is, by its first bytes, whatever it is called.

    Parameters
    ----------
    head
        The first `HEAD_BYTES` bytes, or all of a shorter file.

    Returns
    -------
    str or None
        A short name in small letters ("jpeg", "wav", "html"; `describe` puts it in words), or None if nobody can tell.
    """
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    return (
        _FORMS.get((head[:4], head[8:12]))
        or _iso_brand(head)
        or ("bmp" if _is_bmp(head) else None)
        or _text(head)
        or _mpeg_sound(head)
        or ("aac" if _is_adts(head) else None)
    )


def _iso_brand(head: bytes) -> str | None:
    """ISO base media (MP4 and its kin): the main brand decides, then the compatible ones."""
    if head[4:8] != b"ftyp" or len(head) < 12:
        return None
    end = min(int.from_bytes(head[:4]), len(head), 256)
    compatible = [head[at : at + 4] for at in range(16, end, 4)]
    if head[8:12] in {b"mif1", b"msf1"} and (b"avif" in compatible or b"avis" in compatible):
        return "avif"  # these two main brands say only "picture"
    return _BRANDS.get(head[8:12], "mp4")


def _is_bmp(head: bytes) -> bool:
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS


def _text(head: bytes) -> str | None:
    """Texts that a failed download or a wrong drag leaves behind."""
    utf_16 = head[:2] in {b"\xff\xfe", b"\xfe\xff"}
    if head[:1] == b"\xff" and not utf_16:
        return None  # sound: no text begins so
    text = head[:512].decode("utf-16" if utf_16 else "utf-8-sig", "ignore").lstrip().lower()
    if text.startswith(("<!doctype html", "<html")):
        return "html"
    if text.startswith("<svg") or (text.startswith("<?xml") and "<svg" in text):
        return "svg"
    if text.startswith("<?xml"):
        return "xml"
    if text.startswith("{") or (text.startswith("[") and text[1:].lstrip()[:1] in set('{["]-0123456789tfn')):
        return "json"
    return None


def _mpeg_sound(head: bytes) -> str | None:
    """MPEG sound: a frame header, and a second one of the same stream where the first frame ends."""
    frame = parse_frame(head[:4])
    if frame is None:
        return None
    following = head[frame.length : frame.length + 4]
    return f"mp{frame.layer}" if parse_frame(following) and same_stream(head, following) else None


def _is_adts(head: bytes) -> bool:
    """AAC in ADTS frames (ISO/IEC 13818-7): like MPEG sound, with layer bits 0."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return False
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    following = head[length : length + 2]
    return length >= 7 and len(following) == 2 and following[0] == 0xFF and following[1] & 0xF6 == 0xF0
