"""What the owner of a job is told when it goes wrong: code, words, limit, measured value, way out; and redaction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.domain.problems import (
    NAME_MAX,
    SHOWN_MAX,
    Problem,
    ProblemError,
    account_refuses_job,
    controls,
    create_ambiguous,
    execution_aborted,
    no_usable_answer,
    no_video_link,
    not_delivered,
    over_budget,
    plain,
    portrait_refused,
    provider_refused,
    scrub,
    show_link,
    task_failed,
    task_life_over,
    wrong_length,
)

PORTRAIT = "acme/anna.png"


def words(problem: Problem) -> tuple[str | None, ...]:
    """Return what the provider said."""
    return problem.provider_code, problem.provider_message, problem.request_id


# What the provider says of a portrait or a job


@pytest.mark.parametrize(
    ("code", "wrong", "way_out"),
    [
        ("NoHuman", "no person", "one person"),
        ("MultiHuman", "more than one person", "one person only"),
        ("BodyProportion", "too large or too small", "head and shoulders"),
        ("Resolution", "sides", "400 to 7000"),
        ("Value", "unclear", "sharp"),
        ("FrontBody", "doesn't face the camera", "from the front"),
        ("FullFace", "face is not whole", "whole face"),
        ("FacePose", "turned", "into the camera"),
        ("FullBody", "body is not whole", '"1:1"'),
    ],
)
def test_each_verdict_of_the_check(code: str, wrong: str, way_out: str) -> None:
    problem = portrait_refused(f"InvalidFile.{code}", "The image is bad.", "r-1", PORTRAIT)
    assert problem.code == "PortraitRefused"
    assert problem.message.startswith("anna.png: ")
    assert wrong in problem.message.lower()
    assert way_out in problem.what_to_do
    assert (problem.provider_code, problem.provider_message, problem.request_id) == (
        f"InvalidFile.{code}",
        "The image is bad.",
        "r-1",
    )


@pytest.mark.parametrize("code", ["", "InvalidFile.NewOne", "InvalidParameter", "InvalidURL"])
def test_a_verdict_without_a_known_code(code: str) -> None:
    problem = portrait_refused(code, "", None, PORTRAIT)
    assert problem.code == "PortraitRefused"
    assert "anna.png" in problem.message
    assert problem.what_to_do
    assert (problem.provider_code, problem.provider_message) == (code or None, None)


def test_a_linked_portrait() -> None:
    problem = portrait_refused("InvalidFile.NoHuman", "", None, None)
    assert "the linked portrait" in problem.message
    assert "under the same name" not in problem.what_to_do  # a link has none
    assert "link" in problem.what_to_do


def test_a_refused_job_repeats_the_providers_words() -> None:
    problem = provider_refused("InvalidURL", "The input audio is longer than 60s.", "r-2")
    assert problem.code == "ProviderRejected"
    assert "The input audio is longer than 60s." in problem.message
    assert words(problem) == ("InvalidURL", "The input audio is longer than 60s.", "r-2")


def test_a_refusal_without_words_says_its_code() -> None:
    problem = provider_refused("DataInspectionFailed", "", None)
    assert "DataInspectionFailed" in problem.message
    assert problem.provider_message is None


def test_a_job_that_alone_meets_trouble() -> None:
    problem = account_refuses_job("AccessDenied", "not for you", "r-3")
    assert problem.code == "ProviderRejected"
    assert "takes others" in problem.message
    assert words(problem) == ("AccessDenied", "not for you", "r-3")


def test_a_job_that_alone_gets_no_answer() -> None:
    problem = no_usable_answer()
    assert problem.code == "TaskFailed"
    assert "nothing was paid" in problem.what_to_do


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("InternalError.Timeout", "No result in time.", "No result in time."),
        ("InternalError.Algo", None, "InternalError.Algo"),
        (None, None, "could not make the video."),
    ],
)
def test_a_failed_task(code: str | None, message: str | None, said: str) -> None:
    problem = task_failed(code, message, "r-4")
    assert problem.code == "TaskFailed"
    assert said in problem.message
    assert "None" not in problem.message
    assert "another try" in problem.what_to_do
    assert words(problem) == (code, message, "r-4")


# Every problem


@pytest.mark.parametrize(
    ("problem", "code", "limit", "measured"),
    [
        (portrait_refused("", "", None, PORTRAIT), "PortraitRefused", None, None),
        (provider_refused("Odd", "odd", None), "ProviderRejected", None, None),
        (account_refuses_job("Odd", "odd", None), "ProviderRejected", None, None),
        (no_usable_answer(), "TaskFailed", None, None),
        (create_ambiguous(["t-1", "t-2"], ""), "CreateAmbiguous", None, "tasks t-1, t-2"),
        (create_ambiguous([], "500"), "CreateAmbiguous", "1 h", "500"),
        (create_ambiguous([], ""), "CreateAmbiguous", "1 h", None),
        (over_budget(4.8, 3.5), "OverBudget", "CNY 3.5 a day", "CNY 4.80"),
        (task_failed(None, None, None), "TaskFailed", None, None),
        (task_life_over("t-1"), "TaskFailed", "24 h", "task t-1"),
        (no_video_link("t-1", "r-1"), "TaskFailed", None, "task t-1"),
        (wrong_length(6.0, 61.234, 0.5), "CreateAmbiguous", "6 s ± 0.5 s", "61.23 s"),
        (not_delivered("t-1", "the host refused"), "DeliveryFailed", "24 h", "task t-1"),
        (execution_aborted(cancelled=True), "ExecutionAborted", None, None),
        (execution_aborted(cancelled=False), "ExecutionAborted", None, None),
    ],
)
def test_each_problem_names_a_way_out(problem: Problem, code: str, limit: str | None, measured: str | None) -> None:
    assert (problem.code, problem.limit, problem.measured) == (code, limit, measured)
    assert problem.what_to_do.endswith(".")
    assert problem.message
    assert str(ProblemError(problem)) == problem.message


def test_an_aborted_execution_says_what_is_paid() -> None:
    assert "nothing is paid" in execution_aborted(cancelled=True).message
    assert "goes on" in execution_aborted(cancelled=False).message


def test_of_many_tasks_twenty_are_named() -> None:
    assert (
        create_ambiguous([f"t-{n}" for n in range(99)], "").measured
        == f"tasks {', '.join(f't-{n}' for n in range(20))}"
    )


# Redaction


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@host:8/a/b.png?X-Amz-Signature=1#f", "https://host:8/a/b.png"),
        ("https://host/a@b.png", "https://host/a@b.png"),
        ("http://a@b@host/x", "http://host/x"),
        ("https://host?x", "https://host"),
        ("https://host#x@y", "https://host"),
        ("//user:pw@host/x", "//host/x"),
    ],
)
def test_a_link_as_people_may_see_it(url: str, shown: str) -> None:
    assert show_link(url) == shown


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Unable to download https://u:p@h/a.mp3?X-Amz-Signature=1&b=2 now", "Unable to download https://h/a.mp3 now"),
        ("HTTP://h/x?y and oss://k:s@h/z#q", "HTTP://h/x and oss://h/z"),
        (r"{\"url\":\"http:\/\/u:p@h\/a?Signature=s\"}", r"{\"url\":\"http:\/\/h\/a"),
        ("got /a.mp3?OSSAccessKeyId=LTAI&Signature=abc", "got /a.mp3?OSSAccessKeyId=…"),
        ("key sk-0123456789abcdef is wrong", "key sk-… is wrong"),
        ("a risk-averse task-12345", "a risk-averse task-12345"),
        ("nothing to hide: 3:4", "nothing to hide: 3:4"),
    ],
)
def test_what_may_be_secret_is_scrubbed(text: str, clean: str) -> None:
    assert scrub(text) == clean


@given(st.text(max_size=300), st.sampled_from([SHOWN_MAX, NAME_MAX]))
def test_a_repeated_value_is_one_short_line(text: str, most: int) -> None:
    shown = plain(text, most)
    assert len(shown) <= most
    assert not any(controls(char) for char in shown)
    assert shown.encode().decode() == shown
