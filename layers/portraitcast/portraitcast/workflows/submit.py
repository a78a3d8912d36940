"""What submit does with each message: uploads, timers, commands, answers of prepare; and when it dispatches.

Prepare decodes strangers' bytes, so it has a queue of its own to answer in: nothing but an answer is taken from there,
and an answer from nowhere else. What an answer may say is bounded here, in `_prepared`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from portraitcast.adapters.records import from_plain
from portraitcast.domain.metadata import user_metadata
from portraitcast.domain.problems import Problem
from portraitcast.domain.uploads import Facts, Kind, classify
from portraitcast.errors import MessageError
from portraitcast.workflows.ingest import Arrival, Prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.queues import Queue
    from portraitcast.workflows.dispatch import Dispatch
    from portraitcast.workflows.evaluate import Evaluate
    from portraitcast.workflows.ingest import Ingest
    from portraitcast.workflows.sweep import Sweep

log = logging.getLogger(__name__)

RESERVE_SECONDS: Final = 45.0  # of the function's time: no new page is begun in it, so that dispatching has its turn
# ours: bounds of what prepare may answer, far beyond what it does
WORDS_MAX: Final = 4096  # bytes of a text; a message repeats a name of at most 1,024
CHANGES_MAX: Final = 20  # as many as a report lists
SECONDS_MAX: Final = 86_400.0
COUNT_MAX: Final = 2**40  # bytes, pixels
# What prepare may say is wrong with a file: the codes of portraitcast_media.problems, and no other's.
PROBLEMS: Final = {
    Kind.VOICE: {
        *("VoiceEmpty", "VoiceTooBig", "VoiceTooLong", "VoiceIsVideo", "VoiceSilent", "VoiceUnreadable"),
        "FileUnreadable",
    },
    Kind.PORTRAIT: {
        *("PortraitTooBig", "PortraitTooSmall", "PortraitTooLarge", "PortraitUnreadable"),
        "FileUnreadable",
    },
}


class Origin(StrEnum):
    """Where a message comes from: Lambda says it, no sender can."""

    UPLOADS = "the uploads queue"
    ANSWERS = "the answers queue"
    CALLER = "whoever may invoke the function"


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it was received: `sent_at` is when it was sent (epoch seconds)."""

    body: Mapping[str, object]
    sent_at: float
    origin: Origin = Origin.CALLER

    @classmethod
    def from_text(cls, text: str, sent_at: float, origin: Origin = Origin.CALLER) -> Received:
        """Read a message as it lies in the queue; raises `MessageError`."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:  # the latter: nested too deeply
            raise MessageError("the message is not JSON") from error
        if not isinstance(body, dict):
            raise MessageError("the message is not a JSON object")
        return cls(body, sent_at, origin)

    def check_origin(self) -> None:
        """Raise `MessageError` where its kind doesn't come from there: a fault, or a hand that is none of ours."""
        if self.origin is Origin.ANSWERS and self.body.keys() != {"prepared"}:
            raise MessageError(f"{self.origin} takes nothing but an answer of prepare: {_kinds(self.body)}")
        if self.origin is Origin.UPLOADS and "prepared" in self.body:
            raise MessageError(f"an answer of prepare does not come from {self.origin}")

    @property
    def asks_to_dispatch(self) -> bool:
        """Whether dispatching follows it. What evaluating a job brings into the queue has a wake-up of its own."""
        return any(kind in self.body for kind in ("wake", "sweep", "pause"))

    @property
    def hops(self) -> int:
        """How many messages of ours, sent without a delay, led to this one."""
        hops = self.body.get("hops", 0)
        return hops if isinstance(hops, int) and hops >= 0 else 0

    @property
    def about(self) -> dict[str, str]:
        """The ``key`` or the ``job`` that it is about, for the log."""
        match self.body:
            case {"Records": [{"s3": {"object": {"key": str() as key}}}, *_]}:
                return {"key": unquote_plus(key)}
            case {"source": "aws.s3", "detail": {"object": {"key": str() as key}}}:
                return {"key": key}
            case {"ingest": str() as key} | {"prepared": {"key": str() as key}}:
                return {"key": key}
            case {"reconcile": str() as job} | {"approve": str() as job}:
                return {"job": job}
        return {}

    @property
    def cursor(self) -> str | None:
        """Where an earlier message of its kind left off."""
        cursor = self.body.get("cursor")
        return cursor if isinstance(cursor, str) else None


class Submit:
    """Handles the messages of submit's two queues."""

    def __init__(
        self,
        ingest: Ingest,
        evaluate: Evaluate,
        dispatch: Dispatch,
        sweep: Sweep,
        queue: Queue,
        *,
        bucket: str,
        clock: Callable[[], float],
        prefix: str = "",
    ) -> None:
        self._ingest = ingest
        self._evaluate = evaluate
        self._dispatch = dispatch
        self._sweep = sweep
        self._queue = queue
        self._bucket = bucket
        self._prefix = prefix
        self._clock = clock
        self._hops = 0  # of the messages that dispatching is to follow

    def handle(self, message: Received, ends_at: float) -> None:
        """Handle one message, S3's events or one of ours (docs/design.md lists them); raises `MessageError`.

        The function's time ends at `ends_at` (epoch).
        """
        message.check_origin()
        if message.asks_to_dispatch:
            self._hops = max(self._hops, message.hops)
        with self._queue.handling(message.hops):
            try:
                self._handle(message, ends_at - RESERVE_SECONDS)
            except ValueError as error:  # a key that no object can have, a fault in a hostile message
                raise MessageError(str(error)) from error

    def _handle(self, message: Received, until: float) -> None:  # noqa: C901, PLR0912  # a case for each kind of message
        match message.body:
            case {"Records": list() as records}:
                for record in records:
                    self._arrive(*_arrival(record))
            case {"source": "aws.s3", "detail-type": "Object Created" | "Object Deleted"}:
                self._arrive(*_bridged(message.body))
            case {"Event": "s3:TestEvent"} | {"wake": True} | {"source": "aws.s3"}:
                pass  # dispatching, which follows, is all that a wake-up is for
            case {"prepared": Mapping() as answer}:
                self._ingest.prepared(_prepared(answer))
            case {"ingest": str() as key}:
                self._ingest.arrive(Arrival(key))
            case {"scan": str() as prefix}:
                self._ingest.scan(prefix, _text(message.body.get("after")), until)
            case {"folder": str() as folder}:
                self._evaluate.folder(folder, message.cursor, until)
            case {"reconcile": str() as job}:
                self._sweep.reconcile(job)
            case {"approve": str() as job, "revision": int() as revision, "cny": int() | float() as cny}:
                self._evaluate.approve(job, revision, cny)
            case {"pause": bool() as paused}:
                at = _moment(message.body.get("at"))
                self._dispatch.pause(message.sent_at if at is None else at, paused=paused)
            case {"held": True}:
                self._dispatch.show_held(message.cursor, until)
            case {"sweep": True}:
                self._sweep.run(message.cursor, until)
            case _:
                raise MessageError(f"unknown message type: {_kinds(message.body)}")

    def dispatch(self, ends_at: float) -> None:
        """Send what can be sent. Never fails the messages that it follows: the schedule tries again."""
        hops, self._hops = self._hops, 0
        try:
            with self._queue.handling(hops):
                self._dispatch.run(ends_at)
        except Exception:
            log.exception("dispatch was broken off")

    def _arrive(self, arrival: Arrival, bucket: str) -> None:
        if bucket != self._bucket:
            log.warning("an event of another bucket is left alone", extra={"bucket": bucket, "key": arrival.key})
            return
        if arrival.key.startswith(self._prefix):  # else it is somebody else's file
            self._ingest.arrive(replace(arrival, key=arrival.key.removeprefix(self._prefix)))


def _arrival(record: object) -> tuple[Arrival, str]:
    """Read a record of S3 (Amazon S3, "Event message structure"): what arrived, and in which bucket."""
    s3 = _object(_object(record).get("s3"))
    there = _object(s3.get("object"))
    key, event = there.get("key"), _object(record).get("eventName")
    if not isinstance(key, str) or not isinstance(event, str):
        raise MessageError("an S3 event lacks its key or its name")
    removed = event.removeprefix("s3:").startswith("ObjectRemoved:")
    version, etag, at = there.get("versionId"), there.get("eTag"), _object(record).get("eventTime")
    return _arrived(unquote_plus(key), version, etag, there, removed=removed, at=at), _bucket_of(s3)


def _bridged(event: Mapping[str, object]) -> tuple[Arrival, str]:
    """Read what S3 tells EventBridge (Amazon S3, "EventBridge event message structure"), as `_arrival` does.

    Its key is not encoded. A bucket without versions sends no version id.
    """
    detail = _object(event.get("detail"))
    there = _object(detail.get("object"))
    key = there.get("key")
    if not isinstance(key, str):
        raise MessageError("an event of EventBridge lacks its key")
    removed = event["detail-type"] == "Object Deleted"
    version, etag, at = there.get("version-id"), there.get("etag"), event.get("time")
    return _arrived(key, version, etag, there, removed=removed, at=at), _bucket_of(detail)


def _arrived(
    key: str, version: object, etag: object, there: Mapping[str, object], *, removed: bool, at: object
) -> Arrival:
    """Return what arrived, from what both kinds of events say of an object."""
    size = there.get("size")
    return Arrival(
        key=key,
        version=_text(version) or (None if size is None else "null"),
        etag=_text(etag) or "",
        bytes=size if isinstance(size, int) else None,
        sequencer=_text(there.get("sequencer")) or "",
        removed=removed,
        at=_moment(at),
    )


def _bucket_of(place: Mapping[str, object]) -> str:
    return _text(_object(place.get("bucket")).get("name")) or ""


def _kinds(body: Mapping[str, object]) -> str:
    return ", ".join(sorted(body))[:200]


def _prepared(answer: Mapping[str, object]) -> Prepared:
    """Read what prepare answers; raises `MessageError`.

    Prepare decodes strangers' bytes, so what it says is held against what can be: a voice without a length, or another
    file's asset, must not become a paid task.
    """
    key, version = _text(answer.get("key")), _text(answer.get("version"))
    if key is None or version is None:
        raise MessageError("an answer of prepare lacks its key or its version")
    name = classify(key)
    if name is None or name.kind.is_settings:
        raise MessageError("an answer of prepare is about no voice and no picture")
    try:
        facts = _facts(answer, name.kind)
        if facts is not None and name.kind is Kind.VOICE:
            facts = replace(facts, metadata=_metadata(answer))
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise MessageError("an answer of prepare is not to be understood") from error
    return Prepared(key, version, _text(answer.get("etag")) or "", facts)


def _facts(answer: Mapping[str, object], kind: Kind) -> Facts | None:
    """Return what an answer says of a version, None where it is gone."""
    if isinstance(found := answer.get("facts"), Mapping):
        facts = from_plain(Facts, found)
        if not _can_be(facts, kind):
            raise MessageError(f"an answer of prepare holds what no {kind} can be")
        return facts
    if isinstance(said := answer.get("problem"), Mapping):
        problem = from_plain(Problem, said)
        words = (problem.code, problem.message, problem.what_to_do)
        others = (problem.limit, problem.measured)
        if not all(_are_words(each) for each in words) or not all(each is None or _are_words(each) for each in others):
            raise MessageError("an answer of prepare holds a problem without words")
        if problem.code not in PROBLEMS[kind]:
            raise MessageError(f"an answer of prepare holds a problem that is not of a {kind}: {problem.code[:50]}")
        return Facts(problem=Problem(*words, *others))
    if answer.get("gone") is True:
        return None
    raise MessageError("an answer of prepare holds neither facts nor a problem")


def _metadata(answer: Mapping[str, object]) -> dict[str, str] | None:
    """Return the user metadata of the version, None where it couldn't be read."""
    said = answer.get("metadata")
    if said is None:
        return None
    if not isinstance(said, Mapping) or not all(isinstance(text, str) for pair in said.items() for text in pair):
        raise MessageError("an answer of prepare holds metadata that no object can have")
    return user_metadata(said)


def _can_be(facts: Facts, kind: Kind) -> bool:
    """Say whether a voice or a picture that can be used may have these facts."""
    if facts.problem is not None or not _is_digest(facts.sha256) or not _are_words(facts.type):
        return False
    if kind is Kind.VOICE:
        measured = facts.seconds is not None and 0 < facts.seconds <= SECONDS_MAX
    else:
        measured = _is_count(facts.width) and _is_count(facts.height)
    few = len(facts.changes) <= CHANGES_MAX and all(_are_words(change) for change in facts.changes)
    return measured and few and (_is_asset_of(facts) if facts.asset else facts.plain is True)


def _is_asset_of(facts: Facts) -> bool:
    asset = facts.asset
    return (
        asset is not None
        and isinstance(facts.plain, bool)
        and _are_words(asset.key)
        and asset.key.startswith(f"assets/{facts.sha256}-")
        and _is_digest(asset.sha256)
        and _is_count(asset.bytes)
        and _are_words(asset.type)
    )


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < COUNT_MAX


def _are_words(value: object) -> bool:
    """Say whether a value is a text of some length that UTF-8 can write; raises `ValueError` where it can't."""
    return isinstance(value, str) and 0 < len(value.encode()) <= WORDS_MAX


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _moment(value: object) -> float | None:
    """Read an ISO 8601 time as epoch seconds; None for anything else."""
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
