"""Tests of the media layer reach no network: neither a connection nor the look-up of a name."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_network(socket_disabled: None) -> None:
    """Let pytest-socket refuse every socket and every name in this folder's tests."""
