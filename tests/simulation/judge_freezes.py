"""What freezes promise, held against what was committed: see `judge`.

Written from the rules alone: nothing of what the engine matches by is used here.
"""

import uuid
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.ledger.nouns import shard_of
from tests.simulation.replay import Replay, broken
from tests.simulation.statements_reading import in_force
from tests.simulation.tables import Row, entry_key
from tests.simulation.world import Append, World, id_of

FROZEN = 128


class FreezeJudge:
    """Reads the commits in order.

    Args:
        world: What was sent.
        replay: What came of it.
        decided: By commit, the entries that were decided in it as they came, without waiting.
    """

    def __init__(self, world: World, replay: Replay, decided: Mapping[int, list[Append]]) -> None:
        self._world = world
        self._replay = replay
        self._decided = decided
        self._acts: list[Row] = []
        self._waiting: dict[tuple[Any, ...], Row] = {}
        self._originals: dict[tuple[Any, ...], Row] = {}
        self._newest_time = 0
        self._sent: dict[bytes, list[dict[str, Any]]] = defaultdict(list)
        for append in world.appends.values():
            for transfer in append.transfers:
                self._sent[id_of(transfer["id"])].append(transfer)

    def judge(self) -> None:
        """Raise what is broken first."""
        for commit in self._replay.commits:
            by_table: dict[str, list[Row]] = defaultdict(list)
            for table, row in commit.made:
                by_table[table].append(row)
            self._check_decisions(by_table)
            self._take_released(by_table["released"])
            self._check_read_on(commit.number)
            for row in by_table["waiting"]:
                self._take_waiting(row)
            for row in by_table["freezes"]:
                if row["time"] <= self._newest_time:
                    raise broken("freezes", row, "is not later than what was decided before")
                self._acts.append(row)
            for row in by_table["flushes"]:
                if row["kind"] in ("flush", "locked") and by_table["spent"]:
                    self._newest_time = max(self._newest_time, row["time"])
        if not in_force(self._acts) and self._waiting:
            raise broken("nothing vanishes", "nothing is frozen, and these wait", *self._waiting)

    # What is decided.

    def _check_decisions(self, by_table: dict[str, list[Row]]) -> None:
        frozen = in_force(self._acts)
        for row in by_table["spent"]:
            for act in frozen:
                if row["outcome"] == 0 and self._matches(act, row):
                    raise broken("freezes", row["id"], "is created and matches", act)
                stands = act["kind"] == "shard" and not act["declines"]
                if stands and int(act["what"]) == row["shard"]:
                    raise broken("freezes", row["id"], "was read from a stream that", act)
            if row["outcome"] == FROZEN and not self._may_be_declined(row["id"]):
                raise broken("freezes", row["id"], "is declined, and nothing declines it")
        for row in by_table["flushes"]:
            flushes = self._acts and row["kind"] in ("flush", "locked")
            if flushes and row["time"] <= self._acts[-1]["time"]:
                raise broken("freezes", row, "came after and is dated before", self._acts[-1])

    def _matches(self, act: Row, row: Row) -> bool:
        debit = self._replay.accounts[row["debit_account"]]
        credit = self._replay.accounts[row["credit_account"]]
        ids = [str(uuid.UUID(bytes=account["id"])) for account in (debit, credit)]
        home = shard_of(debit["id"], self._world.database.shard_count)
        return bool(
            {
                "account": act["what"] in ids,
                "ledger": act["what"] == str(debit["ledger"]),
                "code": act["what"] == str(row["code"]),
                "shard": act["what"] == str(home),
            }[act["kind"]]
        )

    def _asks_for(self, act: Row, transfer: dict[str, Any]) -> bool:
        """Whether a transfer as it was sent matches, or a hold that it names."""
        ids = [transfer.get(f"{side}_account_id") for side in ("debit", "credit")]
        count = self._world.database.shard_count
        home = None if ids[0] is None else str(shard_of(id_of(ids[0]), count))
        found: bool = {
            "account": act["what"] in ids,
            "ledger": act["what"] == str(transfer.get("ledger", 0)),
            "code": act["what"] == str(transfer.get("code", 0)),
            "shard": act["what"] == home,
        }[act["kind"]]
        holds = self._sent[id_of(transfer["pending_id"])] if "pending_id" in transfer else []
        return found or any(self._asks_for(act, h) for h in holds if "pending_id" not in h)

    def _may_be_declined(self, transfer_id: bytes) -> bool:
        thawed = {act["thaws"] for act in self._acts if act["act"] == "thaw" and act["declines"]}
        declining = [
            act
            for act in self._acts
            if act["act"] == "freeze" and (act["freeze_number"] in thawed or act["declines"])
        ]
        return any(self._asks_for(act, t) for act in declining for t in self._sent[transfer_id])

    # What waits.

    def _transfers_of(self, row: Row) -> list[dict[str, Any]]:
        fields = dict(zip(row["fields"][::2], row["fields"][1::2], strict=True))
        return self._world.appends[fields[b"request"].decode()].transfers

    def _may_wait(self, row: Row) -> bool:
        transfers = self._transfers_of(row)
        waits = [act for act in in_force(self._acts) if not act["declines"]]
        if any(self._asks_for(act, transfer) for act in waits for transfer in transfers):
            return True
        named = {t[name] for t in transfers for name in ("id", "pending_id") if name in t}
        before = [
            other
            for other in self._waiting.values()
            if other["shard"] == row["shard"] and _order(other) < _order(row)
        ]
        return any(t["id"] in named for other in before for t in self._transfers_of(other))

    def _take_waiting(self, row: Row) -> None:
        if not self._may_wait(row):
            raise broken("freezes", entry_key(row), "waits for nothing")
        fields = dict(zip(row["fields"][::2], row["fields"][1::2], strict=True))
        if row["original_ms"] is not None:
            original = self._originals[(row["shard"], *_order(row)[0])]
            fields |= dict(zip(original["fields"][::2], original["fields"][1::2], strict=True))
        if msgspec.json.decode(fields[b"json"]) != self._transfers_of(row):
            raise broken("nothing vanishes", row, "is not what was sent")
        self._waiting[entry_key(row)] = self._originals[entry_key(row)] = row

    def _take_released(self, rows: list[Row]) -> None:
        for row in [self._waiting.pop(entry_key(row)) for row in rows]:
            for other in self._waiting.values():
                earlier = other["shard"] == row["shard"] and _order(other) < _order(row)
                if (
                    earlier
                    and other["freeze_number"] == row["freeze_number"]
                    and not self._may_wait(other)
                ):
                    raise broken(
                        "in order", entry_key(row), "was released before", entry_key(other)
                    )

    def _check_read_on(self, commit: int) -> None:
        for append in self._decided.get(commit, ()):
            for row in self._waiting.values():
                if row["shard"] == append.shard and not self._may_wait(row):
                    raise broken("in order", append.request, "was read before", entry_key(row))


def _order(row: Row) -> tuple[Any, ...]:
    own = (row["generation"], row["ms"], row["seq"])
    if row["original_ms"] is None:
        return own, own
    return (row["original_generation"], row["original_ms"], row["original_seq"]), own
