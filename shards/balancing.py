"""When to even out the load, and when to let it be: a threshold with hysteresis."""

from typing import Final

PATIENCE: Final = 2
"""The skew must be above the threshold so often in a row."""

SETTLING: Final = 2
"""After a plan so many measurements are not believed: loads are measured anew."""


class Balance:
    """Looks at one measurement of the skew after the other.

    Args:
        threshold: Of the skew.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._above = 0
        self._settling = 0

    def should_act(self, skew: float) -> bool:
        """Whether to even out the load now."""
        if self._settling:
            self._settling -= 1
            return False
        self._above = self._above + 1 if skew > self._threshold else 0
        return self._above >= PATIENCE

    def acted(self) -> None:
        """A plan was applied."""
        self._above = 0
        self._settling = SETTLING
