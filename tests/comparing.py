"""Columns and rules side by side over one random world."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from engine.ledger.outcomes import Outcome
from engine.ledger.page import IdRecord
from tests.worlds import ByColumns, ByRules, Entry, World


def as_history(entries: Sequence[Entry], expected: Sequence[Sequence[Outcome]]) -> str:
    """Entries in the form of a recorded history, to be read and replayed."""
    batches = []
    for (shard, transfers), outcomes in zip(entries, expected, strict=True):
        batch = []
        for transfer, outcome in zip(transfers, outcomes, strict=True):
            fields = {
                name: str(UUID(bytes=value)) if isinstance(value, bytes) else value
                for name, value in msgspec.structs.asdict(transfer).items()
                if value not in (0, bytes(16))
            }
            batch.append(fields | {"outcome": outcome.name})
        batches.append({"shard": shard, "batch": batch})
    return "\n".join(msgspec.json.encode(batch).decode() for batch in batches)


def kept(known: IdRecord) -> tuple[object, ...]:
    """What must agree of an id, however it was decided."""
    created = known.outcome is Outcome.created
    return known.outcome, known.transfer if created else None, known.status, known.shard


def compare(world: World, steps: int, size: int) -> ByColumns:
    """Let both decide the same steps; returns the one in columns."""
    by_rules, by_columns = ByRules(world.accounts), ByColumns(world.accounts)
    history: list[str] = []
    for _ in range(steps):
        wait, entries = world.step(world.random.randint(1, size))
        expected = by_rules.step(wait, entries)
        history.append(f"{wait} s later\n" + as_history(entries, expected))
        forgetful = world.random.random() < 0.3
        again = world.random.random() < 0.3
        if again:
            by_columns.flush()
            by_columns.flush()
        cut = world.random.random() if world.random.random() < 0.2 else None
        decided = by_columns.step(wait, entries, forgetful=forgetful, again=again, cut=cut)
        assert decided == expected, "\n".join(history)
        assert by_columns.balances() == by_rules.balances(), "\n".join(history)
        if world.random.random() < 0.5:
            by_columns.flush()
    by_columns.flush()
    by_columns.flush()
    spent = {one: kept(known) for one, known in by_rules.page.spent.items()}
    assert {one: kept(known) for one, known in by_columns.committed.items()} == spent
    return by_columns
