"""What journals say but for ids, amounts and times.

Flows whose journals are of one form, and to which the same happens, are decided alike: the rules
ask nothing else of them, but whether conditions over their inputs hold. Forms grow as journals do,
each row leading from one to the next, so that equal ones are the same object.
"""

from collections.abc import Hashable, Iterable
from typing import Any, Final

import msgspec

from engine.flows.journal import Row
from engine.flows.money import seq_of
from engine.flows.table import MONEY, Table

FORMS_MAX: Final = 50_000
"""With more forms and plans than this they are begun anew; flows in memory keep theirs."""

_BEGUN: Final = (0, "", "", 0, 0, "")


class Form:
    """The journals of one definition that say the same.

    Args:
        forms: All of them.
        table: The definition.
        mark: What its newest row says.
        seq: How many rows there are.
    """

    __slots__ = ("_following", "_forms", "event", "plans", "seq", "state", "step", "table")

    def __init__(
        self, forms: "Forms", table: Table, mark: tuple[Any, ...] = _BEGUN, seq: int = 0
    ) -> None:
        forms.count += 1
        self._forms = forms
        self._following: dict[tuple[Any, ...], Form] = {}
        self.table = table
        self.seq = seq
        self.step: int = mark[0]
        self.state: str = mark[1]
        self.event: str = mark[2]
        self.plans: dict[Hashable, Any] = {}
        """By what happens, what is done about it; None where the rules are asked each time."""

    def add_plan(self, key: Hashable, plan: Any) -> None:
        """Know what is done about something that happens."""
        self._forms.count += 1
        self.plans[key] = plan

    def after(self, rows: Iterable[Row]) -> "Form":
        """The form of a journal with these rows added."""
        form = self
        for row in rows:
            mark = _mark_of(row, form.table)
            following = form._following.get(mark)
            if following is None:
                following = Form(form._forms, form.table, mark, row.seq)
                form._following[mark] = following
            form = following
        return form


class Forms:
    """All forms that one session has met."""

    def __init__(self) -> None:
        self.count = 0
        self._first: dict[bytes, Form] = {}

    def first_of(self, table: Table) -> Form:
        """That of a journal without rows."""
        first = self._first.get(table.hash)
        if first is None:
            first = self._first[table.hash] = Form(self, table)
        return first

    def clear(self) -> None:
        """Begin anew: there are too many."""
        self._first.clear()
        self.count = 0


def _mark_of(row: Row, table: Table) -> tuple[Any, ...]:
    is_money = row.request and table.steps[row.step].kind in MONEY
    asked_as = seq_of(row.request) if is_money else 0
    detail = msgspec.json.encode(row.detail, order="deterministic") if row.detail else ""
    return row.step, row.state, row.event, row.attempt, asked_as, detail
