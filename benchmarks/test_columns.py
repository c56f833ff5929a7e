"""Decoding, deciding and encoding by themselves, each beside its plain twin; no servers.

Each call handles one full entry of 8,189 transfers over 10,000 accounts with limits; the
answers are checked. Not part of the ordinary test run.

    python -m pytest benchmarks/test_columns.py
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.baseline import new_book
from benchmarks.workload import BATCH, declined, fund, make_accounts, uniform
from engine.book.book import Book
from engine.book.columns import Decision
from engine.book.postings import post_decisions
from engine.deciding.batch import Batch
from engine.deciding.decider import Decider
from engine.deciding.missing import Found
from engine.ledger.page import Page
from engine.ledger.rules import decide_batch
from engine.store.flush_copies import copies_of
from engine.wire.layout import Rows, rows_to_transfers
from engine.wire.payloads import read_bin, read_json, read_mp

ACCOUNTS = make_accounts(10_000)
ROUNDS = 20


def funded_book() -> Book:
    book = new_book(ACCOUNTS, range(1, len(ACCOUNTS.ids) + 1), limited=True)
    decide(book, fund(ACCOUNTS).rows)
    return book


def decide(book: Book, rows: Rows) -> Decision:
    """Decide, note, and begin the next flush."""
    deciding = Decider(book, Batch([rows], [0]), [], 1)
    while (needs := deciding.advance()) is not None:
        deciding.supply(Found(ids=needs.ids))
    decided = deciding.finish_batch()
    book.begin_flush()
    book.end_flush()
    return decided


def as_mappings(rows: Rows) -> list[dict[str, Any]]:
    names = ("id", "debit_account_id", "credit_account_id")
    return [
        {**{name: getattr(t, name) for name in names}, "amount": t.amount, "ledger": 1, "code": 1}
        for t in rows_to_transfers(rows)
    ]


def as_json(rows: Rows) -> bytes:
    mappings = as_mappings(rows)
    for one in mappings:
        for name, value in one.items():
            if isinstance(value, bytes):
                text = value.hex()
                one[name] = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    return msgspec.json.encode(mappings)


READERS: dict[str, tuple[Callable[[bytes], Rows], Callable[[Rows], bytes]]] = {
    "bin": (read_bin, lambda rows: rows.tobytes()),
    "mp": (read_mp, lambda rows: msgspec.msgpack.encode(as_mappings(rows))),
    "json": (read_json, as_json),
}


@pytest.mark.benchmark(group="decode 8,189 transfers")
@pytest.mark.parametrize("form", READERS)
def test_decode(benchmark, form):
    read, write = READERS[form]
    rows = uniform(ACCOUNTS, BATCH).rows
    made = benchmark.pedantic(read, (write(rows),), rounds=ROUNDS, warmup_rounds=2)
    assert made.tobytes() == rows.tobytes()


@pytest.mark.benchmark(group="decide 8,189 transfers")
@pytest.mark.parametrize("draw", [uniform, declined], ids=["plain", "1% declined"])
def test_decide_in_columns(benchmark, draw):
    book = funded_book()
    seeds = iter(range(100, 100 + 10 * ROUNDS))
    batches = []

    def setup() -> tuple[tuple[Book, Rows], dict[str, Any]]:
        batches.append(draw(ACCOUNTS, BATCH, seed=next(seeds)))
        return (book, batches[-1].rows), {}

    decided = benchmark.pedantic(decide, setup=setup, rounds=ROUNDS, warmup_rounds=2)
    assert ((decided.outcomes == 0) == batches[-1].created).all()


@pytest.mark.benchmark(group="decide 8,189 transfers")
def test_decide_by_the_rules(benchmark):
    book = funded_book()
    requests = rows_to_transfers(uniform(ACCOUNTS, BATCH, seed=99).rows)
    accounts = book.accounts_at(np.arange(book.accounts))

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        page = Page({one.id: msgspec.structs.replace(one) for one in accounts}, {})
        return (page, requests, 0, 1), {}

    outcomes = benchmark.pedantic(decide_batch, setup=setup, rounds=5)
    assert not any(outcomes)


@pytest.mark.benchmark(group="encode 8,189 transfers")
def test_encode_postings_and_copies(benchmark):
    book = funded_book()
    decided = decide(book, uniform(ACCOUNTS, BATCH, seed=98).rows)

    def encode() -> list[Any]:
        return copies_of([decided], post_decisions(book, [decided]), 7)

    copies = benchmark.pedantic(encode, rounds=ROUNDS, warmup_rounds=2)
    assert [table for table, _ in copies] == ["spent", "posted"]
    posted = post_decisions(book, [decided])
    runs, several = len(posted.ends), int((posted.ends - posted.starts > 1).sum())
    a_run = 2 + 10 * 4 + 6 * 8 + 16 + 4  # without what of holds is zero
    beside_the_last = (4 + 16) + (4 + 8)
    wanted = runs * a_run + 2 * 20 * several + (2 * BATCH - runs) * beside_the_last
    assert sum(map(len, copies[1][1].pieces)) == 19 + wanted + 2
