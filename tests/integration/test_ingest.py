"""Dropping files, from the event to the report: any order, one portrait for many, questions, deletions, settings."""

from __future__ import annotations

import itertools
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from world import RESULTS, UPLOADS, VISIBILITY, Died, keys, portrait, voice

from portraitcast.adapters.presign import LinkedObject
from portraitcast.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

OWN_FILES: dict[str, Any] = {
    "acme/line-01.wav": voice(),
    "acme/line-01.png": portrait(),
    "acme/line-01.json": {"parameters": {"style_level": "active"}},
}


# ---------------------------------------------------------------------- whole pairs
@pytest.mark.parametrize("order", list(itertools.permutations(OWN_FILES)))
def test_any_order_is_one_video(world: World, order: tuple[str, ...]) -> None:
    for key in order:
        world.drop(key, OWN_FILES[key])
        world.run(1)
    world.run()
    assert world.status("acme/line-01") == "done"
    assert [t["status"] for t in world.tasks()] == ["SUCCEEDED"]
    report = world.its_report("acme/line-01")
    assert report["settings"]["style_level"] == "active"
    assert report["inputs"]["portrait"]["chosen_by"] == "same_name"
    assert world.video("acme/line-01") is not None


def test_a_change_is_an_event_an_end_a_notice(world: World) -> None:
    world.drop("line.wav", voice())
    world.run(10)
    world.drop("line.png", portrait())
    world.run()
    events = world.new_events()
    assert [e["status"] for e in events] == ["waiting", "waiting", "waiting", "queued", "rendering", "done"]
    reading = "The file is being read."
    assert [e["message"] == reading for e in events[:3]] == [True, False, True], "the voice, no portrait, the portrait"
    assert [e["revision"] for e in events] == [1, 2, 3, 4, 5, 6]
    notices = world.new_notices()
    assert [n["MessageAttributes"]["status"]["Value"] for n in notices] == ["done"]
    assert notices[0]["MessageAttributes"]["folder"]["Value"] == "/"
    assert notices[0]["Subject"] == "Portraitcast: line is done"


def test_own_files_are_quiet_for_pair_seconds(world: World) -> None:
    world.drop("a.png", portrait())
    world.drop("a.wav", voice())
    world.run(2)
    assert (world.status("a"), world.requests("create")) == ("queued", 0)
    world.drop("a.json", {"parameters": {"style_level": "calm"}})
    world.run(2)
    assert world.requests("create") == 0
    world.run(4)
    assert world.requests("create") == 1
    assert world.tasks()[0]["style_level"] == "calm"


def test_a_voice_alone_waits_for_its_portrait(world: World) -> None:
    world.drop("acme/line-01.wav", voice())
    world.run(3600)
    report = world.its_report("acme/line-01")
    assert (report["status"], report["error"]["code"]) == ("waiting", "PortraitMissing")
    assert "line-01.png" in report["error"]["what_to_do"]
    world.drop("acme/line-01.png", portrait())
    world.run()
    assert world.status("acme/line-01") == "done"


def test_an_image_alone_makes_no_report(world: World) -> None:
    world.drop("acme/anna.png", portrait())
    world.run()
    assert keys(RESULTS) == set()


def test_names_meet_in_one_unicode_form(world: World) -> None:
    name = "Äcme ü+%20/Ωмега 名前 🎬 'x' \"y\" & z"
    decomposed, composed = unicodedata.normalize("NFD", name), unicodedata.normalize("NFC", name)
    assert decomposed != composed
    world.drop(f"{decomposed}.WAV", voice())
    world.drop(f"{composed}.PNG", portrait())
    world.run()
    assert world.status(decomposed) == "done"
    assert world.video(decomposed) is not None


# ---------------------------------------------------------------------- the only image
def test_one_portrait_serves_a_folder_of_voices(world: World) -> None:
    world.drop("acme/anna.png", portrait())
    for n in range(5):
        world.drop(f"acme/{n}.wav", voice(pitch=0.05 + n / 100))
    world.run()
    assert [world.status(f"acme/{n}") for n in range(5)] == ["done"] * 5
    assert world.requests("check") == 1
    assert len(world.tasks()) == 5


def test_the_only_image_is_chosen_once_quiet(world: World) -> None:
    world.drop("acme/anna.png", portrait())
    world.run(5)
    world.drop("acme/line.wav", voice())
    world.run(5)
    assert world.status("acme/line") == "waiting"
    world.run()
    report = world.its_report("acme/line")
    assert report["status"] == "done"
    assert report["inputs"]["portrait"]["chosen_by"] == "only_image"


def test_a_second_image_becomes_a_question(world: World) -> None:
    world.drop("acme/line.wav", voice())
    world.drop("acme/anna.png", portrait())
    world.run(10)
    world.drop("acme/bert.png", portrait(90))
    world.run()
    report = world.its_report("acme/line")
    assert (report["status"], report["error"]["code"]) == ("waiting", "PortraitAmbiguous")
    assert report["candidates"] == {"keys": ["acme/anna.png", "acme/bert.png"], "count": 2}
    assert world.tasks() == []


@pytest.mark.parametrize(
    ("answer", "chosen_by"),
    [
        (("acme/line.png", portrait(120)), "same_name"),
        (("acme/line.json", {"input": {"image_url": "anna.png"}}), "own_settings"),
        (("acme/settings.json", {"input": {"image_url": "bert.png"}}), "folder_settings"),
        (("delete", "acme/bert.png"), "only_image"),
    ],
    ids=["an image of its name", "its JSON", "the folder's settings", "deleting the other image"],
)
def test_the_portraits_question_is_answered_by(world: World, answer: tuple[Any, Any], chosen_by: str) -> None:
    for key, body in (
        ("acme/line.wav", voice()),
        ("acme/anna.png", portrait()),
        ("acme/bert.png", portrait(90)),
    ):
        world.drop(key, body)
    world.run()
    assert world.error("acme/line") == "PortraitAmbiguous"
    if answer[0] == "delete":
        world.delete(answer[1])
    else:
        world.drop(*answer)
    world.run()
    report = world.its_report("acme/line")
    assert (report["status"], report["error"], report["candidates"]) == ("done", None, None)
    assert report["inputs"]["portrait"]["chosen_by"] == chosen_by


def test_two_voices_are_a_question(world: World) -> None:
    world.drop("a.png", portrait())
    world.drop("a.wav", voice())
    world.drop("a.mp3", b"not sent, so not looked at")
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("waiting", "VoiceAmbiguous")
    assert report["candidates"] == {"keys": ["a.mp3", "a.wav"], "count": 2}
    world.delete("a.mp3")
    world.run()
    assert world.status("a") == "done"


def test_a_portrait_in_another_folder(world: World) -> None:
    world.drop("acme/line.json", {"input": {"image_url": "../faces/anna.png"}})
    world.drop("acme/line.wav", voice())
    world.run()
    assert world.error("acme/line") == "PortraitMissing"
    world.drop("faces/anna.png", portrait())
    world.run()
    assert world.status("acme/line") == "done"


# ---------------------------------------------------------------------- a JSON that is a job
def test_the_services_request_body_is_a_job(world: World, file_server: Any) -> None:
    world.s3.put_object(Bucket=UPLOADS, Key="elsewhere/.voice.wav", Body=voice())
    world.s3.put_object(Bucket=UPLOADS, Key="elsewhere/.face.png", Body=portrait())
    image, audio = file_server.sign(
        LinkedObject("elsewhere/.face.png", "null", "image/png"),
        LinkedObject("elsewhere/.voice.wav", "null", "audio/wav"),
    )
    body = {
        "model": "emo-v1",
        "input": {
            "image_url": image,
            "audio_url": audio,
            "face_bbox": [100, 50, 300, 250],
            "ext_bbox": [0, 0, 300, 400],
        },
        "parameters": {"style_level": "active"},
    }
    world.drop("jobs/hello.json", body)
    world.run()
    report = world.its_report("jobs/hello")
    assert report["status"] == "done"
    assert report["settings"]["ratio"] == "3:4"
    (task,) = world.tasks()
    assert (task["image_url"], task["audio_url"]) == (image, audio), "links are passed on exactly as written"
    assert world.requests("check") == 0, "with boxes no portrait check is made"
    assert report["inputs"]["voice"]["url"] == audio.split("?")[0], "shown without its query"


def test_a_voice_beside_a_jsons_voice(world: World) -> None:
    world.drop("a.wav", voice())
    world.drop("a.png", portrait())
    world.drop("a.json", {"input": {"audio_url": "https://example.com/v.wav"}})
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("rejected", "JobAmbiguous")
    assert "a.json" in report["message"]
    assert "a.wav" in report["message"]
    assert world.tasks() == []


# ---------------------------------------------------------------------- refusals before anything is paid
@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"a.wav": b"", "a.png": portrait()}, "VoiceEmpty"),
        ({"a.wav": b"RIFF", "a.png": portrait()}, "VoiceUnreadable"),
        ({"a.wav": voice(60.1), "a.png": portrait()}, "VoiceTooLong"),
        ({"a.wav": voice(), "a.png": portrait(size=(299, 500))}, "PortraitTooSmall"),
        ({"a.wav": voice(), "a.png": b"no picture"}, "PortraitUnreadable"),
        ({"a.wav": voice(), "a.heic": b"anything"}, "PortraitUnreadable"),
        ({"a.m4a": b"anything", "a.png": portrait()}, "VoiceUnreadable"),
        ({"a.wav": voice(), "a.json": '{"input": '}, "SettingsInvalid"),
        ({"a.wav": voice(), "settings.json": '{"modell": 1}', "a.png": portrait()}, "SettingsInvalid"),
        ({"a.wav": voice(), "a.png": portrait(note="MultiHuman")}, "PortraitRefused"),
    ],
)
def test_a_bad_file_is_told_and_nothing_created(world: World, files: dict[str, Any], code: str) -> None:
    for key, body in files.items():
        world.drop(key, body)
    world.run()
    report = world.its_report("a")
    assert (report["status"], report["error"]["code"]) == ("rejected", code)
    assert report["message"]
    assert report["error"]["what_to_do"]
    assert world.tasks() == []
    assert [n["MessageAttributes"]["status"]["Value"] for n in world.new_notices()] == ["rejected"]


def test_content_counts_and_no_suffix(world: World) -> None:
    world.drop("a.mp3", voice())
    world.drop("a.heic", portrait())
    world.run()
    assert world.status("a") == "done"
    assert [world.its_report("a")["inputs"][which]["type"] for which in ("voice", "portrait")] == ["wav", "png"]


def test_a_voice_named_settings_is_rejected(world: World) -> None:
    world.drop("acme/settings.wav", voice())
    world.run()
    assert [e["error"]["code"] for e in world.new_events()] == ["NameReserved"]


def test_a_name_without_room_for_a_report(world: World) -> None:
    name = "n" * 1020
    world.drop(f"{name}.wav", voice())
    world.run()
    assert [e["error"]["code"] for e in world.new_events()] == ["NameTooLong"]
    assert len(world.new_notices()) == 1
    assert keys(RESULTS) == set()


# ---------------------------------------------------------------------- deleting
@pytest.mark.parametrize(
    "files",
    [
        {"a.wav": voice()},
        {"a.json": {"input": {"audio_url": "https://example.com/v.wav"}}},
        {"a.wav": voice(), "a.png": b"no picture"},
    ],
    ids=["waiting voice", "JSON that is the job", "rejected"],
)
def test_deleting_the_voice_withdraws(world: World, files: dict[str, Any]) -> None:
    for key, body in files.items():
        world.drop(key, body)
    world.run()
    world.delete(next(iter(files)))
    world.run()
    assert world.status("a") == "withdrawn"
    assert world.tasks() == []


def test_deleting_a_queued_voice_withdraws(make_world: Callable[..., World]) -> None:
    world = make_world(pair_seconds=60)
    world.drop("a.wav", voice())
    world.drop("a.png", portrait())
    world.run(30)
    assert world.status("a") == "queued"
    world.delete("a.wav")
    world.run()
    assert world.status("a") == "withdrawn"
    assert world.table.queue("emo-v1", 5) == []
    assert world.tasks() == []


def test_deleting_a_portrait_chooses_anew(world: World) -> None:
    world.drop("acme/anna.png", portrait())
    world.run()
    world.drop("acme/line.wav", voice())
    world.drop("acme/line.png", portrait(90))
    world.run(1)
    world.delete("acme/line.png")
    world.run()
    report = world.its_report("acme/line")
    assert (report["status"], report["inputs"]["portrait"]["key"]) == ("done", "acme/anna.png")


def test_deleting_after_sending_changes_nothing(world: World) -> None:
    world.sim.set(manual=True)
    world.drop("a.wav", voice())
    world.drop("a.png", portrait())
    world.run(20)
    assert world.status("a") == "rendering"
    world.sim.wait_for(lambda s: s["tasks"][0]["audio_sha256"] is not None)
    world.delete("a.wav")
    world.delete("a.png")
    world.run(5)
    world.sim.set(manual=False)
    world.run()
    assert world.status("a") == "done"


def test_an_upload_told_after_its_deletion(world: World) -> None:
    created = world.put("a.wav", voice())
    world.delete("a.wav")
    world.run()
    world.post(created)
    world.run()
    assert world.report("a") is None
    assert world.table.job(world.job_id("a")) is None


# ---------------------------------------------------------------------- what lay there before
def test_a_scan_ingests_what_lay_there_before(world: World) -> None:
    world.put("old/anna.png", portrait())
    for n in range(60):  # more than a page
        world.s3.put_object(Bucket=UPLOADS, Key=f"old/.hidden-{n}", Body=b"")
    world.put("old/line.wav", voice())
    world.put("other/line.wav", voice())
    world.post({"scan": "old/"})
    world.run()
    assert world.status("old/line") == "done"
    assert world.report("other/line") is None


def test_files_that_do_not_count(world: World) -> None:
    for key in ("notes.txt", ".hidden.wav", "folder/", "acme/.DS_Store", "letter.pdf"):
        world.drop(key, b"x")
    world.run()
    assert world.new_events() == []
    assert keys(RESULTS) == set()


@pytest.mark.parametrize(
    "folder",
    [
        *(".Trash-1000/files/", ".AppleDouble/", "acme/.hidden/", ".Trashes/501/", "acme/.git/lfs/"),
        *("@eaDir/", "acme/@eaDir/line.wav/", "#recycle/", "acme/#RECYCLE/deep/er/", "#snapshot/", "@Recycle/"),
        *("$RECYCLE.BIN/S-1-5/", "System Volume Information/", "lost+found/", "__MACOSX/acme/", "acme/._"),
    ],
)
def test_hidden_and_trash_folders_are_left_alone(world: World, folder: str) -> None:
    """Files that people have deleted, and what systems make beside theirs, are no paid videos."""
    world.drop(f"{folder}line.png", portrait())
    world.drop(f"{folder}line.wav", voice())
    world.drop(f"{folder}other.json", {"input": {"image_url": "https://a.b/c.png", "audio_url": "https://a.b/c.wav"}})
    world.post({"scan": ""})
    world.run()
    assert (world.tasks(), keys(RESULTS), world.new_events(), world.new_notices()) == ([], set(), [], [])


def test_a_hidden_picture_is_no_portrait_of_its_folder(world: World) -> None:
    """Neither chosen nor asked about: a NAS makes thumbnails of every picture."""
    world.drop("acme/anna.png", portrait())
    world.drop("acme/@eaDir/anna.png/SYNOFILE_THUMB_M.jpg", portrait(90))
    world.drop("acme/._anna.png", b"resource fork")
    world.drop("acme/line.wav", voice())
    world.run()
    assert world.its_report("acme/line")["inputs"]["portrait"]["key"] == "acme/anna.png"
    assert world.status("acme/line") == "done"


@pytest.mark.parametrize("folder", ["@home/", "#1/", "recycle/", "acme.old/", "lost and found/", "a.b/"])
def test_folders_of_people_are_made(world: World, folder: str) -> None:
    world.drop_pair(f"{folder}line")
    world.run()
    assert world.status(f"{folder}line") == "done"


# ---------------------------------------------------------------------- objects that arrive empty
@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("acme/line.wav", voice()),
        ("acme/line.png", portrait()),
        ("acme/line.json", {"parameters": {"style_level": "active"}}),
        ("acme/settings.json", {"parameters": {"style_level": "active"}}),
        ("acme/anna.png", portrait()),
    ],
    ids=["voice", "portrait", "settings", "folder's settings", "only image"],
)
def test_an_empty_object_is_still_arriving(world: World, key: str, body: Any) -> None:
    """Programs like s3fs make an object of 0 bytes and fill it a moment later: nobody hears of a refusal."""
    others: dict[str, Any] = {"acme/line.wav": voice(), "acme/bert.png": portrait(90)}
    for other, its in others.items():
        if other != key and not (key.endswith(".png") and other.endswith(".png")):
            world.drop(other, its)
    world.drop(key, b"")
    world.run(2)
    assert world.status("acme/line") in {"waiting", None}
    world.drop(key, body)
    world.run()
    assert world.status("acme/line") == "done"
    statuses = [event["status"] for event in world.new_events()]
    assert set(statuses) <= {"waiting", "queued", "rendering", "done"}
    assert len(world.tasks()) == 1
    if isinstance(body, dict):
        assert world.tasks()[0]["style_level"] == "active"


@pytest.mark.parametrize(
    ("key", "code"),
    [("line.wav", "VoiceEmpty"), ("line.png", "PortraitUnreadable"), ("line.json", "SettingsInvalid")],
)
def test_what_stays_empty_is_told_by_itself(world: World, key: str, code: str) -> None:
    """Once PairSeconds are over, without another event."""
    for other, body in {"line.wav": voice(), "line.png": portrait()}.items():
        if other != key:
            world.drop(other, body)
    world.drop(key, b"")
    world.run(2)
    assert world.status("line") == "waiting"
    world.run(60)
    assert (world.status("line"), world.error("line")) == ("rejected", code)


def test_damaged_events_are_not_swallowed(world: World) -> None:
    with pytest.raises(MessageError):
        world.handle({"Records": [{"eventName": "ObjectCreated:Put", "s3": {}}]})
    with pytest.raises(MessageError):
        world.handle({"nobody": "sends this"})


# ---------------------------------------------------------------------- crashes and meetings
def test_a_death_before_the_folder_was_told(
    world: World,
) -> None:
    world.drop("acme/line.wav", voice())
    world.run()
    event = world.put("acme/anna.png", portrait())
    cure = world.dies(world.queue, "send")
    with pytest.raises(Died):
        world.handle(event)
    cure()
    world.post(event, after=VISIBILITY)  # SQS gives it again after the visibility timeout
    world.run()
    assert world.status("acme/line") == "done"
