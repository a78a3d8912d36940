"""The Jobs table: one item a job, with its files, its folder, the queue and the slots.

Every change of state is one conditional write or one transaction, so any number of functions may run at once and any
may die anywhere.

===============  ======================  ====================================================================
pk               sk                      what
===============  ======================  ====================================================================
JOB#<job>        JOB                     the job; with ``open`` it is in the sparse index that the schedule reads
JOB#<job>        SOUND#<hash>            a voice file (or another sound) of the job's name
JOB#<job>        JSON#<hash>             a settings JSON of the job's name
FOLDER#<folder>  IMAGE#<job>#<hash>      a picture of the folder; <job> is the job whose name it has
FOLDER#<folder>  SETTINGS#<hash>         the folder's settings.json
FOLDER#<folder>  STATE                   when pictures and settings last changed; whether a walk is under way
FOLDER#<folder>  OPEN#<job>              a job that the folder's pictures or settings may still change
QUEUE            <time>#<job>            a queued job, oldest first
SLOTS            SLOTS                   slots, the open create, hold, backoff, pause, budget
TASK#<task>      TASK                    a task id ever used
CHECK#<what>     CHECK                   a portrait check's answer (expires)
PACE             PACE                    what finished jobs took
WAKE             WAKE                    when the next wake-up message arrives
===============  ======================  ====================================================================
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from portraitcast.adapters.aws import aws_errors
from portraitcast.errors import ConflictError, TryLaterError
from portraitcast.domain.job import AT_PROVIDER, File, Job, known_fields
from portraitcast.domain.uploads import Kind, Name, short_hash
from portraitcast.domain.account import Slots
from portraitcast.domain.polling import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

SEQUENCER_WIDTH: Final = 40  # S3: compare sequencers after padding the shorter with zeros on the right
GONE_DAYS: Final = 14  # SQS keeps a message no longer, so no older event can come
CHECK_DAYS: Final = 30
DAY: Final = 86_400
# s behind its time until a walk counts as lost and another may begin. Well below the queue's visibility timeout: who
# died between claiming a walk and sending its message is the one whose own message comes again.
WALK_PATIENCE: Final = 60.0
TRIES: Final = 30  # of a compare-and-swap; each round somebody else has got on

Item = dict[str, Any]


@dataclass(slots=True)
class Folder:
    """A folder's state: when its pictures and its settings.json last changed, and its settings files."""

    changed: str = ""  # differs whenever a picture or the settings changed
    images_at: float = 0.0
    settings_at: float = 0.0
    settings: list[File] | None = None


class Table:
    """Adapter of the Jobs table; raises `ConflictError` and `TryLaterError`."""

    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self._client = client
        self._name = name

    # ------------------------------------------------------------------ jobs
    def job(self, job: str) -> Job | None:
        """Read one job, consistently."""
        item = self._get(f"JOB#{job}", "JOB")
        return _job(item) if item else None

    def job_and_files(self, job: str) -> tuple[Job | None, list[File], list[File]]:
        """Read a job with its sounds and its settings JSONs in one consistent query."""
        found: Job | None = None
        sounds: list[File] = []
        jsons: list[File] = []
        for item in self._query(f"JOB#{job}"):
            sk = item["sk"]["S"]
            if sk == "JOB":
                found = _job(item)
            elif sk.startswith("SOUND#"):
                sounds.append(_file(item))
            elif sk.startswith("JSON#"):
                jsons.append(_file(item))
        return found, [f for f in sounds if not f.gone], [f for f in jsons if not f.gone]

    def commit(self, *, job: Job | None = None, slots: Slots | None = None, task: str | None = None) -> None:
        """Write a job and/or the slots (and a task id never used before) in one transaction.

        Queue and OPEN entries follow from the job. Raises `ConflictError` when anything changed since it was read.
        """
        writes: list[Item] = []
        if job is not None:
            writes += self._job_writes(job)
        if slots is not None:
            writes.append(self._put({**_key("SLOTS", "SLOTS"), "doc": _doc(_raised(slots.as_dict()))}, slots.version))
        if task is not None and job is not None:
            writes.append(
                {
                    "Put": {
                        "TableName": self._name,
                        "Item": {
                            **_key(f"TASK#{task}", "TASK"),
                            "job": {"S": job.id},
                            "attempt": {"N": str(job.attempt)},
                        },
                        "ConditionExpression": "attribute_not_exists(pk)",
                    }
                }
            )
        with aws_errors():
            if len(writes) == 1 and "Put" in writes[0]:
                self._client.put_item(**writes[0]["Put"])
            else:
                self._client.transact_write_items(TransactItems=writes)  # type: ignore[arg-type]  # plain dicts by design
        if job is not None:
            job.version += 1
            job.stored_queue_key, job.stored_look_in = job.queue_key, list(job.look_in)
        if slots is not None:
            slots.version += 1

    def _job_writes(self, job: Job) -> list[Item]:
        item = {
            **_key(f"JOB#{job.id}", "JOB"),
            "name": {"S": job.name},
            "status": {"S": job.status},
            "doc": _doc(_raised(job.as_dict())),
        }
        if job.untold or job.status in AT_PROVIDER or job.lingering:
            item["open"] = {"S": "open"}
        writes = [self._put(item, job.version)]
        if job.queue_key != job.stored_queue_key:
            if job.stored_queue_key:
                writes.append(self._delete("QUEUE", job.stored_queue_key))
            if job.queue_key:
                writes.append(
                    {"Put": {"TableName": self._name, "Item": {**_key("QUEUE", job.queue_key), "job": {"S": job.id}}}}
                )
        gone = set(job.stored_look_in) - set(job.look_in)
        writes += [self._delete(f"FOLDER#{folder}", f"OPEN#{job.id}") for folder in gone]
        for folder in set(job.look_in) - set(job.stored_look_in):
            entry = {**_key(f"FOLDER#{folder}", f"OPEN#{job.id}"), "job": {"S": job.id}}
            writes.append({"Put": {"TableName": self._name, "Item": entry}})
        return writes

    def change(
        self, job: str, change: Callable[[Job, Slots], bool], *, with_slots: bool = True, task: str | None = None
    ) -> Job | None:
        """Read, change and write a job (and the slots) until nobody was in between.

        `change` returns False to leave everything as it is. Returns the job as written, or None when it was left.
        """
        for _ in range(TRIES):
            current = self.job(job)
            slots = self.slots() if with_slots else Slots()
            if current is None or not change(current, slots):
                return None
            try:
                self.commit(job=current, slots=slots if with_slots else None, task=task)
            except ConflictError:
                continue
            return current
        raise TryLaterError(f"job {job} is being changed by too many at once")

    def open_jobs(self, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """List a page of jobs that are at the provider or not told: ids, and the cursor of the next page."""
        start = {"open": {"S": "open"}, **_key(f"JOB#{cursor}", "JOB")} if cursor else None
        with aws_errors():
            answer = self._client.query(
                TableName=self._name,
                IndexName="open",
                KeyConditionExpression="#o = :o",
                ExpressionAttributeNames={"#o": "open"},
                ExpressionAttributeValues={":o": {"S": "open"}},
                Limit=limit,
                **({"ExclusiveStartKey": start} if start else {}),  # type: ignore[arg-type]
            )
        ids = [str(item["pk"]["S"]).removeprefix("JOB#") for item in answer["Items"]]
        return ids, ids[-1] if ids and answer.get("LastEvaluatedKey") else None

    # ------------------------------------------------------------------ the queue
    def queue(self, limit: int, *, after: str | None = None) -> list[tuple[str, str]]:
        """List the oldest queued jobs (those behind a queue key), consistently: (queue key, job id)."""
        behind = (after + "~", "~") if after else None
        return [(item["sk"]["S"], item["job"]["S"]) for item in self._query("QUEUE", between=behind, limit=limit)]

    def queue_length(self) -> int:
        """Count the queued jobs."""
        count, start = 0, None
        while True:
            more: Item = {"ExclusiveStartKey": start} if start else {}
            with aws_errors():
                answer = self._client.query(
                    TableName=self._name,
                    KeyConditionExpression="pk = :p",
                    ExpressionAttributeValues={":p": {"S": "QUEUE"}},
                    Select="COUNT",
                    **more,
                )
            count += answer["Count"]
            if not (start := answer.get("LastEvaluatedKey")):
                return count

    def place(self, queue_key: str) -> tuple[int | None, int | None]:
        """Return a queue entry's place (1 is next) and the queue's length; None where one page can't tell."""
        up_to_it, complete = self._count("sk <= :s", queue_key)
        behind_it, all_of_them = self._count("sk > :s", queue_key)
        place = max(1, up_to_it) if complete else None
        return place, place + behind_it if place is not None and all_of_them else None

    def _count(self, condition: str, queue_key: str) -> tuple[int, bool]:
        with aws_errors():
            answer = self._client.query(
                TableName=self._name,
                KeyConditionExpression=f"pk = :p AND {condition}",
                ExpressionAttributeValues={":p": {"S": "QUEUE"}, ":s": {"S": queue_key}},
                Select="COUNT",
            )
        return answer["Count"], not answer.get("LastEvaluatedKey")

    # ------------------------------------------------------------------ files
    def put_file(self, name: Name, file: File) -> bool:
        """Remember what is under a key now; False when this version, or a later event, is known already."""
        pk, sk = _place(name)
        item = {
            **_key(pk, sk),
            "seq": {"S": file.sequencer.ljust(SEQUENCER_WIDTH, "0") if file.sequencer else ""},
            "ver": {"S": "gone" if file.gone else file.version},
            "doc": _doc(asdict(file)),
        }
        if file.gone:
            item["expires"] = {"N": str(int(file.noticed_at) + GONE_DAYS * DAY)}
        try:
            with aws_errors():
                if file.sequencer:
                    self._client.put_item(
                        TableName=self._name,
                        Item=item,
                        ConditionExpression="attribute_not_exists(pk) OR (seq <= :s AND ver <> :v)",
                        ExpressionAttributeValues={":s": item["seq"], ":v": item["ver"]},
                    )
                else:  # found without an event (a scan): looked at just now; the last event's place in the order stays
                    values = {":s": item["seq"], ":v": item["ver"], ":d": item["doc"]}
                    if file.gone:
                        values[":e"] = item["expires"]
                    self._client.update_item(
                        TableName=self._name,
                        Key=_key(pk, sk),
                        UpdateExpression="SET ver = :v, doc = :d, seq = if_not_exists(seq, :s)"
                        + (", expires = :e" if file.gone else " REMOVE expires"),
                        ConditionExpression="attribute_not_exists(pk) OR ver <> :v",
                        ExpressionAttributeValues=values,
                    )
        except ConflictError:
            return False
        return True

    def update_file(self, name: Name, file: File) -> None:
        """Keep what was found out about a version, unless another version has come."""
        pk, sk = _place(name)
        try:
            with aws_errors():
                self._client.update_item(
                    TableName=self._name,
                    Key=_key(pk, sk),
                    UpdateExpression="SET doc = :d",
                    ConditionExpression="ver = :v",
                    ExpressionAttributeValues={
                        ":d": _doc(asdict(file)),
                        ":v": {"S": "gone" if file.gone else file.version},
                    },
                )
        except ConflictError:
            return  # what was found out is about a version that is no longer there

    def same_name_images(self, folder: str, job: str) -> list[File]:
        """List the pictures of a folder that have a job's name, consistently."""
        files = [_file(item) for item in self._query(f"FOLDER#{folder}", prefix=f"IMAGE#{job}#")]
        return [f for f in files if not f.gone]

    def images(self, folder: str, most: int) -> tuple[list[File], int]:
        """List up to `most` pictures of a folder and count all, consistently."""
        files: list[File] = []
        count = 0
        for item in self._query(f"FOLDER#{folder}", prefix="IMAGE#"):
            file = _file(item)
            if not file.gone:
                count += 1
                if len(files) < most:
                    files.append(file)
        return files, count

    # ------------------------------------------------------------------ folders
    def folder(self, folder: str) -> Folder:
        """Read a folder's state and its settings files in one consistent query."""
        state = Folder(settings=[])
        for item in self._query(f"FOLDER#{folder}", prefix="S"):
            if item["sk"]["S"] == "STATE":
                state.images_at = float(item.get("images_at", {"N": "0"})["N"])
                state.settings_at = float(item.get("settings_at", {"N": "0"})["N"])
                state.changed = item.get("changes", {"N": "0"})["N"]
            elif not (file := _file(item)).gone:
                state.settings = [*(state.settings or []), file]
        return state

    def folder_changes(self, folder: str) -> str:
        """Return a value that differs whenever a picture or the settings of a folder changed, consistently."""
        item = self._get(f"FOLDER#{folder}", "STATE")
        return item.get("changes", {"N": "0"})["N"] if item else ""

    def note_change(self, folder: str, *, pictures: bool, now: float) -> None:
        """Note that a picture (or the settings.json) of a folder changes now; said before the file is written."""
        with aws_errors():
            self._client.update_item(
                TableName=self._name,
                Key=_key(f"FOLDER#{folder}", "STATE"),
                UpdateExpression="SET #at = :now ADD changes :one",
                ExpressionAttributeNames={"#at": "images_at" if pictures else "settings_at"},
                ExpressionAttributeValues={":now": {"N": repr(now)}, ":one": {"N": "1"}},
            )

    def open_in(self, folder: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """List a page of the jobs that a folder's pictures or settings may still change, and the next page's cursor."""
        after = f"OPEN#{cursor}" if cursor else "OPEN#"
        items = list(self._query(f"FOLDER#{folder}", between=(after + "~" if cursor else after, "OPEN#~"), limit=limit))
        ids = [item["job"]["S"] for item in items]
        return ids, ids[-1] if len(ids) == limit else None

    def begin_walk(self, folder: str, *, due: float, now: float) -> bool:
        """Claim the walk over a folder's jobs that is due then; False when one is already on its way."""
        try:
            with aws_errors():
                self._client.update_item(
                    TableName=self._name,
                    Key=_key(f"FOLDER#{folder}", "STATE"),
                    UpdateExpression="SET walk_at = :due",
                    ConditionExpression="attribute_not_exists(walk_at) OR walk_at < :late",
                    ExpressionAttributeValues={":due": {"N": repr(due)}, ":late": {"N": repr(now - WALK_PATIENCE)}},
                )
        except ConflictError:
            return False
        return True

    def claim_wake(self, at: float, now: float) -> bool:
        """Claim the wake-up at a time; False when one no later is on its way already, so that a storm makes few."""
        try:
            with aws_errors():
                self._client.update_item(
                    TableName=self._name,
                    Key=_key("WAKE", "WAKE"),
                    UpdateExpression="SET wake_at = :at",
                    ConditionExpression="attribute_not_exists(wake_at) OR wake_at < :now OR wake_at > :at",
                    ExpressionAttributeValues={":at": {"N": repr(at)}, ":now": {"N": repr(now)}},
                )
        except ConflictError:
            return False
        return True

    def postpone_walk(self, folder: str, due: float) -> None:
        """Say that the walk on its way comes later: pictures still arrive."""
        with aws_errors():
            self._client.update_item(
                TableName=self._name,
                Key=_key(f"FOLDER#{folder}", "STATE"),
                UpdateExpression="SET walk_at = :due",
                ExpressionAttributeValues={":due": {"N": repr(due)}},
            )

    def end_walk(self, folder: str) -> None:
        """Give the claim back; said before the walk looks, so that a later change begins another."""
        with aws_errors():
            self._client.update_item(
                TableName=self._name, Key=_key(f"FOLDER#{folder}", "STATE"), UpdateExpression="REMOVE walk_at"
            )

    # ------------------------------------------------------------------ slots, tasks, checks, pace
    def slots(self) -> Slots:
        """Read the slots item, consistently."""
        item = self._get("SLOTS", "SLOTS")
        return Slots.from_dict(json.loads(item["doc"]["S"])) if item else Slots()

    def change_slots(self, change: Callable[[Slots], bool]) -> Slots | None:
        """Read, change and write the slots until nobody was in between; None when `change` left them as they are."""
        for _ in range(TRIES):
            slots = self.slots()
            if not change(slots):
                return None
            try:
                self.commit(slots=slots)
            except ConflictError:
                continue
            return slots
        raise TryLaterError("the slots are being changed by too many at once")

    def owner_of_task(self, task: str) -> str | None:
        """Return the job that a task id was used for, or None for a task that is not ours."""
        item = self._get(f"TASK#{task}", "TASK")
        return str(item["job"]["S"]) if item else None

    def check(self, what: str) -> dict[str, Any] | None:
        """Return a remembered portrait check, or None."""
        item = self._get(f"CHECK#{what}", "CHECK")
        return dict(json.loads(item["doc"]["S"])) if item else None

    def put_check(self, what: str, answer: dict[str, Any], now: float) -> None:
        """Remember a portrait check's answer for a month."""
        item = {
            **_key(f"CHECK#{what}", "CHECK"),
            "doc": _doc(answer),
            "expires": {"N": str(int(now) + CHECK_DAYS * DAY)},
        }
        with aws_errors():
            self._client.put_item(TableName=self._name, Item=item)

    def pace(self) -> Pace:
        """Read what finished jobs took; a new stack starts with an assumption."""
        item = self._get("PACE", "PACE")
        return Pace(**known_fields(Pace, json.loads(item["doc"]["S"]))) if item else Pace()

    def put_pace(self, pace: Pace) -> None:
        """Write what finished jobs took. The last writer wins: it is a running mean."""
        with aws_errors():
            self._client.put_item(TableName=self._name, Item={**_key("PACE", "PACE"), "doc": _doc(asdict(pace))})

    # ------------------------------------------------------------------ plumbing
    def _get(self, pk: str, sk: str) -> Item | None:
        with aws_errors():
            answer = self._client.get_item(TableName=self._name, Key=_key(pk, sk), ConsistentRead=True)
        return answer.get("Item")

    def _query(
        self, pk: str, *, prefix: str | None = None, between: tuple[str, str] | None = None, limit: int | None = None
    ) -> Iterator[Item]:
        condition = "pk = :p"
        values: Item = {":p": {"S": pk}}
        if prefix is not None:
            condition += " AND begins_with(sk, :s)"
            values[":s"] = {"S": prefix}
        if between is not None:
            condition += " AND sk BETWEEN :a AND :b"
            values |= {":a": {"S": between[0]}, ":b": {"S": between[1]}}
        more: Item = {"Limit": limit} if limit else {}
        left = limit
        while True:
            with aws_errors():
                answer = self._client.query(
                    TableName=self._name,
                    KeyConditionExpression=condition,
                    ExpressionAttributeValues=values,
                    ConsistentRead=True,
                    **more,
                )
            for item in answer["Items"]:
                yield item
                if left is not None and (left := left - 1) <= 0:
                    return
            if not (key := answer.get("LastEvaluatedKey")):
                return
            more["ExclusiveStartKey"] = key

    def _put(self, item: Item, version: int) -> Item:
        put: Item = {"TableName": self._name, "Item": {**item, "v": {"N": str(version + 1)}}}
        if version == 0:
            put["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            put["ConditionExpression"] = "v = :v"
            put["ExpressionAttributeValues"] = {":v": {"N": str(version)}}
        return {"Put": put}

    def _delete(self, pk: str, sk: str) -> Item:
        return {"Delete": {"TableName": self._name, "Key": _key(pk, sk)}}


def _place(name: Name) -> tuple[str, str]:
    digest = short_hash(name.key)
    if name.kind.is_sound:
        return f"JOB#{name.job}", f"SOUND#{digest}"
    if name.kind is Kind.JOB_SETTINGS:
        return f"JOB#{name.job}", f"JSON#{digest}"
    folder = short_hash(name.folder)
    if name.kind is Kind.FOLDER_SETTINGS:
        return f"FOLDER#{folder}", f"SETTINGS#{digest}"
    return f"FOLDER#{folder}", f"IMAGE#{name.job}#{digest}"


def _key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _doc(value: dict[str, Any]) -> Item:
    return {"S": json.dumps(value, ensure_ascii=False, separators=(",", ":"))}


def _raised(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "version": fields["version"] + 1}


def _job(item: Item) -> Job:
    return Job.from_dict(json.loads(item["doc"]["S"]))


def _file(item: Item) -> File:
    return File(**known_fields(File, json.loads(item["doc"]["S"])))
