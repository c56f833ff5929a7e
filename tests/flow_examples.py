"""Definitions that several tests use."""

from engine.flows import Account, Amount, Flow, Input
from engine.flows.definition import StepHandle


class Payout(Input):
    wallet: Account
    amount: Amount
    reference: str = ""


class Order(Input):
    buyer: Account
    seller: Account
    amount: Amount
    fee: Amount = Amount(0)


def payout(version: int = 1, *, above: int = 10_000_00, within: object = "3d") -> Flow:
    """The payout of the plan: hold, review where it is large, wait for the bank, post or void."""
    flow = Flow("payout", version=version, input=Payout, ledger=1)
    hold = flow.hold(debit=Payout.wallet, credit="in-transit", amount=Payout.amount, code=30)
    check = flow.review("large payout", when=Payout.amount > above, within="24h")
    sent = flow.wait("bank", within=within)
    settle = flow.post(hold)
    free = flow.void(hold)
    hold.created.go(check)
    hold.declined.end("declined")
    check.approved.go(sent)
    check.refused.go(free)
    check.late.go(free)
    sent.on("settled").go(settle)
    sent.on("rejected").go(free)
    sent.late.review("what became of it?", settled=settle, rejected=free)
    settle.done.end("paid")
    free.done.end("not paid")
    return flow


def begin(name: str = "f") -> tuple[Flow, StepHandle]:
    """A flow with a hold that was created; declined, it ends."""
    flow = Flow(name, version=1, input=Payout, ledger=1)
    hold = flow.hold(
        "reserve", debit=Payout.wallet, credit="in-transit", amount=Payout.amount, code=1
    )
    hold.declined.end("declined")
    return flow, hold
