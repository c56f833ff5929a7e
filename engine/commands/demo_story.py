"""The demo's first part: a world of six accounts, and what happens in it, step by step."""

from collections.abc import Sequence
from typing import Any, Final

from engine.client import Client
from engine.commands.demo_load import LEDGER
from engine.commands.screen import out, print_table
from engine.errors import InvariantBroken
from engine.ledger.outcomes import Outcome
from engine.operating.account_names import new_id
from engine.store.reports import Reports
from engine.wire.fields import uuid_of, uuid_text

LIMITED: Final = ["debits_must_not_exceed_credits"]
ACCOUNTS: Final[dict[str, tuple[int, list[str]]]] = {
    "bank": (1, []),
    "alice": (2, LIMITED),
    "bob": (2, LIMITED),
    "bakery": (3, LIMITED),
    "hotel": (3, LIMITED),
    "fees": (4, []),
}
"""By name: code, flags."""


class Story:
    """Tells it, with the postings of each step and the balances after it.

    Args:
        client: To send by.
        reports: To look it up again in Postgres.
        silent: Do it all and print nothing.
    """

    def __init__(self, client: Client, reports: Reports, *, silent: bool) -> None:
        self._client = client
        self._reports = reports
        self._silent = silent
        self.ids = {name: uuid_text(new_id()) for name in ACCOUNTS}
        self.created = 0
        self.declined = 0

    async def tell(self) -> None:
        """All of it, in eight transfers."""
        self._say("Six accounts in euro. Alice, bob and the shops can spend only what they have.")
        await self._client.create_accounts(
            [
                {"id": self.ids[n], "ledger": LEDGER, "code": code, "flags": flags, "name": n}
                for n, (code, flags) in ACCOUNTS.items()
            ]
        )
        pay_in = self._new("bank", "bob", 5_00)
        await self._step(
            "Alice and bob pay in. Every transfer is two postings that sum to zero.",
            [self._new("bank", "alice", 100_00), pay_in],
        )
        await self._step(
            "Alice pays the bakery, which pays a fee: a linked chain, both or neither.",
            [
                self._new("alice", "bakery", 24_00, flags=["linked"]),
                self._new("bakery", "fees", 36),
            ],
        )
        hold = self._new("alice", "hotel", 60_00, flags=["pending"], timeout=3600)
        await self._step("The hotel holds 60.00 of alice's money: reserved, not moved.", [hold])
        capture = {"pending_id": hold["id"], "flags": ["post_pending_transfer"]}
        await self._step(
            "It captures 45.50 of the hold; the rest is alice's again.",
            [{**capture, "id": uuid_text(new_id()), "amount": 45_50}],
        )
        await self._step(
            "Bob wants a cake for 12.00. He has 5.00: nothing moves, and the answer says why.",
            [self._new("bob", "bakery", 12_00)],
            [Outcome.exceeds_credits],
        )
        await self._step(
            "Bob's pay-in is sent once more, with the same id: it counts once.",
            [pay_in],
            [Outcome.exists],
        )
        balances = await self._reports.balances(
            [uuid_of(account_id) for account_id in self.ids.values()]
        )
        self._say("What everybody has now; SELECT * FROM ledger.balances gives the same.")
        self._table(
            ["account", "balance", "held"],
            [(b.name, _money(b.balance), _money(b.debits_pending)) for b in balances],
        )

    async def _step(
        self,
        says: str,
        transfers: Sequence[dict[str, Any]],
        expected: Sequence[Outcome] | None = None,
    ) -> None:
        self._say(says)
        outcomes = await self._client.create_transfers(transfers)
        if outcomes != list(expected or [Outcome.created] * len(transfers)):
            raise InvariantBroken(f"{says} It was answered {[o.name for o in outcomes]}")
        self.created += outcomes.count(Outcome.created)
        self.declined += outcomes.count(Outcome.exceeds_credits)
        rows: list[tuple[object, ...]] = []
        for transfer, outcome in zip(transfers, outcomes, strict=True):
            if outcome is Outcome.created:
                rows += await self._postings(transfer)
            elif not self._silent:
                out.print(outcome.name)
        if rows:
            self._table(["outcome", "account", "posted", "pending", "balance after", "free"], rows)

    async def _postings(self, transfer: dict[str, Any]) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for name, account_id in self.ids.items():
            for p in await self._reports.history(uuid_of(account_id), 10):
                if p.transfer_id == transfer["id"]:
                    balance = p.credits_posted - p.debits_posted
                    rows.append(
                        (
                            Outcome.created.name,
                            name,
                            _money(p.amount, sign=True),
                            _money(p.pending_amount, sign=True),
                            _money(balance),
                            _money(balance - p.debits_pending),
                        )
                    )
        return rows

    def _new(self, debit: str, credit: str, amount: int, **more: object) -> dict[str, Any]:
        return {
            "id": uuid_text(new_id()),
            "debit_account_id": self.ids[debit],
            "credit_account_id": self.ids[credit],
            "amount": amount,
            "ledger": LEDGER,
            "code": 1,
            **more,
        }

    def _say(self, text: str) -> None:
        if not self._silent:
            out.print(f"\n{text}", style="bold")

    def _table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if not self._silent:
            print_table(columns, rows, numbers=columns[2:] if len(columns) > 3 else columns[1:])


def _money(cents: int, *, sign: bool = False) -> str:
    if sign and not cents:
        return ""
    whole, rest = divmod(abs(cents), 100)
    mark = "-" if cents < 0 else "+" if sign else ""
    return f"{mark}{whole:,}.{rest:02d}"
