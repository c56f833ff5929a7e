"""`verify` passes on a ledger with everything in it, and is right about limits over stripes."""

import re
from pathlib import Path

import engine.verify
from engine.ledger.outcomes import SPENDS_ID
from engine.servers import Servers
from engine.verify.run import checks, verify
from tests.everything import ACCOUNTS, AFTER_THE_LAPSE, FIRST, fill_in, id_of
from tests.ledgers import Ledger, make_ledger
from tests.verifying import breaking, failed, results_of


async def test_a_ledger_with_everything_in_it_passes(full_ledger: Ledger) -> None:
    seen = []
    results = results_of(
        await verify(full_ledger.dsn, None, on_progress=lambda *step: seen.append(step))
    )
    assert failed(results) == set(), [results[name].offenders for name in failed(results)]
    total = len(checks()) + 1
    assert [step[:2] for step in seen] == [(n, total) for n in range(total)]
    counted = {name: check.counted for name, check in results.items()}
    outcomes = [outcome for _, events in FIRST + AFTER_THE_LAPSE for _, outcome in events]
    created = outcomes.count("created")
    declined = sum(outcome in {one.name for one in SPENDS_ID} for outcome in outcomes)
    assert counted["sums"] == {"ledgers": 2}
    assert counted["postings"] == {"transfers": created}
    [kept] = await full_ledger.sql(
        "SELECT count(*) AS runs, sum(coalesce(cardinality(earlier_transfers), 0) + 1) AS postings"
        " FROM ledger.posted"
    )
    assert kept["postings"] == 2 * created + 2
    assert counted["versions"] == counted["counters"] == {"runs": kept["runs"]}
    assert counted["limits"]["runs"] == kept["runs"]
    assert counted["ids"] == {"created": created, "declined": declined}
    assert counted["holds"] == {
        "holds ended": 4,
        "posts and voids": 3,
        "accounts": len(ACCOUNTS),
    }
    assert counted["due"] == {"holds that may lapse": 1}
    assert counted["dead_letters"] == {"dead letters": 1}
    kinds = {row["kind"] for row in await full_ledger.sql("SELECT kind FROM ledger.flushes")}
    assert kinds == {"flush", "locked", "lent", "claim", "release"}


async def test_an_empty_ledger_passes(servers: Servers) -> None:
    empty = await make_ledger(servers.postgres.dsn, servers.valkey.url)
    report = await verify(empty.dsn, None)
    assert report.passed
    assert report.checks[0].counted == {"ledgers": 0}


# An account with a limit whose credit came through another shard's stripe than its debit.
STRIPED = """
    UPDATE ledger.posted SET stripe = #<earned> * 1024 + 10
    WHERE transfer_id = <earns> AND amount > 0;
    UPDATE ledger.posted SET version = 1, credits_posted = 0
    WHERE transfer_id = <pays> AND amount < 0;
"""

# The debit comes first: both transfers change places, with their flushes.
SWAPPED = """
    CREATE TEMP TABLE places AS SELECT id, number FROM ledger.spent WHERE id IN (<earns>, <pays>);
    UPDATE ledger.spent s SET number = p.number FROM places p
    WHERE s.id IN (<earns>, <pays>) AND p.id <> s.id;
    UPDATE ledger.posted q SET number = (s.number >> 20 << 20) + (q.number & 1048575)
    FROM ledger.spent s WHERE s.id = q.transfer_id AND s.id IN (<earns>, <pays>)
"""


async def test_a_limit_holds_over_all_stripes_in_the_order_of_time(full_ledger: Ledger) -> None:
    async with breaking(full_ledger) as break_with:
        assert failed(await break_with(fill_in(STRIPED))) == set()
        results = await break_with(fill_in(SWAPPED))
    assert failed(results) == {"limits"}
    offender = results["limits"].offenders[0]
    assert (offender["account_id"], offender["transfer_id"]) == (id_of("earned"), id_of("pays"))
    assert (offender["debits_posted"], offender["credits_posted"]) == (10, 0)


async def test_values_beyond_arithmetic_fail_their_check_and_no_other_stops(
    full_ledger: Ledger,
) -> None:
    async with breaking(full_ledger) as break_with:
        results = await break_with(
            "ALTER TABLE ledger.posted DROP CONSTRAINT posted_counters;"
            " UPDATE ledger.posted SET debits_posted = -9223372036854775808"
            f" WHERE transfer_id = '{id_of('once')}' AND amount < 0"
        )
    assert failed(results) == {"counters", "limits"}
    assert results["counters"].offenders[0]["transfer_id"] == id_of("once")
    assert results["limits"].offenders[0]["transfer_id"] == id_of("once")


def test_the_refusals_that_spend_an_id_are_those_of_the_rules() -> None:
    text = (Path(engine.verify.__file__).parent / "checks" / "06_ids.sql").read_text()
    listed = re.search(r"o\.name NOT IN \((.*?)\)", text, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"'(\w+)'", listed[1])) == {outcome.name for outcome in SPENDS_ID}
