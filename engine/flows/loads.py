"""What a turn must know before it decides: flows that are not in memory, messages, accounts."""

from collections.abc import Collection
from typing import Any

from engine.flows.batch import Known
from engine.flows.catalogue import Catalogue, written_accounts
from engine.flows.early import EarlyCounts
from engine.flows.entries import Request
from engine.flows.flush import FlowRecord
from engine.flows.forms import Forms
from engine.flows.live import Live, live_of
from engine.flows.store import FlowStore


class Loads:
    """What one session has in memory, and how it comes there.

    Args:
        store: Where from.
        shard_count: Of the ledger.
    """

    def __init__(self, store: FlowStore, shard_count: int) -> None:
        self._store = store
        self.early_counts = EarlyCounts(shard_count)
        self.catalogue = Catalogue()
        self.forms = Forms()
        self.live: dict[bytes, Live] = {}
        """Flows in memory."""

    async def load_shards(self, shards: Collection[int]) -> None:
        """Load what is known of shards that were just taken."""
        self.early_counts.load(await self._store.count_early(shards))

    async def load_definitions(self) -> None:
        """Load the definitions that came since the last time."""
        self.catalogue.add(await self._store.definitions(self.catalogue.last))

    async def load_flows(
        self, wanted: Collection[bytes]
    ) -> tuple[dict[bytes, FlowRecord], dict[bytes, list[Any]]]:
        """Load what is not in memory; returns refused starts, and signals of unknown flows."""
        missing = sorted(flow for flow in wanted if flow not in self.live)
        if not missing:
            return {}, {}
        records = await self._store.load_flows(missing)
        refused = {r.id: r for r in records if r.outcome != "created"}
        running = [r for r in records if r.outcome == "created"]
        signals = await self._store.load_signals(missing)
        if running:
            if any(r.definition not in self.catalogue.by_number for r in running):
                await self.load_definitions()
            journals = await self._store.load_journals([r.id for r in running])
            for record in running:
                flow = self.catalogue.flow_of(record)
                rows = journals.get(record.id, [])
                first = self.forms.first_of(flow.table)
                heard = signals.pop(record.id, ())
                self.live[record.id] = live_of(flow, record, rows, heard, first)
        return refused, signals

    async def load_known(self, requests: list[Request]) -> Known:
        """Load what else a turn must know: messages, accounts, and holds of who is resumed."""
        known = Known({}, {}, frozenset())
        signals = [
            (f, s) for r in requests if r.signals for f, s in zip(r.ids, r.signals, strict=True)
        ]
        keys = [(flow, s.name, s.message_id) for flow, s in signals]
        if keys:
            known.messages = await self._store.load_messages(keys)
        resumed = [flow for flow, s in signals if s.name == ":resume"]
        holds = [h.id for f in resumed if f in self.live for h in self.live[f].state.held.values()]
        if holds:
            known.over = await self._store.holds_over(holds)
        if any(r.starts for r in requests):
            await self.load_definitions()
            wanted: dict[int, set[str]] = {}
            for request in requests:
                definition = self.catalogue.newest.get(request.flow)
                if definition is None:
                    continue
                texts = wanted.setdefault(definition.table.ledger, set())
                for start in request.starts:
                    texts.update(written_accounts(definition.table, start.input))
            for ledger, names in wanted.items():
                found = await self._store.find_accounts(ledger, names)
                known.accounts |= {(ledger, name): ids for name, ids in found.items()}
        return known
