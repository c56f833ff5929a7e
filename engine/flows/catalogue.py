"""Definitions as a worker knows them, and inputs as they are compared with those kept."""

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.errors import InputError
from engine.flows.flush import FlowRecord
from engine.flows.happenings import Flow
from engine.flows.inputs import INPUT_BYTES_MAX, read_input
from engine.flows.store import uuid_bytes
from engine.flows.table import Table, read_table


class Definition(msgspec.Struct, frozen=True):
    """A row of `flows.definitions`."""

    number: int
    table: Table
    accounts: dict[str, str]
    account_ids: dict[str, bytes]


class Catalogue:
    """All definitions, by number, and the newest by name."""

    def __init__(self) -> None:
        self.by_number: dict[int, Definition] = {}
        self.newest: dict[str, Definition] = {}

    @property
    def last(self) -> int:
        """The highest number that is known."""
        return max(self.by_number, default=0)

    def add(self, rows: Sequence[Any]) -> None:
        """Take in rows of `flows_definitions`."""
        for row in rows:
            table = read_table(row["source"])
            accounts = msgspec.json.decode(row["accounts"], type=dict[str, str])
            made = Definition(row["definition"], table, accounts, _ids_of(accounts))
            self.by_number[made.number] = made
            newest = self.newest.get(table.name)
            if newest is None or newest.table.version < table.version:
                self.newest[table.name] = made

    def flow_of(self, record: FlowRecord) -> Flow:
        """A flow as the rules know it."""
        definition = self.by_number[record.definition or 0]
        written = msgspec.json.decode(record.input)
        values = read_input(written, definition.table.struct)
        accounts = definition.account_ids | _ids_of(record.accounts)
        return Flow(record.id, definition.table, values, accounts, record.started_by, record.depth)

    def compare(self, record: FlowRecord, name: str, written: dict[str, Any]) -> str:
        """What a start under an id that is known is answered; the id comes before everything."""
        if record.outcome != "created" or record.definition is None:
            return "id_already_failed"
        if record.name != name:
            return "exists_with_different_definition"
        struct = self.by_number[record.definition].table.struct
        kept = read_input(msgspec.json.decode(record.input), struct)
        try:
            return "exists" if read_input(written, struct) == kept else _DIFFERENT
        except InputError:
            return _DIFFERENT


def _ids_of(accounts: dict[str, str]) -> dict[str, bytes]:
    ids = {name: uuid_bytes(text) for name, text in accounts.items()}
    return {name: found for name, found in ids.items() if found is not None}


_DIFFERENT = "exists_with_different_input"


def account_texts(table: Table, values: dict[str, Any]) -> list[str]:
    """The accounts that an input names."""
    return [values[field.name] for field in table.account_fields]


def written_accounts(table: Table, written: dict[str, Any]) -> list[str]:
    """The accounts that an input names if it can be read, and perhaps more."""
    names = (written.get(field.name, field.default) for field in table.account_fields)
    return [name for name in names if isinstance(name, str) and "\0" not in name]


def encode_input(written: dict[str, Any]) -> bytes:
    """An input as it is kept: as it was sent.

    Raises:
        InputError: When it cannot be kept.
    """
    try:
        packed = msgspec.json.encode(written)
    except (TypeError, ValueError) as error:
        raise InputError(f"the input cannot be kept: {error}") from None
    if len(packed) > INPUT_BYTES_MAX:
        raise InputError(f"the input has {len(packed)} bytes, and {INPUT_BYTES_MAX} is the most")
    return packed
