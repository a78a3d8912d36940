"""``make demo``: one portrait and one voice through the whole stack on this machine, to a playable video."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from assets import PORTRAIT_SUFFIXES, VOICE_SUFFIXES, picture_asset
from page import still
from provider import Provider, named_provider
from real_service import (  # in the order of a demo
    account_of,
    ask_free,
    chosen_model,
    confirm,
    describe,
    how_to_get,
    plan,
    stop_creates,
)
from reports import read_report
from run import ROOT, Ended, RunError, ended_by_signals, exit_code, say_last, stack_up, work_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from run import Run

SAMPLES = ROOT / "local" / "samples"
# Waits that suit one pair and a service that answers at once; the defaults suit AWS and the real service.
PARAMETERS = {
    "MinPollSeconds": "1",
    "MaxPollSeconds": "2",
    "PairSeconds": "1",
    "SettleSeconds": "1",
    "ReconcileSeconds": "1",
    "BreakerSeconds": "1",
}
# At a real service: one pair, and nothing that asks it more often than the product does.
REAL_PARAMETERS = {"PairSeconds": "1", "SettleSeconds": "1", "MaxTasksInFlight": "1"}
GUARD_SECONDS = 300  # ours: no voice that the service takes needs a third of it here
REAL_GUARD_SECONDS = 4 * 3600  # a task that has no result 3 hours after its create fails (Model Studio, EMO)
ENDS = ("done", "rejected", "failed", "withdrawn")


def say_with_time(started: float) -> Callable[[str], None]:
    """Return a function that prints a line with the seconds since `started` (of time.monotonic)."""

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", flush=True)

    return say


def chosen_file(variable: str, sample: str, suffixes: frozenset[str]) -> Path:
    """Return the file that an environment variable names, or the bundled sample; RunError if it can't be used."""
    path = Path(os.environ.get(variable) or SAMPLES / sample).expanduser().resolve()
    if not path.is_file() or not os.access(path, os.R_OK):
        raise RunError(f"{variable}: there is no readable file {path}")
    if path.suffix.lower() not in suffixes:
        raise RunError(f"{variable}: {path.name} is none of {' '.join(sorted(suffixes))}")
    return path


def wait_for_end(
    run: Run, name: str, say: Callable[[str], None], check: Callable[[], None], provider: Provider | None = None
) -> dict[str, Any]:
    """Say each state of the job as it comes; return its last report. A named service that takes nothing ends it."""
    s3, seen = run.client("s3"), None
    guard = REAL_GUARD_SECONDS if provider else GUARD_SECONDS
    deadline = time.monotonic() + guard
    while time.monotonic() < deadline:
        check()
        run.check()
        report = read_report(s3, run.outputs["results_bucket"], f"{name}.json")
        if report and report["status"] != seen:
            seen = report["status"]
            say(f"{seen:9}  {report['message']}")
        if report and seen in ENDS:
            return report
        if provider and report and report["status"] == "queued":
            give_up_in_trouble(run)
        time.sleep(1 if provider else 0.1)
    raise RunError(f"the video was not there after {guard} s (last state: {seen or 'no report'})")


def give_up_in_trouble(run: Run) -> None:
    """Raise RunError if the service takes nothing, with its own words and what was paid.

    A stack would wait and try again by itself; who sits before a demo wants to know.
    """
    account = account_of(run)
    if (breaker := account.get("breaker")) and not account.get("open_create"):
        paid = float(account.get("spent", 0) or 0)
        raise RunError(
            f"the video service takes nothing now: {breaker['code']}: {breaker['message']}\nNo video was ordered; "
            + (f"the portrait check may have cost CNY {paid:g}." if paid else "nothing was paid.")
        )


def describe_video(path: Path) -> str:
    """Return size, frames a second, seconds and sound of a video, having decoded all of it; RunError if it is none."""
    try:
        with av.open(str(path)) as video:
            picture, sound = video.streams.video[0], video.streams.audio[0]
            frames = sum(1 for _ in video.decode(picture))
            video.seek(0)
            samples = sum(frame.samples for frame in video.decode(sound))
            rate = float(picture.average_rate or 0)
            return (
                f"{picture.width}x{picture.height}, {rate:g} fps, {frames / rate:.2f} s, "
                f"{picture.codec_context.name}, with {samples / sound.rate:.2f} s of sound ({sound.codec_context.name})"
            )
    except (av.FFmpegError, IndexError, ZeroDivisionError) as error:
        raise RunError(f"{path} is no playable video with sound: {error}") from error


class RefusedError(RunError):
    """The job ended without a video: its report says all, and no log says more."""


def explain(report: dict[str, Any]) -> str:
    """Return why a job ended without a video, and what to do."""
    error = report.get("error") or {}
    lines = [f"{report['status']} ({error.get('code', 'no code')}): {report['message']}"]
    if error.get("provider_message"):
        lines.append(f"The video service said: {error['provider_message']}")
    if error.get("what_to_do"):
        lines.append(error["what_to_do"])
    return "\n".join(lines)


def make_video(
    run: Run,
    portrait: Path,
    voice: Path,
    say: Callable[[str], None],
    check: Callable[[], None],
    provider: Provider | None = None,
) -> Path:
    """Drop the pair, wait for its video, bring it here, and look at it; RunError if there is none."""
    name = f"demo/{voice.stem}"
    s3 = run.client("s3")
    for path in (portrait, voice):
        key = name + path.suffix
        s3.upload_file(str(path), run.outputs["upload_bucket"], key)
        say(f"dropped {path.name} as s3://{run.outputs['upload_bucket']}/{key}")
    report = wait_for_end(run, name, say, check, provider)
    if report["status"] != "done":
        raise RefusedError(explain(report))
    target = run.work / f"{voice.stem}.mp4"
    s3.download_file(run.outputs["results_bucket"], report["video"]["key"], str(target))
    (run.work / f"{voice.stem}.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")
    say(f"video: {describe_video(target)}")
    beside = run.work / f"{voice.stem}{portrait.suffix}"
    asset = picture_asset(s3, run.outputs["work_bucket"], report["inputs"]["portrait"]["sha256"])
    if asset:  # a kind that browsers may not know is shown as prepare has made it
        beside = beside.with_suffix(".jpg")
        s3.download_file(run.outputs["work_bucket"], asset, str(beside))
    else:
        shutil.copyfile(portrait, beside)
    write_page(run.work, report, beside, target)
    return target


def write_page(work: Path, report: dict[str, Any], portrait: Path, video: Path) -> None:
    """Write ``index.html``, which shows the job; portrait and video lie in the same folder already."""
    (work / "index.html").write_text(still(report, portrait.name, video.name), "utf-8")


def model_parameter() -> dict[str, str]:
    """Return the stack parameter for the model that MODEL names, if it does."""
    return {"DefaultModel": os.environ["MODEL"]} if os.environ.get("MODEL") else {}


def agreed_parameters(provider: Provider, portrait: Path, voice: Path) -> dict[str, str]:
    """Say what a real video sends and costs, and ask; return the stack's parameters once the person has agreed."""
    parameters = REAL_PARAMETERS | model_parameter()
    order = plan(portrait, voice, chosen_model(parameters))
    ask_free(provider, order)
    print(describe(provider, order), flush=True)
    confirm(os.environ, "Make it?")
    return parameters


def what_goes_on(run: Run, provider: Provider) -> str:
    """Return what was ordered when somebody ended the run, and how to get it."""
    tasks, paid = stop_creates(run)
    if tasks:
        return "\n".join(how_to_get(task, provider) for task in tasks)
    may_be = f"; a portrait check may have cost CNY {paid:g}." if paid else ", nothing was paid."
    return f"No video was ordered{may_be}"


def demo() -> None:
    """Make one video on this machine and say where it is."""
    say = say_with_time(time.monotonic())
    with ended_by_signals() as check, work_folder(ROOT / ".demo") as work:
        portrait = chosen_file("PORTRAIT", "portrait.png", PORTRAIT_SUFFIXES)
        voice = chosen_file("VOICE", "voice.mp3", VOICE_SUFFIXES)
        provider = named_provider(os.environ)
        parameters = agreed_parameters(provider, portrait, voice) if provider else PARAMETERS | model_parameter()
        with stack_up(work, parameters, provider=provider, say=say) as run:
            try:
                video = make_video(run, portrait, voice, say, check, provider)
            except RefusedError:
                raise
            except Ended:
                if provider:
                    with contextlib.suppress(Exception):  # whatever it is, the run ends
                        say_last(what_goes_on(run, provider))
                raise
            except RunError as error:
                logs = [run.work / "engine.log", run.work / "simulator.log", *run.save_logs()]
                raise RunError("\n".join([str(error), "Look into:", *(f"  {path}" for path in logs)])) from error
    print(f"\nTo look at: {video.parent / 'index.html'}\nYour video: {video}", flush=True)


if __name__ == "__main__":
    sys.exit(exit_code("make demo", demo))
