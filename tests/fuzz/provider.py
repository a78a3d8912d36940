"""The provider as a stranger: any bytes as the answer of any call, for each model."""

# ruff: noqa: PT017  # what is asserted is that errors stay short and storable
from __future__ import annotations

import io
import json
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import requests
import urllib3

from portraitcast.adapters.dashscope import DashScope, ProviderError
from portraitcast.domain.models import MODELS, Boxes, Model

if TYPE_CHECKING:
    from collections.abc import Callable

BOXES = Boxes((302, 286, 610, 593), (71, 9, 840, 778))
STATUSES = (200, 200, 200, 200, 400, 401, 403, 404, 409, 429, 500, 503)
OUTCOME_MAX = 20_000  # characters of whatever a call other than the list gives, as JSON
CALLS: tuple[Callable[[DashScope, Model], object], ...] = (
    lambda service, model: service.check_portrait(model, "https://a.example/a.png", {}),
    lambda service, model: service.create(
        model,
        image_url="https://a",
        audio_url="https://b",
        boxes=BOXES if model.takes_boxes else None,
        parameters={},
    ),
    lambda service, _: service.query("a-task"),
    lambda service, model: service.list_tasks(model),
    lambda service, _: service.cancel("a-task"),
    lambda service, model: service.upload(model, io.BytesIO(b"abc"), "a.wav", 3),
)


class Wire:
    """A session that answers with the same bytes again and again."""

    def __init__(self, status: int, content: bytes) -> None:
        self._status = status
        self._content = content

    def request(self, *_: Any, **__: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = self._status
        response.headers["Retry-After"] = self._content[:9].decode("latin-1")
        response.raw = urllib3.HTTPResponse(io.BytesIO(self._content), preload_content=False)
        return response


def provider(data: bytes) -> object:
    """The first byte chooses call, model and status, the others are the answer."""
    choice, status = divmod(data[0] if data else 0, len(STATUSES))
    turn, call = divmod(choice, len(CALLS))
    model = list(MODELS.values())[turn % len(MODELS)]
    session: Any = Wire(STATUSES[status], data[1:])
    service = DashScope("https://service.example/api/v1", lambda: "sk-fuzzfuzzfuzzfuzz", session=session)
    try:
        outcome = CALLS[call](service, model)
    except ProviderError as error:
        assert len(str(error)) < 700
        str(error).encode()
        json.dumps(vars(error), allow_nan=False)
        return str(error)
    if not isinstance(outcome, list):
        told = asdict(outcome) if is_dataclass(outcome) and not isinstance(outcome, type) else outcome
        text = json.dumps(told, default=str, ensure_ascii=False, allow_nan=False)
        text.encode()
        assert len(text) < OUTCOME_MAX
    return outcome
