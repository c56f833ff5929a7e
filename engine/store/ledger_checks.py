"""What is asked of a ledger when a worker opens it, and each minute while it works.

Each refusal says what mends it. What would be wrong for good is a ConfigurationError; a clock
may be set right by itself.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from engine.errors import ClockError, ConfigurationError
from engine.ledger.nouns import MICROSECONDS
from engine.ledger.outcomes import Outcome

CLOCK_SECONDS_MAX: Final = 15.0
"""How far the clocks of a worker and of Postgres may differ. `refuse_time` in the ledger, which
looks at each flush, says the same."""

CHECK_SECONDS: Final = 60.0
"""From one check to the next."""

STRANGE_SHOWN_MAX: Final = 5
"""Of what is strange so many are named."""

Read = Callable[[str], Awaitable[list[Any]]]
"""Rows of a named statement."""


async def check_sequences(read: Read) -> None:
    """See that no number is given twice.

    Raises:
        ConfigurationError: A sequence is behind its data, as in a copy of a database.
    """
    behind = [row for row in await read("sequences") if row["last"] < row["newest"]]
    if behind:
        statements = " ".join(
            f"SELECT setval('{row['sequence']}', {row['newest']});" for row in behind
        )
        first = behind[0]
        raise ConfigurationError(
            f"the sequence {first['sequence']} stands at {first['last']}, behind {first['newest']} "
            f"in {first['source']}, as in a copy that brought rows without sequences; while no "
            f"worker runs, run: {statements}",
        )


async def check_outcomes(read: Read) -> None:
    """See that the ledger names outcomes as this program does.

    Raises:
        ConfigurationError: It does not.
    """
    named = {row["number"]: row["name"] for row in await read("outcome_names")}
    known = {int(outcome): outcome.name for outcome in Outcome}
    if named != known:
        number = min(n for n in named.keys() | known.keys() if named.get(n) != known.get(n))
        raise ConfigurationError(
            f"outcome {number} is {_named(named, number)} in ledger.outcomes and "
            f"{_named(known, number)} in this program; run `engine init`, or use the program that "
            "made the ledger",
        )


async def check_strangers(read: Read) -> None:
    """See that nothing of somebody's stands between what is written and the tables.

    Rows that are swallowed are counted in each flush; rows that are altered are not seen there.

    Raises:
        ConfigurationError: A trigger before a row, a rule or row security that no migration makes.
    """
    rows = await read("strange_objects")
    if rows:
        what = ", ".join(row["object"] for row in rows[:STRANGE_SHOWN_MAX])
        undo = " ".join(f"{row['undo']};" for row in rows[:STRANGE_SHOWN_MAX])
        more = len(rows) - STRANGE_SHOWN_MAX
        beside = f" and {more} more" if more > 0 else ""
        raise ConfigurationError(
            f"{what}{beside}: the ledger is not as its migrations make it, and rows could be "
            f"dropped or altered on their way; nothing is decided until its owner runs: {undo}",
        )


def _named(names: Mapping[int, str], number: int) -> str:
    return names.get(number, "not named")


async def check_clock(read: Read, clock: Callable[[], int]) -> None:
    """See that this machine's clock is near that of Postgres.

    Args:
        read: As it says.
        clock: Of the worker, in microseconds since 1970.

    Raises:
        ClockError: It is too far from it, however long the answer took.
    """
    began = time.monotonic()
    before = clock()
    [row] = await read("server_clock")
    took = time.monotonic() - began
    ahead = (before - row["now"]) / MICROSECONDS
    # Postgres told its time at some moment between the question and the answer.
    if ahead > CLOCK_SECONDS_MAX or -ahead - took > CLOCK_SECONDS_MAX:
        direction = "ahead of" if ahead > 0 else "behind"
        raise ClockError(
            f"this machine's clock is {abs(ahead):.0f} s {direction} that of Postgres; set both by "
            f"one source. Nothing is decided while it is over {CLOCK_SECONDS_MAX:.0f} s",
        )
