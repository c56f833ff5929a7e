"""The chain on real servers: freezes, and what waits for a thaw, altered by a superuser."""

import asyncio

import pytest

from engine.servers import Servers
from engine.store.freezes import FreezeAct, set_freeze
from engine.verify.chain import verify_chain
from engine.verify.heads import read_heads
from tests.altering import altering
from tests.desks import B, batch, desk_over, transfer
from tests.ledgers import Ledger, make_ledger, until
from tests.verifying import assert_verified


@pytest.fixture(scope="module")
def frozen_ledger(servers: Servers) -> Ledger:
    """A ledger in which entries waited, were decided, and wait; who alters it takes it back."""

    async def make() -> Ledger:
        made = await make_ledger(servers.postgres.dsn, servers.valkey.url)
        async with desk_over(made) as at, made.working():
            asked = {"by": "a test", "reason": "it is tried"}
            await set_freeze(made.dsn, FreezeAct("freeze", "account", B, **asked))
            sent = [transfer(), transfer(user_data_64=7)]
            for _ in range(2):
                await at.send(sent)
            await at.send(batch(3))

            async def wait(count: int) -> bool:
                return len(await made.sql("SELECT FROM ledger.waits")) == count

            await until(lambda: wait(3), "entries to wait")
            await set_freeze(made.dsn, FreezeAct("thaw", "account", B, **asked))
            await at.answers(3)
            await set_freeze(made.dsn, FreezeAct("freeze", "ledger", "1", **asked))
            await at.send(batch(2))
            await until(lambda: wait(1), "an entry to wait")
        return made

    return asyncio.run(make())


async def test_a_ledger_with_freezes_verifies(frozen_ledger: Ledger) -> None:
    await assert_verified(frozen_ledger)
    report = await verify_chain(frozen_ledger.app_dsn, await read_heads(frozen_ledger.app_dsn))
    assert report.passed, report.checks[0].offenders


FROZEN_ALTERED = {
    "who froze": "UPDATE ledger.freezes SET acted_by = 'nobody' WHERE act = 'thaw'",
    "why it was frozen": "UPDATE ledger.freezes SET reason = 'none' WHERE act = 'freeze'",
    "the role that froze": "UPDATE ledger.freezes SET role = 'reader'",
    "what was frozen": "UPDATE ledger.freezes SET what = '2' WHERE kind = 'ledger'",
    "whether it declines": "UPDATE ledger.freezes SET declines = NOT declines",
    "when it was frozen": "UPDATE ledger.freezes SET time = time + interval '1 us'",
    "which freeze a thaw ends": "UPDATE ledger.freezes SET thaws = thaws - 1 WHERE act = 'thaw'",
    "a freeze deleted": "DELETE FROM ledger.freezes WHERE kind = 'ledger'",
    "a freeze that nobody asked for": (
        "INSERT INTO ledger.freezes (freeze_number, act, kind, what, acted_by, reason, time)"
        " VALUES (nextval('ledger.flush_numbers'), 'freeze', 'code', '1', 'me', 'mine', now())"
    ),
    "what waits": "UPDATE ledger.waiting SET fields = ARRAY['json', '[]']::bytea[]",
    "the ids of what waits": (
        "UPDATE ledger.waiting SET ids = ids || ids, transfers = 2 * transfers"
    ),
    "how many transfers wait": "UPDATE ledger.waiting SET transfers = transfers + 1",
    "the place of what waits": "UPDATE ledger.waiting SET seq = seq + 1 WHERE flush IN"
    " (SELECT max(flush) FROM ledger.waiting)",
    "for which freeze it waits": "UPDATE ledger.waiting SET freeze_number = freeze_number + 1",
    "whose copy it is": "UPDATE ledger.waiting SET original_generation = NULL, original_ms = NULL,"
    " original_seq = NULL WHERE original_ms IS NOT NULL",
    "the digest of what waits": "UPDATE ledger.waiting SET digest = sha256('mine')",
    "the size of what waits": "UPDATE ledger.waiting SET size = size + 1",
    "what waits deleted": "DELETE FROM ledger.waiting",
    "what nobody sent waits": (
        "INSERT INTO ledger.waiting SELECT shard, generation, ms, seq + 9, freeze_number, flush,"
        " transfers, size, ids, digest, NULL, NULL, NULL, fields FROM ledger.waiting LIMIT 1"
    ),
    "what waits is taken for decided": (
        "INSERT INTO ledger.released SELECT shard, generation, ms, seq, flush FROM ledger.waits"
        " JOIN ledger.waiting USING (shard, generation, ms, seq)"
    ),
    "which flush decided it": (
        "UPDATE ledger.released SET flush = (SELECT max(number) FROM ledger.flushes"
        " WHERE kind = 'flush')"
    ),
    "that it was decided": "DELETE FROM ledger.released",
}


@pytest.mark.parametrize("what", list(FROZEN_ALTERED))
async def test_an_altered_freeze_or_what_waits_is_named(frozen_ledger: Ledger, what: str) -> None:
    async with altering(frozen_ledger) as alter:
        report, _ = await alter(FROZEN_ALTERED[what], None)
    assert not report.checks[0].passed, what
