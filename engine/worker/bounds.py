"""How much goes into one step of a worker: each bound of work, rows and bytes has its place here.

What is over a bound waits for the next step; nothing is refused for it. So a flood of one thing,
from one stream, takes its part of each flush and no more, and others are answered meanwhile.
Sizes that operators may set are in `engine.settings`.
"""

from typing import Final

from engine.store.flush_copies import FLUSH_SHIFT

FLUSH_ROWS_MAX: Final = (1 << FLUSH_SHIFT) - 1
"""Rows of a kind in one flush. A row's number is its flush's, shifted, plus its place: one more
row, and it would be numbered into the next flush. What is below keeps far from it: 40,945
transfers and one entry of 8,189 more have 98,268 postings, expiries 4,000."""

EXPIRIES_MAX: Final = 1_000
"""Holds that expire in one flush. Each is decided by the rules, some 30 us."""

EXPIRIES_READ_MAX: Final = 8 * EXPIRIES_MAX
"""Holds that are looked up at once; more where several expire in the same microsecond."""

DEAD_LETTERS_MAX: Final = 1_000
"""Entries in one flush that cannot be read."""

DEAD_LETTER_BYTES_MAX: Final = 4 * 2**20
"""Bytes of all of them; one entry may have more, alone."""

DEAD_LETTER_REASON_MAX: Final = 1_000
"""Characters of the reason that is kept with one."""

SET_ASIDE_MAX: Final = 16
"""Entries of one stream that are set aside within `SET_ASIDE_SECONDS`, as nobody can say why they
cannot be decided: where it is every entry, it is not the entry. Then that stream stands. So many
holds of all streams, too, that cannot expire; then none is tried for as long."""

SET_ASIDE_SECONDS: Final = 60.0
"""So long; and so long a stream stands before it is tried again."""

TURN_WEIGHT: Final = 8_190
"""What one stream may put into a flush before it is the turn of others: one full entry."""

WEIGHT_BYTES: Final = 512
"""So many bytes of an entry fill the inbox as one transfer does: what is large and holds few, or
cannot be read, takes room too."""
