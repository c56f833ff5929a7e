"""Which port a server listens on: the same at every start, where it is free."""

import socket
from collections.abc import Callable
from pathlib import Path

from engine.errors import ServerError
from engine.servers.process import ServerProcess

HOST = "127.0.0.1"
ATTEMPTS_MAX = 5


def start_on_port(
    launch: Callable[[int], ServerProcess],
    answers: Callable[[int, int], bool],
    *,
    file: Path,
    wanted: int | None,
) -> None:
    """Start a server and wait until it answers; on another port when somebody was faster.

    Args:
        launch: Starts it on the port given.
        answers: Whether the process given as the second argument answers on the port.
        file: As in `choose_port`.
        wanted: As in `choose_port`.

    Raises:
        ServerError: when `wanted` is taken, and when the server does not start.
    """
    for attempt in range(1, ATTEMPTS_MAX + 1):
        port = choose_port(file, wanted)
        process = launch(port)
        try:
            process.wait_ready(lambda: answers(port, process.pid))  # noqa: B023 - called here
        except BaseException as error:
            process.kill()
            was_taken = isinstance(error, ServerError) and not is_free(port)
            if was_taken and wanted is None and attempt < ATTEMPTS_MAX:
                continue
            raise
        return


def choose_port(file: Path, wanted: int | None) -> int:
    """Choose a free port and remember it in `file`.

    Args:
        file: Holds the port of the last start.
        wanted: The port to take; None for the last one, or any when that is taken.

    Raises:
        ServerError: when `wanted` is taken.
    """
    if wanted is not None:
        if not is_free(wanted):
            raise ServerError(f"port {wanted} of {HOST} is taken: choose another, or none")
        port = wanted
    else:
        port = _read_port(file)
        if port == 0 or not is_free(port):
            port = _any_port()
    file.write_text(f"{port}\n")
    return port


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    try:
        with _bind(port):
            return True
    except OSError:
        return False


def _bind(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        # As the servers do: connections of the last run that are still closing do no harm.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _any_port() -> int:
    with _bind(0) as listener:
        port: int = listener.getsockname()[1]
        return port


def _read_port(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0
