"""Hostile entries, ids and keys on one shard at a time: no session ends, and no other shard stands.

`FUZZ_SECONDS` sets for how long, `SEED` repeats what was drawn; `scripts/fuzz` goes on as long as
wanted.
"""

import os
import time
from pathlib import Path

import pytest

from engine.servers import Servers
from tests.fuzz.run import Broken, Fuzz
from tests.ledgers import Ledger, make_ledger, until

SEED = int(os.environ.get("SEED", time.time_ns() % 100_000))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
SHARDS = 8


@pytest.fixture
async def own_ledger(servers: Servers) -> Ledger:
    return await make_ledger(servers.postgres.dsn, servers.valkey.url, shard_count=SHARDS)


async def test_nothing_hostile_on_one_shard_stops_another(
    own_ledger: Ledger, tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    await Fuzz(own_ledger, tmp_path, SEED, print).run(SECONDS)


async def test_the_fuzzer_sees_a_session_that_ends(own_ledger: Ledger, tmp_path: Path) -> None:
    """What it looks for in the log of a worker is there once Postgres cuts its connections."""
    fuzz = Fuzz(own_ledger, tmp_path, SEED, print)
    await fuzz.worker.start()
    try:
        fuzz.check_worker()
        await own_ledger.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'engine %'"
        )
        with pytest.raises(Broken, match="a session ended"):
            await sees(fuzz)
    finally:
        await fuzz.worker.kill()


async def sees(fuzz: Fuzz) -> None:
    await until(fuzz.check_worker, "the end of a session")
