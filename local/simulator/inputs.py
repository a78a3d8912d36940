"""Fetch the two inputs of a video and hold them to the service's limits."""

from __future__ import annotations

import hashlib
import http.client
import io
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from simulator.errors import InputError
from simulator.models import MIB, MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from simulator.models import Model

type_of_suffix: Final = {".wav": "wav", ".mp3": "mp3"}
type_of_content_type: Final = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
PICTURE_SUFFIXES: Final = {"", ".jpg", ".jpeg", ".png", ".bmp", ".webp"}
PICTURE_FORMATS: Final = {"JPEG", "MPO", "PNG", "BMP", "WEBP"}  # MPO: what some cameras put into a .jpg
PICTURE_MAX_BYTES: Final = 100 * MIB  # ours where the service names none: this machine's memory does
SAMPLE_RATE: Final = 44_100  # Hz, of the sound in the video
SAYS_WHO: Final = "portraitcast-sim"  # name of the note in a picture that says who is in it

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Download:
    """What lay behind a link."""

    data: bytes
    content_type: str
    suffix: str

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes."""
        return hashlib.sha256(self.data).hexdigest()


class _NoProxy(urllib.request.ProxyHandler):
    """Links of a local run are reached directly, whatever the environment says."""

    def __init__(self) -> None:
        super().__init__({})


_opener = urllib.request.build_opener(_NoProxy)


def fetch(url: str, seconds: float, max_bytes: int, names: Mapping[str, str] | None = None) -> Download:
    """Download a link as the service does.

    Parameters
    ----------
    url : str
        http or https, already checked.
    seconds : float
        For the whole download, s.
    max_bytes : int
        Reading stops one byte after this.
    names : Mapping[str, str] | None
        Names of hosts that can't be looked up here, and their addresses. A presigned link's signature covers the name,
        so it is sent all the same.

    Raises
    ------
    InputError
        ``InvalidURL.Timeout``, ``InvalidURL.ConnectionRefused``, ``InvalidParameter.DataInspection`` (any other
        trouble, and ``%2F`` in the path, which the service was seen to trip over), ``InvalidURL`` (too big).
    """
    unable = InputError(
        "InvalidParameter.DataInspection",
        "Unable to download the media resource during the data inspection process.",
    )
    path = urlsplit(url).path
    if "%2f" in path.lower():
        raise unable
    deadline = time.monotonic() + seconds
    data = io.BytesIO()
    try:
        # Links hold what their owner wrote; the wire takes ASCII only.
        with _opener.open(_request(quote(url, safe="%/:=&?~#+!$,;'@()*[]"), names or {}), timeout=seconds) as answer:
            while data.tell() <= max_bytes and (chunk := answer.read(65_536)):
                data.write(chunk)
                if time.monotonic() > deadline:
                    raise TimeoutError
            if answer.length and data.tell() <= max_bytes:
                raise unable  # cut off before its Content-Length
            content_type = answer.headers.get_content_type()
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise unable from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            raise InputError("InvalidURL.Timeout", "Downloading the input timed out.") from error
        if isinstance(cause, ConnectionRefusedError):
            raise InputError("InvalidURL.ConnectionRefused", "The connection to the input was refused.") from error
        raise unable from error
    if data.tell() > max_bytes:
        raise too_large(max_bytes)
    return Download(data.getvalue(), content_type, PurePosixPath(unquote(path)).suffix.lower())


def _request(url: str, names: Mapping[str, str]) -> urllib.request.Request:
    parts = urlsplit(url)
    if parts.hostname is None or parts.hostname not in names:
        return urllib.request.Request(url)  # noqa: S310 - checked by who asks
    at = parts._replace(netloc=parts.netloc.replace(parts.hostname, names[parts.hostname], 1))
    return urllib.request.Request(at.geturl(), headers={"Host": parts.netloc})  # noqa: S310 - the same


def too_large(max_bytes: int) -> InputError:
    """Give the refusal of a file that is too big."""
    return InputError("InvalidURL", f"File size is larger than {round(max_bytes / MIB)}MB.")


def open_portrait(download: Download, model: Model = MODELS["emo-v1"]) -> Image.Image:
    """Decode a picture of a type and size that the model takes.

    Raises
    ------
    InputError
        ``InvalidURL`` (type), ``InvalidFile.Resolution`` (sides), ``InvalidFile.Value`` (damaged).
    """
    wrong_type = InputError(
        "InvalidURL", "File type is not supported. Allowed types are: .jpg, .jpeg, .png, .bmp, .webp."
    )
    wrong_size = InputError(
        "InvalidFile.Resolution",
        f"The size of input image is not satisfied: the short side must be at least {model.min_side} pixels "
        f"and the long side at most {model.max_side} pixels"
        + (f", with an aspect ratio of at most {model.max_ratio:g}." if model.max_ratio else "."),
    )
    if download.suffix not in PICTURE_SUFFIXES:
        raise wrong_type
    try:
        image = Image.open(io.BytesIO(download.data))
    except Image.DecompressionBombError as error:
        raise wrong_size from error
    except (UnidentifiedImageError, OSError) as error:
        raise wrong_type from error
    if image.format not in PICTURE_FORMATS:
        raise wrong_type
    shorter, longer = sorted(image.size)
    if shorter < model.min_side or longer > model.max_side:
        raise wrong_size
    if model.max_ratio is not None and longer > model.max_ratio * shorter:
        raise wrong_size
    try:
        image.load()
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        raise InputError("InvalidFile.Value", "The input image is unclear or damaged.") from error
    return image


def who_is_in(image: Image.Image) -> None:
    """Judge the person in a picture: no face is recognised, the picture itself says what is wrong with it.

    A PNG text chunk ``portraitcast-sim`` of ``NoHuman`` (``MultiHuman``, ``FullFace``, …), or a JPEG comment
    ``portraitcast-sim: NoHuman``, refuses it with that code; so does a picture of one colour (``NoHuman``).

    Raises
    ------
    InputError
        ``InvalidFile.…`` if it is refused.
    """
    note = image.info.get(SAYS_WHO)
    comment = image.info.get("comment")
    if isinstance(comment, bytes):
        name, _, value = comment.decode("utf-8", "replace").partition(":")
        note = value if name.strip() == SAYS_WHO else note
    if note:
        code = str(note).strip().removeprefix("InvalidFile.")
        raise InputError(f"InvalidFile.{code}", f"The input image is refused: {code}.")
    extrema = np.array(image.getextrema()).reshape(-1, 2)
    if (extrema[:, 0] == extrema[:, 1]).all():
        raise InputError("InvalidFile.NoHuman", "No human is detected in the input image.")


def boxes(size: tuple[int, int], ratio: str) -> tuple[Box, Box]:
    """Place the face and the cut-out in a picture.

    Parameters
    ----------
    size : tuple[int, int]
        Width and height, px.
    ratio : str
        ``1:1`` or ``3:4``.

    Returns
    -------
    tuple[Box, Box]
        ``face_bbox`` and ``ext_bbox``: the largest centred cut-out of that shape; and where portraits have their face,
        a little above its middle, a square of 0.4 of the picture's shorter side, as in the service's own example.
    """
    width, height = size
    across, down = (1, 1) if ratio == "1:1" else (3, 4)
    unit = min(width // across, height // down)
    ext_width, ext_height = unit * across, unit * down
    left, top = (width - ext_width) // 2, (height - ext_height) // 2
    side = round(min(size) * 0.4)
    face_left, face_top = left + (ext_width - side) // 2, top + round(ext_height * 0.45) - side // 2
    face = (face_left, face_top, face_left + side, face_top + side)
    return face, (left, top, left + ext_width, top + ext_height)


def ratio_of(ext_bbox: Box) -> str:
    """Tell the video's shape from the cut-out: the nearer of ``1:1`` and ``3:4``."""
    shape = (ext_bbox[2] - ext_bbox[0]) / (ext_bbox[3] - ext_bbox[1])
    return "1:1" if abs(shape - 1) <= abs(shape - 0.75) else "3:4"


def declared_type(download: Download) -> str:
    """Tell which sound a link says it is: by its suffix, without one by its Content-Type.

    Raises
    ------
    InputError
        ``InvalidURL`` for anything but WAV and MP3.
    """
    named = type_of_suffix.get(download.suffix)
    if named is None and download.suffix == "":
        named = type_of_content_type.get(download.content_type)
    if named is None:
        raise _wrong_voice_type()
    return named


def read_voice(download: Download, model: Model = MODELS["emo-v1"]) -> NDArray[np.float32]:
    """Decode a voice of a length that the model takes.

    Returns
    -------
    NDArray[np.float32]
        Mono samples at ``SAMPLE_RATE``, shape (n,), -1…1.

    Raises
    ------
    InputError
        ``InvalidURL``: not what it says it is, damaged, empty, too long or too short.
    """
    named = declared_type(download)
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    parts: list[NDArray[np.float32]] = []
    length = 0
    try:
        with av.open(io.BytesIO(download.data), "r") as container:
            if container.format.name != named or not container.streams.audio:
                raise _wrong_voice_type()
            for frame in container.decode(audio=0):
                frames = resampler.resample(frame)
                parts.extend(part.to_ndarray()[0] for part in frames)
                length += sum(part.samples for part in frames)
                if length > (model.max_seconds + 1) * SAMPLE_RATE:
                    break  # far too long: hours of silence fit into 15 MB
            parts.extend(part.to_ndarray()[0] for part in resampler.resample(None))
    except av.FFmpegError as error:
        raise _wrong_voice_type() from error
    if not parts:
        raise _wrong_voice_type()
    samples = np.concatenate(parts)
    most, least = model.max_seconds * SAMPLE_RATE, model.min_seconds * SAMPLE_RATE
    if len(samples) > most or (model.strict and len(samples) == most):
        raise InputError("InvalidURL", f"The input audio is longer than {model.max_seconds:g}s.")
    if len(samples) < least or (model.strict and len(samples) == least):
        raise InputError("InvalidURL", f"The input audio is shorter than {model.min_seconds:g}s.")
    return samples


def _wrong_voice_type() -> InputError:
    return InputError("InvalidURL", "File type is not supported. Allowed types are: .wav, .mp3.")
