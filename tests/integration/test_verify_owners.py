"""`verify` finds positions that a worker moved without owning the shard or having it locked."""

import uuid

import pytest

from engine.ledger.nouns import Position
from engine.store.ownership import NOBODY
from tests.ledgers import make_ledger
from tests.stores import claim, flush_to, opened
from tests.verifying import assert_verified, breaking, failed

# A row of shard 0, written between two others of it, comes to name a flush of shard 1's owner.
TO_ANOTHER = """
    UPDATE ledger.positions p SET flush = other.flush, time = other.time
    FROM ledger.positions other WHERE p.shard = 0 AND p.ms = 2 AND other.shard = 1 AND other.ms = 1
"""


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("flush", "its worker did not own the shard"),
        ("locked", "its worker neither owned the shard nor had its owner locked"),
    ],
)
async def test_a_position_moved_by_a_flush_of_another_worker_is_found(
    kind: str, fault: str, postgres_dsn: str, redis_url: str
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=2)
    stores = [await opened(ledger), await opened(ledger)]
    for shard, store in enumerate(stores):
        assert await claim(store, NOBODY, shards=[shard])
    numbers = [(await store.load_ownership()).number for store in stores]
    for shard, ms in ((0, 1), (0, 2), (1, 1), (0, 3)):
        sequence = ms + 1  # The claim was the first.
        flush = flush_to(Position(0, ms), sequence=sequence, number=numbers[shard], shard=shard)
        flush.kind = kind
        numbers[shard] = await stores[shard].flush(flush)
    for store in stores:
        store.drop()
    await assert_verified(ledger)
    async with breaking(ledger) as break_with:
        results = await break_with(TO_ANOTHER)
    assert failed(results) == {"ownership"}
    [offender] = results["ownership"].offenders
    assert (offender["what"], offender["shard"], offender["fault"]) == ("positions", 0, fault)
    assert uuid.UUID(offender["worker"]).bytes == stores[1].worker
    assert uuid.UUID(offender["owner"]).bytes == stores[0].worker
