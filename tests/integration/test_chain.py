"""The chain on real servers: whatever is altered with a superuser's rights is named."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.book.content import FORM, digest_of
from engine.operating.head_log import HeadLog
from engine.store.snapshot import connect_reader
from engine.verify.chain import check_chain, link_of, verify_chain
from engine.verify.flush_contents import FlushRows, content_of_rows
from engine.verify.heads import Head, Heads, chain_query, read_heads
from engine.verify.run import SETTINGS
from tests.altering import altering
from tests.desks import batch, desk, desk_over, transfer
from tests.ledgers import Ledger, until
from tests.verifying import assert_verified


async def test_an_honest_ledger_verifies_and_heads_grow(full_ledger: Ledger) -> None:
    report = await verify_chain(full_ledger.app_dsn)
    assert report.passed, report.checks[0].offenders
    check, _ = report.checks
    assert check.counted["flushes"] > 20
    heads = await read_heads(full_ledger.app_dsn)
    assert len(heads.heads) >= 2
    assert (await verify_chain(full_ledger.app_dsn, heads)).passed


async def test_both_paths_of_a_flush_give_the_digest_that_is_made_again(
    postgres_dsn: str, redis_url: str
) -> None:
    async with desk(postgres_dsn, redis_url) as at:
        async with at.ledger.working():
            for size in (1, 3, 900):
                await at.send(batch(size))
            await at.send(
                [transfer(flags=["pending"], timeout=60), transfer(user_data_64=2**64 - 1)]
            )
            await at.send(
                [transfer(amount=0, user_data_128="00000000-0000-0000-0000-0000000000ff")]
            )
            await at.redis.xadd(at.stream(), {"json": "nonsense"})
            await at.answers(5)
            await at.drained()
            first = await read_heads(at.ledger.app_dsn)
            await at.send(batch(5))
            await at.answers(6)
        await assert_verified(at.ledger)
        report = await verify_chain(at.ledger.app_dsn, first)
        assert report.passed, report.checks[0].offenders


async def test_several_processes_find_what_one_finds(ledger: Ledger) -> None:
    async with desk_over(ledger) as at, ledger.working():
        for count in range(12):
            await at.send(batch(1 + 30 * (count % 3)))
        await at.answers(12)
    seen: list[tuple[int, int, str]] = []
    report = await verify_chain(
        ledger.app_dsn, processes=3, on_progress=lambda *step: seen.append(step)
    )
    assert report.passed, report.checks[0].offenders
    flushes = report.checks[0].counted["flushes"]
    assert seen[-1][:2] == (flushes, flushes)
    await ledger.sql(
        "DO $$ BEGIN SET LOCAL session_replication_role = replica;"
        " UPDATE ledger.spent SET code = 9 WHERE id IN (SELECT id FROM ledger.spent"
        " WHERE number IN ((SELECT min(number) FROM ledger.spent),"
        " (SELECT max(number) FROM ledger.spent)));"
        " INSERT INTO ledger.positions SELECT shard, flush + 1000000000, generation, ms, seq, time"
        " FROM ledger.positions LIMIT 1; END $$"
    )
    alone, several = [await verify_chain(ledger.app_dsn, processes=n) for n in (1, 4)]
    assert alone.checks[0].offenders == several.checks[0].offenders
    assert [offender["fault"] for offender in alone.checks[0].offenders] == [
        *["what it wrote is not as it was written"] * 2,
        "a row is of a flush that is not there",
    ]
    assert alone.checks[0].counted == several.checks[0].counted


async def test_a_worker_logs_the_end_of_its_chain(ledger: Ledger) -> None:
    async with desk_over(ledger) as at:
        worker = ledger.worker()
        with capture_logs() as logs:
            async with ledger.working(worker):
                await at.send(batch(2))
                await at.answers(1)
                logging = asyncio.create_task(HeadLog(worker, ledger.app_dsn, 0.05).run())

                async def logged() -> bool:
                    return any(line["event"] == "chain_head" for line in logs)

                await until(logged, "the end of the chain to be logged")
                logging.cancel()
        [told, *more] = [line for line in logs if line["event"] == "chain_head"]
        assert not more, "logged once as long as it is the same"
        head = Head(told["worker"], told["sequence"], told["link"])
        now = await read_heads(ledger.app_dsn)
        kept = Heads(told["ledger"], now.began, now.definitions, [head])
        report = await verify_chain(ledger.app_dsn, kept)
        assert report.passed, report.checks[0].offenders
        assert report.checks[0].counted["heads"] == 1


ALTERED = {
    "an amount with all later counters": (
        "WITH s AS (UPDATE ledger.spent SET amount = amount + 1 WHERE id IN ("
        "  SELECT id FROM ledger.spent WHERE outcome = 0 AND flags = 0 ORDER BY number LIMIT 1)"
        "  RETURNING id)"
        " UPDATE ledger.posted p SET amount = amount + sign(amount)::bigint,"
        "  debits_posted = debits_posted + CASE WHEN amount < 0 THEN 1 ELSE 0 END,"
        "  credits_posted = credits_posted + CASE WHEN amount > 0 THEN 1 ELSE 0 END"
        " FROM s WHERE p.transfer_id = s.id"
    ),
    "a declined row deleted and counted off": (
        "WITH gone AS (DELETE FROM ledger.spent WHERE id IN ("
        "  SELECT id FROM ledger.spent WHERE outcome <> 0 LIMIT 1) RETURNING number)"
        " UPDATE ledger.flushes f SET declined = declined - 1 FROM gone"
        " WHERE f.number = gone.number >> 20"
    ),
    "two accounts' ids swapped": (
        "DO $$ DECLARE two uuid[] := ARRAY(SELECT a.id FROM ledger.accounts a"
        "  WHERE EXISTS (SELECT FROM ledger.posted p WHERE p.stripe >> 10 = a.number) LIMIT 2);"
        "  free uuid := gen_random_uuid();"
        " BEGIN UPDATE ledger.accounts SET id = free WHERE id = two[1];"
        " UPDATE ledger.accounts SET id = two[1] WHERE id = two[2];"
        " UPDATE ledger.accounts SET id = two[2] WHERE id = free; END $$"
    ),
    "a limit flag removed": (
        "UPDATE ledger.accounts SET flags = '{}' WHERE id IN (SELECT a.id FROM ledger.accounts a"
        " JOIN ledger.posted p ON p.stripe >> 10 = a.number WHERE a.flags <> '{}' LIMIT 1)"
    ),
    "the code of an account": (
        "UPDATE ledger.accounts SET code = code + 1 WHERE number IN"
        " (SELECT stripe >> 10 FROM ledger.posted LIMIT 1)"
    ),
    "the user_data of an account": (
        "UPDATE ledger.accounts SET user_data_64 = 7 WHERE number IN"
        " (SELECT stripe >> 10 FROM ledger.posted LIMIT 1)"
    ),
    "an account with its seal": (
        "UPDATE ledger.accounts SET flags = '{}' WHERE flags <> '{}';"
        " UPDATE ledger.accounts a SET seal = ledger.seal_of(a)"
    ),
    "the code of a transfer": (
        "UPDATE ledger.spent SET code = code + 1 WHERE id IN"
        " (SELECT id FROM ledger.spent WHERE outcome = 0 LIMIT 1)"
    ),
    "the code of a transfer, past what a field holds": (
        "UPDATE ledger.spent SET code = code + 65536 WHERE id IN"
        " (SELECT id FROM ledger.spent WHERE outcome = 0 LIMIT 1)"
    ),
    "the user_data of a transfer": (
        "UPDATE ledger.spent SET user_data_64 = 77 WHERE id IN"
        " (SELECT id FROM ledger.spent WHERE outcome = 0 LIMIT 1)"
    ),
    "what was declined": (
        "UPDATE ledger.spent SET request = set_byte(request, 48, 255 - get_byte(request, 48))"
        " WHERE id IN (SELECT id FROM ledger.spent WHERE outcome <> 0 LIMIT 1)"
    ),
    "the reason of a refusal": (
        "UPDATE ledger.spent SET outcome = 22 WHERE id IN"
        " (SELECT id FROM ledger.spent WHERE outcome NOT IN (0, 22) LIMIT 1)"
    ),
    "when a hold expires": (
        "UPDATE ledger.spent SET expires_at = expires_at + interval '1 s', timeout = timeout + 1"
        " WHERE id IN (SELECT id FROM ledger.spent WHERE expires_at IS NOT NULL LIMIT 1)"
    ),
    "how a hold ended": (
        "UPDATE ledger.resolutions SET status = 'voided' WHERE hold_id IN"
        " (SELECT hold_id FROM ledger.resolutions WHERE status = 'posted' LIMIT 1)"
    ),
    "a dead letter's bytes": "UPDATE ledger.dead_letters SET fields = ARRAY['json', '{}']::bytea[]",
    "a dead letter deleted": "DELETE FROM ledger.dead_letters",
    "a position": (
        "UPDATE ledger.positions SET seq = seq + 1 WHERE (shard, flush) IN"
        " (SELECT shard, flush FROM ledger.positions ORDER BY flush DESC LIMIT 1)"
    ),
    "a position deleted": (
        "DELETE FROM ledger.positions WHERE (shard, flush) IN"
        " (SELECT shard, flush FROM ledger.positions ORDER BY flush LIMIT 1)"
    ),
    "the time of a flush": (
        "UPDATE ledger.flushes SET time = time + interval '1 us' WHERE number IN"
        " (SELECT number FROM ledger.flushes WHERE kind = 'flush' LIMIT 1)"
    ),
    "a digest": (
        "UPDATE ledger.flushes SET digest = sha256('mine') WHERE number IN"
        " (SELECT number FROM ledger.flushes WHERE kind = 'flush' LIMIT 1)"
    ),
    "a digest taken away": (
        "UPDATE ledger.flushes SET digest = NULL WHERE number IN"
        " (SELECT number FROM ledger.flushes WHERE kind = 'flush' LIMIT 1)"
    ),
    "a link": (
        "UPDATE ledger.flushes SET link = sha256('mine') WHERE number IN"
        " (SELECT number FROM ledger.flushes WHERE kind = 'flush' LIMIT 1)"
    ),
    "who took a shard": (
        "UPDATE ledger.ownership SET shard = 999 WHERE (shard, flush) IN"
        " (SELECT shard, flush FROM ledger.ownership ORDER BY flush DESC LIMIT 1)"
    ),
    "an id everywhere": (
        "WITH old AS (SELECT id, gen_random_uuid() AS other FROM ledger.spent"
        "  WHERE outcome = 0 AND flags = 0 LIMIT 1),"
        " a AS (UPDATE ledger.posted p SET transfer_id = other FROM old WHERE transfer_id = old.id)"
        " UPDATE ledger.spent s SET id = other FROM old WHERE s.id = old.id"
    ),
    "a flush emptied with its counts": (
        "WITH f AS (SELECT max(number) AS number FROM ledger.flushes WHERE transfers > 0),"
        " a AS (DELETE FROM ledger.spent s USING f WHERE s.number >> 20 = f.number),"
        " b AS (DELETE FROM ledger.posted p USING f WHERE p.number >> 20 = f.number)"
        " UPDATE ledger.flushes x SET transfers = 0, declined = 0, postings = 0 FROM f"
        " WHERE x.number = f.number"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(ALTERED))
async def test_what_is_altered_is_named(full_ledger: Ledger, what: str) -> None:
    async with altering(full_ledger) as alter:
        report, _ = await alter(ALTERED[what], None)
    assert not report.checks[0].passed, what


async def test_an_account_that_nothing_was_posted_to_has_its_seal(
    postgres_dsn: str, redis_url: str
) -> None:
    async with desk(postgres_dsn, redis_url) as at, altering(at.ledger) as alter:
        report, _ = await alter("UPDATE ledger.accounts SET code = code + 1", None)
    assert {offender["fault"] for offender in report.checks[0].offenders} == {
        "an account is not as it was sealed"
    }


async def _write_in_form_one(connection: Any) -> None:
    """Make all digests as the program before made them, and all links after them."""
    sources = {
        name: await connection.fetch(chain_query(name), 0, 2**40)
        for name in (*FlushRows._fields, "flushes")
    }
    ends: dict[Any, bytes] = {}
    links: dict[int, bytes] = {}
    for flush in sources["flushes"]:
        row = dict(flush)
        if row["form"] == FORM and row["kind"] in {"flush", "locked"}:
            of_flush = {
                name: [each for each in rows if each["flush"] == row["flush"]]
                for name, rows in sources.items()
                if name != "flushes"
            }
            content, _ = content_of_rows(FlushRows(**of_flush))
            assert content is not None
            row |= {"form": 1, "digest": digest_of(content, 1)}
            assert row["digest"] != flush["digest"] or not row["transfers"]
        before = ends.get(row["worker"]) or await connection.fetchval(
            "SELECT sha256(uuid_send(identity) || uuid_send($1)) FROM ledger.settings",
            row["worker"],
        )
        link = link_of(row, before, links.get(row["other"]))
        ends[row["worker"]] = links[row["flush"]] = link
        await connection.execute(
            "UPDATE ledger.flushes SET form = $2, digest = $3, link = $4 WHERE number = $1",
            *(row["flush"], row["form"], row["digest"], link),
        )


async def test_what_was_written_in_the_former_form_verifies_and_what_is_altered_is_named(
    full_ledger: Ledger,
) -> None:
    connection = await connect_reader(
        full_ledger.dsn, {**SETTINGS, "default_transaction_read_only": "off"}
    )
    try:
        await connection.transaction().start()
        await connection.execute("SET LOCAL session_replication_role = replica")
        await _write_in_form_one(connection)
        honest = await check_chain(connection)
        assert honest.passed, honest.checks[0].offenders
        assert honest.checks[0].counted["flushes"] > 20
        await connection.execute(ALTERED["the code of a transfer"])
        assert not (await check_chain(connection)).passed
    finally:
        await connection.close()


async def test_a_tail_that_was_cut_with_its_transfers_is_missed_by_kept_heads(
    full_ledger: Ledger,
) -> None:
    kept = await read_heads(full_ledger.app_dsn)
    [last] = await full_ledger.sql(
        "SELECT number FROM ledger.flushes WHERE transfers > 0 ORDER BY number DESC LIMIT 1"
    )
    number = last["number"]
    cut = (
        f"WITH a AS (DELETE FROM ledger.spent WHERE number >> 20 >= {number}),"
        f" b AS (DELETE FROM ledger.posted WHERE number >> 20 >= {number}),"
        f" c AS (DELETE FROM ledger.resolutions WHERE number >> 20 >= {number}),"
        f" d AS (DELETE FROM ledger.positions WHERE flush >= {number}),"
        f" e AS (DELETE FROM ledger.ownership WHERE flush >= {number}),"
        f" g AS (DELETE FROM ledger.dead_letters WHERE flush >= {number})"
        f" DELETE FROM ledger.flushes WHERE number >= {number}"
    )
    async with altering(full_ledger) as alter:
        without, _ = await alter(cut, None)
        assert without.passed, "without kept heads nobody can know"
    async with altering(full_ledger) as alter:
        report, _ = await alter(cut, kept)
    faults = {offender["fault"] for offender in report.checks[0].offenders}
    assert faults == {"restored or cut: a kept head is not there"}


async def test_a_definition_that_was_changed_shows_in_kept_heads(full_ledger: Ledger) -> None:
    kept = await read_heads(full_ledger.app_dsn)
    for change in (
        "ALTER TABLE ledger.posted DISABLE TRIGGER keep",
        "DROP INDEX ledger.posted_run",
        "ALTER FUNCTION ledger.refuse_change() RESET ALL; ALTER FUNCTION ledger.shard_of COST 7",
        "UPDATE ledger.outcomes SET name = 'made' WHERE number = 0",
    ):
        async with altering(full_ledger) as alter:
            report, _ = await alter(change, kept)
        assert not report.checks[0].passed, change
