"""No bytes of strangers crash a parser, hold it up for a second or make it take much memory."""

from __future__ import annotations

import pytest

from fuzz.fuzzer import Fuzzer, Target
from fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_input_is_refused_in_time_and_in_bounds(target: Target, request: pytest.FixtureRequest) -> None:
    options = request.config
    fuzzer = Fuzzer(target, options.getoption("--seed"), keep=options.getoption("--keep"))

    fuzzer.fuzz(options.getoption("--inputs"))
