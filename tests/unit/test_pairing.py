"""Which files make a job and what state they put it in: tables of cases, and properties over any set of files."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.errors import Problem
from portraitcast.jobs import File
from portraitcast.names import Kind, classify, same_key
from portraitcast.pairing import Decision, Gathered, Pictures, decide, shown_file

NOW = 10_000.0
LONG_AGO = 1_000.0
PAIR, SETTLE = 3.0, 15.0
VOICE = {"sha256": "a" * 64, "seconds": 9.5, "type": "mp3"}
PICTURE = {"sha256": "b" * 64, "width": 900, "height": 800, "type": "png"}
LINK = "https://user:pw@voices.example/hello.mp3?sig=1#t"
SHOWN_LINK = "https://voices.example/hello.mp3"
FACE, EXT = [302, 286, 610, 593], [71, 9, 840, 778]


def body(**inputs: Any) -> str:
    return json.dumps({"input": inputs})


@dataclass
class Bucket:
    """An upload bucket in memory: keys with their settings' text, what probing finds, when each was noticed."""

    files: dict[str, str | None]
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    noticed: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def listed(self) -> list[File]:
        return [
            File(
                key, self.versions.get(key, "v1"), self.sizes.get(key, 100), self.noticed.get(key, LONG_AGO), text=text
            )
            for key, text in self.files.items()
        ]

    def decide(self, name: str = "acme/line-01", now: float = NOW) -> Decision:
        about = classify(name + ".mp3")
        assert about is not None
        found = [(file, n) for file in self.listed() if (n := classify(file.key))]
        own = [(file, n) for file, n in found if n.job == about.job]
        inside = [(file, n) for file, n in found if n.folder == about.folder]
        settings = [file for file, n in inside if n.kind is Kind.FOLDER_SETTINGS]
        pictures = [file for file, n in inside if n.kind.is_picture]
        gathered = Gathered(
            name=about,
            sounds=[file for file, n in own if n.kind.is_sound],
            jsons=[file for file, n in own if n.kind is Kind.JOB_SETTINGS],
            folder_settings=settings,
            images_at=max((file.noticed_at for file in pictures), default=0.0),
            settings_at=max((file.noticed_at for file in settings), default=0.0),
            now=now,
            pair_seconds=PAIR,
            settle_seconds=SETTLE,
        )
        return decide(gathered, _Lookup(self, [file for file, n in own if n.kind.is_picture], pictures))


class _Lookup:
    def __init__(self, bucket: Bucket, same_name: list[File], pictures: list[File]) -> None:
        self._bucket = bucket
        self._same_name = same_name
        self._pictures = pictures

    def same_name(self) -> list[File]:
        return list(self._same_name)

    def named(self, key: str) -> File | None:
        return next((file for file in self._bucket.listed() if same_key(file.key, key)), None)

    def pictures(self) -> Pictures:
        return Pictures(self._pictures[:20], len(self._pictures))

    def facts(self, file: File) -> dict[str, Any]:
        name = classify(file.key)
        sound = name is not None and name.kind.is_sound
        return self._bucket.facts.get(file.key, VOICE if sound else PICTURE)


def bucket(*keys: str, **texts: str | None) -> Bucket:
    """Make a bucket; `own` and `folder` are the texts of the job's and the folder's settings."""
    files: dict[str, str | None] = dict.fromkeys(keys)
    if "own" in texts:
        files["acme/line-01.json"] = texts["own"]
    if "folder" in texts:
        files["acme/settings.json"] = texts["folder"]
    return Bucket(files)


def problem(decision: Decision, status: str, code: str) -> Problem:
    assert decision.problem is not None
    assert (decision.status, decision.problem.code) == (status, code)
    assert decision.problem.message.endswith(".")
    assert decision.problem.what_to_do.endswith(".")
    return decision.problem


def chosen(decision: Decision) -> tuple[str | None, str]:
    assert decision.status == "queued", decision.problem or decision.message
    assert decision.portrait is not None
    return decision.portrait["key"], decision.portrait["chosen_by"]


# Whether there is a job


@pytest.mark.parametrize(
    "files",
    [
        bucket(),
        bucket("acme/line-01.png"),
        bucket("acme/line-01.png", own=body(image_url="anna.png")),
        bucket(own=body()),
        bucket(own=body(image_url="anna.png"), folder=body(image_url="anna.png")),
        bucket("acme/line-02.mp3", "acme/line-01.png"),
    ],
)
def test_without_a_voice_or_a_voices_link_there_is_no_job_and_no_word(files: Bucket) -> None:
    decision = files.decide()
    assert (decision.status, decision.problem) == ("nothing", None)


def test_a_voice_and_a_portrait_of_its_name_are_a_job() -> None:
    decision = bucket("acme/line-01.mp3", "acme/line-01.png").decide()
    assert chosen(decision) == ("acme/line-01.png", "same_name")
    assert decision.voice == {"key": "acme/line-01.mp3", "version": "v1", "bytes": 100, **VOICE}
    assert decision.portrait == {
        "key": "acme/line-01.png",
        "version": "v1",
        "bytes": 100,
        "chosen_by": "same_name",
        **PICTURE,
    }
    assert decision.settings is not None
    assert (decision.settings["model"], decision.settings["style_level"], decision.settings["ratio"]) == (
        "emo-v1",
        "normal",
        "1:1",
    )


def test_a_json_with_a_voices_link_is_a_job_by_itself() -> None:
    decision = bucket("acme/anna.png", own=body(image_url="anna.png", audio_url=LINK)).decide()
    assert chosen(decision) == ("acme/anna.png", "own_settings")
    assert decision.voice == {"key": None, "link": LINK}


def test_the_request_body_out_of_emos_documentation_just_works() -> None:
    whole = {
        "model": "emo-v1",
        "input": {"image_url": "http://a.example/p.png", "audio_url": LINK, "face_bbox": FACE, "ext_bbox": EXT},
        "parameters": {"style_level": "active"},
    }
    decision = bucket(own=json.dumps(whole)).decide()
    assert chosen(decision) == (None, "own_settings")
    assert decision.portrait == {"key": None, "link": "http://a.example/p.png", "chosen_by": "own_settings"}
    assert decision.settings is not None
    assert decision.settings["style_level"] == "active"


# The portrait


OWN, SAME, FOLDER, ONLY = "acme/own.png", "acme/line-01.png", "acme/shared.png", "acme/only.png"


@pytest.mark.parametrize("with_own", [True, False])
@pytest.mark.parametrize("with_same", [True, False])
@pytest.mark.parametrize("with_folder", [True, False])
def test_the_portrait_is_what_its_own_json_names_else_its_namesake_else_the_folders_else_the_only_image(
    with_own: bool, with_same: bool, with_folder: bool
) -> None:
    files = bucket("acme/line-01.mp3", ONLY)
    if with_own:
        files.files |= {"acme/line-01.json": body(image_url="own.png"), OWN: None}
    if with_same:
        files.files[SAME] = None
    if with_folder:
        files.files |= {"acme/settings.json": body(image_url="shared.png"), FOLDER: None}
    expected = (
        (OWN, "own_settings")
        if with_own
        else (SAME, "same_name")
        if with_same
        else (FOLDER, "folder_settings")
        if with_folder
        else (ONLY, "only_image")
    )
    assert chosen(files.decide()) == expected


def test_one_portrait_and_fifty_voices_are_fifty_jobs() -> None:
    files = bucket("acme/anna.png", *(f"acme/{number}.mp3" for number in range(50)))
    assert {chosen(files.decide(f"acme/{number}")) for number in range(50)} == {("acme/anna.png", "only_image")}


@pytest.mark.parametrize(
    ("image_url", "key"),
    [
        ("anna.png", "acme/anna.png"),
        ("faces/anna.png", "acme/faces/anna.png"),
        ("../anna.png", "anna.png"),
        ("ANNA.PNG", "acme/ANNA.PNG"),
        ("anna.PNG", "acme/anna.png"),
    ],
)
@pytest.mark.parametrize("which", ["own", "folder"])
def test_a_named_portrait_is_relative_to_the_jsons_folder(image_url: str, key: str, which: str) -> None:
    decision = bucket("acme/line-01.mp3", key, **{which: body(image_url=image_url)}).decide()
    assert chosen(decision) == (key, f"{which}_settings")


def test_the_extension_is_compared_in_any_case_and_the_name_in_either_unicode_form() -> None:
    voice, picture = "acme/\u00e9.MP3", "acme/e\u0301.PnG"
    assert chosen(bucket(voice, picture).decide("acme/\u00e9")) == (picture, "same_name")
    assert chosen(bucket(voice, picture).decide("acme/e\u0301")) == (picture, "same_name")


def test_the_outputs_keep_the_voices_own_bytes_whatever_file_is_looked_at() -> None:
    files = bucket("acme/e\u0301.mp3", "acme/\u00e9.png", "acme/\u00e9.json")
    files.files["acme/\u00e9.json"] = "{}"
    assert files.decide("acme/\u00e9").stem == files.decide("acme/e\u0301").stem == "acme/e\u0301"


def test_without_a_portrait_the_job_waits_and_says_how_to_name_one() -> None:
    found = problem(bucket("acme/line-01.mp3").decide(), "waiting", "PortraitMissing")
    assert "line-01.png" in found.what_to_do


@pytest.mark.parametrize(("which", "json_name"), [("own", "line-01.json"), ("folder", "settings.json")])
def test_a_named_portrait_that_is_not_there_is_waited_for_by_name(which: str, json_name: str) -> None:
    files = bucket("acme/line-01.mp3", "acme/other.png", **{which: body(image_url="anna.png")})
    found = problem(files.decide(), "waiting", "PortraitMissing")
    assert json_name in found.message
    assert "acme/anna.png" in found.message
    assert "acme/anna.png" in found.what_to_do


def test_two_images_and_no_match_are_listed_and_asked_about() -> None:
    decision = bucket("acme/line-01.mp3", "acme/bob.png", "acme/anna.jpg").decide()
    found = problem(decision, "waiting", "PortraitAmbiguous")
    assert decision.candidates == {"keys": ["acme/anna.jpg", "acme/bob.png"], "count": 2}
    assert "2 pictures" in found.message
    assert "line-01.json" in found.what_to_do
    assert "settings.json" in found.what_to_do


def test_of_many_images_twenty_are_listed_with_the_full_count_beside_them() -> None:
    decision = bucket("acme/line-01.mp3", *(f"acme/{number:03}.png" for number in range(300))).decide()
    assert decision.candidates is not None
    assert decision.candidates["count"] == 300
    assert len(decision.candidates["keys"]) == 20


def test_two_portraits_of_the_name_are_asked_about_both_named() -> None:
    decision = bucket("acme/line-01.mp3", "acme/line-01.png", "acme/line-01.jpg", "acme/anna.png").decide()
    found = problem(decision, "waiting", "PortraitAmbiguous")
    assert "line-01.jpg, line-01.png" in found.message
    assert decision.candidates == {"keys": ["acme/line-01.jpg", "acme/line-01.png"], "count": 2}


def test_images_of_other_folders_are_nobodys() -> None:
    problem(bucket("acme/line-01.mp3", "anna.png", "acme/deep/anna.png").decide(), "waiting", "PortraitMissing")


@pytest.mark.parametrize("suffix", [".heic", ".heif", ".avif", ".gif", ".tif", ".tiff", ".HEIC"])
@pytest.mark.parametrize("base", ["line-01", "anna"])
def test_a_picture_of_another_type_that_would_be_used_is_refused_with_the_types_that_are_read(
    suffix: str, base: str
) -> None:
    decision = bucket("acme/line-01.mp3", f"acme/{base}{suffix}").decide()
    found = problem(decision, "rejected", "UnsupportedType")
    assert f"{base}{suffix}" in found.message
    assert found.measured == suffix.lower()
    for readable in (".jpg", ".jpeg", ".png", ".bmp", ".webp"):
        assert readable in found.what_to_do


def test_a_picture_of_another_type_counts_as_an_image_of_the_folder() -> None:
    problem(bucket("acme/line-01.mp3", "acme/a.heic", "acme/b.png").decide(), "waiting", "PortraitAmbiguous")


def test_a_converted_portrait_beside_the_one_that_cannot_be_read_answers_the_refusal() -> None:
    decision = bucket("acme/line-01.mp3", "acme/line-01.heic", "acme/line-01.png").decide()
    assert chosen(decision) == ("acme/line-01.png", "same_name")


# Settling and pairing


def test_the_only_image_is_taken_once_no_image_has_arrived_for_settle_seconds() -> None:
    files = bucket("acme/line-01.mp3", "acme/anna.png")
    files.noticed["acme/anna.png"] = NOW - SETTLE + 1
    early = files.decide()
    assert (early.status, early.problem, early.ready_at) == ("waiting", None, NOW + 1)
    assert "quiet for 15 s" in early.message
    assert chosen(files.decide(now=NOW + 1)) == ("acme/anna.png", "only_image")


def test_nobody_is_asked_between_two_images_before_the_folder_has_settled() -> None:
    files = bucket("acme/line-01.mp3", "acme/anna.png", "acme/bob.png")
    files.noticed["acme/bob.png"] = NOW - 1
    early = files.decide()
    assert (early.status, early.problem, early.candidates) == ("waiting", None, None)


@pytest.mark.parametrize("which", ["own", "same", "folder"])
def test_a_portrait_chosen_by_name_waits_for_no_settling(which: str) -> None:
    files = bucket("acme/line-01.mp3", "acme/other.png")
    files.noticed["acme/other.png"] = NOW
    if which == "same":
        files.files["acme/line-01.png"] = None
    else:
        files.files[f"acme/{'line-01' if which == 'own' else 'settings'}.json"] = body(image_url="other.png")
    assert files.decide().status == "queued"


@pytest.mark.parametrize("last", ["acme/line-01.mp3", "acme/line-01.png", "acme/line-01.json", "acme/settings.json"])
def test_a_job_is_sent_pair_seconds_after_the_last_of_its_own_files_and_its_folders_settings(last: str) -> None:
    files = bucket("acme/line-01.mp3", "acme/line-01.png", own="{}", folder="{}")
    assert files.decide().ready_at == LONG_AGO + PAIR
    files.noticed[last] = NOW - 1
    assert files.decide().ready_at == NOW - 1 + PAIR


def test_another_jobs_files_do_not_put_a_job_off() -> None:
    files = bucket("acme/line-01.mp3", "acme/line-01.png", "acme/line-02.mp3", "acme/line-02.png", "acme/line-02.json")
    files.files["acme/line-02.json"] = "{}"
    files.noticed = {f"acme/line-02.{suffix}": NOW for suffix in ("mp3", "png", "json")}
    assert files.decide().ready_at == LONG_AGO + PAIR


# The voice


def test_two_voices_of_one_name_are_asked_about_both_named() -> None:
    decision = bucket("acme/line-01.wav", "acme/line-01.mp3", "acme/line-01.png").decide()
    found = problem(decision, "waiting", "VoiceAmbiguous")
    assert "line-01.mp3, line-01.wav" in found.message
    assert decision.candidates == {"keys": ["acme/line-01.mp3", "acme/line-01.wav"], "count": 2}


@pytest.mark.parametrize("suffix", [".m4a", ".aac", ".ogg", ".opus", ".flac", ".wma", ".aiff", ".amr", ".M4A"])
def test_a_sound_of_another_type_is_refused_with_the_types_that_are_read(suffix: str) -> None:
    found = problem(bucket(f"acme/line-01{suffix}", SAME).decide(), "rejected", "UnsupportedType")
    assert f"line-01{suffix}" in found.message
    assert found.measured == suffix.lower()
    assert ".mp3" in found.what_to_do
    assert ".wav" in found.what_to_do


def test_a_converted_voice_beside_the_one_that_cannot_be_read_answers_the_refusal() -> None:
    assert chosen(bucket("acme/line-01.m4a", "acme/line-01.mp3", SAME).decide()) == (SAME, "same_name")


@pytest.mark.parametrize(("key", "code"), [("acme/line-01.mp3", "VoiceTooLong"), (SAME, "PortraitTooSmall")])
def test_what_probing_refuses_is_the_jobs_refusal(key: str, code: str) -> None:
    refused = Problem(code, f"{key} is not right.", "Mend it.", limit="60 s", measured="61.2 s")
    files = bucket("acme/line-01.mp3", SAME)
    files.facts[key] = {"sha256": "c" * 64, "problem": asdict(refused)}
    decision = files.decide()
    assert problem(decision, "rejected", code) == refused
    shown = decision.voice if code.startswith("Voice") else decision.portrait
    assert shown is not None
    assert (shown["sha256"], "problem" in shown) == ("c" * 64, False)


# Names


@pytest.mark.parametrize("key", ["acme/settings.mp3", "settings.wav", "acme/settings.m4a"])
def test_a_voice_named_settings_is_refused(key: str) -> None:
    stem = key.rpartition(".")[0]
    found = problem(Bucket({key: None}).decide(stem), "rejected", "NameReserved")
    assert '"settings"' in found.message


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u58f0", "\U0001f600"])
@pytest.mark.parametrize("length", [1018, 1019, 1020])
def test_a_name_whose_report_needs_a_key_of_over_1024_bytes_is_refused_with_limit_and_length(
    letter: str, length: int
) -> None:
    width = len(letter.encode())
    stem = "x" * (length % width) + letter * (length // width)
    decision = Bucket({stem + ".mp3": None}).decide(stem)
    if length <= 1019:  # and ".json"
        problem(decision, "waiting", "PortraitMissing")
    else:
        found = problem(decision, "rejected", "NameTooLong")
        assert (found.limit, found.measured) == ("1024 bytes", "1025 bytes")


def test_the_length_that_counts_is_that_of_the_voices_own_bytes() -> None:
    composed = "acme1/" + "\u00e9" * 338
    decomposed = unicodedata.normalize("NFD", composed)  # what a Mac uploads: 3 bytes a letter
    long, short = Bucket({decomposed + ".mp3": None}), Bucket({composed + ".mp3": None})
    for looked_at in (composed, decomposed):
        assert problem(long.decide(looked_at), "rejected", "NameTooLong").measured == "1025 bytes"
        problem(short.decide(looked_at), "waiting", "PortraitMissing")


# Settings


@pytest.mark.parametrize("text", ["{", "[]", '{"inputs": {}}', '{"model": "emo-v2"}', body(face_bbox=FACE), None])
def test_an_own_json_that_cannot_be_taken_refuses_its_job_and_is_named(text: str | None) -> None:
    decision = bucket("acme/line-01.mp3", SAME, own=text).decide()
    assert "line-01.json" in problem(decision, "rejected", "SettingsInvalid").message
    assert not decision.shared


def test_an_own_json_that_cannot_be_read_is_told_even_without_a_voice() -> None:
    problem(bucket(own="{").decide(), "rejected", "SettingsInvalid")


@pytest.mark.parametrize("text", ["{", body(audio_url=LINK), body(face_bbox=FACE, ext_bbox=EXT), None])
def test_a_bad_settings_json_of_the_folder_refuses_the_job_and_is_named_until_a_new_one_comes(
    text: str | None,
) -> None:
    decision = bucket("acme/line-01.mp3", SAME, folder=text).decide()
    assert "settings.json" in problem(decision, "rejected", "SettingsInvalid").message
    assert decision.shared
    assert decision.look_in


def test_a_json_over_64_kib_is_refused_with_limit_and_size() -> None:
    files = bucket("acme/line-01.mp3", own=None)
    files.sizes["acme/line-01.json"] = 70_000
    found = problem(files.decide(), "rejected", "SettingsInvalid")
    assert (found.limit, found.measured) == ("65536 bytes", "70000 bytes")


def test_a_json_with_a_voices_link_beside_a_voice_of_its_name_is_refused_naming_both() -> None:
    found = problem(bucket("acme/line-01.mp3", SAME, own=body(audio_url=LINK)).decide(), "rejected", "JobAmbiguous")
    assert "line-01.json" in found.message
    assert "line-01.mp3" in found.message


def test_two_jsons_of_one_name_are_refused_naming_both() -> None:
    files = bucket("acme/line-01.mp3", SAME, "acme/line-01.JSON", own="{}")
    files.files["acme/line-01.JSON"] = "{}"
    found = problem(files.decide(), "rejected", "JobAmbiguous")
    assert "line-01.JSON, line-01.json" in found.message


def test_each_field_comes_from_the_jobs_own_json_else_the_folders() -> None:
    decision = bucket(
        "acme/line-01.mp3",
        SAME,
        own='{"parameters": {"ratio": "3:4"}}',
        folder='{"parameters": {"ratio": "1:1", "style_level": "calm"}}',
    ).decide()
    assert decision.settings is not None
    assert (decision.settings["ratio"], decision.settings["style_level"]) == ("3:4", "calm")
    assert [file["key"] for file in decision.settings_files] == ["acme/line-01.json", "acme/settings.json"]
    assert all(len(file["sha256"]) == 64 for file in decision.settings_files)


def test_boxes_that_leave_the_picture_are_refused_and_nothing_is_known_about_a_links_picture() -> None:
    own = {"face_bbox": [0, 0, 901, 10], "ext_bbox": EXT}
    files = bucket("acme/line-01.mp3", SAME, own=body(**own))
    assert "900 x 800" in problem(files.decide(), "rejected", "SettingsInvalid").message
    linked = bucket("acme/line-01.mp3", own=body(image_url="https://a.example/p.png", **own))
    assert linked.decide().status == "queued"


def test_a_named_picture_out_of_the_bucket_is_refused() -> None:
    for which in ("own", "folder"):
        decision = bucket("acme/line-01.mp3", **{which: body(image_url="../../anna.png")}).decide()
        problem(decision, "rejected", "SettingsInvalid")
        assert decision.shared is (which == "folder")


# What a later file can mend


@pytest.mark.parametrize(
    ("files", "shared"),
    [
        (bucket("acme/line-01.mp3", SAME), False),
        (bucket("acme/line-01.mp3", "acme/bad.png"), True),
        (bucket("acme/line-01.mp3", "acme/bad.png", folder=body(image_url="bad.png")), True),
        (bucket("acme/line-01.mp3", "acme/bad.png", own=body(image_url="bad.png")), True),
    ],
)
def test_a_refusal_is_shared_when_its_file_is_not_the_jobs_own(files: Bucket, shared: bool) -> None:
    refused = {"problem": asdict(Problem("PortraitTooSmall", "Too small.", "Take a larger one."))}
    files.facts = {SAME: refused, "acme/bad.png": refused}
    decision = files.decide()
    problem(decision, "rejected", "PortraitTooSmall")
    assert decision.shared is shared


def test_a_job_is_looked_at_again_when_something_changes_where_its_portrait_may_come_from() -> None:
    here = bucket("acme/line-01.mp3").decide()
    there = bucket("acme/line-01.mp3", own=body(image_url="../faces/anna.png")).decide()
    faces = bucket("faces/line-01.mp3").decide("faces/line-01")
    assert sorted([*here.look_in, *faces.look_in]) == there.look_in


OWN_FILES = ["acme/line-01.mp3", SAME, "acme/line-01.json"]


@pytest.mark.parametrize("new", OWN_FILES)
@pytest.mark.parametrize("folder", ["{}", "{"])
def test_a_new_version_of_an_own_file_is_a_new_upload_even_while_the_folders_settings_are_bad(
    new: str, folder: str
) -> None:
    files = bucket(*OWN_FILES, own="{}", folder="{}")
    before = files.decide()
    files.files["acme/settings.json"] = folder
    files.versions[new] = "v2"
    assert set(files.decide().own) - set(before.own) == {f"{new}\nv2"}


def test_a_shared_file_is_no_upload_of_the_jobs_own() -> None:
    files = bucket("acme/line-01.mp3", "acme/anna.png", folder=body(image_url="anna.png"))
    before = files.decide()
    files.versions = {"acme/anna.png": "v2", "acme/settings.json": "v2"}
    assert files.decide().own == before.own == ["acme/line-01.mp3\nv1"]


def test_a_namesake_that_is_not_used_is_none_of_the_jobs_files() -> None:
    files = bucket("acme/line-01.mp3", SAME, OWN, own=body(image_url="own.png"))
    assert f"{SAME}\nv1" not in files.decide().own


# Same content, same video


def with_content(
    voice: str = "1", portrait: str = "2", style: str = "calm", keys: tuple[str, str] = ("", "")
) -> Bucket:
    files = bucket("acme/line-01.mp3", SAME, own=json.dumps({"parameters": {"style_level": style}}))
    files.facts = {"acme/line-01.mp3": {**VOICE, "sha256": voice}, SAME: {**PICTURE, "sha256": portrait}}
    return files


def test_the_fingerprint_follows_the_content_and_not_the_upload() -> None:
    again = with_content()
    again.versions = dict.fromkeys(again.files, "v2")
    again.noticed = dict.fromkeys(again.files, NOW)
    first, second = with_content().decide(), again.decide()
    assert first.fingerprint == second.fingerprint
    assert first.identity != second.identity


@pytest.mark.parametrize("other", [{"voice": "9"}, {"portrait": "9"}, {"style": "active"}])
def test_other_bytes_or_settings_are_another_fingerprint(other: dict[str, Any]) -> None:
    assert with_content(**other).decide().fingerprint != with_content().decide().fingerprint


# Any set of files


texts = st.sampled_from(
    [
        "",
        "{",
        "{}",
        "[]",
        "null",
        body(),
        body(image_url="anna.png"),
        body(image_url="../bob.jpg"),
        body(image_url="line-01.png"),
        body(image_url="missing.png"),
        body(image_url="../../out.png"),
        body(image_url="https://a.example/p.png?sig=1"),
        body(audio_url=LINK),
        body(audio_url="nonsense", image_url=7),
        body(audio_url=LINK, image_url="anna.png", face_bbox=FACE, ext_bbox=EXT),
        body(face_bbox=FACE, ext_bbox=EXT),
        body(face_bbox=[0, 0, 7000, 7000], ext_bbox=[0, 0, 7000, 7000]),
        '{"parameters": {"ratio": "3:4"}}',
        None,
    ]
) | st.text(max_size=20)
sounds = st.sampled_from([f"acme/line-01.{suffix}" for suffix in ("mp3", "MP3", "wav", "m4a", "ogg")])
portraits = st.sampled_from([f"acme/{name}" for name in ("line-01.png", "line-01.JPG", "line-01.heic", "anna.png")])
others = st.sampled_from(["acme/gif.gif", "bob.jpg", "acme/line-02.mp3", "acme/.x.png", "acme/deep/anna.png"])
jsons = st.sampled_from(["acme/line-01.json", "acme/line-01.JSON", "acme/settings.json", "acme/Settings.JSON"])
found_facts = st.sampled_from(
    [None, None, {"sha256": "d" * 64, "problem": asdict(Problem("VoiceUnreadable", "Broken.", "Save it again."))}]
)


@st.composite
def buckets(draw: st.DrawFn) -> Bucket:
    keys = draw(st.lists(sounds | sounds | portraits | others, unique=True, max_size=7))
    files: dict[str, str | None] = dict.fromkeys(keys)
    files |= draw(st.dictionaries(jsons, texts, max_size=3))
    noticed = {key: draw(st.sampled_from([LONG_AGO, LONG_AGO, NOW - 10, NOW])) for key in files}
    facts = {key: found for key in keys if (found := draw(found_facts))}
    return Bucket(files, facts, noticed)


@given(buckets(), st.randoms())
def test_any_order_of_the_same_files_gives_the_same_decision(files: Bucket, random: Any) -> None:
    keys = list(files.files)
    random.shuffle(keys)
    shuffled = Bucket({key: files.files[key] for key in keys}, files.facts, files.noticed)
    one, other = files.decide(), shuffled.decide()
    assert one == other
    assert (one.identity, one.fingerprint) == (other.identity, other.fingerprint)


@given(buckets())
def test_every_set_of_files_comes_to_a_decision_that_says_what_it_is(files: Bucket) -> None:
    decision = files.decide()
    said = decision.problem
    match decision.status:
        case "queued":
            assert said is None
            assert decision.voice is not None
            assert decision.portrait is not None
            assert decision.settings is not None
            assert decision.ready_at is not None
        case "waiting":
            assert said is not None or (decision.message and decision.ready_at)
            assert said is None or said.code in {"PortraitMissing", "PortraitAmbiguous", "VoiceAmbiguous"}
        case "rejected":
            assert said is not None
            assert said.code not in {"PortraitMissing", "PortraitAmbiguous", "VoiceAmbiguous"}
        case status:
            assert (status, said) == ("nothing", None)
    if said is not None:
        assert said.message
        assert said.what_to_do
    json.dumps([asdict(decision), decision.identity, decision.fingerprint])


@given(buckets())
def test_a_sound_of_the_name_always_makes_a_job_and_never_one_that_is_silent(files: Bucket) -> None:
    voices = [key for key in files.files if (n := classify(key)) and n.kind.is_sound and n.name == "acme/line-01"]
    if voices:
        assert files.decide().status in {"waiting", "queued", "rejected"}


@given(buckets())
def test_files_that_are_left_alone_change_nothing(files: Bucket) -> None:
    noisy = Bucket(
        {"acme/.line-01.png": None, "acme/line-01.txt": None, "acme/": None, **files.files}, files.facts, files.noticed
    )
    assert noisy.decide() == files.decide()


# What the report shows of an input


def test_a_link_is_shown_without_user_info_query_and_fragment() -> None:
    shown = shown_file({"key": None, "link": LINK}, ("key", "url", "version", "sha256", "bytes"))
    assert shown == {"key": None, "url": SHOWN_LINK, "version": None, "sha256": None, "bytes": None}


def test_an_input_that_is_not_known_yet_is_null() -> None:
    assert shown_file(None, ("key", "url")) is None
