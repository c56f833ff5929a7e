"""How far amounts and counters may go before columns, or one owner alone, may not decide."""

from typing import Final

NEAR_OVERFLOW: Final = 2**60
"""Where an account's counters get there, its transfers go to the sequential rules."""

LARGE: Final = 2**40
"""Amounts from here on go to the sequential rules too, so that no flush adds up unnoticed."""

FOREIGN_STRIPE_MAX: Final = 2**51
"""No counter of a stripe away from its account's home passes this, or falls below zero: what would
goes to the home stripe, under the lock of its owner. So all of them together stay below 2^61, and
however they stand the home stripe stays within 64 bits as long as the account's sums do."""

UNLOCKED_MAX: Final = 2**61
"""What could bring a counter of an account past this locks the owners of all shards, so that every
book learns of it. Below it, whatever a book does not know of other stripes brings no counter to its
end."""
