"""Which files make a job, and what state they put it in. Pure: what must be read is asked of a `Lookup`."""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Protocol

from portraitcast.errors import Problem, RefusalError
from portraitcast.domain.job import QUEUED, REJECTED, WAITING, File
from portraitcast.domain.limits import KEY_MAX_BYTES, LIST_MAX, SETTINGS_MAX_BYTES
from portraitcast.domain.uploads import (
    LONGEST_OUTPUT_SUFFIX,
    PORTRAIT_SUFFIXES,
    RESERVED_NAME,
    VOICE_SUFFIXES,
    Kind,
    Name,
    classify,
    short_hash,
)
from portraitcast.domain.settings import (
    Effective,
    Settings,
    claims_voice,
    effective,
    is_link,
    parse_settings,
    resolve_name,
    show_link,
)

WITHDRAWN_OR_NOTHING: Final = "nothing"

_VOICES: Final = ", ".join(sorted(VOICE_SUFFIXES))
_PICTURES: Final = ", ".join(sorted(PORTRAIT_SUFFIXES))


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a folder knows of its pictures: up to 20 of them, and how many there are."""

    files: list[File]
    count: int


class Lookup(Protocol):
    """What `decide` may ask while it decides. Every answer is read consistently."""

    def same_name(self) -> list[File]:
        """Pictures of the job's folder that have its name."""

    def named(self, key: str) -> File | None:
        """The picture that a settings JSON names by key, in whatever folder."""

    def pictures(self) -> Pictures:
        """The pictures of the job's folder."""

    def facts(self, file: File) -> dict[str, Any]:
        """What probing a voice or a picture finds: ``File.facts``."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is known when a job is decided about.

    `images_at` and `settings_at` are the epoch times of the folder's last change of pictures and of settings.json.
    """

    name: Name
    sounds: list[File]
    jsons: list[File]
    folder_settings: list[File]
    images_at: float
    settings_at: float
    now: float
    pair_seconds: float
    settle_seconds: float


@dataclass(slots=True)
class Decision:
    """What a job's files come to.

    Attributes
    ----------
    status
        ``waiting``, ``queued``, ``rejected``, or ``nothing``: no file here makes a job.
    ready_at
        For ``queued``: from when on the job may be sent. For ``waiting``: when the folder will have settled, or None.
    shared
        The problem lies in a file that other jobs use too; a new one is another try.
    own, all_own
        Tags of the job's own files in use (`File.tag`), and of all its voices and JSONs; they tell a new upload from a
        repeated event.
    """

    status: str
    stem: str
    problem: Problem | None = None
    shared: bool = False
    message: str = ""
    voice: dict[str, Any] | None = None
    portrait: dict[str, Any] | None = None
    settings_files: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] | None = None
    candidates: dict[str, Any] | None = None
    ready_at: float | None = None
    own: list[str] = field(default_factory=list)
    all_own: list[str] = field(default_factory=list)
    look_in: list[str] = field(default_factory=list)

    @property
    def identity(self) -> str:
        """Names the versions of all files that this decision came from."""
        versions = [self.voice, self.portrait, *self.settings_files]
        return _digest([[[(f or {}).get(k) for k in ("key", "version", "link")] for f in versions], self.all_own])

    @property
    def fingerprint(self) -> str:
        """Names the content that the video depends on: voice, portrait, effective settings."""
        parts = [(f or {}).get("sha256") or (f or {}).get("link") for f in (self.voice, self.portrait)]
        return _digest([*parts, self.settings])


def decide(gathered: Gathered, lookup: Lookup) -> Decision:
    """Decide what a job's own files and its folder come to. First own faults, then questions, then the portrait."""
    gathered = replace(gathered, sounds=_by_key(gathered.sounds), jsons=_by_key(gathered.jsons))
    decision = Decision(WAITING, _stem(gathered), look_in=[short_hash(gathered.name.folder)])
    decision.all_own = sorted(f.tag for f in [*gathered.sounds, *gathered.jsons])
    try:
        if not _has_source(gathered):
            decision.status = WITHDRAWN_OR_NOTHING
            return decision
        # Known before anything can be refused: with a bad settings.json, too, a new voice is a new upload.
        decision.own = [f.tag for f in [*gathered.jsons, *_voices(gathered)]]
        own, folder = _settings(gathered, lookup, decision)
        _voice(gathered, own, lookup, decision)
        if decision.problem is None:
            _portrait(gathered, own, folder, lookup, decision)
    except RefusalError as refusal:
        decision.status, decision.problem = REJECTED, refusal.problem
    return decision


# ---------------------------------------------------------------------- whether there is a job
def _has_source(gathered: Gathered) -> bool:
    """Whether a voice is there, or a JSON that is a job by itself or that its owner must hear about."""
    if gathered.sounds:
        return True
    return any(_is_source(file) for file in gathered.jsons)


def _is_source(file: File) -> bool:
    if file.text is None or claims_voice(file.text.encode()):
        return True
    try:
        parse_settings(file.text.encode(), file.key, folder_defaults=False)
    except RefusalError:
        return True  # somebody's request body with a slip in it: being told beats silence
    return False


def _stem(gathered: Gathered) -> str:
    """Return the outputs' stem in the bytes of the voice, else of the JSON."""
    for file in [*_voices(gathered), *gathered.sounds, *gathered.jsons]:
        if found := classify(file.key):
            return found.stem
    return gathered.name.stem


def _voices(gathered: Gathered) -> list[File]:
    return [f for f in gathered.sounds if (n := classify(f.key)) and n.kind is Kind.VOICE]


# ---------------------------------------------------------------------- settings
def _settings(gathered: Gathered, lookup: Lookup, decision: Decision) -> tuple[Settings | None, Settings | None]:
    length = len((decision.stem + LONGEST_OUTPUT_SUFFIX).encode())
    if length > KEY_MAX_BYTES:
        raise _refusal(
            "NameTooLong",
            f"The name is too long: its report needs a key of {length} bytes, and Amazon S3 allows {KEY_MAX_BYTES}.",
            "Give the file or its folders shorter names and drop it again.",
            limit=f"{KEY_MAX_BYTES} bytes",
            measured=f"{length} bytes",
        )
    if gathered.name.reserved:
        raise _refusal(
            "NameReserved",
            f'"{RESERVED_NAME}" is the name of a folder\'s settings file, so no video can have it.',
            "Give the voice another name and drop it again.",
        )
    if len(gathered.jsons) > 1:
        raise _refusal(
            "JobAmbiguous", f"There are two settings files of one name: {_list(gathered.jsons)}.", "Delete one of them."
        )
    own = _parse(gathered.jsons, decision, folder_defaults=False)
    if gathered.jsons and own and own.audio_url and _voices(gathered):
        both = _list([*gathered.jsons, *_voices(gathered)])
        raise _refusal(
            "JobAmbiguous",
            f"Two files of one name both bring a voice: {both}.",
            "Delete one of them, or take audio_url out of the JSON.",
        )
    try:
        folder = _parse(gathered.folder_settings, decision, folder_defaults=True)
    except RefusalError:
        decision.shared = True
        if not (own and own.image_url):
            decision.own += [f.tag for f in _same_name(lookup)]
        raise
    return own, folder


def _parse(files: list[File], decision: Decision, *, folder_defaults: bool) -> Settings | None:
    if not files:
        return None
    file = _newest(files)
    digest = hashlib.sha256(file.text.encode()).hexdigest() if file.text is not None else None
    decision.settings_files.append({"key": file.key, "version": file.version, "sha256": digest})
    if file.text is None:
        raise _refusal(
            "SettingsInvalid",
            f"{posixpath.basename(file.key)} is no settings file: over {SETTINGS_MAX_BYTES} bytes, or not UTF-8 text.",
            "Save it as a small JSON file in UTF-8 and drop it again.",
            limit=f"{SETTINGS_MAX_BYTES} bytes",
            measured=f"{file.bytes} bytes",
        )
    return parse_settings(file.text.encode(), file.key, folder_defaults=folder_defaults)


# ---------------------------------------------------------------------- the voice
def _voice(gathered: Gathered, own: Settings | None, lookup: Lookup, decision: Decision) -> None:
    voices = _voices(gathered)
    if len(voices) > 1:
        decision.candidates = _candidates(voices, len(voices))
        _ask(
            decision,
            "VoiceAmbiguous",
            f"There are {len(voices)} voices of one name: {_list(voices)}.",
            "Delete all but one; the job starts by itself.",
        )
        return
    if not voices and own and own.audio_url:
        decision.voice = {"key": None, "link": own.audio_url}
        return
    if not voices:
        other = gathered.sounds[0] if gathered.sounds else None
        if other is None:  # a JSON without a voice's link that was a source because it is invalid has raised by now
            decision.status = WITHDRAWN_OR_NOTHING
            return
        decision.voice = {"key": other.key, "version": other.version, "bytes": other.bytes}
        decision.own.append(other.tag)
        raise _refusal(
            "UnsupportedType",
            f"{posixpath.basename(other.key)} is not a voice that the service reads.",
            f"Save the voice as one of {_VOICES} and drop it under the same name.",
            limit=_VOICES,
            measured=posixpath.splitext(other.key)[1].lower(),
        )
    voice = voices[0]
    facts = lookup.facts(voice)
    decision.voice = {"key": voice.key, "version": voice.version, "bytes": voice.bytes, **_without_problem(facts)}
    _raise_problem(facts)


# ---------------------------------------------------------------------- the portrait
def _portrait(
    gathered: Gathered, own: Settings | None, folder: Settings | None, lookup: Lookup, decision: Decision
) -> None:
    chosen = _choose(gathered, own, folder, lookup, decision)
    if decision.problem is not None or decision.status == WITHDRAWN_OR_NOTHING:
        return
    if chosen is None:
        return
    file, chosen_by = chosen
    size: tuple[int, int] | None = None
    decision.shared = chosen_by != "same_name"
    if isinstance(file, str):
        decision.portrait = {"key": None, "link": file, "chosen_by": chosen_by}
        decision.shared = False
    else:
        if chosen_by == "same_name":
            decision.own.append(file.tag)
        facts: dict[str, Any] = {}
        if posixpath.splitext(file.key)[1].lower() in PORTRAIT_SUFFIXES:
            facts = lookup.facts(file)
        decision.portrait = {
            "key": file.key,
            "version": file.version,
            "bytes": file.bytes,
            "chosen_by": chosen_by,
            **_without_problem(facts),
        }
        if not facts:
            raise _refusal(
                "UnsupportedType",
                f"{posixpath.basename(file.key)} is a picture that the service doesn't read.",
                f"Save the portrait as one of {_PICTURES} and drop it under the same name.",
                limit=_PICTURES,
                measured=posixpath.splitext(file.key)[1].lower(),
            )
        _raise_problem(facts)
        size = (facts["width"], facts["height"])
    own_key = gathered.jsons[0].key if gathered.jsons else None
    holds: Effective = effective(own, folder, picture_size=size, own_key=own_key)
    decision.settings = asdict(holds)
    decision.shared = False
    decision.status = QUEUED
    decision.ready_at = _ready_at(gathered, lookup, chosen_by)


def _choose(
    gathered: Gathered, own: Settings | None, folder: Settings | None, lookup: Lookup, decision: Decision
) -> tuple[File | str, str] | None:
    """Choose the portrait: own JSON, same name, folder's settings, only image; None when it waits for an answer."""
    if own and own.image_url:
        return _by_settings(own.image_url, gathered.jsons[0].key, "own_settings", lookup, decision)
    same = _same_name(lookup)
    if len(same) == 1:
        return same[0], "same_name"
    if len(same) > 1:
        decision.own += [f.tag for f in same]
        decision.candidates = _candidates(same, len(same))
        _ask(
            decision,
            "PortraitAmbiguous",
            f"There are {len(same)} portraits of this name: {_list(same)}.",
            "Delete all but one; the job starts by itself.",
        )
        return None
    if folder and folder.image_url:
        key = _newest(gathered.folder_settings).key
        return _by_settings(folder.image_url, key, "folder_settings", lookup, decision)
    return _only_image(gathered, lookup, decision)


def _same_name(lookup: Lookup) -> list[File]:
    """Return the portraits of the job's name; a converted picture beside an unreadable one answers the refusal."""
    same = _by_key(lookup.same_name())
    return [f for f in same if (n := classify(f.key)) and n.kind is Kind.PORTRAIT] or same


def _by_settings(
    image_url: str, json_key: str, chosen_by: str, lookup: Lookup, decision: Decision
) -> tuple[File | str, str] | None:
    if is_link(image_url):
        return image_url, chosen_by
    decision.shared = chosen_by == "folder_settings"
    key = resolve_name(image_url, json_key)
    decision.shared = False
    name = classify(key)
    if name:
        decision.look_in = sorted({*decision.look_in, short_hash(name.folder)})
    file = lookup.named(key)
    if file is None:
        _ask(
            decision,
            "PortraitMissing",
            f"{posixpath.basename(json_key)} names the portrait {key}, which is not in the bucket.",
            f"Upload {key}, or name another portrait in {posixpath.basename(json_key)}.",
        )
        return None
    return file, chosen_by


def _only_image(gathered: Gathered, lookup: Lookup, decision: Decision) -> tuple[File | str, str] | None:
    pictures = lookup.pictures()
    base = posixpath.basename(gathered.name.name)
    if pictures.count == 0:
        _ask(
            decision,
            "PortraitMissing",
            "There is no portrait for this voice yet.",
            f"Upload a portrait to the same folder, best under the name {base}.png or {base}.jpg.",
        )
        return None
    settled_at = gathered.images_at + gathered.settle_seconds
    if gathered.now < settled_at:
        decision.ready_at = settled_at
        decision.message = (
            f"Waiting for the folder to be quiet for {gathered.settle_seconds:g} s before a picture of it is chosen."
        )
        return None
    if pictures.count > 1:
        decision.candidates = _candidates(pictures.files, pictures.count)
        _ask(
            decision,
            "PortraitAmbiguous",
            f"The folder has {pictures.count} pictures and none has this voice's name.",
            f"Give the right one the name {base} before its extension, or write its name into {base}.json or "
            f"{RESERVED_NAME}.json as input.image_url.",
        )
        return None
    return pictures.files[0], "only_image"


def _ready_at(gathered: Gathered, lookup: Lookup, chosen_by: str) -> float:
    own = [*gathered.sounds, *gathered.jsons]
    if chosen_by != "own_settings":
        own += lookup.same_name()
    newest = max([gathered.settings_at, *(f.noticed_at for f in own)])
    return newest + gathered.pair_seconds


# ---------------------------------------------------------------------- small things
def shown_file(facts: dict[str, Any] | None, fields: tuple[str, ...]) -> dict[str, Any] | None:
    """Return an input as the report shows it: fixed fields, links without user-info, query and fragment."""
    if facts is None:
        return None
    link = facts.get("link")
    return {name: (show_link(link) if name == "url" and link else facts.get(name)) for name in fields}


def _refusal(
    code: str, message: str, what_to_do: str, *, limit: str | None = None, measured: str | None = None
) -> RefusalError:
    return RefusalError(Problem(code, message, what_to_do, limit=limit, measured=measured))


def _ask(decision: Decision, code: str, message: str, what_to_do: str) -> None:
    decision.status = WAITING
    decision.problem = Problem(code, message, what_to_do)


def _by_key(files: list[File]) -> list[File]:
    """Sort files, so that no answer depends on the order in which they came or were read."""
    return sorted(files, key=lambda f: f.key)


def _newest(files: list[File]) -> File:
    return max(files, key=lambda f: (f.noticed_at, f.key))


def _candidates(files: list[File], count: int) -> dict[str, Any]:
    return {"keys": sorted(f.key for f in files)[:LIST_MAX], "count": count}


def _list(files: list[File]) -> str:
    shown = ", ".join(sorted(posixpath.basename(f.key) for f in files)[:LIST_MAX])
    return shown if len(files) <= LIST_MAX else f"{shown} and {len(files) - LIST_MAX} more"


def _without_problem(facts: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in facts.items() if k != "problem"}


def _raise_problem(facts: dict[str, Any]) -> None:
    if problem := facts.get("problem"):
        raise RefusalError(Problem(**problem))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
