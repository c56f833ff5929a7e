"""Answers: what goes into a reply stream, and how a client reads it."""

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine.errors import InputError, InvariantBroken
from engine.ledger.nouns import BATCH_TRANSFERS_MAX
from engine.ledger.outcomes import Outcome
from engine.wire.requests import Format, Request, UnreadableEntry


class Answer(msgspec.Struct, frozen=True, eq=False):
    """What became of an entry: outcomes of its transfers in their order, or an error.

    Attributes:
        request: The asker's own id, as it was sent.
        outcomes: Numbers of `Outcome`, one for each transfer; None when the entry was
            unreadable, and nothing of it was decided.
        error: The reason then.
    """

    request: bytes | None
    outcomes: npt.NDArray[np.uint8] | None
    error: str | None


_NAMES: Final[list[bytes | None]] = [None] * 256
for _outcome in Outcome:
    _NAMES[_outcome] = b'"' + _outcome.name.encode() + b'"'
_KNOWN: Final = np.isin(np.arange(256), [int(outcome) for outcome in Outcome])
_NUMBERS: Final = {outcome.name: int(outcome) for outcome in Outcome}

ERROR_BYTES_MAX: Final = 2000
"""Of the reason of an unreadable entry; more of it is not read."""

OUTCOMES_BYTES_MAX: Final = BATCH_TRANSFERS_MAX * (max(map(len, Outcome.__members__)) + 3) + 16
"""Of an answer in its longest form: a name in quotes and a comma for each transfer."""

_encode_mp: Final = msgspec.msgpack.Encoder()
_decode_json: Final = msgspec.json.Decoder(list[str])
_decode_mp: Final = msgspec.msgpack.Decoder(list[int])


def encode_answer(request: Request, outcomes: npt.NDArray[np.uint8]) -> dict[bytes, bytes]:
    """The fields of the answer to a request, in the format that it was asked in.

    Raises:
        InvariantBroken: When there is not exactly one known outcome for each transfer.
    """
    if (
        len(outcomes) != len(request.transfers)
        or outcomes.dtype != np.uint8
        or not _KNOWN[outcomes].all()
    ):
        raise InvariantBroken(
            f"{len(request.transfers)} transfers got the outcomes {outcomes.tolist()[:20]}...",
        )
    match request.format:
        case Format.json:
            names = [name for number in outcomes.tolist() if (name := _NAMES[number])]
            packed = b"[" + b",".join(names) + b"]"
        case Format.mp:
            packed = _encode_mp.encode(outcomes.tolist())
        case _:  # Format.bin; an IntEnum is never exhausted for mypy
            packed = outcomes.tobytes()
    return _echo(request.request) | {b"outcomes": packed}


def encode_error(error: UnreadableEntry) -> dict[bytes, bytes]:
    """The fields of the answer to an entry that cannot be read."""
    return _echo(error.request) | {b"error": error.reason.encode()}


def decode_answer(
    fields: Mapping[bytes, bytes],
    format: Format,  # noqa: A002 - the word of the field
) -> Answer:
    """Read an answer to a request that was written in `format`.

    Raises:
        InputError: When it is no answer, or has an outcome that this version does not know.
    """
    request = fields.get(b"request")
    if (error := fields.get(b"error")) is not None:
        return Answer(request, None, error[:ERROR_BYTES_MAX].decode(errors="replace"))
    if (packed := fields.get(b"outcomes")) is None:
        raise InputError("An answer has one of the fields outcomes and error, found neither")
    if len(packed) > OUTCOMES_BYTES_MAX:
        raise InputError(f"The outcomes of an answer are over {OUTCOMES_BYTES_MAX} bytes long")
    try:
        match format:
            case Format.json:
                numbers = bytes([_NUMBERS[name] for name in _decode_json.decode(packed)])
            case Format.mp:
                numbers = bytes(_decode_mp.decode(packed))
            case _:  # Format.bin
                numbers = packed
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError) as error_:
        raise InputError(f"The outcomes of an answer cannot be read: {error_}") from None
    outcomes = np.frombuffer(numbers, np.uint8)
    if not _KNOWN[outcomes].all():
        raise InputError("An answer has an outcome without a name: is the engine newer than this?")
    return Answer(request, outcomes, None)


def _echo(request: bytes | None) -> dict[bytes, bytes]:
    return {} if request is None else {b"request": request}
