"""The desk of a session: what it asks is told from what others have asked."""

from engine.flows.desk import Desk
from engine.flows.store import FlowStore
from engine.flows.streams import FlowStreams


def test_sessions_of_one_worker_ask_under_other_names() -> None:
    """Answers to a former session stand in the same stream: money would be settled by them."""
    store = FlowStore("postgresql://", bytes(16))
    streams = FlowStreams("redis://", "engine", "flows")
    desks = [Desk(store, streams, 4, lambda *_: None, lambda *_: None) for _ in range(3)]
    tokens = [desk._token() for desk in desks for _ in range(10)]
    assert len(set(tokens)) == len(tokens)
