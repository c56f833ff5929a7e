"""`verify` names whatever is broken on purpose, and a break fails the check that it is aimed at."""

import json
import re
from typing import Any

import pytest

from engine.verify.run import checks
from tests.everything import fill_in
from tests.ledgers import Ledger
from tests.verifying import breaking, failed

# The check that must fail, with those that cannot but fail with it | whom it names | SQL.
# What was used once can be broken without breaking what else was written there.
BREAKS = """
sums postings counters      | "ledger":1 |
    UPDATE ledger.posted SET amount = amount + 1
    WHERE transfer_id = <once> AND amount > 0
sums postings counters      | "ledger":1 |
    UPDATE ledger.posted SET pending_amount = pending_amount + 1
    WHERE transfer_id = <held> AND pending_amount > 0
sums references             | "ledger":2 |
    UPDATE ledger.accounts SET ledger = 2 WHERE id = <once 2>

postings                    | <once> |
    UPDATE ledger.posted SET transfer_id = gen_random_uuid()
    WHERE transfer_id = <once> AND amount < 0
postings                    | <once> |
    UPDATE ledger.flushes SET postings = postings - 2
    WHERE number = (SELECT number >> 20 FROM ledger.spent WHERE id = <once>);
    DELETE FROM ledger.posted WHERE transfer_id = <once>
postings                    | <once> |
    UPDATE ledger.flushes SET postings = postings + 1
    WHERE number = (SELECT number >> 20 FROM ledger.spent WHERE id = <once>);
    UPDATE ledger.posted SET run = 0 WHERE transfer_id = <once> AND amount > 0;
    INSERT INTO ledger.posted (number, stripe, version, run, transfer_id, amount, pending_amount,
        debits_pending, debits_posted, credits_pending, credits_posted)
    SELECT number + 1, stripe, 2, 2, transfer_id, 0, 0,
        debits_pending, debits_posted, credits_pending, credits_posted
    FROM ledger.posted WHERE transfer_id = <once> AND amount > 0
postings                    | <once> |
    UPDATE ledger.spent SET amount = amount + 1 WHERE id = <once>
postings counters           | <held> |
    UPDATE ledger.posted SET pending_amount = - pending_amount WHERE transfer_id = <held>
postings holds              | <lapses> |
    DELETE FROM ledger.resolutions WHERE hold_id = <lapses>;
    INSERT INTO ledger.resolutions SELECT <lapses>, <void>, 'voided', number
    FROM ledger.resolutions WHERE hold_id = <to void>

versions                    | <once> |
    UPDATE ledger.posted SET version = 2 WHERE transfer_id = <once> AND amount < 0
versions                    | <zero again> |
    UPDATE ledger.posted p SET number = q.number FROM ledger.posted q
    WHERE p.stripe = q.stripe AND p.transfer_id IN (<zero>, <zero again>)
      AND q.transfer_id IN (<zero>, <zero again>) AND p.version <> q.version
versions                    | <zero again> |
    UPDATE ledger.posted SET version = 1 WHERE transfer_id = <zero again>
versions                    | <once> |
    UPDATE ledger.posted SET run = 0 WHERE transfer_id = <once> AND amount < 0
versions                    | <zero again> |
    UPDATE ledger.posted SET run = 1 WHERE transfer_id = <zero again>
versions                    | <zero again> |
    DROP INDEX ledger.posted_run;
    UPDATE ledger.posted SET run = 1 WHERE transfer_id = <zero>
versions positions          | <pays> |
    UPDATE ledger.flushes SET time = time - interval '1 day'
    WHERE number = (SELECT number >> 20 FROM ledger.spent WHERE id = <pays>);
    UPDATE ledger.positions SET time = time - interval '1 day'
    WHERE flush = (SELECT number >> 20 FROM ledger.spent WHERE id = <pays>)

sums postings counters      | "ledger":1 |
    UPDATE ledger.posted SET earlier_amounts[1] = earlier_amounts[1] + 1
    WHERE transfer_id = <run e> AND amount > 0
postings counters           | <run b> |
    UPDATE ledger.posted SET debit[2] = NOT debit[2] WHERE transfer_id = <run e> AND amount > 0
postings                    | <run a> |
    UPDATE ledger.posted SET earlier_transfers[1] = gen_random_uuid()
    WHERE transfer_id = <run e> AND amount < 0
postings                    | <run e> |
    UPDATE ledger.posted SET transfer_id = gen_random_uuid()
    WHERE transfer_id = <run e> AND amount < 0
versions                    | <run e> |
    UPDATE ledger.posted SET run = 4 WHERE transfer_id = <run e> AND amount < 0
versions                    | <run e> |
    UPDATE ledger.posted SET version = version + 1 WHERE transfer_id = <run e> AND amount < 0
versions                    | <swing back> |
    UPDATE ledger.posted SET earlier_pending = '{0}' WHERE transfer_id = <swing back> AND amount < 0
versions                    | <swing back> |
    UPDATE ledger.posted SET earlier_pending = '{0}', debit = '{false}'
    WHERE transfer_id = <swing back> AND amount < 0
counters                    | <run e> |
    UPDATE ledger.posted SET credits_pending = credits_pending + 1
    WHERE transfer_id = <run e> AND amount > 0
limits                      | <swing out> |
    UPDATE ledger.accounts SET flags = '{debits_must_not_exceed_credits}' WHERE id = <swings>
limits                      | <run e> |
    UPDATE ledger.accounts SET flags = '{credits_must_not_exceed_debits}' WHERE id = <run 2>

counters                    | <once> |
    UPDATE ledger.posted SET debits_posted = debits_posted + 1
    WHERE transfer_id = <once> AND amount < 0
counters                    | <last> |
    UPDATE ledger.posted SET debits_pending = debits_pending + 1
    WHERE transfer_id = <last> AND amount > 0
counters limits             | <held> |
    UPDATE ledger.posted SET credits_pending = - debits_pending, debits_pending = 0
    WHERE transfer_id = <held> AND pending_amount < 0

limits                      | <once 2> |
    UPDATE ledger.accounts SET flags = '{credits_must_not_exceed_debits}' WHERE id = <once 2>
limits                      | <once 1> |
    UPDATE ledger.accounts SET flags = '{debits_must_not_exceed_credits}' WHERE id = <once 1>
limits                      | <fuller> |
    UPDATE ledger.spent SET amount = 9223372036854775807 WHERE id = <full>;
    UPDATE ledger.posted SET amount = amount / 5 * 9223372036854775807
    WHERE transfer_id = <full>;
    UPDATE ledger.posted SET debits_posted = 9223372036854775807 WHERE debits_posted = 5
       AND transfer_id IN (<full>, <fuller>);
    UPDATE ledger.posted SET credits_posted = 9223372036854775807 WHERE credits_posted = 5
       AND transfer_id IN (<full>, <fuller>)

ids                         | <too much> |
    UPDATE ledger.spent SET outcome = 46 WHERE id = <too much>
ids                         | <too much> |
    UPDATE ledger.spent SET request = '\\x00' WHERE id = <too much>
ids                         | <once> |
    ALTER TABLE ledger.spent DROP CONSTRAINT spent_pkey;
    UPDATE ledger.spent SET id = <once>, request = uuid_send(<once>) || substring(request FROM 17)
    WHERE id = <too much>
ids                         | <once> |
    UPDATE ledger.spent SET code = 0 WHERE id = <once>
ids                         | <stays> |
    UPDATE ledger.spent SET expires_at = expires_at + interval '1 second' WHERE id = <stays>
ids                         | <once> |
    UPDATE ledger.spent SET pending_id = <hold> WHERE id = <once>

holds                       | <hold> |
    UPDATE ledger.resolutions SET status = 'voided' WHERE hold_id = <hold>
holds                       | <lapses> |
    UPDATE ledger.spent SET timeout = timeout + 5, expires_at = expires_at + interval '5 seconds'
    WHERE id = <lapses>
holds                       | <void> |
    DELETE FROM ledger.resolutions WHERE hold_id = <to void>
holds                       | <to void> |
    ALTER TABLE ledger.resolutions DROP CONSTRAINT resolutions_pkey;
    INSERT INTO ledger.resolutions SELECT * FROM ledger.resolutions WHERE hold_id = <to void>
holds                       | <once> |
    INSERT INTO ledger.resolutions SELECT <once>, transfer_id, status, number
    FROM ledger.resolutions WHERE hold_id = <hold>
holds                       | <closed> |
    UPDATE ledger.accounts SET closed = false WHERE id = <closed>
holds                       | <a> |
    UPDATE ledger.accounts SET closed = true WHERE id = <a>

flushes                     | "sequence" |
    UPDATE ledger.flushes SET transfers = transfers + 1 WHERE kind = 'flush'
flushes                     | "sequence" |
    UPDATE ledger.flushes SET declined = 0 WHERE declined > 0
flushes                     | "sequence" |
    UPDATE ledger.flushes SET sequence = sequence + 100 WHERE kind = 'release'
flushes ownership           | "lent" |
    UPDATE ledger.flushes SET other = (SELECT number FROM ledger.flushes WHERE kind = 'flush'
                                       LIMIT 1) WHERE kind = 'lent'
flushes                     | "claim" |
    UPDATE ledger.flushes SET other = other + 1000 WHERE kind = 'claim' AND other IS NOT NULL
flushes                     | "flush":999999 |
    INSERT INTO ledger.spent SELECT gen_random_uuid(), NULL, shard, flags, 54, code,
        999999::bigint << 20, debit_account, credit_account, amount, NULL, NULL, NULL, NULL, NULL,
        request
    FROM ledger.spent WHERE id = <too much>;
    UPDATE ledger.spent SET request = uuid_send(id) || substring(request FROM 17)
    WHERE number >> 20 = 999999

references                  | <zero> |
    DELETE FROM ledger.accounts WHERE id = <twice 2>
references                  | <zero> |
    UPDATE ledger.accounts SET ledger = 3 WHERE id = <twice 2>
references                  | "worker" |
    DELETE FROM ledger.workers WHERE host <> 'nobody'
references                  | "shard":15 |
    DELETE FROM ledger.owners WHERE shard = 15
references                  | "shard":1000 |
    UPDATE ledger.posted SET stripe = stripe - 2 + 1000
    WHERE transfer_id = <once> AND amount > 0

positions                   | "shard":1 |
    UPDATE ledger.positions SET ms = 0
    WHERE (shard, flush) = (SELECT shard, max(flush) FROM ledger.positions WHERE shard = 1
                            GROUP BY shard)
positions                   | "shard":1 |
    UPDATE ledger.positions SET time = time + interval '1 microsecond'
    WHERE shard = 1
freezes                     | "kind":"account" |
    INSERT INTO ledger.freezes (freeze_number, act, kind, what, acted_by, reason, time)
    SELECT 1, 'freeze', 'account', debit_account_id::text, 'x', 'y', posted_at - interval '1 s'
    FROM ledger.transfers WHERE id = <once>
freezes                     | "kind":"shard" |
    INSERT INTO ledger.freezes (freeze_number, act, kind, what, acted_by, reason, time, thaws)
    SELECT n, CASE n WHEN 1 THEN 'freeze' ELSE 'thaw' END, 'shard',
           ledger.shard_of(debit_account_id)::text, 'x', 'y',
           posted_at + (n - 1.5) * interval '1 s', CASE n WHEN 2 THEN 1 END
    FROM ledger.transfers, generate_series(1, 2) n WHERE id = <once>
freezes                     | "entry":"5-0" |
    INSERT INTO ledger.waiting (shard, generation, ms, seq, freeze_number, flush, transfers, size,
                                ids, digest, fields)
    VALUES (1, 0, 5, 0, 1, 999999, 1, 1, '{}', '', '{}')
flushes                     | "freeze" |
    UPDATE ledger.flushes SET kind = 'freeze', other = 5
    WHERE (worker, sequence) = (SELECT worker, max(sequence) FROM ledger.flushes
                                WHERE kind = 'release' GROUP BY worker ORDER BY worker LIMIT 1)
ownership                   | "shard":9 |
    DELETE FROM ledger.ownership WHERE shard = 9
    AND worker <> '00000000-0000-0000-0000-000000000000'
ownership                   | "shard":9 |
    UPDATE ledger.owners SET worker = (SELECT worker FROM ledger.flushes WHERE kind = 'locked'
                                       LIMIT 1) WHERE shard = 9
ownership                   | "shard":9 |
    UPDATE ledger.ownership SET worker = o.worker FROM ledger.ownership o
    WHERE ledger.ownership.shard = 9 AND o.shard = 1
      AND ledger.ownership.former <> ledger.ownership.worker
      AND ledger.ownership.worker <> '00000000-0000-0000-0000-000000000000'
      AND o.worker <> '00000000-0000-0000-0000-000000000000'
ownership                   | "shard":9 |
    DELETE FROM ledger.ownership WHERE shard = 9
references                  | "number":9007199254740991 |
    ALTER TABLE ledger.accounts DROP CONSTRAINT accounts_number_usable;
    INSERT INTO ledger.accounts (id, ledger, code, number) OVERRIDING SYSTEM VALUE
    VALUES (gen_random_uuid(), 1, 1, 9007199254740991)
references                  | "flags":[["debits_must_not_exceed_credits"]] |
    ALTER TABLE ledger.accounts DROP CONSTRAINT accounts_flags_usable;
    INSERT INTO ledger.accounts (id, ledger, code, flags)
    VALUES (gen_random_uuid(), 1, 1, '{{debits_must_not_exceed_credits}}')
due                         | <stays> |
    UPDATE ledger.spent SET timeout = 1, expires_at = expires_at - interval '7199 seconds'
    WHERE id = <stays>
due positions               | <stays> |
    UPDATE ledger.positions SET time = time + interval '3 hours' WHERE shard = 1

journals                    | "rows":1 |
    INSERT INTO flows.steps (flow, seq, step, state, event, attempt, reference, detail, at, number)
    VALUES (gen_random_uuid(), 1, 0, 'waiting', '', 0, '', '{}', now(), 1)
journals                    | "019b0000-0000-7000-8000-0000000000f1" |
    INSERT INTO flows.flows (id, outcome, name, shard, input, accounts, started_at, number)
    VALUES ('019b0000-0000-7000-8000-0000000000f1', 'created', 'f', 0, '', '{}', now(), 1)

flow_money journals         | "event":"created" |
    INSERT INTO flows.definitions (name, version, hash, source, accounts)
    VALUES ('f', 1, '', '{"steps": [{"kind": "hold", "name": "hold"}]}', '{}');
    INSERT INTO flows.flows (id, definition, name, shard, input, accounts, started_at, number)
    SELECT '019b0000-0000-7000-8000-0000000000f1', definition, 'f', 0, '', '{}', now(), 1
    FROM flows.definitions WHERE name = 'f';
    INSERT INTO flows.steps (flow, seq, step, state, event, attempt, reference, detail, at, number,
                             request)
    VALUES ('019b0000-0000-7000-8000-0000000000f1', 1, 0, 'asked', '', 1, '', '{}', now(), 1,
            decode(repeat('ab', 128), 'hex')),
           ('019b0000-0000-7000-8000-0000000000f1', 2, 0, 'done', 'created', 1, '', '{}', now(), 1,
            NULL)
flow_money journals         | "event":"declined" |
    INSERT INTO flows.definitions (name, version, hash, source, accounts)
    VALUES ('f', 1, '', '{"steps": [{"kind": "move", "name": "move"}]}', '{}');
    INSERT INTO flows.flows (id, definition, name, shard, input, accounts, started_at, number)
    SELECT '019b0000-0000-7000-8000-0000000000f1', definition, 'f', 0, '', '{}', now(), 1
    FROM flows.definitions WHERE name = 'f';
    INSERT INTO flows.steps (flow, seq, step, state, event, attempt, reference, detail, at, number,
                             request)
    VALUES ('019b0000-0000-7000-8000-0000000000f1', 1, 0, 'asked', '', 1, '', '{}', now(), 1,
            decode(repeat('ab', 128), 'hex')),
           ('019b0000-0000-7000-8000-0000000000f1', 2, 0, 'done', 'declined', 1, '', '{}', now(), 1,
            NULL)
"""


def breaks() -> list[Any]:
    found = []
    for block in re.split(r"\n(?=\S)", BREAKS.strip()):
        names, offender, sql = block.split("|", 2)
        title = f"{names.split()[0]} {len(found)}"
        found.append(pytest.param(names.split(), offender.strip(), sql.strip(), id=title))
    return found


@pytest.mark.parametrize(("names", "offender", "sql"), breaks())
async def test_what_is_broken_is_found_by_its_check_and_named(
    full_ledger: Ledger, names: list[str], offender: str, sql: str
) -> None:
    async with breaking(full_ledger) as break_with:
        results = await break_with(fill_in(sql))
    assert failed(results) == set(names), {n: results[n].offenders for n in failed(results)}
    named = json.dumps(results[names[0]].offenders, separators=(",", ":"))
    assert fill_in(offender).strip("'") in named


def test_every_check_has_at_least_two_breaks() -> None:
    aimed_at = [parameter.values[0][0] for parameter in breaks()]
    for check in checks():
        assert check.name == "dead_letters" or aimed_at.count(check.name) >= 2, check.name
