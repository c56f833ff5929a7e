"""What a worker counts."""


class WorkerStatistics:
    """What a worker did since it started."""

    __slots__ = ("conflicts", "created", "flushes", "locked", "refused", "sessions", "unreadable")

    def __init__(self) -> None:
        self.sessions = self.flushes = self.locked = self.conflicts = 0
        self.created = self.refused = self.unreadable = 0
