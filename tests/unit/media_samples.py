"""Pictures, voices and videos made on the spot by Pillow, PyAV and `wave`, and damaged in known ways."""

from __future__ import annotations

import functools
import io
import struct
import tempfile
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SHARED_SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"  # there or not; the tests stand without it


def picture(kind: str = "JPEG", size: tuple[int, int] = (480, 640), mode: str = "RGB", **options: Any) -> bytes:
    """Return a picture in one of Pillow's formats, of noise, so that it doesn't compress to nothing."""
    image = Image.effect_noise(size, 60).convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def sound(seconds: float, rate: int = 44_100, channels: int = 1) -> np.ndarray:
    """Return int16 samples (n, channels): bursts of noise and silence in turn, so that a variable bit rate varies."""
    count = round(seconds * rate)
    noise = np.random.default_rng(7).normal(0, 6000, (count, channels))
    loud = np.sin(np.arange(count) / rate * 2.2) > 0
    return (noise * loud[:, None]).clip(-32768, 32767).astype(np.int16)


def junk(count: int) -> bytes:
    """Return bytes without any order, the same each time."""
    return np.random.default_rng(count).bytes(count)


def wav(seconds: float = 1.0, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    """Return a plain PCM WAV of silence."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(round(seconds * rate) * channels * width))
    return out.getvalue()


@functools.cache
def encoded(
    container: str,
    codec: str,
    seconds: float = 10.0,
    *,
    rate: int = 44_100,
    channels: int = 1,
    bit_rate: int | None = None,
    codec_options: tuple[tuple[str, str], ...] = (),
    container_options: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Return `sound` as FFmpeg writes it."""
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=dict(container_options)) as file:
        stream = file.add_stream(codec, rate=rate, options=dict(codec_options))
        stream.codec_context.layout = "mono" if channels == 1 else "stereo"
        if bit_rate:
            stream.bit_rate = bit_rate
        samples = sound(seconds, rate, channels)
        frame = av.AudioFrame.from_ndarray(
            samples.reshape(1, -1), format="s16", layout="mono" if channels == 1 else "stereo"
        )
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.codec_context.format, layout=stream.layout, rate=rate)
        fifo = av.AudioFifo()
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = None
            fifo.write(piece)
        length = stream.codec_context.frame_size or 1024
        while (piece := fifo.read(length, partial=True)) is not None:
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return out.getvalue()


def mp3(seconds: float = 10.0, *, quality: int | None = None, header: bool = True, **options: Any) -> bytes:
    """Return an MP3 by LAME: `bit_rate` for a constant one, or `quality` (0 to 9) for a variable one."""
    if quality is not None:
        lambda_quality = quality * 118  # FF_QP2LAMBDA
        options["codec_options"] = (("flags", "+qscale"), ("global_quality", str(lambda_quality)))
    container_options = (("write_xing", "1" if header else "0"), ("id3v2_version", "0"))
    return encoded("mp3", "libmp3lame", seconds, container_options=container_options, **options)


def decoded_seconds(data: bytes) -> float:
    """Return the seconds that a decoder really gives, sample by sample."""
    samples = rate = 0
    with av.open(io.BytesIO(data)) as file:
        for packet in file.demux(audio=0):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # a frame cut in the middle
                continue
            for frame in frames:
                samples, rate = samples + frame.samples, frame.sample_rate
    return samples / rate


def id3v2(content: bytes, *, flags: int = 0) -> bytes:
    """Return an ID3v2.4 tag around any content; flag 0x10 adds the footer."""
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    footer = b"3DI\4\0" + bytes([flags]) + size if flags & 0x10 else b""
    return b"ID3\4\0" + bytes([flags]) + size + content + footer


def ape_tag(content: bytes) -> bytes:
    """Return an APEv2 tag with one item and a footer."""
    item = struct.pack("<II", len(content), 2) + b"Cover Art (Front)\0" + content
    return item + b"APETAGEX" + struct.pack("<IIII8x", 2000, len(item) + 32, 1, 0)


def riff(*chunks: tuple[bytes, bytes], form: bytes = b"WAVE") -> bytes:
    """Return a RIFF file of chunks, each padded to an even length."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + form + body


def fmt(tag: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16, byte_rate: int | None = None) -> bytes:
    """Return the content of a WAV's format chunk."""
    block = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block if byte_rate is None else byte_rate, block, bits)


def mp4(seconds: float = 2.0, size: tuple[int, int] = (128, 96), *, with_sound: bool = True, **options: str) -> bytes:
    """Return an MP4 with a black picture at 15 frames a second, and silence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")  # a real file: FFmpeg opens it again to move its header to the front
        _write_mp4(path, seconds, size, with_sound, options)
        return path.read_bytes()


def _write_mp4(path: Path, seconds: float, size: tuple[int, int], with_sound: bool, options: dict[str, str]) -> None:
    with av.open(str(path), "w", format="mp4", options=options) as file:
        voice = file.add_stream("aac", rate=16_000, layout="mono") if with_sound else None
        video = file.add_stream("libx264", rate=15)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        for _ in range(round(seconds * 15)):
            frame = av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8))
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if voice:
            samples = np.zeros((1, round(seconds * 16_000)), np.float32)
            for at in range(0, samples.shape[1], 1024):
                piece = av.AudioFrame.from_ndarray(samples[:, at : at + 1024], format="fltp", layout="mono")
                piece.sample_rate = 16_000
                file.mux(voice.encode(piece))
            file.mux(voice.encode(None))
