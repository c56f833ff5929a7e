"""What the statements about workers and the ownership of shards do; see `statements`."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from tests.simulation.tables import Row


async def register_worker(
    run: Any, worker: bytes, host: str, process: int, seconds: float, shards: list[int] | None
) -> list[Row]:
    row = {"worker": worker, "host": host, "process": process, "shards": shards}
    if not await run.insert("workers", row, or_nothing=True):
        return []
    expires_at = run.database.clock() + round(seconds * 1_000_000)
    heartbeat = {"worker": worker, "expires_at": expires_at, "drained": False}
    await run.insert("heartbeats", heartbeat)
    return []


async def heartbeat(run: Any, worker: bytes, seconds: float) -> list[Row]:
    expires_at = run.database.clock() + round(seconds * 1_000_000)
    await run.update("heartbeats", worker, {"expires_at": expires_at})
    return []


async def worker_waits(run: Any, worker: bytes, what: str, seconds: float) -> list[Row]:
    until = run.database.clock() + round(seconds * 1_000_000)
    await run.update("heartbeats", worker, {"waits_for": what, "waits_until": until})
    return []


async def expire_worker(run: Any, worker: bytes) -> list[Row]:
    now = run.database.clock()
    row = run.one("heartbeats", "heartbeats_pkey", worker)
    if row is not None and row["expires_at"] > now:
        await run.update("heartbeats", worker, {"expires_at": now})
    return []


async def record_loads(
    run: Any,
    worker: bytes,
    shards: list[int],
    rates: list[float],
    answers: list[float],
    commit_seconds: float,
) -> list[Row]:
    for shard, rate, answer in zip(shards, rates, answers, strict=True):
        row = {"shard": shard, "worker": worker, "transfers_per_second": rate}
        row |= {"answer_seconds": answer, "commit_seconds": commit_seconds}
        if not await run.insert("loads", row, or_nothing=True):
            await run.change("loads", shard, row)
    return []


async def change_owner(
    run: Any, shards: list[int], former: bytes, worker: bytes, number: int
) -> list[Row]:
    changed: list[Row] = []
    for shard in sorted(shards):
        mine = {"worker": worker}
        if await run.update("owners", shard, mine, lambda row: row["worker"] == former):
            await run.lock("workers", worker, "key share")
            row = {"shard": shard, "flush": number, "former": former, "worker": worker}
            await run.insert("ownership", row)
            changed.append(row)
    return changed


async def ask_moves(
    run: Any,
    plan: bytes | None,
    shards: list[int],
    sources: list[bytes],
    targets: list[bytes],
    asked_by: str,
) -> list[Row]:
    for shard, source, target in zip(shards, sources, targets, strict=True):
        row = new_move(run.database, plan, shard, source, target)
        await run.insert("moves", row | {"asked_by": asked_by}, or_nothing=True)
    return []


def new_move(database: Any, plan: bytes | None, shard: int, source: bytes, target: bytes) -> Row:
    """A move as it is asked for."""
    return {
        "move": next(database.move_numbers), "plan": plan, "shard": shard, "source": source,
        "target": target, "asked_by": "an operator", "state": "asked", "ended_at": None,
        "why": None,
    }  # fmt: skip


async def _change_moves(run: Any, wanted: Callable[[Row], bool], **changes: Any) -> list[Row]:
    """Change moves; one that ends is given the time of it."""
    for row in [row for row in run.table("moves").all(run.snapshot) if wanted(row)]:
        await run.update("moves", row["move"], changes, wanted)
    return []


async def refuse_moves(run: Any, moves: list[int], why: str) -> list[Row]:
    return await _change_moves(
        run,
        lambda row: row["move"] in moves and row["state"] == "asked",
        state="failed", why=why, ended_at=run.database.clock(),
    )  # fmt: skip


async def moves_released(run: Any, shards: list[int], _seconds: float) -> list[Row]:
    return await _change_moves(
        run, lambda row: row["shard"] in shards and row["state"] == "asked", state="released"
    )


async def moves_claimed(run: Any, shards: list[int], worker: bytes) -> list[Row]:
    def mine(row: Row) -> bool:
        return row["shard"] in shards and row["ended_at"] is None and row["target"] == worker

    def others(row: Row) -> bool:
        return row["shard"] in shards and row["ended_at"] is None and row["target"] != worker

    await _change_moves(run, mine, state="claimed")
    why = "another worker took the shard"
    return await _change_moves(run, others, state="failed", why=why, ended_at=run.database.clock())


async def moves_done(run: Any, shards: list[int], worker: bytes) -> list[Row]:
    return await _change_moves(
        run,
        lambda row: (row["shard"] in shards, row["target"], row["state"])
        == (True, worker, "claimed"),
        state="done", ended_at=run.database.clock(),
    )  # fmt: skip


def _open_move(run: Any, shard: int) -> Row | None:
    found: Row | None = run.one("moves", "moves_open", shard)
    return found


async def look_at_shards(run: Any) -> list[Row]:
    now = run.database.clock()
    newest = max(
        (row["freeze_number"] for row in run.table("freezes").all(run.snapshot)), default=None
    )
    rows = []
    for shard in range(run.database.shard_count):
        owner = run.one("owners", "owners_pkey", shard)
        if owner is None:
            continue
        heartbeat = run.one("heartbeats", "heartbeats_pkey", owner["worker"])
        move = _open_move(run, shard) or {}
        rows.append(
            {
                "shard": shard,
                "worker": owner["worker"],
                "seconds_left": (heartbeat["expires_at"] - now) / 1_000_000 if heartbeat else 0.0,
                "planned": move.get("plan") is not None,
                "newest_freeze": newest,
                **{name: move.get(name) for name in ("move", "source", "target", "state")},
            }
        )
    return rows


async def look_at_workers(run: Any) -> list[Row]:
    now = run.database.clock()
    rows = []
    for heartbeat in run.table("heartbeats").all(run.snapshot):
        worker = run.one("workers", "workers_pkey", heartbeat["worker"])
        if heartbeat["expires_at"] > now and worker is not None:
            rows.append(
                {
                    "worker": heartbeat["worker"],
                    "shards": worker["shards"],
                    "drained": heartbeat["drained"],
                }
            )
    return sorted(rows, key=lambda row: row["worker"])


async def terminate_blockers(run: Any, pid: int, worker: bytes) -> list[Row]:
    database = run.database
    blocking = database.blocking_pids(pid)
    rows = []
    for heartbeat in run.table("heartbeats").all(run.snapshot):
        name = f"engine {uuid.UUID(bytes=heartbeat['worker'])}"
        if heartbeat["worker"] == worker or heartbeat["expires_at"] > database.clock():
            continue
        for blocker in blocking:
            if database.backends[blocker].name == name:
                ended = database.terminate_backend(blocker)
                rows.append({"application_name": name, "ended": ended})
    return rows


OWNING: dict[str, Callable[..., Awaitable[list[Row]]]] = {
    one.__name__: one
    for one in (
        ask_moves,
        heartbeat,
        change_owner,
        terminate_blockers,
        expire_worker,
        worker_waits,
        look_at_shards,
        look_at_workers,
        record_loads,
        moves_claimed,
        moves_done,
        moves_released,
        refuse_moves,
        register_worker,
    )
}
