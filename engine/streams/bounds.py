"""Every bound of a step that concerns Redis: in entries, bytes and seconds."""

from typing import Final

# Entries and their bytes.

ENTRY_READ_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of an entry with all its fields; beyond it, it is a dead letter of which the beginning is kept.
The transfers in it may have half of that."""

ENTRY_KEPT_BYTES_MAX: Final = 64 * 1024
"""So much is kept of an entry that is too large."""

ID_PART_MAX: Final = 2**63 - 1
"""Of either part of an id that the ledger can store; Redis counts to 2^64-1."""

# One read.

READ_BYTES: Final = 8 * 1024 * 1024
"""About as much is read at once; how many entries that is follows from those read before."""

READ_BYTES_MIN: Final = 1024 * 1024
"""And no less, however slow the way is."""

READ_SECONDS: Final = 0.05
"""About as long may the bytes of a read be under way."""

READ_REPLY_BYTES_MAX: Final = 32 * 1024 * 1024
"""Where a reply to a read is longer, the connection is cut, and less is asked for."""

READ_ENTRIES_MAX: Final = 4096
READ_ENTRIES_FIRST: Final = 16
"""Of each stream, before anything is known of their size."""

SINGLY_STREAMS_MAX: Final = 16
"""Where streams are read one by one, so many are asked for together, one entry of each."""

BELOW_ENTRIES_MAX: Final = 64
"""Read at once of what lies below a position."""

ENDED_STREAMS_MAX: Final = 16
"""Names for streams of one shard whose ids have come to their end."""

# Answers.

ANSWERS_ENTRIES_MAX: Final = 10_000
ANSWERS_SECONDS: Final = 3600

# Waiting.

CONNECT_SECONDS_MAX: Final = 5.0
SILENT_SECONDS_MAX: Final = 30.0
"""How long a reply may be waited for while nothing comes; the time in which this process itself
was busy does not count. Redis does one thing after the other, and is silent for 12 s while it
writes an entry of 1 GiB to the AOF of a slow disk: whoever gave up then would begin all anew."""

LINK_SECONDS_MAX: Final = 10.0
"""A link on which nothing that was sent arrives for so long is dead, as the system sees it."""

RECONNECT_SECONDS: Final = 1.0
"""How often a node of a cluster that is away is tried again."""

CLUSTER_PAUSE_SECONDS_MIN: Final = 0.001
CLUSTER_PAUSE_SECONDS_MAX: Final = 0.02
"""Between two looks at streams in which there is nothing; it grows while that is so."""
