"""A ledger with one of everything in it, decided by two workers; what is in it has names."""

import json
import re
import uuid
from typing import Any

from tests.ledgers import Ledger, until

# The shards of the two workers.
LOW, HIGH = range(8), range(8, 16)

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
    "run 1": (1, ""),
    "run 2": (2, ""),
    "swings": (1, ""),
    "swung": (2, ""),
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
    (
        1,
        [
            (transfer("run a", "run 1", "run 2", 10), "created"),
            (transfer("run b", "run 1", "run 2", 4, flags=pending()), "created"),
            (transfer("run c", "run 1", "run 2", 3), "created"),
            (transfer("run d", "run 1", "run 2", 0), "created"),
            (transfer("run e", "run 1", "run 2", 1), "created"),
        ],
    ),
    (
        1,
        [
            (transfer("swing out", "swings", "swung", 8), "created"),
            (transfer("swing back", "swung", "swings", 8), "created"),
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
    await ledger.sql("DO $$ BEGIN SET LOCAL session_replication_role = replica;"
                     f"{fill_in(OF_OLD)} END $$")  # fmt: skip


# The postings of `zero` and `zero again` as they were kept before migration 6: a row each.
OF_OLD = """
    INSERT INTO ledger.posted (stripe, version, run, number, transfer_id)
    SELECT stripe, version - 1, 0, number - 1, earlier_transfers[1]
    FROM ledger.posted WHERE transfer_id = <zero again>;
    UPDATE ledger.posted SET earlier_transfers = NULL, earlier_amounts = NULL
    WHERE transfer_id = <zero again>;
"""


def fill_in(sql: str) -> str:
    """`<name>` stands for an id, `#<name>` for the number of an account."""
    sql = re.sub(
        "#<([^<>]+)>",
        lambda m: f"(SELECT number FROM ledger.accounts WHERE id = '{id_of(m[1])}')",
        sql,
    )
    return re.sub("<([^<>]+)>", lambda m: f"'{id_of(m[1])}'", sql)
