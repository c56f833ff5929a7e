"""Where log lines go: whoever decides waits for nobody who should take them.

A pipe whose reader stands still blocks whoever writes to it, a full disk refuses, a collector that
starts anew breaks the pipe. So a thread of its own writes; what cannot be written is counted.
"""

import atexit
import json
import os
import queue
import select
import threading
from typing import Final

LINES_MAX: Final = 1000
"""They may wait to be written; what comes beyond is lost."""

FLUSH_SECONDS_MAX: Final = 1.0
"""How long the end of a process waits for the lines that are left."""


class LogWriter:
    """Takes lines without ever waiting, and writes them to a file descriptor.

    Args:
        descriptor: Open; a closed or full one loses lines, and nothing else.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(LINES_MAX)
        self._lost = 0
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Take whole lines; where too many wait already they are lost."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
            atexit.register(self.finish)
        try:
            self._lines.put_nowait(text.encode(errors="backslashreplace"))
        except queue.Full:
            self._lost += 1

    def flush(self) -> None:
        """Nothing is kept back."""

    def finish(self) -> None:
        """Wait for what is left to be written, but not for long."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(
                lambda: not self._lines.unfinished_tasks, FLUSH_SECONDS_MAX
            )

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            lost = self._lost
            if lost:
                told = {"event": "log_lines_lost", "level": "warning", "lines": lost}
                line = json.dumps(told).encode() + b"\n" + line
            try:
                _write_all(self._descriptor, line)
            except OSError:
                self._lost += 1
            else:
                self._lost -= lost
            finally:
                self._lines.task_done()


def _write_all(descriptor: int, line: bytes) -> None:
    while line:
        try:
            line = line[os.write(descriptor, line) :]
        except BlockingIOError:  # whoever else has it open has set it so
            select.select([], [descriptor], [], FLUSH_SECONDS_MAX)
