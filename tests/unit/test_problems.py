"""What the provider's refusals tell the owner of the files: the code, its words, and a way out."""

from __future__ import annotations

import pytest

from portraitcast.adapters.dashscope.client import AccountError, JobRefusedError, Task
from portraitcast.domain.problems import (
    account_refuses_job,
    no_usable_answer,
    portrait_refused,
    provider_refused,
    task_failed,
)

PORTRAIT = {"key": "acme/anna.png", "version": "v1"}


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
def test_each_verdict_of_the_portrait_check_is_told_in_plain_words(code: str, wrong: str, way_out: str) -> None:
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
def test_a_verdict_without_a_known_code_still_names_the_portrait_and_a_way_out(code: str) -> None:
    problem = portrait_refused(code, "", None, PORTRAIT)
    assert problem.code == "PortraitRefused"
    assert "anna.png" in problem.message
    assert problem.what_to_do
    assert (problem.provider_code, problem.provider_message) == (code or None, None)


def test_a_portrait_given_as_a_link_is_refused_without_the_link() -> None:
    problem = portrait_refused("InvalidFile.NoHuman", "", None, {"key": None, "link": "https://a.example/p.png?sig=1"})
    assert "the linked portrait" in problem.message
    assert "sig" not in str(problem)
    assert "under the same name" not in problem.what_to_do  # a link has none


def test_a_refused_job_repeats_the_providers_words() -> None:
    error = JobRefusedError("InvalidURL", "The input audio is longer than 60s.", request_id="r-2", http_status=400)
    problem = provider_refused(error)
    assert problem.code == "ProviderRejected"
    assert "The input audio is longer than 60s." in problem.message
    assert problem.what_to_do
    assert (problem.provider_code, problem.provider_message, problem.request_id) == (
        "InvalidURL",
        "The input audio is longer than 60s.",
        "r-2",
    )


def test_a_refusal_without_words_says_its_code() -> None:
    problem = provider_refused(JobRefusedError("DataInspectionFailed", ""))
    assert "DataInspectionFailed" in problem.message
    assert problem.provider_message is None


def test_a_job_that_alone_meets_the_accounts_trouble_is_told_so() -> None:
    problem = account_refuses_job(AccountError("AccessDenied", "not for you", request_id="r-3"))
    assert problem.code == "ProviderRejected"
    assert "takes others" in problem.message
    assert (problem.provider_code, problem.provider_message, problem.request_id) == (
        "AccessDenied",
        "not for you",
        "r-3",
    )


def test_a_job_that_alone_gets_no_usable_answer_hears_that_nothing_was_paid() -> None:
    problem = no_usable_answer()
    assert problem.code == "TaskFailed"
    assert "nothing was paid" in problem.what_to_do


def task(code: str | None, message: str | None) -> Task:
    return Task("t-1", "FAILED", None, None, None, None, code, message, "r-4", None)


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("InternalError.Timeout", "No result in time.", "No result in time."),
        ("InternalError.Algo", None, "InternalError.Algo"),
        (None, None, "could not make the video."),
    ],
)
def test_a_failed_task_is_told_with_what_the_provider_says_if_anything(
    code: str | None, message: str | None, said: str
) -> None:
    problem = task_failed(task(code, message))
    assert problem.code == "TaskFailed"
    assert said in problem.message
    assert "None" not in problem.message
    assert "another try" in problem.what_to_do
    assert (problem.provider_code, problem.provider_message, problem.request_id) == (code, message, "r-4")
