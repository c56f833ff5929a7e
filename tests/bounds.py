"""How long tests wait before they call something hanging.

These bounds guard against hanging and measure nothing: a machine with four times the load it can
bear keeps them. What a test needs short (a lease, a lock's time-out, a client's time limit) is a
setting and stands in the test; the simulator's clock is virtual, and its bounds are its own.
"""

from typing import Final

CONDITION_SECONDS_MAX: Final = 180.0
"""For a condition to come true, an answer to come, a worker to be ready or to stop."""

PROCESS_SECONDS_MAX: Final = 600.0
"""For a process to say something or to end."""

UNAIDED_SECONDS_MAX: Final = 45.0
"""For what our own code must do before Postgres does it: a backend that idles within a
transaction it ends itself after 60 s, and a test that waits longer would not see who did it."""

MUTATED_SECONDS_MAX: Final = 1800.0
"""For the tests that are to notice one mutation."""
