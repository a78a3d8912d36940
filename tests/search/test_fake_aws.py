"""The clients in memory answer as moto does: each call of some histories goes to both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from fake_aws import S3, DynamoDB
from moto import mock_aws
from small_world import RESULTS, SmallWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REGION = "eu-central-1"


class Both:
    """A client that asks the fake and moto, and compares."""

    def __init__(self, fake: Any, moto: Any, like: Callable[[dict[str, Any], Any], Any]) -> None:
        self._fake = fake
        self._moto = moto
        self._like = like
        self.calls = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**given: Any) -> Any:
            self.calls += 1
            told = [_told(getattr(client, name), given) for client in (self._moto, self._fake)]
            seen = [self._like(given, answer) for answer in told]
            assert seen[0] == seen[1], f"{name} {given}"
            if isinstance(told[1], ClientError):
                raise told[1]
            return told[1]

        return call


def _told(call: Callable[..., Any], given: dict[str, Any]) -> Any:
    try:
        return call(**given)
    except ClientError as error:
        return error


def _of_table(given: dict[str, Any], answer: Any) -> Any:
    """Return what the table's adapter reads of an answer; an index, and a projection, tell keys only."""
    if isinstance(answer, ClientError):
        reasons = [r["Code"] for r in answer.response.get("CancellationReasons", [])]
        return answer.response["Error"]["Code"], reasons
    if answer is None or "Items" not in answer:
        return (answer or {}).get("Item"), (answer or {}).get("Count")
    items = answer["Items"]
    if {"IndexName", "ProjectionExpression"} & given.keys():
        items = sorted(item["sk"]["S"] for item in items)
    # Without LastEvaluatedKey: DynamoDB gives one whenever the limit is reached, moto only if more is there.
    return items, answer["Count"]


def _of_bucket(_: dict[str, Any], answer: Any) -> Any:
    """Return what the buckets' adapter reads of an answer."""
    if isinstance(answer, ClientError):
        return answer.response["Error"]["Code"]
    kept = {name: value for name, value in answer.items() if name in {"ETag", "Metadata"} and value}
    return kept | {"keys": [(c["Key"], c["ETag"]) for c in answer.get("Contents", [])]}


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        table = boto3.client("dynamodb", region_name=REGION)
        table.create_table(
            TableName="jobs",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk", "open")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "open",
                    "KeySchema": [
                        {"AttributeName": "open", "KeyType": "HASH"},
                        {"AttributeName": "pk", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        )
        bucket = boto3.client("s3", region_name=REGION)
        bucket.create_bucket(Bucket=RESULTS, CreateBucketConfiguration={"LocationConstraint": REGION})  # type: ignore[typeddict-item]  # a region
        yield table, bucket


def test_a_history_on_both(moto: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    both: list[Both] = []

    def dynamodb(outside: Any) -> Any:
        both.append(Both(DynamoDB(outside), moto[0], _of_table))
        return both[-1]

    monkeypatch.setattr("small_world.DynamoDB", dynamodb)
    world = SmallWorld()
    world.put("acme/anna.wav", "voice anna 1 2.0")
    world.put("acme/zed.png", "face zed 1")
    world.put("acme/settings.json", '{"parameters": {"style_level": "calm"}}')
    world.put("acme/bob.wav", "voice bob 1 2.0")
    world.run(25)
    world.post({"pause": True})
    world.put("acme/bob.png", "face bob 1", again=2.0)
    world.delete("acme/anna.wav")
    world.run(400)
    world.post({"pause": False})
    world.run(700)
    world.close()
    assert world.surprises == []
    assert both[0].calls > 200


def test_conditional_puts_on_both(moto: tuple[Any, Any]) -> None:
    bucket = Both(S3(lambda _, do: do()), moto[1], _of_bucket)
    put = {"Bucket": RESULTS, "Key": "a.json", "Metadata": {"revision": "1"}}

    def tried(name: str, **given: Any) -> Any:
        return _told(getattr(bucket, name), given)

    tried("head_object", Bucket=RESULTS, Key="a.json")
    tried("put_object", **put, Body=b"1", IfMatch='"nothing"')
    first = tried("put_object", **put, Body=b"1", IfNoneMatch="*")
    tried("put_object", **put, Body=b"2", IfNoneMatch="*")
    tried("put_object", **put, Body=b"2", IfMatch=first["ETag"])
    tried("put_object", **put, Body=b"3", IfMatch=first["ETag"])
    tried("head_object", Bucket=RESULTS, Key="a.json")
    tried("list_objects_v2", Bucket=RESULTS, Prefix="a", MaxKeys=10)
    tried("list_objects_v2", Bucket=RESULTS, Prefix="a", MaxKeys=10, StartAfter="a.json")
    assert bucket.calls == 9
