"""A data directory: both servers, their one owner, and how others find them."""

import fcntl
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO, NamedTuple, Self

from engine.errors import ServerError
from engine.servers.postgres_server import PostgresServer
from engine.servers.process import is_alive, started_at
from engine.servers.valkey_server import ValkeyServer

FILE = "servers.json"


class Addresses(NamedTuple):
    """Where a Postgres and a Redis answer."""

    postgres_dsn: str
    redis_url: str


class Servers:
    """A Postgres and a Valkey under one directory, with this process as their owner."""

    def __init__(
        self,
        directory: Path,
        *,
        postgres_settings: Mapping[str, str] = MappingProxyType({}),
        valkey_settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Describe them; nothing is started.

        Args:
            directory: Where both keep their data. Made when it is not there.
            postgres_settings: As in `PostgresServer`.
            valkey_settings: As in `ValkeyServer`.
        """
        self.directory = directory.resolve()
        self.postgres = PostgresServer(self.directory / "postgres", settings=postgres_settings)
        self.valkey = ValkeyServer(self.directory / "valkey", settings=valkey_settings)
        self._lock: BinaryIO | None = None

    @property
    def addresses(self) -> Addresses:
        """Where both answer, for the owner of what is in them.

        Raises:
            ServerError: when they were never started.
        """
        return Addresses(self.postgres.dsn, self.valkey.url)

    def start(self) -> None:
        """Start both at once, wait for both, and leave word of them in the directory.

        Raises:
            ServerError: when another process, or another `Servers`, owns the directory, and
                when a server does not start; then the other is stopped.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise ServerError(f"cannot use {self.directory} for data: {error}") from error
        try:
            self._start_both()
            self.leave_word(self.addresses)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both and give the directory up. Does nothing when they are stopped."""
        if self._lock is None:
            return
        (self.directory / FILE).unlink(missing_ok=True)
        try:
            with ThreadPoolExecutor(2) as pool:
                for stop in [pool.submit(s.stop) for s in (self.postgres, self.valkey)]:
                    stop.result()
        finally:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_both(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            starts = [pool.submit(server.start) for server in (self.postgres, self.valkey)]
            try:
                for start in starts:
                    start.result()
            except BaseException:
                # The other one may have minutes of log to read again: nobody waits for it.
                self.postgres.stop("immediate")
                self.valkey.stop()
                raise

    def _take_lock(self) -> None:
        # Held by this open file, so that it ends with this process, however that ends.
        lock = (self.directory / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise ServerError(
                f"another process has its servers in {self.directory}: stop it, or choose"
                " another directory"
            ) from None
        self._lock = lock

    def leave_word(self, addresses: Addresses) -> None:
        """Leave word in the directory of where both answer, and as whom others log in.

        Args:
            addresses: For all commands but those of the owner.
        """
        word = {
            **addresses._asdict(),
            "owner_dsn": self.postgres.dsn,
            "owner_pid": os.getpid(),
            "owner_started": started_at(os.getpid()),
        }
        new = self.directory / (FILE + ".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)  # it holds the password
        new.write_text(json.dumps(word, indent=2) + "\n")
        new.rename(self.directory / FILE)


def find_running(directory: Path) -> Addresses | None:
    """Find the servers that a process of this machine runs in a directory.

    Returns:
        Their addresses; None when there are none, or their owner is no more.

    Raises:
        ServerError: when there may be some, and this user may not know.
    """
    word = _read_word(directory)
    return None if word is None else word[0]


def find_owner(directory: Path) -> str | None:
    """The owner's address of the Postgres that a process of this machine runs in a directory.

    Returns:
        None when there is none.

    Raises:
        ServerError: As `find_running`.
    """
    word = _read_word(directory)
    return None if word is None else word[1]


def _read_word(directory: Path) -> tuple[Addresses, str] | None:
    """The addresses of both servers, and the owner's of Postgres."""
    file = directory / FILE
    try:
        word = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServerError(f"cannot read {file}: {error.strerror}: be the user it is of") from error
    except ValueError as error:
        raise ServerError(
            f"{file} cannot be read ({error}): start `engine up` there anew"
        ) from None
    try:
        addresses = Addresses(str(word["postgres_dsn"]), str(word["redis_url"]))
        owner_dsn = str(word["owner_dsn"])
        owner_pid = int(word["owner_pid"])
        owner_started = str(word["owner_started"])
    except (KeyError, TypeError, ValueError):
        raise ServerError(f"{file} is not as written: start `engine up` there anew") from None
    if not is_alive(owner_pid) or started_at(owner_pid) != owner_started:
        return None
    return addresses, owner_dsn
