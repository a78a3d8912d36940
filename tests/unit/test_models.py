"""The models as data: the figures of the provider's pages, what a parameter takes, what a video costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitcast.domain.models import (
    DEFAULT,
    MODELS,
    Call,
    Model,
    Parameter,
    UnknownModelError,
    model_named,
    models_with,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

EMO, LIVE, WAN = MODELS["emo-v1"], MODELS["liveportrait"], MODELS["wan2.2-s2v"]
MIB = 1_048_576


def parameter(model: Model, name: str) -> Parameter:
    found = model.parameter(name)
    assert found is not None
    return found


def test_three_models_and_the_default() -> None:
    assert list(MODELS) == ["emo-v1", "liveportrait", "wan2.2-s2v"]
    assert DEFAULT == "emo-v1"
    assert [model.check_model for model in MODELS.values()] == [
        "emo-detect-v1",
        "liveportrait-detect",
        "wan2.2-s2v-detect",
    ]
    assert [model.takes_boxes for model in MODELS.values()] == [True, False, False]
    assert all(model.name == model.runs == name for name, model in MODELS.items())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_found_by_its_name(name: str) -> None:
    assert model_named(name) is MODELS[name]
    assert model_named(name, {"my-emo": "emo-v1"}) is MODELS[name]


def test_a_deployment_runs_its_model() -> None:
    """Requests carry the deployment's name; limits, parameters, prices and the check are the model's."""
    model = model_named("my-emo", {"my-emo": "emo-v1"})
    assert (model.name, model.runs, model.check_model) == ("my-emo", "emo-v1", "emo-detect-v1")
    assert (model.parameters, model.voice, model.second_cny) == (EMO.parameters, EMO.voice, EMO.second_cny)


def test_a_model_s_own_name_cannot_be_taken() -> None:
    assert model_named("emo-v1", {"emo-v1": "liveportrait"}) is EMO


@pytest.mark.parametrize(
    ("name", "deployments"),
    [("emo-v1-detect", {}), ("", {}), ("EMO-V1", {}), ("mine", {"mine": "emo-v2"}), ("mine", {"other": "emo-v1"})],
)
def test_an_unknown_model_is_named(name: str, deployments: Mapping[str, str]) -> None:
    with pytest.raises(UnknownModelError) as caught:
        model_named(name, deployments)
    assert caught.value.name == name
    assert caught.value.known[:3] == tuple(MODELS)
    assert "emo-v1" in str(caught.value)


# Parameters


@pytest.mark.parametrize(
    ("model", "name", "good", "bad"),
    [
        (EMO, "style_level", ["normal", "calm", "active"], ["", "Normal", "speech", 1, None, ["calm"]]),
        (EMO, "ratio", ["1:1", "3:4"], ["4:3", "1x1", 1]),
        (LIVE, "template_id", ["normal", "calm", "active"], ["speech", True]),
        (LIVE, "eye_move_freq", [0, 0.5, 1, 1.0], [-0.1, 1.1, "0.5", True, math.nan, math.inf, None]),
        (LIVE, "video_fps", [15, 24, 30, 24.0], [14, 31, 24.5, "24", True, 1e999]),
        (LIVE, "mouth_move_strength", [0, 1.5], [1.51, -1]),
        (LIVE, "head_move_strength", [0, 0.7, 1], [1.01]),
        (LIVE, "paste_back", [True, False], [1, 0, "true", None]),
        (WAN, "resolution", ["480P", "720P"], ["480p", "1080P", 480]),
        (WAN, "style", ["speech"], ["sing", ""]),
    ],
)
def test_what_a_parameter_takes(model: Model, name: str, good: list[object], bad: list[object]) -> None:
    found = parameter(model, name)
    assert [value for value in good if not found.accepts(value)] == []
    assert [value for value in bad if found.accepts(value)] == []


@settings(derandomize=True, deadline=None, database=None)
@given(st.integers() | st.floats() | st.text() | st.booleans() | st.none() | st.lists(st.integers()))
def test_any_value_is_judged(value: object) -> None:
    for model in MODELS.values():
        for each in model.parameters:
            assert each.accepts(value) in (True, False)


@pytest.mark.parametrize("model", MODELS.values())
def test_defaults_are_taken_values(model: Model) -> None:
    assert all(each.default is None or each.accepts(each.default) for each in model.parameters)


@pytest.mark.parametrize(
    ("model", "name", "words"),
    [
        (EMO, "style_level", '"normal", "calm" or "active"'),
        (EMO, "ratio", '"1:1" or "3:4"'),
        (LIVE, "mouth_move_strength", "a number from 0 to 1.5"),
        (LIVE, "video_fps", "a whole number from 15 to 30"),
        (LIVE, "paste_back", "true or false"),
        (WAN, "style", '"speech"'),
    ],
)
def test_what_is_allowed_in_words(model: Model, name: str, words: str) -> None:
    assert parameter(model, name).describe() == words


def test_a_field_names_the_models_that_have_it() -> None:
    assert models_with("ratio") == ("emo-v1",)
    assert models_with("template_id") == ("liveportrait",)
    assert models_with("nonsense") == ()


@pytest.mark.parametrize(
    ("model", "check", "create"),
    [
        (EMO, {"ratio": "1:1"}, {"style_level": "normal"}),
        (
            LIVE,
            {},
            {
                "template_id": "normal",
                "eye_move_freq": 0.5,
                "video_fps": 24,
                "mouth_move_strength": 1,
                "head_move_strength": 0.7,
                "paste_back": True,
            },
        ),
        (WAN, {}, {"resolution": "480P"}),  # style is in no page: not sent unless set
    ],
)
def test_what_is_sent_when_nothing_is_set(model: Model, check: dict[str, object], create: dict[str, object]) -> None:
    assert model.for_call(Call.CHECK, {}) == check
    assert model.for_call(Call.CREATE, {}) == create
    assert model.effective({}) == check | create


def test_what_is_set_is_sent() -> None:
    assert EMO.for_call(Call.CREATE, {"style_level": "calm", "ratio": "3:4"}) == {"style_level": "calm"}
    assert EMO.for_call(Call.CHECK, {"style_level": "calm", "ratio": "3:4"}) == {"ratio": "3:4"}
    assert EMO.effective({"ratio": None}) == {"style_level": "normal", "ratio": "1:1"}
    assert WAN.for_call(Call.CREATE, {"style": "speech"}) == {"resolution": "480P", "style": "speech"}
    fps = LIVE.for_call(Call.CREATE, {"video_fps": 30.0})["video_fps"]
    assert (fps, type(fps)) == (30, int)


@pytest.mark.parametrize(
    ("model", "parameters", "words"),
    [
        (EMO, {"resolution": "720P"}, "emo-v1 has no parameter resolution"),
        (WAN, {"resolution": "1080P"}, 'resolution of wan2.2-s2v must be "480P" or "720P"'),
        (LIVE, {"video_fps": 60}, "video_fps of liveportrait must be a whole number from 15 to 30"),
    ],
)
def test_what_is_not_the_model_s_is_refused(model: Model, parameters: dict[str, object], words: str) -> None:
    for call in Call:
        with pytest.raises(ValueError, match=words):
            model.for_call(call, parameters)


# Limits


@pytest.mark.parametrize(
    ("model", "sides", "size", "ratio", "words"),
    [
        (
            EMO,
            (400, 7000),
            None,
            None,
            "a shorter side of at least 400 px and a longer side of at most 7000 px",
        ),
        (
            LIVE,
            (1, 4096),
            10 * MIB - 1,
            2.0,
            "a longer side of at most 4096 px, sides of at most 2 : 1, at most 10 MB",
        ),
        (
            WAN,
            (400, 7000),
            None,
            None,
            "a shorter side of at least 400 px and a longer side of at most 7000 px",
        ),
    ],
)
def test_picture_limits(
    model: Model, sides: tuple[int, int], size: int | None, ratio: float | None, words: str
) -> None:
    limits = model.picture
    assert ((limits.min_side, limits.max_side), limits.max_bytes, limits.max_ratio) == (sides, size, ratio)
    assert limits.describe() == words


@pytest.mark.parametrize(
    ("model", "fit", "long", "short"),
    [
        (EMO, [0.1, 59.9, 60], [60.01, 1e9], []),
        (LIVE, [1.01, 179.99], [180, 181], [1, 0.5, 0]),
        (WAN, [0.1, 19.99], [20, 21], []),
    ],
)
def test_voice_limits(model: Model, fit: list[float], long: list[float], short: list[float]) -> None:
    limits = model.voice
    assert not [s for s in fit if limits.too_long(s) or limits.too_short(s)]
    assert all(limits.too_long(s) for s in long)
    assert all(limits.too_short(s) for s in short)


def test_voice_limits_in_words() -> None:
    assert [model.voice.describe() for model in MODELS.values()] == [
        "at most 60 s, at most 15 MB",
        "more than 1 s, less than 180 s, at most 15 MB",
        "less than 20 s, at most 15 MB",
    ]
    assert [model.voice.max_bytes for model in MODELS.values()] == [15 * MIB, 15 * MIB - 1, 15 * MIB]


# Prices


@pytest.mark.parametrize(
    ("model", "parameters", "price"),
    [
        (EMO, {}, 0.08),
        (EMO, {"ratio": "1:1"}, 0.08),
        (EMO, {"ratio": "3:4"}, 0.16),
        (LIVE, {}, 0.02),
        (LIVE, {"video_fps": 30}, 0.02),
        (WAN, {}, 0.5),
        (WAN, {"resolution": "480P"}, 0.5),
        (WAN, {"resolution": "720P"}, 0.9),
        (EMO, {"ratio": "16:9"}, 0.16),  # a value that nobody knows counts with the dearest price
        (WAN, {"resolution": 480}, 0.9),
    ],
)
def test_what_a_second_costs(model: Model, parameters: dict[str, object], price: float) -> None:
    assert model.video_fee(1.0, parameters) == price
    assert model.video_fee(0.0, parameters) == 0.0
    assert model.video_fee(2.79, parameters) == round(2.79 * price, 6)


def test_prices_in_words() -> None:
    assert [model.describe_prices() for model in MODELS.values()] == [
        "CNY 0.08 a second (1:1), 0.16 (3:4)",
        "CNY 0.02 a second",
        "CNY 0.5 a second (480P), 0.9 (720P)",
    ]
    assert {model.check_cny for model in MODELS.values()} == {0.004}


def test_parameters_in_words() -> None:
    assert EMO.describe_parameters() == "style_level and ratio"
