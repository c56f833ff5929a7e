"""House rules: what a reader may count on in every room. Each message says what to do.

What does not meet a rule yet stands in KNOWN, by rule. Nothing may be added to it, and what is
mended is taken out.
"""

from collections.abc import Callable
from typing import Final

import pytest

from tests.house import Found, rooms, statements
from tests.unit.known_house_rules import KNOWN, KNOWN_MAX

RULES: Final[tuple[Callable[[], Found], ...]] = (
    rooms.long_modules,
    rooms.large_classes,
    rooms.nameless_things,
    rooms.modules_in_ing,
    rooms.empty_names,
    rooms.rooms_without_a_readme,
    rooms.long_readmes,
    rooms.modules_unnamed,
    statements.statements_unused,
    statements.statements_missing,
    statements.arguments_wrong,
    statements.arguments_untold,
    statements.outcomes_unlike,
    statements.quotes_stale,
    statements.mutations_unnoticed,
    rooms.bounds_elsewhere,
    rooms.scripts_unnamed,
    rooms.paths_stale,
    rooms.functions_stale,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rule(rule: Callable[[], Found]) -> None:
    found = rule()
    known = KNOWN.get(rule.__name__, frozenset())
    new = [f"{where} {wrong}" for where, wrong in sorted(found.items()) if where not in known]
    assert not new, "\n".join([f"{rule.__doc__}", *new])
    mended = sorted(known - found.keys())
    assert not mended, "\n".join(["is mended: take it out of KNOWN, and lower KNOWN_MAX", *mended])


def test_what_is_known_to_break_a_rule_grows_no_more() -> None:
    assert KNOWN.keys() <= {rule.__name__ for rule in RULES}
    count = sum(len(places) for places in KNOWN.values())
    assert count <= KNOWN_MAX, f"{count} known exceptions: mend instead of adding to them"
