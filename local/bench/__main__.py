"""Run the parts named on the command line, or all, and write them into docs/benchmarks.md."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from bench.document import stamp, with_section

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "benchmarks.md"
PARTS = ("polling", "overhead", "delivery", "starts", "preparing", "cost", "scale", "storm")  # modules of this package


def main(wanted: list[str]) -> int:
    """Measure the parts; return the exit code: 2 for a part that nobody knows, else 0, also where a mark is missed."""
    unknown = set(wanted) - set(PARTS)
    if unknown:
        print(f"No part of the benchmark: {', '.join(sorted(unknown))}. There are {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    for part in wanted or PARTS:
        began = time.monotonic()
        print(f"bench: {part} …", flush=True)
        section = importlib.import_module(f"bench.{part}").measure()
        page = PAGE.read_text("utf-8") if PAGE.exists() else ""
        PAGE.write_text(with_section(page, part, PARTS, section.text(stamp())), "utf-8")
        for mark in section.marks:
            print(f"  {'met ' if mark.met else 'NOT '} {mark.what}: {mark.measured} (asked: {mark.asked})")
        print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
