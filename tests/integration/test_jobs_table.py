"""The Jobs table on the keys and index of template.yaml: conditional writes, transactions, order, late events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from world import REGION, TABLE, make_table

from portraitcast.errors import ConflictError, TryLaterError
from portraitcast.domain.job import DONE, QUEUED, RENDERING, SUBMITTING, WAITING, File, Job, iso
from portraitcast.domain.uploads import Name, classify, short_hash
from portraitcast.domain.account import Creating, Slots
from portraitcast.domain.polling import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.jobs_table import Table

NOW = 1_800_000_000.0
FOLDER = short_hash("acme")


@pytest.fixture
def table(aws: None) -> Table:
    return make_table()


def named(key: str) -> Name:
    name = classify(key)
    assert name is not None
    return name


def new_job(name: str = "acme/line", **fields: Any) -> Job:
    stem = named(f"{name}.wav")
    return Job(stem.job, name, stem.folder, name, created_at=NOW, **fields)


def raw(pk: str) -> list[dict[str, Any]]:
    client = boto3.client("dynamodb", region_name=REGION)
    answer = client.query(
        TableName=TABLE, KeyConditionExpression="pk = :p", ExpressionAttributeValues={":p": {"S": pk}}
    )
    return list(answer["Items"])


# ---------------------------------------------------------------------- jobs
def test_a_job_comes_back_as_it_was_written(table: Table) -> None:
    job = new_job(
        status=QUEUED,
        queue_key=f"{iso(NOW)}#x",
        look_in=[FOLDER],
        voice={"key": "acme/línea 名 😀.wav", "seconds": 0.4},
        problem={"code": "X", "limit": None},
        ready_at=NOW + 0.123456,
        seen=["acme/line.wav\nv1"],
    )
    table.commit(job=job)
    found = table.job(job.id)
    assert found is not None
    assert found.as_dict() == job.as_dict()
    assert (found.version, found.stored_queue_key, found.stored_look_in) == (1, job.queue_key, [FOLDER])
    assert table.job("0" * 32) is None


def test_a_new_job_is_written_once(table: Table) -> None:
    one, other = new_job(), new_job()
    table.commit(job=one)
    with pytest.raises(ConflictError):
        table.commit(job=other)


def test_whoever_read_a_job_before_another_wrote_it_conflicts_and_changes_nothing(table: Table) -> None:
    job = new_job(status=QUEUED, queue_key="t1#a", look_in=[FOLDER])
    table.commit(job=job)
    mine, theirs = table.job(job.id), table.job(job.id)
    assert mine is not None
    assert theirs is not None
    theirs.status = DONE
    theirs.queue_key, theirs.look_in = None, []
    table.commit(job=theirs)
    mine.queue_key, mine.look_in = "t2#a", ["f" * 32]
    slots = Slots(owners=["x#1"])
    with pytest.raises(ConflictError):
        table.commit(job=mine, slots=slots, task="task-1")
    found = table.job(job.id)
    assert found is not None
    assert found.status == DONE
    assert table.queue(10) == []
    assert table.open_in("f" * 32, None, 10) == ([], None)
    assert table.slots().owners == []
    assert table.owner_of_task("task-1") is None


def test_slots_that_another_has_changed_keep_the_job_from_being_written(table: Table) -> None:
    table.commit(slots=Slots(paused=True))
    job, stale = new_job(status=SUBMITTING), Slots(owners=["mine#1"])
    with pytest.raises(ConflictError):
        table.commit(job=job, slots=stale)
    assert table.job(job.id) is None
    assert table.slots().paused is True


def test_a_change_is_made_again_on_what_another_wrote_in_between(table: Table) -> None:
    job = new_job()
    table.commit(job=job)
    seen: list[int] = []

    def change(current: Job, slots: Slots) -> bool:
        seen.append(current.revision)
        if len(seen) == 1:
            other = table.job(job.id)
            assert other is not None
            other.revision = 7
            table.commit(job=other)
        current.tries += 1
        slots.add(current.owner)
        return True

    written = table.change(job.id, change)
    assert written is not None
    assert (seen, written.revision, written.tries) == ([0, 7], 7, 1)
    assert table.slots().owners == [job.owner]


def test_a_change_that_declines_writes_nothing(table: Table) -> None:
    job = new_job()
    table.commit(job=job)
    assert table.change(job.id, lambda *_: False) is None
    assert table.change("0" * 32, lambda *_: True) is None
    found = table.job(job.id)
    assert found is not None
    assert found.version == 1


def test_endless_contention_is_a_matter_for_later_and_no_endless_loop(table: Table) -> None:
    job = new_job()
    table.commit(job=job)

    def always_too_late(_: Slots) -> bool:
        table.commit(slots=table.slots())
        return True

    with pytest.raises(TryLaterError):
        table.change_slots(always_too_late)


def test_a_task_id_is_written_once_and_by_one_job_only(table: Table) -> None:
    one, other = new_job("acme/a"), new_job("acme/b")
    table.commit(job=one)
    table.commit(job=other)
    one.status = other.status = RENDERING
    table.commit(job=one, task="task-1")
    with pytest.raises(ConflictError):
        table.commit(job=other, task="task-1")
    assert table.owner_of_task("task-1") == one.id
    found = table.job(other.id)
    assert found is not None
    assert found.status == WAITING


# ---------------------------------------------------------------------- the queue and the index
def test_the_queue_is_the_oldest_first_whatever_order_jobs_were_written_in(table: Table) -> None:
    for second in (30, 5, 100, 0.5, 7):
        job = new_job(f"n{second}", status=QUEUED)
        job.queue_key = f"{iso(NOW + second)}#{job.id}"
        table.commit(job=job)
    found = [table.job(job_id) for _, job_id in table.queue(4)]
    assert [job.name for job in found if job] == ["n0.5", "n5", "n7", "n30"]
    keys = [key for key, _ in table.queue(10)]
    assert [table.place(key) for key in keys] == [(n, 5) for n in range(1, 6)]
    assert [key for key, _ in table.queue(2, after=keys[1])] == keys[2:4]
    assert table.queue_length() == 5


def test_a_job_has_one_queue_entry_which_moves_and_goes_with_it(table: Table) -> None:
    job = new_job(status=QUEUED, queue_key="t1#a")
    table.commit(job=job)
    job.queue_key = "t2#a"
    table.commit(job=job)
    assert table.queue(10) == [("t2#a", job.id)]
    job.status, job.queue_key = SUBMITTING, None
    table.commit(job=job)
    assert table.queue(10) == []


def test_jobs_that_a_folder_may_change_are_found_in_pages_and_leave_with_the_entry(table: Table) -> None:
    jobs = [new_job(f"acme/{n}", look_in=[FOLDER]) for n in range(5)]
    for job in jobs:
        table.commit(job=job)
    found: list[str] = []
    cursor = None
    while True:
        page, cursor = table.open_in(FOLDER, cursor, 2)
        found += page
        if cursor is None:
            break
    assert found == sorted(j.id for j in jobs)
    jobs[0].look_in = []
    table.commit(job=jobs[0])
    assert jobs[0].id not in table.open_in(FOLDER, None, 10)[0]


def test_the_index_holds_jobs_that_are_untold_at_the_provider_or_lingering_and_no_others(table: Table) -> None:
    told = new_job("told", status=DONE, revision=3, told=3)
    expected = [
        new_job("untold", status=DONE, revision=3, told=2),
        new_job("submitting", status=SUBMITTING),
        new_job("rendering", status=RENDERING),
        new_job("lingering", status="failed", lingering={"task": "t", "attempt": 1, "until": NOW}),
    ]
    for job in [told, *expected]:
        table.commit(job=job)
    found: list[str] = []
    cursor = None
    while True:
        page, cursor = table.open_jobs(cursor, 2)
        found += page
        if cursor is None:
            break
    assert sorted(found) == sorted(j.id for j in expected)
    expected[0].told = 3
    table.commit(job=expected[0])
    assert expected[0].id not in table.open_jobs(None, 10)[0]


def test_jobs_never_expire_and_caches_do(table: Table) -> None:
    job = new_job(status=DONE)
    table.commit(job=job)
    table.put_check("sha#1:1", {"face": [1, 2, 3, 4], "ext": [0, 0, 9, 9]}, NOW)
    assert table.check("sha#1:1") == {"face": [1, 2, 3, 4], "ext": [0, 0, 9, 9]}
    assert table.check("other#1:1") is None
    assert "expires" not in raw(f"JOB#{job.id}")[0]
    assert int(raw("CHECK#sha#1:1")[0]["expires"]["N"]) > NOW


# ---------------------------------------------------------------------- files
def file(version: str, sequencer: str, **fields: Any) -> File:
    return File("acme/line.wav", version, 10, NOW, sequencer, **fields)


@pytest.fixture
def voices(table: Table) -> Callable[[], list[str]]:
    def known() -> list[str]:
        return [f.version for f in table.job_and_files(named("acme/line.wav").job)[1]]

    return known


WAV = named("acme/line.wav")


def test_a_later_event_replaces_an_earlier_one_and_not_the_other_way_round(table: Table, voices: Any) -> None:
    assert table.put_file(WAV, file("v1", "0055AED6DCD90281E5")) is True
    assert table.put_file(WAV, file("v2", "0055AED6DCD90281E6")) is True
    assert table.put_file(WAV, file("v1", "0055AED6DCD90281E5")) is False
    assert voices() == ["v2"]


def test_sequencers_of_different_lengths_are_compared_padded_with_zeros_on_the_right(table: Table, voices: Any) -> None:
    assert table.put_file(WAV, file("v1", "00FF")) is True
    assert table.put_file(WAV, file("v2", "00FF01")) is True
    assert table.put_file(WAV, file("v3", "00FE99999999")) is False
    assert voices() == ["v2"]


def test_the_same_event_again_is_known(table: Table, voices: Any) -> None:
    assert table.put_file(WAV, file("v1", "05")) is True
    assert table.put_file(WAV, file("v1", "05")) is False
    assert voices() == ["v1"]


def test_a_deletion_hides_the_file_and_an_older_event_does_not_bring_it_back(table: Table, voices: Any) -> None:
    table.put_file(WAV, file("v1", "05"))
    assert table.put_file(WAV, file("", "07", gone=True)) is True
    assert voices() == []
    assert table.put_file(WAV, file("v1", "05")) is False
    assert table.put_file(WAV, file("v0", "06")) is False
    assert voices() == []
    assert table.put_file(WAV, file("v2", "08")) is True
    assert voices() == ["v2"]


def test_a_deletion_that_came_first_keeps_the_upload_out(table: Table, voices: Any) -> None:
    table.put_file(WAV, file("", "07", gone=True))
    assert table.put_file(WAV, file("v1", "05")) is False
    assert voices() == []
    assert int(raw(f"JOB#{WAV.job}")[0]["expires"]["N"]) >= NOW + 14 * 86_400, "as long as SQS may keep the event"


def test_an_upload_after_a_deletion_lives_on_when_the_deletions_mark_would_expire(table: Table) -> None:
    table.put_file(WAV, file("", "07", gone=True))
    table.put_file(WAV, file("v2", "", gone=False))  # a scan has found it
    assert all("expires" not in item for item in raw(f"JOB#{WAV.job}"))


def test_what_a_scan_finds_does_not_undo_the_order_of_events(table: Table, voices: Any) -> None:
    table.put_file(WAV, file("v1", "05"))
    assert table.put_file(WAV, file("v1", "")) is False
    assert table.put_file(WAV, file("v2", "")) is True
    assert voices() == ["v2"]
    assert table.put_file(WAV, file("v0", "04")) is False
    assert voices() == ["v2"]


def test_what_was_found_out_about_a_version_is_kept_for_that_version_only(table: Table) -> None:
    table.put_file(WAV, file("v1", "05"))
    table.update_file(WAV, file("v1", "05", facts={"seconds": 1.0}))
    table.put_file(WAV, file("v2", "06"))
    table.update_file(WAV, file("v1", "05", facts={"seconds": 9.0}))
    (found,) = table.job_and_files(WAV.job)[1]
    assert (found.version, found.facts) == ("v2", None)


def test_files_are_found_as_what_they_are(table: Table) -> None:
    for key in (
        "acme/line.wav",
        "acme/line.m4a",
        "acme/line.json",
        "acme/line.png",
        "acme/anna.PNG",
        "acme/settings.json",
    ):
        table.put_file(named(key), File(key, "v1", 1, NOW, "01"))
    job, sounds, jsons = table.job_and_files(WAV.job)
    assert job is None
    assert sorted(f.key for f in sounds) == ["acme/line.m4a", "acme/line.wav"]
    assert [f.key for f in jsons] == ["acme/line.json"]
    assert [f.key for f in table.same_name_images(FOLDER, WAV.job)] == ["acme/line.png"]
    images, count = table.images(FOLDER, 1)
    assert (len(images), count) == (1, 2)
    assert [f.key for f in table.folder(FOLDER).settings or []] == ["acme/settings.json"]


# ---------------------------------------------------------------------- folders, wake-ups, slots
def test_each_change_of_a_folder_shows(table: Table) -> None:
    states = [table.folder_changes(FOLDER)]
    for pictures in (True, False, True):
        table.note_change(FOLDER, pictures=pictures, now=NOW)
        states.append(table.folder_changes(FOLDER))
    assert len(set(states)) == 4
    assert table.folder(FOLDER).changed == states[-1]
    assert (table.folder(FOLDER).images_at, table.folder(FOLDER).settings_at) == (NOW, NOW)


def test_one_walk_at_a_time_unless_its_message_was_lost(table: Table) -> None:
    assert table.begin_walk(FOLDER, due=NOW + 15, now=NOW) is True
    assert table.begin_walk(FOLDER, due=NOW + 16, now=NOW + 1) is False
    table.end_walk(FOLDER)
    assert table.begin_walk(FOLDER, due=NOW + 40, now=NOW + 20) is True
    assert table.begin_walk(FOLDER, due=NOW + 50, now=NOW + 45) is False
    assert table.begin_walk(FOLDER, due=NOW + 2000, now=NOW + 1900) is True


def test_a_storm_claims_one_wake_up_and_an_earlier_one_is_claimed_all_the_same(table: Table) -> None:
    assert table.claim_wake(NOW + 60, NOW) is True
    assert table.claim_wake(NOW + 60, NOW) is False
    assert table.claim_wake(NOW + 90, NOW) is False
    assert table.claim_wake(NOW + 30, NOW) is True
    assert table.claim_wake(NOW + 90, NOW + 31) is True


def test_slots_come_back_as_they_were_written(table: Table) -> None:
    slots = Slots(owners=["a#1"], creating=Creating("a", 1, NOW, NOW + 120, 0.032), spent=0.1)
    slots.hold_account(NOW, hold_seconds=60, code="Arrearage", message="x")
    table.commit(slots=slots)
    assert table.slots().as_dict() == slots.as_dict()


def test_the_pace_is_remembered(table: Table) -> None:
    assert table.pace() == Pace()
    table.put_pace(Pace(3.5, 2))
    assert table.pace() == Pace(3.5, 2)
