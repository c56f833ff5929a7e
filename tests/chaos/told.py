"""What producers were told, held against what is kept."""

import itertools
import uuid
from collections import defaultdict
from typing import Any, Final

from tests.chaos.kept import (
    BALANCING,
    CREATED,
    EXISTS,
    FAILED,
    POST,
    SPENDS,
    VOID,
    Kept,
    Tables,
    Told,
    wrong,
)
from tests.chaos.requests import FLAGS, UINT128_MAX, Bulk, Request

OF_BULK_IN_ORDER: Final = 100
"""Of an entry of many plain transfers one in so many is held to the order of its stream."""


class ToldChecker:
    """Claims about what producers asked for and were told.

    Args:
        tables: What is kept.
        told: What producers wrote down.
        others: Ids that were sent by producers who keep no record.
        counted: Gets how much was looked at.
    """

    def __init__(
        self, tables: Tables, told: list[Told], others: set[uuid.UUID], counted: dict[str, int]
    ) -> None:
        self._tables = tables
        self._told = told
        self._others = others
        self._counted = counted

    def check(self) -> None:
        """Raises `Wrong` at the first claim that does not hold."""
        self._check_answers()
        self._check_order()

    def _check_answers(self) -> None:
        asked: dict[uuid.UUID, list[Request]] = defaultdict(list)
        created: dict[uuid.UUID, str] = {}
        of_bulk: set[uuid.UUID] = set()
        for told in self._told:
            if isinstance(told.transfers, Bulk):
                self._check_bulk(told.transfers, of_bulk)
            else:
                for transfer in told.transfers:
                    asked[uuid.UUID(transfer["id"])].append(transfer)
            if told.outcomes is None:
                self._counted["requests without an answer"] += 1
                continue
            self._counted["requests answered"] += 1
            if len(told.outcomes) != len(told.transfers):
                raise wrong("once", told.request, "was answered", told.outcomes)
            for transfer, outcome in zip(told.transfers, told.outcomes, strict=True):
                self._check_outcome(told, transfer, outcome, created)
        for transfer_id, kept in self._tables.kept.items():
            requests = asked.get(transfer_id)
            if requests is None:
                if transfer_id not in self._others and transfer_id not in of_bulk:
                    raise wrong("once", transfer_id, "is there, and nobody sent it")
            elif kept.outcome == CREATED and not any(self._is_as_asked(r, kept) for r in requests):
                raise wrong("as asked", requests, "and is", kept)

    def _check_bulk(self, transfers: Bulk, of_bulk: set[uuid.UUID]) -> None:
        """Each has an id of its own, and is as asked or not there at all."""
        for transfer in transfers:
            transfer_id = uuid.UUID(transfer["id"])
            of_bulk.add(transfer_id)
            kept = self._tables.kept.get(transfer_id)
            if (
                kept is not None
                and kept.outcome == CREATED
                and not self._is_as_asked(transfer, kept)
            ):
                raise wrong("as asked", transfer, "and is", kept)

    def _check_outcome(
        self, told: Told, transfer: Request, outcome: Any, created: dict[uuid.UUID, str]
    ) -> None:
        transfer_id = uuid.UUID(transfer["id"])
        kept = self._tables.kept.get(transfer_id)
        what = told.request, transfer, "was answered", outcome, "and is", kept
        if outcome in (CREATED, "created"):
            if kept is None or kept.outcome != CREATED:
                raise wrong("once", *what)
            if transfer_id in created:
                raise wrong("once", *what, "and was created in", created[transfer_id])
            created[transfer_id] = told.request
            self._counted["created and told"] += 1
        elif outcome in EXISTS or str(outcome).startswith("exists"):
            # Within a chain that falls what was there for a moment is gone.
            if (kept is None or kept.outcome != CREATED) and not self._was_in_a_chain(
                told, transfer_id
            ):
                raise wrong("once", *what)
        elif outcome in (FAILED, "id_already_failed"):
            if kept is None or kept.outcome == CREATED:
                raise wrong("once", *what)
        elif (outcome in SPENDS or outcome in SPENDS.values()) and (
            kept is None or outcome not in (kept.outcome, SPENDS.get(kept.outcome))
        ):
            raise wrong("once", *what)

    @staticmethod
    def _was_in_a_chain(told: Told, transfer_id: uuid.UUID) -> bool:
        ids = [transfer["id"] for transfer in told.transfers]
        return ids.count(str(transfer_id)) > 1

    def _is_as_asked(self, transfer: Request, kept: Kept) -> bool:
        flags = sum(FLAGS[name] for name in transfer.get("flags", ()))
        if flags != kept.flags:
            return False
        amount = transfer["amount"]
        if flags & (POST | VOID):
            assert kept.pending_id is not None
            hold = self._tables.kept[kept.pending_id]
            whole = amount == (UINT128_MAX if flags & POST else 0)
            same = (kept.debit, kept.credit) == (hold.debit, hold.credit)
            named = str(kept.pending_id) == transfer["pending_id"]
            return same and named and kept.amount == (hold.amount if whole else amount)
        sides = [
            self._tables.accounts[uuid.UUID(transfer[f"{side}_account_id"])][0]
            for side in ("debit", "credit")
            if uuid.UUID(transfer[f"{side}_account_id"]) in self._tables.accounts
        ]
        if sides != [kept.debit, kept.credit]:
            return False
        told = (
            transfer["code"],
            transfer.get("timeout", 0),
            transfer.get("user_data_128"),
            _signed(transfer.get("user_data_64", 0)),
            transfer.get("user_data_32", 0),
        )
        if tuple(_plain(value) for value in told) != tuple(_plain(value) for value in kept.told):
            return False
        return kept.amount <= amount if flags & BALANCING else kept.amount == amount

    def _check_order(self) -> None:
        """Entries added once, whose ids stand in no other, are decided as the stream has them."""
        seen: dict[str, int] = defaultdict(int)
        for told in self._told:
            for transfer in told.transfers if isinstance(told.transfers, list) else ():
                seen[transfer["id"]] += 1
        streams: dict[int, list[tuple[tuple[int, int], int, str]]] = defaultdict(list)
        for told in self._told:
            if told.attempts != 1 or told.entry is None:
                continue
            few = None if isinstance(told.transfers, list) else OF_BULK_IN_ORDER
            for transfer in itertools.islice(told.transfers, 0, None, few):
                kept = self._tables.kept.get(uuid.UUID(transfer["id"]))
                if kept is not None and seen.get(transfer["id"], 1) == 1:
                    time = self._tables.time_of(kept)
                    streams[told.shard].append((told.entry, time, transfer["id"]))
        for shard, decided in streams.items():
            decided.sort()
            newest = 0
            for entry, time, transfer_id in decided:
                if time < newest:
                    raise wrong("in order", transfer_id, "of entry", entry, "in stream", shard)
                newest = time
                self._counted["in order"] += 1


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value) if value.int else 0
    return value or 0
