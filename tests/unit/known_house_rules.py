"""What breaks a house rule today, by rule; see `test_house_rules`. It only ever shrinks.

Reasons: `flush_small` gets its arguments from `small_arguments`, which no tree shows; that they fit
is seen by every test that flushes.
"""

from typing import Final

KNOWN: Final[dict[str, frozenset[str]]] = {
    "arguments_untold": frozenset(
        {
            "engine/store/flush_writer.py: FlushWriter._write_small: flush_small",
        }
    ),
}

KNOWN_MAX: Final = 1
"""How many there may be at most; lower it with each that is mended."""
