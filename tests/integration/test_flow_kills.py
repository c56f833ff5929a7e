"""Kill -9 of every process that takes part in flows: a small run of what `scripts/chaos` does."""

import os
import time
from pathlib import Path

from tests.chaos.flow_kills import KINDS, FlowKills

SEED = int(os.environ.get("SEED", time.time_ns() % 100_000))


async def test_kill_of_every_process_under_load_each_flow_ends_once(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    await FlowKills(tmp_path, SEED, 1000, len(KINDS), 1.0, print).run()
