"""What an event takes of DynamoDB in folders and queues of 100, 10,000 and 100,000: read and write units, and calls.

The product's own workflows over moto, in the tests' world (tests/integration/world.py). moto gives no true capacity, so
units are computed from the sizes of the items that a call reads or writes, as DynamoDB counts them ("DynamoDB read and
write operations"): a query is charged for what it looks at, whatever it gives back.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID  # type: ignore[attr-defined]  # as moto's own pages import it
from moto.dynamodb.models import dynamodb_backends

from bench.document import Mark, Section, Table
from bench.recorder import READ_UNIT, item_bytes, units
from portraitcast.domain.job import iso
from portraitcast.domain.uploads import short_hash
from run import ROOT
from simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = (100, 10_000, 100_000)
PARTITION_READS, PARTITION_WRITES = 3_000, 1_000  # units a second (DynamoDB, "Best practices for partition keys")
FLAT = 1.05  # ours: 100,000 beside 10,000
MODEL = "emo-v1"
FOLDER = "acme"


@dataclass
class Taken:
    """What an event has taken: calls of DynamoDB, read units, write units; and the most read of one partition."""

    calls: int = 0
    reads: float = 0.0
    writes: int = 0
    partitions: dict[str, float] = field(default_factory=dict)

    def note(self, operation: str, params: dict[str, Any], answer: dict[str, Any], entry: int) -> None:
        """Add a call; `entry` is the size of an item, for queries that don't give their items back."""
        self.calls += 1
        if operation != "Query":
            read, written = units(operation, params, answer)
            self.reads += read if operation == "GetItem" else 0
            self.writes += written
            return
        # What was looked at, and not only what came back.
        looked_at = answer["ScannedCount"] * entry
        if "ProjectionExpression" not in params and answer.get("Items"):
            looked_at = sum(map(item_bytes, answer["Items"]))
        read = max(1, -(-looked_at // READ_UNIT)) * (1.0 if params.get("ConsistentRead") else 0.5)
        self.reads += read
        partition = str(next(iter(params["ExpressionAttributeValues"].values()))["S"])
        self.partitions[partition] = self.partitions.get(partition, 0.0) + read


def picture(n: int) -> dict[str, Any]:
    """Return the folder's entry of a picture, as ingesting writes it."""
    key = f"{FOLDER}/face-{n:06}.png"
    return {"pk": {"S": f"FOLDER#{short_hash(FOLDER)}"}, "sk": {"S": f"PICTURE#{short_hash(key)}"}, "key": {"S": key}}


def queued(n: int, now: float) -> dict[str, Any]:
    """Return a queue entry as it is stored; its job comes later."""
    return {
        "pk": {"S": f"QUEUE#{MODEL}"},
        "sk": {"S": f"{iso(now - 1e6 + n)}#{n:032}"},
        "job": {"S": f"{n:032}"},
        "ready_at": {"N": str(now + 1e6)},
    }


def events(world: Any, tests: Any) -> dict[str, Callable[[], object]]:
    """Return what may happen to a stack, in the order in which it is tried."""

    def pair() -> None:
        world.drop_pair(f"{FOLDER}/own")
        world.run(30)

    def lonely() -> None:
        world.drop(f"{FOLDER}/lonely.wav", tests.voice(pitch=0.2))
        world.run(30)

    def another() -> None:
        world.drop(f"{FOLDER}/another.png", tests.portrait(90))
        world.run(30)

    def settings() -> None:
        world.drop(f"{FOLDER}/settings.json", {"parameters": {"style_level": "calm"}})
        world.run(30)

    def sweep() -> None:
        world.post({"sweep": True})
        world.run(1)

    return {
        "a pair, until it is queued": pair,
        "a voice without a picture of its name": lonely,
        "another picture": another,
        "the folder's settings.json": settings,
        "a sweep": sweep,
    }


@contextmanager
def counted(client: Any, entry: int) -> Iterator[Taken]:
    """Count meanwhile what is asked of DynamoDB."""
    taken, call = Taken(), client._make_api_call

    def counting(operation: str, params: dict[str, Any]) -> Any:
        answer = call(operation, params)
        taken.note(operation, params, answer, entry)
        return answer

    client._make_api_call = counting
    try:
        yield taken
    finally:
        client._make_api_call = call


def at(size: int) -> dict[str, Taken]:
    """Return what each event takes in a folder of so many pictures, with so many jobs queued."""
    for place in ("tests/integration", "functions/prepare", "tests"):
        if str(ROOT / place) not in sys.path:
            sys.path.insert(0, str(ROOT / place))
    import world as tests  # type: ignore[import-not-found]  # noqa: PLC0415  # the tests' own: not on everybody's path

    rates = dict.fromkeys(("check_rate", "create_rate", "query_rate", "list_rate", "cancel_rate"))
    files = tests.FileServer()
    with mock_aws(), Simulator(task_seconds=0.0, **rates) as sim, tests.serving(files.server):  # type: ignore[arg-type]
        tests.client.cache_clear()
        world = tests.World(sim, files)
        world.post({"pause": True})  # the queue stays as it is
        world.run(5)  # until the reports of what waits say so
        now = world.clock()
        table = dynamodb_backends[DEFAULT_ACCOUNT_ID][tests.REGION].tables[tests.TABLE]
        for n in range(size):
            table.put_item(picture(n))
            table.put_item(queued(n, now))
        world.table.update_account(lambda account: account.use_model(MODEL))
        client = tests.client("dynamodb")
        client.update_item(
            TableName=tests.TABLE,
            Key={"pk": {"S": f"FOLDER#{short_hash(FOLDER)}"}, "sk": {"S": "STATE"}},
            UpdateExpression="SET images_at = :at ADD pictures :more, changes :more",
            ExpressionAttributeValues={":more": {"N": str(size)}, ":at": {"N": repr(now - 3600)}},
        )
        found = {}
        for name, happen in events(world, tests).items():
            with counted(client, item_bytes(queued(0, now))) as taken:
                happen()
            found[name] = taken
    tests.client.cache_clear()
    return found


def measure() -> Section:
    """Run this part."""
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "eu-central-1"}
    os.environ.update(keys)
    return section({size: at(size) for size in SIZES})


def section(found: dict[int, dict[str, Taken]]) -> Section:
    """Say what was found."""
    small, middle, large = sorted(found)
    rows = [
        (
            name,
            *(f"{found[size][name].calls}" for size in found),
            *(f"{found[size][name].reads:g}" for size in found),
            *(f"{found[size][name].writes}" for size in found),
        )
        for name in found[large]
    ]
    growth = max(found[large][name].reads / max(1.0, found[middle][name].reads) for name in found[large])
    calls = max(found[large][name].calls - found[small][name].calls for name in found[large])
    writes = max(found[large][name].writes - found[small][name].writes for name in found[large])
    most = max(max(taken.partitions.values(), default=0) for taken in found[large].values())
    sizes = tuple(f"{size:,}" for size in found)
    return Section(
        "Folders and queues of any size",
        "The product's workflows over moto, paused: so many pictures lie in the folder, and so many jobs are queued. "
        "Each row is one event and all that follows from it within half a minute (its reading, its report, the "
        "folder's re-evaluation). Units are **computed** from the sizes of the items that a call looks at or writes: "
        "moto gives no true capacity.",
        [
            Table(
                "Calls of DynamoDB, read units, write units, by pictures in the folder and jobs in the queue.",
                ("event", *(f"calls, {s}" for s in sizes), *(f"reads, {s}" for s in sizes),
                 *(f"writes, {s}" for s in sizes)),
                rows,
            )
        ],
        [
            Mark(
                "read units, 100,000 : 10,000", f"flat (≤ {FLAT:g})", f"≤ {growth:.2f}", growth <= FLAT,
                "Something reads what grows with the folder or the queue.",
            ),
            Mark(
                "calls, 100,000 beside 100", "≤ 2 more", f"{calls:+d}", calls <= 2,
                "Something asks page by page.",
            ),
            Mark(
                "write units, 100,000 beside 100", "no more", f"{writes:+d}", writes <= 0,
                "Something is written for each of them.",
            ),
            Mark(
                "most read units of one partition, of one event", f"≤ 1/10 of its {PARTITION_READS:,} a second",
                f"{most:g}", most <= PARTITION_READS / 10, "Ten events at once would wait for each other.",
            ),
        ],
        [
            (
                "What grows from 100 to 10,000 ends at its bound: a report counts 1,000 queue entries at most, and a "
                "sweep 10,000 (`PLACE_MAX` and `LENGTH_MAX` of `adapters/jobs_table.py`)."
            )
        ],
    )  # fmt: skip
