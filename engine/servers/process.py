"""Children that die with this process: starting, awaiting and ending them.

Each is a session of its own, so that a Ctrl-C in the terminal reaches only the owner, who
then stops its servers in order. When the owner is killed, the kernel sends the child its
death signal. It does so when the *thread* that forked ends; so one thread, which lives as
long as this process, forks all children.
"""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import BinaryIO

from engine.errors import ServerError

POLL_SECONDS = 0.01
READY_SECONDS_MAX = 300.0  # a long recovery; a server that dies is noticed at once
GONE_SECONDS_MAX = 15.0
LOG_BYTES_MAX = 16 * 1024 * 1024
LOG_TAIL_LINES = 15

_Fork = tuple[Callable[[], "subprocess.Popen[bytes]"], "Future[subprocess.Popen[bytes]]"]


def run_program(
    command: Sequence[str], *, run_as: str = "self", stdin: bytes = b"", seconds_max: float = 120
) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        ServerError: when it fails or takes too long; the message holds what it printed.
    """
    process = _start(command, run_as, signal.SIGKILL, subprocess.PIPE, subprocess.PIPE)
    name = Path(command[0]).name
    try:
        output, _ = process.communicate(stdin, timeout=seconds_max)
    except subprocess.TimeoutExpired:
        raise ServerError(f"{name} did not end within {seconds_max:.0f} s") from None
    finally:
        process.kill()
        process.wait()
    text = output.decode(errors="replace").strip()
    if process.returncode != 0:
        raise ServerError(f"{name} failed: {text or f'exit code {process.returncode}'}")
    return text


class ServerProcess:
    """A running server: one process and the children that it forks."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        death_signal: signal.Signals,
        run_as: str = "self",
    ) -> None:
        """Start it.

        Args:
            command: The program's full path and its arguments.
            log_path: Where its standard output and error are appended.
            death_signal: What ends the program, and its children, when this process dies.
            run_as: `self`, `namespace` or `UID:GID`, as in `child.py`.
        """
        self.name = Path(command[0]).name
        self.log_path = log_path
        if log_path.exists() and log_path.stat().st_size > LOG_BYTES_MAX:
            log_path.rename(log_path.with_name(log_path.name + ".old"))
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = _start(command, run_as, death_signal, subprocess.DEVNULL, log)
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def wait_ready(self, answers: Callable[[], bool]) -> None:
        """Wait until the server answers.

        Raises:
            ServerError: when it ends first, or is not ready within `READY_SECONDS_MAX`.
        """
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                if answers():
                    return
            except OSError:
                pass  # it does not listen yet
            try:
                code = self._process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            raise ServerError(f"{self.name} ended with code {code}; {self._log_tail()}")
        raise ServerError(
            f"{self.name} was not ready within {READY_SECONDS_MAX:.0f} s; {self._log_tail()}"
        )

    def end(self, how: signal.Signals, timeout_seconds: float) -> bool:
        """Ask it to end; whether it did so in time."""
        if self.is_running:
            self._process.send_signal(how)
            # A stopped process would see the signal only when it goes on.
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kill it and its children with SIGKILL and wait until they are gone."""
        if not self.is_running:
            return
        # Stopped, it forks no more children while we look for them. They are not in its
        # process group: a Postgres backend is a session of its own.
        self._process.send_signal(signal.SIGSTOP)
        children = _children(self.pid)
        for pid in (self.pid, *children):
            _kill(pid)
        self._process.wait()
        for pid in children:
            wait_gone(pid, f"a child of {self.name}")

    def _log_tail(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join((f"the end of {self.log_path}:", *lines[-LOG_TAIL_LINES:]))


def is_alive(pid: int) -> bool:
    """Whether a process of this id runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _stat(pid)[:1] != ["Z"]


def started_at(pid: int) -> str:
    """Tell processes that had the same id apart; empty where the system does not say."""
    return "".join(_stat(pid)[19:20])


def is_at(pid: int, directory: Path) -> bool:
    """Whether a live process works in this directory, as servers do in that of their data."""
    if not is_alive(pid):
        return False
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == directory.resolve()
    except OSError:  # somebody else's, who could not work here, or just gone
        return not Path("/proc/self").exists()


def wait_gone(pid: int, name: str, directory: Path | None = None) -> None:
    """Wait until a process has ended; with a directory, one that works there.

    Raises:
        ServerError: when it still runs after `GONE_SECONDS_MAX`.
    """
    deadline = time.monotonic() + GONE_SECONDS_MAX
    while is_alive(pid) if directory is None else is_at(pid, directory):
        if time.monotonic() > deadline:
            where = f" in {directory}" if directory else ""
            raise ServerError(f"{name} (pid {pid}) still runs{where}: stop it first")
        time.sleep(POLL_SECONDS)


def remove_tree(directory: Path) -> None:
    """Delete a directory, if there is one, with all that is in it."""
    if directory.exists():
        shutil.rmtree(directory)


def _start(
    command: Sequence[str],
    run_as: str,
    death_signal: signal.Signals,
    stdin: int,
    output: int | BinaryIO,
) -> "subprocess.Popen[bytes]":
    bare_python = [sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py"))]
    arguments = [*bare_python, str(os.getpid()), str(int(death_signal)), run_as, *command]
    # PGDATA, PGOPTIONS and their like are meant for other servers than this.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    environment["LC_ALL"] = "C"

    def fork() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            arguments,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd="/",
            start_new_session=True,
        )

    started: Future[subprocess.Popen[bytes]] = Future()
    _forks().put((fork, started))
    return started.result()


@cache
def _forks() -> "queue.SimpleQueue[_Fork]":
    """Return the queue of the thread that forks."""
    forks: queue.SimpleQueue[_Fork] = queue.SimpleQueue()

    def serve() -> None:
        while True:
            fork, started = forks.get()
            try:
                started.set_result(fork())
            except BaseException as error:  # noqa: BLE001 - raised again by whoever asked
                started.set_exception(error)

    threading.Thread(target=serve, name="engine-servers-fork", daemon=True).start()
    return forks


# A forked copy of this process has no such thread.
os.register_at_fork(after_in_child=_forks.cache_clear)


def _stat(pid: int) -> list[str]:
    """Read the fields of /proc/PID/stat from the third, the state, on; none when not there."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _children(pid: int) -> list[int]:
    pids = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [child for child in pids if _stat(child)[1:2] == [str(pid)]]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was faster
        os.kill(pid, signal.SIGKILL)
