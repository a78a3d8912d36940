"""What a crowd costs: nothing that a job needs grows with the folder, the bucket or the queue, and nobody starves.

A partition of DynamoDB gives 3,000 read units a second (DynamoDB, "Best practices for partition keys").
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from world import TABLE, client, counting_reads, named, new_job, portrait, upload, voice

from portraitcast.adapters.jobs_table import LENGTH_MAX, PLACE_MAX
from portraitcast.domain.job import Job, Status, iso
from portraitcast.domain.uploads import short_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

MODEL = "emo-v1"
FEW, MANY = 30, 1500


def pictures(world: World, first: int, last: int) -> None:
    """Put so many more pictures into a folder, as their events would, in fewer calls."""
    folder = f"FOLDER#{short_hash('acme')}"
    listed = [
        {"pk": {"S": folder}, "sk": {"S": f"PICTURE#{short_hash(str(n))}"}, "key": {"S": f"acme/{n}.png"}}
        for n in range(first, last)
    ]
    _write(listed)
    client("dynamodb").update_item(
        TableName=TABLE,
        Key={"pk": {"S": folder}, "sk": {"S": "STATE"}},
        UpdateExpression="SET images_at = :now ADD pictures :more, changes :more",
        ExpressionAttributeValues={":more": {"N": str(last - first)}, ":now": {"N": repr(world.clock())}},
    )
    assert world.table.folder(short_hash("acme")).pictures == last


def note(world: World, key: str) -> None:
    world.table.note_upload(upload(key, noticed_at=world.clock()), None)


def queued(world: World, count: int, *, model: str = MODEL) -> None:
    """Fill a queue with entries as they are stored; their jobs come later."""
    _write(
        [
            {
                "pk": {"S": f"QUEUE#{model}"},
                "sk": {"S": f"{iso(world.clock() - 1000 + n / 1000)}#{n:032}"},
                "job": {"S": f"{n:032}"},
                "ready_at": {"N": str(world.clock() + 1e6)},
            }
            for n in range(count)
        ]
    )


def _write(items: list[dict[str, Any]]) -> None:
    for n in range(0, len(items), 25):
        requests: Any = [{"PutRequest": {"Item": item}} for item in items[n : n + 25]]
        client("dynamodb").batch_write_item(RequestItems={TABLE: requests})


def reads_of(world: World, do: Callable[[], object]) -> int:
    with counting_reads() as reads:
        do()
    return reads.items


# ---------------------------------------------------------------------- flat
@pytest.mark.parametrize("own_picture", [True, False], ids=["own portrait", "no portrait"])
def test_an_event_in_a_folder_of_thousands(world: World, *, own_picture: bool) -> None:
    """A voice's, a picture's and a settings' event read as much beside 1,500 pictures as beside 30."""
    pictures(world, 0, FEW)
    few = _reads_in_the_folder(world, "few", own_picture=own_picture)
    pictures(world, FEW + own_picture, MANY)
    many = _reads_in_the_folder(world, "many", own_picture=own_picture)
    assert many <= few + 4, "the entries of the first job"
    assert many < 150


def _reads_in_the_folder(world: World, name: str, *, own_picture: bool) -> int:
    events = [world.put(f"acme/{name}.wav", voice()), world.put("acme/settings.json", {})]
    if own_picture:
        events.append(world.put(f"acme/{name}.png", portrait()))

    def arrive() -> None:
        for event in events:
            world.handle(event)
        world.evaluate.job(world.job_id(f"acme/{name}"))

    return reads_of(world, arrive)


def test_the_count_of_a_full_folder_is_told(world: World) -> None:
    """Though no more than twenty of its pictures are read."""
    pictures(world, 0, MANY)
    world.advance(60)
    world.drop("acme/line.wav", voice())
    world.run(60)
    candidates = world.its_report("acme/line")["candidates"]
    assert (len(candidates["keys"]), candidates["count"]) == (20, MANY)


def test_deleted_pictures_are_not_read_either(world: World) -> None:
    """A folder out of which hundreds were deleted is read like an empty one."""
    for n in range(60):
        note(world, f"acme/{n}.png")
        known = world.table.upload(named(f"acme/{n}.png"))
        assert known is not None
        world.table.note_upload(replace(known, version="", bytes=0, deleted=True), known)
    note(world, "acme/anna.png")
    assert reads_of(world, lambda: world.table.pictures(short_hash("acme"), 1)) == 1


def test_a_place_in_a_queue_of_thousands(world: World) -> None:
    """It is counted up to a bound: what can't be kept true isn't written."""
    job = world.table.save(new_job(status=Status.QUEUED, queue_key="9999#a", place_key="9999#a"), was=None)[0]
    queued(world, FEW)
    assert world.table.place(job) == (FEW + 1, FEW + 1)
    queued(world, MANY)
    assert reads_of(world, lambda: world.table.place(job)) <= PLACE_MAX
    assert world.table.place(job) == (None, None)
    first = replace(job, queue_key="0000#a")
    assert world.table.place(first) == (1, None)


def test_a_sweep_of_a_queue_of_thousands(world: World) -> None:
    """It counts without reading the entries to us, bounded too."""
    queued(world, MANY)
    world.table.update_account(lambda account: account.use_model(MODEL))
    world.post({"sweep": True})
    world.run(0)
    assert ("QueueLength", MANY) in world.measured
    assert LENGTH_MAX <= 10_000


# ---------------------------------------------------------------------- nobody starves
def not_ready(world: World, count: int) -> list[Job]:
    """Let jobs stand at the head of the queue whose files always go on arriving."""
    jobs = []
    for n in range(count):
        job = new_job(f"busy/{n}", status=Status.QUEUED, ready_at=world.clock() + 1e6, published=0)
        place = f"{iso(world.clock() - 1000 + n)}#{job.id}"
        jobs.append(world.table.save(replace(job, queue_key=place, place_key=place), was=None)[0])
    return jobs


def test_a_job_behind_sixty_that_are_not_ready(world: World) -> None:
    not_ready(world, 60)
    world.drop_pair("line")
    world.run(30)
    assert world.status("line") == "done"


def test_the_earliest_of_those_not_ready_is_waited_for(world: World) -> None:
    """Though sixty stand before it: the wake-up is the earliest of all pages'."""
    not_ready(world, 60)
    world.post({"pause": True})
    world.drop_pair("line")
    world.run(1)
    world.post({"pause": False})
    world.run(20)
    assert world.status("line") == "done"


@pytest.mark.parametrize("key", ["busy/settings.json", "busy/anna.png", "busy/0.wav"])
def test_repeated_events_move_nothing(world: World, key: str) -> None:
    """An event every 2.5 s of a version that is known: its jobs are sent when they would have been."""
    bodies: dict[str, Any] = {"busy/settings.json": {}, "busy/anna.png": portrait()}
    bodies |= {f"busy/{n}.wav": voice(pitch=0.1 + n / 100) for n in range(4)}
    world.post({"pause": True})
    events = {its: world.drop(its, body) for its, body in bodies.items()}
    world.run(60)
    before = [(job.ready_at, job.queue_key, job.revision) for job in (world.job(f"busy/{n}") for n in range(4))]
    for _ in range(8):
        world.post(events[key])
        world.run(2.5)
    after = [(job.ready_at, job.queue_key, job.revision) for job in (world.job(f"busy/{n}") for n in range(4))]
    assert after == before
    world.post({"pause": False})
    for _ in range(8):
        world.post(events[key])
        world.run(2.5)
    assert len(world.tasks()) >= 2
    world.run()
    assert [world.status(f"busy/{n}") for n in range(4)] == ["done"] * 4
    assert len(world.tasks()) == 4


def test_new_settings_without_end_starve_nobody_else(world: World) -> None:
    """A settings.json that really changes every 2.5 s holds its own folder's jobs back, and no others."""
    world.drop("busy/anna.png", portrait())
    for n in range(3):
        world.drop(f"busy/{n}.wav", voice(pitch=0.1 + n / 100))
    world.run(17)
    world.post({"pause": True})
    world.drop_pair("line", pitch=0.3)
    world.run(5)
    world.post({"pause": False})
    for n in range(10):
        world.drop("busy/settings.json", {"parameters": {"style_level": ("calm", "active")[n % 2]}})
        world.run(2.5)
    assert world.status("line") == "done"
    world.run()
    assert [world.status(f"busy/{n}") for n in range(3)] == ["done"] * 3
