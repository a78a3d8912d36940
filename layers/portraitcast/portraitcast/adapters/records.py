"""Frozen dataclasses as plain values and back, and as DynamoDB's native attributes.

While a stack is updated, and after it was rolled back, a table holds what another version has written: fields that
this version doesn't know are left out.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return a value as JSON has it; fields of dataclasses that are None are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        held = {f.name: getattr(value, f.name) for f in fields(value)}
        return {name: to_plain(field) for name, field in held.items() if field is not None}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {name: to_plain(field) for name, field in value.items()}
    return [to_plain(part) for part in value] if isinstance(value, tuple | list) else value


def from_plain(kind: type[T], plain: Mapping[str, Any]) -> T:
    """Return the dataclass of this kind that `to_plain` wrote."""
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]  # a class is hashable
    read = {name: _typed(hint, plain[name]) for name, hint in hints.items() if name in plain}
    return kind(**{**_left_out(kind), **read})  # type: ignore[arg-type]  # a class is hashable


@cache
def _left_out(kind: Any) -> dict[str, None]:
    """Return the fields without a default that `to_plain` leaves out where they are None."""
    bare = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    return {name: None for name in bare if type(None) in get_args(_hints(kind)[name])}


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _typed(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        known = [part for part in get_args(hint) if part is not type(None)]
        return _typed(known[0], value) if len(known) == 1 else value
    if origin is tuple:
        parts = get_args(hint)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_typed(parts[0], part) for part in value)
        return tuple(_typed(part, each) for part, each in zip(parts, value, strict=True))
    if origin is dict:
        return {name: _typed(get_args(hint)[1], each) for name, each in value.items()}
    if isinstance(hint, type):
        if is_dataclass(hint):
            return from_plain(hint, value)
        if hint is float or issubclass(hint, StrEnum):
            return hint(value)
    return value


def to_attribute(value: Any) -> dict[str, Any]:
    """Return a plain value as a DynamoDB attribute: maps, lists, numbers, readable in the console."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | float():
            return {"N": repr(value)}
        case Mapping():
            return {"M": {str(name): to_attribute(each) for name, each in value.items()}}
        case _:
            return {"L": [to_attribute(each) for each in value]}


def from_attribute(attribute: Mapping[str, Any]) -> Any:
    """Return a DynamoDB attribute as a plain value."""
    ((kind, value),) = attribute.items()
    match kind:
        case "NULL":
            return None
        case "N":
            return float(value) if any(c in value for c in ".eE") else int(value)
        case "M":
            return {name: from_attribute(each) for name, each in value.items()}
        case "L":
            return [from_attribute(each) for each in value]
        case _:
            return value


def to_item(value: Any) -> dict[str, Any]:
    """Return a dataclass as the attributes of an item."""
    return {name: to_attribute(each) for name, each in to_plain(value).items()}


def from_item(kind: type[T], item: Mapping[str, Any]) -> T:
    """Return the dataclass of this kind that an item holds."""
    known = _hints(kind)  # type: ignore[arg-type]  # a class is hashable
    return from_plain(kind, {name: from_attribute(each) for name, each in item.items() if name in known})
