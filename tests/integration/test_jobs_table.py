"""The Jobs table on the keys and index of template.yaml: conditional writes, transactions, order, late events."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from world import TABLE, client, items, named, new_job, upload

from portraitcast.adapters.jobs_table import JobsTable
from portraitcast.domain.account import Account, OpenCreate
from portraitcast.domain.job import Candidates, Inputs, OrphanedTask, PortraitCheck, Status, Task, Video, Voice, iso
from portraitcast.domain.models import Boxes
from portraitcast.domain.polling import Pace
from portraitcast.domain.problems import Problem
from portraitcast.domain.settings import effective
from portraitcast.domain.uploads import Facts, Upload, short_hash
from portraitcast.errors import ConflictError, TryLaterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from portraitcast.adapters.jobs_table import OpenEntries
    from portraitcast.domain.job import Job
    from portraitcast.domain.settings import Effective

NOW = 1_800_000_000.0
FOLDER = short_hash("acme")
MODEL = "emo-v1"


def queued(name: str = "acme/line", key: str = "t1#a", **fields: Any) -> Job:
    return new_job(name, status=Status.QUEUED, queue_key=key, place_key=key, **fields)


def saved(table: JobsTable, job: Job, was: Job | None = None) -> Job:
    return table.save(job, was=was)[0]


def of_model(model: str) -> Effective:
    """Return settings as they hold for another model."""
    return replace(effective(None, None, picture_size=None, own_key=None), model=model, runs=model)


def pages(read: Callable[[str | None], tuple[list[str], str | None]]) -> list[str]:
    """Read page behind page, each of at most two."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = read(cursor)
        assert len(page) <= 2
        found += page
        if cursor is None:
            return found


# ---------------------------------------------------------------------- jobs
def test_a_job_comes_back_as_it_was_written(table: JobsTable) -> None:
    voice = Voice("acme/línea 名 😀.wav", "v1", "etag", sha256="ab", bytes=12, seconds=0.4, type="wav")
    settings = effective(None, None, picture_size=(400, 600), own_key=None)
    job = new_job(
        status=Status.QUEUED,
        queue_key=f"{iso(NOW)}#x",
        open_folders=(FOLDER,),
        inputs=Inputs("acme/línea 名 😀", voice, settings=settings, own=("acme/line.wav\nv1",), folders=(FOLDER,)),
        problems=(Problem("X", "a", "b"), Problem("Y", "c", "d", limit="60 s")),
        candidates=Candidates(("a.png", "b.png"), 2),
        boxes=Boxes((1, 2, 3, 4), (0, 0, 9, 9)),
        task=Task("t", NOW, 12.5),
        orphans=(OrphanedTask(Task("o", NOW), 1, 2, "f", made=True),),
        video=Video("a.mp4", 10, 0.4, 512, 512, "cd"),
        ready_at=NOW + 0.123456,
        check_cost=0.004,
    )
    written = saved(table, job)
    assert written == replace(job, version=1)
    assert table.job(job.id) == written
    assert table.job("0" * 32) is None


def test_items_are_native_attributes(table: JobsTable) -> None:
    """A person reads the item in the console: maps and numbers, not a JSON string in one attribute."""
    job = saved(table, new_job(inputs=Inputs("acme/line", Voice("acme/line.wav", "v1", seconds=0.5))))
    (item,) = items(f"JOB#{job.id}")
    assert item["status"] == {"S": "waiting"}
    assert item["inputs"]["M"]["voice"]["M"]["seconds"] == {"N": "0.5"}


def test_a_new_job_is_written_once(table: JobsTable) -> None:
    saved(table, new_job())
    with pytest.raises(ConflictError):
        saved(table, new_job())


def test_a_late_writer_conflicts_and_changes_nothing(table: JobsTable) -> None:
    """Neither the job nor its entries, nor the account, nor the task: one transaction."""
    read = saved(table, queued(open_folders=(FOLDER,)))
    saved(table, replace(read, status=Status.DONE, queue_key=None, open_folders=()), was=read)
    mine = replace(read, queue_key="t2#a", open_folders=("f" * 32,))
    with pytest.raises(ConflictError):
        table.save(mine, was=read, account=Account().take_slot("x#1", MODEL), tasks=("task-1",))
    found = table.job(read.id)
    assert found is not None
    assert found.status is Status.DONE
    assert table.queue(MODEL, 10) == []
    assert table.open_in("f" * 32, None, 10) == ([], None)
    assert table.account().tasks_in_flight == {}
    assert table.is_known_task("task-1") is False


def test_a_changed_account_keeps_the_job_back(table: JobsTable) -> None:
    stale = table.account()
    table.save_account(replace(stale, paused=True))
    job = new_job(status=Status.CREATING)
    with pytest.raises(ConflictError):
        table.save(job, was=None, account=stale.take_slot("mine#1", MODEL))
    assert table.job(job.id) is None
    assert table.account().paused is True


def test_a_change_is_made_again_on_anothers(table: JobsTable) -> None:
    job = saved(table, new_job())
    seen: list[int] = []

    def change(current: Job, account: Account) -> tuple[Job, Account]:
        seen.append(current.revision)
        if len(seen) == 1:
            saved(table, replace(current, revision=7), was=current)
        return replace(current, tries=current.tries + 1), account.take_slot(current.owner, MODEL)

    changed = table.update_both(job.id, change)
    assert changed is not None
    assert (seen, changed.job.revision, changed.job.tries) == ([0, 7], 7, 1)
    assert changed.account_before.tasks_in_flight == {}
    assert table.account().tasks_in_flight == {job.owner: MODEL}
    assert table.job(job.id) == changed.job


def test_a_change_that_declines_writes_nothing(table: JobsTable) -> None:
    job = saved(table, new_job())
    assert table.update(job.id, lambda _: None) is None
    assert table.update(job.id, lambda current: current) == job
    assert table.update("0" * 32, lambda current: current) is None
    assert table.update_both(job.id, lambda *_: None) is None
    assert table.update_both("0" * 32, lambda *both: both) is None
    assert table.update_account(lambda account: account) == (Account(), Account())
    assert table.job(job.id) == job


def test_endless_contention_is_for_later(table: JobsTable) -> None:
    job = saved(table, new_job())

    def beaten_account(account: Account) -> Account:
        table.save_account(account)
        return replace(account, paused=True)

    def beaten_job(current: Job) -> Job:
        saved(table, current, was=current)
        return replace(current, tries=9)

    with pytest.raises(TryLaterError):
        table.update_account(beaten_account)
    with pytest.raises(TryLaterError):
        table.update(job.id, beaten_job)
    with pytest.raises(TryLaterError):
        table.update_both(job.id, lambda job, account: (beaten_job(job), account))


def test_a_task_id_is_written_once(table: JobsTable) -> None:
    one, other = (saved(table, new_job(name)) for name in ("acme/a", "acme/b"))
    table.save(replace(one, status=Status.RENDERING), was=one, tasks=("task-1",))
    assert table.is_known_task("task-1") is True
    with pytest.raises(ConflictError):
        table.save(replace(other, status=Status.RENDERING), was=other, tasks=("task-2", "task-1"))
    assert table.is_known_task("task-2") is False
    assert table.job(other.id) == other


# ---------------------------------------------------------------------- the queue and the index
def test_the_queue_is_the_oldest_first(table: JobsTable) -> None:
    jobs = []
    for second in (30, 5, 100, 0.5, 7):
        job = new_job(f"n{second}", status=Status.QUEUED)
        jobs.append(saved(table, replace(job, queue_key=f"{iso(NOW + second)}#{job.id}", ready_at=NOW)))
    in_order = sorted(jobs, key=lambda job: str(job.queue_key))
    assert [job.name for job in in_order] == ["n0.5", "n5", "n7", "n30", "n100"]
    entries = table.queue(MODEL, 10)
    assert [(e.key, e.job, e.ready_at) for e in entries] == [(j.queue_key, j.id, NOW) for j in in_order]
    assert [table.place(job) for job in in_order] == [(n, 5) for n in range(1, 6)]
    assert table.queue(MODEL, 4) == entries[:4]
    assert table.queue(MODEL, 2, after=entries[1].key) == entries[2:4]
    assert table.queue_length((MODEL,)) == 5


def test_each_model_has_a_queue_of_its_own(table: JobsTable) -> None:
    settings = replace(
        effective(None, None, picture_size=None, own_key=None), model="liveportrait", runs="liveportrait"
    )
    other = saved(table, queued("b", inputs=Inputs("b", settings=settings)))
    mine = saved(table, queued("a"))
    assert [e.job for e in table.queue(MODEL, 10)] == [mine.id]
    assert [e.job for e in table.queue("liveportrait", 10)] == [other.id]
    assert (table.place(mine), table.place(other)) == ((1, 1), (1, 1))
    assert table.queue_length((MODEL, "liveportrait")) == 2


def test_a_job_has_one_queue_entry(table: JobsTable) -> None:
    """It moves with the job, also to another model's queue, and goes with it."""
    job = saved(table, queued())
    moved = saved(table, replace(job, queue_key="t2#a", ready_at=NOW), was=job)
    assert [(e.key, e.ready_at) for e in table.queue(MODEL, 10)] == [("t2#a", NOW)]
    settings = replace(
        effective(None, None, picture_size=None, own_key=None), model="liveportrait", runs="liveportrait"
    )
    changed = saved(table, replace(moved, inputs=Inputs("acme/line", settings=settings)), was=moved)
    assert (table.queue(MODEL, 10), len(table.queue("liveportrait", 10))) == ([], 1)
    saved(table, replace(changed, status=Status.CREATING, queue_key=None), was=changed)
    assert table.queue("liveportrait", 10) == []


def test_open_jobs_of_a_folder_come_in_pages(table: JobsTable) -> None:
    jobs = [saved(table, new_job(f"acme/{n}", open_folders=(FOLDER,))) for n in range(5)]
    assert pages(lambda cursor: table.open_in(FOLDER, cursor, 2)) == sorted(job.id for job in jobs)
    saved(table, replace(jobs[0], open_folders=()), was=jobs[0])
    assert jobs[0].id not in table.open_in(FOLDER, None, 10)[0]


def test_the_index_holds_what_needs_attention(table: JobsTable) -> None:
    """Jobs that are unpublished, at the provider, with new files or an orphaned task; folders to re-evaluate."""
    quiet = new_job("published", status=Status.DONE, revision=3, published=3)
    expected = [
        new_job("unpublished", status=Status.DONE, revision=3, published=2),
        new_job("creating", status=Status.CREATING),
        new_job("rendering", status=Status.RENDERING),
        new_job("followed", status=Status.REJECTED, follow_up=True),
        new_job("orphaned", status=Status.FAILED, orphans=(OrphanedTask(Task("t", NOW), 1, 1, "f"),)),
    ]
    written = [saved(table, job) for job in [*expected, quiet]]
    table.claim_reevaluation(FOLDER, due=NOW, now=NOW)

    def page(cursor: str | None) -> tuple[list[str], str | None]:
        found: OpenEntries = table.open_entries(cursor, 2)
        return [*found.jobs, *found.folders], found.cursor

    assert sorted(pages(page)) == sorted([*(job.id for job in expected), FOLDER])
    saved(table, replace(written[0], published=3), was=written[0])
    table.end_reevaluation(FOLDER)
    assert sorted(pages(page)) == sorted(job.id for job in expected[1:])


def test_jobs_never_expire_and_checks_do(table: JobsTable) -> None:
    job = saved(table, new_job(status=Status.DONE))
    passed = PortraitCheck(Boxes((1, 2, 3, 4), (0, 0, 9, 9)))
    refused = PortraitCheck(problem=Problem("PortraitRefused", "a", "b", provider_code="NoHuman"))
    table.put_check("sha#1:1", passed, NOW)
    table.put_check("sha#3:4", refused, NOW)
    assert (table.check("sha#1:1"), table.check("sha#3:4"), table.check("other#1:1")) == (passed, refused, None)
    assert "expires" not in items(f"JOB#{job.id}")[0]
    assert int(items("CHECK#sha#1:1")[0]["expires"]["N"]) > NOW


# ---------------------------------------------------------------------- uploads
WAV = named("acme/line.wav")


def note(table: JobsTable, *uploads: Upload) -> None:
    for one in uploads:
        table.note_upload(one, table.upload(one.name))


def test_an_upload_comes_back_as_it_was_noted(table: JobsTable) -> None:
    facts = Facts("ab", "wav", seconds=0.4, problem=Problem("X", "a", "b"))
    noted = upload("acme/line.wav", "v1", "05", etag="e", facts=facts)
    assert table.upload(WAV) is None
    note(table, noted)
    assert table.upload(WAV) == noted
    assert table.job_files(WAV.job).sounds == (noted,)


def test_an_upload_noted_meanwhile_conflicts(table: JobsTable) -> None:
    """Another version, or a newer event of the same version: who read it before reads it again."""
    note(table, upload("acme/line.wav", "v1", "05"))
    with pytest.raises(ConflictError):
        table.note_upload(upload("acme/line.wav", "v2", "06"), None)
    read = table.upload(WAV)
    note(table, upload("acme/line.wav", "v2", "06"))
    with pytest.raises(ConflictError):
        table.note_upload(upload("acme/line.wav", "v3", "07"), read)
    read = table.upload(WAV)
    note(table, upload("acme/line.wav", "v2", "08"))
    with pytest.raises(ConflictError):
        table.note_upload(upload("acme/line.wav", "v3", "07"), read)


def test_a_deleted_marker_hides_the_file_and_expires(table: JobsTable) -> None:
    note(table, upload("acme/line.wav", "v1", "05"), upload("acme/line.wav", "", "07", bytes=0, deleted=True))
    assert table.job_files(WAV.job).sounds == ()
    known = table.upload(WAV)
    assert known is not None
    assert (known.deleted, known.sequencer) == (True, "07")
    assert int(items(f"JOB#{WAV.job}")[0]["expires"]["N"]) >= NOW + 14 * 86_400, "as long as SQS may keep the event"
    note(table, upload("acme/line.wav", "v2", "08"))
    assert all("expires" not in item for item in items(f"JOB#{WAV.job}")), "what lives on doesn't expire"


def test_what_was_read_is_kept_for_its_version_only(table: JobsTable) -> None:
    note(table, upload("acme/line.wav", "v1", "05", unread=True))
    table.keep_reading(upload("acme/line.wav", "v1", text="{}", facts=Facts(seconds=1.0), refused=True))
    (found,) = table.job_files(WAV.job).sounds
    assert (found.unread, found.text, found.facts, found.refused) == (False, "{}", Facts(seconds=1.0), True)
    assert found.sequencer == "05", "reading a file changes nothing of the order of its events"
    note(table, upload("acme/line.wav", "v2", "06"))
    table.keep_reading(upload("acme/line.wav", "v1", facts=Facts(seconds=9.0)))
    (found,) = table.job_files(WAV.job).sounds
    assert (found.version, found.facts) == ("v2", None)


def test_asking_to_read_keeps_what_was_found(table: JobsTable) -> None:
    """Prepare may answer before it is noted that it was asked."""
    note(table, upload("acme/line.wav", "v1", "05"))
    table.keep_reading(upload("acme/line.wav", "v1", facts=Facts(seconds=1.0)))
    table.keep_reading(upload("acme/line.wav", "v1", asked_at=NOW))
    (found,) = table.job_files(WAV.job).sounds
    assert (found.facts, found.asked_at) == (Facts(seconds=1.0), NOW)


def test_without_versions_the_etag_tells_them_apart(table: JobsTable) -> None:
    note(table, upload("acme/line.wav", "null", "05", etag="one"))
    table.keep_reading(upload("acme/line.wav", "null", etag="other", facts=Facts(seconds=9.0)))
    (found,) = table.job_files(WAV.job).sounds
    assert found.facts is None
    table.keep_reading(upload("acme/line.wav", "null", etag="one", facts=Facts(seconds=1.0)))
    (found,) = table.job_files(WAV.job).sounds
    assert found.facts == Facts(seconds=1.0)


def test_files_are_found_as_what_they_are(table: JobsTable) -> None:
    own = ("acme/line.wav", "acme/line.m4a", "acme/line.json")
    for key in (*own, "acme/line.png", "acme/anna.PNG", "acme/settings.json"):
        note(table, upload(key))
    found = table.job_files(WAV.job)
    assert found.job is None
    assert sorted(f.key for f in found.sounds) == ["acme/line.m4a", "acme/line.wav"]
    assert [f.key for f in found.jsons] == ["acme/line.json"]
    assert [f.key for f in found.pictures] == ["acme/line.png"]
    assert table.pictures_of(WAV.job) == found.pictures
    folder = table.folder(FOLDER)
    pictures = table.pictures(FOLDER, folder.pictures)
    assert (sorted(pictures.keys), pictures.count) == (["acme/anna.PNG", "acme/line.png"], 2)
    assert [f.key for f in folder.settings] == ["acme/settings.json"]


def test_deleted_pictures_are_neither_listed_nor_counted(table: JobsTable) -> None:
    for n in range(3):
        note(table, upload(f"acme/{n}.png"))
    note(table, upload("acme/1.png", "", "02", bytes=0, deleted=True))
    note(table, upload("acme/2.png", "v2", "02"))
    folder = table.folder(FOLDER)
    pictures = table.pictures(FOLDER, folder.pictures)
    assert (sorted(pictures.keys), pictures.count) == (["acme/0.png", "acme/2.png"], 2)


# ---------------------------------------------------------------------- folders, wake-ups, the account
def test_each_change_of_a_folder_shows(table: JobsTable) -> None:
    states = [table.folder_changes(FOLDER)]
    for change in (
        upload("acme/anna.png", "v1", "01"),
        upload("acme/settings.json", "v1", "01"),
        upload("acme/anna.png", "v2", "02"),
        upload("acme/anna.png", "", "03", bytes=0, deleted=True),
    ):
        note(table, change)
        states.append(table.folder_changes(FOLDER))
    assert len(set(states)) == 5
    note(table, upload("acme/anna.png", "", "04", bytes=0, deleted=True))
    assert table.folder_changes(FOLDER) == states[-1], "a newer event of what is known is no change"
    folder = table.folder(FOLDER)
    assert (folder.images_at, folder.settings_at, folder.pictures) == (NOW, NOW, 0)


def test_one_reevaluation_at_a_time(table: JobsTable) -> None:
    assert table.claim_reevaluation(FOLDER, due=NOW + 15, now=NOW) is True
    assert table.claim_reevaluation(FOLDER, due=NOW + 16, now=NOW + 1) is False
    table.end_reevaluation(FOLDER)
    assert table.claim_reevaluation(FOLDER, due=NOW + 40, now=NOW + 20) is True
    assert table.claim_reevaluation(FOLDER, due=NOW + 50, now=NOW + 45) is False
    table.postpone_reevaluation(FOLDER, NOW + 300)
    assert table.claim_reevaluation(FOLDER, due=NOW + 320, now=NOW + 310) is False
    assert table.claim_reevaluation(FOLDER, due=NOW + 2000, now=NOW + 1900) is True, "its message was lost"
    assert table.folder(FOLDER).reevaluate_at == NOW + 2000


def test_a_storm_claims_one_wake_up(table: JobsTable) -> None:
    assert table.claim_wake(NOW + 60, NOW) is True
    assert table.claim_wake(NOW + 60, NOW) is False
    assert table.claim_wake(NOW + 90, NOW) is False
    assert table.claim_wake(NOW + 30, NOW) is True, "an earlier one is claimed all the same"
    assert table.claim_wake(NOW + 90, NOW + 31) is True


def test_the_account_comes_back_as_written(table: JobsTable) -> None:
    create = OpenCreate("a", 1, MODEL, NOW, NOW + 120, 0.032)
    account = Account().begin_create(create, "key-1").open_breaker(NOW, interval=60, code="Arrearage", message="x")
    written = table.save_account(replace(account, failures={"a": 2}))
    assert written.version == 1
    assert table.account() == written


def test_a_slot_is_released_whatever_else_changes(table: JobsTable) -> None:
    table.update_account(lambda account: account.take_slot("a#1", MODEL).take_slot("b#1", MODEL))
    read = table.account()
    assert table.release_slot("a#1") is True
    assert table.release_slot("a#1") is False
    assert table.account().tasks_in_flight == {"b#1": MODEL}
    with pytest.raises(ConflictError):
        table.save_account(replace(read, paused=True))


def test_a_pace_is_written_with_its_job(table: JobsTable) -> None:
    """Each model has its own; another process reads it."""
    assert table.pace(MODEL) == Pace()
    table.save(new_job(), was=None, pace=(MODEL, Pace(3.5, 2)))
    other = JobsTable(client("dynamodb"), TABLE)
    assert (table.pace(MODEL), other.pace(MODEL), other.pace("liveportrait")) == (Pace(3.5, 2), Pace(3.5, 2), Pace())


def test_what_was_read_is_written_with_the_job(table: JobsTable) -> None:
    """Unless another version has come meanwhile: then the job was evaluated from what is no longer there."""
    note(table, upload("acme/line.wav", "v1", "05"))
    read = upload("acme/line.wav", "v1", facts=Facts(seconds=1.0))
    table.save(new_job(), was=None, read=(read,))
    assert table.job_files(WAV.job).sounds[0].facts == Facts(seconds=1.0)
    note(table, upload("acme/line.wav", "v2", "06"))
    with pytest.raises(ConflictError):
        table.save(new_job("acme/other"), was=None, read=(read,))
    assert table.job(named("acme/other.wav").job) is None


def test_what_is_known_spares_a_read_and_no_conflict(table: JobsTable) -> None:
    """`known` may be old: the change is made again on what is there."""
    old = saved(table, new_job())
    saved(table, replace(old, revision=7), was=old)
    written = table.update(old.id, lambda job: replace(job, tries=job.tries + 1), known=old)
    assert written is not None
    assert (written.revision, written.tries) == (7, 1)
    both = table.update_both(old.id, lambda job, account: (job.use_retry(), account), known=(old, Account()))
    assert both is not None
    assert (both.job.revision, both.job.retried) == (7, True)
