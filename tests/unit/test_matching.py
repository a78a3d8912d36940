"""Which files make a job and what they come to: tables of cases, and properties over any set of files."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.domain.job import Candidates, Inputs, Portrait, SettingsFile, Voice
from portraitcast.domain.matching import (
    LIST_MAX,
    Match,
    Nothing,
    Ready,
    Rejected,
    Waiting,
    fingerprint_of,
    identity_of,
)
from portraitcast.domain.models import MODELS
from portraitcast.domain.problems import Problem
from portraitcast.domain.uploads import Asset, Facts, Kind
from unit.upload_bucket import (
    EXT,
    FACE,
    JSON,
    LINK,
    LONG_AGO,
    NOW,
    PAIR,
    PICTURE,
    SETTLE,
    VOICE,
    Bucket,
    body,
    bucket,
)


def asked(found: Match, code: str) -> Problem:
    """Return what a waiting job asks."""
    assert isinstance(found, Waiting), found
    return told(found.problem, code)


def refused(found: Match, code: str) -> Problem:
    """Return why a job is rejected."""
    assert isinstance(found, Rejected), found
    return told(found.problems[0], code)


def told(problem: Problem | None, code: str) -> Problem:
    assert problem is not None
    assert problem.code == code
    assert problem.message.endswith(".")
    assert problem.what_to_do.endswith(".")
    return problem


def ready(found: Match) -> Ready:
    assert isinstance(found, Ready), found
    return found


def chosen(found: Match) -> tuple[str | None, str]:
    portrait = ready(found).inputs.portrait
    assert portrait is not None
    return portrait.key, portrait.chosen_by


def shared(found: Match) -> bool:
    assert isinstance(found, Rejected)
    return found.shared


def candidates(found: Match) -> Candidates | None:
    assert isinstance(found, Waiting)
    return found.candidates


def of(found: Match) -> Inputs:
    assert not isinstance(found, Nothing)
    return found.inputs


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
def test_without_a_voice_there_is_no_job(files: Bucket) -> None:
    assert files.match() == Nothing()


def test_a_voice_and_its_portrait_are_a_job() -> None:
    found = ready(bucket("acme/line-01.mp3", "acme/line-01.png").match())
    assert chosen(found) == ("acme/line-01.png", "same_name")
    assert found.inputs.voice == Voice("acme/line-01.mp3", "v1", sha256="a" * 64, bytes=100, seconds=9.5, type="mp3")
    assert found.inputs.portrait == Portrait(
        *("same_name", "acme/line-01.png", "v1"), sha256="b" * 64, bytes=100, width=900, height=800, type="png"
    )
    assert found.inputs.settings is not None
    assert found.inputs.settings.model == "emo-v1"
    assert found.inputs.settings.parameters == {"style_level": "normal", "ratio": "1:1"}


def test_a_json_with_a_voices_link_is_a_job() -> None:
    found = bucket("acme/anna.png", own=body(image_url="anna.png", audio_url=LINK)).match()
    assert chosen(found) == ("acme/anna.png", "own_settings")
    assert of(found).voice == Voice(link=LINK)


def test_emos_own_request_body_just_works() -> None:
    whole = {
        "model": "emo-v1",
        "input": {"image_url": "http://a.example/p.png", "audio_url": LINK, "face_bbox": FACE, "ext_bbox": EXT},
        "parameters": {"style_level": "active"},
    }
    found = ready(bucket(own=json.dumps(whole)).match())
    assert found.inputs.portrait == Portrait("own_settings", link="http://a.example/p.png")
    assert found.inputs.settings is not None
    assert found.inputs.settings.parameters["style_level"] == "active"
    assert found.inputs.settings.face_bbox == tuple(FACE)


def test_a_job_of_another_model() -> None:
    text = json.dumps({"model": "liveportrait", "parameters": {"video_fps": 30}})
    settings = ready(bucket("acme/line-01.mp3", SAME, own=text).match()).inputs.settings
    assert settings is not None
    assert (settings.model, settings.parameters["video_fps"]) == ("liveportrait", 30)


# The portrait


OWN, SAME, FOLDER, ONLY = "acme/own.png", "acme/line-01.png", "acme/shared.png", "acme/only.png"


@pytest.mark.parametrize("with_own", [True, False])
@pytest.mark.parametrize("with_same", [True, False])
@pytest.mark.parametrize("with_folder", [True, False])
def test_which_portrait_is_chosen(with_own: bool, with_same: bool, with_folder: bool) -> None:
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
    assert chosen(files.match()) == expected


def test_one_portrait_and_fifty_voices() -> None:
    files = bucket("acme/anna.png", *(f"acme/{number}.mp3" for number in range(50)))
    assert {chosen(files.match(f"acme/{number}")) for number in range(50)} == {("acme/anna.png", "only_image")}


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
def test_a_named_portrait_is_relative(image_url: str, key: str, which: str) -> None:
    found = bucket("acme/line-01.mp3", key, **{which: body(image_url=image_url)}).match()
    assert chosen(found) == (key, f"{which}_settings")


def test_names_in_either_unicode_form() -> None:
    voice, picture = "acme/\u00e9.MP3", "acme/e\u0301.PnG"
    assert chosen(bucket(voice, picture).match("acme/\u00e9")) == (picture, "same_name")
    assert chosen(bucket(voice, picture).match("acme/e\u0301")) == (picture, "same_name")


def test_outputs_keep_the_voices_own_bytes() -> None:
    files = bucket("acme/e\u0301.mp3", "acme/\u00e9.png", "acme/\u00e9.json")
    files.files["acme/\u00e9.json"] = "{}"
    assert of(files.match("acme/\u00e9")).stem == of(files.match("acme/e\u0301")).stem == "acme/e\u0301"


def test_without_a_portrait_it_waits() -> None:
    found = asked(bucket("acme/line-01.mp3").match(), "PortraitMissing")
    assert "line-01.png" in found.what_to_do


@pytest.mark.parametrize(("which", "json_name"), [("own", "line-01.json"), ("folder", "settings.json")])
def test_a_named_portrait_that_is_not_there(which: str, json_name: str) -> None:
    files = bucket("acme/line-01.mp3", "acme/other.png", **{which: body(image_url="anna.png")})
    found = asked(files.match(), "PortraitMissing")
    assert json_name in found.message
    assert "acme/anna.png" in found.message
    assert "acme/anna.png" in found.what_to_do


def test_two_images_and_no_match() -> None:
    answer = bucket("acme/line-01.mp3", "acme/bob.png", "acme/anna.jpg").match()
    found = asked(answer, "PortraitAmbiguous")
    assert candidates(answer) == Candidates(("acme/anna.jpg", "acme/bob.png"), 2)
    assert "2 pictures" in found.message
    assert "line-01.json" in found.what_to_do
    assert "settings.json" in found.what_to_do


def test_of_many_images_twenty_are_listed() -> None:
    found = candidates(bucket("acme/line-01.mp3", *(f"acme/{number:03}.png" for number in range(300))).match())
    assert found is not None
    assert (found.count, len(found.keys)) == (300, LIST_MAX)


def test_the_only_picture_went_this_moment() -> None:
    """Its event is on its way, and asks for another evaluation."""
    files = bucket("acme/line-01.mp3", "acme/anna.png")
    files.went = {"acme/anna.png"}
    found = files.match()
    assert isinstance(found, Waiting)
    assert found.problem is None


def test_two_portraits_of_the_name() -> None:
    answer = bucket("acme/line-01.mp3", "acme/line-01.png", "acme/line-01.jpg", "acme/anna.png").match()
    found = asked(answer, "PortraitAmbiguous")
    assert "line-01.jpg, line-01.png" in found.message
    assert candidates(answer) == Candidates(("acme/line-01.jpg", "acme/line-01.png"), 2)


def test_images_of_other_folders_are_nobodys() -> None:
    asked(bucket("acme/line-01.mp3", "anna.png", "acme/deep/anna.png").match(), "PortraitMissing")


@pytest.mark.parametrize("suffix", [".heic", ".avif", ".gif", ".tiff", ".jfif", ".HEIC"])
@pytest.mark.parametrize(("base", "chosen_by"), [("line-01", "same_name"), ("anna", "only_image")])
def test_any_picture_is_a_portrait(suffix: str, base: str, chosen_by: str) -> None:
    key = f"acme/{base}{suffix}"
    assert chosen(bucket("acme/line-01.mp3", key).match()) == (key, chosen_by)


# Settling and pairing


def test_the_only_image_once_it_is_quiet() -> None:
    files = bucket("acme/line-01.mp3", "acme/anna.png")
    files.noticed["acme/anna.png"] = NOW - SETTLE + 1
    early = files.match()
    assert isinstance(early, Waiting)
    assert (early.problem, early.again_at) == (None, NOW + 1)
    assert "quiet for 15 s" in early.message
    assert chosen(files.match(now=NOW + 1)) == ("acme/anna.png", "only_image")


def test_nobody_is_asked_before_it_is_quiet() -> None:
    files = bucket("acme/line-01.mp3", "acme/anna.png", "acme/bob.png")
    files.noticed["acme/bob.png"] = NOW - 1
    early = files.match()
    assert isinstance(early, Waiting)
    assert (early.problem, early.candidates) == (None, None)


@pytest.mark.parametrize("which", ["own", "same", "folder"])
def test_a_portrait_by_name_needs_no_quiet(which: str) -> None:
    files = bucket("acme/line-01.mp3", "acme/other.png")
    files.noticed["acme/other.png"] = NOW
    if which == "same":
        files.files["acme/line-01.png"] = None
    else:
        files.files[f"acme/{'line-01' if which == 'own' else 'settings'}.json"] = body(image_url="other.png")
    ready(files.match())


@pytest.mark.parametrize("last", ["acme/line-01.mp3", "acme/line-01.png", "acme/line-01.json", "acme/settings.json"])
def test_ready_pair_seconds_after_the_last(last: str) -> None:
    files = bucket("acme/line-01.mp3", "acme/line-01.png", own="{}", folder="{}")
    assert ready(files.match()).ready_at == LONG_AGO + PAIR
    files.noticed[last] = NOW - 1
    assert ready(files.match()).ready_at == NOW - 1 + PAIR


def test_other_jobs_files_put_nothing_off() -> None:
    files = bucket("acme/line-01.mp3", "acme/line-01.png", "acme/line-02.mp3", "acme/line-02.png", "acme/line-02.json")
    files.files["acme/line-02.json"] = "{}"
    files.noticed = {f"acme/line-02.{suffix}": NOW for suffix in ("mp3", "png", "json")}
    assert ready(files.match()).ready_at == LONG_AGO + PAIR


# The voice


def test_two_voices_of_one_name() -> None:
    answer = bucket("acme/line-01.wav", "acme/line-01.mp3", "acme/line-01.png").match()
    found = asked(answer, "VoiceAmbiguous")
    assert "line-01.mp3, line-01.wav" in found.message
    assert candidates(answer) == Candidates(("acme/line-01.mp3", "acme/line-01.wav"), 2)


@pytest.mark.parametrize("suffix", [".m4a", ".ogg", ".opus", ".flac", ".aiff", ".mp4", ".M4A"])
def test_any_sound_is_a_voice(suffix: str) -> None:
    voice = of(bucket(f"acme/line-01{suffix}", SAME).match()).voice
    assert voice is not None
    assert voice.key == f"acme/line-01{suffix}"


@pytest.mark.parametrize(("key", "code"), [("acme/line-01.mp3", "VoiceTooLong"), (SAME, "PortraitTooSmall")])
def test_what_reading_refuses(key: str, code: str) -> None:
    problem = Problem(code, f"{key} is not right.", "Mend it.", limit="60 s", measured="61.2 s")
    files = bucket("acme/line-01.mp3", SAME)
    files.facts[key] = Facts("c" * 64, problem=problem)
    found = files.match()
    assert refused(found, code) == problem
    shown = of(found).voice if code.startswith("Voice") else of(found).portrait
    assert shown is not None
    assert shown.sha256 == "c" * 64


VOICE_FAULT = Problem("VoiceTooLong", "Too long.", "Cut it.")
PICTURE_FAULT = Problem("PortraitTooSmall", "Too small.", "Take a larger one.")


@pytest.mark.parametrize(("picture", "shared"), [(SAME, False), ("acme/anna.png", True)])
def test_two_faults_are_named_at_once(picture: str, shared: bool) -> None:
    """Who mends the voice alone would else hear of the portrait next."""
    files = bucket("acme/line-01.mp3", picture)
    files.facts = {"acme/line-01.mp3": Facts(problem=VOICE_FAULT), picture: Facts("c" * 64, problem=PICTURE_FAULT)}
    found = files.match()
    assert isinstance(found, Rejected)
    assert found.problems == (VOICE_FAULT, PICTURE_FAULT)
    assert found.shared is shared
    assert of(found).portrait is not None


def test_a_bad_voice_does_not_ask_for_more() -> None:
    """Nobody is asked for a portrait of a voice that won't do."""
    files = bucket("acme/line-01.mp3")
    files.facts = {"acme/line-01.mp3": Facts(problem=VOICE_FAULT)}
    assert refused(files.match(), "VoiceTooLong") == VOICE_FAULT


# Files that are on their way


@pytest.mark.parametrize("key", ["acme/line-01.mp3", SAME, JSON, "acme/settings.json"])
def test_an_empty_file_may_be_arriving(key: str) -> None:
    """s3fs and Transfer Family make an object of 0 bytes first; after PairSeconds it is what it is."""
    files = bucket("acme/line-01.mp3", SAME, own="{}", folder="{}")
    files.sizes[key], files.noticed[key] = 0, NOW - 1
    early = files.match()
    assert isinstance(early, Waiting)
    assert (early.problem, early.again_at) == (None, NOW - 1 + PAIR)
    assert key.rpartition("/")[2] in early.message
    ready(files.match(now=NOW - 1 + PAIR))


def being_read(found: Match) -> Inputs:
    """Return the inputs of a job that waits for prepare and for nothing else."""
    assert found == Waiting(of(found), message="The file is being read.", being_read=True)
    return of(found)


WITH_PORTRAIT = [
    (bucket("acme/line-01.mp3", SAME), SAME),
    (bucket("acme/line-01.mp3", OWN, own=body(image_url="own.png")), OWN),
    (bucket("acme/line-01.mp3", FOLDER, folder=body(image_url="shared.png")), FOLDER),
    (bucket("acme/line-01.mp3", "b/anna.png", own=body(image_url="../b/anna.png")), "b/anna.png"),
    (bucket("acme/line-01.mp3", ONLY), ONLY),
]


@pytest.mark.parametrize(("files", "portrait"), WITH_PORTRAIT)
def test_voice_and_portrait_are_asked_at_once(files: Bucket, portrait: str) -> None:
    """One evaluation has both read: their waits don't add up. The job waits where its portrait's answer comes."""
    open_in = of(files.match()).folders
    files = replace(files, facts=dict.fromkeys(files.files, None), asked=[])
    inputs = being_read(files.match())
    assert inputs.voice is None
    assert (files.asked, inputs.folders) == (["acme/line-01.mp3", portrait], open_in)


def test_a_voice_is_read_before_its_portrait_comes() -> None:
    files = bucket("acme/line-01.mp3")
    files.facts["acme/line-01.mp3"] = None
    being_read(files.match())
    assert files.asked == ["acme/line-01.mp3"]


def test_a_portrait_that_arrives_is_not_asked_yet() -> None:
    files = bucket("acme/line-01.mp3", SAME)
    files.facts["acme/line-01.mp3"] = None
    files.sizes[SAME], files.noticed[SAME] = 0, NOW
    being_read(files.match())
    assert files.asked == ["acme/line-01.mp3"]


@pytest.mark.parametrize(
    ("files", "portrait"),
    [
        (bucket("acme/line-01.mp3", SAME), SAME),
        (bucket("acme/line-01.mp3", OWN, own=body(image_url="own.png")), OWN),
        (bucket("acme/line-01.mp3", FOLDER, folder=body(image_url="shared.png")), FOLDER),
        (bucket("acme/line-01.mp3", ONLY), ONLY),
        (bucket(ONLY, own=body(audio_url=LINK)), ONLY),
    ],
    ids=["same name", "own settings", "folder settings", "only image", "linked voice"],
)
def test_a_portrait_that_is_being_read(files: Bucket, portrait: str) -> None:
    """Its folder stays open: a picture that comes meanwhile may be the better one."""
    read = files.match()
    files.facts[portrait] = None
    inputs = being_read(files.match())
    assert (inputs.portrait, inputs.voice) == (None, of(read).voice)
    assert inputs.folders == of(read).folders
    assert (f"{SAME}\nv1" in inputs.own) is (portrait == SAME)


def test_a_bad_voice_waits_for_its_portraits_reading() -> None:
    """So that a pair with two faults is refused once, and both are named."""
    files = bucket("acme/line-01.mp3", SAME)
    files.facts = {"acme/line-01.mp3": Facts(problem=VOICE_FAULT), SAME: None}
    being_read(files.match())
    files.facts[SAME] = PICTURE
    assert refused(files.match(), "VoiceTooLong") == VOICE_FAULT


def test_a_second_name_is_asked_before_reading() -> None:
    """Which of two voices is meant is a question to the owner; nothing need be read for it."""
    files = bucket("acme/line-01.mp3", "acme/line-01.wav", SAME)
    files.facts = dict.fromkeys(files.files, None)
    asked(files.match(), "VoiceAmbiguous")


@pytest.mark.parametrize("key", [JSON, "acme/settings.json"])
def test_settings_that_are_not_read_yet(key: str) -> None:
    files = bucket("acme/line-01.mp3", SAME, own=None, folder=None)
    files.unread = {JSON, "acme/settings.json"} - {key}
    found = files.match()
    assert isinstance(found, Waiting)
    assert found.message == "The file is being read."


def test_a_json_alone_that_is_not_read_yet() -> None:
    """It may turn out to be a job; nobody hears of it before that is known."""
    files = bucket(own=None)
    files.unread = {JSON}
    assert files.match() == Nothing()


# Twins: a Mac's sync puts the same file under both Unicode forms of its name


TWINS = ("acme/\u00e9", "acme/e\u0301")


@pytest.mark.parametrize("suffix", [".mp3", ".png"])
def test_twins_are_one_file(suffix: str) -> None:
    other = ".png" if suffix == ".mp3" else ".mp3"
    files = bucket(TWINS[0] + suffix, TWINS[1] + suffix, TWINS[0] + other)
    ready(files.match(TWINS[0]))


def test_twins_as_the_only_picture() -> None:
    files = bucket("acme/line-01.mp3", TWINS[0] + ".png", TWINS[1] + ".png")
    assert chosen(files.match())[1] == "only_image"
    files.facts[TWINS[0] + ".png"] = replace(PICTURE, sha256="9" * 64)
    asked(files.match(), "PortraitAmbiguous")


@pytest.mark.parametrize("second", [TWINS[1] + ".json", TWINS[0] + ".JSON"])
def test_twins_of_a_json(second: str) -> None:
    files = bucket(TWINS[0] + ".mp3", TWINS[0] + ".png")
    files.files |= {TWINS[0] + ".json": "{}", second: "{}"}
    assert len(ready(files.match(TWINS[0])).inputs.settings_files) == 1


@pytest.mark.parametrize(("suffix", "code"), [(".mp3", "VoiceAmbiguous"), (".png", "PortraitAmbiguous")])
@pytest.mark.parametrize("differ_in", ["size", "content"])
def test_namesakes_that_differ_are_no_twins(suffix: str, code: str, differ_in: str) -> None:
    other = ".png" if suffix == ".mp3" else ".mp3"
    files = bucket(TWINS[0] + suffix, TWINS[1] + suffix, TWINS[0] + other)
    if differ_in == "size":
        files.sizes[TWINS[0] + suffix] = 99
    else:
        files.facts[TWINS[0] + suffix] = replace(VOICE if suffix == ".mp3" else PICTURE, sha256="9" * 64)
    asked(files.match(TWINS[0]), code)


# What the chosen model takes


ASSET = Asset("assets/b-1.jpg", "e" * 64, 900_000, "image/jpeg")
HEIC = Facts(
    "b" * 64, "heic", width=900, height=800, changes=("converted from HEIC to JPEG",), plain=False, asset=ASSET
)
LARGE = Facts("b" * 64, "png", width=5000, height=4000, asset=ASSET)
RENAMED = replace(HEIC, type="png", changes=("renamed from .jpg to .png",), asset=replace(ASSET, sha256="b" * 64))
MIB = 1024 * 1024


def of_model(
    model: str, portrait: Facts = PICTURE, voice: Facts = VOICE, *, which: str = "own", **inputs: Any
) -> Bucket:
    files = bucket("acme/line-01.mp3", SAME, **{which: json.dumps({"model": model, "input": inputs})})
    files.facts = {"acme/line-01.mp3": voice, SAME: portrait}
    return files


def passed_on(found: Match) -> Asset | None:
    portrait = ready(found).inputs.portrait
    assert portrait is not None
    return portrait.asset


@pytest.mark.parametrize("model", MODELS)
def test_what_was_changed_goes_on_as_its_asset(model: str) -> None:
    voice = replace(VOICE, type="m4a", plain=False, asset=ASSET, changes=("decoded from AAC",))
    inputs = ready(of_model(model, HEIC, voice).match()).inputs
    assert inputs.voice is not None
    assert inputs.portrait is not None
    assert (inputs.voice.asset, inputs.voice.changes) == (ASSET, ("decoded from AAC",))
    assert (inputs.portrait.asset, inputs.portrait.changes) == (ASSET, HEIC.changes)


@pytest.mark.parametrize(("model", "asset"), [("emo-v1", None), ("wan2.2-s2v", None), ("liveportrait", ASSET)])
def test_a_plain_but_large_picture(model: str, asset: Asset | None) -> None:
    """It goes to a model that takes it as it is, byte for byte, and to the other as a smaller one."""
    assert passed_on(of_model(model, LARGE).match()) == asset


@pytest.mark.parametrize(("side", "asset"), [(4096, None), (4097, ASSET)])
def test_the_longest_side_that_liveportrait_takes(side: int, asset: Asset | None) -> None:
    assert passed_on(of_model("liveportrait", replace(LARGE, width=side)).match()) == asset


@pytest.mark.parametrize(("size", "asset"), [(10 * MIB - 1, None), (10 * MIB, ASSET)])
def test_the_most_bytes_that_liveportrait_takes(size: int, asset: Asset | None) -> None:
    files = of_model("liveportrait", replace(LARGE, width=900, height=800))
    files.sizes[SAME] = size
    assert passed_on(files.match()) == asset


@pytest.mark.parametrize(
    ("size", "measured"),
    [((2000, 1000), None), ((1000, 2000), None), ((2001, 1000), "2.001 : 1"), ((400, 1000), "2.5 : 1")],
)
def test_sides_that_liveportrait_takes(size: tuple[int, int], measured: str | None) -> None:
    picture = replace(PICTURE, width=size[0], height=size[1])
    ready(of_model("emo-v1", picture).match())
    found = of_model("liveportrait", picture).match()
    if measured is None:
        ready(found)
        return
    problem = refused(found, "PortraitUnfit")
    assert (problem.limit, problem.measured) == ("2 : 1", measured)
    assert f"line-01.png” is {size[0]} by {size[1]} pixels; liveportrait takes" in problem.message


@given(st.integers(1, 7000), st.integers(1, 7000))
def test_a_refused_ratio_is_told_from_the_limit(width: int, height: int) -> None:
    found = of_model("liveportrait", replace(LARGE, width=width, height=height)).match()
    assert isinstance(found, Rejected) is (max(width, height) > 2 * min(width, height))
    if isinstance(found, Rejected):
        assert float(str(found.problems[0].measured).removesuffix(" : 1")) > 2


def test_boxes_and_a_picture_that_must_be_changed() -> None:
    """Boxes are pixels of the very file that was uploaded, so no other may take its place."""
    problem = refused(of_model("emo-v1", HEIC, face_bbox=FACE, ext_bbox=EXT).match(), "PortraitUnfit")
    assert "line-01.png" in problem.message
    assert problem.measured == "converted from HEIC to JPEG"
    assert "leave them out" in problem.what_to_do
    ready(of_model("emo-v1", HEIC).match())


def test_boxes_are_not_held_against_the_asset() -> None:
    """They may lie outside of what the picture was made smaller to: that it was is what the owner must hear."""
    small = replace(HEIC, width=400, height=300, changes=("made smaller from 8000 by 6000 to 400 by 300 pixels",))
    refused(of_model("emo-v1", small, face_bbox=FACE, ext_bbox=EXT).match(), "PortraitUnfit")


@pytest.mark.parametrize("portrait", [PICTURE, LARGE, RENAMED], ids=["plain", "large", "renamed"])
def test_boxes_and_the_very_pixels(portrait: Facts) -> None:
    """A copy under a name that fits its content has the same pixels."""
    found = of_model("emo-v1", portrait, face_bbox=FACE, ext_bbox=EXT).match()
    assert passed_on(found) == (RENAMED.asset if portrait is RENAMED else None)


@pytest.mark.parametrize(
    ("model", "seconds", "code", "limit", "measured"),
    [
        ("emo-v1", 60.0, None, None, None),
        ("emo-v1", 60.001, "VoiceTooLong", "60 s", "60.001 s"),
        ("emo-v1", 61.2, "VoiceTooLong", "60 s", "61.2 s"),
        ("emo-v1", 0.05, None, None, None),
        ("liveportrait", 179.999, None, None, None),
        ("liveportrait", 180.0, "VoiceTooLong", "180 s", "180 s"),
        ("liveportrait", 1.001, None, None, None),
        ("liveportrait", 1.0, "VoiceTooShort", "1 s", "1 s"),
        ("liveportrait", 0.4, "VoiceTooShort", "1 s", "0.4 s"),
        ("wan2.2-s2v", 19.999, None, None, None),
        ("wan2.2-s2v", 20.0, "VoiceTooLong", "20 s", "20 s"),
    ],
)
def test_seconds_that_a_model_takes(
    model: str, seconds: float, code: str | None, limit: str | None, measured: str | None
) -> None:
    found = of_model(model, voice=replace(VOICE, seconds=seconds)).match()
    if code is None:
        ready(found)
        return
    problem = refused(found, code)
    assert (problem.limit, problem.measured) == (limit, measured)
    assert model in problem.message
    assert "line-01.mp3" in problem.message
    assert of(found).settings is not None


@pytest.mark.parametrize(("which", "mended"), [("own", False), ("folder", True)])
@pytest.mark.parametrize(
    ("portrait", "voice"),
    [(PICTURE, replace(VOICE, seconds=0.4)), (replace(PICTURE, width=2000), VOICE)],
    ids=["voice", "portrait"],
)
def test_a_model_that_settings_json_chose(which: str, mended: bool, portrait: Facts, voice: Facts) -> None:
    """A new settings.json may choose another: it is then another try for the jobs that the model refused."""
    assert shared(of_model("liveportrait", portrait, voice, which=which).match()) is mended


def test_a_fault_of_settings_json_is_not_the_jobs() -> None:
    """video_fps is of a model that nobody has chosen; a new settings.json is another try."""
    found = bucket("acme/line-01.mp3", SAME, folder='{"parameters": {"video_fps": 30}}').match()
    assert "settings.json" in refused(found, "SettingsInvalid").message
    assert shared(found)


def test_a_links_length_is_nobodys_business() -> None:
    text = json.dumps({"model": "wan2.2-s2v", "input": {"audio_url": LINK}})
    ready(bucket(SAME, own=text).match())


# Names


@pytest.mark.parametrize("key", ["acme/settings.mp3", "settings.wav", "acme/settings.m4a"])
def test_a_voice_named_settings(key: str) -> None:
    stem = key.rpartition(".")[0]
    found = refused(Bucket({key: None}).match(stem), "NameReserved")
    assert '"settings"' in found.message


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u58f0", "\U0001f600"])
@pytest.mark.parametrize("length", [1018, 1019, 1020])
def test_a_name_too_long_for_its_report(letter: str, length: int) -> None:
    width = len(letter.encode())
    stem = "x" * (length % width) + letter * (length // width)
    answer = Bucket({stem + ".mp3": None}).match(stem)
    if length <= 1019:  # and ".json"
        asked(answer, "PortraitMissing")
    else:
        found = refused(answer, "NameTooLong")
        assert (found.limit, found.measured) == ("1024 bytes", "1025 bytes")


def test_the_voices_own_bytes_count() -> None:
    composed = "acme1/" + "\u00e9" * 338
    decomposed = unicodedata.normalize("NFD", composed)  # what a Mac uploads: 3 bytes a letter
    long, short = Bucket({decomposed + ".mp3": None}), Bucket({composed + ".mp3": None})
    for looked_at in (composed, decomposed):
        assert refused(long.match(looked_at), "NameTooLong").measured == "1025 bytes"
        asked(short.match(looked_at), "PortraitMissing")


# Settings


@pytest.mark.parametrize("text", ["{", "[]", '{"inputs": {}}', '{"model": "emo-v2"}', body(face_bbox=FACE), None])
def test_a_bad_own_json_is_named(text: str | None) -> None:
    found = bucket("acme/line-01.mp3", SAME, own=text).match()
    assert "line-01.json" in refused(found, "SettingsInvalid").message
    assert not shared(found)


def test_a_bad_json_is_told_without_a_voice() -> None:
    refused(bucket(own="{").match(), "SettingsInvalid")


@pytest.mark.parametrize("text", ["{", body(audio_url=LINK), body(face_bbox=FACE, ext_bbox=EXT), None])
def test_a_bad_settings_json_is_named(
    text: str | None,
) -> None:
    found = bucket("acme/line-01.mp3", SAME, folder=text).match()
    assert "settings.json" in refused(found, "SettingsInvalid").message
    assert shared(found)
    assert of(found).folders


def test_a_json_over_64_kib() -> None:
    files = bucket("acme/line-01.mp3", own=None)
    files.sizes["acme/line-01.json"] = 70_000
    found = refused(files.match(), "SettingsInvalid")
    assert (found.limit, found.measured) == ("65536 bytes", "70000 bytes")


def test_a_voice_and_a_link_of_one_name() -> None:
    found = refused(bucket("acme/line-01.mp3", SAME, own=body(audio_url=LINK)).match(), "JobAmbiguous")
    assert "line-01.json" in found.message
    assert "line-01.mp3" in found.message


def test_two_jsons_of_one_name() -> None:
    files = bucket("acme/line-01.mp3", SAME, "acme/line-01.JSON", own="{}")
    files.files["acme/line-01.JSON"] = " {}"
    found = refused(files.match(), "JobAmbiguous")
    assert "line-01.JSON, line-01.json" in found.message


def test_own_settings_before_the_folders() -> None:
    found = ready(
        bucket(
            "acme/line-01.mp3",
            SAME,
            own='{"parameters": {"ratio": "3:4"}}',
            folder='{"parameters": {"ratio": "1:1", "style_level": "calm"}}',
        ).match()
    ).inputs
    assert found.settings is not None
    assert found.settings.parameters == {"ratio": "3:4", "style_level": "calm"}
    assert [file.key for file in found.settings_files] == [JSON, "acme/settings.json"]
    assert all(file.version == "v1" and len(file.sha256 or "") == 64 for file in found.settings_files)


def test_boxes_that_leave_the_picture() -> None:
    own = {"face_bbox": [0, 0, 901, 10], "ext_bbox": EXT}
    files = bucket("acme/line-01.mp3", SAME, own=body(**own))
    assert "900 x 800" in refused(files.match(), "SettingsInvalid").message
    linked = bucket("acme/line-01.mp3", own=body(image_url="https://a.example/p.png", **own))
    ready(linked.match())


def test_a_named_picture_out_of_the_bucket() -> None:
    for which in ("own", "folder"):
        found = bucket("acme/line-01.mp3", **{which: body(image_url="../../anna.png")}).match()
        refused(found, "SettingsInvalid")
        assert shared(found) is (which == "folder")


# What a later file can mend


@pytest.mark.parametrize(
    ("files", "by_others_too"),
    [
        (bucket("acme/line-01.mp3", SAME), False),
        (bucket("acme/line-01.mp3", "acme/bad.png"), True),
        (bucket("acme/line-01.mp3", "acme/bad.png", folder=body(image_url="bad.png")), True),
        (bucket("acme/line-01.mp3", "acme/bad.png", own=body(image_url="bad.png")), True),
    ],
)
def test_a_fault_of_a_file_of_others_too(files: Bucket, by_others_too: bool) -> None:
    """A new picture is then another try for every job that was rejected for it."""
    fault = Facts("c" * 64, problem=PICTURE_FAULT)
    files.facts = {SAME: fault, "acme/bad.png": fault}
    found = files.match()
    refused(found, "PortraitTooSmall")
    assert shared(found) is by_others_too


def test_folders_that_may_change_the_job() -> None:
    here = of(bucket("acme/line-01.mp3").match())
    there = of(bucket("acme/line-01.mp3", own=body(image_url="../faces/anna.png")).match())
    faces = of(bucket("faces/line-01.mp3").match("faces/line-01"))
    assert tuple(sorted([*here.folders, *faces.folders])) == there.folders


OWN_FILES = ["acme/line-01.mp3", SAME, JSON]


@pytest.mark.parametrize("new", OWN_FILES)
@pytest.mark.parametrize("folder", ["{}", "{"])
def test_a_new_version_is_a_new_upload(new: str, folder: str) -> None:
    files = bucket(*OWN_FILES, own="{}", folder="{}")
    before = files.match()
    files.files["acme/settings.json"] = folder
    files.versions[new] = "v2"
    assert set(of(files.match()).own) - set(of(before).own) == {f"{new}\nv2"}


def test_a_shared_file_is_not_its_own() -> None:
    files = bucket("acme/line-01.mp3", "acme/anna.png", folder=body(image_url="anna.png"))
    before = files.match()
    files.versions = {"acme/anna.png": "v2", "acme/settings.json": "v2"}
    assert of(files.match()).own == of(before).own == ("acme/line-01.mp3\nv1",)


def test_an_unused_namesake_is_not_its_own() -> None:
    files = bucket("acme/line-01.mp3", SAME, OWN, own=body(image_url="own.png"))
    assert f"{SAME}\nv1" not in of(files.match()).own


# Same content, same video


def with_content(voice: str = "1", portrait: str = "2", style: str = "calm") -> Bucket:
    files = bucket("acme/line-01.mp3", SAME, own=json.dumps({"parameters": {"style_level": style}}))
    files.facts = {"acme/line-01.mp3": replace(VOICE, sha256=voice), SAME: replace(PICTURE, sha256=portrait)}
    return files


def test_the_fingerprint_is_of_the_content() -> None:
    again = with_content()
    again.versions = dict.fromkeys(again.files, "v2")
    again.noticed = dict.fromkeys(again.files, NOW)
    first, second = of(with_content().match()), of(again.match())
    assert fingerprint_of(first) == fingerprint_of(second)
    assert identity_of(first) != identity_of(second)


@pytest.mark.parametrize("other", [{"voice": "9"}, {"portrait": "9"}, {"style": "active"}])
def test_other_content_other_fingerprint(other: dict[str, str]) -> None:
    assert fingerprint_of(of(with_content(**other).match())) != fingerprint_of(of(with_content().match()))


def test_another_model_is_another_fingerprint() -> None:
    files = with_content()
    files.files[JSON] = json.dumps({"model": "liveportrait"})
    assert fingerprint_of(of(files.match())) != fingerprint_of(of(with_content(style="normal").match()))


@given(st.sampled_from(["version", "etag", "key"]), st.sampled_from(["voice", "portrait"]))
def test_identity_names_the_versions(part: str, which: str) -> None:
    inputs = of(with_content().match())
    other = replace(inputs, **{which: replace(getattr(inputs, which), **{part: "other"})})
    assert identity_of(inputs) != identity_of(other)
    assert identity_of(inputs) != identity_of(replace(inputs, all_own=("other",)))
    assert identity_of(inputs) != identity_of(replace(inputs, settings_files=(SettingsFile("a", "b", None),)))


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
    [..., ..., None, Facts("d" * 64, problem=Problem("VoiceUnreadable", "Broken.", "Save it again."))]
)


@st.composite
def buckets(draw: st.DrawFn) -> Bucket:
    keys = draw(st.lists(sounds | sounds | portraits | others, unique=True, max_size=7))
    files: dict[str, str | None] = dict.fromkeys(keys)
    files |= draw(st.dictionaries(jsons, texts, max_size=3))
    noticed = {key: draw(st.sampled_from([LONG_AGO, LONG_AGO, NOW - 10, NOW])) for key in files}
    facts = {key: found for key in keys if (found := draw(found_facts)) is not ...}
    sizes = {key: draw(st.sampled_from([100, 100, 0])) for key in files}
    unread = {key for key in files if files[key] is None and draw(st.booleans()) and key.lower().endswith(".json")}
    return Bucket(files, facts, noticed, sizes=sizes, unread=unread)


@given(buckets(), st.randoms())
def test_any_order_gives_the_same_answer(files: Bucket, random: Any) -> None:
    keys = list(files.files)
    random.shuffle(keys)
    shuffled = replace(files, files={key: files.files[key] for key in keys})
    one, other = files.match(), shuffled.match()
    assert one == other
    if not isinstance(one, Nothing):
        assert identity_of(of(one)) == identity_of(of(other))
        assert fingerprint_of(of(one)) == fingerprint_of(of(other))


QUESTIONS = {"PortraitMissing", "PortraitAmbiguous", "VoiceAmbiguous"}


def says_enough(found: Match) -> bool:
    """Say whether a match holds what its kind promises."""
    match found:
        case Ready(inputs, ready_at):
            return None not in (inputs.voice, inputs.portrait, inputs.settings) and ready_at > 0
        case Waiting(problem=None, message=message, again_at=again_at):
            return message == "The file is being read." or bool(message and again_at)
        case Waiting(problem=problem):
            return problem is not None and problem.code in QUESTIONS and bool(problem.message and problem.what_to_do)
        case Rejected(problems=problems):
            return bool(problems) and all(p.code not in QUESTIONS and p.message and p.what_to_do for p in problems)
        case _:
            return True


@given(buckets())
def test_every_set_of_files_says_what_it_is(files: Bucket) -> None:
    found = files.match()
    assert says_enough(found)
    if not isinstance(found, Nothing):
        assert json.dumps([asdict(found), identity_of(found.inputs), fingerprint_of(found.inputs)])


@given(buckets())
def test_matching_again_changes_nothing(files: Bucket) -> None:
    assert files.match() == files.match()


@given(buckets())
def test_a_sound_of_the_name_always_makes_a_job(files: Bucket) -> None:
    if any(file.name.kind is Kind.VOICE and file.name.name == "acme/line-01" for file in files.listed()):
        assert not isinstance(files.match(), Nothing)


@given(buckets())
def test_files_left_alone_change_nothing(files: Bucket) -> None:
    left_alone = ["acme/.line-01.png", "acme/line-01.txt", "acme/", ".acme/line-01.mp3", "acme/@eaDir/line-01.png"]
    assert replace(files, files={**dict.fromkeys(left_alone), **files.files}).match() == files.match()
