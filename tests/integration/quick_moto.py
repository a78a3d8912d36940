"""Spares moto what it does at every call and no test needs; what it answers stays the same.

- A transaction copies the whole table once for each of its writes: the items that it writes are enough to undo it.
- An answer of DynamoDB is rebuilt along the service's model: it is JSON already.
- Each subscription to a topic makes an RSA key to sign its messages with: one for all does.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import rsa
from moto.core.responses import ActionResult
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoResult
from moto.sns.models import Subscription

if TYPE_CHECKING:
    from moto.core.responses import ActionContext
    from moto.dynamodb.models.dynamo_type import Item

_transact = DynamoDBBackend.transact_write_items


def _place(backend: DynamoDBBackend, operation: dict[str, Any]) -> tuple[dict[Any, Item], DynamoType]:
    """Return where a table with a range key keeps the item that one write of a transaction is about."""
    ((verb, write),) = operation.items()
    table = backend.get_table(write["TableName"])
    attributes = write["Item" if verb == "Put" else "Key"]
    partition: dict[Any, Item] = table.items[DynamoType(attributes[table.hash_key_attr])]
    return partition, DynamoType(attributes[table.range_key_attr])


def transact_write_items(self: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
    """Write a transaction, or put back what its items were."""
    places = [_place(self, operation) for operation in transact_items]
    before = [copy.deepcopy(partition.get(key)) for partition, key in places]
    try:
        _transact(self, transact_items)
    except Exception:
        for (partition, key), item in zip(places, before, strict=True):
            if item is None:
                partition.pop(key, None)
            else:
                partition[key] = item
        raise


def execute_result(self: DynamoResult, context: ActionContext) -> Any:
    """Answer with what the backend gave; what JSON has no form for (a table's age) goes moto's way."""
    try:
        return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(self.result)
    except TypeError:
        return ActionResult.execute_result(self, context)


@cache
def private_key() -> rsa.RSAPrivateKey:
    """Return the one key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def use() -> None:
    """Have moto do so from now on, in this process."""
    DynamoDBBackend.transact_write_items = transact_write_items  # type: ignore[method-assign]
    Table.__deepcopy__ = lambda self, _memo: self  # type: ignore[attr-defined]  # nobody else copies tables here
    DynamoResult.execute_result = execute_result  # type: ignore[assignment,method-assign]
    Subscription.private_key = lambda _self: private_key()  # type: ignore[assignment,method-assign]
