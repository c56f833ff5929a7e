"""The ledger built again from its commits, each held against what a commit may be.

Written from the promises alone: nothing of the engine's rules is used here.
"""

import uuid
from collections import defaultdict
from typing import Any

from tests.simulation.database import Commit
from tests.simulation.runs import UnevenRunError, postings_of
from tests.simulation.tables import Row

PENDING, POST, VOID = 2, 4, 8
DEBIT_LIMIT, CREDIT_LIMIT = "debits_must_not_exceed_credits", "credits_must_not_exceed_debits"
DP, D, CP, C = range(4)
ZERO = (0, 0, 0, 0)
TOP = 2**63 - 1
"""No counter of an account, and no sum of a pending and a posted one, passes this."""
FOREIGN_MAX = 2**51
"""No counter of a stripe away from home passes this, or falls below 0, in any snapshot."""
COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")

Counters = tuple[int, int, int, int]


class PromiseBrokenError(AssertionError):
    """A promise of the design does not hold in this run."""


def broken(promise: str, *what: Any) -> PromiseBrokenError:
    """Say which promise, and where."""
    words = [one.hex() if isinstance(one, bytes) else str(one) for one in what]
    return PromiseBrokenError(f"{promise}: {' '.join(words)}")


def _taken_apart(row: Row) -> list[Row]:
    try:
        return list(postings_of(row))
    except UnevenRunError as error:
        raise broken("in order", "stripe", row["stripe"], "has a broken run", row) from error


def added(one: Counters, other: Counters) -> Counters:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


class Replay:
    """What the commits amount to.

    Args:
        commits: Of the ledger, in order.
    """

    def __init__(self, commits: list[Commit]) -> None:
        self.commits = commits
        self.accounts: dict[int, Row] = {}
        self.numbers: dict[bytes, int] = {}
        self.created_at: dict[bytes, int] = {}
        """When an account was created: the number of the commit."""
        self.closed: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        self.spent: dict[bytes, Row] = {}
        self.spent_at: dict[bytes, int] = {}
        self.resolved: dict[bytes, Row] = {}
        self.resolved_at: dict[bytes, int] = {}
        self.flushes: dict[int, Row] = {}
        self.chains: dict[bytes, int] = defaultdict(int)
        self.stripes: dict[int, tuple[int, Counters]] = {}
        self.states: dict[int, list[tuple[int, Counters]]] = defaultdict(lambda: [(0, ZERO)])
        """By account, its counters after each of its postings, and in which commit."""
        self.positions: dict[int, Row] = {}
        self.postings: list[Row] = []
        for commit in commits:
            self._take(commit)
        self._check_order_of_time()

    def _take(self, commit: Commit) -> None:
        by_table: dict[str, list[Row]] = defaultdict(list)
        for table, row in commit.made:
            by_table[table].append(row)
        flush = self._take_flushes(commit, by_table["flushes"])
        self._check_writer(commit, by_table, flush)
        for row in by_table["accounts"]:
            self._take_account(commit, row)
        for row in by_table["spent"]:
            if row["id"] in self.spent:
                raise broken("once", row["id"], "is spent twice")
            self.spent[row["id"]] = row
            self.spent_at[row["id"]] = commit.number
        for row in by_table["resolutions"]:
            if row["hold_id"] in self.resolved:
                raise broken("once", row["hold_id"], "is resolved twice")
            self.resolved[row["hold_id"]] = row
            self.resolved_at[row["hold_id"]] = commit.number
        expected = self._expected(by_table, flush)
        self._take_postings(commit, by_table["posted"], expected)
        for row in by_table["positions"]:
            self._take_position(commit, row)
        self._check_closed(commit, by_table)

    def _take_account(self, commit: Commit, row: Row) -> None:
        if row["number"] not in self.accounts:
            self.created_at[row["id"]] = commit.number
            self.numbers[row["id"]] = row["number"]
        self.accounts[row["number"]] = row
        self.closed[row["number"]].append((commit.number, row["closed"]))

    def _take_flushes(self, commit: Commit, rows: list[Row]) -> Row | None:
        """Every chain is dense; returns the commit's own flush, if it is one."""
        own = None
        for row in rows:
            if row["sequence"] != self.chains[row["worker"]] + 1:
                raise broken("one writer", row["worker"], "has a gap before", row["sequence"])
            self.chains[row["worker"]] = row["sequence"]
            self.flushes[row["number"]] = row
            if row["kind"] in ("flush", "locked"):
                if commit.name != f"engine {uuid.UUID(bytes=row['worker'])}":
                    raise broken("one writer", commit.name, "flushed as", row["worker"])
                own = row
        return own

    def _check_writer(
        self, commit: Commit, by_table: dict[str, list[Row]], flush: Row | None
    ) -> None:
        shards = {row["stripe"] & 1023 for row in by_table["posted"]}
        shards |= {row["shard"] for row in by_table["positions"]}
        shards |= {row["shard"] for row in by_table["spent"]}
        lent = commit.locked & {row["worker"] for row in by_table["flushes"]}
        if flush is None:
            if shards:
                raise broken("one writer", commit.name, "writes without a flush")
        else:
            mine = flush["worker"]
            if mine not in commit.locked:
                raise broken("one writer", commit.name, "flushes without its row locked")
            for shard in shards:
                owner = commit.owners[shard]
                if owner != mine and not (flush["kind"] == "locked" and owner in lent):
                    raise broken("one writer", commit.name, "wrote shard", shard, "of", owner)
        for row in by_table["owners"]:
            before = commit.owners.get(row["shard"])
            if before is not None and not {before, row["worker"]} <= lent:
                raise broken("one writer", commit.name, "took shard", row["shard"], "unsaid")

    def _expected(
        self, by_table: dict[str, list[Row]], flush: Row | None
    ) -> dict[tuple[bytes, int], Counters]:
        """By transfer and account, what each created transfer and each lapse changes."""
        expected: dict[tuple[bytes, int], Counters] = {}
        resolving = set()
        for row in by_table["spent"]:
            if row["outcome"] != 0:
                continue
            amount, flags = row["amount"], row["flags"]
            debit, credit = (amount, 0), (amount, 0)
            if flags & PENDING:
                debit = credit = (0, amount)
            elif flags & (POST | VOID):
                hold = self._hold_of(row, flush)
                resolving.add(row["pending_id"])
                debit = credit = (0 if flags & VOID else amount, -hold["amount"])
            expected[row["id"], row["debit_account"]] = (debit[1], debit[0], 0, 0)
            expected[row["id"], row["credit_account"]] = (0, 0, credit[1], credit[0])
        for row in by_table["resolutions"]:
            hold = self.spent.get(row["hold_id"])
            if hold is None or not hold["flags"] & PENDING:
                raise broken("whole or nothing", row["hold_id"], "is resolved and no hold")
            if row["status"] == "expired":
                if flush is None or not 0 < (hold["expires_at"] or 0) <= flush["time"]:
                    raise broken("rules", row["hold_id"], "lapsed before its time")
                expected[hold["id"], hold["debit_account"]] = (-hold["amount"], 0, 0, 0)
                expected[hold["id"], hold["credit_account"]] = (0, 0, -hold["amount"], 0)
            elif row["hold_id"] not in resolving:
                raise broken("whole or nothing", row["hold_id"], row["status"], "by nothing")
        return expected

    def _hold_of(self, row: Row, flush: Row | None) -> Row:
        hold = self.spent.get(row["pending_id"])
        if hold is None or hold["outcome"] != 0 or not hold["flags"] & PENDING:
            raise broken("rules", row["id"], "resolves what is no hold")
        resolution = self.resolved.get(row["pending_id"])
        status = "voided" if row["flags"] & VOID else "posted"
        if resolution is None or (resolution["transfer_id"], resolution["status"]) != (
            row["id"],
            status,
        ):
            raise broken("whole or nothing", row["id"], "has no resolution of its own")
        if flush is not None and hold["expires_at"] and flush["time"] >= hold["expires_at"]:
            raise broken("rules", row["id"], "resolves a hold that has lapsed")
        if row["amount"] > hold["amount"]:
            raise broken("rules", row["id"], "posts more than was held")
        return hold

    def _take_postings(
        self, commit: Commit, rows: list[Row], expected: dict[tuple[bytes, int], Counters]
    ) -> None:
        postings = [posting for row in rows for posting in _taken_apart(row)]
        for row in sorted(postings, key=lambda posting: (posting["stripe"], posting["version"])):
            stripe, account = row["stripe"], row["stripe"] >> 10
            change = expected.pop((row["transfer_id"], account), None)
            if change is None:
                raise broken("whole or nothing", row["transfer_id"], "posts more than its legs")
            version, before = self.stripes.get(stripe, (0, ZERO))
            after = added(before, change)
            kept = tuple(row[name] for name in COUNTERS)
            if row["version"] != version + 1 or (row["is_last"] and kept != after):
                raise broken("in order", "stripe", stripe, "version", row["version"], kept)
            if row["is_debit"] not in (None, not any(change[CP:])) and any(change):
                raise broken("whole or nothing", row["transfer_id"], "is on the wrong side")
            if (row["amount"], row["pending_amount"]) != (
                change[C] - change[D],
                change[CP] - change[DP],
            ):
                raise broken("whole or nothing", row["transfer_id"], "has wrong amounts")
            self.stripes[stripe] = (row["version"], after)
            total = added(self.states[account][-1][1], change)
            self.states[account].append((commit.number, total))
            self.postings.append(row | {"change": change})
        if expected:
            raise broken("whole or nothing", "postings are missing:", *expected)
        for stripe in {row["stripe"] for row in rows}:
            counters = self.stripes[stripe][1]
            away = stripe & 1023 != self.accounts[stripe >> 10]["shard"]
            if away and not 0 <= min(counters) <= max(counters) <= FOREIGN_MAX:
                raise broken("limits", "stripe", stripe, "away from home holds", counters)
        for account in {row["stripe"] >> 10 for row in rows}:
            self.check_limits(account, self.states[account][-1][1], f"commit {commit.number}")

    def check_limits(self, account: int, total: Counters, where: str) -> None:
        flags = self.accounts[account]["flags"]
        if min(total) < 0:
            raise broken("limits", "account", account, "has", total, "at", where)
        if total[DP] + total[D] > TOP or total[CP] + total[C] > TOP:
            raise broken("limits", "account", account, "overflows at", where, total)
        if DEBIT_LIMIT in flags and total[DP] + total[D] > total[C]:
            raise broken("limits", "debits of account", account, "exceed at", where, total)
        if CREDIT_LIMIT in flags and total[CP] + total[C] > total[D]:
            raise broken("limits", "credits of account", account, "exceed at", where, total)

    def _check_order_of_time(self) -> None:
        """In the order of time, worker and number limits hold at every prefix too."""

        def place(row: Row) -> tuple[int, bytes, int]:
            flush = self.flushes[row["number"] >> 20]
            return flush["time"], flush["worker"], row["number"]

        totals: dict[int, Counters] = defaultdict(lambda: ZERO)
        for row in sorted(self.postings, key=place):
            account = row["stripe"] >> 10
            totals[account] = added(totals[account], row["change"])
            self.check_limits(account, totals[account], f"time {place(row)[0]}")

    def _take_position(self, commit: Commit, row: Row) -> None:
        before = self.positions.get(row["shard"])
        if before is not None:
            times = [self.flushes[one["flush"]]["time"] for one in (before, row)]
            if times[1] <= times[0]:
                raise broken(
                    "in order", "the time of shard", row["shard"], "went back", commit.name
                )
            if row["time"] < before["time"]:
                raise broken("holds", "what shard", row["shard"], "resolved went back", commit.name)
            at = [(one["generation"], one["ms"], one["seq"]) for one in (before, row)]
            if at[1] < at[0]:
                raise broken("in order", "the position of shard", row["shard"], "went back", *at)
        if row["time"] > self.flushes[row["flush"]]["time"]:
            raise broken("holds", "shard", row["shard"], "is resolved ahead of time", commit.name)
        self.positions[row["shard"]] = row

    def _check_closed(self, commit: Commit, by_table: dict[str, list[Row]]) -> None:
        """Nothing is created on an account that was closed before, unless it opens in between."""
        changed = {row["number"] for row in by_table["accounts"]}
        for row in by_table["spent"]:
            if row["outcome"] == 0 and not row["flags"] & VOID:
                for account in (row["debit_account"], row["credit_account"]):
                    if account not in changed and self.closed[account][-1][1]:
                        raise broken("rules", row["id"], "moves on a closed account", commit.name)

    def at_last_look(self, account: int, number: int) -> list[Counters]:
        """An account's counters within a commit, others as its last statement saw them."""
        states = self.states[account]
        before = [total for at, total in states if at < number][-1]
        seen = [total for at, total in states if at <= self.commits[number - 1].seen][-1]
        ahead = tuple(s - b for s, b in zip(seen, before, strict=True))
        within = [before, *(total for at, total in states if at == number)]
        return [added(total, ahead) for total in within]

    def window(self, account: int, first: int, last: int) -> list[Counters]:
        """All that an account's counters were from one commit's end to within another."""
        states = self.states[account]
        before = [total for number, total in states if number <= first][-1:]
        return before + [total for number, total in states if first < number <= last]

    def was_closed(self, account: int, first: int, last: int) -> bool:
        """Whether an account was closed at some time between two commits."""
        closed = self.closed[account]
        before = [value for number, value in closed if number <= first][-1:]
        # One that closed and opened within a commit shows as written, not as closed.
        return any(before) or any(first < number <= last for number, _ in closed)
