"""The simulator of flows has teeth: a safeguard that is taken out is noticed by the seed beside it.

What no seed can notice has a test of its own, see `tests/flow_mutations.py`: what is refused when
it is defined for its length alone (a run would have to go round ten thousand times), tags that
keep ids of different kinds apart (none of them meet in a lifetime), what SQL says of ninety days
beside what the worker says, and starts that wait while the ledger is behind (a matter of speed).
"""

import pytest

from tests.simulation.flow_safeguards import REMOVALS, seed_that_notices

CHEAP = ("(10)", "(12)", "(14)")
"""Rules whose removals are tried in any run; the others in a long one."""

NOTICED = [name for name, removal in REMOVALS.items() if removal.seed is not None]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name.endswith(CHEAP) else [pytest.mark.long])
        for name in NOTICED
    ],
)
def test_a_seed_notices_that_a_safeguard_of_flows_is_gone(name: str) -> None:
    removal = REMOVALS[name]
    assert removal.seed is not None
    assert seed_that_notices(removal, removal.seed, 1) == removal.seed
