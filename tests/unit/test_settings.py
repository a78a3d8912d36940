"""The settings JSON: what is taken, what is refused and how, and what holds in the end."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.domain.models import MODELS, Model, Parameter, Value
from portraitcast.domain.problems import Problem, ProblemError
from portraitcast.domain.settings import (
    LINK_MAX_CHARS,
    SETTINGS_MAX_BYTES,
    Effective,
    Settings,
    claims_voice,
    effective,
    is_link,
    parse_settings,
    resolve_name,
)
from portraitcast.domain.uploads import KEY_MAX_BYTES

KEY = "acme/line-01.json"
FACE, EXT = (302, 286, 610, 593), (71, 9, 840, 778)
WHOLE: dict[str, Any] = {
    "model": "emo-v1",
    "input": {
        "image_url": "anna.png",
        "audio_url": "https://voices.example/hello.mp3?sig=a%2Fb#t",
        "face_bbox": list(FACE),
        "ext_bbox": list(EXT),
    },
    "parameters": {"style_level": "active", "ratio": "1:1"},
}


def parse(value: Any, *, folder_defaults: bool = False, key: str = KEY) -> Settings:
    return parse_settings(json.dumps(value).encode(), key, folder_defaults=folder_defaults)


def refusal(value: Any, *, folder_defaults: bool = False, key: str = KEY) -> Any:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(ProblemError) as caught:
        parse_settings(data, key, folder_defaults=folder_defaults)
    problem = caught.value.problem
    assert problem.code == "SettingsInvalid"
    assert problem.what_to_do
    return problem


def test_emos_request_body_is_taken_whole() -> None:
    assert parse(WHOLE) == Settings(
        *("emo-v1", "anna.png", "https://voices.example/hello.mp3?sig=a%2Fb#t", FACE, EXT),
        {"style_level": "active", "ratio": "1:1"},
    )


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"model": None, "input": None, "parameters": None},
        {"input": {}, "parameters": {}},
        {"input": dict.fromkeys(WHOLE["input"]), "parameters": {"style_level": None, "ratio": None}},
    ],
)
@pytest.mark.parametrize("folder_defaults", [True, False])
def test_every_field_is_optional(value: Any, folder_defaults: bool) -> None:
    assert parse(value, folder_defaults=folder_defaults) == Settings()


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_settings(b'\xef\xbb\xbf{"model": "emo-v1"}', KEY, folder_defaults=True) == Settings(model="emo-v1")


@pytest.mark.parametrize(
    ("value", "path", "allowed", "found"),
    [
        ({"parametres": {}}, "$.parametres", "model, input, parameters", '"parametres"'),
        ({"input": {"text": None}}, "$.input.text", "image_url, audio_url, face_bbox, ext_bbox", '"text"'),
        ({"parameters": {"a b": 1}}, '$.parameters["a b"]', "style_level, ratio, template_id", '"a b"'),
        ({"input": ["x"]}, "$.input", "an object", '["x"]'),
        ({"parameters": 1}, "$.parameters", "an object", "1"),
        ({"model": "emo-v1-detect"}, "$.model", '"emo-v1"', '"emo-v1-detect"'),
        ({"model": "emo-detect-v1"}, "$.model", '"emo-v1"', '"emo-detect-v1"'),
        ({"model": ["emo-v1"]}, "$.model", '"emo-v1"', '["emo-v1"]'),
        ({"parameters": {"style_level": "Active"}}, "$.parameters.style_level", '"calm" or "active"', '"Active"'),
        ({"parameters": {"style_level": True}}, "$.parameters.style_level", '"normal", "calm" or "active"', "true"),
        ({"parameters": {"ratio": "16:9"}}, "$.parameters.ratio", '"1:1" or "3:4"', '"16:9"'),
        ({"parameters": {"ratio": 1}}, "$.parameters.ratio", '"1:1" or "3:4"', "1"),
        ({"input": {"audio_url": "hello.mp3"}}, "$.input.audio_url", "http", '"hello.mp3"'),
        ({"input": {"audio_url": 7}}, "$.input.audio_url", "http(s) link", "7"),
        ({"input": {"audio_url": ""}}, "$.input.audio_url", "http", '""'),
        (
            {"input": {"image_url": "anna.pdf"}},
            "$.input.image_url",
            ".avif, .bmp, .gif, .heic, .heif, .jfif",
            '"anna.pdf"',
        ),
        ({"input": {"image_url": ".png"}}, "$.input.image_url", ".webp", '".png"'),
        ({"input": {"image_url": {}}}, "$.input.image_url", ".webp", "{}"),
        ({"input": {"image_url": "oss://bucket/a.png"}}, "$.input.image_url", "http or https", '"oss://bucket/a.png"'),
        ({"input": {"image_url": "s3://bucket/a.png"}}, "$.input.image_url", "http or https", '"s3://bucket/a.png"'),
        ({"input": {"image_url": "FTP://host/a.png"}}, "$.input.image_url", "http or https", '"FTP://host/a.png"'),
        ({"input": {"image_url": "file:a.png"}}, "$.input.image_url", "http or https", '"file:a.png"'),
        ({"input": {"image_url": "data:image/png;base64,AA"}}, "$.input.image_url", "http or https", '"data:image/'),
        ({"input": {"image_url": "https:///a.png"}}, "$.input.image_url", "without a host", '"https:///a.png"'),
        ({"input": {"image_url": "https://h:x/a.png"}}, "$.input.image_url", "not a link", '"https://h:x/a.png"'),
        ({"input": {"image_url": "https://h/a b.png"}}, "$.input.image_url", "white space", '"https://h/a b.png"'),
        ({"input": {"image_url": "../../a.png"}}, "$.input.image_url", "leaves the bucket", '"../../a.png"'),
    ],
)
def test_what_is_not_allowed(value: Any, path: str, allowed: str, found: str) -> None:
    problem = refusal(value)
    assert problem.message.startswith(f"line-01.json: {path} ")
    assert allowed in problem.message
    assert found in f"{problem.message} {problem.measured}"


@pytest.mark.parametrize(
    "box",
    [
        "1,2,3,4",
        {"x1": 1},
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [True, 0, 10, 10],
        [0, False, 10, 10],
        [0.0, 0, 10, 10],
        [0.5, 0, 10, 10],
        ["0", 0, 10, 10],
        [-1, 0, 10, 10],
        [0, -1, 10, 10],
        [10, 0, 10, 10],
        [0, 10, 10, 10],
        [11, 0, 10, 10],
        [0, 0, 7001, 10],
        [0, 0, 10, 7001],
        [0, 0, 10**40, 10],
    ],
)
@pytest.mark.parametrize("name", ["face_bbox", "ext_bbox"])
def test_a_box_is_four_whole_numbers_in_their_order(name: str, box: Any) -> None:
    boxes = {"face_bbox": [0, 0, 10, 10], "ext_bbox": [0, 0, 10, 10], name: box}
    problem = refusal({"input": boxes})
    assert f"$.input.{name} must be [x1, y1, x2, y2], whole pixels" in problem.message
    assert problem.measured == json.dumps(box)


def test_the_largest_and_the_smallest_box_are_taken() -> None:
    boxes = {"face_bbox": [0, 0, 1, 1], "ext_bbox": [0, 0, 7000, 7000]}
    assert parse({"input": boxes}) == Settings(face_bbox=(0, 0, 1, 1), ext_bbox=(0, 0, 7000, 7000))


@pytest.mark.parametrize(("given_box", "missing"), [("face_bbox", "ext_bbox"), ("ext_bbox", "face_bbox")])
def test_boxes_come_both_or_neither(given_box: str, missing: str) -> None:
    problem = refusal({"input": {given_box: [0, 0, 10, 10]}})
    assert f"$.input.{missing} is missing" in problem.message
    assert f"Add {missing}" in problem.what_to_do


@pytest.mark.parametrize("name", ["audio_url", "face_bbox", "ext_bbox"])
def test_a_folder_has_no_voice_nor_boxes(name: str) -> None:
    problem = refusal({"input": {name: WHOLE["input"][name]}}, folder_defaults=True, key="acme/settings.json")
    assert problem.message.startswith(f"settings.json: $.input.{name} may only stand in one job's own JSON")


def test_a_folder_s_settings_hold_the_rest() -> None:
    value = {"model": "emo-v1", "input": {"image_url": "a.JPG"}, "parameters": {"style_level": "calm", "ratio": "3:4"}}
    assert parse(value, folder_defaults=True) == Settings(
        "emo-v1", "a.JPG", parameters={"style_level": "calm", "ratio": "3:4"}
    )


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "is not JSON"),
        (b"{", "line 1, column"),
        (b"\xff\xfe{\x00}\x00", "is not UTF-8"),
        (b'{"model": "emo-v1", "model": "emo-v1"}', 'the field "model" twice'),
        (b'{"input": {"image_url": "a.png", "image_url": "b.png"}}', 'the field "image_url" twice'),
        (b'{"model": NaN}', "NaN"),
        (b'{"model": -Infinity}', "-Infinity"),
        (b"[" * 60_000, "nested too deeply"),
        (b'{"model": ' + b"9" * 5000 + b"}", "too long"),
        (b"[]", "must be an object"),
        (b"null", "must be an object"),
        (b'"emo-v1"', "must be an object"),
        (b" " * (SETTINGS_MAX_BYTES + 1), "too big"),
    ],
)
def test_a_file_that_is_no_settings(data: bytes, fault: str) -> None:
    message = refusal(data).message
    assert message.startswith("line-01.json: $ ")
    assert fault in message


def test_a_file_of_exactly_the_limit_is_read() -> None:
    data = b"{}".ljust(SETTINGS_MAX_BYTES)
    assert parse_settings(data, KEY, folder_defaults=False) == Settings()


def test_a_refusal_is_short_and_no_secret() -> None:
    secret = "ftp://user:hunter2@host/a.png?Signature=abc#frag"
    for value in (secret, [secret], {"k": secret}, "x" * 5000):
        problem = refusal({"input": {"image_url": value}})
        told = f"{problem.message} {problem.measured} {problem.what_to_do}"
        assert not [word for word in ("hunter2", "Signature", "abc", "frag") if word in told]
        assert len(told) < 800


def test_a_line_end_in_the_files_name() -> None:
    message = refusal(b"[]", key="acme/two\nlines\u202e.json").message
    assert message.startswith("two\N{REPLACEMENT CHARACTER}lines\N{REPLACEMENT CHARACTER}.json: $ ")


@pytest.mark.parametrize(
    ("data", "claims"),
    [
        (b'{"input": {"audio_url": "https://h/a.mp3"}}', True),
        (b'\xef\xbb\xbf{"input": {"audio_url": "https://h/a.mp3"}}', True),
        (b'{"input": {"audio_url": 7}, "nonsense": NaN}', True),
        (b'{"input": {"audio_url": ""}}', True),
        (b'{"input": {"audio_url": null}}', False),
        (b'{"input": {"image_url": "a.png"}}', False),
        (b'{"audio_url": "https://h/a.mp3"}', False),
        (b'{"input": "audio_url"}', False),
        (b'[{"input": {"audio_url": "x"}}]', False),
        (b'{"input": {"audio_url": "x"}', False),
        (b"[" * 60_000, False),
        (b"\xff", False),
    ],
)
def test_a_json_with_an_audio_url_is_a_job_by_itself(data: bytes, claims: bool) -> None:
    assert claims_voice(data) is claims


DEFAULTS: dict[str, Value] = {"style_level": "normal", "ratio": "1:1"}


def of(
    own: Settings | None = None, folder: Settings | None = None, size: tuple[int, int] | None = None, **more: Any
) -> Effective:
    return effective(own, folder, picture_size=size, own_key=KEY, **more)


def refused(own: Settings | None = None, folder: Settings | None = None, **more: Any) -> Problem:
    with pytest.raises(ProblemError) as caught:
        of(own, folder, **more)
    problem = caught.value.problem
    assert problem.code == "SettingsInvalid"
    assert problem.what_to_do.endswith(".")
    return problem


def test_own_before_folder_before_defaults() -> None:
    assert of() == Effective("emo-v1", "emo-v1", DEFAULTS)
    folder = Settings(parameters={"style_level": "calm", "ratio": "3:4"})
    assert of(None, folder).parameters == {"style_level": "calm", "ratio": "3:4"}
    own = Settings(parameters={"style_level": "active"})
    assert of(own, folder).parameters == {"style_level": "active", "ratio": "3:4"}


# Other models


EVERY_PARAMETER = [(model, parameter) for model in MODELS.values() for parameter in model.parameters]


def allowed(parameter: Parameter) -> Any:
    """Return a value that a parameter takes and that is not its default."""
    if parameter.choices:
        return parameter.choices[-1]
    return not parameter.default if parameter.boolean else (24.0 if parameter.whole else parameter.most)


@pytest.mark.parametrize(("model", "parameter"), EVERY_PARAMETER, ids=lambda value: value.name)
def test_every_parameter_of_every_model(model: Model, parameter: Parameter) -> None:
    value = allowed(parameter)
    own = parse({"model": model.name, "parameters": {parameter.name: value}})
    assert of(own).parameters[parameter.name] == value
    assert of(own).definition == model


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_the_defaults_of_every_model(model: Model) -> None:
    """What is better not sent is no default."""
    expected = {p.name: p.default for p in model.parameters if p.default is not None}
    assert of(Settings(model=model.name)) == Effective(model.name, model.name, expected)


@pytest.mark.parametrize(("model", "parameter"), EVERY_PARAMETER, ids=lambda value: value.name)
@pytest.mark.parametrize("which", ["own", "folder"])
def test_a_field_of_another_model(model: Model, parameter: Parameter, which: str) -> None:
    """It is refused by its path, naming the model that has it and what this one has."""
    for other in MODELS.values():
        if other.parameter(parameter.name):
            continue
        settings = Settings(model=other.name, parameters={parameter.name: allowed(parameter)})
        problem = refused(settings) if which == "own" else refused(None, settings)
        file = "line-01.json" if which == "own" else "settings.json"
        assert problem.message.startswith(f"{file}: $.parameters.{parameter.name} belongs to {model.name}")
        assert f"the model here is {other.name}" in problem.message
        assert other.parameters[0].name in problem.what_to_do
        assert (problem.limit, problem.measured) == (other.describe_parameters(), parameter.name)


def test_a_folders_field_of_another_model() -> None:
    """A folder's parameters are defaults for its own model: a job of another one takes those that it has."""
    folder = Settings(model="emo-v1", parameters={"style_level": "calm", "ratio": "3:4"})
    own = Settings(model="wan2.2-s2v")
    assert of(own, folder).parameters == {"resolution": "480P"}
    assert of(None, folder).parameters == {"style_level": "calm", "ratio": "3:4"}
    assert of(None, Settings(model="wan2.2-s2v", parameters={"resolution": "720P"})).model == "wan2.2-s2v"


@pytest.mark.parametrize(
    ("parameters", "path", "limit"),
    [
        ({"video_fps": 31}, "$.parameters.video_fps", "a whole number from 15 to 30"),
        ({"video_fps": 24.5}, "$.parameters.video_fps", "a whole number from 15 to 30"),
        ({"video_fps": True}, "$.parameters.video_fps", "a whole number from 15 to 30"),
        ({"eye_move_freq": 1.01}, "$.parameters.eye_move_freq", "a number from 0 to 1"),
        ({"eye_move_freq": "0.5"}, "$.parameters.eye_move_freq", "a number from 0 to 1"),
        ({"paste_back": 1}, "$.parameters.paste_back", "true or false"),
        ({"template_id": "wild"}, "$.parameters.template_id", '"normal", "calm" or "active"'),
        ({"resolution": "1080P"}, "$.parameters.resolution", '"480P" or "720P"'),
        ({"style": "song"}, "$.parameters.style", '"speech"'),
    ],
)
def test_a_value_that_no_model_takes(parameters: dict[str, Any], path: str, limit: str) -> None:
    problem = refusal({"parameters": parameters})
    assert problem.message.startswith(f"line-01.json: {path} must be {limit}, not ")
    assert problem.limit == limit


def test_the_stacks_default_model() -> None:
    assert of(default_model="liveportrait").model == "liveportrait"
    assert of(Settings(model="emo-v1"), default_model="liveportrait").model == "emo-v1"
    assert of(None, Settings(model="wan2.2-s2v"), default_model="liveportrait").model == "wan2.2-s2v"


def test_boxes_are_of_models_that_take_them() -> None:
    own = Settings(model="liveportrait", face_bbox=FACE, ext_bbox=EXT)
    problem = refused(own)
    assert problem.message == (
        "line-01.json: $.input.face_bbox belongs to emo-v1, and this job's model is liveportrait."
    )


def test_a_dedicated_deployment() -> None:
    """Requests carry its name; the model that it runs says what it takes."""
    deployments = {"my-emo": "emo-v1", "broken": "emo-v9"}
    own = parse_settings(b'{"model": "my-emo"}', KEY, folder_defaults=False, deployments=deployments)
    held = of(own, deployments=deployments)
    assert (held.model, held.runs, held.definition.check_model) == ("my-emo", "emo-v1", "emo-detect-v1")
    assert "my-emo" in refusal({"model": "my-emo"}).message
    # A deployment that was taken out of the parameter after its JSON was read.
    assert of(own).model == "emo-v1"


@pytest.mark.parametrize(
    ("ext", "ratio"),
    [
        ((0, 0, 500, 500), "1:1"),
        ((0, 0, 750, 1000), "3:4"),
        ((0, 0, 512, 704), "3:4"),
        ((0, 0, 875, 1000), "1:1"),  # the very middle: the cheaper one
        ((0, 0, 874, 1000), "3:4"),
        ((0, 0, 2000, 1000), "1:1"),
        ((100, 100, 101, 900), "3:4"),
    ],
)
def test_the_ratio_follows_from_ext_bbox(ext: Any, ratio: str) -> None:
    own = Settings(face_bbox=(0, 0, 1, 1), ext_bbox=ext)
    for folder in (None, Settings(parameters={"ratio": "1:1"}), Settings(parameters={"ratio": "3:4"})):
        assert of(own, folder).ratio == ratio
    agreeing = Settings(face_bbox=(0, 0, 1, 1), ext_bbox=ext, parameters={"ratio": ratio})
    assert of(agreeing).ext_bbox == ext


def test_a_ratio_that_disagrees_with_boxes() -> None:
    problem = refused(Settings(face_bbox=FACE, ext_bbox=EXT, parameters={"ratio": "3:4"}))
    assert problem.message == 'line-01.json: $.parameters.ratio must be "1:1" with this ext_bbox, not "3:4".'
    assert (problem.limit, problem.measured) == ('"1:1"', '"3:4"')


@pytest.mark.parametrize(
    ("size", "outside"),
    [((840, 778), None), (None, None), ((839, 778), "ext_bbox"), ((840, 777), "ext_bbox"), ((600, 778), "face_bbox")],
)
def test_boxes_lie_inside_the_picture(size: tuple[int, int] | None, outside: str | None) -> None:
    own = Settings(face_bbox=FACE, ext_bbox=EXT)
    if outside is None:
        assert of(own, size=size).face_bbox == FACE
        return
    assert size is not None
    message = refused(own, size=size).message
    assert f"$.input.{outside} must be inside the picture of {size[0]} x {size[1]} px" in message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://h/a.png", True),
        ("HTTP://h:8080/a.png?x=1#y", True),
        ("https://user:pw@h/é.png", True),
        ("http://[::1]/a", True),
        ("https://h", True),
        ("https://h/" + "a" * (LINK_MAX_CHARS - 10), True),
        ("https://h/" + "a" * (LINK_MAX_CHARS - 9), False),
        ("https:/h/a", False),
        ("https://", False),
        ("https://:443/a", False),
        ("http://[::1/a", False),
        ("https://h:99999/", False),
        ("https://h/a\tb", False),
        ("https://h/a\n", False),
        (" https://h/a", False),
        ("https://h/\u3000a", False),
        ("https://h/\ud800", False),
        ("ftp://h/a", False),
        ("//h/a", False),
        ("anna.png", False),
        ("", False),
    ],
)
def test_what_is_a_link(value: str, expected: bool) -> None:
    assert is_link(value) is expected


def test_a_name_of_a_megabyte_of_accents(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with its length before it is normalised: sorting n accents that are out of order takes n²."""

    def normalize(*_: str) -> NoReturn:
        raise AssertionError("it was normalised")

    for module in ("settings", "uploads"):
        fake = SimpleNamespace(normalize=normalize, category=unicodedata.category)
        monkeypatch.setattr(f"portraitcast.domain.{module}.unicodedata", fake)
    with pytest.raises(ProblemError) as caught:
        resolve_name("a" + "\u0301\u0323" * 262_144 + ".png", "acme/line-01.json")
    assert (caught.value.problem.limit, caught.value.problem.measured) == ("1024 bytes", "1048586 bytes")


@pytest.mark.parametrize(
    ("name", "json_key", "key"),
    [
        ("anna.png", "line.json", "anna.png"),
        ("anna.png", "acme/line.json", "acme/anna.png"),
        ("./anna.png", "acme/line.json", "acme/anna.png"),
        ("../anna.png", "acme/line.json", "anna.png"),
        ("../x/../faces/anna.png", "acme/b/line.json", "acme/faces/anna.png"),
        ("faces/a b+%20'é日.png", "acme/line.json", "acme/faces/a b+%20'é日.png"),
        ("../anna.png", "a//line.json", "a/anna.png"),
        ("x//anna.png", "a/line.json", "a/x//anna.png"),
        ("ana\u0301.png", "line.json", "ana\u0301.png"),
        ("n" * 1019 + ".png", "a/line.json", None),
        ("n" * 1018 + ".png", "a/line.json", "a/" + "n" * 1018 + ".png"),
        ("é" * 512, "a.json", "é" * 512),
        ("é" * 512 + "x", "a.json", None),
        ("", "a/line.json", None),
        (".", "a/line.json", None),
        ("..", "a/b/line.json", None),
        ("faces/", "a/line.json", None),
        ("/anna.png", "a/line.json", None),
        ("../anna.png", "line.json", None),
        ("../../anna.png", "a/line.json", None),
        ("a/../../../a/anna.png", "a/line.json", None),
        ("an\0na.png", "a/line.json", None),
        ("\ud800.png", "a/line.json", None),
    ],
)
def test_a_name_is_relative_to_its_json(name: str, json_key: str, key: str | None) -> None:
    if key is not None:
        assert resolve_name(name, json_key) == key
        return
    with pytest.raises(ProblemError) as caught:
        resolve_name(name, json_key)
    assert "$.input.image_url" in caught.value.problem.message
    assert caught.value.problem.code == "SettingsInvalid"


NAMES = st.sampled_from([*WHOLE, *WHOLE["input"], *WHOLE["parameters"], "video_fps", "paste_back", "other"]) | st.text(
    max_size=5
)
TEXTS = st.sampled_from(["emo-v1", "a.png", "http://h/x", "1:1", "calm", "//", "data:"]) | st.text(st.characters())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=4),
)
BODIES = st.fixed_dictionaries({}, optional=dict.fromkeys(WHOLE, VALUES)) | VALUES


def problem_of(data: bytes, *, folder_defaults: bool) -> Problem | None:
    try:
        parse_settings(data, KEY, folder_defaults=folder_defaults)
    except ProblemError as error:
        return error.problem
    return None


@given(value=BODIES, folder_defaults=st.booleans())
def test_any_json_is_read_or_refused(value: Any, folder_defaults: bool) -> None:
    problem = problem_of(json.dumps(value).encode(), folder_defaults=folder_defaults)
    if problem is not None:
        assert problem.message.startswith("line-01.json: $")
        assert json.dumps(asdict(problem), ensure_ascii=False).encode()


@given(data=st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    problem = problem_of(data, folder_defaults=False)
    assert problem is None or problem.code == "SettingsInvalid"
    assert claims_voice(data) in (True, False)


@given(name=st.text(), folder=st.lists(st.text(st.characters(exclude_characters="/", codec="utf-8"), max_size=4)))
def test_a_resolved_name_is_a_plain_key(name: str, folder: list[str]) -> None:
    try:
        key = resolve_name(name, "/".join([*folder, "line.json"]))
    except ProblemError:
        return
    assert 0 < len(key.encode()) <= KEY_MAX_BYTES
    assert key.endswith(name.rpartition("/")[2])
    assert not any(step in (".", "..") and step not in folder for step in key.split("/"))


# ---------------------------------------------------------------------- what somebody approves
@pytest.mark.parametrize("value", [True, "12", -1, 1e6, [1]], ids=str)
def test_a_sum_that_nobody_can_mean(value: object) -> None:
    with pytest.raises(ProblemError) as raised:
        parse_settings(json.dumps({"job": {"approved_cny": value}}).encode(), "acme/a.json", folder_defaults=False)
    assert "$.job.approved_cny must be a sum in CNY" in raised.value.problem.message


def test_no_approval_for_a_folder() -> None:
    with pytest.raises(ProblemError) as raised:
        parse_settings(b'{"job": {"approved_cny": 1}}', "acme/settings.json", folder_defaults=True)
    assert "$.job is about one job" in raised.value.problem.message
