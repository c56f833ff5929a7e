"""The last act of a transaction: COMMIT, and what became of it where no answer came.

Theory of operation. A COMMIT has six ends, and the fence (the row of `ledger.flushes` that the
transaction wrote) tells them apart, whoever asks and however late:

    answered                  it is durable; what rests on it may be told
    refused, rolled back      nothing was written; it is decided again
    answered with a warning   visible, but no synchronous standby has confirmed it: a COMMIT that
                              is cancelled looks like this. Something of our own is committed,
                              which a standby confirms only after all that came before
    connection lost           its backend is ended and waited for; only then is the absence of
                              the fence final. Its presence means committed; then as above
    no answer                 after `ASK_SECONDS` it is asked on another connection what the
                              backend is doing. At work: it is waited for, for hours if need
                              be, since a standby may be away. Gone, or idle while we wait for
                              it: the link is dead, though our end of it is open. It is cut, and
                              this is a lost connection
    not begun                 a small flush is written and committed by one statement, and
                              triggers can run at COMMIT: what computes, or sleeps, for
                              `WRITE_SECONDS_MAX` is cut too, and less of it is tried

What triggers the change from one to the other is the network alone, never a time limit on what
commits and never a cancellation: both would send a cancel. So a COMMIT is shielded; who is
cancelled meanwhile learns of it after the end. What is awkward: the backend of a lost connection
may be running its COMMIT still, and may be waiting for a standby; ending it is what makes it final.
By number and name it is found, since the number alone may be a stranger's after a restart.

Where Postgres stays away for `SETTLE_SECONDS_MAX` nobody knows: nothing is answered, and the
next session finds out by its positions.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

import anyio
import asyncpg
import structlog

from engine.errors import TooMuchError, TryAgainError
from engine.patience import Patience, within
from engine.store.connections import Connections
from engine.store.driver import STATEMENT_SECONDS_MAX
from engine.store.driver_errors import is_connection_lost

SETTLE_SECONDS_MAX: Final = 30.0
"""How long Postgres may stay away before a commit of unknown fate is given up."""

ASK_SECONDS: Final = 3.0
"""After so long without an answer, and again and again, it is asked what the backend does."""

WRITE_SECONDS_MAX: Final = STATEMENT_SECONDS_MAX
"""For what comes before the commit in the same statement, or is run by it."""

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
        TooMuchError: It was not committed, since it took too long before.
        TryAgainError: It was not committed; or nobody can say, and nothing may be answered.
    """
    connection = connections.writer
    if connection.is_closed():
        commit.close()
        raise TryAgainError(f"flush {sequence} was not sent: the connection was lost before")
    pid = connection.get_server_pid()
    try:
        before = connections.warnings_of(connection)
        result = await _answer_of(connections, connection, commit, f"flush {sequence}")
        # So Postgres tells of a COMMIT cut short.
        if connections.warnings_of(connection) != before:
            _log.warning("commit_cut_short", sequence=sequence)
            await commit_own(connections, connection)
    except Exception as error:
        if not (is_connection_lost(error) or isinstance(error, TooMuchError)):
            raise
        _log.warning("commit_of_unknown_fate", sequence=sequence, reason=str(error))
        is_committed = await _settle(connections, connection, pid, sequence, number)
        connections.lost_commits["committed" if is_committed else "aborted"] += 1
        if isinstance(error, TooMuchError) and not is_committed:
            raise
        if not is_committed:
            raise TryAgainError(f"flush {sequence} was not committed: {error}") from error
        await connections.open()
        return None
    if result == "ROLLBACK":
        raise TryAgainError(f"flush {sequence} was not committed: Postgres rolled it back")
    return result


async def commit_own(connections: Connections, connection: asyncpg.Connection) -> None:
    """Commit something of our own, which waits for a synchronous standby: with it, all before."""
    before = -1
    while before != connections.warnings_of(connection):
        before = connections.warnings_of(connection)
        commit = connection.execute(connections.text("commit_own"))
        await _answer_of(connections, connection, commit, "what confirms all before it")


async def _answer_of(
    connections: Connections,
    connection: asyncpg.Connection,
    commit: Coroutine[Any, Any, Any],
    what: str,
) -> Any:
    """What a statement that commits returns, or raises."""
    committing = asyncio.ensure_future(commit)
    try:
        await _wait_for(connections, connection, committing, what)
    except asyncio.CancelledError:
        # A scope that is cancelled cancels every wait in it, this one too.
        with anyio.CancelScope(shield=True), contextlib.suppress(TooMuchError):
            await _wait_for(connections, connection, committing, what)
        committing.exception()
        raise
    return committing.result()


async def _wait_for(
    connections: Connections,
    connection: asyncpg.Connection,
    committing: "asyncio.Future[Any]",
    what: str,
) -> None:
    """Until it is over: answered, refused, or cut where nobody will answer it.

    Raises:
        TooMuchError: It was cut since it took too long before it came to commit.
    """
    said = answered = 0.0
    with Patience() as patience:
        while not await _is_over(committing):
            try:
                is_at_work = await _is_at_work(connections, connection)
                may_write = patience.time() < WRITE_SECONDS_MAX
                is_slow = not may_write and await _is_writing(connections, connection)
                answered = patience.time()
            except TryAgainError:
                is_at_work, is_slow = patience.time() - answered < SETTLE_SECONDS_MAX, False
            if committing.done():
                return  # Its answer came while we asked.
            if not is_at_work:
                _log.warning("commit_unanswered", what=what, seconds=round(patience.time(), 1))
                connection.terminate()
            elif is_slow:
                connection.terminate()
                await asyncio.wait([committing])
                if committing.exception() is not None:
                    words = f"{what} took over {WRITE_SECONDS_MAX:.0f} s before its commit"
                    raise TooMuchError(f"Postgres did not answer in time: {words}")
            elif patience.time() - said >= SLOW_SECONDS:
                said = patience.time()
                _log.warning("commit_waits", what=what, seconds=round(said, 1))


async def _is_over(committing: "asyncio.Future[Any]") -> bool:
    """Whether there is an answer within `ASK_SECONDS`."""
    with contextlib.suppress(TimeoutError):
        async with within(ASK_SECONDS):
            await asyncio.wait([committing])
    return committing.done()


async def _is_at_work(connections: Connections, connection: asyncpg.Connection) -> bool:
    """Whether the backend of a connection is doing what it was asked for.

    Raises:
        TryAgainError: Postgres is out of reach.
    """
    if connection.is_closed():
        return False
    pid = connection.get_server_pid()
    async with _another(connections) as fresh:
        return bool(await connections.ask(fresh, "is_backend_at_work", pid, connections.name))


async def _is_writing(connections: Connections, connection: asyncpg.Connection) -> bool:
    """Whether it is at what comes before its commit, or is run by it; as `_is_at_work`."""
    if connection.is_closed():
        return False
    pid = connection.get_server_pid()
    async with _another(connections) as fresh:
        return bool(await connections.ask(fresh, "is_backend_writing", pid, connections.name))


@contextlib.asynccontextmanager
async def _another(connections: Connections) -> AsyncIterator[asyncpg.Connection]:
    """A connection for one question."""
    fresh = await connections.connect()
    try:
        yield fresh
    finally:
        fresh.terminate()


async def _settle(
    connections: Connections, lost: asyncpg.Connection, pid: int, sequence: int, number: int
) -> bool:
    """Find out whether a flush whose COMMIT was not answered is committed.

    The old backend is ended first and waited for: only then is absence final. Where the
    flush is there, something of our own is committed, which waits for a synchronous
    standby as the lost COMMIT may not have done.
    """
    lost.terminate()
    with Patience() as patience:
        while patience.time() < SETTLE_SECONDS_MAX:
            try:
                fresh = await connections.connect()
                try:
                    while await connections.ask(fresh, "end_backend", pid, connections.name):  # noqa: ASYNC110 - it ends when it ends
                        await asyncio.sleep(0.01)
                    committed: bool = await connections.ask(
                        fresh, "find_flush", connections.worker, sequence, number
                    )
                finally:
                    fresh.terminate()
                if committed:
                    await _confirm(connections)
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


async def _confirm(connections: Connections) -> None:
    # Without a time limit, as all that commits.
    fresh = await connections.connect()
    try:
        await commit_own(connections, fresh)
    finally:
        fresh.terminate()
