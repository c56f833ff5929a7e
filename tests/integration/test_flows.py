"""Flows on real servers: the scenarios of the plan, each in its worst moment."""

import asyncio
import contextlib
import uuid
from typing import Any

import pytest

from engine.errors import InputError
from engine.flows import Flow
from engine.flows.ids import transfer_id
from tests.bounds import CONDITION_SECONDS_MAX
from tests.flow_desks import FlowDesk, flow_desk
from tests.flow_examples import Payout, begin, payout
from tests.ledgers import until


async def rows_of(desk: FlowDesk, flow: str) -> list[Any]:
    return await desk.client.steps(uuid.UUID(flow).bytes)


async def test_a_payout_on_real_servers(postgres_dsn: str, redis_url: str) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        flow = await desk.start()
        await desk.waits(flow, "signal bank")
        assert await desk.balance("wallet") == (500, 0, 0, 0)
        assert await desk.signal(flow, "settled") == "created"
        await desk.ends(flow, "paid")
        assert await desk.balance("wallet") == (0, 500, 0, 0)
        assert await desk.signal(flow, "settled", "m2") == "flow_ended"
        assert await desk.ask(flow, "cancel") == "ended"
        [unmatched] = await desk.ledger.sql("SELECT * FROM flows.unmatched")
        assert unmatched["reason"] == "flow_ended"
        await desk.verify()


async def test_the_signal_comes_before_the_wait_and_before_the_flow(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        flow = str(uuid.uuid4())
        assert await desk.signal(flow, "settled") == "created"
        assert await desk.start(id=flow) == flow
        await desk.ends(flow, "paid")
        rows = await desk.ledger.sql(
            "SELECT count(*) AS n FROM flows.steps WHERE signal IS NOT NULL"
        )
        assert rows[0]["n"] == 1


async def test_the_same_signal_fifty_times_by_two_workers(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        first, second = desk.worker(), desk.worker()
        async with desk.working(first, second):
            await desk.define(payout())
            flow = await desk.start()
            await desk.waits(flow, "signal bank")
            outcomes: list[str] = []
            for _ in range(3):  # 20 at once, then 20, then 10
                sent = [
                    desk.signal(flow, "settled") for _ in range(20 if len(outcomes) < 40 else 10)
                ]
                outcomes += await asyncio.gather(*sent)
            assert outcomes.count("created") == 1
            assert set(outcomes) == {"created", "exists"}
            assert len(outcomes) == 50
            await desk.ends(flow, "paid")
            [row] = await desk.ledger.sql("SELECT count(*) AS n FROM flows.inbox")
            assert row["n"] == 1
            await desk.verify()


async def test_ids_and_inputs_are_compared_for_ever(postgres_dsn: str, redis_url: str) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        flow = await desk.start()
        same = {"id": flow, "wallet": "wallet", "amount": 500}
        outcomes = await desk.client.start(
            "payout",
            [
                same,
                same | {"reference": ""},  # the default, written out
                same | {"amount": 501},
                same | {"amount": -1},
                {"id": str(uuid.uuid4()), "wallet": "nobody", "amount": 1},
                {"id": str(uuid.uuid4()), "wallet": "wallet", "amount": "1"},
            ],
        )
        assert outcomes == [
            "exists",
            "exists",
            "exists_with_different_input",
            "exists_with_different_input",
            "account_not_found",
            "invalid_input",
        ]
        # A version that comes later compares by the one that the flow is pinned to.
        await desk.define(payout(version=2, above=7))
        assert await desk.client.start("payout", [same]) == ["exists"]
        assert (await desk.current(flow))["version"] == 1
        assert (await desk.current(await desk.start()))["version"] == 2
        assert await desk.client.start("other", [same]) == ["exists_with_different_definition"]


async def test_accounts_by_their_names_and_ids_many_at_once(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        [wallet] = await desk.ledger.sql("SELECT id FROM ledger.accounts WHERE name = 'wallet'")
        insert = "INSERT INTO ledger.accounts (id, ledger, code, name) VALUES ($1, 1, 1, $2)"
        own = uuid.uuid4()
        await desk.ledger.sql(insert, own, str(own))
        names = ["wallet", str(own), str(own).upper(), "nobody", "w\0", "x" * 2000]
        items = [{"id": str(uuid.uuid4()), "wallet": name, "amount": 1} for name in names]
        assert await desk.client.start("payout", items) == [
            "created",
            "created",
            "created",
            "account_not_found",
            "account_not_found",
            "invalid_input",
        ]
        await desk.ledger.sql(insert, uuid.uuid4(), str(wallet["id"]))
        both = {"id": str(uuid.uuid4()), "amount": 1}
        both["wallet"] = str(wallet["id"])
        assert await desk.client.start("payout", [both]) == ["account_ambiguous"]


async def test_a_start_refused_for_its_state_spends_the_id(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        item = {"id": str(uuid.uuid4()), "wallet": "later", "amount": 1}
        assert await desk.client.start("payout", [item]) == ["account_not_found"]
        insert = "INSERT INTO ledger.accounts (id, ledger, code, name) VALUES ($1, 1, 1, 'later')"
        await desk.ledger.sql(insert, uuid.uuid4())
        assert await desk.client.start("payout", [item]) == ["id_already_failed"]
        await desk.ledger.sql(insert, uuid.uuid4())
        item["id"] = str(uuid.uuid4())
        assert await desk.client.start("payout", [item]) == ["account_ambiguous"]


async def test_a_version_never_changes(postgres_dsn: str, redis_url: str) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        assert await desk.client.define(payout().table()) == "created"
        assert await desk.client.define(payout().table()) == "exists"
        with pytest.raises(InputError, match="a version never changes"):
            await desk.client.define(payout(above=5).table())
        flow = Flow("f", version=1, input=Payout, ledger=1)
        move = flow.move(debit="a", credit="nobody at all", amount=1, code=1)
        move.created.end("moved")
        move.declined.end("declined")
        with pytest.raises(InputError, match="0 accounts of ledger 1 are called"):
            await desk.client.define(flow.table())


async def test_an_entry_that_cannot_be_read_is_a_dead_letter(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        async with desk.ledger.redis() as redis:
            name = f"{desk.ledger.prefix}:flows:{{0000}}"
            await redis.xadd(name, {"json": "{", "flow": "payout"})
            await redis.xadd(name, {"json": "[1]", "flow": "payout"})
            await redis.xadd(name, {"json": "{}"})
            flow = await desk.start()
            await desk.waits(flow, "signal bank")

            async def empty() -> bool:
                return await redis.xlen(name) == 0

            await until(empty, "the stream to be empty")
        [row] = await desk.ledger.sql("SELECT count(*) AS n FROM flows.dead_letters")
        assert row["n"] == 3


async def test_a_thousand_reviews_and_the_starters_own_approval_refused(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout(above=1))
        items = [{"id": str(uuid.uuid4()), "wallet": "wallet", "amount": 5} for _ in range(1000)]
        assert set(await desk.client.start("payout", items, by="ann")) == {"created"}

        async def asked() -> bool:
            return len(await desk.client.reviews()) == 1000

        await until(asked, "a thousand reviews")
        for by, expected in (
            ("ann", "not_by_starter"),
            ("ben", "decided"),
            ("cid", "already_decided"),
        ):
            decisions = [
                {
                    "flow": item["id"],
                    "name": ":decide",
                    "event": "approved",
                    "message_id": by,
                    "body": {"by": by},
                }
                for item in items
            ]
            assert set(await desk.client.signal(decisions)) == {expected}
            assert set(await desk.client.signal(decisions)) == {expected}  # the same, again
        assert await desk.client.reviews() == []
        [row] = await desk.ledger.sql(
            "SELECT count(*) AS n FROM flows.reviews WHERE decided_by = 'ben'"
        )
        assert row["n"] == 1000


# Calls.


def calling(name: str = "pay") -> Flow:
    flow, hold = begin("calling")
    pay = flow.call(name, within="1s")
    look = flow.call("look", within="5s")
    post, void = flow.post(hold), flow.void(hold)
    hold.created.go(pay)
    pay.done.go(post)
    pay.refused.go(void)
    pay.unknown.go(look)
    look.done.go(post)
    look.refused.go(void)
    nap = flow.sleep("100ms")
    person = flow.review("was it paid?")
    person.on("yes").go(post)
    person.on("no").go(void)
    look.unknown.go(nap, limit=50, otherwise=person)
    nap.done.go(look)
    post.done.end("paid")
    void.done.end("not paid")
    return flow


async def test_a_call_does_its_work_and_times_out(postgres_dsn: str, redis_url: str) -> None:
    """Unknown, the hold open, the money not spendable; a later look finds it done: posted once."""
    done: list[bytes] = []
    tell = asyncio.Event()

    async def pay(items: list[Any]) -> list[str]:
        done.extend(item.key for item in items)
        await asyncio.sleep(30)
        return ["done"] * len(items)

    async def look(items: list[Any]) -> list[str]:
        return ["done" if tell.is_set() and done else "unknown" for _ in items]

    async with flow_desk(postgres_dsn, redis_url) as desk:  # noqa: SIM117
        async with desk.working(desk.worker(pay=pay, look=look)):
            await desk.define(calling())
            flow = await desk.start("calling")

            async def unknown() -> bool:
                return "unknown" in [row["state"] for row in await rows_of(desk, flow)]

            await until(unknown, "the call to be unknown")
            assert await desk.balance("wallet") == (500, 0, 0, 0)
            [row] = await desk.ledger.sql("SELECT * FROM flows.unknown LIMIT 1")
            assert row["flow"] == uuid.UUID(flow)
            tell.set()
            await desk.ends(flow, "paid")
            assert await desk.balance("wallet") == (0, 500, 0, 0)
            assert len(done) == 1
            await desk.verify()


@pytest.mark.parametrize("trouble", ["raises", "too few", "nonsense"])
async def test_what_a_function_does_not_say_is_unknown(
    postgres_dsn: str, redis_url: str, trouble: str
) -> None:
    async def pay(items: list[Any]) -> Any:
        if trouble == "raises":
            raise RuntimeError("the partner hung up")
        return [] if trouble == "too few" else "done"

    async def look(items: list[Any]) -> list[tuple[str, dict[str, Any]]]:
        return [("refused", {"why": "never seen"}) for _ in items]

    async with flow_desk(postgres_dsn, redis_url) as desk:  # noqa: SIM117
        async with desk.working(desk.worker(pay=pay, look=look)):
            await desk.define(calling())
            flow = await desk.start("calling")
            await desk.ends(flow, "not paid")
            assert "unknown" in [row["state"] for row in await rows_of(desk, flow)]


async def test_a_call_whose_worker_is_gone_is_unknown_and_not_made_again(
    postgres_dsn: str, redis_url: str
) -> None:
    calls: list[bytes] = []

    async def pay(items: list[Any]) -> list[str]:
        calls.extend(item.key for item in items)
        await asyncio.sleep(60)
        return ["done"] * len(items)

    async def look(items: list[Any]) -> list[str]:
        return ["done"] * len(items)

    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(calling())
        async with desk.working(desk.worker(pay=pay, look=look)):
            flow = await desk.start("calling")
            await until(lambda: calls, "the call to be made")
        async with desk.working(desk.worker(pay=pay, look=look)):
            await desk.ends(flow, "paid")
        assert len(calls) == 1


async def test_a_call_waits_for_a_worker_with_its_code(postgres_dsn: str, redis_url: str) -> None:
    async def pay(items: list[Any]) -> list[str]:
        return ["done"] * len(items)

    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(calling())
        async with desk.working():
            flow = await desk.start("calling")
            await desk.waits(flow, "code pay")
        async with desk.working(desk.worker(pay=pay)):
            await desk.ends(flow, "paid")


# What goes wrong with money.


async def test_a_post_after_its_hold_was_voided_by_hand(postgres_dsn: str, redis_url: str) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        flow = await desk.start()
        await desk.waits(flow, "signal bank")
        [hold] = await desk.ledger.sql("SELECT id FROM ledger.transfers")
        stream = f"{desk.ledger.prefix}:transfers:{{0000}}"
        void = (
            f'{{"id":"{uuid.uuid4()}","pending_id":"{hold["id"]}",'
            '"flags":["void_pending_transfer"]}'
        )
        async with desk.ledger.redis() as redis:
            await redis.xadd(stream, {"json": void})

        async def voided() -> bool:
            return await desk.balance("wallet") == (0, 0, 0, 0)

        await until(voided, "the hold to be voided")
        await desk.signal(flow, "settled")
        await desk.waits(flow, "review")
        rows = await desk.ledger.sql("SELECT detail FROM flows.steps WHERE event = 'failed'")
        assert '"pending_transfer_already_voided"' in rows[0]["detail"]
        assert await desk.ask(flow, "decide", "acknowledged", by="ben") == "decided"
        await desk.ends(flow, "settle failed")
        # A refusal that left the id free is final because the id was spent.
        [spent] = await desk.ledger.sql("SELECT outcome FROM ledger.declined")
        assert spent["outcome"] == "debit_account_not_found"
        await desk.verify()


async def test_a_foreign_transfer_under_a_derived_id_stops_the_flow_alone(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        flow = str(uuid.uuid4())
        theirs = uuid.UUID(bytes=transfer_id(uuid.UUID(flow).bytes, 0, 0, 1))
        accounts = await desk.ledger.sql("SELECT id FROM ledger.accounts ORDER BY name")
        written = (
            f'{{"id":"{theirs}","debit_account_id":"{accounts[0]["id"]}","credit_account_id":'
            f'"{accounts[1]["id"]}","amount":1,"ledger":1,"code":1}}'
        )
        async with desk.ledger.redis() as redis:
            await redis.xadd(f"{desk.ledger.prefix}:transfers:{{0000}}", {"json": written})

        async def there() -> bool:
            return bool(await desk.ledger.sql("SELECT FROM ledger.transfers"))

        await until(there, "the foreign transfer")
        await desk.start(id=flow)

        async def stopped() -> bool:
            return (await desk.current(flow)).get("state") == "stopped"

        await until(stopped, "the flow to stop")
        assert (await desk.current(flow))["reason"].startswith("id_taken")
        other = await desk.start()
        await desk.waits(other, "signal bank")
        assert await desk.ask(flow, "resolve", "declined", by="ben", reason="seen") == "resolved"
        await desk.ends(flow, "declined")


async def test_timers_fire_once_and_not_early(postgres_dsn: str, redis_url: str) -> None:
    flow = Flow("nap", version=1, input=Payout, ledger=1)
    nap = flow.sleep("1500ms")
    move = flow.move(debit=Payout.wallet, credit="a", amount=Payout.amount, code=1)
    nap.done.go(move)
    move.created.end("moved")
    move.declined.end("declined")
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(flow)
        async with desk.working():
            ids = [await desk.start("nap", amount=1) for _ in range(5)]
        # Nobody was there when they were due.
        await asyncio.sleep(0.2)
        async with desk.working():
            for one in ids:
                await desk.ends(one, "moved")
        rows = await desk.ledger.sql(
            "SELECT min(d.at - w.at)::text AS waited, count(*) AS n FROM flows.steps w"
            " JOIN flows.steps d ON d.flow = w.flow AND d.seq = 2 WHERE w.seq = 1"
            " AND d.at - w.at >= interval '1.5 s'"
        )
        assert rows[0]["n"] == 5
        assert await desk.balance("wallet") == (0, 5, 0, 0)


# Two workers, and those that are gone.


async def test_two_workers_share_the_shards_and_one_takes_over(
    postgres_dsn: str, redis_url: str
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        first, second = desk.worker(lease_seconds=1.5), desk.worker(lease_seconds=1.5)
        async with desk.working(first):
            ids = [await desk.start() for _ in range(8)]
            async with desk.working(second):

                async def shared() -> bool:
                    rows = await desk.ledger.sql("SELECT DISTINCT worker FROM flows.owners")
                    return len(rows) == 2

                await until(shared, "both to have shards")
                await asyncio.gather(*(desk.signal(flow, "settled") for flow in ids))
            for flow in ids:
                await desk.ends(flow, "paid")
        rows = await desk.ledger.sql("SELECT worker FROM flows.owners")
        assert {row["worker"] for row in rows} == {uuid.UUID(int=0)}
        assert await desk.balance("wallet") == (0, 8 * 500, 0, 0)
        await desk.verify()


async def test_a_frozen_workers_flush_meets_a_taken_number(
    postgres_dsn: str, redis_url: str
) -> None:
    """Its lease over, first only frozen: it commits nothing, one row a seq, money moved once."""
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        frozen, second = desk.worker(lease_seconds=1.0), desk.worker(lease_seconds=1.0)
        task = asyncio.create_task(frozen.run())
        await until(frozen.ready.is_set, "the first worker")
        flow = await desk.start()
        await desk.waits(flow, "signal bank")
        gate = asyncio.Event()
        write = frozen.store._connections.write

        async def held(name: str, *args: Any) -> Any:
            if name == "flows_fence":
                await gate.wait()
            return await write(name, *args)

        frozen.store._connections.write = held  # type: ignore[method-assign]
        frozen.store.ownership.heartbeat = lambda _: asyncio.sleep(3600, 0)  # type: ignore[method-assign, assignment]
        sending = asyncio.create_task(desk.signal(flow, "settled"))
        async with desk.working(second):
            await desk.ends(flow, "paid")
            gate.set()
            frozen.stop()
            await asyncio.wait([task], timeout=CONDITION_SECONDS_MAX)
            with contextlib.suppress(Exception):
                await sending
        rows = await rows_of(desk, flow)
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        assert await desk.balance("wallet") == (0, 500, 0, 0)
        await desk.verify()


async def test_an_answer_to_a_former_session_is_not_taken_for_this_one(
    postgres_dsn: str, redis_url: str
) -> None:
    """The same worker, after its servers were away, finds the old answers in its stream."""
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        worker = desk.worker()
        async with desk.working(worker):
            first = await desk.start()
            await desk.waits(first, "signal bank")
            worker.store.drop()  # the session ends, and another begins
            await desk.ledger.sql(
                "INSERT INTO ledger.accounts (id, ledger, code, name, flags) VALUES"
                " ($1, 1, 1, 'poor', '{debits_must_not_exceed_credits}')",
                uuid.uuid4(),
            )
            second = await desk.start(wallet="poor")
            await desk.ends(second, "declined")
            await desk.verify()
