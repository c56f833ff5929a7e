"""Any client can produce: raw RESP over a socket in, SQL alone out. Bad input stops nothing."""

import asyncio
import json
import socket
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from engine.ledger.outcomes import Outcome
from tests import desks
from tests.bounds import CONDITION_SECONDS_MAX
from tests.ledgers import Ledger, make_ledger, until

A, B, C = (str(uuid.UUID(int=0x11111111_2222_3333_4444_555555550000 + n)) for n in (1, 2, 3))
OTHER = str(uuid.UUID(int=0x11111111_2222_3333_4444_555555550004))
LIMITED = str(uuid.UUID(int=0x11111111_2222_3333_4444_555555550005))
NOBODYS = str(uuid.UUID(int=0x11111111_2222_3333_4444_555555550009))


@pytest.fixture
async def ledger(postgres_dsn: str, redis_url: str) -> Ledger:
    made = await make_ledger(postgres_dsn, redis_url)
    await made.sql(
        "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES"
        f" ('{A}', 1, 1, '{{}}'), ('{B}', 1, 1, '{{}}'), ('{C}', 1, 1, '{{}}'),"
        f" ('{OTHER}', 2, 1, '{{}}'),"
        f" ('{LIMITED}', 1, 1, '{{debits_must_not_exceed_credits}}')"
    )
    return made


def transfer(**fields: Any) -> dict[str, Any]:
    """A transfer from A to B, with these fields; without those that are `...`."""
    return {k: v for k, v in (desks.transfer(A, B) | fields).items() if v is not ...}


class Resp:
    """Redis's protocol by hand, as a producer in any language might speak it."""

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self._socket = socket.create_connection(
            (at.hostname, at.port or 6379), timeout=CONDITION_SECONDS_MAX
        )
        self._file = self._socket.makefile("rb")
        if at.password:
            assert self.call("AUTH", at.username or "default", unquote(at.password)) == b"OK"

    def call(self, *words: bytes | str) -> Any:
        sent = [w.encode() if isinstance(w, str) else w for w in words]
        frames = b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in sent)
        self._socket.sendall(b"*%d\r\n" % len(sent) + frames)
        return self._read()

    def _read(self) -> Any:
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self._read() for _ in range(int(rest))]
        assert kind != b"-", line
        return int(rest) if kind == b":" else rest

    def close(self) -> None:
        self._file.close()
        self._socket.close()


async def test_raw_resp_in_and_sql_out(ledger: Ledger) -> None:
    def produce() -> Any:
        resp = Resp(ledger.redis_url)
        reply = f"{ledger.prefix}:answers:raw"
        body = json.dumps(transfer(id=NOBODYS, amount=250, user_data_64=2**64 - 1))
        stream = f"{ledger.prefix}:transfers:{{0001}}"  # the last hex digit of account A
        resp.call("XADD", stream, "*", "json", body, "reply", reply, "request", "r-1")
        answer = resp.call("XREAD", "COUNT", "1", "BLOCK", "15000", "STREAMS", reply, "0")
        resp.close()
        return answer[0][1][0][1]

    async with ledger.working():
        fields = await asyncio.to_thread(produce)
    assert fields == [b"request", b"r-1", b"outcomes", b'["created"]']
    (row,) = await ledger.sql("SELECT * FROM ledger.transfers")
    assert (str(row["id"]), row["amount"], row["user_data_64"]) == (NOBODYS, 250, 2**64 - 1)
    rows = await ledger.sql(
        "SELECT account_id::text, amount, pending_amount, shard, version, debits_posted,"
        " credits_posted FROM ledger.postings ORDER BY amount"
    )
    assert [tuple(row) for row in rows] == [
        (A, -250, 0, 1, 1, 250, 0),
        (B, 250, 0, 2, 1, 0, 250),
    ]


CREATED = ["created"]
UNREADABLE: list[tuple[str, dict[str, Any], str]] = [
    ("bytes that are no transfer", {"json": b"\xff\x00garbage"}, "malformed"),
    ("truncated json", {"json": b'[{"id":'}, "truncated"),
    ("truncated mp", {"mp": b"\x91\x86\xa2id"}, "truncated"),
    ("truncated bin", {"bin": b"x" * 127}, "128"),
    ("an unknown field", {"json": json.dumps(transfer(colour="red"))}, "colour"),
    ("an unknown flag", {"json": json.dumps(transfer(flags=["fast"]))}, "flags"),
    ("null", {"json": json.dumps(transfer(code=None))}, "code"),
    ("a wrong type", {"json": json.dumps(transfer(amount=1.5))}, "amount"),
    ("no amount", {"json": json.dumps(transfer(amount=...))}, "amount"),
    ("a negative amount", {"json": json.dumps(transfer(amount=-1))}, "amount"),
    ("an amount beyond 128 bits", {"json": json.dumps(transfer(amount=2**128))}, "amount"),
    ("a code beyond 16 bits", {"json": json.dumps(transfer(code=2**16))}, "code"),
    ("no format", {"text": "hello"}, "json"),
    ("two formats", {"json": "[]", "bin": b""}, "json"),
    ("too many transfers", {"bin": bytes(128 * 8190)}, "8189"),
    ("a huge entry", {"json": b"[" + b" " * (2 * 1024 * 1024) + b"]"}, "2097152"),
    ("one bad transfer among good", {"json": json.dumps([transfer(), {"x": 1}])}, "x"),
]


async def test_what_cannot_be_read_is_a_dead_letter_with_its_bytes(ledger: Ledger) -> None:
    stream = f"{ledger.prefix}:transfers:{{0001}}"
    reply = f"{ledger.prefix}:answers:bad"
    async with ledger.working(), ledger.redis() as redis:
        for what, fields, _ in UNREADABLE:
            await redis.xadd(stream, {**fields, "reply": reply, "request": what})
        await redis.xadd(stream, {"json": json.dumps(transfer()), "reply": "elsewhere"})
        await redis.execute_command("XADD", stream, "*", "json", "[]", "json", "[]")
        await redis.xadd(stream, {"json": json.dumps(transfer()), "reply": reply, "request": "ok"})
        answers: list[Any] = []

        async def all_answered() -> bool:
            after = answers[-1][0] if answers else "0"
            found = await redis.xread({reply: after}, block=200)
            answers.extend(found[0][1] if found else [])
            return len(answers) > len(UNREADABLE)

        await until(all_answered, "an answer to every entry that names where")
        assert await redis.exists("elsewhere") == 0
    by_request = {fields[b"request"].decode(): fields for _, fields in answers}
    assert json.loads(by_request["ok"][b"outcomes"]) == CREATED
    letters = await ledger.sql("SELECT * FROM ledger.dead_letters ORDER BY ms, seq")
    assert len(letters) == len(UNREADABLE) + 2
    for (what, fields, word), letter in zip(UNREADABLE, letters, strict=False):
        assert word in by_request[what][b"error"].decode(), (what, by_request[what])
        assert word in letter["reason"], what
        sent = [v.encode() if isinstance(v, str) else v for v in fields.values()]
        assert [*letter["fields"][1::2]][: len(sent)] == sent, what
    assert "reply" in letters[-2]["reason"]
    assert "twice" in letters[-1]["reason"]
    assert (await ledger.sql("SELECT count(*) FROM ledger.transfers"))[0]["count"] == 1


DUPLICATE = str(uuid.UUID(int=77))
DECLINED = str(uuid.UUID(int=78))
OUTCOMES: list[tuple[dict[str, Any], str]] = [
    (transfer(debit_account_id=NOBODYS), "debit_account_not_found"),
    (transfer(credit_account_id=NOBODYS), "credit_account_not_found"),
    (transfer(credit_account_id=A), "accounts_must_be_different"),
    (transfer(credit_account_id=OTHER), "accounts_must_have_the_same_ledger"),
    (transfer(ledger=2), "transfer_must_have_the_same_ledger_as_accounts"),
    (transfer(ledger=...), "ledger_must_not_be_zero"),
    (transfer(code=0), "code_must_not_be_zero"),
    (transfer(id=...), "id_must_not_be_zero"),
    (transfer(amount=2**63), "overflows_debits_posted"),
    (transfer(amount=2**63, flags=["pending"]), "overflows_debits_pending"),
    (transfer(amount="max"), "overflows_debits_posted"),
    (transfer(amount=0), "created"),
    (transfer(id=DECLINED, debit_account_id=LIMITED), "exceeds_credits"),
    (transfer(id=DECLINED), "id_already_failed"),
    (transfer(id=DUPLICATE), "created"),
    (transfer(id=DUPLICATE), "exists"),
    (transfer(id=DUPLICATE, amount=2), "exists_with_different_amount"),
    (transfer(id=DUPLICATE, debit_account_id=C), "exists_with_different_debit_account_id"),
    (transfer(id=DUPLICATE, code=9), "exists_with_different_code"),
    (transfer(amount=2**63 - 1, debit_account_id=C, credit_account_id=LIMITED), "created"),
    (transfer(amount=1, debit_account_id=C), "overflows_debits_posted"),
]


@pytest.mark.parametrize("entries", ["one entry", "an entry each"])
async def test_requests_that_break_a_rule_get_its_outcome(ledger: Ledger, entries: str) -> None:
    requests = [request for request, _ in OUTCOMES]
    reply = f"{ledger.prefix}:answers:rules"
    stream = f"{ledger.prefix}:transfers:{{0001}}"
    batches = [requests] if entries == "one entry" else [[request] for request in requests]
    outcomes: list[str] = []
    async with ledger.working(), ledger.redis() as redis:
        for batch in batches:
            await redis.xadd(stream, {"json": json.dumps(batch), "reply": reply})
        answers: list[Any] = []

        async def all_answered() -> bool:
            after = answers[-1][0] if answers else "0"
            found = await redis.xread({reply: after}, block=200)
            answers.extend(found[0][1] if found else [])
            return len(answers) == len(batches)

        await until(all_answered, "all answers")
        for _, fields in answers:
            outcomes += json.loads(fields[b"outcomes"])
    assert outcomes == [outcome for _, outcome in OUTCOMES]
    declined = await ledger.sql("SELECT * FROM ledger.declined WHERE id = $1", DECLINED)
    assert (declined[0]["outcome"], str(declined[0]["debit_account_id"])) == (
        "exceeds_credits",
        LIMITED,
    )
    named = {row["name"]: row["number"] for row in await ledger.sql("TABLE ledger.outcomes")}
    assert named == {outcome.name: int(outcome) for outcome in Outcome}
