"""A deployed stack for tests: engine with roles enforced, simulator in this process, template.yaml with short waits."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

from run import ROOT, Provider, Run, origin, stack_up, work_folder
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SHORT_WAITS = {
    "MinPollSeconds": "1",
    "MaxPollSeconds": "2",
    "PairSeconds": "1",
    "SettleSeconds": "2",
    "ReconcileSeconds": "1",
    "BreakerSeconds": "1",
    "SweepMinutes": "1",
}


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Take a work folder of its own under ``.test/``."""
    with work_folder(ROOT / ".test" / uuid.uuid4().hex[:8]) as work:
        yield work


@contextlib.contextmanager
def deployed(
    work: Path, parameters: Mapping[str, str], *, api_key: str, task_seconds: float, **how: Any
) -> Iterator[tuple[Run, Simulator]]:
    """Bring up a stack and its simulator, whose tasks take so many seconds; `how` as `run.stack_up` takes it."""
    with Simulator(api_key=api_key, task_seconds=task_seconds) as simulator:
        provider = Provider(simulator.base_url, api_key, simulator_url=origin(simulator.base_url))
        with stack_up(work, parameters, provider=provider, **how) as run:
            yield run, simulator
