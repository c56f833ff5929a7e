"""Tables with row versions, unique indexes and snapshots, as Postgres has them."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

Row = dict[str, Any]
Key = Callable[[Row], Any]


class Transaction:
    """One transaction: what it made, what it locked, and whether it is through.

    Args:
        number: Its xid.
        backend: The backend that runs it.
    """

    def __init__(self, number: int, backend: Any) -> None:
        self.number = number
        self.backend = backend
        self.state: Literal["active", "committed", "aborted"] = "active"
        self.commit: int | None = None
        """The place of its commit among all commits."""
        self.made: list[tuple[Table, Version]] = []
        self.ended: list[tuple[Table, Version]] = []
        self.locks: dict[Any, None] = {}
        self.waiters: list[Any] = []
        self.blockers: Callable[[], list[Transaction]] | None = None
        """Whom it waits for at the moment."""


class Version:
    """One version of a row."""

    __slots__ = ("ended", "made", "row")

    def __init__(self, row: Row, made: Transaction) -> None:
        self.row = row
        self.made = made
        self.ended: Transaction | None = None


class Snapshot:
    """What a statement sees: what was committed when it began, and its own transaction's."""

    __slots__ = ("commit", "transaction")

    def __init__(self, commit: int, transaction: Transaction | None) -> None:
        self.commit = commit
        self.transaction = transaction

    def _has(self, transaction: Transaction) -> bool:
        if transaction is self.transaction:
            return True
        return transaction.commit is not None and transaction.commit <= self.commit

    def sees(self, version: Version) -> bool:
        """Whether the version exists in it."""
        return self._has(version.made) and not (
            version.ended is not None and self._has(version.ended)
        )


class Index:
    """Versions by a key; None is no key.

    Args:
        name: Of the constraint, where it is unique.
        key: Of a row.
    """

    def __init__(self, name: str, key: Key) -> None:
        self.name = name
        self.key = key
        self.entries: dict[Any, list[Version]] = {}

    def add(self, version: Version) -> None:
        key = self.key(version.row)
        if key is not None:
            self.entries.setdefault(key, []).append(version)

    def remove(self, version: Version) -> None:
        versions = self.entries.get(self.key(version.row))
        if versions is not None and version in versions:
            versions.remove(version)
            if not versions:
                del self.entries[self.key(version.row)]


class Table:
    """A table.

    Args:
        name: Without its schema.
        unique: Constraints by name, in the order of their making.
        groups: Other keys to find rows by.
    """

    def __init__(self, name: str, unique: dict[str, Key], groups: dict[str, Key]) -> None:
        self.name = name
        self.unique = [Index(constraint, key) for constraint, key in unique.items()]
        self.groups = {group: Index(group, key) for group, key in groups.items()}
        self.by = {index.name: index for index in self.unique} | self.groups
        self.versions: dict[Version, None] = {}

    def find(self, snapshot: Snapshot, index: str, key: Any) -> list[Row]:
        """The rows of a key that a snapshot sees."""
        versions = self.by[index].entries.get(key, ())
        return [version.row for version in versions if snapshot.sees(version)]

    def one(self, snapshot: Snapshot, index: str, key: Any) -> Row | None:
        """The row of a unique key."""
        rows = self.find(snapshot, index, key)
        return rows[0] if rows else None

    def all(self, snapshot: Snapshot) -> Iterator[Row]:
        """Every row that a snapshot sees, in the order of insertion."""
        return (version.row for version in self.versions if snapshot.sees(version))

    def keep(self, version: Version) -> None:
        """Enter a version that stands in the unique indexes already."""
        self.versions[version] = None
        for index in self.groups.values():
            index.add(version)
        version.made.made.append((self, version))

    def forget(self, version: Version) -> None:
        """Take out what an aborted transaction made."""
        self.versions.pop(version, None)
        for index in self.by.values():
            index.remove(version)


def entry_key(row: Row) -> Any:
    """The place of an entry of a stream."""
    return row["shard"], row["generation"], row["ms"], row["seq"]


def make_tables() -> dict[str, Table]:
    """The tables of `engine/store/migrations`, with the names of their constraints."""
    tables = [
        Table("settings", {"settings_pkey": lambda r: r["one"]}, {}),
        Table("workers", {"workers_pkey": lambda r: r["worker"]}, {}),
        Table("heartbeats", {"heartbeats_pkey": lambda r: r["worker"]}, {}),
        Table("ownership", {"ownership_pkey": lambda r: (r["shard"], r["flush"])}, {}),
        Table("loads", {"loads_pkey": lambda r: r["shard"]}, {}),
        Table(
            "moves",
            {
                "moves_pkey": lambda r: r["move"],
                "moves_open": lambda r: r["shard"] if r["ended_at"] is None else None,
            },
            {},
        ),
        Table("owners", {"owners_pkey": lambda r: r["shard"]}, {"worker": lambda r: r["worker"]}),
        Table(
            "accounts",
            {"accounts_pkey": lambda r: r["id"], "accounts_number_key": lambda r: r["number"]},
            {},
        ),
        Table(
            "flushes",
            {
                "flushes_pkey": lambda r: (r["worker"], r["sequence"]),
                "flushes_number": lambda r: r["number"],
            },
            {"worker": lambda r: r["worker"]},
        ),
        Table(
            "positions",
            {"positions_pkey": lambda r: (r["shard"], r["flush"])},
            {"shard": lambda r: r["shard"]},
        ),
        Table(
            "spent",
            {"spent_pkey": lambda r: r["id"]},
            {"shard": lambda r: r["shard"] if r["expires_at"] is not None else None},
        ),
        Table("resolutions", {"resolutions_pkey": lambda r: r["hold_id"]}, {}),
        Table(
            "posted",
            {
                "posted_run": lambda r: (
                    (r["stripe"], r["version"] - r["run"]) if r["run"] > 0 else None
                )
            },
            {"account": lambda r: r["stripe"] >> 10 if r["run"] > 0 else None},
        ),
        Table(
            "freezes",
            {
                "freezes_pkey": lambda r: r["freeze_number"],
                "freezes_thaws_key": lambda r: r["thaws"],
            },
            {},
        ),
        Table("waiting", {"waiting_pkey": entry_key}, {"shard": lambda r: r["shard"]}),
        Table("released", {"released_pkey": entry_key}, {}),
        Table(
            "dead_letters",
            {"dead_letters_pkey": entry_key},
            {},
        ),
    ]
    return {table.name: table for table in tables}
