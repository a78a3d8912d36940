"""The report: exactly the fields of the product page whatever is known, nothing secret, in words for people."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.domain.job import Portrait, Status, Voice, iso
from portraitcast.domain.models import MODELS
from portraitcast.domain.problems import Problem
from portraitcast.domain.report import Turn, build_report, folder_attribute, subject
from portraitcast.domain.settings import Effective
from unit.samples import EMO, INPUTS, KNOWN, NOW, PROBLEM, TASK, job

ERROR = ("code", "provider_code", "provider_message", "request_id", "limit", "measured", "what_to_do")
FIELDS = {
    "schema": None,
    "job": None,
    "name": None,
    "reference": None,
    "metadata": None,
    "created_at": None,
    "revision": None,
    "as_of": None,
    "status": None,
    "message": None,
    "inputs": {
        "voice": ("key", "url", "version", "sha256", "bytes", "seconds", "type", "changes"),
        "portrait": ("key", "url", "version", "sha256", "bytes", "width", "height", "type", "changes", "chosen_by"),
        "settings": [("key", "version", "sha256")],
    },
    "candidates": ("keys", "count"),
    "settings": ("model", "style_level", "ratio", "face_bbox", "ext_bbox"),
    "queue": ("place", "of", "held"),
    "task": ("id", "submit_time", "scheduled_time", "end_time"),
    "video": ("bucket", "key", "bytes", "seconds", "width", "height", "sha256"),
    "cost_cny": ("estimate", "check", "video", "total", "ever"),
    "tries": None,
    "asked_again_at": None,
    "error": ERROR,
    "errors": [ERROR],
}
SECOND = Problem("PortraitTooSmall", "anna.png is too small.", "Take a larger one.", "400 px", "399 px")


def report_of(*args: Any, turn: Turn | None = None, **known: Any) -> dict[str, Any]:
    """Return a job's report; its values are typed as objects, and here looked into."""
    return dict(build_report(job(*args, **known), now=NOW, turn=turn))


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


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("known", [{}, KNOWN], ids=["nothing known", "everything known"])
def test_every_field_is_there_and_no_other(status: str, known: dict[str, Any]) -> None:
    report = report_of(status, turn=Turn(1, 3), **known)
    check_fields(report, FIELDS)
    assert json.loads(json.dumps(report)) == report


def test_what_is_not_known_yet_is_null() -> None:
    report = report_of("waiting", message="Waiting.")
    nulls = {name for name, value in report.items() if value is None}
    unknown = {"candidates", "settings", "queue", "task", "video", "asked_again_at", "error", "reference", "metadata"}
    assert nulls == unknown
    assert report["inputs"] == {"voice": None, "portrait": None, "settings": []}
    assert report["cost_cny"] == {"estimate": None, "check": 0, "video": None, "total": 0, "ever": 0}
    assert report["errors"] == []


def test_what_is_known_stands_where_it_belongs() -> None:
    made = job("rejected", **KNOWN)
    report = report_of("rejected", **KNOWN)
    assert (report["schema"], report["job"], report["name"]) == ("portraitcast.report/1", made.id, "acme/line-01")
    assert (report["revision"], report["tries"], report["status"]) == (7, 2, "rejected")
    assert report["as_of"] == report["asked_again_at"] == "2026-03-01T04:00:00.000Z"
    voice, portrait = INPUTS.voice, INPUTS.portrait
    assert voice is not None
    assert portrait is not None
    assert (report["reference"], report["metadata"]) == ("order-4711", {"customer": "k-1"})
    assert report["created_at"] == iso(made.created_at)
    hidden = {"etag", "link", "asset", "metadata"}
    for name, file in (("voice", voice), ("portrait", portrait)):
        shown = {part: value for part, value in asdict(file).items() if part not in hidden}
        assert report["inputs"][name] == shown | {"url": None, "changes": list(file.changes)}
    assert report["inputs"]["settings"] == [{"key": "acme/settings.json", "version": "v3", "sha256": "c" * 64}]
    assert report["candidates"] == {"keys": ["acme/anna.heic"], "count": 1}
    assert report["task"] == {
        "id": "t-1",
        "submit_time": iso(NOW - 399),
        "scheduled_time": iso(NOW - 390),
        "end_time": iso(NOW - 300),
    }
    assert made.video is not None
    assert report["video"] == asdict(made.video)
    assert report["message"] == "line-01.mp3 is too long."
    assert report["error"] == {name: value for name, value in asdict(PROBLEM).items() if name != "message"}
    assert (report["settings"]["face_bbox"], report["settings"]["ext_bbox"]) == ([1, 2, 3, 4], [0, 1, 5, 6])
    assert report["cost_cny"] == {"estimate": 0.488, "check": 0.004, "video": 0.4856, "total": 0.4896, "ever": 1.2896}


def test_two_problems_are_both_told() -> None:
    """A job with a bad voice and a bad portrait names both; `error` is the first."""
    report = report_of("rejected", problems=(PROBLEM, SECOND))
    assert report["message"] == "line-01.mp3 is too long. anna.png is too small."
    assert [error["code"] for error in report["errors"]] == ["VoiceTooLong", "PortraitTooSmall"]
    assert report["error"] == report["errors"][0]


@pytest.mark.parametrize("status", ["rendering", "done"])
def test_a_refused_upload_changes_nothing_else(status: str) -> None:
    """A second voice after the job was sent is told by a report of the job as it stands."""
    second = Problem("JobAmbiguous", "acme/line-01.wav was refused.", "Give it another name.")
    before, report = (
        report_of(status, **KNOWN | {"problems": ()}),
        report_of(status, **KNOWN | {"problems": (), "refused": second}),
    )
    assert report["status"] == status
    assert report["message"] == f"{before['message']} acme/line-01.wav was refused."
    assert report["error"]["code"] == "JobAmbiguous"
    assert report["errors"] == [report["error"]]
    told = {"message", "error", "errors"}
    assert {k: v for k, v in report.items() if k not in told} == {k: v for k, v in before.items() if k not in told}


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_settings_are_those_of_the_model(model: Any) -> None:
    """Flat, under the service's own names; boxes only of a model that takes them."""
    settings = Effective(model.name, model.name, model.effective({}))
    boxes = {"face_bbox": None, "ext_bbox": None} if model.takes_boxes else {}
    shown = report_of("queued", inputs=replace(INPUTS, settings=settings))["settings"]
    assert shown == {"model": model.name, **model.effective({}), **boxes}


def test_own_boxes_and_boxes_that_were_found() -> None:
    own = replace(INPUTS, settings=replace(EMO, face_bbox=(1, 1, 2, 2), ext_bbox=(0, 0, 3, 3)))
    assert report_of("queued", inputs=own)["settings"]["face_bbox"] == [1, 1, 2, 2]
    assert report_of("queued", inputs=INPUTS)["settings"]["face_bbox"] is None


def test_a_create_that_is_open_is_shown_as_queued() -> None:
    report = report_of("creating", **KNOWN | {"problems": ()})
    assert report["status"] == "queued"
    assert report["queue"] == {"place": None, "of": None, "held": None}
    assert report["message"] == "Waiting for its turn."


def test_a_link_hides_what_is_secret() -> None:
    link = "https://user:secret@a.example/hello.mp3?X-Amz-Signature=secret#secret"
    linked = replace(INPUTS, voice=Voice(link=link), portrait=Portrait("own_settings", link=link))
    for status in Status:
        report = report_of(status, inputs=linked, task=TASK)
        assert report["inputs"]["voice"]["url"] == "https://a.example/hello.mp3"
        assert report["inputs"]["portrait"]["url"] == "https://a.example/hello.mp3"
        assert "secret" not in json.dumps(report)


@pytest.mark.parametrize(("status", "said"), [("queued", True), ("rendering", True), ("done", False)])
def test_links_are_not_our_business(status: str, said: bool) -> None:
    linked = replace(INPUTS, voice=Voice(link="https://a.example/a.mp3"))
    assert ("we have not seen them" in report_of(status, inputs=linked)["message"]) is said


# Words


@pytest.mark.parametrize(
    ("held", "turn", "said"),
    [
        (None, Turn(3, 10_000), "place 3 of 10000"),
        (None, Turn(3), "place 3."),
        (None, Turn(), "its turn"),
        ("account", Turn(1, 1), "account"),
        ("budget", Turn(1, 1), "budget"),
        ("paused", Turn(1, 1), "paused"),
    ],
)
def test_a_queued_job_says_where_and_why(held: str | None, turn: Turn, said: str) -> None:
    report = report_of("queued", held=held, turn=turn)
    assert said in report["message"]
    assert report["queue"] == {"place": turn.place, "of": turn.of, "held": held}


@pytest.mark.parametrize(
    ("status", "known", "said"),
    [
        ("waiting", {"message": "Waiting for the folder to be quiet."}, "Waiting for the folder to be quiet."),
        ("waiting", {"problems": (PROBLEM,)}, "line-01.mp3 is too long."),
        ("rendering", {}, "The video is being made."),
        ("done", {}, "The video is ready: acme/line-01.mp4."),
        ("failed", {"problems": (PROBLEM,)}, "line-01.mp3 is too long."),
        ("withdrawn", {}, "was deleted before the job was sent."),
    ],
)
def test_each_status_has_one_plain_sentence(status: str, known: dict[str, Any], said: str) -> None:
    message = report_of(status, **known)["message"]
    assert said in message
    assert message.endswith(".")


# The notice's subject


NASTY = "acme/\x07bell\u2028line\u202eright-to-left\x85\t\r\n😀'\"%+日本\u200b.mp3"


@pytest.mark.parametrize("status", ["done", "rejected", "failed"])
@pytest.mark.parametrize("key", ["a.mp3", "acme/line-01.mp3", NASTY, "acme/" + "é😀" * 160 + ".mp3"])
def test_a_subject_that_people_can_read(status: str, key: str) -> None:
    text = subject(job(status, key))
    assert len(text) < 100
    assert text.isprintable()
    assert text.endswith(f" is {status}")


def test_of_a_long_name_its_end() -> None:
    assert subject(job("done")) == "Portraitcast: acme/line-01 is done"
    assert "the-end is done" in subject(job("done", "x/" * 80 + "the-end.mp3"))


@given(st.text(max_size=300), st.sampled_from(["done", "rejected", "failed"]))
def test_any_name_makes_a_lawful_subject(name: str, status: str) -> None:
    text = subject(replace(job(status), name=name))
    assert len(text) < 100
    assert text.isprintable()


@pytest.mark.parametrize(
    ("key", "folder"),
    [("line-01.mp3", "/"), ("acme/line-01.mp3", "acme"), ("acme/deep/line-01.mp3", "acme/deep")],
)
def test_the_folder_to_filter_notices_by(key: str, folder: str) -> None:
    assert folder_attribute(job("done", key)) == folder
