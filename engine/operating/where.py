"""`where`: one id's whole life, whatever it is, from the ledger and from what still waits.

The ledger is asked by its indexes alone. Streams and dead letters have none, so the look at them is
bounded, and what it left out is said.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.errors import EngineError, InvariantBroken
from engine.ledger.nouns import Position, stream_name
from engine.operating.lives import Life, hold_of, transfer_of
from engine.operating.parked import life_of_parked
from engine.operating.stream_search import Needle, chain_of, find_in_streams
from engine.store.inspection import Inspection, PassedEntry, SpentTransfer, open_inspection
from engine.store.reports import AccountReport, ShardReport
from engine.streams.entries import Entry
from engine.streams.inspection import StreamsInspection
from engine.worker.inbox import understand

LETTERS_SEARCHED_MAX: Final = 1000
"""The newest dead letters; older ones are not looked into."""
ACCOUNT_POSTINGS: Final = 5
"""Of an account, so many of the last."""
DECIDED_ENTRIES_MAX: Final = 1000
"""Of those that a flush took and that are not deleted yet."""

_ENTRY: Final = re.compile(r"(?:(?P<shard>\d{1,4}):(?:\d+:)?)?(?P<ms>\d{1,15})-(?P<seq>\d{1,15})")


async def find(postgres_dsn: str, redis_url: str, prefix: str, wanted: str) -> Life:
    """Tell the life of an id: of a transfer, a hold, an account, or an entry of a stream.

    Args:
        postgres_dsn: The ledger.
        redis_url: The streams; without them the ledger answers alone, and that is said.
        prefix: Of the names of the streams.
        wanted: A uuid; or the id of an entry, after its shard and a colon where that is known; or
            the name of an account, or any text that a producer put beside its transfers.

    Raises:
        TryAgainError: Postgres is out of reach.
        ConfigurationError: There is no ledger in it.
    """
    entry = _ENTRY.fullmatch(wanted)
    async with open_inspection(postgres_dsn) as ledger, _open(redis_url, prefix) as streams:
        search = _Search(ledger, streams, prefix)
        if entry is None:
            return await search.find_id(wanted)
        position = Position(0, int(entry["ms"]), int(entry["seq"]))
        shard = None if entry["shard"] is None else int(entry["shard"])
        return await search.find_entry(wanted, shard, position)


@contextlib.asynccontextmanager
async def _open(url: str, prefix: str) -> AsyncIterator[StreamsInspection | EngineError]:
    """The streams, or why they cannot be had."""
    streams = StreamsInspection(url, prefix)
    try:
        try:
            await streams.open()
        except EngineError as error:
            yield error
        else:
            yield streams
    finally:
        await streams.close()


class _Search:
    def __init__(
        self, ledger: Inspection, streams: StreamsInspection | EngineError, prefix: str
    ) -> None:
        self._ledger = ledger
        self._streams = streams
        self._prefix = prefix

    # A uuid, or a name.

    async def find_id(self, wanted: str) -> Life:
        id_bytes = _uuid_bytes(wanted)
        needle = Needle(wanted, id_bytes)
        if id_bytes is not None:
            spent = await self._ledger.transfer(id_bytes)
            if spent is not None:
                return await self._life_of_spent(spent, id_bytes)
            parked = await self._ledger.parked_with(id_bytes)
            if parked:
                shards = await self._ledger.shards()
                return life_of_parked(wanted, parked[0], self._prefix, shards, id_bytes)
        accounts = await self._ledger.find_accounts(
            [] if id_bytes is None else [id_bytes], [] if id_bytes is not None else [wanted]
        )
        life = Life(id=wanted, kind="unknown", state="unseen")
        if accounts:
            life = await self._life_of_account(accounts[0])
            if len(accounts) > 1:
                life.not_looked_at.append(f"{len(accounts) - 1} more accounts of that name")
        await self._add_waiting(life, needle)
        await self._add_letters(life, needle)
        return life

    async def _life_of_spent(self, spent: SpentTransfer, id_bytes: bytes) -> Life:
        is_created = spent.outcome == "created"
        is_hold = is_created and "pending" in spent.flags
        life = Life(
            id=spent.id,
            kind="hold" if is_hold else "transfer",
            state="created" if is_created else "declined",
            outcome=spent.outcome,
            stream=stream_name(self._prefix, spent.shard),
            entry=spent.entry,
            entry_after=spent.entry_after or "0-0",
            worker=spent.worker,
            host=spent.host,
            process=spent.process,
            flush=spent.flush,
            flush_kind=spent.kind,
            decided_at=spent.decided_at,
            posted_at=spent.decided_at if is_created else None,
            transfer=transfer_of(spent),
        )
        try:
            if is_created:
                legs = await self._ledger.postings(id_bytes)
                life.postings = legs
                wanted = 4 if spent.resolution == "expired" else 2
                if len(legs) != wanted:
                    life.faults.append(f"{len(legs)} of {wanted} postings are where they must be")
            else:
                life.why = await self._ledger.why(id_bytes)
        except InvariantBroken as error:
            life.faults.append(str(error))
        if is_hold:
            life.state = spent.resolution or "open"
            life.hold = hold_of(spent)
        elif is_created and spent.pending_id is not None:
            ended = await self._ledger.transfer(UUID(spent.pending_id).bytes)
            life.hold = None if ended is None else hold_of(ended)
        await self._find_decided_entry(life, spent, id_bytes)
        await self._add_letters(life, Needle(spent.id, id_bytes))
        return life

    async def _find_decided_entry(self, life: Life, spent: SpentTransfer, id_bytes: bytes) -> None:
        """Its entry itself, where it is not deleted yet."""
        if isinstance(self._streams, EngineError) or spent.entry is None:
            return
        after = spent.entry_after or "-"
        try:
            async for entry in self._streams.entries(spent.shard, after, DECIDED_ENTRIES_MAX):
                if _is_past(entry, spent.entry):
                    return
                arrival = understand(entry, self._prefix)
                ids = arrival.rows["id"].tolist()
                if id_bytes in ids:
                    life.entry, life.entry_after = entry.position.entry_id, None
                    life.chain = chain_of(arrival, ids.index(id_bytes))
                    return
        except EngineError as error:
            life.not_looked_at.append(f"the streams: {error}")

    async def _life_of_account(self, account: AccountReport) -> Life:
        [balance] = await self._ledger.balances([account.id_bytes])
        return Life(
            id=account.id,
            kind="account",
            state="created",
            stream=stream_name(self._prefix, account.shard),
            posted_at=account.created_at,
            postings=await self._ledger.history(account.id_bytes, ACCOUNT_POSTINGS),
            account=msgspec.structs.asdict(account)
            | msgspec.structs.asdict(balance)
            | {"balance": balance.balance},
        )

    async def _add_waiting(self, life: Life, needle: Needle) -> None:
        """Where it waits, if it does; an account is only mentioned."""
        if isinstance(self._streams, EngineError):
            life.not_looked_at.append(f"the streams: {self._streams}")
            return
        shards = await self._ledger.shards()
        try:
            found = await find_in_streams(self._streams, shards, needle)
        except EngineError as error:
            life.not_looked_at.append(f"the streams: {error}")
            return
        life.not_looked_at += found.not_looked_at
        life.mentions = found.mentions
        if life.kind != "unknown":
            return
        if found.entries:
            entry, life.transfer, life.chain = found.entries[0]
            life.kind = "transfer"
            await self._set_waiting(life, entry, shards)
        elif found.mentions and needle.id is None:
            mention = found.mentions[0]
            life.state, life.stream, life.entry = "waiting", mention.stream, mention.entry

    async def _set_waiting(self, life: Life, entry: Entry, shards: Sequence[ShardReport]) -> None:
        life.state = "waiting"
        life.stream = stream_name(self._prefix, entry.shard)
        life.entry = entry.position.entry_id
        life.waiting_seconds = await self._age_seconds(entry.position.ms)
        owner = next(shard for shard in shards if shard.shard == entry.shard)
        life.worker, life.host, life.process = owner.worker, owner.host, owner.process

    async def _age_seconds(self, ms: int) -> float | None:
        if isinstance(self._streams, EngineError):
            return None
        return max(await self._streams.now() - ms / 1000, 0.0)

    async def _add_letters(self, life: Life, needle: Needle) -> None:
        life.letters = await self._ledger.letters_with(needle.forms, LETTERS_SEARCHED_MAX)
        if life.letters and life.state == "unseen":
            newest = life.letters[0]
            life.kind = "transfer" if needle.id is not None else "unknown"
            life.state = "dead_letter"
            life.stream = stream_name(self._prefix, newest.shard)
            life.entry = newest.entry
            [passed] = await self._ledger.passed([newest.shard], newest.ms, newest.seq)
            _set_flush(life, passed)

    # An entry.

    async def find_entry(self, wanted: str, shard: int | None, position: Position) -> Life:
        shards = await self._ledger.shards()
        among = [s for s in shards if shard is None or s.shard == shard]
        life = Life(id=wanted, kind="unknown", state="unseen")
        if not among:
            life.not_looked_at.append(f"shard {shard}: the ledger has {len(shards)}, from 0")
            return life
        passed = await self._ledger.passed([s.shard for s in among], position.ms, position.seq)
        if isinstance(self._streams, EngineError):
            life.not_looked_at.append(f"the streams: {self._streams}")
        else:
            there = await self._streams.find_entry([s.shard for s in among], position)
            if there:
                await self._set_entry(life, there[0], shards, passed)
                return life
        parked = await self._ledger.parked_at([s.shard for s in among], position.ms, position.seq)
        if parked:
            return life_of_parked(wanted, parked[0], self._prefix, shards)
        letters = [place for place in passed if place.letter is not None]
        if letters or (shard is not None and passed[0].flush is not None):
            place = letters[0] if letters else passed[0]
            life.kind, life.entry = "entry", position.entry_id
            life.state = "dead_letter" if letters else "decided"
            life.stream = stream_name(self._prefix, place.shard)
            life.letters = await self._letters_at(place, position)
            _set_flush(life, place)
        return life

    async def _set_entry(
        self, life: Life, entry: Entry, shards: Sequence[ShardReport], passed: Sequence[PassedEntry]
    ) -> None:
        """An entry that is still in its stream: it waits, or is decided and not deleted yet."""
        place = next(place for place in passed if place.shard == entry.shard)
        life.kind = "entry"
        if place.flush is None:
            await self._set_waiting(life, entry, shards)
        else:
            life.state = "dead_letter" if place.letter is not None else "decided"
            life.stream = stream_name(self._prefix, entry.shard)
            life.entry = entry.position.entry_id
            life.letters = await self._letters_at(place, entry.position)
            _set_flush(life, place)
        ids = [UUID(bytes=i) for i in understand(entry, self._prefix).rows["id"].tolist()]
        outcomes = await self._ledger.outcomes([i.bytes for i in ids])
        life.transfers = [{"id": str(i), "outcome": outcomes.get(str(i))} for i in ids]

    async def _letters_at(self, place: PassedEntry, position: Position) -> Any:
        if place.letter is None:
            return []
        return await self._ledger.letters_at(place.shard, position.ms, position.seq)


def _set_flush(life: Life, place: PassedEntry) -> None:
    life.worker, life.host, life.process = place.worker, place.host, place.process
    life.flush, life.flush_kind, life.decided_at = place.flush, place.kind, place.decided_at


def _is_past(entry: Entry, entry_id: str) -> bool:
    ms, _, seq = entry_id.partition("-")
    return (entry.position.ms, entry.position.seq) > (int(ms), int(seq))


def _uuid_bytes(text: str) -> bytes | None:
    """The id that is meant; with or without dashes, in upper or lower case."""
    try:
        return UUID(text).bytes
    except ValueError:
        return None
