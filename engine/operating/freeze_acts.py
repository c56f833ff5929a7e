"""Freezing and thawing as people ask for it: what is meant, by whom, and why."""

from typing import Final
from uuid import UUID

from engine.errors import InputError
from engine.ledger.freezes import FREEZE_KINDS, FreezeKind
from engine.operating.account_names import find_accounts
from engine.store.reports import open_reports

BY_LETTERS_MAX: Final = 200
REASON_LETTERS_MAX: Final = 1000

_MOST: Final = {"ledger": 2**32 - 1, "code": 2**16 - 1}


def read_kind(text: str) -> FreezeKind:
    """The kind of thing that is to be frozen.

    Raises:
        InputError: It is none.
    """
    if text not in FREEZE_KINDS:
        raise InputError(f"{text!r} is none of {', '.join(FREEZE_KINDS)}")
    return FREEZE_KINDS[FREEZE_KINDS.index(text)]


def check_words(by: str, reason: str) -> None:
    """See that it is said who acts and why.

    Raises:
        InputError: It is not, or at too great length.
    """
    for option, text, most in (
        ("--by", by, BY_LETTERS_MAX),
        ("--reason", reason, REASON_LETTERS_MAX),
    ):
        if not 0 < len(text.strip()) <= len(text) <= most:
            raise InputError(f"give 1 to {most} characters with {option}")


async def find_frozen(dsn: str, kind: FreezeKind, what: str) -> str:
    """What is meant, as the ledger writes it: the id of an account, else a number.

    Raises:
        InputError: There is no such thing.
        TryAgainError: Postgres is out of reach.
    """
    async with open_reports(dsn) as reports:
        if kind == "account":
            [account] = await find_accounts(reports, [what])
            return str(UUID(account.id))
        most = _MOST.get(kind, 0)
        if kind == "shard":
            most = await reports.shard_count() - 1
    return _number(kind, what, most)


def _number(kind: FreezeKind, what: str, most: int) -> str:
    if not what.isdecimal() or not what.isascii() or not int(kind != "shard") <= int(what) <= most:
        raise InputError(f"{what!r} is no {kind}: give a number up to {most}")
    return str(int(what))
