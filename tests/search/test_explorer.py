"""A part of the interleavings of two functions. `make search EXPLORE=1` tries all with up to two preemptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from explorer import SCENARIOS, Result, explore, settings_dispatch, try_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer import Pair
    from small_world import SmallWorld

STRIDE = 2  # of the calls to switch at


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_any_one_preemption_ends_well(scenario: Callable[[SmallWorld], Pair]) -> None:
    result = explore(scenario, 1, STRIDE)
    assert result.faults == {}
    assert result.tried > 5


@pytest.mark.parametrize("read_before", range(1, 13))
@pytest.mark.parametrize("noted_after", range(1, 7))
def test_settings_noted_while_a_job_is_sent(read_before: int, noted_after: int) -> None:
    """They are noted after the job was evaluated and before the bucket is asked: the explorer found it paid twice."""
    result = Result(0, {})
    try_one(settings_dispatch, ((1, read_before), (0, noted_after), (1, 10_000), (0, 10_000)), result)
    assert result.faults == {}
