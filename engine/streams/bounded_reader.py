"""A parser of replies, as hiredis has one, that keeps of what is long only the beginning.

A reply of a gigabyte passes through it a piece at a time. For one entry at a time, where hiredis
would gather all of it in memory; it is pure Python, and slow where values are many and short.
"""

import hashlib
from typing import Any, Final

import hiredis

FIELDS_DEPTH: Final = 3
"""Of XRANGE's reply: entries; id and fields; names and values in turn."""

_LINE_BYTES_MAX: Final = 64 * 1024


class CutFields(list[bytes]):
    """The beginning of an entry's names and values in turn, the last of them perhaps in part."""

    bytes_total = 0
    """Of all its names and values."""
    sha256 = ""
    """Of all its names and values, one after the other."""


class _Array:
    """An array that is being read."""

    __slots__ = ("digest", "left", "room", "total", "values")

    def __init__(self, length: int) -> None:
        self.left = length
        self.values: list[Any] = []
        self.digest = hashlib.sha256()
        self.total = 0
        self.room: int | None = None
        """How many more bytes are kept; None as long as all are."""


class BoundedReader:
    """Takes bytes, gives replies to XRANGE and others that are short.

    Args:
        whole_bytes_max: An entry with more in its fields is given in part.
        kept_bytes_max: That many bytes of it.
    """

    def __init__(self, whole_bytes_max: int, kept_bytes_max: int) -> None:
        self._whole_max = whole_bytes_max
        self._kept_max = kept_bytes_max
        self._rest = b""
        self._arrays: list[_Array] = []
        self._value: bytearray | None = None
        self._missing = 0
        self._replies: list[Any] = []

    def feed(self, data: bytes) -> None:
        """Take what came.

        Raises:
            ProtocolError: It is no reply.
        """
        data, self._rest = self._rest + data, b""
        at = 0
        while at < len(data):
            if self._value is not None:
                at = self._take_value(self._value, data, at)
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._rest = data[at:]
                if len(self._rest) > _LINE_BYTES_MAX:
                    raise hiredis.ProtocolError("a line without an end")
                return
            self._take_line(data[at : at + 1], data[at + 1 : end])
            at = end + 2

    def gets(self) -> Any:
        """The next reply; False while it is not complete."""
        return self._replies.pop(0) if self._replies else False

    def _take_line(self, kind: bytes, line: bytes) -> None:
        if kind == b"+":
            self._add(line)
        elif kind == b"-":
            self._add(hiredis.ReplyError(line.decode(errors="replace")))
        elif kind == b":":
            self._add(_number(line))
        elif kind == b"$":
            length = _number(line)
            if length < 0:
                self._add(None)
            else:
                self._value = bytearray()
                self._missing = length + 2
        elif kind == b"*":
            length = _number(line)
            if length > 0:
                self._arrays.append(_Array(length))
            else:
                self._add(None if length < 0 else [])
        else:
            raise hiredis.ProtocolError(f"no reply begins with {kind!r}")

    def _take_value(self, value: bytearray, data: bytes, at: int) -> int:
        """Take of a value what is there; returns where it ends."""
        there = min(self._missing, len(data) - at)
        content = data[at : at + max(min(there, self._missing - 2), 0)]
        array = self._arrays[-1] if len(self._arrays) == FIELDS_DEPTH else None
        if array is None:
            value += content
        else:
            array.digest.update(content)
            array.total += len(content)
            if array.room is None and array.total > self._whole_max:
                array.room = self._cut(array.values, value)
            if array.room is None:
                value += content
            else:
                value += content[: array.room]
                array.room = max(array.room - len(content), 0)
        self._missing -= there
        if self._missing == 0:
            self._value = None
            if array is None or array.room is None or value:
                self._add(bytes(value))
            else:
                array.left -= 1
                self._close()
        return at + there

    def _cut(self, values: list[Any], value: bytearray) -> int:
        """Let go of all but the first bytes of an entry; returns how many more are kept."""
        room = self._kept_max
        for place, kept in enumerate(values):
            if len(kept) > room:
                values[place] = kept[:room]
                del values[place + 1 :]
                value.clear()
                return 0
            room -= len(kept)
        del value[room:]
        return room - len(value)

    def _add(self, value: Any) -> None:
        if not self._arrays:
            self._replies.append(value)
            return
        self._arrays[-1].values.append(value)
        self._arrays[-1].left -= 1
        self._close()

    def _close(self) -> None:
        """End the arrays that are complete."""
        while self._arrays and self._arrays[-1].left == 0:
            array = self._arrays.pop()
            values: list[Any] = array.values
            if array.room is not None:
                values = CutFields(values)
                values.bytes_total = array.total
                values.sha256 = array.digest.hexdigest()
            if not self._arrays:
                self._replies.append(values)
                return
            self._arrays[-1].values.append(values)
            self._arrays[-1].left -= 1


def cut_fields(fields: list[bytes], kept_bytes_max: int) -> CutFields:
    """Of an entry that came whole and is too large, what is kept."""
    cut = CutFields()
    digest = hashlib.sha256()
    room = kept_bytes_max
    for value in fields:
        digest.update(value)
        cut.bytes_total += len(value)
        if room > 0:
            cut.append(value[:room])
            room -= len(value)
    cut.sha256 = digest.hexdigest()
    return cut


def _number(line: bytes) -> int:
    try:
        return int(line)
    except ValueError:
        raise hiredis.ProtocolError("a length that is no number") from None
