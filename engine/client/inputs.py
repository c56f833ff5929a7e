"""What callers hand in, read into the nouns: dicts, structs, columns, ids in several forms."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
import numpy as np
from msgspec import Meta

from engine.errors import InputError
from engine.ledger.nouns import AccountFlags, NewAccount, Transfer, TransferFlags
from engine.wire.columns import rows_of
from engine.wire.fields import (
    U16,
    U32,
    U64,
    U64_MAX,
    JsonTransfer,
    UuidText,
    id_of,
    names_of,
    path_of,
    transfer_of,
)
from engine.wire.layout import TRANSFER, Rows, transfers_to_rows

Id: TypeAlias = UUID | str | bytes
"""An id as callers have it: a UUID, its text 8-4-4-4-12, or its 16 bytes."""

TransferLike: TypeAlias = Transfer | Mapping[str, Any]
"""A struct, or a mapping with the wire's names; ids may be UUIDs, flags a `TransferFlags`."""

AccountLike: TypeAlias = NewAccount | Mapping[str, Any]
"""A struct, or a mapping with the names of the contract; ids may be UUIDs."""

NAME_CHARACTERS_MAX: Final = 1000

_AccountFlagName: TypeAlias = Literal[
    "debits_must_not_exceed_credits", "credits_must_not_exceed_debits"
]
_OWN: Final = frozenset({UUID, AccountFlags, TransferFlags})
_ZERO_TEXT: Final = str(UUID(int=0))
_U32_MAX: Final = 2**32 - 1
_U16_MAX: Final = 2**16 - 1


class _WrittenAccount(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An account as it is written; what is left out is zero or empty."""

    id: UuidText = _ZERO_TEXT
    ledger: U32 = 0
    code: U16 = 0
    flags: tuple[_AccountFlagName, ...] = ()
    name: Annotated[str, Meta(max_length=NAME_CHARACTERS_MAX)] | None = None
    user_data_128: UuidText = _ZERO_TEXT
    user_data_64: U64 = 0
    user_data_32: U32 = 0


def parse_id(written: Id, path: str = "$") -> bytes:
    """The 16 bytes of an id. Raises InputError when it is none."""
    if isinstance(written, UUID):
        return written.bytes
    try:
        if isinstance(written, str):
            return id_of(written)
    except ValueError as error:
        raise InputError(f"{error} - at `{path}`") from None
    if type(written) is bytes and len(written) == 16:
        return written
    raise InputError(f"Expected a uuid, its text or 16 bytes - at `{path}`")


def parse_ids(written: Sequence[Id]) -> list[bytes]:
    """The 16 bytes of each. Raises InputError when one is no id."""
    if isinstance(written, str | bytes):
        raise InputError("Expected a list of ids, got one")
    return [parse_id(written_id, path_of(index)) for index, written_id in enumerate(written)]


def parse_transfer(written: TransferLike) -> Transfer:
    """Read one transfer. Raises InputError, which says where (`$.amount`)."""
    if isinstance(written, Transfer):
        if not isinstance(written.debit_account_id, bytes) & isinstance(written.pending_id, bytes):
            raise InputError("Expected ids of 16 bytes in a struct - at `$`")
        return written
    return transfer_of(_converted(written, JsonTransfer))


def peek_home(written: dict[str, Any]) -> int | None:
    """The last four bytes of the debit account's id, as a number, before all is read.

    None where that does not say where the transfer goes, or where it takes reading.
    """
    if "flags" in written or "pending_id" in written:
        return None
    account_id = written.get("debit_account_id")
    if isinstance(account_id, UUID):
        return account_id.int & _U32_MAX
    try:
        return int(account_id[-8:], 16) if isinstance(account_id, str) else None
    except ValueError:
        return None


def parse_transfers(written: Sequence[TransferLike] | Rows) -> Rows:
    """Read many transfers as rows.

    Raises:
        InputError: When one cannot be read; the message says where (`$[3].amount`).
    """
    if isinstance(written, np.ndarray):
        if written.dtype != TRANSFER or written.ndim != 1:
            raise InputError(
                f"Expected one dimension of dtype engine.wire.layout.TRANSFER, got "
                f"{written.ndim} of {written.dtype}"
            )
        return written
    if isinstance(written, str | bytes | Mapping):
        raise InputError(f"Expected a list of transfers, got `{type(written).__name__}`")
    structs = [isinstance(transfer, Transfer) for transfer in written]
    if not any(structs):
        return rows_of(_converted(list(written), list[JsonTransfer]))
    try:
        return transfers_to_rows(
            [
                transfer
                if isinstance(transfer, Transfer)
                else transfer_of(_converted(transfer, JsonTransfer), i)
                for i, transfer in enumerate(written)
            ]
        )
    except TypeError as error:
        raise InputError(f"A transfer's value has the wrong type: {error}") from None


def parse_accounts(written: Sequence[AccountLike]) -> list[NewAccount]:
    """Read accounts.

    Raises:
        InputError: When one cannot be read; the message says where (`$[3].ledger`).
    """
    if isinstance(written, str | bytes | Mapping):
        raise InputError(f"Expected a list of accounts, got `{type(written).__name__}`")
    return [_account_of(account, index) for index, account in enumerate(written)]


def _account_of(written: AccountLike, index: int) -> NewAccount:
    if isinstance(written, NewAccount):
        account = written
    else:
        try:
            read = _converted(written, _WrittenAccount)
        except InputError as error:
            raise InputError(str(error).replace("`$", f"`{path_of(index)}", 1)) from None
        account = NewAccount(
            parse_id(read.id, f"{path_of(index)}.id"),
            read.ledger,
            read.code,
            sum(int(AccountFlags[name]) for name in set(read.flags)),
            read.name,
            parse_id(read.user_data_128, f"{path_of(index)}.user_data_128"),
            read.user_data_64,
            read.user_data_32,
        )
    _check_account(account, path_of(index))
    return account


def _check_account(account: NewAccount, path: str) -> None:
    parse_id(account.id, f"{path}.id")
    parse_id(account.user_data_128, f"{path}.user_data_128")
    for name, maximum in _ACCOUNT_NUMBERS:
        value = getattr(account, name)
        if not isinstance(value, int) or not 0 <= value <= maximum:
            raise InputError(f"Expected `int` from 0 to {maximum} - at `{path}.{name}`")
    if account.flags & ~_ACCOUNT_FLAGS:
        raise InputError(f"Flags {account.flags:#x} have bits without a name - at `{path}.flags`")
    if account.name is not None and not _is_text(account.name):
        raise InputError(
            f"Expected at most {NAME_CHARACTERS_MAX} characters that Postgres takes - at "
            f"`{path}.name`"
        )


_ACCOUNT_FLAGS: Final = sum(int(flag) for flag in AccountFlags)
_ACCOUNT_NUMBERS: Final = (
    ("ledger", _U32_MAX),
    ("code", _U16_MAX),
    ("flags", _U16_MAX),
    ("user_data_64", U64_MAX),
    ("user_data_32", _U32_MAX),
)


def _is_text(name: str) -> bool:
    """Postgres takes no zero character, and nothing that is no UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name and len(name) <= NAME_CHARACTERS_MAX


def _converted(written: Any, kind: Any) -> Any:
    """Read as from JSON; Python's own ids and flags are put into JSON's form first."""
    try:
        many = isinstance(written, list)
        return msgspec.convert(
            [_plain(value) for value in written] if many else _plain(written), kind
        )
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise InputError(str(error)) from None


def _plain(written: Any) -> Any:
    """The same with UUIDs as text and flags as names."""
    if not isinstance(written, dict):
        written = dict(written)
    if _OWN.isdisjoint(map(type, written.values())):
        return written
    return {name: _plain_value(value) for name, value in written.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, AccountFlags):
        return [flag.name for flag in AccountFlags if flag & value]
    if isinstance(value, TransferFlags):
        return list(names_of(int(value)))
    return value
