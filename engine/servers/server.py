"""What both servers are: a process that lives as long as its owner, over one directory."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from engine.errors import ServerError
from engine.servers.ports import HOST
from engine.servers.process import ServerProcess


class Server(ABC):
    """A server of our own.

    Args:
        name: Of the program, for messages and its log.
        directory: Where everything of it is kept. Made when it is not there.
        port: The port to listen on; None for that of the last start, or a free one.
        settings: They come before our own.
    """

    def __init__(
        self, name: str, directory: Path, port: int | None, settings: Mapping[str, str]
    ) -> None:
        self.directory = directory.resolve()
        self.log_path = self.directory / f"{name.lower()}.log"
        self._name = name
        self._data = self.directory / "data"
        self._wanted_port = port
        self._settings = dict(settings)
        self._process: ServerProcess | None = None
        self._port = 0

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.is_running

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.is_running else None

    def start(self) -> None:
        """Start it, with the data of an earlier start if there are any, and wait for it.

        Raises:
            ServerError: when it runs already, when its directory, its port or its programs
                cannot be used, and when it does not come up; the end of its log is in the
                message.
        """
        if self.is_running:
            raise ServerError(f"this {self._name} runs already, as process {self.pid}")
        try:
            self._start()
        except OSError as error:
            raise ServerError(f"cannot use {self.directory} for {self._name}: {error}") from error

    def kill(self) -> None:
        """Kill every process of it, as a power cut would. For tests."""
        if self._process is not None:
            self._process.kill()

    @abstractmethod
    def _start(self) -> None:
        """Start the process, note it and its port, and wait until it answers."""

    @property
    def _address(self) -> str:
        """Host and port of the last start.

        Raises:
            ServerError: when the server was never started.
        """
        if not self._port:
            raise ServerError(f"this {self._name} is not started: call start() first")
        return f"{HOST}:{self._port}"
