"""What a money step asks for: transfers that follow from the flow and its journal alone.

One flow at a time, as transfers; and many flows at the same step, as the bytes of their requests.
"""

import struct
from collections.abc import Sequence
from itertools import repeat
from typing import Final

import msgspec

from engine.flows.happenings import Flow
from engine.flows.ids import reversal_id, transfer_id, transfer_ids
from engine.flows.inputs import Expression, value_of
from engine.flows.journal import State
from engine.flows.table import Table
from engine.ledger.nouns import ID_ZERO, Transfer, TransferFlags


def transfers_of(flow: Flow, state: State, number: int, seq: int) -> list[Transfer]:
    """The transfers of a money step that is about to be entered.

    Args:
        flow: The flow.
        state: What its journal says.
        number: The step.
        seq: Of the row that will keep them.
    """
    step = flow.table.steps[number]
    occurrence = state.visits.get(number, 0) + 1
    if step.kind == "reverse":
        return _linked(
            [
                Transfer(
                    reversal_id(t.id, occurrence),
                    t.credit_account_id,
                    t.debit_account_id,
                    t.amount,
                    user_data_128=flow.id,
                    user_data_32=seq,
                    ledger=t.ledger,
                    code=step.code or t.code,
                )
                for t in state.moved[step.of]
            ]
        )
    if step.kind in {"post", "void"}:
        hold = state.holds[step.of]
        amount = 0
        flags = TransferFlags.void_pending_transfer
        if step.kind == "post":
            flags = TransferFlags.post_pending_transfer
            amount = hold.amount if step.amount is None else _amount(flow, step.amount)
        return [
            Transfer(
                transfer_id(flow.id, number, 0, occurrence),
                # The hold's own, so that it takes the short way.
                hold.debit_account_id,
                hold.credit_account_id,
                amount,
                pending_id=hold.id,
                user_data_128=flow.id,
                user_data_32=seq,
                ledger=hold.ledger,
                code=hold.code,
                flags=int(flags),
            )
        ]
    return _linked(
        [
            Transfer(
                transfer_id(flow.id, number, place, occurrence),
                _account(flow, leg.debit),
                _account(flow, leg.credit),
                _amount(flow, leg.amount),
                user_data_128=flow.id,
                user_data_32=seq,
                timeout=step.timeout_seconds,
                ledger=flow.table.ledger,
                code=leg.code,
                flags=int(TransferFlags.pending) if step.kind == "hold" else 0,
            )
            for place, leg in enumerate(step.legs)
        ]
    )


def _amount(flow: Flow, expression: Expression) -> int:
    value: int = value_of(expression, flow.values)
    return value


def _account(flow: Flow, expression: Expression) -> bytes:
    name = expression[1]
    return flow.accounts[flow.values[name] if expression[0] == "field" else name]


def _linked(transfers: list[Transfer]) -> list[Transfer]:
    """All or none: each but the last is linked to the next."""
    linked = int(TransferFlags.linked)
    return [
        msgspec.structs.replace(transfer, flags=transfer.flags | linked)
        for transfer in transfers[:-1]
    ] + transfers[-1:]


# In columns.

_AMOUNT_BYTES: Final = 16
_TAIL: Final = struct.Struct("<QIIIHHQ")
"""The fields after `user_data_128`: `user_data_64` to `timestamp`."""

_ACCOUNTS: Final = slice(16, 48)
_AMOUNT: Final = slice(48, 64)
_LEDGER_AND_CODE: Final = struct.Struct("<IH")
_LEDGER_AT: Final = 112


class Asked(msgspec.Struct, frozen=True):
    """A money step that many flows ask for at the same place of their journals."""

    table: Table
    step: int
    occurrence: int
    seq: int
    hold: int = 0
    """The sequence number of the row whose hold is posted or voided."""


def requests_of(
    asked: Asked, flows: Sequence[Flow], holds: Sequence[bytes]
) -> tuple[list[bytes], list[bytes]]:
    """The ids of the first transfers, and the requests: `pack` of `transfers_of` of each flow.

    Args:
        asked: The step; all kinds but reversals.
        flows: The flows.
        holds: Where it is a post or void, the request of each flow's hold.
    """
    step = asked.table.steps[asked.step]
    ids = [flow.id for flow in flows]
    if step.kind in {"post", "void"}:
        return _requests_on_holds(asked, ids, flows, holds)
    legs = []
    for place, leg in enumerate(step.legs):
        flags = int(TransferFlags.pending) if step.kind == "hold" else 0
        if place < len(step.legs) - 1:
            flags |= int(TransferFlags.linked)
        values = (0, asked.seq, step.timeout_seconds, asked.table.ledger, leg.code, flags, 0)
        made = transfer_ids(ids, asked.step, place, asked.occurrence)
        debits = [_account(flow, leg.debit) for flow in flows]
        credited = [_account(flow, leg.credit) for flow in flows]
        amounts = _amounts(flows, leg.amount)
        pending = repeat(ID_ZERO)
        fields = zip(made, debits, credited, amounts, pending, ids, repeat(_TAIL.pack(*values)))
        legs.append((made, [b"".join(each) for each in fields]))
    requests = [b"".join(each) for each in zip(*(packed for _, packed in legs), strict=True)]
    return legs[0][0], requests


def _requests_on_holds(
    asked: Asked, ids: Sequence[bytes], flows: Sequence[Flow], holds: Sequence[bytes]
) -> tuple[list[bytes], list[bytes]]:
    step = asked.table.steps[asked.step]
    made = transfer_ids(ids, asked.step, 0, asked.occurrence)
    flags = int(TransferFlags.void_pending_transfer)
    amounts: Sequence[bytes] = [bytes(_AMOUNT_BYTES)] * len(ids)
    if step.kind == "post":
        flags = int(TransferFlags.post_pending_transfer)
        amounts = [hold[_AMOUNT] for hold in holds]
        if step.amount is not None:
            amounts = _amounts(flows, step.amount)
    requests = []
    for new_id, flow, hold, amount in zip(made, ids, holds, amounts, strict=True):
        ledger, code = _LEDGER_AND_CODE.unpack_from(hold, _LEDGER_AT)
        tail = _TAIL.pack(0, asked.seq, 0, ledger, code, flags, 0)
        requests.append(b"".join((new_id, hold[_ACCOUNTS], amount, hold[:16], flow, tail)))
    return made, requests


def _amounts(flows: Sequence[Flow], expression: Expression) -> list[bytes]:
    return [_amount(flow, expression).to_bytes(_AMOUNT_BYTES, "little") for flow in flows]
