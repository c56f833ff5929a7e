"""Freezing and thawing on real servers."""

import json
import uuid
from typing import Literal

import asyncpg
import pytest

from engine import connect
from engine.client.client import Client
from engine.errors import ConfigurationError, InputError, WaitsForThawError
from engine.ledger.freezes import FreezeKind, WaitingForThaw
from engine.ledger.outcomes import Outcome
from engine.operating.where import find
from engine.store.freezes import FreezeAct, read_frozen, set_freeze
from tests.desks import A, B, Desk, account, batch, desk_over, transfer
from tests.ledgers import Ledger, until
from tests.told import run
from tests.verifying import assert_verified

C = account(1, 3)


async def act(
    ledger: Ledger,
    verb: Literal["freeze", "thaw"],
    kind: FreezeKind,
    what: object,
    *,
    declines: bool = False,
) -> int:
    asked = FreezeAct(verb, kind, str(what), "a test", "it is tried", declines)
    return await set_freeze(ledger.dsn, asked)


async def parked(desk: Desk, count: int) -> None:
    """So many entries wait, and are off the stream."""

    async def waiting() -> bool:
        rows = await desk.ledger.sql("SELECT count(*) FROM ledger.waits")
        return bool(rows[0]["count"] == count)

    await until(waiting, f"{count} entries to wait")


async def test_freeze_what_matches_waits_and_is_decided_in_order(ledger: Ledger) -> None:
    async with desk_over(ledger, C) as desk:
        async with ledger.working():
            await act(ledger, "freeze", "account", B)
            hold = transfer(A, B, 5, flags=["pending"])
            post = {"id": str(uuid.uuid4()), "pending_id": hold["id"]} | {
                "flags": ["post_pending_transfer"]
            }
            await desk.send([hold])
            await desk.send([post])
            await desk.send([hold])
            await parked(desk, 3)
            await desk.send([transfer(A, C)])
            assert await desk.answers(1) == [["created"]]
            [frozen] = await read_frozen(ledger.dsn)
            assert (frozen.what, frozen.entries, frozen.transfers) == (B, 3, 2)
            await act(ledger, "thaw", "account", B)
            assert (await desk.answers(4))[1:] == [["created"], ["exists"], ["created"]]
        await assert_verified(ledger)


async def test_freeze_takes_what_is_under_way(ledger: Ledger) -> None:
    """Under load: what commits after it does not match it, by COPY and by one statement."""
    async with desk_over(ledger, C) as desk:
        async with ledger.working():
            for size in (900, 1, 900, 1) * 3:
                await desk.send(batch(size))
            number = await act(ledger, "freeze", "account", B)
            for size in (900, 1):
                await desk.send(batch(size))
            await desk.drained()
            rows = await ledger.sql(
                "SELECT count(*) FROM ledger.transfers WHERE number >> 20 > $1", number
            )
            assert rows[0]["count"] == 0
            await act(ledger, "thaw", "account", B)
            await desk.answers(14)
        await assert_verified(ledger)


async def test_freeze_a_ledger_a_code_and_a_shard(ledger: Ledger) -> None:
    async with desk_over(ledger, C) as desk:
        async with ledger.working():
            things: list[tuple[FreezeKind, int]] = [("ledger", 1), ("code", 1)]
            for count, (kind, what) in enumerate(things):
                await act(ledger, "freeze", kind, what)
                await desk.send([transfer()])
                await parked(desk, 1)
                await act(ledger, "thaw", kind, what)
                await desk.answers(count + 1)
            await act(ledger, "freeze", "shard", 0)
            await desk.send([transfer()])
            await desk.send([transfer(C, A)], shard=1)
            assert (await desk.answers(3))[2:] == [["created"]]
            assert await desk.redis.xlen(desk.stream(0)) == 1
            await act(ledger, "thaw", "shard", 0)
            await desk.answers(4)
        await assert_verified(ledger)


async def test_freeze_that_declines_and_thaw_that_declines(ledger: Ledger) -> None:
    async with desk_over(ledger, C) as desk:
        async with ledger.working():
            await act(ledger, "freeze", "account", B, declines=True)
            declined = transfer()
            await desk.send([declined, transfer(A, C)])
            assert await desk.answers(1) == [["frozen", "created"]]
            await act(ledger, "thaw", "account", B)
            await act(ledger, "freeze", "code", 1)
            await desk.send([transfer(), transfer(A, C, code=2)])
            await parked(desk, 1)
            await act(ledger, "thaw", "code", 1, declines=True)
            assert (await desk.answers(2))[1:] == [["frozen", "created"]]
        rows = await ledger.sql(
            "SELECT outcome FROM ledger.declined WHERE id = $1", uuid.UUID(declined["id"])
        )
        assert rows[0]["outcome"] == "frozen"
        await assert_verified(ledger)


async def test_freeze_is_an_act_that_the_ledger_guards(ledger: Ledger) -> None:
    """Twice, of what is not frozen, past the chains of the owners, or rewritten: refused."""
    await act(ledger, "freeze", "ledger", 7)
    with pytest.raises(InputError, match="frozen already"):
        await act(ledger, "freeze", "ledger", 7)
    with pytest.raises(InputError, match="is not frozen"):
        await act(ledger, "thaw", "ledger", 8)
    alone = """
        INSERT INTO ledger.freezes (freeze_number, act, kind, what, acted_by, reason, time)
        SELECT nextval('ledger.flush_numbers'), 'freeze', 'ledger', '9', 'x', 'y',
               clock_timestamp() + interval '1 s'"""
    with pytest.raises(asyncpg.RestrictViolationError, match="no row in the chain"):
        await ledger.sql(alone)
    for statement in ("UPDATE ledger.freezes SET reason = 'z'", "DELETE FROM ledger.released"):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await ledger.sql(statement)


async def test_freeze_by_the_commands(ledger: Ledger) -> None:
    async with desk_over(ledger):
        pass

    by = ("--by", "me", "--reason", "a test")
    done = await run(ledger, "freeze", "account", A, *by, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["what"] == A
    listed = await run(ledger, "freezes", "--json")
    assert json.loads(listed.out)["reason"] == "a test"
    assert (await run(ledger, "freeze", "account", A, *by)).code == 1
    assert (await run(ledger, "freeze", "shard", "16", *by)).code == 2
    assert (await run(ledger, "freeze", "street", "16", *by)).code == 2
    assert (await run(ledger, "thaw", "account", A, *by)).code == 0
    assert "Nothing is frozen" in (await run(ledger, "freezes")).out


async def test_freeze_is_told_to_whoever_asks_for_a_transfer_that_waits(ledger: Ledger) -> None:
    """`where`, `outcome` and `status` say that it waits, for which freeze, by whom and why."""
    async with desk_over(ledger, C) as desk, ledger.working():
        await act(ledger, "freeze", "account", B)
        await act(ledger, "freeze", "shard", 1)
        waits = transfer()
        await desk.send([transfer(A, C), waits])
        await desk.send([transfer(C, A)], shard=1)
        await parked(desk, 1)
        life = await find(ledger.dsn, ledger.redis_url, ledger.prefix, waits["id"])
        assert (life.state, life.kind) == ("waiting", "transfer")
        assert life.freeze is not None
        assert (life.freeze["what"], life.freeze["by"]) == (B, "a test")
        entry = await find(ledger.dsn, ledger.redis_url, ledger.prefix, f"0:{life.entry}")
        assert (entry.state, entry.freeze) == ("waiting", life.freeze)
        async with connect(ledger.dsn, ledger.redis_url, prefix=ledger.prefix) as client:
            told = await client.outcome(waits["id"])
            assert isinstance(told, WaitingForThaw)
            assert (told.what, told.reason) == (B, "it is tried")
            await act(ledger, "thaw", "account", B)
            await desk.answers(1)
            assert await client.outcome(waits["id"]) is Outcome.created
        told_at = await run(ledger, "status", "--json")
        shard = json.loads(told_at.out)["shards"][1]
        assert (shard["state"], shard["waiting"]) == ("frozen", 1)
        assert shard["oldest_waiting_seconds"] is None
        assert "FROZEN" in (await run(ledger, "status")).out
        events = await run(ledger, "events", "--json")
        assert [json.loads(line)["event"] for line in events.out.splitlines()].count("frozen") == 2
        await act(ledger, "thaw", "shard", 1)
        await desk.answers(2)


async def test_freeze_is_what_the_client_tells_instead_of_a_time_out(ledger: Ledger) -> None:
    async with desk_over(ledger, C) as desk, ledger.working():
        await act(ledger, "freeze", "account", B)
        async with connect(
            ledger.dsn, ledger.redis_url, prefix=ledger.prefix, timeout_seconds=1
        ) as client:
            single, linked = transfer(), transfer(flags=["linked"])
            for send in (
                client.create_transfer(single),
                client.create_transfers([transfer(A, C), transfer()]),
                client.create_transfers([linked, transfer()]),
            ):
                with pytest.raises(WaitsForThawError, match=f"account {B} is frozen, by a test"):
                    await send
            await act(ledger, "thaw", "account", B)
            await until(lambda: _is_created(client, single["id"]), "it to be decided")
        await until(lambda: _has(desk, 5), "all of them to be decided")


async def _has(desk: Desk, count: int) -> bool:
    return await desk.count() == count


async def _is_created(client: Client, transfer_id: str) -> bool:
    return await client.outcome(transfer_id) is Outcome.created


async def test_freeze_of_a_worker_of_an_older_program_is_refused(ledger: Ledger) -> None:
    """It knows of no freezes, and would go on."""
    async with ledger.working():
        await ledger.sql("UPDATE ledger.migrations SET applied_at = clock_timestamp()")
        with pytest.raises(ConfigurationError, match="start it anew"):
            await act(ledger, "freeze", "ledger", 1)
    await act(ledger, "freeze", "ledger", 1)
