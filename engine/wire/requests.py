"""An entry of a request stream: read whole, or refused whole with the reason."""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final

import msgspec

from engine.errors import InputError
from engine.settings import PREFIX
from engine.wire.layout import Rows
from engine.wire.payloads import read_bin, read_json, read_mp


class Format(IntEnum):
    """How the transfers of an entry are written; the name is that of the entry's field."""

    json = 0
    mp = 1
    bin = 2


class Request(msgspec.Struct, frozen=True, eq=False):
    """One batch of transfers and the way back to whoever asked.

    Attributes:
        transfers: Rows of dtype `TRANSFER`, in the order of the entry; perhaps none.
        format: How they were written, and how the answer is.
        reply: The stream that wants the answer.
        request: The asker's own id, echoed as it came.
    """

    transfers: Rows
    format: Format
    reply: bytes | None
    request: bytes | None


class UnreadableEntry(InputError):  # noqa: N818 - a statement about the entry, kept as a dead letter
    """Nothing of an entry is decided; its bytes and this reason are kept.

    Attributes:
        reason: Printable, at most 500 characters or so.
        reply: The stream to tell, when the entry names one where answers may be written.
        request: The asker's own id.
        format: The format, when the entry has exactly one.
    """

    def __init__(
        self,
        reason: str,
        reply: bytes | None,
        request: bytes | None,
        format: Format | None,  # noqa: A002 - the word of the field
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply
        self.request = request
        self.format = format


_READERS: Final[tuple[tuple[bytes, Format, Callable[[bytes], Rows]], ...]] = (
    (b"json", Format.json, read_json),
    (b"mp", Format.mp, read_mp),
    (b"bin", Format.bin, read_bin),
)


def decode_entry(fields: Mapping[bytes, bytes], *, prefix: str = PREFIX) -> Request:
    """Read an entry as redis-py hands it out.

    Args:
        fields: The entry's fields; those that are not ours are let be.
        prefix: Of the streams' names: replies go to streams under `{prefix}:answers:`.

    Raises:
        UnreadableEntry: When any part of it cannot be read; nothing else, whatever the bytes.
    """
    request = fields.get(b"request")
    reply = fields.get(b"reply")
    found = [reader for reader in _READERS if reader[0] in fields]
    form = found[0][1] if len(found) == 1 else None
    if reply is not None:
        answers = f"{prefix}:answers:".encode()
        if not reply.startswith(answers) or len(reply) == len(answers):
            reason = f"reply is no stream under {prefix}:answers:"
            raise UnreadableEntry(reason, None, request, form)
    if len(found) != 1:
        names = " and ".join(name.decode() for name, _, _ in found) or "none"
        reason = f"Expected one of json, mp, bin, got {names}"
        raise UnreadableEntry(reason, reply, request, form)
    name, format_found, read = found[0]
    try:
        return Request(read(fields[name]), format_found, reply, request)
    except InputError as error:
        raise UnreadableEntry(str(error), reply, request, format_found) from None
