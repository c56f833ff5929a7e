"""Users of Redis with few rights: who produces, who decides, who looks after it.

A producer adds to the streams of transfers and reads its own answers; it reads no transfer of
anybody, and no answer to another producer. Redis cannot tell adding from adding with a trim
(`XADD ... MAXLEN`): a producer can throw away what others sent, which is then neither answered nor
decided, and that is all that it can do.
"""

import hashlib
import secrets
from typing import Any, Final, Literal, TypeAlias, get_args

from engine.errors import ConfigurationError, EngineError
from engine.streams.address import parse_address
from engine.streams.sender import Sender

UserKind: TypeAlias = Literal["producer", "engine", "operator"]
USER_KINDS: Final[tuple[UserKind, ...]] = get_args(UserKind)

_ALWAYS: Final = "+ping +hello +select +client|setname +client|setinfo"
_CLUSTER: Final = "+cluster|slots +cluster|shards +readonly +asking"
_FACTS: Final = "+info +time +config|get"
_OF_ENGINES: Final = "~{at}:transfers:* ~{at}:flows:* ~{at}:signals:*"

_WORDS: Final[dict[UserKind, tuple[str, ...]]] = {
    "producer": (
        f"{_ALWAYS} {_CLUSTER} +xadd +xlen %W~{{at}}:transfers:*",
        "(%R~{at}:ledger +get)",
        "(%RW~{at}:answers:{user}:* +xread +xtrim +unlink)",
    ),
    "engine": (
        f"{_ALWAYS} {_CLUSTER} {_FACTS} {_OF_ENGINES}",
        "+xread +xrange +xrevrange +xlen +xinfo|stream +xadd +xdel",
        "+exists +type +renamenx +unlink +client|id +client|unblock",
        "(~{at}:ledger +get +set)",
        # Answers to others are written; those that flows wait for are read.
        "(~{at}:answers:* +xadd +expire +xread +unlink)",
    ),
    "operator": (
        f"{_ALWAYS} {_CLUSTER} {_FACTS} {_OF_ENGINES} ~{{at}}:ledger",
        "+xrange +xrevrange +xlen +xinfo|stream +xadd +exists +type +get +scan +client|id",
    ),
}
"""What each kind may: words of ACL SETUSER, and in brackets what holds for other keys alone."""


def answers_of(prefix: str, url: str) -> str:
    """A new name for a stream of answers: below the name of the address's user, if it has one."""
    user = parse_address(url).username
    own = f"{user}:" if user else ""
    return f"{prefix}:answers:{own}{secrets.token_hex(16)}"


def rules_of(kind: UserKind, prefix: str, user: str) -> list[str]:
    """What a user may, as words of ACL SETUSER; nothing else, whatever it could before.

    Args:
        kind: What it is for.
        prefix: Of the names of the streams.
        user: Its name; of a producer, answers to it are below it.
    """
    rules = ["on", "resetkeys", "resetchannels", "clearselectors", "-@all"]
    for words in _WORDS[kind]:
        filled = words.format(at=_literal(prefix), user=_literal(user))
        rules += [filled] if filled.startswith("(") else filled.split()
    return rules


def command_of(kind: UserKind, prefix: str, user: str) -> str:
    """The command that makes a user, as it is typed; a password is still to be given."""
    words = rules_of(kind, prefix, user)
    return " ".join(["ACL SETUSER", user, ">PASSWORD", *(_typed(word) for word in words)])


async def apply_user(
    url: str, kind: UserKind, prefix: str, user: str, password: str | None
) -> bool:
    """Make a user, or change what it may.

    Args:
        url: Of somebody who may, on one server; in a cluster each node has users of its own.
        kind: As `rules_of`.
        prefix: As `rules_of`.
        user: Its name.
        password: To be its only one, sent as the hash that Redis keeps; None for those it has.

    Returns:
        Whether it is kept over a restart: in a file that Redis has been given for it.

    Raises:
        ConfigurationError: Redis refuses, or the name cannot be a user's.
        TryAgainError: Redis is out of reach.
    """
    if not user.isascii() or not user.isprintable() or set(user) & set(" ()"):
        raise ConfigurationError(
            f"{user!r} cannot be a user of Redis: give printable ASCII without spaces and brackets"
        )
    secret: list[str] = []
    if password is not None:
        secret = ["resetpass", f"#{hashlib.sha256(password.encode()).hexdigest()}"]
    sender = Sender(url)
    try:
        if sender.is_cluster:
            raise ConfigurationError(
                "users are each node's own: run this once for each, by redis://HOST:PORT"
            )
        words: tuple[Any, ...] = ("ACL", "SETUSER", user, *secret, *rules_of(kind, prefix, user))
        made, saved = await sender.send([words, ("ACL", "SAVE")])
    finally:
        sender.close()
    if isinstance(made, EngineError):
        raise made
    return not isinstance(saved, EngineError)


def _literal(text: str) -> str:
    """A text as a pattern that it alone meets."""
    return "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in text)


def _typed(word: str) -> str:
    return f'"{word}"' if word.startswith("(") else word
