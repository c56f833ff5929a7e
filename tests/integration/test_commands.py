"""The commands as people and scripts run them: real processes, real servers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.servers import Servers, find_running
from engine.servers.process import is_alive, wait_gone
from tests.bounds import PROCESS_SECONDS_MAX
from tests.ledgers import make_ledger

ENGINE = [sys.executable, "-m", "engine.commands.main"]
SHARDS = [sys.executable, "-m", "shards.commands"]
OURS = ("ENGINE_POSTGRES_DSN", "ENGINE_REDIS_URL", "ENGINE_DATA", "ENGINE_LOG_LEVEL")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in OURS}

BANK, ALICE, BAKERY, FEES = (f"019b0000-0000-7000-8000-00000000000{n}" for n in range(1, 5))
LIMIT = "debits_must_not_exceed_credits"


def start(command: list[str], cwd: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Ended:
    """What a command printed and how it ended."""

    def __init__(self, process: "subprocess.Popen[str]", given: str = "") -> None:
        self.out, self.err = process.communicate(given, timeout=PROCESS_SECONDS_MAX)
        self.code = process.returncode

    def lines(self) -> list:
        assert self.code == 0, self.err
        return [json.loads(line) for line in self.out.splitlines()]

    def document(self) -> dict:
        [document] = [json.loads(line) for line in self.out.splitlines()]
        return document


class Up:
    """A running `engine up` and commands that find it by its directory."""

    def __init__(self, directory: Path, *more: str) -> None:
        self.directory = directory
        self.process = start([*ENGINE, "up", "--data", "data", "--json", *more], directory)
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.ready = json.loads(line)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return start([*ENGINE, *words], self.directory, ENGINE_DATA="data")

    def run(self, *words: str, given: str = "") -> Ended:
        return Ended(self.start(*words), given)

    def run_all(self, *commands: str) -> list[Ended]:
        """Run commands at the same time; each mostly starts up."""
        return [Ended(process) for process in [self.start(*c.split()) for c in commands]]

    def write(self, name: str, text: str) -> str:
        (self.directory / name).write_text(text)
        return name


def transfer(number: int, debit: str, credit: str, amount: object, *flags: str) -> dict:
    return {
        "id": f"019b0000-0000-7000-8000-{number:012d}",
        "debit_account_id": debit,
        "credit_account_id": credit,
        "amount": amount,
        "ledger": 978,
        "code": 1,
        "flags": flags,
    }


def json_lines(*things: dict) -> str:
    return "".join(json.dumps(thing) + "\n" for thing in things)


@pytest.fixture(scope="module")
def demo_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module", autouse=True)
def demo(demo_directory: Path) -> "Iterator[subprocess.Popen[str]]":
    """Begun before the other tests and looked at by the last: it waits for a lease to expire."""
    command = [*ENGINE, "demo", "--transfers", "5000", "--accounts", "500"]
    with start(command, demo_directory, TMPDIR=str(demo_directory)) as process:
        yield process
        process.terminate()
        process.wait(PROCESS_SECONDS_MAX)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up"))
    accounts = json_lines(
        {"id": BANK, "ledger": 978, "code": 1, "name": "bank"},
        {"id": ALICE, "ledger": 978, "code": 2, "name": "alice", "flags": [LIMIT]},
        {"id": BAKERY, "ledger": 978, "code": 3, "name": "bakery"},
    )
    created = running.run("accounts", "create", "-", "--json", given=accounts)
    assert created.lines() == [
        {"id": account, "outcome": "created"} for account in (BANK, ALICE, BAKERY)
    ]
    yield running
    running.process.terminate()
    assert Ended(running.process).code == 0


def test_up_leaves_no_server_behind_whether_stopped_or_killed(tmp_path: Path) -> None:
    for end in (signal.SIGTERM, signal.SIGKILL):
        running = Up(tmp_path)
        addresses = (running.ready["postgres_dsn"], running.ready["redis_url"])
        assert find_running(tmp_path / "data") == addresses
        postgres = int((tmp_path / "data/postgres/data/postmaster.pid").read_text().split()[0])
        valkey = int((tmp_path / "data/valkey/pid").read_text())
        running.process.send_signal(end)
        ended = Ended(running.process)
        assert ended.out == "", "the line was all that it printed"
        if end == signal.SIGTERM:
            assert ended.code == 0
            assert not is_alive(postgres)
            assert not is_alive(valkey)
        wait_gone(postgres, "Postgres")
        wait_gone(valkey, "Valkey")
        assert find_running(tmp_path / "data") is None


def test_accounts_come_from_csv_and_twice_is_once(up: Up) -> None:
    up.write(
        "accounts.csv",
        "id,ledger,code,flags,name\n"
        f"{FEES},978,4,,fees\n"
        f"{BANK},978,1,,bank\n"
        f'{BANK},978,1,{LIMIT},"Bank, the"\n'
        "019b0000-0000-7000-8000-00000000000a,0,1,,\n",
    )
    created = up.run("accounts", "create", "accounts.csv", "--json")
    assert [line["outcome"] for line in created.lines()] == [
        "created",
        "exists",
        "exists_with_different_flags",
        "ledger_must_not_be_zero",
    ]
    listed, shown = up.run_all("accounts list --json", "accounts show fees --json")
    assert {account["name"] for account in listed.lines()} >= {"bank", "alice", "fees"}
    assert shown.document()["id"] == FEES


def test_lines_are_decided_in_the_order_of_the_file(up: Up) -> None:
    first = [
        transfer(101, BANK, ALICE, 100),
        transfer(102, ALICE, BAKERY, 70),  # by money that came a line before, on another shard
        transfer(103, ALICE, BAKERY, 70),
        transfer(104, BANK, ALICE, 50, "linked"),
        transfer(105, ALICE, BAKERY, 70),
    ]
    submitted = up.run("submit", "-", "--json", given=json_lines(*first) + "\n")
    outcomes = ["created", "created", "exceeds_credits", "created", "created"]
    assert submitted.lines() == [
        {"id": one["id"], "outcome": outcome} for one, outcome in zip(first, outcomes, strict=True)
    ]
    up.write(
        "more.csv",
        "id,debit_account_id,credit_account_id,amount,ledger,code,flags,timeout,pending_id\n"
        f"{transfer(111, BANK, ALICE, 0)['id']},{BANK},{ALICE},40,978,1,pending,600,\n"
        f"{transfer(112, BANK, ALICE, 0)['id']},,,,,,post_pending_transfer,,"
        f"{transfer(111, BANK, ALICE, 0)['id']}\n",
    )
    more = up.run("submit", "more.csv", "--json")
    assert [line["outcome"] for line in more.lines()] == ["created", "created"]

    balance, history, one = up.run_all(
        "balance alice bank --json",
        f"history {ALICE} --limit 2 --json",
        "transfer --debit bank --credit bakery --amount 3 --code 1 --json",
    )
    alice, bank = balance.lines()
    assert (alice["account_id"], bank["account_id"]) == (ALICE, BANK)
    assert (alice["credits_posted"], alice["debits_posted"], alice["balance"]) == (190, 140, 50)
    assert [posting["amount"] for posting in history.lines()] == [40, 0]
    newest, older = history.lines()
    before, none = up.run_all(
        f"history alice --limit 1 --before-number {newest['number']} --json",
        "history alice --before-number 7",
    )
    assert before.lines() == [older]
    assert (none.code, "there is no posting 7" in none.err) == (1, True)
    assert one.document()["outcome"] == "created"


def test_a_line_that_cannot_be_read_ends_it_and_nothing_of_it_is_sent(up: Up) -> None:
    good, half = transfer(121, BANK, BAKERY, 1), transfer(122, BANK, BAKERY, 1, "linked")
    bad = transfer(123, BANK, BAKERY, "much")
    up.write("bad.jsonl", json_lines(good, half, bad, transfer(124, BANK, BAKERY, 1)))
    ended = up.run("submit", "bad.jsonl", "--json")
    assert ended.code == 1
    assert json.loads(ended.out) == {"id": good["id"], "outcome": "created"}
    assert "bad.jsonl:3: " in ended.err
    assert "amount" in ended.err
    assert "lines up to 1 were sent" in ended.err, "no half of a chain is sent"
    good = {"id": "019b0000-0000-7000-8000-0000000000aa", "ledger": 978, "code": 1}
    up.write("bad_accounts.jsonl", json_lines({"ledger": 978, "code": 1}, good))
    ended = up.run("accounts", "create", "bad_accounts.jsonl")
    assert ended.code == 1
    assert "bad_accounts.jsonl:1: " in ended.err
    assert "nothing was sent" in ended.err


WRONG_USAGE = [
    "no-such-command",
    "init --shards 3",
    "worker --shards 7-0",
    "submit no-such-file",
    "transfer --debit alice",
    "history alice --before yesterday",
    "balance alice --data data --postgres-dsn postgresql://x",
    "demo --keep .",
]


def test_wrong_usage_is_2_and_failure_is_1(up: Up) -> None:
    for command, ended in zip(WRONG_USAGE, up.run_all(*WRONG_USAGE), strict=True):
        assert ended.code == 2, (command, ended.out, ended.err)
        assert ended.err, command
    failures = {
        "balance nobody": "there is no account nobody",
        "init --shards 2": "never changes",
        "status --data elsewhere": "engine up --data elsewhere",
        "worker --shards 16": "no shard 16",
    }
    for command, ended in zip(failures, up.run_all(*failures), strict=True):
        assert (ended.code, ended.out) == (1, ""), (command, ended.out)
        assert ended.err.startswith("error: ")
        assert failures[command] in ended.err


def test_status_and_verify_say_that_all_is_well(up: Up) -> None:
    status, shown, verified, init = up.run_all(
        "status --json", "status", "verify --json", "init --json"
    )
    by_shard, verified_shards = (
        Ended(process)
        for process in [
            start([*SHARDS, word, "--json"], up.directory, ENGINE_DATA="data")
            for word in ("status", "verify")
        ]
    )
    assert status.code == 0, status.out
    document = status.document()
    assert document["healthy"]
    assert [shard["shard"] for shard in document["shards"]] == list(range(16))
    assert all(shard["alive"] for shard in document["shards"])
    assert shown.out.endswith("All is well.\n")
    assert verified.code == 0, verified.out
    assert verified.document()["passed"]
    assert init.document() == {"applied": [], "shards": 16}
    owned = [(shard["shard"], bool(shard["worker"])) for shard in by_shard.document()]
    assert owned == [(shard, True) for shard in range(16)]
    assert verified_shards.document()["passed"]


async def test_a_worker_gives_its_shards_back_and_status_says_what_is_missing(
    servers: Servers, tmp_path: Path
) -> None:
    ledger = await make_ledger(servers.postgres.dsn, servers.valkey.url)
    where = {"ENGINE_POSTGRES_DSN": ledger.dsn, "ENGINE_REDIS_URL": ledger.redis_url}
    command = [*ENGINE, "worker", "--shards", "0-3,8", "--workers", "2", "--json"]
    worker = start(command, tmp_path, **where)
    ready = json.loads(worker.stdout.readline())
    assert [one["shards"] for one in ready["workers"]] == [[0, 2, 8], [1, 3]]
    status = Ended(start([*ENGINE, "status", "--json"], tmp_path, **where))
    assert status.code == 1
    [problem] = status.document()["problems"]
    assert "4-7,9-15" in problem["problem"]
    assert problem["action"].endswith("engine worker")
    worker.terminate()
    assert Ended(worker).code == 0
    owners = await ledger.sql("SELECT count(*) FROM ledger.shards WHERE worker IS NOT NULL")
    assert owners[0][0] == 0

    away = {**where, "ENGINE_POSTGRES_DSN": "postgresql://engine@127.0.0.1:1/engine"}
    shown = Ended(start([*ENGINE, "status"], tmp_path, **away))
    assert shown.code == 1
    assert "WRONG: Postgres at 127.0.0.1:1 is out of reach" in shown.out


def test_the_demo_passes_and_leaves_nothing(
    demo: "subprocess.Popen[str]", demo_directory: Path
) -> None:
    ended = Ended(demo)
    assert ended.code == 0, ended.out + ended.err
    assert "kill -9" in ended.out
    assert "What to try next" in ended.out
    assert list(demo_directory.iterdir()) == []
