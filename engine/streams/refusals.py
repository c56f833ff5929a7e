"""What Redis refuses, and what it means: the one place where its words are sorted.

An error reply is *passing* (it loads, fails over, has no memory or no more connections: the same
will do later), *final* (somebody must change the configuration) or *of this key only* (a key of
another type, a key that this user may not touch). What nobody has heard of is passing: a worker
that ends because of a word that it does not know helps nobody.
"""

from typing import Final

from engine.errors import (
    BackpressureError,
    ConfigurationError,
    EngineError,
    LoginRefusedError,
    TryAgainError,
)


class LostError(TryAgainError):
    """The connection was lost before the reply came: executed or not, nobody knows."""


class ReplyTooLongError(LostError):
    """The connection was cut, since a reply was longer than was to be read."""


class NotNowError(TryAgainError):
    """Redis does not take it now (it loads, fails over, is busy); it was not executed."""


class UnblockedError(NotNowError):
    """Somebody ended the wait of a read: there was nothing to read."""


class KeyRefusedError(ConfigurationError, TryAgainError):
    """It concerns one key: somebody must mend that, and other keys are as before.

    Whoever waits for the key may try again by itself, so it is a TryAgainError too.
    """


class CutOffError(KeyRefusedError):
    """Whenever this is asked Redis ends the connection, and takes others."""

    def __init__(self, lost: LostError) -> None:
        super().__init__(
            "whenever this stream is read Redis ends the connection, as where an entry is longer "
            f"than its client-output-buffer-limit: {lost}"
        )


class ElsewhereError(ConfigurationError):
    """Another node of a cluster has the key; the command was not executed.

    Args:
        message: What Redis said: MOVED or ASK, slot and node.
    """

    def __init__(self, message: str) -> None:
        self.where = message
        super().__init__(
            f"Redis refuses: {message}; where it is a cluster, name it as "
            "redis+cluster://HOST:PORT,HOST:PORT"
        )


_NOT_NOW: Final = frozenset(
    {
        "LOADING", "BUSY", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN", "MISCONF",
        "NOREPLICAS", "UNBLOCKED", "NOQUORUM", "INPROG", "IOERR", "UNKILLABLE", "REDIRECT",
        "FAILOVER", "PAUSED",
    }
)  # fmt: skip

_OF_ONE_KEY: Final = frozenset({"WRONGTYPE", "BUSYKEY", "NOGROUP", "CROSSSLOT"})
_OF_ONE_KEY_SAYS: Final = (
    "one of the keys",
    "access the key",
    "no such key",
    "exhausted the last possible id",
    "equal or smaller than the target stream",
    "smaller than the target stream",
    "smaller than current max_deleted",
    "invalid stream id",
)

_LOGIN: Final = frozenset({"NOAUTH", "WRONGPASS"})
_LOGIN_SAYS: Final = ("invalid password", "invalid username")
_FINAL: Final = frozenset({"NOPERM", "NOPROTO", "DENIED", "EXECABORT"})
_FINAL_SAYS: Final = (
    "unknown command",
    "unknown subcommand",
    "unknown option",
    "wrong number of arguments",
    "syntax error",
    "no password is set",
    "without any password configured",
    "operation not permitted",
    "invalid db index",
    "db index is out of range",
    "select is not allowed",
    "cluster support disabled",
    "protected mode",
)


def refusal_of(message: str) -> EngineError:
    """What an error reply of Redis means to whoever sent the command: it was not executed."""
    word = message.partition(" ")[0]
    says = message.lower()
    if word == "OOM":
        return BackpressureError(
            f"Redis is out of memory and took nothing ({message}); wait until the backlog is "
            "worked off, or raise its maxmemory"
        )
    if word in {"MOVED", "ASK"}:
        return ElsewhereError(message)
    if word == "UNBLOCKED" and "client unblock" in says:
        return UnblockedError(f"Redis ended a wait: {message}")
    if word in _NOT_NOW:
        return NotNowError(f"Redis takes nothing now: {message}")
    if word in _OF_ONE_KEY or any(words in says for words in _OF_ONE_KEY_SAYS):
        return KeyRefusedError(f"Redis refuses this key: {message}")
    if word in _LOGIN or any(words in says for words in _LOGIN_SAYS):
        return LoginRefusedError(f"Redis refuses: {message}")
    if word in _FINAL or any(words in says for words in _FINAL_SAYS):
        return ConfigurationError(f"Redis refuses: {message}")
    return NotNowError(f"Redis takes nothing now: {message}")
