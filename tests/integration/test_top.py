"""`engine top` where it does not print to a terminal: a moment, and its end."""

import json

from tests.desks import desk_over, transfer
from tests.integration.test_commands_at_night import engine
from tests.ledgers import Ledger


async def test_top_looks_once_where_nobody_watches(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await desk.send([transfer() for _ in range(30)])
        await desk.answers(1)
        code, out, err = await engine(ledger, "top")
        assert (code, err) == (0, "")
        assert "All is well." in out
        assert "1 alive" in out
        assert "\x1b" not in out
        code, out, _ = await engine(ledger, "top", "--json")
        found = json.loads(out)
        assert code == 0
        assert found["pace"]["created_per_second"] > 0
        assert found["pace"]["decided_seconds_p99"] >= found["pace"]["decided_seconds_median"]
        assert sum(second["created"] for second in found["seconds"]) == 30
    code, out, _ = await engine(ledger, "top", "--once")
    assert code == 1
    assert "WRONG: no worker has shards 0-15" in out
