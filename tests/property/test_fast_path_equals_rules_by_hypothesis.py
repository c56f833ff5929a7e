"""As `test_fast_path_equals_rules`, in small worlds that are shrunk where they fail."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.comparing import compare
from tests.worlds import Profile, World


@settings(max_examples=350)
@given(st.randoms(use_true_random=False))
def test_small_worlds_drawn_by_hypothesis(chance: random.Random) -> None:
    """About 20,000 transfers; a failure is shrunk."""
    profile = Profile(accounts=5, limited=0.5, special=0.6, amount_max=9)
    compare(World(chance, profile), steps=4, size=28)
