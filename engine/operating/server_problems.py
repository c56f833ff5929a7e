"""What `engine status` finds wrong with the two servers, and with what is kept in them."""

from collections.abc import Iterable

import msgspec

from engine.store.reports import ServerReport

MEMORY_SHARE_MAX = 0.9
"""Of its `maxmemory`, beyond which Redis is about to refuse requests."""


LETTERS_MAX = 16
"""So many dead letters that nobody dealt with: more than an odd one."""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and what to do about it."""

    problem: str
    action: str


class RedisReport(msgspec.Struct, frozen=True):
    """Redis or Valkey."""

    version: str
    used_memory_bytes: int
    maxmemory_bytes: int
    """0 for no limit."""
    file_is_written: bool


def server_problems(postgres: ServerReport | None, redis: RedisReport | None) -> Iterable[Problem]:
    """What is wrong with the servers, and with what is kept in them."""
    if postgres is not None and postgres.holds_overdue:
        yield Problem(
            f"{postgres.holds_overdue:,} holds are past their time and not released",
            "see that every shard has a living worker; its log says why it does not flush",
        )
    if postgres is not None and postgres.dead_letters >= LETTERS_MAX:
        yield Problem(
            f"{postgres.dead_letters:,} entries are dead letters, and nobody dealt with "
            "them: what they asked for is not done",
            "see which and why: engine letters list --state open; then `engine letters resend` or "
            "`dismiss` each",
        )
    if redis is None:
        return
    if not redis.file_is_written:
        yield Problem("Redis cannot write its append-only file", "see its log; is its disk full?")
    if redis.maxmemory_bytes and redis.used_memory_bytes > MEMORY_SHARE_MAX * redis.maxmemory_bytes:
        yield Problem(
            f"Redis uses {redis.used_memory_bytes / redis.maxmemory_bytes:.0%} of its maxmemory "
            "and will refuse requests",
            "let the workers catch up, or raise maxmemory",
        )
