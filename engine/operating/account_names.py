"""Accounts as people name them, by id or by name; and new ids."""

import secrets
import time
from collections.abc import Sequence

from engine.errors import InputError
from engine.store.reports import AccountReport, Reports
from engine.wire.fields import uuid_of


async def find_accounts(reports: Reports, wanted: Sequence[str]) -> list[AccountReport]:
    """The accounts of these ids or names, in the order asked for.

    Raises:
        InputError: When there is no such account, or a name that several have.
    """
    for text in wanted:
        if not text or "\0" in text or not _is_unicode(text):
            raise InputError(f"there is no account {text!r}; see `engine accounts list`")
    ids = {text: account_id for text in wanted if (account_id := parse_id(text)) is not None}
    names = [text for text in wanted if text not in ids]
    found = await reports.find_accounts(list(ids.values()), names)
    accounts = []
    for text in wanted:
        if text in ids:
            fitting = [account for account in found if uuid_of(account.id) == ids[text]]
        else:
            fitting = [account for account in found if account.name == text]
        if not fitting:
            raise InputError(f"there is no account {text}; see `engine accounts list`")
        if len(fitting) > 1:
            some = ", ".join(account.id for account in fitting[:3])
            raise InputError(f"{len(fitting)} accounts are named {text}: give an id ({some})")
        accounts.append(fitting[0])
    return accounts


def _is_unicode(text: str) -> bool:
    """Whether it was written in the encoding of the terminal."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_id(text: str) -> bytes | None:
    """The 16 bytes of a uuid; None where the text is none, but perhaps a name."""
    try:
        return uuid_of(text)
    except ValueError:
        return None


def new_id() -> bytes:
    """A uuid of version 7: ids made later sort later. Source: RFC 9562, 5.7."""
    value = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + secrets.token_bytes(10))
    value[6] = value[6] & 0x0F | 0x70
    value[8] = value[8] & 0x3F | 0x80
    return bytes(value)
