"""What can go wrong outside the rules, sorted by what the caller must do.

A transfer that breaks a rule is no error but an `Outcome`. Every message here says what
happened and what to do next.
"""


class EngineError(Exception):
    """Base of all errors of the engine."""


class InputError(EngineError):
    """Fix the input: it cannot be read, or the door does not take it."""


class ConfigurationError(EngineError):
    """Fix the configuration: a setting, a server's version or setting, a missing schema."""


class ServerError(ConfigurationError):
    """An embedded server cannot be started, reached or stopped."""


class TryAgainError(EngineError):
    """Try again: a server was away or the time limit passed; the outcome may be unknown.

    Sending the same transfers again with the same ids is always safe.
    """


class OutcomeUnknownError(TryAgainError):
    """It was sent, and what became of it is not known: ask again with the same ids."""


class BackpressureError(TryAgainError):
    """The backlog is over its configured size; nothing was sent."""


class ChainMovedError(TryAgainError):
    """Another wrote in this worker's chain of flushes: reload and decide again."""


class InvariantBroken(EngineError):  # noqa: N818 - a statement, not an error among others
    """Ask an operator: something that cannot happen did. The process stops."""
