"""Every benchmark runs, says what it measured, and fails where its result does not add up."""

import asyncio
import json
import subprocess
import sys

import asyncpg
import pytest

from benchmarks import program, report, stages
from benchmarks.against import rows_of
from benchmarks.program import ROOT
from benchmarks.report import Result
from benchmarks.serving import new_ledger, running_engine
from benchmarks.workload import declined, fund, holds, make_accounts
from tests.bounds import PROCESS_SECONDS_MAX

TINY = {
    "end_to_end": "--transfers 3000 --accounts 50 --stages",
    "batches": "--transfers 2000 --accounts 50",
    "singles": "--transfers 100 --accounts 50",
    "client": "--transfers 300 --accounts 50",
    "latency": "--seconds 1 --capacity 2000 --singles 100 --accounts 50",
    "workloads": "--transfers 2000 --accounts 50 --only plain --workers 1",
    "function": "--seconds 1 --transfers 500 --accounts 50 --scale 1",
    "history": "--postings 80000 --accounts 1000 --samples 5",
    "rebalancing": "--rate 200 --seconds 2 --restart 3 --accounts 50 --batch 10",
    "memory": "--accounts 2000",
    "flows": "--flows 1000 --latency 20",
    "flow_timers": "--timers 2000",
}


def measured_by(*arguments):
    """Run a program of Python, and read what it measured from its last line."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_command_is_the_benchmark():
    sizes = ["--transfers", "1000", "--workers", "1"]
    measured = measured_by("engine.commands.main", "bench", "--json", *sizes)
    assert [row["transfers"] for row in measured["rows"]] == [1000]
    assert measured["ratio"] > 0


SHORT = {"end_to_end", "flows"}
"""Of each way to measure one; the others are long."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in SHORT else pytest.mark.long) for name in TINY],
)
def test_a_benchmark_runs_and_its_result_adds_up(name):
    measured = measured_by(f"benchmarks.{name}", "--quick", "--json", *TINY[name].split())
    assert measured["rows"]
    if name == "end_to_end":
        assert measured["transfers_per_second"] > 0
        assert measured["bare_copy_transfers_per_second"] > 0
        assert measured["ratio"] > 0
        (costs,) = measured["details"].values()
        called = {cost["stage"] for cost in costs if cost["calls"]}
        # All accounts are there and all ids are new: nothing is looked up again.
        assert called >= stages.STAGES.keys() - {"look up"}
    if name == "flows":
        ((waited,),) = measured["details"].values()
        assert waited["flows"] == 20
        assert 0 < waited["median_ms"] <= waited["p99_ms"]


def test_what_was_measured_is_printed_under_its_own_name(capsys):
    """Whatever the order in which a row names it, and whatever is not known of it."""
    rows = [
        {"what": "payout", "flows_per_second": 1234, "transitions_per_second": 5678.0},
        {"transitions_per_second": 90, "what": "bare copy", "flows_per_second": None},
    ]
    waited = {"Start to hold": [{"flows": 20, "median_ms": 7.25, "p99_ms": 60.0}]}
    with pytest.raises(SystemExit) as ended:
        report.run("Flows", lambda _: Result(rows, [], {}, waited), {}, arguments=[])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    ends = [len(line.rstrip()) for line in lines if "5,678" in line or "bare copy" in line]
    assert ends[0] == ends[1]
    assert ["20", "7.25", "60.0"] in [line.split() for line in lines]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the history of the project")
def test_another_commit_is_measured_beside_this_one():
    # So many that each process uses some ticks of CPU.
    sizes = "--transfers 40000 --accounts 50 --workers 1 --turns 1"
    measured = measured_by("benchmarks.end_to_end", "--json", "--against", "HEAD", *sizes.split())
    assert measured["against"] == "HEAD"
    rows = {row["measured"]: row for row in measured["rows"]}
    assert {"transfers_per_second", "engine_cpu_us", "postgres_cpu_us"} <= rows.keys()
    speed = rows["transfers_per_second"]
    assert (speed["transfers"], speed["workers"]) == (40000, 1)
    assert speed["ratio"] == pytest.approx(speed["here"] / speed["there"], abs=0.001)


def test_a_directory_without_the_program_is_not_measured_by_this_one():
    assert program.can_run(program.THIS)
    assert not program.can_run(program.Program("elsewhere", ROOT / "benchmarks"))


def test_what_is_the_same_in_all_runs_says_what_a_row_is():
    def run(*speeds):
        return [
            {"of": name, "accounts": 5, "per_second": speed, "bare": None, "cost": 2.5}
            for name, speed in zip(("plain", "hot"), speeds, strict=True)
        ]

    rows = rows_of([run(100, 10), run(300, 20), run(110, 30)], [run(50, 10)] * 3)
    assert [(row["of"], row["measured"]) for row in rows] == [
        (name, what) for name in ("plain", "hot") for what in ("per_second", "cost")
    ]
    assert rows[0] == {
        "of": "plain", "accounts": 5, "measured": "per_second", "here": 110, "there": 50,
        "ratio": 2.2, "lowest": 2.0, "highest": 6.0,
    }  # fmt: skip


def test_decoding_deciding_and_encoding_give_what_they_must():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--benchmark-disable", "benchmarks/test_columns.py"],
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout


TRIGGERS = "ALTER TABLE ledger.posted {0} TRIGGER keep; ALTER TABLE ledger.spent {0} TRIGGER keep"
ONE_POSTING = "(SELECT max(number) FROM ledger.posted)"
ONE_ID = "(SELECT max(number) FROM ledger.spent WHERE outcome = {})"
DAMAGES = {
    "a posting is missing": f"DELETE FROM ledger.posted WHERE number = {ONE_POSTING}",
    "a posting stands twice": "INSERT INTO ledger.posted SELECT stripe, version, 0, number,"
    " transfer_id, amount, pending_amount, debits_pending, debits_posted, credits_pending,"
    f" credits_posted FROM ledger.posted WHERE number = {ONE_POSTING}",
    "a posting has another amount": "UPDATE ledger.posted SET amount = amount + 1"
    f" WHERE number = {ONE_POSTING}",
    "a posting has another version": "UPDATE ledger.posted SET version = version + 1, run = 0"
    f" WHERE number = {ONE_POSTING}",
    "a hold is open": f"UPDATE ledger.posted SET pending_amount = 1 WHERE number = {ONE_POSTING}",
    "a posting is another account's": "UPDATE ledger.posted SET run = 0,"
    f" stripe = (SELECT min(stripe) FROM ledger.posted) WHERE number = {ONE_POSTING}",
    "a transfer is missing": f"DELETE FROM ledger.spent WHERE number = {ONE_ID.format(0)}",
    "a declined one is missing": f"DELETE FROM ledger.spent WHERE number = {ONE_ID.format(54)}",
    "a transfer stands twice": "INSERT INTO ledger.spent (id, number, flags, shard, outcome)"
    " VALUES (gen_random_uuid(), 1, 0, 0, 0)",
}


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def test_a_ledger_that_was_damaged_fails_the_audit_and_the_run(capsys):
    accounts = make_accounts(20)
    with new_ledger(accounts) as ledger:
        with running_engine(ledger, 2):
            for transfers in (fund(accounts), holds(accounts, 300, lag_max=50)):
                assert ledger.send(transfers)[1] == []
            mixed = declined(accounts, 1000)
            mixed.created[0] = not mixed.created[0]
            assert ledger.send(mixed)[1] == ["1 were answered otherwise, 0 not at all"]
            mixed.created[0] = not mixed.created[0]
        assert ledger.audit() == []
        copies = [f"CREATE TABLE {t}_kept AS TABLE ledger.{t}" for t in ("posted", "spent")]
        asyncio.run(execute(ledger.dsn, TRIGGERS.format("DISABLE"), *copies))
        for what, damage in DAMAGES.items():
            asyncio.run(execute(ledger.dsn, damage))
            with pytest.raises(SystemExit) as ended:
                report.run("A title", lambda _: Result([], ledger.audit()), {}, arguments=[])
            assert ended.value.code == 1, what
            assert "it does not add up" in capsys.readouterr().err
            for table in ("posted", "spent"):
                again = f"INSERT INTO ledger.{table} TABLE {table}_kept"
                asyncio.run(execute(ledger.dsn, f"TRUNCATE ledger.{table}", again))
        assert ledger.audit() == []
