"""The commands of flows as people and scripts run them: real processes, real servers."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.servers import Servers
from tests.bounds import PROCESS_SECONDS_MAX
from tests.integration.test_commands import ENGINE, Ended, Up, json_lines, start

DEFINITIONS = """
from engine.flows import Account, Amount, Flow, Input


class Payout(Input):
    wallet: Account
    amount: Amount
    reference: str = ""


async def bank(items):
    return [{1: "done", 2: "refused"}.get(item.input["amount"], "unknown") for item in items]


payout = Flow("payout", version=1, input=Payout, ledger=978)
hold = payout.hold(debit=Payout.wallet, credit="transit", amount=Payout.amount, code=30)
check = payout.review("large payout", when=Payout.amount > 1000, within="24h")
sent = payout.wait("bank", within="3d")
settle = payout.post(hold)
free = payout.void(hold)
hold.created.go(check)
hold.declined.end("declined")
check.approved.go(sent)
check.refused.go(free)
check.late.go(free)
sent.on("settled").go(settle)
sent.on("rejected").go(free)
sent.late.review("what became of it?", settled=settle, rejected=free)
settle.done.end("paid")
free.done.end("not paid")

asking = Flow("asking", version=1, input=Payout, ledger=978)
asked = asking.call(bank)
asked.done.end("done")
asked.refused.end("refused")
asked.unknown.review("was it done?", yes=asking.end("done"), no=asking.end("refused"))
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`engine up --flows` with accounts and definitions."""
    directory = tmp_path_factory.mktemp("flows")
    (directory / "payout.py").write_text(DEFINITIONS)
    made = Up(directory, "--flows", "payout.py")
    accounts = [
        {"id": str(uuid.uuid4()), "ledger": 978, "code": 1, "name": name, "flags": []}
        for name in ("wallet", "transit")
    ]
    made.run("accounts", "create", "-", "--json", given=json_lines(*accounts)).lines()
    found = made.run("flows", "define", "payout.py", "--json").lines()
    assert [(row["name"], row["outcome"]) for row in found] == [
        ("payout", "created"),
        ("asking", "created"),
    ]
    with made.process:
        yield made
        made.process.terminate()
        assert made.process.wait(PROCESS_SECONDS_MAX) == 0


def begin(up: Up, *amounts: int, name: str = "payout", by: str = "ann", **more: Any) -> list[str]:
    """Start flows; returns their ids."""
    items = [{"id": str(uuid.uuid4()), "wallet": "wallet", "amount": a} | more for a in amounts]
    lines = up.run("flows", "start", name, "-", "--by", by, given=json_lines(*items)).lines()
    assert lines == [{"id": item["id"], "outcome": "created"} for item in items]
    return [item["id"] for item in items]


def waits(up: Up, flow: str, what: str | None) -> dict[str, Any]:
    """Wait until a flow waits for something; returns it."""
    for _ in range(60):
        [found] = up.run("flows", "get", flow, "--json").lines()
        if found["waiting_for"] == what:
            return found
    raise AssertionError(found)


def test_define_list_and_show(up: Up) -> None:
    again, listed, text, chart, source, unknown = up.run_all(
        "flows define payout.py --json", "flows list --json", "flows show payout",
        "flows show payout --mermaid", "flows show payout --json", "flows show nothing",
    )  # fmt: skip
    assert [row["outcome"] for row in again.lines()] == ["exists", "exists"]
    assert {row["name"]: row["version"] for row in listed.lines()} == {"payout": 1, "asking": 1}
    assert "hold" in text.out
    assert chart.out.startswith(("flowchart", "stateDiagram", "graph"))
    assert json.loads(source.out)["name"] == "payout"
    assert unknown.code == 1
    other = (up.directory / "payout.py").read_text().replace('"24h"', '"23h"')
    changed = up.run("flows", "define", up.write("changed.py", other))
    assert (changed.code, "a version never changes" in changed.err) == (1, True)


def test_start_answers_each_line_in_order(up: Up) -> None:
    flow, free = str(uuid.uuid4()), str(uuid.uuid4())
    good = {"id": flow, "wallet": "wallet", "amount": 5}
    lines = json_lines(
        good,
        good,
        good | {"amount": 6},
        {"id": free, "wallet": "nobody", "amount": 1},
        {"id": free, "wallet": "wallet", "amount": 1},
        {"id": "no uuid", "wallet": "wallet", "amount": 1},
        {"id": str(uuid.uuid4()), "wallet": "wallet", "amount": -1},
    )
    found = up.run("flows", "start", "payout", "-", given=lines).lines()
    assert [line["outcome"] for line in found] == [
        "created", "exists", "exists_with_different_input", "account_not_found",
        "id_already_failed", "invalid_input", "invalid_input",
    ]  # fmt: skip
    other = up.run("flows", "start", "asking", "-", given=json_lines(good)).lines()
    assert other[0]["outcome"] == "exists_with_different_definition"
    missing = {"id": str(uuid.uuid4()), "wallet": "wallet", "amount": 1}
    none = up.run("flows", "start", "nothing", "-", given=json_lines(missing)).lines()
    assert none[0]["outcome"] == "definition_not_found"


def test_get_steps_and_open_show_how_a_flow_stands(up: Up) -> None:
    [flow] = begin(up, 5)
    found = waits(up, flow, "signal bank")
    assert {n: found[n] for n in ("definition", "version", "state", "end", "step")} == {
        "definition": "payout", "version": 1, "state": "running", "end": None, "step": "bank",
    }  # fmt: skip
    assert found["started_at"]
    assert found["ended_at"] is None
    steps, opened, older, unknown = up.run_all(
        f"flows steps {flow} --json", "flows open --json", "flows open --older 1h --json",
        f"flows get {uuid.uuid4()}",
    )  # fmt: skip
    rows = steps.lines()
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert {"step", "state", "event", "attempt", "due_at", "transfer_id", "at"} <= set(rows[0])
    assert [(row["step"], row["state"]) for row in rows][-1] == ("bank", "waiting")
    assert flow in {row["id"] for row in opened.lines()}
    assert older.lines() == []
    assert unknown.code == 1


def test_signal_and_cancel_say_what_became_of_them(up: Up) -> None:
    [flow] = begin(up, 5)
    waits(up, flow, "signal bank")
    early = str(uuid.uuid4())
    lines = json_lines(
        {"flow": flow, "name": "bank", "event": "settled", "message_id": "1"},
        {"flow": flow, "name": "bank", "event": "settled", "message_id": "1"},
        {"flow": flow, "name": "bank", "event": "rejected", "message_id": "1"},
        {"flow": flow, "name": "bank", "event": "settled", "message_id": "1", "body": {"a": 1}},
        {"flow": early, "name": "bank", "event": "settled", "message_id": "1"},
    )
    found = up.run("flows", "signal", "-", "--json", given=lines).lines()
    assert [(line["id"], line["message_id"], line["outcome"]) for line in found] == [
        (flow, "1", "created"), (flow, "1", "exists"), (flow, "1", "exists_with_different_event"),
        (flow, "1", "exists_with_different_body"), (early, "1", "created"),
    ]  # fmt: skip
    ended = waits(up, flow, None)
    assert (ended["state"], ended["end"]) == ("ended", "paid")
    [other] = begin(up, 5000)
    waits(up, other, "review")
    over, unknown = up.run_all(
        f"flows signal {flow} bank settled --message-id 2 --json",
        f"flows signal {other} bank lost --json",
    )
    cancelled, gone, none = up.run_all(
        f"flows cancel {other}", f"flows cancel {flow}", f"flows cancel {uuid.uuid4()}"
    )
    assert over.document()["outcome"] == "flow_ended"
    assert unknown.document()["outcome"] == "unknown_event"
    assert unknown.document()["message_id"]
    assert [(c.code, c.out.strip()) for c in (cancelled, gone, none)] == [
        (0, "cancelled"), (0, "ended"), (1, "flow_not_found"),
    ]  # fmt: skip
    [late] = begin(up, 5)
    waits(up, late, "signal bank")
    assert up.run("flows", "cancel", late).out.strip() == "too_late"
    without = up.run("flows", "signal", "-", given=json_lines({"flow": flow, "name": "bank"}))
    assert without.code == 1, "a message id is required in lines"


def test_review_list_approve_refuse_and_decide(up: Up) -> None:
    approved, refused, decided = begin(up, 5001, 5002, 5003)
    for flow in (approved, refused, decided):
        waits(up, flow, "review")
    [reviews] = up.run("review", "list", "--json").lines()
    mine = {row["id"]: row for row in reviews}
    keys = {"id", "seq", "question", "answers", "asked_at", "due_at", "started_by"}
    assert keys <= set(mine[approved])
    assert (mine[approved]["question"], mine[approved]["started_by"]) == ("large payout", "ann")
    assert sorted(mine[approved]["answers"]) == ["approved", "refused"]
    starter = up.run("review", "approve", approved, "--by", "ann")
    assert (starter.code, starter.out.strip()) == (1, "not_by_starter")
    results = up.run_all(
        f"review approve {approved} --by ben", f"review refuse {refused} --by ben --reason much",
        f"review decide {decided} refused --by ben --seq {mine[decided]['seq']}",
    )  # fmt: skip
    assert [(c.code, c.out.strip()) for c in results] == [(0, "decided")] * 3
    waits(up, approved, "signal bank")
    assert waits(up, refused, None)["end"] == "not paid"
    again = up.run("review", "approve", refused, "--by", "cid", "--json")
    assert (again.code, again.document()["outcome"]) == (1, "already_decided")


def test_resolve_and_resume_say_what_became_of_a_stopped_flow(up: Up) -> None:
    done, unknown = begin(up, 1, 3, name="asking")
    assert waits(up, done, None)["end"] == "done"
    waits(up, unknown, "review")
    resume = up.run("flows", "resume", unknown)
    event = up.run("flows", "resolve", unknown, "maybe", "--by", "ben", "--reason", "no")
    resolved = up.run("flows", "resolve", unknown, "yes", "--by", "ben", "--reason", "called")
    assert (resume.code, resume.out.strip()) == (1, "not_stopped")
    assert (event.code, event.out.strip()) == (1, "unknown_event")
    assert (resolved.code, resolved.out.strip()) == (0, "resolved")
    assert waits(up, unknown, None)["end"] == "done"


def test_schedule_add_list_and_remove(up: Up) -> None:
    schedule = str(uuid.uuid4())
    line = up.write("line.json", json.dumps({"wallet": "wallet", "amount": 5}))
    words = ("flows", "schedule", "add", schedule, "payout", line, "--rule", "30 2 * 3,10 7L")
    zone = ("--timezone", "Europe/Berlin")
    assert up.run(*words, *zone).out.strip() == "created"
    assert up.run(*words, *zone).out.strip() == "exists"
    [row] = up.run("flows", "schedule", "list", "--json").lines()
    assert (row["id"], row["rule"], row["timezone"]) == (schedule, "30 2 * 3,10 7L", zone[1])
    assert up.run(*words, "--timezone", "UTC").code == 1
    removed, again = up.run_all(*[f"flows schedule remove {schedule}"] * 2)
    assert sorted([removed.code, again.code]) == [0, 1]


def test_start_at_waits_for_its_time(up: Up) -> None:
    item = {"id": str(uuid.uuid4()), "wallet": "wallet", "amount": 5}
    words = ("flows", "start", "payout", "-", "--start-at", "2199-01-01T00:00:00Z")
    assert up.run(*words, given=json_lines(item)).lines()[0]["outcome"] == "created"
    found = waits(up, item["id"], "timer")
    assert found["state"] == "running"
    assert up.run("flows", "cancel", item["id"]).out.strip() == "cancelled"


def test_without_a_worker_a_command_says_so_and_exits_1(servers: Servers, tmp_path: Path) -> None:
    addresses = {
        "ENGINE_POSTGRES_DSN": servers.postgres.dsn,
        "ENGINE_REDIS_URL": servers.valkey.url,
    }
    Ended(start([*ENGINE, "init"], tmp_path, **addresses))
    words = ["flows", "signal", str(uuid.uuid4()), "bank", "settled", "--timeout", "0.5"]
    waited = Ended(start([*ENGINE, *words], tmp_path, **addresses))
    assert waited.code == 1
    assert "Sending the same again is safe" in waited.err
