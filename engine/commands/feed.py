"""Sending what a file holds, chunk after chunk, and telling what became of each line."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import Final, TypeVar

from engine.commands.progress import progress_bar
from engine.commands.screen import out, print_json_lines
from engine.commands.sources import Source
from engine.errors import InputError, OutcomeUnknownError, TryAgainError
from engine.ledger.nouns import BATCH_TRANSFERS_MAX, NewAccount, Transfer
from engine.wire.fields import uuid_text

T = TypeVar("T", NewAccount, Transfer)

REFUSALS_SHOWN: Final = 20


async def feed(
    source: Source[T],
    send: Callable[[list[T]], Awaitable[Sequence[IntEnum]]],
    *,
    nouns: str,
    json: bool,
) -> None:
    """Send a file in chunks, each after the one before is decided, and print the outcomes.

    Args:
        source: The file.
        send: Sends a chunk and returns an outcome for each.
        nouns: What the things are, in the plural.
        json: Print a JSON line for each thing; else a summary.

    Raises:
        InputError: When a line cannot be read; those before it are decided.
        OutcomeUnknownError: When an outcome could not be had.
        TryAgainError: When something could not be sent.
    """
    tally = Tally()
    label = f"Sending {source.name}"
    with progress_bar(label, source.bytes_total, of_bytes=True, hidden=json) as bar:
        seen = 0
        last = 0
        try:
            async for chunk in source.chunks(BATCH_TRANSFERS_MAX):
                first = chunk[0].number
                try:
                    outcomes = await _send(send, [line.value for line in chunk], source, first)
                except OutcomeUnknownError:
                    if json:
                        print_json_lines(
                            {"id": uuid_text(line.value.id), "outcome": None} for line in chunk
                        )
                    raise
                last = chunk[-1].number
                if json:
                    print_json_lines(
                        {"id": uuid_text(line.value.id), "outcome": outcome.name}
                        for line, outcome in zip(chunk, outcomes, strict=True)
                    )
                for line, outcome in zip(chunk, outcomes, strict=True):
                    tally.add(line.number, outcome)
                bar.advance(source.bytes_read - seen)
                seen = source.bytes_read
        except InputError as error:
            sent = f"lines up to {last} were sent and decided" if last else "nothing was sent"
            raise InputError(f"{error}. Of this file {sent}") from None
    if not json:
        tally.show(nouns)


async def _send(
    send: Callable[[list[T]], Awaitable[Sequence[IntEnum]]],
    values: list[T],
    source: Source[T],
    first: int,
) -> Sequence[IntEnum]:
    try:
        return await send(values)
    except TryAgainError as error:
        if isinstance(error, OutcomeUnknownError):
            raise OutcomeUnknownError(
                f"{error}. Lines of {source.name} before {first} are decided; what became of the "
                "next ones is not known. Send the same file again: what is done already is "
                "answered `exists`"
            ) from error
        raise TryAgainError(
            f"{error}. Lines of {source.name} from {first} on were not sent: send it again"
        ) from error


class Tally:
    """Counts outcomes, and remembers the first lines that were refused."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._refused: list[tuple[int, str]] = []
        self._started = time.monotonic()

    def add(self, number: int, outcome: IntEnum) -> None:
        """Count the outcome of a line."""
        self._counts[outcome.name] += 1
        if outcome and outcome.name != "exists" and len(self._refused) < REFUSALS_SHOWN:
            self._refused.append((number, outcome.name))

    def show(self, nouns: str) -> None:
        """Print what was counted."""
        total = self._counts.total()
        seconds = time.monotonic() - self._started
        out.print(f"{total:,} {nouns} decided in {seconds:.1f} s")
        for name, count in self._counts.most_common():
            out.print(f"{count:>12,}  {name}")
        for number, name in self._refused:
            out.print(f"  line {number}: {name}")
        refused = total - self._counts["created"] - self._counts["exists"]
        if refused > len(self._refused):
            out.print(f"  and {refused - len(self._refused):,} more; --json tells of every line")
