"""Match a job's files: which uploads make a job, with which portrait and settings, and what is missing.

Nothing here changes anything: `match` returns one of `Nothing`, `Waiting`, `Rejected` and `Ready`. What must be read
is asked of a `Lookup`.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from portraitcast.domain.job import Candidates, Inputs, Portrait, SettingsFile, Voice
from portraitcast.domain.models import StackModels
from portraitcast.domain.problems import Problem, ProblemError
from portraitcast.domain.settings import (
    SETTINGS_MAX_BYTES,
    Effective,
    Settings,
    claims_voice,
    effective,
    is_link,
    parse_settings,
    resolve_name,
)
from portraitcast.domain.uploads import (
    KEY_MAX_BYTES,
    LONGEST_OUTPUT_SUFFIX,
    RESERVED_NAME,
    Facts,
    Name,
    Upload,
    classify,
    same_key,
    short_hash,
)

if TYPE_CHECKING:
    from portraitcast.domain.models import Model

LIST_MAX: Final = 20  # ours: entries of a list in a report; the full count stands beside it

_BEING_READ: Final = "The file is being read."


# ---------------------------------------------------------------------- what is asked, and what is answered
@dataclass(frozen=True, slots=True)
class Pictures:
    """What a folder knows of its pictures: the keys of up to 20 of them, and how many there are."""

    keys: tuple[str, ...]
    count: int


class Lookup(Protocol):
    """What `match` may ask while it matches. Every answer is read consistently."""

    def same_name(self) -> tuple[Upload, ...]:
        """Pictures of the job's folder that have its name."""

    def named(self, key: str) -> Upload | None:
        """The picture that a settings JSON names by key, in whatever folder."""

    def pictures(self) -> Pictures:
        """The pictures of the job's folder."""

    def forms(self, key: str) -> tuple[Upload, ...]:
        """The pictures that have this key, in whatever Unicode form."""

    def facts(self, upload: Upload) -> Facts | None:
        """What reading a voice or a picture found; None while it is being read."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is known when a job's files are matched.

    `images_at` and `settings_at` are the epoch times of the folder's last change of pictures and of settings.json;
    `models` are those that a job of this stack may name, `results_prefix` is the stack's ResultsPrefix.
    """

    name: Name
    sounds: tuple[Upload, ...]
    jsons: tuple[Upload, ...]
    folder_settings: tuple[Upload, ...]
    images_at: float
    settings_at: float
    now: float
    pair_seconds: float
    settle_seconds: float
    models: StackModels = field(default_factory=StackModels)
    results_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No file here makes a job."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something is missing, must be answered, or hasn't arrived whole.

    `again_at` is when time alone may change that; `being_read` says that prepare has it.
    """

    inputs: Inputs
    problem: Problem | None = None
    message: str = ""
    candidates: Candidates | None = None
    again_at: float | None = None
    being_read: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The owner must mend something; `shared` if it may be a file that other jobs use too."""

    inputs: Inputs
    problems: tuple[Problem, ...]
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """All is there; the job may be sent from `ready_at` on. `approved_cny` is what its own JSON approves."""

    inputs: Inputs
    ready_at: float
    approved_cny: float | None = None


Match: TypeAlias = Nothing | Waiting | Rejected | Ready


def identity_of(inputs: Inputs) -> str:
    """Return what names the versions of all files that a match came from."""
    files = [inputs.voice, inputs.portrait, *inputs.settings_files]
    versions = [[getattr(file, part, None) for part in ("key", "version", "etag", "link")] for file in files]
    return _digest([versions, inputs.all_own])


def fingerprint_of(inputs: Inputs) -> str:
    """Return what names the content that the video depends on: voice, portrait, effective settings."""
    contents = [(file.sha256 or file.link) if file else None for file in (inputs.voice, inputs.portrait)]
    return _digest([*contents, asdict(inputs.settings) if inputs.settings else None])


def match(gathered: Gathered, lookup: Lookup) -> Match:
    """Say what a job's own files and its folder come to: first own faults, then questions, then the portrait."""
    gathered = replace(gathered, sounds=_by_key(gathered.sounds), jsons=_by_key(gathered.jsons))
    if not _has_source(gathered):
        return Nothing()
    inputs = Inputs(
        _stem(gathered),
        # Known before anything can be refused: with a bad settings.json, too, a new voice is a new upload.
        own=tuple(f.tag for f in [*gathered.jsons, *gathered.sounds]),
        all_own=tuple(sorted(f.tag for f in [*gathered.sounds, *gathered.jsons])),
        folders=(short_hash(gathered.name.folder),),
    )
    for upload in (*gathered.jsons, *gathered.folder_settings):
        if upload.unread:
            return _being_read(inputs)
        if _may_be_arriving(upload, gathered):
            return _arriving(inputs, gathered, upload)
    gathered = replace(gathered, jsons=_without_twin_jsons(gathered.jsons))
    settings = _settings(gathered, lookup, inputs)
    if not isinstance(settings, _Settings):
        return settings
    voice = _voice(gathered, settings, lookup)
    if isinstance(voice, Waiting) and voice.being_read:
        return _being_read(_read_beside(gathered, settings, lookup, voice.inputs))
    if not isinstance(voice, _VoiceFound):
        return voice
    portrait = _portrait(gathered, settings, lookup, voice.inputs)
    if voice.problem is None or (isinstance(portrait, Waiting) and portrait.being_read):
        return portrait
    # Both faults are named at once: who mends the voice alone would else hear of the portrait next.
    beside = portrait.problems if isinstance(portrait, Rejected) else ()
    named = portrait.inputs if isinstance(portrait, Rejected) else voice.inputs
    return Rejected(named, (voice.problem, *beside), shared=isinstance(portrait, Rejected) and portrait.shared)


# ---------------------------------------------------------------------- whether there is a job
def _has_source(gathered: Gathered) -> bool:
    """Say whether a voice is there, or a JSON that is a job by itself or that its owner must hear about."""
    return bool(gathered.sounds) or any(_is_source(upload, gathered.models) for upload in gathered.jsons)


def _is_source(upload: Upload, models: StackModels) -> bool:
    if upload.unread:
        return False  # nobody knows yet
    if upload.text is None or claims_voice(upload.text.encode()):
        return True
    try:
        parse_settings(upload.text.encode(), upload.key, folder_defaults=False, deployments=models.deployments)
    except ProblemError:
        return True  # somebody's request body with a slip in it: being told beats silence
    return False


def _stem(gathered: Gathered) -> str:
    """Return the outputs' stem in the bytes of the voice, else of the JSON."""
    return next(f.name.stem for f in [*gathered.sounds, *gathered.jsons])


# ---------------------------------------------------------------------- settings
@dataclass(frozen=True, slots=True)
class _Settings:
    """The JSONs that hold for a job, parsed."""

    inputs: Inputs
    own: Settings | None
    folder: Settings | None


def _settings(gathered: Gathered, lookup: Lookup, inputs: Inputs) -> _Settings | Rejected:
    try:
        _check_name(gathered, inputs)
        if len(gathered.jsons) > 1:
            raise _problem(
                "JobAmbiguous",
                f"There are two settings files of one name: {_list(gathered.jsons)}.",
                "Delete one of them.",
            )
        inputs = _with_settings_file(inputs, gathered.jsons)
        own = _parse(gathered.jsons, gathered.models, folder_defaults=False)
        inputs = replace(inputs, reference=own.reference if own else None)
        if own and own.audio_url and gathered.sounds:
            both = _list([*gathered.jsons, *gathered.sounds])
            raise _problem(
                "JobAmbiguous",
                f"Two files of one name both bring a voice: {both}.",
                "Delete one of them, or take audio_url out of the JSON.",
            )
    except ProblemError as error:
        return Rejected(inputs, (error.problem,))
    inputs = _with_settings_file(inputs, gathered.folder_settings)
    try:
        folder = _parse(gathered.folder_settings, gathered.models, folder_defaults=True)
    except ProblemError as error:
        if not (own and own.image_url):
            inputs = replace(inputs, own=(*inputs.own, *(f.tag for f in _by_key(lookup.same_name()))))
        return Rejected(inputs, (error.problem,), shared=True)
    return _Settings(inputs, own, folder)


def _check_name(gathered: Gathered, inputs: Inputs) -> None:
    length = len((gathered.results_prefix + inputs.stem + LONGEST_OUTPUT_SUFFIX).encode())
    if length > KEY_MAX_BYTES:
        raise _problem(
            "NameTooLong",
            f"The name is too long: its report needs a key of {length} bytes, and Amazon S3 allows {KEY_MAX_BYTES}.",
            "Give the file or its folders shorter names and drop it again.",
            limit=f"{KEY_MAX_BYTES} bytes",
            measured=f"{length} bytes",
        )
    if gathered.name.reserved:
        raise _problem(
            "NameReserved",
            f'"{RESERVED_NAME}" is the name of a folder\'s settings file, so no video can have it.',
            "Give the voice another name and drop it again.",
        )


def _with_settings_file(inputs: Inputs, jsons: tuple[Upload, ...]) -> Inputs:
    if not jsons:
        return inputs
    upload = _newest(jsons)
    digest = hashlib.sha256(upload.text.encode()).hexdigest() if upload.text is not None else None
    file = SettingsFile(upload.key, upload.version, digest, upload.etag)
    return replace(inputs, settings_files=(*inputs.settings_files, file))


def _parse(jsons: tuple[Upload, ...], models: StackModels, *, folder_defaults: bool) -> Settings | None:
    if not jsons:
        return None
    upload = _newest(jsons)
    if upload.facts and upload.facts.problem:
        raise ProblemError(upload.facts.problem)  # it can't be read at all
    if upload.text is None:
        raise _problem(
            "SettingsInvalid",
            f"{posixpath.basename(upload.key)} is no settings file: it is over {SETTINGS_MAX_BYTES} bytes, or not "
            "UTF-8 text.",
            "Save it as a small JSON file in UTF-8 and drop it again.",
            limit=f"{SETTINGS_MAX_BYTES} bytes",
            measured=f"{upload.bytes} bytes",
        )
    return parse_settings(
        upload.text.encode(), upload.key, folder_defaults=folder_defaults, deployments=models.deployments
    )


def _may_be_arriving(upload: Upload, gathered: Gathered) -> bool:
    """Say whether an object of 0 bytes may be whole in a moment: s3fs and Transfer Family make it empty first."""
    return upload.bytes == 0 and gathered.now < upload.noticed_at + gathered.pair_seconds


def _arriving(inputs: Inputs, gathered: Gathered, upload: Upload) -> Waiting:
    base = posixpath.basename(upload.key)
    again_at = upload.noticed_at + gathered.pair_seconds
    return Waiting(inputs, message=f"{base} is empty so far; it may still be arriving.", again_at=again_at)


# ---------------------------------------------------------------------- the voice
@dataclass(frozen=True, slots=True)
class _VoiceFound:
    """The one voice of a job, and what is wrong with it."""

    inputs: Inputs
    problem: Problem | None = None


def _voice(gathered: Gathered, settings: _Settings, lookup: Lookup) -> _VoiceFound | Match:
    inputs = settings.inputs
    voices = _without_twins(gathered.sounds, lookup)
    if voices is None:
        return _being_read(inputs)
    if len(voices) > 1:
        return Waiting(
            inputs,
            Problem(
                "VoiceAmbiguous",
                f"There are {len(voices)} voices of one name: {_list(voices)}.",
                "Delete all but one; the job starts by itself.",
            ),
            candidates=_candidates(voices, len(voices)),
        )
    if not voices and settings.own and settings.own.audio_url:
        return _VoiceFound(replace(inputs, voice=Voice(link=settings.own.audio_url)))
    if not voices:
        return Nothing()  # a JSON that was a source because it is invalid is rejected by now
    upload = voices[0]
    if _may_be_arriving(upload, gathered):
        return _arriving(inputs, gathered, upload)
    facts = lookup.facts(upload)
    if facts is None:
        return _being_read(inputs)
    voice = Voice(
        *(upload.key, upload.version, upload.etag),
        sha256=facts.sha256,
        bytes=upload.bytes,
        seconds=facts.seconds,
        type=facts.type,
        changes=facts.changes,
        asset=facts.asset,
        metadata=facts.metadata,
    )
    return _VoiceFound(replace(inputs, voice=voice), facts.problem)


# ---------------------------------------------------------------------- the portrait
@dataclass(frozen=True, slots=True)
class _Chosen:
    """The portrait of a job: an upload or a link, and by what it was chosen."""

    inputs: Inputs
    upload: Upload | None
    link: str | None
    chosen_by: str


def _portrait(gathered: Gathered, settings: _Settings, lookup: Lookup, inputs: Inputs) -> Match:
    chosen = _choose(gathered, settings, lookup, inputs)
    if not isinstance(chosen, _Chosen):
        return chosen
    if chosen.upload is None:
        portrait = Portrait(chosen.chosen_by, link=chosen.link)
        return _ready(gathered, settings, lookup, replace(chosen.inputs, portrait=portrait))
    upload = chosen.upload
    inputs = chosen.inputs
    if chosen.chosen_by == "same_name":
        inputs = replace(inputs, own=(*inputs.own, upload.tag))
    if _may_be_arriving(upload, gathered):
        return _arriving(inputs, gathered, upload)
    facts = lookup.facts(upload)
    if facts is None:
        return _being_read(inputs)
    portrait = Portrait(
        *(chosen.chosen_by, upload.key, upload.version, upload.etag),
        sha256=facts.sha256,
        bytes=upload.bytes,
        width=facts.width,
        height=facts.height,
        type=facts.type,
        changes=facts.changes,
        asset=None if facts.plain else facts.asset,
    )
    inputs = replace(inputs, portrait=portrait)
    if facts.problem:
        return Rejected(inputs, (facts.problem,), shared=portrait.is_shared)
    return _ready(gathered, settings, lookup, inputs, facts)


def _read_beside(gathered: Gathered, settings: _Settings, lookup: Lookup, inputs: Inputs) -> Inputs:
    """Have the portrait read while the voice is being read: one after the other, their waits would add up.

    Returns what the job is made from as far as it is known: it also waits in the portrait's folder.
    """
    chosen = _choose(gathered, settings, lookup, inputs)
    if not isinstance(chosen, _Chosen):
        return inputs
    if chosen.upload is not None and not _may_be_arriving(chosen.upload, gathered):
        lookup.facts(chosen.upload)
    return chosen.inputs


def _ready(
    gathered: Gathered, settings: _Settings, lookup: Lookup, inputs: Inputs, facts: Facts | None = None
) -> Match:
    portrait = inputs.portrait
    size = (facts.width, facts.height) if facts and facts.width and facts.height and _is_untouched(facts) else None
    own_key = gathered.jsons[0].key if gathered.jsons else None
    folder_key = _newest(gathered.folder_settings).key if gathered.folder_settings else None
    shared = portrait is not None and portrait.is_shared
    try:
        holds = effective(
            settings.own,
            settings.folder,
            picture_size=size,
            own_key=own_key,
            folder_key=folder_key,
            default_model=gathered.models.default,
            deployments=gathered.models.deployments,
        )
    except ProblemError as error:
        return Rejected(inputs, (error.problem,), shared=shared or settings.folder is not None)
    # Where settings.json chooses the model, a new one may mend what the model doesn't take.
    by_folder = settings.folder is not None and not (settings.own and settings.own.model)
    try:
        if portrait is not None and facts is not None:
            portrait = _fitting(portrait, facts, holds)
    except ProblemError as error:
        return Rejected(inputs, (error.problem,), shared=shared or by_folder)
    inputs = replace(inputs, portrait=portrait, settings=holds)
    if inputs.voice is not None and (problem := _voice_fault(inputs.voice, holds.definition)):
        return Rejected(inputs, (problem,), shared=by_folder)
    own = [*gathered.sounds, *gathered.jsons]
    if portrait is None or portrait.chosen_by != "own_settings":
        own += lookup.same_name()
    newest = max([gathered.settings_at, *(f.noticed_at for f in own)])
    return Ready(inputs, newest + gathered.pair_seconds, settings.own.approved_cny if settings.own else None)


def _is_untouched(facts: Facts) -> bool:
    """Say whether a picture is passed on with the bytes that it was uploaded with, under whatever name."""
    return facts.plain or (facts.asset is not None and facts.asset.sha256 == facts.sha256)


def _fitting(portrait: Portrait, facts: Facts, settings: Effective) -> Portrait:
    """Return the portrait as it is passed on to the model: the upload where it will do, else its asset.

    Raises `ProblemError` where neither does.
    """
    name, limits = posixpath.basename(portrait.key or ""), settings.definition.picture
    width, height = facts.width or 0, facts.height or 0
    if settings.face_bbox and not _is_untouched(facts):
        raise _problem(
            "PortraitUnfit",
            f"“{name}” would have to be changed for the service ({', '.join(facts.changes)}), and the boxes in the "
            "settings are pixels of this very file.",
            "Save the picture the way it should be, as a JPEG or PNG, and write boxes of that one; or leave them out.",
            limit=f"an upright JPEG, PNG, BMP or WebP in 8-bit RGB or grey, {limits.describe()}",
            measured=", ".join(facts.changes) or None,
        )
    if limits.max_ratio and max(width, height) > limits.max_ratio * min(width, height):
        raise _problem(
            "PortraitUnfit",
            f"“{name}” is {width} by {height} pixels; {settings.model} takes {limits.max_ratio:g} : 1 at most.",
            "Cut the picture closer to the person, or choose another model.",
            limit=f"{limits.max_ratio:g} : 1",
            measured=f"{_beyond(max(width, height) / max(1, min(width, height)), limits.max_ratio)} : 1",
        )
    fits = facts.plain and max(width, height) <= limits.max_side
    if fits and (limits.max_bytes is None or (portrait.bytes or 0) <= limits.max_bytes):
        return replace(portrait, asset=None)
    return replace(portrait, asset=facts.asset)


def _voice_fault(voice: Voice, model: Model) -> Problem | None:
    """Say whether the model takes a voice of this length; nobody knows a link's."""
    if voice.seconds is None or voice.key is None:
        return None
    name, limits = posixpath.basename(voice.key), model.voice
    if limits.too_long(voice.seconds):
        return Problem(
            "VoiceTooLong",
            f"“{name}” lasts {_beyond(voice.seconds, limits.max_seconds)} s; a voice for {model.name} may last "
            f"{limits.describe_longest()}.",
            "Cut it, or split it into several files: each becomes a video.",
            limit=f"{limits.max_seconds:g} s",
            measured=f"{_beyond(voice.seconds, limits.max_seconds)} s",
        )
    if limits.too_short(voice.seconds):
        return Problem(
            "VoiceTooShort",
            f"“{name}” lasts {voice.seconds:g} s; a voice for {model.name} must last {limits.describe_shortest()}.",
            "Use a longer voice, or another model.",
            limit=f"{limits.min_seconds:g} s",
            measured=f"{voice.seconds:g} s",
        )
    return None


def _beyond(value: float, limit: float) -> str:
    """Return a value beside a limit with as many decimals as it takes to tell them apart."""
    return next((t for d in range(1, 6) if float(t := f"{value:.{d}f}") != limit), f"{value:g}")


def _choose(gathered: Gathered, settings: _Settings, lookup: Lookup, inputs: Inputs) -> _Chosen | Match:
    """Choose the portrait: own JSON, same name, folder's settings, only image."""
    own, folder = settings.own, settings.folder
    if own and own.image_url:
        return _by_settings(own.image_url, gathered.jsons[0].key, "own_settings", lookup, inputs)
    same = _without_twins(lookup.same_name(), lookup)
    if same is None:
        return _being_read(inputs)
    if len(same) == 1:
        return _Chosen(inputs, same[0], None, "same_name")
    if len(same) > 1:
        return Waiting(
            replace(inputs, own=(*inputs.own, *(f.tag for f in same))),
            Problem(
                "PortraitAmbiguous",
                f"There are {len(same)} portraits of this name: {_list(same)}.",
                "Delete all but one; the job starts by itself.",
            ),
            candidates=_candidates(same, len(same)),
        )
    if folder and folder.image_url:
        key = _newest(gathered.folder_settings).key
        return _by_settings(folder.image_url, key, "folder_settings", lookup, inputs)
    return _only_image(gathered, lookup, inputs)


def _by_settings(image_url: str, json_key: str, chosen_by: str, lookup: Lookup, inputs: Inputs) -> _Chosen | Match:
    if is_link(image_url):
        return _Chosen(inputs, None, image_url, chosen_by)
    try:
        key = resolve_name(image_url, json_key)
    except ProblemError as error:
        return Rejected(inputs, (error.problem,), shared=chosen_by == "folder_settings")
    name = classify(key)
    if name:
        inputs = replace(inputs, folders=tuple(sorted({*inputs.folders, short_hash(name.folder)})))
    upload = lookup.named(key)
    if upload is None:
        base = posixpath.basename(json_key)
        return Waiting(
            inputs,
            Problem(
                "PortraitMissing",
                f"{base} names the portrait {key}, which is not in the bucket.",
                f"Upload {key}, or name another portrait in {base}.",
            ),
        )
    return _Chosen(inputs, upload, None, chosen_by)


def _only_image(gathered: Gathered, lookup: Lookup, inputs: Inputs) -> _Chosen | Match:
    pictures = lookup.pictures()
    base = posixpath.basename(gathered.name.name)
    if pictures.count == 0:
        return Waiting(
            inputs,
            Problem(
                "PortraitMissing",
                "There is no portrait for this voice yet.",
                f"Upload a portrait to the same folder, best under the name {base}.png or {base}.jpg.",
            ),
        )
    quiet_at = gathered.images_at + gathered.settle_seconds
    if gathered.now < quiet_at:
        message = (
            f"Waiting for the folder to be quiet for {gathered.settle_seconds:g} s before a picture of it is chosen."
        )
        return Waiting(inputs, message=message, again_at=quiet_at)
    only = _only(pictures, lookup, inputs)
    if isinstance(only, Waiting):
        return only
    if only is None and pictures.count > 1:
        return Waiting(
            inputs,
            Problem(
                "PortraitAmbiguous",
                f"The folder has {pictures.count} pictures and none has this voice's name.",
                f"Give the right one the name {base} before its extension, or write its name into {base}.json or "
                f"{RESERVED_NAME}.json as input.image_url.",
            ),
            candidates=Candidates(tuple(sorted(pictures.keys)), pictures.count),
        )
    if only is None:  # it went at this very moment; its event is on its way
        return Waiting(inputs, message=_BEING_READ)
    return _Chosen(inputs, only, None, "only_image")


# ---------------------------------------------------------------------- small things
def _problem(
    code: str, message: str, what_to_do: str, *, limit: str | None = None, measured: str | None = None
) -> ProblemError:
    return ProblemError(Problem(code, message, what_to_do, limit=limit, measured=measured))


def _being_read(inputs: Inputs) -> Waiting:
    return Waiting(inputs, message=_BEING_READ, being_read=True)


def _without_twins(uploads: tuple[Upload, ...], lookup: Lookup) -> list[Upload] | None:
    """Take files of equal bytes, whose keys differ in their Unicode form only, for one: a Mac's sync makes such.

    None while files that may be twins are being read.
    """
    kept: dict[tuple[str, str], Upload] = {}
    unread = False
    for upload in _by_key(uploads):
        content = upload.key
        if any(f.key != upload.key and _same_but_form(f, upload) for f in uploads):
            facts = lookup.facts(upload)  # asked of each: prepare reads them at once
            unread = unread or facts is None
            content = facts.sha256 if facts and facts.sha256 else upload.key
        kept.setdefault((upload.name.name + upload.name.suffix, content), upload)
    return None if unread else list(kept.values())


def _without_twin_jsons(jsons: tuple[Upload, ...]) -> tuple[Upload, ...]:
    """Take settings JSONs of equal text for one: their keys differ in Unicode form, or in the case of the suffix."""
    first = jsons[:1]
    return first if all(f.text is not None and f.text == first[0].text for f in jsons) else jsons


def _only(pictures: Pictures, lookup: Lookup, inputs: Inputs) -> Upload | Waiting | None:
    """Return the one picture that a folder has; in both Unicode forms of its name it is one all the same.

    `Waiting` while both are being read; None where there are several, or none any more.
    """
    first = pictures.keys[0]
    if pictures.count == 1:
        return lookup.named(first)
    if pictures.count > len(pictures.keys) or not all(same_key(key, first) for key in pictures.keys):
        return None
    one = _without_twins(lookup.forms(first), lookup)
    if one is None:
        return _being_read(inputs)
    return one[0] if len(one) == 1 else None


def _same_but_form(one: Upload, other: Upload) -> bool:
    return one.bytes == other.bytes and (one.name.name, one.name.suffix) == (other.name.name, other.name.suffix)


def _by_key(uploads: tuple[Upload, ...]) -> tuple[Upload, ...]:
    """Sort uploads, so that no answer depends on the order in which they came or were read."""
    return tuple(sorted(uploads, key=lambda f: f.key))


def _newest(uploads: tuple[Upload, ...]) -> Upload:
    return max(uploads, key=lambda f: (f.noticed_at, f.key))


def _candidates(uploads: tuple[Upload, ...] | list[Upload], count: int) -> Candidates:
    return Candidates(tuple(sorted(f.key for f in uploads)[:LIST_MAX]), count)


def _list(uploads: tuple[Upload, ...] | list[Upload]) -> str:
    shown = ", ".join(sorted(posixpath.basename(f.key) for f in uploads)[:LIST_MAX])
    return shown if len(uploads) <= LIST_MAX else f"{shown} and {len(uploads) - LIST_MAX} more"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
