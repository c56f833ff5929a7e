"""Files of JSON lines or CSV, read as they come: in chunks, in order, in bounded memory."""

import asyncio
import csv
import os
import select
import sys
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Annotated, Final, Generic, NamedTuple, TypeAlias, TypeVar

import typer

from engine.errors import InputError

READ_BYTES: Final = 1024 * 1024
LINE_BYTES_MAX: Final = 1024 * 1024
POLL_SECONDS: Final = 0.1

T = TypeVar("T")

File: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="JSON lines, or CSV if it ends in .csv; - for standard input."
    ),
]


class Line(NamedTuple, Generic[T]):
    """What a line says, and which line it is, counted from 1."""

    number: int
    value: T


class Source(Generic[T]):
    """A file or standard input (`-`) whose every line is one thing.

    Args:
        path: Where to read; CSV where it ends in `.csv`.
        parse_json: Reads a line; raises InputError.
        parse_csv: Reads a row, as `csv.DictReader` gives it; raises InputError.
        columns: What the header of a CSV may name; `id` is among them always.
        continues: Whether a thing and the next one must stay in one chunk.

    Raises:
        BadParameter: When there is no such file.
    """

    def __init__(
        self,
        path: str,
        parse_json: Callable[[bytes], T],
        parse_csv: Callable[[Mapping[str | None, str | None]], T],
        columns: Collection[str],
        continues: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self.name = "standard input" if path == "-" else path
        self.bytes_total: int | None = None
        """How long it is, where it has an end that can be seen."""
        self.bytes_read = 0
        self._path = path
        self._parse_json = parse_json
        self._parse_csv = parse_csv if path.lower().endswith(".csv") else None
        self._known = columns
        self._continues = continues
        self._columns: list[str] | None = None
        self._number = 0
        if path == "-" and sys.stdin is None:
            raise typer.BadParameter("standard input is closed: give a file, or open it")
        if path != "-":
            file = Path(path)
            if not file.exists() or file.is_dir():
                raise typer.BadParameter(f"there is no file {path}")
            if not os.access(file, os.R_OK):
                raise typer.BadParameter(f"{path} cannot be read: no permission")
            self.bytes_total = file.stat().st_size if file.is_file() else None

    async def chunks(self, lines_max: int) -> AsyncIterator[list[Line[T]]]:
        """What has come, at most `lines_max` lines at a time.

        A slow writer's lines are handed out as they come; nothing waits for a chunk to fill.

        Raises:
            InputError: When a line cannot be read; all before it have been handed out.
        """
        chunk: list[Line[T]] = []
        async for lines in self._lines():
            for text in lines:
                try:
                    line = self._read(text)
                except InputError as error:
                    if whole := self._whole(chunk):
                        yield chunk[:whole]
                    raise InputError(f"{self.name}:{self._number}: {error}") from None
                if line is not None:
                    chunk.append(line)
                if len(chunk) == lines_max:
                    whole = self._whole(chunk)
                    if not whole:
                        raise InputError(
                            f"{self.name}:{chunk[0].number}: a chain of linked transfers begins "
                            f"here that has more than {lines_max}, which is the most",
                        )
                    yield chunk[:whole]
                    del chunk[:whole]
            if whole := self._whole(chunk):
                yield chunk[:whole]
                del chunk[:whole]
        if chunk:
            yield chunk

    def _open(self) -> AbstractContextManager[IO[bytes]]:
        if self._path == "-":
            return nullcontext(sys.stdin.buffer)
        return Path(self._path).open("rb")

    def _whole(self, chunk: list[Line[T]]) -> int:
        """How many may be handed out so that what belongs together stays together."""
        whole = len(chunk)
        while whole and self._continues(chunk[whole - 1].value):
            whole -= 1
        return whole

    async def _lines(self) -> AsyncIterator[Iterable[bytes]]:
        """The complete lines of one read after the other; the last may lack its newline."""
        given_up = threading.Event()
        try:
            with self._open() as file:
                rest = b""
                while block := await asyncio.to_thread(_read_some, file.fileno(), given_up):
                    self.bytes_read += len(block)
                    *lines, rest = (rest + block).split(b"\n")
                    yield lines
                    if len(rest) > LINE_BYTES_MAX:
                        number = self._number + 1
                        raise InputError(f"{self.name}:{number}: over {LINE_BYTES_MAX} bytes long")
                if rest:
                    yield [rest]
        finally:
            given_up.set()

    def _read(self, text: bytes) -> Line[T] | None:
        """Read the next line; None where it is empty, or the header."""
        self._number += 1
        if self._number == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")  # spreadsheets write it
        text = text.strip(b"\r \t")
        if not text:
            return None
        if self._parse_csv is None:
            return Line(self._number, self._parse_json(text))
        cells = _cells(text)
        if self._columns is None:
            self._columns = self._read_header(cells)
            return None
        if not any(cells):
            return None  # An empty row, as spreadsheets write it.
        row: dict[str | None, str | None] = dict(zip(self._columns, cells, strict=False))
        if len(cells) > len(self._columns):
            row[None] = cells[-1]
        for column in self._columns[len(cells) :]:
            row[column] = None
        return Line(self._number, self._parse_csv(row))

    def _read_header(self, cells: Sequence[str]) -> list[str]:
        columns = [cell.strip() for cell in cells]
        unknown = [column for column in columns if column not in self._known]
        if len(columns) == 1 and (other := next((s for s in ";\t|" if s in columns[0]), None)):
            raise InputError(
                f"line {self._number} has its columns separated by {other!r}: export it with commas"
            )
        if unknown or "id" not in columns:
            wrong = f"{unknown[0]!r} is no column" if unknown else "it has no column id"
            raise InputError(
                f"line {self._number} is no header: {wrong}. A CSV begins with the names of its "
                f"columns, some of: {', '.join(sorted(self._known))}"
            )
        if len(set(columns)) < len(columns):
            raise InputError("a column stands twice in the header")
        return columns


def _cells(text: bytes) -> list[str]:
    try:
        return next(csv.reader([text.decode()], strict=True))
    except UnicodeDecodeError:
        raise InputError("it is not in UTF-8: export it so") from None
    except csv.Error as error:
        raise InputError(f"no line of CSV: {error}") from None


def _read_some(descriptor: int, given_up: threading.Event) -> bytes:
    """Read what is there; wait until something is, unless nobody wants it any more."""
    while not select.select([descriptor], [], [], POLL_SECONDS)[0]:
        if given_up.is_set():
            return b""
    return os.read(descriptor, READ_BYTES)
