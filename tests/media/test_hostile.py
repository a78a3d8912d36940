"""Files that ask for too much, and decoders that die: a refused file within the bounds, never a lost job."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bomb_makers import flac_of_silence, heic_in_itself, id3_tag
from media_makers import encode, marked, png_bomb, png_chunk, tone, wav_bytes
from PIL import Image

from portraitcast_media import child
from portraitcast_media.child import ChildBrokenError, DecoderDiedError, Limits
from portraitcast_media.limits import MIB
from portraitcast_media.prepare import prepare
from portraitcast_media.problems import Problem, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
# Far below a function's: what is refused is refused with less than a fifth of what a decoder may have.
SMALL = Limits(seconds=30, memory=400 * MIB)


def refused(content: bytes, name: str, work: Path, limits: Limits = SMALL) -> Problem:
    file = work / "upload"
    file.write_bytes(content)
    with pytest.raises(RefusedError) as error:
        prepare(file, name, "voice" if name.endswith((".mp3", ".flac", ".wav", ".m4a")) else "portrait", work,
                limits=limits)  # fmt: skip
    return error.value.problem


# ---------------------------------------------------------------- bombs


def test_a_png_of_900_megapixels(tmp_path: Path) -> None:
    """Refused by its header: nothing is decoded."""
    header = (30_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", bytes(1000)) + png_chunk(b"IEND", b"")
    problem = refused(b"\x89PNG\r\n\x1a\n" + body, "a.png", tmp_path)
    assert (problem.code, problem.limit, problem.measured) == ("PortraitTooLarge", "100 megapixels", "900.0 megapixels")


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_the_largest_that_is_taken(form: str, tmp_path: Path) -> None:
    """100 megapixels are decoded and made smaller within a decoder's memory."""
    file = tmp_path / "upload"
    known: dict[str, dict[str, Any]] = {"PNG": {"compress_level": 1}, "TIFF": {"compression": "tiff_lzw"}}
    Image.new("LA" if form == "PNG" else "RGB", (10_000, 10_000), "white").save(file, form, **known.get(form, {}))
    facts = prepare(file, f"a.{form.lower()}", "portrait", tmp_path).facts
    assert (facts["width"], facts["height"]) == (4096, 4096)


def test_three_days_of_silence(tmp_path: Path) -> None:
    """Decoding stops at the bound: 10 minutes of 259,200 s."""
    content = flac_of_silence(3 * 86_400)
    assert len(content) < 600_000
    problem = refused(content, "a.flac", tmp_path)
    assert problem.code == "VoiceTooLong"
    assert problem.limit == "600 s"
    assert problem.measured
    assert problem.measured.startswith("2591")


def test_an_hour_that_says_nothing_of_it(tmp_path: Path) -> None:
    """A stream without a length: decoded to the bound."""
    minute = encode(tmp_path / "x.aac", "aac", tone(10, 8000), 8000, container="adts", bit_rate=8000).read_bytes()
    problem = refused(minute * 400, "a.m4a", tmp_path)
    assert problem.code == "VoiceTooLong"


@pytest.mark.parametrize("derivation", [b"iden", b"grid"])
def test_a_heic_made_of_itself(derivation: bytes, tmp_path: Path) -> None:
    assert refused(heic_in_itself(derivation, 9_000, 9_000), "a.heic", tmp_path).code == "PortraitUnreadable"


def test_endless_id3(tmp_path: Path) -> None:
    for content in (id3_tag(0) * 2_000_000, id3_tag(0x0FFFFFFF) + bytes(30 * MIB), id3_tag(100) + id3_tag(90) * 9):
        assert refused(content, "a.mp3", tmp_path).code in {"VoiceUnreadable", "VoiceEmpty"}


def test_a_text_that_unpacks_to_200_mb(tmp_path: Path) -> None:
    """A zTXt of a PNG: more text than anybody writes is refused, not unpacked."""
    import zlib  # noqa: PLC0415

    packer = zlib.compressobj(9)
    text = b"".join([*(packer.compress(bytes(MIB)) for _ in range(200)), packer.flush()])
    header = (400).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = png_chunk(b"IHDR", header) + png_chunk(b"zTXt", b"Comment\0\0" + text)
    body += png_chunk(b"IDAT", zlib.compress(bytes(400 * 1201))) + png_chunk(b"IEND", b"")
    assert refused(b"\x89PNG\r\n\x1a\n" + body, "a.png", tmp_path).code == "PortraitUnreadable"


def test_more_memory_than_there_is(tmp_path: Path) -> None:
    file = tmp_path / "upload"
    file.write_bytes(png_bomb(9_000, 9_000))
    with pytest.raises(RefusedError) as error:
        prepare(file, "a.png", "portrait", tmp_path, limits=Limits(seconds=30, memory=300 * MIB))
    assert error.value.problem.code == "PortraitUnreadable"
    assert "needs more than 300 MB of memory" in error.value.problem.message


# ---------------------------------------------------------------- decoders that die


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file whose reading never ends."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    return pipe


@contextlib.contextmanager
def hit(pipe: Path, number: signal.Signals) -> Iterator[None]:
    """Send a signal to the process that opens a pipe, once it has."""

    def strike() -> None:
        with pipe.open("wb", buffering=0):  # opens when the other side does
            for folder in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    if folder.name.isdigit() and int(folder.name) != os.getpid():
                        command = (folder / "cmdline").read_bytes()
                        opened = {str(link.readlink()) for link in (folder / "fd").iterdir()}
                        if b"portraitcast_media.child" in command and str(pipe) in opened:
                            os.kill(int(folder.name), number)
                            return

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    yield
    thread.join(timeout=30)


ARGUMENTS = {"key": "a.wav", "max_seconds": 60, "bounds": []}


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGBUS])
def test_a_decoder_that_crashes(number: signal.Signals, endless: Path, tmp_path: Path) -> None:
    arguments = ARGUMENTS | {"path": str(endless), "work": str(tmp_path)}
    with hit(endless, number), pytest.raises(DecoderDiedError, match=f"crashed \\({number.name}\\)"):
        child.run("cut:in_child", arguments, tmp_path, Limits(seconds=60))


def test_a_decoder_that_hangs(endless: Path, tmp_path: Path) -> None:
    arguments = ARGUMENTS | {"path": str(endless), "work": str(tmp_path)}
    with pytest.raises(DecoderDiedError, match=r"was not done after 1 s"):
        child.run("cut:in_child", arguments, tmp_path, Limits(seconds=1))
    assert not list(tmp_path.glob("child-*"))


def test_what_the_owner_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "upload"
    file.write_bytes(wav_bytes(tone(1, 8000), 8000))

    def died(*_: object) -> None:
        raise DecoderDiedError("crashed (SIGSEGV)")

    monkeypatch.setattr(child, "run", died)
    for kind, code in (("voice", "VoiceUnreadable"), ("portrait", "PortraitUnreadable")):
        with pytest.raises(RefusedError) as error:
            prepare(file, "a.wav", kind, tmp_path)
        assert error.value.problem.code == code
        assert "the decoder crashed" in error.value.problem.message


def test_our_own_fault_is_not_the_files(tmp_path: Path) -> None:
    with pytest.raises(ChildBrokenError, match="TypeError"):
        child.run("prepare:in_child_voice", {"nothing": 1}, tmp_path)


def test_the_child_has_none_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is made anew: what reads a stranger's bytes holds no credentials."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no decoder's business")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []

    def look() -> None:
        with pipe.open("wb", buffering=0):
            for folder in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    if folder.name.isdigit() and b"portraitcast_media.child" in (folder / "cmdline").read_bytes():
                        opened = {str(link.readlink()) for link in (folder / "fd").iterdir()}
                        if str(pipe) in opened:
                            found.append((folder / "environ").read_bytes())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    with pytest.raises((RefusedError, DecoderDiedError)):
        child.run("cut:in_child", ARGUMENTS | {"path": str(pipe), "work": str(tmp_path)}, tmp_path, Limits(5))
    thread.join(timeout=30)
    assert len(found) == 1
    assert b"AWS" not in found[0]


# ---------------------------------------------------------------- fuzz


def samples() -> dict[str, bytes]:
    """One good file of each kind, small."""
    import io  # noqa: PLC0415

    found = {path.name: path.read_bytes() for path in (HERE / "fixtures").glob("turn[16].heic")}
    for form, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tiff"), ("AVIF", "avif"),
                         ("GIF", "gif"), ("BMP", "bmp")):  # fmt: skip
        made = io.BytesIO()
        marked().save(made, form)
        found[f"a.{suffix}"] = made.getvalue()
    return found


@pytest.mark.parametrize("seed", range(6))
def test_damaged_files_are_answered(seed: int, tmp_path: Path) -> None:
    """Bytes changed at random: facts or a refusal, and nothing else."""
    dice = random.Random(seed)  # noqa: S311  # the same damage each time
    pool = samples()
    for container, codec in (
        ("ipod", "aac"),
        ("ogg", "libopus"),
        ("webm", "libopus"),
        ("asf", "wmav2"),
        ("caf", "alac"),
    ):
        file = encode(tmp_path / "x", codec, tone(1, 48000), 48000, container=container)
        pool[f"v.{container}.mp3"] = file.read_bytes()
    for name, content in sorted(pool.items()):
        data = bytearray(content)
        for _ in range(dice.choice((1, 4, 30))):
            at = dice.randrange(min(len(data), dice.choice((64, 512, len(data)))))
            data[at] = dice.choice((0, 255, 127, dice.randrange(256)))
        file = tmp_path / "upload"
        file.write_bytes(data)
        with contextlib.suppress(RefusedError):
            prepare(file, name, "voice" if name.startswith("v.") else "portrait", tmp_path, limits=Limits(60))
