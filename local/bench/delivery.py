"""Delivering a video: the product's own way beside what people would do by hand, in fresh processes each.

Every way is timed whole, with the start of its processes; the memory is that of the process that holds the video's
bytes, from just before the delivery to its peak.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.document import Mark, Section, Table
from run import REGION, ROOT, engine
from simulator import render

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1_048_576
SIZES = (4, 40, 200)  # MiB
RUNS = 5  # of each way and size, in turn
GROWTH_MIB = 16
BUCKET = "bench-videos"
CHUNK = 262_144

OURS, BY_HAND, FROM_STREAM = "Portraitcast", "curl, then cp", "upload_fileobj from the stream"


def padded(video: bytes, size: int) -> bytes:
    """Return an MP4 of exactly this size: a real one, and a ``free`` box behind it."""
    return video + (size - len(video)).to_bytes(4, "big") + b"free" + bytes(size - len(video) - 8)


class Videos(BaseHTTPRequestHandler):
    """Serves ``/<MiB>.mp4`` from a folder, as the provider's storage would."""

    def __init__(self, folder: Path, *args: Any) -> None:
        self._folder = folder
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer with the file."""
        with (self._folder / Path(self.path).name).open("rb") as file:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(file, self.wfile, CHUNK)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Keep silent."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder's videos on loopback; yields the origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Videos, folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def aws_cli(environment: dict[str, str]) -> list[str] | None:
    """Return the AWS CLI's command, or None where there is none that runs."""
    found = shutil.which("aws", path=environment["PATH"])
    if not found or subprocess.run([found, "--version"], capture_output=True, env=environment, check=False).returncode:
        return None
    return [found]


def commands(cli: list[str] | None, url: str, file: Path) -> dict[str, list[list[str]]]:
    """Return the programs of each way, run one after the other."""
    this = [sys.executable, "-m", "bench.delivering"]
    copy = [*cli, "s3", "cp", "--only-show-errors", str(file), f"s3://{BUCKET}/by-hand.mp4"] if cli else None
    return {
        OURS: [[*this, "ours", url]],
        BY_HAND: [["curl", "-sSf", "-o", str(file), url], copy or [*this, "upload_file", str(file)]],
        FROM_STREAM: [[*this, "upload_fileobj", url]],
    }


def run(programs: list[list[str]], environment: dict[str, str], folder: Path) -> tuple[float, dict[str, Any]]:
    """Run programs one after the other; return their seconds, and what the last one said of itself."""
    began, said = time.monotonic(), ""
    for program in programs:
        done = subprocess.run(program, capture_output=True, text=True, env=environment, cwd=folder, check=False)
        if done.returncode:
            raise RuntimeError(f"{program[:3]} failed: {done.stderr[-2000:]}")
        said = done.stdout
    return time.monotonic() - began, json.loads(said) if said.startswith("{") else {}


def measure() -> Section:
    """Run this part."""
    found: dict[tuple[int, str], list[tuple[float, dict[str, Any]]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=_work())))
        aws = engine(folder, stack, [])
        small = render.still(2.0, 512, 512, folder / "small.mp4").path.read_bytes()
        for size in SIZES:
            (folder / f"{size}.mp4").write_bytes(padded(small, size * MIB))
        url = stack.enter_context(served(folder))
        s3 = aws.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "TMPDIR": str(folder),
            "PYTHONPATH": f"{ROOT / 'layers' / 'portraitcast'}:{ROOT / 'local'}",
            "AWS_ENDPOINT_URL": aws.endpoint_url, "AWS_DEFAULT_REGION": REGION, "BENCH_BUCKET": BUCKET,
            "AWS_ACCESS_KEY_ID": aws.access_key_id, "AWS_SECRET_ACCESS_KEY": aws.secret_access_key,
        }  # fmt: skip
        if "PYENV_ROOT" in os.environ:
            environment["PYENV_ROOT"] = os.environ["PYENV_ROOT"]
        cli = aws_cli(environment)
        for _ in range(RUNS):
            for size in SIZES:
                for way, programs in commands(cli, f"{url}/{size}.mp4", folder / "by-hand.mp4").items():
                    found.setdefault((size, way), []).append(run(programs, environment, folder))
                    for stored in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
                        if stored["Size"] != size * MIB:
                            raise RuntimeError(f"{way} stored {stored['Size']} bytes of {size} MiB")
                        s3.delete_object(Bucket=BUCKET, Key=stored["Key"])  # the engine keeps objects in memory
    return section(found, cli=cli is not None)


def section(found: dict[tuple[int, str], list[tuple[float, dict[str, Any]]]], *, cli: bool) -> Section:
    """Say what was found."""
    took = {key: median(seconds for seconds, _ in runs) for key, runs in found.items()}
    grew = {key: max(said.get("grew_mib", 0.0) for _, said in runs) for key, runs in found.items()}
    inner = {key: median(said.get("seconds", 0.0) for _, said in runs) for key, runs in found.items()}
    rows = [
        (
            f"{size} MiB",
            way,
            f"{took[size, way]:.2f} s",
            f"{took[size, way] / took[size, BY_HAND]:.2f}",
            f"{inner[size, way]:.2f} s" if inner[size, way] else "-",
            f"{grew[size, way]:.1f} MiB" if grew[size, way] else "-",
        )
        for size in SIZES
        for way in (OURS, BY_HAND, FROM_STREAM)
    ]
    worst = max(took[size, OURS] / took[size, BY_HAND] for size in SIZES)
    growth = max(grew[size, OURS] for size in SIZES)
    copy = "`aws s3 cp`" if cli else "boto3's `upload_file` (no AWS CLI here; it is what `aws s3 cp` does)"
    return Section(
        "Delivery",
        "A valid MP4 of each size from a loopback server into the local engine's S3, in a fresh process each time "
        f"(median of {RUNS}, in turn): `portraitcast.adapters.download.fetched` and `Results.put_video`, "
        f"beside `curl` to a file and {copy}, and boto3's `upload_fileobj` from the stream with its defaults.",
        [
            Table(
                "Whole: with the start of the processes. Delivery alone: from the connection to the stored object.",
                ("video", "way", "whole", "whole : curl, cp", "delivery alone", "memory growth, largest"),
                rows,
            )
        ],
        [
            Mark(
                "memory growth, any size",
                f"≤ {GROWTH_MIB} MiB",
                f"≤ {growth:.1f} MiB",
                growth <= GROWTH_MIB,
                "The growth beyond a chunk is the allocator's and botocore's; it would take a smaller chunk.",
            ),
            Mark(
                "time beside curl and cp, any size",
                "≤ 1",
                f"≤ {worst:.2f}",
                worst <= 1,
                "The product checks the video and its SHA-256 on the way and uploads it in one PUT, so that "
                "nobody ever "
                "sees a half one, while cp sends parts on ten connections; it would take a multipart upload.",
            ),
        ],
    )


def _work() -> Path:
    work = ROOT / ".bench"
    work.mkdir(exist_ok=True)
    return work
