"""What a job costs in calls: a call more, and this fails."""

from __future__ import annotations

from bench.overhead import beyond_table, one_by_one


def test_a_clean_job_makes_no_call_of_aws_or_the_service_beyond_the_table() -> None:
    jobs = one_by_one(3)

    assert [calls["submit", "emo.create"] for calls in jobs.calls] == [1, 1, 1]
    assert not beyond_table(jobs)
