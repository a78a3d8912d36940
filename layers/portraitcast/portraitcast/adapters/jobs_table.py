"""The Jobs table: one item a job, with its uploads, its folder, the queue and the account.

Every change of state is one conditional write or one transaction, so any number of functions may run at once and any
may die anywhere. botocore may resend a write that DynamoDB has applied, and DynamoDB then answers that the condition
fails: every single conditional write carries an id of its own, and a conflict is believed only after the item was read
and holds another's. Transactions carry botocore's ClientRequestToken, which does the same (DynamoDB,
"TransactWriteItems").

===============  ======================  ====================================================================
pk               sk                      what
===============  ======================  ====================================================================
JOB#<job>        JOB                     the job; with ``open`` it is in the sparse index that the sweep reads
JOB#<job>        SOUND#<hash>            a voice file (or another sound) of the job's name
JOB#<job>        JSON#<hash>             a settings JSON of the job's name
JOB#<job>        IMAGE#<hash>            a picture of the job's name
FOLDER#<folder>  PICTURE#<hash>          that the folder has this picture: its key
FOLDER#<folder>  SETTINGS#<hash>         the folder's settings.json
FOLDER#<folder>  STATE                   when pictures and settings last changed, how many pictures there are, and
                                         when the folder is re-evaluated (with ``open`` while it is)
FOLDER#<folder>  OPEN#<job>              a job that the folder's pictures or settings may still change
QUEUE#<model>    <time>#<job>            a queued job, oldest first
ACCOUNT          ACCOUNT                 tasks in flight, the open create, circuit breaker, pause, budget
TASK#<task>      TASK                    a task id that is ours, or may be
CHECK#<what>     CHECK                   a portrait check's answer (expires)
PACE#<model>     PACE                    what finished tasks took
WAKE             WAKE                    when the next wake-up message arrives
===============  ======================  ====================================================================
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from portraitcast.adapters.aws import aws_errors
from portraitcast.adapters.records import from_attribute, from_item, from_plain, to_attribute, to_item, to_plain
from portraitcast.domain.account import Account
from portraitcast.domain.job import Job, PortraitCheck
from portraitcast.domain.matching import LIST_MAX, Pictures
from portraitcast.domain.polling import Pace
from portraitcast.domain.uploads import Kind, Name, Upload, classify, short_hash
from portraitcast.errors import ConflictError, TryLaterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

DELETED_DAYS: Final = 14  # Amazon SQS keeps a message no longer, so no older event can come
CHECK_DAYS: Final = 30
DAY: Final = 86_400
# s behind its time until a re-evaluation counts as lost and another may begin. Well below the queue's visibility
# timeout: who died between claiming it and sending its message is the one whose own message comes again.
OVERDUE: Final = 60.0
TRIES: Final = 30  # of a compare-and-swap; each round somebody else has got on
PACE_SECONDS: Final = 60.0  # for which a pace is remembered: it is an estimate
PLACE_MAX: Final = 1_000  # queue entries that are counted for a report: some 10 read units
LENGTH_MAX: Final = 10_000  # queue entries that a sweep counts for the dashboard

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder's state: when its pictures and its settings.json last changed, how many pictures, its settings files.

    `changes` differs whenever a picture or the settings changed.
    """

    changes: int = 0
    images_at: float = 0.0
    settings_at: float = 0.0
    pictures: int = 0
    reevaluate_at: float | None = None
    settings: tuple[Upload, ...] = ()


@dataclass(frozen=True, slots=True)
class JobFiles:
    """A job with the sounds, settings JSONs and pictures of its name; deleted ones are left out."""

    job: Job | None
    sounds: tuple[Upload, ...] = ()
    jsons: tuple[Upload, ...] = ()
    pictures: tuple[Upload, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A queued job: its key in the queue, and from when on it may be sent."""

    key: str
    job: str
    ready_at: float


@dataclass(frozen=True, slots=True)
class OpenEntries:
    """A page of what the sweep must look at: ids of jobs and of folders, and the cursor of the next page."""

    jobs: tuple[str, ...]
    folders: tuple[str, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Changed:
    """A job and the account as they were written together, and the account as it was before."""

    job: Job
    account: Account
    account_before: Account


class JobsTable:
    """Adapter of the Jobs table; raises `ConflictError` and `TryLaterError`."""

    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self._client = client
        self._name = name
        self._paces: dict[str, tuple[float, Pace]] = {}

    # ------------------------------------------------------------------ jobs
    def job(self, job: str) -> Job | None:
        """Read one job, consistently."""
        item = self._get(f"JOB#{job}", "JOB")
        return from_item(Job, item) if item else None

    def job_files(self, job: str) -> JobFiles:
        """Read a job with all files of its name in one consistent query."""
        found: Job | None = None
        files: dict[str, list[Upload]] = {"SOUND": [], "JSON": [], "IMAGE": []}
        for item in self._query(f"JOB#{job}"):
            sk = item["sk"]["S"]
            if sk == "JOB":
                found = from_item(Job, item)
            else:
                files[sk.partition("#")[0]].extend(_present(iter([item])))
        return JobFiles(found, tuple(files["SOUND"]), tuple(files["JSON"]), tuple(files["IMAGE"]))

    def save(
        self,
        job: Job,
        *,
        was: Job | None,
        account: Account | None = None,
        tasks: tuple[str, ...] = (),
        read: tuple[Upload, ...] = (),
        pace: tuple[str, Pace] | None = None,
    ) -> tuple[Job, Account | None]:
        """Write a job (and the account, and task ids never used before) in one transaction; return them as written.

        Written along: what was read of uploads, if they are still the same versions, and a model's pace, whose last
        writer wins.

        Queue and OPEN entries follow from the job. Raises `ConflictError` when anything changed since it was read.
        """
        written = replace(job, version=job.version + 1)
        writes = [self._versioned(_job_item(written), job.version), *self._entries(written, was)]
        changed = None
        if account is not None:
            changed = replace(account, version=account.version + 1)
            item = {**_key("ACCOUNT", "ACCOUNT"), **to_item(changed)}
            writes.append(self._versioned(item, account.version))
        for task in tasks:
            item = {**_key(f"TASK#{task}", "TASK"), "job": {"S": job.id}, "attempt": {"N": str(job.attempt)}}
            condition = "attribute_not_exists(pk)"
            writes.append({"Put": {"TableName": self._name, "Item": item, "ConditionExpression": condition}})
        writes += [{"Update": self._reading(upload)} for upload in read]
        if pace is not None:
            item = {**_key(f"PACE#{pace[0]}", "PACE"), **to_item(pace[1])}
            writes.append({"Put": {"TableName": self._name, "Item": item}})
        self._write(writes)
        if pace is not None:
            self._paces[pace[0]] = (time.monotonic(), pace[1])
        return written, changed

    def update(
        self,
        job_id: str,
        change: Callable[[Job], Job | None],
        *,
        known: Job | None = None,
        pace: tuple[str, Pace] | None = None,
    ) -> Job | None:
        """Read, change and write a job until nobody was in between; None when `change` gives None, or there is no job.

        A change that changes nothing is written by nobody. `known` is the job as it was read a moment ago, which spares
        a read where nobody was in between; `pace` of a model is written with it.
        """
        for _ in range(TRIES):
            job, known = known or self.job(job_id), None
            changed = change(job) if job else None
            if changed is None:
                return None
            if changed == job:
                return job
            try:
                return self.save(changed, was=job, pace=pace)[0]
            except ConflictError:
                continue
        raise TryLaterError(f"job {job_id} is being changed by too many at once")

    def update_both(
        self,
        job_id: str,
        change: Callable[[Job, Account], tuple[Job, Account] | None],
        *,
        tasks: tuple[str, ...] = (),
        known: tuple[Job, Account] | None = None,
    ) -> Changed | None:
        """Read, change and write a job and the account together until nobody was in between; None as in `update`."""
        for _ in range(TRIES):
            job, account = known or (self.job(job_id), self.account())
            known = None
            changed = change(job, account) if job else None
            if changed is None:
                return None
            try:
                written, after = self.save(changed[0], was=job, account=changed[1], tasks=tasks)
            except ConflictError:
                continue
            return Changed(written, after or account, account)
        raise TryLaterError(f"job {job_id} is being changed by too many at once")

    def open_entries(self, cursor: str | None, limit: int) -> OpenEntries:
        """List a page of what the sweep must look at."""
        start: Item = {}
        if cursor:
            pk, _, sk = cursor.partition(" ")
            start = {"ExclusiveStartKey": {"open": {"S": "open"}, **_key(pk, sk)}}
        with aws_errors():
            answer = self._client.query(
                TableName=self._name,
                IndexName="open",
                KeyConditionExpression="#o = :o",
                ExpressionAttributeNames={"#o": "open"},
                ExpressionAttributeValues={":o": {"S": "open"}},
                Limit=limit,
                **start,
            )
        keys = [(str(item["pk"]["S"]), str(item["sk"]["S"])) for item in answer["Items"]]
        more = keys[-1] if keys and answer.get("LastEvaluatedKey") else None
        return OpenEntries(
            tuple(pk.removeprefix("JOB#") for pk, _ in keys if pk.startswith("JOB#")),
            tuple(pk.removeprefix("FOLDER#") for pk, _ in keys if pk.startswith("FOLDER#")),
            " ".join(more) if more else None,
        )

    def _entries(self, job: Job, was: Job | None) -> list[Item]:
        """Return the writes that move a job's queue and OPEN entries."""
        before, after = _queue_entry(was) if was else None, _queue_entry(job)
        writes = []
        if before != after:
            if before and (after is None or before[:2] != after[:2]):
                writes.append(self._delete(*before[:2]))
            if after:
                pk, sk, ready_at = after
                item = {**_key(pk, sk), "job": {"S": job.id}, "ready_at": to_attribute(ready_at)}
                writes.append({"Put": {"TableName": self._name, "Item": item}})
        left = set(was.open_folders) if was else set()
        writes += [self._delete(f"FOLDER#{folder}", f"OPEN#{job.id}") for folder in left - set(job.open_folders)]
        for folder in set(job.open_folders) - left:
            item = {**_key(f"FOLDER#{folder}", f"OPEN#{job.id}"), "job": {"S": job.id}}
            writes.append({"Put": {"TableName": self._name, "Item": item}})
        return writes

    # ------------------------------------------------------------------ the queue
    def queue(self, model: str, limit: int, *, after: str | None = None) -> list[QueueEntry]:
        """List a page of a model's oldest queued jobs (those behind a queue key), consistently."""
        behind = (after + "~", "~") if after else None
        items = self._query(f"QUEUE#{model}", between=behind, limit=limit)
        return [
            QueueEntry(item["sk"]["S"], item["job"]["S"], float(item.get("ready_at", {"N": "0"})["N"]))
            for item in items
        ]

    def queue_length(self, models: tuple[str, ...]) -> int:
        """Count the queued jobs, up to `LENGTH_MAX` of a model; not consistently, since nothing is decided by it."""
        return sum(self._count(f"QUEUE#{model}") for model in models)

    def place(self, job: Job) -> tuple[int | None, int | None]:
        """Return a queued job's place (1 is next) and the queue's length; None beyond `PLACE_MAX` entries."""
        if job.queue_key is None:
            return None, None
        with aws_errors():
            answer = self._client.query(
                TableName=self._name,
                KeyConditionExpression="pk = :p",
                ExpressionAttributeValues={":p": {"S": f"QUEUE#{job.inputs.model}"}},
                ProjectionExpression="sk",
                Limit=PLACE_MAX,
                ConsistentRead=True,
            )
        keys = [item["sk"]["S"] for item in answer["Items"]]
        complete = "LastEvaluatedKey" not in answer
        before = sum(1 for key in keys if key < job.queue_key)
        known = complete or (bool(keys) and job.queue_key <= keys[-1])
        return (before + 1 if known else None), (len(keys) if complete else None)

    def _count(self, pk: str) -> int:
        count = 0
        more: Item = {}
        while True:
            with aws_errors():
                answer = self._client.query(
                    TableName=self._name,
                    KeyConditionExpression="pk = :p",
                    ExpressionAttributeValues={":p": {"S": pk}},
                    Select="COUNT",
                    Limit=LENGTH_MAX - count,
                    **more,
                )
            count += answer["Count"]
            if count >= LENGTH_MAX or not (key := answer.get("LastEvaluatedKey")):
                return count
            more = {"ExclusiveStartKey": key}

    # ------------------------------------------------------------------ uploads
    def upload(self, name: Name) -> Upload | None:
        """Read what is known of a key, a deleted marker too, consistently."""
        item = self._get(*_place(name))
        return _upload(item) if item else None

    def note_upload(self, upload: Upload, known: Upload | None) -> None:
        """Remember what is under a key now, in place of what was known (`upload`'s answer).

        A picture or a settings.json changes its folder's state in the same transaction. Raises `ConflictError`.
        """
        pk, sk = _place(upload.name)
        item = {**_key(pk, sk), **_upload_attributes(upload)}
        if upload.deleted:
            item["expires"] = {"N": str(int(upload.noticed_at) + DELETED_DAYS * DAY)}
        put: Item = {"TableName": self._name, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
        if known is not None:
            put["ConditionExpression"] = "tag = :t AND seq = :s"
            put["ExpressionAttributeValues"] = {":t": {"S": _tag(known)}, ":s": {"S": known.sequencer}}
        same = known is not None and known.is_same_version(upload) and known.repeats == upload.repeats
        kind = upload.name.kind
        if same or kind not in {Kind.PORTRAIT, Kind.FOLDER_SETTINGS}:
            self._write([{"Put": put}])
            return
        here, before = not upload.deleted, known is not None and not known.deleted
        folder = f"FOLDER#{short_hash(upload.name.folder)}"
        state: Item = {
            "TableName": self._name,
            "Key": _key(folder, "STATE"),
            "UpdateExpression": "SET #at = :now ADD changes :one, pictures :more",
            "ExpressionAttributeNames": {"#at": "images_at" if kind is Kind.PORTRAIT else "settings_at"},
            "ExpressionAttributeValues": {
                ":now": to_attribute(upload.noticed_at),
                ":one": {"N": "1"},
                ":more": {"N": str(here - before if kind is Kind.PORTRAIT else 0)},
            },
        }
        writes: list[Item] = [{"Put": put}, {"Update": state}]
        if kind is Kind.PORTRAIT and here != before:
            sk = f"PICTURE#{short_hash(upload.key)}"
            listed = {**_key(folder, sk), "key": {"S": upload.key}}
            writes.append({"Put": {"TableName": self._name, "Item": listed}} if here else self._delete(folder, sk))
        self._write(writes)

    def keep_reading(self, upload: Upload) -> None:
        """Keep what reading a version found (facts, text, refused, asked_at), unless another version has come.

        Without facts, those that are kept stay: prepare may have answered since the upload was read from the table.
        """
        try:
            with aws_errors():
                self._client.update_item(**self._reading(upload))
        except ConflictError:
            return  # what was found is about a version that is no longer there

    def _reading(self, upload: Upload) -> Item:
        found = {
            "unread": to_attribute(upload.unread),
            "refused": to_attribute(upload.refused),
            "asked_at": to_attribute(upload.asked_at),
            "text": to_attribute(upload.text),
        }
        if upload.facts is not None:
            found["facts"] = to_attribute(to_plain(upload.facts))
        return {
            "TableName": self._name,
            "Key": _key(*_place(upload.name)),
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in found),
            "ConditionExpression": "tag = :tag",
            "ExpressionAttributeNames": {f"#{name}": name for name in found},
            "ExpressionAttributeValues": {
                **{f":{name}": value for name, value in found.items()},
                ":tag": {"S": _tag(upload)},
            },
        }

    def pictures_of(self, job: str) -> tuple[Upload, ...]:
        """List the pictures that have a job's name, consistently."""
        return tuple(_present(self._query(f"JOB#{job}", prefix="IMAGE#")))

    def pictures(self, folder: str, count: int) -> Pictures:
        """List the keys of up to 20 pictures of a folder, which has `count` by its state: no more are read."""
        if count <= 0:
            return Pictures((), 0)
        keys = [item["key"]["S"] for item in self._query(f"FOLDER#{folder}", prefix="PICTURE#", limit=LIST_MAX)]
        keys = [key for key in keys if classify(key) is not None]
        return Pictures(tuple(keys), count if len(keys) == LIST_MAX else len(keys))

    # ------------------------------------------------------------------ folders
    def folder(self, folder: str) -> Folder:
        """Read a folder's state and its settings files in one consistent query."""
        state = Folder()
        settings: list[Upload] = []
        for item in self._query(f"FOLDER#{folder}", prefix="S"):
            if item["sk"]["S"] == "STATE":
                state = from_item(Folder, item)
            else:
                settings.extend(_present(iter([item])))
        return replace(state, settings=tuple(settings))

    def folder_changes(self, folder: str) -> int:
        """Return a value that differs whenever a picture or the settings of a folder changed, consistently."""
        item = self._get(f"FOLDER#{folder}", "STATE")
        return from_item(Folder, item).changes if item else 0

    def open_in(self, folder: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        """List a page of the jobs that a folder's pictures or settings may still change, and the next page's cursor."""
        after = f"OPEN#{cursor}~" if cursor else "OPEN#"
        items = list(self._query(f"FOLDER#{folder}", between=(after, "OPEN#~"), limit=limit))
        ids = [item["job"]["S"] for item in items]
        return ids, ids[-1] if len(ids) == limit else None

    def claim_reevaluation(self, folder: str, *, due: float, now: float) -> bool:
        """Claim the re-evaluation of a folder's jobs that is due then; False when one is already on its way."""
        return self._claim(
            _key(f"FOLDER#{folder}", "STATE"),
            "SET written_by = :mine, reevaluate_at = :due, #o = :o",
            "attribute_not_exists(reevaluate_at) OR reevaluate_at < :late",
            {":due": to_attribute(due), ":late": to_attribute(now - OVERDUE), ":o": {"S": "open"}},
            {"#o": "open"},
        )

    def postpone_reevaluation(self, folder: str, due: float) -> None:
        """Say that the re-evaluation on its way comes later: pictures still arrive."""
        self._update_state(
            folder, "SET reevaluate_at = :due, #o = :o", {":due": to_attribute(due), ":o": {"S": "open"}}
        )

    def end_reevaluation(self, folder: str) -> None:
        """Give the claim back; said before the folder is read, so that a later change begins another."""
        self._update_state(folder, "REMOVE reevaluate_at, #o", {})

    def _update_state(self, folder: str, expression: str, values: Item) -> None:
        more: Item = {"ExpressionAttributeValues": values} if values else {}
        with aws_errors():
            self._client.update_item(
                TableName=self._name,
                Key=_key(f"FOLDER#{folder}", "STATE"),
                UpdateExpression=expression,
                ExpressionAttributeNames={"#o": "open"},
                **more,
            )

    def claim_wake(self, at: float, now: float) -> bool:
        """Claim the wake-up at a time; False when one no later is on its way already, so that a storm makes few."""
        return self._claim(
            _key("WAKE", "WAKE"),
            "SET written_by = :mine, wake_at = :at",
            "attribute_not_exists(wake_at) OR wake_at < :now OR wake_at > :at",
            {":at": to_attribute(at), ":now": to_attribute(now)},
        )

    # ------------------------------------------------------------------ account, tasks, checks, pace
    def account(self) -> Account:
        """Read the account, consistently."""
        item = self._get("ACCOUNT", "ACCOUNT")
        return from_item(Account, item) if item else Account()

    def save_account(self, account: Account) -> Account:
        """Write the account, return it as written; raises `ConflictError` when it changed since it was read."""
        written = replace(account, version=account.version + 1)
        self._write([self._versioned({**_key("ACCOUNT", "ACCOUNT"), **to_item(written)}, account.version)])
        return written

    def update_account(self, change: Callable[[Account], Account]) -> tuple[Account, Account]:
        """Read, change and write the account until nobody was in between; return it as it was and as it is."""
        for _ in range(TRIES):
            account = self.account()
            changed = change(account)
            if changed == account:
                return account, account
            try:
                return account, self.save_account(changed)
            except ConflictError:
                continue
        raise TryLaterError("the account is being changed by too many at once")

    def release_slot(self, owner: str) -> bool:
        """Release an owner's slot, whatever else changes in the account meanwhile; False when it holds none."""
        return self._claim(
            _key("ACCOUNT", "ACCOUNT"),
            "SET written_by = :mine REMOVE tasks_in_flight.#owner ADD version :one",
            "attribute_exists(tasks_in_flight.#owner)",
            {":one": {"N": "1"}},
            {"#owner": owner},
        )

    def is_known_task(self, task: str) -> bool:
        """Say whether a task id is ours, or was one of several that may have been."""
        return self._get(f"TASK#{task}", "TASK") is not None

    def check(self, what: str) -> PortraitCheck | None:
        """Return a remembered portrait check, or None."""
        item = self._get(f"CHECK#{what}", "CHECK")
        return from_item(PortraitCheck, item) if item else None

    def put_check(self, what: str, answer: PortraitCheck, now: float) -> None:
        """Remember a portrait check's answer for a month."""
        item = {**_key(f"CHECK#{what}", "CHECK"), **to_item(answer)}
        item["expires"] = {"N": str(int(now) + CHECK_DAYS * DAY)}
        with aws_errors():
            self._client.put_item(TableName=self._name, Item=item)

    def pace(self, model: str) -> Pace:
        """Return what finished tasks of a model took, as it was a minute ago at the most; a new stack assumes it."""
        read_at, pace = self._paces.get(model, (0.0, Pace()))
        if time.monotonic() - read_at > PACE_SECONDS or not read_at:
            item = self._get(f"PACE#{model}", "PACE")
            pace = from_item(Pace, item) if item else Pace()
            self._paces[model] = (time.monotonic(), pace)
        return pace

    # ------------------------------------------------------------------ plumbing
    def _get(self, pk: str, sk: str) -> Item | None:
        with aws_errors():
            answer = self._client.get_item(TableName=self._name, Key=_key(pk, sk), ConsistentRead=True)
        return answer.get("Item")

    def _query(
        self,
        pk: str,
        *,
        prefix: str | None = None,
        between: tuple[str, str] | None = None,
        limit: int | None = None,
    ) -> Iterator[Item]:
        """Yield the items of a partition, `limit` at most."""
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

    def _versioned(self, item: Item, version: int) -> Item:
        put: Item = {"TableName": self._name, "Item": item}
        if version == 0:
            put["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            put["ConditionExpression"] = "version = :v"
            put["ExpressionAttributeValues"] = {":v": {"N": str(version)}}
        return {"Put": put}

    def _write(self, writes: list[Item]) -> None:
        """Write one put, or several writes in one transaction."""
        if len(writes) > 1:
            with aws_errors():
                self._client.transact_write_items(TransactItems=writes)  # type: ignore[arg-type]  # plain dicts by design
            return
        put = writes[0]["Put"]
        mine = secrets.token_hex(8)
        put["Item"]["written_by"] = {"S": mine}
        try:
            with aws_errors():
                self._client.put_item(**put)
        except ConflictError:
            if not self._was_written(put["Item"], mine):
                raise

    def _claim(self, key: Item, expression: str, condition: str, values: Item, names: Item | None = None) -> bool:
        mine = secrets.token_hex(8)
        more: Item = {"ExpressionAttributeNames": names} if names else {}
        try:
            with aws_errors():
                self._client.update_item(
                    TableName=self._name,
                    Key=key,
                    UpdateExpression=expression,
                    ConditionExpression=condition,
                    ExpressionAttributeValues={**values, ":mine": {"S": mine}},
                    **more,
                )
        except ConflictError:
            return self._was_written(key, mine)
        return True

    def _was_written(self, key: Item, mine: str) -> bool:
        """Say whether a write that is told to conflict is our own, sent twice by botocore."""
        there = self._get(key["pk"]["S"], key["sk"]["S"])
        return there is not None and there.get("written_by") == {"S": mine}

    def _delete(self, pk: str, sk: str) -> Item:
        return {"Delete": {"TableName": self._name, "Key": _key(pk, sk)}}


def _job_item(job: Job) -> Item:
    item = {**_key(f"JOB#{job.id}", "JOB"), **to_item(job)}
    if job.needs_attention:
        item["open"] = {"S": "open"}
    return item


def _queue_entry(job: Job) -> tuple[str, str, float] | None:
    return (f"QUEUE#{job.inputs.model}", job.queue_key, job.ready_at) if job.queue_key else None


_SORTS: Final = {Kind.VOICE: "SOUND", Kind.PORTRAIT: "IMAGE", Kind.JOB_SETTINGS: "JSON"}


def _place(name: Name) -> tuple[str, str]:
    digest = short_hash(name.key)
    if name.kind is Kind.FOLDER_SETTINGS:
        return f"FOLDER#{short_hash(name.folder)}", f"SETTINGS#{digest}"
    return f"JOB#{name.job}", f"{_SORTS[name.kind]}#{digest}"


def _key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _tag(upload: Upload) -> str:
    return "deleted" if upload.deleted else upload.tag


def _upload_attributes(upload: Upload) -> Item:
    plain = to_plain(upload)
    del plain["name"]
    return {name: to_attribute(value) for name, value in plain.items()} | {
        "key": {"S": upload.key},
        "tag": {"S": _tag(upload)},
        "seq": {"S": upload.sequencer},
    }


def _upload(item: Item) -> Upload | None:
    """Return an upload as it is stored, or None for a key that doesn't count by the rules of today."""
    name = classify(item["key"]["S"])
    if name is None:
        return None
    plain = {attribute: from_attribute(value) for attribute, value in item.items()}
    return from_plain(Upload, {**plain, "sequencer": plain["seq"], "name": to_plain(name)})


def _present(items: Iterator[Item]) -> Iterator[Upload]:
    """Yield the uploads of some items that are there, without deleted markers."""
    for item in items:
        upload = _upload(item)
        if upload is not None and not upload.deleted:
            yield upload
