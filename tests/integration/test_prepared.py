"""What prepare answers, and how a job stands while its files are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from world import REFUSED, Died, World, named, portrait, sha256, voice

from portraitcast.workflows.submit import Origin
from preparing import DEATHS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from preparing import Upload

BEING_READ = "The file is being read."
ENDS: dict[str, Any] = {
    "done": None,
    "failed": {"task_fails": {"code": "InternalError", "message": "It broke."}},
    "rejected": REFUSED,
}


class MediaQueue:
    """Keeps the orders to prepare until they are let go; `keys` are the files they are about."""

    def __init__(self, world: World) -> None:
        self._orders: list[tuple[Any, dict[str, Any]]] = []
        self._world = world
        self._cure = world.instead(world, "have_prepared", lambda _, *args, **rest: self._orders.append((args, rest)))

    @property
    def keys(self) -> list[str]:
        return [args[0]["prepare"]["key"] for args, _ in self._orders]

    def let_go(self, which: slice = slice(None)) -> None:
        """Have the orders that are kept handled in the order of `which`, and those to come at once."""
        self._cure()
        for args, rest in self._orders[which]:
            self._world.have_prepared(*args, **rest)

    def lose(self) -> None:
        """Lose the orders that are kept."""
        self.let_go(slice(0))


def answers(world: World) -> list[dict[str, Any]]:
    """Return what prepare has answered so far."""
    return [message for message in world.handled if "prepared" in message]


def end(world: World, status: str) -> dict[str, Any]:
    """Bring job `a` to an end; returns its report."""
    if ENDS[status] is not None:
        world.sim.fault(ENDS[status], endpoint="create")
    world.drop_pair("a")
    world.run()
    report = world.its_report("a")
    assert report["status"] == status
    world.new_events()
    return report


# ---------------------------------------------------------------------- while new bytes are read
@pytest.mark.parametrize("status", ENDS)
def test_an_ended_job_stays_while_read(world: World, status: str) -> None:
    before = end(world, status)
    media = MediaQueue(world)
    world.drop("a.wav", voice(pitch=0.2))
    world.run(30)
    assert (media.keys, world.job("a").being_read) == (["a.wav"], True)
    assert (world.its_report("a"), world.new_events()) == (before, [])
    media.let_go()
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["inputs"]["voice"]["sha256"]) == ("done", sha256(voice(pitch=0.2)))
    assert not world.job("a").being_read


@pytest.mark.parametrize("status", ENDS)
def test_an_ended_jobs_order_is_lost(world: World, status: str) -> None:
    """The sweep has the new bytes asked for again, and not before its time."""
    end(world, status)
    media = MediaQueue(world)
    world.drop("a.wav", voice(pitch=0.2))
    world.run(30)
    media.lose()
    world.sweep(times=2)
    assert (world.status("a"), len(answers(world))) == (status, 2)
    world.sweep(times=3)
    assert (world.status("a"), len(answers(world))) == ("done", 3)
    assert world.voices_made()[-1] == sha256(voice(pitch=0.2))


def test_a_queued_job_keeps_its_place_while_read(make_world: Callable[..., World]) -> None:
    world = make_world(max_tasks_in_flight=1)
    world.rendering("a")
    for name, pitch in (("b", 0.2), ("c", 0.3)):
        world.drop_pair(name, pitch=pitch)
        world.run(20)
    place = world.job("b").place_key
    media = MediaQueue(world)
    world.drop("b.wav", voice(pitch=0.4))
    world.run(5)
    assert (world.status("b"), world.its_report("b")["message"]) == ("waiting", BEING_READ)
    assert (world.job("b").place_key, world.job("b").queue_key) == (place, None)
    media.let_go()
    world.run(5)
    assert (world.status("b"), world.job("b").queue_key) == ("queued", place)
    world.finish_tasks()
    world.run()
    assert world.voices_made() == [sha256(voice(pitch=pitch)) for pitch in (0.08, 0.4, 0.3)]


def test_same_bytes_are_not_read_again(world: World) -> None:
    """S3 says by ETag and size that they are the same."""
    end(world, "done")
    media = MediaQueue(world)
    world.drop("a.wav", voice())
    world.drop("a.png", portrait())
    world.run()
    assert (media.keys, world.status("a"), len(world.tasks())) == ([], "done", 1)
    assert world.its_report("a")["asked_again_at"] is not None


# ---------------------------------------------------------------------- answers
def test_a_repeated_answer_changes_nothing(world: World) -> None:
    before = end(world, "done")
    for answer in answers(world) * 2:
        world.post(answer, origin=Origin.ANSWERS)
    world.run()
    assert world.dead == []
    assert (world.its_report("a"), world.new_events(), len(world.tasks())) == (before, [], 1)


def test_an_answer_about_a_replaced_version(world: World) -> None:
    """Whether it comes before or after the one about what is there now."""
    media = MediaQueue(world)
    for body in (b"no sound", voice()):
        world.drop("a.wav", body)
        world.run(1)
    world.drop("a.png", portrait())
    world.run(1)
    media.let_go(slice(None, None, -1))
    world.run()
    assert world.status("a") == "done"
    before = world.its_report("a")
    problem = next(answer for answer in answers(world) if "problem" in answer["prepared"])
    world.post(problem, origin=Origin.ANSWERS)
    world.run()
    assert world.dead == []
    assert (world.its_report("a"), len(world.tasks())) == (before, 1)


def test_what_was_read_is_not_rewritten(world: World) -> None:
    """Who takes prepare over may lie about files that are being read, not about those that are known."""
    world.drop("a.wav", voice())
    world.run(1)
    (answer,) = answers(world)
    known = world.table.upload(named("a.wav"))
    false = {"facts": answer["prepared"]["facts"] | {"seconds": 1.5, "sha256": "0" * 64}}
    for said in (false, {"problem": {"code": "VoiceSilent", "message": "No.", "what_to_do": "No."}}):
        about = {name: answer["prepared"][name] for name in ("key", "version", "etag")}
        world.post({"prepared": about | said}, origin=Origin.ANSWERS)
    world.run(1)
    assert (world.table.upload(named("a.wav")), world.dead) == (known, [])


def test_voice_and_portrait_are_read_at_once(world: World) -> None:
    """Both orders go out before either is answered."""
    media = MediaQueue(world)
    world.drop_pair("a")
    world.run(1)
    assert sorted(media.keys) == ["a.png", "a.wav"]
    media.let_go()
    world.run()
    assert world.status("a") == "done"


def test_a_pair_with_two_faults(world: World) -> None:
    """It is refused once, and both are named."""
    world.drop("a.wav", b"no sound")
    world.drop("a.png", b"no picture")
    world.run()
    report = world.its_report("a")
    assert [error["code"] for error in report["errors"]] == ["VoiceUnreadable", "PortraitUnreadable"]
    assert [event["status"] for event in world.new_events()].count("rejected") == 1


def test_an_answer_about_a_deleted_file(world: World) -> None:
    media = MediaQueue(world)
    world.drop_pair("a")
    world.run(1)
    world.delete("a.wav")
    world.run(1)
    media.let_go()
    world.run()
    assert (world.status("a"), world.tasks()) == ("withdrawn", [])


def test_many_jobs_wait_for_one_portrait(world: World) -> None:
    names = ["acme/a", "acme/b", "acme/c"]
    media = MediaQueue(world)
    world.drop("acme/anna.png", portrait())
    for n, name in enumerate(names):
        world.drop(f"{name}.wav", voice(pitch=0.1 + n / 50))
    world.run(1)
    media.let_go()
    media = MediaQueue(world)
    world.run(60)
    assert media.keys == ["acme/anna.png"], "it is read once"
    assert {(world.status(name), world.its_report(name)["message"]) for name in names} == {("waiting", BEING_READ)}
    media.let_go()
    world.run()
    assert [world.status(name) for name in names] == ["done"] * 3


# ---------------------------------------------------------------------- a file that kills
def test_a_file_that_kills_prepare(world: World) -> None:
    """Its message comes again until SQS has counted three deaths; then its owner hears of it."""
    deaths: list[str] = []

    def die(read: Callable[..., Any], upload: Upload, answer: dict[str, Any]) -> Any:
        if upload.key == "a.wav" and upload.bytes == len(voice()):
            deaths.append(upload.key)
            raise Died
        return read(upload, answer)

    world.instead(world.preparing, "_facts", die)
    world.drop_pair("a")
    world.run()
    assert (len(deaths), world.dead) == (DEATHS_MAX, [])
    assert (world.status("a"), world.error("a"), world.tasks()) == ("rejected", "VoiceUnreadable", [])
    world.drop("a.wav", voice(0.5))
    world.run()
    assert world.status("a") == "done"


def test_a_rejected_voice_keeps_its_metadata(world: World) -> None:
    """Whoever ordered it must know which order it is."""
    world.metadata = {"order": "=?UTF-8?B?5rOo5paH?="}
    world.drop("a.png", portrait())
    world.drop("a.wav", b"no sound")
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["metadata"]) == ("rejected", {"order": "注文"})
