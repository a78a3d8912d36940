"""What a key means (kind, folder, name, job; compared in NFC, kept in its own bytes), and which upload is which."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portraitcast.domain.job import TASK_LIFE_SECONDS
from portraitcast.domain.uploads import (
    ASSET_FRESH_SECONDS,
    KEY_MAX_BYTES,
    SYSTEM_FOLDERS,
    Asset,
    Facts,
    Kind,
    NoKeyError,
    classify,
    is_hidden,
    same_key,
    short_hash,
)
from unit.samples import NOW, upload
from unit.samples import named as counted

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIXES = {
    Kind.VOICE: (
        *(".mp3", ".wav", ".m4a", ".m4b", ".aac", ".ogg", ".oga", ".opus", ".flac", ".wma", ".aif", ".aiff", ".aifc"),
        *(".amr", ".caf", ".3gp", ".webm", ".weba", ".mka", ".mp4", ".mov"),
    ),
    Kind.PORTRAIT: (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".heic", ".heif", ".avif", ".gif", ".tif"),
        ".tiff",
    ),
    Kind.JOB_SETTINGS: (".json",),
}
ASSET = Asset("assets/a-1.wav", "e" * 64, 9000, "audio/wav")
EVERY_SUFFIX = [(kind, suffix) for kind, suffixes in SUFFIXES.items() for suffix in suffixes]

suffixes = st.sampled_from([suffix for _, suffix in EVERY_SUFFIX])
# Names that people give: no slash, no dot at the beginning, in any script, in composed and in decomposed letters.
bases = (
    st.text(st.sampled_from("aZ9 +%'\"&#?.-_é\u0301\u0308が\u3099한😀"), min_size=1, max_size=12)
    | st.text(min_size=1, max_size=12).map(lambda text: text.replace("/", "-"))
).filter(lambda base: not base.startswith(".") and base != "settings")
folders = st.lists(
    st.text("aé\u0301 +.", min_size=1, max_size=4).filter(
        lambda folder: folder in {".", ".."} or not folder.startswith(".")
    ),
    max_size=3,
)


def cases(suffix: str) -> list[str]:
    return [suffix, suffix.upper(), suffix.title()]


# What counts


@pytest.mark.parametrize(("kind", "suffix"), EVERY_SUFFIX)
def test_the_suffix_tells_the_kind(kind: Kind, suffix: str) -> None:
    for written in cases(suffix):
        name = counted(f"acme/line-01{written}")
        assert (name.kind, name.suffix) == (kind, suffix)


def test_only_settings_are_read_by_submit() -> None:
    """Media are read by prepare."""
    assert {kind for kind in Kind if kind.is_settings} == {Kind.JOB_SETTINGS, Kind.FOLDER_SETTINGS}


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "acme/",
        "acme.mp3/",
        ".mp3",
        "acme/.mp3",
        "acme/.hidden.mp3",
        "._line-01.mp3",
        "acme/.DS_Store",
        "acme/.json",
        "line-01",
        "acme/mp3",
        "acme/line-01.",
        "acme/line-01.mp3.part",
        "acme/line-01.mkv",
        "acme/line-01.txt",
        "acme/line-01.pdf",
        "acme/line-01.svg",
        "acme/line-01.jsonl",
        "acme/line-01.mp3 ",
        "acme.mp3/readme",
        ".cache/line.mp3",
        "acme/.git/line.mp3",
        "acme/.../line.mp3",
        "@eaDir/line.mp3",
        "acme/#recycle/deep/line.mp3",
        "acme/System Volume Information/line.mp3",
        "__MACOSX/line.mp3",
    ],
)
def test_what_is_left_alone(key: str) -> None:
    assert classify(key) is None


@pytest.mark.parametrize("key", ["settings.json", "acme/settings.json", "acme/deep/settings.JSON"])
def test_settings_json_belongs_to_its_folder(key: str) -> None:
    assert counted(key).kind is Kind.FOLDER_SETTINGS


@pytest.mark.parametrize(
    "key", ["Settings.json", "acme/settings.old.json", "settings/line-01.json", "my settings.json"]
)
def test_any_other_json_is_of_its_job(key: str) -> None:
    assert counted(key).kind is Kind.JOB_SETTINGS


@pytest.mark.parametrize(
    ("key", "reserved"),
    [
        ("settings.mp3", True),
        ("acme/settings.wav", True),
        ("acme/settings.png", True),
        ("settings/line-01.mp3", False),
        ("acme/Settings.mp3", False),
        ("acme/settings.1.mp3", False),
    ],
)
def test_settings_is_a_reserved_name(key: str, reserved: bool) -> None:
    assert counted(key).reserved is reserved


# Name, folder, job


@pytest.mark.parametrize(
    ("key", "stem", "folder"),
    [
        ("line-01.mp3", "line-01", ""),
        ("acme/line-01.mp3", "acme/line-01", "acme"),
        ("acme/a.b/line.01.MP3", "acme/a.b/line.01", "acme/a.b"),
        ("acme/x.mp3.mp3", "acme/x.mp3", "acme"),
        ("acme//line.wav", "acme//line", "acme/"),
        ("a+b/100% 'it''s'.mp3", "a+b/100% 'it''s'", "a+b"),
        ("日本/こんにちは😀.wav", "日本/こんにちは😀", "日本"),
        ("acme.cache/line.mp3", "acme.cache/line", "acme.cache"),
        ("recycle/line.mp3", "recycle/line", "recycle"),
    ],
)
def test_folders_and_names_are_kept(key: str, stem: str, folder: str) -> None:
    name = counted(key)
    assert (name.key, name.stem, name.name, name.folder) == (key, stem, stem, folder)


def test_the_job_id() -> None:
    assert counted("acme/line-01.mp3").job == hashlib.sha256(b"acme/line-01").hexdigest()[:32]
    decomposed = counted(unicodedata.normalize("NFD", "café/é.mp3"))
    assert decomposed.job == hashlib.sha256("café/é".encode()).hexdigest()[:32]


@given(folders, bases, suffixes)
def test_both_unicode_forms_are_one_job(folder: list[str], base: str, suffix: str) -> None:
    key = "/".join([*folder, base]) + suffix
    composed, decomposed = (counted(unicodedata.normalize(form, key)) for form in ("NFC", "NFD"))
    assert counted(key).job == composed.job == decomposed.job
    assert counted(key).folder == composed.folder == decomposed.folder
    assert same_key(composed.key, decomposed.key)


@given(folders, bases, suffixes)
def test_the_extension_in_any_case(folder: list[str], base: str, suffix: str) -> None:
    stem = "/".join([*folder, base])
    names = [counted(stem + written) for written in cases(suffix)]
    assert len({(name.kind, name.suffix, name.job, name.folder) for name in names}) == 1
    assert same_key(names[0].key, names[1].key)


@given(folders, bases, suffixes)
def test_outputs_keep_the_keys_own_bytes(folder: list[str], base: str, suffix: str) -> None:
    stem = "/".join([*folder, base])
    assert counted(stem + suffix).stem.encode() == stem.encode()


@given(bases, bases, suffixes, suffixes)
def test_names_that_agree_are_one_job(one: str, other: str, suffix: str, other_suffix: str) -> None:
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    assert (counted(f"acme/{one}{suffix}").job == counted(f"acme/{other}{other_suffix}").job) is same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("acme/Line.mp3", "acme/line.mp3"),
        ("Acme/line.mp3", "acme/line.mp3"),
        ("acme/line.mp3", "line.mp3"),
        ("acme/line .mp3", "acme/line.mp3"),
    ],
)
def test_names_are_case_sensitive(one: str, other: str) -> None:
    assert counted(one).job != counted(other).job
    assert not same_key(one, other)


@given(st.text(max_size=30), suffixes)
@example("/0", ".mp3")
@example("x//0", ".mp3")
def test_any_key_with_such_a_suffix(start: str, suffix: str) -> None:
    """It counts unless a part of it is hidden."""
    key = start + suffix
    name = classify(key)
    parts = key.split("/")
    hidden = parts[-1].startswith(".") or any(
        (part.startswith(".") and part not in {".", ".."}) or part.lower() in SYSTEM_FOLDERS for part in parts[:-1]
    )
    assert (name is None) is hidden is is_hidden(key)
    if name is not None:
        assert (name.stem, name.suffix, len(name.job)) == (start, suffix, 32)
        assert name.name.startswith(name.folder)
        assert "/" not in name.name.removeprefix(name.folder).removeprefix("/")


@given(st.text(max_size=KEY_MAX_BYTES // 4))
def test_no_key_makes_it_stumble(key: str) -> None:
    name = classify(key)
    assert name is None or key == name.stem + key[len(name.stem) :]


# Keys that look like paths


@given(st.lists(st.sampled_from(["", ".", "..", "a", "\u00e9"]), max_size=5), bases, suffixes)
def test_slashes_and_dots_are_letters(parts: list[str], base: str, suffix: str) -> None:
    stem = "/".join([*parts, base])
    name = counted(stem + suffix)
    assert (name.stem, name.name) == (stem, unicodedata.normalize("NFC", stem))


@given(*[st.lists(st.sampled_from(["", ".", "..", "a"]), max_size=4)] * 2)
def test_folders_are_one_if_written_alike(one: list[str], other: list[str]) -> None:
    voice, portrait = (counted("/".join([*parts, name])) for parts, name in ((one, "x.mp3"), (other, "y.png")))
    assert (voice.folder == portrait.folder) is (one == other)


@pytest.mark.parametrize("folder", sorted(SYSTEM_FOLDERS))
def test_folders_that_systems_make(folder: str) -> None:
    """A NAS's recycle bin is no folder of anybody's, in whatever case; a file may have that name."""
    for written in (folder, folder.upper(), folder.title()):
        assert classify(f"acme/{written}/line.mp3") is None
    assert classify(f"acme/x{folder}/line.mp3") is not None
    assert folder.startswith(".") or classify(f"acme/{folder}.mp3") is not None


@pytest.mark.parametrize(
    ("key", "folder"),
    [("a.mp3", ""), ("/a.mp3", "/"), ("//a.mp3", "//"), ("///a.mp3", "///"), ("/x/a.mp3", "/x"), ("x//a.mp3", "x/")],
)
def test_a_slash_first_is_not_the_root(key: str, folder: str) -> None:
    assert counted(key).folder == folder


# Texts that are no keys


@pytest.mark.parametrize("length", [1025, 1_000_001])
@pytest.mark.parametrize("judge", [classify, lambda key: same_key(key, key)], ids=["classify", "same_key"])
def test_a_text_longer_than_a_key(judge: Callable[[str], object], length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before it is normalised: sorting n accents that are out of order takes n²."""

    def normalize(*_: str) -> NoReturn:
        raise AssertionError("it was normalised")

    monkeypatch.setattr("portraitcast.domain.uploads.unicodedata", SimpleNamespace(normalize=normalize))
    size = length + len(".mp3") * (judge is not classify)
    with pytest.raises(NoKeyError, match=rf"{length}|{size}.*1024.*send the key of an object"):
        judge("a" + "\u0301\u0323" * (length // 4) + "a" * ((length - 1) % 4) + ".mp3")


def test_half_a_surrogate_pair_is_in_no_key() -> None:
    with pytest.raises(NoKeyError, match="surrogate"):
        classify("a\ud800.mp3")


# Two keys of one file


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("acme/anna.PNG", "acme/anna.png", True),
        ("acme/Anna.png", "acme/anna.png", False),
        ("acme/anna.png", "acme/anna.jpg", False),
        ("acme/anna.png", "anna.png", False),
        ("acme/e\u0301.png", "acme/\u00e9.PNG", True),
    ],
)
def test_two_keys_of_one_file(one: str, other: str, same: bool) -> None:
    assert same_key(one, other) is same


# Which upload is which


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"version": "v1"}, {"version": "v1"}, True),
        ({"version": "v1", "etag": "a"}, {"version": "v1", "etag": "b"}, True),
        ({"version": "v1"}, {"version": "v2"}, False),
        ({"version": "null", "etag": "a"}, {"version": "null", "etag": "a"}, True),
        ({"version": "null", "etag": "a"}, {"version": "null", "etag": "b"}, False),
        ({"version": "null", "etag": ""}, {"version": "null", "etag": "b"}, False),
        ({"version": "v1", "deleted": True}, {"version": "v1"}, False),
        ({"version": "", "deleted": True}, {"version": "v1", "deleted": True}, True),
    ],
    ids=str,
)
def test_which_uploads_are_one(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    """In a bucket without versions all that tells two objects apart is their ETag."""
    assert upload(**one).is_same_version(upload(**other)) is same
    assert upload(**other).is_same_version(upload(**one)) is same


def test_the_tag_of_an_upload() -> None:
    assert upload("a.mp3", version="v1", etag="e").tag == "a.mp3\nv1"
    assert upload("a.mp3", version="null", etag="e").tag == "a.mp3\ne"
    assert upload("a.mp3", version="null").tag == "a.mp3\nnull"
    assert upload("a.mp3", version="null", etag="e", repeats=2).tag == "a.mp3\ne#2"


@pytest.mark.parametrize(
    ("one", "known", "follows"),
    [("0055", "0054", True), ("", "0054", False), ("0055", "", False)],
)
def test_whether_an_upload_follows_another(one: str, known: str, follows: bool) -> None:
    """Where versions have no ids, the same bytes after a known event are another upload."""
    assert upload(sequencer=one).follows(upload(sequencer=known)) is follows
    assert not upload(sequencer=one).follows(upload(sequencer=known, deleted=True))


@pytest.mark.parametrize(
    ("event", "known", "older"),
    [
        ("0055", "0056", True),
        ("0056", "0055", False),
        ("0055", "0055", False),
        ("0055", "00550", False),
        ("0055", "00551", True),
        ("0056", "00551", False),
        ("00A1", "00B", True),
        ("", "0056", False),
        ("0055", "", False),
    ],
)
def test_the_order_of_events(event: str, known: str, older: bool) -> None:
    """S3 pads the shorter sequencer on the right with zeros; without one nobody can tell."""
    assert upload(sequencer=event).is_older_event_than(upload(sequencer=known)) is older


@given(st.text("0123456789ABCDEF", max_size=20), st.text("0123456789ABCDEF", max_size=20))
def test_only_one_of_two_is_older(one: str, other: str) -> None:
    a, b = upload(sequencer=one), upload(sequencer=other)
    assert not (a.is_older_event_than(b) and b.is_older_event_than(a))


# What reading found


@pytest.mark.parametrize(
    ("asset", "age", "fresh"),
    [
        (ASSET, ASSET_FRESH_SECONDS - 1, True),
        (ASSET, ASSET_FRESH_SECONDS, False),
        (None, 10 * ASSET_FRESH_SECONDS, True),
    ],
)
def test_an_asset_is_fresh_for_a_while(asset: Asset | None, age: float, fresh: bool) -> None:
    """What is passed on as it is lies in the upload bucket, and never goes stale."""
    assert Facts(asset=asset, read_at=NOW - age).is_fresh(NOW) is fresh


def test_a_fresh_asset_outlives_its_task() -> None:
    """A create fetches within the hour; the work bucket keeps assets for 30 days."""
    assert ASSET_FRESH_SECONDS + TASK_LIFE_SECONDS < 30 * 86_400


def test_other_facts_are_the_same_upload() -> None:
    read = replace(upload(), text="{}", unread=False, noticed_at=0.0)
    assert read.is_same_version(upload())
    assert read.tag == upload().tag


@given(st.text(max_size=50).filter(lambda text: text.isprintable()))
def test_a_short_hash_is_32_hex_digits(text: str) -> None:
    assert short_hash(text) == hashlib.sha256(text.encode()).hexdigest()[:32]
