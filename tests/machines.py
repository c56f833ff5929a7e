"""A machine whose disk gets slow, or whose clock goes wrong, while programs run on it."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "cases" / "machine.c"


class Machine:
    """What programs on it are started with, and what is wrong with it, from 0 on.

    Args:
        directory: A new one, that the users of all servers may read.
    """

    def __init__(self, directory: Path) -> None:
        self._disk, self._clock = directory / "disk", directory / "clock"
        library = directory / "machine.so"
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        self.environment = {
            "LD_PRELOAD": str(library),
            "TEST_DISK": str(self._disk),
            "TEST_CLOCK": str(self._clock),
        }
        self.disk_slower_seconds = self.clock_ahead_seconds = 0.0

    @property
    def disk_slower_seconds(self) -> float:
        """By how much a flush to disk takes longer."""
        return int(self._disk.read_text()) / 1000

    @disk_slower_seconds.setter
    def disk_slower_seconds(self, seconds: float) -> None:
        _write(self._disk, seconds)

    @property
    def clock_ahead_seconds(self) -> float:
        """How far its clock is from the right time."""
        return int(self._clock.read_text()) / 1000

    @clock_ahead_seconds.setter
    def clock_ahead_seconds(self, seconds: float) -> None:
        _write(self._clock, seconds)


def _write(file: Path, seconds: float) -> None:
    # In one piece: a program may read it at any moment.
    written = file.with_suffix(".new")
    written.write_text(f"{round(seconds * 1000)}")
    written.replace(file)


@contextlib.contextmanager
def open_machine() -> Iterator[Machine]:
    """A machine for the length of a block; the test is left out where there is no C compiler."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: a slow disk and a wrong clock cannot be made")
    # Not where pytest keeps its files: another user's Postgres could not read there.
    directory = Path(tempfile.mkdtemp(prefix="engine-machine-"))
    directory.chmod(0o755)
    try:
        yield Machine(directory)
    finally:
        shutil.rmtree(directory)
