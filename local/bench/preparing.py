"""What preparing a file costs: CPU time and memory by kind, beside ffmpeg and ImageMagick; the start; the last step.

Each file is prepared in a process of its own, as the function does it: that process and its decoder's are counted
together, and the larger of the two is its memory.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from array import array
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from PIL import Image

from bench.document import Mark, Section, Table
from run import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS = 3
MIB = 1_048_576
USD_A_GB_SECOND = 0.0000133334  # Lambda on arm64, us-east-1 (AWS Lambda pricing)
MEMORY_GB = 3008 / 1024  # template.yaml, PrepareFunction
FEE_USD = 0.08 * 10 / 7.1  # EMO: 10 s of 1:1 at CNY 0.08, about CNY 7.1 a dollar
SHARE = 0.01  # of the fee, the most that AWS's side may cost (docs/benchmarks.md, cost)

# The peak of this process alone: getrusage would say that of the process that forked it.
PEAK = """
def peak():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
"""
# Counts this process and its children up to the end; the first word is what to do.
PROGRAM = (
    PEAK
    + """
import json, resource, sys, tempfile, time
from pathlib import Path
order = json.loads(sys.argv[1])
began = time.monotonic()
with tempfile.TemporaryDirectory() as folder:
    if order["verb"] == "prepare":
        from portraitcast_media.prepare import prepare
        prepare(Path(order["file"]), order["key"], order["kind"], Path(folder))
    elif order["verb"] == "finish":
        from portraitcast_media.finish import Label, run
        parts = [(Path(file), seconds) for file, seconds in order["parts"]]
        voice = Path(order["voice"]) if order["voice"] else None
        made = run(parts, voice, Label(order["label"]), Path(folder), max_seconds=601)
        assert made.label_problem is None
wall = time.monotonic() - began
both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({"cpu": sum(u.ru_utime + u.ru_stime for u in both), "mib": max(peak(), both[1].ru_maxrss / 1024),
                  "wall": wall}))
"""
)
# The function's own start: its imports, and those of a decoder's process.
STARTS = {
    "the function (app.py), before its first message": "import app",
    "a decoder's process for sound": "import portraitcast_media.child, portraitcast_media.voices",
    "a decoder's process for a picture": "import portraitcast_media.child, portraitcast_media.pictures",
    "a decoder's process for the last step": "import portraitcast_media.child, portraitcast_media.label",
}
SAY = "\nimport json, resource; u = resource.getrusage(resource.RUSAGE_SELF)\n"
SAY += "print(json.dumps({'cpu': u.ru_utime + u.ru_stime, 'mib': peak()}))"


def environment() -> dict[str, str]:
    """Return the environment of a process that has both layers and the function."""
    places = [ROOT / "functions" / "prepare", ROOT / "layers" / "media", ROOT / "layers" / "portraitcast"]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places)), "AWS_DEFAULT_REGION": "us-east-1"}


def counted(order: dict[str, Any]) -> dict[str, float]:
    """Do something in a process of its own, RUNS times; return the medians of its CPU s, peak MiB and wall s."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(order)]
    runs = [
        json.loads(subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout)
        for _ in range(RUNS)
    ]
    return {name: median(run[name] for run in runs) for name in runs[0]}


def beside(command: Sequence[str]) -> str:
    """Return the CPU s and peak MiB of a program that does the same, or a dash where it isn't on this machine."""
    if not shutil.which(command[0]):
        return "-"
    program = f"import json, resource, subprocess; subprocess.run({list(command)!r}, check=True, capture_output=True)"
    say = SAY.replace("RUSAGE_SELF", "RUSAGE_CHILDREN").replace("peak()", "u.ru_maxrss / 1024")
    runs = [
        json.loads(
            subprocess.run([sys.executable, "-c", program + say], capture_output=True, text=True, check=True).stdout
        )
        for _ in range(RUNS)
    ]
    return f"{median(r['cpu'] for r in runs):.2f} s, {median(r['mib'] for r in runs):.0f} MiB"


# ---------------------------------------------------------------- the files


def talk(seconds: float, rate: int) -> array[int]:
    """Return sound with the rhythm of speech: noise that swells and pauses, 16 bit."""
    count = round(seconds * rate)
    dice = np.random.default_rng(14)
    at = np.arange(count) / rate
    swell = np.clip(np.sin(2 * math.pi * at / 2.6) + 0.6, 0, 1) * np.abs(np.sin(2 * math.pi * 4 * at))
    sound = dice.standard_normal(count) * swell * 3000 + 4000 * swell * np.sin(2 * math.pi * 160 * at)
    return array("h", sound.clip(-32_000, 32_000).astype(np.int16).tobytes())


def encoded(path: Path, codec: str, samples: array[int], rate: int) -> Path:
    """Write sound with one of PyAV's encoders."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=rate, layout="mono")  # PyAV types it as any kind of stream
        for at in range(0, len(samples), 1024):
            some = samples[at : at + 1024]
            frame = AudioFrame(format="s16", layout="mono", samples=len(some))
            frame.planes[0].update(some.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def photo(path: Path, width: int, height: int) -> Path:
    """Write a picture with a photo's detail as a JPEG of a phone: turned by Exif."""
    dice = np.random.default_rng(14)
    coarse = dice.integers(0, 255, (height // 64, width // 64, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = Image.effect_noise((width, height), 14).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.blend(image, grain, 0.15).save(path, "JPEG", quality=90, exif=exif)
    return path


def video(path: Path, seconds: float) -> Path:
    """Write a video as the service does: 512 by 512 px, 15 a second, a face's worth of movement."""
    dice = np.random.default_rng(14)
    ground = Image.fromarray(dice.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize(
        (512, 512), Image.Resampling.BICUBIC
    )
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=15, options={"preset": "veryfast"})
        stream.width = stream.height = 512
        stream.pix_fmt = "yuv420p"
        for n in range(round(seconds * 15)):
            image = ground.copy()
            mouth = 20 + round(15 * math.sin(n))
            image.paste((160, 40, 50), (226, 330 - mouth // 2, 286, 330 + mouth // 2))
            out.mux(stream.encode(VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]  # of PyAV
        out.mux(stream.encode(None))
    return path


# ---------------------------------------------------------------- measured


def spent(used: dict[str, float]) -> tuple[str, str, str, str]:
    """Return CPU, memory, wall clock, and what that costs, in millionths of a dollar."""
    dollars = used["wall"] * MEMORY_GB * USD_A_GB_SECOND
    return f"{used['cpu']:.2f} s", f"{used['mib']:.0f} MiB", f"{used['wall']:.2f} s", f"{dollars * 1e6:.1f}"


def files(work: Path) -> list[tuple[str, str, Path, Sequence[str]]]:
    """Return (what, kind, file, the same by another program)."""
    minute = talk(60, 48_000)
    m4a = encoded(work / "memo.m4a", "aac", minute, 48_000)
    opus = encoded(work / "note.ogg", "libopus", minute, 48_000)
    mp3 = encoded(work / "line.mp3", "libmp3lame", minute, 48_000)
    ten = encoded(work / "talk.m4a", "aac", talk(600, 24_000), 24_000)
    small, large = photo(work / "12.jpg", 4032, 3024), photo(work / "48.jpg", 8064, 6048)
    wav, jpg = str(work / "out.wav"), str(work / "out.jpg")
    magick = "magick" if shutil.which("magick") else "convert-im6.q16"

    def ffmpeg(file: Path) -> list[str]:
        return ["ffmpeg", "-y", "-threads", "1", "-i", str(file), "-af", "ebur128,silencedetect", "-ac", "1", wav]

    def turned(file: Path) -> list[str]:
        return [magick, str(file), "-auto-orient", "-resize", "4096x4096>", "-quality", "95", jpg]

    found: list[tuple[str, str, Path, Sequence[str]]] = [
        ("60 s of AAC (.m4a)", "voice", m4a, ffmpeg(m4a)),
        ("60 s of Opus (.ogg)", "voice", opus, ffmpeg(opus)),
        ("60 s of MP3, passed on as it is", "voice", mp3, ffmpeg(mp3)),
        ("600 s of AAC (.m4a)", "voice", ten, ffmpeg(ten)),
        ("12 megapixels, JPEG turned by Exif", "portrait", small, turned(small)),
        ("48 megapixels, JPEG turned by Exif", "portrait", large, turned(large)),
    ]
    if shutil.which("heif-enc"):
        heic = work / "12.heic"
        upright = work / "upright.jpg"
        with Image.open(small) as image:
            image.save(upright, quality=90)
        subprocess.run(["heif-enc", "-q", "60", str(upright), "-o", str(heic)], check=True, capture_output=True)  # noqa: S607  # found above
        found.append(("12 megapixels, HEIC", "portrait", heic, turned(heic)))
    return found


def measure() -> Section:
    """Run this part."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        work = Path(temporary)
        rows, marks = [], []
        for what, kind, file, other in files(work):
            used = counted({"verb": "prepare", "file": str(file), "key": file.name, "kind": kind})
            dollars = used["wall"] * MEMORY_GB * USD_A_GB_SECOND
            rows.append((what, *spent(used), beside(other)))
            marks.append(Mark(f"cost of preparing: {what}", "≤ 1 % of EMO's fee for 10 s",
                              f"{dollars / FEE_USD:.3%}", dollars <= SHARE * FEE_USD))  # fmt: skip
        starts = [(what, *started(program)) for what, program in STARTS.items()]
        last, more = last_step(work)
    return Section(
        "Preparing and finishing",
        f"Each in processes of its own (median of {RUNS}): the caller's and the decoder's together, with their starts. "
        "Pictures are noise on colours, harder than photos. Cost: Lambda's time at 3,008 MB, in 10⁻⁶ USD.",
        [
            Table("A file.", ("file", "CPU", "memory", "wall clock", "10⁻⁶ USD", "ffmpeg or ImageMagick"), rows),
            Table("Starts: imports in a fresh process.", ("process", "CPU", "memory"), starts),
            Table("The last step.", ("video", "CPU", "memory", "wall clock", "10⁻⁶ USD"), last),
        ],
        marks + more,
    )


def started(program: str) -> tuple[str, str]:
    """Return the CPU time and memory of imports in a fresh process."""
    command = [sys.executable, "-c", PEAK + program + SAY]
    runs = [
        json.loads(subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout)
        for _ in range(RUNS)
    ]
    return f"{median(r['cpu'] for r in runs):.2f} s", f"{median(r['mib'] for r in runs):.0f} MiB"


def last_step(work: Path) -> tuple[list[tuple[str, ...]], list[Mark]]:
    """Return rows and marks of joining ten minutes and of labelling 20 s."""
    minute, short = video(work / "minute.mp4", 60), video(work / "short.mp4", 20)
    voice = encoded(work / "voice.m4a", "aac", talk(600, 24_000), 24_000)
    ten = [[str(minute), 60.0]] * 10
    two = encoded(work / "two.m4a", "aac", talk(120, 24_000), 24_000)
    orders: list[tuple[str, dict[str, Any]]] = [
        ("10 minutes of 10 parts joined", {"parts": ten, "voice": str(voice), "label": "none"}),
        ("2 minutes of 2 parts joined", {"parts": ten[:2], "voice": str(two), "label": "none"}),
        ("20 s, nothing written", {"parts": [[str(short), 20.0]], "voice": None, "label": "none"}),
        ("20 s, metadata", {"parts": [[str(short), 20.0]], "voice": None, "label": "metadata"}),
        ("20 s, visible at the start", {"parts": [[str(short), 20.0]], "voice": None, "label": "start"}),
        ("20 s, always visible", {"parts": [[str(short), 20.0]], "voice": None, "label": "always"}),
    ]
    rows: list[tuple[str, ...]] = []
    found: dict[str, dict[str, float]] = {}
    for what, order in orders:
        used = found[what] = counted({"verb": "finish", **order})
        rows.append((what, *spent(used)))

    def over(what: str) -> float:
        return found[what]["cpu"] - found["20 s, nothing written"]["cpu"]

    growth = found["10 minutes of 10 parts joined"]["mib"] - found["2 minutes of 2 parts joined"]["mib"]
    return rows, [
        Mark("metadata of 20 s, over what every last step takes", "≤ 0.2 CPU s", f"{over('20 s, metadata'):.2f} s",
             over("20 s, metadata") <= 0.2),
        Mark("visible label of 20 s, over the same", "≤ 2 CPU s", f"{over('20 s, always visible'):.2f} s",
             over("20 s, always visible") <= 2),
        Mark("memory of joining ten minutes, over two", "≤ 32 MiB", f"{growth:.0f} MiB", growth <= 32),
    ]  # fmt: skip
