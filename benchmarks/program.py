"""Which program is measured: this one, or that of another commit of this project.

The servers, what is sent and what looks at the result are of this one, whichever is measured; the
ledger is made and served by the commands `init` and `worker` of the other.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parent.parent

_WHERE = "import engine; print(next(iter(engine.__path__)))"


class Program(NamedTuple):
    """The program `engine` of a checkout."""

    name: str
    directory: Path
    python: str = sys.executable

    @property
    def is_this(self) -> bool:
        """Whether it is the one that measures."""
        return self.directory == ROOT

    def start(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        module: str,
        log: IO[str] | None = None,
    ) -> "subprocess.Popen[str]":
        """Start it, with what it prints in a pipe; what it logs goes to standard error or `log`."""
        return subprocess.Popen(
            [self.python, "-m", module, *arguments],
            cwd=self.directory,
            env={**os.environ, **environment, "PYTHONPATH": str(self.directory)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def run(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        """Run a command of it to its end."""
        process = self.start(arguments, environment, "engine.commands.main")
        out, _ = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"{self.name}: {' '.join(arguments)} failed: {out}")


THIS = Program("here", ROOT)

_measured: ContextVar[Program] = ContextVar("measured", default=THIS)


def measured() -> Program:
    """The one that is measured."""
    return _measured.get()


@contextmanager
def measuring(program: Program) -> Iterator[None]:
    """Within it this program is measured."""
    token = _measured.set(program)
    try:
        yield
    finally:
        _measured.reset(token)


@contextmanager
def checked_out(commit: str) -> Iterator[Program]:
    """Another commit of this project, in a temporary directory.

    It runs with what is installed for this one where that is enough for it, else with an
    environment of its own.
    """
    git = shutil.which("git") or "git"
    archive = subprocess.run([git, "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode != 0:
        raise SystemExit(f"no such commit: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory(prefix="bench-program-") as name:
        directory = Path(name).resolve()
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(directory, filter="data")
        program = Program(commit, directory)
        if not can_run(program):
            subprocess.run([str(directory / "scripts/setup")], cwd=directory, check=True)
            program = Program(commit, directory, str(directory / ".venv/bin/python"))
        yield program


def can_run(program: Program) -> bool:
    """Whether it starts, and is not this one by mistake."""
    environment = {**os.environ, "PYTHONPATH": str(program.directory)}
    where, starts = (
        subprocess.run(
            [program.python, *arguments],
            cwd=program.directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for arguments in (["-c", _WHERE], ["-m", "engine.commands.main", "worker", "--help"])
    )
    return where.stdout.strip() == str(program.directory / "engine") and starts.returncode == 0
