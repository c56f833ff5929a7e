"""Serving the console at an address, until it is asked to stop."""

import contextlib
import socket
from collections.abc import Generator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from engine.errors import ConfigurationError

BACKLOG_MAX: Final = 64
STOP_SECONDS_MAX: Final = 3
"""How long open connections are waited for at the end."""
REQUESTS_MAX: Final = 64
"""At a time; more are told to come later."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free.

    Raises:
        ConfigurationError: The address cannot be listened at.
    """
    try:
        [family, kind, _, _, place] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(BACKLOG_MAX)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {host}:{port}: {error.strerror}; give another address with --listen"
        ) from error
    return listening


def address_of(host: str, port: int) -> str:
    """Where a browser finds it."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


class Server(uvicorn.Server):
    """Serves an app; who runs it hears the signals."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                # Host and scheme are what the browser says, whoever stands between.
                proxy_headers=False,
                limit_concurrency=REQUESTS_MAX,
                timeout_graceful_shutdown=STOP_SECONDS_MAX,
                ws="none",
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the command."""
        yield

    def stop(self) -> None:
        """Ask it to end."""
        self.should_exit = True

    def stop_at_once(self) -> None:
        """Wait for nobody any more."""
        self.should_exit = self.force_exit = True
