"""What the columns decide is what the sequential rules decide, for every mix of features.

Claimed of outcomes, balances after every step, what is kept of every id, and the postings,
whose versions are dense and whose counters follow from one another.
"""

import os
import random

from tests.comparing import compare
from tests.worlds import Profile, World

SEEDED_TRANSFERS = int(os.environ.get("SEEDED_TRANSFERS", "180000"))
SEED = int(os.environ.get("SEED", "0"))


def test_large_worlds_drawn_from_seeds() -> None:
    seed, count = SEED, 0
    while count < SEEDED_TRANSFERS:
        chance = random.Random(seed)
        profile = Profile(
            accounts=chance.choice([4, 12, 60, 400]),
            limited=chance.choice([0, 0.3, 1]),
            special=chance.choice([0, 0.02, 0.1, 0.5, 0.9]),
            amount_max=chance.choice([5, 60, 1000]),
            kinds=chance.choice([10, 20]),
        )
        steps, size = chance.randint(1, 12), chance.choice([5, 40, 300, 1500])
        if seed % 3 == 0:
            # Holds made in one batch and resolved in the next, amid plain transfers on accounts
            # that have just enough: where what is set free counts.
            profile = Profile(accounts=40, limited=0.5, special=0.2, amount_max=60, kinds=10)
            steps, size = 20, 60
        if seed % 3 == 1:
            # Linked chains of moves between few accounts that have just enough.
            profile = Profile(
                accounts=6,
                limited=0.7,
                special=0.1,
                amount_max=6,
                kinds=10,
                linked=0.4,
                elsewhere=0,
            )
            steps, size = 60, 20
        world = World(chance, profile)
        try:
            compare(world, steps, size)
        except AssertionError as error:
            raise AssertionError(f"SEED={seed}") from error
        count += world.count
        seed += 1
