"""A Postgres of our own: one directory, one cluster, the database and the role `engine`."""

import os
import secrets
import signal
import socket
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from engine.errors import ServerError
from engine.servers.binaries import find_postgres, parse_postgres_major
from engine.servers.identity import choose_identity, give
from engine.servers.ports import HOST, start_on_port
from engine.servers.process import ServerProcess, remove_tree, run_program, wait_gone
from engine.servers.server import Server

NAME = "engine"  # of the database and of the role that owns it
ENGINE_ROLE = "engine_app"
"""As whom workers and applications log in, once it is made; it may not change what is kept."""

SOCKET_PATH_LENGTH_MAX = 60  # the kernel's limit is 107, the name of the socket included
IMMEDIATE_SECONDS_MAX = 10.0
MIB = 1024 * 1024

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # Answered is durable: a commit returns when its WAL is on the disk.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        # Appending fills WAL fast. Each checkpoint makes the next touch of every page log
        # that page whole, so they come by the clock and not by the gigabyte. The price is
        # disk (up to 8 GB) and the time of a recovery.
        "max_wal_size": "8GB",
        "min_wal_size": "1GB",
        "checkpoint_timeout": "15min",
        # One flush writes many MB of WAL at once: let it wait in memory, not for the disk.
        "wal_buffers": "64MB",
        # Until files of the WAL are used again each new one would be written twice, first with
        # zeros: 33 ms for 16 MB, in which every commit stands still.
        "wal_init_zero": "off",
        # What a flush has written by the time of its COMMIT is on the disk already.
        "wal_writer_delay": "10ms",
        # Workers hold one connection each; the rest are readers.
        "max_connections": "100",
        # Our statements are short: compiling them costs more than it saves.
        "jit": "off",
        # Used where the system has set some aside, and quietly not where it has not.
        "huge_pages": "try",
        # For this machine only; the socket lies in a directory of the owner's.
        "listen_addresses": HOST,
        "unix_socket_permissions": "0700",
    }
)


class PostgresServer(Server):
    """A Postgres that lives as long as its owner, and keeps its data in a directory."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        binaries: Path | None = None,
    ) -> None:
        """Describe it; nothing is started.

        Args:
            directory: Where everything of it is kept. Made when it is not there.
            port: The port to listen on; None for that of the last start, or a free one.
            settings: Of postgresql.conf; they come before our own.
            binaries: The directory of `postgres` and `initdb`; None for those of the wheel,
                else of the system.
        """
        super().__init__("Postgres", directory, port, settings)
        self._password_file = self.directory / "password"
        self._engine_password_file = self.directory / "engine-password"
        self._binaries = binaries

    @property
    def engine_password(self) -> str:
        """The password of `ENGINE_ROLE`; made up the first time that it is asked for."""
        if not self._engine_password_file.exists():
            self._make_password(self._engine_password_file)
        return self._engine_password_file.read_text().strip()

    @property
    def engine_dsn(self) -> str:
        """The address for workers and applications; whoever made the ledger made its role too.

        Raises:
            ServerError: when the server was never started.
        """
        return f"postgresql://{ENGINE_ROLE}:{self.engine_password}@{self._address}/{NAME}"

    @property
    def dsn(self) -> str:
        """The owner's address, over TCP, with the password: he may do everything.

        Raises:
            ServerError: when the server was never started.
        """
        address = self._address
        password = self._password_file.read_text().strip()
        return f"postgresql://{NAME}:{password}@{address}/{NAME}"

    def stop(
        self, mode: Literal["fast", "immediate"] = "fast", timeout_seconds: float = 30
    ) -> None:
        """Stop it; what is committed is safe in every mode. Does nothing when it is stopped.

        Args:
            mode: `fast` ends all sessions and writes a checkpoint; `immediate` just ends,
                and the next start recovers.
            timeout_seconds: How long a fast stop may take before it becomes an immediate
                one, and then a kill.
        """
        if self._process is not None:
            ended = mode == "fast" and self._process.end(signal.SIGINT, timeout_seconds)
            if not ended and not self._process.end(signal.SIGQUIT, IMMEDIATE_SECONDS_MAX):
                self._process.kill()
        self._remove_socket()

    def kill(self) -> None:
        """Kill every process of it, as a power cut would. For tests."""
        super().kill()
        self._remove_socket()

    def _start(self) -> None:
        try:
            self._launch()
        finally:
            if not self.is_running:
                self._remove_socket()

    def _launch(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        binaries = (self._binaries or find_postgres()).resolve()
        run_as, version = choose_identity(binaries / "postgres", self._data)
        major = parse_postgres_major(version)
        if not self._data.exists():
            self._create(binaries, major, run_as)
        made_by = (self._data / "PG_VERSION").read_text().strip()
        if made_by != str(major):
            raise ServerError(
                f"{self._data} was made by Postgres {made_by} and {binaries} holds"
                f" {major}: use binaries of that version, or another directory"
            )
        self._clear_predecessor()
        self._remove_socket()
        command = [str(binaries / "postgres"), "-D", str(self._data)]
        sockets = _make_socket_directory(self.directory / "socket", run_as)
        settings = {
            **SETTINGS,
            "shared_buffers": f"{_shared_buffers_mib()}MB",
            "wal_compression": _choose_compression(command, run_as),
            **self._settings,
            "unix_socket_directories": str(sockets),
        }

        def launch(port: int) -> ServerProcess:
            options = {**settings, "port": str(port)}
            self._port = port
            self._process = ServerProcess(
                [*command, *(f"--{name}={value}" for name, value in options.items())],
                log_path=self.log_path,
                # Not SIGKILL, of which its children would know nothing.
                death_signal=signal.SIGQUIT,
                run_as=run_as,
            )
            return self._process

        def answers(port: int, pid: int) -> bool:
            # Before this it would log a FATAL for each of our attempts.
            return self._read_pid_file()[:1] == [str(pid)] and (
                self._read_pid_file()[-1:] == ["ready"] and _answers(sockets / f".s.PGSQL.{port}")
            )

        start_on_port(launch, answers, file=self.directory / "port", wanted=self._wanted_port)

    def _create(self, binaries: Path, major: int, run_as: str) -> None:
        """Make the cluster under another name: under its own there is only a whole one."""
        new = self.directory / "data.new"
        remove_tree(new)
        if not self._password_file.exists():
            self._make_password(self._password_file)
        give(run_as, self.directory, self._password_file)
        locale = ["--locale=C", "--encoding=UTF8"]
        if major >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # The socket's directory is the owner's alone; TCP asks for the password.
        access = ["--auth-local=trust", "--auth-host=scram-sha-256"]
        access += ["-U", NAME, f"--pwfile={self._password_file}"]
        initdb = [str(binaries / "initdb"), "-D", str(new), "--data-checksums", *locale, *access]
        single = [str(binaries / "postgres"), "--single", "-D", str(new), "postgres"]
        try:
            run_program(initdb, run_as=run_as)
            run_program(single, run_as=run_as, stdin=f"CREATE DATABASE {NAME}".encode())
        except ServerError as error:
            if ":" not in run_as:
                raise
            raise ServerError(
                f"{error}\nPostgres refuses root and runs as uid:gid {run_as} instead: use a"
                " directory that this user can reach, or run as a normal user"
            ) from error
        new.rename(self._data)
        _sync_directory(self.directory)

    @staticmethod
    def _make_password(file: Path) -> None:
        new = file.with_name(file.name + ".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(24) + "\n")
        new.rename(file)

    def _clear_predecessor(self) -> None:
        """Wait for a postmaster whose owner was killed, and drop its pid file.

        Postgres itself would take a zombie, or a stranger of the same id, for a postmaster.
        """
        pid = next(iter(self._read_pid_file()), "")
        if pid.isdecimal():
            wait_gone(int(pid), "another Postgres", self._data)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _read_pid_file(self) -> list[str]:
        """Read its words: the first is the process id, the last becomes `ready`."""
        try:
            return (self._data / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return []

    def _remove_socket(self) -> None:
        link = self.directory / "socket"
        if link.is_symlink():
            remove_tree(link.readlink())
            link.unlink()


def _choose_compression(command: list[str], run_as: str) -> str:
    """Choose lz4 for the page images in the WAL if it was compiled in, else none."""
    try:
        run_program([*command, "-C", "wal_compression", "--wal_compression=lz4"], run_as=run_as)
    except ServerError:
        return "off"
    return "lz4"


def _shared_buffers_mib() -> int:
    """Take an eighth of the memory, up to 512 MiB: the ledger appends and seldom rereads."""
    memory_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    return min(512, max(64, memory_mib // 8))


def _make_socket_directory(link: Path, run_as: str) -> Path:
    """Make a private directory with a short name, which a socket needs, and link to it."""
    parent = tempfile.gettempdir()
    if len(parent) > SOCKET_PATH_LENGTH_MAX:
        parent = "/tmp"  # noqa: S108 - what is made in it is private
    made = Path(tempfile.mkdtemp(prefix="engine-", dir=parent))
    give(run_as, made)
    link.symlink_to(made)
    return made


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _answers(path: Path) -> bool:
    """Log in, and wait for `ReadyForQuery`.

    Source:
        PostgreSQL documentation, Frontend/Backend Protocol, Message Formats.
    """
    body = struct.pack("!i", 196608) + f"user\0{NAME}\0database\0{NAME}\0\0".encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(struct.pack("!i", len(body) + 4) + body)
        with connection.makefile("rb") as stream:
            while len(header := stream.read(5)) == 5:
                kind, length = struct.unpack("!ci", header)
                if kind in {b"Z", b"E"}:
                    connection.sendall(b"X\0\0\0\4")
                    return bool(kind == b"Z")
                stream.read(length - 4)
    return False
