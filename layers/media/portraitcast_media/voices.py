"""What a voice is: seconds, peak, loudness, pauses; and the WAV that is passed on where it isn't plain."""

from __future__ import annotations

import math
import shutil
from array import array
from itertools import repeat
from operator import mul
from typing import TYPE_CHECKING, Final

import av.error
from av.audio.frame import AudioFrame
from av.filter import Graph

from portraitcast_media.containers import mp3_seconds, wav_seconds
from portraitcast_media.facts import Asset, Pause, Voice, asset_of, sha256_of
from portraitcast_media.kinds import other_than
from portraitcast_media.limits import (
    PAUSE_MIN_SECONDS,
    PAUSES_MAX,
    VOICE_MAX_BYTES,
    VOICE_PLAIN_BYTES,
    VOICE_SAME_SECONDS,
    VOICE_SILENT_DBFS,
    VOICE_WHOLE_SECONDS,
)
from portraitcast_media.problems import (
    RefusedError,
    reason_of,
    voice_empty,
    voice_is_video,
    voice_silent,
    voice_too_big,
    voice_too_long,
    voice_unreadable,
)
from portraitcast_media.sound import (
    DamagedError,
    Decoded,
    MovingPictureError,
    NoSoundError,
    TooLongError,
    Wav,
    decode,
    rate_for,
)

if TYPE_CHECKING:
    from pathlib import Path

_FULL: Final = 32_768  # full scale of 16 bit
_WINDOWS: Final = 100  # levels a second
_LEVEL_HZ: Final = 8_000  # about as many samples a second are enough to tell speech from a pause
_CANCELLED_DB: Final = -40.0  # a mix below: perhaps two channels that cancel each other out
_LOWER_RATES: Final = (44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
_HEADER: Final = 44  # bytes of our WAV's

# FFmpeg's name of a container → ours; the first that fits
_TYPES: Final = {
    "wav": "wav",
    "w64": "wav",
    "mp3": "mp3",
    "mov": "m4a",
    "ogg": "ogg",
    "flac": "flac",
    "matroska": "webm",
    "asf": "wma",
    "aiff": "aiff",
    "caf": "caf",
    "amr": "amr",
    "aac": "aac",
}
_CODECS: Final = {
    "aac": "AAC",
    "aac_latm": "AAC",
    "mp3": "MP3",
    "mp3float": "MP3",
    "opus": "Opus",
    "vorbis": "Vorbis",
    "flac": "FLAC",
    "alac": "Apple Lossless",
    "wmav1": "WMA",
    "wmav2": "WMA",
    "wmapro": "WMA",
    "amrnb": "AMR",
    "amr_nb": "AMR",
    "amrwb": "AMR",
    "amr_wb": "AMR",
    "pcm_mulaw": "µ-law",
    "pcm_alaw": "A-law",
    "gsm_ms": "GSM",
}


def read_voice(
    path: Path, key: str, work: Path, *, max_seconds: float, max_bytes: int = VOICE_MAX_BYTES
) -> tuple[Voice, Path | None]:
    """Return what a voice is, and the file of its asset, if it has one.

    Parameters
    ----------
    path
        The upload on this disk; its name is not looked at.
    key
        Its key in the bucket, for messages; its suffix says what the service will take it for.
    work
        A folder to write into; at most 2 bytes a sample at 48,000 Hz, twice.
    max_seconds
        The longest that is taken (the stack's ``MaxVoiceSeconds``).
    max_bytes
        The biggest that is taken.

    Raises
    ------
    RefusedError
        ``VoiceEmpty``, ``VoiceTooBig``, ``VoiceUnreadable``, ``VoiceIsVideo``, ``VoiceTooLong`` or ``VoiceSilent``.
    """
    size = path.stat().st_size
    if not size:
        raise RefusedError(voice_empty(key))
    if size > max_bytes:
        raise RefusedError(voice_too_big(key, size))
    wav = work / "voice.wav"
    changes: list[str] = []
    found, measured = decoded(path, key, wav, max_seconds)
    if measured.peak_dbfs < _CANCELLED_DB and found.channels > 1:
        left, only = decoded(path, key, wav, max_seconds, left_only=True)
        if only.peak_dbfs > max(VOICE_SILENT_DBFS, measured.peak_dbfs + 12):
            found, measured = left, only
            changes.append("first channel taken: the channels cancel each other out")
        else:  # quiet as such: the mean of both, as of every other
            decoded(path, key, wav, max_seconds)
    if measured.peak_dbfs < VOICE_SILENT_DBFS:
        raise RefusedError(voice_silent(key, measured.peak_dbfs if measured.peak_dbfs > -math.inf else None))
    sha256 = sha256_of(path)
    kind = _type(found)
    plain, copied, why = _plain(path, key, found, kind, size)
    plain = plain and not changes
    file: Path | None = None
    asset: Asset | None = None
    if not plain and copied and not changes:
        file = work / f"voice-copy.{kind}"
        shutil.copyfile(path, file)
        asset = asset_of(sha256, file, kind)
        changes.append(why)
    elif not plain:
        changes += [why, *_converted(found, measured.rate)]
        file, lowered = _fitting(wav, work, measured, float(found.seconds))
        changes += lowered
        asset = asset_of(sha256, file, "wav")
    voice = Voice(
        sha256=sha256,
        seconds=round(float(found.seconds), 3),
        type=kind,
        peak_dbfs=round(measured.peak_dbfs, 1),
        loudness=measured.loudness,
        pauses=measured.pauses,
        changes=tuple(word for word in changes if word),
        plain=plain,
        asset=asset,
    )
    if file != wav:
        wav.unlink(missing_ok=True)
    return voice, file


# ---------------------------------------------------------------- decoding and measuring


class Measured:
    """What is heard in 16-bit mono samples that come a piece at a time."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._peak = 0
        self._levels: list[float] = []
        self._pending = array("h")
        self._window = rate // _WINDOWS
        self._step = max(1, rate // _LEVEL_HZ)
        self._loudness = _Loudness(rate)

    def add(self, samples: bytes) -> None:
        """Take the next samples."""
        if not samples:
            return
        values = array("h", samples)
        self._peak = max((self._peak, max(values), -min(values)))
        self._loudness.add(samples)
        self._pending.extend(values)
        window, step = self._window, self._step
        whole = len(self._pending) // window * window
        for at in range(0, whole, window):
            some = self._pending[at : at + window : step]
            self._levels.append(sum(map(mul, some, some)) / len(some))
        del self._pending[:whole]

    @property
    def peak_dbfs(self) -> float:
        """The loudest sample, dB of full scale; minus infinity for digital silence."""
        return 20 * math.log10(self._peak / _FULL) if self._peak else -math.inf

    @property
    def loudness(self) -> float | None:
        """Integrated loudness, LUFS, 1 decimal, or None."""
        return self._loudness.value

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """The stretches of at least 0.25 s in which nobody speaks."""
        return pauses_of(self._levels)


def pauses_of(levels: list[float]) -> tuple[Pause, ...]:
    """Return the pauses in mean squares of 16-bit samples, 100 a second.

    A pause is well below the speech and not above the recording's own noise: the threshold lies 6 dB over the noise
    (the 5th percentile), but at least 12 and at most 30 dB under the speech (the 95th).
    """
    if not levels:
        return ()
    decibels = [10 * math.log10(level / _FULL**2) if level else -120.0 for level in levels]
    ordered = sorted(decibels)
    noise, speech = ordered[len(ordered) // 20], ordered[len(ordered) * 19 // 20]
    threshold = min(max(noise + 6, speech - 30), speech - 12)
    pauses, since = [], None
    for at, level in enumerate([*decibels, math.inf]):
        if level < threshold:
            since = at if since is None else since
        elif since is not None:
            if at - since >= PAUSE_MIN_SECONDS * _WINDOWS:
                pauses.append(Pause(since / _WINDOWS, at / _WINDOWS))
            since = None
    longest = sorted(pauses, key=lambda pause: pause.start - pause.end)[:PAUSES_MAX]
    return tuple(sorted(longest, key=lambda pause: pause.start))


class _Loudness:
    """Integrated loudness by EBU R 128, as FFmpeg's filter measures it."""

    def __init__(self, rate: int) -> None:
        graph = Graph()
        self._source = graph.add_abuffer(sample_rate=rate, format="s16", layout="mono")
        measure = graph.add("ebur128", "metadata=1")
        self._sink = graph.add("abuffersink")
        self._source.link_to(measure)
        measure.link_to(self._sink)
        graph.configure()
        self._graph, self._rate, self._at, self._last = graph, rate, 0, -math.inf

    def add(self, samples: bytes) -> None:
        count = len(samples) // 2
        frame = AudioFrame(format="s16", layout="mono", samples=count)
        frame.planes[0].update(samples.ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts = self._rate, self._at
        self._at += count
        self._source.push(frame)
        for _ in repeat(None):
            try:
                measured = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            if (said := measured.metadata.get("lavfi.r128.I")) is not None:
                self._last = float(said)

    @property
    def value(self) -> float | None:
        return round(self._last, 1) if self._last > -70 else None  # -70: the gate of R 128, nothing was measured


def decoded(
    path: Path, key: str, wav: Path, max_seconds: float, *, left_only: bool = False, rate: int | None = None
) -> tuple[Decoded, Measured]:
    """Decode a voice into a 16-bit mono WAV, and measure it.

    Raises
    ------
    RefusedError
        As `read_voice`, but ``VoiceSilent``.
    """
    out: Wav | None = None
    measured: Measured | None = None
    found: Decoded | None = None
    try:
        for found, samples in decode(path, max_seconds, left_only=left_only, rate=rate):  # the last counts
            if measured is None or out is None:
                measured = Measured(rate or rate_for(found.rate))
                out = Wav(wav, measured.rate)
            out.write(samples)
            measured.add(samples)
    except MovingPictureError as error:
        raise RefusedError(voice_is_video(key, error.sound)) from error
    except NoSoundError as error:
        with path.open("rb") as file:
            really = other_than("voice", file.read(64))
        problem = voice_unreadable(key, str(error), really) if really else voice_empty(key, str(error))
        raise RefusedError(problem) from error
    except TooLongError as error:
        raise RefusedError(voice_too_long(key, max_seconds, error.claimed)) from error
    except DamagedError as error:
        raise RefusedError(voice_unreadable(key, str(error))) from error
    except (av.error.FFmpegError, ValueError, UnicodeError) as error:
        with path.open("rb") as file:
            head = file.read(64)
        raise RefusedError(voice_unreadable(key, _why(error, head), other_than("voice", head))) from error
    finally:
        if out:
            out.close()
    if found is None or measured is None:
        raise RefusedError(voice_empty(key, "nothing in it can be decoded"))
    return found, measured


def _why(error: BaseException, head: bytes) -> str:
    if not isinstance(error, av.error.InvalidDataError):
        return reason_of(error)
    if head[4:8] == b"ftyp":  # what a recorder that was switched off leaves, or an upload that broke off
        return "it is cut short or damaged, and the index without which nothing of it can be played is not in it"
    return "no sound file begins like this"


# ---------------------------------------------------------------- plain or not


def _type(found: Decoded) -> str:
    first = found.container.split(",")[0]
    return _TYPES.get(first, first)


def _plain(path: Path, key: str, found: Decoded, kind: str, size: int) -> tuple[bool, bool, str]:
    """Return (passed on as it is, passed on under another suffix, why not)."""
    says = {"wav": wav_seconds, "mp3": mp3_seconds}.get(kind)
    if says is None or (kind == "wav" and not found.codec.startswith("pcm_")):
        return False, False, ""
    seconds = says(path)
    if seconds is None or abs(seconds - float(found.seconds)) > VOICE_SAME_SECONDS:
        return False, False, _header(found)
    whole = float(found.seconds) <= VOICE_WHOLE_SECONDS
    if size > VOICE_PLAIN_BYTES and whole:
        return False, False, ""
    suffix = key.rpartition("/")[2].rpartition(".")[2].lower()
    if suffix != kind:
        return False, True, f"renamed from .{suffix} to .{kind}"
    return True, False, ""


def _header(found: Decoded) -> str:
    """Return what is to be said of a header that lies."""
    claimed, seconds = found.claimed, float(found.seconds)
    if claimed and abs(claimed - seconds) > VOICE_SAME_SECONDS:
        return f"header corrected: it said {claimed:.1f} s, {seconds:.1f} s are there"
    return "header written anew"


def _converted(found: Decoded, rate: int) -> list[str]:
    codec = _CODECS.get(found.codec, "PCM" if found.codec.startswith("pcm_") else found.codec.upper())
    kind = _type(found)
    changes = []
    if kind != "wav" or codec != "PCM":
        inside = "" if codec == kind.upper() else f" in {kind.upper()}"
        changes.append(f"converted from {codec}{inside} to WAV")
    if found.channels > 1:
        changes.append(f"{found.channels} channels mixed to one")
    if rate != found.rate:
        changes.append(f"resampled from {found.rate} to {rate} Hz")
    return changes


def _fitting(wav: Path, work: Path, measured: Measured, seconds: float) -> tuple[Path, list[str]]:
    """Return a WAV that models take: at a lower rate where 15 MB ask for it. What must be cut anyway stays as it is."""
    if wav.stat().st_size <= VOICE_PLAIN_BYTES or seconds > VOICE_WHOLE_SECONDS:
        return wav, []
    rate = lower_rate(seconds, measured.rate)
    lower = work / "voice-lower.wav"
    out = Wav(lower, rate)
    try:
        for _, samples in decode(wav, seconds + 1, rate=rate):
            out.write(samples)
    finally:
        out.close()
    return lower, [f"resampled from {measured.rate} to {rate} Hz, to stay within 15 MB"]


def lower_rate(seconds: float, rate: int) -> int:
    """Return the highest rate, Hz, not above `rate`, at which that many seconds fit into 15 MB of 16-bit mono."""
    fits = (VOICE_PLAIN_BYTES - _HEADER) / 2 / seconds
    return (
        rate if rate <= fits else next((known for known in _LOWER_RATES if known <= min(fits, rate)), _LOWER_RATES[-1])
    )
