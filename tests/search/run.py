"""`make search`: random histories for as long as it is let, or every interleaving of two functions.

It ends at the first finding, with the shortest history that Hypothesis comes to. With a mutant a finding is what is
wanted.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
import traceback

import hypothesis
from explorer import SCENARIOS, explore
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import run_state_machine_as_test
from judge import Judge
from machine import Search
from mutants import mutant

HISTORIES = 200  # of one seed
STEPS = 30
PREEMPTIONS = 2


SHORTEN_SECONDS = 60  # that a history is shortened for, at the most


def tell_the_first(began: float) -> None:
    """Have the first finding printed at once: shortening its history takes a while."""
    check = Judge.check
    told: list[AssertionError] = []

    def tell(self: Judge) -> None:
        try:
            check(self)
        except AssertionError as error:
            if not told:
                told.append(error)
                print(f"after {time.monotonic() - began:.0f} s, and to be shortened: {error}", flush=True)
            raise

    Judge.check = tell  # type: ignore[method-assign]


def search(minutes: float, seed: int) -> bool:
    """Draw histories; says whether one failed, and prints it."""
    ends_at, began, histories = time.monotonic() + 60 * minutes, time.monotonic(), 0
    tell_the_first(began)
    engine.MAX_SHRINKING_SECONDS = SHORTEN_SECONDS
    fixed = settings(
        max_examples=HISTORIES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    while time.monotonic() < ends_at:
        one = type("OneSearch", (Search,), {})
        try:
            run_state_machine_as_test(hypothesis.seed(seed)(one), settings=fixed)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
            print(f"\nSEED={seed} finds, after {histories} histories of earlier seeds:")
            print("".join(traceback.format_exception_only(error)), flush=True)
            return True
        histories, seed = histories + HISTORIES, seed + 1
        spent = time.monotonic() - began
        print(f"{histories} histories, {spent / histories * 1000:.0f} ms each, the next seed is {seed}", flush=True)
    return False


def interleavings() -> bool:
    """Try every interleaving; says whether one failed."""
    found, tried = False, 0
    for scenario in SCENARIOS:
        result = explore(scenario, PREEMPTIONS)
        tried += result.tried
        print(f"{scenario.__name__}: {result.tried} interleavings", flush=True)
        for fault, segments in result.faults.items():
            found = True
            print(f"  {fault}\n    by {segments}")
    print(f"{tried} interleavings in all")
    return found


def main() -> int:
    """Search as the environment says: MINUTES, SEED, MUTANT, EXPLORE."""
    logging.getLogger("portraitcast").setLevel(logging.ERROR)
    logging.getLogger("portraitcast").propagate = False
    number = int(os.environ["MUTANT"]) if os.environ.get("MUTANT") else None
    seed = int(os.environ.get("SEED") or secrets.randbelow(1_000_000))
    with mutant(number):
        found = interleavings() if os.environ.get("EXPLORE") else search(float(os.environ.get("MINUTES") or 60), seed)
    return int(found == (number is None))  # a mutant that isn't found is the failure


if __name__ == "__main__":
    sys.exit(main())
