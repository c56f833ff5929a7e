"""Dead letters: shown as text, sent again as they were or repaired, or dismissed.

A letter is sent again first and marked then. After a crash in between it is still open and may be
sent once more: the ids of its transfers make that harmless.
"""

import getpass
import re
import socket
from typing import Final

import msgspec

from engine.errors import InputError
from engine.ledger.nouns import BATCH_TRANSFERS_MAX, Position
from engine.store.letters import Letter, LetterKey, Letters
from engine.streams.entries import Entry
from engine.streams.inspection import StreamsInspection
from engine.wire.entries import encode_entry, parse_transfer_json
from engine.wire.layout import Rows, transfers_to_rows
from engine.wire.payloads import read_json
from engine.wire.requests import Format
from engine.worker.inbox import understand

_NAME: Final = re.compile(r"(\d{1,4}):(\d{1,9}):(\d{1,18})-(\d{1,18})")
_CUT: Final = "kept are the first"
"""As the reason says where an entry was too large."""
_PAYLOADS: Final = frozenset({b"json", b"mp", b"bin"})


def parse_name(text: str) -> LetterKey:
    """Read the name of a letter, as `0:0:1764286429000-0`.

    Raises:
        InputError: When it is written in another way.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is no letter: name it as `engine letters list` does, 0:0:17-0")
    return LetterKey(*map(int, match.groups()))


def is_cut(letter: Letter) -> bool:
    """Whether only the beginning of it was kept: it was too large."""
    return _CUT in letter.reason


def who_acts() -> str:
    """The person at this terminal, as records name them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


async def find_letter(letters: Letters, text: str) -> Letter:
    """A letter by its name.

    Raises:
        InputError: There is none of that name.
    """
    letter = await letters.find(parse_name(text))
    if letter is None:
        raise InputError(f"there is no dead letter {text}; see `engine letters list`")
    return letter


def repair(letter: Letter, text: bytes, prefix: str) -> list[bytes]:
    """The fields of a letter with other transfers: those of a file, and where its answer goes.

    Args:
        letter: What could not be read.
        text: A transfer or an array of them in JSON, or JSON lines.
        prefix: Of the names of the streams: a reply outside it gets none, and is left out.

    Raises:
        InputError: When that cannot be read either.
    """
    kept = list(zip(letter.fields[::2], letter.fields[1::2], strict=False))
    others: dict[bytes, bytes] = {}
    # The last value of one that is cut may be cut off.
    for name, value in kept[: len(kept) - is_cut(letter)]:
        if name not in _PAYLOADS:
            others.setdefault(name, value)
    if not others.get(b"reply", b"").startswith(f"{prefix}:answers:".encode()):
        others.pop(b"reply", None)
    fields = encode_entry(_read_transfers(text), Format.json) | others
    return [part for pair in fields.items() for part in pair]


def _read_transfers(text: bytes) -> Rows:
    try:
        return read_json(text)
    except InputError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or len(lines) > BATCH_TRANSFERS_MAX:
            raise
    transfers = []
    for number, line in enumerate(lines, 1):
        try:
            transfers.append(parse_transfer_json(line))
        except InputError as error:
            raise InputError(f"line {number}: {error}") from None
    return transfers_to_rows(transfers)


async def resend_letter(
    letters: Letters,
    streams: StreamsInspection,
    letter: Letter,
    repaired: bytes | None,
    by: str,
    *,
    again: bool = False,
) -> str:
    """Add a letter to its stream again, and write that down.

    Args:
        letters: The ledger.
        streams: Open.
        letter: What to send.
        repaired: Its transfers, corrected; None to send it as it was.
        by: Who does it.
        again: Whether it may be one that was sent again before.

    Returns:
        The id of the new entry.

    Raises:
        InputError: It was resent before, or it would be a dead letter again.
    """
    if letter.state == "resent" and not again:
        raise InputError(
            f"{letter.letter} was resent by {letter.acted_by} at {letter.acted_at} as "
            f"{letter.resent_as}; to send it once more, which its ids make harmless, give --again"
        )
    if repaired is None and is_cut(letter):
        raise InputError(
            "only its beginning was kept, since it was too large: have its sender send smaller "
            f"entries, or give its transfers in a file: engine letters resend {letter.letter} FILE"
        )
    fields = letter.fields if repaired is None else repair(letter, repaired, streams.prefix)
    arrival = understand(Entry(letter.shard, Position(), fields), streams.prefix)
    if arrival.unreadable is not None:
        raise InputError(
            f"it would be a dead letter again: {arrival.unreadable.reason}. Correct it in a file: "
            f"engine letters show {letter.letter} --payload > fixed.json; then "
            f"engine letters resend {letter.letter} fixed.json"
        )
    entry = await streams.add(letter.shard, fields)
    await letters.record_resent(letter.key, by, entry, repaired=repaired is not None)
    return entry


async def dismiss_letter(letters: Letters, letter: Letter, by: str, reason: str) -> None:
    """Write down that nothing will be done about a letter.

    Raises:
        InputError: It was dealt with before, or no reason is given.
    """
    if not reason.strip():
        raise InputError("give a reason: whoever asks in a year reads nothing else")
    if letter.state != "open":
        raise InputError(f"{letter.letter} is {letter.state} already, by {letter.acted_by}")
    await letters.record_dismissed(letter.key, by, reason.strip())


class Shown(msgspec.Struct, frozen=True):
    """A field of a letter as text."""

    name: str
    value: str
    form: str
    """text, or hex where its bytes are no text."""
    size: int


def show_fields(letter: Letter) -> list[Shown]:
    """The fields of a letter as a person reads them: text where they are text."""
    shown = []
    for name, value in zip(letter.fields[::2], letter.fields[1::2], strict=False):
        text, form = _text(value)
        shown.append(Shown(_text(name)[0], text, form, len(value)))
    return shown


def _text(value: bytes) -> tuple[str, str]:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex(), "hex"
    if all(c.isprintable() or c in "\n\t" for c in text):
        return text, "text"
    return value.hex(), "hex"


def payload_of(letter: Letter) -> bytes:
    """The bytes of its transfers, to be corrected in a file.

    Raises:
        InputError: It has none, or several.
    """
    pairs = list(zip(letter.fields[::2], letter.fields[1::2], strict=False))
    found = [value for name, value in pairs if name in _PAYLOADS]
    if len(found) != 1:
        raise InputError(f"{letter.letter} has {len(found)} payloads, not one; see --json")
    return found[0]
