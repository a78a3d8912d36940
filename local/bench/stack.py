"""A stack to measure: template.yaml on the local engine, the simulator, and a recorder beside the functions."""

from __future__ import annotations

import io
import json
import shutil
import struct
import time
import uuid
import wave
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run import ROOT, Provider, origin, stack_up, work_folder
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from run import Run

API_KEY = "sk-bench"
PORTRAIT = ROOT / "local" / "samples" / "portrait.png"
GUARD_SECONDS = 120.0  # against hanging only
QUICK = {"MinPollSeconds": "1", "MaxPollSeconds": "1", "PairSeconds": "0", "SettleSeconds": "1"}


@dataclass(frozen=True)
class Call:
    """One outside call of a function: epoch seconds, DynamoDB's read and write request units."""

    function: str
    call: str
    began: float
    ended: float
    units: tuple[int, int]


@dataclass(frozen=True)
class Invocation:
    """One invocation of a function: epoch seconds, CPU seconds (a cold one's with those of its process's start)."""

    function: str
    cold: bool
    began: float
    ended: float
    cpu: float


@dataclass
class Recording:
    """What the functions did: calls and invocations, in the order of their ends."""

    calls: list[Call]
    invocations: list[Invocation]

    def since(self, began: float) -> Recording:
        """Return what began at or after an epoch time."""
        return Recording([c for c in self.calls if c.began >= began], [i for i in self.invocations if i.began >= began])

    def count(self) -> Counter[tuple[str, str]]:
        """Count the calls: (function, call) → times."""
        return Counter((c.function, c.call) for c in self.calls)


def read(lines: Iterable[str]) -> Recording:
    """Read what the recorder has written."""
    recording = Recording([], [])
    for line in lines:
        entry = json.loads(line)
        if "call" in entry:
            recording.calls.append(Call(**{**entry, "units": tuple(entry["units"])}))
        else:
            recording.invocations.append(Invocation(**entry))
    return recording


def hum(seconds: float, number: int = 0) -> bytes:
    """Return a WAV of this length that no other number has: different bytes are different jobs."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(
            b"".join(struct.pack("<h", 9000 * (n // 25 % 2) + number % 97) for n in range(round(8000 * seconds)))
        )
    return file.getvalue()


class Stack:
    """The running stack, as the parts use it."""

    def __init__(self, run: Run, simulator: Simulator, folder: Path) -> None:
        self.run, self.simulator, self.outputs = run, simulator, run.outputs
        self._file = folder / "calls.jsonl"
        self._s3 = run.client("s3")

    def drop(self, key: str, content: bytes) -> float:
        """Put a file into the upload bucket; return the epoch time at which that was done."""
        self._s3.put_object(Bucket=self.outputs["upload_bucket"], Key=key, Body=content)
        return time.time()

    def recording(self) -> Recording:
        """Return what has been recorded so far."""
        return read(self._file.read_text("utf-8").splitlines()) if self._file.exists() else Recording([], [])

    def wait(self, happened: Callable[[Recording], bool], what: str, seconds: float = GUARD_SECONDS) -> Recording:
        """Wait until the recording shows it; return the recording."""
        deadline, size = time.monotonic() + seconds, -1
        while time.monotonic() < deadline:
            now = self._file.stat().st_size if self._file.exists() else 0
            if now != size:
                size, recording = now, self.recording()
                if happened(recording):
                    return recording
            time.sleep(0.1)
        raise TimeoutError(f"{what}: not within {seconds:g} s")

    def quiet(self, seconds: float = 2.0) -> Recording:
        """Wait until no function has done anything for so long; return the recording."""
        size, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            now = self._file.stat().st_size if self._file.exists() else 0
            if now != size:
                size, since = now, time.monotonic()
            time.sleep(0.1)
        return self.recording()

    def tasks(self) -> list[dict[str, Any]]:
        """Return the provider's tasks, oldest first: ``submitted_at``, ``started_at``, ``ended_at`` (epoch)."""
        found: list[dict[str, Any]] = self.simulator.state()["tasks"]
        return found

    def transitions(self) -> list[Counter[str]]:
        """Return, for each execution, how often each state was entered."""
        machine, client = self.outputs["state_machine_arn"], self.run.client("stepfunctions")
        pages = client.get_paginator("list_executions").paginate(stateMachineArn=machine)
        arns = [execution["executionArn"] for page in pages for execution in page["executions"]]
        counts = []
        for arn in arns:
            history = client.get_paginator("get_execution_history").paginate(executionArn=arn)
            events = [event for page in history for event in page["events"]]
            counts.append(
                Counter(e["stateEnteredEventDetails"]["name"] for e in events if e["type"].endswith("StateEntered"))
            )
        return counts


def videos(recording: Recording) -> list[Call]:
    """Return the calls that put a video into the results bucket."""
    return [c for c in recording.calls if c.call == "s3.PutObject .mp4"]


@contextmanager
def stack(parameters: Mapping[str, str], **settings: Any) -> Iterator[Stack]:
    """Bring up a stack with these parameters and the simulator with these settings; end it afterwards."""
    work = ROOT / ".bench" / uuid.uuid4().hex[:8]
    with work_folder(work), Simulator(api_key=API_KEY, **settings) as simulator:
        folder = work / "recording"
        folder.mkdir()
        beside = {
            "sitecustomize.py": Path(__file__).with_name("recorder.py").read_bytes(),
            "recorder.json": json.dumps({"folder": str(folder)}).encode(),
        }
        provider = Provider(simulator.base_url, API_KEY, simulator_url=origin(simulator.base_url))
        with stack_up(work, parameters, provider=provider, beside=beside, say=lambda _: None) as run:
            yield Stack(run, simulator, folder)
    shutil.rmtree(work)
