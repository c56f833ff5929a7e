"""What lies between a client and a server: delays, hiccups and losses, drawn from a seed."""

import random
from typing import Literal

Fate = Literal["arrives", "request lost", "answer lost", "applied late"]

COMMITS = ("COMMIT", "flush_small", "flush_one")


class Network:
    """Draws how long each message takes and whether it arrives. Seconds.

    Args:
        chance: Source of all that is drawn; None for a network that is always the same.
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._random = chance
        self.loss = 0.0
        """Share of commands whose connection is lost on the way there or back."""
        self.loss_of_commits = 0.0
        """The same for what commits."""
        self.slow = 0.03
        """Share of messages that take up to a hundred times as long."""

    def delay(self) -> float:
        """How long a message takes."""
        draw = self._random
        if draw is None:
            return 0.0001
        if draw.random() < self.slow:
            return draw.uniform(0.001, 0.05)
        return draw.uniform(0.0001, 0.001)

    def hiccup(self) -> float:
        """For how long a server pauses in the middle of a statement; mostly not at all."""
        draw = self._random
        if draw is None or draw.random() > 0.05:
            return 0.0
        return draw.uniform(0.0001, 0.02)

    def linger(self) -> float:
        """How long a server takes to notice that its client is gone."""
        draw = self._random
        if draw is None:
            return 0.0001
        return draw.choice([0.0001, 0.01, 0.5, 5.0, 20.0])

    def fate(self, command: str) -> Fate:
        """What becomes of a command."""
        draw = self._random
        if draw is None:
            return "arrives"
        loss = self.loss_of_commits if command in COMMITS else self.loss
        if loss == 0 or draw.random() > loss:
            return "arrives"
        return draw.choice(["request lost", "answer lost", "applied late"])

    def happens(self, share: float) -> bool:
        """Whether something of that probability happens."""
        return self._random is not None and self._random.random() < share
