"""Botocore sends a call again when it has lost the answer; DynamoDB or S3 may have done what was asked all the same.

DynamoDB then says that the condition fails, of our own write. Each conditional write of the table survives it, and each
claim is granted to whoever made it. The call is really sent twice here, by botocore's own retrying.
"""

from __future__ import annotations

import io
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse
from world import RESULTS, client, make_bucket, named, new_job, on_call, portrait, upload, voice

from portraitcast.adapters.buckets import Results
from portraitcast.domain.job import Job, PortraitCheck, Status, Video
from portraitcast.domain.polling import Pace
from portraitcast.domain.uploads import Facts, Upload, short_hash
from portraitcast.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from world import World

    from portraitcast.adapters.jobs_table import JobsTable
    from portraitcast.domain.account import Account

NOW = 1_800_000_000.0
FOLDER = short_hash("acme")
WRITES = ("PutItem", "UpdateItem", "TransactWriteItems")


class Resending:
    """Has each write of DynamoDB sent twice, as if its first answer had been lost. Counts them."""

    def __init__(self) -> None:
        self.resent: list[str] = []
        self._done: set[str] = set()

    def lose(self, attempts: int, operation: Any, response: Any, request_dict: Any, **_: Any) -> float | None:
        if attempts > 1:
            return None
        self.resent.append(operation.name)
        if response[0].status_code == 200:
            self._done.add(_token(request_dict["body"]))
        return 0.0

    def as_dynamodb(self, request: Any, **_: Any) -> AWSResponse | None:
        """Answer a transaction of a token that was done as the first time (DynamoDB, "TransactWriteItems"): moto can't.

        Only botocore's own resending carries the token of the first call.
        """
        token = _token(request.body)
        assert token, "a transaction without a token would be done, or refused, twice"
        if token not in self._done:
            return None
        headers: Any = {"content-type": "application/x-amz-json-1.0"}
        return AWSResponse(request.url, 200, headers, _Empty())


def _token(body: Any) -> str:
    text = body.decode() if isinstance(body, bytes) else ""
    return text.partition('"ClientRequestToken": "')[2].partition('"')[0]


class _Empty(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield b"{}"


@contextmanager
def resending() -> Iterator[Resending]:
    resend = Resending()
    with ExitStack() as hooks:
        for operation in WRITES:
            hooks.enter_context(on_call("dynamodb", f"needs-retry.dynamodb.{operation}", resend.lose))
        hooks.enter_context(on_call("dynamodb", "before-send.dynamodb.TransactWriteItems", resend.as_dynamodb))
        yield resend


# ---------------------------------------------------------------------- every write
def _new_job(table: JobsTable) -> object:
    return table.save(new_job(), was=None)


def _changed_job(table: JobsTable) -> object:
    return table.update(new_job().id, lambda job: replace(job, tries=job.tries + 1))


def _queued_job(table: JobsTable) -> object:
    def queue(job: Job) -> Job:
        return replace(job, status=Status.QUEUED, queue_key="t#a", place_key="t#a", open_folders=(FOLDER,))

    return table.update(new_job().id, queue, pace=("emo-v1", Pace(2.0, 1)))


def _both(table: JobsTable) -> object:
    def change(job: Job, account: Account) -> tuple[Job, Account]:
        return replace(job, tries=job.tries + 1), account.take_slot("a#1", "emo-v1")

    return table.update_both(new_job().id, change, tasks=("task-1",))


def _account(table: JobsTable) -> object:
    return table.update_account(lambda account: account.spend(1.0, NOW))


WRITERS: dict[str, tuple[Callable[[JobsTable], object], Callable[[JobsTable], object]]] = {
    "a new job": (_new_job, lambda table: _job(table).version == 1),
    "a changed job": (_changed_job, lambda table: (_job(table).version, _job(table).tries) == (2, 1)),
    "a queued job": (_queued_job, lambda table: (_job(table).version, len(table.queue("emo-v1", 9))) == (2, 1)),
    "job and account": (
        _both,
        lambda table: (_job(table).tries, table.account().version, table.is_known_task("task-1")) == (1, 1, True),
    ),
    "the account": (_account, lambda table: (table.account().spent, table.account().version) == (1.0, 1)),
    "a new upload": (
        lambda table: table.note_upload(upload("acme/line.wav"), None),
        lambda table: table.upload(named("acme/line.wav")) == upload("acme/line.wav"),
    ),
    "a new picture": (
        lambda table: table.note_upload(upload("acme/anna.png"), None),
        lambda table: (table.folder(FOLDER).pictures, table.folder(FOLDER).changes) == (1, 1),
    ),
    "new settings": (
        lambda table: table.note_upload(upload("acme/settings.json"), None),
        lambda table: table.folder(FOLDER).changes == 1,
    ),
    "what was read": (
        lambda table: table.keep_reading(upload("acme/known.wav", facts=Facts(seconds=1.0))),
        lambda table: _known(table).facts == Facts(seconds=1.0),
    ),
    "another version": (
        lambda table: table.note_upload(upload("acme/known.wav", "v2", "02"), _known(table)),
        lambda table: _known(table).version == "v2",
    ),
    "a portrait's check": (
        lambda table: table.put_check("x", PortraitCheck(), NOW),
        lambda table: table.check("x") == PortraitCheck(),
    ),
}


def _job(table: JobsTable) -> Job:
    job = table.job(new_job().id)
    assert job is not None
    return job


def _known(table: JobsTable) -> Upload:
    known = table.upload(named("acme/known.wav"))
    assert known is not None
    return known


@pytest.mark.parametrize("which", WRITERS)
def test_each_write_is_done_once(table: JobsTable, which: str) -> None:
    write, is_done = WRITERS[which]
    table.note_upload(upload("acme/known.wav"), None)
    if which != "a new job":
        table.save(new_job(), was=None)
    with resending() as resend:
        write(table)
    assert len(resend.resent) == 1, "it was one call, and no second try of ours"
    assert is_done(table)


CLAIMS: dict[str, Callable[[JobsTable], bool]] = {
    "re-evaluation": lambda table: table.claim_reevaluation(FOLDER, due=NOW + 15, now=NOW),
    "wake-up": lambda table: table.claim_wake(NOW + 15, NOW),
    "slot": lambda table: table.release_slot("a#1"),
}


@pytest.mark.parametrize("which", CLAIMS)
def test_a_claim_is_granted_to_its_maker(table: JobsTable, which: str) -> None:
    """Who is told that it was taken sends no message: the claim would stand, and nobody come."""
    table.update_account(lambda account: account.take_slot("a#1", "emo-v1"))
    with resending() as resend:
        assert CLAIMS[which](table) is True
        assert CLAIMS[which](table) is False, "a second claim is another's"
    assert resend.resent == ["UpdateItem"] * 2


@pytest.mark.parametrize("which", CLAIMS)
def test_a_resent_claim_that_lost_is_lost(table: JobsTable, which: str) -> None:
    table.update_account(lambda account: account.take_slot("a#1", "emo-v1"))
    assert CLAIMS[which](table) is True
    with resending():
        assert CLAIMS[which](table) is False


def test_a_resent_write_that_lost_conflicts(table: JobsTable) -> None:
    """What lies there is another's: nothing of ours is believed to be written."""
    read = table.save(new_job(), was=None)[0]
    table.save(replace(read, tries=5), was=read)
    account = table.account()
    table.save_account(account.spend(1.0, NOW))
    table.note_upload(upload("acme/known.wav"), None)
    table.note_upload(upload("acme/known.wav", "v2", "02"), _known(table))
    with resending():
        with pytest.raises(ConflictError):
            table.save(replace(read, tries=1), was=read)
        with pytest.raises(ConflictError):
            table.save_account(account.spend(2.0, NOW))
        with pytest.raises(ConflictError):
            table.note_upload(upload("acme/known.wav", "v3", "03"), upload("acme/known.wav"))
    assert (_job(table).tries, table.account().spent, _known(table).version) == (5, 1.0, "v2")


# ---------------------------------------------------------------------- the buckets
@contextmanager
def resending_puts() -> Iterator[None]:
    with on_call("s3", "needs-retry.s3.PutObject", Resending().lose):
        yield


def test_a_resent_report_and_video(aws: None) -> None:
    """S3 answers PreconditionFailed: what lies there is ours."""
    results = Results(make_bucket(RESULTS), RESULTS)
    report: Any = {"job": "j1", "revision": 1}
    with resending_puts():
        etag = results.put_report("a.json", report, None)
        later = results.put_report("a.json", report | {"revision": 2}, etag)
    assert later != etag
    assert client("s3").head_object(Bucket=RESULTS, Key="a.json")["Metadata"]["revision"] == "2"
    assert len(client("s3").list_object_versions(Bucket=RESULTS)["Versions"]) == 2
    video = Video("a.mp4", 5, 0.4, 512, 512, "ab")
    with resending_puts(), pytest.raises(ConflictError):
        results.put_video(video, "j1", "j1-1-1", io.BytesIO(b"video"), over=None)
    there = results.video("a.mp4")
    assert there is not None
    assert there.mark == "j1-1-1", "by which deliver knows its own"


# ---------------------------------------------------------------------- a job, whatever is resent
def test_a_whole_job_with_every_write_resent(world: World) -> None:
    with resending() as resend, resending_puts():
        world.drop("acme/anna.png", portrait())
        world.drop("acme/line.wav", voice())
        world.run()
    assert world.status("acme/line") == "done"
    assert len(world.tasks()) == 1
    assert world.table.account().tasks_in_flight == {}
    assert set(resend.resent) == set(WRITES)
    events = world.new_events()
    assert [status for status, _ in groupby(e["status"] for e in events)] == ["waiting", "queued", "rendering", "done"]
    assert [e["revision"] for e in events] == list(range(1, len(events) + 1)), "each of them once"
    assert world.dead == []
