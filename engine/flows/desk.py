"""What is asked of the ledger, and what it says: transfers, sent again until they are settled.

All of it is sent after the commit of the rows that ask for it, and may be sent again: ids are
derived, requests are frozen. What is heard goes back as happenings.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Final

import numpy as np
import structlog

from engine.errors import TryAgainError
from engine.flows.calls import Hear
from engine.flows.happenings import Ask, Settled
from engine.flows.money import pack, read_answers, settle, spending, unpack
from engine.flows.outbox import Outbox
from engine.flows.schedules import Schedule
from engine.flows.store import FlowStore
from engine.flows.streams import FlowStreams
from engine.ledger.nouns import BATCH_TRANSFERS_MAX, shard_of, stream_name
from engine.ledger.outcomes import Outcome
from engine.wire.answers import decode_answer
from engine.wire.requests import Format

_DEBIT_ACCOUNT: Final = slice(16, 32)
"""Where it stands in a transfer of a request."""

_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}
_log = structlog.get_logger()


class Desk:
    """What one session has asked, and of whom.

    Args:
        store: To look into the ledger.
        streams: To send.
        shard_count: Of the ledger.
        hear: Takes what happened to a flow.
        hear_occurrence: Takes what the start of a schedule's occurrence was answered.
    """

    def __init__(
        self,
        store: FlowStore,
        streams: FlowStreams,
        shard_count: int,
        hear: Hear,
        hear_occurrence: Callable[[Schedule, str], None],
    ) -> None:
        self._store = store
        self._streams = streams
        self._shard_count = shard_count
        self._hear = hear
        self.outbox = Outbox(store, streams, shard_count, self._token, hear, hear_occurrence)
        # Answers to a former session stand in the same stream, and are not taken for these.
        self._session = token_hex(8).encode()
        self._tokens = itertools.count(1)
        self._sent: dict[bytes, list[Ask]] = {}
        self._queued: dict[bytes, tuple[str, bytes]] = {}
        """By flow, the entry with what it has asked last."""
        self._in_doubt: dict[tuple[bytes, int], Ask] = {}

    def _token(self) -> bytes:
        return self._session + b"-%d" % next(self._tokens)

    # Transfers.

    async def send(
        self, asks: Sequence[Ask], *, burn: Mapping[bytes, Outcome] | None = None
    ) -> None:
        """Send money steps, each shard's together, chains whole."""
        by_shard: dict[int, list[list[Ask]]] = {}
        sizes: dict[int, int] = {}
        for ask in asks:
            home = shard_of(ask.request[_DEBIT_ACCOUNT], self._shard_count)
            batches = by_shard.setdefault(home, [[]])
            sizes[home] = sizes.get(home, 0) + len(ask.request)
            if sizes[home] > 128 * BATCH_TRANSFERS_MAX:
                batches.append([])
                sizes[home] = len(ask.request)
            batches[-1].append(ask)
        entries = []
        sent: list[list[Ask]] = []
        for shard, batches in by_shard.items():
            for batch in batches:
                token = self._token()
                payload = b"".join(
                    a.request
                    if burn is None
                    else pack([spending(unpack(a.request)[0], burn[a.flow])])
                    for a in batch
                )
                fields = {
                    b"bin": payload,
                    b"reply": self._streams.reply.encode(),
                    b"request": token,
                }
                entries.append((stream_name(self._streams.prefix, shard), fields))
                sent.append(batch)
                # What a burn says is read from the rows, whatever the answer.
                self._sent[token] = batch if burn is None else [*batch, _BURNT]
        ids = await self._streams.send(entries)
        for (stream, _), entry_id, batch in zip(entries, ids, sent, strict=True):
            if isinstance(entry_id, bytes):
                self._queued |= dict.fromkeys([ask.flow for ask in batch], (stream, entry_id))

    async def take_answers(self, answers: Sequence[dict[bytes, bytes]]) -> None:
        """Read answers to what this session has sent; others are let be."""
        burn: dict[bytes, Outcome] = {}
        burnt: list[Ask] = []
        for fields in answers:
            token = fields.get(b"request", b"")
            if token in self._sent:
                refused = self._take_money(self._sent.pop(token), fields)
                burn |= {ask.flow: reason for ask, reason in refused}
                burnt += [ask for ask, _ in refused]
            else:
                await self.outbox.take_answer(token, fields)
        if burnt:
            await self.send(burnt, burn=burn)
        await self.settle_from_ledger()

    def _take_money(
        self, batch: list[Ask], fields: dict[bytes, bytes]
    ) -> list[tuple[Ask, Outcome]]:
        outcomes = decode_answer(fields, Format.bin).outcomes
        is_burn = batch[-1] is _BURNT
        asks = batch[:-1] if is_burn else batch
        if outcomes is None:
            raise TryAgainError(f"the ledger could not read our entry: {fields.get(b'error')!r}")
        legs_asked = len(asks) if is_burn else sum(len(ask.request) for ask in asks) // 128
        if len(outcomes) != legs_asked:
            raise TryAgainError("an answer of the ledger has another length than what was asked")
        refused = []
        codes = np.asarray(outcomes).tolist()
        at = 0
        for ask in asks:
            legs = 1 if is_burn else len(ask.request) // 128
            found = [_OUTCOMES[code] for code in codes[at : at + legs]]
            at += legs
            verdict = None if is_burn else read_answers(found)
            if isinstance(verdict, Outcome):
                refused.append((ask, verdict))
            elif verdict is None:
                self._in_doubt[ask.flow, ask.seq] = ask
            else:
                self._queued.pop(ask.flow, None)
                self._hear(ask.flow, Settled(ask.seq, verdict))
        return refused

    async def settle_from_ledger(self) -> None:
        """Settle what is in doubt from the ledger's rows."""
        if not self._in_doubt:
            return
        in_doubt, self._in_doubt = self._in_doubt, {}
        undecided = await self._settle(list(in_doubt.values()))
        if undecided:
            await self.send(undecided)

    async def _settle(self, asks: Sequence[Ask]) -> list[Ask]:
        """Settle from the rows; returns those that are not decided."""
        ids = [leg.id for ask in asks for leg in unpack(ask.request)]
        spent = await self._store.load_spent(ids)
        undecided = []
        for ask in asks:
            verdict = settle(ask.request, spent)
            if verdict is None:
                undecided.append(ask)
            else:
                self._queued.pop(ask.flow, None)
                self._hear(ask.flow, Settled(ask.seq, verdict))
        return undecided

    async def look_again(self, asks: Sequence[Ask]) -> None:
        """What is not answered for long is read, and sent again unless it is still queued."""
        undecided = await self._settle(asks)
        entries = [self._queued.get(ask.flow) for ask in undecided]
        known = [entry for entry in entries if entry is not None]
        queued = dict(zip(known, await self._streams.are_queued(known), strict=True))
        await self.send(
            [a for a, e in zip(undecided, entries, strict=True) if e is None or not queued[e]]
        )


_BURNT: Final = Ask(b"", 0, b"")
