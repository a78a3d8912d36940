"""What CloudWatch makes of logs, for the local engine: saved queries, and metrics that functions log."""

# mypy: disable-error-code="no-untyped-call,no-untyped-def"
from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def keep_saved_queries(handlers: dict[str, dict[str, Any]], logs: Any) -> None:
    """Keep ``AWS::Logs::QueryDefinition``, which MiniStack doesn't know, and answer DescribeQueryDefinitions."""
    queries: dict[str, dict[str, Any]] = {}
    handle = logs.handle_request

    def keep(identifier: str, properties: dict[str, Any]) -> None:
        queries[identifier] = {
            "queryLanguage": properties.get("QueryLanguage", "CWLI"),
            "queryDefinitionId": identifier,
            "name": properties["Name"],
            "queryString": properties["QueryString"],
            "logGroupNames": properties.get("LogGroupNames", []),
            "lastModified": int(time.time() * 1000),
        }

    def create(_logical_id: str, properties: dict[str, Any], _stack: str) -> Any:
        identifier = str(uuid.uuid4())
        keep(identifier, properties)
        return identifier, {"QueryDefinitionId": identifier}

    def update(physical_id: str, _old: Any, new: dict[str, Any], *_: Any, **__: Any) -> Any:
        keep(physical_id, new)
        return physical_id, {"QueryDefinitionId": physical_id}

    def delete(physical_id: str, *_: Any) -> None:
        queries.pop(physical_id, None)

    async def handle_request(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
        if not headers.get("x-amz-target", "").endswith(".DescribeQueryDefinitions"):
            return await handle(method, path, headers, body, query)
        prefix = json.loads(body or b"{}").get("queryDefinitionNamePrefix", "")
        found = [each for each in queries.values() if each["name"].startswith(prefix)]
        return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps({"queryDefinitions": found}).encode()

    handlers["AWS::Logs::QueryDefinition"] = {"create": create, "update": update, "delete": delete}
    logs.handle_request = handle_request


def read_logged_metrics(log: str) -> Iterator[tuple[str, str, float, str, dict[str, str]]]:
    """Yield namespace, name, value, unit and dimensions of each metric in a log's lines.

    By CloudWatch's "Specification: Embedded metric format"; a line that isn't of that format is none.
    """
    for line in log.splitlines():
        if '"_aws"' not in line:
            continue
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(line[line.index("{") :])
            for directive in record["_aws"]["CloudWatchMetrics"]:
                for names in directive["Dimensions"]:
                    dimensions = {name: str(record[name]) for name in names}
                    for metric in directive["Metrics"]:
                        values = record[metric["Name"]]
                        for value in values if isinstance(values, list) else [values]:
                            unit = metric.get("Unit", "None")
                            yield directive["Namespace"], metric["Name"], float(value), unit, dimensions


def take_logged_metrics(lambda_service: Any, cloudwatch: Any) -> None:
    """Make metrics of what functions log in the embedded metric format, as CloudWatch does.

    Alarms don't look at them: MiniStack compares an alarm with a metric's name alone, whatever its dimensions.
    """
    emit = lambda_service._emit_lambda_logs

    def emit_and_take(func: Any, request_id: str, log: str, *args: Any, **kwargs: Any) -> None:
        emit(func, request_id, log, *args, **kwargs)
        for namespace, name, value, unit, dimensions in read_logged_metrics(log or ""):
            cloudwatch.record_metric(namespace, name, value, unit, dimensions)

    lambda_service._emit_lambda_logs = emit_and_take
