"""``make examples``: a real report of every state into docs/examples/, from the stack on this machine.

Nothing in them is made up or changed. The simulator is slowed down and told to misbehave where a state needs it.
"""

from __future__ import annotations

import io
import json
import secrets
import sys
import time
import wave
from typing import TYPE_CHECKING, Any

from demo import SAMPLES, say_with_time
from reports import read_report
from run import ROOT, Provider, RunError, ended_by_signals, exit_code, origin, stack_up, work_folder
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from run import Run

    Report = dict[str, Any]

EXAMPLES = ROOT / "docs" / "examples"
GUARD_SECONDS = 120  # ours: against hanging only
# Short intervals; the rest as it is on AWS, so that reports say what they say there.
PARAMETERS = {"MinPollSeconds": "1", "MaxPollSeconds": "2", "PairSeconds": "1"}
VOICE, PORTRAIT = (SAMPLES / "voice.mp3").read_bytes(), (SAMPLES / "portrait.png").read_bytes()
TROUBLE = {"code": "InternalError.Algo", "message": "An internal error has occurred during algorithm execution."}


def tone(seconds: float) -> bytes:
    """Return a WAV of that length, one channel of 16 bits, 8000 a second: a square wave of 400 Hz."""
    out = io.BytesIO()
    with wave.open(out, "wb") as voice:
        voice.setnchannels(1)
        voice.setsampwidth(2)
        voice.setframerate(8000)
        voice.writeframes((b"\0\x10" * 10 + b"\0\xf0" * 10) * round(seconds * 400))
    return out.getvalue()


class Examples:
    """Brings jobs into a state and keeps their report as it lies in the bucket."""

    def __init__(self, run: Run, say: Callable[[str], None], check: Callable[[], None]) -> None:
        self._run, self._say, self._check = run, say, check
        self._s3 = run.client("s3")
        self._uploads, self._results = run.outputs["upload_bucket"], run.outputs["results_bucket"]

    def drop(self, name: str, **contents: bytes) -> None:
        """Drop a job's files, content by suffix."""
        for suffix, content in contents.items():
            self._s3.put_object(Bucket=self._uploads, Key=f"{name}.{suffix}", Body=content)

    def delete(self, key: str) -> None:
        """Delete a file."""
        self._s3.delete_object(Bucket=self._uploads, Key=key)

    def wait(self, name: str, status: str, *, read: bool = False) -> Report:
        """Return a job's report once it has this status, and its voice is `read` if asked for; RunError if not."""
        deadline = time.monotonic() + GUARD_SECONDS
        while time.monotonic() < deadline:
            self._check()
            self._run.check()
            report = read_report(self._s3, self._results, f"{name}.json")
            if report and report["status"] == status and (report["inputs"]["voice"] or not read):
                return report
            time.sleep(0.1)
        raise RunError(f"{name} was not {status} after {GUARD_SECONDS} s")

    def keep(self, name: str, status: str) -> None:
        """Write a job's report into docs/examples/ once it has this status."""
        report = self.wait(name, status, read=True)
        EXAMPLES.mkdir(exist_ok=True)
        (EXAMPLES / f"{status}.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")
        self._say(f"{status:9}  {report['message']}")


def make(examples: Examples, simulator: Simulator) -> None:
    """Bring jobs into every state, those first that need a service which is busy."""
    simulator.set(manual=True)
    for name in ("acme/line-01", "acme/line-02"):  # as many as may be at the service
        examples.drop(name, png=PORTRAIT, mp3=VOICE)
        examples.wait(name, "rendering")
    examples.keep("acme/line-01", "rendering")
    examples.drop("acme/line-03", png=PORTRAIT, mp3=VOICE)
    examples.wait("acme/line-03", "queued")
    examples.drop("acme/line-04", png=PORTRAIT, mp3=VOICE)
    examples.keep("acme/line-04", "queued")
    simulator.set(manual=False)
    examples.keep("acme/line-01", "done")
    examples.drop("news/opening", mp3=VOICE)
    examples.keep("news/opening", "waiting")
    examples.drop("news/closing", mp3=VOICE)
    examples.wait("news/closing", "waiting", read=True)
    examples.delete("news/closing.mp3")
    examples.keep("news/closing", "withdrawn")
    examples.drop("news/speech", png=PORTRAIT, wav=tone(72.5))
    examples.keep("news/speech", "rejected")
    simulator.fault({"task_fails": TROUBLE}, match={"contains": "weather"})
    examples.drop("news/weather", png=PORTRAIT, mp3=VOICE)
    examples.keep("news/weather", "failed")


def write_examples() -> None:
    """Write a report of every state."""
    say = say_with_time(time.monotonic())
    key = f"sk-examples-{secrets.token_hex(16)}"
    with (
        ended_by_signals() as check,
        work_folder(ROOT / ".demo" / "examples") as work,
        Simulator(api_key=key) as simulator,
    ):
        provider = Provider(simulator.base_url, key, simulator_url=origin(simulator.base_url))
        with stack_up(work, PARAMETERS, provider=provider, say=say) as run:
            make(Examples(run, say, check), simulator)


if __name__ == "__main__":
    sys.exit(exit_code("make examples", write_examples))
