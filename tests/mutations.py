"""Small changes to rules, fast path and flush, each of which a test must notice.

`scripts/mutate` makes them one at a time in a copy and runs the tests named; one that
nothing notices is a hole in the tests, and stops the script.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.bounds import MUTATED_SECONDS_MAX
from tests.flow_mutations import FLOW_MUTATIONS
from tests.simulation.safeguards import SAFEGUARDS

ROOT = Path(__file__).parent.parent
COPIED = ("engine", "shards", "tests", "pyproject.toml", "README.md")

HISTORIES = "tests/unit/test_histories_in_memory.py"
EQUAL = "tests/property/test_fast_path_equals_rules.py::test_large_worlds_drawn_from_seeds"
EDGE = "tests/property/test_columns_at_the_edge.py"
HOSTILE = "tests/property/test_hostile_batches.py"
CONTRACT = "tests/integration/test_contract.py"
FATE = "tests/integration/test_commit_fate.py"
FAILURES = "tests/integration/test_flush_failures.py"
DUPLICATES = "tests/integration/test_duplicates.py"
SINGLE = "tests/integration/test_single_flushes.py"
STRIPES = "tests/integration/test_stripes.py"
TAKEOVER = "tests/integration/test_takeover.py"
CLUSTER = "tests/integration/test_cluster.py"
STANDBY = "tests/integration/test_standby.py"
TIME = "tests/integration/test_time.py"
STREAMS = "tests/integration/test_streams.py"
ASIDE = "tests/integration/test_streams_set_aside.py"
LARGE = "tests/integration/test_streams_large.py"
ADDED = "tests/integration/test_strangers_triggers.py"
TROUBLES = "tests/integration/test_status_troubles.py"
SLOW = "tests/integration/test_too_slow.py"
REFUSES = "tests/integration/test_redis_refuses.py"
BELONG = "tests/integration/test_streams_belong.py"
OWNERS = "tests/integration/test_histories_by_many.py"
MOVES = "tests/integration/test_shards_moves.py"
FUNDS = "tests/integration/test_funds_of_others.py"
STRIPED = "tests/simulation/test_scenarios_stripes.py"
STRANGERS = "tests/integration/test_strangers.py"
CONNECTED = "tests/integration/test_what_it_is_connected_to.py"
NUMBERS = "tests/simulation/test_scenarios_numbers.py"
FENCE = "tests/integration/test_fence.py"
ANSWERS = "tests/integration/test_client_answers.py"
FREEZES = "tests/integration/test_freezes.py"
FROZEN = "tests/unit/test_precedence.py"
BREAKS = "tests/integration/test_verify_breaks.py"
DOOR = "tests/integration/test_client_door.py"
TOLD = "tests/integration/test_commands_told.py"
PATIENCE = "tests/unit/test_patience.py"
BUSY_LOOP = "tests/integration/test_busy_loop.py"
STATUS = "tests/integration/test_status_told.py"
CONSOLE = "tests/integration/test_console.py"
PRIVILEGES = "tests/integration/test_privileges.py"
ROLES = "tests/integration/test_roles.py"
USERS = "tests/integration/test_redis_users.py"
SIMULATED = "tests.simulation"
"""Noticed by a scene of the simulator, or by one of its first seeds."""

SEEDS = 400


class Mutation(NamedTuple):
    """One change and the test that must fail for it."""

    file: str
    old: str
    new: str
    test: str


MUTATIONS = [
    # The rules.
    Mutation("ledger/rules.py", "if debit.closed:\n        return Outcome.debit_account_a", "if False:\n        return Outcome.debit_account_a", HISTORIES),
    Mutation("ledger/rules.py", "if debit.debits_exceed_credits(amount):", "if debit.debits_exceed_credits(amount - 1):", HISTORIES),
    Mutation("ledger/rules.py", "if credit.credits_exceed_debits(amount):", "if False:", HISTORIES),
    Mutation("ledger/rules.py", "- debit.debits_posted - debit.debits_pending", "- debit.debits_posted", HISTORIES),
    Mutation("ledger/rules.py", "amount = min(amount, max(available, 0))", "amount = min(amount, available)", HISTORIES),
    Mutation("ledger/rules.py", "if voids and amount < p.amount:", "if amount < p.amount:", HISTORIES),
    Mutation("ledger/rules.py", "if hold.status is HoldStatus.voided:", "if hold.status is HoldStatus.expired:", HISTORIES),
    Mutation("ledger/rules.py", "if hold.status is HoldStatus.expired or (hold.expires_at and hold.expires_at <= time):", "if False:", HISTORIES),
    Mutation("ledger/rules.py", "    if voids:\n        _reopen(page, hold, debit, credit)\n", "", HISTORIES),
    Mutation("ledger/rules.py", "debit_pending=-p.amount", "debit_pending=-amount", HISTORIES),
    Mutation("ledger/rules.py", "t.user_data_64 or p.user_data_64,\n            user_data_32", "t.user_data_64,\n            user_data_32", HISTORIES),
    Mutation("ledger/rules.py", "if outcome in SPENDS_ID:", "if outcome in SPENDS_ID and not linked:", HISTORIES),
    Mutation("ledger/rules.py", "t.amount < e.amount if t.flags & BALANCING else", "t.amount != e.amount if t.flags & BALANCING else", HISTORIES),
    Mutation("ledger/rules.py", "[Outcome.linked_event_failed] * (index - chain)", "outcomes[chain:index]", HISTORIES),
    Mutation("ledger/page.py", "        for hold in self._undo_holds:\n            hold.status = HoldStatus.pending\n", "", HISTORIES),
    Mutation("ledger/page.py", "            del self._known[transfer_id]\n", "", HISTORIES),
    # The fast path.
    Mutation("deciding/limits.py", "earns = np.flatnonzero((flags[other] & limit != 0) & ~moves.pending)", "earns = np.flatnonzero(flags[other] & limit != 0)", EQUAL),
    Mutation("deciding/limits.py", "= self._left < 0", "= self._left <= 0", EQUAL),
    Mutation("deciding/limits.py", "        happens |= ~refused[self._move]\n", "        happens |= True\n", EQUAL),
    Mutation("deciding/limits.py", "- deltas[held]", "", EQUAL),
    Mutation("deciding/sorting.py", "        plain &= ~ids.taken  #", "        #", EQUAL),
    Mutation("deciding/sorting.py", "broken = forms.whole(~plain) & forms.grouped", "broken = forms.grouped & False", EQUAL),
    Mutation("deciding/forms.py", "        self._unlike = rows[~alike]\n", "", EQUAL),
    Mutation("deciding/forms.py", "self._ties.append((source, target))", "pass", EQUAL),
    Mutation("deciding/forms.py", "self.resolves[rows[order[1:][several]]] = False", "pass", EQUAL),
    Mutation("deciding/forms.py", "self.moves[ends[linked[ends]]] = False", "pass", EQUAL),
    Mutation("deciding/components.py", "label = _follow(label)", "pass", HOSTILE),
    Mutation("deciding/components.py", "names[max(ends)] = min(ends)", "pass", "tests/unit/test_components.py"),
    Mutation("deciding/dependents.py", "for _ in range(ROUNDS_MAX):", "while True:", HOSTILE),
    Mutation("deciding/dependents.py", "    rules |= done\n", "", HOSTILE),
    Mutation("book/id_table.py", "    _key[:] = np.frombuffer(secret, np.uint64)\n", "", HOSTILE),
    Mutation("worker/worker.py", "key_hashes(os.urandom(16))", "key_hashes(bytes(16))", HOSTILE),
    Mutation("deciding/limits.py", "available += np.where(happens, 0, self._ahead)", "pass", EDGE),
    Mutation("deciding/limits.py", "found = found[moves.unit]", "pass", EQUAL),
    Mutation("deciding/limits.py", "if not (breaks.any() or refused.any()):", "if not refused.any():", EQUAL),
    Mutation("deciding/repeats.py", "alone & (kept[at] == batch.words[rows]).all(axis=1)", "alone & taken[rows]", EQUAL),
    Mutation("deciding/repeats.py", "alone = forms.moves[rows] & ~forms.grouped[rows]", "alone = forms.moves[rows]", EDGE),
    Mutation("deciding/sorting.py", "columns = ~(rules | ids.repeats)", "columns = ~rules", EQUAL),
    Mutation("deciding/forms.py", "if not (ascending[1:] == ascending[:-1]).any():", "if True:", EQUAL),
    Mutation("deciding/resolutions.py", 'holds["expires_at"] > time', 'holds["expires_at"] >= time', EDGE),
    Mutation("deciding/resolutions.py", "    good &= ~posts | open_both\n", "", EDGE),
    Mutation("book/open_holds.py", "            half.open[at[at >= 0]] = False\n", "            break\n", EQUAL),
    Mutation("deciding/decider.py", "ended[here] = outcomes[resolves.made[here]] == 0", "pass", EQUAL),
    Mutation("deciding/sorting.py", "        plain &= ~book.closed[credit]", "        ", EQUAL),
    Mutation("deciding/dependents.py", "dirty[column[conditional[column]]] = True", "pass", EQUAL),
    Mutation("deciding/knowledge.py", "status = ends.get(record.transfer.id, record.status)", "status = record.status", EQUAL),
    Mutation("deciding/decider.py", '        missing = self._ask_ids(set(self._batch.rows["id"][refused].tolist()))\n', "        missing = None\n", EQUAL),
    Mutation("book/postings.py", "version=(versions - first)[stripes] + ends,", "version=(versions - first)[stripes] + ends + 1,", EQUAL),
    Mutation("book/book.py", "            self.closed[slot] = closed\n", "            pass\n", EQUAL),
    Mutation("book/postings.py", "sums[last] - sums[ends - 1]", "sums[last]", EQUAL),
    Mutation("book/id_table.py", "mixed ^ mixed >> 29)", "mixed ^ mixed >> 28)", "tests/unit/test_id_table.py"),
    Mutation("book/postings.py", "            if len(ends) == count:\n", "            if len(ends) < count:\n", EQUAL),
    Mutation("book/postings.py", "is_debit=order & 1 == 0,", "is_debit=order & 1 == 1,", EQUAL),
    Mutation("book/book.py", "np.subtract.at(self.version, decision.slots, 1)", "pass", EQUAL),
    Mutation("book/book.py", "np.subtract.at(self.own[kind], decision.slots, decision.deltas[kind])", "pass", EQUAL),
    Mutation("book/book.py", "            self.holds.reopen_holds(words_of(decision.resolutions.hold_ids))\n", "            pass\n", EDGE),
    # The flush and what surrounds it.
    Mutation("store/queries/flushes/fence.sql", "SELECT me.worker, $2,", "SELECT me.worker, $2 + 0 * $3 + (SELECT coalesce(max(sequence), 0) FROM ledger.flushes f WHERE f.worker = $1) - $2 + 1,", FENCE),
    Mutation("store/ownership.py", '        lent = await connections.write("append_lent_flush", [other], kind, time, named)\n', "        lent = fenced\n", FENCE),
    Mutation("store/queries/flushes/flush_small.sql", "SELECT me.worker, $2,", "SELECT me.worker, $2 + 1000,", FENCE),
    Mutation("store/queries/flushes/flush_one.sql", "SELECT me.worker, $2::bigint,", "SELECT me.worker, $2::bigint + 1000,", SINGLE),
    Mutation("store/queries/flushes/flush_one.sql", "WITH me AS (SELECT worker FROM ledger.workers WHERE worker = $1 FOR UPDATE)", "WITH me AS (SELECT worker FROM ledger.workers WHERE worker = $1)", "tests/simulation/test_conformance_locks.py"),
    Mutation("store/queries/flushes/flush_one.sql", "SELECT $8 + p.place,", "SELECT $8 + 1 - p.place,", SINGLE),
    Mutation("store/queries/flushes/flush_one.sql", "ledger.seals_of($6::bigint[])", "ledger.seals_of(NULL)", SINGLE),
    Mutation("store/queries/flushes/flush_one.sql", "    WHERE p.shard IS NOT NULL\n", "    LIMIT 1\n", SINGLE),
    Mutation("store/single_flush.py", "        and not len(decision.resolutions.hold_ids)\n", "", SINGLE),
    Mutation("store/ownership.py", 'and not r["alive"]', "", FENCE),
    Mutation("store/commit.py", "        if not is_committed:\n", "        if True:\n", FATE),
    Mutation("store/commit.py", 'await connections.ask(\n                        fresh, "find_flush", connections.worker, sequence, number\n                    )', "True", FATE),
    Mutation("store/driver_errors.py", "asyncpg.DeadlockDetectedError | asyncpg.SerializationError", "asyncpg.SerializationError", FAILURES + "::test_a_deadlock_means_redo"),
    Mutation("store/driver_errors.py", "    if isinstance(error, asyncpg.LockNotAvailableError):\n", "    if isinstance(error, ZeroDivisionError):\n", FAILURES + "::test_a_lock_time_out_means_redo"),
    Mutation("store/driver_errors.py", "        | asyncpg.OperatorInterventionError\n", "", FAILURES + "::test_a_cancelled_statement_means_redo"),
    Mutation("store/driver.py", '    "statement_timeout": "0",\n', "", FAILURES + "::test_settings_of_the_role_do_not_reach_a_session"),
    Mutation("store/migrations/0001_tables.sql", "CREATE UNIQUE INDEX posted_run", "CREATE INDEX posted_run", FAILURES + "::test_a_stale_version_means_redo"),
    Mutation("store/migrations/0001_tables.sql", "ON ledger.posted (stripe, (version - run))", "ON ledger.posted ((stripe >> 10), (version - run))", STRIPES + "::test_second_stripe_first_run_no_conflict"),
    Mutation("store/queries/flushes/flush_small.sql", "WITH me AS (SELECT worker FROM ledger.workers WHERE worker = $1 FOR UPDATE)", "WITH me AS (UPDATE ledger.workers SET host = host WHERE worker = $1 RETURNING worker)", STRIPES + "::test_long_snapshot_open_flush_cost_flat"),
    Mutation("store/flush_copies.py", "        if values.any()\n", "        if values.all()\n", "tests/unit/test_copies.py"),
    Mutation("store/copy.py", "values if len(values) == 1 else values[start : start + length]", "values[:length]", "tests/unit/test_copies.py"),
    Mutation("store/flush_copies.py", "    order = np.argsort(high)\n", "    return np.arange(len(high))\n", "tests/unit/test_copies.py"),
    Mutation("store/queries/workers/terminate_blockers.sql", "AND h.expires_at <= clock_timestamp()", "AND false", TAKEOVER + "::test_sigstop_mid_copy_is_taken_over"),
    Mutation("store/queries/workers/terminate_blockers.sql", "AND h.expires_at <= clock_timestamp()", "AND false", TAKEOVER + "::test_duplicate_behind_a_frozen_flush"),
    Mutation("store/queries/workers/terminate_blockers.sql", "AND h.expires_at <= clock_timestamp()", "AND false", TAKEOVER + "::test_claimer_frozen_on_a_live_workers_row"),
    Mutation("store/driver_errors.py", "    if isinstance(error, asyncpg.InsufficientResourcesError):\n", "    if isinstance(error, ZeroDivisionError):\n", FAILURES + "::test_too_many_connections_are_waited_for"),
    Mutation("store/commit.py", "    if connection.is_closed():\n", "    if False:\n", FAILURES + "::test_a_connection_lost_before_a_flush_is_sent_ends_no_worker"),
    Mutation("streams/cluster_connection.py", '            self._send(there, asked, times + 1, asking=kind == "ASK")\n', "            asked.on_reply(NotNowError(reply.where))\n", CLUSTER + "::test_streams_on_three_nodes"),
    Mutation("streams/cluster_connection.py", "if not isinstance(reply, ElsewhereError):", "if True:", CLUSTER + "::test_streams_on_three_nodes"),
    Mutation("store/queries/workers/end_backend.sql", "WHERE pid = $1", "WHERE false AND pid = $1", FATE),
    Mutation("store/queries/flushes/commit_own.sql", "SELECT pg_logical_emit_message(true, 'engine', 'all that was visible before is confirmed')", "SELECT pg_current_xact_id()", STANDBY),
    Mutation("store/commit.py", "        if connections.warnings_of(connection) != before:\n", "        if False:\n", STANDBY),
    Mutation("store/commit.py", "            await _wait_for(connections, connection, committing, what)\n        committing.exception()\n", "            committing.cancel()\n", STANDBY),
    Mutation("store/commit.py", "        with anyio.CancelScope(shield=True), contextlib.suppress(TooMuchError):\n            await _wait_for(connections, connection, committing, what)\n", "        await _wait_for(connections, connection, committing, what)\n", "tests/simulation/test_scenarios_commits.py"),
    Mutation("store/connections.py", "synchronous=False", "synchronous=True", f"{STANDBY}::test_a_standby_that_is_away_ends_no_lease"),
    Mutation("store/queries/accounts/accounts_by_id.sql", "HAVING beyond.more", "HAVING false", "tests/integration/test_accounts.py"),
    Mutation("store/queries/accounts/accounts_by_id.sql", "WHEN a.shard <> $3::integer THEN mine.base + a.shard END", "END", "tests/integration/test_accounts.py"),
    Mutation("worker/inbox.py", "            turn -= arrival.weight\n", "", "tests/unit/test_inbox.py"),
    Mutation("worker/inbox.py", "            and self.dead_letters >= 1\n", "", "tests/unit/test_inbox.py"),
    Mutation("worker/inbox.py", "1 + max(len(self.rows), self.size // WEIGHT_BYTES)", "len(self.rows)", "tests/unit/test_inbox.py"),
    Mutation("worker/open_flush.py", "            DEAD_LETTERS_MAX - len(self.dead_letters),\n", "            DEAD_LETTERS_MAX,\n", "tests/unit/test_inbox.py"),
    Mutation("worker/set_aside_limit.py", "if len(times) >= SET_ASIDE_MAX:", "if False:", "tests/simulation/test_scenarios_set_aside.py"),
    Mutation("book/expiries.py", "return min(time, earliest, self.horizon)", "return time", "tests/simulation/test_scenarios_holds.py"),
    Mutation("worker/flush_builder.py", "shard: max(progress.resolved_until, self.expiries.horizon)", "shard: max(progress.time, self.expiries.horizon)", "tests/simulation/test_scenarios_holds.py"),
    Mutation("store/rows.py", "return min([self.complete_until, *(at - 1 for at in left)])", "return self.complete_until", "tests/simulation/test_scenarios_holds.py"),
    Mutation("worker/flush_builder.py", "        for expires_at, hold_id in undecided:", "        for expires_at, hold_id in ():", "tests/simulation/test_scenarios_holds.py"),
    Mutation("worker/flush_builder.py", "0 if self.skipped.all_stand else EXPIRIES_MAX", "10**9", "tests/integration/test_floods.py"),
    Mutation("worker/locked_decider.py", "            if portion == 1 and self._is_blamed(error):", "            if self._is_blamed(error):", "tests/simulation/test_scenarios_set_aside.py"),
    Mutation("worker/flush_builder.py", "*(at - 1 for at in self.skipped.values())", "", "tests/simulation/test_scenarios_set_aside.py"),
    Mutation("worker/locked_flush.py", "careful=True, whole=True", "careful=True", "tests/simulation/test_scenarios_stripes.py"),
    Mutation("deciding/few.py", " or book.seen.are_seen(batch.words[:, 0:2]).any()", "", "tests/unit/test_few.py"),
    Mutation("deciding/few.py", " or book.near_overflow[slots].any()", "", "tests/unit/test_few.py"),
    Mutation("deciding/few.py", "    if not book.mine[debit].all():\n        return False\n", "", "tests/unit/test_few.py"),
    Mutation("deciding/few.py", "return is_within and not", "return not", "tests/unit/test_few.py"),
    Mutation("deciding/few.py", "return is_within and not (book.flags[away] & CREDIT_LIMIT).any()", "return is_within", "tests/unit/test_few.py"),
    Mutation("deciding/few.py", " or batch.frozen is not None", "", "tests/unit/test_few.py"),
    Mutation("worker/session.py", "            if host.cancelling() > cancels:\n", "            if False:\n", "tests/integration/test_cancelled.py"),
    Mutation("worker/repair.py", "            self._check_standing(shard)\n", "", "tests/simulation/test_scenarios_redis.py"),
    Mutation("worker/repair.py", "len(arrival.rows) and known", "known", "tests/simulation/test_scenarios_redis.py"),
    Mutation("worker/attempts.py", "passes = isinstance(error, FundsArrivedError | LockHeldError)", "passes = False", "tests/unit/test_attempts.py"),
    Mutation("store/driver_errors.py", "return LockHeldError(f", "return BookStandsError(f", "tests/integration/test_set_aside.py"),
    Mutation("worker/chain.py", "            self.in_flight.cancel()\n", "            pass\n", "tests/integration/test_set_aside.py"),
    Mutation("worker/seal_checks.py", "        if total:\n", "        if False:\n", "tests/unit/test_seal_checks.py"),
    Mutation("worker/seal_checks.py", "    if len(posted) != 2 * (created + expired):\n", "    if False:\n", "tests/unit/test_seal_checks.py"),
    Mutation("worker/seal_checks.py", "    if rows > FLUSH_ROWS_MAX:\n", "    if False:\n", "tests/unit/test_seal_checks.py"),
    Mutation("worker/chain.py", "        check_flush(opened.decided, posted)\n", "", "tests/simulation/test_scenarios_reports.py"),
    Mutation("worker/locked_flush.py", "                check_flush([decided], posted)\n", "", "tests/simulation/test_scenarios_reports.py"),
    Mutation("worker/repair.py", "        await self._store.confirm()\n", "", "tests/simulation/test_scenarios_redis.py"),
    Mutation("worker/flush_builder.py", "            if newest < opened.time:\n", "            if True:\n", TIME),
    Mutation("worker/flush_builder.py", "        for uncommitted in [*self._chain.uncommitted(), *open_]:", "        for uncommitted in ():", "tests/simulation/test_scenarios_holds.py"),
    Mutation("streams/recovery.py", '                rows = await self._read_range(name, "-", "+")', "                rows = []", STREAMS + "::test_maximal_id_poison"),
    Mutation("streams/recovery.py", "            except KeyRefusedError:\n                continue\n", "            except KeyRefusedError:\n                raise\n", ASIDE + "::test_poisoned_key_taken"),
    Mutation("streams/entries.py", "        if ms > ID_PART_MAX or seq > ID_PART_MAX:", "        if False:", ASIDE + "::test_highest_legal_id"),
    Mutation("streams/reader.py", "        if isinstance(reply, EngineError):\n            return await self._read_singly(positions)", "        if isinstance(reply, EngineError):\n            raise reply", ASIDE + "::test_key_of_another_type"),
    Mutation("streams/reader.py", "            self._singly = 0 if self._count > 1 else SINGLY_READS\n            self._ask_for_less()\n            return await self._read_singly(positions)", "            raise reply", LARGE + "::test_giant_entry"),
    Mutation("streams/refusals.py", '    return NotNowError(f"Redis takes nothing now: {message}")\n', "    return ConfigurationError(message)\n", REFUSES + "::test_redis_refuses_for_a_while"),
    Mutation("streams/server_checks.py", "    if policy != POLICY:", "    if False:", BELONG + "::test_a_redis_that_forgets_is_refused"),
    Mutation("streams/server_checks.py", "bytes(found) != ledger_id.encode()", "False", BELONG + "::test_two_ledgers_on_one_prefix"),
    Mutation("worker/repair.py", "look.has_ended or look.is_behind or (look.below and look.below == seen.get(shard))", "False", ASIDE + "::test_stream_lost_below_the_position"),
    Mutation("worker/repair.py", "        elif look.below:\n", "        elif False:\n", ASIDE + "::test_an_entry_below_the_position_beside_newer_ones"),
    Mutation("worker/repair.py", 'known.issuperset(arrival.rows["id"].tolist())', "False", STREAMS),
    Mutation("worker/repair.py", 'known.issuperset(arrival.rows["id"].tolist())', "True", STREAMS),
    Mutation("deciding/locks.py", "    if book.owns_all:\n        return {}\n", "    if True:\n        return {}\n", OWNERS),
    Mutation("store/flush_writer.py", "if flush.has_assumptions:", "if False:", FUNDS),
    Mutation("store/commit.py", "            connection.terminate()\n", "            pass\n", FATE + "::test_link_dead_behind_a_proxy_applied"),
    Mutation("store/queries/workers/is_backend_at_work.sql", "state NOT LIKE 'idle%'", "true", FATE + "::test_link_dead_behind_a_proxy_aborted"),
    Mutation("store/queries/workers/is_backend_at_work.sql", "state NOT LIKE 'idle%'", "false", FATE + "::test_a_commit_that_is_at_work_is_waited_for_however_long"),
    Mutation("store/migrations/0004_guards.sql", "f.sequence = NEW.sequence - 1 AND f.time >= newest", "true", CONNECTED + "::test_clock_a_year_ahead"),
    Mutation("store/migrations/0004_guards.sql", "                  WHERE f.time >= newest", "                  WHERE false", CONNECTED + "::test_a_ledger_whose_times_are_ahead_already_goes_on"),
    Mutation("store/ledger_checks.py", "    if ahead > CLOCK_SECONDS_MAX or", "    if", CONNECTED + "::test_a_worker_whose_clock_is_far_off_does_not_begin"),
    Mutation("store/ledger_checks.py", 'if row["last"] < row["newest"]]', "if False]", CONNECTED + "::test_sequences_behind_their_data"),
    Mutation("store/ledger_checks.py", "    if named != known:\n", "    if False:\n", CONNECTED + "::test_an_outcome_by_another_name_is_refused"),
    Mutation("store/driver.py", '    if encoding != "UTF8":\n', "    if False:\n", CONNECTED + "::test_entry_that_the_encoding_has_not"),
    Mutation("store/driver.py", '_COMMON_SINCE: Final = {"transaction_timeout": "0", ', "_COMMON_SINCE: Final = {", CONNECTED + "::test_no_setting_of_the_database_changes_what_is_done"),
    Mutation("store/driver.py", '        "session_replication_role": ("origin", "guards nothing"),\n', "", CONNECTED + "::test_triggers_that_are_off_are_refused"),
    Mutation("store/migrate.py", "        except ConflictError as error:\n", "        except ZeroDivisionError as error:\n", CONNECTED + "::test_a_migration_waits_for_a_table_without_stopping_who_writes"),
    Mutation("store/queries/flushes/queue_to_decline.sql", "SELECT FROM ledger.settings FOR UPDATE", "SELECT pg_advisory_xact_lock(hashtextextended('ledger: declining for want of funds', 0))", CONNECTED + "::test_a_role_that_may_only_connect_stops_nobody"),
    # What strangers write.
    Mutation("store/records.py", "~(numbered & (accounts.flags >= 0) & counted)", "~((accounts.flags >= 0) & counted)", STRANGERS + "::test_account_with_a_strange_number"),
    Mutation("store/records.py", "~(numbered & (accounts.flags >= 0) & counted)", "~(numbered & counted)", STRANGERS + "::test_account_with_a_strange_number"),
    Mutation("store/records.py", "~(numbered & (accounts.flags >= 0) & counted)", "~(numbered & (accounts.flags >= 0))", STRANGERS + "::test_counters_that_sum_beyond_a_bigint_stop_their_account_alone"),
    Mutation("store/records.py", "0, -UNLOCKED_MAX)", "0, 0)", "tests/unit/test_account_columns.py"),
    Mutation("store/records.py", "wrapped | (sums < lowest)", "(sums < lowest)", "tests/unit/test_account_columns.py"),
    Mutation("store/records.py", 'if row["outcome"] == Outcome.created and not _is_whole(row):', "if False:", STRANGERS + "::test_a_transfer_that_no_flush_wrote_stands_as_declined"),
    Mutation("store/migrations/0004_guards.sql", "OR NOT ledger.is_number_given(NEW.number)", "", STRANGERS + "::test_an_account_that_cannot_be_used_is_refused"),
    Mutation("store/migrations/0004_guards.sql", "SECURITY DEFINER", "", STRANGERS + "::test_who_may_only_insert_accounts_creates_them"),
    Mutation("store/migrations/0004_guards.sql", "       ledger.saturated(b.credits_posted) AS credits_posted,", "       coalesce(b.credits_posted, 0)::bigint AS credits_posted,", STRANGERS + "::test_counters_that_sum_beyond_a_bigint_stop_their_account_alone"),
    Mutation("store/migrations/0004_guards.sql", "debits_pending >= -4611686018427387904 AND", "", STRANGERS + "::test_a_counter_that_wraps_is_refused_by_the_ledger"),
    Mutation("store/migrations/0004_guards.sql", "SELECT round(sum(get_byte(bytes, start + i) * 256::numeric ^ i))", "SELECT sum(get_byte(bytes, start + i) * 256::numeric ^ i)", STRANGERS + "::test_no_number_is_shown_with_decimals"),
    Mutation("store/assumptions.py", 'await connections.write("queue_to_decline")', "pass", FUNDS),
    Mutation("deciding/limits.py", "lacking[first] = short[first]", "pass", FUNDS),
    Mutation("worker/pipeline.py", "if self._attempts.is_locked:", "if False:", FUNDS),
    Mutation("worker/inbox.py", "        if twice is not None:", "        if False:", CONTRACT),
    # Shards that come and go.
    Mutation("book/book.py", "        self._keep(np.flatnonzero(stays))\n", "        self.mine[: self.accounts] = self.owned[self.home[: self.accounts]]\n", f"{MOVES}::test_handover_after_credit_to_prepared_account"),
    Mutation("book/book.py", "            stays[:] = False\n", "            pass\n", STRIPED + "::test_what_others_brought_is_known_to_who_owns_all_afterwards"),
    # At the edges of numbers.
    Mutation("book/book.py", "        self.near_overflow[slots] = (total > NEAR_OVERFLOW)", "        self.near_overflow[slots] = (total > 1e300)", EDGE),
    Mutation("book/book.py", "decision.deltas.size and np.abs(decision.deltas).max() >= LARGE", "False", EDGE),
    Mutation("deciding/bounds.py", "over = _leave_their_range(book, slots, at, legs) & foreign", "over = foreign & False", NUMBERS),
    Mutation("deciding/bounds.py", "np.logical_or.reduce(over | under, axis=0)", "np.logical_or.reduce(over, axis=0)", NUMBERS),
    Mutation("deciding/bounds.py", "ends = _come_near_the_end(book, slots, at, legs)", "ends = foreign & False", NUMBERS),
    Mutation("deciding/bounds.py", "        locks[int(batch.entries[place])] = set(others)\n", "        pass\n", NUMBERS),
    Mutation("deciding/bounds.py", '    overflowing &= batch.rows["amount_low"] <= np.uint64(COUNTER_MAX)\n', "", NUMBERS),
    Mutation("book/book.py", "        self.others[:, at[apart]] = total - self.own[:, at[apart]]\n", "", NUMBERS),
    Mutation("deciding/results.py", "np.where(exactly, 0, np.maximum(draft.lacking[rows], 1))", "np.maximum(draft.lacking[rows], 1)", STRIPED + "::test_a_balance_that_others_lessen_meanwhile_is_not_moved"),
    Mutation("book/book.py", "            stays &= self.mine[: self.accounts]\n", "            pass\n", f"{MOVES}::test_regain_shard_reloads_stripes"),
    Mutation("worker/session.py", "            self.inbox.drop(shards)\n            await self._await", "            await self._await", f"{MOVES}::test_release_with_pipelined_credits"),
    Mutation("worker/intake.py", "if self._places.get(e.shard) is places[e.shard]", "if e.shard in self._places", "tests/unit/test_intake.py"),
    Mutation("store/ownership.py", 'if r["worker"] == owner and not r["alive"]', "if True", "tests/integration/test_shards_claims.py"),
    # Stop buttons.
    Mutation("ledger/rules.py", "    if is_frozen:\n", "    if False:\n", FROZEN),
    Mutation("deciding/sorting.py", "            plain &= ~batch.frozen  # frozen\n", "            pass\n", FROZEN),
    Mutation("store/small_flush.py", "        and not flush.waiting\n", "", SIMULATED),
    Mutation("store/small_flush.py", "        and not flush.released\n", "", SIMULATED),
    Mutation("store/migrations/0008_freezes.sql", "    IF EXISTS (\n            SELECT FROM (SELECT o.worker", "    IF false AND EXISTS (\n            SELECT FROM (SELECT o.worker", FREEZES + "::test_freeze_is_an_act_that_the_ledger_guards"),
    Mutation("store/migrations/0008_freezes.sql", "IF NEW.act = 'freeze' AND EXISTS", "IF false AND EXISTS", FREEZES + "::test_freeze_is_an_act_that_the_ledger_guards"),
    Mutation("store/freezes.py", '    older = [row["worker"] for row in owners if row["is_older"]]\n', "    older: list[bytes] = []\n", FREEZES + "::test_freeze_of_a_worker_of_an_older_program_is_refused"),
    Mutation("operating/health.py", "None if waiting is None or shard.frozen_by else waiting.oldest_seconds", "None if waiting is None else waiting.oldest_seconds", FREEZES),
    Mutation("verify/checks/16_freezes.sql", "WHEN c.transfers > 0 THEN", "WHEN false THEN", BREAKS),
    # What producers and people are told.
    Mutation("client/delivery.py", "not hmac.compare_digest(words[0], self._secret)", "False", f"{ANSWERS}::test_false_answers_to_a_stream_whose_name_is_known_are_let_be"),
    Mutation("client/delivery.py", "if len(outcomes) != len(outgoing):", "if False:", f"{ANSWERS}::test_an_answer_of_another_length_is_none"),
    Mutation("streams/tls.py", "context.check_hostname = self.check_hostname and self.cert_reqs != ssl.CERT_NONE", "context.check_hostname = False", "tests/integration/test_redis_tls.py::test_another_host_is_not_trusted"),
    Mutation("store/address.py", 'if not _SCHEME.fullmatch(match["scheme"]):', "if False:", "tests/unit/test_addresses.py"),
    Mutation("servers/valkey_server.py", "requirepass {password}", "maxclients 10000", "tests/integration/test_servers.py::test_a_valkey_without_a_password_gets_one_at_its_next_start"),
    Mutation("commands/program.py", "return UNKNOWN if isinstance(error, OutcomeUnknownError) else FAILED", "return FAILED", f"{TOLD}::test_the_id_of_a_transfer_is_shown_before_it_is_sent_and_unknown_is_exit_code_3"),
    Mutation("store/driver_errors.py", "; run `engine init` first", "", f"{STATUS}::test_a_database_without_a_ledger_is_told_to_run_engine_init"),
    Mutation("operating/health.py", '"" if worker.pinned is None else', '"" if False else', f"{STATUS}::test_a_dead_worker_is_replaced_by_one_of_its_kind"),
    Mutation("../shards/placement.py", "if not alive[worker].drained] or unlisted", "if not alive[worker].drained]", "tests/unit/test_placement.py"),
    Mutation("commands/transfer.py", "    if missing:\n", "    if False:\n", f"{TOLD}::test_what_a_transfer_lacks_is_named"),
    Mutation("worker/outage.py", "        if not self._is_on:\n", "        if True:\n", "tests/integration/test_set_aside.py::test_table_lock_for_minutes"),
    Mutation("client/delivery.py", "if len(request) <= REQUEST_BYTES_MAX else []", "", f"{ANSWERS}::test_false_answers_to_a_stream_whose_name_is_known_are_let_be"),
    Mutation("store/copy.py", '    check_written(f"{schema}.{table}", copy.rows, int(status.rpartition(" ")[2]))\n', "", ADDED + "::test_rows_that_a_trigger_swallows_are_missed_and_nothing_is_committed"),
    Mutation("store/queries/flushes/flush_one.sql", "CASE count(*) WHEN 4 + num_nonnulls($36, $41)\n", "CASE WHEN true\n", ADDED + "::test_rows_that_a_trigger_swallows_are_missed_and_nothing_is_committed"),
    Mutation("store/queries/flushes/flush_small.sql", "CASE count(*) WHEN 1 + cardinality($8) + cardinality($29) + cardinality($37) + cardinality($41)\n", "CASE WHEN true\n", ADDED + "::test_the_end_of_a_hold_that_a_trigger_swallows_is_missed"),
    Mutation("store/connections.py", "        check_written(table, count, len(rows))\n", "", ADDED + "::test_a_dead_letter_that_a_trigger_swallows_is_missed"),
    Mutation("store/client_store.py", '            _check_created(new, {row["id"] for row in created}, rows)\n', "", ADDED + "::test_accounts_that_a_trigger_drops_or_alters_are_not_said_to_be_created"),
    Mutation("store/ledger_checks.py", "    if rows:\n", "    if False:\n", ADDED + "::test_a_worker_waits_while_something_strange_stands_on_a_table"),
    Mutation("streams/streams.py", "Sender(address, in_turn=True)", "Sender(address)", LARGE + "::test_a_reply_that_is_cut_is_nobody_elses"),
    Mutation("store/queries/ledger/strange_objects.sql", " AND is_before_or_instead_of_a_row\n", "\n", ADDED + "::test_what_somebody_does_after_a_row_stops_nothing"),
    Mutation("worker/worker.py", "if self._outage.is_repeating(now):", "if False:", TROUBLES + "::test_sessions_that_end_again_and_again_are_told_with_the_last_reason"),
    Mutation("worker/worker.py", "                await self._note_wait_over()\n", "", TROUBLES + "::test_a_wait_that_is_over_is_told_no_more"),
    Mutation("operating/outages.py", "            await asyncio.sleep(together_until - loop.time())\n", "", TROUBLES + "::test_sessions_that_end_again_and_again_are_told_with_the_last_reason"),
    Mutation("operating/server_problems.py", "postgres.dead_letters >= LETTERS_MAX", "False", TROUBLES + "::test_many_dead_letters_that_nobody_dealt_with_are_wrong"),
    Mutation("worker/large_answers.py", "        if total <= QUICK_BYTES_MAX and not self._of_stream:\n", "        if True:\n", "tests/integration/test_large_answers.py::test_an_answer_that_does_not_leave_holds_back_no_other_and_no_delete"),
    Mutation("worker/large_answers.py", "if room >= 0 and not self._of_stream[stream]:", "if room >= 0:", "tests/integration/test_large_answers.py::test_what_is_small_goes_at_once_and_what_is_too_much_is_given_up"),
    Mutation("worker/replies.py", "            self._note_refused()\n", "", "tests/integration/test_large_answers.py::test_answers_that_redis_refuses_are_said_once"),
    Mutation("commands/crew.py", "*([] if is_ignored else [signal.SIGHUP])", "", "tests/integration/test_surroundings.py::test_a_terminal_that_hangs_up_stops_a_worker_in_order"),
    Mutation("commands/sources.py", "        if not any(cells):\n", "        if False:\n", f"{TOLD}::test_a_csv_as_spreadsheets_write_it_is_read_or_told_how_to_export_it"),
    Mutation("worker/attempts.py", "RefusedError | TooMuchError | UndecidableError", "RefusedError | UndecidableError", SLOW + "::test_a_flush_that_takes_too_long_is_tried_again_with_less"),
    Mutation("worker/locked_decider.py", "            if isinstance(error, TooMuchError):\n", "            if False:\n", SLOW + "::test_one_entry_that_postgres_has_trouble_with_stops_its_shard_alone"),
    Mutation("store/commit.py", "            elif is_slow:\n", "            elif False:\n", SLOW + "::test_one_entry_that_takes_too_long_stops_its_shard_alone"),
    Mutation("store/driver_errors.py", " and error.sqlstate not in _DAMAGED", "", SLOW + "::test_what_names_a_damaged_row_is_set_aside"),
    Mutation("worker/locked_decider.py", "if self._limit.take(HOLDS, now):", "if True:", "tests/simulation/test_scenarios_set_aside.py"),
    Mutation("store/client_store.py", "            if is_in_doubt:\n", "            if False:\n", f"{TOLD}::test_accounts_whose_creation_is_in_doubt_are_unknown_and_asked_for_again"),
    Mutation("errors.py", "class CommitInDoubtError(OutcomeUnknownError)", "class CommitInDoubtError(TryAgainError)", f"{TOLD}::test_accounts_whose_creation_is_in_doubt_are_unknown_and_asked_for_again"),
    Mutation("streams/bounds.py", "SILENT_SECONDS_MAX: Final = 30.0", "SILENT_SECONDS_MAX: Final = 10.0", f"{REFUSES}::test_a_redis_that_does_one_thing_for_long_ends_no_session"),
    Mutation("streams/connection.py", "socket.TCP_USER_TIMEOUT, milliseconds", "socket.TCP_USER_TIMEOUT, 0", f"{REFUSES}::test_a_link_that_is_dead_is_noticed_by_the_system"),
    Mutation("patience.py", "min(passed, TICK_SECONDS + LATE_SECONDS_MAX)", "passed", f"{ANSWERS}::test_time_in_which_the_callers_loop_was_busy_is_not_waited_for"),
    Mutation("patience.py", "self._is_late = passed > TICK_SECONDS + LATE_SECONDS_MAX and not self._is_late", "self._is_late = False", PATIENCE),
    Mutation("patience.py", " and not self._is_late", "", PATIENCE),
    Mutation("store/connections.py", "within(STATEMENT_SECONDS_MAX)", "asyncio.timeout(STATEMENT_SECONDS_MAX)", f"{BUSY_LOOP}::test_a_read_of_postgres_is_not_given_up"),
    Mutation("store/connections.py", "async with within(STATEMENT_SECONDS_MAX)", "if True", f"{BUSY_LOOP}::test_a_read_that_is_not_answered_is_given_up"),
    Mutation("store/driver.py", "within(address.connect_seconds_max)", "__import__('asyncio').timeout(address.connect_seconds_max)", f"{BUSY_LOOP}::test_a_connection_that_is_being_made_is_not_given_up"),
    Mutation("streams/connection.py", "within(address.connect_seconds_max)", "asyncio.timeout(address.connect_seconds_max)", f"{BUSY_LOOP}::test_a_connection_that_is_being_made_is_not_given_up"),
    Mutation("store/commit.py", "            if committing.done():\n", "            if False:\n", f"{BUSY_LOOP}::test_a_commit_that_is_answered_while_it_is_asked_about_is_not_cut"),
    Mutation("store/client_store.py", "within(self._seconds_max)", "asyncio.timeout(self._seconds_max)", f"{BUSY_LOOP}::test_a_look_up_of_a_client_is_not_given_up"),
    Mutation("client/entry.py", "return OutcomeUnknownError(", "return TryAgainError(", f"{ANSWERS}::test_no_two_clients_or_entries_have_a_request_that_one_could_guess"),
    Mutation("settings.py", "given or read_variable(PREFIX_VARIABLE) or PREFIX", "given or PREFIX", DOOR),
    Mutation("commands/sources.py", 'if unknown or "id" not in columns:', "if False:", f"{TOLD}::test_a_csv_without_a_header_is_an_error_that_says_so"),
    Mutation("commands/accounts.py", "if twice is not None:", "if False:", f"{TOLD}::test_a_key_that_stands_twice_in_an_account_is_refused"),
    Mutation("operating/phrases.py", "if text.isprintable():", "if text:", f"{TOLD}::test_names_with_escapes_and_newlines_are_shown_written_out"),
    Mutation("commands/screen.py", "sys.stdout.buffer.write(lines)", "sys.stdout.write(lines.decode())", f"{TOLD}::test_a_terminal_of_ascii_and_no_home_are_enough"),
    Mutation("store/reports.py", "        if self.waits_for is not None:\n", "        if False:\n", f"{STATUS}::test_a_worker_that_waits_for_redis_is_not_called_dead"),
    Mutation("streams/strays.py", "names -= {stream_name(prefix, shard) for shard in range(shard_count)}", "names = set()", f"{STATUS}::test_entries_in_streams_that_nobody_reads_are_shown"),
    # What operators are told.
    Mutation("console/door.py", 'if not self._keys.is_named(headers.get("host", "")):', "if False:", f"{CONSOLE}::test_a_name_that_leads_here_by_a_trick_is_refused"),
    Mutation("console/door.py", "if not self._keys.opens(token):", "if False:", f"{CONSOLE}::test_without_the_token_nothing_is_shown_and_nothing_done"),
    Mutation("console/door.py", "if self._keys.is_inside(headers):", "if True:", f"{CONSOLE}::test_without_the_token_nothing_is_shown_and_nothing_done"),
    Mutation("console/door.py", 'httponly=True, samesite="strict"', 'samesite="lax"', f"{CONSOLE}::test_the_token_becomes_a_cookie_and_leaves_the_address"),
    Mutation("console/door.py", 'place = "/" + path.lstrip("/\\\\")', "place = path", f"{CONSOLE}::test_the_token_becomes_a_cookie_and_leaves_the_address"),
    Mutation("console/door.py", "return _same(form, self.form)", "return True", f"{CONSOLE}::test_a_form_of_another_page_does_nothing"),
    Mutation("console/door.py", "if origin is not None and not self.is_named(urlsplit(origin).netloc):", "if False:", f"{CONSOLE}::test_a_form_of_another_page_does_nothing"),
    Mutation("console/door.py", 'if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:', "if False:", f"{CONSOLE}::test_a_form_of_another_page_does_nothing"),
    Mutation("console/door.py", "headers[name] = value", "pass", f"{CONSOLE}::test_every_answer_forbids_scripts_that_are_no_file_of_ours"),
    Mutation("console/markup.py", "return Html(html.escape(text)", "return Html(text", f"{CONSOLE}::test_hostile_names_are_shown_and_do_nothing"),
    Mutation("console/markup.py", "text if text.isprintable() else", "text if text else", f"{CONSOLE}::test_hostile_names_are_shown_and_do_nothing"),
    Mutation("console/app.py", 'if fields.get("sure") != "yes":', "if False:", "tests/integration/test_console_acts.py::test_a_freeze_and_a_thaw_after_a_yes_with_who_did_it"),
    Mutation("console/app.py", "if len(body) > FORM_BYTES_MAX:", "if False:", f"{CONSOLE}::test_a_form_that_is_too_large_is_refused"),
    Mutation("console/acts.py", 'check_words(by, "as said")', "pass", "tests/integration/test_console_acts.py::test_nothing_is_done_by_nobody"),
    Mutation("store/reader.py", 'role = await connection.fetchval(statement("reader_role")) if may_write else None', "role = None", f"{CONSOLE}::test_a_login_that_may_write_reads_as_the_reader"),
    Mutation("operating/letters.py", "if arrival.unreadable is not None:", "if False:", "tests/integration/test_letters.py::test_what_would_be_a_dead_letter_again_is_not_sent"),
    Mutation("operating/letters.py", "if repaired is None and is_cut(letter):", "if False:", "tests/integration/test_letters.py::test_one_of_which_only_the_beginning_was_kept_is_not_sent_as_it_was"),
    Mutation("addresses.py", 'name = user.partition(":")[0]', "name = user", "tests/unit/test_findings.py::test_no_command_shows_a_password"),
    Mutation("store/migrations/0007_operating.sql", "exact AND runs = 0", "exact", "tests/integration/test_where.py::test_what_its_own_flush_did_makes_the_figure_at_most"),
    Mutation("store/migrations/0006_runs.sql", "r.status = 'expired'", "false", "tests/integration/test_where.py::test_where_finds_the_postings_of_every_transfer"),
    Mutation("worker/locked_flush.py", "                    waiting_of(arrivals),\n", "                    [],\n", "tests/simulation/test_scenarios_freezes.py::test_freeze_a_locked_flush_writes_who_waits"),
    Mutation("worker/locked_flush.py", "if now.freezes != mark:", "if False:", "tests/unit/test_locked_flush.py"),
    Mutation("worker/waiting_room.py", "freeze = freeze or here.freeze_of_named(arrival.rows, waiter.order)\n", "pass\n", "tests/simulation/test_scenarios_freezes.py::test_freeze_a_released_entry_waits_behind_an_id_that_still_waits"),
    Mutation("client/unanswered.py", "    if not waiting:\n", "    if True:\n", FREEZES + "::test_freeze_is_what_the_client_tells_instead_of_a_time_out"),
    Mutation("worker/flush_report.py", "if arrival.waits is None and not arrival.is_released:", "if True:", "tests/integration/test_metrics.py::test_what_waited_for_a_thaw_is_no_slow_answer"),
    Mutation("worker/worker.py", "        except ClockError as error:\n            await self._note_wait(str(error))\n", "        except ClockError:\n", "tests/integration/test_incidents.py::test_a_wrong_clock_is_told_named_and_mended"),
    Mutation("store/queries/reports/report_server.sql", "ledger.letters l WHERE l.state = 'open'", "ledger.letters l", "tests/integration/test_status_told.py::test_status_counts_the_dead_letters_that_nobody_dealt_with"),
    Mutation("store/commit.py", 'connections.lost_commits["committed" if is_committed else "aborted"] += 1', "pass", "tests/integration/test_metrics.py::test_a_commit_whose_answer_was_lost_is_counted_by_its_fate"),
    Mutation("operating/facts.py", "facts.hot_accounts = {} if hot is None else {busiest: hot}", "pass", "tests/integration/test_incidents_of_load.py::test_a_hot_account_is_told_named_and_mended"),
    Mutation("operating/worker_rules.py", 'elif waits.startswith("IO "):', "elif False:", "tests/integration/test_incidents_of_load.py::test_a_slow_disk_is_told_named_and_mended"),
    Mutation("operating/doctor.py", "return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))", "return found", "tests/unit/test_findings.py::test_the_most_urgent_comes_first"),
    # Least privilege.
    Mutation("store/grants.sql", "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger, flows FROM PUBLIC,", "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger, flows FROM", PRIVILEGES + "::test_public_may_nothing"),
    Mutation("store/grants.sql", "GRANT UPDATE (closed) ON ledger.accounts", "GRANT UPDATE ON ledger.accounts", PRIVILEGES + "::test_no_role_rewrites_what_is_append_only"),
    Mutation("store/grants.sql", "GRANT USAGE, SELECT ON SEQUENCE", "GRANT USAGE, SELECT, UPDATE ON SEQUENCE", PRIVILEGES + "::test_no_role_rewrites_what_is_append_only"),
    Mutation("store/grants.sql", "GRANT UPDATE (queue) ON ledger.workers, ", "GRANT UPDATE (queue) ON ", ROLES + "::test_all_of_a_worker_runs_under_the_least_role"),
    Mutation("store/migrations/0010_roles.sql", "    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;\nALTER FUNCTION ledger.postings_of", "    SET search_path = pg_catalog, pg_temp;\nALTER FUNCTION ledger.postings_of", PRIVILEGES + "::test_a_reader_reads_views_and_functions_and_nothing_beneath"),
    Mutation("store/migrations/0010_roles.sql", "'engine ' || h.worker::text\n    WHERE a.pid = frozen AND a.pid = ANY (pg_blocking_pids(waiting))", "'engine ' || h.worker::text\n    WHERE a.pid = frozen", ROLES + "::test_a_frozen_worker_of_another_login_is_ended_by_the_function_alone"),
    Mutation("store/roles.py", '    elif row["is_mighty"]:', "    elif False:", ROLES + "::test_a_role_that_may_too_much_is_not_taken"),
    Mutation("store/roles.py", "kept = literal(scram_of(login.password))", "kept = literal(login.password)", ROLES + "::test_a_password_is_never_sent_and_never_logged"),
    Mutation("store/connections.py", "and now - self._heard_at[0] < 1:", "and False:", ROLES + "::test_a_stranger_who_notifies_without_end_is_believed_now_and_then"),
    Mutation("streams/users.py", "(%RW~{at}:answers:{user}:* +xread", "(%RW~{at}:answers:* +xread", USERS + "::test_a_producer_adds_transfers_and_reads_its_own_answers"),
    Mutation("streams/users.py", "+xlen %W~{{at}}:transfers:*", "+xlen +xread +xrange ~{{at}}:transfers:*", USERS + "::test_a_producer_adds_transfers_and_reads_its_own_answers"),
]  # fmt: skip
MUTATIONS += [Mutation(*changed, SIMULATED) for changed in SAFEGUARDS.values()]
MUTATIONS += [Mutation(*changed) for changed in FLOW_MUTATIONS]

CHAIN = "tests/integration/test_chain.py"
CHAIN_OF_FREEZES = "tests/integration/test_chain_of_freezes.py"
SURROUNDINGS = "tests/integration/test_surroundings.py"
UNDER_WAY = "tests/integration/test_changed_under_way.py"
MUTATIONS += [
    Mutation(
        "commands/log_writer.py",
        "except OSError:",
        "except ZeroDivisionError:",
        "tests/unit/test_log_writer.py",
    ),
    Mutation("commands/program.py", "    _take_the_first_descriptors()\n", "", SURROUNDINGS),
    Mutation(
        "commands/crew.py",
        "except (OSError, SystemExit) as error:",
        "except ZeroDivisionError as error:",
        SURROUNDINGS,
    ),
    Mutation(
        "streams/sender.py",
        "replies.append(CutOffError(lost))",
        "raise lost",
        f"{LARGE}::test_an_entry_that_is_more_than_redis_keeps_for_a_client",
    ),
    Mutation(
        "streams/reader.py",
        "            self.is_made_again = True\n            return await self._read_singly(positions)",
        "            raise",
        f"{LARGE}::test_entries_that_are_together_more_than_redis_keeps_for_a_client",
    ),
    Mutation(
        "streams/refusals.py",
        'if word == "UNBLOCKED" and',
        "if False and",
        f"{REFUSES}::test_a_read_that_a_stranger_unblocks_is_an_empty_one",
    ),
    Mutation("worker/worker.py", "if not self._has_begun:", "if True:", UNDER_WAY),
    Mutation(
        "streams/sender.py",
        "async with self._opening:",
        "if True:",
        "tests/integration/test_sender.py",
    ),
    Mutation(
        "worker/session.py",
        "if membership.owned - step.owned:",
        "if False:",
        "tests/simulation/test_scenarios_claims.py",
    ),
    Mutation("store/flush_writer.py", "if number < self._newest_number:", "if False:", UNDER_WAY),
    Mutation(
        "store/driver_errors.py",
        "        if kind in _SCHEMA_CLASSES and not",
        "        if False and not",
        UNDER_WAY,
    ),
]

MUTATIONS += [
    # The chain: what is in it, what it is made of, and that it is made again.
    Mutation("verify/contents.py", 'if digest_of(content, flush["form"]) != flush["digest"]:', "if False:", CHAIN),
    Mutation("verify/chain.py", 'if flush["link"] != link:', "if False:", CHAIN),
    Mutation("verify/chain.py", 'if row["seal"] is not None and row["seal"] != seal:', "if False:", CHAIN),
    Mutation("verify/chain.py", "if made != sealed.seals:", "if False:", CHAIN),
    Mutation("verify/contents.py", 'return "" if made == flush["digest"] else', 'return "" if True else', CHAIN),
    Mutation("verify/chain.py", 'return self._freezes.get(flush["other"]) != kept', "return False", CHAIN_OF_FREEZES),
    Mutation("verify/chain.py", "sorted(self._freezes.keys() - self._chained)", "()", CHAIN_OF_FREEZES),
    Mutation("verify/chain.py", "            if found != head.link:\n", "            if False:\n", CHAIN),
    Mutation("verify/chain.py", "if kept.definitions != self._now.definitions:", "if False:", CHAIN),
    Mutation("verify/chain.py", "[*(first - 1 for first in firsts[1:]), FLUSH_MAX]", "[*firsts[1:], FLUSH_MAX]", CHAIN),
    Mutation("verify/definitions.py", "if found.get(name) != made.get(name):", "if False:", "tests/integration/test_verify_definitions.py"),
    Mutation("verify/definitions.py", "if name.split()[0] in HARMLESS:", "if True:", "tests/integration/test_verify_definitions.py"),
    Mutation("verify/chain_rows/spent.sql", "ORDER BY number", "ORDER BY id", CHAIN),
    Mutation("store/flush_writer.py", "if flush.waiting or flush.released:\n        content", "if False:\n        content", CHAIN_OF_FREEZES),
    Mutation("store/ownership.py", "digest = digest_of_change(shards, former, worker)", "digest = None", CHAIN),
    Mutation("store/ownership.py", 'named = number if kind == "claim" else None', "named = None", CHAIN),
    Mutation("store/queries/flushes/fence.sql", "ledger.seals_of($10::bigint[])", "NULL", CHAIN),
    Mutation("store/queries/flushes/flush_small.sql", "ledger.seals_of($47::bigint[])", "NULL", CHAIN),
    Mutation("store/migrations/0017_chain_of_freezes.sql", "        NEW.form := 2;\n        SELECT ledger.digest_of_freeze(f) INTO NEW.digest FROM ledger.freezes f WHERE f.freeze_number = NEW.other;\n", "        NULL;\n", CHAIN_OF_FREEZES),
    Mutation("store/migrations/0017_chain_of_freezes.sql", "before || uuid_send(NEW.worker)", "uuid_send(NEW.worker)", CHAIN_OF_FREEZES),
    Mutation("store/migrations/0017_chain_of_freezes.sql", " || coalesce(named, none)\n", " || none\n", CHAIN_OF_FREEZES),
    Mutation("book/content.py", "    yield from _waiting(content)\n", "", "tests/unit/test_content.py"),
]  # fmt: skip


def is_noticed(mutation: Mutation) -> bool:
    """Whether the test fails once the change is made."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        file = copy / "engine" / mutation.file
        text = file.read_text()
        if mutation.old not in text:
            raise SystemExit(f"{mutation.file} no longer has: {mutation.old!r}; mend the mutation")
        file.write_text(text.replace(mutation.old, mutation.new, 1))
        return any(_fails(command, copy) for command in _commands(mutation.test))


def _commands(test: str) -> list[list[str]]:
    if test != SIMULATED:
        return [["pytest", "-x", "-q", test]]
    scenes = sorted(ROOT.glob("tests/simulation/test_scenarios_*.py"))
    return [
        ["pytest", "-x", "-q", *(str(scene.relative_to(ROOT)) for scene in scenes)],
        [SIMULATED, "--seeds", str(SEEDS)],
    ]


def _fails(command: list[str], copy: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "SEEDED_TRANSFERS": "12000"},
        capture_output=True,
        text=True,
        timeout=MUTATED_SECONDS_MAX,
        check=False,
    )
    return done.returncode == 1


def main() -> None:
    """Make the changes, some or all; exit 1 at the first that nothing notices."""
    parser = argparse.ArgumentParser(description="Does a test notice each small change?")
    parser.add_argument("--first", type=int, default=0, help="begin at this one")
    parser.add_argument("--every", type=int, default=1, help="only every n-th")
    options = parser.parse_args()
    for number in range(options.first, len(MUTATIONS), options.every):
        mutation = MUTATIONS[number]
        noticed = is_noticed(mutation)
        print(f"{number:3} {'noticed' if noticed else 'NOT NOTICED'}  {mutation.file}: "
              f"{mutation.old.strip().splitlines()[0]}", flush=True)  # fmt: skip
        if not noticed:
            sys.exit(1)


if __name__ == "__main__":
    main()
