"""Flow workers in trouble on real servers: cut off, given nonsense, told to go."""

import asyncio
import uuid
from typing import Any

import msgspec
import pytest

from engine.commands.crew import Crew
from engine.errors import TryAgainError
from engine.flows import Flow
from engine.servers import Addresses
from tests.bounds import CONDITION_SECONDS_MAX
from tests.flow_desks import FlowDesk, flow_desk
from tests.flow_examples import Payout, payout
from tests.ledgers import until


@pytest.mark.parametrize("where", ["read", "read_answers", "send"])
async def test_a_flow_worker_that_is_cancelled_ends(
    postgres_dsn: str, redis_url: str, where: str
) -> None:
    """Also where a server is found away on the way out."""
    async with flow_desk(postgres_dsn, redis_url) as desk:
        worker = desk.worker()
        called = getattr(worker.streams, where)

        async def away(*args: Any) -> Any:
            try:
                return await called(*args)
            except asyncio.CancelledError:
                raise TryAgainError("the connection is gone") from None

        setattr(worker.streams, where, away)
        task = asyncio.create_task(worker.run())
        await until(worker.ready.is_set, "the worker")
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task], timeout=CONDITION_SECONDS_MAX)
        assert task.done(), "it began another session"
        assert task.cancelled()
        worker.store.drop()


async def test_a_function_that_does_not_end_holds_up_nobody(
    postgres_dsn: str, redis_url: str
) -> None:
    gate = asyncio.Event()

    async def stubborn(_: Any) -> list[str]:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue
        return []

    flow = Flow("ask", version=1, input=Payout, ledger=1)
    asked = flow.call(stubborn, within="1h")
    asked.done.end("done")
    asked.refused.end("refused")
    asked.unknown.review("done?", yes=flow.end("done"))
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(flow)
        worker = desk.worker(stubborn=stubborn)
        async with desk.working(worker):
            await desk.waits(await desk.start("ask"), "call stubborn")
        gate.set()


async def test_abandoned_flow_workers_of_a_crew_end_at_once(
    postgres_dsn: str, redis_url: str
) -> None:
    """A second signal cuts off a COMMIT that nobody will answer, also of a flow worker."""
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(payout())
        worker = desk.worker()
        addresses = Addresses(desk.ledger.dsn, desk.ledger.redis_url)
        crew = Crew(addresses, [], others=[worker])
        task = asyncio.create_task(crew.run(lambda: None))
        await until(worker.ready.is_set, "the worker")
        await desk.ledger.sql(
            "CREATE FUNCTION flows.dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$"
        )
        await desk.ledger.sql(
            "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON flows.flushes"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION flows.dawdle()"
        )
        starting = asyncio.create_task(desk.start())

        async def committing() -> bool:
            rows = await desk.ledger.sql(
                "SELECT FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"
                " AND wait_event = 'PgSleep' AND datname = current_database()"
            )
            return len(rows) == 1

        await until(committing, "the COMMIT")
        crew.stop()
        crew.abandon()
        task.cancel()
        await asyncio.wait([task], timeout=CONDITION_SECONDS_MAX)
        assert task.done(), "it waits for the COMMIT"
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def answers_to(desk: FlowDesk, kind: str, *entries: dict[str, Any]) -> list[dict[str, Any]]:
    """What entries are answered, in any order."""
    reply = f"{desk.ledger.prefix}:answers:me-{uuid.uuid4().hex}"
    async with desk.ledger.redis() as redis:
        for place, fields in enumerate(entries):
            name = f"{desk.ledger.prefix}:{kind}:{{000{place % 4}}}"
            await redis.xadd(name, {"reply": reply, "request": f"{place}"} | fields)

        async def answered() -> bool:
            return bool(await redis.xlen(reply) == len(entries))

        await until(answered, f"{len(entries)} answers")
        return [
            {name.decode(): value.decode() for name, value in fields.items()}
            for _, fields in await redis.xrange(reply)
        ]


async def test_the_sender_of_a_dead_letter_is_told(postgres_dsn: str, redis_url: str) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        answers = await answers_to(
            desk, "flows", {"json": "{", "flow": "payout"}, {"json": "[1]", "flow": "payout"}
        )
        assert {answer["request"] for answer in answers} == {"0", "1"}
        assert all(answer["error"] for answer in answers)
        [answer] = await answers_to(desk, "signals", {"json": "[{}]"})
        assert "required" in answer["error"]


def hostile_signal(**changes: Any) -> dict[str, str]:
    written = {"flow": str(uuid.uuid4()), "name": "bank", "event": "settled", "message_id": "m"}
    return {"json": msgspec.json.encode([written | changes]).decode()}


HOSTILE = [
    ("flows", {"flow": "payout\0", "json": "[]"}),
    ("flows", {"flow": "payout", "by": "a\0", "json": "[]"}),
    ("flows", {"flow": "payout", "start_at": "9" * 30, "json": "[]"}),
    ("flows", {"flow": "payout", "start_at": "-1", "json": "[]"}),
    ("flows", {"flow": "payout", "depth": "70000", "json": "[]"}),
    ("flows", {"flow": "payout", "json": "[" * 100_000}),
    ("signals", hostile_signal(message_id="a\0")),
    ("signals", hostile_signal(event="a\0")),
    ("signals", hostile_signal(name="a\0")),
    ("signals", hostile_signal(body="a\0")),
    ("signals", hostile_signal(body={"a\0": [1, "\0"]})),
    ("signals", {"json": hostile_signal()["json"].replace("}]", ',"body":1e400000}]')}),
]


@pytest.mark.parametrize(("kind", "fields"), HOSTILE)
async def test_what_no_database_keeps_is_a_dead_letter_and_others_go_on(
    postgres_dsn: str, redis_url: str, kind: str, fields: dict[str, str]
) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        flow = str(uuid.uuid4())
        start = {"id": flow, "wallet": "wallet", "amount": 1}
        if kind == "flows" and fields["json"] == "[]":
            fields = fields | {"json": msgspec.json.encode([start | {"id": str(uuid.uuid4())}])}
        good = {"flow": "payout", "json": msgspec.json.encode([start])}
        hostile = answers_to(desk, kind, fields)
        told, [answer] = await asyncio.gather(hostile, answers_to(desk, "flows", good))
        assert answer["outcomes"] == '["created"]'
        assert told[0].get("error"), told
        await desk.waits(flow, "signal bank")
        [row] = await desk.ledger.sql("SELECT count(*) AS n FROM flows.dead_letters")
        assert row["n"] == 1
        await desk.verify()


@pytest.mark.parametrize("detail", [{"a": "\0"}, {"a": object()}, {"a": 2**70}])
async def test_what_a_function_says_and_nobody_keeps_stops_its_flow_alone(
    postgres_dsn: str, redis_url: str, detail: dict[str, Any]
) -> None:
    async def partner(items: list[Any]) -> list[Any]:
        return [("done", detail if item.input["amount"] == 13 else {}) for item in items]

    flow = Flow("ask", version=1, input=Payout, ledger=1)
    asked = flow.call(partner)
    asked.done.end("done")
    asked.refused.end("refused")
    asked.unknown.review("done?", yes=flow.end("done"))
    async with flow_desk(postgres_dsn, redis_url) as desk:
        await desk.define(flow)
        async with desk.working(desk.worker(partner=partner)):
            items = [
                {"id": str(uuid.uuid4()), "wallet": "wallet", "amount": n} for n in range(10, 17)
            ]
            assert await desk.client.start("ask", items) == ["created"] * 7
            found: dict[int, str] = {}

            async def settled() -> bool:
                for item in items:
                    now = await desk.current(item["id"])
                    found[item["amount"]] = now["end"] or now["waiting_for"] or now["state"]
                return set(found.values()) <= {"done", "review", "stopped"}

            await until(settled, f"all flows to come to something: {found}")
            # The bad one stops, or ends with what can be kept; of the others all is known.
            bad = found.pop(13)
            assert bad in {"stopped", "done"}
            assert set(found.values()) == {"done"}
            await desk.verify()
