"""One delivery in a process of its own, as `bench.delivery` asks: prints its seconds and how much its memory grew."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import boto3
import requests
from botocore.config import Config

from portraitcast.adapters.aws import client_config
from portraitcast.adapters.buckets import Results
from portraitcast.adapters.download import fetched
from portraitcast.domain.job import Video

if TYPE_CHECKING:
    from collections.abc import Callable


def memory(line: str) -> float:
    """Return a line of this process's memory, MiB: ``VmRSS`` now, ``VmHWM`` the highest since `forget_peak`."""
    found = re.search(rf"{line}:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    if not found:
        raise LookupError(f"Linux says no {line} here")
    return int(found[1]) / 1024


def forget_peak() -> None:
    """Let the peak of this process's memory begin anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def ours(url: str, bucket: str) -> Callable[[], None]:
    """Deliver as the product does."""
    client = boto3.client("s3", config=client_config().merge(Config(s3={"addressing_style": "path"})))
    results = Results(client, bucket)
    origin = "/".join(url.split("/")[:3])
    results.video("not-there.mp4")  # asked before each delivery: the connection to S3 is open

    def deliver() -> None:
        with fetched(url, extra_hosts=origin) as video:
            found = video.video
            delivered = Video(
                key="ours.mp4",
                bytes=found.bytes,
                seconds=found.seconds,
                width=found.width,
                height=found.height,
                sha256=video.sha256,
            )
            results.put_video(delivered, "job", "job/1/1", video.file, over=None)

    return deliver


def upload_fileobj(url: str, bucket: str) -> Callable[[], None]:
    """Deliver from the stream, with boto3's defaults."""
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    client.list_objects_v2(Bucket=bucket)

    def deliver() -> None:
        with requests.get(url, stream=True, timeout=30) as response:
            client.upload_fileobj(cast("IO[bytes]", response.raw), bucket, "stream.mp4")

    return deliver


def upload_file(path: str, bucket: str) -> Callable[[], None]:
    """Upload a file, with boto3's defaults."""
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    client.list_objects_v2(Bucket=bucket)
    return lambda: client.upload_file(path, bucket, "by-hand.mp4")


def main(way: str, source: str) -> None:
    """Deliver once."""
    deliver = {"ours": ours, "upload_fileobj": upload_fileobj, "upload_file": upload_file}[way](
        source, os.environ["BENCH_BUCKET"]
    )
    forget_peak()
    before, began = memory("VmRSS"), time.monotonic()
    deliver()
    print(json.dumps({"seconds": time.monotonic() - began, "grew_mib": max(0.0, memory("VmHWM") - before)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
