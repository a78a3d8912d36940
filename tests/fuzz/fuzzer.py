"""A small mutation fuzzer: inputs made of a corpus, a watch over time and memory, and a memory of what was new.

An input whose outcome was never seen (another refusal, another kind of answer) joins the corpus, so that later ones are
made of it. What crashes is written into ``corpus/`` too, where the tests find it from then on.
"""

from __future__ import annotations

import hashlib
import random
import re
import resource
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = Path(__file__).parent / "corpus"
KEPT_BYTES = 4096  # of an input that is kept in the repository
INPUT_BYTES = 65_536  # larger files than that tell a parser of headers nothing new; bombs have tests of their own
SECONDS = 1.0  # most for one input
MEMORY_KIB = 32 * 1024  # most that a whole run may add to the process's largest size
EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class HangError(BaseException):
    """An input took too long; no Exception, so that nothing on the way swallows it."""


@dataclass
class Target:
    """What is fuzzed.

    Attributes
    ----------
    run
        Takes an input; returns what came out in a few words, or raises: an exception is a finding.
    seeds
        Inputs to begin with.
    words
        Pieces that inputs of this kind are made of.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = field(default=())

    def kept(self) -> list[bytes]:
        """Return the inputs that earlier runs have kept."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).glob("*"))]


class Fuzzer:
    """Runs a target on inputs of its own making."""

    def __init__(self, target: Target, seed: int, *, keep: bool) -> None:
        self._target = target
        self._random = random.Random(seed)  # noqa: S311  # no secret: the same seed, the same inputs
        self._keep = keep
        self._seen: set[str] = set()
        self._corpus: list[bytes] = []

    def fuzz(self, count: int) -> None:
        """Try `count` inputs; raise AssertionError with the input's file at the first finding."""
        for seed in [*self._target.seeds(), *self._target.kept()]:
            self._try(seed)
            self._corpus.append(seed)
        before = _largest_kib()
        for _ in range(count):
            self._try(self._mutant())
        grown = _largest_kib() - before
        assert grown < MEMORY_KIB, f"{self._target.name}: the process grew by {grown} KiB"

    def _try(self, data: bytes) -> None:
        started = time.process_time()
        try:
            with _alarm():
                outcome = self._target.run(data)
        except (Exception, HangError) as error:  # every exception is a finding
            raise AssertionError(f"{error!r} on {self._write(data)}") from error
        took = time.process_time() - started
        assert took < SECONDS, f"{took:.2f} s on {self._write(data)}"
        mark = re.sub(r"[0-9.]+|'.*?'", "#", str(outcome))[:200]
        if mark not in self._seen:
            self._seen.add(mark)
            if self._corpus:  # not one of the seeds
                self._corpus.append(data)
                if self._keep and len(data) <= KEPT_BYTES:
                    self._write(data)

    def _write(self, data: bytes) -> Path:
        path = CORPUS / self._target.name / hashlib.sha256(data).hexdigest()[:16]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def _mutant(self) -> bytes:
        data = bytearray(self._random.choice(self._corpus))
        for _ in range(self._random.choice((1, 1, 2, 3, 5, 8))):
            self._change(data)
        return bytes(data[:INPUT_BYTES])

    def _change(self, data: bytearray) -> None:
        chance = self._random
        # Headers decide, so most changes hit the first bytes.
        at = chance.randrange(min(len(data), chance.choice((16, 64, 512, INPUT_BYTES))) + 1)
        match chance.randrange(8):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(data):
                data[at] = chance.randrange(256)
            case 2:
                size = chance.choice((1, 2, 4, 8))
                value = (chance.choice(EDGES) + chance.choice((-1, 0, 0, 1))) % (1 << 8 * size)
                data[at : at + size] = value.to_bytes(size, chance.choice(("big", "little")))
            case 3:
                del data[at : at + chance.choice((1, 2, 4, 16, 256, 4096))]
            case 4:
                del data[at:]
            case 5:
                piece = data[at : at + chance.choice((1, 4, 16, 64, 1024))]
                data[at:at] = piece * chance.choice((1, 2, 16, 200))
            case 6 if self._target.words:
                data[at:at] = chance.choice(self._target.words)
            case _:
                other = chance.choice(self._corpus)
                data[at:] = other[chance.randrange(len(other) + 1) :][:INPUT_BYTES]


class _alarm:  # noqa: N801  # used like a function
    """Raise `HangError` in what takes much too long: it would never come back to be measured."""

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, 5 * SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    @staticmethod
    def _ring(*_: Any) -> None:
        raise HangError


def _largest_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
