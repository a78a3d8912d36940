"""The same again, something new, and when: what is made anew, what is not, and what follows what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from world import REFUSED, RESULTS, portrait, sha256, voice

if TYPE_CHECKING:
    from world import Message, World


def done(world: World) -> list[Message]:
    """Have a video made of a voice and a portrait; returns the events of the two files."""
    events = [world.drop("acme/line.png", portrait()), world.drop("acme/line.wav", voice())]
    world.run()
    assert world.status("acme/line") == "done"
    world.new_events()
    world.new_notices()
    return events


def rendering(world: World) -> None:
    world.sim.set(manual=True)
    world.drop_pair("acme/line")
    world.run(8)
    assert world.status("acme/line") == "rendering"
    world.sim.wait_for(lambda s: s["tasks"][0]["audio_sha256"] is not None)
    world.new_events()


def report(world: World) -> dict[str, Any]:
    return world.its_report("acme/line")


# ---------------------------------------------------------------------- after a success
@pytest.mark.parametrize(
    "files", [{"acme/line.wav": voice()}, {"acme/line.png": portrait()}], ids=["voice", "portrait"]
)
def test_same_bytes_after_a_success_cost_nothing(world: World, files: dict[str, bytes]) -> None:
    done(world)
    before = report(world)
    for key, body in files.items():
        world.drop(key, body)
    world.run()
    after = report(world)
    assert (after["status"], len(world.tasks()), world.requests("check")) == ("done", 1, 1)
    assert before["asked_again_at"] is None
    assert after["asked_again_at"] > before["as_of"]
    assert after["revision"] == before["revision"] + 1
    assert after["video"] == before["video"]
    assert (world.new_events(), world.new_notices()) == ([], [])


def test_another_reference_is_told_and_costs_nothing(world: World) -> None:
    """Whoever waits for the new order hears that its video is there."""
    done(world)
    world.drop("acme/line.json", {"job": {"reference": "order-4712"}})
    world.run()
    (event,) = world.new_events()
    (notice,) = world.new_notices()
    assert (event["status"], event["reference"], len(world.tasks())) == ("done", "order-4712", 1)
    assert notice["MessageAttributes"]["reference"]["Value"] == "order-4712"


def test_metadata_is_that_of_the_latest_upload(world: World) -> None:
    """The bytes are known, and prepare reads nothing again."""
    done(world)
    world.metadata = {"order": "4712"}
    world.drop("acme/line.wav", voice())
    world.run()
    (event,) = world.new_events()
    assert (event["status"], event["metadata"], len(world.tasks())) == ("done", {"order": "4712"}, 1)


def test_same_bytes_when_the_video_is_gone(world: World) -> None:
    done(world)
    world.s3.delete_object(Bucket=RESULTS, Key="acme/line.mp4")
    world.drop("acme/line.wav", voice())
    world.run()
    assert (report(world)["status"], len(world.tasks())) == ("done", 2)
    assert world.video("acme/line") is not None
    assert [e["status"] for e in world.new_events()] == ["queued", "rendering", "done"]


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("acme/line.wav", voice(pitch=0.2)),
        ("acme/line.png", portrait(120)),
        ("acme/line.json", {"parameters": {"style_level": "calm"}}),
    ],
    ids=["voice", "portrait", "settings"],
)
def test_new_bytes_are_a_new_video(world: World, key: str, body: Any) -> None:
    done(world)
    old = world.video("acme/line")
    old_video = report(world)["video"]
    world.sim.set(manual=True)
    world.drop(key, body)
    world.run(10)
    assert (report(world)["status"], world.video("acme/line")) == ("rendering", old)
    assert report(world)["video"] == old_video, "the report keeps describing the video that is there"
    world.sim.set(manual=False)
    world.run()
    assert (report(world)["status"], len(world.tasks())) == ("done", 2)
    assert report(world)["inputs"]["voice"]["sha256"] == world.tasks()[1]["audio_sha256"]


def test_going_back_is_a_new_video_too(world: World) -> None:
    done(world)
    for pitch in (0.2, 0.08):
        world.drop("acme/line.wav", voice(pitch=pitch))
        world.run()
    assert (report(world)["status"], len(world.tasks())) == ("done", 3)
    assert report(world)["inputs"]["voice"]["sha256"] == sha256(voice())


def test_a_repeated_event_is_no_other_try(world: World) -> None:
    events = done(world)
    revision = report(world)["revision"]
    for event in events * 2:
        world.post(event)
        world.run()
    assert (report(world)["revision"], len(world.tasks()), world.new_events()) == (revision, 1, [])
    assert report(world)["asked_again_at"] is None


def test_shared_files_leave_finished_jobs_alone(world: World) -> None:
    world.drop("acme/anna.png", portrait())
    world.drop("acme/line.wav", voice())
    world.run()
    assert report(world)["status"] == "done"
    world.drop("acme/anna.png", portrait(120))
    world.drop("acme/settings.json", {"parameters": {"style_level": "calm"}})
    world.run()
    assert (report(world)["status"], len(world.tasks())) == ("done", 1)


def test_a_second_voice_after_sending_is_refused(world: World) -> None:
    rendering(world)
    revision = report(world)["revision"]
    event = world.drop("acme/line.mp3", b"another voice")
    world.run(5)
    world.post(event)
    world.run(5)
    (told,) = world.new_events()
    assert (told["status"], told["error"]["code"]) == ("rendering", "JobAmbiguous")
    assert told["revision"] > revision, "told apart by job and revision"
    assert "acme/line.mp3" in told["message"]
    assert len(world.new_notices()) == 1
    assert report(world) == told
    world.sim.set(manual=False)
    world.run()
    assert (report(world)["status"], len(world.tasks())) == ("done", 1)
    assert report(world)["inputs"]["voice"]["key"] == "acme/line.wav"


# ---------------------------------------------------------------------- after a refusal or failure
def test_same_bytes_after_the_providers_refusal(world: World) -> None:
    world.sim.fault(REFUSED, endpoint="create", times=2)
    event = world.drop("acme/line.wav", voice())
    world.drop("acme/line.png", portrait())
    world.run()
    assert report(world)["error"]["code"] == "ProviderRejected"
    world.post(event)
    world.run()
    assert (report(world)["status"], world.requests("create")) == ("rejected", 1), "the event came twice, no try"
    world.drop("acme/line.wav", voice())
    world.run()
    assert (report(world)["status"], world.requests("create")) == ("rejected", 2)
    world.drop("acme/line.wav", voice())
    world.run()
    assert (report(world)["status"], report(world)["error"]) == ("done", None)


def test_same_bytes_after_our_refusal(world: World) -> None:
    world.drop("acme/line.wav", b"no voice")
    world.drop("acme/line.png", portrait())
    world.run()
    world.new_events()
    world.drop("acme/line.wav", b"no voice")
    world.run()
    assert [(e["status"], e["error"]["code"]) for e in world.new_events()] == [("rejected", "VoiceUnreadable")]
    world.drop("acme/line.wav", voice())
    world.run()
    assert report(world)["status"] == "done"


def test_same_bytes_after_a_failure(world: World) -> None:
    world.sim.fault({"task_fails": {"code": "InternalError", "message": "It broke."}})
    event = world.drop("acme/line.wav", voice())
    world.drop("acme/line.png", portrait())
    world.run()
    assert report(world)["status"] == "failed"
    world.post(event)
    world.run()
    assert (report(world)["status"], len(world.tasks())) == ("failed", 1)
    world.drop("acme/line.wav", voice())
    world.run()
    assert (report(world)["status"], report(world)["error"], len(world.tasks())) == ("done", None, 2)


def test_mending_folder_settings_mends_their_jobs(world: World) -> None:
    world.drop("acme/settings.json", '{"parameters": {"ratio": "16:9"}}')
    world.drop("acme/anna.png", portrait())
    world.drop("acme/line.wav", voice())
    world.drop("acme/broken.wav", b"no voice")
    world.run()
    assert (world.error("acme/line"), world.error("acme/broken")) == ("SettingsInvalid", "SettingsInvalid")
    world.drop("acme/settings.json", {"parameters": {"ratio": "3:4"}})
    world.run()
    assert (report(world)["status"], report(world)["settings"]["ratio"]) == ("done", "3:4")
    assert world.error("acme/broken") == "VoiceUnreadable"
    revision = world.job("acme/broken").revision
    world.drop("acme/settings.json", {"parameters": {"ratio": "1:1"}})
    world.run()
    assert (world.job("acme/broken").revision, len(world.tasks())) == (revision, 1)


def test_a_refused_portrait_elsewhere_comes_anew(world: World) -> None:
    world.drop("faces/anna.png", portrait(note="NoHuman"))
    world.drop("acme/line.json", {"input": {"image_url": "../faces/anna.png"}})
    world.drop("acme/line.wav", voice())
    world.run()
    assert report(world)["error"]["code"] == "PortraitRefused"
    world.drop("faces/anna.png", portrait())
    world.run()
    assert report(world)["status"] == "done"


# ---------------------------------------------------------------------- before it is sent
def test_new_bytes_while_queued_keep_the_place(world: World) -> None:
    world.post({"pause": True})
    world.drop_pair("acme/line")
    world.run(10)
    world.drop_pair("later", pitch=0.3)
    world.run(10)
    world.drop("acme/line.wav", voice(pitch=0.2))
    world.run(10)
    assert report(world)["queue"]["place"] == 1
    world.post({"pause": False})
    world.run()
    assert [t["audio_sha256"] for t in world.tasks()] == [sha256(voice(pitch=0.2)), sha256(voice(pitch=0.3))]


def test_shared_files_apply_to_jobs_not_yet_sent(world: World) -> None:
    world.drop("acme/anna.png", portrait())
    world.run(20)
    world.post({"pause": True})
    world.drop("acme/line.wav", voice())
    world.run(60)
    assert report(world)["status"] == "queued"
    world.drop("acme/anna.png", portrait(120))
    world.drop("acme/settings.json", {"parameters": {"style_level": "calm"}})
    world.run(60)
    assert report(world)["settings"]["style_level"] == "calm"
    world.post({"pause": False})
    world.run()
    (task,) = world.tasks()
    assert (task["image_sha256"], task["style_level"]) == (sha256(portrait(120)), "calm")


# ---------------------------------------------------------------------- while it renders
def test_new_bytes_while_rendering_follow(world: World) -> None:
    rendering(world)
    world.drop("acme/line.wav", voice(pitch=0.2))
    world.run(10)
    assert len(world.tasks()) == 1
    world.sim.set(manual=False)
    world.run()
    assert [t["audio_sha256"] for t in world.tasks()] == [sha256(voice()), sha256(voice(pitch=0.2))]
    assert [e["status"] for e in world.new_events()] == ["done", "queued", "rendering", "done"]
    versions = world.s3.list_object_versions(Bucket=RESULTS, Prefix="acme/line.mp4")["Versions"]
    assert len(versions) == 2
    assert report(world)["inputs"]["voice"]["sha256"] == sha256(voice(pitch=0.2))


def test_new_bytes_follow_a_failure_too(world: World) -> None:
    rendering(world)
    world.sim.fault({"task_fails": {"code": "InternalError", "message": "It broke."}})
    world.drop("acme/line.wav", voice(pitch=0.2))
    world.run(10)
    world.sim.set(manual=False)
    world.run()
    assert [t["status"] for t in world.tasks()] == ["FAILED", "SUCCEEDED"]
    assert report(world)["status"] == "done"


def test_same_bytes_while_rendering_are_paid_once(world: World) -> None:
    rendering(world)
    world.drop("acme/line.wav", voice())
    world.run(10)
    world.sim.set(manual=False)
    world.run()
    assert (report(world)["status"], len(world.tasks())) == ("done", 1)
    assert report(world)["asked_again_at"] is not None


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_follow_up_survives_any_death(world: World, nth: int) -> None:
    """Deliver wakes submit for the freed slot and has the job reconciled; submit wakes itself for the queued job."""
    rendering(world)
    world.drop("acme/line.wav", voice(pitch=0.2))
    world.run(10)
    world.dies(world.queue, "send", nth=nth)
    world.sim.set(manual=False)
    world.run()
    world.sweep(1)
    assert (report(world)["status"], len(world.tasks())) == ("done", 2)
