"""How long fuzzing takes: a moment in ``make test``, as long as it takes in ``make fuzz``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--inputs", type=int, default=1000, help="inputs for each parser")
    parser.addoption("--seed", type=int, default=0, help="the same seed makes the same inputs")
    parser.addoption("--keep", action="store_true", help="keep inputs that came to something new in corpus/")
