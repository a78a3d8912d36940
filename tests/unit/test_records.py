"""What is stored is what is read: jobs, uploads, accounts and executions as plain values and as native attributes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitcast.adapters.records import (
    from_attribute,
    from_item,
    from_plain,
    to_attribute,
    to_item,
    to_plain,
)
from portraitcast.domain.account import Account, KnownTask, OpenCreate
from portraitcast.domain.execution import Execution
from portraitcast.domain.job import Job, PortraitCheck, SettingsFile, Status
from portraitcast.domain.models import Boxes
from portraitcast.domain.polling import Pace
from portraitcast.domain.uploads import Facts
from unit.samples import INPUTS, KNOWN, NOW, PROBLEM, job, living, upload

CREATE = OpenCreate("a", 3, "emo-v1", NOW, NOW + 90, 4.8, unknown_since=NOW + 35, looks=1, request_id="r-1")
ACCOUNT = (
    Account()
    .begin_create(CREATE, "k1")
    .take_slot("b#1", "liveportrait")
    .lease_check("c", NOW + 37, 0.004, NOW)
    .open_breaker(NOW, interval=60.0, code="Arrearage", message="unpaid")
    .note_failure("a")
    .pause(NOW, paused=True)
)
ACCOUNT = replace(ACCOUNT, recent_tasks=(KnownTask("t-1", "emo-v1", NOW, NOW + 1, None),), suspects={"d": 1})
STORED = [
    *(living(status) for status in Status),
    living("rejected", inputs=replace(INPUTS, settings_files=(SettingsFile("a.json", "v1", None),))),  # it was too big
    job("waiting"),
    job("rejected", **KNOWN),
    upload(),
    upload(facts=Facts("a" * 64, "mp3", 6.05), etag="e", sequencer="0055"),
    upload(facts=Facts(problem=PROBLEM), deleted=True, refused=True),
    upload("acme/line-01.json", text='{"model": "emo-v1"}'),
    Account(),
    ACCOUNT,
    PortraitCheck(Boxes((1, 2, 3, 4), (-5, 0, 6, 7))),
    PortraitCheck(problem=PROBLEM),
    Pace(12.5, 3),
    Execution("a", 1, "t-1", NOW),
    Execution("a", 1, "t-1", NOW, running_since=NOW + 0.5, fetch_error="refused", ended=True, polls=9),
]


def kind(value: object) -> str:
    return type(value).__name__


# Round trips


@pytest.mark.parametrize("value", STORED, ids=kind)
def test_what_is_stored_is_read(value: Any) -> None:
    """An upload's item and a job's are these attributes and keys of the table's own."""
    item = {"pk": {"S": "JOB#a"}, "sk": {"S": "JOB"}, **to_item(value)}
    assert from_item(type(value), json.loads(json.dumps(item))) == value


@pytest.mark.parametrize("value", STORED, ids=kind)
def test_what_goes_through_json_is_read(value: Any) -> None:
    """As an execution's state does."""
    assert from_plain(type(value), json.loads(json.dumps(to_plain(value)))) == value


@pytest.mark.parametrize("value", STORED, ids=kind)
def test_types_survive(value: Any) -> None:
    """A float that happens to be whole stays a float, a tuple a tuple, a status a status."""
    again = from_item(type(value), to_item(value))
    assert repr(again) == repr(value)


@pytest.mark.parametrize("value", STORED, ids=kind)
def test_what_is_none_is_not_stored(value: Any) -> None:
    assert "NULL" not in json.dumps(to_item(value))


# Another version of ours: while a stack is updated, and after it was rolled back


def with_more(plain: Any) -> Any:
    """Return a plain value as a newer version writes it: with a field more in each object of ours."""
    if isinstance(plain, dict):
        return {**{name: with_more(each) for name, each in plain.items()}, "of_a_newer_version": {"a": [1, None]}}
    return [with_more(each) for each in plain] if isinstance(plain, list) else plain


# Objects whose names are a person's or a job's, so that every name is a value.
OPEN = {"parameters", "tasks_in_flight", "failures", "suspects", "metadata"}


def without_open(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: without_open(each) for name, each in plain.items() if name not in OPEN}
    return [without_open(each) for each in plain] if isinstance(plain, list) else plain


@pytest.mark.parametrize("value", STORED, ids=kind)
def test_what_a_newer_version_has_stored(value: Any) -> None:
    read = from_plain(type(value), with_more(to_plain(value)))
    assert without_open(to_plain(read)) == without_open(to_plain(value))
    item = {**to_item(value), "of_a_newer_version": {"M": {}}}
    assert from_item(type(value), item) == value


@pytest.mark.parametrize("value", [job("queued"), Account(), upload(), Execution("a", 1, "t", NOW)], ids=kind)
def test_what_an_older_version_has_stored(value: Any) -> None:
    """Fields that it didn't know have their defaults."""
    needed = {"id", "name", "folder", "created_at", "inputs", "version", "bytes", "noticed_at"}
    needed |= {"job", "attempt", "task", "sent_at", "status"}
    assert from_plain(type(value), {k: v for k, v in to_plain(value).items() if k in needed}) == value


def test_a_field_that_is_missing_is_told() -> None:
    with pytest.raises(TypeError, match="created_at"):
        from_plain(Job, {"id": "a", "name": "a", "folder": "", "inputs": {"stem": "a"}})


# Any value


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    number: float
    pair: tuple[int, float] = (1, 2.0)
    colour: Colour | None = None


@dataclass(frozen=True, slots=True)
class Outer:
    inner: Inner
    unset: str | None
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()
    nested: tuple[tuple[str, ...], ...] = ()
    named: dict[str, Inner] = field(default_factory=dict)
    count: int = 0
    yes: bool = False
    value: str | int | float = ""


numbers = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(
    Inner,
    numbers,
    st.tuples(st.integers(-(2**53), 2**53), numbers),
    st.none() | st.sampled_from(Colour),
)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
outers = st.builds(
    Outer,
    inners,
    st.none() | st.just("set"),
    st.none() | inners,
    st.lists(inners, max_size=3).map(tuple),
    st.lists(st.lists(texts, max_size=3).map(tuple), max_size=3).map(tuple),
    st.dictionaries(texts, inners, max_size=3),
    st.integers(0, 2**60),
    st.booleans(),
    texts | st.integers(-(2**53), 2**53) | numbers,
)


@given(outers)
def test_any_value_is_read_as_it_was(value: Outer) -> None:
    assert repr(from_item(Outer, to_item(value))) == repr(value)
    assert repr(from_plain(Outer, json.loads(json.dumps(to_plain(value))))) == repr(value)


@given(
    st.recursive(
        st.none() | st.booleans() | texts | st.integers() | numbers, lambda x: st.lists(x) | st.dictionaries(texts, x)
    )
)
def test_any_plain_value_as_an_attribute(value: object) -> None:
    again = from_attribute(to_attribute(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        (None, {"NULL": True}),
        (True, {"BOOL": True}),
        (1, {"N": "1"}),
        (1.0, {"N": "1.0"}),
        (1e300, {"N": "1e+300"}),
        ("", {"S": ""}),
        ([1, "a"], {"L": [{"N": "1"}, {"S": "a"}]}),
        ({"a": False}, {"M": {"a": {"BOOL": False}}}),
    ],
    ids=str,
)
def test_attributes_as_dynamodb_names_them(value: object, attribute: dict[str, Any]) -> None:
    assert to_attribute(value) == attribute


@pytest.mark.parametrize(("number", "read"), [("3", 3), ("3.0", 3.0), ("1E+2", 100.0), ("-0.5", -0.5)])
def test_numbers_as_dynamodb_returns_them(number: str, read: float) -> None:
    """DynamoDB normalises numbers: a whole float may come back without its point, and is a float all the same."""
    found = from_attribute({"N": number})
    assert (found, type(found)) == (read, type(read))
    assert from_item(Inner, {"number": {"N": number}}).number == read
    assert isinstance(from_item(Inner, {"number": {"N": number}}).number, float)
    assert math.isclose(from_item(Pace, {"work_per_second": {"N": number}}).work_per_second, read)
