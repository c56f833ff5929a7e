"""What is said of flushes, and that none leaves that makes or loses money."""

from typing import Any

import pytest

from engine.book.book import Book
from engine.book.columns import Decision, Postings
from engine.book.postings import post_decisions
from engine.ledger.outcomes import Outcome
from engine.worker import chain, locked_flush
from engine.worker.flush_report import FlushReport
from tests.simulation.locking import unique_violation
from tests.simulation.scenes import DEBIT_LIMIT, Scene, scenario


@scenario(shard_count=2)
async def test_each_committed_flush_is_reported_to_whoever_subscribed(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    limited, away = scene.account(0, DEBIT_LIMIT), scene.account(1, DEBIT_LIMIT)
    reports: list[FlushReport] = []
    worker = await scene.worker("worker", [0])
    await scene.worker("other", [1])
    worker.worker.subscribe(reports.append)
    await scene.ask(0, scene.transfer(a, b, 5), scene.transfer(limited, b, 5))
    await scene.ask(0, scene.transfer(a, b, 1, "pending", timeout=1))
    scene.log.run("XADD", "engine:transfers:{0000}", "*", "json", "no transfer")
    await scene.until(lambda: scene.count("dead_letters") == 1, "the dead letter")
    await scene.ask(0, scene.transfer(away, b, 1))
    await scene.until(lambda: scene.count("resolutions") == 1, "the hold to expire")
    await scene.until(lambda: sum(one.expiries for one in reports), "its report")

    first, hold, letter, *rest = reports
    assert first.outcomes == {Outcome.created: 1, Outcome.exceeds_credits: 1}
    assert (first.created, first.refused, first.postings, first.entries) == (1, 1, 2, 1)
    assert first.transfers_by_shard == {0: 2}
    assert (hold.outcomes, hold.transfers_by_shard) == ({Outcome.created: 1}, {0: 1})
    assert (letter.dead_letters, letter.entries, letter.outcomes) == (1, 1, {})
    assert sorted(one.kind for one in rest) == ["flush", "locked"]
    assert [one.sequence for one in reports] == sorted({one.sequence for one in reports})
    assert all(one.commit_seconds > 0 for one in reports)
    assert scene.count("flushes", kind="flush") == sum(not one.is_locked for one in reports)
    assert worker.worker.statistics.flushes == len(reports)


@scenario(shard_count=1)
async def test_a_report_counts_the_conflicts_before_the_flush(scene: Scene) -> None:
    a, b = scene.account(0), scene.account(0)
    reports: list[FlushReport] = []
    worker = await scene.worker("worker")
    worker.worker.subscribe(reports.append)
    refusals = [unique_violation("spent_pkey", "spent")]

    def trigger(statement: str, _: Any) -> None:
        if statement == "flush_one" and refusals:
            raise refusals.pop()

    scene.database.triggers.append(trigger)
    assert await scene.ask(0, scene.transfer(a, b, 1)) == ["created"]
    assert [report.conflicts for report in reports] == [1]


def test_money_that_is_made_is_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever path a flush goes to Postgres, and whatever is wrong with the book."""

    def posted_wrong(book: Book, decided: list[Decision]) -> Postings:
        posted = post_decisions(book, decided)
        if len(posted):
            posted.amount[0] += 1
        return posted

    for debit_shard in (0, 1):  # decided alone, and under lock

        @scenario(shard_count=2)
        async def play(scene: Scene, shard: int = debit_shard) -> None:
            debit, credit = scene.account(shard), scene.account(0)
            await scene.worker("worker", [0])
            await scene.worker("other", [1])
            for module in (chain, locked_flush):
                monkeypatch.setattr(module, "post_decisions", posted_wrong)
            await scene.push(0, scene.transfer(debit, credit, 1))
            scene.may_set_aside = True
            await scene.until(lambda: scene.count("dead_letters"), "the dead letter")
            assert scene.count("posted") == 0

        try:
            play()
        finally:
            monkeypatch.undo()
