"""What can go wrong outside the rules, sorted by what the caller must do: the whole tree.

    EngineError
      InputError                  fix the input
      ConfigurationError          fix the configuration
        ServerError
      TryAgainError               try again; by itself, a worker does
        OutcomeUnknownError       what was sent may take effect: ask again with the same ids
          WaitsForThawError
          CommitInDoubtError
        BackpressureError
        ClockError
        TooMuchError              do less of it at once
        FirstCameAnotherError     decide again, from the entries
          ChainMovedError
          ConflictError
            BookStandsError       what the book rests on is as it was
              FundsArrivedError
              LockHeldError
      InvariantBroken             ask an operator

A transfer that breaks a rule is no error but an `Outcome`. Every message here says what
happened and what to do next; what a driver said is its cause.
"""


class EngineError(Exception):
    """Base of all errors of the engine."""


class InputError(EngineError):
    """Fix the input: it cannot be read, or the door does not take it."""


class ConfigurationError(EngineError):
    """Fix the configuration: a setting, a server's version or setting, a missing schema."""


class LoginRefusedError(ConfigurationError):
    """A server does not know this user by this password.

    Whoever was connected before waits instead: passwords are changed in one place after the other.
    """


class ServerError(ConfigurationError):
    """An embedded server cannot be started, reached or stopped."""


class TryAgainError(EngineError):
    """Try again: a server was away or the time limit passed; the outcome may be unknown.

    Sending the same transfers again with the same ids is always safe.
    """


class OutcomeUnknownError(TryAgainError):
    """It was sent, and what became of it is not known: ask again with the same ids."""


class WaitsForThawError(OutcomeUnknownError):
    """Something is frozen that it needs, which the message says: it is decided after the thaw."""


class CommitInDoubtError(OutcomeUnknownError):
    """The connection was lost during COMMIT, or it was not answered in time: done, or not."""


class BackpressureError(TryAgainError):
    """The backlog is over its configured size; nothing was sent."""


class ClockError(TryAgainError):
    """This machine's clock and that of Postgres are too far apart; nothing was written."""


class TooMuchError(TryAgainError):
    """A step took longer than it may, or more than Postgres has: less of it may pass."""


class FirstCameAnotherError(TryAgainError):
    """Another came first: nothing of the flush was written, and it is decided again."""


class ChainMovedError(FirstCameAnotherError):
    """Another wrote in this worker's chain of flushes: reload and decide again."""


class ConflictError(FirstCameAnotherError):
    """Another flush came first (a version, an id, a hold, a deadlock): decide again."""


class BookStandsError(ConflictError):
    """A conflict about an id or a lock: what the book rests on is as it was."""


class FundsArrivedError(BookStandsError):
    """What was declined for want of funds need not be: others have brought some since."""


class LockHeldError(BookStandsError):
    """A lock could not be had in time, or not without a deadlock: wait, and decide again."""


class RefusedError(TryAgainError):
    """Postgres refuses a value of what was to be written, or what follows from it."""


class InvariantBroken(EngineError):  # noqa: N818 - a statement, not an error among others
    """Ask an operator: something that cannot happen did. The process stops."""


def errors_of(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors of a group and of the groups in it."""
    errors: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            errors.append(error)
    return errors
