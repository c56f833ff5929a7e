"""Whom the transfers of a shard that is behind debit: is it one account?"""

from collections import Counter
from typing import Final
from uuid import UUID

import msgspec

from engine.errors import EngineError
from engine.ledger.nouns import Position
from engine.streams.inspection import StreamsInspection
from engine.wire.requests import UnreadableEntry, decode_entry

ENTRIES_MAX: Final = 64
"""Of those that wait, so many are looked at."""
SHARE_MIN: Final = 0.5


class HotAccount(msgspec.Struct, frozen=True):
    """An account that most of what waits debits."""

    account: str
    share: float
    """Of the transfers looked at."""


async def find_hot_account(
    streams: StreamsInspection, shard: int, position: Position
) -> HotAccount | None:
    """The account that most of the next transfers of a shard debit; None where there is none.

    Args:
        streams: Open.
        shard: Whose stream.
        position: How far it is decided.
    """
    debits: Counter[bytes] = Counter()
    try:
        async for entry in streams.entries(shard, position.entry_id, ENTRIES_MAX):
            try:
                request = decode_entry(
                    dict(zip(entry.fields[::2], entry.fields[1::2], strict=True)),
                    prefix=streams.prefix,
                )
            except UnreadableEntry:
                continue
            debits.update(request.transfers["debit_account_id"].tolist())
    except EngineError:  # What is found so far is as good.
        pass
    for account, count in debits.most_common(1):
        share = count / debits.total()
        if share > SHARE_MIN:
            return HotAccount(str(UUID(bytes=account)), share)
    return None
