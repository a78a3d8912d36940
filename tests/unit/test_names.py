"""What a key means: kind, folder, name, job; compared in NFC, kept in its own bytes."""

from __future__ import annotations

import hashlib
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portraitcast.limits import KEY_MAX_BYTES
from portraitcast.names import Kind, Name, NoKeyError, classify, same_key

SUFFIXES = {
    Kind.VOICE: (".mp3", ".wav"),
    Kind.PORTRAIT: (".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    Kind.OTHER_SOUND: (".m4a", ".aac", ".ogg", ".opus", ".flac", ".wma", ".aiff", ".amr"),
    Kind.OTHER_PICTURE: (".heic", ".heif", ".avif", ".gif", ".tif", ".tiff"),
    Kind.JOB_SETTINGS: (".json",),
}
EVERY_SUFFIX = [(kind, suffix) for kind, suffixes in SUFFIXES.items() for suffix in suffixes]

suffixes = st.sampled_from([suffix for _, suffix in EVERY_SUFFIX])
# Names that people give: no slash, no dot at the beginning, in any script, in composed and in decomposed letters.
bases = (
    st.text(st.sampled_from("aZ9 +%'\"&#?.-_é\u0301\u0308が\u3099한😀"), min_size=1, max_size=12)
    | st.text(min_size=1, max_size=12).map(lambda text: text.replace("/", "-"))
).filter(lambda base: not base.startswith(".") and base != "settings")
folders = st.lists(st.text("aé\u0301 +.", min_size=1, max_size=4), max_size=3)


def counted(key: str) -> Name:
    name = classify(key)
    assert name is not None
    return name


def cases(suffix: str) -> list[str]:
    return [suffix, suffix.upper(), suffix.title()]


# What counts


@pytest.mark.parametrize(("kind", "suffix"), EVERY_SUFFIX)
def test_the_suffix_tells_the_kind_whatever_its_case(kind: Kind, suffix: str) -> None:
    for written in cases(suffix):
        name = counted(f"acme/line-01{written}")
        assert (name.kind, name.suffix) == (kind, suffix)


def test_only_sounds_make_jobs_and_only_pictures_count_as_images_of_the_folder() -> None:
    assert {kind for kind in Kind if kind.is_sound} == {Kind.VOICE, Kind.OTHER_SOUND}
    assert {kind for kind in Kind if kind.is_picture} == {Kind.PORTRAIT, Kind.OTHER_PICTURE}


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
        "acme/line-01.mp4",
        "acme/line-01.txt",
        "acme/line-01.pdf",
        "acme/line-01.svg",
        "acme/line-01.jsonl",
        "acme/line-01.mp3 ",
        "acme.mp3/readme",
    ],
)
def test_hidden_names_folder_markers_and_all_other_suffixes_are_left_alone(key: str) -> None:
    assert classify(key) is None


@pytest.mark.parametrize("key", ["settings.json", "acme/settings.json", "acme/deep/settings.JSON"])
def test_settings_json_belongs_to_its_folder(key: str) -> None:
    assert counted(key).kind is Kind.FOLDER_SETTINGS


@pytest.mark.parametrize(
    "key", ["Settings.json", "acme/settings.old.json", "settings/line-01.json", "my settings.json"]
)
def test_any_other_json_belongs_to_the_job_of_its_name(key: str) -> None:
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
        (".cache/line.mp3", ".cache/line", ".cache"),
    ],
)
def test_folders_and_names_are_kept_whatever_they_hold(key: str, stem: str, folder: str) -> None:
    name = counted(key)
    assert (name.key, name.stem, name.name, name.folder) == (key, stem, stem, folder)


def test_the_job_id_is_the_first_32_hex_digits_of_the_sha256_of_folder_and_name() -> None:
    assert counted("acme/line-01.mp3").job == hashlib.sha256(b"acme/line-01").hexdigest()[:32]
    decomposed = counted(unicodedata.normalize("NFD", "café/é.mp3"))
    assert decomposed.job == hashlib.sha256("café/é".encode()).hexdigest()[:32]


@given(folders, bases, suffixes)
def test_both_unicode_forms_of_a_name_are_one_job_in_one_folder(folder: list[str], base: str, suffix: str) -> None:
    key = "/".join([*folder, base]) + suffix
    composed, decomposed = (counted(unicodedata.normalize(form, key)) for form in ("NFC", "NFD"))
    assert counted(key).job == composed.job == decomposed.job
    assert counted(key).folder == composed.folder == decomposed.folder
    assert same_key(composed.key, decomposed.key)


@given(folders, bases, suffixes)
def test_the_extensions_case_makes_no_difference_to_kind_job_and_folder(
    folder: list[str], base: str, suffix: str
) -> None:
    stem = "/".join([*folder, base])
    names = [counted(stem + written) for written in cases(suffix)]
    assert len({(name.kind, name.suffix, name.job, name.folder) for name in names}) == 1
    assert same_key(names[0].key, names[1].key)


@given(folders, bases, suffixes)
def test_outputs_keep_the_keys_own_bytes(folder: list[str], base: str, suffix: str) -> None:
    stem = "/".join([*folder, base])
    assert counted(stem + suffix).stem.encode() == stem.encode()


@given(bases, bases, suffixes, suffixes)
def test_names_that_differ_are_different_jobs_and_names_that_agree_are_one(
    one: str, other: str, suffix: str, other_suffix: str
) -> None:
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
def test_names_are_compared_case_sensitively_and_with_their_folder(one: str, other: str) -> None:
    assert counted(one).job != counted(other).job
    assert not same_key(one, other)


@given(st.text(max_size=30), suffixes)
@example("/0", ".mp3")
@example("x//0", ".mp3")
def test_any_key_with_such_a_suffix_counts_unless_its_name_begins_with_a_dot(start: str, suffix: str) -> None:
    key = start + suffix
    name = classify(key)
    assert (name is None) is key.rpartition("/")[2].startswith(".")
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
def test_slashes_and_dots_are_letters_of_the_folders_name(parts: list[str], base: str, suffix: str) -> None:
    stem = "/".join([*parts, base])
    name = counted(stem + suffix)
    assert (name.stem, name.name) == (stem, unicodedata.normalize("NFC", stem))


@given(*[st.lists(st.sampled_from(["", ".", "..", "a"]), max_size=4)] * 2)
def test_two_folders_are_one_only_if_they_are_written_alike(one: list[str], other: list[str]) -> None:
    voice, portrait = (counted("/".join([*parts, name])) for parts, name in ((one, "x.mp3"), (other, "y.png")))
    assert (voice.folder == portrait.folder) is (one == other)


@pytest.mark.parametrize(
    ("key", "folder"),
    [("a.mp3", ""), ("/a.mp3", "/"), ("//a.mp3", "//"), ("///a.mp3", "///"), ("/x/a.mp3", "/x"), ("x//a.mp3", "x/")],
)
def test_the_folder_of_a_key_that_begins_with_a_slash_is_not_the_root(key: str, folder: str) -> None:
    assert counted(key).folder == folder


# Texts that are no keys


@pytest.mark.parametrize("length", [1025, 1_000_001])
def test_a_text_longer_than_a_key_is_refused_at_once_with_limit_value_and_way_out(length: int) -> None:
    key = "a" + "\u0301\u0323" * (length // 4) + ".mp3"  # accents out of order: sorting n of them takes n²
    started = time.process_time()
    for judge in (classify, lambda key: same_key(key, key)):
        with pytest.raises(NoKeyError, match=r"1024.*send the key of an object") as caught:
            judge(key)
        assert str(length) in str(caught.value)
    assert time.process_time() - started < 0.5


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
def test_a_file_is_named_in_either_unicode_form_and_any_case_of_its_extension(one: str, other: str, same: bool) -> None:
    assert same_key(one, other) is same
