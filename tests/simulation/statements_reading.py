"""What the statements that only read do; see `statements`."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from engine.ledger.nouns import COUNTER_MAX, AccountFlags
from engine.ledger.outcomes import Outcome
from tests.simulation.tables import Row

COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


_FLAGS = {(): 0} | {(str(flag.name),): int(flag) for flag in AccountFlags}


def newest(run: Any, account: int) -> list[Row]:
    """The newest posting of each stripe of an account."""
    found: dict[int, Row] = {}
    for row in run.find("posted", "account", account):
        before = found.get(row["stripe"])
        if before is None or before["version"] - before["run"] < row["version"] - row["run"]:
            found[row["stripe"]] = row
    return [found[stripe] for stripe in sorted(found)]


def _sums(rows: list[Row]) -> list[int]:
    """As `ledger.saturated`."""
    sums = [sum(row[name] for row in rows) for name in COUNTERS]
    return [min(max(value, -COUNTER_MAX - 1), COUNTER_MAX) for value in sums]


def _time(run: Any, rows: list[Row]) -> int | None:
    times = []
    for row in rows:
        flush = run.one("flushes", "flushes_number", row["number"] >> 20)
        if flush is not None:
            times.append(flush["time"])
    return max(times, default=None)


async def accounts_by_id(
    run: Any, ids: list[bytes], owned: list[int], writing_shard: int
) -> list[Row]:
    rows = []
    for account_id in sorted(ids):
        account = run.one("accounts", "accounts_pkey", account_id)
        if account is None:
            continue
        at_home = account["shard"] in owned
        shard = account["shard"] if at_home else writing_shard
        stripe = account["number"] * 1024 + shard
        stripes = newest(run, account["number"])
        own = next((row for row in stripes if row["stripe"] == stripe), None)
        others = [row for row in stripes if row["stripe"] != stripe]
        if not at_home:
            home = account["number"] * 1024 + account["shard"]
            others = [row for row in others if row["stripe"] == home]
        own_counters = zip(COUNTERS, _sums([own] if own else []), strict=True)
        rows.append(
            {name: account[name] for name in ("id", "number", "shard", "ledger", "code")}
            | {"flags": _FLAGS.get(tuple(account["flags"]), -1), "closed": account["closed"]}
            | {"version": own["version"] if own else 0}
            | {f"own_{name}": value for name, value in own_counters}
            | dict(zip(COUNTERS, _sums(others), strict=True))
            | {"others_time": _time(run, others) if at_home else None}
        )
    return sorted(rows, key=lambda row: row["number"])


async def other_stripes(run: Any, numbers: list[int]) -> list[Row]:
    rows = []
    for number in sorted(numbers):
        account = run.one("accounts", "accounts_number_key", number)
        if account is None:
            continue
        home = number * 1024 + account["shard"]
        others = [row for row in newest(run, number) if row["stripe"] != home]
        rows.append({"number": number, "others": _sums(others), "others_time": _time(run, others)})
    return rows


async def spent_by_id(run: Any, ids: list[bytes]) -> list[Row]:
    rows = []
    for transfer_id in sorted(ids):
        spent = run.one("spent", "spent_pkey", transfer_id)
        if spent is None:
            continue
        debit = run.one("accounts", "accounts_number_key", spent["debit_account"])
        credit = run.one("accounts", "accounts_number_key", spent["credit_account"])
        resolution = run.one("resolutions", "resolutions_pkey", transfer_id)
        rows.append(
            spent
            | {
                "debit_account_id": debit["id"] if debit else None,
                "credit_account_id": credit["id"] if credit else None,
                "ledger": debit["ledger"] if debit else None,
                "status": resolution["status"] if resolution else None,
            }
        )
    return rows


async def expiring_holds(
    run: Any, shards: list[int], since: list[int], until: int, count: int
) -> list[Row]:
    rows: list[Row] = []
    for shard, after in zip(shards, since, strict=True):
        rows += [
            {"id": row["id"], "expires_at": row["expires_at"]}
            for row in run.find("spent", "shard", shard)
            if row["outcome"] == 0
            and row["flags"] & 2
            and after < row["expires_at"] <= until
            and run.one("resolutions", "resolutions_pkey", row["id"]) is None
        ]
    rows.sort(key=lambda row: row["expires_at"])
    # What lapses with the last of them comes too.
    return [row for row in rows if row["expires_at"] <= rows[:count][-1]["expires_at"]]


def newest_position(run: Any, shard: int) -> Row | None:
    """How far a shard got, and when the flush was that brought it there."""
    found: Row | None = max(
        run.find("positions", "shard", shard), key=lambda row: row["flush"], default=None
    )
    if found is None:
        return None
    flush = run.one("flushes", "flushes_number", found["flush"])
    return found | {"resolved_until": found["time"], "time": flush and flush["time"]}


async def newest_positions(run: Any, shards: list[int]) -> list[Row]:
    rows = []
    for shard in shards:
        if run.one("owners", "owners_pkey", shard) is not None:
            position = newest_position(run, shard) or {"generation": 0, "ms": 0, "seq": 0}
            rows.append({"time": None, "resolved_until": None} | position | {"shard": shard})
    return rows


def in_force(acts: Iterable[Row]) -> list[Row]:
    """The freezes that no thaw has ended."""
    rows = list(acts)
    ended = {row["thaws"] for row in rows}
    return [row for row in rows if row["act"] == "freeze" and row["freeze_number"] not in ended]


async def ownership(run: Any, worker: bytes) -> list[Row]:
    chain = run.find("flushes", "worker", worker)
    acts = {row["freeze_number"]: row for row in run.table("freezes").all(run.snapshot)}
    newest = max(acts, default=None)
    always = {
        "sequence": max((row["sequence"] for row in chain), default=0),
        "written": max((row["sequence"] for row in chain if row["kind"] != "freeze"), default=0),
        "freezes": sorted(row["freeze_number"] for row in in_force(acts.values())) or None,
        "newest_freeze": newest,
        "freeze_time": None if newest is None else acts[newest]["time"],
    }
    nothing = dict.fromkeys(("generation", "ms", "seq", "time", "resolved_until"))
    owned = sorted(row["shard"] for row in run.find("owners", "worker", worker))
    rows = [
        nothing | (newest_position(run, shard) or {}) | always | {"shard": shard} for shard in owned
    ]
    return rows or [nothing | always | {"shard": None}]


async def owners(run: Any, shards: list[int]) -> list[Row]:
    now = run.database.clock()
    rows = []
    for shard in sorted(shards):
        owner = run.one("owners", "owners_pkey", shard)
        if owner is not None:
            heartbeat = run.one("heartbeats", "heartbeats_pkey", owner["worker"])
            rows.append(owner | {"alive": heartbeat is not None and heartbeat["expires_at"] > now})
    return rows


async def find_flush(run: Any, worker: bytes, sequence: int, number: int) -> list[Row]:
    row = run.one("flushes", "flushes_pkey", (worker, sequence))
    return [{"exists": row is not None and row["number"] == number}]


async def shard_count(run: Any) -> list[Row]:
    return [{"shard_count": run.database.shard_count}]


async def sequences(run: Any) -> list[Row]:
    """Those of the simulator are never behind."""
    return []


async def strange_objects(run: Any) -> list[Row]:
    """Nobody adds any in the simulator."""
    return []


async def server_clock(run: Any) -> list[Row]:
    return [{"now": run.database.clock()}]


async def outcome_names(run: Any) -> list[Row]:
    return [{"number": int(o), "name": o.name} for o in sorted(Outcome)]


async def ledger_identity(run: Any) -> list[Row]:
    return [{"identity": row["identity"]} for row in run.table("settings").all(run.snapshot)]


READING: dict[str, Callable[..., Awaitable[list[Row]]]] = {
    one.__name__: one
    for one in (
        accounts_by_id,
        find_flush,
        expiring_holds,
        ledger_identity,
        outcome_names,
        sequences,
        strange_objects,
        server_clock,
        newest_positions,
        other_stripes,
        owners,
        ownership,
        shard_count,
        spent_by_id,
    )
}
