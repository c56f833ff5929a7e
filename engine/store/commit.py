"""The last act of a transaction: COMMIT, and what became of it where no answer came.

A time limit or a cancellation would send a cancel, and Postgres answers a cancelled COMMIT
as if it had succeeded, though no synchronous standby has confirmed it: it is visible, and a
failover loses it. So a COMMIT is waited for, however long it takes; where somebody else cut
it short, something of our own is committed before anybody is told, since a standby that
confirms that has confirmed all that came before it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

import anyio
import asyncpg
import structlog

from engine.errors import TryAgainError
from engine.store.connections import Connections
from engine.store.driver import is_connection_lost

SETTLE_SECONDS_MAX: Final = 30.0
"""How long Postgres may stay away before a commit of unknown fate is given up."""

SLOW_SECONDS: Final = 10.0
"""Of a commit that takes longer a word is said; it is waited for."""

_log = structlog.get_logger()


async def commit_and_settle(
    connections: Connections, sequence: int, number: int, commit: Coroutine[Any, Any, Any]
) -> Any:
    """Wait for what commits, without a time limit and shielded.

    Args:
        connections: The worker's.
        sequence: The number in the worker's chain that is committed.
        number: The flush's, unique over all workers.
        commit: The statement that commits, on the connection that writes.

    Returns:
        What the statement returned; None where its fate had to be found out.

    Raises:
        TryAgainError: It was not committed; or nobody can say, and nothing may be answered.
    """
    connection = connections.writer
    if connection.is_closed():
        commit.close()
        raise TryAgainError(f"flush {sequence} was not sent: the connection was lost before")
    committing = asyncio.ensure_future(commit)
    try:
        with _warned(connection) as was_warned:
            result = await _waited_for(committing, sequence)
        if was_warned():
            _log.warning("commit_cut_short", sequence=sequence)
            await commit_own(connections, connection)
    except Exception as error:
        if not is_connection_lost(error):
            raise
        _log.warning("commit_of_unknown_fate", sequence=sequence, reason=str(error))
        if not await _settle(connections, connection, sequence, number):
            raise TryAgainError(f"flush {sequence} was not committed: {error}") from error
        await connections.open()
        return None
    if result == "ROLLBACK":
        raise TryAgainError(f"flush {sequence} was not committed: Postgres rolled it back")
    return result


async def _waited_for(committing: "asyncio.Future[Any]", sequence: int) -> Any:
    waited_seconds = 0.0
    try:
        while not (await asyncio.wait([committing], timeout=SLOW_SECONDS))[0]:
            waited_seconds += SLOW_SECONDS
            _log.warning("commit_waits", sequence=sequence, seconds=waited_seconds)
    except asyncio.CancelledError:
        # A scope that is cancelled cancels every wait in it, this one too.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([committing])
        committing.exception()
        raise
    return committing.result()


@contextlib.contextmanager
def _warned(connection: asyncpg.Connection) -> Iterator[Callable[[], bool]]:
    """Whether Postgres warned of something meanwhile: so it tells of a COMMIT cut short."""
    warnings: list[Any] = []

    def listen(_: asyncpg.Connection, message: Any) -> None:
        if message.severity_en == "WARNING":
            warnings.append(message)

    connection.add_log_listener(listen)
    try:
        yield lambda: bool(warnings)
    finally:
        connection.remove_log_listener(listen)


async def commit_own(connections: Connections, connection: asyncpg.Connection) -> None:
    """Commit something of our own, which waits for a synchronous standby: with it, all before."""
    cut_short = True
    while cut_short:
        with _warned(connection) as was_warned:
            await connection.execute(connections.text("commit_own"))
        cut_short = was_warned()


async def _settle(
    connections: Connections, lost: asyncpg.Connection, sequence: int, number: int
) -> bool:
    """Find out whether a flush whose COMMIT was not answered is committed.

    The old backend is ended first and waited for: only then is absence final. Where the
    flush is there, something of our own is committed, which waits for a synchronous
    standby as the lost COMMIT may not have done.
    """
    pid = lost.get_server_pid()
    lost.terminate()
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS_MAX
    while asyncio.get_running_loop().time() < deadline:
        try:
            fresh = await connections.connect(statement_seconds_max=None)
            try:
                while await fresh.fetchval(  # noqa: ASYNC110 - it ends when it ends
                    connections.text("end_backend"), pid, connections.name
                ):
                    await asyncio.sleep(0.01)
                committed: bool = await fresh.fetchval(
                    connections.text("find_flush"), connections.worker, sequence, number
                )
                if committed:
                    await commit_own(connections, fresh)
            finally:
                fresh.terminate()
        except Exception as error:
            if not isinstance(error, TryAgainError) and not is_connection_lost(error):
                raise
            await asyncio.sleep(0.05)
        else:
            return committed
    raise TryAgainError(
        f"Postgres stayed away for {SETTLE_SECONDS_MAX:.0f} s after a COMMIT; flush {sequence} "
        "is of unknown fate and is not answered",
    )
