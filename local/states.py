"""``make states``: draws a job's states and its legal transitions into docs/states.md, from the product's own table."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "layers" / "portraitcast"))

from portraitcast.domain.job import TRANSITIONS, Job, Status  # noqa: E402  # found only now

PAGE = ROOT / "docs" / "states.md"
METHODS = {"reject": ("reject", "refuse")}  # a transition that files and the provider have a method each for
BEFORE_THE_END = "[*]"


def drawing() -> str:
    """Return the states as a Mermaid diagram: an arrow for each pair, with the transitions that take it."""
    arrows: dict[tuple[Status, Status], list[str]] = {}
    for transition, (starts, end) in TRANSITIONS.items():
        for start in starts:
            arrows.setdefault((start, end), []).append(transition)
    order = list(Status)
    lines = ["stateDiagram-v2", f"    {BEFORE_THE_END} --> waiting", f"    {BEFORE_THE_END} --> queued"]
    lines += [f"    {BEFORE_THE_END} --> rejected"]
    for (start, end), names in sorted(arrows.items(), key=lambda arrow: [order.index(each) for each in arrow[0]]):
        lines.append(f"    {start} --> {end}: {', '.join(names)}")
    return "\n".join(lines)


def table() -> str:
    """Return every transition with the statuses that it may begin in, its end, and what it means."""
    rows = ["| transition | from | to | what happens |", "|---|---|---|---|"]
    for transition, (starts, end) in TRANSITIONS.items():
        begin = ", ".join(f"`{status}`" for status in Status if status in starts)
        said = " ".join(first_sentence(getattr(Job, method)) for method in METHODS.get(transition, (transition,)))
        rows.append(f"| `{transition}` | {begin} | `{end}` | {said} |")
    return "\n".join(rows)


def first_sentence(method: object) -> str:
    """Return what a method's docstring says first, without what it says of parameters."""
    return re.split(r"; `|[.;] ", str(method.__doc__).strip().splitlines()[0])[0].rstrip(".").replace("``", "`") + "."


def page() -> str:
    """Return docs/states.md."""
    return f"""# The states of a job

`make states` writes this page from `TRANSITIONS` in [domain/job.py](../layers/portraitcast/portraitcast/domain/job.py).
Any other change of a job's status raises `IllegalTransitionError`. `creating` is shown as `queued`: a create is open,
and nobody knows yet whether there is a task.

```mermaid
{drawing()}
```

{table()}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
