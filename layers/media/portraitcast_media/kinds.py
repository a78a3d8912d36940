"""What a file that is no voice or no picture really is, for the sentence that refuses it. Judged by its first bytes."""

from __future__ import annotations

from typing import Final

_MAGICS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<!doctype", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML text"),
    (0, b"data:", "a data URL: text, not the file itself"),
    (0, b"#EXTM3U", "a playlist: text that names other files"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"RIFF", "a WAV or AVI file"),
    (0, b"ID3", "an MP3"),
    (0, b"fLaC", "a FLAC sound"),
    (0, b"OggS", "an Ogg sound"),
    (0, b"\x1aE\xdf\xa3", "a WebM or Matroska file"),
)
_PICTURE_BRANDS: Final = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"hevc")


def really(head: bytes) -> str | None:
    """Return what the first bytes (64 are enough) say a file is, in words, or None."""
    for at, magic, words in _MAGICS:
        if head[at : at + len(magic)] == magic:
            return words
    if head[4:8] == b"ftyp":
        return "a HEIC or AVIF picture" if head[8:12] in _PICTURE_BRANDS else "an MP4 or M4A file"
    stripped = head.strip()
    if stripped[:1] in {b"{", b"["} and stripped.isascii():
        return "a JSON text"
    return None


def other_than(kind: str, head: bytes) -> str | None:
    """Return what a file is, in words, unless it seems to be of the `kind` (``voice`` or ``portrait``) it should be."""
    words = really(head)
    if words is None:
        return None
    picture = "picture" in words
    sound = any(part in words for part in ("sound", "MP3", "WAV", "M4A", "Matroska"))
    return None if (picture if kind == "portrait" else sound) else words
