"""A `DashScope` whose transport keeps what is sent and answers from a list: no socket is opened."""

from __future__ import annotations

import io
import json
from typing import Any

import requests
import urllib3
from hypothesis import settings
from requests.adapters import BaseAdapter

from portraitcast.adapters.dashscope import DashScope
from portraitcast.domain.models import MODELS, Boxes

BASE = "https://emo.example/api/v1"
EMO = MODELS["emo-v1"]
KEY = "sk-0123456789abcdef0123456789abcdef"
BOXES = Boxes((302, 286, 610, 593), (71, 9, 840, 778))
REQUEST_ID = "0d4d4f5e-1111-9c5e-8d59-b9a5fa7ab2a4"

FIXED = settings(derandomize=True, deadline=None, database=None)  # the same examples each time, however slow


class Wire(BaseAdapter):
    """A transport that keeps what was sent and answers from a list; an answer may be an error to raise."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.sent: list[requests.PreparedRequest] = []
        self.bodies: list[Any] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        answer = self.answers.pop(0)
        if isinstance(answer, requests.ConnectTimeout):
            raise answer
        body: Any = request.body
        data = b"".join(iter(body.read, b"")) if hasattr(body, "read") else body
        self.sent.append(request)
        form = request.headers.get("Content-Type", "").startswith("multipart/")
        self.bodies.append(data if form or not data else json.loads(data))
        if isinstance(answer, BaseException):
            raise answer
        status, content, headers = answer
        response = requests.Response()
        response.status_code = status
        response.headers.update(headers)
        response.raw = urllib3.HTTPResponse(io.BytesIO(content), status=status, preload_content=False)
        response.url, response.request = request.url or "", request
        return response

    def close(self) -> None:
        """Hold nothing."""


def said(status: int, body: Any, headers: dict[str, str] | None = None) -> tuple[int, bytes, dict[str, str]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status, content, headers or {}


def refusal(status: int, code: str, message: str = "no", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    return said(status, {"code": code, "message": message, "request_id": REQUEST_ID}, headers)


def client(*answers: Any, base: str = BASE, key: str = KEY) -> tuple[DashScope, Wire]:
    wire, session = Wire(*answers), requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, wire)
    return DashScope(base, lambda: key, session=session), wire
