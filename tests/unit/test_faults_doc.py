"""The fault catalogue, and the page on AWS's behaviour, name tests that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "faults.md"
AWS = TESTS.parent / "docs" / "aws.md"
LEAST_ROWS = 110


def rows() -> list[list[str]]:
    """Return the cells of every row of the tables of faults, without their heads."""
    faults, _, _ = PAGE.read_text("utf-8").partition("## How it is tried")
    lines = [line for line in faults.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in {"Fault", "---"}]


@cache
def names_in(file: str) -> frozenset[str]:
    """Return the names of a file's tests."""
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_the_catalogue_is_long_enough_and_each_of_its_tests_is_about_one_fault() -> None:
    tests = [row[3] for row in rows()]
    assert len(tests) >= LEAST_ROWS
    assert len(tests) == len(set(tests))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_fault_says_what_is_seen_and_paid_and_names_a_test_that_is_there(row: list[str]) -> None:
    _, seen, paid, test = row
    assert seen
    assert paid
    named = re.fullmatch(r"`(\w+/\w+\.py)::(test_\w+)`", test)
    assert named, f"{test} names no test"
    assert named[2] in names_in(named[1])


# ---------------------------------------------------------------- docs/aws.md
BEHAVIOURS = re.findall(
    r"^\| (.+?) \| (.+?) \| .+ \| `(\w+/\w+\.py)::(test_\w+)` \|$", AWS.read_text("utf-8"), re.MULTILINE
)


def test_every_row_of_aws_names_a_page_and_a_test() -> None:
    behaviours, _, _ = AWS.read_text("utf-8").partition("## What only an account can show")
    assert len(BEHAVIOURS) == len([line for line in behaviours.splitlines() if line.startswith("| ")]) - 1
    assert [said for said, page, _, _ in BEHAVIOURS if not re.search(r'"[^"]+"', page)] == []


@pytest.mark.parametrize(("file", "test"), [row[2:] for row in BEHAVIOURS])
def test_what_aws_does_is_held_by_a_test(file: str, test: str) -> None:
    assert test in names_in(file)
