"""What a money step asks for: transfers that follow from the flow and its journal alone."""

import msgspec

from engine.flows.happenings import Flow
from engine.flows.ids import reversal_id, transfer_id
from engine.flows.inputs import Expression, value_of
from engine.flows.journal import State
from engine.ledger.nouns import Transfer, TransferFlags


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
