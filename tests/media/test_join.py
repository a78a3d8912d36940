"""One video of many parts: pictures at their exact places, sound unbroken and in step from beginning to end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest
from film_makers import FPS, clicked, clicks, film, flashes, heard
from media_makers import encode, wav_bytes

from portraitcast_media.finish import Label, run
from portraitcast_media.join import Piece, VideoError, join, measure
from portraitcast_media.problems import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 22_050
B_FRAMES = {"preset": "veryfast", "bf": "3", "g": "250"}


# Each in a process of its own, and its own peak: getrusage would say that of the process that forked it.
JOINED = """
import sys
from pathlib import Path
from portraitcast_media.join import Piece, join
voice, out, *files = sys.argv[1:]
join([Piece(file, 10.0) for file in files], Path(voice), Path(out), max_seconds=600)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def voice_of(seconds: float, work: Path, rate: int = RATE) -> Path:
    file = work / "voice.wav"
    file.write_bytes(wav_bytes(clicks(seconds, rate), rate))
    return file


def parts_of(frames: Sequence[int], work: Path, **more: object) -> list[Piece]:
    pieces, first = [], 0
    for number, count in enumerate(frames):
        file = film(work / f"part-{number}.mp4", count, first=first, options=B_FRAMES, **more)  # type: ignore[arg-type]
        pieces.append(Piece(str(file), count / FPS))
        first += count
    return pieces


def in_step(out: Path, seconds: int) -> None:
    """Assert that flash and click of each second are at most a frame apart."""
    seen, sound = flashes(out), clicked(out)
    assert len(seen) == len(sound) == seconds
    for number, (light, click) in enumerate(zip(seen, sound, strict=True)):
        assert light == pytest.approx(number, abs=1 / FPS)
        assert abs(light - click) <= 1 / FPS


def test_three_parts(tmp_path: Path) -> None:
    frames = [60, 93, 102]
    out = tmp_path / "out.mp4"
    made = join(parts_of(frames, tmp_path), voice_of(17, tmp_path), out, max_seconds=60)
    assert (made.frames, made.seconds, made.reencoded) == (255, 17.0, False)
    in_step(out, 17)


def test_pictures_are_the_same_bytes(tmp_path: Path) -> None:
    """Copied, not encoded: every packet of every part, in order."""
    pieces = parts_of([60, 60], tmp_path)
    out = tmp_path / "out.mp4"
    join(pieces, voice_of(8, tmp_path), out, max_seconds=60)

    def packets(file: str) -> list[bytes]:
        with av.open(file) as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]

    assert packets(str(out)) == [data for piece in pieces for data in packets(piece.file)]


def test_ten_minutes_in_step(tmp_path: Path) -> None:
    """A click and a flash a second: together to the end, over ten parts of about a minute."""
    frames = [903, 897, 900, 888, 912, 900, 906, 894, 900, 900]
    out = tmp_path / "out.mp4"
    made = join(parts_of(frames, tmp_path, sides=(64, 64), sound_rate=0), voice_of(600, tmp_path, 8000), out,
                max_seconds=601)  # fmt: skip
    assert (made.frames, made.seconds, made.reencoded) == (9000, 600.0, False)
    in_step(out, 600)


def test_memory_is_flat(tmp_path: Path) -> None:
    """Twenty parts need no more than two: what is held is one part's packets."""
    pieces = parts_of([150] * 2, tmp_path)

    def peak(times: int) -> int:
        files = [piece.file for piece in pieces] * times
        words = [sys.executable, "-c", JOINED, str(voice_of(20 * times, tmp_path)), str(tmp_path / "out.mp4"), *files]
        environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
        return int(subprocess.check_output(words, env=environment))  # noqa: S603  # our own interpreter and program

    two, twenty = peak(1), peak(10)
    assert two > 20_000  # KiB: it is the joining process that was measured
    assert twenty - two < 20_000


def test_a_short_part_holds_its_last_picture(tmp_path: Path) -> None:
    """Two frames are missing at the end of the first part: the second begins where it must all the same."""
    pieces = [Piece(str(film(tmp_path / "a.mp4", 58)), 4.0), Piece(str(film(tmp_path / "b.mp4", 60, first=60)), 4.0)]
    out = tmp_path / "out.mp4"
    made = join(pieces, voice_of(8, tmp_path), out, max_seconds=60)
    assert (made.frames, made.seconds, made.reencoded) == (118, 8.0, False)
    in_step(out, 8)


@pytest.mark.parametrize("extra", [1, 2, 3, 7])
def test_a_long_part_is_cut(extra: int, tmp_path: Path) -> None:
    """Copied where no kept picture needs one that is left out, else encoded anew: right in either case."""
    a = film(tmp_path / "a.mp4", 60 + extra, options=B_FRAMES)
    b = film(tmp_path / "b.mp4", 60, first=60, options=B_FRAMES)
    out = tmp_path / "out.mp4"
    made = join([Piece(str(a), 4.0), Piece(str(b), 4.0)], voice_of(8, tmp_path), out, max_seconds=60)
    assert (made.frames, made.seconds) == (120, 8.0)
    in_step(out, 8)


def test_parts_that_were_encoded_otherwise(tmp_path: Path) -> None:
    a = film(tmp_path / "a.mp4", 60, options={"preset": "veryfast", "profile": "baseline"})
    b = film(tmp_path / "b.mp4", 60, first=60, options={"preset": "slow", "profile": "high"})
    out = tmp_path / "out.mp4"
    made = join([Piece(str(a), 4.0), Piece(str(b), 4.0)], voice_of(8, tmp_path), out, max_seconds=60)
    assert (made.frames, made.seconds, made.reencoded) == (120, 8.0, True)
    in_step(out, 8)


def test_other_rates_of_pictures(tmp_path: Path) -> None:
    """At 24 a second a part of 2.2 s is no whole number of pictures: its last one is held to the grid."""
    pieces = []
    for number, frames in enumerate((52, 48)):
        file = film(tmp_path / f"{number}.mp4", frames, fps=24)
        pieces.append(Piece(str(file), (2.2, 2.0)[number]))
    made = join(pieces, voice_of(4.2, tmp_path), tmp_path / "out.mp4", max_seconds=60)
    assert made.seconds == pytest.approx(4.2, abs=0.001)


@pytest.mark.parametrize(("container", "codec", "rate"), [("mp3", "libmp3lame", 44100), ("ipod", "aac", 48000)])
def test_any_kind_of_voice(container: str, codec: str, rate: int, tmp_path: Path) -> None:
    voice = encode(tmp_path / "voice", codec, clicks(8, rate), rate, container=container)
    out = tmp_path / "out.mp4"
    join(parts_of([60, 60], tmp_path), voice, out, max_seconds=60)
    in_step(out, 8)


def test_the_sound_is_unbroken(tmp_path: Path) -> None:
    """No stretch of silence at a join: the hum between the clicks goes on."""
    out = tmp_path / "out.mp4"
    join(parts_of([60, 60, 60], tmp_path), voice_of(12, tmp_path), out, max_seconds=60)
    samples, rate, _ = heard(out)
    window = rate // 100
    levels = [max(map(abs, samples[at : at + window])) for at in range(window, 12 * rate - window, window)]
    assert min(levels) > 50


def test_what_the_service_wrote_is_kept(tmp_path: Path) -> None:
    files = [film(tmp_path / f"{n}.mp4", 30, first=30 * n, metadata={"comment": "from the service"}) for n in range(2)]
    out = tmp_path / "out.mp4"
    join([Piece(str(file), 2.0) for file in files], voice_of(4, tmp_path), out, max_seconds=60)
    with av.open(str(out)) as container:
        assert container.metadata["comment"] == "from the service"


def test_the_index_is_at_the_beginning(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    join(parts_of([30, 30], tmp_path), voice_of(4, tmp_path), out, max_seconds=60)
    data = out.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


# ---------------------------------------------------------------- refused


def test_different_sides(tmp_path: Path) -> None:
    pieces = [Piece(str(film(tmp_path / "a.mp4", 30)), 2), Piece(str(film(tmp_path / "b.mp4", 30, sides=(96, 96))), 2)]
    with pytest.raises(VideoError, match="different sides"):
        join(pieces, voice_of(4, tmp_path), tmp_path / "out.mp4", max_seconds=60)


def test_a_part_is_missing(tmp_path: Path) -> None:
    """The parts' lengths don't make up the voice."""
    with pytest.raises(VideoError, match=r"the parts are 2.000 s of a voice that has 4.000 s"):
        join(parts_of([30], tmp_path)[:1], voice_of(4, tmp_path), tmp_path / "out.mp4", max_seconds=60)


def test_a_part_is_far_too_short(tmp_path: Path) -> None:
    """A second is the most that a picture is held: the rest of the part was never made."""
    pieces = [*parts_of([30], tmp_path), Piece(str(film(tmp_path / "b.mp4", 10)), 2.0)]
    with pytest.raises(VideoError, match=r"a part has 0.667 s instead of 2.000 s"):
        join(pieces, voice_of(4, tmp_path), tmp_path / "out.mp4", max_seconds=60)


@pytest.mark.parametrize("content", [b"", b"<html>403</html>", b"\0" * 5000])
def test_a_part_that_is_no_video(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(content)
    parts = [(film(tmp_path / "a.mp4", 30), 2.0), (tmp_path / "b.mp4", 2.0)]
    with pytest.raises(RefusedError) as refused:
        run(parts, voice_of(4, tmp_path), Label("none"), tmp_path, max_seconds=60)
    assert refused.value.problem.code == "VideoUnusable"


def test_one_part_without_a_label_is_untouched(tmp_path: Path) -> None:
    file = film(tmp_path / "a.mp4", 30)
    before = file.read_bytes()
    made = run([(file, 2.0)], None, Label("none"), tmp_path, max_seconds=60)
    assert Path(made.video).read_bytes() == before
    assert (made.seconds, made.frames, made.ai_label) == (2.0, 30, None)
    assert Path(made.poster).read_bytes()[:3] == b"\xff\xd8\xff"


def test_measure(tmp_path: Path) -> None:
    made = measure(film(tmp_path / "a.mp4", 31, sides=(96, 128)))
    assert (made.width, made.height, made.frames) == (96, 128, 31)
    assert made.seconds == pytest.approx(31 / 15, abs=0.001)
