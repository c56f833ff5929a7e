"""Faults of all kinds at random under load, for a while; and those that need servers in numbers."""

import os
import time
from pathlib import Path

import pytest

from tests.chaos.run import Chaos

SEED = int(os.environ.get("SEED", time.time_ns() % 100_000))
SECONDS = 30.0


async def test_four_workers_killed_and_started_at_random_under_load(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    await Chaos(tmp_path, SEED, print).run(SECONDS)


@pytest.mark.long
async def test_postgres_fails_over_under_load_and_nothing_answered_is_lost(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chaos = Chaos(tmp_path, SEED, print, ["postgres_failed_over"])
    await chaos.run(1.0)
    assert [injection.kind for injection in chaos.report.injections] == ["postgres_failed_over"]


@pytest.mark.long
async def test_slots_of_a_cluster_move_under_load(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chaos = Chaos(tmp_path, SEED, print, ["slot_moved"], clustered=True)
    await chaos.run(8.0)
    assert chaos.redirections["MOVED"]
    assert chaos.redirections["ASK"]
