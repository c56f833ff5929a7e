"""What the statements of flow workers do; see `statements`."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from engine.ledger.nouns import ID_ZERO
from tests.simulation.tables import Row, Table

KEPT = 90 * 86_400 * 1_000_000
"""Microseconds for which a signal of a flow that has not started is kept at least."""


def make_flow_tables() -> list[Table]:
    """The tables of the schema `flows`."""

    def table(name: str, key: Any, unique: Any = None, groups: Any = None) -> Table:
        return Table(f"flows.{name}", {f"flows.{name}_pkey": key} | (unique or {}), groups or {})

    return [
        table("definitions", lambda r: r["definition"]),
        table("workers", lambda r: r["worker"]),
        table("heartbeats", lambda r: r["worker"]),
        table(
            "flushes",
            lambda r: (r["worker"], r["sequence"]),
            {"flows.flushes_number": lambda r: r["number"]},
            {"worker": lambda r: r["worker"]},
        ),
        table("owners", lambda r: r["shard"]),
        table("ownership", lambda r: (r["shard"], r["flush"])),
        table("dead_letters", lambda r: (r["stream"], r["entry"])),
        table("flows", lambda r: r["id"]),
        table(
            "steps",
            lambda r: (r["flow"], r["seq"]),
            {"flows.steps_signal": lambda r: r["signal"]},
            {"flow": lambda r: r["flow"]},
        ),
        table("open", lambda r: r["flow"]),
        table("reviews", lambda r: (r["flow"], r["seq"])),
        table(
            "inbox",
            lambda r: (r["flow"], r["name"], r["message_id"]),
            {"flows.inbox_number_key": lambda r: r["number"]},
            {"flow": lambda r: r["flow"]},
        ),
        table("misfits", lambda r: (r["flow"], r["name"], r["message_id"], r["event"])),
        table("early", lambda r: r["number"], groups={"flow": lambda r: r["flow"]}),
        table("schedules", lambda r: r["id"]),
    ]


def _rows(names: str, *columns: Any) -> list[Row]:
    return [dict(zip(names.split(), values, strict=True)) for values in zip(*columns, strict=True)]


# Owners, chains.


def _next_number(run: Any) -> int:
    return next(run.database.flow_numbers)


def _newest(run: Any, worker: bytes) -> int:
    chain = run.find("flows.flushes", "worker", worker)
    return max((row["sequence"] for row in chain), default=0)


async def flows_fence(
    run: Any, worker: bytes, sequence: int, number: int, kind: str, time: int, steps: int
) -> list[Row]:
    if run.one("flows.workers", "flows.workers_pkey", worker) is None:
        return []
    await run.lock("flows.workers", worker)
    row = {"worker": worker, "sequence": sequence, "number": number, "kind": kind, "time": time}
    await run.insert("flows.flushes", row | {"steps": steps})
    return [{"next_number": _next_number(run)}]


async def flows_find_flush(run: Any, worker: bytes, sequence: int, number: int) -> list[Row]:
    row = run.one("flows.flushes", "flows.flushes_pkey", (worker, sequence))
    return [{"exists": row is not None and row["number"] == number}]


def _is_alive(run: Any, worker: bytes) -> bool:
    row = run.one("flows.heartbeats", "flows.heartbeats_pkey", worker)
    return row is not None and row["expires_at"] > run.database.clock()


async def flows_change_owner(
    run: Any, shards: list[int], former: bytes, worker: bytes, number: int, me: bytes
) -> list[Row]:
    changed: list[int] = []
    is_release = former == me
    if is_release or not _is_alive(run, former):
        changed = [
            shard
            for shard in sorted(shards)
            if await run.update(
                "flows.owners", shard, {"worker": worker}, lambda row: row["worker"] == former
            )
        ]
    if changed:
        loser = worker if is_release else former
        row = {
            "worker": loser,
            "sequence": 1 + _newest(run, loser),
            "number": _next_number(run),
            "kind": "release" if is_release else "claim",
            "time": run.database.clock(),
            "steps": 0,
        }
        await run.insert("flows.flushes", row)
    for shard in changed:
        noted = {"shard": shard, "flush": number, "former": former, "worker": worker}
        await run.insert("flows.ownership", noted)
    return [{"shard": shard} for shard in changed]


async def flows_lock_workers(run: Any, workers: list[bytes]) -> list[Row]:
    here = [w for w in sorted(workers) if run.one("flows.workers", "flows.workers_pkey", w)]
    for worker in here:
        await run.lock("flows.workers", worker)
    return [{"worker": worker} for worker in here]


async def flows_sequence(run: Any, worker: bytes) -> list[Row]:
    owners = run.table("flows.owners").all(run.snapshot)
    return [
        {
            "sequence": _newest(run, worker),
            "shards": sorted(row["shard"] for row in owners if row["worker"] == worker),
            "number": _next_number(run),
            "now": run.database.clock(),
        }
    ]


async def flows_look(run: Any) -> list[Row]:
    now = run.database.clock()
    beats = run.table("flows.heartbeats").all(run.snapshot)
    workers = sum(row["expires_at"] > now for row in beats)
    owners = sorted(run.table("flows.owners").all(run.snapshot), key=lambda row: row["shard"])
    return [row | {"alive": _is_alive(run, row["worker"]), "workers": workers} for row in owners]


async def flows_register(
    run: Any, worker: bytes, host: str, process: int, lease_seconds: float
) -> list[Row]:
    row = {"worker": worker, "host": host, "process": process}
    if await run.insert("flows.workers", row, or_nothing=True):
        until = run.database.clock() + round(lease_seconds * 1_000_000)
        await run.insert("flows.heartbeats", {"worker": worker, "expires_at": until})
    return []


async def flows_heartbeat(run: Any, worker: bytes, lease_seconds: float) -> list[Row]:
    until = run.database.clock() + round(lease_seconds * 1_000_000)
    if not await run.update("flows.heartbeats", worker, {"expires_at": until}):
        return []
    return [{"now": run.database.clock()}]


async def flows_expire(run: Any, worker: bytes) -> list[Row]:
    await run.update("flows.heartbeats", worker, {"expires_at": run.database.clock()})
    return []


async def flows_terminate_blockers(run: Any, pid: int, worker: bytes) -> list[Row]:
    database = run.database
    blocking = database.blocking_pids(pid)
    rows = []
    for beat in run.table("flows.heartbeats").all(run.snapshot):
        name = f"engine flows {uuid.UUID(bytes=beat['worker'])}"
        if beat["worker"] == worker or beat["expires_at"] > database.clock():
            continue
        for blocker in blocking:
            if database.backends[blocker].name == name:
                ended = database.terminate_backend(blocker)
                rows.append({"application_name": name, "ended": ended})
    return rows


# What a flush writes.


async def _insert_all(run: Any, table: str, rows: list[Row], **how: Any) -> list[Row]:
    for row in rows:
        await run.breathe()
        await run.insert(table, row, **how)
    return []


async def flows_add_flows(run: Any, *columns: Any) -> list[Row]:
    *values, now, number = columns
    names = "id definition outcome name shard depth input accounts started_by"
    always = {"started_at": now, "number": number}
    return await _insert_all(run, "flows.flows", [r | always for r in _rows(names, *values)])


async def flows_add_steps(run: Any, *columns: Any) -> list[Row]:
    *values, now, number = columns
    names = "flow seq step state event attempt due_at transfer_id reference signal request detail"
    always = {"at": now, "number": number}
    return await _insert_all(run, "flows.steps", [r | always for r in _rows(names, *values)])


async def flows_set_open(
    run: Any, flows: list[bytes], shards: list[int], times: list[int | None]
) -> list[Row]:
    for row in _rows("flow shard wake_at", flows, shards, times):
        if not await run.insert("flows.open", row, or_nothing=True):
            await run.change("flows.open", row["flow"], {"wake_at": row["wake_at"]})
    return []


async def flows_end_open(run: Any, flows: list[bytes]) -> list[Row]:
    for flow in flows:
        await run.delete("flows.open", flow)
    return []


async def flows_add_reviews(run: Any, *columns: Any) -> list[Row]:
    *values, now = columns
    ended = dict.fromkeys(("ended_at", "decided_by", "decision", "reason"))
    rows = [
        row | ended | {"asked_at": now, "answers": msgspec.json.decode(row["answers"])}
        for row in _rows("flow seq question answers due_at", *values)
    ]
    return await _insert_all(run, "flows.reviews", rows)


async def flows_end_reviews(run: Any, *columns: Any) -> list[Row]:
    *values, now = columns
    for row in _rows("flow seq decision decided_by reason", *values):
        changes = {
            "ended_at": now,
            "decision": row["decision"],
            "decided_by": row["decided_by"] or None,
            "reason": row["reason"] or None,
        }
        key = row["flow"], row["seq"]
        await run.update("flows.reviews", key, changes, lambda r: r["ended_at"] is None)
    return []


async def flows_add_messages(run: Any, *columns: Any) -> list[Row]:
    *values, now = columns
    names = "flow name message_id event body answer number"
    rows = [row | {"received_at": now} for row in _rows(names, *values)]
    return await _insert_all(run, "flows.inbox", rows)


async def flows_add_misfits(run: Any, *columns: Any) -> list[Row]:
    *values, now = columns
    rows = _rows("flow name message_id event body answer", *values)
    rows = [row | {"received_at": now} for row in rows]
    return await _insert_all(run, "flows.misfits", rows, or_nothing=True)


async def flows_add_dead_letter(
    run: Any, stream: str, entry: str, reason: str, fields: list[bytes]
) -> list[Row]:
    row = {"stream": stream, "entry": entry, "reason": reason, "fields": fields}
    await run.insert("flows.dead_letters", row, or_nothing=True)
    return []


# Signals of flows that have not started, and schedules.


async def flows_add_early(run: Any, *columns: Any) -> list[Row]:
    *values, now = columns
    rows = [row | {"received_at": now} for row in _rows("number flow shard", *values)]
    return await _insert_all(run, "flows.early", rows)


async def flows_end_early(run: Any, flows: list[bytes]) -> list[Row]:
    for flow in flows:
        if run.one("flows.flows", "flows.flows_pkey", flow) is not None:
            for row in run.find("flows.early", "flow", flow):
                await run.delete("flows.early", row["number"])
    return []


async def flows_forget_early(run: Any, numbers: list[int]) -> list[Row]:
    for number in numbers:
        row = run.one("flows.early", "flows.early_pkey", number)
        if row is None or row["received_at"] >= run.database.clock() - KEPT:
            continue
        flow = run.one("flows.flows", "flows.flows_pkey", row["flow"])
        if flow is not None and flow["outcome"] == "created":
            continue
        await run.delete("flows.early", number)
        message = run.one("flows.inbox", "flows.inbox_number_key", number)
        if message is not None:
            key = message["flow"], message["name"], message["message_id"]
            await run.delete("flows.inbox", key)
    return []


async def flows_count_early(run: Any, shards: list[int]) -> list[Row]:
    rows = list(run.table("flows.early").all(run.snapshot))
    counts = {shard: sum(row["shard"] == shard for row in rows) for shard in shards}
    return [{"shard": shard, "signals": count} for shard, count in counts.items() if count]


async def flows_old_early(run: Any, shards: list[int], before: int, count: int) -> list[Row]:
    rows = [
        row
        for row in run.table("flows.early").all(run.snapshot)
        if row["shard"] in shards and row["received_at"] < before
    ]
    return sorted(rows, key=lambda row: row["received_at"])[:count]


async def flows_due_schedules(run: Any, shards: list[int], until: int, count: int) -> list[Row]:
    names = ("id", "name", "input", "rule", "timezone", "missed", "added_by", "nominal", "next_at")
    rows = [
        {name: row[name] for name in names}
        for row in run.table("flows.schedules").all(run.snapshot)
        if row["shard"] in shards and row["next_at"] <= until
    ]
    return sorted(rows, key=lambda row: row["next_at"])[:count]


async def flows_move_schedules(run: Any, *columns: Any) -> list[Row]:
    for row in _rows("id former nominal next_at outcome", *columns):
        former = row["former"]
        changes = {
            "nominal": row["nominal"],
            "next_at": row["next_at"],
            "last_nominal": former,
            "last_outcome": row["outcome"],
        }
        await run.update(
            "flows.schedules", row["id"], changes, lambda r, former=former: r["nominal"] == former
        )
    return []


# What is loaded.


async def flows_definitions(run: Any, after: int) -> list[Row]:
    rows = run.table("flows.definitions").all(run.snapshot)
    found = [row for row in rows if row["definition"] > after]
    return sorted(found, key=lambda row: row["definition"])


async def flows_load(run: Any, ids: list[bytes]) -> list[Row]:
    names = ("id", "definition", "outcome", "name", "input", "accounts", "started_by", "depth")
    found = [run.one("flows.flows", "flows.flows_pkey", flow) for flow in ids]
    return [{name: row[name] for name in names} for row in found if row is not None]


async def flows_journals(run: Any, ids: list[bytes]) -> list[Row]:
    rows = [row for flow in ids for row in run.find("flows.steps", "flow", flow)]
    return sorted(rows, key=lambda row: (row["flow"], row["seq"]))


async def flows_signals(run: Any, ids: list[bytes]) -> list[Row]:
    rows = [row for flow in ids for row in run.find("flows.inbox", "flow", flow)]
    rows = [row for row in rows if not row["name"].startswith(":")]
    return sorted(rows, key=lambda row: row["number"])


async def flows_messages(run: Any, *columns: Any) -> list[Row]:
    names = ("flow", "name", "message_id", "event", "body", "answer")
    found = [run.one("flows.inbox", "flows.inbox_pkey", key) for key in zip(*columns, strict=True)]
    return [{name: row[name] for name in names} for row in found if row is not None]


async def flows_due(run: Any, shards: list[int], after: int, until: int) -> list[Row]:
    rows = [
        {"flow": row["flow"], "wake_at": row["wake_at"]}
        for row in run.table("flows.open").all(run.snapshot)
        if row["shard"] in shards and row["wake_at"] is not None and after < row["wake_at"] <= until
    ]
    return sorted(rows, key=lambda row: row["wake_at"])


async def flows_accounts(run: Any, ledger: int, ids: list[bytes], names: list[str]) -> list[Row]:
    return [
        {"id": row["id"], "name": row.get("name")}
        for row in run.table("accounts").all(run.snapshot)
        if row["ledger"] == ledger and (row["id"] in ids or row.get("name") in names)
    ]


async def flows_current(run: Any, ids: list[bytes]) -> list[Row]:
    rows = []
    for flow in ids:
        journal = run.find("flows.steps", "flow", flow)
        if journal:
            last = max(journal, key=lambda row: row["seq"])
            state = last["state"] if last["state"] in {"ended", "stopped"} else "running"
            end = last["event"] if state == "ended" else None
            rows.append({"id": flow, "state": state, "end": end})
    return rows


async def flows_spent(run: Any, ids: list[bytes]) -> list[Row]:
    rows = []
    for transfer in ids:
        spent = run.one("spent", "spent_pkey", transfer)
        if spent is None:
            continue
        debit = run.one("accounts", "accounts_number_key", spent["debit_account"])
        credit = run.one("accounts", "accounts_number_key", spent["credit_account"])
        resolution = run.one("resolutions", "resolutions_pkey", transfer)
        found = {
            "debit_account_id": debit and debit["id"],
            "credit_account_id": credit and credit["id"],
            "ledger": debit and debit["ledger"],
            "status": resolution and resolution["status"],
        }
        rows.append(spent | found)
    return rows


def begin_flows(database: Any, made: Any) -> None:
    """What the migration puts into the tables."""
    database.put("flows.workers", {"worker": ID_ZERO, "host": "nobody", "process": 0}, made)
    for shard in range(database.shard_count):
        database.put("flows.owners", {"shard": shard, "worker": ID_ZERO}, made)


FLOWING: dict[str, Callable[..., Awaitable[list[Row]]]] = {
    name: function
    for name, function in globals().items()
    if name.startswith("flows_") and callable(function)
}
