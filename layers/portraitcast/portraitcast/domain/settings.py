"""The settings JSON: what a person may write beside a voice, and what holds for a job in the end.

The shape is the service's own request body with every field optional. Nothing here reads a file or a bucket; links
are judged by their form only and are never fetched.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlsplit

from portraitcast.domain.models import (
    DEFAULT,
    MODELS,
    Box,
    Model,
    Parameter,
    UnknownModelError,
    Value,
    model_named,
    models_with,
)
from portraitcast.domain.problems import NAME_MAX, Problem, ProblemError, controls, plain, scrub, show_link
from portraitcast.domain.uploads import KEY_MAX_BYTES, PORTRAIT_SUFFIXES, is_hidden

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS_MAX_BYTES: Final = 64 * 1024  # ours: a settings JSON is some hundred bytes
REFERENCE_MAX_CHARS: Final = 200  # ours: an order number, an id, a short sentence
LINK_MAX_CHARS: Final = 2048  # ours: a link in a settings JSON; the longest that is safe everywhere on its way
BOX_MAX: Final = max(model.picture.max_side for model in MODELS.values() if model.takes_boxes)
SUM_MAX_CNY: Final = 1_000_000  # ours: beyond it a sum is a slip
RATIOS: Final = ("1:1", "3:4")  # EMO image detection, parameters.ratio; the first is the default and the cheaper one

_FIELDS: Final = {
    "$": ("model", "input", "parameters", "job"),
    "$.job": ("reference", "approved_cny"),
    "$.input": ("image_url", "audio_url", "face_bbox", "ext_bbox"),
    "$.parameters": tuple(dict.fromkeys(p.name for model in MODELS.values() for p in model.parameters)),
}
_OWN_ONLY: Final = (
    "audio_url",
    "face_bbox",
    "ext_bbox",
)  # one job's voice and one picture's boxes: no folder's default
_PICTURE: Final = f"an http(s) link, or the name of an object that ends in {', '.join(sorted(PORTRAIT_SUFFIXES))}"

# A colon is lawful in an object's name, so only "scheme://" and the schemes that people do write are taken for links.
_MEANT_AS_LINK: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*://|(?:https?|ftp|oss|s3|gs|file|data|blob):)", re.IGNORECASE)
_NO_DEPLOYMENTS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Settings:
    """One settings JSON as written; a field that isn't given is None.

    Attributes
    ----------
    image_url
        An http(s) link, or a name that `resolve_name` turns into an object's key.
    audio_url
        An http(s) link; never in a folder's settings.
    face_bbox, ext_bbox
        Both or neither; never in a folder's settings.
    reference
        What the owner's own systems call the job; never in a folder's settings.
    approved_cny
        The price that this job may have; never in a folder's settings.
    """

    model: str | None = None
    image_url: str | None = None
    audio_url: str | None = None
    face_bbox: Box | None = None
    ext_bbox: Box | None = None
    parameters: dict[str, Value] = field(default_factory=dict)
    reference: str | None = None
    approved_cny: float | None = None


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds for one job, after its own JSON, the folder's and the defaults.

    `model` is the name that requests carry; `runs` is the model behind it, which differs for a dedicated deployment.
    """

    model: str
    runs: str
    parameters: dict[str, Value]
    face_bbox: Box | None = None
    ext_bbox: Box | None = None

    @property
    def definition(self) -> Model:
        """The model as data."""
        return model_named(self.model, {self.model: self.runs})

    @property
    def ratio(self) -> str:
        """The ratio, of a model that has one."""
        return str(self.parameters.get("ratio", RATIOS[0]))


def parse_settings(
    data: bytes, key: str, *, folder_defaults: bool, deployments: Mapping[str, str] = _NO_DEPLOYMENTS
) -> Settings:
    """Read one settings JSON.

    A parameter must be one that some model has, with a value that it takes; whether it is one of the job's model is
    known only when all settings are together (`effective`).

    Parameters
    ----------
    data
        The object's bytes: UTF-8, with or without a byte order mark, at most `SETTINGS_MAX_BYTES`.
    key
        The object's key: its last part is named in every problem, its folder is where names in the JSON begin.
    folder_defaults
        True for a folder's ``settings.json``, which may hold neither ``audio_url`` nor boxes.
    deployments
        Names of dedicated deployments, and the models that they run.

    Raises
    ------
    ProblemError
        ``SettingsInvalid``, with the file, the JSON path, what is allowed and what was found.
    """
    file = _File(key)
    root = file.object_at("$", _load(data, file))
    inputs = file.object_at("$.input", root.get("input"))
    parameters = file.object_at("$.parameters", root.get("parameters"))
    job = file.object_at("$.job", root.get("job"))

    if folder_defaults:
        if root.get("job") is not None:
            file.refuse(
                "$.job",
                "is about one job, and may only stand in its own JSON",
                "Move it into the JSON that has the name of the job.",
            )
        for name in _OWN_ONLY:
            if inputs.get(name) is not None:
                file.refuse(
                    f"$.input.{name}",
                    "may only stand in one job's own JSON, not in a folder's settings.json",
                    f"Move {name} into the JSON that has the name of the job.",
                )

    face, ext = (file.box_at(f"$.input.{name}", inputs.get(name)) for name in ("face_bbox", "ext_bbox"))
    if (face is None) != (ext is None):
        missing = "face_bbox" if face is None else "ext_bbox"
        file.refuse(
            f"$.input.{missing}",
            "is missing: face_bbox and ext_bbox come both or neither",
            f"Add {missing}, or leave both out and the portrait check finds them.",
        )
    return Settings(
        model=file.model_at("$.model", root.get("model"), deployments),
        image_url=file.picture_at("$.input.image_url", inputs.get("image_url")),
        audio_url=file.link_at("$.input.audio_url", inputs.get("audio_url")),
        face_bbox=face,
        ext_bbox=ext,
        parameters={
            name: file.parameter_at(f"$.parameters.{name}", name, value)
            for name, value in parameters.items()
            if value is not None
        },
        reference=file.reference_at("$.job.reference", job.get("reference")),
        approved_cny=file.sum_at("$.job.approved_cny", job.get("approved_cny")),
    )


def claims_voice(data: bytes) -> bool:
    """Say whether this JSON is a job by itself: an object with an ``input.audio_url``, right or wrong otherwise."""
    try:
        root = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    inputs = root.get("input") if isinstance(root, dict) else None
    return isinstance(inputs, dict) and inputs.get("audio_url") is not None


def effective(
    own: Settings | None,
    folder: Settings | None,
    *,
    picture_size: tuple[int, int] | None,
    own_key: str | None,
    folder_key: str | None = None,
    default_model: str = DEFAULT,
    deployments: Mapping[str, str] = _NO_DEPLOYMENTS,
) -> Effective:
    """Return what holds for a job: each field from its own JSON, else the folder's, else the default.

    A folder's parameters are defaults for its own model; a job of another model takes only those that it has.

    Parameters
    ----------
    own, folder
        The job's own settings and those of its folder, where there are any.
    picture_size
        Width and height of the portrait in pixels; None where it is a link that we never fetch.
    own_key, folder_key
        Keys of the two JSONs, to name them in a problem.
    default_model, deployments
        The stack's default model, and the names of dedicated deployments with the models that they run.

    Raises
    ------
    ProblemError
        ``SettingsInvalid``: a parameter of another model, a box that leaves the picture, boxes for a model that takes
        none, or an own ratio that disagrees with the boxes.
    """
    mine, theirs = own or Settings(), folder or Settings()
    file = _File(own_key or "")
    folder_model = _model(theirs.model or default_model, deployments)
    model = _model(mine.model, deployments) if mine.model else folder_model
    _check_parameters(_File(folder_key or "settings.json"), theirs, folder_model)
    _check_parameters(file, mine, model)
    parameters: dict[str, Value] = {}
    for parameter in model.parameters:
        value = mine.parameters.get(parameter.name, theirs.parameters.get(parameter.name, parameter.default))
        if value is not None and not parameter.accepts(value):  # the folder's, for another model
            value = parameter.default
        if value is not None:
            parameters[parameter.name] = value
    if mine.face_bbox is None or mine.ext_bbox is None:
        return Effective(model.name, model.runs, parameters)
    if not model.takes_boxes:
        takers = " or ".join(name for name, other in MODELS.items() if other.takes_boxes)
        file.refuse(
            "$.input.face_bbox", f"belongs to {takers}, and this job's model is {model.name}", "Leave the boxes out."
        )
    if picture_size is not None:
        file.check_inside("$.input.face_bbox", mine.face_bbox, picture_size)
        file.check_inside("$.input.ext_bbox", mine.ext_bbox, picture_size)
    ratio = _ratio_of(mine.ext_bbox)
    if mine.parameters.get("ratio") not in (None, ratio):
        file.refuse(
            "$.parameters.ratio",
            f"must be {_shown(ratio)} with this ext_bbox, not {_shown(mine.parameters['ratio'])}",
            "Leave ratio out, it follows from ext_bbox, or change ext_bbox.",
            limit=_shown(ratio),
            measured=_shown(mine.parameters["ratio"]),
        )
    return Effective(model.name, model.runs, {**parameters, "ratio": ratio}, mine.face_bbox, mine.ext_bbox)


def _model(name: str, deployments: Mapping[str, str]) -> Model:
    try:
        return model_named(name, deployments)
    except UnknownModelError:  # a deployment that was taken out of the parameter after its JSON was read
        return MODELS[DEFAULT]


def _check_parameters(file: _File, settings: Settings, model: Model) -> None:
    """Refuse a parameter that the model doesn't have, naming the model that has it."""
    for name, value in settings.parameters.items():
        parameter = model.parameter(name)
        path = f"$.parameters.{name}"
        if parameter is None:
            file.refuse(
                path,
                f"belongs to {' and '.join(models_with(name))}, and the model here is {model.name}",
                f"Take it out, or choose the model; {model.name} has {model.describe_parameters()}.",
                limit=model.describe_parameters(),
                measured=name,
            )
        if not parameter.accepts(value):
            file.refuse_value(path, parameter.describe(), value)


def is_link(value: str) -> bool:
    """Say whether a value is a link that may be passed on to the provider."""
    return _link_fault(value) is None


def resolve_name(name: str, json_key: str) -> str:
    """Return the key of the object that a settings JSON names, as written: it isn't brought into a Unicode form.

    Parameters
    ----------
    name
        Relative to the JSON's folder; ``../`` goes up, but never out of the bucket.
    json_key
        Key of the settings JSON.

    Raises
    ------
    ProblemError
        ``SettingsInvalid``: empty, absolute, out of the bucket, no name of an object, or longer than a key may be.
    """
    file, path = _File(json_key), "$.input.image_url"
    what_to_do = f"Name an object relative to the folder of {file.name}, such as anna.png or ../anna.png."
    if name.startswith("/"):
        file.refuse(path, f"must be relative to the JSON's folder, not {_shown(name)}", what_to_do)
    parts = json_key.split("/")[:-1]
    for part in (steps := name.split("/")):
        if part == ".." and not parts:
            file.refuse(path, f"leaves the bucket: {_shown(name)}", what_to_do)
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    if steps[-1] in ("", ".", "..") or "\0" in name or not _encodable(name):
        file.refuse(path, f"is no name of an object: {_shown(name)}", what_to_do)
    key = "/".join(parts)
    if (length := len(key.encode())) > KEY_MAX_BYTES:
        file.refuse(
            path,
            "is too long for the name of an object",
            what_to_do,
            limit=f"{KEY_MAX_BYTES} bytes",
            measured=f"{length} bytes",
        )
    return key


class _File:
    """One settings JSON by name, to read its fields strictly and to refuse them in one form of words."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.name = plain(key.rpartition("/")[2], NAME_MAX) or "the settings JSON"

    def refuse(
        self, path: str, fault: str, what_to_do: str, *, limit: str | None = None, measured: str | None = None
    ) -> NoReturn:
        message = f"{self.name}: {path} {fault}."
        raise ProblemError(Problem("SettingsInvalid", message, what_to_do, limit=limit, measured=measured))

    def refuse_value(self, path: str, allowed: str, value: object, *, hint: str = "") -> NoReturn:
        what_to_do = f"{hint or f'Write {allowed}'}, or leave the field out, and drop {self.name} again."
        shown = _shown(value)
        self.refuse(path, f"must be {allowed}, not {shown}", what_to_do, limit=allowed, measured=shown)

    def object_at(self, path: str, value: object) -> dict[str, object]:
        """Return the object at a path, all of whose names are known; not given is empty."""
        fields = _FIELDS[path]
        if value is None and path != "$":
            return {}
        if not isinstance(value, dict):
            self.refuse_value(path, f"an object with any of {', '.join(fields)}", value, hint="Write an object")
        for name in value:
            if name not in fields:
                self.refuse(
                    _step(path, name),
                    f"is not known here; allowed are {', '.join(fields)}",
                    f"Take the field out or mend its name, and drop {self.name} again.",
                    limit=", ".join(fields),
                    measured=_shown(name),
                )
        return value

    def model_at(self, path: str, value: object, deployments: Mapping[str, str]) -> str | None:
        if value is None:
            return None
        try:
            return model_named(value, deployments).name if isinstance(value, str) else self._no_model(path, value)
        except UnknownModelError as error:
            # People write "emo-v1-detect" or "emo-detect-v1" here, the check's model, which isn't theirs to choose.
            self._no_model(path, value, error.known)

    def _no_model(self, path: str, value: object, known: tuple[str, ...] = tuple(MODELS)) -> NoReturn:
        self.refuse_value(path, " or ".join(map(_shown, known)), value)

    def parameter_at(self, path: str, name: str, value: object) -> Value:
        """Return a parameter's value if some model takes it."""
        takers = [p for model in MODELS.values() if (p := model.parameter(name)) is not None]
        if not any(parameter.accepts(value) for parameter in takers):
            self.refuse_value(path, _allowed(takers), value)
        return value  # type: ignore[return-value]  # a parameter has accepted it

    def sum_at(self, path: str, value: object) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < SUM_MAX_CNY:
            self.refuse_value(path, f"a sum in CNY, from 0 to below {SUM_MAX_CNY}", value)
        return float(value)

    def reference_at(self, path: str, value: object) -> str | None:
        """Return a reference; an attribute of Amazon SNS carries it, so it is a text without control characters."""
        if value is None:
            return None
        if (
            not isinstance(value, str)
            or not 0 < len(value) <= REFERENCE_MAX_CHARS
            or any(controls(char) for char in value)
            or not value.strip()
            or not _encodable(value)
        ):
            allowed = f"a text of 1 to {REFERENCE_MAX_CHARS} characters, none of them a control character"
            self.refuse_value(path, allowed, value)
        return value

    def box_at(self, path: str, value: object) -> Box | None:
        if value is None:
            return None
        allowed = f"[x1, y1, x2, y2], whole pixels with 0 <= x1 < x2 <= {BOX_MAX}, the same for y"
        hint = "Write four whole numbers"
        if not isinstance(value, list) or [type(number) for number in value] != [int] * 4:
            self.refuse_value(path, allowed, value, hint=hint)
        x1, y1, x2, y2 = value
        if not (0 <= x1 < x2 <= BOX_MAX and 0 <= y1 < y2 <= BOX_MAX):
            self.refuse_value(path, allowed, value, hint=hint)
        return x1, y1, x2, y2

    def check_inside(self, path: str, box: Box, size: tuple[int, int]) -> None:
        width, height = size
        if box[2] > width or box[3] > height:
            self.refuse_value(
                path,
                f"inside the picture of {width} x {height} px",
                list(box),
                hint="Write the box in pixels of this very picture",
            )

    def link_at(self, path: str, value: object) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self.refuse_value(path, "an http(s) link", value)
        if fault := _link_fault(value):
            self._refuse_link(path, fault, value)
        return value

    def picture_at(self, path: str, value: object) -> str | None:
        """Return an http(s) link, or the name of a picture that `resolve_name` finds nothing wrong with."""
        if value is None:
            return None
        if not isinstance(value, str):
            self.refuse_value(path, _PICTURE, value)
        if _MEANT_AS_LINK.match(value):
            return self.link_at(path, value)
        name = value.rpartition("/")[2]
        # A hidden file is left alone in the bucket, so a job would wait for it for ever.
        if is_hidden(resolve_name(value, self.key)) or not name.lower().endswith(tuple(PORTRAIT_SUFFIXES)):
            self.refuse_value(path, _PICTURE, value)
        return value

    def _refuse_link(self, path: str, fault: str, value: str) -> NoReturn:
        shown = _shown(value)
        what_to_do = f"Write a link that begins with http:// or https://, and drop {self.name} again."
        self.refuse(path, f"{fault}: {shown}", what_to_do, limit="an http(s) link", measured=shown)


def _load(data: bytes, file: _File) -> object:
    """Parse strictly: the json module alone takes NaN and lets the last of two equal names win."""
    what_to_do = f"Save {file.name} as plain JSON in UTF-8, the shape of EMO's request body, and drop it again."

    def without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in pairs:
            if name in found:
                file.refuse("$", f"holds the field {_shown(name)} twice in one object", what_to_do)
            found[name] = value
        return found

    def no_constant(name: str) -> NoReturn:
        file.refuse("$", f"holds {name}, which is no JSON number", what_to_do)

    if len(data) > SETTINGS_MAX_BYTES:
        file.refuse(
            "$",
            "is too big for settings",
            what_to_do,
            limit=f"{SETTINGS_MAX_BYTES} bytes",
            measured=f"{len(data)} bytes",
        )
    try:
        return json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=without_repeats, parse_constant=no_constant
        )  # Any: judged field by field
    except UnicodeDecodeError:
        file.refuse("$", "is not UTF-8 text", what_to_do)
    except json.JSONDecodeError as error:
        file.refuse("$", f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}", what_to_do)
    except ValueError:  # an integer of more digits than Python reads
        file.refuse("$", "holds a number that is too long", what_to_do)
    except RecursionError:
        file.refuse("$", "is nested too deeply", what_to_do)


def _link_fault(value: str) -> str | None:
    """Return what is wrong with a link, to be put behind its path, or None."""
    if len(value) > LINK_MAX_CHARS:
        return f"is a link of more than {LINK_MAX_CHARS} characters"
    if any(char.isspace() or controls(char) for char in value):
        return "holds white space or a control character, which no link may"
    try:
        link = urlsplit(value)
        host, _ = link.hostname, link.port  # reading the port is what checks it
    except ValueError:
        return "is not a link"
    if link.scheme not in ("http", "https"):
        return "must be an http or https link"
    return None if host else "is a link without a host"


def _allowed(parameters: list[Parameter]) -> str:
    return " or ".join(dict.fromkeys(parameter.describe() for parameter in parameters))


def _ratio_of(box: Box) -> str:
    """Return the ratio nearer to a box's width by height; in the very middle the cheaper one."""
    shape = (box[2] - box[0]) / (box[3] - box[1])
    return "1:1" if abs(shape - 1) <= abs(shape - 3 / 4) else "3:4"


def _shown(value: object) -> str:
    """Return a found value as a message may repeat it: one short line, without what a link hides."""
    if isinstance(value, str) and "//" in value:
        value = show_link(value)
    try:
        written = json.dumps(value, ensure_ascii=False)
    except RecursionError:  # what was just shallow enough to be read can be too deep to be written
        return "something nested very deeply"
    return plain(scrub(written))


def _step(path: str, name: str) -> str:
    return f"{path}.{name}" if re.fullmatch(r"[A-Za-z_]\w{0,40}", name, re.ASCII) else f"{path}[{_shown(name)}]"


def _encodable(text: str) -> bool:
    """Say whether text is free of half surrogate pairs, which JSON can write and UTF-8 can't."""
    return not any(unicodedata.category(char) == "Cs" for char in text)
