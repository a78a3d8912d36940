"""Misbehaviour on request: rules that say which call goes wrong, how, and how often."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ENDPOINTS: Final = ("check", "create", "query", "list", "cancel", "policy", "upload", "result")
# What an action changes, told by the key that only it has: the HTTP answer, or something about a task.
KINDS: Final = {
    "status": "http",
    "close": "http",
    "delay": "http",
    "hang": "http",
    "nonsense": "answer",
    "merge": "answer",
    "task_fails": "task",
    "task_status": "task_status",
    "no_link": "no_link",
    "results": "results",
}
RESULTS: Final = {"html", "truncated", "wrong_length", "redirect", "too_large", "drip", "video"}
TIMES: Final = ("submit_time", "scheduled_time", "end_time")
LONG: Final = 300_000  # characters of a long text
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
                    endpoint=endpoint if kind in {"http", "answer"} else "any",  # the others have one place each
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
    if action.get("nonsense", "dates_early") not in NONSENSE:
        raise ValueError(f"nonsense is one of {sorted(NONSENSE)}")
    if not isinstance(action.get("merge", {}), dict):
        raise TypeError("merge is a JSON object")
    if not isinstance(action.get("task_fails", {}), dict):
        raise TypeError('task_fails is {"code": …, "message": …}')
    results = action.get("results", "html")
    names = set(results) if isinstance(results, dict) else {results}
    if len(names) != 1 or not names <= RESULTS:
        raise ValueError(f"results is one of {sorted(RESULTS)}")


# ---------------------------------------------------------------------- nonsense
def spoil(action: dict[str, Any], answer: dict[str, Any]) -> bytes:
    """Give the content of an answer as an action of kind ``answer`` wants it.

    ``{"merge": {…}}`` puts its fields over the answer's, object into object; ``{"nonsense": name}`` is one of
    `NONSENSE`.
    """
    if "merge" in action:
        return json.dumps(_merged(answer, action["merge"])).encode()
    return NONSENSE[action["nonsense"]](answer)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay one object over another."""
    found = dict(under)
    for name, value in over.items():
        below = found.get(name)
        found[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return found


def _dates(text: str, milliseconds: float) -> Callable[[dict[str, Any]], bytes]:
    """Put each time of an answer outside what a calendar or a clock can hold."""

    def make(answer: dict[str, Any]) -> bytes:
        output = answer.get("output")
        if isinstance(output, dict):
            answer = answer | {"output": output | dict.fromkeys(TIMES, text)}
        if isinstance(answer.get("data"), list):
            answer = answer | {"data": [row | {"gmt_create": milliseconds} for row in answer["data"]]}
        return json.dumps(answer).encode()

    return make


def _words(text: str) -> Callable[[dict[str, Any]], bytes]:
    """Put a text into each of the places where the provider's words stand."""

    def make(answer: dict[str, Any]) -> bytes:
        words = {"code": f"InternalError.{text}", "message": text}
        output = answer.get("output")
        if isinstance(output, dict):
            return json.dumps(answer | {"output": output | words, "request_id": text}).encode()
        return json.dumps(answer | words | {"request_id": text}).encode()

    return make


def _results(form: Callable[[str], Any]) -> Callable[[dict[str, Any]], bytes]:
    """Tell a finished video's link in a form of another time or model."""

    def make(answer: dict[str, Any]) -> bytes:
        output = answer.get("output")
        results = output.get("results") if isinstance(output, dict) else None
        if isinstance(output, dict) and isinstance(results, dict):
            rest = {name: value for name, value in output.items() if name != "results"}
            answer = answer | {"output": rest | form(results["video_url"])}
        return json.dumps(answer).encode()

    return make


def _numbers(digits: str) -> Callable[[dict[str, Any]], bytes]:
    """Put a number that is none into the places where numbers stand, and into a new one."""

    def make(answer: dict[str, Any]) -> bytes:
        marked = answer | {"usage": dict.fromkeys(("video_duration", "duration", "image_count"), "@"), "queue": "@"}
        return json.dumps(marked).replace('"@"', digits).encode()

    return make


def _deep(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer | {"more": "@"}).replace('"@"', "[" * 100_000 + "]" * 100_000).encode()


def _not_utf8(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer | {"note": "@"}).encode().replace(b"@", b"caf\xe9 \xff\xfe")


def _wrong_types(answer: dict[str, Any]) -> bytes:
    """Keep the names and give each value another type."""
    return json.dumps(
        {name: [value] if isinstance(value, dict) else {"value": value} for name, value in answer.items()}
    ).encode()


NONSENSE: Final[dict[str, Callable[[dict[str, Any]], bytes]]] = {
    "dates_early": _dates("0001-01-01T00:00:00+14:00", -62_135_596_800_000),
    "dates_late": _dates("9999-12-31T23:59:59-14:00", 1e300),
    "surrogates": _words("half \ud83d a pair \x00"),
    "long_texts": _words("x" * LONG),
    "results_list": _results(lambda link: {"results": [{"video_url": link}]}),
    "results_nested": _results(lambda link: {"results": {"videos": [{"url": link}], "url": link}}),
    "results_beside": _results(lambda link: {"video_url": link}),
    "numbers_huge": _numbers("1e999"),
    "numbers_nan": _numbers("NaN"),
    "numbers_long": _numbers("9" * 5000),
    "deep": _deep,
    "not_utf8": _not_utf8,
    "wrong_types": _wrong_types,
}
