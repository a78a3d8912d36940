"""Prepare itself under hostile bytes: a decoder reads an input in a process of its own, which may die of it.

The process is a fork, not the fresh interpreter of `portraitcast_media.child`, which takes half a second; what it does
and what it may have is that module's own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitcast_media import child, pictures, voices
from portraitcast_media.limits import MIB, VOICE_MAX_SECONDS
from portraitcast_media.problems import takes_too_much

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 10.0  # wall clock of one input; a decoder that isn't done by then hangs, which is said of its file
MEMORY = 1024 * MIB
KEYS = {"voice": "acme/line-01.mp3", "portrait": "acme/line-01.png"}
DIED = "died, or was not done in time"
LOADED = (pictures, voices)  # before the fork, once


def prepared(kind: str, data: bytes) -> dict[str, Any]:
    """Return what prepare answers of an input: ``facts`` or a ``problem``; a crash or a hang is one of the file.

    Raises
    ------
    AssertionError
        Our own code failed: a file that does this is a lost job.
    """
    key = KEYS[kind]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        said = _in_a_fork(lambda: decoded(kind, data, Path(folder)))
    if said is None or "died" in said:
        return {"problem": takes_too_much(kind, key, DIED).as_dict()}
    assert "broken" not in said, said["broken"]
    return {"facts": said["answer"]["facts"]} if "answer" in said else said


def decoded(kind: str, data: bytes, work: Path) -> dict[str, Any]:
    """Read an input in this very process, as the child does; what is instrumented shows its ways."""
    file = work / "upload"
    file.write_bytes(data)
    arguments: dict[str, Any] = {"path": str(file), "key": KEYS[kind], "work": str(work)}
    if kind == "voice":
        arguments["max_seconds"] = VOICE_MAX_SECONDS
    return child._call({"function": f"prepare:in_child_{kind}", "arguments": arguments})  # what it does


def _in_a_fork(do: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Return what a fork of this process says; None where it dies or hangs."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGPROF):
                signal.signal(number, signal.SIG_DFL)  # the fuzzer's own would call it a finding
            child._confine(SECONDS, MEMORY)  # what it may have
            with os.fdopen(writer, "wb") as out:
                out.write(json.dumps(do()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    said = bytearray()
    try:
        end = time.monotonic() + SECONDS
        while (left := end - time.monotonic()) > 0 and select.select([reader], [], [], left)[0]:
            piece = os.read(reader, MIB)
            if not piece:
                break
            said += piece
    finally:
        os.close(reader)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        return None
    return answer
