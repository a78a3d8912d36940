"""An upload bucket in memory, whose files are matched to jobs as submit does it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from portraitcast.domain.matching import LIST_MAX, Gathered, Match, Pictures, match
from portraitcast.domain.uploads import Facts, Kind, Upload, classify, same_key
from unit.samples import named

NOW = 10_000.0
LONG_AGO = 1_000.0
PAIR, SETTLE = 3.0, 15.0
VOICE = Facts("a" * 64, "mp3", seconds=9.5)
PICTURE = Facts("b" * 64, "png", width=900, height=800)
LINK = "https://user:pw@voices.example/hello.mp3?sig=1#t"
FACE, EXT = [302, 286, 610, 593], [71, 9, 840, 778]
JSON = "acme/line-01.json"


def body(**inputs: Any) -> str:
    return json.dumps({"input": inputs})


@dataclass
class Bucket:
    """An upload bucket in memory: keys with their settings' text, what reading finds, when each was noticed.

    `asked` are the keys of which the facts were asked.
    """

    files: dict[str, str | None]
    facts: dict[str, Facts | None] = field(default_factory=dict)
    noticed: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    went: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def listed(self) -> list[Upload]:
        return [
            Upload(
                *(name, self.versions.get(key, "v1"), self.sizes.get(key, 100), self.noticed.get(key, LONG_AGO)),
                text=text,
                unread=key in self.unread,
            )
            for key, text in self.files.items()
            if (name := classify(key))
        ]

    def match(self, name: str = "acme/line-01", now: float = NOW) -> Match:
        about = named(name + ".mp3")
        found = self.listed()
        own = [file for file in found if file.name.job == about.job]
        inside = [file for file in found if file.name.folder == about.folder]
        settings = [file for file in inside if file.name.kind is Kind.FOLDER_SETTINGS]
        pictures = [file for file in inside if file.name.kind is Kind.PORTRAIT]
        gathered = Gathered(
            name=about,
            sounds=tuple(file for file in own if file.name.kind is Kind.VOICE),
            jsons=tuple(file for file in own if file.name.kind is Kind.JOB_SETTINGS),
            folder_settings=tuple(settings),
            images_at=max((file.noticed_at for file in pictures), default=0.0),
            settings_at=max((file.noticed_at for file in settings), default=0.0),
            now=now,
            pair_seconds=PAIR,
            settle_seconds=SETTLE,
        )
        return match(gathered, _Lookup(self, [file for file in own if file.name.kind is Kind.PORTRAIT], pictures))


class _Lookup:
    def __init__(self, bucket: Bucket, same_name: list[Upload], pictures: list[Upload]) -> None:
        self._bucket = bucket
        self._same_name = same_name
        self._pictures = pictures

    def same_name(self) -> tuple[Upload, ...]:
        return tuple(self._same_name)

    def named(self, key: str) -> Upload | None:
        there = [file for file in self._bucket.listed() if file.key not in self._bucket.went]
        return next((file for file in there if same_key(file.key, key)), None)

    def pictures(self) -> Pictures:
        return Pictures(tuple(picture.key for picture in self._pictures[:LIST_MAX]), len(self._pictures))

    def forms(self, key: str) -> tuple[Upload, ...]:
        return tuple(file for file in self._bucket.listed() if same_key(file.key, key))

    def facts(self, upload: Upload) -> Facts | None:
        self._bucket.asked.append(upload.key)
        found = VOICE if upload.name.kind is Kind.VOICE else PICTURE
        return self._bucket.facts.get(upload.key, found)


def bucket(*keys: str, **texts: str | None) -> Bucket:
    """Make a bucket; `own` and `folder` are the texts of the job's and the folder's settings."""
    files: dict[str, str | None] = dict.fromkeys(keys)
    if "own" in texts:
        files[JSON] = texts["own"]
    if "folder" in texts:
        files["acme/settings.json"] = texts["folder"]
    return Bucket(files)
