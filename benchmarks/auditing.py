"""Whether the ledger holds exactly what was sent: no benchmark counts whose result is wrong."""

from collections.abc import Sequence

import asyncpg
import numpy as np

from benchmarks.workload import Accounts, Transfers
from engine.store.copy import encode_copy, send_copy

_EXPECTED = "CREATE TEMP TABLE expected (id uuid NOT NULL, balance bigint NOT NULL)"

_IDS = """
SELECT count(*) FILTER (WHERE outcome = 0) AS created,
       count(*) FILTER (WHERE outcome <> 0) AS declined
FROM ledger.spent
"""

_POSTINGS = """
WITH stripes AS (
    SELECT stripe >> 10 AS account, count(*) AS postings, min(version) AS first,
           max(version) AS last, sum(version) AS versions,
           sum(amount)::bigint AS balance, sum(pending_amount)::bigint AS pending
    FROM {legs} GROUP BY stripe),
balances AS (
    SELECT account, sum(balance) AS balance, sum(pending) AS pending
    FROM stripes GROUP BY account)
SELECT (SELECT sum(postings) FROM stripes) AS postings,
       (SELECT sum(balance) FROM balances) AS total,
       (SELECT count(*) FROM stripes
        WHERE first <> 1 OR last <> postings OR versions <> postings * (postings + 1) / 2) AS gaps,
       (SELECT count(*) FROM expected e JOIN ledger.accounts a ON a.id = e.id
        LEFT JOIN balances b ON b.account = a.number
        WHERE coalesce(b.balance, 0) <> e.balance OR coalesce(b.pending, 0) <> 0) AS wrong
"""


async def audit(dsn: str, accounts: Accounts, sent: Sequence[Transfers]) -> list[str]:
    """What does not add up, in words: ids, postings, versions, and the balance of every account.

    Holds are expected to be resolved.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_EXPECTED)
        columns = [("id", "uuid", accounts.ids), ("balance", "i8", balances(accounts, sent))]
        copy = encode_copy(columns, len(accounts.ids))

        await send_copy(connection, "expected", copy, schema=None)
        ids = await connection.fetchrow(_IDS)
        # A program before there were legs wrote a row a posting.
        has_legs = await connection.fetchval("SELECT to_regclass('ledger.legs') IS NOT NULL")
        legs = "ledger.legs" if has_legs else "ledger.posted"
        found = await connection.fetchrow(_POSTINGS.format(legs=legs))
    finally:
        await connection.close()
    created = sum(int(one.created.sum()) for one in sent)
    refused = sum(len(one.created) for one in sent) - created
    faults = []
    if (ids["created"], ids["declined"]) != (created, refused):
        faults.append(
            f"{ids['created']:,} transfers are created and {ids['declined']:,} declined,"
            f" not {created:,} and {refused:,}"
        )
    if (found["postings"] or 0) != 2 * created:
        faults.append(f"{found['postings'] or 0:,} postings are kept, not {2 * created:,}")
    if found["total"]:
        faults.append(f"all postings sum to {found['total']:,}, not to nothing")
    if found["gaps"]:
        faults.append(f"{found['gaps']:,} stripes have versions that are not 1, 2, 3, ...")
    if found["wrong"]:
        faults.append(f"{found['wrong']:,} balances are not what the transfers add up to")
    return faults


def balances(accounts: Accounts, sent: Sequence[Transfers]) -> np.ndarray:
    """What each account must have, by its place."""
    sums = np.zeros(len(accounts.ids), np.int64)
    for one in sent:
        np.subtract.at(sums, one.debit, one.moved)
        np.add.at(sums, one.credit, one.moved)
    return sums
