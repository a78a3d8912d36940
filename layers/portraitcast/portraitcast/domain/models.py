"""The provider's models as data: what each takes, what it costs, and where its answers are read.

Adding a model is adding an entry to `MODELS` and its tests. Every figure is the provider's unless it says "ours". The
pages are those of Alibaba Cloud Model Studio (Beijing region):

- EMO: "EMO image detection API details", "EMO video generation API details", "EMO: models and pricing";
- LivePortrait: "LivePortrait image detection API details", "LivePortrait video generation API reference";
- Wan: "Wan - digital human", "wan2.2-s2v API reference".

"1 MB" is 1,048,576 bytes. Prices are those of the price lists of June 2026.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Box: TypeAlias = tuple[int, int, int, int]
"""``x1, y1, x2, y2`` in pixels of the original picture, origin top left."""

Value: TypeAlias = str | bool | int | float
"""A value of a model's parameter."""

MIB: Final = 1_048_576  # "1 MB" in this project, bytes
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # ours: goes into requests and into keys of the table
DEFAULT: Final = "emo-v1"


class UnknownModelError(LookupError):
    """No model and no deployment has this name; `name` is what was asked for, `known` the names that there are."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no model {name!r}; there are {', '.join(known)}")
        self.name = name
        self.known = known


@dataclass(frozen=True, slots=True)
class Boxes:
    """Where a portrait's face and its cut-out are: what a check answers and a create hands on unchanged.

    Attributes
    ----------
    face, ext
        The service's ``face_bbox`` and ``ext_bbox``.
    """

    face: Box
    ext: Box


class Call(StrEnum):
    """The call of the service that a parameter belongs to."""

    CHECK = "check"
    CREATE = "create"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that a person may set in the settings JSON.

    It is one of three: a choice (`choices`), true or false (`boolean`), or a number (`least` to `most`, both allowed).

    Attributes
    ----------
    name
        The service's own name, under ``parameters``.
    call
        Where it goes.
    default
        What holds where nobody has set it; the service's own default, or None where it is better not sent at all.
    choices
        The words that are allowed.
    boolean
        True where it is true or false.
    least, most
        The bounds of a number.
    whole
        True where the number is a whole one.
    """

    name: str
    call: Call
    default: Value | None
    choices: tuple[str, ...] = ()
    boolean: bool = False
    least: float = 0.0
    most: float = 0.0
    whole: bool = False

    def accepts(self, value: object) -> bool:
        """Say whether the service takes this value, of this very type: ``"0.5"`` is no number, ``1`` is not true."""
        if self.choices:
            return isinstance(value, str) and value in self.choices
        if self.boolean:
            return isinstance(value, bool)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) and (not math.isfinite(value) or (self.whole and not value.is_integer())):
            return False
        return self.least <= value <= self.most

    def sent(self, value: Value) -> Value:
        """Return an accepted value as it goes into a request: ``24.0`` for a whole number is ``24``."""
        return int(value) if self.whole else value

    def describe(self) -> str:
        """Return what is allowed, in words that end a sentence: ``"normal", "calm" or "active"``."""
        if self.choices:
            return _either([f'"{choice}"' for choice in self.choices])
        if self.boolean:
            return "true or false"
        return f"{'a whole' if self.whole else 'a'} number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What a portrait must hold to; every bound is allowed itself.

    Attributes
    ----------
    min_side, max_side
        The shorter and the longer side, px.
    max_bytes
        Of the file, or None where the service names none.
    max_ratio
        Longer side through shorter side, or None where the service names none.
    """

    min_side: int
    max_side: int
    max_bytes: int | None = None
    max_ratio: float | None = None

    def describe(self) -> str:
        """Return the limits in words."""
        least = f"a shorter side of at least {self.min_side} px and " if self.min_side > 1 else ""
        parts = [f"{least}a longer side of at most {self.max_side} px"]
        if self.max_ratio is not None:
            parts.append(f"sides of at most {self.max_ratio:g} : 1")
        if self.max_bytes is not None:
            parts.append(f"at most {_megabytes(self.max_bytes)}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class VoiceLimits:
    """What a voice must hold to.

    Attributes
    ----------
    max_bytes
        Of the file; allowed itself.
    min_seconds, max_seconds
        The length in seconds; 0 where the service names no least length.
    strict
        True where both lengths are outside: the service says "longer than" and "shorter than".
    """

    max_bytes: int
    max_seconds: float
    strict: bool = False
    min_seconds: float = 0.0

    def at_most(self, seconds: float | None) -> float:
        """Return a voice's length as fees and time are reckoned with it: the longest where nobody has measured it."""
        return self.max_seconds if seconds is None else seconds

    def too_long(self, seconds: float) -> bool:
        """Say whether a voice of this length is too long."""
        return seconds >= self.max_seconds if self.strict else seconds > self.max_seconds

    def too_short(self, seconds: float) -> bool:
        """Say whether a voice of this length is too short."""
        return seconds < self.min_seconds or (self.strict and 0 < self.min_seconds == seconds)

    def describe_longest(self) -> str:
        """Return the greatest length in words: ``at most 60 s``, ``less than 20 s``."""
        return f"{'less than' if self.strict else 'at most'} {self.max_seconds:g} s"

    def describe_shortest(self) -> str:
        """Return the least length in words, "" where there is none: ``more than 1 s``."""
        if not self.min_seconds:
            return ""
        return f"{'more than' if self.strict else 'at least'} {self.min_seconds:g} s"

    def describe(self) -> str:
        """Return the limits in words."""
        parts = [self.describe_shortest(), self.describe_longest(), f"at most {_megabytes(self.max_bytes)}"]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Model:
    """One model: how it is asked, what it takes, what it costs.

    Attributes
    ----------
    name
        What requests call it: the model's own name, or that of a dedicated deployment.
    runs
        The model's own name, whatever the deployment is called.
    check_model
        The model of its portrait check.
    verdict
        The field of the check's ``output`` that says whether the portrait passed.
    takes_boxes
        Whether its check answers boxes and its create needs them.
    parameters
        What a person may set.
    picture, voice
        The limits of its two inputs.
    check_cny
        The price of a portrait check, CNY; charged also for one that does not pass, as far as is known.
    second_cny
        The price of a second of finished video, CNY, by the value of the parameter `priced_by`; with the one key ``""``
        where there is one price.
    priced_by
        The parameter that decides the price, or None.
    good_for
        A few words for the docs and the settings' errors.
    """

    name: str
    runs: str
    check_model: str
    verdict: str
    takes_boxes: bool
    parameters: tuple[Parameter, ...]
    picture: PictureLimits
    voice: VoiceLimits
    check_cny: float
    second_cny: Mapping[str, float]
    priced_by: str | None
    good_for: str

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of this name, None if the model has none."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def effective(self, parameters: Mapping[str, object]) -> dict[str, object]:
        """Return what holds for each parameter: what was set, else its default; without those that aren't sent."""
        held: dict[str, object] = {}
        for parameter in self.parameters:
            value = parameters.get(parameter.name)
            value = parameter.default if value is None else value
            if value is not None:
                held[parameter.name] = value
        return held

    def for_call(self, call: Call, parameters: Mapping[str, object]) -> dict[str, object]:
        """Return the parameters of one call as they are sent.

        Raises
        ------
        ValueError
            A parameter that the model doesn't have, or a value that it doesn't take; the message says which, and what
            is allowed.
        """
        for name, value in parameters.items():
            parameter = self.parameter(name)
            if parameter is None:
                raise ValueError(f"{self.name} has no parameter {name}")
            if value is not None and not parameter.accepts(value):
                raise ValueError(f"{name} of {self.name} must be {parameter.describe()}")
        held = self.effective(parameters)
        return {
            parameter.name: parameter.sent(held[parameter.name])  # type: ignore[arg-type]  # accepted above
            for parameter in self.parameters
            if parameter.call is call and parameter.name in held
        }

    def video_fee(self, seconds: float, parameters: Mapping[str, object]) -> float:
        """Return the price of a video, CNY, rounded to 6 digits.

        Parameters
        ----------
        seconds
            The length of the finished video; failed tasks are free.
        parameters
            As set; what isn't set counts with its default, and a value that nobody knows with the dearest price.

        Notes
        -----
        A dedicated deployment is paid by the hour, which no job can be charged with; its videos count with the price
        of the model that it runs.
        """
        by = self.effective(parameters).get(self.priced_by) if self.priced_by else ""
        price = self.second_cny.get(by) if isinstance(by, str) else None
        return round(seconds * (max(self.second_cny.values()) if price is None else price), 6)

    def describe_prices(self) -> str:
        """Return the prices in words: ``CNY 0.08 a second (1:1), 0.16 (3:4)``."""
        prices = list(self.second_cny.items())
        first, rest = prices[0], prices[1:]
        label = f" ({first[0]})" if first[0] else ""
        return ", ".join([f"CNY {first[1]:g} a second{label}", *(f"{price:g} ({value})" for value, price in rest)])

    def describe_parameters(self) -> str:
        """Return the names of its parameters in words: ``style_level and ratio``."""
        return _either([parameter.name for parameter in self.parameters], "and")


_MOVES: Final = ("normal", "calm", "active")

_EMO: Final = Model(
    name="emo-v1",
    runs="emo-v1",
    check_model="emo-detect-v1",
    verdict="check_pass",
    takes_boxes=True,
    parameters=(
        Parameter("style_level", Call.CREATE, "normal", choices=_MOVES),  # EMO video generation, parameters.style_level
        # EMO image detection, parameters.ratio: head or half body. Leaving it out was refused, so it is always sent.
        Parameter("ratio", Call.CHECK, "1:1", choices=("1:1", "3:4")),
    ),
    picture=PictureLimits(min_side=400, max_side=7000),  # EMO image detection, image requirements
    # EMO video generation, audio requirements. An older page says less than 60 s: parts that we cut stay below.
    voice=VoiceLimits(max_bytes=15 * MIB, max_seconds=60.0),
    check_cny=0.004,  # EMO pricing, a picture
    second_cny=MappingProxyType({"1:1": 0.08, "3:4": 0.16}),  # EMO pricing
    priced_by="ratio",
    good_for="close-ups with a natural mouth",
)
_LIVEPORTRAIT: Final = Model(
    name="liveportrait",
    runs="liveportrait",
    check_model="liveportrait-detect",
    verdict="pass",
    takes_boxes=False,
    parameters=(  # LivePortrait video generation, parameters; ranges and types as its OpenAPI description has them
        Parameter("template_id", Call.CREATE, "normal", choices=_MOVES),
        Parameter("eye_move_freq", Call.CREATE, 0.5, least=0, most=1),
        Parameter("video_fps", Call.CREATE, 24, least=15, most=30, whole=True),
        Parameter("mouth_move_strength", Call.CREATE, 1, least=0, most=1.5),
        Parameter("head_move_strength", Call.CREATE, 0.7, least=0, most=1),
        Parameter("paste_back", Call.CREATE, True, boolean=True),
    ),
    # LivePortrait, input limits: smaller than 10 MB; the page names no shortest side.
    picture=PictureLimits(min_side=1, max_side=4096, max_bytes=10 * MIB - 1, max_ratio=2.0),
    # LivePortrait, input limits: smaller than 15 MB, longer than 1 s, shorter than 3 minutes.
    voice=VoiceLimits(max_bytes=15 * MIB - 1, max_seconds=180.0, strict=True, min_seconds=1.0),
    check_cny=0.004,  # LivePortrait pricing, a picture
    second_cny=MappingProxyType({"": 0.02}),  # LivePortrait pricing
    priced_by=None,
    good_for="fast and cheap, news-reading",
)
_WAN: Final = Model(
    name="wan2.2-s2v",
    runs="wan2.2-s2v",
    check_model="wan2.2-s2v-detect",
    verdict="check_pass",
    takes_boxes=False,
    parameters=(
        Parameter("resolution", Call.CREATE, "480P", choices=("480P", "720P")),  # wan2.2-s2v, parameters.resolution
        # Seen in other clients' requests and in no page: sent only where somebody sets it.
        Parameter("style", Call.CREATE, None, choices=("speech",)),
    ),
    picture=PictureLimits(min_side=400, max_side=7000),  # wan2.2-s2v, image requirements
    voice=VoiceLimits(max_bytes=15 * MIB, max_seconds=20.0, strict=True),  # wan2.2-s2v, audio requirements
    check_cny=0.004,  # Wan - digital human, pricing: a picture, also one that does not pass
    second_cny=MappingProxyType({"480P": 0.5, "720P": 0.9}),  # Wan - digital human, pricing
    priced_by="resolution",
    good_for="half and whole body, cartoons, singing",
)

MODELS: Final[Mapping[str, Model]] = MappingProxyType({model.name: model for model in (_EMO, _LIVEPORTRAIT, _WAN)})
"""Every model by its own name, in the order in which docs and messages list them."""

_NO_DEPLOYMENTS: Final[Mapping[str, str]] = MappingProxyType({})


def model_named(name: str, deployments: Mapping[str, str] = _NO_DEPLOYMENTS) -> Model:
    """Return a model by its own name, or by that of a dedicated deployment.

    Parameters
    ----------
    name
        Such as ``emo-v1``, or the name that a deployment was given.
    deployments
        The deployments' names and the models that they run. A model's own name always means that model.

    Raises
    ------
    UnknownModelError
        Neither a model nor a deployment has this name, or the deployment runs a model that nobody knows.
    """
    if name in MODELS:
        return MODELS[name]
    model = MODELS.get(deployments.get(name, ""))
    if model is None:
        raise UnknownModelError(name, (*MODELS, *(each for each in deployments if deployments[each] in MODELS)))
    return replace(model, name=name)


@dataclass(frozen=True, slots=True)
class StackModels:
    """The models that the jobs of a stack may name.

    Attributes
    ----------
    default
        What holds where no settings name a model: a model, or a deployment.
    deployments
        The names of dedicated deployments, and the models that they run.
    """

    default: str = DEFAULT
    deployments: Mapping[str, str] = field(default_factory=lambda: _NO_DEPLOYMENTS)

    @classmethod
    def read(cls, default: str, deployments: str) -> StackModels:
        """Read the stack's parameters DefaultModel and ModelDeployments (``name=model``, several with commas between).

        Raises
        ------
        ValueError
            Which of the two makes no sense, what it holds, and what to write instead.
        """
        found: dict[str, str] = {}
        for entry in filter(None, map(str.strip, deployments.split(","))):
            name, _, runs = (word.strip() for word in entry.partition("="))
            if not _NAME.fullmatch(name) or runs not in MODELS:
                raise ValueError(
                    f"ModelDeployments holds {entry[:100]!r}. Write name=model, several with commas between, such as "
                    f"my-emo=emo-v1: a deployment's own name, and which of {', '.join(MODELS)} it runs."
                )
            if name in MODELS or name in found:
                why = "is a model's own name" if name in MODELS else "stands there twice"
                raise ValueError(f"ModelDeployments holds {entry[:100]!r}, and {name} {why}. Take this entry out.")
            found[name] = runs
        try:
            model_named(default, found)
        except UnknownModelError as error:
            raise ValueError(
                f"DefaultModel is {default[:100]!r}. Write one of {', '.join(error.known)}; a dedicated deployment is "
                "named in ModelDeployments first."
            ) from None
        return cls(default, MappingProxyType(found))


def models_with(parameter: str) -> tuple[str, ...]:
    """Return the names of the models that have a parameter of this name, for an error that names them."""
    return tuple(name for name, model in MODELS.items() if model.parameter(parameter))


def _either(words: list[str], last: str = "or") -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


def _megabytes(size: int) -> str:
    return f"{math.ceil(size / MIB * 1000) / 1000:g} MB"
