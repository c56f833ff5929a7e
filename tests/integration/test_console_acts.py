"""What is done from the console: after a yes, once, with who did it."""

import json
import re
import uuid
from http import HTTPStatus

import pytest

from engine.store.freezes import read_frozen
from tests.desks import A, desk_over, transfer
from tests.ledgers import Ledger, until
from tests.visitors import spoilt, text_of, visiting


async def test_a_freeze_and_a_thaw_after_a_yes_with_who_did_it(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working(), visiting(ledger) as visitor:
        asked = {"kind": "account", "what": A, "how": "wait", "reason": "case 7"}
        first = await visitor.post("/acts/freeze", **asked)
        assert f"Freeze account {A}" in text_of(first.text)
        assert await read_frozen(ledger.dsn) == []
        page = text_of(await visitor.act("freeze", **asked, by="ann"))
        assert f"account {A} is frozen." in page
        [frozen] = await read_frozen(ledger.dsn)
        assert (frozen.what, frozen.by, frozen.reason) == (A, "ann", "case 7")
        made = transfer()
        await desk.send([made])
        await desk.drained()
        life = text_of(await visitor.see(f"/where?id={made['id']}"))
        assert f"Frozen account {A}" in life
        assert "by ann: case 7" in life
        again = await visitor.post("/acts/freeze", **asked, by="ann", sure="yes")
        assert again.status == HTTPStatus.BAD_REQUEST
        assert "is frozen already" in text_of(again.text)
        await visitor.act("thaw", kind="account", what=A, reason="closed", by="ann")
        await desk.answers(1)
        events = text_of(await visitor.see("/events"))
        assert "frozen account" in events
        assert "thawed account" in events


async def test_a_letter_is_sent_again_repaired_or_dismissed(ledger: Ledger) -> None:
    good = transfer()
    async with desk_over(ledger) as desk, ledger.working(), visiting(ledger) as visitor:
        letter = await spoilt(desk, json=json.dumps([good | {"amount": "much"}]))
        page = await visitor.see(f"/letters/{letter}")
        assert "much" in text_of(page)
        as_it_was = await visitor.post("/acts/resend", letter=letter, by="ann", sure="yes")
        assert as_it_was.status == HTTPStatus.BAD_REQUEST
        assert "would be a dead letter again" in text_of(as_it_was.text)
        repaired = json.dumps([good], indent=1)
        page = await visitor.act("resend", letter=letter, repaired=repaired, by="ann")
        assert f"{letter} is sent again" in text_of(page)
        await desk.drained()
        assert await desk.count() == 1
        other = await spoilt(desk, json="{")
        await visitor.act("dismiss", letter=other, reason="a test", by="bob")
        dismissed = text_of(await visitor.see("/letters?state=dismissed"))
        assert other in dismissed
        assert "No dead letters are open." in text_of(await visitor.see("/letters"))
    acts = await ledger.sql("SELECT kind, acted_by FROM ledger.letter_acts ORDER BY act")
    assert [tuple(act) for act in acts] == [("resent", "ann"), ("dismissed", "bob")]


async def test_a_plan_is_drawn_and_applied_and_none_is_aborted_that_is_over(ledger: Ledger) -> None:
    workers = [ledger.worker(), ledger.worker()]
    async with ledger.working(*workers), visiting(ledger) as visitor:
        await until(lambda: all(len(worker.owned) == 8 for worker in workers), "both to own some")

        async def drawn() -> str | None:
            # The workers measure themselves, now and then, that they have nothing to do.
            await ledger.sql(
                "INSERT INTO ledger.loads (shard, worker, transfers_per_second)"
                " SELECT shard, worker, 1000 FROM ledger.owners WHERE worker = $1"
                " ON CONFLICT (shard) DO UPDATE SET worker = excluded.worker,"
                " transfers_per_second = 1000, measured_at = clock_timestamp()",
                uuid.UUID(bytes=workers[0].store.worker),
            )
            page = await visitor.see("/plans/new")
            found = re.search(r'name="plan" value="([^"]+)"', page)
            return None if found is None else found[1]

        plan = await until(drawn, "a plan with moves")
        done = text_of(await visitor.act("apply", plan=plan, by="ann"))
        assert f"Plan {plan[:8]} is being applied." in done

        async def over() -> str | None:
            page = text_of(await visitor.see("/plans"))
            return page if f"{plan[:8]} done" in page else None

        assert re.search(r" ann .* [1-9]\d* done", await until(over, "the plan to be over"))
        gone = await visitor.post("/acts/abort", plan=plan, by="ann", sure="yes")
        assert gone.status == HTTPStatus.BAD_REQUEST
        assert "it was over already" in text_of(gone.text)
        forgotten = await visitor.post("/acts/apply", plan=str(uuid.uuid4()))
        assert "this plan is forgotten" in text_of(forgotten.text)
    [row] = await ledger.sql("SELECT applied_by, state FROM ledger.plans")
    assert tuple(row) == ("ann", "done")


async def test_a_plan_whose_command_died_is_aborted(ledger: Ledger) -> None:
    plan = str(uuid.uuid4())
    await ledger.sql(
        "INSERT INTO ledger.plans (plan, document, applied_by) VALUES ($1, '{}', 'bob')", plan
    )
    async with visiting(ledger) as visitor:
        assert f"Abort {plan[:8]}" in text_of(await visitor.see("/plans"))
        done = text_of(await visitor.act("abort", plan=plan, by="ann"))
        assert f"Plan {plan[:8]} is aborted." in done
    [row] = await ledger.sql("SELECT state, why FROM ledger.plans")
    assert tuple(row) == ("aborted", "aborted by ann")


@pytest.mark.parametrize("by", ["", " ", "x" * 201])
async def test_nothing_is_done_by_nobody(ledger: Ledger, by: str) -> None:
    async with ledger.working(), visiting(ledger) as visitor:
        answer = await visitor.post(
            "/acts/freeze", kind="shard", what="0", reason="x", by=by, sure="yes"
        )
        assert answer.status == HTTPStatus.BAD_REQUEST
        plan = str(uuid.uuid4())
        await ledger.sql(
            "INSERT INTO ledger.plans (plan, document, applied_by) VALUES ($1, '{}', 'bob')", plan
        )
        answer = await visitor.post("/acts/abort", plan=plan, by=by, sure="yes")
        assert answer.status == HTTPStatus.BAD_REQUEST
    assert await read_frozen(ledger.dsn) == []
    [row] = await ledger.sql("SELECT state FROM ledger.plans")
    assert row["state"] == "applying"
