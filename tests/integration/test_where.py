"""Where is it? Every id's life, from the ledger's indexes and from what waits."""

import json
import uuid
from typing import Any

import asyncpg
import pytest

from engine.operating.lives import Life
from engine.operating.where import find
from engine.store.driver import connect
from engine.store.statements import statement
from engine.wire.entries import encode_entry, parse_transfer_json
from engine.wire.layout import transfers_to_rows
from engine.wire.requests import Format
from tests.authors import WORKERS, Author, copy_flush, new_accounts
from tests.desks import A, B, account, desk_over, transfer
from tests.everything import id_of
from tests.ledgers import Ledger, until

LIMITED = account(0, 9)
LIMIT = ["debits_must_not_exceed_credits"]


async def life_of(ledger: Ledger, wanted: str) -> Life:
    return await find(ledger.app_dsn, ledger.redis_url, ledger.prefix, wanted)


async def limited_account(ledger: Ledger) -> None:
    await ledger.sql(
        "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES ($1, 1, 1, $2)",
        uuid.UUID(LIMITED),
        LIMIT,
    )


@pytest.mark.parametrize(
    ("name", "kind", "state"),
    [
        ("income", "transfer", "created"),
        ("hold", "hold", "posted"),
        ("to void", "hold", "voided"),
        ("lapses", "hold", "expired"),
        ("stays", "hold", "open"),
        ("post", "transfer", "created"),
        ("oversells", "transfer", "declined"),
        ("a", "account", "created"),
        ("nobody has sent this", "unknown", "unseen"),
    ],
)
async def test_where_knows_what_an_id_is(
    full_ledger: Ledger, name: str, kind: str, state: str
) -> None:
    life = await life_of(full_ledger, id_of(name))
    assert (life.kind, life.state) == (kind, state)


async def test_where_finds_the_postings_of_every_transfer(full_ledger: Ledger) -> None:
    rows = await full_ledger.sql("SELECT transfer_id, number, account_id FROM ledger.postings")
    wanted: dict[uuid.UUID, list[tuple[int, uuid.UUID]]] = {}
    for row in rows:
        wanted.setdefault(row["transfer_id"], []).append((row["number"], row["account_id"]))
    assert len(wanted) > 20
    assert any(len(postings) == 4 for postings in wanted.values()), "none has expired"
    for transfer_id, postings in wanted.items():
        found = await full_ledger.sql("SELECT * FROM ledger.postings_of($1)", transfer_id)
        assert sorted((row["number"], row["account_id"]) for row in found) == sorted(postings)
        assert {row["transfer_id"] for row in found} == {transfer_id}


async def test_where_tells_the_flush_the_worker_and_the_hold_of_a_transfer(
    full_ledger: Ledger,
) -> None:
    life = await life_of(full_ledger, id_of("post"))
    [row] = await full_ledger.sql(
        "SELECT f.number, f.worker::text FROM ledger.spent s"
        " JOIN ledger.flushes f ON f.number = s.number >> 20 WHERE s.id = $1",
        uuid.UUID(id_of("post")),
    )
    assert (life.flush, life.worker) == (row["number"], row["worker"])
    assert life.posted_at is not None
    assert life.hold is not None
    assert life.hold["id"] == id_of("hold")
    assert life.hold["state"] == "posted"
    assert life.hold["resolved_by"] == id_of("post")
    assert life.stream == f"{full_ledger.prefix}:transfers:{{0001}}"


async def test_where_says_what_a_declined_transfer_asked_for_and_what_there_was(
    ledger: Ledger,
) -> None:
    await limited_account(ledger)
    declined = transfer(LIMITED, B, 80)
    async with desk_over(ledger) as desk, ledger.working():
        for moved in (transfer(A, LIMITED, 100), transfer(LIMITED, B, 30), declined):
            await desk.send([moved])
        await desk.answers(3)
    life = await life_of(ledger, declined["id"])
    assert (life.state, life.outcome) == ("declined", "exceeds_credits")
    assert life.why is not None
    assert (life.why.account, life.why.asked) == (LIMITED, 80)
    assert life.why.available == 70  # exactly, or at most where all were decided in one flush
    assert life.posted_at is None
    assert life.postings == []


async def test_what_its_own_flush_did_makes_the_figure_at_most(ledger: Ledger) -> None:
    """Whether the credit of its flush came before it or after is not kept."""
    await limited_account(ledger)
    declined = transfer(LIMITED, B, 80)
    async with desk_over(ledger) as desk, ledger.working():
        await desk.send([transfer(A, LIMITED, 70)])
        await desk.answers(1)
        await desk.send([declined, transfer(A, LIMITED, 5)])
        await desk.answers(2)
    life = await life_of(ledger, declined["id"])
    assert life.why is not None
    assert (life.why.available, life.why.exact) == (75, False)


async def test_without_others_in_its_flush_the_figure_is_exact(ledger: Ledger) -> None:
    await limited_account(ledger)
    declined = transfer(LIMITED, B, 80)
    async with desk_over(ledger) as desk, ledger.working():
        for moved in (transfer(A, LIMITED, 70), declined):
            await desk.send([moved])
            await desk.drained()
    life = await life_of(ledger, declined["id"])
    assert life.why is not None
    assert (life.why.available, life.why.exact) == (70, True)


async def test_where_finds_what_waits_and_for_how_long(ledger: Ledger) -> None:
    waits = transfer(A, B, 5)
    chain = [transfer(flags=["linked"]), transfer()]
    async with desk_over(ledger) as desk:
        await desk.send([transfer(), waits])
        [(entry, _)] = await desk.redis.xrange(desk.stream())
        await desk.send(chain)
        life = await life_of(ledger, waits["id"])
        linked = await life_of(ledger, chain[1]["id"])
    assert (life.kind, life.state) == ("transfer", "waiting")
    assert (life.stream, life.entry) == (desk.stream(), entry.decode())
    assert life.waiting_seconds is not None
    assert life.transfer is not None
    assert life.transfer["amount"] == 5
    assert life.worker is None  # nobody has the shard
    assert linked.chain == [one["id"] for one in chain]


@pytest.mark.parametrize("form", ["json", "mp", "bin"])
async def test_where_finds_what_waits_in_every_format(ledger: Ledger, form: str) -> None:
    waits = transfer()
    rows = transfers_to_rows([parse_transfer_json(json.dumps(waits).encode())])
    async with desk_over(ledger) as desk:
        await desk.redis.xadd(desk.stream(), encode_entry(rows, Format[form]))
        life = await life_of(ledger, waits["id"].upper())
    assert life.state == "waiting"


async def test_where_finds_a_dead_letter_by_an_id_in_it(ledger: Ledger) -> None:
    spoilt = transfer() | {"amount": "much"}
    async with desk_over(ledger) as desk, ledger.working():
        await desk.send([spoilt])
        await until(lambda: desk.redis.xlen(desk.reply), "an answer")
        life = await life_of(ledger, spoilt["id"])
        entry = await life_of(ledger, f"0:{life.entry}")
    assert life.state == "dead_letter"
    assert "amount" in life.letters[0].reason
    assert life.flush is not None
    assert (entry.kind, entry.state, entry.flush) == ("entry", "dead_letter", life.flush)


async def test_where_follows_an_entry(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk:
        first = transfer()
        await desk.send([first])
        [(entry_id, _)] = await desk.redis.xrange(desk.stream())
        waiting = await life_of(ledger, entry_id.decode())
        assert (waiting.kind, waiting.state) == ("entry", "waiting")
        assert waiting.transfers == [{"id": first["id"], "outcome": None}]
        async with ledger.working():
            await desk.answers(1)
            await desk.drained()
        decided = await life_of(ledger, f"0:{entry_id.decode()}")
        assert decided.state == "decided"
        assert decided.flush == (await life_of(ledger, first["id"])).flush


async def test_without_redis_the_ledger_answers_alone_and_says_so(full_ledger: Ledger) -> None:
    away = "redis://127.0.0.1:1/0"
    known = await find(full_ledger.dsn, away, full_ledger.prefix, id_of("income"))
    assert known.state == "created"
    unknown = await find(full_ledger.dsn, away, full_ledger.prefix, str(uuid.uuid4()))
    assert unknown.state == "unseen"
    assert "streams" in unknown.not_looked_at[0]


COUNTED = """
SELECT sum(seq_scan)::bigint AS scans, sum(idx_tup_fetch)::bigint AS probes
FROM pg_stat_xact_user_tables WHERE schemaname = 'ledger'
AND relname IN ('spent', 'posted', 'flushes', 'resolutions', 'positions', 'accounts')
"""


async def rows_read(connection: asyncpg.Connection, query: str, *args: Any) -> dict[str, int]:
    """Of the large tables: how often a query scans one whole, and the rows it probes for."""
    async with connection.transaction():
        [before] = await connection.fetch(COUNTED)
        await connection.fetch(query, *args)
        [after] = await connection.fetch(COUNTED)
    return {name: after[name] - before[name] for name in ("scans", "probes")}


async def test_where_reads_by_indexes_alone(ledger: Ledger) -> None:
    """Of accounts with thousands of postings, in long and short runs of three workers."""
    accounts = await new_accounts(ledger, 2)
    author = Author(accounts)
    numbers = list(accounts.values())
    writer = await asyncpg.connect(ledger.dsn)
    for turn in range(150):
        length = 700 if turn % 50 == 0 else 5
        runs = {number * 1024 + turn % 3: length for number in numbers}
        await copy_flush(writer, author.write(WORKERS[turn % 3], turn, runs))
    await writer.close()
    connection = await connect(ledger.dsn, "where")
    try:
        for history in author.histories.values():
            for _, _, number, transfer_id, *_ in history[::199]:
                query = "SELECT number FROM ledger.postings_of($1)"
                rows = await connection.fetch(query, transfer_id.bytes)
                assert number in [row["number"] for row in rows]
                for name in ("where_transfer", "where_postings", "where_why"):
                    found = await rows_read(connection, statement(name), transfer_id.bytes)
                    assert found["scans"] == 0, name
                    assert found["probes"] < 200, (name, found)
    finally:
        await connection.close()


async def test_damaged_postings_are_told_and_do_not_end_where(ledger: Ledger) -> None:
    """Postings of one side alone, as somebody leaves them who writes the tables by hand."""
    author = Author(await new_accounts(ledger, 2))
    written = author.write(WORKERS[0], 0, {next(iter(author.histories)) * 1024: 1})
    connection = await asyncpg.connect(ledger.dsn)
    try:
        await copy_flush(connection, written)
    finally:
        await connection.close()
    life = await life_of(ledger, str(written.spent[0]["id"]))
    assert life.state == "created"
    assert life.faults == ["1 of 2 postings are where they must be"]
