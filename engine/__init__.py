"""A transfer engine: moves money between accounts, correctly, at the speed of Postgres.

`from engine import connect` is where a producer begins.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from engine.client import connect
    from engine.ledger.nouns import AccountFlags, TransferFlags
    from engine.ledger.outcomes import AccountOutcome, Outcome

__version__ = "0.1.0"

__all__ = ["AccountFlags", "AccountOutcome", "Outcome", "TransferFlags", "__version__", "connect"]

_WHERE: Final = {
    "AccountFlags": "engine.ledger.nouns",
    "AccountOutcome": "engine.ledger.outcomes",
    "Outcome": "engine.ledger.outcomes",
    "TransferFlags": "engine.ledger.nouns",
    "connect": "engine.client",
}


def __getattr__(name: str) -> Any:
    """Load what is used and nothing else: `engine --help` waits for no driver and no numpy."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
