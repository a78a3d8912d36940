"""Upload buckets as people have them: versioned, with versioning suspended, or without versions.

An overwrite counts as new, what is read is what was noticed, and a link names a version only where there are versions:
reading one needs another right than reading the current object (Amazon S3, "Required permissions for S3 operations").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from world import (
    REFUSED,
    RESULTS,
    SUSPENDED,
    UNVERSIONED,
    UPLOADS,
    VERSIONED,
    client,
    keys,
    make_bucket,
    named,
    on_call,
    portrait,
    sha256,
    voice,
)

from portraitcast.adapters.buckets import Uploads
from portraitcast.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

EACH = pytest.mark.parametrize("versioning", [VERSIONED, SUSPENDED, UNVERSIONED], ids=str)
WITHOUT = pytest.mark.parametrize("versioning", [SUSPENDED, UNVERSIONED], ids=str)


@pytest.fixture
def world(make_world: Callable[..., World], versioning: str | None) -> World:
    return make_world(versioning=versioning)


# ---------------------------------------------------------------------- a job
@EACH
def test_a_pair_is_made(world: World, versioning: str | None) -> None:
    asked: list[str] = []
    events = [world.drop("a.png", portrait()), world.drop("a.wav", voice())]
    with on_call("s3", "before-send.s3.GetObject", lambda request, **_: asked.append(request.url)):
        world.run()
    assert {"versionId" in parse_qs(urlsplit(url).query) for url in asked} == {versioning is VERSIONED}
    report = world.its_report("a")
    assert report["status"] == "done"
    version = report["inputs"]["voice"]["version"]
    assert (version == "null") is (versioning is not VERSIONED)
    (task,) = world.tasks()
    assert ("versionId" in parse_qs(urlsplit(task["audio_url"]).query)) is (versioning is VERSIONED)
    assert ("versionId" in parse_qs(urlsplit(task["image_url"]).query)) is (versioning is VERSIONED)
    for event in events * 2:
        world.post(event)
    world.run()
    assert len(world.tasks()) == 1, "repeated events are known"


@EACH
@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("a.wav", voice(pitch=0.2)),
        ("a.png", portrait(90)),
        ("a.json", {"parameters": {"style_level": "calm"}}),
    ],
    ids=["voice", "portrait", "settings"],
)
def test_an_overwrite_counts_as_new(world: World, key: str, body: Any) -> None:
    world.drop("a.json", {"parameters": {"style_level": "active"}})
    world.drop_pair("a")
    world.run()
    world.drop(key, body)
    world.run()
    assert (world.status("a"), len(world.tasks())) == ("done", 2)
    made = world.tasks()[1]
    expected = {
        "a.wav": ("audio_sha256", sha256(voice(pitch=0.2))),
        "a.png": ("image_sha256", sha256(portrait(90))),
        "a.json": ("style_level", "calm"),
    }
    name, value = expected[key]
    assert made[name] == value


@EACH
def test_an_overwrite_before_it_was_read(world: World) -> None:
    """The first event is handled when the second object is there: what is made is what lies there."""
    world.drop("a.png", portrait())
    first = world.put("a.wav", voice(pitch=0.1))
    second = world.put("a.wav", voice(pitch=0.2))
    world.post(first)
    world.run(1)
    world.post(second)
    world.run()
    assert world.voices_made() == [sha256(voice(pitch=0.2))]


@WITHOUT
def test_other_bytes_are_not_read_for_the_first(world: World) -> None:
    """Prepare finds another object under the key, and nobody has told of it: that one is noted, and read."""
    first, second = world.put("a.wav", voice(pitch=0.1)), world.put("a.wav", voice(pitch=0.2))
    world.post(first)
    world.run(1)
    known = world.table.upload(named("a.wav"))
    assert known is not None
    assert known.etag == second["Records"][0]["s3"]["object"]["eTag"]
    world.drop("a.png", portrait())
    world.run()
    assert world.voices_made() == [sha256(voice(pitch=0.2))]


@EACH
def test_a_late_answer_of_prepare_is_not_the_seconds(world: World) -> None:
    world.drop("a.wav", voice(pitch=0.1))
    world.run()
    (answer,) = [message for message in world.handled if "prepared" in message]
    world.handle(world.put("a.wav", voice(pitch=0.2)))
    world.handle(answer)
    known = world.table.upload(named("a.wav"))
    assert known is not None
    assert known.facts is None


@EACH
@pytest.mark.parametrize("key", ["a.json", "settings.json"])
def test_settings_overwritten_while_they_are_read(world: World, key: str) -> None:
    world.drop_pair("a")
    first = world.put(key, {"parameters": {"style_level": "active"}})
    real = world.uploads.read

    def read(*what: Any) -> bytes:
        world.uploads.read = real  # type: ignore[method-assign]
        world.drop(key, {"parameters": {"style_level": "calm"}})
        return real(*what)

    world.uploads.read = read  # type: ignore[method-assign, assignment]
    world.post(first)
    world.run()
    assert [task["style_level"] for task in world.tasks()] == ["calm"]


@WITHOUT
def test_what_took_its_place_is_read_though_nobody_tells(world: World) -> None:
    """Its event is lost: the job would wait for ever for a file that is being read."""
    world.drop_pair("a")
    first = world.put("a.json", {"parameters": {"style_level": "active"}})
    world.put("a.json", {"parameters": {"style_level": "calm"}})
    world.post(first)
    world.run()
    assert [task["style_level"] for task in world.tasks()] == ["calm"]


@EACH
@pytest.mark.parametrize("key", ["a.wav", "a.json"])
def test_same_bytes_after_a_refusal_are_a_try(world: World, key: str) -> None:
    """Also where neither version nor ETag tells them from the first: the event's place in the order does."""
    settings = {"parameters": {"style_level": "calm"}}
    world.sim.fault(REFUSED, endpoint="create", times=1)
    bodies: dict[str, Any] = {"a.wav": voice(), "a.json": settings}
    world.drop("a.png", portrait())
    events = [world.drop(its, body) for its, body in bodies.items()]
    world.run()
    assert world.status("a") == "rejected"
    for event in events:
        world.post(event)
    world.run()
    assert (world.status("a"), world.requests("create")) == ("rejected", 1), "a repeated event is no try"
    again = world.drop(key, bodies[key])
    world.run()
    assert (world.status("a"), world.requests("create")) == ("done", 2)
    world.post(again)
    world.run()
    assert (world.requests("create"), world.its_report("a")["asked_again_at"]) == (2, None)


@EACH
def test_same_bytes_after_a_success_cost_nothing(world: World) -> None:
    world.drop_pair("a")
    world.run()
    world.drop("a.wav", voice())
    world.run()
    assert len(world.tasks()) == 1
    assert world.its_report("a")["asked_again_at"] is not None


@EACH
def test_same_bytes_while_queued_keep_the_place(world: World) -> None:
    world.post({"pause": True})
    world.drop_pair("a")
    world.run(10)
    world.drop_pair("b", pitch=0.3)
    world.run(10)
    world.drop("a.wav", voice())
    world.run(10)
    world.post({"pause": False})
    world.run()
    assert world.voices_made() == [sha256(voice()), sha256(voice(pitch=0.3))]


@EACH
def test_deleting_and_dropping_again(world: World) -> None:
    world.drop("a.wav", voice())
    world.run()
    created = world.put("a.wav", voice())
    world.delete("a.wav")
    world.run()
    assert world.status("a") == "withdrawn"
    world.post(created)
    world.run()
    assert world.status("a") == "withdrawn"
    world.drop_pair("a")
    world.run()
    assert world.status("a") == "done"
    assert keys(RESULTS) == {"a.mp4", "a.json"}


@EACH
def test_a_scan_and_then_the_events(world: World) -> None:
    """What a scan has found is known when its event comes."""
    events = [world.put("a.png", portrait()), world.put("a.wav", voice())]
    world.post({"scan": ""})
    world.run()
    assert world.status("a") == "done"
    revision = world.job("a").revision
    for event in events:
        world.post(event)
    world.run()
    assert (len(world.tasks()), world.job("a").revision) == (1, revision)


@WITHOUT
def test_events_without_an_etag(world: World) -> None:
    """As programs and `sam local generate-event` make them: the bucket is asked what it has."""
    events = [world.put("a.png", portrait()), world.put("a.wav", voice())]
    for event in events:
        del event["Records"][0]["s3"]["object"]["eTag"]
        world.post(event)
    world.run()
    upload = world.table.upload(named("a.wav"))
    assert upload is not None
    assert upload.etag
    assert world.status("a") == "done"


# ---------------------------------------------------------------------- the adapter
@EACH
def test_a_version_is_told_as_s3_has_it(aws: None, versioning: str | None) -> None:
    uploads = Uploads(make_bucket(UPLOADS, versioning), UPLOADS)
    client("s3").put_object(Bucket=UPLOADS, Key="a.wav", Body=b"one")
    there = uploads.head("a.wav")
    assert there is not None
    assert (there.version == "null") is (versioning is not VERSIONED)
    asked: list[str] = []
    with on_call("s3", "before-send.s3.GetObject", lambda request, **_: asked.append(request.url)):
        assert uploads.read("a.wav", there.version, there.etag, 10) == b"one"
    assert ["versionId" in parse_qs(urlsplit(url).query) for url in asked] == [versioning is VERSIONED]


@WITHOUT
def test_what_was_overwritten_is_not_read(aws: None, versioning: str | None) -> None:
    """Without versions nobody can read it any more; the other object isn't taken for it."""
    uploads = Uploads(make_bucket(UPLOADS, versioning), UPLOADS)
    client("s3").put_object(Bucket=UPLOADS, Key="a.wav", Body=b"one")
    there = uploads.head("a.wav")
    assert there is not None
    client("s3").put_object(Bucket=UPLOADS, Key="a.wav", Body=b"two")
    with pytest.raises(NotFoundError):
        uploads.read("a.wav", there.version, there.etag, 10)
    with pytest.raises(NotFoundError), uploads.download("a.wav", there.version, there.etag):
        pass


def test_versions_of_before_stay_readable(aws: None) -> None:
    """Versioning is suspended later: a job that was noticed before reads its version."""
    uploads = Uploads(make_bucket(UPLOADS), UPLOADS)
    client("s3").put_object(Bucket=UPLOADS, Key="a.wav", Body=b"one")
    there = uploads.head("a.wav")
    assert there is not None
    client("s3").put_bucket_versioning(Bucket=UPLOADS, VersioningConfiguration={"Status": SUSPENDED})
    assert uploads.read("a.wav", there.version, there.etag, 10) == b"one"
