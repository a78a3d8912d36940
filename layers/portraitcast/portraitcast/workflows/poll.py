"""Poll a task once: has it ended, and if not, when to poll again. The provider's troubles are answers here."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from portraitcast.adapters.dashscope import AccountError, ProviderError
from portraitcast.domain.execution import BELIEVED_AFTER, Execution
from portraitcast.domain.job import TASK_LIFE_SECONDS
from portraitcast.domain.polling import next_poll

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.dashscope import DashScope, ProviderTask

log = logging.getLogger(__name__)

TROUBLE_SHARE: Final = 2  # of the least interval, after an answer that says nothing


class Poll:
    """Polls tasks, between the stack's MinPollSeconds and MaxPollSeconds."""

    def __init__(self, service: DashScope, *, least: float, most: float, clock: Callable[[], float]) -> None:
        self._service = service
        self._least = least
        self._most = most
        self._clock = clock

    def task(self, state: Execution) -> Execution:
        """Return the execution's state after one poll: ``ended`` and ``wait_seconds`` are set anew."""
        now = self._clock()
        state = replace(state, polls=state.polls + 1)
        if now - state.sent_at > TASK_LIFE_SECONDS:
            return replace(state, ended=True, wait_seconds=math.ceil(self._least))
        if state.is_long:  # deliver hands over to a new execution, before this one's history is full
            return replace(state, ended=True, wait_seconds=math.ceil(self._least))
        try:
            task = self._service.query(state.task)
        except ProviderError as error:
            log.warning("poll failed", extra={"job": state.job, "code": error.code, "detail": error.message})
            short = max(self._least * TROUBLE_SHARE, error.retry_after or 0)
            patience = self._most if isinstance(error, AccountError) else short
            return replace(state, ended=False, wait_seconds=math.ceil(min(patience, max(self._most, self._least))))
        return self._after(state, task, now)

    def _after(self, state: Execution, task: ProviderTask, now: float) -> Execution:
        state = replace(state, status=task.status, ended=task.ended)
        if task.status == "SUCCEEDED" and task.video_url is None:
            seen = state.no_link + 1
            wait = math.ceil(self._least * TROUBLE_SHARE)
            return replace(state, no_link=seen, ended=seen >= BELIEVED_AFTER, wait_seconds=wait)
        if task.status == "UNKNOWN":
            # Before the task's life is over this may be a rotated key: deliver frees the slot once, at the third poll.
            seen = state.unknown + 1
            wait = math.ceil(self._least * TROUBLE_SHARE if seen < BELIEVED_AFTER else self._most)
            return replace(state, unknown=seen, ended=seen == BELIEVED_AFTER, wait_seconds=wait)
        pending = task.status == "PENDING"
        started = state.running_since if pending else self._running_since(state, task, now)
        elapsed = 0.0 if pending or started is None else min(max(0.0, now - started), max(0.0, now - state.sent_at))
        wait = next_poll(
            elapsed=elapsed,
            expected=state.expected_seconds,
            waiting_behind_others=pending,
            least=self._least,
            most=self._most,
            in_flight=state.in_flight,
        )
        return replace(state, no_link=0, unknown=0, running_since=started, wait_seconds=wait)

    def _running_since(self, state: Execution, task: ProviderTask, now: float) -> float:
        """Return since when (epoch) the task has been running, by the provider's clock if it says."""
        if task.scheduled_time:
            return task.scheduled_time.timestamp()
        return state.running_since if state.running_since is not None else now
