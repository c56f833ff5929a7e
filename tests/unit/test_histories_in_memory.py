"""Every history recorded from TigerBeetle replays exactly on the book and the rules alone."""

import pytest

from engine.ledger.nouns import MICROSECONDS
from engine.ledger.outcomes import Outcome
from engine.ledger.page import Account, HoldStatus, Page
from engine.ledger.rules import decide_batch, expire_hold
from tests.histories import (
    History,
    account_flags,
    as_stored,
    as_transfer,
    id_bytes,
    load_histories,
)

HISTORIES = load_histories()


def expire_due(page: Page, time: int) -> None:
    """Let the holds lapse whose time has come."""
    for known in list(page.spent.values()):
        if known.status is HoldStatus.pending and 0 < known.expires_at <= time:
            expire_hold(page, known)


@pytest.mark.parametrize("history", HISTORIES, ids=lambda h: h.name)
def test_history_replays_exactly(history: History) -> None:
    accounts = {}
    for number, account in enumerate(history.accounts, 1):
        if account["outcome"] == "created":
            flags = account_flags(account["flags"])
            accounts[id_bytes(account["id"])] = Account(
                id_bytes(account["id"]), number, account["ledger"], account["code"], flags
            )
    page = Page(accounts, {})
    time = 1_700_000_000 * MICROSECONDS
    for index, batch in enumerate(history.batches):
        time += int(history.waits.get(str(index), 0) * MICROSECONDS) + 1000
        expire_due(page, time)
        outcomes = decide_batch(page, [as_transfer(event) for event in batch], 0, time)
        assert [o.name for o in outcomes] == [event["outcome"] for event in batch], index
    expire_due(page, time + int(history.wait_before_balances * MICROSECONDS))

    for account_id, expected in history.balances.items():
        account = page.account(id_bytes(account_id))
        assert account is not None
        actual = {name: getattr(account, name) for name in expected}
        assert actual == expected, account_id
    stored = {
        known.transfer.id: as_stored(known.transfer)
        for known in page.spent.values()
        if known.outcome is Outcome.created
    }
    assert stored == {id_bytes(k): v for k, v in history.stored.items()}
