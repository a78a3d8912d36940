"""Files of a job that are read, or told of, late: nothing is sent without them.

A settings JSON or an own portrait whose reading fails once, or whose event comes a minute late or never: the job would
be paid for with the wrong style, or with the wrong face.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Literal

import pytest
from world import VISIBILITY, S3Error, portrait, s3_answers, sha256, voice

if TYPE_CHECKING:
    from world import World

pytestmark = pytest.mark.usefixtures("no_pauses")

SLOW_DOWN = S3Error(503, "SlowDown", "Reduce your request rate.")
TRIES = 4  # botocore's
CALM = {"parameters": {"style_level": "calm"}}
FACE = portrait(90)
LATE: dict[str, tuple[str, Any]] = {
    "own settings": ("acme/line.json", CALM),
    "folder's settings": ("acme/settings.json", CALM),
    "folder's SETTINGS": ("acme/settings.JSON", CALM),
    "own portrait": ("acme/line.png", FACE),
    "own portrait in capitals": ("acme/line.PNG", FACE),
}
IS_LATE = pytest.mark.parametrize(("key", "body"), LATE.values(), ids=LATE)


def made_with(world: World, body: Any) -> None:
    """Check that the one task that was paid was made with the file."""
    (task,) = world.tasks()
    if isinstance(body, dict):
        assert task["style_level"] == "calm"
    else:
        assert task["image_sha256"] == sha256(body)


# ---------------------------------------------------------------------- a reading that fails
@IS_LATE
@pytest.mark.parametrize("how", ["is slow", "dies before", "dies after"])
def test_a_reading_that_fails_once(world: World, key: str, body: Any, how: str) -> None:
    world.drop("acme/anna.png", portrait())
    world.run()
    if how == "is slow":
        with s3_answers(SLOW_DOWN, key, times=TRIES):
            world.drop(key, body)
            world.drop("acme/line.wav", voice())
            world.run(VISIBILITY / 2)
    else:
        method = "read" if isinstance(body, dict) else "download"
        world.dies(world.uploads, method, after=how == "dies after")
        world.drop(key, body)
        world.drop("acme/line.wav", voice())
        world.run(VISIBILITY / 2)
    world.run()
    assert world.status("acme/line") == "done"
    made_with(world, body)
    assert world.dead == []


def test_a_json_is_noted_before_it_is_read(world: World) -> None:
    """Meanwhile its job says that the file is being read."""
    world.drop_pair("line")
    world.run(1)
    with s3_answers(SLOW_DOWN, "line.json", times=TRIES):
        world.drop("line.json", CALM)
        world.run(60)
    assert world.requests("create") == 0
    world.drop("line.wav", voice(pitch=0.2))
    world.run(60)
    report = world.its_report("line")
    assert (report["status"], report["message"]) == ("waiting", "The file is being read.")
    world.run()
    made_with(world, CALM)


# ---------------------------------------------------------------------- an event that is late or lost
@IS_LATE
@pytest.mark.parametrize("after", [60, None], ids=["a minute late", "lost"])
def test_an_event_that_comes_late(world: World, key: str, body: Any, after: float | None) -> None:
    world.drop("acme/anna.png", portrait())
    world.run()
    event = world.put(key, body)
    world.drop("acme/line.wav", voice())
    if after is not None:
        world.post(event, after=after)
    world.run()
    assert world.status("acme/line") == "done"
    made_with(world, body)


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("acme/line.json", {"parameters": {"style_level": "active"}}, CALM),
        ("acme/settings.json", {"parameters": {"style_level": "active"}}, CALM),
        ("acme/line.png", portrait(), FACE),
        ("acme/anna.png", portrait(), FACE),
    ],
    ids=["own settings", "folder's settings", "own portrait", "only image"],
)
def test_a_file_replaced_right_before_the_create(world: World, key: str, old: Any, new: Any) -> None:
    """Its new version is used, though nobody has told of it: it is paid once."""
    world.drop("acme/anna.png", portrait())
    world.drop(key, old)
    world.run()
    world.drop("acme/line.wav", voice())
    world.run(1)
    event = world.put(key, new)
    world.post(event, after=60)
    world.run()
    assert world.status("acme/line") == "done"
    made_with(world, new)


def test_a_voice_replaced_right_before_the_create(world: World) -> None:
    world.drop_pair("line")
    world.run(1)
    world.post(world.put("line.wav", voice(pitch=0.2)), after=60)
    world.run()
    assert [task["audio_sha256"] for task in world.tasks()] == [sha256(voice(pitch=0.2))]


@pytest.mark.parametrize(
    ("key", "status", "left"),
    [
        ("acme/line.wav", "withdrawn", None),
        ("acme/line.png", "done", portrait()),
        ("acme/line.json", "done", portrait()),
    ],
    ids=["voice", "own portrait", "settings that named it"],
)
def test_a_file_deleted_right_before_the_create(world: World, key: str, status: str, left: bytes | None) -> None:
    """The event of the deletion comes a minute late."""
    world.drop("acme/anna.png", portrait())
    world.drop("other/bert.png", FACE)
    world.run()
    if key == "acme/line.png":
        world.drop(key, FACE)
    if key == "acme/line.json":
        world.drop(key, {"input": {"image_url": "../other/bert.png"}})
    world.drop("acme/line.wav", voice())
    world.run(1)
    world.post(world.delete(key, told=False), after=60)
    world.run()
    assert world.status("acme/line") == status
    assert [task["image_sha256"] for task in world.tasks()] == ([sha256(left)] if left else [])


def test_a_second_voice_told_late_is_a_question(world: World) -> None:
    world.drop_pair("line")
    world.run(1)
    world.post(world.put("line.mp3", b"another voice"), after=60)
    world.run()
    assert (world.status("line"), world.error("line"), world.tasks()) == ("waiting", "VoiceAmbiguous", [])


@pytest.mark.parametrize("forms", ["NFC NFD", "NFD NFC"])
def test_a_late_portrait_in_the_other_form(world: World, forms: str) -> None:
    """A Mac writes the one Unicode form, everybody else the other: its listing is asked for too."""
    of_voice: Literal["NFC", "NFD"]
    of_portrait: Literal["NFC", "NFD"]
    of_voice, of_portrait = ("NFC", "NFD") if forms == "NFC NFD" else ("NFD", "NFC")
    world.drop("ämter/anna.png", portrait())
    world.run()
    world.put(unicodedata.normalize(of_portrait, "ämter/café.png"), FACE)
    world.drop(unicodedata.normalize(of_voice, "ämter/café.wav"), voice())
    world.run()
    made_with(world, FACE)


def test_a_late_file_behind_many_of_its_prefix(world: World) -> None:
    """A job "line" beside "line.0001" and thirty more, whose keys come first in the bucket's order."""
    for n in range(30):
        world.put(f"line.{n:04}.wav", voice())
    world.put("line.json", CALM)
    world.drop("line.png", portrait())
    world.drop("line.wav", voice())
    world.run()
    made_with(world, CALM)


def test_a_bucket_that_cannot_be_asked_sends_nothing(world: World) -> None:
    """The job keeps its place, and others are not held up by it."""
    world.drop("anna.png", portrait())
    world.run()
    world.put("line.json", CALM)
    real = world.uploads.page

    def page(prefix: str, *more: Any) -> Any:
        return (
            world.uploads.__class__(world.s3, "no-such-bucket").page(prefix, *more)
            if prefix == "line."
            else real(prefix, *more)
        )

    world.uploads.page = page  # type: ignore[method-assign, assignment]
    world.drop("line.wav", voice())
    world.drop_pair("elsewhere/other", pitch=0.3)
    world.run(120)
    assert (world.status("line"), world.status("elsewhere/other")) == ("queued", "done")
    world.uploads.page = real  # type: ignore[method-assign]
    world.sweep(1)
    assert [task["style_level"] for task in world.tasks()] == ["normal", "calm"]


def test_what_is_as_known_costs_two_listings(world: World) -> None:
    """And no more: the check is made before every create."""
    calls: list[str] = []
    real = world.uploads.page
    world.uploads.page = lambda prefix, *more: calls.append(prefix) or real(prefix, *more)  # type: ignore[method-assign,func-returns-value]
    world.drop("acme/settings.json", CALM)
    world.drop_pair("acme/line")
    world.run()
    assert world.status("acme/line") == "done"
    assert calls == ["acme/line.", "acme/settings."]
