"""All that hostile producers do, by name, and what of it is not borne yet."""

from typing import Final

from tests.fuzz import entry_actions, key_actions
from tests.fuzz.attack import ACTIONS

__all__ = ["ACTIONS", "UNBORNE", "entry_actions", "key_actions"]

UNBORNE: Final = frozenset(
    {"maximal_id", "highest_legal_id", "odd_id", "id_ahead_of_the_clock", "id_set"}
    | {"poisoned_key_taken", "poisoned_twice", "last_id_set_to_the_maximum"}
    | {"begun_anew_with_a_low_id", "stream_copied_back", "stream_renamed"}
    | {"key_of_another_type", "giant_entry"}
)
"""What breaks something today; whoever mends one takes it out."""
