"""What operators ask at night, of one id or of everything, and what they write down."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import asyncpg
import msgspec

from engine.errors import ConfigurationError, InvariantBroken
from engine.store.driver import connect
from engine.store.driver_errors import translated
from engine.store.reports import Reports
from engine.store.server_facts import ServerFacts, TransactionFacts, WorkerFacts
from engine.store.statements import statement


class SpentTransfer(msgspec.Struct, frozen=True):
    """A spent id and all that the ledger keeps of it."""

    id: str
    outcome: str
    shard: int
    """Of the stream it came by."""
    debit_account_id: str
    credit_account_id: str
    amount: int
    ledger: int
    code: int
    flags: list[str]
    pending_id: str | None
    expires_at: str | None
    is_overdue: bool | None
    worker: str
    host: str | None
    process: int | None
    flush: int
    kind: str
    decided_at: str
    entry: str | None
    """How far its flush came in the stream."""
    entry_after: str | None
    """How far flushes had come before."""
    resolution: str | None
    resolved_by: str | None
    resolved_at: str | None


class SpentId(msgspec.Struct, frozen=True):
    """An id that can never be used again."""

    id: str
    outcome: str


class TransferPosting(msgspec.Struct, frozen=True):
    """One leg of a transfer, with the counters of its stripe after it."""

    account_id: str
    account_name: str | None
    amount: int
    pending_amount: int
    shard: int
    version: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    posted_at: str
    number: int


class Why(msgspec.Struct, frozen=True):
    """Why funds did not do: what was asked of an account and what it had."""

    account: str
    account_name: str | None
    asked: int
    available: int
    exact: bool
    """Else it had at most as much."""


class FoundLetter(msgspec.Struct, frozen=True):
    """A dead letter, without its bytes."""

    letter: str
    shard: int
    entry: str
    reason: str
    state: str
    received_at: str
    generation: int
    ms: int
    seq: int


class PassedEntry(msgspec.Struct, frozen=True):
    """A place in a shard's stream: the flush that passed it and its dead letter, if any."""

    shard: int
    flush: int | None
    worker: str | None
    host: str | None
    process: int | None
    kind: str | None
    decided_at: str | None
    transfers: int | None
    declined: int | None
    letter: str | None
    reason: str | None
    state: str | None
    received_at: str | None


class ParkedEntry(msgspec.Struct, frozen=True):
    """An entry that waits for a thaw, and the freeze that it waits for."""

    shard: int
    entry: str
    ms: int
    seq: int
    seconds: float
    """For how long it has waited."""
    fields: list[bytes]
    kind: str
    what: str
    by: str
    reason: str
    since: str

    @property
    def freeze(self) -> dict[str, str]:
        """What is frozen, by whom and why."""
        names = ("kind", "what", "by", "reason", "since")
        return {name: getattr(self, name) for name in names}


class Event(msgspec.Struct, frozen=True):
    """Something that happened."""

    time: str
    event: str
    what: str
    who: str | None
    """The worker it happened to, or the person or program that did it."""
    seconds: float | None
    """How long it lasted, where it did."""
    shards: list[int] | None


class ChainHead(msgspec.Struct, frozen=True):
    """The end of a worker's chain."""

    ledger: str
    worker: str
    sequence: int
    link: str | None


class Inspection(Reports):
    """Questions to one connection; use `open_inspection`."""

    async def chain_head(self, worker: bytes) -> ChainHead | None:
        """The end of a worker's chain; None before its first row."""
        found = await self._rows(ChainHead, "chain_head", worker)
        return found[0] if found else None

    # One id.

    async def transfer(self, transfer_id: bytes) -> SpentTransfer | None:
        """What became of an id; None where it is free."""
        found = await self._rows(SpentTransfer, "where_transfer", transfer_id)
        return found[0] if found else None

    async def postings(self, transfer_id: bytes) -> list[TransferPosting]:
        """The postings of a transfer.

        Raises:
            InvariantBroken: The versions of a stripe have a gap.
        """
        with _damage_told():
            return await self._rows(TransferPosting, "where_postings", transfer_id)

    async def why(self, transfer_id: bytes) -> Why | None:
        """Why a transfer was declined for want of funds; None where it was not.

        Raises:
            InvariantBroken: The versions of a stripe have a gap.
        """
        with _damage_told():
            found = await self._rows(Why, "where_why", transfer_id)
        return found[0] if found else None

    async def outcomes(self, ids: Sequence[bytes]) -> dict[str, str]:
        """The outcomes of those ids that are spent."""
        found = await self._rows(SpentId, "where_spent", ids)
        return {spent.id: spent.outcome for spent in found}

    async def letters_with(self, wanted: Sequence[bytes], letters_max: int) -> list[FoundLetter]:
        """Those of the newest dead letters that contain one of some strings of bytes."""
        return await self._rows(FoundLetter, "where_letters", wanted, letters_max)

    async def letters_at(self, shard: int, ms: int, seq: int) -> list[FoundLetter]:
        """The dead letters of an entry."""
        return await self._rows(FoundLetter, "where_letter_at", shard, ms, seq)

    async def parked_with(self, transfer_id: bytes) -> list[ParkedEntry]:
        """The entries that wait for a thaw with a transfer of that id, the oldest first."""
        return await self._rows(ParkedEntry, "where_parked", transfer_id)

    async def parked_at(self, shards: Sequence[int], ms: int, seq: int) -> list[ParkedEntry]:
        """The entries of that id that wait for a thaw."""
        return await self._rows(ParkedEntry, "where_parked_at", shards, ms, seq)

    async def passed(self, shards: Sequence[int], ms: int, seq: int) -> list[PassedEntry]:
        """By shard, which flush passed an entry of that id."""
        return await self._rows(PassedEntry, "where_entry", shards, ms, seq)

    # Everything.

    async def server_facts(self) -> ServerFacts:
        """Postgres and the ledger in it."""
        [facts] = await self._rows(ServerFacts, "doctor_server")
        return facts

    async def worker_facts(self) -> list[WorkerFacts]:
        """All workers of interest, the oldest first."""
        return await self._rows(WorkerFacts, "doctor_workers")

    async def transaction_facts(self, seconds_min: float) -> list[TransactionFacts]:
        """Transactions open for longer, and all that workers wait for; those first."""
        return await self._rows(TransactionFacts, "doctor_transactions", seconds_min)

    async def events(self, seconds: float, events_max: int) -> list[Event]:
        """What happened within the last so many seconds, the newest first."""
        return await self._rows(Event, "events", seconds, events_max)

    async def record_event(
        self,
        seconds_ago: float,
        event: str,
        what: str,
        *,
        worker: bytes | None = None,
        who: str | None = None,
        seconds: float | None = None,
    ) -> None:
        """Write down that something happened."""
        with translated():
            await self._connection.execute(
                statement("record_event"), seconds_ago, event, worker, who, what, seconds
            )

    async def record_verification(self, seconds: float, failed: Sequence[str]) -> None:
        """Write down that the ledger was checked.

        Raises:
            ConfigurationError: This role may only read.
        """
        try:
            with translated():
                await self._connection.execute(
                    statement("record_verification"), seconds, not failed, failed
                )
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigurationError(f"this role may not write it down: {error}") from error


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except asyncpg.DataCorruptedError as error:
        raise InvariantBroken(f"{error}; run `engine verify`") from error


@contextlib.asynccontextmanager
async def open_inspection(dsn: str) -> AsyncIterator[Inspection]:
    """Connect for the length of a block.

    Raises:
        TryAgainError: Postgres is out of reach.
        ConfigurationError: It is not as the ledger needs it.
    """
    connection = await connect(dsn, "engine inspection")
    try:
        yield Inspection(connection)
    finally:
        connection.terminate()
