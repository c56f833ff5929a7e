"""Workers in this process: which shards each gets, and how all of them end."""

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, TypeAlias

import anyio
import structlog
import typer

from engine.commands.program import discard_output
from engine.flows.worker import FlowWorker
from engine.ledger.nouns import SHARD_COUNT_MAX
from engine.operating.head_log import HeadLog
from engine.operating.outages import OutageRecorder
from engine.servers import Addresses
from engine.settings import HEADS_VARIABLE, read_variable, stream_prefix, traced_share
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.worker import Worker

WORKERS_MAX: Final = 64

_log = structlog.get_logger()

WorkerCount: TypeAlias = Annotated[
    int,
    typer.Option("--workers", min=1, max=WORKERS_MAX, help="How many workers this process runs."),
]

MetricsAddress: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Serve /metrics (Prometheus), /livez and /readyz there. Off if not given.",
    ),
]


def parse_listen(text: str, option: str) -> tuple[str, int]:
    """Read `HOST:PORT`, or `[::1]:PORT`.

    Raises:
        BadParameter: When it is written in another way.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise typer.BadParameter(
            f"{text!r}: write where to listen as HOST:PORT, as 127.0.0.1:9464",
            param_hint=option,
        )
    return host, int(port)


def parse_shards(text: str | None) -> list[int] | None:
    """Read `0-3,8`: the shards 0, 1, 2, 3 and 8.

    Raises:
        BadParameter: When it is written in another way.
    """
    if text is None:
        return None
    shards: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (_is_number(first) and (_is_number(last) or not dash)):
            raise typer.BadParameter(f"{text[:80]!r}: write shards as 0-7 or 0,2,5")
        low, high = int(first), int(last or first)
        if not low <= high < SHARD_COUNT_MAX:
            raise typer.BadParameter(f"{part!r}: shards go from 0 to {SHARD_COUNT_MAX - 1}")
        shards.update(range(low, high + 1))
    return sorted(shards)


def _is_number(text: str) -> bool:
    """Whether it is written as a shard is; no number of endless digits."""
    return text.isascii() and text.isdecimal() and len(text) <= len(str(SHARD_COUNT_MAX))


def deal_shards(shards: Sequence[int] | None, workers: int) -> list[list[int] | None]:
    """Give each of some workers its shards, one after the other in turn.

    Args:
        shards: Those to work on, and only those; None where each takes its share of all.
        workers: How many.

    Raises:
        BadParameter: When a worker would have none.
    """
    if shards is None:
        return [None] * workers
    if workers > len(shards):
        raise typer.BadParameter(f"{workers} workers for {len(shards)} shards: some would idle")
    return [list(shards[first::workers]) for first in range(workers)]


class Crew:
    """The workers of this process.

    Args:
        addresses: The servers.
        deal: For each worker, its shards; None for its share.
        metrics: Host and port at which metrics are served; None for nowhere.
        others: Workers of flows, which share their shards by themselves.
    """

    def __init__(
        self,
        addresses: Addresses,
        deal: Sequence[Sequence[int] | None],
        metrics: tuple[str, int] | None = None,
        others: Sequence[FlowWorker] = (),
    ) -> None:
        self._addresses = addresses
        self._listen = metrics
        self.metrics_address: str | None = None
        """Where metrics are served, once they are."""
        self._workers = [
            Worker(
                WorkerStore(addresses.postgres_dsn, uuid.uuid4().bytes),
                Streams(addresses.redis_url, stream_prefix()),
                shards,
                clock,
            )
            for shards in deal
        ]
        self._recorders = [
            OutageRecorder(worker, addresses.postgres_dsn) for worker in self._workers
        ]
        self._head_logs = [
            HeadLog(worker, addresses.postgres_dsn)
            for worker in self._workers
            if read_variable(HEADS_VARIABLE) == "1"
        ]
        self._everybody: list[Worker | FlowWorker] = [*self._workers, *others]

    def stop(self) -> None:
        """Let every worker finish what it has decided and give its shards back."""
        for worker in self._everybody:
            worker.stop()

    def abandon(self) -> None:
        """Cut off whatever is under way: nobody waits for it any more."""
        for worker in self._everybody:
            worker.abandon()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Work until `stop`, or until a worker fails for good.

        Args:
            on_ready: Called once, when all workers have all their shards.

        Raises:
            ConfigurationError, InvariantBroken: As `Worker.run`.
        """
        async with (
            self._send_traces(),
            self._serve_metrics(),
            anyio.create_task_group() as announcing,
        ):
            announcing.start_soon(self._announce, on_ready)
            async with anyio.create_task_group() as working:
                for worker in self._everybody:
                    working.start_soon(worker.run)
                for recorder in self._recorders:
                    announcing.start_soon(recorder.run)
                for head_log in self._head_logs:
                    announcing.start_soon(head_log.run)
            announcing.cancel_scope.cancel()

    @contextlib.asynccontextmanager
    async def _serve_metrics(self) -> AsyncIterator[None]:
        if self._listen is None:
            yield
            return
        # Only who asks for metrics pays for the library.
        from engine.operating.endpoint import open_endpoint  # noqa: PLC0415
        from engine.operating.metrics import Metrics  # noqa: PLC0415

        metrics = Metrics(self._workers)
        async with open_endpoint(metrics, self._listen) as self.metrics_address:
            _log.info("metrics_served", address=self.metrics_address)
            async with anyio.create_task_group() as measuring:
                measuring.start_soon(metrics.watch_loop)
                measuring.start_soon(metrics.ask_servers, *self._addresses, stream_prefix())
                yield
                measuring.cancel_scope.cancel()

    @contextlib.asynccontextmanager
    async def _send_traces(self) -> AsyncIterator[None]:
        share = traced_share()
        if not share:
            yield
            return
        from engine.operating.traces import open_traces  # noqa: PLC0415 - as above

        # The last spans are sent when it ends, which may take a while.
        with open_traces(share) as traces:
            for worker in self._workers:
                traces.follow(worker)
            _log.info("flushes_traced", share=share)
            yield

    async def _announce(self, on_ready: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(2):
                await self._all_ready()
        except TimeoutError:
            _log.warning(
                "waiting_for_shards",
                reason="another worker has them: until it stops, or its lease ends",
            )
            await self._all_ready()
        try:
            on_ready()
        except (OSError, SystemExit) as error:  # the latter where a console finds its pipe broken
            _log.warning("not_announced", reason=str(error))
            discard_output()

    async def _all_ready(self) -> None:
        for worker in self._everybody:
            await worker.ready.wait()

    def describe(self) -> list[dict[str, Any]]:
        """Each worker's id and its shards."""
        return [
            {"worker": str(uuid.UUID(bytes=worker.store.worker)), "shards": sorted(worker.owned)}
            for worker in self._workers
        ]


async def run_until_signal(
    work: Callable[[], Awaitable[None]],
    stop: Callable[[], None],
    abandon: Callable[[], None] = lambda: None,
) -> None:
    """Run until it ends; TERM or Ctrl-C ask it to stop, a second one does not wait any longer.

    So does a terminal that hangs up, which is no second one; `nohup` has it ignored.

    Args:
        work: What to run.
        stop: Asks it to end.
        abandon: Cuts off what it would wait for all the same, as a COMMIT.
    """
    loop = asyncio.get_running_loop()
    signals: list[str] = []
    with anyio.CancelScope() as scope:

        def heard(name: str) -> None:
            if signals and name == "SIGHUP":
                return
            signals.append(name)
            if len(signals) == 1:
                _log.info("stopping", signal=name, process=os.getpid())
                stop()
            else:
                _log.warning("stopping_at_once", signal=name, process=os.getpid())
                abandon()
                scope.cancel()

        is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        ends = [signal.SIGTERM, signal.SIGINT, *([] if is_ignored else [signal.SIGHUP])]
        for end in ends:
            loop.add_signal_handler(end, heard, end.name)
        try:
            await work()
        finally:
            for end in ends:
                loop.remove_signal_handler(end)


def clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
