"""Least privilege in Redis: each user does its work, and is refused everything else."""

import uuid

import pytest

from engine.commands.verify import run_verify
from engine.ledger.outcomes import Outcome
from engine.operating.facts import gather
from engine.operating.where import find
from engine.settings import PREFIX_VARIABLE
from engine.store.letters import open_letters
from engine.streams.inspection import StreamsInspection
from engine.streams.sender import Sender
from engine.streams.users import UserKind, apply_user
from tests.clients import make_accounts, move, open_client
from tests.desks import batch, desk_over
from tests.flow_desks import flow_desk
from tests.flow_examples import payout
from tests.integration.test_letters import send_again
from tests.ledgers import Ledger, as_user, make_ledger

PASSWORD = "correct-horse-battery"


async def user_of(ledger: Ledger, kind: UserKind, name: str | None = None) -> str:
    """The address of a user that may what its kind may on the streams of a ledger."""
    user = name or f"{ledger.prefix}-{kind}"
    assert not await apply_user(ledger.redis_url, kind, ledger.prefix, user, PASSWORD), "no file"
    return as_user(ledger.redis_url, user, PASSWORD)


async def refused(url: str, *commands: str) -> None:
    sender = Sender(url)
    try:
        for command in commands:
            [reply] = await sender.send([tuple(command.split())])
            print(command)
            assert "NOPERM" in str(reply), command
    finally:
        sender.close()


EVERYBODY_IS_REFUSED = (
    "FLUSHALL", "FLUSHDB", "KEYS *", "DEL {t}", "CONFIG SET appendonly no", "CONFIG REWRITE",
    "SHUTDOWN", "ACL LIST", "ACL SETUSER mine on nopass ~* +@all", "ACL WHOAMI",
    "CLIENT LIST", "CLIENT KILL TYPE normal", "CLIENT PAUSE 1", "MONITOR", "SAVE",
    "REPLICAOF NO ONE", "EVAL return 0", "FUNCTION LIST", "SCRIPT FLUSH", "PUBLISH a b",
    "SUBSCRIBE a", "MULTI", "SET other 1", "GET other", "XADD other * a b", "XREAD STREAMS other 0",
    "XTRIM {t} MAXLEN 0", "XSETID {t} 1-1", "XGROUP CREATE {t} g 0", "RENAME {t} other",
    "COPY {t} other", "DUMP {t}", "MIGRATE h 1 {t} 0 1", "SWAPDB 0 1", "MOVE {t} 1",
    "SET {p}:transfers 1", "MODULE LIST", "SLOWLOG GET", "LATENCY RESET", "BGREWRITEAOF",
)  # fmt: skip


def commands_of(ledger: Ledger, *commands: str) -> list[str]:
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    return [c.replace("{t}", stream).replace("{p}", ledger.prefix) for c in commands]


async def test_a_producer_adds_transfers_and_reads_its_own_answers(ledger: Ledger) -> None:
    url = await user_of(ledger, "producer")
    other = await user_of(ledger, "producer", f"{ledger.prefix}-other")
    async with (
        ledger.working(),
        open_client(ledger, url) as client,
        open_client(ledger, other) as stranger,
    ):
        [a, b] = await make_accounts(client, 2)
        outcomes = await client.create_transfers([move(a, b) for _ in range(500)])
        assert set(outcomes) == {Outcome.created}
        assert await stranger.create_transfer(move(a, b)) is Outcome.created
        assert await client.backlog()
        others = stranger._delivery._reply.decode()
        mine = client._delivery._reply.decode()
        assert mine.startswith(f"{ledger.prefix}:answers:{ledger.prefix}-producer:")
        more = (
            f"XREAD STREAMS {others} 0", f"XRANGE {others} - +", f"XADD {others} * a b",
            f"XTRIM {others} MAXLEN 0", f"UNLINK {others}", f"XADD {mine} * outcomes x",
            "XREAD STREAMS {t} 0", "XRANGE {t} - +", "XREVRANGE {t} + -", "XDEL {t} 1-1",
            "UNLINK {t}", "EXPIRE {t} 1", "RENAMENX {t} {t}x", "SET {p}:ledger mine",
            "XADD {p}:ledger * a b", "XADD {p}:flows:{0000} * a b", "INFO", "TIME",
            "CONFIG GET requirepass", "SCAN 0", "TYPE {t}", "CLIENT UNBLOCK 1",
        )  # fmt: skip
        await refused(url, *commands_of(ledger, *EVERYBODY_IS_REFUSED, *more))


async def test_an_engine_runs_whole_under_its_user(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX_VARIABLE, ledger.prefix)
    url = await user_of(ledger, "engine")
    async with desk_over(ledger) as at:
        ledger.redis_url = url
        # What came back older, what was poisoned, and what cannot be read.
        await at.redis.xadd(at.stream(), {"json": "[]"}, id="5-5")
        await at.redis.xadd(at.stream(1), {"json": "[]"}, id=f"{2**64 - 1}-{2**64 - 1}")
        await at.redis.xadd(at.stream(2), {"json": "nonsense"})
        workers = [ledger.worker(), ledger.worker()]
        async with ledger.working(*workers):
            for size in (1, 900):
                await at.send(batch(size))
            await at.answers(2)
            for shard in range(3):
                await at.drained(shard)
            assert all(worker.statistics.sessions == 1 for worker in workers)
        report = await run_verify(ledger.app_dsn, url, hidden=True)
        assert report.passed, report
    await refused(url, *commands_of(ledger, *EVERYBODY_IS_REFUSED))


async def test_flows_run_whole_under_the_engines_user(postgres_dsn: str, redis_url: str) -> None:
    async with flow_desk(postgres_dsn, redis_url, working=False) as at:
        at.ledger.redis_url = await user_of(at.ledger, "engine")
        await at.define(payout())
        async with at.ledger.working(), at.working():
            flow = await at.start()
            await at.waits(flow, "signal bank")
            assert await at.signal(flow, "settled") == "created"
            await at.ends(flow, "paid")


async def test_an_operator_looks_and_sends_letters_again(ledger: Ledger) -> None:
    url = await user_of(ledger, "operator")
    async with desk_over(ledger) as at:
        async with ledger.working():
            await at.redis.xadd(at.stream(), {"json": "nonsense"})
            await at.drained()
        ledger.redis_url = url
        facts = await gather(ledger.app_dsn, url, ledger.prefix)
        assert facts.redis_error is None
        assert facts.redis[0].settings["maxmemory-policy"] == "noeviction"
        assert facts.waiting
        await send_again(ledger, b"[]")
        async with open_letters(ledger.app_dsn) as letters:
            assert [letter.state for letter in await letters.list(None, 10)] == ["resent"]
        found = await find(ledger.app_dsn, url, ledger.prefix, str(uuid.uuid4()))
        assert found is not None
        streams = StreamsInspection(url, ledger.prefix)
        await streams.open()
        assert await streams.ends(range(16))
        await streams.close()
        more = (
            "XDEL {t} 1-1", "UNLINK {t}", "RENAMENX {t} {t}x", "SET {p}:ledger mine",
            "XREAD STREAMS {p}:answers:a 0", "XADD {p}:answers:a * a b", "EXPIRE {t} 1",
        )  # fmt: skip
        await refused(url, *commands_of(ledger, *EVERYBODY_IS_REFUSED, *more))


async def test_users_of_one_prefix_do_not_touch_another(
    ledger: Ledger, postgres_dsn: str, redis_url: str
) -> None:
    other = await make_ledger(postgres_dsn, redis_url)
    for kind in ("producer", "engine", "operator"):
        url = await user_of(ledger, kind)  # type: ignore[arg-type]
        await refused(
            url,
            *commands_of(other, "XADD {t} * a b", "XLEN {t}", "GET {p}:ledger", "XRANGE {t} - +"),
        )


async def test_a_user_that_is_made_again_keeps_its_password_and_loses_what_was_added(
    ledger: Ledger,
) -> None:
    url = await user_of(ledger, "producer")
    user = f"{ledger.prefix}-producer"
    async with ledger.redis() as redis:
        await redis.execute_command("ACL", "SETUSER", user, "+@all", "~*", "(~* +@all)", "&*")
        await apply_user(ledger.redis_url, "producer", ledger.prefix, user, None)
        await refused(url, *commands_of(ledger, *EVERYBODY_IS_REFUSED))
        rules = await redis.execute_command("ACL", "GETUSER", user)
        assert PASSWORD not in str(rules)
        async with open_client(ledger, url) as client:
            assert await client.backlog()
