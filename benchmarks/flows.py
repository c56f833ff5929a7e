"""Flows a second, and their transitions, beside the same rows written otherwise.

A payout is a hold, a wait for a signal, a post: each start and each signal is answered once it is
durable. A passing flow takes ten steps at once and moves no money. Beside them, on the same server:
bare COPY of the rows that the payouts wrote, 5,000 a commit; one transaction a transition, 32
connections; claims by SKIP LOCKED and UPDATE in sets of 100. Then payouts at 100 a second, from
sending to the row that says that the money is held. All on this machine; audited: every started id
has one end, and every row is there. Not measured: partners, timers, flows asleep, a ledger's load
beside them.

Example: python -m benchmarks.flows --flows 50000
"""

import argparse
import asyncio
import io
import statistics
import time
import uuid
from typing import Any, Final

import asyncpg

from benchmarks.flow_serving import flow_worker, opened
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import Ledger, cpu_seconds, new_ledger, running_engine
from benchmarks.workload import SHARDS, make_accounts
from engine.flows import Account, Amount, Flow, Input
from engine.flows.client import FlowClient

SIZES = {
    "flows": Size(40_000, 2_000, "payouts, and passing flows half as many"),
    "latency": Size(1000, 100, "payouts at 100 a second"),
}
CHUNK: Final = 1000
LANES: Final = 6
"""Chunks that are under way at the same time."""

COPY_ROWS: Final = 5000
SINGLE_ROWS: Final = 3000
CONNECTIONS: Final = 32
CLAIM_ROWS: Final = 100
WALLETS: Final = SHARDS - 1
"""Accounts without limits: each start finds money."""

PACE_SECONDS: Final = 0.01


class Payout(Input):
    """What each flow is started with."""

    wallet: Account
    amount: Amount


def payout(transit: str) -> Flow:
    """Hold, wait, post."""
    flow = Flow("payout", version=1, input=Payout, ledger=1)
    hold = flow.hold(debit=Payout.wallet, credit=transit, amount=Payout.amount, code=1)
    bank = flow.wait("bank")
    post = flow.post(hold)
    hold.created.go(bank)
    hold.declined.end("declined")
    bank.on("settled").go(post)
    post.done.end("paid")
    return flow


def passing() -> Flow:
    """Reviews that are passed by their condition: nine steps and an end, all at once."""
    flow = Flow("passing", version=1, input=Payout, ledger=1)
    steps = [flow.review("?", when=Payout.amount > 1000, name=f"q{n}") for n in range(9)]
    end = flow.end("over")
    for step, following in zip(steps, [*steps[1:], end], strict=True):
        step.approved.go(following)
        step.refused.go(end)
    return flow


class Bench:
    """One ledger, its engine, and what is sent to it."""

    def __init__(self, ledger: Ledger, client: FlowClient, connection: asyncpg.Connection) -> None:
        self._client = client
        self._connection = connection
        self._wallets = [str(uuid.UUID(bytes=one)) for one in ledger.accounts.ids.tolist()]
        self.started = 0

    def _items(self, count: int) -> list[dict[str, Any]]:
        self.started += count
        return [
            {"id": str(uuid.uuid4()), "wallet": self._wallets[1 + n % WALLETS], "amount": 5}
            for n in range(count)
        ]

    async def chunk(self, name: str, count: int) -> None:
        """Start flows, and send the signals of those that wait for one."""
        items = self._items(count)
        _expect(await self._client.start(name, items))
        if name == "payout":
            await self._signal(items)

    async def _signal(self, items: list[dict[str, Any]]) -> None:
        said = {"name": "bank", "event": "settled", "message_id": "1"}
        _expect(await self._client.signal([{"flow": item["id"]} | said for item in items]))

    async def drive(self, name: str, flows: int) -> tuple[float, int]:
        """All of them, to their ends: seconds, and rows of journals."""
        before = await self._count("steps")
        began = time.perf_counter()
        chunks = iter([CHUNK] * (flows // CHUNK))

        async def lane() -> None:
            for count in chunks:
                await self.chunk(name, count)

        await asyncio.gather(*(lane() for _ in range(LANES)))
        await self._until_over()
        return time.perf_counter() - began, await self._count("steps") - before

    async def latencies(self, flows: int) -> list[float]:
        """Milliseconds from sending to the row that says that the money is held."""
        sent: dict[uuid.UUID, float] = {}
        asking = []
        for _ in range(flows):
            [item] = self._items(1)
            sent[uuid.UUID(item["id"])] = time.time()
            asking.append(asyncio.create_task(self._client.start("payout", [item])))
            await asyncio.sleep(PACE_SECONDS)
        for task in asking:
            _expect(await task)
        held = "SELECT flow, at FROM flows.steps WHERE event = 'created' AND flow = ANY ($1)"
        await asyncio.sleep(1)
        rows = await self._connection.fetch(held, list(sent))
        if len(rows) < flows:
            raise SystemExit(f"{flows - len(rows)} holds are not there after a second")
        await self._signal([{"id": str(flow)} for flow in sent])
        await self._until_over()
        return [1000 * (row["at"].timestamp() - sent[row["flow"]]) for row in rows]

    async def _until_over(self) -> None:
        while await self._count("open"):  # noqa: ASYNC110 - Postgres tells it
            await asyncio.sleep(0.01)

    async def _count(self, table: str) -> int:
        return int(await self._connection.fetchval(f"SELECT count(*) FROM flows.{table}"))  # noqa: S608 - ours

    async def audit(self) -> list[str]:
        """What does not add up."""
        rows = await self._connection.fetch(
            "SELECT s.event, count(*) AS flows, count(DISTINCT s.flow) AS ids"
            " FROM flows.steps s WHERE s.state = 'ended' GROUP BY s.event"
        )
        faults = [f"{row['event']}: ended twice" for row in rows if row["flows"] != row["ids"]]
        if {row["event"] for row in rows} - {"paid", "over"}:
            faults.append(f"ends are {[tuple(row) for row in rows]}")
        ended = sum(row["ids"] for row in rows)
        if not ended == self.started == await self._count("flows"):
            faults.append(f"{self.started} flows were started, and {ended} have ended")
        return faults


def _expect(outcomes: list[str]) -> None:
    if set(outcomes) != {"created"}:
        raise SystemExit(f"answered {set(outcomes)}")


async def _baselines(connection: asyncpg.Connection, dsn: str) -> dict[str, float]:
    """Rows a second: by bare COPY, in a transaction each, and claimed in sets."""
    for name in ("copied", "singles"):
        await connection.execute(f"CREATE TABLE {name} (LIKE flows.steps INCLUDING ALL)")
    data = io.BytesIO()
    await connection.copy_from_table("steps", schema_name="flows", output=data)
    lines = data.getvalue().splitlines(keepends=True)
    began = time.perf_counter()
    for first in range(0, len(lines), COPY_ROWS):
        piece = io.BytesIO(b"".join(lines[first : first + COPY_ROWS]))
        await connection.copy_to_table("copied", source=piece)
    found = {"bare_copy": len(lines) / (time.perf_counter() - began)}

    pool = await asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS)
    keys = iter(await connection.fetch("SELECT flow, seq FROM flows.steps LIMIT $1", SINGLE_ROWS))
    insert = "INSERT INTO singles SELECT * FROM flows.steps WHERE flow = $1 AND seq = $2"

    async def singly() -> None:
        for flow, seq in keys:
            await pool.execute(insert, flow, seq)

    began = time.perf_counter()
    await asyncio.gather(*(singly() for _ in range(CONNECTIONS)))
    count = await connection.fetchval("SELECT count(*) FROM singles")
    found["transaction_each"] = count / (time.perf_counter() - began)

    await connection.execute(
        "CREATE TABLE queue AS SELECT row_number() OVER () AS place, 0 AS state, flow"
        " FROM copied LIMIT 20000"
    )
    await connection.execute("CREATE INDEX ON queue (place) WHERE state = 0")
    claim = (
        "UPDATE queue SET state = 1 WHERE place IN (SELECT place FROM queue WHERE state = 0"
        " ORDER BY place LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING place"
    )

    async def claiming() -> int:
        done = 0
        while rows := await pool.fetch(claim, CLAIM_ROWS):
            done += len(rows)
        return done

    began = time.perf_counter()
    claimed = sum(await asyncio.gather(*(claiming() for _ in range(4))))
    found["skip_locked"] = claimed / (time.perf_counter() - began)
    await pool.close()
    return found


async def _measure(ledger: Ledger, worker: int, options: argparse.Namespace) -> Result:
    rows: list[Row] = []
    transit = str(uuid.UUID(bytes=ledger.accounts.ids.tolist()[0]))
    async with opened(ledger, [payout(transit), passing()]) as (client, connection):
        bench = Bench(ledger, client, connection)
        for name, flows in (("payout", options.flows), ("passing", options.flows // 2)):
            await bench.chunk(name, 100)
            before = cpu_seconds(worker)
            seconds, steps = await bench.drive(name, flows)
            used = cpu_seconds(worker) - before
            rows.append(
                {
                    "what": name,
                    "flows_per_second": round(flows / seconds),
                    "transitions_per_second": round(steps / seconds),
                    "worker_cpu_us_per_flow": round(used / flows * 1e6),
                }
            )
            note(f"{name}: {flows / seconds:,.0f} flows/s, {steps / seconds:,.0f} transitions/s")
        latencies = sorted(await bench.latencies(options.latency))
        faults = await bench.audit()
        baselines = await _baselines(connection, ledger.dsn)
        for name, rate in baselines.items():
            alone = {"flows_per_second": None, "worker_cpu_us_per_flow": None}
            rows.append({"what": name, "transitions_per_second": round(rate)} | alone)
            note(f"{name}: {rate:,.0f} rows/s")
    waited = {
        "median_ms": round(statistics.median(latencies), 1),
        "p99_ms": round(latencies[int(len(latencies) * 0.99)], 1),
    }
    summary = {
        "ratio_to_bare_copy": round(rows[1]["transitions_per_second"] / baselines["bare_copy"], 3),
        "start_to_hold_ms_median": waited["median_ms"],
        "start_to_hold_ms_p99": waited["p99_ms"],
    }
    details = {"Start to hold, at 100 a second": [{"flows": options.latency} | waited]}
    return Result(rows, faults, summary, details)


def measure(options: argparse.Namespace) -> Result:
    accounts = make_accounts(1)
    with (
        new_ledger(accounts) as ledger,
        running_engine(ledger, 1),
        flow_worker(ledger) as worker,
    ):
        return asyncio.run(_measure(ledger, worker.pid, options))


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
