"""Randomized plans of crashes; tests/crash/README.md says what they are."""

import os
import random

import pytest
from crash.__main__ import carry_out

LONG = os.environ.get("TIDEWAY_TEST_LONG") == "1"
PLANS = 500 if LONG else 50


@pytest.mark.timeout(7200 if LONG else 900)
def test_no_plan_of_crashes_loses_doubles_or_undoes_a_row():
    # The short suite decides whether a change may land: the same plans for each. The long one explores.
    drawn = random.randrange(1_000_000) if LONG else 145_337
    first = int(os.environ.get("TIDEWAY_TEST_SEED", drawn))
    print(f"seeds from {first}")
    troubles = carry_out(range(first, first + PLANS), at_once=4)
    assert not troubles, "\n\n".join(troubles)
