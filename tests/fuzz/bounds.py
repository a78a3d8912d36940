"""What no input may do to a parser: raise anything but what its target allows, take a second, take much memory."""

from __future__ import annotations

import signal
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzz.targets import Target

SECONDS = 1.0  # of the processor, for one input


class SlowError(BaseException):
    """An input took too long; no Exception, so that nothing on the way swallows it."""


def judge(target: Target, data: bytes) -> object:
    """Let a target read an input, within both bounds; return what came out."""
    with at_most_seconds(SECONDS), at_most_bytes(target.memory):
        return target.run(data)


@contextmanager
def at_most_seconds(seconds: float) -> Iterator[None]:
    """Raise `SlowError` in what takes more of the processor's time."""

    def ring(*_: Any) -> NoReturn:
        raise SlowError(f"more than {seconds} s")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def at_most_bytes(most: int) -> Iterator[None]:
    """See that Python's objects never take so many bytes more than now."""
    traced = tracemalloc.is_tracing()  # for a whole process of fuzzing: each start and stop leaves a KiB behind
    if not traced:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield
        taken = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not traced:
            tracemalloc.stop()
    assert taken <= most, f"{taken} bytes of memory, of {most}"
