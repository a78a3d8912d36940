"""The report: exactly the fields of the product page whatever is known, nothing secret, in words for people."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.errors import Problem
from portraitcast.domain.job import Job, owner_of
from portraitcast.domain.uploads import classify
from portraitcast.domain.prices import CHECK_CNY, video_fee
from portraitcast.domain.report import build_report, folder_attribute, subject

NOW = 1_772_337_600.0  # 2026-03-01 04:00 UTC
FIELDS = {
    "schema": None,
    "job": None,
    "name": None,
    "revision": None,
    "as_of": None,
    "status": None,
    "message": None,
    "inputs": {
        "voice": ("key", "url", "version", "sha256", "bytes", "seconds", "type"),
        "portrait": ("key", "url", "version", "sha256", "bytes", "width", "height", "type", "chosen_by"),
        "settings": [("key", "version", "sha256")],
    },
    "candidates": ("keys", "count"),
    "settings": ("model", "style_level", "ratio", "face_bbox", "ext_bbox"),
    "queue": ("place", "of", "held"),
    "task": ("id", "submit_time", "scheduled_time", "end_time"),
    "video": ("key", "bytes", "seconds", "width", "height", "sha256"),
    "cost_cny": ("check", "video", "total"),
    "tries": None,
    "asked_again_at": None,
    "error": (
        "code",
        "provider_code",
        "provider_message",
        "request_id",
        "limit",
        "measured",
        "what_to_do",
    ),
}
STATUSES = ("waiting", "queued", "submitting", "rendering", "done", "rejected", "failed", "withdrawn")
PROBLEM = Problem(
    "VoiceTooLong", "line-01.mp3 is too long.", "Cut it.", "60 s", "61.2 s", "InvalidURL", "too long", "r-1"
).as_dict()
KNOWN: dict[str, Any] = {
    "revision": 7,
    "voice": {
        "key": "acme/line-01.mp3",
        "version": "v1",
        "bytes": 49_197,
        "sha256": "a" * 64,
        "seconds": 6.05,
        "type": "mp3",
    },
    "portrait": {
        "key": "acme/anna.png",
        "version": "v2",
        "bytes": 700_000,
        "sha256": "b" * 64,
        "width": 900,
        "height": 800,
        "type": "png",
        "chosen_by": "only_image",
    },
    "settings_files": [{"key": "acme/settings.json", "version": "v3", "sha256": "c" * 64}],
    "candidates": {"keys": ["acme/anna.png"], "count": 1},
    "settings": {"model": "emo-v1", "style_level": "calm", "ratio": "1:1", "face_bbox": None, "ext_bbox": None},
    "boxes": {"face": [1, 2, 3, 4], "ext": [0, 1, 5, 6]},
    "task": {"id": "t-1", "submit_time": "a", "scheduled_time": "b", "end_time": "c"},
    "video": {
        "key": "acme/line-01.mp4",
        "bytes": 900_000,
        "seconds": 6.07,
        "width": 512,
        "height": 512,
        "sha256": "d" * 64,
    },
    "video_cost": 0.4856,
    "checks_paid": 1,
    "tries": 2,
    "problem": PROBLEM,
    "asked_again_at": NOW,
    "execution_input": {"job": "x", "task": "t-1"},
    "held": None,
}


def job(status: str = "queued", key: str = "acme/line-01.mp3", **known: Any) -> Job:
    name = classify(key)
    assert name is not None
    made = Job(name.job, name.name, name.folder, name.stem, created_at=NOW, status=status)
    for field, value in known.items():
        setattr(made, field, value)
    return made


def check_fields(report: dict[str, Any], fields: dict[str, Any]) -> None:
    assert set(report) == set(fields)
    for name, inside in fields.items():
        value = report[name]
        match inside:
            case dict():
                check_fields(value, inside)
            case tuple() if value is not None:
                assert set(value) == set(inside)
            case [entry]:
                assert all(set(item) == set(entry) for item in value)


# Fields


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("known", [{}, KNOWN], ids=["nothing known", "everything known"])
def test_every_field_is_there_under_its_name_and_no_other(status: str, known: dict[str, Any]) -> None:
    report = build_report(job(status, **known), now=NOW, place=(1, 3))
    check_fields(report, FIELDS)
    assert json.loads(json.dumps(report)) == report


def test_what_is_not_known_yet_is_null() -> None:
    report = build_report(job("waiting", message="Waiting."), now=NOW)
    nulls = {name for name, value in report.items() if value is None}
    assert nulls == {"candidates", "settings", "queue", "task", "video", "asked_again_at", "error"}
    assert report["inputs"] == {"voice": None, "portrait": None, "settings": []}
    assert report["cost_cny"] == {"check": 0, "video": None, "total": 0}


def test_what_is_known_stands_where_it_belongs() -> None:
    report = build_report(job("rejected", **KNOWN), now=NOW)
    assert (report["schema"], report["job"], report["name"]) == (
        "portraitcast.domain.report/1",
        classify("acme/line-01.wav").job,  # type: ignore[union-attr]  # a name that counts
        "acme/line-01",
    )
    assert (report["revision"], report["tries"], report["status"]) == (7, 2, "rejected")
    assert report["as_of"] == report["asked_again_at"] == "2026-03-01T04:00:00.000Z"
    assert report["inputs"]["voice"] == {**KNOWN["voice"], "url": None}
    assert report["inputs"]["portrait"] == {**KNOWN["portrait"], "url": None}
    assert report["video"] == KNOWN["video"]
    assert report["message"] == "line-01.mp3 is too long."
    assert report["error"] == {name: value for name, value in PROBLEM.items() if name != "message"}
    assert (report["settings"]["face_bbox"], report["settings"]["ext_bbox"]) == ([1, 2, 3, 4], [0, 1, 5, 6])
    assert report["cost_cny"] == {"check": 0.004, "video": 0.4856, "total": 0.4896}


def test_a_job_that_is_being_sent_is_shown_as_queued() -> None:
    report = build_report(job("submitting"), now=NOW)
    assert report["status"] == "queued"
    assert report["queue"] is not None


def test_a_link_is_shown_without_user_info_query_and_fragment() -> None:
    linked = {"key": None, "link": "https://user:secret@a.example/hello.mp3?X-Amz-Signature=secret#secret"}
    report = build_report(job("done", voice=linked, portrait={**linked, "chosen_by": "own_settings"}), now=NOW)
    assert report["inputs"]["voice"]["url"] == "https://a.example/hello.mp3"
    assert report["inputs"]["portrait"]["url"] == "https://a.example/hello.mp3"
    assert "secret" not in json.dumps(report)


# Words


@pytest.mark.parametrize(
    ("held", "place", "said"),
    [
        (None, (3, 10_000), "place 3 of 10000"),
        (None, (None, None), "its turn"),
        ("account", (1, 1), "account"),
        ("budget", (1, 1), "budget"),
        ("paused", (1, 1), "paused"),
    ],
)
def test_what_waits_in_the_queue_says_where_and_why(
    held: str | None, place: tuple[int | None, int | None], said: str
) -> None:
    report = build_report(job("queued", held=held), now=NOW, place=place)
    assert said in report["message"]
    assert report["queue"] == {"place": place[0], "of": place[1], "held": held}


@pytest.mark.parametrize(
    ("status", "known", "said"),
    [
        ("waiting", {"message": "Waiting for the folder to be quiet."}, "Waiting for the folder to be quiet."),
        ("waiting", {"problem": PROBLEM}, "line-01.mp3 is too long."),
        ("rendering", {}, "The video is being made."),
        ("done", {}, "The video is ready: acme/line-01.mp4."),
        ("failed", {"problem": PROBLEM}, "line-01.mp3 is too long."),
        ("withdrawn", {}, "was deleted before the job was sent."),
    ],
)
def test_each_status_has_one_plain_sentence(status: str, known: dict[str, Any], said: str) -> None:
    message = build_report(job(status, **known), now=NOW)["message"]
    assert said in message
    assert message.endswith(".")


# The notice's subject


NASTY = "acme/\x07bell\u2028line\u202eright-to-left\x85\t\r\n😀'\"%+日本\u200b.mp3"


@pytest.mark.parametrize("status", ["done", "rejected", "failed"])
@pytest.mark.parametrize("key", ["a.mp3", "acme/line-01.mp3", NASTY, "acme/" + "é😀" * 160 + ".mp3"])
def test_a_subject_is_readable_under_100_characters_and_without_control_characters(status: str, key: str) -> None:
    text = subject(job(status, key))
    assert len(text) < 100
    assert text.isprintable()
    assert text.endswith(f" is {status}")


def test_a_short_name_stands_whole_in_the_subject_and_of_a_long_one_its_end() -> None:
    assert subject(job("done")) == "Portraitcast: acme/line-01 is done"
    assert "the-end is done" in subject(job("done", "x/" * 80 + "the-end.mp3"))


@given(st.text(max_size=300), st.sampled_from(["done", "rejected", "failed"]))
def test_any_name_makes_a_lawful_subject(name: str, status: str) -> None:
    made = job(status)
    made.name = name
    text = subject(made)
    assert len(text) < 100
    assert text.isprintable()


@pytest.mark.parametrize(
    ("key", "folder"),
    [("line-01.mp3", "/"), ("acme/line-01.mp3", "acme"), ("acme/deep/line-01.mp3", "acme/deep")],
)
def test_notices_are_filtered_by_folder_without_its_last_slash(key: str, folder: str) -> None:
    assert folder_attribute(job("done", key)) == folder


# The job as it is stored, and what it costs


def test_a_job_survives_being_stored() -> None:
    stored = job("rendering", **KNOWN)
    again = Job.from_dict(json.loads(json.dumps(stored.as_dict())))
    assert again.as_dict() == stored.as_dict()
    assert build_report(again, now=NOW) == build_report(stored, now=NOW)


def test_a_job_that_a_newer_version_has_stored_is_read_after_a_rollback() -> None:
    stored = job("rendering", **KNOWN)
    assert Job.from_dict(stored.as_dict() | {"of_a_newer_version": 1}).as_dict() == stored.as_dict()


def test_a_slots_owner_names_job_and_attempt() -> None:
    assert job("submitting", attempt=3).owner == owner_of(job().id, 3) == f"{job().id}#3"


@pytest.mark.parametrize(
    ("seconds", "ratio", "fee"),
    [(10, "1:1", 0.8), (10, "3:4", 1.6), (60, "1:1", 4.8), (0, "3:4", 0), (10, "standard", 1.6)],
)
def test_a_video_costs_by_its_seconds_and_ratio_and_an_unknown_ratio_the_dearer(
    seconds: float, ratio: str, fee: float
) -> None:
    assert video_fee(seconds, ratio) == pytest.approx(fee)


def test_a_check_costs_what_the_price_list_says() -> None:
    assert CHECK_CNY == 0.004
    assert build_report(job("done", checks_paid=3), now=NOW)["cost_cny"]["check"] == pytest.approx(0.012)
