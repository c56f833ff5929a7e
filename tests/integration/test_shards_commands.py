"""The operator's commands: status, plan, apply, abort, drain, verify, auto."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from engine.store.operating import open_operations
from tests.ledgers import Ledger, make_ledger, until
from tests.moving import id_of, move, run_shards, start_shards
from tests.verifying import assert_verified


async def owners(ledger: Ledger) -> dict[int, str]:
    rows = await ledger.sql("SELECT shard, worker::text FROM ledger.shards")
    return {row["shard"]: row["worker"] for row in rows}


def written(file: str) -> Any:
    return json.loads(Path(file).read_text())


async def test_status_names_each_shard_and_its_worker(postgres_dsn: str, redis_url: str) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=4)
    async with ledger.working() as [worker]:
        ended = await run_shards(ledger, "status", "--json")
        assert ended.code == 0, ended.err
        shards = json.loads(ended.out)
        assert [one["shard"] for one in shards] == [0, 1, 2, 3]
        assert {one["worker"] for one in shards} == {id_of(worker)}
        assert {one["state"] for one in shards} == {"alive"}
        assert {"position", "transfers_per_second", "waiting", "locked_flushes"} <= set(shards[0])
    ended = await run_shards(ledger, "status")
    assert ended.code == 1
    assert "no worker has shards 0-3" in ended.out


async def test_plan_changes_nothing_and_apply_moves_as_planned(
    postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=8)
    one, other = ledger.worker(), ledger.worker()
    file = str(tmp_path / "plan.json")
    async with ledger.working(one, other):
        await move(ledger, {shard: one for shard in range(8) if shard not in one.owned})
        before = await owners(ledger)
        planned = await run_shards(ledger, "plan", "--out", file, "--json")
        assert planned.code == 0, planned.err
        plan = json.loads(planned.out)
        assert (plan["skew_before"], plan["skew_after"]) == (2.0, 1.0)
        assert len(plan["moves"]) == 4
        assert plan["expected_pause_ms"] > 0
        assert written(file) == plan
        assert await owners(ledger) == before
        applied = await run_shards(ledger, "apply", file, "--json", "--parallel", "2")
        assert applied.code == 0, applied.err
        done = json.loads(applied.out)
        assert {move["state"] for move in done["moved"]} == {"done"}
        assert 0 < done["pause_median_ms"] <= done["pause_max_ms"]
        assert applied.err.count("done") == 4
        now = await owners(ledger)
        assert sorted(now.values()) == sorted([id_of(one)] * 4 + [id_of(other)] * 4)
        # Once more: it is done.
        again = await run_shards(ledger, "apply", file)
        assert again.code == 0, again.err
        assert await owners(ledger) == now
        verified = await run_shards(ledger, "verify", "--json")
        assert verified.code == 0, verified.out
    await assert_verified(ledger)
    rows = await ledger.sql(
        "SELECT asked_by, pause FROM ledger.moves WHERE plan = $1", plan["plan"]
    )
    assert len(rows) == 4
    assert all("@" in row["asked_by"] and row["pause"] is not None for row in rows)


async def test_a_plan_of_another_topology_is_refused(
    postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=4)
    one, other = ledger.worker(), ledger.worker()
    file = str(tmp_path / "plan.json")
    async with ledger.working(one, other):
        shard, target = min(one.owned), id_of(other)
        ended = await run_shards(ledger, "plan", "--move", f"{shard}={target}", "--out", file)
        assert ended.code == 0, ended.err
        await move(ledger, {min(other.owned): one})
        before = await owners(ledger)
        refused = await run_shards(ledger, "apply", file)
        assert refused.code == 1
        assert "another topology" in refused.err
        assert await owners(ledger) == before


async def test_wrong_usage_and_impossible_wishes_have_their_exit_codes(
    postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=4)
    listed = ledger.worker([0, 1, 2, 3])
    no_plan = tmp_path / "no plan.json"
    no_plan.write_text('{"plan": 1}')
    async with ledger.working(listed):
        words = [
            (2, ["plan", "--move", "3"]),
            (2, ["plan", "--weight", "3=heavy"]),
            (2, ["apply"]),
            (1, ["apply", str(tmp_path / "there is none")]),
            (1, ["apply", str(no_plan)]),
            (1, ["plan", "--move", "3=ffffffff"]),
            (1, ["plan", "--move", f"9={id_of(listed)}"]),
            (1, ["drain", id_of(listed)[:8]]),
            (0, ["abort"]),
        ]
        ended = [await run_shards(ledger, *one) for _, one in words]
    assert [(one.code, one.err) for one in ended] == [
        (code, one.err) for (code, _), one in zip(words, ended, strict=True)
    ]


async def test_drain_takes_all_shards_and_the_worker_takes_none_back(
    postgres_dsn: str, redis_url: str
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=8)
    one, other = ledger.worker(), ledger.worker()
    async with ledger.working(one, other):
        ended = await run_shards(ledger, "drain", id_of(one)[:13], "--json")
        assert ended.code == 0, ended.err
        assert len(json.loads(ended.out)["moved"]) == 4
        assert set((await owners(ledger)).values()) == {id_of(other)}
        assert not one.owned
        # Nor when shards are free.
        other.stop()
        await until(lambda: _left(other), "the other to leave")
        assert set((await owners(ledger)).values()) == {None}
        newcomer = ledger.worker()
        async with ledger.working(newcomer):
            assert newcomer.owned == set(range(8))
    await assert_verified(ledger)


async def _left(worker: Any) -> bool:
    return bool(worker.left)


async def test_abort_ends_what_is_applied_and_what_was_not_begun_stays(
    postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    """A worker that does not answer is asked; the command waits for it until it is aborted."""
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=4)
    mute, other = ledger.worker(), ledger.worker()
    file = str(tmp_path / "plan.json")
    async with ledger.working(mute, other):
        await _silence(mute)
        wishes = [f"--move={shard}={id_of(other)}" for shard in sorted(mute.owned)]
        assert (await run_shards(ledger, "plan", *wishes, "--out", file)).code == 0
        before = await owners(ledger)
        applying = await start_shards(ledger, "apply", file, "--parallel", "1")

        async def asked() -> Any:
            return await ledger.sql("SELECT FROM ledger.moves WHERE state = 'asked' AND plan > $1",
                                    "00000000-0000-0000-0000-000000000000")  # fmt: skip

        await until(asked, "a move to be asked for")
        ended = await run_shards(ledger, "abort", "--json")
        assert ended.code == 0, ended.err
        told = json.loads(ended.out)
        assert (len(told["plans"]), len(told["shards"])) == (1, 1)
        _, err = await asyncio.wait_for(applying.communicate(), 20)
        assert applying.returncode == 1
        assert b"aborted" in err
        assert await owners(ledger) == before
        again = await run_shards(ledger, "apply", file)
        assert again.code == 1
        assert "aborted" in again.err


async def _silence(worker: Any) -> None:
    """Let a worker look no more who asks for its shards, as one would that hangs there."""
    worker._session._store.owning.look = _never


async def _never() -> Any:
    await asyncio.Event().wait()


async def test_apply_goes_on_after_the_command_died(
    postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=8)
    one, other = ledger.worker(), ledger.worker()
    file = str(tmp_path / "plan.json")
    async with ledger.working(one, other):
        shards = sorted(one.owned)
        wishes = [f"--move={shard}={id_of(other)}" for shard in shards]
        assert (await run_shards(ledger, "plan", *wishes, "--out", file)).code == 0
        applying = await start_shards(ledger, "apply", file, "--parallel", "1")

        async def begun() -> Any:
            return await ledger.sql("SELECT FROM ledger.moves WHERE plan IS NOT NULL")

        await until(begun, "the first move")
        applying.send_signal(signal.SIGKILL)
        await applying.wait()
        ended = await run_shards(ledger, "apply", file, "--json")
        assert ended.code == 0, ended.err
        assert not one.owned
        assert sorted(move["shard"] for move in json.loads(ended.out)["moved"]) == shards
    rows = await ledger.sql("SELECT shard FROM ledger.moves WHERE plan IS NOT NULL ORDER BY shard")
    assert [row["shard"] for row in rows] == shards
    await assert_verified(ledger)


async def test_a_pause_longer_than_allowed_ends_the_plan(
    postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=8)
    one, other = ledger.worker(), ledger.worker()
    file = str(tmp_path / "plan.json")
    async with ledger.working(one, other):
        wishes = [f"--move={shard}={id_of(other)}" for shard in sorted(one.owned)]
        assert (await run_shards(ledger, "plan", *wishes, "--out", file)).code == 0
        strict = await run_shards(
            ledger, "apply", file, "--parallel", "1", "--max-pause", "0.000001"
        )
        assert strict.code == 1
        assert "stood still" in strict.err
        assert 0 < len(one.owned) < 4
        ended = await run_shards(ledger, "apply", file, "--max-lag", "60")
        assert ended.code == 0, ended.err
        assert not one.owned


async def test_auto_evens_out_what_stays_uneven(postgres_dsn: str, redis_url: str) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=8)
    one, other = ledger.worker(), ledger.worker()
    async with ledger.working(one, other):
        await move(ledger, {shard: one for shard in range(8) if shard not in one.owned})
        assert not other.owned
        auto = await start_shards(ledger, "auto", "--threshold", "1.3", "--every", "0.1", "--json")

        async def even() -> bool:
            return len(one.owned) == len(other.owned) == 4

        await until(even, "the shards to be shared evenly")
        auto.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(auto.communicate(), 20)
        assert auto.returncode == 0, err
        assert json.loads(out.splitlines()[0]) == {"skew": 2.0, "moves": 0}
        assert {"skew": 2.0, "moves": 4} in [json.loads(line) for line in out.splitlines()]
    async with open_operations(ledger.dsn) as operations:
        assert (await operations.pause_seconds() or 0) > 0
