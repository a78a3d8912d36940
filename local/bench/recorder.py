"""Laid beside the functions of a measured stack as ``sitecustomize``: writes down their calls and invocations.

It is no part of the product: nothing of it is in template.yaml or in the layer. ``recorder.json`` beside it names the
folder; each line of ``calls.jsonl`` there is one call (`Call`) or one invocation (`Invocation`) of `bench.stack`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.client
import requests.adapters

READ_UNIT, WRITE_UNIT = 4096, 1024  # bytes (DynamoDB, read and write request units)


def item_bytes(item: dict[str, Any]) -> int:
    """Return about what DynamoDB counts as an item's size: names and values."""
    return sum(len(name.encode()) + len(str(next(iter(value.values()))).encode()) for name, value in item.items())


def units(operation: str, params: dict[str, Any], answer: dict[str, Any]) -> tuple[int, int]:
    """Return the read and write request units of a DynamoDB call; an update or a deletion counts as one kB."""
    match operation:
        case "PutItem":
            return 0, -(-item_bytes(params["Item"]) // WRITE_UNIT)
        case "TransactWriteItems":
            items = [write.get("Put", {}).get("Item", {}) for write in params["TransactItems"]]
            return 0, 2 * sum(max(1, -(-item_bytes(item) // WRITE_UNIT)) for item in items)
        case "UpdateItem" | "DeleteItem":
            return 0, 1
    items = answer.get("Items") or [answer.get("Item") or {}]
    return max(1, -(-sum(map(item_bytes, items)) // READ_UNIT)), 0


def aws_kind(service: str, operation: str, params: dict[str, Any]) -> str:
    """Name a call of AWS: ``s3.PutObject .mp4``."""
    suffix = f" {Path(params['Key']).suffix}" if service == "s3" and "Key" in params else ""
    return f"{service}.{operation}{suffix}"


def http_kind(method: str, url: str) -> str:
    """Name a call of the video service."""
    path = urlsplit(url).path
    names = {"face-detect": "check", "video-synthesis": "create", "/cancel": "cancel", "/tasks/": "query"}
    return next((f"emo.{name}" for part, name in names.items() if part in path), f"video.{method}")


def install() -> None:
    """Put a stopwatch round each outside call and each invocation."""
    import awslambdaric.bootstrap  # type: ignore[import-not-found]  # noqa: PLC0415  # only where functions run

    folder = json.loads(Path(__file__).with_name("recorder.json").read_text("utf-8"))["folder"]
    path, name = Path(folder) / "calls.jsonl", os.environ["AWS_LAMBDA_FUNCTION_NAME"].lower()
    function = next((known for known in ("submit", "prepare", "status", "deliver") if known in name), "")
    make_api_call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]
    send = requests.adapters.HTTPAdapter.send
    handle = awslambdaric.bootstrap.handle_event_request
    cpu_before = [0.0]  # a cold start's own CPU time counts as its first invocation's

    def write(**entry: Any) -> None:
        with path.open("ab", buffering=0) as file:  # one write: lines of several processes don't mix
            file.write(json.dumps({"function": function, **entry}).encode() + b"\n")

    def aws(self: Any, operation_name: str, api_params: dict[str, Any]) -> Any:
        began = time.time()
        answer: dict[str, Any] = {}
        try:
            answer = make_api_call(self, operation_name, api_params)
        finally:
            service = self.meta.service_model.service_name
            count = units(operation_name, api_params, answer) if service == "dynamodb" else (0, 0)
            write(call=aws_kind(service, operation_name, api_params), began=began, ended=time.time(), units=count)
        return answer

    def http(self: Any, request: Any, **kwargs: Any) -> Any:
        began = time.time()
        try:
            return send(self, request, **kwargs)
        finally:
            write(call=http_kind(request.method, request.url), began=began, ended=time.time(), units=(0, 0))

    def invocation(*args: Any, **kwargs: Any) -> Any:
        began, cold = time.time(), cpu_before[0] == 0
        try:
            return handle(*args, **kwargs)
        finally:
            used = time.process_time()
            write(cold=cold, began=began, ended=time.time(), cpu=used - cpu_before[0])
            cpu_before[0] = used

    botocore.client.BaseClient._make_api_call = aws  # type: ignore[attr-defined]
    requests.adapters.HTTPAdapter.send = http  # type: ignore[assignment, method-assign]
    awslambdaric.bootstrap.handle_event_request = invocation


if __name__ == "sitecustomize":
    install()
