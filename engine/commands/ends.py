"""How a command ends: its exit codes."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
"""Or a check did not pass, or something is wrong."""
WRONG_USAGE: Final = 2
UNKNOWN: Final = 3
"""Something was sent and its outcome is not known; sending the same ids again is safe."""

EPILOG: Final = (
    "Exit code: 0 done, 1 failed or a check not passed, 2 wrong usage, 3 sent but the outcome is "
    "not known."
)
