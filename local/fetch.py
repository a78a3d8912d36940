"""``make fetch TASK=id``: the video of a task that was left at the service, while its link lives (24 hours)."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import Any

from demo import describe_video
from provider import REAL, RunError, named_provider, origin
from real_service import client
from run import ROOT, ended_by_signals, exit_code

POLL_SECONDS = 15  # Model Studio's advice for a query of this kind
ENDED = ("FAILED", "CANCELED", "UNKNOWN")


def wait_for(service: Any, task: str, say: Any = print) -> str:
    """Return the link to a task's video once it is there; RunError if there will be none."""
    seen = None
    while True:
        found = service.query(task)
        if found.status != seen:
            seen = found.status
            say(f"{task}: {seen}", flush=True)
        if found.video_url:
            return str(found.video_url)
        if seen in ENDED:
            why = f": {found.code}: {found.message}" if found.code else ""
            known = " The service knows a task for 24 hours, and only by the key that made it." * (seen == "UNKNOWN")
            raise RunError(f"task {task} has no video: {seen}{why}.{known}")
        time.sleep(POLL_SECONDS)


def fetch() -> None:
    """Wait for the task's end, download the video, and look at it."""
    task = os.environ.get("TASK", "")
    if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", task):
        raise RunError("say which task: make fetch TASK=0385dc79-5ff8-4d82-bcb6-xxxxxx")
    os.environ.setdefault("DASHSCOPE_BASE_URL", REAL)  # asks for the key where none is set
    provider = named_provider(os.environ)
    assert provider  # noqa: S101 - an address is set
    with ended_by_signals(), client(provider) as service:
        from portraitcast.adapters.download import fetched  # noqa: PLC0415 - needs what `client` has found

        target = ROOT / ".demo" / f"{task}.mp4"
        target.parent.mkdir(exist_ok=True)
        with fetched(wait_for(service, task), extra_hosts=origin(provider.base_url)) as video:
            target.write_bytes(video.file.read())
    print(f"{describe_video(target)}\nYour video: {target}", flush=True)


if __name__ == "__main__":
    sys.exit(exit_code("make fetch", fetch))
