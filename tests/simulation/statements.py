"""What the named statements of `engine/store/queries` do, one function each.

A statement that has none here cannot be run; one whose function does something else than
Postgres does is found by `test_conformance_*`.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg

from tests.simulation.statements_flows import FLOWING
from tests.simulation.statements_freezes import FREEZING
from tests.simulation.statements_owning import OWNING
from tests.simulation.statements_reading import READING
from tests.simulation.tables import Row

IDLE_SECONDS = 2.0
"""A backend that has been idle for longer does not do what it was asked for."""

Statement = Callable[..., Awaitable[Any]]


def _newest_sequence(run: Any, worker: bytes) -> int:
    return max((row["sequence"] for row in run.find("flushes", "worker", worker)), default=0)


def _flush_row(
    run: Any, worker: bytes, sequence: int, number: int | None, kind: str, time: int, *counts: Any
) -> Row:
    if number is None:
        number = next(run.database.flush_numbers)
    transfers, declined, postings, other = (*counts, None)[:4] if counts else (0, 0, 0, None)
    return {
        "worker": worker,
        "sequence": sequence,
        "number": number,
        "kind": kind,
        "time": time,
        "transfers": transfers,
        "declined": declined,
        "postings": postings,
        "other": other,
    }


async def fence(
    run: Any, worker: bytes, sequence: int, number: int, kind: str, time: int, *counts: Any
) -> list[Row]:
    if run.one("workers", "workers_pkey", worker) is None:
        return []
    await run.lock("workers", worker)
    row = _flush_row(run, worker, sequence, number, kind, time, *counts[:3])
    await run.insert("flushes", row)
    return [{"next_number": next(run.database.flush_numbers)}]


async def append_lent_flush(
    run: Any, workers: list[bytes], kind: str, time: int, other: int | None
) -> list[Row]:
    for worker in sorted(workers):
        sequence = 1 + _newest_sequence(run, worker)
        row = _flush_row(run, worker, sequence, None, kind, time, 0, 0, 0)
        await run.insert("flushes", row | {"other": other})
    return [{} for _ in workers]


async def lock_workers(run: Any, workers: list[bytes]) -> list[Row]:
    here = [one for one in sorted(set(workers)) if run.one("workers", "workers_pkey", one)]
    for worker in here:
        await run.lock("workers", worker)
    return [{"worker": worker} for worker in here]


async def flush_small(run: Any, *arguments: Any) -> list[Row]:
    worker, sequence, number, time, transfers, declined, postings = arguments[:7]
    spent, posted = arguments[7:23], arguments[23:36]
    resolved, moved = arguments[36:40], arguments[40:45]
    next_number = next(run.database.flush_numbers)
    if run.one("workers", "workers_pkey", worker) is None:
        raise asyncpg.InvalidTextRepresentationError("rows are gone: ledger.flushes")
    await run.lock("workers", worker)
    for shard, *place in zip(*moved, strict=True):
        await _move(run, shard, number, *place)
    await resolve_holds(run, *resolved)
    await run.breathe()
    for row in _runs(*posted):
        await run.insert("posted", row)
    await run.breathe()
    for values in zip(*spent, strict=True):
        await run.insert("spent", dict(zip(_SPENT, values, strict=True)))
        await run.breathe()
    counts = (transfers, declined, postings)
    await run.insert("flushes", _flush_row(run, worker, sequence, number, "flush", time, *counts))
    return [{"next_number": next_number}]


async def flush_one(run: Any, *arguments: Any) -> list[Row]:
    """As `flush_small` of the same rows: one transfer, two runs of one posting, two positions."""
    worker, sequence, number, time, digest, seals = arguments[:6]
    spent, runs = arguments[6:19], (arguments[19:27], arguments[27:35])
    before, after = spent[:8], spent[8:]
    places = [place for place in (arguments[35:40], arguments[40:45]) if place[0] is not None]
    return await flush_small(
        run, worker, sequence, number, time, 1, 0, 2,
        *([value] for value in (*before, 0, *after[:2], None, *after[2:], None)),
        spent[1], [spent[0]] * 2, [leg[2] for leg in runs], [leg[3] for leg in runs], [True, False],
        [1, 2], [1, 2], *([leg[at] for leg in runs] for at in (0, 1, 4, 5, 6, 7)),
        [], [], [], [],
        *([place[at] for place in places] for at in range(5)), digest, seals,
    )  # fmt: skip


_SPENT = (
    "id", "number", "debit_account", "credit_account", "amount", "code", "flags", "shard",
    "outcome", "timeout", "expires_at", "pending_id", "user_data_128", "user_data_64",
    "user_data_32", "request",
)  # fmt: skip
_COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


def _runs(
    base: int,
    transfers: list[bytes],
    amounts: list[int],
    pending: list[int],
    debit: list[bool],
    *runs: list[int],
) -> Iterator[Row]:
    for start, stop, stripe, version, *counters in zip(*runs, strict=True):
        last, earlier = stop - 1, slice(start - 1, stop - 1)
        several = stop > start
        holds = several and any(pending[start - 1 : stop])
        yield {
            "number": base + last,
            "stripe": stripe,
            "version": version,
            "run": stop - start + 1,
            "transfer_id": transfers[last],
            "amount": amounts[last],
            "pending_amount": pending[last],
            **dict(zip(_COUNTERS, counters, strict=True)),
            "earlier_transfers": transfers[earlier] if several else None,
            "earlier_amounts": amounts[earlier] if several else None,
            "earlier_pending": pending[earlier] if holds else None,
            "debit": debit[start - 1 : stop] if holds else None,
        }


async def resolve_holds(
    run: Any,
    holds: list[bytes],
    transfers: list[bytes | None],
    statuses: list[str],
    numbers: list[int],
) -> list[Row]:
    for hold_id, transfer_id, status, number in zip(
        holds, transfers, statuses, numbers, strict=True
    ):
        row = {"hold_id": hold_id, "transfer_id": transfer_id, "status": status, "number": number}
        await run.insert("resolutions", row)
    return []


async def move_positions(
    run: Any,
    flush: int,
    shards: list[int],
    generations: list[int],
    mss: list[int],
    seqs: list[int],
    times: list[int],
) -> list[Row]:
    for shard, *place in zip(shards, generations, mss, seqs, times, strict=True):
        await _move(run, shard, flush, *place)
    return [{} for _ in shards]


async def _move(
    run: Any, shard: int, flush: int, generation: int, ms: int, seq: int, time: int
) -> None:
    row = {"shard": shard, "flush": flush, "generation": generation, "ms": ms, "seq": seq}
    await run.insert("positions", row | {"time": time})


async def close_accounts(run: Any, ids: list[bytes], closed: list[bool]) -> list[Row]:
    for account_id, value in zip(ids, closed, strict=True):
        await run.update("accounts", account_id, {"closed": value})
    return [{} for _ in ids]


_LETTER = ("shard", "generation", "ms", "seq", "reason")


async def insert_dead_letters(run: Any, *columns: list[Any]) -> list[Row]:
    *letters, letter_places, fields, flush = columns
    for place, values in enumerate(zip(*letters, strict=True), 1):
        row = dict(zip(_LETTER, values, strict=True))
        row["fields"] = [
            field for at, field in zip(letter_places, fields, strict=True) if at == place
        ]
        await run.insert("dead_letters", row | {"flush": flush})
    return [{} for _ in letters[0]]


async def letters_there(run: Any, *columns: list[Any]) -> list[Row]:
    wanted = set(zip(*columns, strict=True))
    names = (*_LETTER[:4], "fields")
    return [
        {name: row[name] for name in names}
        for row in run.table("dead_letters").all(run.snapshot)
        if any(
            (shard, ms, seq) == (row["shard"], row["ms"], row["seq"])
            and row["generation"] >= generation
            and (row["generation"] - generation) % 4 == 0
            for shard, generation, ms, seq in wanted
        )
    ]


async def reserve_number(run: Any) -> list[Row]:
    return [{"number": next(run.database.flush_numbers)}]


async def queue_to_decline(run: Any) -> list[Row]:
    await run.lock("settings", True)
    return []


async def end_backend(run: Any, pid: int, name: str) -> list[Row]:
    backend = run.database.backends.get(pid)
    if backend is None or backend.name != name or backend is run.backend:
        return []
    return [{"pg_terminate_backend": run.database.terminate_backend(pid)}]


async def is_backend_at_work(run: Any, pid: int, name: str) -> list[Row]:
    backend = run.database.backends.get(pid)
    found = backend is not None and backend.name == name
    return [{"exists": found and backend.is_at_work(IDLE_SECONDS)}]


async def is_backend_writing(run: Any, pid: int, name: str) -> list[Row]:
    # What is slow in memory waits for a lock, which has a limit of its own, or for a standby.
    return [{"exists": False}]


async def listen(run: Any, notify: Any) -> list[Row]:
    run.backend.listener = notify
    return []


async def commit_own(run: Any) -> list[Row]:
    return [{"pg_logical_emit_message": run.transaction.number}]


STATEMENTS: dict[str, Statement] = (
    READING
    | OWNING
    | FREEZING
    | FLOWING
    | {
        one.__name__: one
        for one in (
            insert_dead_letters,
            letters_there,
            close_accounts,
            commit_own,
            end_backend,
            fence,
            flush_one,
            flush_small,
            is_backend_at_work,
            is_backend_writing,
            append_lent_flush,
            lock_workers,
            move_positions,
            queue_to_decline,
            reserve_number,
            resolve_holds,
        )
    }
    | {"LISTEN": listen}
)
