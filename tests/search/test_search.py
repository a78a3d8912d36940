"""A moment of the search: the same histories every time. `make search` draws others for as long as it is let."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Search

import hypothesis_profile  # noqa: F401 - importing it sets the profile

HISTORIES = 150
STEPS = 25


def test_no_history_pays_twice_or_shows_anothers_video() -> None:
    run_state_machine_as_test(Search, settings=settings(max_examples=HISTORIES, stateful_step_count=STEPS))
