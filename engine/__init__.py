"""A transfer engine: moves money between accounts, correctly, at the speed of Postgres.

`from engine import connect` is where a producer begins.
"""

from typing import TYPE_CHECKING, Any

from engine.ledger.nouns import AccountFlags, TransferFlags
from engine.ledger.outcomes import AccountOutcome, Outcome

if TYPE_CHECKING:
    from engine.client import connect

__version__ = "0.1.0"

__all__ = ["AccountFlags", "AccountOutcome", "Outcome", "TransferFlags", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    """Load the client, with its drivers, only where it is used."""
    if name == "connect":
        from engine.client import connect  # noqa: PLC0415 - as above

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
