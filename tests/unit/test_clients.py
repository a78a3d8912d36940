"""The clients that functions are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from portraitcast.bootstrap import clients

if TYPE_CHECKING:
    from collections.abc import Iterable


def s3_of(members: Iterable[str]) -> Any:
    """Return what of an S3 client says which parameters of PutObject its boto3 knows."""
    shape = SimpleNamespace(members=dict.fromkeys(members))
    model = SimpleNamespace(operation_model=lambda _: SimpleNamespace(input_shape=shape))
    return SimpleNamespace(meta=SimpleNamespace(service_model=model))


def test_an_old_boto3_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every report would be tried later, for ever."""
    monkeypatch.setattr(clients, "client", lambda _: s3_of(["Bucket", "Key", "IfNoneMatch"]))
    with pytest.raises(clients.OldBotoError, match=r"doesn't know conditional writes .* 1\.35\.70 or newer"):
        clients.s3_client()


def test_a_boto3_that_knows_conditional_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = s3_of(["Bucket", "Key", "IfMatch", "IfNoneMatch"])
    monkeypatch.setattr(clients, "client", lambda _: known)
    assert clients.s3_client() is known
