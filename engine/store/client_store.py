"""The ledger as producers use it: accounts created, and everything looked up.

Only what the public contract promises is read, so that how rows are kept may change.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import asyncpg

from engine.errors import CommitInDoubtError, TryAgainError
from engine.ledger.freezes import WaitingForThaw
from engine.ledger.nouns import ID_ZERO, NewAccount
from engine.ledger.outcomes import Outcome
from engine.patience import within
from engine.store.driver import connect
from engine.store.driver_errors import check_written, is_connection_lost, translated
from engine.store.lookups import (
    EPOCH,
    Account,
    Posting,
    StoredTransfer,
    account_of,
    new_account_of,
    posting_of,
    transfer_of,
)
from engine.store.statements import statement

CONNECTIONS_MAX: Final = 4
"""Of one client; further calls wait for one."""

RETRY_SECONDS: Final = 0.05
"""Between attempts to reach a Postgres that is away."""

_IN_DOUBT: Final = (
    "while it created the accounts: they are there, or none is; create the same again, and those "
    "that are there are answered `exists`"
)

_T = TypeVar("_T")


class ClientStore:
    """A producer's door to Postgres: a few connections, made when they are needed.

    Args:
        dsn: The Postgres server and database.
        seconds_max: For each call, the wait for a connection included.
    """

    def __init__(self, dsn: str, seconds_max: float) -> None:
        self._dsn = dsn
        self._seconds_max = seconds_max
        self._idle: list[asyncpg.Connection] = []
        self._is_closed = False
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)

    async def close(self) -> None:
        """Close the connections that are not in use; those that are, once they are not."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.terminate()

    async def _call(self, what: str, work: Callable[[asyncpg.Connection], Awaitable[_T]]) -> _T:
        """Do something that is safe to repeat, again while Postgres is away, within the limit."""
        trouble = ""
        try:
            async with within(self._seconds_max), self._free:
                while True:
                    try:
                        return await self._on_connection(work)
                    except CommitInDoubtError:
                        raise
                    except TryAgainError as error:
                        trouble = f": {error}"
                        await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError as error:
            raise TryAgainError(
                f"Postgres did not {what} within {self._seconds_max:g} s{trouble}; try again"
            ) from error

    async def _on_connection(self, work: Callable[[asyncpg.Connection], Awaitable[_T]]) -> _T:
        """Use an idle connection or a new one; it is cut when the work fails half-way."""
        connection: asyncpg.Connection | None = None
        while self._idle and (connection is None or connection.is_closed()):
            connection = self._idle.pop()
        if connection is None or connection.is_closed():
            connection = await connect(self._dsn, "engine client", statement_seconds_max=None)
        try:
            with translated():
                result = await work(connection)
        except BaseException:
            connection.terminate()
            raise
        if self._is_closed:
            connection.terminate()
        else:
            self._idle.append(connection)
        return result

    async def _fetch(self, what: str, query: str, *args: Any) -> list[asyncpg.Record]:
        async def work(connection: asyncpg.Connection) -> list[asyncpg.Record]:
            rows: list[asyncpg.Record] = await connection.fetch(statement(query), *args)
            return rows

        return await self._call(what, work)

    async def shard_count(self) -> int:
        """Into how many shards the ledger is cut. Raises as `connect`."""

        async def work(connection: asyncpg.Connection) -> int:
            count: int = await connection.fetchval("SELECT shard_count FROM ledger.settings")
            return count

        return await self._call("tell the number of shards", work)

    async def ledger_identity(self) -> bytes:
        """Which ledger this is: 16 bytes, made with it. Raises as `connect`."""
        [row] = await self._fetch("tell which ledger it is", "ledger_identity")
        identity: bytes = row["identity"]
        return identity

    async def create_accounts(
        self, wanted: Sequence[NewAccount], ids: Sequence[bytes]
    ) -> tuple[set[bytes], dict[bytes, NewAccount]]:
        """Insert what is free of `wanted`, then read what is there, in one transaction.

        Args:
            wanted: One account an id, each valid by itself.
            ids: Of all accounts that are asked about.

        Returns:
            The ids created now, and all of `ids` that exist, as they were created.

        Raises:
            CommitInDoubtError: Whether they were created is not known.
            ConfigurationError: Something in the database drops or alters them; none was created.
            TryAgainError: Postgres is out of reach; none was created.
        """
        # Sorted, so that two calls with the same ids queue and never deadlock.
        new = sorted(wanted, key=lambda account: account.id)

        is_in_doubt = False

        async def work(
            connection: asyncpg.Connection,
        ) -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
            transaction = connection.transaction()
            await transaction.start()
            created = await connection.fetch(
                statement("client_create_accounts"),
                [a.id for a in new],
                [a.ledger for a in new],
                [a.code for a in new],
                [a.flags for a in new],
                [a.name for a in new],
                [a.user_data_128 if a.user_data_128 != ID_ZERO else None for a in new],
                [a.user_data_64 for a in new],
                [a.user_data_32 for a in new],
            )
            # The next statement: it sees what others committed while we waited for them.
            rows = await connection.fetch(statement("client_accounts"), list(set(ids)))
            _check_created(new, {row["id"] for row in created}, rows)
            nonlocal is_in_doubt
            is_in_doubt = True
            try:
                await transaction.commit()
            except Exception as error:
                if is_connection_lost(error):
                    raise CommitInDoubtError(f"Postgres was lost {_IN_DOUBT}") from error
                is_in_doubt = False
                raise
            return created, rows

        try:
            created, rows = await self._call("create the accounts", work)
        except CommitInDoubtError:
            raise
        except TryAgainError as error:
            if is_in_doubt:
                raise CommitInDoubtError(f"Postgres did not answer {_IN_DOUBT}") from error
            raise
        return {row["id"] for row in created}, {row["id"]: new_account_of(row) for row in rows}

    async def lookup_accounts(self, ids: Sequence[bytes]) -> list[Account]:
        """Accounts with their counters, in one snapshot; ids that are none are left out."""
        rows = await self._fetch("look up the accounts", "client_balances", ids)
        return [account_of(row) for row in rows]

    async def lookup_transfers(self, ids: Sequence[bytes]) -> list[StoredTransfer]:
        """Created transfers; ids that are none are left out."""
        rows = await self._fetch("look up the transfers", "client_transfers", ids)
        return [transfer_of(row) for row in rows]

    async def account_history(
        self, account_id: bytes, limit: int, before: datetime | Posting | None
    ) -> list[Posting]:
        """The last postings of an account, newest first, all before a time or a posting."""
        time = number = None
        if isinstance(before, Posting):
            number = before.number
        elif before is not None:
            time = (before - EPOCH) // timedelta(microseconds=1)
        rows = await self._fetch(
            "read the history", "client_history", account_id, limit, time, number
        )
        return [posting_of(row) for row in rows]

    async def waiting(self, ids: Sequence[bytes]) -> dict[bytes, WaitingForThaw]:
        """Those of some ids that wait for a thaw, and the freeze that each waits for."""
        rows = await self._fetch("look up what waits", "client_waiting", ids)
        return {
            row["id"]: WaitingForThaw(row["kind"], row["what"], row["acted_by"], row["reason"])
            for row in rows
        }

    async def outcomes(self, ids: Sequence[bytes]) -> dict[bytes, tuple[Outcome, int]]:
        """What became of ids, and when (microseconds since 1970); free ids are left out."""
        rows = await self._fetch("look up the outcomes", "client_outcomes", ids)
        return {row["id"]: (Outcome[row["outcome"]], row["time"]) for row in rows}


def _check_created(
    wanted: Sequence[NewAccount], created: set[bytes], rows: Sequence[asyncpg.Record]
) -> None:
    """Raises ConfigurationError where some are not there, or are others than were asked for."""
    there = {row["id"]: new_account_of(row) for row in rows}
    kept = [
        account
        for account in wanted
        if account.id in there and (account.id not in created or there[account.id] == account)
    ]
    check_written("ledger.accounts", len(wanted), len(kept))
