"""S3's events: out of order, late, twice, of other buckets, and sent back from the dead letters.

What lies in the bucket is what counts; an event says that it is time to look.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from world import REFUSED, RESULTS, Died, forget, keys, named, portrait, sha256, voice

from portraitcast.domain.job import Status, iso

if TYPE_CHECKING:
    from world import Message, World

DAY = 86_400.0


def of_age(event: Message, seconds: float, world: World) -> Message:
    """Return an event as if it had happened so long ago."""
    (record,) = event["Records"]
    return {"Records": [record | {"eventTime": iso(world.clock() - seconds)}]}


def known(world: World, key: str) -> Any:
    upload = world.table.upload(named(key))
    assert upload is not None
    return upload


# ---------------------------------------------------------------------- out of order
def uploads_of_a(world: World) -> list[Message]:
    """Upload a voice twice, delete it, upload a third; return the four events."""
    return [
        world.put("a.wav", voice(pitch=0.1)),
        world.put("a.wav", voice(pitch=0.2)),
        world.delete("a.wav", told=False),
        world.put("a.wav", voice(pitch=0.3)),
    ]


@pytest.mark.parametrize("found", [False, True], ids=["told", "found by a scan"])
def test_any_order_of_events_ends_at_the_bucket(world: World, *, found: bool) -> None:
    """Whatever comes when, twice, and whatever a scan found: then nothing older is believed at any time."""
    events = uploads_of_a(world)
    newest = events[-1]["Records"][0]["s3"]["object"]["versionId"]
    for order in itertools.permutations(events):
        forget("a.wav")
        if found:
            world.handle({"scan": ""})
        for event in order:
            world.handle(event)
            assert not found or known(world, "a.wav").version == newest
        for event in order:
            world.handle(event)
            assert known(world, "a.wav").version == newest


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)], ids=str)
def test_the_newest_voice_is_made_once(world: World, order: tuple[int, ...]) -> None:
    world.drop("a.png", portrait())
    events = uploads_of_a(world)
    for n in (*order, *order):
        world.post(events[n])
        world.run(1)
    world.run()
    assert world.voices_made() == [sha256(voice(pitch=0.3))]


def test_an_upload_between_two_deletions(world: World) -> None:
    """The first deletion's event finds nothing there; the upload's, a moment later, must not bring it back."""
    world.drop("a.wav", voice(pitch=0.1))
    world.run()
    first = world.delete("a.wav", told=False)
    between = world.put("a.wav", voice(pitch=0.2))
    second = world.delete("a.wav", told=False)
    for event in (first, between, second, between):
        world.handle(event)
        assert known(world, "a.wav").deleted


def test_late_events_after_a_deletion_pay_nothing(world: World) -> None:
    """The fault: what was found without an event never learned its place in the order."""
    world.drop("a.png", portrait())
    world.drop("a.wav", voice(pitch=0.1))
    world.run()
    world.delete("a.wav")
    third, fourth = world.put("a.wav", voice(pitch=0.3)), world.put("a.wav", voice(pitch=0.4))
    world.run(1)
    world.post(fourth)
    world.run()
    assert world.voices_made() == [sha256(voice(pitch=0.1)), sha256(voice(pitch=0.4))]
    for event in (third, fourth, third):
        world.post(event)
        world.run()
    assert len(world.tasks()) == 2


def test_a_known_version_learns_its_place(world: World) -> None:
    """A scan found it before its event came: an older event must not replace it from then on."""
    older, newer = world.put("a.wav", voice(pitch=0.1)), world.put("a.wav", voice(pitch=0.2))
    world.handle({"scan": ""})
    assert known(world, "a.wav").sequencer == ""
    world.handle(newer)
    there = known(world, "a.wav")
    assert there.sequencer == newer["Records"][0]["s3"]["object"]["sequencer"]
    world.handle(older)
    assert known(world, "a.wav") == there


@pytest.mark.parametrize(
    "sequencers", [("0055AED6DCD90281E5", "0055AED6DCD90281E6"), ("00FF", "00FF01"), ("0A0000", "0B")], ids=" ".join
)
def test_sequencers_are_compared_padded_right(world: World, sequencers: tuple[str, str]) -> None:
    """As hexadecimal text of different lengths (Amazon S3, "Event message structure")."""
    first, second = world.put("a.wav", voice(pitch=0.1)), world.put("a.wav", voice(pitch=0.2))
    for event, sequencer in zip((first, second), sequencers, strict=True):
        event["Records"][0]["s3"]["object"]["sequencer"] = sequencer
    world.handle(second)
    there = known(world, "a.wav")
    world.handle(first)
    assert known(world, "a.wav") == there


# ---------------------------------------------------------------------- while a create is out
def meanwhile(world: World, monkeypatch: pytest.MonkeyPatch, key: str, body: Any) -> None:
    """Let a file be uploaded, and its event be handled, while the create is on the wire."""
    real = world.service.create

    def create(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(world.service, "create", real)
        world.handle(world.put(key, body))
        return real(*args, **kwargs)

    monkeypatch.setattr(world.service, "create", create)


@pytest.mark.parametrize(
    ("key", "body"), [("a.wav", voice(pitch=0.2)), ("a.json", {"parameters": {"style_level": "calm"}})]
)
@pytest.mark.parametrize("lost", [False, True], ids=["its process dies", "its message is lost"])
def test_what_came_during_a_refused_create(
    world: World, monkeypatch: pytest.MonkeyPatch, key: str, body: Any, *, lost: bool
) -> None:
    """Nobody says that new files came: the sweep finds the job and tries again."""
    world.drop_pair("a")
    world.run(2)
    meanwhile(world, monkeypatch, key, body)
    world.sim.fault(REFUSED, endpoint="create", times=1)
    world.advance(3)
    if lost:
        with monkeypatch.context() as patch:
            patch.setattr(world.queue, "send", lambda *_, **__: None)
            world.dispatch_now()
    else:
        cure = world.dies(world.queue, "send")
        with pytest.raises(Died):
            world.dispatch_now()
        cure()
    job = world.job("a")
    assert (job.status, job.follow_up, job.unpublished) == (Status.REJECTED, True, not lost)
    world.sweep(1)
    assert world.status("a") == "done"
    assert len(world.tasks()) == 1


# ---------------------------------------------------------------------- not ours
@pytest.mark.parametrize("bucket", ["other-bucket", "Uploads", "", None], ids=repr)
def test_an_event_of_another_bucket(world: World, bucket: str | None) -> None:
    """Any bucket of the account may send to the queue. It leaves nothing behind that real uploads are held against."""
    event = world.put("a.wav", voice())
    record = event["Records"][0]
    foreign = {"Records": [record | {"s3": record["s3"] | {"bucket": {"name": bucket} if bucket is not None else {}}}]}
    foreign["Records"][0]["s3"]["object"] = record["s3"]["object"] | {"sequencer": "F" * 18, "versionId": "theirs"}
    world.post(foreign)
    world.run()
    assert world.table.upload(named("a.wav")) is None
    assert (keys(RESULTS), world.dead) == (set(), [])
    world.post(event)
    world.drop("a.png", portrait())
    world.run()
    assert world.status("a") == "done"


# ---------------------------------------------------------------------- sent back from the dead letters
@pytest.mark.parametrize("forgotten", [False, True], ids=["marker there", "marker expired"])
def test_an_old_upload_event_of_a_deleted_voice(world: World, *, forgotten: bool) -> None:
    """After 14 days it is sent back: what the bucket says now decides."""
    world.drop("a.png", portrait())
    event = world.put("a.wav", voice())
    world.delete("a.wav")
    world.run()
    world.advance(14 * DAY)
    if forgotten:
        forget("a.wav")
    world.post(of_age(event, 14 * DAY, world))
    world.run()
    assert (world.report("a"), world.tasks()) == (None, [])


def test_an_old_event_of_an_overwritten_voice(world: World) -> None:
    world.drop("a.png", portrait())
    old, new = world.put("a.wav", voice(pitch=0.1)), world.put("a.wav", voice(pitch=0.2))
    world.handle(of_age(old, 2 * DAY, world))
    assert known(world, "a.wav").version == new["Records"][0]["s3"]["object"]["versionId"]
    world.run()
    assert world.voices_made() == [sha256(voice(pitch=0.2))]


def test_an_old_deletion_of_a_voice_that_is_there(world: World) -> None:
    world.drop("a.wav", voice(pitch=0.1))
    world.run()
    deletion = world.delete("a.wav", told=False)
    world.put("a.wav", voice(pitch=0.2))
    world.drop("a.png", portrait())
    world.post(of_age(deletion, 2 * DAY, world))
    world.run()
    assert world.voices_made() == [sha256(voice(pitch=0.2))]


def test_an_old_event_of_what_is_there_still_counts(world: World) -> None:
    """A backlog of two hours is made, not lost."""
    pair = [world.put("a.wav", voice()), world.put("a.png", portrait())]
    for event in pair:
        world.post(of_age(event, 2 * 3600.0, world))
    world.run()
    assert world.status("a") == "done"
