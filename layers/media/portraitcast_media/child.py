"""Run a decoder in a process of its own, with limits: its crash, hang or hunger is said of the file, and harms no more.

The process is a fresh interpreter. It has none of the caller's environment (so no credentials), no descriptor but its
own, at most `Limits.memory` of address space, `Limits.seconds` of time, and dies with its caller.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from portraitcast_media.limits import CHILD_MEMORY, CHILD_SECONDS, MIB
from portraitcast_media.problems import Problem, RefusedError

_ANSWER_MAX: Final = 4 * MIB  # bytes of JSON: 2,000 pauses have 50 KB
_FILE_MAX: Final = 2_048 * MIB  # bytes of a file that a decoder may write
_FILES_MAX: Final = 64  # descriptors
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")  # what an interpreter needs to start
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_OUT_OF_MEMORY: Final = "out of memory"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder may have.

    Attributes
    ----------
    seconds
        Of wall clock; as many of CPU for each processor, twice.
    memory
        Bytes of address space.
    """

    seconds: float = CHILD_SECONDS
    memory: int = CHILD_MEMORY


LIMITS: Final = Limits()


class DecoderDiedError(Exception):
    """The process ended without an answer: a fault of the file; the message says how, as in "the decoder …"."""


class ChildBrokenError(Exception):
    """Our own code failed in the process, which is no fault of the file; the message is the traceback."""


def run(function: str, arguments: dict[str, Any], work: Path, limits: Limits = LIMITS) -> dict[str, Any]:
    """Call a function of this package in a process of its own and return its answer.

    Parameters
    ----------
    function
        ``module:name`` within this package: takes JSON values by name and returns a dict of such.
    arguments
        Its arguments.
    work
        A folder that both may write into.
    limits
        What it may have.

    Raises
    ------
    RefusedError
        As the function raised it.
    DecoderDiedError
        It crashed, hung, or asked for more than it may have.
    ChildBrokenError
        It raised anything else.
    """
    with tempfile.TemporaryDirectory(dir=work, prefix="child-") as folder:
        answer = Path(folder) / "answer.json"
        order: dict[str, Any] = {"function": function, "arguments": arguments, "answer": str(answer)}
        order |= {"seconds": limits.seconds, "memory": limits.memory}
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
        environment |= {"HOME": folder, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNODEBUGRANGES": "1"}
        process = subprocess.Popen(
            [sys.executable, "-s", "-m", "portraitcast_media.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        try:
            process.communicate(json.dumps(order).encode(), timeout=limits.seconds)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise DecoderDiedError(f"was not done after {limits.seconds:g} s") from error
            raise
        return _answered(process.returncode, answer, limits)


def _answered(code: int, answer: Path, limits: Limits) -> dict[str, Any]:
    try:
        with answer.open("rb") as file:
            said: dict[str, Any] = json.loads(file.read(_ANSWER_MAX))
    except (OSError, ValueError) as error:
        if code == -signal.SIGXCPU:
            raise DecoderDiedError(f"was not done after {limits.seconds:g} s of computing") from error
        how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended without a word (exit {code})"
        raise DecoderDiedError(how) from error
    if "problem" in said:
        raise RefusedError(Problem(**said["problem"]))
    if "died" in said:
        raise DecoderDiedError(f"needs more than {limits.memory // MIB:,} MB of memory")
    if "broken" in said:
        raise ChildBrokenError(said["broken"])
    result: dict[str, Any] = said["answer"]
    return result


# ---------------------------------------------------------------- in the child


def _confine(seconds: float, memory: int) -> None:
    """Give this process its limits, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    computing = int(seconds * 2 * (os.cpu_count() or 1)) + 1
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, computing),
        (resource.RLIMIT_FSIZE, _FILE_MAX),
        (resource.RLIMIT_NOFILE, _FILES_MAX),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, limit))


def _call(order: dict[str, Any]) -> dict[str, Any]:
    module, _, name = order["function"].partition(":")
    try:
        function = getattr(importlib.import_module(f"portraitcast_media.{module}"), name)
        return {"answer": function(**order["arguments"])}
    except RefusedError as error:
        return {"problem": error.problem.as_dict()}
    except MemoryError:
        return {"died": _OUT_OF_MEMORY}
    except Exception as error:  # noqa: BLE001  # told to the caller, who raises it
        if "Cannot allocate memory" in str(error):  # FFmpeg's ENOMEM
            return {"died": _OUT_OF_MEMORY}
        return {"broken": traceback.format_exc()[-8000:]}


def main() -> None:
    """Do what standard input orders, and leave the answer where it says."""
    order = json.load(sys.stdin)
    _confine(order["seconds"], order["memory"])
    said = json.dumps(_call(order))
    Path(order["answer"]).write_text(said, "utf-8")
    os._exit(0)  # decoders' own threads and destructors have nothing to add


if __name__ == "__main__":
    main()
