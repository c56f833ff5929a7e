"""The operator's commands: status, plan, apply, abort, drain, verify, auto."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.store.operations import open_operations
from engine.worker.worker import Worker
from tests.bounds import PROCESS_SECONDS_MAX
from tests.ledgers import Ledger, make_ledger, until
from tests.moving import Ended, id_of, move, run_shards, start_shards
from tests.verifying import assert_verified


class Two(NamedTuple):
    """Two workers at work, with four shards each."""

    ledger: Ledger
    one: Worker
    other: Worker

    async def owners(self) -> dict[int, str]:
        rows = await self.ledger.sql("SELECT shard, worker::text FROM ledger.shards")
        return {row["shard"]: row["worker"] for row in rows}

    async def done(self, *words: str) -> Ended:
        """What `shards` said, that did as told."""
        ended = await run_shards(self.ledger, *words)
        assert ended.code == 0, ended.err
        return ended

    async def plan_away(self, file: str) -> None:
        """Write a plan by which the other gets all shards of the first."""
        wishes = [f"--move={shard}={id_of(self.other)}" for shard in sorted(self.one.owned)]
        await self.done("plan", *wishes, "--out", file)

    async def give_all_to_one(self) -> None:
        await move(self.ledger, dict.fromkeys(self.other.owned, self.one))


def written(file: str) -> Any:
    return json.loads(Path(file).read_text())


@pytest.fixture
async def two(postgres_dsn: str, redis_url: str) -> AsyncIterator[Two]:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=8)
    one, other = ledger.worker(), ledger.worker()
    async with ledger.working(one, other):
        yield Two(ledger, one, other)
    await assert_verified(ledger)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Where a plan is to be written."""
    return str(tmp_path / "plan.json")


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


async def test_plan_changes_nothing_and_apply_moves_as_planned(two: Two, file: str) -> None:
    await two.give_all_to_one()
    before = await two.owners()
    plan = json.loads((await two.done("plan", "--out", file, "--json")).out)
    assert (plan["skew_before"], plan["skew_after"]) == (2.0, 1.0)
    assert len(plan["moves"]) == 4
    assert plan["expected_pause_ms"] > 0
    assert written(file) == plan
    assert await two.owners() == before
    applied = await two.done("apply", file, "--json", "--parallel", "2")
    done = json.loads(applied.out)
    assert {move["state"] for move in done["moved"]} == {"done"}
    assert 0 < done["pause_median_ms"] <= done["pause_max_ms"]
    assert applied.err.count("done") == 4
    now = await two.owners()
    assert sorted(now.values()) == sorted([id_of(two.one)] * 4 + [id_of(two.other)] * 4)
    # Once more: it is done.
    await two.done("apply", file)
    assert await two.owners() == now
    await two.done("verify", "--json")
    rows = await two.ledger.sql(
        "SELECT asked_by, pause FROM ledger.moves WHERE plan = $1", plan["plan"]
    )
    assert len(rows) == 4
    assert all("@" in row["asked_by"] and row["pause"] is not None for row in rows)


async def test_a_plan_of_another_topology_is_refused(two: Two, file: str) -> None:
    await two.plan_away(file)
    await move(two.ledger, {min(two.other.owned): two.one})
    before = await two.owners()
    refused = await run_shards(two.ledger, "apply", file)
    assert refused.code == 1
    assert "another topology" in refused.err
    assert await two.owners() == before


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


async def test_drain_takes_all_shards_and_undrain_lets_the_worker_share_again(two: Two) -> None:
    ended = await two.done("drain", id_of(two.one)[:13], "--json")
    assert len(json.loads(ended.out)["moved"]) == 4
    assert set((await two.owners()).values()) == {id_of(two.other)}
    assert not two.one.owned
    third = two.ledger.worker()
    async with two.ledger.working(third):
        assert len(third.owned) == 4
    # Nor does it take what became free, as long as another can.
    await until(lambda: len(two.other.owned) == 8, "the other to take all")
    assert not two.one.owned
    ended = await two.done("undrain", id_of(two.one)[:13], "--json")
    assert json.loads(ended.out) == {"undrained": [id_of(two.one)]}
    two.other.stop()
    await until(lambda: len(two.one.owned) == 8, "the first to take all")


async def test_a_drained_worker_takes_over_when_nobody_else_can_and_gives_it_up_again(
    two: Two,
) -> None:
    await two.done("drain", id_of(two.one)[:13], "--json")
    two.other.stop()
    await until(lambda: len(two.one.owned) == 8, "the drained one to take over")
    newcomer = two.ledger.worker()
    async with two.ledger.working(newcomer):
        await until(lambda: newcomer.owned == set(range(8)), "the newcomer to have all")
        assert not two.one.owned


async def test_abort_ends_what_is_applied_and_what_was_not_begun_stays(two: Two, file: str) -> None:
    """A worker that does not answer is asked; the command waits for it until it is aborted."""
    _silence(two.one)
    await two.plan_away(file)
    before = await two.owners()
    applying = await start_shards(two.ledger, "apply", file, "--parallel", "1")

    async def asked() -> Any:
        return await two.ledger.sql(
            "SELECT FROM ledger.moves WHERE state = 'asked' AND plan IS NOT NULL"
        )

    await until(asked, "a move to be asked for")
    told = json.loads((await two.done("abort", "--json")).out)
    assert (len(told["plans"]), len(told["shards"])) == (1, 1)
    _, err = await asyncio.wait_for(applying.communicate(), PROCESS_SECONDS_MAX)
    assert applying.returncode == 1
    assert b"aborted" in err
    assert await two.owners() == before
    again = await run_shards(two.ledger, "apply", file)
    assert again.code == 1
    assert "aborted" in again.err


def _silence(worker: Any) -> None:
    """Let a worker look no more who asks for its shards, as one would that hangs there."""
    worker._session._store.ownership.look_at_shards = asyncio.Event().wait


async def test_apply_goes_on_after_the_command_died(two: Two, file: str) -> None:
    shards = sorted(two.one.owned)
    await two.plan_away(file)
    applying = await start_shards(two.ledger, "apply", file, "--parallel", "1")

    async def planned() -> list[int]:
        rows = await two.ledger.sql(
            "SELECT shard FROM ledger.moves WHERE plan IS NOT NULL ORDER BY shard"
        )
        return [row["shard"] for row in rows]

    await until(planned, "the first move")
    applying.send_signal(signal.SIGKILL)
    await applying.communicate()
    ended = await two.done("apply", file, "--json")
    assert not two.one.owned
    assert sorted(move["shard"] for move in json.loads(ended.out)["moved"]) == shards
    assert await planned() == shards


async def test_a_pause_longer_than_allowed_ends_the_plan(two: Two, file: str) -> None:
    await two.plan_away(file)
    bounds = ["--parallel", "1", "--max-pause", "0.000001"]
    strict = await run_shards(two.ledger, "apply", file, *bounds)
    assert strict.code == 1
    assert "stood still" in strict.err
    assert 0 < len(two.one.owned) < 4
    await two.done("apply", file, "--max-lag", "60")
    assert not two.one.owned


async def test_auto_evens_out_what_stays_uneven(two: Two) -> None:
    await two.give_all_to_one()
    assert not two.other.owned
    auto = await start_shards(two.ledger, "auto", "--threshold", "1.3", "--every", "0.1", "--json")
    await until(lambda: len(two.one.owned) == len(two.other.owned) == 4, "an even share")
    auto.send_signal(signal.SIGTERM)
    out, err = await asyncio.wait_for(auto.communicate(), PROCESS_SECONDS_MAX)
    assert auto.returncode == 0, err
    assert json.loads(out.splitlines()[0]) == {"skew": 2.0, "moves": 0}
    assert {"skew": 2.0, "moves": 4} in [json.loads(line) for line in out.splitlines()]
    async with open_operations(two.ledger.dsn) as operations:
        assert (await operations.pause_seconds() or 0) > 0
