"""`verify` passes on a ledger with everything in it, and names whatever is broken on purpose."""

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import engine.verify
from engine.outcomes import SPENDS_ID
from engine.servers import Servers
from engine.store.reading import connect_reader
from engine.streams import Streams
from engine.verify.report import CheckResult, Report
from engine.verify.run import SETTINGS, checks, run_check, verify
from tests.ledgers import Ledger, make_ledger, until

Results = dict[str, CheckResult]

SHARDS = 16
LOW, HIGH = range(8), range(8, SHARDS)

# Accounts: their home, their limit. Those of HIGH are at home with the other worker.
DEBITS, CREDITS = "debits_must_not_exceed_credits", "credits_must_not_exceed_debits"
ACCOUNTS: dict[str, tuple[int, str]] = {
    "a": (1, ""),
    "b": (2, ""),
    "c": (10, ""),
    "d": (11, ""),
    "limited": (3, DEBITS),
    "earner": (9, CREDITS),
    "closed": (4, ""),
    "reopened": (5, ""),
    "other ledger 1": (6, ""),
    "other ledger 2": (7, ""),
    # Used once, so that what is broken there is broken nowhere else.
    "once 1": (1, ""),
    "once 2": (2, ""),
    "held 1": (1, ""),
    "held 2": (2, ""),
    "twice 1": (1, ""),
    "twice 2": (2, ""),
    "full 1": (1, ""),
    "full 2": (2, ""),
    "earned": (1, DEBITS),
    "payer": (1, ""),
    "paid": (2, ""),
}


def id_of(name: str) -> str:
    """The id of an account (its last digit is its home) or of a transfer, by its name here."""
    made = uuid.uuid5(uuid.NAMESPACE_URL, name)
    if name in ACCOUNTS:
        made = uuid.UUID(int=(made.int & ~0xF) | ACCOUNTS[name][0])
    return str(made)


def transfer(name: str, debit: str, credit: str, amount: Any, **more: Any) -> dict[str, Any]:
    plain = {"id": id_of(name), "ledger": 1, "code": 1}
    accounts = {"debit_account_id": id_of(debit), "credit_account_id": id_of(credit)}
    return {**plain, **accounts, "amount": amount, **more}


def resolve(name: str, hold: str, flag: str, **more: Any) -> dict[str, Any]:
    return {"id": id_of(name), "pending_id": id_of(hold), "flags": [flag], **more}


def pending(*more: str) -> list[str]:
    return ["pending", *more]


POST, VOID = "post_pending_transfer", "void_pending_transfer"

# (shard by whose stream it comes, its transfers with the outcomes expected)
Entries = list[tuple[int, list[tuple[dict[str, Any], str]]]]

FIRST: Entries = [
    (1, [(transfer("stays", "a", "b", 7, flags=pending(), timeout=7200), "created")]),
    (1, [(transfer("lapses", "a", "b", 10, flags=pending(), timeout=1), "created")]),
]
AFTER_THE_LAPSE: Entries = [
    (1, [(transfer("hold", "a", "b", 50, flags=pending()), "created")]),
    (1, [(transfer("to void", "a", "b", 30, flags=pending()), "created")]),
    (
        1,
        [
            (resolve("post", "hold", POST, amount=20), "created"),
            (resolve("void", "to void", VOID), "created"),
            (transfer("income", "a", "limited", 100), "created"),
            (resolve("post again", "hold", POST, amount=20), "pending_transfer_already_posted"),
        ],
    ),
    (1, [(transfer("crosses", "a", "c", 5), "created")]),
    (10, [(transfer("elsewhere", "c", "d", 4), "created")]),
    (10, [(transfer("crosses back", "c", "a", 3), "created")]),
    (10, [(transfer("wrong stream", "a", "b", 2), "created")]),
    (1, [(transfer("buys", "earner", "a", 40), "created")]),
    (1, [(transfer("sells", "a", "earner", 15), "created")]),
    (1, [(transfer("oversells", "a", "earner", 26), "exceeds_debits")]),
    (
        3,
        [
            (transfer("chain 1", "a", "b", 1, flags=["linked"]), "created"),
            (transfer("chain 2", "b", "a", 1), "created"),
            (transfer("broken 1", "a", "b", 1, flags=["linked"]), "linked_event_failed"),
            (transfer("too much", "limited", "b", 1000), "exceeds_credits"),
            (transfer("all", "limited", "b", "max", flags=["balancing_debit"]), "created"),
            (transfer("none left", "limited", "b", 1), "exceeds_credits"),
        ],
    ),
    (4, [(transfer("closes", "closed", "a", 0, flags=pending("closing_debit")), "created")]),
    (4, [(transfer("too late", "closed", "a", 1), "debit_account_already_closed")]),
    (1, [(transfer("too late too", "a", "closed", 1), "credit_account_already_closed")]),
    (5, [(transfer("shuts", "reopened", "a", 0, flags=pending("closing_debit")), "created")]),
    (5, [(resolve("opens", "shuts", VOID), "created")]),
    (6, [(transfer("other", "other ledger 1", "other ledger 2", 9, ledger=2), "created")]),
    (1, [(transfer("nobody", "nobody at all", "a", 1), "debit_account_not_found")]),
    (1, [(resolve("nothing", "no hold", POST, amount=1), "pending_transfer_not_found")]),
    (1, [(transfer("once", "once 1", "once 2", 11), "created")]),
    (1, [(transfer("held", "held 1", "held 2", 12, flags=pending()), "created")]),
    (
        1,
        [
            (transfer("zero", "twice 1", "twice 2", 0), "created"),
            (transfer("zero again", "twice 1", "twice 2", 0), "created"),
            (transfer("zero again", "twice 1", "twice 2", 0), "exists"),
        ],
    ),
    (1, [(transfer("full", "full 1", "full 2", 5), "created")]),
    (1, [(transfer("fuller", "full 1", "full 2", 5, flags=pending()), "created")]),
    (1, [(transfer("earns", "payer", "earned", 10), "created")]),
    (1, [(transfer("pays", "earned", "paid", 10), "created")]),
    (1, [(transfer("last", "a", "b", 1), "created")]),
]


async def send(ledger: Ledger, shard: int, fields: dict[str, str]) -> dict[bytes, bytes]:
    """Add an entry and wait for its answer."""
    reply = f"{ledger.prefix}:answers:{uuid.uuid4().hex}"
    async with ledger.redis() as redis:
        stream = f"{ledger.prefix}:transfers:{{{shard:04d}}}"
        await redis.xadd(stream, {**fields, "reply": reply, "request": "1"})
        answers = await redis.xread({reply: 0}, count=1, block=10_000)
    assert answers, f"no answer to {fields}"
    answer: dict[bytes, bytes] = answers[0][1][0][1]
    return answer


async def send_all(ledger: Ledger, entries: Entries) -> None:
    for shard, events in entries:
        answer = await send(ledger, shard, {"json": json.dumps([one for one, _ in events])})
        assert json.loads(answer[b"outcomes"]) == [outcome for _, outcome in events]


async def fill(ledger: Ledger) -> None:
    """Two workers, each over half of the shards, decide one of everything there is."""
    for name, (_, limit) in ACCOUNTS.items():
        number, flags = 2 if name.startswith("other ledger") else 1, [limit] if limit else []
        insert = "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES ($1, $2, 1, $3)"
        await ledger.sql(insert, uuid.UUID(id_of(name)), number, flags)
    async with ledger.working(ledger.worker(LOW), ledger.worker(HIGH)):
        await send_all(ledger, FIRST)

        async def has_lapsed() -> Any:
            return await ledger.sql("SELECT FROM ledger.holds WHERE status = 'expired'")

        await until(has_lapsed, "a hold to lapse")
        await send_all(ledger, AFTER_THE_LAPSE)
        assert b"error" in await send(ledger, 1, {"json": "no json"})


@pytest.fixture(scope="module")
def ledger(servers: Servers) -> Ledger:
    async def make() -> Ledger:
        made = await make_ledger(servers.postgres.dsn, servers.valkey.url, SHARDS)
        await fill(made)
        return made

    return asyncio.run(make())


@contextlib.asynccontextmanager
async def breaking(ledger: Ledger) -> AsyncIterator[Callable[[str], Awaitable[Results]]]:
    """Break the ledger as the superuser, past every trigger; all is taken back at the end."""
    writing = {**SETTINGS, "default_transaction_read_only": "off"}
    connection = await connect_reader(ledger.dsn, writing)
    try:
        await connection.transaction().start()
        await connection.execute("SET LOCAL session_replication_role = replica")

        async def break_with(sql: str) -> Results:
            await connection.execute(fill_in(sql))
            return {check.name: await run_check(connection, check) for check in checks()}

        yield break_with
    finally:
        await connection.close()


def fill_in(sql: str) -> str:
    """`<name>` stands for an id, `#<name>` for the number of an account."""
    sql = re.sub(
        "#<([^<>]+)>",
        lambda m: f"(SELECT number FROM ledger.accounts WHERE id = '{id_of(m[1])}')",
        sql,
    )
    return re.sub("<([^<>]+)>", lambda m: f"'{id_of(m[1])}'", sql)


def failed(results: Results) -> set[str]:
    assert all(check.passed == (not check.faults) for check in results.values())
    return {name for name, check in results.items() if not check.passed}


def of(report: Report) -> Results:
    assert report.passed == all(check.passed for check in report.checks)
    return {check.name: check for check in report.checks}


async def test_a_ledger_with_everything_in_it_passes(ledger: Ledger) -> None:
    seen = []
    results = of(await verify(ledger.dsn, None, on_progress=lambda *step: seen.append(step)))
    assert failed(results) == set(), [results[name].offenders for name in failed(results)]
    assert [step[:2] for step in seen] == [(n, len(checks())) for n in range(len(checks()))]
    counted = {name: check.counted for name, check in results.items()}
    outcomes = [outcome for _, events in FIRST + AFTER_THE_LAPSE for _, outcome in events]
    created = outcomes.count("created")
    declined = sum(outcome in {one.name for one in SPENDS_ID} for outcome in outcomes)
    assert counted["sums"] == {"ledgers": 2}
    assert counted["postings"] == {"transfers": created}
    assert counted["versions"]["postings"] == counted["limits"]["postings"] == 2 * created + 2
    assert counted["ids"] == {"created": created, "declined": declined}
    assert counted["holds"] == {
        "holds ended": 4,
        "posts and voids": 3,
        "accounts": len(ACCOUNTS),
    }
    assert counted["due"] == {"holds that may lapse": 1}
    assert counted["dead_letters"] == {"dead letters": 1}
    kinds = {row["kind"] for row in await ledger.sql("SELECT kind FROM ledger.flushes")}
    assert kinds == {"flush", "locked", "lent", "claim", "release"}


async def test_an_empty_ledger_passes(servers: Servers) -> None:
    empty = await make_ledger(servers.postgres.dsn, servers.valkey.url)
    report = await verify(empty.dsn, None)
    assert report.passed
    assert report.checks[0].counted == {"ledgers": 0}


# The check that must fail, with those that cannot but fail with it | whom it names | SQL.
# What was used once can be broken without breaking what else was written there.
BREAKS = """
sums postings counters      | "ledger":1 |
    UPDATE ledger.posted SET amount = amount + 1
    WHERE transfer_id = <once> AND amount > 0
sums postings counters      | "ledger":1 |
    UPDATE ledger.posted SET pending_amount = pending_amount + 1
    WHERE transfer_id = <held> AND pending_amount > 0
sums references             | "ledger":2 |
    UPDATE ledger.accounts SET ledger = 2 WHERE id = <once 2>

postings                    | <once> |
    UPDATE ledger.posted SET transfer_id = gen_random_uuid()
    WHERE transfer_id = <once> AND amount < 0
postings                    | <once> |
    UPDATE ledger.flushes SET postings = postings - 2
    WHERE number = (SELECT number >> 20 FROM ledger.spent WHERE id = <once>);
    DELETE FROM ledger.posted WHERE transfer_id = <once>
postings                    | <once> |
    UPDATE ledger.flushes SET postings = postings + 1
    WHERE number = (SELECT number >> 20 FROM ledger.spent WHERE id = <once>);
    UPDATE ledger.posted SET run = 0 WHERE transfer_id = <once> AND amount > 0;
    INSERT INTO ledger.posted (number, stripe, version, run, transfer_id, amount, pending_amount,
        debits_pending, debits_posted, credits_pending, credits_posted)
    SELECT number + 1, stripe, 2, 2, transfer_id, 0, 0,
        debits_pending, debits_posted, credits_pending, credits_posted
    FROM ledger.posted WHERE transfer_id = <once> AND amount > 0
postings                    | <once> |
    UPDATE ledger.spent SET amount = amount + 1 WHERE id = <once>
postings counters           | <held> |
    UPDATE ledger.posted SET pending_amount = - pending_amount WHERE transfer_id = <held>
postings holds              | <lapses> |
    DELETE FROM ledger.resolutions WHERE hold_id = <lapses>;
    INSERT INTO ledger.resolutions SELECT <lapses>, <void>, 'voided', number
    FROM ledger.resolutions WHERE hold_id = <to void>

versions                    | <once> |
    UPDATE ledger.posted SET version = 2 WHERE transfer_id = <once> AND amount < 0
versions                    | <zero again> |
    UPDATE ledger.posted p SET number = q.number FROM ledger.posted q
    WHERE p.stripe = q.stripe AND p.transfer_id IN (<zero>, <zero again>)
      AND q.transfer_id IN (<zero>, <zero again>) AND p.version <> q.version
versions                    | <zero again> |
    UPDATE ledger.posted SET version = 1 WHERE transfer_id = <zero again>
versions                    | <once> |
    UPDATE ledger.posted SET run = 0 WHERE transfer_id = <once> AND amount < 0
versions                    | <zero again> |
    UPDATE ledger.posted SET run = 1 WHERE transfer_id = <zero again>
versions                    | <zero again> |
    DROP INDEX ledger.posted_run;
    UPDATE ledger.posted SET run = 1 WHERE transfer_id = <zero>
versions positions          | <pays> |
    UPDATE ledger.flushes SET time = time - interval '1 day'
    WHERE number = (SELECT number >> 20 FROM ledger.spent WHERE id = <pays>);
    UPDATE ledger.positions SET time = time - interval '1 day'
    WHERE flush = (SELECT number >> 20 FROM ledger.spent WHERE id = <pays>)

counters                    | <once> |
    UPDATE ledger.posted SET debits_posted = debits_posted + 1
    WHERE transfer_id = <once> AND amount < 0
counters                    | <last> |
    UPDATE ledger.posted SET debits_pending = debits_pending + 1
    WHERE transfer_id = <last> AND amount > 0
counters limits             | <held> |
    UPDATE ledger.posted SET credits_pending = - debits_pending, debits_pending = 0
    WHERE transfer_id = <held> AND pending_amount < 0

limits                      | <once 2> |
    UPDATE ledger.accounts SET flags = '{credits_must_not_exceed_debits}' WHERE id = <once 2>
limits                      | <once 1> |
    UPDATE ledger.accounts SET flags = '{debits_must_not_exceed_credits}' WHERE id = <once 1>
limits                      | <fuller> |
    UPDATE ledger.spent SET amount = 9223372036854775807 WHERE id = <full>;
    UPDATE ledger.posted SET amount = amount / 5 * 9223372036854775807
    WHERE transfer_id = <full>;
    UPDATE ledger.posted SET debits_posted = 9223372036854775807 WHERE debits_posted = 5
       AND transfer_id IN (<full>, <fuller>);
    UPDATE ledger.posted SET credits_posted = 9223372036854775807 WHERE credits_posted = 5
       AND transfer_id IN (<full>, <fuller>)

ids                         | <too much> |
    UPDATE ledger.spent SET outcome = 46 WHERE id = <too much>
ids                         | <too much> |
    UPDATE ledger.spent SET request = '\\x00' WHERE id = <too much>
ids                         | <once> |
    ALTER TABLE ledger.spent DROP CONSTRAINT spent_pkey;
    UPDATE ledger.spent SET id = <once>, request = uuid_send(<once>) || substring(request FROM 17)
    WHERE id = <too much>
ids                         | <once> |
    UPDATE ledger.spent SET code = 0 WHERE id = <once>
ids                         | <stays> |
    UPDATE ledger.spent SET expires_at = expires_at + interval '1 second' WHERE id = <stays>
ids                         | <once> |
    UPDATE ledger.spent SET pending_id = <hold> WHERE id = <once>

holds                       | <hold> |
    UPDATE ledger.resolutions SET status = 'voided' WHERE hold_id = <hold>
holds                       | <lapses> |
    UPDATE ledger.spent SET timeout = timeout + 5, expires_at = expires_at + interval '5 seconds'
    WHERE id = <lapses>
holds                       | <void> |
    DELETE FROM ledger.resolutions WHERE hold_id = <to void>
holds                       | <to void> |
    ALTER TABLE ledger.resolutions DROP CONSTRAINT resolutions_pkey;
    INSERT INTO ledger.resolutions SELECT * FROM ledger.resolutions WHERE hold_id = <to void>
holds                       | <once> |
    INSERT INTO ledger.resolutions SELECT <once>, transfer_id, status, number
    FROM ledger.resolutions WHERE hold_id = <hold>
holds                       | <closed> |
    UPDATE ledger.accounts SET closed = false WHERE id = <closed>
holds                       | <a> |
    UPDATE ledger.accounts SET closed = true WHERE id = <a>

flushes                     | "sequence" |
    UPDATE ledger.flushes SET transfers = transfers + 1 WHERE kind = 'flush'
flushes                     | "sequence" |
    UPDATE ledger.flushes SET declined = 0 WHERE declined > 0
flushes                     | "sequence" |
    UPDATE ledger.flushes SET sequence = sequence + 100 WHERE kind = 'release'
flushes ownership           | "lent" |
    UPDATE ledger.flushes SET other = (SELECT number FROM ledger.flushes WHERE kind = 'flush'
                                       LIMIT 1) WHERE kind = 'lent'
flushes                     | "claim" |
    UPDATE ledger.flushes SET other = other + 1000 WHERE kind = 'claim' AND other IS NOT NULL
flushes                     | "flush":999999 |
    INSERT INTO ledger.spent SELECT gen_random_uuid(), 999999::bigint << 20, debit_account,
        credit_account, amount, code, flags, shard, 54, NULL, NULL, NULL, NULL, NULL, NULL, request
    FROM ledger.spent WHERE id = <too much>;
    UPDATE ledger.spent SET request = uuid_send(id) || substring(request FROM 17)
    WHERE number >> 20 = 999999

references                  | <zero> |
    DELETE FROM ledger.accounts WHERE id = <twice 2>
references                  | <zero> |
    UPDATE ledger.accounts SET ledger = 3 WHERE id = <twice 2>
references                  | "worker" |
    DELETE FROM ledger.workers WHERE host <> 'nobody'
references                  | "shard":15 |
    DELETE FROM ledger.owners WHERE shard = 15
references                  | "shard":1000 |
    UPDATE ledger.posted SET stripe = stripe - 2 + 1000
    WHERE transfer_id = <once> AND amount > 0

positions                   | "shard":1 |
    UPDATE ledger.positions SET ms = 0
    WHERE (shard, flush) = (SELECT shard, max(flush) FROM ledger.positions WHERE shard = 1
                            GROUP BY shard)
positions                   | "shard":1 |
    UPDATE ledger.positions SET time = time + interval '1 microsecond'
    WHERE shard = 1
ownership                   | "shard":9 |
    DELETE FROM ledger.ownership WHERE shard = 9
    AND worker <> '00000000-0000-0000-0000-000000000000'
ownership                   | "shard":9 |
    UPDATE ledger.owners SET worker = (SELECT worker FROM ledger.flushes WHERE kind = 'locked'
                                       LIMIT 1) WHERE shard = 9
ownership                   | "shard":9 |
    UPDATE ledger.ownership SET worker = o.worker FROM ledger.ownership o
    WHERE ledger.ownership.shard = 9 AND o.shard = 1
      AND ledger.ownership.former <> ledger.ownership.worker
      AND ledger.ownership.worker <> '00000000-0000-0000-0000-000000000000'
      AND o.worker <> '00000000-0000-0000-0000-000000000000'
ownership                   | "shard":9 |
    DELETE FROM ledger.ownership WHERE shard = 9
due                         | <stays> |
    UPDATE ledger.spent SET timeout = 1, expires_at = expires_at - interval '7199 seconds'
    WHERE id = <stays>
due positions               | <stays> |
    UPDATE ledger.positions SET time = time + interval '3 hours' WHERE shard = 1
"""


def breaks() -> list[Any]:
    found = []
    for block in re.split(r"\n(?=\S)", BREAKS.strip()):
        names, offender, sql = block.split("|", 2)
        title = f"{names.split()[0]} {len(found)}"
        found.append(pytest.param(names.split(), offender.strip(), sql.strip(), id=title))
    return found


@pytest.mark.parametrize(("names", "offender", "sql"), breaks())
async def test_what_is_broken_is_found_by_its_check_and_named(
    ledger: Ledger, names: list[str], offender: str, sql: str
) -> None:
    async with breaking(ledger) as break_with:
        results = await break_with(sql)
    assert failed(results) == set(names), {n: results[n].offenders for n in failed(results)}
    named = json.dumps(results[names[0]].offenders, separators=(",", ":"))
    assert fill_in(offender).strip("'") in named


def test_every_check_has_at_least_two_breaks() -> None:
    aimed_at = [parameter.values[0][0] for parameter in breaks()]
    for check in checks():
        assert check.name == "dead_letters" or aimed_at.count(check.name) >= 2, check.name


# An account with a limit whose credit came through another shard's stripe than its debit.
STRIPED = """
    UPDATE ledger.posted SET stripe = #<earned> * 1024 + 10
    WHERE transfer_id = <earns> AND amount > 0;
    UPDATE ledger.posted SET version = 1, credits_posted = 0
    WHERE transfer_id = <pays> AND amount < 0;
"""

# The debit comes first: both transfers change places, with their flushes.
SWAPPED = """
    CREATE TEMP TABLE places AS SELECT id, number FROM ledger.spent WHERE id IN (<earns>, <pays>);
    UPDATE ledger.spent s SET number = p.number FROM places p
    WHERE s.id IN (<earns>, <pays>) AND p.id <> s.id;
    UPDATE ledger.posted q SET number = (s.number >> 20 << 20) + (q.number & 1048575)
    FROM ledger.spent s WHERE s.id = q.transfer_id AND s.id IN (<earns>, <pays>)
"""


async def test_a_limit_holds_over_all_stripes_in_the_order_of_time(ledger: Ledger) -> None:
    async with breaking(ledger) as break_with:
        assert failed(await break_with(STRIPED)) == set()
        results = await break_with(SWAPPED)
    assert failed(results) == {"limits"}
    offender = results["limits"].offenders[0]
    assert (offender["account_id"], offender["transfer_id"]) == (id_of("earned"), id_of("pays"))
    assert (offender["debits_posted"], offender["credits_posted"]) == (10, 0)


async def test_values_beyond_arithmetic_fail_their_check_and_no_other_stops(
    ledger: Ledger,
) -> None:
    async with breaking(ledger) as break_with:
        results = await break_with(
            "UPDATE ledger.posted SET debits_posted = -9223372036854775808"
            " WHERE transfer_id = <once> AND amount < 0"
        )
    assert failed(results) == {"counters", "limits"}
    assert "cannot be computed with" in results["counters"].offenders[0]["fault"]
    assert results["limits"].offenders[0]["transfer_id"] == id_of("once")


async def test_nothing_stops_and_nothing_fails_while_transfers_flow(
    postgres_dsn: str, redis_url: str
) -> None:
    live = await make_ledger(postgres_dsn, redis_url)
    for name in ("a", "b"):
        insert = "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)"
        await live.sql(insert, uuid.UUID(id_of(name)))
    streams = Streams(redis_url, live.prefix)
    await streams.open()
    async with live.working(), live.redis() as redis:
        stopping = asyncio.Event()

        async def flow() -> None:
            count = 0
            while not stopping.is_set():
                batch = [transfer(f"{live.prefix} {count + n}", "a", "b", 1) for n in range(20)]
                count += len(batch)
                stream = f"{live.prefix}:transfers:{{0001}}"
                await redis.xadd(stream, {"json": json.dumps(batch)})
                await asyncio.sleep(0)

        flowing = asyncio.create_task(flow())
        counts = []
        for _ in range(3):
            report = await verify(
                live.dsn, streams.ends, entries_below=streams.read_below, prefix=live.prefix
            )
            results = of(report)
            assert failed(results) == set(), [results[n].offenders for n in failed(results)]
            counts.append(results["postings"].counted["transfers"])
        stopping.set()
        await flowing
    await streams.close()
    assert counts[0] < counts[1] < counts[2]


async def test_streams_are_compared_with_positions(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.verify.streams.DELETED_SECONDS_MAX", 0.2)
    small = await make_ledger(postgres_dsn, redis_url)
    for name in ("a", "b"):
        insert = "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)"
        await small.sql(insert, uuid.UUID(id_of(name)))
    events = [transfer("decided", "a", "b", 1)]
    async with small.working():
        await send(small, 1, {"json": json.dumps(events)})
        await send(small, 1, {"json": "unreadable"})
    streams = Streams(redis_url, small.prefix)
    await streams.open()
    stream = f"{small.prefix}:transfers:{{0001}}"

    async def look() -> Any:
        report = await verify(
            small.dsn, streams.ends, entries_below=streams.read_below, prefix=small.prefix
        )
        assert failed(of(report)) <= {"streams"}
        return report.checks[-1]

    async with small.redis() as redis:
        await redis.xadd(stream, {"json": "[]"})
        result = await look()
        assert result.passed
        assert result.counted["entries waiting in shard 1"] == 1
        position = (await streams.ends([1]))[1].last

        # A Redis that came back older: it has given no such id yet.
        await redis.delete(stream)
        result = await look()
        assert [(one["what"], one["shard"]) for one in result.offenders] == [("streams", 1)]
        assert "came back older" in result.offenders[0]["fault"]

        # What was decided and only not deleted is no fault; what nobody decided is.
        await redis.xadd(stream, {"json": json.dumps(events)}, id="1-1")
        await redis.xadd(stream, {"json": json.dumps([transfer("new", "a", "b", 1)])}, id="1-2")
        await redis.xadd(stream, {"json": "unreadable too"}, id="1-3")
        await redis.xadd(stream, {"json": "[]"}, id=position.entry_id)
        result = await look()
        assert [(one["what"], one["entry"]) for one in result.offenders] == [
            ("entries", "1-3"),
            ("entries", "1-2"),
        ]
        assert result.counted["entries not deleted yet"] == 3
        assert result.counted["entries waiting"] == 1
        without = await verify(small.dsn, streams.ends)
        assert without.passed
    await streams.close()


def test_the_refusals_that_spend_an_id_are_those_of_the_rules() -> None:
    text = (Path(engine.verify.__file__).parent / "checks" / "06_ids.sql").read_text()
    listed = re.search(r"o\.name NOT IN \((.*?)\)", text, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"'(\w+)'", listed[1])) == {outcome.name for outcome in SPENDS_ID}
