"""The page that the parts write: docs/benchmarks.md, a section a part, replaced when its part has run."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = """# Benchmarks

What the product adds to the provider's own minutes and fees, beside what people would use instead. Written by
`make bench` (all parts, under 15 minutes on two cores); `make bench PART=polling` runs one part ({parts})
and replaces its section. Figures of one section come from one run on one machine: look at the ratios. None of this is a
timed test.
"""


@dataclass(frozen=True)
class Mark:
    """What a figure is held to.

    Attributes
    ----------
    what, asked, measured
        In words, with units.
    met
        Whether it holds.
    why
        Where it doesn't: why, and what it would take.
    """

    what: str
    asked: str
    measured: str
    met: bool
    why: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its caption, its columns, its rows."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> list[str]:
        """Return it as Markdown: first column to the left, the others to the right."""
        ruler = ["---", *["---:"] * (len(self.columns) - 1)]
        return [self.caption, "", *(f"| {' | '.join(row)} |" for row in (self.columns, ruler, *self.rows)), ""]


@dataclass(frozen=True)
class Section:
    """What a part has measured.

    Attributes
    ----------
    title
        Its heading.
    how
        How it was measured, in sentences.
    tables, marks
        The figures, and what they are held to.
    notes
        What a reader must know beside the figures.
    """

    title: str
    how: str
    tables: Sequence[Table]
    marks: Sequence[Mark]
    notes: Sequence[str] = field(default=())

    def text(self, stamp: str) -> str:
        """Return it as Markdown; `stamp` says when and where it ran."""
        lines = [f"## {self.title}", "", f"{self.how} *{stamp}*", ""]
        if self.marks:
            rows = [(m.what, m.asked, m.measured, "yes" if m.met else "**no**") for m in self.marks]
            lines += Table("", ("figure", "asked", "measured", "met"), rows).lines()[1:]
            lines += [f"Not met: {m.what}. {m.why}\n" for m in self.marks if not m.met]
        for table in self.tables:
            lines += table.lines()
        lines += [f"{note}\n" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"


def machine() -> str:
    """Return this machine in words: processor, cores, memory, system, Python."""
    processor = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    return ", ".join(
        [
            f"{cpu_count()} cores of {processor[1] if processor else platform.machine()}",
            f"{int(memory[1]) / 1_048_576:.0f} GiB" if memory else "memory unknown",
            f"Linux {platform.release().partition('-')[0]}",
            f"Python {platform.python_version()}",
        ]
    )


def stamp() -> str:
    """Return when and where a part ran."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {machine()}."


def with_section(page: str, part: str, parts: Sequence[str], text: str) -> str:
    """Return the page with a part's section put in or replaced; sections stand in the order of `parts`."""
    found = dict(re.findall(r"<!-- part (\w+) -->\n(.*?)<!-- end -->", page, re.DOTALL)) | {part: text + "\n"}
    blocks = [f"<!-- part {name} -->\n{found[name]}<!-- end -->\n" for name in parts if name in found]
    return "\n".join([HEAD.format(parts=", ".join(f"`{name}`" for name in parts)), *blocks])


def _read(path: str) -> str:
    return Path(path).read_text("utf-8", "replace")
