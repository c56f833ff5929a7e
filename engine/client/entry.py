"""One entry on its way, and everything that is known of it."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from engine.errors import EngineError, OutcomeUnknownError, TryAgainError
from engine.wire.layout import TRANSFER, TRANSFER_BYTES, Rows

OnDone: TypeAlias = Callable[["OutgoingEntry", bytes | EngineError], None]
"""Gets the numbers of the outcomes, one byte each, or the reason why there are none."""


class OutgoingEntry:
    """Transfers of one entry, sent once or, in doubt, again.

    Args:
        shard: The stream that it goes to.
        payload: The transfers, as `bin`.
        deadline: By the client's clock.
        on_done: Called once.

    Attributes:
        number: Its own, given by the delivery.
        attempt: How often it was sent.
        entry_id: The id of the entry of the last attempt, once Redis has told it.
        doubt: The first attempt that Redis may have taken although no answer was heard.
        first_sent: Microseconds since 1970.
        looked_at: When its stream was last looked at, by the client's clock.
    """

    __slots__ = (
        "attempt",
        "deadline",
        "doubt",
        "entry_id",
        "first_sent",
        "is_done",
        "looked_at",
        "number",
        "on_done",
        "payload",
        "shard",
    )

    def __init__(self, shard: int, payload: bytes, deadline: float, on_done: OnDone) -> None:
        self.shard = shard
        self.payload = payload
        self.deadline = deadline
        self.on_done = on_done
        self.number = 0
        self.attempt = 0
        self.entry_id: bytes | None = None
        self.doubt: int | None = None
        self.first_sent = 0
        self.looked_at = 0.0
        self.is_done = False

    def __len__(self) -> int:
        return len(self.payload) // TRANSFER_BYTES

    @property
    def rows(self) -> Rows:
        """Its transfers."""
        return np.frombuffer(self.payload, TRANSFER)

    def begin_attempt(self, wall_us: int, now: float) -> None:
        """It is being sent, for the first time or again."""
        self.attempt += 1
        self.entry_id = None
        self.first_sent = self.first_sent or wall_us
        self.looked_at = now

    def take_back(self) -> None:
        """The last attempt was refused and does not count."""
        self.attempt -= 1

    def put_in_doubt(self) -> None:
        """The last attempt may have been taken, and its answer may never come."""
        if self.doubt is None:
            self.doubt = self.attempt
        self.entry_id = None

    def finish(self, result: bytes | EngineError) -> None:
        """Hand over the outcomes or the reason; later ones are let be."""
        if not self.is_done:
            self.is_done = True
            self.on_done(self, result)

    def unanswered(self, stream: str, waited: str, trouble: str) -> EngineError:
        """What to say where no outcomes came."""
        if not self.attempt:
            return TryAgainError(
                f"{len(self)} transfers were not sent within {waited}: their entry was never added "
                f"to {stream} ({trouble or 'no connection to Redis'}); try again"
            )
        if self.entry_id is None:
            state = f"was sent to {stream}, and whether it is there is not known ({trouble})"
        else:
            state = f"is in {stream}; is a worker of this shard running?"
        return OutcomeUnknownError(
            f"no outcomes of {len(self)} transfers within {waited}: their entry {state}; "
            "sending the same ids again is safe"
        )
