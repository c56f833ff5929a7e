"""Dead letters, and what operators did about them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from engine.store.driver import connect
from engine.store.driver_errors import translated
from engine.store.inspection import FoundLetter
from engine.store.reports import Reports
from engine.store.statements import statement

State = Literal["open", "resent", "dismissed"]


class LetterKey(msgspec.Struct, frozen=True):
    """Which dead letter: the place that it had in its stream."""

    shard: int
    generation: int
    ms: int
    seq: int

    @property
    def name(self) -> str:
        """As commands take it."""
        return f"{self.shard}:{self.generation}:{self.ms}-{self.seq}"


class Letter(FoundLetter, frozen=True):
    """A dead letter, whole, and the last act on it."""

    fields: list[bytes]
    """Name, value, name, value, ... as they came."""
    acted_by: str | None
    acted_at: str | None
    act_reason: str | None
    resent_as: str | None

    @property
    def key(self) -> LetterKey:
        """Which it is."""
        return LetterKey(self.shard, self.generation, self.ms, self.seq)


class Letters(Reports):
    """Questions and acts over one connection; use `open_letters`."""

    async def list(self, state: State | None, letters_max: int) -> list[FoundLetter]:
        """The newest dead letters, of one state or of all."""
        return await self._rows(FoundLetter, "letters", state, letters_max)

    async def find(self, key: LetterKey) -> Letter | None:
        """A dead letter; None where there is none."""
        found = await self._rows(Letter, "letter", key.shard, key.generation, key.ms, key.seq)
        return found[0] if found else None

    async def record_resent(self, key: LetterKey, by: str, entry: str, *, repaired: bool) -> None:
        """It was added to its stream again."""
        await self._record(key, "resent", by, None, entry, repaired)

    async def record_dismissed(self, key: LetterKey, by: str, reason: str) -> None:
        """Nothing will be done about it."""
        await self._record(key, "dismissed", by, reason, None, repaired=False)

    async def _record(
        self,
        key: LetterKey,
        kind: str,
        by: str,
        reason: str | None,
        entry: str | None,
        repaired: bool,  # noqa: FBT001 - a column
    ) -> None:
        with translated():
            await self._connection.execute(
                statement("record_letter_act"),
                key.shard,
                key.generation,
                key.ms,
                key.seq,
                kind,
                by,
                reason,
                entry,
                repaired,
            )


@contextlib.asynccontextmanager
async def open_letters(dsn: str) -> AsyncIterator[Letters]:
    """Connect for the length of a block.

    Raises:
        TryAgainError: Postgres is out of reach.
        ConfigurationError: It is not as the ledger needs it.
    """
    connection = await connect(dsn, "engine letters")
    try:
        yield Letters(connection)
    finally:
        connection.terminate()
