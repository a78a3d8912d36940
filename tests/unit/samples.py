"""Jobs and uploads for unit tests: a key makes an upload, a status makes a job."""

from __future__ import annotations

from typing import Any

from portraitcast.domain.job import (
    Candidates,
    Inputs,
    Job,
    OrphanedTask,
    Portrait,
    SettingsFile,
    Status,
    Task,
    Video,
    Voice,
    iso,
)
from portraitcast.domain.models import Boxes
from portraitcast.domain.problems import Problem
from portraitcast.domain.settings import Effective
from portraitcast.domain.uploads import Asset, Name, Upload, classify

NOW = 1_772_337_600.0  # 2026-03-01 04:00 UTC, noon in Beijing
KEY = "acme/line-01.mp3"
PROBLEM = Problem(
    "VoiceTooLong", "line-01.mp3 is too long.", "Cut it.", "60 s", "61.2 s", "InvalidURL", "too long", "r-1"
)
VOICE = Voice(KEY, "v1", "e1", sha256="a" * 64, bytes=49_197, seconds=6.05, type="mp3", metadata={"customer": "k-1"})
PORTRAIT = Portrait(
    *("only_image", "acme/anna.heic", "v2", "e2"),
    sha256="b" * 64,
    bytes=700_000,
    width=900,
    height=800,
    type="heic",
    changes=("converted from HEIC to JPEG", "turned upright as its Exif says"),
    asset=Asset(f"assets/{'b' * 64}-1.jpg", "e" * 64, 650_000, "image/jpeg"),
)
EMO = Effective("emo-v1", "emo-v1", {"style_level": "calm", "ratio": "1:1"})
INPUTS = Inputs(
    "acme/line-01",
    VOICE,
    PORTRAIT,
    (SettingsFile("acme/settings.json", "v3", "c" * 64),),
    EMO,
    own=("acme/line-01.mp3\nv1",),
    all_own=("acme/line-01.mp3\nv1",),
    folders=("f" * 32,),
    reference="order-4711",
)
TASK = Task("t-1", NOW - 400, 93.0, NOW - 399, NOW - 390, NOW - 300)
VIDEO = Video("acme/line-01.mp4", 900_000, 6.07, 512, 512, "d" * 64, "results")
ORPHAN = OrphanedTask(TASK, 1, 1, "e" * 32)
KNOWN: dict[str, Any] = {
    "inputs": INPUTS,
    "revision": 7,
    "published": 6,
    "candidates": Candidates(("acme/anna.heic",), 1),
    "boxes": Boxes((1, 2, 3, 4), (0, 1, 5, 6)),
    "task": TASK,
    "video": VIDEO,
    "video_cost": 0.4856,
    "check_cost": 0.004,
    "paid_before": 0.8,
    "tries": 2,
    "problems": (PROBLEM,),
    "asked_again_at": NOW,
    "orphans": (ORPHAN,),
    "ready_at": NOW - 600,
}
"""What a job knows that has been through everything."""


def named(key: str) -> Name:
    """Take apart a key that counts."""
    name = classify(key)
    assert name is not None, f"{key} is left alone"
    return name


def upload(key: str = KEY, **known: Any) -> Upload:
    """Return an upload of 100 bytes, noticed long ago."""
    return Upload(**{"name": named(key), "version": "v1", "bytes": 100, "noticed_at": NOW - 9000, **known})


def job(status: str = "queued", key: str = KEY, **known: Any) -> Job:
    """Return a job in a status, with whatever else is known of it."""
    name = named(key)
    inputs = known.pop("inputs", Inputs(name.stem))
    return Job(name.job, name.name, name.folder, NOW - 900, inputs, Status(status), **known)


def living(status: str, **known: Any) -> Job:
    """Return a whole job as it stands in a status after an ordinary way there: published, with its place and task."""
    place = f"{iso(NOW - 600)}#{named(KEY).job}"
    waits = status in {"waiting", "queued"}
    ways: dict[str, Any] = {
        "inputs": INPUTS,
        "revision": 4,
        "published": 4,
        "identity": "i",
        "fingerprint": "" if status in {"waiting", "rejected", "withdrawn"} else "f",
        "used": INPUTS.own,
        "ready_at": NOW - 600,
        "queue_key": place if status == "queued" else None,
        "place_key": place if status in {"queued", "creating", "rendering"} else None,
        "open_folders": INPUTS.folders if waits else (),
        "problems": (PROBLEM,) if status in {"rejected", "failed"} else (),
        "attempt": 1 if status in {"creating", "rendering", "done", "failed"} else 0,
        "attempts": 1 if status in {"creating", "rendering", "done", "failed"} else 0,
        "execution": 1 if status in {"rendering", "done", "failed"} else 0,
        "task": TASK if status in {"rendering", "done", "failed"} else None,
        "video": VIDEO if status == "done" else None,
        "done_fingerprint": "f" if status == "done" else "",
    }
    return job(status, **(ways | known))
