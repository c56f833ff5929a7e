"""The commands of somebody who was woken up: what they print for programs, and how they end."""

import asyncio
import json
import os
import sys
import uuid
from typing import Any

from tests.desks import A, Desk, desk_over, transfer
from tests.ledgers import Ledger


async def engine(ledger: Ledger, *words: str, given: bytes = b"") -> tuple[int, str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ENGINE_")} | {
        "ENGINE_POSTGRES_DSN": ledger.dsn,
        "ENGINE_REDIS_URL": ledger.redis_url,
        "ENGINE_PREFIX": ledger.prefix,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine.commands.main", *words,
        env=environment, stdin=-1, stdout=-1, stderr=-1,
    )  # fmt: skip
    out, err = await process.communicate(given)
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


async def one_dead_letter(desk: Desk) -> None:
    await desk.redis.xadd(desk.stream(), {"json": json.dumps(transfer() | {"amount": "1.00"})})
    await desk.drained()


async def test_where_says_by_its_end_whether_it_was_found(ledger: Ledger) -> None:
    made = transfer()
    async with desk_over(ledger) as desk, ledger.working():
        await desk.send([made])
        await desk.answers(1)
        code, out, _ = await engine(ledger, "where", made["id"], "--json")
        [life] = lines(out)
        assert code == 0
        assert (life["kind"], life["state"], life["outcome"]) == ("transfer", "created", "created")
        wanted = {"id", "kind", "state", "outcome", "why", "stream", "entry", "worker", "flush",
                  "posted_at", "postings"}  # fmt: skip
        assert wanted <= life.keys()
        code, out, _ = await engine(ledger, "where", str(uuid.uuid4()), "--json")
        assert (code, lines(out)[0]["state"]) == (1, "unseen")
        code, out, _ = await engine(ledger, "where", A)
        assert code == 0
        assert f"account {A}" in out
        assert (await engine(ledger, "where"))[0] == 2


async def test_doctor_ends_with_one_where_something_is_urgent(ledger: Ledger) -> None:
    code, out, _ = await engine(ledger, "doctor", "--json")
    [found] = lines(out)
    assert code == 1
    assert found["findings"][0]["severity"] == "urgent"
    assert {"severity", "finding", "command"} <= found["findings"][0].keys()
    async with ledger.working():
        code, out, _ = await engine(ledger, "doctor")
    assert code == 0, out


async def test_events_are_told_since_when_they_are_asked_for(ledger: Ledger) -> None:
    async with ledger.working():
        code, out, _ = await engine(ledger, "events", "--since", "10m", "--json")
    assert code == 0
    assert "shards_claimed" in [event["event"] for event in lines(out)]
    assert all({"time", "event", "what"} <= event.keys() for event in lines(out))
    assert (await engine(ledger, "events", "--since", "yesterday"))[0] == 2


async def test_letters_are_repaired_by_what_show_printed(ledger: Ledger, tmp_path: Any) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await one_dead_letter(desk)
        _, out, _ = await engine(ledger, "letters", "list", "--json")
        [listed] = lines(out)
        assert {"letter", "reason", "received_at", "state"} <= listed.keys()
        name = listed["letter"]
        code, _, err = await engine(ledger, "letters", "resend", name)
        assert code == 1
        assert "dead letter again" in err
        _, payload, _ = await engine(ledger, "letters", "show", name, "--payload")
        fixed = tmp_path / "fixed.json"
        fixed.write_text(payload.replace('"1.00"', "100"))
        code, out, _ = await engine(ledger, "letters", "resend", name, str(fixed), "--json")
        assert (code, lines(out)[0]["state"]) == (0, "resent")
        await desk.drained()
        assert await desk.count() == 1
        [shown] = lines((await engine(ledger, "letters", "show", name, "--json"))[1])
        assert shown["state"] == "resent"
        assert (await engine(ledger, "letters", "dismiss", name))[0] == 2
        assert (await engine(ledger, "letters", "dismiss", name, "--reason", "x"))[0] == 1
        assert (await engine(ledger, "letters", "show", "7"))[0] == 1


async def test_help_of_each_has_an_example(ledger: Ledger) -> None:
    for words in (["where"], ["doctor"], ["events"], ["letters", "list"], ["letters", "show"],
                  ["letters", "resend"], ["letters", "dismiss"]):  # fmt: skip
        code, out, _ = await engine(ledger, *words, "--help")
        assert code == 0
        assert "Example: engine " + " ".join(words) in " ".join(out.split()), words
