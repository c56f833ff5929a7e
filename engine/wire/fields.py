"""The fields of a transfer as JSON and MessagePack spell them, and what each may hold.

One transfer at a time, these rules are the specification; `columns` applies them to whole
columns at once and falls back to them.
"""

import binascii
from typing import Annotated, Any, Final, Generic, Literal, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.errors import InputError
from engine.ledger.nouns import AMOUNT_MAX, ID_ZERO, Transfer, TransferFlags

FlagName: TypeAlias = Literal[
    "linked",
    "pending",
    "post_pending_transfer",
    "void_pending_transfer",
    "balancing_debit",
    "balancing_credit",
    "closing_debit",
    "closing_credit",
    "imported",
]

IMPORTED: Final = 1 << 8
"""TigerBeetle's flag that we do not have: it can be named, and is answered `reserved_flag`."""

FLAG_BITS: Final[dict[FlagName, int]] = {
    name: TransferFlags[name].value if name != "imported" else IMPORTED
    for name in get_args(FlagName)
}

UuidText: TypeAlias = Annotated[str, Meta(min_length=36, max_length=36)]
UuidBytes: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
JsonAmount: TypeAlias = Annotated[int, Meta(ge=0)] | Literal["max"]
U16: TypeAlias = Annotated[int, Meta(ge=0, le=2**16 - 1)]
U32: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]
U64: TypeAlias = Annotated[int, Meta(ge=0)]  # msgspec's `le` ends at 2**63 - 1: checked here.
U64_MAX: Final = 2**64 - 1

LEFT_OUT: Final = -1
"""Stands in a number column for what was left out."""

IdT = TypeVar("IdT", str, bytes)
AmountT = TypeVar("AmountT")


class WrittenTransfer(
    msgspec.Struct,
    Generic[IdT, AmountT],
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """A transfer as it is written. What was left out is UNSET, or LEFT_OUT among the numbers.

    Neither can be written, so that what was left out is told from an explicit zero.
    """

    id: IdT | UnsetType = UNSET
    debit_account_id: IdT | UnsetType = UNSET
    credit_account_id: IdT | UnsetType = UNSET
    amount: AmountT | UnsetType = UNSET
    pending_id: IdT | UnsetType = UNSET
    user_data_128: IdT | UnsetType = UNSET
    user_data_64: U64 = LEFT_OUT
    user_data_32: U32 = LEFT_OUT
    timeout: U32 = LEFT_OUT
    ledger: U32 = LEFT_OUT
    code: U16 = LEFT_OUT
    flags: tuple[FlagName, ...] | UnsetType = UNSET


JsonTransfer: TypeAlias = WrittenTransfer[UuidText, JsonAmount]
PackedTransfer: TypeAlias = WrittenTransfer[UuidBytes, Any]
"""In MessagePack an amount is a number, 16 bytes or "max": a union that msgspec has no type
for, so that `amount_of` checks it."""

_MAX_WHEN_LEFT_OUT: Final = (
    TransferFlags.post_pending_transfer
    | TransferFlags.balancing_debit
    | TransferFlags.balancing_credit
).value
_ZERO_WHEN_LEFT_OUT: Final = TransferFlags.void_pending_transfer.value


def flags_of(names: tuple[FlagName, ...] | UnsetType) -> int:
    """The bits of flags given by name; a name given twice counts once."""
    bits = 0
    for name in names or ():
        bits |= FLAG_BITS[name]
    return bits


def names_of(flags: int) -> tuple[FlagName, ...]:
    """The names of flags given as bits.

    Raises:
        InputError: When a bit has no name.
    """
    if flags >= 2 * IMPORTED:
        raise InputError(f"Flags {flags:#x} have bits without a name; only `bin` can send them")
    return tuple(name for name, bit in FLAG_BITS.items() if flags & bit)


def uuid_of(text: str) -> bytes:
    """The bytes of a uuid written 8-4-4-4-12, in upper or lower case.

    Raises:
        ValueError: When it is written in another form.
    """
    if len(text) == 36 and text[8:24:5] == "----":
        try:
            value = binascii.unhexlify(text.replace("-", ""))
        except ValueError:
            value = b""
        if len(value) == 16:
            return value
    raise ValueError("Expected `uuid` written 8-4-4-4-12")


def id_of(written: str | bytes | UnsetType) -> bytes:
    """The 16 bytes that were written, in either form; zero where they were left out.

    Raises:
        ValueError: When a text is no uuid.
    """
    if not written:
        return ID_ZERO
    return uuid_of(written) if isinstance(written, str) else written


def uuid_text(value: bytes) -> str:
    """Write a uuid as 8-4-4-4-12, in lower case."""
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def amount_of(written: object, flags: int) -> int:
    """The amount that was written, or is meant where it was left out.

    Raises:
        ValueError: When it is neither a number of 128 bits, nor 16 bytes (big-endian), nor
            "max"; or when it was left out and the flags do not say what is meant.
    """
    if type(written) is int:
        if written < 0:
            raise ValueError("Expected `int` >= 0")
        if written > AMOUNT_MAX:
            raise ValueError(f"Expected `int` <= {AMOUNT_MAX}")
        return written
    if written is UNSET:
        if flags & _MAX_WHEN_LEFT_OUT:
            return AMOUNT_MAX
        if flags & _ZERO_WHEN_LEFT_OUT:
            return 0
        raise ValueError("Object missing required field `amount`")
    if isinstance(written, str):
        if written == "max":
            return AMOUNT_MAX
        raise ValueError("Expected `int` or `max`, got another `str`")
    if isinstance(written, bytes):
        if len(written) == 16:
            return int.from_bytes(written, "big")
        raise ValueError("Expected `bytes` of length 16")
    raise ValueError(f"Expected `int | bytes | str`, got `{type(written).__name__}`")


def u64_of(written: int) -> int:
    """The number that was written; zero where it was left out.

    Raises:
        ValueError: When it has more than 64 bits.
    """
    if written > U64_MAX:
        raise ValueError(f"Expected `int` <= {U64_MAX}")
    return max(written, 0)


def transfer_of(written: WrittenTransfer[Any, Any], index: int | None = None) -> Transfer:
    """Read one transfer.

    Args:
        written: Its fields, with the types that they are declared with.
        index: Where it stands in its array, if in one.

    Raises:
        InputError: When a field cannot be read; the message says where (`$[3].amount`).
    """
    field = "amount"
    flags = flags_of(written.flags) if written.flags else 0
    try:
        amount = amount_of(written.amount, flags)
        field = "id"
        transfer_id = id_of(written.id)
        field = "debit_account_id"
        debit_account_id = id_of(written.debit_account_id)
        field = "credit_account_id"
        credit_account_id = id_of(written.credit_account_id)
        field = "pending_id"
        pending_id = id_of(written.pending_id)
        field = "user_data_128"
        user_data_128 = id_of(written.user_data_128)
        field = "user_data_64"
        user_data_64 = u64_of(written.user_data_64)
    except ValueError as error:
        raise InputError(f"{error} - at `{path_of(index)}.{field}`") from None
    return Transfer(
        transfer_id,
        debit_account_id,
        credit_account_id,
        amount,
        pending_id,
        user_data_128,
        user_data_64,
        max(written.user_data_32, 0),
        max(written.timeout, 0),
        max(written.ledger, 0),
        max(written.code, 0),
        flags,
    )


def path_of(index: int | None) -> str:
    """How a message names a transfer: `$` alone, `$[3]` in an array."""
    return "$" if index is None else f"$[{index}]"
