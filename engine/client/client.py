"""What a producer calls: transfers out, outcomes back, and looking things up."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Final, overload

import msgspec
import numpy as np

from engine.client.accounts import first_valid, judge
from engine.client.backpressure import Backpressure
from engine.client.batcher import OUTCOMES, Batcher
from engine.client.calls import Calls, Outcomes
from engine.client.delivery import Delivery
from engine.client.entry import OutgoingEntry
from engine.client.inputs import (
    AccountLike,
    Id,
    TransferLike,
    parse_accounts,
    parse_id,
    parse_ids,
    parse_transfer,
    parse_transfers,
    peek_home,
)
from engine.client.resends import ids_in_doubt, resend
from engine.client.routes import Routes
from engine.client.unanswered import explain_unanswered
from engine.errors import InputError, OutcomeUnknownError, TryAgainError
from engine.ledger.freezes import WaitingForThaw
from engine.ledger.nouns import TransferFlags
from engine.ledger.outcomes import AccountOutcome, Outcome
from engine.patience import Patience, within
from engine.store.client_store import ClientStore
from engine.store.lookups import Account, Posting, StoredTransfer
from engine.wire.layout import Rows, transfers_to_rows

HISTORY_ROWS_MAX: Final = 10_000
_LINKED: Final = int(TransferFlags.linked)


class ClientStatistics(msgspec.Struct, frozen=True):
    """What a client did since it was opened, and what is under way."""

    transfers: int
    """Answered."""
    entries: int
    resent: int
    reconnects: int
    in_flight: int
    """Entries."""
    queued: int
    """Single transfers that wait for the next entry."""


class Client:
    """Sends transfers and tells their outcomes. Made by `connect`; used by one event loop."""

    def __init__(
        self,
        store: ClientStore,
        routes: Routes,
        backpressure: Backpressure,
        delivery: Delivery,
        patience: Patience,
        timeout_seconds: float,
    ) -> None:
        self._store = store
        self._routes = routes
        self._backpressure = backpressure
        self._delivery = delivery
        self._patience = patience
        self._timeout_seconds = timeout_seconds
        self._calls = Calls(routes, backpressure, delivery, patience, timeout_seconds)
        self._batchers = [
            Batcher(shard, delivery, backpressure) for shard in range(routes.shard_count)
        ]

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The time in which it can be used."""
        await self._delivery.open(self._resend, self._expire)
        try:
            yield
        finally:
            for batcher in self._batchers:
                batcher.fail(TryAgainError("the client was closed before the transfer was sent"))
            await self._delivery.close()

    # Accounts.

    async def create_accounts(self, accounts: Sequence[AccountLike]) -> list[AccountOutcome]:
        """Create accounts in one transaction, and tell the outcome of each, in order.

        Creating the same again is safe, and answered `exists`.

        Args:
            accounts: Mappings with `id`, `ledger`, `code` and, if wanted, `flags` (a list of
                names), `name`, `user_data_128`, `user_data_64`, `user_data_32`; or structs.

        Raises:
            InputError: An account cannot be read; nothing was created.
            TryAgainError: Postgres is out of reach; whether they were created may be unknown.
        """
        wanted = parse_accounts(accounts)
        if not wanted:
            return []
        makers = [wanted[place] for place in first_valid(wanted).values()]
        created, existing = await self._store.create_accounts(makers, [a.id for a in wanted])
        return judge(wanted, created, existing)

    # Transfers.

    async def create_transfer(self, transfer: TransferLike) -> Outcome:
        """Send one transfer and wait for its outcome; many callers at once share entries.

        Raises:
            InputError: It cannot be read; nothing was sent.
            BackpressureError: Too much waits to be decided; nothing was sent.
            WaitsForThawError: Something is frozen that it needs: it will be decided.
            OutcomeUnknownError: No outcome within the time limit; it may still be created.
                Sending it again with the same id is safe, and tells.
            TryAgainError: It was not sent.
        """
        deadline = self._patience.time() + self._timeout_seconds
        try:
            if isinstance(transfer, dict) and (home := peek_home(transfer)) is not None:
                batcher = self._batchers[home & (self._routes.shard_count - 1)]
                return await batcher.add({**transfer}, deadline)
            parsed = parse_transfer(transfer)
            shard = self._routes.shard(parsed.debit_account_id, parsed.pending_id)
            if parsed.flags & _LINKED:  # In a shared entry it would be linked to a stranger's.
                return OUTCOMES[(await self._calls.deliver(shard, transfers_to_rows([parsed])))[0]]
            return await self._batchers[shard].add(parsed, deadline)
        except OutcomeUnknownError as error:
            ids = [parse_transfer(transfer).id]
            raise await explain_unanswered(self._store, ids, error) from error

    @overload
    async def create_transfers(
        self, transfers: Rows, *, ordered: bool = True, by_shard: bool = False
    ) -> Outcomes: ...

    @overload
    async def create_transfers(
        self, transfers: Sequence[TransferLike], *, ordered: bool = True, by_shard: bool = False
    ) -> list[Outcome]: ...

    async def create_transfers(
        self,
        transfers: Sequence[TransferLike] | Rows,
        *,
        ordered: bool = True,
        by_shard: bool = False,
    ) -> list[Outcome] | Outcomes:
        """Send transfers and wait for their outcomes, which come in the same order.

        Up to 8,189 transfers are one entry of the stream of the first one's shard, decided in
        order, with nothing in between. More are cut into entries between chains.

        Args:
            transfers: Mappings with the wire's names, structs, or an array of dtype
                `engine.wire.layout.TRANSFER`, whose outcomes are an array of numbers.
            ordered: Send each entry when the one before is answered, so that all transfers
                are decided in order. If not, several are under way, and whatever depends on
                an earlier transfer of the call may be decided before it.
            by_shard: Group the transfers by shard first, and send the shards at the same
                time; `ordered` then concerns the transfers of one shard. Much faster for
                large calls; only for transfers of which none depends on another's shard.

        Raises:
            InputError: A transfer cannot be read, or a chain is too long; nothing was sent.
            BackpressureError: Too much waits to be decided; nothing was sent.
            WaitsForThawError: As above, of some of them.
            OutcomeUnknownError: Not all outcomes came within the time limit; what was sent may
                still be created. Sending all again with the same ids is safe, and tells.
            TryAgainError: Nothing was sent, or the rest was not.
        """
        rows = parse_transfers(transfers)
        try:
            outcomes = await self._calls.send(rows, ordered=ordered, by_shard=by_shard)
        except OutcomeUnknownError as error:
            ids = rows["id"].tolist()
            raise await explain_unanswered(self._store, ids, error) from error
        if isinstance(transfers, np.ndarray):
            return outcomes
        return [OUTCOMES[number] for number in outcomes.tolist()]

    def _expire(self, now: float) -> None:
        for batcher in self._batchers:
            batcher.expire(now)

    async def _resend(self, outgoing: OutgoingEntry, outcomes: bytes) -> bytes:
        ids = ids_in_doubt(outgoing.rows, outcomes)
        kept = await self._store.outcomes(ids) if ids else {}
        return resend(outgoing.rows, outcomes, outgoing.first_sent, kept)

    # Looking things up, in Postgres.

    async def lookup_accounts(self, ids: Sequence[Id]) -> list[Account]:
        """Accounts with their balances, in the order asked for; ids that are none are left out.

        Raises: as `lookup_transfers`.
        """
        return await self._store.lookup_accounts(parse_ids(ids))

    async def lookup_transfers(self, ids: Sequence[Id]) -> list[StoredTransfer]:
        """Created transfers, in the order asked for; ids that are none are left out.

        Raises:
            InputError: An id cannot be read.
            TryAgainError: Postgres is out of reach.
        """
        return await self._store.lookup_transfers(parse_ids(ids))

    async def account_history(
        self, account_id: Id, limit: int = 100, *, before: datetime | Posting | None = None
    ) -> list[Posting]:
        """The last postings of an account, newest first.

        Args:
            account_id: The account; one that does not exist has no postings.
            limit: Most postings.
            before: Only postings before this time, which has a time zone, or before this posting:
                the last of a page leads to the next page. The postings of one flush have the same
                time.

        Raises:
            InputError: The id, the limit or the time cannot be read.
            TryAgainError: Postgres is out of reach.
        """
        if not 1 <= limit <= HISTORY_ROWS_MAX:
            raise InputError(f"Expected a limit from 1 to {HISTORY_ROWS_MAX}, got {limit}")
        if isinstance(before, datetime) and before.tzinfo is None:
            raise InputError("Expected a time with a time zone in `before`")
        return await self._store.account_history(parse_id(account_id), limit, before)

    async def outcome(self, transfer_id: Id) -> Outcome | WaitingForThaw | None:
        """What became of a transfer: `created`, why its id was spent, or None for a free id.

        Of one that waits for a thaw it is told what is frozen: it will be decided.

        Raises:
            InputError: The id cannot be read.
            TryAgainError: Postgres is out of reach.
        """
        wanted = parse_id(transfer_id)
        kept = await self._store.outcomes([wanted])
        if wanted not in kept:
            waiting = await self._store.waiting([wanted])
            if wanted in waiting:
                return waiting[wanted]
            # It may have been decided in between.
            kept = await self._store.outcomes([wanted])
        return kept[wanted][0] if wanted in kept else None

    # Looking at the client itself.

    async def backlog(self) -> Mapping[int, int]:
        """By shard, how many entries wait in its stream.

        Raises:
            TryAgainError: Redis is out of reach.
        """
        try:
            async with within(self._timeout_seconds):
                return await self._backpressure.backlog()
        except TimeoutError as error:
            raise TryAgainError("Redis did not tell the lengths of the streams in time") from error

    def statistics(self) -> ClientStatistics:
        """What was done, and what is under way."""
        return ClientStatistics(
            self._delivery.answered,
            self._delivery.entries,
            self._delivery.resent,
            self._delivery.reconnects,
            self._delivery.in_flight,
            sum(map(len, self._batchers)),
        )
