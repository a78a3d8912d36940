"""What the owner's systems know a job by: its reference, the voice's metadata, the name of a download."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.config import check_places, check_poll_seconds
from portraitcast.domain.disposition import NAME_MAX_BYTES, content_disposition
from portraitcast.domain.job import Status
from portraitcast.domain.metadata import user_metadata
from portraitcast.domain.problems import ProblemError
from portraitcast.domain.settings import parse_settings
from portraitcast.errors import ParameterError
from unit.samples import INPUTS, VOICE, job


def reference(value: object) -> str | None:
    return parse_settings(
        json.dumps({"job": {"reference": value}}).encode(), "a/b.json", folder_defaults=False
    ).reference


# The reference


@pytest.mark.parametrize("value", ["order-4711", "注文 4711", "a" * 200, None])
def test_a_reference_is_taken_as_written(value: str | None) -> None:
    assert reference(value) == value


@pytest.mark.parametrize("value", ["", "  ", "a" * 201, "a\nb", "a\u202eb", "\ud800", 4711, True, ["a"], {}])
def test_what_is_no_reference_is_refused(value: object) -> None:
    """An attribute of SNS carries it, and people read it."""
    with pytest.raises(ProblemError) as refused:
        reference(value)
    problem = refused.value.problem
    assert problem.code == "SettingsInvalid"
    assert "$.job.reference must be a text of 1 to 200 characters" in problem.message


def test_a_folder_has_no_reference() -> None:
    data = json.dumps({"job": {"reference": "all"}}).encode()
    with pytest.raises(ProblemError, match=r"\$.job is about one job"):
        parse_settings(data, "a/settings.json", folder_defaults=True)


@pytest.mark.parametrize(
    ("inputs", "quiet"),
    [
        (INPUTS, True),
        (replace(INPUTS, reference="order-4712"), False),
        (replace(INPUTS, voice=replace(VOICE, metadata={"customer": "k-2"})), False),
    ],
    ids=["the same", "another reference", "other metadata"],
)
def test_asked_again_under_another_label_is_told(inputs: Any, quiet: bool) -> None:
    """The video is there, and nothing is paid; whoever waits for the new order hears of it."""
    done = replace(job("done", inputs=INPUTS), status=Status.DONE, revision=3, published=3)
    assert done.confirm(inputs, "i", "f", 1.0).quiet is quiet


# Metadata


def test_metadata_is_readable_text() -> None:
    """S3 hands out what is beyond ASCII as words of RFC 2047."""
    raw = {"b": "=?UTF-8?B?5rOo5paH?=", "a": "plain", "c": "=?UTF-8?Q?caf=C3=A9?= noir", "d": "=?what?"}
    assert user_metadata(raw) == {"a": "plain", "b": "注文", "c": "café noir", "d": "=?what?"}


@given(st.dictionaries(st.text(max_size=300), st.text(max_size=3000)))
def test_metadata_is_bounded_and_can_be_written(raw: dict[str, str]) -> None:
    kept = user_metadata(raw)
    assert sum(len(name.encode()) + len(value.encode()) for name, value in kept.items()) <= 2048
    assert all(char.isprintable() or ord(char) > 127 for name in kept for char in name + kept[name])


# The name of a download


@pytest.mark.parametrize(
    ("key", "header"),
    [
        ("acme/line-01.mp4", 'attachment; filename="line-01.mp4"'),
        ("a b+c.mp4", 'attachment; filename="a b+c.mp4"'),
        ("acme/注文.mp4", "attachment; filename=\"__.mp4\"; filename*=UTF-8''%E6%B3%A8%E6%96%87.mp4"),
        ('x";\r\nSet-Cookie: a=1.mp4', 'attachment; filename="x_;__Set-Cookie_ a=1.mp4"'),
        ("50%.mp4", "attachment; filename=\"50_.mp4\"; filename*=UTF-8''50%25.mp4"),
        ("..\\up.mp4", 'attachment; filename=".._up.mp4"'),
        ("\u202e4pm.exe.mp4", 'attachment; filename="_4pm.exe.mp4"'),
    ],
)
def test_a_download_has_the_jobs_name(key: str, header: str) -> None:
    assert content_disposition(key) == header


@given(st.text(max_size=1024))
def test_the_header_is_safe_whatever_the_key(stem: str) -> None:
    header = content_disposition(f"{stem}.mp4")
    assert header.isascii()
    assert header.isprintable()
    assert len(header) < 1536  # Amazon S3 takes 2 KB of system metadata
    assert header.count('"') == 2
    plain, _, other = header.removeprefix('attachment; filename="').partition('"')
    assert "\\" not in plain
    name = unquote(other.removeprefix("; filename*=UTF-8''"), errors="strict") or plain
    assert name.endswith(".mp4")
    assert len(name.encode()) <= NAME_MAX_BYTES
    assert "/" not in name


# Parameters that contradict each other


def test_a_least_above_its_most_is_no_stack() -> None:
    check_poll_seconds(15, 15)
    with pytest.raises(ParameterError, match="MinPollSeconds is 16 and MaxPollSeconds 15"):
        check_poll_seconds(16, 15)


@pytest.mark.parametrize(("uploads", "results"), [("", "out/"), ("in/", ""), ("a/", "a/b/"), ("a/b/", "a/"), ("", "")])
def test_results_among_uploads_are_refused(uploads: str, results: str) -> None:
    """A report would be taken for the settings of its job, and a video for its voice."""
    with pytest.raises(ParameterError, match="within each other"):
        check_places("one", uploads, "one", results)
    check_places("one", uploads, "other", results)
    check_places("one", "in/", "one", "out/")
