"""All that hostile producers do, by name."""

from tests.fuzz import entry_actions, key_actions
from tests.fuzz.attack import ACTIONS

__all__ = ["ACTIONS", "entry_actions", "key_actions"]
