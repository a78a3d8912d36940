"""Coverage-guided fuzzing of one parser, by atheris: ``python tests/fuzz/cover.py videos -runs=200000``.

Takes libFuzzer's options; alone, it names the parsers. What finds new ways through the parser is kept in ``.fuzz/``;
``-merge=1`` takes the smallest of it into ``corpus/``. What breaks a bound is written into ``corpus/``, where the tests
find it from then on.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
import tracemalloc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from fuzz.targets import Target

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "layers" / "portraitcast"), str(ROOT / "layers" / "media"), str(HERE.parent)]

with atheris.instrument_imports(include=["portraitcast", "portraitcast_media"]):
    from fuzz.bounds import judge
    from fuzz.decoding import DIED, decoded
    from fuzz.targets import TARGETS

OPTIONS = {
    "max_len": 65_536,  # larger files tell a parser of headers nothing new; bombs have tests of their own
    "timeout": 10,  # s; for what never comes back to be judged
    "rss_limit_mb": 512,  # of the whole process
    "print_final_stats": 1,
}
DECODING = {
    "max_total_time": 1800,  # s: an input takes some hundredths of a second
    "rss_limit_mb": 4096,  # what decoders take in this process
    "timeout": 60,
}


def main(name: str, *options: str) -> None:
    """Fuzz the parser of that name."""
    target = TARGETS[name]
    tracemalloc.start()
    corpus, work = HERE / "corpus" / name, ROOT / ".fuzz" / name
    work.mkdir(parents=True, exist_ok=True)
    words = work.with_suffix(".dict")
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words))
    folders = [corpus, work] if "-merge=1" in options else [work, corpus]  # the first is written to
    bounds = OPTIONS | DECODING if target.decodes else OPTIONS
    ours = [f"-{option}={value}" for option, value in bounds.items()]
    ours += [f"-dict={words}", f"-artifact_prefix={corpus}/"]
    program = shlex.join([sys.executable, __file__, name])  # for -merge=1, which starts it again through a shell
    atheris.Setup([program, *ours, *options, *map(str, folders)], partial(try_input, target))
    atheris.Fuzz()


def try_input(target: Target, data: bytes) -> None:
    """Let a target read an input. What a decoder has survived in a fork is read once more here, to see its ways."""
    said = judge(target, data)
    if target.decodes and DIED not in str(said):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
            decoded(target.decodes, data, Path(work))


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[1:] else print(*TARGETS)
