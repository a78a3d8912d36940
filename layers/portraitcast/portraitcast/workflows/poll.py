"""One look at one task: has it ended, and if not, when to look again. The provider's troubles are answers here."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final

from portraitcast.adapters.dashscope.client import AccountError, EmoError
from portraitcast.domain.polling import next_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.dashscope.client import Emo, Task

log = logging.getLogger(__name__)

TASK_LIFE: Final = 24 * 3600.0  # EMO: a task's id and its links die after 24 h
EMPTY_LOOKS: Final = 3  # looks that must agree before SUCCEEDED without a link, or UNKNOWN, is believed
TROUBLE_SHARE: Final = 2  # of the least wait, after an answer that says nothing

State = dict[str, Any]


def look(state: State, emo: Emo, *, least: float, most: float, clock: Callable[[], float] = time.time) -> State:
    """Return the execution's state after one look: ``ended`` and ``wait_seconds`` are set anew.

    Parameters
    ----------
    state
        The execution's state: ``job``, ``attempt``, ``task``, ``sent_at`` (epoch), ``expected_seconds`` and what
        earlier looks left: ``no_link`` and ``unknown`` count looks that agreed.
    """
    now = clock()
    state = {k: v for k, v in state.items() if k != "error"}
    if now - state["sent_at"] > TASK_LIFE:
        return {**state, "ended": True, "wait_seconds": math.ceil(least)}
    try:
        task = emo.query(state["task"])
    except EmoError as error:
        log.warning("look failed", extra={"job": state["job"], "code": error.code, "detail": error.message})
        patience = most if isinstance(error, AccountError) else max(least * TROUBLE_SHARE, error.retry_after or 0)
        return {**state, "ended": False, "wait_seconds": math.ceil(min(patience, max(most, least)))}
    return _after(state, task, now, least, most)


def _after(state: State, task: Task, now: float, least: float, most: float) -> State:
    seen = {**state, "status": task.status, "ended": task.ended}
    if task.status == "SUCCEEDED" and task.video_url is None:
        seen["no_link"] = state.get("no_link", 0) + 1
        seen["ended"] = seen["no_link"] >= EMPTY_LOOKS
        return {**seen, "wait_seconds": math.ceil(least * TROUBLE_SHARE)}
    if task.status == "UNKNOWN":
        # Before the task's life is over this may be a rotated key: deliver frees the slot once, at the third look.
        seen["unknown"] = state.get("unknown", 0) + 1
        seen["ended"] = seen["unknown"] == EMPTY_LOOKS
        wait = least * TROUBLE_SHARE if seen["unknown"] < EMPTY_LOOKS else most
        return {**seen, "wait_seconds": math.ceil(wait)}
    seen["no_link"] = seen["unknown"] = 0
    wait = next_wait(
        elapsed=_elapsed(seen, task, now),
        expected=float(state.get("expected_seconds", least)),
        waiting_behind_others=task.status == "PENDING",
        least=least,
        most=most,
        in_flight=int(state.get("in_flight", 1)),
    )
    return {**seen, "wait_seconds": wait}


def _elapsed(seen: State, task: Task, now: float) -> float:
    """Return for how long the task has been running, by the provider's clock if it says, never more than since sent."""
    if task.status == "PENDING":
        return 0.0
    started = task.scheduled_time.timestamp() if task.scheduled_time else float(seen.get("running_since", now))
    seen["running_since"] = started
    return min(max(0.0, now - started), max(0.0, now - float(seen["sent_at"])))
