"""The listener: reads the client's stream of answers for ever, whatever stands in it."""

from collections.abc import Callable
from typing import Final

from engine.client.reconnecting import SILENT_SECONDS_MAX, back_off
from engine.errors import ConfigurationError, InputError, TryAgainError
from engine.streams.cluster_connection import AnyConnection, open_connection
from engine.streams.connection import pack_command
from engine.wire.answers import Answer, decode_answer
from engine.wire.requests import Format

BLOCK_SECONDS: Final = 1
ANSWERS_PER_READ: Final = 512
ANSWERS_PER_TRIM: Final = 256
"""What was read need not lie in Redis until its stream expires."""


class Listener:
    """Reads answers over one connection after the other, each answer once.

    Args:
        url: `redis://...`
        stream: The stream of answers.
        on_answer: Gets each answer.
    """

    def __init__(self, url: str, stream: bytes, on_answer: Callable[[Answer], None]) -> None:
        self.trouble = ""
        """What was last in the way."""
        self._url = url
        self._stream = stream
        self._on_answer = on_answer
        self._after = b"0-0"
        self._connection: AnyConnection | None = None

    async def open(self) -> None:
        """Connect. Raises ConfigurationError or TryAgainError."""
        self._connection = await open_connection(self._url)

    def abort(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.abort()

    def cut_if_silent(self) -> None:
        """Cut a connection over which nothing comes; see `ReconnectingConnection`."""
        seconds_max = BLOCK_SECONDS + SILENT_SECONDS_MAX
        if self._connection and self._connection.silent_seconds() > seconds_max:
            self.trouble = f"Redis was silent for {SILENT_SECONDS_MAX:.0f} s"
            self._connection.abort()

    async def run(self) -> None:
        """Read for ever; a connection that is lost is made anew."""
        backoff = 0.0
        while True:
            try:
                if self._connection is None:
                    await self.open()
                else:
                    await self._read(self._connection)
                    backoff = 0.0
            except (TryAgainError, ConfigurationError) as error:
                self.trouble = str(error) or "Redis does not answer"
                self.abort()
                self._connection = None
                backoff = await back_off(backoff)

    async def _read(self, connection: AnyConnection) -> None:
        read = 0
        while read < ANSWERS_PER_TRIM:
            found = await connection.ask(
                b"XREAD",
                b"COUNT",
                b"%d" % ANSWERS_PER_READ,
                b"BLOCK",
                b"%d" % (BLOCK_SECONDS * 1000),
                b"STREAMS",
                self._stream,
                self._after,
            )
            for entry_id, fields in found[0][1] if found else ():
                self._after = entry_id
                read += 1
                self._read_answer(fields)
        connection.send(pack_command(b"XTRIM", self._stream, b"MINID", self._after), _ignore)

    def _read_answer(self, fields: list[bytes]) -> None:
        try:
            answer = decode_answer(dict(zip(fields[::2], fields[1::2], strict=True)), Format.bin)
        except (InputError, ValueError) as error:
            # Nobody can be told: whoever waits for it is, by the time limit.
            self.trouble = f"an answer cannot be read: {error}"
            return
        self._on_answer(answer)


def _ignore(_: object) -> None:
    """Whatever the reply, nothing depends on it."""
