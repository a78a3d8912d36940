"""Every container and codec that people send, at every usual rate: true seconds, plain files untouched, else WAV."""

from __future__ import annotations

import hashlib
import random
import struct
import wave
from array import array
from pathlib import Path

import pytest
from media_makers import encode, interleaved, speech, tone, wav_bytes
from PIL import Image

from portraitcast_media.limits import VOICE_PLAIN_BYTES
from portraitcast_media.problems import RefusedError
from portraitcast_media.voices import lower_rate, pauses_of, read_voice

FIXTURES = Path(__file__).parent / "fixtures"
SECONDS = 2.5

RATES = (8000, 16000, 44100, 48000)
OPUS = (8000, 16000, 48000)  # it knows no 44,100
HIGH = (44100, 48000)  # where a frame more or less, which FFmpeg's own files have at their end, is below 0.1 s
# suffix: (container, codec, rates that it has, options, kind in the report)
KINDS = {
    "mp3": ("mp3", "libmp3lame", RATES, {}, "mp3"),
    "wav": ("wav", "pcm_s16le", RATES, {}, "wav"),
    "24.wav": ("wav", "pcm_s24le", RATES, {}, "wav"),
    "float.wav": ("wav", "pcm_f32le", RATES, {}, "wav"),
    "mulaw.wav": ("wav", "pcm_mulaw", RATES, {}, "wav"),
    "alaw.wav": ("wav", "pcm_alaw", RATES, {}, "wav"),
    "adpcm.wav": ("wav", "adpcm_ima_wav", RATES, {}, "wav"),
    "m4a": ("ipod", "aac", RATES, {}, "m4a"),
    "m4b": ("ipod", "aac", RATES, {}, "m4a"),
    "fast.m4a": ("ipod", "aac", RATES, {"movflags": "faststart"}, "m4a"),
    "alac.m4a": ("ipod", "alac", RATES, {}, "m4a"),
    "mp4": ("mp4", "aac", RATES, {}, "m4a"),
    "part.mp4": ("mp4", "aac", HIGH, {"movflags": "frag_keyframe+empty_moov"}, "m4a"),
    "mov": ("mov", "pcm_s16le", RATES, {}, "m4a"),
    "3gp": ("3gp", "aac", RATES, {}, "m4a"),
    "aac": ("adts", "aac", RATES, {}, "aac"),
    "ogg": ("ogg", "libopus", OPUS, {}, "ogg"),
    "opus": ("ogg", "libopus", OPUS, {}, "ogg"),
    "oga": ("ogg", "flac", RATES, {}, "ogg"),
    "flac": ("flac", "flac", RATES, {}, "flac"),
    "wma": ("asf", "wmav2", RATES, {}, "wma"),
    "aiff": ("aiff", "pcm_s16be", RATES, {}, "aiff"),
    "aif": ("aiff", "pcm_s16be", RATES, {}, "aiff"),
    "aifc": ("aiff", "pcm_mulaw", RATES, {}, "aiff"),
    "caf": ("caf", "pcm_s16be", RATES, {}, "caf"),
    "alac.caf": ("caf", "alac", HIGH, {}, "caf"),
    "webm": ("webm", "libopus", OPUS, {}, "webm"),
    "weba": ("webm", "libopus", OPUS, {}, "webm"),
    "mka": ("matroska", "flac", RATES, {}, "webm"),
    "live.webm": ("webm", "libopus", OPUS, {"live": "1"}, "webm"),
}
# Codecs that add or keep up to a frame or two at either end, and have no place to say so
LOOSE = {"aac": 0.2, "wma": 0.2}
# Lossless: sample for sample what went in
EXACT = {"flac", "pcm_s16le", "pcm_s16be", "alac"}
GRID = [(suffix, rate, channels) for suffix, kind in KINDS.items() for rate in kind[2] for channels in (1, 2)]


@pytest.mark.parametrize(("suffix", "rate", "channels"), GRID, ids=str)
def test_every_kind(suffix: str, rate: int, channels: int, tmp_path: Path) -> None:
    """A tone of 2.5 s has 2.5 s, its level, and where it is converted a 16-bit mono WAV of the same length."""
    container, codec, _, options, kind = KINDS[suffix]
    file = encode(tmp_path / f"line.{suffix}", codec, tone(SECONDS, rate), rate, channels, container=container,
                  options=options)  # fmt: skip
    before = file.read_bytes()
    voice, made = read_voice(file, f"acme/line.{suffix}", tmp_path, max_seconds=60)
    assert voice.type == kind
    assert voice.seconds == pytest.approx(SECONDS, abs=LOOSE.get(suffix.rpartition(".")[2], 0.06))
    assert voice.peak_dbfs == pytest.approx(-6, abs=1.5)
    assert voice.sha256 == hashlib.sha256(before).hexdigest()
    assert file.read_bytes() == before
    assert voice.plain == (voice.asset is None) == (made is None)
    if made is None or voice.asset is None:
        assert voice.changes == ()
        return
    assert voice.changes
    assert voice.asset.key == f"assets/{voice.sha256}-1.wav"
    assert voice.asset.sha256 == hashlib.sha256(made.read_bytes()).hexdigest()
    with wave.open(str(made)) as wav:
        assert (wav.getnchannels(), wav.getsampwidth()) == (1, 2)
        assert wav.getnframes() / wav.getframerate() == pytest.approx(voice.seconds, abs=0.001)
        samples = array("h", wav.readframes(wav.getnframes()))
    if codec in EXACT and suffix != "alac.caf":  # FFmpeg trims the end of the last packet twice there: 8 ms
        assert samples == tone(SECONDS, rate)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
def test_plain_wav_is_untouched(rate: int, tmp_path: Path) -> None:
    for channels in (1, 2):
        samples = tone(1, rate)
        file = tmp_path / "x.wav"
        file.write_bytes(wav_bytes(interleaved(samples, samples) if channels == 2 else samples, rate, channels))
        voice, made = read_voice(file, "x.WAV", tmp_path, max_seconds=60)
        assert (voice.plain, voice.asset, made, voice.changes) == (True, None, None, ())
        assert voice.seconds == 1.0


@pytest.mark.parametrize("bit_rate", [32_000, 64_000, 128_000])
def test_plain_mp3_is_untouched(bit_rate: int, tmp_path: Path) -> None:
    file = encode(tmp_path / "x.mp3", "libmp3lame", tone(5, 44100), 44100, bit_rate=bit_rate)
    voice, _ = read_voice(file, "x.mp3", tmp_path, max_seconds=60)
    assert (voice.plain, voice.asset, voice.changes) == (True, None, ())
    assert voice.seconds == pytest.approx(5, abs=0.001)


@pytest.mark.parametrize("said", [0, 0x7FFFFF9B, 0xFFFFFFFF, 2000])
def test_a_header_that_lies_is_corrected(said: int, tmp_path: Path) -> None:
    """Decoded whole where the size is a placeholder; what a smaller size leaves out is not sound."""
    file = tmp_path / "x.wav"
    file.write_bytes(wav_bytes(tone(2, 16000), 16000, said=said))
    voice, made = read_voice(file, "x.wav", tmp_path, max_seconds=60)
    assert not voice.plain
    assert made
    if said != 2000:
        assert voice.seconds == 2.0


@pytest.mark.parametrize(("name", "becomes"), [("x.wav", "mp3"), ("x.m4a", "mp3"), ("x.ogg", "mp3")])
def test_a_wrong_suffix_is_corrected(name: str, becomes: str, tmp_path: Path) -> None:
    """The service may judge by the name: the same bytes go there under the right one."""
    file = encode(tmp_path / "x", "libmp3lame", tone(2, 44100), 44100, container="mp3")
    voice, made = read_voice(file, name, tmp_path, max_seconds=60)
    assert made
    assert made.read_bytes() == file.read_bytes()
    assert voice.asset
    assert voice.asset.key.endswith(f"-1.{becomes}")
    assert voice.changes == (f"renamed from .{name[2:]} to .{becomes}",)


@pytest.mark.parametrize("suffix", ["m4a", "flac", "ogg", "webm", "aiff", "caf", "wma", "aac"])
def test_any_content_under_any_suffix(suffix: str, tmp_path: Path) -> None:
    container, codec, rates, options, kind = KINDS[suffix]
    file = encode(tmp_path / "x", codec, tone(2, rates[-1]), rates[-1], container=container, options=options)
    for name in ("x.mp3", "x.wav", "x.mp4"):
        voice, _ = read_voice(file, name, tmp_path, max_seconds=60)
        assert voice.type == kind


def test_amr_narrowband(tmp_path: Path) -> None:
    file = encode(tmp_path / "x.amr", "libopencore_amrnb", tone(2, 8000), 8000, bit_rate=12_200)
    voice, made = read_voice(file, "x.amr", tmp_path, max_seconds=60)
    assert voice.type == "amr"
    assert voice.seconds == pytest.approx(2, abs=0.05)
    assert made


def test_amr_wideband(tmp_path: Path) -> None:
    """No encoder is at hand: 150 frames of 20 ms with bits that mean nothing are 3 s of noise."""
    bits = random.Random(14)  # noqa: S311  # the same noise each time
    file = tmp_path / "x.amr"
    file.write_bytes(b"#!AMR-WB\n" + b"".join(b"\x44" + bits.randbytes(60) for _ in range(150)))
    voice, _ = read_voice(file, "x.amr", tmp_path, max_seconds=60)
    assert (voice.type, voice.seconds) == ("amr", 3.0)


@pytest.mark.parametrize("codec", ["speex", "vorbis"])
def test_codecs_that_pyav_does_not_encode(codec: str, tmp_path: Path) -> None:
    voice, _ = read_voice(FIXTURES / f"three_seconds_{codec}.ogg", "x.ogg", tmp_path, max_seconds=60)
    assert voice.seconds == pytest.approx(3, abs=0.05)


# ---------------------------------------------------------------- pictures beside the sound


def cover() -> bytes:
    import io  # noqa: PLC0415

    made = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(made, "JPEG")
    return made.getvalue()


def test_a_codec_that_nobody_decodes(tmp_path: Path) -> None:
    """A container that is well formed, of a sound that FFmpeg has no decoder for."""
    file = encode(tmp_path / "x.webm", "libopus", tone(1, 48000), 48000, container="webm")
    file.write_bytes(file.read_bytes().replace(b"A_OPUS", b"A_NONE", 1))
    with pytest.raises(RefusedError) as refused:
        read_voice(file, "x.webm", tmp_path, max_seconds=60)
    assert refused.value.problem.code == "VoiceUnreadable"
    assert refused.value.problem.measured == "no decoder here knows its codec"


@pytest.mark.parametrize(("suffix", "container", "codec"), [("mp3", "mp3", "libmp3lame"), ("m4a", "mp4", "aac")])
def test_a_cover_is_no_video(suffix: str, container: str, codec: str, tmp_path: Path) -> None:
    file = encode(tmp_path / f"x.{suffix}", codec, tone(2, 44100), 44100, container=container, cover=cover())
    voice, _ = read_voice(file, f"x.{suffix}", tmp_path, max_seconds=60)
    assert voice.seconds == pytest.approx(2, abs=0.06)


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("mov", "aac"), ("webm", "libopus"), ("matroska", "flac")]
)
def test_a_moving_picture_is_no_voice(container: str, codec: str, tmp_path: Path) -> None:
    file = encode(tmp_path / "film", codec, tone(1, 48000), 48000, container=container, moving=True)
    for name in ("film.mp4", "film.mp3", "film.webm"):
        with pytest.raises(RefusedError) as refused:
            read_voice(file, name, tmp_path, max_seconds=60)
        assert refused.value.problem.code == "VoiceIsVideo"
        assert "Save its sound" in refused.value.problem.what_to_do


# ---------------------------------------------------------------- cut short


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "aac", "webm", "wav"])
def test_cut_short_and_still_playing(suffix: str, tmp_path: Path) -> None:
    """Streams play up to where they end: they are voices of what is there."""
    container, codec, rates, options, _ = KINDS[suffix]
    file = encode(tmp_path / "x", codec, tone(4, rates[-1]), rates[-1], container=container, options=options)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 6 // 10])
    voice, _ = read_voice(file, f"x.{suffix}", tmp_path, max_seconds=60)
    assert 1.5 < voice.seconds < 3.2


@pytest.mark.parametrize("suffix", ["m4a", "fast.m4a", "flac"])
def test_cut_short_before_its_index(suffix: str, tmp_path: Path) -> None:
    """An index says what is missing, or is missing itself."""
    container, codec, rates, options, _ = KINDS[suffix]
    file = encode(tmp_path / "x.m4a", codec, tone(4, rates[-1]), rates[-1], container=container, options=options)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(RefusedError) as refused:
        read_voice(file, f"x.{suffix}", tmp_path, max_seconds=60)
    assert refused.value.problem.code == "VoiceUnreadable"
    assert "cut short" in refused.value.problem.message


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "VoiceEmpty"),
        (wav_bytes(tone(0, 16000), 16000), "VoiceEmpty"),
        (b"%PDF-1.7\n" + b"x" * 4000, "VoiceUnreadable"),
        (b"#EXTM3U\n#EXTINF:5,\nfile:///etc/passwd\n", "VoiceUnreadable"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "VoiceUnreadable"),
        (b"<html>404</html>", "VoiceUnreadable"),
        (b"data:audio/wav;base64,UklGRg==", "VoiceUnreadable"),
        (bytes(100_000), "VoiceUnreadable"),
    ],
    ids=["empty", "no-samples", "pdf", "playlist", "concat", "page", "data-url", "zeros"],
)  # fmt: skip
def test_no_sound(content: bytes, code: str, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    for name in ("x.wav", "x.mp3", "x.m4a"):
        with pytest.raises(RefusedError) as refused:
            read_voice(file, name, tmp_path, max_seconds=60)
        assert refused.value.problem.code == code


def test_a_picture_is_no_voice(tmp_path: Path) -> None:
    for form, words in (("JPEG", "a JPEG picture"), ("PNG", "a PNG picture"), ("WEBP", "a WebP picture")):
        file = tmp_path / "x.mp3"
        Image.new("RGB", (64, 64)).save(file, form)
        with pytest.raises(RefusedError) as refused:
            read_voice(file, "x.mp3", tmp_path, max_seconds=60)
        assert refused.value.problem.code == "VoiceUnreadable"
        assert words in refused.value.problem.message


@pytest.mark.parametrize(("level", "silent"), [(0.0, True), (0.0008, True), (0.0012, False)])
def test_silence(level: float, silent: bool, tmp_path: Path) -> None:
    """The bound is a peak of -60 dBFS, a thousandth of full scale."""
    file = tmp_path / "x.wav"
    file.write_bytes(wav_bytes(tone(1, 16000, level=level), 16000))
    if not silent:
        assert read_voice(file, "x.wav", tmp_path, max_seconds=60)[0].peak_dbfs > -60
        return
    with pytest.raises(RefusedError) as refused:
        read_voice(file, "x.wav", tmp_path, max_seconds=60)
    assert refused.value.problem.code == "VoiceSilent"


def test_too_long_stops_at_the_bound(tmp_path: Path) -> None:
    file = tmp_path / "x.wav"
    file.write_bytes(wav_bytes(tone(3, 16000), 16000))
    assert read_voice(file, "x.wav", tmp_path, max_seconds=3)[0].seconds == 3
    with pytest.raises(RefusedError) as refused:
        read_voice(file, "x.wav", tmp_path, max_seconds=2.9)
    assert (refused.value.problem.code, refused.value.problem.measured) == ("VoiceTooLong", "3.0 s")


def test_a_filled_up_frame_is_not_too_long(tmp_path: Path) -> None:
    """AAC comes in frames of 1024 samples: what only fills the last one up is no voice, and its index says so."""
    file = encode(tmp_path / "x.m4a", "aac", tone(3, 16000), 16000, container="ipod")
    voice, made = read_voice(file, "x.m4a", tmp_path, max_seconds=3)
    assert voice.seconds == 3.0
    assert made
    with wave.open(str(made)) as wav:
        assert wav.getnframes() == 48_000


def test_too_big(tmp_path: Path) -> None:
    file = tmp_path / "x.wav"
    file.write_bytes(wav_bytes(tone(1, 16000), 16000))
    with pytest.raises(RefusedError) as refused:
        read_voice(file, "x.wav", tmp_path, max_seconds=3, max_bytes=1000)
    assert refused.value.problem.code == "VoiceTooBig"


# ---------------------------------------------------------------- what is made


def test_channels_that_cancel_each_other_out(tmp_path: Path) -> None:
    samples = tone(1, 44100)
    file = tmp_path / "x.wav"
    file.write_bytes(wav_bytes(interleaved(samples, array("h", (-value for value in samples))), 44100, 2))
    voice, made = read_voice(file, "x.wav", tmp_path, max_seconds=60)
    assert voice.peak_dbfs == pytest.approx(-6, abs=0.2)
    assert made
    with wave.open(str(made)) as wav:
        assert array("h", wav.readframes(wav.getnframes())) == samples
    assert "first channel taken" in voice.changes[0]


@pytest.mark.parametrize(("rate", "becomes"), [(96000, 48000), (88200, 44100), (7350, 8000), (22051, 24000)])
def test_odd_rates(rate: int, becomes: int, tmp_path: Path) -> None:
    file = encode(tmp_path / "x.flac", "flac", tone(1, rate), rate)
    voice, made = read_voice(file, "x.flac", tmp_path, max_seconds=60)
    assert voice.seconds == 1.0
    assert made
    with wave.open(str(made)) as wav:
        assert wav.getframerate() == becomes
        assert wav.getnframes() == pytest.approx(becomes, abs=2)


def test_fifteen_megabytes_ask_for_a_lower_rate(tmp_path: Path) -> None:
    """170 s at 48,000 Hz have 15.6 MB: a model that takes three minutes takes only 15 MB."""
    rate = 48000
    file = tmp_path / "x.wav"
    file.write_bytes(wav_bytes(tone(1, rate) * 170, rate))
    voice, made = read_voice(file, "x.wav", tmp_path, max_seconds=600)
    assert made
    assert made.stat().st_size <= VOICE_PLAIN_BYTES
    with wave.open(str(made)) as wav:
        assert wav.getframerate() == 44100
        assert wav.getnframes() / 44100 == pytest.approx(voice.seconds, abs=0.001)
    assert voice.changes[-1] == "resampled from 48000 to 44100 Hz, to stay within 15 MB"


def test_what_must_be_cut_keeps_its_rate(tmp_path: Path) -> None:
    file = tmp_path / "x.wav"
    file.write_bytes(wav_bytes(tone(1, 44100) * 200, 44100))
    voice, made = read_voice(file, "x.wav", tmp_path, max_seconds=600)
    assert (voice.plain, made) == (True, None)


@pytest.mark.parametrize(("seconds", "rate", "wanted"), [(60, 48000, 48000), (180, 48000, 32000), (900, 48000, 8000)])
def test_lower_rate(seconds: float, rate: int, wanted: int) -> None:
    assert lower_rate(seconds, rate) == wanted


# ---------------------------------------------------------------- measured


def test_pauses_where_they_were_put(tmp_path: Path) -> None:
    """Silences of 0.2 s are none; longer ones are found to a hundredth."""
    file = tmp_path / "x.wav"
    file.write_bytes(wav_bytes(speech([(1, 0.5), (0.8, 0.2), (1.5, 1), (1, 0.3), (2, 0)], 16000), 16000))
    voice, _ = read_voice(file, "x.wav", tmp_path, max_seconds=60)
    found = [(pause.start, pause.end) for pause in voice.pauses]
    wanted = [(1, 1.5), (4.0, 5.0), (6.0, 6.3)]
    assert len(found) == 3
    for pause, right in zip(found, wanted, strict=True):
        assert pause == pytest.approx(right, abs=0.0101)


def test_pauses_under_noise() -> None:
    """Noise 20 dB below the speech is a pause, speech that goes on is none."""
    loud, noise = 1e7, 1e5
    assert [(p.start, p.end) for p in pauses_of([loud] * 100 + [noise] * 50 + [loud] * 100)] == [(1.0, 1.5)]
    assert pauses_of([loud] * 500) == ()
    assert pauses_of([]) == ()


def test_the_longest_pauses_are_kept() -> None:
    levels = ([1e7] * 10 + [0.0] * 30) * 2500 + [1e7] * 10 + [0.0] * 100 + [1e7] * 10
    pauses = pauses_of(levels)
    assert len(pauses) == 2000
    assert pauses[-1].end - pauses[-1].start == pytest.approx(1)
    assert list(pauses) == sorted(pauses, key=lambda pause: pause.start)


@pytest.mark.parametrize("level", [0.5, 0.1])
def test_loudness(level: float, tmp_path: Path) -> None:
    """A sine of 1 kHz at -x dBFS in one channel has about -x - 3 LUFS (EBU Tech 3341)."""
    import math  # noqa: PLC0415

    file = tmp_path / "x.wav"
    file.write_bytes(wav_bytes(tone(4, 48000, hertz=1000, level=level), 48000))
    voice, _ = read_voice(file, "x.wav", tmp_path, max_seconds=60)
    assert voice.loudness == pytest.approx(20 * math.log10(level) - 3.0, abs=0.3)


def test_eight_channels(tmp_path: Path) -> None:
    """More channels than anybody names are one voice all the same."""
    samples = tone(1, 16000)
    many = array("h", (value for sample in samples for value in [sample] * 8))
    data = many.tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 8, 16000, 16000 * 16, 16, 16
    )
    file = tmp_path / "x.wav"
    file.write_bytes(head + b"data" + struct.pack("<I", len(data)) + data)
    voice, made = read_voice(file, "x.wav", tmp_path, max_seconds=60)
    assert voice.seconds == 1.0
    assert made
