"""Calls with many transfers: cut into entries, sent in order or by shard, put together again."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.client.backpressure import Backpressure
from engine.client.delivery import Delivery
from engine.client.entry import OutgoingEntry
from engine.client.routes import Places, Routes, cut
from engine.errors import EngineError, OutcomeUnknownError, TryAgainError
from engine.patience import Patience
from engine.wire.layout import Rows

PARTS_IN_FLIGHT_MAX: Final = 4
"""Entries of one call that are under way at a time, a shard, where order does not matter."""

Outcomes = npt.NDArray[np.uint8]


class Calls:
    """Sends the transfers of one call.

    Args:
        routes: Where they go.
        backpressure: Whether they may.
        delivery: How they go.
        patience: The clock of time limits.
        timeout_seconds: For each entry.
    """

    def __init__(
        self,
        routes: Routes,
        backpressure: Backpressure,
        delivery: Delivery,
        patience: Patience,
        timeout_seconds: float,
    ) -> None:
        self._routes = routes
        self._backpressure = backpressure
        self._delivery = delivery
        self._patience = patience
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()

    async def send(self, rows: Rows, *, ordered: bool, by_shard: bool) -> Outcomes:
        """Send rows, and return the numbers of their outcomes; see `Client.create_transfers`.

        Raises:
            InputError: A chain is too long; nothing was sent.
            BackpressureError: Nothing was sent.
            OutcomeUnknownError: Some outcomes did not come.
            TryAgainError: Some entries could not be sent.
        """
        outcomes = np.zeros(len(rows), np.uint8)
        groups: list[tuple[int | None, Places | slice]] = (
            [*self._routes.group(rows)] if by_shard else [(None, slice(0, len(rows)))]
        )
        pieces = [(shard, places, rows[places]) for shard, places in groups]
        parts = [cut(own) for _, _, own in pieces]
        decided = 0

        async def send_group(
            shard: int | None, places: Places | slice, own: Rows, ends: list[tuple[int, int]]
        ) -> None:
            told = np.zeros(len(own), np.uint8)
            rest = iter(ends)

            async def send_some() -> None:
                nonlocal decided
                for start, end in rest:
                    part = own[start:end]
                    to = self._routes.shard_of_first(part) if shard is None else shard
                    told[start:end] = np.frombuffer(await self.deliver(to, part), np.uint8)
                    decided += end - start

            await _run_all(send_some() for _ in range(1 if ordered else PARTS_IN_FLIGHT_MAX))
            outcomes[places] = told

        try:
            await _run_all(
                send_group(*piece, ends) for piece, ends in zip(pieces, parts, strict=True)
            )
        except EngineError as error:
            if not decided:
                raise
            kind = OutcomeUnknownError if isinstance(error, OutcomeUnknownError) else TryAgainError
            raise kind(
                f"{decided} of {len(rows)} transfers are decided, then: {error}; sending all "
                "again with the same ids is safe"
            ) from error
        return outcomes

    async def deliver(self, shard: int, rows: Rows) -> bytes:
        """Send one entry and wait for the numbers of its outcomes. Raises as `send`."""
        deadline = self._patience.time() + self._timeout_seconds
        await self._backpressure.admit(shard, deadline)
        done: asyncio.Future[bytes] = self._loop.create_future()

        def on_done(_: OutgoingEntry, result: bytes | EngineError) -> None:
            if done.done():
                return  # The caller has gone.
            if isinstance(result, bytes):
                done.set_result(result)
            else:
                done.set_exception(result)

        self._delivery.send(OutgoingEntry(shard, rows.tobytes(), deadline, on_done))
        return await done


async def _run_all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all to their ends; of several errors raise that an outcome is unknown before others."""
    results = await asyncio.gather(*works, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    errors.sort(key=lambda error: not isinstance(error, OutcomeUnknownError))
    if errors:
        raise errors[0]
