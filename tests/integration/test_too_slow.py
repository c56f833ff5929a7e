"""A flush that is too much for Postgres, or takes too long, becomes smaller, until it is not."""

import json

import pytest
from structlog.testing import capture_logs

from engine.store import commit, connections
from engine.worker import attempts, session
from tests.bounds import PROCESS_SECONDS_MAX
from tests.desks import account, batch, desk, transfer
from tests.integration.test_set_aside import execute
from tests.ledgers import until
from tests.verifying import assert_verified

SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {}
    RETURN NEW;
END $$;
CREATE TRIGGER slow BEFORE INSERT ON ledger.spent FOR EACH ROW EXECUTE FUNCTION slow();
"""
EACH = "PERFORM pg_catalog.pg_sleep(0.002);"
RAISES = "IF NEW.id = '{}' THEN RAISE 'broken' USING ERRCODE = '{}'; END IF;"
OF_ONE = "IF NEW.id = '{}' THEN PERFORM pg_catalog.pg_sleep(3600); END IF;"

C, D = account(1, 1), account(1, 2)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STATEMENT_SECONDS_MAX", 2.0)
    monkeypatch.setattr(commit, "WRITE_SECONDS_MAX", 2.0)
    monkeypatch.setattr(attempts, "QUICK_SECONDS", 0.5)
    # The triggers are strange, which is looked for each minute.
    monkeypatch.setattr(session, "CHECK_SECONDS", 3600.0)


async def test_a_flush_that_takes_too_long_is_tried_again_with_less(
    postgres_dsn: str, redis_url: str
) -> None:
    """All of it would take eight times the limit; it goes by parts, and nothing is set aside."""
    async with desk(postgres_dsn, redis_url) as at:
        worker = at.ledger.worker()
        with capture_logs() as logs:
            async with at.ledger.working(worker):
                await execute(at.ledger.dsn, SLOW.format(EACH))
                for _ in range(200):
                    await at.send(batch(40))
                await until(lambda: worker.statistics.created == 8000, "all", PROCESS_SECONDS_MAX)
        assert worker.statistics.sessions == 1
        (said, *_) = [entry for entry in logs if entry["event"] == "flush_shrinks"]
        assert said["next_entries"] < said["entries"]
        assert await at.ledger.sql("SELECT FROM ledger.dead_letters") == []
        await assert_verified(at.ledger, but="definitions")


@pytest.mark.parametrize("size", [1, 300], ids=["one statement", "by COPY"])
async def test_one_entry_that_takes_too_long_stops_its_shard_alone(
    size: int, postgres_dsn: str, redis_url: str
) -> None:
    """It is tried again after a while, and is no dead letter: nothing says that it is at fault."""
    async with desk(postgres_dsn, redis_url, C, D, shard_count=2) as at:
        endless = transfer()
        worker = at.ledger.worker()
        async with at.ledger.working(worker):
            await execute(at.ledger.dsn, SLOW.format(OF_ONE.format(endless["id"])))
            await at.send(batch(3))
            await at.send([endless, *batch(size - 1)])
            for _ in range(20):
                await at.send([transfer(C, D) for _ in range(40)], shard=1)
            await at.answers(21, PROCESS_SECONDS_MAX)
            await until(lambda: 0 in worker.statistics.unread, "that shard to stand")
            assert "took over 2 s" in worker.statistics.unread[0].reason
            await at.send([transfer(C, D)], shard=1)
            await at.answers(22)
        assert worker.statistics.sessions == 1
        assert await at.ledger.sql("SELECT FROM ledger.dead_letters") == []
        (kept,) = await at.redis.xrange(at.stream())
        assert json.loads(kept[1][b"json"])[0] == endless
        assert await at.count() == 3 + 20 * 40 + 1


@pytest.mark.parametrize("code", ["58030", "XX000", "53200"])
async def test_one_entry_that_postgres_has_trouble_with_stops_its_shard_alone(
    code: str, postgres_dsn: str, redis_url: str
) -> None:
    """A block that cannot be read, a defect, a want of memory: of what one entry touches."""
    async with desk(postgres_dsn, redis_url, C, D, shard_count=2) as at:
        broken = transfer()
        worker = at.ledger.worker()
        async with at.ledger.working(worker):
            await execute(at.ledger.dsn, SLOW.format(RAISES.format(broken["id"], code)))
            await at.send([broken])
            for _ in range(3):
                await at.send([transfer(C, D) for _ in range(40)], shard=1)
            await at.answers(3)
            await until(lambda: 0 in worker.statistics.unread, "that shard to stand")
            assert "broken" in worker.statistics.unread[0].reason
            await at.send([transfer(C, D)], shard=1)
            await at.answers(4)
        assert worker.statistics.sessions == 1
        assert await at.ledger.sql("SELECT FROM ledger.dead_letters") == []


@pytest.mark.parametrize("code", ["XX001", "XX002"])
async def test_what_names_a_damaged_row_is_set_aside(
    code: str, postgres_dsn: str, redis_url: str
) -> None:
    async with desk(postgres_dsn, redis_url) as at:
        broken = transfer()
        worker = at.ledger.worker()
        async with at.ledger.working(worker):
            await execute(at.ledger.dsn, SLOW.format(RAISES.format(broken["id"], code)))
            await at.send([broken])
            await at.send([transfer()])
            await at.drained()
        assert worker.statistics.sessions == 1
        assert len(await at.ledger.sql("SELECT FROM ledger.dead_letters")) == 1
        assert await at.count() == 1
