"""Whether a Redis is the one that it should be: this ledger's, and one that forgets nothing."""

from typing import Final

from engine.errors import BackpressureError, ConfigurationError, EngineError
from engine.streams.cluster_connection import AnyConnection
from engine.streams.operators import describe_server
from engine.streams.reader import Sending
from engine.streams.refusals import KeyRefusedError, NotNowError

POLICY: Final = "noeviction"


def ledger_key(prefix: str) -> str:
    """Where the identity of the ledger stands that the streams lead to."""
    return f"{prefix}:ledger"


async def check_policy(sender: Sending) -> None:
    """See that Redis refuses what it has no room for, rather than forget what it took.

    Raises:
        ConfigurationError: It may evict entries.
        TryAgainError: It does not answer.
    """
    try:
        facts = await describe_server(sender)
    except ConfigurationError as error:
        if _is_forbidden(error):
            return
        raise
    policy = facts.get("maxmemory_policy", POLICY)
    if policy != POLICY:
        raise ConfigurationError(
            f"Redis may throw away what waits to be decided, as its maxmemory-policy is {policy}; "
            "set it to noeviction: CONFIG SET maxmemory-policy noeviction, and in its configuration"
        )


async def claim_streams(sender: Sending, prefix: str, ledger_id: str) -> None:
    """See that the streams lead to this ledger; where they lead to none yet, to this from now on.

    Args:
        sender: To Redis.
        prefix: Of the names of the streams.
        ledger_id: The ledger's identity, as its database keeps it.

    Raises:
        ConfigurationError: They are another ledger's.
        TryAgainError: Redis does not answer.
    """
    key = ledger_key(prefix)
    made, found = await sender.send([("SET", key, ledger_id, "NX"), ("GET", key)])
    for reply in (found, made):
        if _is_forbidden(reply) or _is_of_a_node_away(reply):
            return
        # Without memory it takes nothing; then it is written the next time.
        if isinstance(reply, EngineError) and not isinstance(reply, BackpressureError):
            raise reply
    _compare(prefix, ledger_id, found)


async def check_streams_belong(connection: AnyConnection, prefix: str, ledger_id: str) -> None:
    """See that the streams are not another ledger's, as a client does that writes no such key.

    Raises:
        ConfigurationError: They are another ledger's.
        TryAgainError: Redis does not answer.
    """
    try:
        found = await connection.ask(b"GET", ledger_key(prefix).encode())
    except KeyRefusedError:
        return  # somebody's key of that name, which says nothing
    except (ConfigurationError, NotNowError) as error:
        if _is_forbidden(error) or _is_of_a_node_away(error):
            return
        raise
    if found is not None:
        _compare(prefix, ledger_id, found)


def _is_of_a_node_away(reply: object) -> bool:
    """Whether the node of a cluster that has the key is away: it takes its own streams along alone.

    Whose the streams are is looked at again each minute.
    """
    return isinstance(reply, NotNowError) and "no node of the cluster" in str(reply)


def _is_forbidden(reply: object) -> bool:
    """Whether this user of Redis may touch streams, and no more."""
    return isinstance(reply, ConfigurationError) and "NOPERM" in str(reply)


def _compare(prefix: str, ledger_id: str, found: bytes | None) -> None:
    if found is not None and bytes(found) != ledger_id.encode():
        other = bytes(found)[:64].decode(errors="replace")
        raise ConfigurationError(
            f"the streams named {prefix}:... lead to another ledger, {other!r}, and this one is "
            f"{ledger_id}: use another prefix (ENGINE_PREFIX) or another Redis. If that ledger is "
            f"no more, delete the key {ledger_key(prefix)}"
        )
