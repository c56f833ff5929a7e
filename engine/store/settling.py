"""The last act of a transaction: COMMIT, and what became of it where no answer came."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import asyncpg
import structlog

from engine.errors import TryAgainError
from engine.store.connection import is_connection_lost
from engine.store.link import Link

SETTLE_SECONDS_MAX: Final = 30.0

_log = structlog.get_logger()


async def finish(link: Link, sequence: int, number: int, commit: Coroutine[Any, Any, Any]) -> Any:
    """Wait for what commits, without a time limit and shielded.

    A time limit or a cancellation would send a cancel, and a cancelled COMMIT looks like
    success where a synchronous standby has not confirmed it.

    Args:
        link: The worker's.
        sequence: The number in the worker's chain that is committed.
        number: The flush's, unique over all workers.
        commit: The statement that commits, on the connection that writes.

    Returns:
        What the statement returned; None where its fate had to be found out.

    Raises:
        TryAgainError: It was not committed; or nobody can say, and nothing may be answered.
    """
    lost = link.writer
    committing = asyncio.ensure_future(commit)
    try:
        return await asyncio.shield(committing)
    except asyncio.CancelledError:
        await asyncio.wait([committing])
        raise
    except Exception as error:
        if not is_connection_lost(error):
            raise
        _log.warning("commit_of_unknown_fate", sequence=sequence, reason=str(error))
        if not await _settle(link, lost, sequence, number):
            raise TryAgainError(f"flush {sequence} was not committed: {error}") from error
        await link.open()
        return None


async def _settle(link: Link, lost: asyncpg.Connection, sequence: int, number: int) -> bool:
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
            fresh = await link.connect()
            try:
                while await fresh.fetchval(  # noqa: ASYNC110 - it ends when it ends
                    link.text("end_backend"), pid, link.name
                ):
                    await asyncio.sleep(0.01)
                committed: bool = await fresh.fetchval(
                    link.text("find_flush"), link.worker, sequence, number
                )
                if committed:
                    await fresh.execute(link.text("commit_own"))
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
