"""Servers of our own for the length of a command, and an orderly end of both."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from engine.commands.screen import spinner
from engine.servers import Servers

_ENDS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def running_servers(directory: Path) -> Iterator[Servers]:
    """Servers for the length of a block; nothing hurries their end, which takes a second.

    Raises:
        ServerError: When they do not start.
    """
    servers = Servers(directory)
    try:
        with spinner("Starting Postgres and Valkey"):
            servers.start()
        yield servers
    finally:
        before = [signal.signal(one, signal.SIG_IGN) for one in _ENDS]
        with spinner("Stopping Postgres and Valkey"):
            servers.stop()
        for one, handler in zip(_ENDS, before, strict=True):
            signal.signal(one, handler)


@contextmanager
def term_as_interrupt() -> Iterator[None]:
    """Where no loop listens, TERM is a Ctrl-C too: both end in an orderly way."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
