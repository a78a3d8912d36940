"""What of AWS the product's adapters use, in memory: a call takes microseconds, and each is one that can go wrong.

The clients take boto3's arguments and raise botocore's errors, so the adapters above them are the product's own. Of
expressions and conditions they know what the adapters write, and refuse the rest. `test_fake_aws.py` holds them
against moto.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    Outside = Callable[[str, Callable[[], Any]], Any]
    Item = dict[str, Any]

TRANSACTION_MAX: Final = 100  # DynamoDB, "TransactWriteItems": writes of one transaction
_COMPARE: Final = {"=": operator.eq, "<": operator.lt, ">": operator.gt}


def refusal(operation: str, code: str, status: int = 400, **more: Any) -> ClientError:
    """Return the error that botocore raises for an answer of AWS."""
    answer: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(answer, operation)


def _value(attribute: Any) -> Any:
    """Return an attribute as conditions compare it."""
    ((kind, value),) = attribute.items()
    return float(value) if kind == "N" else value


class Expressions:
    """One call's expressions, with their names and values."""

    def __init__(self, call: dict[str, Any]) -> None:
        self._names: dict[str, str] = call.get("ExpressionAttributeNames", {})
        self._values: dict[str, Any] = call.get("ExpressionAttributeValues", {})
        self._condition: str | None = call.get("ConditionExpression")
        self._update: str = call.get("UpdateExpression", "")

    def holds(self, item: Item | None) -> bool:
        """Say whether the call's condition holds for an item."""
        if self._condition is None:
            return True
        return any(
            all(self._holds(item or {}, c) for c in part.split(" AND ")) for part in self._condition.split(" OR ")
        )

    def _holds(self, item: Item, condition: str) -> bool:
        if found := re.fullmatch(r"attribute_(not_)?exists\((\S+)\)", condition):
            return (self._find(item, found[2]) is None) == bool(found[1])
        path, sign, value = condition.split(" ")
        there = self._find(item, path)
        return there is not None and bool(_COMPARE[sign](_value(there), _value(self._values[value])))

    def updated(self, item: Item) -> Item:
        """Return an item as the call's update leaves it."""
        item = dict(item)
        parts = re.split(r"\b(SET|REMOVE|ADD) ", self._update)[1:]
        for verb, actions in zip(parts[::2], parts[1::2], strict=True):
            for action in actions.strip().split(", "):
                self._act(item, verb, action)
        return item

    def _act(self, item: Item, verb: str, action: str) -> None:
        if verb == "REMOVE":
            *above, last = self._path(action)
            for part in above:
                item[part] = {"M": dict(item[part]["M"])}
                item = item[part]["M"]
            item.pop(last, None)
            return
        path, value = re.split(r" = | ", action)
        (name,) = self._path(path)
        if verb == "SET":
            item[name] = self._values[value]
        else:
            item[name] = {"N": str(int(item.get(name, {"N": "0"})["N"]) + int(self._values[value]["N"]))}

    def _path(self, path: str) -> list[str]:
        return [self._names.get(part, part) for part in path.split(".")]

    def _find(self, item: Item, path: str) -> Any:
        first, *rest = self._path(path)
        found = item.get(first)
        for part in rest:
            found = found["M"].get(part) if found else None
        return found


class DynamoDB:
    """One table with a partition key ``pk``, a sort key ``sk`` and the sparse index ``open``."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self.partitions: dict[str, dict[str, Item]] = {}

    def get_item(self, **call: Any) -> dict[str, Any]:
        """Read an item."""

        def do() -> dict[str, Any]:
            item = self._item(call["Key"])
            return {"Item": dict(item)} if item is not None else {}

        return dict(self._outside("get_item", do))

    def put_item(self, **call: Any) -> None:
        """Write an item."""
        self._outside("put_item", lambda: self._write("PutItem", [{"Put": call}]))

    def update_item(self, **call: Any) -> None:
        """Change an item."""
        self._outside("update_item", lambda: self._write("UpdateItem", [{"Update": call}]))

    def transact_write_items(self, *, TransactItems: list[dict[str, Any]]) -> None:  # noqa: N803  # boto3's names
        """Write several items, or none."""
        self._outside("transact_write_items", lambda: self._write("TransactWriteItems", TransactItems))

    def _item(self, key: Item) -> Item | None:
        return self.partitions.get(key["pk"]["S"], {}).get(key["sk"]["S"])

    def _write(self, operation: str, writes: list[dict[str, Any]]) -> None:
        calls = [(verb, call) for write in writes for verb, call in write.items()]
        keys = [call["Item"] if verb == "Put" else call["Key"] for verb, call in calls]
        places = [(key["pk"]["S"], key["sk"]["S"]) for key in keys]
        assert len(set(places)) == len(places) <= TRANSACTION_MAX, f"DynamoDB takes no such transaction: {places}"
        well = [Expressions(call).holds(self._item(key)) for (_, call), key in zip(calls, keys, strict=True)]
        if not all(well):
            if operation != "TransactWriteItems":
                raise refusal(operation, "ConditionalCheckFailedException")
            reasons = [{"Code": "None" if fine else "ConditionalCheckFailed"} for fine in well]
            raise refusal(operation, "TransactionCanceledException", CancellationReasons=reasons)
        for (verb, call), (pk, sk) in zip(calls, places, strict=True):
            partition = self.partitions.setdefault(pk, {})
            if verb == "Put":
                partition[sk] = dict(call["Item"])
            elif verb == "Delete":
                partition.pop(sk, None)
            else:
                partition[sk] = Expressions(call).updated(partition.get(sk, dict(call["Key"])))

    def query(self, **call: Any) -> dict[str, Any]:
        """List items."""
        return dict(self._outside("query", lambda: self._query(call)))

    def _query(self, call: dict[str, Any]) -> dict[str, Any]:
        values = {name: value["S"] for name, value in call["ExpressionAttributeValues"].items()}
        start = call.get("ExclusiveStartKey")
        after = (start["pk"]["S"], start["sk"]["S"]) if start else ("", "")
        if call.get("IndexName") == "open":
            every = ((pk, sk, i) for pk, p in self.partitions.items() for sk, i in p.items() if "open" in i)
        else:
            every = ((values[":p"], sk, i) for sk, i in self.partitions.get(values[":p"], {}).items())
        found = sorted((pk, sk) for pk, sk, _ in every if _wanted(call["KeyConditionExpression"], sk, values))
        found = [place for place in found if place > after]
        limit = call.get("Limit")
        page = found if limit is None else found[:limit]
        answer: dict[str, Any] = {
            "Items": [dict(self.partitions[pk][sk]) for pk, sk in page],
            "Count": len(page),
            "ScannedCount": len(page),
        }
        if limit is not None and page and len(page) == limit:
            answer["LastEvaluatedKey"] = {"pk": {"S": page[-1][0]}, "sk": {"S": page[-1][1]}}
        if call.get("Select") == "COUNT":
            del answer["Items"]
        return answer


def _wanted(condition: str, sk: str, values: dict[str, str]) -> bool:
    """Say whether a sort key is one that a query's condition asks for."""
    match condition.partition(" AND ")[2]:
        case "":
            return True
        case "begins_with(sk, :s)":
            return sk.startswith(values[":s"])
        case "sk BETWEEN :a AND :b":
            return values[":a"] <= sk <= values[":b"]
        case other:
            raise AssertionError(f"a condition that nobody wrote before: {other}")


@dataclass
class Version:
    """One version of an object, or its delete marker."""

    id: str
    etag: str
    body: bytes | None
    metadata: dict[str, str]


class _Body(io.BytesIO):
    """A body as the adapters read one."""


class S3:
    """Buckets; those named in `versioned` keep every version."""

    def __init__(self, outside: Outside, *versioned: str) -> None:
        self._outside = outside
        self._versioned = versioned
        self._ids = itertools.count(1)
        self.buckets: dict[str, dict[str, list[Version]]] = {}
        self.on_put: list[Callable[[str, str, Version, Version | None], None]] = []

    def current(self, bucket: str, key: str) -> Version | None:
        """Return what lies under a key now."""
        versions = self.buckets.get(bucket, {}).get(key)
        return versions[-1] if versions and versions[-1].body is not None else None

    def store(self, bucket: str, key: str, body: bytes | None, metadata: dict[str, str] | None = None) -> Version:
        """Put an object, or a delete marker, without asking anybody."""
        version = f"v{next(self._ids)}" if bucket in self._versioned else "null"
        etag = f'"{hashlib.md5(body or b"", usedforsecurity=False).hexdigest()}"'
        there = self.current(bucket, key)
        versions = self.buckets.setdefault(bucket, {}).setdefault(key, [])
        if bucket not in self._versioned:
            versions.clear()
        versions.append(Version(version, etag, body, metadata or {}))
        for told in self.on_put:
            told(bucket, key, versions[-1], there)
        return versions[-1]

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803  # boto3's names
        """Tell of an object as it is now."""

        def do() -> dict[str, Any]:
            there = self.current(Bucket, Key)
            if there is None:
                raise refusal("HeadObject", "404", 404)
            return self._told(there) | {"ContentLength": len(there.body or b"")}

        return dict(self._outside("head_object", do))

    def _told(self, version: Version) -> dict[str, Any]:
        told: dict[str, Any] = {"ETag": version.etag, "Metadata": dict(version.metadata)}
        return told if version.id == "null" else told | {"VersionId": version.id}

    def get_object(self, *, Bucket: str, Key: str, VersionId: str | None = None, IfMatch: str | None = None) -> Any:  # noqa: N803  # boto3's names
        """Read an object."""

        def do() -> dict[str, Any]:
            versions = self.buckets.get(Bucket, {}).get(Key, [])
            found = [v for v in versions if v.id == VersionId] if VersionId else versions[-1:]
            if not found or found[0].body is None:
                raise refusal("GetObject", "NoSuchVersion" if VersionId else "NoSuchKey", 404)
            if IfMatch is not None and found[0].etag != IfMatch:
                raise refusal("GetObject", "PreconditionFailed", 412)
            return self._told(found[0]) | {"Body": _Body(found[0].body)}

        return self._outside("get_object", do)

    def list_objects_v2(self, *, Bucket: str, Prefix: str, MaxKeys: int, StartAfter: str = "") -> dict[str, Any]:  # noqa: N803  # boto3's names
        """List what there is now."""

        def do() -> dict[str, Any]:
            keys = sorted(k for k in self.buckets.get(Bucket, {}) if k.startswith(Prefix) and k > StartAfter)
            there = [(key, self.current(Bucket, key)) for key in keys]
            return {"Contents": [{"Key": k, "ETag": v.etag} for k, v in there if v is not None][:MaxKeys]}

        return dict(self._outside(f"list_objects_v2 {Prefix}", do))

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803  # boto3's names
        Key: str,  # noqa: N803
        Body: Any,  # noqa: N803
        Metadata: dict[str, str],  # noqa: N803
        IfMatch: str | None = None,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        """Put an object, if the condition holds."""
        body = Body if isinstance(Body, bytes) else bytes(Body.read())

        def do() -> dict[str, Any]:
            there = self.current(Bucket, Key)
            if IfMatch is not None and there is None:
                raise refusal("PutObject", "NoSuchKey", 404)
            if (IfMatch is not None and there is not None and there.etag != IfMatch) or (IfNoneMatch and there):
                raise refusal("PutObject", "PreconditionFailed", 412)
            return {"ETag": self.store(Bucket, Key, body, Metadata).etag}

        return dict(self._outside("put_object", do))


@dataclass
class Run:
    """An execution of the wait loop: its state is what the last step left."""

    name: str
    state: dict[str, Any]
    input: dict[str, Any]
    status: str = "RUNNING"
    tries: int = 0  # of the step that it is at


@dataclass
class StepFunctions:
    """Executions by name; `begin` is called with each that is started."""

    outside: Outside
    begin: Callable[[Run], None]
    runs: dict[str, Run] = field(default_factory=dict)

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> None:  # noqa: A002, ARG002, N803  # boto3's names
        """Start an execution."""

        def do() -> None:
            given = json.loads(input)
            if name in self.runs:
                if self.runs[name].status == "RUNNING" and self.runs[name].input == given:
                    return
                raise refusal("StartExecution", "ExecutionAlreadyExists")
            self.runs[name] = Run(name, given, given)
            self.begin(self.runs[name])

        self.outside("start_execution", do)

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803  # boto3's names
        """Tell of an execution."""

        def do() -> dict[str, Any]:
            run = self.runs.get(executionArn.rpartition(":")[2])
            if run is None:
                raise refusal("DescribeExecution", "ExecutionDoesNotExist")
            return {"status": run.status}

        return dict(self.outside("describe_execution", do))

    def get_execution_history(self, **_: Any) -> dict[str, Any]:
        """Tell why an execution failed."""
        return dict(self.outside("get_execution_history", lambda: {"events": []}))


@dataclass
class Messages:
    """The parts of SQS, SNS and EventBridge that the adapters use."""

    outside: Outside
    deliver: Callable[[str, dict[str, Any], float], None]
    events: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def send_message(self, *, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0) -> None:  # noqa: N803  # boto3's names
        """Put a message into a queue."""
        assert 0 <= DelaySeconds <= 900
        self.outside("send_message", lambda: self.deliver(QueueUrl, json.loads(MessageBody), DelaySeconds))

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  # boto3's names
        """Put events on a bus."""

        def do() -> dict[str, Any]:
            self.events.extend(json.loads(entry["Detail"]) for entry in Entries)
            return {"FailedEntryCount": 0, "Entries": []}

        return dict(self.outside("put_events", do))

    def publish(self, *, TopicArn: str, Subject: str, **_: Any) -> None:  # noqa: N803  # boto3's names
        """Publish a notice."""
        self.outside("publish", lambda: self.notices.append(f"{TopicArn}: {Subject}"))
