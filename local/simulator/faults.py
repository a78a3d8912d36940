"""Misbehaviour on request: rules that say which call goes wrong, how, and how often."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Any, Final

ENDPOINTS: Final = ("check", "create", "query", "list", "cancel", "result")
# What an action changes, told by the key that only it has: the HTTP answer, or something about a task.
KINDS: Final = {
    "status": "http",
    "close": "http",
    "delay": "http",
    "hang": "http",
    "task_fails": "task",
    "task_status": "task_status",
    "no_link": "no_link",
    "results": "results",
}
RESULTS: Final = {"html", "truncated", "wrong_length", "redirect", "too_large", "drip", "video"}
ALLOWED: Final = {"status", "body", "headers", "close", "delay", "hang", "effect"} | set(KINDS)


@dataclass
class Rule:
    """One wish for misbehaviour."""

    id: int
    kind: str
    endpoint: str
    action: dict[str, Any]
    times: int | None
    probability: float
    task_id: str | None
    contains: str | None
    nth: int | None
    seen: int = 0  # matching calls so far
    hits: int = 0  # of those, how many were made to go wrong

    def applies(self, kind: str, endpoint: str, task_id: str | None, text: str) -> bool:
        """Count a call if it is one of this rule's, and decide whether this one goes wrong."""
        if kind != self.kind or self.endpoint not in {endpoint, "any"} or self.hits == self.times:
            return False
        if (self.task_id and self.task_id != task_id) or (self.contains and self.contains not in text):
            return False
        self.seen += 1
        if self.nth not in {None, self.seen}:
            return False
        if random.random() >= self.probability:  # noqa: S311 - chance, not secrecy
            return False
        self.hits += 1
        return True


class Faults:
    """The rules in force, in the order in which they were added; the first that applies wins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._last_id = 0

    def add(self, wish: dict[str, Any]) -> int:
        """Take a rule as ``POST /control/faults`` gets it.

        Raises
        ------
        ValueError, TypeError
            If it isn't one; the message says why.
        """
        unknown = set(wish) - {"endpoint", "times", "probability", "match", "action", "effect"}
        action = dict(wish.get("action") or {})
        match = wish.get("match") or {}
        unknown |= (set(action) - ALLOWED) | (set(match) - {"task_id", "contains", "nth"})
        kinds = [kind for key, kind in KINDS.items() if key in action]
        if unknown or len(kinds) != 1:
            raise ValueError(f"a rule needs one action of {sorted(KINDS)}; unknown fields: {sorted(unknown)}")
        kind = kinds[0]
        _check(action)
        endpoint = wish.get("endpoint", "any")
        if endpoint not in (*ENDPOINTS, "any"):
            raise ValueError(f"endpoint is one of {(*ENDPOINTS, 'any')}")
        action.setdefault("effect", wish.get("effect", False))
        with self._lock:
            self._last_id += 1
            self._rules.append(
                Rule(
                    id=self._last_id,
                    kind=kind,
                    endpoint=endpoint if kind == "http" else "any",  # the others have one place each
                    action=action,
                    times=wish.get("times", 1),
                    probability=wish.get("probability", 1.0),
                    task_id=match.get("task_id"),
                    contains=match.get("contains"),
                    nth=match.get("nth"),
                )
            )
            return self._last_id

    def take(self, kind: str, endpoint: str, task_id: str | None, text: str) -> dict[str, Any] | None:
        """Give the action of the first rule that applies to this call, and use it up by one."""
        with self._lock:
            for rule in self._rules:
                if rule.applies(kind, endpoint, task_id, text):
                    return rule.action
        return None

    def clear(self) -> None:
        """Drop every rule."""
        with self._lock:
            self._rules.clear()

    def state(self) -> list[dict[str, Any]]:
        """Tell every rule and how often it struck."""
        with self._lock:
            return [vars(rule).copy() for rule in self._rules]


def _check(action: dict[str, Any]) -> None:
    """Refuse an action that would only show its mistake when it strikes."""
    if action.get("close", "before") not in ("before", "after"):
        raise ValueError('close is "before" or "after"')
    if not isinstance(action.get("task_fails", {}), dict):
        raise TypeError('task_fails is {"code": …, "message": …}')
    results = action.get("results", "html")
    names = set(results) if isinstance(results, dict) else {results}
    if len(names) != 1 or not names <= RESULTS:
        raise ValueError(f"results is one of {sorted(RESULTS)}")
