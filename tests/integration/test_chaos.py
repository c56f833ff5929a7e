"""Four workers killed, frozen and started at random under load, for half a minute."""

import os
import time
from pathlib import Path

from tests.chaos.run import Chaos

SEED = int(os.environ.get("SEED", time.time_ns() % 100_000))
SECONDS = 30.0


async def test_four_workers_killed_and_started_at_random_under_load(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    await Chaos(tmp_path, SEED, print).run(SECONDS)
