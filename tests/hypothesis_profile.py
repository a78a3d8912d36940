"""Properties draw the same examples every time; ``EXAMPLES=20000 make test-unit`` draws that many at random.

So a test fails because of a change and never by chance. The longer search finds what the same
examples never show; it prints how to draw again what failed.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))

settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # the only check that looks at the clock
)
if EXAMPLES:
    same = settings.get_profile("same")
    settings.register_profile("search", same, max_examples=EXAMPLES, derandomize=False, print_blob=True)
    settings.load_profile("search")
else:
    settings.load_profile("same")
    # Hypothesis also draws constants that it reads in the modules imported so far, and derandomize leaves that on:
    # which these are depends on the tests that a worker ran before, and on each edit of the product. Give it none.
    providers._get_local_constants = lambda: providers._local_constants
