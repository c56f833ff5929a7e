"""What goes wrong with streams on a Redis Cluster."""

from typing import Final

from engine.ledger.nouns import stream_name
from tests.chaos.faults import World, fault

WITH_ONE_REDIS: Final = frozenset(
    {
        *("valkey_killed", "valkey_wiped", "valkey_older", "redis_paused", "redis_without_memory"),
        *("redis_without_replicas", "redis_read_only", "redis_with_too_many_clients"),
        *("redis_cannot_save", "redis_busy", "hostile_producer", "disk_full"),
        # To the nodes of a cluster workers have no links that could be cut.
        *("link_stalled", "link_cut", "answer_lost"),
    }
)
"""Faults of a run over one Redis alone."""

OF_CLUSTERS: Final = frozenset({"slot_moved"})
"""Faults of a run over a cluster alone."""


@fault(8)
async def slot_moved(world: World) -> None:
    """A stream moves to another node, under load: ASK while it is under way, MOVED after it."""
    assert world.cluster is not None
    shard = world.chance.randrange(world.ledger.shard_count)
    stream = stream_name(world.ledger.prefix, shard)
    source = world.cluster.primary_of(stream)
    others = [node for node in world.cluster.nodes[:3] if node is not source]
    target, seconds = world.chance.choice(others), world.lasts_seconds()
    world.say(f"the stream of shard {shard} moves to another node within {seconds:.1f} s")
    await world.cluster.move(stream, target, seconds)
